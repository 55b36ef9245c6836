//! Writes that run to their end whether or not their caller stays.

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::runtime::Handle;
use tracing::{Instrument as _, Span, error};

use super::{Lifecycle, Share};
use crate::error::Error;

/// A write that its caller carries out, and that goes on by itself if the caller goes.
///
/// A task of its own from the start would cost each write a hop there and one back.
struct Detached<T: Send + 'static> {
    /// Until it is over.
    work: Option<BoxFuture<'static, Result<T, Error>>>,
    runtime: Handle,
    span: Span,
}

impl<T: Send + 'static> Detached<T> {
    fn new(work: impl Future<Output = Result<T, Error>> + Send + 'static) -> Self {
        let answered = AssertUnwindSafe(work).catch_unwind().map(|answer| {
            answer.unwrap_or_else(|_| {
                error!("a write panicked");
                Err(Error::Broken)
            })
        });
        Self { work: Some(answered.boxed()), runtime: Handle::current(), span: Span::current() }
    }
}

impl<T: Send + 'static> Future for Detached<T> {
    type Output = Result<T, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let work = self.work.as_mut().expect("what is over is not polled");
        let answer = ready!(work.as_mut().poll(cx));
        self.work = None;
        Poll::Ready(answer)
    }
}

impl<T: Send + 'static> Drop for Detached<T> {
    fn drop(&mut self) {
        if let Some(work) = self.work.take() {
            // It holds its place among those that a stop waits for.
            self.runtime.spawn(work.map(drop).instrument(self.span.clone()));
        }
    }
}

impl Lifecycle {
    /// Runs `work` to its end whether or not its caller stays: a commit never depends on a request's future.
    pub(super) async fn detached<T: Send + 'static>(
        self: &Arc<Self>,
        share: Share,
        work: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<T, Error> {
        let full = Error::Busy { reason: "too many writes are under way" };
        // A quarter is kept for heartbeats and results.
        let is_full = share == Share::New && self.writes.available_permits() < self.config.capacity.writes.div_ceil(4);
        let permit = if is_full { None } else { Arc::clone(&self.writes).try_acquire_owned().ok() };
        let Some(permit) = permit else {
            self.metrics.writes_refused.add(1);
            return Err(full);
        };
        let tracked = self.under_way.token();
        Detached::new(async move {
            let _held = (permit, tracked);
            work.await
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn what_was_begun_goes_on_without_its_caller() {
        let ((open, gate), (done, is_done)) = (oneshot::channel::<()>(), oneshot::channel());
        let mut write = Box::pin(Detached::new(async move {
            gate.await.expect("it is opened");
            done.send("written").expect("it is waited for");
            Ok(())
        }));
        assert!((&mut write).now_or_never().is_none());
        drop(write);
        open.send(()).expect("it goes on");
        assert_eq!(is_done.await, Ok("written"));
    }

    #[tokio::test]
    async fn a_panic_is_an_error_of_the_call_alone() {
        let write = Detached::<()>::new(async { panic!("broken on purpose") });
        assert!(matches!(write.await, Err(Error::Broken)));
    }
}
