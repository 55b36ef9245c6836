//! The ids of the protocol: 16-byte UUIDs that are ours, and checked strings that others choose.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

use crate::Timestamp;
use crate::checked::{IdError, checked_text, has_chars, is_visible_ascii, read_text};

/// Builds a UUID of version 7 from a time and 74 bits of the 80 given.
fn uuid_v7(now: Timestamp, random: [u8; 10]) -> Uuid {
    let millis = u64::try_from(now.as_micros().div_euclid(1000)).unwrap_or(0);
    uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid()
}

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Uuid);

        impl $name {
            /// Builds an id of UUID version 7, which sorts by `now`; `random` makes it unique.
            ///
            /// Both are arguments because this crate reads no clock and draws no random numbers.
            /// A time before 1970 counts as 1970.
            #[must_use]
            pub fn v7(now: Timestamp, random: [u8; 10]) -> Self {
                Self(uuid_v7(now, random))
            }

            /// Takes the 16 bytes of an id, in network order.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(Uuid::from_bytes(bytes))
            }

            /// Gives the 16 bytes of the id, in network order.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.0.hyphenated().encode_lower(&mut Uuid::encode_buffer()))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Uuid::try_parse(text)
                    .map(Self)
                    .map_err(|_| IdError::new($what, "must be a UUID"))
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                text.parse()
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.0.hyphenated().encode_lower(&mut Uuid::encode_buffer()))
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                read_text(deserializer, str::parse)
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "format": "uuid" })
            }
        }
    };
}

uuid_id! {
    /// Names one task, from its submission to its removal.
    TaskId, "task id"
}
uuid_id! {
    /// Groups tasks that belong together for whoever submitted them.
    SessionId, "session id"
}
uuid_id! {
    /// Names one agent's hold on one attempt of a task.
    LeaseId, "lease id"
}
uuid_id! {
    /// Names a tenant; the nil UUID is the default one (PROTOCOL.md section 5).
    TenantId, "tenant id"
}

uuid_id! {
    /// Names one operator key or one registration secret; it is no secret itself.
    CredentialId, "credential id"
}

impl Default for TenantId {
    fn default() -> Self {
        Self(Uuid::nil())
    }
}

checked_text! {
    /// Names an agent: 1 to 128 characters, a UUID of version 7 where the orchestrator chose it.
    ///
    /// Agents of other platforms bring ids of their own (PROTOCOL.md section 5a). An id stands in
    /// paths, so it holds no `/` and no control character, no white space at either end, and is
    /// neither `.` nor `..`, which URL parsers take out.
    AgentId, "agent id", read_agent_id,
    { "minLength": 1, "maxLength": 128, "pattern": "^[^/\\u0000-\\u001f\\u007f-\\u009f]+$" }
}
checked_text! {
    /// Names one request, for logs and for asking the same thing again: 1 to 128 visible ASCII
    /// characters.
    RequestId, "request id", read_short_ascii, { "minLength": 1, "maxLength": 128, "pattern": "^[!-~]+$" }
}
checked_text! {
    /// Tells two copies of an agent with the same name apart: 1 to 128 visible characters.
    InstanceId, "instance id", read_instance_id,
    { "minLength": 1, "maxLength": 128, "pattern": "^[^ \\u0000-\\u001f\\u007f-\\u009f]+$" }
}
checked_text! {
    /// Makes a repeated request the same request: 1 to 255 visible ASCII characters.
    IdempotencyKey, "idempotency key", read_idempotency_key,
    { "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$" }
}
checked_text! {
    /// Names one directive until the agent acknowledges it: 1 to 128 visible ASCII characters.
    DirectiveId, "directive id", read_short_ascii, { "minLength": 1, "maxLength": 128, "pattern": "^[!-~]+$" }
}

impl AgentId {
    /// Builds an id of UUID version 7, which sorts by `now`; `random` makes it unique.
    #[must_use]
    pub fn v7(now: Timestamp, random: [u8; 10]) -> Self {
        let mut buffer = Uuid::encode_buffer();
        Self((&*uuid_v7(now, random).hyphenated().encode_lower(&mut buffer)).into())
    }
}

fn read_agent_id(text: &str) -> Result<Cow<'_, str>, &'static str> {
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

fn read_instance_id(text: &str) -> Result<Cow<'_, str>, &'static str> {
    if has_chars(text, 1, 128) && !text.contains(|c: char| c.is_control() || c.is_whitespace()) {
        Ok(text.into())
    } else {
        Err("must have 1 to 128 visible characters")
    }
}

fn read_short_ascii(text: &str) -> Result<Cow<'_, str>, &'static str> {
    if is_visible_ascii(text, 128) { Ok(text.into()) } else { Err("must have 1 to 128 visible ASCII characters") }
}

fn read_idempotency_key(text: &str) -> Result<Cow<'_, str>, &'static str> {
    if is_visible_ascii(text, 255) { Ok(text.into()) } else { Err("must have 1 to 255 visible ASCII characters") }
}
