//! The ids that authors of workflows choose: of a definition, and of a step within it.

use std::borrow::Cow;

use crate::checked::{checked_text, has_chars};

checked_text! {
    /// Names a workflow's definition: 1 to 128 characters.
    ///
    /// It stands in paths, so it holds no `/` and no control character, no white space at either end, and is neither `.` nor
    /// `..`, which URL parsers take out.
    WorkflowId, "workflow id", read_authors_id,
    { "minLength": 1, "maxLength": 128, "pattern": "^[^/\\u0000-\\u001f\\u007f-\\u009f]+$" }
}
checked_text! {
    /// Names a step within its workflow, as `taskId` and `nextTaskId` do; the rules are those of a [`WorkflowId`].
    ///
    /// It is the author's word and no task's id: each run of the workflow makes a task of its own for the step.
    StepId, "step id", read_authors_id,
    { "minLength": 1, "maxLength": 128, "pattern": "^[^/\\u0000-\\u001f\\u007f-\\u009f]+$" }
}

fn read_authors_id(text: &str) -> Result<Cow<'_, str>, &'static str> {
    if !has_chars(text, 1, 128) {
        Err("must have 1 to 128 characters")
    } else if text.contains(|c: char| c == '/' || c.is_control()) {
        Err("must not hold a slash or a control character")
    } else if text.trim() != text {
        Err("must not start or end with white space")
    } else if text == "." || text == ".." {
        Err("must not be a dot segment")
    } else {
        Ok(text.into())
    }
}
