//! Agent tokens: `eap_<agent>_<secret>`, of which only the SHA-256 is kept.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use eap_types::{AgentId, Secret};
use sha2::{Digest as _, Sha256};

use crate::clock::{Entropy, draw};

/// A token as it came in: whose it claims to be, and the digest to compare.
#[derive(Debug)]
pub(crate) struct AgentToken {
    pub(crate) agent: AgentId,
    pub(crate) digest: [u8; 32],
}

impl AgentToken {
    /// Makes a token for `agent` with 256 random bits; shown once, kept as its digest.
    pub(crate) fn mint(agent: &AgentId, entropy: &dyn Entropy) -> (Secret, [u8; 32]) {
        let secret = URL_SAFE_NO_PAD.encode(draw::<32>(entropy));
        let text = format!("eap_{agent}_{secret}");
        let digest = sha256(&text);
        (Secret::new(text), digest)
    }

    /// Reads a token; `None` if it has not the form of one. Costs the same hash whoever it names.
    pub(crate) fn read(given: &Secret) -> Option<Self> {
        let digest = sha256(given.expose());
        // The secret may contain `_` itself, but has a fixed length, and ids of ours have none.
        let (agent, _) = given.expose().strip_prefix("eap_")?.split_once('_')?;
        Some(Self { agent: agent.parse().ok()?, digest })
    }
}

/// SHA-256 of a text.
pub(crate) fn sha256(text: impl AsRef<[u8]>) -> [u8; 32] {
    Sha256::digest(text).into()
}

/// A digest in hex, as records keep it.
pub(crate) fn hex(digest: &[u8; 32]) -> String {
    use std::fmt::Write as _;
    digest.iter().fold(String::with_capacity(64), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// A digest from hex; `None` if it is not 64 hex digits.
pub(crate) fn unhex(text: &str) -> Option<[u8; 32]> {
    let mut digest = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (byte, at) in digest.iter_mut().zip((0..64).step_by(2)) {
        *byte = u8::from_str_radix(&text[at..at + 2], 16).ok()?;
    }
    Some(digest)
}

#[cfg(test)]
mod tests {
    use eap_types::Timestamp;

    use super::*;
    use crate::clock::SystemEntropy;

    #[test]
    fn a_token_names_its_agent_and_reads_back() {
        let agent = AgentId::v7(Timestamp::from_seconds(1_800_000_000), [9; 10]);
        let (token, digest) = AgentToken::mint(&agent, &SystemEntropy);
        assert_eq!(token.expose().rsplit_once(agent.as_str()).map(|(_, rest)| rest.len()), Some(44));
        let read = AgentToken::read(&token).expect("it was just minted");
        assert_eq!((read.agent, read.digest), (agent, digest));
        assert_eq!(unhex(&hex(&digest)), Some(digest));
    }

    #[test]
    fn what_is_no_token_is_not_read() {
        for text in ["", "eap_", "eap_x", "Bearer eap_a_b", "eap__b"] {
            assert!(AgentToken::read(&Secret::new(text)).is_none(), "{text}");
        }
    }
}
