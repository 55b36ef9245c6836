//! Spans at the edges: a request, a submit, a lease, a result, a heartbeat. All at level debug, with ids and no payloads.
//!
//! The trace that a submitter names is kept with the task. Whatever is done about the task carries its `trace_id`, so
//! that one id leads from the submit to the agent's handler, whatever collects the spans.

use eap_core::Task;
use eap_types::{Traceparent, header};
use http::HeaderMap;
use tracing::Span;

/// The trace that the caller is in, if it names one that can be read.
pub(crate) fn traceparent(headers: &HeaderMap) -> Option<Traceparent> {
    headers.get(header::TRACEPARENT)?.to_str().ok()?.parse().ok()
}

/// The span becomes part of the trace; it has the fields `trace_id` and `parent_id` for that.
pub(crate) fn join(span: &Span, traceparent: &Traceparent) {
    span.record("trace_id", traceparent.trace_id());
    span.record("parent_id", traceparent.parent_id());
}

/// The same for what is done about a task.
pub(crate) fn join_task(span: &Span, task: &Task) {
    // Nobody may be listening: then nothing is read.
    if !span.is_disabled()
        && let Some(traceparent) = of_task(task)
    {
        join(span, &traceparent);
    }
}

/// The trace that a task was submitted in.
pub(crate) fn of_task(task: &Task) -> Option<Traceparent> {
    task.spec.traceparent.as_deref()?.parse().ok()
}
