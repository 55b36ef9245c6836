//! Secrets that the server must be able to read again, encrypted: what it proves itself with to agents it pushes to.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use eap_types::{AgentId, Secret};

use super::sha256;
use crate::clock::{Entropy, draw};

/// Names the form, so that another one can follow.
const PREFIX: &str = "x1.";
const NONCE_BYTES: usize = 24;

/// Encrypts and decrypts, each text for one agent: a sealed text that is moved to another agent's record opens nothing.
pub(crate) struct Seal(XChaCha20Poly1305);

impl Seal {
    /// Under a key that stays the same over restarts; else under one that goes with this process.
    pub(crate) fn of(key: Option<&Secret>, entropy: &dyn Entropy) -> Self {
        let key = key.map_or_else(|| draw::<32>(entropy), |key| sha256(key.expose()));
        Self(XChaCha20Poly1305::new(&key.into()))
    }

    pub(crate) fn seal(&self, agent: &AgentId, text: &str, entropy: &dyn Entropy) -> Option<String> {
        let nonce = draw::<NONCE_BYTES>(entropy);
        let payload = Payload { msg: text.as_bytes(), aad: agent.as_str().as_bytes() };
        let hidden = self.0.encrypt(&XNonce::from(nonce), payload).ok()?;
        Some(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode([&nonce[..], &hidden].concat())))
    }

    /// What was sealed; `None` if it was sealed under another key, for another agent, or was changed.
    pub(crate) fn open(&self, agent: &AgentId, sealed: &str) -> Option<Secret> {
        let bytes = URL_SAFE_NO_PAD.decode(sealed.strip_prefix(PREFIX)?).ok()?;
        let (nonce, hidden) = bytes.split_at_checked(NONCE_BYTES)?;
        let nonce: [u8; NONCE_BYTES] = nonce.try_into().ok()?;
        let payload = Payload { msg: hidden, aad: agent.as_str().as_bytes() };
        let text = self.0.decrypt(&XNonce::from(nonce), payload).ok()?;
        Some(Secret::new(String::from_utf8(text).ok()?))
    }
}

impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seal")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemEntropy;

    #[test]
    fn what_is_sealed_opens_for_its_agent_under_its_key_alone() {
        let (key, other) = (Secret::new("a key of twenty-four bytes"), Secret::new("another of twenty-four by"));
        let (a, b): (AgentId, AgentId) = ("a".parse().unwrap(), "b".parse().unwrap());
        let seal = Seal::of(Some(&key), &SystemEntropy);
        let sealed = seal.seal(&a, "eap_a_secret", &SystemEntropy).unwrap();
        assert!(!sealed.contains("secret"));
        assert_ne!(Some(&sealed), seal.seal(&a, "eap_a_secret", &SystemEntropy).as_ref(), "no nonce comes twice");
        let again = Seal::of(Some(&key), &SystemEntropy);
        assert_eq!(again.open(&a, &sealed).unwrap().expose(), "eap_a_secret");
        assert!(seal.open(&b, &sealed).is_none());
        assert!(Seal::of(Some(&other), &SystemEntropy).open(&a, &sealed).is_none());
        assert!(Seal::of(None, &SystemEntropy).open(&a, &sealed).is_none());
        for at in PREFIX.len()..sealed.len() {
            let mut changed = sealed.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            assert!(seal.open(&a, &String::from_utf8(changed).unwrap()).is_none(), "byte {at}");
        }
        for wrong in ["", "x1.", "x2.AAAA", "x1.!!"] {
            assert!(seal.open(&a, wrong).is_none(), "{wrong}");
        }
    }
}
