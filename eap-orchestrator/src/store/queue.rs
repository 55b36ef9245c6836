//! What waits to be written, bounded by number and by bytes.

use std::sync::Arc;

use tokio::sync::mpsc::error::SendError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

/// How many writes wait at most, and how many KiB of encoded rows; who comes later waits to be let in.
const MAX_REQUESTS: usize = 1_024;
const MAX_KIB: u32 = 64 << 10;

/// The end at which requests are handed over.
#[derive(Debug)]
pub(super) struct Queue<R> {
    requests: mpsc::Sender<Queued<R>>,
    room: Arc<Semaphore>,
    max_kib: u32,
}

/// A request and the room it takes up until it is taken out.
pub(super) struct Queued<R> {
    pub(super) request: R,
    _room: Option<OwnedSemaphorePermit>,
}

impl<R> Queue<R> {
    pub(super) fn new() -> (Self, mpsc::Receiver<Queued<R>>) {
        Self::of(MAX_REQUESTS, MAX_KIB)
    }

    fn of(max_requests: usize, max_kib: u32) -> (Self, mpsc::Receiver<Queued<R>>) {
        let (requests, waiting) = mpsc::channel(max_requests);
        (Self { requests, room: Arc::new(Semaphore::new(max_kib as usize)), max_kib }, waiting)
    }

    /// How many wait.
    pub(super) fn waiting(&self) -> u64 {
        (self.requests.max_capacity() - self.requests.capacity()) as u64
    }

    /// Hands a request over once there is room for it, which is so many bytes of encoded rows.
    ///
    /// # Errors
    ///
    /// Once nobody takes requests any more.
    pub(super) async fn send(&self, request: R, bytes: usize) -> Result<(), SendError<()>> {
        let kib = u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX);
        let room = match kib {
            0 => None,
            // One that is larger than all the room there is goes alone.
            kib => Some(Arc::clone(&self.room).acquire_many_owned(kib.min(self.max_kib)).await),
        };
        let room = room.transpose().expect("the semaphore is never closed");
        self.requests.send(Queued { request, _room: room }).await.map_err(|_| SendError(()))
    }
}

#[cfg(test)]
mod tests {
    use std::pin::{Pin, pin};
    use std::task::{Context, Waker};

    use super::*;

    fn is_waiting(call: Pin<&mut impl Future>) -> bool {
        call.poll(&mut Context::from_waker(Waker::noop())).is_pending()
    }

    #[tokio::test]
    async fn who_brings_more_bytes_than_there_is_room_for_waits() {
        let (queue, mut waiting) = Queue::of(10, 8);
        queue.send("first", 5_000).await.unwrap();
        let mut second = pin!(queue.send("second", 5_000));
        assert!(is_waiting(second.as_mut()));
        // What has no bytes to speak of is let in.
        queue.send("small", 0).await.unwrap();
        waiting.recv().await.unwrap();
        second.await.unwrap();
    }

    #[tokio::test]
    async fn one_that_is_larger_than_all_the_room_goes_alone() {
        let (queue, mut waiting) = Queue::of(10, 8);
        queue.send("large", 100_000).await.unwrap();
        assert!(is_waiting(pin!(queue.send("small", 1))));
        waiting.recv().await.unwrap();
        queue.send("small", 1).await.unwrap();
    }

    #[tokio::test]
    async fn who_waits_for_room_learns_that_nobody_takes_it() {
        let (queue, waiting) = Queue::of(10, 8);
        queue.send("first", 8_000).await.unwrap();
        let mut second = pin!(queue.send("second", 8_000));
        assert!(is_waiting(second.as_mut()));
        drop(waiting);
        assert!(second.await.is_err());
    }
}
