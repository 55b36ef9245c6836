//! SIGTERM, SIGINT and SIGHUP: the first asks to finish, the second ends the process at once.

use std::{fs, io};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::exit::{Exit, Failure};

/// Listens for the signals from now on.
///
/// The token is cancelled by the first signal. The second runs `last`, which has a moment and no more, and exits with
/// 128 + the signal's number. A terminal that closes may send SIGHUP several times, so only the others count as second.
/// Whoever had SIGHUP ignored, as `nohup` does, keeps it so.
pub(crate) fn on_signals(last: impl FnOnce() + Send + 'static) -> Result<CancellationToken, Failure> {
    let fail = |error: io::Error| Failure::new(Exit::Failed, format!("cannot listen for signals: {error}"));
    let mut terminate = signal(SignalKind::terminate()).map_err(fail)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(fail)?;
    let mut hangup = match is_hangup_ignored() {
        true => None,
        false => Some(signal(SignalKind::hangup()).map_err(fail)?),
    };
    let stop = CancellationToken::new();
    let asked = stop.clone();
    // Lives as long as the process: there is nothing to wait for.
    tokio::spawn(async move {
        tokio::select! {
            _ = next(&mut terminate, &mut interrupt) => {}
            Some(()) = next_of(hangup.as_mut()) => {}
        }
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

async fn next_of(signal: Option<&mut Signal>) -> Option<()> {
    match signal {
        Some(signal) => signal.recv().await,
        None => std::future::pending().await,
    }
}

/// Whether the process was started with SIGHUP ignored; where the system does not say, it was not.
fn is_hangup_ignored() -> bool {
    fs::read_to_string("/proc/self/status").is_ok_and(|status| ignores_hangup(&status))
}

/// Reads the mask of ignored signals, whose lowest bit is signal 1.
fn ignores_hangup(status: &str) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nohup_asked_for_is_seen() {
        assert!(ignores_hangup("Name:\teap\nSigIgn:\t0000000000001001\nSigCgt:\t0000000000000000\n"));
        assert!(!ignores_hangup("SigIgn:\t0000000000001000\nSigCgt:\t0000000000000001\n"));
        assert!(!ignores_hangup(""));
    }
}
