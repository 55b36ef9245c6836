//! A call as a client makes it, on a connection of its own.

use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use serde_json::Value;

/// Makes one call and gives the status and the body.
pub(crate) async fn call(method: &str, url: &str, body: Option<&Value>) -> (u16, Value) {
    let text = body.map(Value::to_string).unwrap_or_default();
    let (status, text) = send(method, url, text).await;
    (status, serde_json::from_str(&text).unwrap_or_else(|_| panic!("{method} {url}: {status} {text}")))
}

/// The same with a body that need not be JSON.
pub(crate) async fn send(method: &str, url: &str, body: String) -> (u16, String) {
    let url: url::Url = url.parse().expect("a URL");
    let address = (url.host_str().expect("a host"), url.port().expect("a port"));
    let stream = tokio::net::TcpStream::connect(address).await.expect("somebody listens");
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.expect("HTTP");
    let driver = tokio::spawn(connection);
    let request = hyper::Request::builder()
        .method(method)
        .uri(url.path())
        .header("host", url.authority())
        .header("content-type", "application/json")
        .header("authorization", "Bearer callers-key")
        .body(Full::new(Bytes::from(body)))
        .expect("a request");
    let response = sender.send_request(request).await.expect("an answer");
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.expect("a whole answer").to_bytes();
    drop(sender);
    driver.await.expect("no panic").expect("a connection that ends well");
    (status, String::from_utf8(body.to_vec()).expect("text"))
}
