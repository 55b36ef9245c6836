//! A way to one of several listeners, byte by byte: a load balancer, or a cable that can be cut or fall silent.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::AbortHandle;

/// What becomes of bytes on their way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Open,
    /// They wait.
    Silent,
    /// Connections break, and there are no new ones.
    Cut,
}

/// It runs until it is dropped.
pub struct Link {
    address: SocketAddr,
    mode: watch::Sender<Mode>,
    accepting: AbortHandle,
}

impl Link {
    /// Starts one on a free port of loopback, in the present runtime. Each connection goes to the next of the targets that
    /// takes it.
    ///
    /// # Errors
    ///
    /// If there is no port to be had.
    pub async fn start(targets: Vec<SocketAddr>) -> io::Result<Self> {
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await?;
        let address = listener.local_addr()?;
        let (mode, follows) = watch::channel(Mode::Open);
        let accepting = tokio::spawn(accept(listener, targets.into(), follows)).abort_handle();
        Ok(Self { address, mode, accepting })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Everything waits from now on, as in a network that swallows it.
    pub fn fall_silent(&self) {
        self.mode.send_replace(Mode::Silent);
    }

    /// Every connection breaks, and there are no new ones.
    pub fn cut(&self) {
        self.mode.send_replace(Mode::Cut);
    }

    /// New connections are as they should be, and so are old ones that were silent.
    pub fn heal(&self) {
        self.mode.send_replace(Mode::Open);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.accepting.abort();
        self.cut();
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("address", &self.address).finish_non_exhaustive()
    }
}

async fn accept(listener: TcpListener, targets: Arc<[SocketAddr]>, mode: watch::Receiver<Mode>) {
    let next = Arc::new(AtomicUsize::new(0));
    while let Ok((client, _)) = listener.accept().await {
        if *mode.borrow() != Mode::Cut {
            tokio::spawn(carry(client, Arc::clone(&targets), Arc::clone(&next), mode.clone()));
        }
    }
}

async fn carry(client: TcpStream, targets: Arc<[SocketAddr]>, next: Arc<AtomicUsize>, mode: watch::Receiver<Mode>) {
    let first = next.fetch_add(1, Ordering::SeqCst);
    for offset in 0..targets.len() {
        let Ok(server) = TcpStream::connect(targets[(first + offset) % targets.len()]).await else { continue };
        let (Ok(()), Ok(())) = (client.set_nodelay(true), server.set_nodelay(true)) else { return };
        let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
        let (asked, answered) = (one_way(from_client, to_server, mode.clone()), one_way(from_server, to_client, mode));
        tokio::join!(asked, answered);
        return;
    }
}

async fn one_way(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, mut mode: watch::Receiver<Mode>) {
    let mut buffer = vec![0; 32 << 10];
    loop {
        let read = tokio::select! {
            read = from.read(&mut buffer) => read.unwrap_or(0),
            _ = mode.wait_for(|mode| *mode == Mode::Cut) => return,
        };
        if mode.wait_for(|mode| *mode != Mode::Silent).await.is_ok_and(|mode| *mode == Mode::Cut) {
            return;
        }
        if read == 0 {
            let _ = to.shutdown().await;
            return;
        }
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}
