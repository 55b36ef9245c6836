//! The text of operator keys (`eapk_<id>_<secret>`) and registration secrets (`eapr_<id>_<secret>`), of which only the
//! SHA-256 is kept.
//!
//! They begin unlike agent tokens (`eap_`) and unlike each other, so that a scanner of leaked secrets can tell them.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use eap_types::{CredentialId, Secret};

use super::token::sha256;
use crate::clock::{Entropy, draw};

/// How an operator key begins.
pub(crate) const KEY: &str = "eapk";
/// How a registration secret begins.
pub(crate) const SECRET: &str = "eapr";

/// Makes a key or secret with 256 random bits; shown once, kept as its digest.
pub(crate) fn mint(kind: &str, id: CredentialId, entropy: &dyn Entropy) -> (Secret, [u8; 32]) {
    let text = format!("{kind}_{id}_{}", URL_SAFE_NO_PAD.encode(draw::<32>(entropy)));
    let digest = sha256(&text);
    (Secret::new(text), digest)
}

/// Whether a text was made by [`mint`], by its form: nobody chose it by chance.
pub(crate) fn has_form(kind: &str, given: &Secret) -> bool {
    let rest = given.expose().strip_prefix(kind).and_then(|rest| rest.strip_prefix('_'));
    let parts = rest.and_then(|rest| rest.split_once('_'));
    parts.is_some_and(|(id, secret)| secret.len() == 43 && id.parse::<CredentialId>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemEntropy;

    #[test]
    fn a_key_is_known_by_its_form_and_names_its_id() {
        let id = CredentialId::from_bytes([7; 16]);
        for (kind, other) in [(KEY, SECRET), (SECRET, KEY)] {
            let (text, digest) = mint(kind, id, &SystemEntropy);
            assert!(text.expose().starts_with(&format!("{kind}_{id}_")));
            assert_eq!(digest, sha256(text.expose()));
            assert!(has_form(kind, &text) && !has_form(other, &text));
        }
        for text in ["", "eapk", "eapk_", "eapk_x_y", "eapk-of-my-own-choice-0123456789"] {
            assert!(!has_form(KEY, &Secret::new(text)), "{text}");
        }
    }
}
