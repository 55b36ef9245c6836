//! One part of an upload on its way into the store.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use eap_types::{ContentDigest, ContentHasher};

use super::shelf::{Shelf, Span, Turn};
use super::{ArtifactKey, Kept, PIECE};
use crate::error::Error;

/// What a part that comes means.
#[derive(Debug)]
pub(crate) enum Begun {
    /// The upload is whole already: nothing of the part is needed.
    Whole,
    /// It is taken in.
    Receiving(Box<Receiving>),
}

/// How far an upload is after a part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Received {
    /// So many bytes are kept.
    Part(u64),
    /// It is whole.
    Whole,
}

/// A part that is being received. Dropped before its end, it has changed nothing that counts.
#[derive(Debug)]
pub(crate) struct Receiving {
    /// Held by each write as well: a part that is given up keeps its turn until the store has let go of it.
    turn: Arc<Turn>,
    shelf: Arc<Shelf>,
    key: ArtifactKey,
    span: Span,
    /// Where the next byte goes that is written.
    at: u64,
    /// Received and not written yet.
    buffer: BytesMut,
    part: ContentHasher,
    whole: ContentHasher,
}

impl Receiving {
    pub(super) fn new(turn: Turn, shelf: Arc<Shelf>, key: ArtifactKey, span: Span) -> Self {
        let (part, whole) = (ContentHasher::new(), ContentHasher::new());
        Self { turn: Arc::new(turn), shelf, key, span, at: span.from, buffer: BytesMut::new(), part, whole }
    }

    /// Goes on behind what was received before.
    pub(super) fn go_on(&mut self, whole: ContentHasher) {
        self.whole = whole;
    }

    /// The same after a start: what was received before is read once more.
    pub(super) async fn read_again(&mut self) -> Result<(), Error> {
        let kept = Kept::Part(self.span.from);
        let mut at = 0;
        while at < self.span.from {
            let piece = self.shelf.store().read(self.key, kept, at, PIECE).await?;
            if piece.is_empty() {
                return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
            }
            self.whole.update(&piece);
            at += piece.len() as u64;
        }
        Ok(())
    }

    /// Takes the next bytes in.
    pub(crate) async fn take(&mut self, bytes: &Bytes) -> Result<(), Error> {
        let received = self.at + self.buffer.len() as u64 + bytes.len() as u64;
        if received > self.span.to {
            return Err(Error::UploadLength);
        }
        self.part.update(bytes);
        self.whole.update(bytes);
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= PIECE { self.write().await } else { Ok(()) }
    }

    async fn write(&mut self) -> Result<(), Error> {
        let piece = self.buffer.split().freeze();
        let length = piece.len() as u64;
        self.shelf.write(&self.turn, self.span.from, self.at, piece).await?;
        self.at += length;
        Ok(())
    }

    /// Keeps the part if it is what was announced, and the whole with it if that was its end.
    pub(crate) async fn finish(mut self, announced: ContentDigest) -> Result<Received, Error> {
        self.write().await?;
        if self.at != self.span.to {
            return Err(Error::UploadLength);
        }
        if std::mem::take(&mut self.part).finish() != announced {
            return Err(Error::DigestMismatch { what: "a part that is not what its Content-Digest says" });
        }
        let (key, from, to) = (self.key, self.span.from, self.span.to);
        let store = self.shelf.store();
        let received = if to < self.span.total {
            store.keep(key, from, to).await.inspect_err(|_| self.shelf.doubt(&key))?;
            self.shelf.note(&key, Some(Kept::Part(to)), Some(self.whole.clone()));
            Received::Part(to)
        } else if self.whole.clone().finish() == key.digest {
            store.complete(key, from, to).await.inspect_err(|_| self.shelf.doubt(&key))?;
            self.shelf.note(&key, Some(Kept::Whole(to)), None);
            self.shelf.completed.add(1);
            Received::Whole
        } else {
            // No part of it can be told from the others: the upload begins anew.
            store.remove(key).await.inspect_err(|_| self.shelf.doubt(&key))?;
            self.shelf.note(&key, None, None);
            return Err(Error::DigestMismatch { what: "content that is not what its Repr-Digest says" });
        };
        self.turn.settle();
        self.shelf.received.add(to - from);
        Ok(received)
    }
}
