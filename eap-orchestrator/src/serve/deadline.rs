//! Ends connections that hold a place without using it.
//!
//! hyper's own header timeout also counts the idle time between requests, so a connection kept alive for a
//! poll a minute would be cut after ten seconds. Here a request's header has its time, counted from its first
//! byte, and idling has another.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use http_body::Body;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// What a connection is doing, shared between its transport and its requests.
#[derive(Debug)]
pub(crate) struct Pace {
    header: Duration,
    idle: Duration,
    /// Requests begun and requests ended: a difference means that one is being answered.
    begun: AtomicU64,
    ended: AtomicU64,
    /// Wakes the connection when its request has ended: hyper, which knows that nothing is there to be read, would not
    /// ask the transport again, and nobody would set the timer.
    reader: AtomicWaker,
}

impl Pace {
    pub(super) fn new(header: Duration, idle: Duration) -> Self {
        Self { header, idle, begun: AtomicU64::new(0), ended: AtomicU64::new(0), reader: AtomicWaker::new() }
    }

    /// A request's header is complete; it is being answered until the guard goes.
    pub(super) fn busy(self: &Arc<Self>) -> Busy {
        self.begun.fetch_add(1, Ordering::SeqCst);
        Busy(Arc::clone(self))
    }
}

/// Lets a request that becomes something longer, such as a WebSocket, keep its connection busy.
#[derive(Clone, Debug)]
pub(crate) struct KeepsOpen(pub(super) Arc<Pace>);

impl KeepsOpen {
    pub(crate) fn hold(&self) -> Busy {
        self.0.busy()
    }
}

/// While this lives, a request is being answered: no deadline of the connection applies.
#[derive(Debug)]
pub(crate) struct Busy(Arc<Pace>);

impl Busy {
    /// The body of the answer; the request is answered once all of it was sent.
    pub(super) fn until_sent<B>(self, body: B) -> Answering<B> {
        Answering { body, _busy: self }
    }
}

/// The body of an answer that keeps its connection busy.
#[derive(Debug)]
pub(super) struct Answering<B> {
    body: B,
    _busy: Busy,
}

impl<B: Body + Unpin> Body for Answering<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Self::Data>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.ended.fetch_add(1, Ordering::SeqCst);
        self.0.reader.wake();
    }
}

/// A transport whose reads fail once their deadline is over, and its writes once the peer takes nothing any more.
#[derive(Debug)]
pub(super) struct WithDeadlines<I> {
    io: I,
    pace: Arc<Pace>,
    /// How many requests had ended when the present wait began.
    waiting_since: Option<u64>,
    /// Whether bytes of the next request's header have come.
    in_header: bool,
    timer: Pin<Box<Sleep>>,
    /// Runs while the peer takes nothing of what is to be written.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<I> WithDeadlines<I> {
    pub(super) fn new(io: I, pace: Arc<Pace>) -> Self {
        // The first header's time begins with the connection.
        let timer = Box::pin(tokio::time::sleep(pace.header));
        Self { io, pace, waiting_since: Some(0), in_header: true, timer, stalled: None }
    }

    /// Whether the wait for the next request, or for the rest of its header, is over.
    fn is_overdue(&mut self, cx: &mut Context<'_>) -> bool {
        self.pace.reader.register(cx.waker());
        let (ended, begun) = (self.pace.ended.load(Ordering::SeqCst), self.pace.begun.load(Ordering::SeqCst));
        if begun != ended || self.stalled.is_some() {
            self.waiting_since = None;
            return false;
        }
        if self.waiting_since != Some(ended) {
            self.waiting_since = Some(ended);
            self.in_header = false;
            self.timer.as_mut().reset(Instant::now() + self.pace.idle);
        }
        self.timer.as_mut().poll(cx).is_ready()
    }

    /// Fails a write that made no progress for as long as a connection may idle.
    fn watch<T>(&mut self, written: Poll<io::Result<T>>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let idle = self.pace.idle;
        let timer = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(idle)));
        if timer.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Poll::Pending
    }

    fn bytes_came(&mut self) {
        if !self.in_header && self.waiting_since.is_some() {
            self.in_header = true;
            self.timer.as_mut().reset(Instant::now() + self.pace.header);
        }
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for WithDeadlines<I> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        if let Poll::Ready(read) = Pin::new(&mut self.io).poll_read(cx, buf) {
            if buf.filled().len() > before {
                self.bytes_came();
            }
            return Poll::Ready(read);
        }
        if self.is_overdue(cx) {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Poll::Pending
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for WithDeadlines<I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, buf);
        self.watch(written, cx)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.io).poll_flush(cx);
        self.watch(flushed, cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.io).poll_flush(cx))?;
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.watch(written, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}
