//! What a hostile endpoint can try, and that none of it works (T1 to T3).

use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use eap_types::CallFailure;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

use super::names::Names;
use super::socket::SocketCall;
use super::{CallLimits, OutboundCall, OutboundError};
use crate::guard::{EndpointPolicy, EndpointProfile, Guard};

const LIMIT: usize = 1024 * 1024;
/// What no error may ever tell.
const CANARY: &str = "canary-of-the-peer";

/// A listener that keeps account of who came.
struct Trap {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    sent: Arc<AtomicUsize>,
    heard: Arc<Mutex<Vec<u8>>>,
}

impl Trap {
    /// Listens at `ip`; each connection reads a request's head and body start, then does what `play` says.
    async fn at<F>(ip: [u8; 4], play: impl Fn(TcpStream, Arc<AtomicUsize>) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind((Ipv4Addr::from(ip), 0)).await.expect("loopback has a free port");
        let address = listener.local_addr().expect("it is bound");
        let (connections, sent, heard) =
            (Arc::<AtomicUsize>::default(), Arc::default(), Arc::<Mutex<Vec<u8>>>::default());
        let trap =
            Self { address, connections: Arc::clone(&connections), sent: Arc::clone(&sent), heard: Arc::clone(&heard) };
        let play = Arc::new(play);
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                connections.fetch_add(1, SeqCst);
                let (play, sent, heard) = (Arc::clone(&play), Arc::clone(&sent), Arc::clone(&heard));
                tokio::spawn(async move {
                    let mut request = vec![0; 64 * 1024];
                    let read = socket.read(&mut request).await.unwrap_or(0);
                    heard.lock().unwrap().extend_from_slice(&request[..read]);
                    play(socket, sent).await;
                });
            }
        });
        trap
    }

    /// Answers with this text and closes.
    async fn answering(ip: [u8; 4], answer: String) -> Self {
        Self::at(ip, move |mut socket, _| {
            let answer = answer.clone();
            async move {
                let _ = socket.write_all(answer.as_bytes()).await;
            }
        })
        .await
    }

    /// Begins with this text and then sends `drop` again and again, with a pause before each.
    async fn dripping(begin: &'static str, drop: Vec<u8>, pause: Duration) -> Self {
        Self::at([127, 0, 0, 1], move |mut socket, sent| {
            let drop = drop.clone();
            async move {
                let _ = socket.write_all(begin.as_bytes()).await;
                while socket.write_all(&drop).await.is_ok() {
                    sent.fetch_add(drop.len(), SeqCst);
                    tokio::time::sleep(pause).await;
                }
            }
        })
        .await
    }

    fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    fn connections(&self) -> usize {
        self.connections.load(SeqCst)
    }
}

/// A resolver that gives the next of its answers each time it is asked.
#[derive(Debug, Default)]
struct Flipping {
    answers: Mutex<Vec<Vec<IpAddr>>>,
    asked: Arc<AtomicUsize>,
}

#[async_trait]
impl Names for Flipping {
    async fn addresses(&self, _: &str) -> io::Result<Vec<IpAddr>> {
        self.asked.fetch_add(1, SeqCst);
        let mut answers = self.answers.lock().unwrap();
        if answers.is_empty() { Err(io::Error::other("no such name")) } else { Ok(answers.remove(0)) }
    }
}

fn guard(profile: EndpointProfile) -> Arc<Guard> {
    Arc::new(Guard::new(EndpointPolicy { profile, ..EndpointPolicy::default() }, false))
}

fn dev() -> SocketCall {
    SocketCall::new(guard(EndpointProfile::Dev))
}

/// Calls 127.0.0.2 and no other address of this machine.
fn picky(answers: &[&[&str]]) -> (SocketCall, Arc<AtomicUsize>) {
    let policy = EndpointPolicy {
        profile: EndpointProfile::Custom,
        allow_http_hosts: vec!["flip.example".into(), "127.0.0.1".into()],
        allow_cidrs: vec!["127.0.0.2/32".parse().unwrap()],
        ..EndpointPolicy::default()
    };
    let parsed = |answer: &&[&str]| answer.iter().map(|text| text.parse().unwrap()).collect();
    let asked = Arc::<AtomicUsize>::default();
    let names = Flipping { answers: Mutex::new(answers.iter().map(parsed).collect()), asked: Arc::clone(&asked) };
    (SocketCall::with_names(Arc::new(Guard::new(policy, false)), Box::new(names)), asked)
}

fn post(url: &str) -> http::Request<Bytes> {
    http::Request::post(url).body(Bytes::from_static(b"{}")).expect("the sample is a request")
}

fn limits(millis: u64) -> CallLimits {
    CallLimits::headers_within(Duration::from_millis(millis)).with_answer(LIMIT)
}

async fn failure(call: &SocketCall, url: &str, limits: CallLimits) -> (CallFailure, OutboundError) {
    let error = call.call(post(url), limits).await.expect_err("the call fails");
    let mut text = String::new();
    let mut next: Option<&dyn std::error::Error> = Some(&error);
    while let Some(error) = next {
        text += &format!("{error} {error:?} ");
        next = error.source();
    }
    assert!(!text.contains(CANARY), "{text}");
    (error.failure(), error)
}

#[tokio::test]
async fn an_answer_is_read_with_its_status_headers_and_body() {
    let trap =
        Trap::answering([127, 0, 0, 1], "HTTP/1.1 202 Accepted\r\nx-a: b\r\ncontent-length: 4\r\n\r\nbody".into())
            .await;
    let answer = dev().call(post(&format!("{}a?b=c", trap.url())), limits(5_000)).await.expect("it answers");
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()["x-a"], &answer.body()[..]),
        (202, &"b".parse().unwrap(), &b"body"[..])
    );
    let heard = String::from_utf8(trap.heard.lock().unwrap().clone()).unwrap();
    let heard = heard.to_ascii_lowercase();
    assert!(heard.starts_with("post /a?b=c http/1.1\r\n"), "{heard}");
    for line in [format!("host: {}", trap.address), "content-length: 2".into(), "user-agent: eap-orchestrator/".into()]
    {
        assert!(heard.contains(&line), "{heard}");
    }
    assert!(!heard.contains("accept-encoding"), "nothing is asked for that would have to be undone: {heard}");
}

#[tokio::test]
async fn a_body_that_does_not_matter_is_not_waited_for() {
    let trap =
        Trap::dripping("HTTP/1.1 200 OK\r\ncontent-length: 10000\r\n\r\n", b"x".into(), Duration::from_secs(1)).await;
    let limits = CallLimits::headers_within(Duration::from_secs(4));
    let answer = dev().call(post(&trap.url()), limits).await.expect("the headers are an answer");
    assert!(answer.status().is_success() && answer.body().is_empty());
}

#[tokio::test]
async fn a_name_that_flips_to_a_forbidden_address_is_not_followed() {
    let bad = Trap::answering([127, 0, 0, 1], "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".into()).await;
    let good =
        TcpListener::bind((Ipv4Addr::new(127, 0, 0, 2), bad.address.port())).await.expect("the other address is free");
    let served = tokio::spawn(async move {
        for _ in 0..2 {
            let (mut socket, _) = good.accept().await.unwrap();
            let mut request = [0; 4096];
            let _ = socket.read(&mut request).await;
            socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        }
    });
    let (call, asked) = picky(&[
        &["127.0.0.2"],
        &["127.0.0.1"],
        &["127.0.0.1", "127.0.0.2"],
        &["::ffff:127.0.0.1"],
        &["169.254.169.254"],
        &["::1"],
        &["0.0.0.0"],
    ]);
    let url = format!("http://flip.example:{}/", bad.address.port());
    call.call(post(&url), limits(5_000)).await.expect("the first answer is allowed");
    assert_eq!(failure(&call, &url, limits(5_000)).await.0, CallFailure::Policy);
    call.call(post(&url), limits(5_000)).await.expect("the allowed one of two is taken");
    for _ in 0..4 {
        assert_eq!(failure(&call, &url, limits(5_000)).await.0, CallFailure::Policy);
    }
    served.await.unwrap();
    assert_eq!((bad.connections(), asked.load(SeqCst)), (0, 7), "each call asks once, and dials what it was told");
}

#[tokio::test]
async fn a_literal_address_is_checked_without_a_resolver() {
    let bad = Trap::answering([127, 0, 0, 1], "HTTP/1.1 200 OK\r\n\r\n".into()).await;
    let (call, asked) = picky(&[&["127.0.0.2"]]);
    for host in ["127.0.0.1", "2130706433", "0x7f.1", "0177.0.0.1", "[::ffff:127.0.0.1]"] {
        let url = format!("http://{host}:{}/", bad.address.port());
        let refused = call.call(post(&url), limits(5_000)).await.expect_err("it is not allowed");
        assert_eq!((refused.failure(), refused.surely_not_sent()), (CallFailure::Policy, true), "{url}");
    }
    assert_eq!((bad.connections(), asked.load(SeqCst)), (0, 0));
}

#[tokio::test]
async fn the_server_does_not_call_itself() {
    let own = Trap::answering([127, 0, 0, 1], "HTTP/1.1 200 OK\r\n\r\n".into()).await;
    let guard = guard(EndpointProfile::Auto);
    guard.listens(own.address);
    let call = SocketCall::new(Arc::clone(&guard));
    for host in ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]"] {
        let refused = call.call(post(&format!("http://{host}:{}/", own.address.port())), limits(5_000)).await;
        // `localhost` may have a second address, where nobody listens.
        let failure = refused.expect_err("it is not called").failure();
        assert!(matches!(failure, CallFailure::Policy | CallFailure::Connect), "{host}: {failure}");
    }
    assert_eq!(own.connections(), 0);
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_not_a_way() {
    let inner = Trap::answering([127, 0, 0, 1], "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".into()).await;
    for status in [301, 302, 303, 307, 308] {
        let answer = format!("HTTP/1.1 {status} Elsewhere\r\nlocation: {}\r\ncontent-length: 0\r\n\r\n", inner.url());
        let outer = Trap::answering([127, 0, 0, 1], answer).await;
        let answer = dev().call(post(&outer.url()), limits(5_000)).await.expect("a redirect is an answer");
        assert_eq!(answer.status().as_u16(), status);
    }
    assert_eq!(inner.connections(), 0);
}

#[tokio::test]
async fn one_deadline_covers_headers_and_body_that_come_byte_by_byte() {
    let begins = ["", "HTTP/1.1 200 OK\r\nx-slow: ", "HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n"];
    for begin in begins {
        let trap = Trap::dripping(begin, b"H".into(), Duration::from_millis(20)).await;
        let began = Instant::now();
        let (class, error) = failure(&dev(), &trap.url(), limits(300)).await;
        assert!(began.elapsed() < Duration::from_secs(4), "{begin}");
        // A first line that never ends is no HTTP at some point.
        assert!(matches!(class, CallFailure::Timeout | CallFailure::Connect), "{begin}: {error}");
        assert!(!error.surely_not_sent());
    }
    let silent = Trap::at([127, 0, 0, 1], |socket, _| async move {
        tokio::time::sleep(Duration::from_secs(30)).await;
        drop(socket);
    })
    .await;
    let (class, error) = failure(&dev(), &silent.url(), limits(200)).await;
    assert!(matches!((class, error), (CallFailure::Timeout, OutboundError::Timeout { connected: true })));
}

#[tokio::test]
async fn of_ten_gigabytes_no_more_is_taken_than_the_limit_and_what_sockets_hold() {
    let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    let mut chunk = format!("{:x}\r\n", 64 * 1024).into_bytes();
    chunk.extend(vec![b'x'; 64 * 1024]);
    chunk.extend(b"\r\n");
    for (begin, drop) in [
        ("HTTP/1.1 200 OK\r\ncontent-length: 10000000000\r\n\r\n", vec![b'x'; 64 * 1024]),
        ("HTTP/1.1 200 OK\r\n\r\n", vec![b'x'; 64 * 1024]),
        ("HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 10000000000\r\n\r\n", vec![0; 64 * 1024]),
        (chunked, chunk),
    ] {
        let trap = Trap::dripping(begin, drop, Duration::ZERO).await;
        let (class, error) = failure(&dev(), &trap.url(), limits(10_000)).await;
        assert!(matches!((class, &error), (CallFailure::Status, OutboundError::TooLong { limit: LIMIT })), "{error}");
        let sent = trap.sent.load(SeqCst);
        assert!(sent < 16 * LIMIT, "{sent} bytes were taken");
    }
}

#[tokio::test]
async fn headers_without_end_are_given_up() {
    let line = format!("x-a: {}\r\n", "x".repeat(1000)).into_bytes();
    for begin in ["HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\nx-long: "] {
        let trap = Trap::dripping(begin, line.clone(), Duration::ZERO).await;
        let (class, error) = failure(&dev(), &trap.url(), limits(10_000)).await;
        assert_eq!(class, CallFailure::Connect, "{error}");
        assert!(trap.sent.load(SeqCst) < 16 * LIMIT);
    }
}

#[tokio::test]
async fn what_is_compressed_stays_so() {
    let trap = Trap::answering(
        [127, 0, 0, 1],
        "HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 4\r\n\r\n\x1f\x0b\x08z".into(),
    )
    .await;
    let answer = dev().call(post(&trap.url()), limits(5_000)).await.expect("it answers");
    assert_eq!(answer.body().len(), 4);
}

#[tokio::test]
async fn an_error_is_a_class_and_never_what_the_peer_said() {
    let nonsense = Trap::answering([127, 0, 0, 1], format!("{CANARY}\r\n{CANARY}\r\n\r\n")).await;
    assert_eq!(failure(&dev(), &nonsense.url(), limits(5_000)).await.0, CallFailure::Connect);
    let header = Trap::answering([127, 0, 0, 1], format!("HTTP/1.1 200 OK\r\n{CANARY} {CANARY}: x\r\n\r\n")).await;
    assert_eq!(failure(&dev(), &header.url(), limits(5_000)).await.0, CallFailure::Connect);
    let long =
        format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{}", 2 * LIMIT, CANARY.repeat(2 * LIMIT / CANARY.len()));
    let long = Trap::answering([127, 0, 0, 1], long).await;
    assert_eq!(failure(&dev(), &long.url(), limits(5_000)).await.0, CallFailure::Status);
    let cut = Trap::answering([127, 0, 0, 1], format!("HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n{CANARY}")).await;
    let (class, error) = failure(&dev(), &cut.url(), limits(5_000)).await;
    assert!(class == CallFailure::Connect && !error.surely_not_sent());
    // Something that does not speak TLS.
    let plain = Trap::answering([127, 0, 0, 1], format!("HTTP/1.1 400 {CANARY}\r\n\r\n")).await;
    let (class, error) = failure(&dev(), &plain.url().replace("http:", "https:"), limits(5_000)).await;
    assert!(class == CallFailure::Tls && error.surely_not_sent(), "{error}");
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let (class, error) = failure(&dev(), &format!("http://{closed}/"), limits(5_000)).await;
    assert!(class == CallFailure::Connect && error.surely_not_sent(), "{error}");
    let (call, _) = picky(&[]);
    assert_eq!(failure(&call, "http://flip.example/", limits(5_000)).await.0, CallFailure::Connect);
    let (call, asked) = picky(&[&["127.0.0.2"]]);
    assert_eq!(failure(&call, "http://other.example/", limits(5_000)).await.0, CallFailure::Policy);
    assert_eq!(asked.load(SeqCst), 0, "a name that is not allowed is not even looked up");
}
