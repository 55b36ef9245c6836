//! The headers of the protocol, in lower case as HTTP libraries want them.

/// Carries an agent's own token; `Authorization: Bearer` does too.
pub const AGENT_TOKEN: &str = "x-agent-token";
/// Carries the registration secret; `Authorization: Bearer` does too.
pub const REGISTRATION_TOKEN: &str = "x-registration-token";
/// Names the tenant by its UUID; it must be the one of the key.
pub const TENANT_ID: &str = "x-tenant-id";
/// Makes a repeated request the same request.
pub const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// Continues a stream after the event with this number.
pub const LAST_EVENT_ID: &str = "last-event-id";
/// Finds a request in the logs of both sides.
pub const REQUEST_ID: &str = "x-request-id";
/// Carries the W3C trace context.
pub const TRACEPARENT: &str = "traceparent";
/// Carries a key, token or secret after the word `Bearer`.
pub const AUTHORIZATION: &str = "authorization";
/// Says how a 401 can be avoided.
pub const WWW_AUTHENTICATE: &str = "www-authenticate";
/// Says after how many seconds to come back.
pub const RETRY_AFTER: &str = "retry-after";
/// Says where a new thing can be read.
pub const LOCATION: &str = "location";
/// Says what a body is.
pub const CONTENT_TYPE: &str = "content-type";
/// Says what a caller can live with, as in [`RESPOND_ASYNC`].
pub const PREFER: &str = "prefer";

/// Names a signed message; the same however often it is sent, so that its receiver can tell a repeat.
pub const WEBHOOK_ID: &str = "webhook-id";
/// Says when a signed message was sent, in seconds since 1970.
pub const WEBHOOK_TIMESTAMP: &str = "webhook-timestamp";
/// Carries the signatures of a message, as in `v1,<base64>`, one for each live secret.
pub const WEBHOOK_SIGNATURE: &str = "webhook-signature";

/// The value of [`PREFER`] that allows an answer before the result.
pub const RESPOND_ASYNC: &str = "respond-async";
/// The value of [`CONTENT_TYPE`] of every body but an error.
pub const JSON: &str = "application/json";
/// The value of [`CONTENT_TYPE`] of a stream of events.
pub const EVENT_STREAM: &str = "text/event-stream";
/// The value of [`CONTENT_TYPE`] of every error.
pub const PROBLEM_JSON: &str = "application/problem+json";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_lower_case_as_http_libraries_demand() {
        let names = [
            AGENT_TOKEN,
            REGISTRATION_TOKEN,
            TENANT_ID,
            IDEMPOTENCY_KEY,
            LAST_EVENT_ID,
            REQUEST_ID,
            TRACEPARENT,
            AUTHORIZATION,
            WWW_AUTHENTICATE,
            RETRY_AFTER,
            LOCATION,
            CONTENT_TYPE,
            PREFER,
            WEBHOOK_ID,
            WEBHOOK_TIMESTAMP,
            WEBHOOK_SIGNATURE,
        ];
        for name in names {
            assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-'), "{name}");
        }
    }
}
