//! SIGTERM and SIGINT: the first asks to finish, the second ends the process at once.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::exit::{Exit, Failure};

/// Listens for the signals from now on.
///
/// The token is cancelled by the first signal. The second runs `last`, which has a moment and no more, and exits with
/// 128 + the signal's number.
pub(crate) fn on_signals(last: impl FnOnce() + Send + 'static) -> Result<CancellationToken, Failure> {
    let fail = |error: io::Error| Failure::new(Exit::Failed, format!("cannot listen for signals: {error}"));
    let mut terminate = signal(SignalKind::terminate()).map_err(fail)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(fail)?;
    let stop = CancellationToken::new();
    let asked = stop.clone();
    // Lives as long as the process: there is nothing to wait for.
    tokio::spawn(async move {
        next(&mut terminate, &mut interrupt).await;
        asked.cancel();
        let number = next(&mut terminate, &mut interrupt).await;
        last();
        std::process::exit(128 + number);
    });
    Ok(stop)
}

async fn next(terminate: &mut Signal, interrupt: &mut Signal) -> i32 {
    tokio::select! {
        _ = terminate.recv() => SignalKind::terminate().as_raw_value(),
        _ = interrupt.recv() => SignalKind::interrupt().as_raw_value(),
    }
}
