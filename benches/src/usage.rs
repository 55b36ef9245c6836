//! What this process has cost so far: processor time, memory, bytes written.

use std::fs;
use std::io;
use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;
use serde::{Deserialize, Serialize};

/// Costs since the process began; two of them subtracted are the costs of the time between.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Usage {
    /// Processor time in user and system mode.
    pub(crate) cpu_micros: u64,
    /// Memory in use now, in KiB.
    pub(crate) rss_kib: u64,
    /// The most that was ever in use, in KiB.
    pub(crate) peak_rss_kib: u64,
    /// Bytes that the process made the kernel send to the disk.
    pub(crate) written_bytes: u64,
}

impl Usage {
    /// Of this process, now.
    pub(crate) fn now() -> io::Result<Self> {
        let usage = getrusage(UsageWho::RUSAGE_SELF)?;
        let cpu = usage.user_time() + usage.system_time();
        let status = fs::read_to_string("/proc/self/status")?;
        Ok(Self {
            cpu_micros: u64::try_from(cpu.num_microseconds()).unwrap_or_default(),
            rss_kib: field(&status, "VmRSS:"),
            peak_rss_kib: field(&status, "VmHWM:"),
            written_bytes: field(&fs::read_to_string("/proc/self/io")?, "write_bytes:"),
        })
    }

    /// Processor time spent since `earlier`.
    pub(crate) fn cpu_since(&self, earlier: &Self) -> Duration {
        Duration::from_micros(self.cpu_micros - earlier.cpu_micros)
    }
}

/// The number behind `name` in one of the kernel's lists.
fn field(list: &str, name: &str) -> u64 {
    let line = list.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.split_whitespace().next()).and_then(|number| number.parse().ok()).unwrap_or_default()
}
