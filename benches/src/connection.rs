//! The cheapest HTTP/1.1 client that will do: one kept connection, requests built by the caller, a parser that reads the
//! status and the length. All servers are called with it, so that the caller costs the same whoever answers.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// A connection on which one request is under way at a time.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    received: Vec<u8>,
}

/// An answer, valid until the next call.
#[derive(Debug)]
pub(crate) struct Reply<'a> {
    pub(crate) status: u16,
    pub(crate) body: &'a [u8],
}

impl Reply<'_> {
    /// The body, if the status is `expected`.
    pub(crate) fn expect(&self, expected: u16) -> io::Result<&[u8]> {
        if self.status == expected {
            return Ok(self.body);
        }
        let body = String::from_utf8_lossy(self.body);
        Err(io::Error::other(format!("answered {} where {expected} was expected: {body}", self.status)))
    }
}

impl Connection {
    pub(crate) async fn open(server: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(server).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, received: Vec::with_capacity(4096) })
    }

    /// Sends `request` whole and waits for its answer.
    pub(crate) async fn call(&mut self, request: &[u8]) -> io::Result<Reply<'_>> {
        self.stream.write_all(request).await?;
        self.received.clear();
        let head = loop {
            if let Some(head) = Head::parse(&self.received)? {
                break head;
            }
            self.read_more().await?;
        };
        while self.received.len() < head.length + head.body {
            self.read_more().await?;
        }
        Ok(Reply { status: head.status, body: &self.received[head.length..head.length + head.body] })
    }

    async fn read_more(&mut self) -> io::Result<()> {
        match self.stream.read_buf(&mut self.received).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }
}

/// What is read of an answer's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Head {
    status: u16,
    /// Bytes of the head, the empty line included.
    length: usize,
    /// Bytes of the body.
    body: usize,
}

impl Head {
    /// `None` while the head is not there whole.
    fn parse(received: &[u8]) -> io::Result<Option<Self>> {
        let Some(end) = received.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(None) };
        let unreadable = || io::Error::other("the answer's head makes no sense");
        let mut lines = received[..end].split(|&byte| byte == b'\n');
        let first = lines.next().ok_or_else(unreadable)?;
        let status = first.get(9..12).and_then(number).ok_or_else(unreadable)?;
        let mut body = None;
        for line in lines {
            let Some(colon) = line.iter().position(|&byte| byte == b':') else { continue };
            if line[..colon].eq_ignore_ascii_case(b"content-length") {
                body = number(line[colon + 1..].trim_ascii());
            }
        }
        // Neither server here sends chunks, so that an answer without a length has no body.
        let body = match body {
            Some(body) => body,
            None if status == 204 => 0,
            None => return Err(io::Error::other("the answer does not say how long it is")),
        };
        Ok(Some(Self { status: status.try_into().map_err(|_| unreadable())?, length: end + 4, body }))
    }
}

fn number(digits: &[u8]) -> Option<usize> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_once_it_is_whole() {
        let answer = b"HTTP/1.1 201 Created\r\ncontent-type: application/json\r\nContent-Length:  2\r\n\r\n{}";
        assert_eq!(Head::parse(&answer[..60]).unwrap(), None);
        let head = Head::parse(answer).unwrap();
        assert_eq!(head, Some(Head { status: 201, length: answer.len() - 2, body: 2 }));
    }

    #[test]
    fn only_no_content_may_leave_its_length_out() {
        let head = Head::parse(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap();
        assert_eq!(head.map(|head| head.body), Some(0));
        assert!(Head::parse(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
    }
}
