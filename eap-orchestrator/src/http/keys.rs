//! Operator keys and registration secrets: created, listed, revoked.

use axum::response::Response;
use eap_types::{CreateKey, CreateRegistrationSecret, limits};
use http::StatusCode;

use super::call::{OperatorCall, json, no_content};
use super::error::ApiError;
use super::query::Query;
use crate::error::Error;
use crate::orchestrator::Orchestrator;

/// Makes a key, and shows it this once.
pub(super) async fn create(orchestrator: Orchestrator, call: OperatorCall) -> Result<Response, ApiError> {
    let (asked, _, operator) = call.body::<CreateKey>(&orchestrator, limits::MAX_SMALL_BYTES, None).await?;
    json(StatusCode::CREATED, &orchestrator.create_key(&operator, asked).await?)
}

/// A page of keys.
pub(super) async fn list(orchestrator: Orchestrator, call: OperatorCall) -> Result<Response, ApiError> {
    let (cursor, limit) = page(&call)?;
    json(StatusCode::OK, &orchestrator.keys(&call.operator, cursor.as_deref(), limit)?)
}

/// Takes a key out of use.
pub(super) async fn revoke(orchestrator: Orchestrator, mut call: OperatorCall) -> Result<Response, ApiError> {
    let id = call.credential().await.ok_or(Error::UnknownCredential)?;
    orchestrator.revoke_key(&call.operator, id).await?;
    Ok(no_content())
}

/// Makes a registration secret, and shows it this once.
pub(super) async fn create_secret(orchestrator: Orchestrator, call: OperatorCall) -> Result<Response, ApiError> {
    let limit = limits::MAX_SMALL_BYTES;
    let (asked, _, operator) = call.body::<CreateRegistrationSecret>(&orchestrator, limit, None).await?;
    json(StatusCode::CREATED, &orchestrator.create_registration_secret(&operator, asked).await?)
}

/// A page of registration secrets.
pub(super) async fn list_secrets(orchestrator: Orchestrator, call: OperatorCall) -> Result<Response, ApiError> {
    let (cursor, limit) = page(&call)?;
    json(StatusCode::OK, &orchestrator.registration_secrets(&call.operator, cursor.as_deref(), limit)?)
}

/// Takes a registration secret out of use.
pub(super) async fn revoke_secret(orchestrator: Orchestrator, mut call: OperatorCall) -> Result<Response, ApiError> {
    let id = call.credential().await.ok_or(Error::UnknownCredential)?;
    orchestrator.revoke_registration_secret(&call.operator, id).await?;
    Ok(no_content())
}

fn page(call: &OperatorCall) -> Result<(Option<String>, Option<usize>), ApiError> {
    let mut query = Query::of(&call.parts.uri);
    let cursor = query.get("cursor", "This is the next_cursor of an earlier page.");
    let limit = query.number("limit", 1..=limits::MAX_PAGE as u64).and_then(|limit| usize::try_from(limit).ok());
    query.finish()?;
    Ok((cursor, limit))
}
