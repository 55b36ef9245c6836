//! `eap task submit --schema`: what the agents of a task type take as input.

use std::fmt::Write as _;

use eap_client::OperatorClient;
use eap_types::{TaskType, TaskTypeView};

use crate::exit::{Exit, Failure};
use crate::output::{print_json, tell};
use crate::server::ServerArgs;

/// Shows the schemas of a task type: each as JSON on standard output, all else on standard error.
pub(super) async fn show(
    task_type: &TaskType,
    server: &ServerArgs,
    client: &OperatorClient,
    json: bool,
) -> Result<Exit, Failure> {
    let view = server.repeat(|| client.task_type(task_type)).await?;
    if json {
        print_json(&view)?;
        return Ok(Exit::Done);
    }
    tell(&format!("eap: {}\n", summary(&view)));
    for published in &view.schemas {
        print_json(&published.schema.to_value())?;
    }
    Ok(Exit::Done)
}

/// What the schemas mean for a submit, in one line.
fn summary(view: &TaskTypeView) -> String {
    let (task_type, agents) = (&view.task_type, view.agents);
    let mut text = format!("{task_type}: {agents} agent{}", if agents == 1 { "" } else { "s" });
    let _ = match (view.schemas.len(), view.is_checked) {
        (0, _) => write!(text, ", no schema: any input is taken"),
        (1, true) => write!(text, "; an input that does not fit this schema is refused"),
        (_, true) => write!(text, "; an input that fits none of these schemas is refused"),
        (_, false) => write!(text, ", some without a schema: any input is taken"),
    };
    text
}
