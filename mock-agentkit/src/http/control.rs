//! Faults at run time, and what was received and sent. These calls are not written down themselves.

use axum::body::Bytes;
use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::{App, refusal, reply};
use crate::faults::Faults;

pub(super) async fn faults(State(shared): App) -> Response {
    reply(StatusCode::OK, &shared.faults())
}

/// Replaces all faults; what is not named goes right again.
pub(super) async fn set_faults(State(shared): App, body: Bytes) -> Response {
    put(&body, |faults| shared.set_faults(faults))
}

pub(super) async fn end_faults(State(shared): App) -> Response {
    shared.set_faults(Faults::none());
    reply(StatusCode::OK, &shared.faults())
}

pub(super) async fn work(State(shared): App) -> Response {
    reply(StatusCode::OK, &shared.work())
}

pub(super) async fn set_work(State(shared): App, body: Bytes) -> Response {
    put(&body, |work| shared.set_work(work))
}

pub(super) async fn received(State(shared): App) -> Response {
    reply(StatusCode::OK, &json!({ "received": shared.journal.received() }))
}

pub(super) async fn forget_received(State(shared): App) -> Response {
    shared.journal.forget_received();
    received(State(shared)).await
}

pub(super) async fn sent(State(shared): App) -> Response {
    reply(StatusCode::OK, &json!({ "sent": shared.journal.sent() }))
}

pub(super) async fn forget_sent(State(shared): App) -> Response {
    shared.journal.forget_sent();
    sent(State(shared)).await
}

/// Takes a whole new setting, and shows it.
fn put<T: DeserializeOwned + Serialize + Clone>(body: &[u8], set: impl FnOnce(T)) -> Response {
    match serde_json::from_slice::<T>(body) {
        Ok(value) => {
            set(value.clone());
            reply(StatusCode::OK, &value)
        }
        Err(error) => refusal(StatusCode::UNPROCESSABLE_ENTITY, &error.to_string()),
    }
}
