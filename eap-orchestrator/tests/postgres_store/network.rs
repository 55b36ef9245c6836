//! A network between store and server that can hold answers back, or swallow what the connections of now still say.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use eap_tests::postgres::PrivateServer;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// How what is under way may go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Open,
    /// Answers with these bytes wait until it is open again, and all behind them.
    Held(&'static [u8]),
}

/// The network before one server; it ends with its test.
#[derive(Debug)]
pub(crate) struct Network {
    url: String,
    way: watch::Sender<Way>,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    /// How many connections there were up to now, and up to which one they are dead.
    made: AtomicU64,
    dead: AtomicU64,
    /// Answers that wait.
    held: AtomicU64,
    /// The next answer is the last one of its connection: it never arrives, and the connection is cut.
    cuts_commits: AtomicBool,
}

impl Network {
    pub(crate) async fn before(server: &PrivateServer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("there is a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let (front, back) = server.url().split_once("127.0.0.1:").map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
        let (server_port, rest) = back.split_once('/').expect("the URL names a database");
        let (url, target) = (format!("{front}127.0.0.1:{port}/{rest}"), format!("127.0.0.1:{server_port}"));
        let (way, follows) = watch::channel(Way::Open);
        let shared = Arc::new(Shared::default());
        let network = Self { url, way, shared: Arc::clone(&shared) };
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect(&target).await else { continue };
                let number = shared.made.fetch_add(1, Ordering::SeqCst) + 1;
                let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
                tokio::spawn(asked(number, from_client, to_server, Arc::clone(&shared)));
                tokio::spawn(answered(number, from_server, to_client, follows.clone(), Arc::clone(&shared)));
            }
        });
        network
    }

    /// The URL of the server's database through it.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Answers wait from now on.
    pub(crate) fn hold(&self) {
        self.hold_answers_with(b"");
    }

    /// Those wait with which the server says that a transaction began.
    pub(crate) fn hold_beginnings(&self) {
        self.hold_answers_with(b"BEGIN\0");
    }

    /// Answers with these bytes wait, and all behind them.
    pub(crate) fn hold_answers_with(&self, bytes: &'static [u8]) {
        self.shared.held.store(0, Ordering::SeqCst);
        self.way.send_replace(Way::Held(bytes));
    }

    /// Waits until an answer waits.
    pub(crate) async fn holds_one(&self) {
        let started = Instant::now();
        while self.shared.held.load(Ordering::SeqCst) == 0 {
            assert!(started.elapsed() < Duration::from_secs(10), "nobody asks");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// What waited arrives.
    pub(crate) fn pass(&self) {
        self.way.send_replace(Way::Open);
    }

    /// The connections of now are never heard of again, at either end; new ones are as they should be.
    pub(crate) fn swallow(&self) {
        self.shared.dead.store(self.shared.made.load(Ordering::SeqCst), Ordering::SeqCst);
        self.pass();
    }

    /// The server gets the next `COMMIT`, and nobody its answer: the connection is cut.
    pub(crate) fn cut_at_commit(&self) {
        self.shared.cuts_commits.store(true, Ordering::SeqCst);
    }
}

async fn asked(number: u64, mut client: OwnedReadHalf, mut server: OwnedWriteHalf, shared: Arc<Shared>) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(read) = client.read(&mut buffer).await {
        if shared.dead.load(Ordering::SeqCst) >= number {
            std::future::pending::<()>().await;
        }
        if read == 0 || server.write_all(&buffer[..read]).await.is_err() {
            break;
        }
    }
}

async fn answered(
    number: u64,
    mut server: OwnedReadHalf,
    mut client: OwnedWriteHalf,
    mut way: watch::Receiver<Way>,
    shared: Arc<Shared>,
) {
    // What the server says once it has committed.
    const COMMITTED: &[u8] = b"COMMIT\0";
    let mut buffer = vec![0; 64 << 10];
    while let Ok(read @ 1..) = server.read(&mut buffer).await {
        let answer = &buffer[..read];
        let has = |bytes: &[u8]| bytes.is_empty() || answer.windows(bytes.len()).any(|window| window == bytes);
        if has(COMMITTED) && shared.cuts_commits.swap(false, Ordering::SeqCst) {
            return;
        }
        let now = *way.borrow();
        if let Way::Held(bytes) = now
            && has(bytes)
        {
            shared.held.fetch_add(1, Ordering::SeqCst);
            if way.wait_for(|way| *way == Way::Open).await.is_err() {
                return;
            }
        }
        if shared.dead.load(Ordering::SeqCst) >= number {
            std::future::pending::<()>().await;
        }
        if client.write_all(answer).await.is_err() {
            break;
        }
    }
}
