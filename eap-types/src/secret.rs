//! A text that must not be seen.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A token, key or password: `Debug` hides it, and nothing prints or compares it by accident.
///
/// There is no `PartialEq`, because a comparison that stops at the first difference tells how far a
/// guess was right.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Hides a text.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Shows the text, for the one place that sends or checks it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

#[cfg(test)]
mod tests {
    use super::Secret;

    #[test]
    fn debug_never_shows_the_text_not_even_inside_another_value() {
        let shown = format!("{:?} {:#?}", Secret::new("s3cret"), Some(Secret::new("s3cret")));
        assert!(!shown.contains("s3cret"), "{shown}");
        assert!(shown.starts_with("[redacted]"), "{shown}");
    }

    #[test]
    fn the_wire_carries_the_text_as_it_is() {
        let secret: Secret = serde_json::from_str(r#""s3cret""#).unwrap();
        assert_eq!(secret.expose(), "s3cret");
        assert_eq!(serde_json::to_string(&secret).unwrap(), r#""s3cret""#);
    }
}
