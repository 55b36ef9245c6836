//! What operator keys and registration secrets have in common (docs/protocol.md section 5).

use std::borrow::Cow;

use crate::checked::{checked_text, has_chars};
use crate::macros::words;

checked_text! {
    /// Names an operator key or a registration secret: 1 to 100 characters without control characters, and without
    /// white space at either end.
    ///
    /// Several may live under one name, which is how they are replaced: create another, hand it out, revoke the older.
    CredentialName, "name", read_name,
    { "minLength": 1, "maxLength": 100, "pattern": "^[^\\u0000-\\u001f\\u007f-\\u009f]+$" }
}

words! {
    /// Whether an operator key or a registration secret opens anything.
    pub enum CredentialState {
        /// It does.
        Active = "active",
        /// Its time is over.
        Expired = "expired",
        /// It was revoked.
        Revoked = "revoked",
        /// As many agents registered with it as it was made for.
        UsedUp = "used_up",
    }
}

fn read_name(text: &str) -> Result<Cow<'_, str>, &'static str> {
    if !has_chars(text, 1, 100) {
        Err("must have 1 to 100 characters")
    } else if text.contains(char::is_control) {
        Err("must not hold a control character")
    } else if text.trim() != text {
        Err("must not start or end with white space")
    } else {
        Ok(text.into())
    }
}

#[cfg(test)]
mod tests {
    use super::CredentialName;

    #[test]
    fn a_name_is_one_line_for_people() {
        for text in ["ci", "Fleet ü, 2nd", &"é".repeat(100)] {
            assert_eq!(text.parse::<CredentialName>().unwrap().as_str(), text);
        }
        for text in ["", " ci", "ci ", "a\nb", &"é".repeat(101)] {
            assert!(text.parse::<CredentialName>().is_err(), "{text:?}");
        }
    }
}
