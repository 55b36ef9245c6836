//! The frames of a WebSocket (RFC 6455), as far as it takes to know what passes.

use std::collections::HashMap;
use std::io;
use std::sync::{Mutex, PoisonError};

use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf, split};

use super::Leg;

const TEXT: u8 = 0x1;
const IS_MASKED: u8 = 0x80;
/// Lengths that say that the length follows, in two bytes or in eight.
const IN_TWO: u8 = 126;
const IN_EIGHT: u8 = 127;
/// Beyond every limit of the protocol: a frame that claims more is none.
const MAX_FRAME: u64 = 64 * 1024 * 1024;

/// Carries frames both ways until a side ends or something that passes is lost; then both sides break.
pub(super) async fn tunnel<A, B>(caller: A, callee: B, decide: impl Fn(&str, Leg, &[u8]) -> io::Result<()>)
where
    A: AsyncRead + AsyncWrite,
    B: AsyncRead + AsyncWrite,
{
    let (from_caller, to_caller) = split(caller);
    let (from_callee, to_callee) = split(callee);
    // What the caller asked, by number: an answer is named after its question, as with HTTP.
    let asked = Mutex::new(HashMap::new());
    let asked = || asked.lock().unwrap_or_else(PoisonError::into_inner);
    let out = |frame: Named, text: &[u8]| {
        let decided = decide(&frame.r#type, Leg::Out, text);
        asked().insert(frame.id, frame.r#type);
        decided
    };
    let back = |frame: Named, text: &[u8]| {
        let question = frame.reference.and_then(|id| asked().remove(&id));
        decide(&question.unwrap_or(frame.r#type), Leg::Back, text)
    };
    tokio::select! {
        _ = carry(from_caller, to_callee, out) => {}
        _ = carry(from_callee, to_caller, back) => {}
    }
}

/// What a frame of the protocol says of itself.
#[derive(Deserialize)]
struct Named {
    r#type: String,
    #[serde(default)]
    id: u64,
    #[serde(default, rename = "ref")]
    reference: Option<u64>,
}

async fn carry<A, B>(
    mut from: ReadHalf<A>,
    mut to: WriteHalf<B>,
    decide: impl Fn(Named, &[u8]) -> io::Result<()>,
) -> io::Result<()>
where
    A: AsyncRead,
    B: AsyncWrite,
{
    loop {
        let frame = Frame::read(&mut from).await?;
        if let Some((named, text)) = frame.named() {
            decide(named, &text)?;
        }
        to.write_all(&frame.head).await?;
        to.write_all(&frame.payload).await?;
        to.flush().await?;
    }
}

/// A frame as it came: its head with the mask, and its payload, masked if it was.
struct Frame {
    head: Vec<u8>,
    payload: Vec<u8>,
}

impl Frame {
    async fn read(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Self> {
        let mut head = vec![0; 2];
        from.read_exact(&mut head).await?;
        let more = match head[1] & !IS_MASKED {
            IN_TWO => 2,
            IN_EIGHT => 8,
            _ => 0,
        };
        let mask = if head[1] & IS_MASKED == 0 { 0 } else { 4 };
        head.resize(2 + more + mask, 0);
        from.read_exact(&mut head[2..]).await?;
        let length = match more {
            0 => u64::from(head[1] & !IS_MASKED),
            _ => head[2..2 + more].iter().fold(0, |length, byte| (length << 8) | u64::from(*byte)),
        };
        if length > MAX_FRAME {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut payload = vec![0; usize::try_from(length).map_err(io::Error::other)?];
        from.read_exact(&mut payload).await?;
        Ok(Self { head, payload })
    }

    /// What it says of itself, and its text, if it is a message of the protocol and whole.
    fn named(&self) -> Option<(Named, Vec<u8>)> {
        if self.head[0] & 0x0f != TEXT {
            return None;
        }
        let mut text = self.payload.clone();
        if self.head[1] & IS_MASKED != 0 {
            let mask = &self.head[self.head.len() - 4..];
            text.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
        }
        serde_json::from_slice(&text).ok().map(|named| (named, text))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::duplex;

    use super::*;

    /// `{"type":"ack"}` in a frame, masked or not, with the length spelled in so many bytes.
    fn frame(mask: Option<[u8; 4]>, length_bytes: usize) -> Vec<u8> {
        let text = br#"{"type":"ack"}"#;
        let masked = if mask.is_some() { IS_MASKED } else { 0 };
        let mut frame = vec![0x80 | TEXT];
        match length_bytes {
            0 => frame.push(masked | u8::try_from(text.len()).unwrap()),
            2 => frame.extend([&[masked | IN_TWO][..], &u16::try_from(text.len()).unwrap().to_be_bytes()].concat()),
            _ => frame.extend([&[masked | IN_EIGHT][..], &(text.len() as u64).to_be_bytes()].concat()),
        }
        let mask_bytes = mask.unwrap_or_default();
        frame.extend(mask.iter().flatten());
        frame.extend(text.iter().zip(mask_bytes.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        frame
    }

    #[tokio::test]
    async fn a_frame_is_named_and_carried_as_it_came() {
        for mask in [None, Some([1, 2, 3, 4])] {
            for length_bytes in [0, 2, 8] {
                let sent = frame(mask, length_bytes);
                let read = Frame::read(&mut sent.as_slice()).await.unwrap();
                assert_eq!(read.named().expect("it is a frame of the protocol").0.r#type, "ack");
                assert_eq!([read.head, read.payload].concat(), sent);
            }
        }
    }

    #[tokio::test]
    async fn an_answer_is_named_after_its_question() {
        let spoken = |text: &str| [&[0x80 | TEXT, u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
        let (mut caller, near) = duplex(1024);
        let (far, mut callee) = duplex(1024);
        let passed = Mutex::new(Vec::new());
        let talk = async {
            let question = spoken(r#"{"type":"task.result","id":2}"#);
            caller.write_all(&question).await.unwrap();
            callee.read_exact(&mut vec![0; question.len()]).await.unwrap();
            let answer = [spoken(r#"{"type":"ack","id":7,"ref":2}"#), spoken(r#"{"type":"ack","id":8}"#)].concat();
            callee.write_all(&answer).await.unwrap();
            caller.read_exact(&mut vec![0; answer.len()]).await.unwrap();
        };
        let note = |what: &str, leg, _: &[u8]| {
            passed.lock().unwrap().push((what.to_owned(), leg));
            Ok(())
        };
        tokio::select! {
            () = tunnel(near, far, note) => panic!("both sides are there"),
            () = talk => {}
        }
        let expected = [("task.result", Leg::Out), ("task.result", Leg::Back), ("ack", Leg::Back)];
        assert_eq!(passed.into_inner().unwrap(), expected.map(|(what, leg)| (what.to_owned(), leg)));
    }

    #[tokio::test]
    async fn what_is_lost_breaks_both_sides_and_what_came_before_has_arrived() {
        let (mut caller, near) = duplex(1024);
        let (far, mut callee) = duplex(1024);
        let first = frame(Some([9, 8, 7, 6]), 0);
        caller.write_all(&[first.clone(), first.clone()].concat()).await.unwrap();
        let seen = std::cell::Cell::new(0);
        tunnel(near, far, |what, leg, _| {
            assert_eq!((what, leg), ("ack", Leg::Out));
            seen.set(seen.get() + 1);
            if seen.get() == 2 { Err(io::ErrorKind::ConnectionReset.into()) } else { Ok(()) }
        })
        .await;
        let mut arrived = Vec::new();
        callee.read_to_end(&mut arrived).await.unwrap();
        assert_eq!(arrived, first);
        assert_eq!(caller.read(&mut [0; 16]).await.unwrap(), 0, "the sender's side is broken, too");
    }
}
