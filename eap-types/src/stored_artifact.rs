//! The answer to a part of an artifact.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{ArtifactPath, ContentDigest};

/// How far the upload of an artifact is: the answer 201 to `PUT …/artifacts/{path}` once it is whole, 202 to a part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct StoredArtifact {
    /// Where the artifact stands within the result.
    pub path: ArtifactPath,
    /// How many of its bytes are kept.
    pub size: u64,
    /// The SHA-256 of the whole.
    pub sha256: ContentDigest,
}

impl StoredArtifact {
    /// So much is kept.
    #[must_use]
    pub fn new(path: ArtifactPath, size: u64, sha256: ContentDigest) -> Self {
        Self { path, size, sha256 }
    }
}
