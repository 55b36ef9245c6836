//! A peer that speaks in bytes, for what an HTTP client would never send.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::in_time;

/// A connection.
#[derive(Debug)]
pub(crate) struct Peer {
    stream: TcpStream,
}

/// The bytes of a request with these header lines; the body's length is announced if there is a body.
pub(crate) fn request(line: &str, headers: &[String], body: &str) -> Vec<u8> {
    let mut text = format!("{line} HTTP/1.1\r\nhost: localhost\r\n");
    for header in headers {
        text.push_str(header);
        text.push_str("\r\n");
    }
    if !body.is_empty() {
        text.push_str(&format!("content-type: application/json\r\ncontent-length: {}\r\n", body.len()));
    }
    text.push_str("\r\n");
    text.push_str(body);
    text.into_bytes()
}

impl Peer {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self { stream: TcpStream::connect(address).await.expect("the server listens") }
    }

    /// Sends bytes; a server that has closed already is no failure of the test.
    pub(crate) async fn send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).await.is_ok()
    }

    /// Says that nothing more will be sent.
    pub(crate) async fn finish_sending(&mut self) {
        let _ = self.stream.shutdown().await;
    }

    /// One answer: its status and its body; `None` if the server closed instead.
    pub(crate) async fn answer(&mut self) -> Option<(u16, Value)> {
        in_time("the server answers or closes", async {
            let mut read = Vec::new();
            loop {
                if let Some(answer) = parse(&read) {
                    return Some(answer);
                }
                let mut bytes = [0; 4096];
                match self.stream.read(&mut bytes).await {
                    Ok(0) | Err(_) => return parse(&read),
                    Ok(count) => read.extend_from_slice(&bytes[..count]),
                }
            }
        })
        .await
    }

    /// Whether the server closes by itself, whatever it says before.
    pub(crate) async fn is_closed_within(&mut self, limit: Duration) -> bool {
        let closed = async {
            let mut bytes = [0; 4096];
            while self.stream.read(&mut bytes).await.is_ok_and(|count| count > 0) {}
        };
        timeout(limit, closed).await.is_ok()
    }
}

/// Reads an answer whose length is announced.
fn parse(bytes: &[u8]) -> Option<(u16, Value)> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&bytes[..end]).expect("an answer's head is ASCII");
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let announced = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    let body = bytes.get(end + 4..end + 4 + announced.unwrap_or(0))?;
    let body = if body.is_empty() { Value::Null } else { serde_json::from_slice(body).expect("every body is JSON") };
    Some((status, body))
}
