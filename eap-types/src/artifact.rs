//! What a task produced, as files (ADR 001, docs/protocol.md section 2).

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::macros::decode_via_fields;
use crate::{ArtifactPath, ContentDigest, Decode, Fields};

const TEXT: &str = "text/plain";
const BINARY: &str = "application/octet-stream";
const MAX_MIME_TYPE_CHARS: usize = 255;

/// A file that a result carries along.
#[derive(Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[non_exhaustive]
pub struct Artifact {
    /// Where the file belongs, relative to the task's result (ADR 001).
    pub path: ArtifactPath,
    /// The content, as text or in the form that `encoding` says (ADR 001).
    pub content: String,
    /// What kind of content it is. Default `text/plain`.
    #[serde(default = "text_plain")]
    #[schemars(length(max = 255))]
    pub mime_type: String,
    /// How bytes became text; absent when they are text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoding: Option<ContentEncoding>,
    /// The SHA-256 of content that was uploaded for the attempt instead of standing here: `content` is empty then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<ContentDigest>,
    /// How many bytes were uploaded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
}

/// Shows how much there is, not what: payloads stay out of logs.
impl fmt::Debug for Artifact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Artifact")
            .field("path", &self.path)
            .field("content", &format_args!("{} bytes", self.content.len()))
            .field("mime_type", &self.mime_type)
            .field("encoding", &self.encoding)
            .field("sha256", &self.sha256)
            .field("size", &self.size)
            .finish()
    }
}

/// How the bytes of an artifact became text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum ContentEncoding {
    /// The standard alphabet of RFC 4648 section 4, padded.
    Base64,
}

/// An artifact says that it is base64 and is not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("artifact `{path}` is not valid base64")]
#[non_exhaustive]
pub struct EncodingError {
    /// The artifact.
    pub path: ArtifactPath,
}

impl Artifact {
    /// An artifact that is text.
    pub fn text(path: ArtifactPath, content: impl Into<String>) -> Self {
        Self { path, content: content.into(), mime_type: text_plain(), encoding: None, sha256: None, size: None }
    }

    /// An artifact of any bytes: text when they are UTF-8, else base64 and `application/octet-stream`.
    pub fn from_bytes(path: ArtifactPath, bytes: &[u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::text(path, text),
            Err(_) => Self {
                mime_type: BINARY.to_owned(),
                encoding: Some(ContentEncoding::Base64),
                ..Self::text(path, STANDARD.encode(bytes))
            },
        }
    }

    /// An artifact that was uploaded for the attempt: `application/octet-stream` of this digest and size.
    pub fn stored(path: ArtifactPath, digest: ContentDigest, size: u64) -> Self {
        let stored = Self::text(path, "").with_mime_type(BINARY);
        Self { sha256: Some(digest), size: Some(size), ..stored }
    }

    /// Whether the content was uploaded and does not stand here.
    pub fn is_stored(&self) -> bool {
        self.sha256.is_some()
    }

    /// Sets what kind of content it is.
    #[must_use]
    pub fn with_mime_type(mut self, mime_type: impl Into<String>) -> Self {
        self.mime_type = mime_type.into();
        self
    }

    /// The content as bytes; none of what was uploaded ([`is_stored`](Self::is_stored)).
    ///
    /// # Errors
    ///
    /// The content was set by hand and is not what `encoding` says; one that was decoded is.
    pub fn bytes(&self) -> Result<Vec<u8>, EncodingError> {
        match self.encoding {
            None => Ok(self.content.clone().into_bytes()),
            Some(ContentEncoding::Base64) => {
                STANDARD.decode(&self.content).map_err(|_| EncodingError { path: self.path.clone() })
            }
        }
    }
}

impl Decode for Artifact {
    fn decode(fields: &mut Fields<'_>) -> Option<Self> {
        let path = fields.required("path");
        let content: Option<String> = fields.required("content");
        let mime_type = fields.text("mime_type", MAX_MIME_TYPE_CHARS).unwrap_or_else(text_plain);
        let encoding = fields.optional("encoding");
        if let (Some(content), Some(ContentEncoding::Base64)) = (&content, encoding)
            && STANDARD.decode(content).is_err()
        {
            fields.problem("content", "value_error", "is not valid base64");
        }
        let sha256: Option<ContentDigest> = fields.optional("sha256");
        let size = fields.optional("size");
        let artifact = Self { path: path?, content: content?, mime_type, encoding, sha256: None, size: None };
        match sha256 {
            // What stands here needs no digest, if it is the right one.
            Some(digest) if artifact.bytes().is_ok_and(|bytes| ContentDigest::of(&bytes) == digest) => {}
            Some(_) if !artifact.content.is_empty() => {
                fields.problem("sha256", "value_error", "is not the digest of the content");
            }
            Some(_) => return Some(Self { sha256, size, encoding: None, ..artifact }),
            None => {}
        }
        Some(artifact)
    }
}

fn text_plain() -> String {
    TEXT.to_owned()
}

decode_via_fields!(Artifact);
