//! Reading what a process prints, with a bound on what is kept.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _};

const CHUNK: usize = 16 * 1024;

/// Reads a stream to its end; stopping halfway and going on later loses nothing.
#[derive(Debug)]
pub(super) struct Capture<R> {
    stream: Option<R>,
    kept: Vec<u8>,
    limit: usize,
    keep: Keep,
}

/// What is kept of a stream that is longer than the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keep {
    /// Nothing: the stream must not be longer, and reading stops where it is.
    AllOrStop,
    /// Its end; the rest is read and forgotten.
    Tail,
}

/// A stream was longer than it may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooLong;

impl<R: AsyncRead + Unpin> Capture<R> {
    /// Reads `stream` and keeps at most `limit` bytes; nothing comes from a stream that is not there.
    pub(super) fn new(stream: Option<R>, limit: usize, keep: Keep) -> Self {
        Self { stream, kept: Vec::new(), limit, keep }
    }

    /// Reads until the end, or until there is more than may be. Safe to drop.
    pub(super) async fn read(&mut self) -> Result<(), TooLong> {
        while !self.is_too_long()
            && let Some(stream) = &mut self.stream
        {
            self.kept.reserve(CHUNK);
            match stream.read_buf(&mut self.kept).await {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // What cannot be read any more has ended.
                Ok(0) | Err(_) => self.stream = None,
                Ok(_) => self.trim(),
            }
        }
        if self.is_too_long() { Err(TooLong) } else { Ok(()) }
    }

    /// Whether more came than may be.
    pub(super) fn is_too_long(&self) -> bool {
        self.kept.len() > self.limit && self.keep == Keep::AllOrStop
    }

    /// Whether the stream was read to its end.
    pub(super) fn has_ended(&self) -> bool {
        self.stream.is_none()
    }

    /// Forgets the beginning now and then, so that a long stream costs no more than twice its limit.
    fn trim(&mut self) {
        if self.keep == Keep::Tail && self.kept.len() > 2 * self.limit {
            self.kept.drain(..self.kept.len() - self.limit);
        }
    }

    /// What was kept.
    pub(super) fn into_bytes(mut self) -> Vec<u8> {
        if self.keep == Keep::Tail && self.kept.len() > self.limit {
            self.kept.drain(..self.kept.len() - self.limit);
        }
        self.kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stream_within_its_limit_is_kept_whole() {
        let mut capture = Capture::new(Some(&b"12345"[..]), 5, Keep::AllOrStop);
        assert_eq!(capture.read().await, Ok(()));
        assert_eq!(capture.into_bytes(), b"12345");
    }

    #[tokio::test]
    async fn one_byte_more_is_too_long_and_stops_the_reading() {
        let mut capture = Capture::new(Some(&b"123456"[..]), 5, Keep::AllOrStop);
        assert_eq!(capture.read().await, Err(TooLong));
        let mut endless = Capture::new(Some(tokio::io::repeat(b'x')), 5, Keep::AllOrStop);
        assert_eq!(endless.read().await, Err(TooLong));
    }

    #[tokio::test]
    async fn of_a_long_stream_the_tail_is_kept() {
        let text: Vec<u8> = (0..200_000_u32).flat_map(u32::to_le_bytes).collect();
        let mut capture = Capture::new(Some(&text[..]), 1000, Keep::Tail);
        assert_eq!(capture.read().await, Ok(()));
        assert!(capture.kept.capacity() < 10 * CHUNK);
        assert_eq!(capture.into_bytes(), text[text.len() - 1000..]);
    }
}
