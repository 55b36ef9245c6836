//! Whether a call comes from the agent's orchestrator.

use eap_types::webhook::{self, Signed, TOLERANCE};
use eap_types::{Timestamp, header};
use http::HeaderMap;
use subtle::ConstantTimeEq as _;

use crate::shared::Access;

/// Whether it is worth reading the body to find out: whoever brings neither a signature nor a token is a stranger.
pub(super) fn may_be_orchestrator(headers: &HeaderMap) -> bool {
    headers.contains_key(header::AGENT_TOKEN) || headers.contains_key(header::WEBHOOK_SIGNATURE)
}

/// Whether a call is signed with the push secret, under an id that begins with `id`, or carries the agent's own token, as
/// older orchestrators have it.
pub(super) fn is_orchestrator(access: &Access, headers: &HeaderMap, id: &str, body: &[u8], now: Timestamp) -> bool {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    if let Some(token) = text(header::AGENT_TOKEN) {
        return token.as_bytes().ct_eq(access.token.expose().as_bytes()).into();
    }
    let signed = (text(header::WEBHOOK_ID), text(header::WEBHOOK_TIMESTAMP), text(header::WEBHOOK_SIGNATURE));
    let (Some(given), Some(timestamp), Some(signature)) = signed else { return false };
    let signed = Signed { id: given.to_owned(), timestamp: timestamp.to_owned(), signature: signature.to_owned() };
    // The id says what the call is for: a signature is not good for another call.
    given.starts_with(id) && webhook::verify(&access.push_secrets, &signed, body, now, TOLERANCE).is_ok()
}
