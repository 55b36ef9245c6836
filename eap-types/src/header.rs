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
/// Carries the SHA-256 of the body as it is (RFC 9530).
pub const CONTENT_DIGEST: &str = "content-digest";
/// Says which bytes of the whole the body has.
pub const CONTENT_RANGE: &str = "content-range";
/// Says how many bytes of an upload are kept.
pub const UPLOAD_OFFSET: &str = "upload-offset";
/// Says whether an upload is whole: `?1` or `?0`.
pub const UPLOAD_COMPLETE: &str = "upload-complete";
/// Says how many bytes the body has.
pub const CONTENT_LENGTH: &str = "content-length";
/// Says what a body is.
pub const CONTENT_TYPE: &str = "content-type";
/// Names a file for whoever keeps the body, and says that a browser is to keep it rather than to show it.
pub const CONTENT_DISPOSITION: &str = "content-disposition";
/// With `nosniff`, keeps browsers from guessing what a body is.
pub const CONTENT_TYPE_OPTIONS: &str = "x-content-type-options";
/// Carries the SHA-256 of the whole representation, of which the body may be a part (RFC 9530).
pub const REPR_DIGEST: &str = "repr-digest";
/// Says what a caller can live with, as in [`RESPOND_ASYNC`].
pub const PREFER: &str = "prefer";

/// Says, with [`UPGRADE`], that the connection is to go on with another protocol.
pub const CONNECTION: &str = "connection";
/// Names the other protocol.
pub const UPGRADE: &str = "upgrade";
/// The version of WebSocket, 13.
pub const WEBSOCKET_VERSION: &str = "sec-websocket-version";
/// Offers, and then says, what is spoken over the WebSocket: [`crate::socket::SUBPROTOCOL`].
pub const WEBSOCKET_PROTOCOL: &str = "sec-websocket-protocol";
/// What the server proves with [`WEBSOCKET_ACCEPT`] to have read.
pub const WEBSOCKET_KEY: &str = "sec-websocket-key";
/// Proves that the server speaks WebSocket.
pub const WEBSOCKET_ACCEPT: &str = "sec-websocket-accept";

/// Names a signed message; the same however often it is sent, so that its receiver can tell a repeat.
pub const WEBHOOK_ID: &str = "webhook-id";
/// Says when a signed message was sent, in seconds since 1970.
pub const WEBHOOK_TIMESTAMP: &str = "webhook-timestamp";
/// Carries the signatures of a message, as in `v1,<base64>`, one for each live secret.
pub const WEBHOOK_SIGNATURE: &str = "webhook-signature";

/// Says when an agent platform sent a webhook: seconds since 1970, or RFC 3339.
pub const AGENTKIT_TIMESTAMP: &str = "x-agentkit-timestamp";
/// Carries the signature of a platform's webhook, in hexadecimal digits.
pub const AGENTKIT_SIGNATURE: &str = "x-agentkit-signature";

/// The value of [`PREFER`] that allows an answer before the result.
pub const RESPOND_ASYNC: &str = "respond-async";
/// The value of [`CONTENT_TYPE`] of every body but an error.
pub const JSON: &str = "application/json";
/// The value of [`CONTENT_TYPE`] of an artifact that is text, whatever its agent called it.
pub const PLAIN_TEXT: &str = "text/plain; charset=utf-8";
/// The value of [`CONTENT_TYPE`] of any other artifact.
pub const OCTET_STREAM: &str = "application/octet-stream";
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
            CONTENT_DISPOSITION,
            CONTENT_TYPE_OPTIONS,
            REPR_DIGEST,
            CONTENT_DIGEST,
            CONTENT_RANGE,
            UPLOAD_OFFSET,
            UPLOAD_COMPLETE,
            WEBHOOK_ID,
            WEBHOOK_TIMESTAMP,
            WEBHOOK_SIGNATURE,
            AGENTKIT_TIMESTAMP,
            AGENTKIT_SIGNATURE,
        ];
        for name in names {
            assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-'), "{name}");
        }
    }
}
