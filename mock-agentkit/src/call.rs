//! One HTTP call, on a connection of its own.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1::handshake;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use url::Url;

use crate::journal::Answer;

/// Bytes of an answer that are read; a longer one is a failure.
const MOST_ANSWER_BYTES: usize = 1024 * 1024;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Posts a body and gives what came back, at the latest when the time is over.
pub(crate) async fn post(url: &Url, headers: HeaderMap, body: Bytes, within: Duration) -> Answer {
    match tokio::time::timeout(within, exchange(url, headers, body)).await {
        Ok(Ok((status, body))) => Answer::Answered { status, body },
        Ok(Err(error)) => Answer::Failed { why: chain(&*error) },
        Err(_) => Answer::Failed { why: format!("no answer within {within:?}") },
    }
}

async fn exchange(url: &Url, headers: HeaderMap, body: Bytes) -> Result<(u16, String), Failure> {
    let (host, port) = (url.host_str().unwrap_or_default(), url.port_or_known_default().unwrap_or(80));
    // A URL has brackets around an address of IPv6, a look-up has not.
    let stream = TcpStream::connect((host.trim_matches(['[', ']']), port)).await?;
    let (mut sender, connection) = handshake(TokioIo::new(stream)).await?;
    let path = url.query().map_or_else(|| url.path().to_owned(), |query| format!("{}?{query}", url.path()));
    let authority = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
    let mut request = Request::post(path).header(http::header::HOST, authority).body(Full::new(body))?;
    request.headers_mut().extend(headers);
    let answer = async {
        let response = sender.send_request(request).await?;
        let status = response.status().as_u16();
        let body = Limited::new(response.into_body(), MOST_ANSWER_BYTES).collect().await?.to_bytes();
        Ok((status, String::from_utf8_lossy(&body).into_owned()))
    };
    tokio::pin!(answer, connection);
    tokio::select! {
        biased;
        answer = &mut answer => answer,
        // The connection is over once it has read everything; the answer may still be on the way from it.
        _ = &mut connection => answer.await,
    }
}

/// An error and its reasons in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut source = error.source();
    while let Some(reason) = source {
        line.push_str(": ");
        line.push_str(&reason.to_string());
        source = reason.source();
    }
    line
}
