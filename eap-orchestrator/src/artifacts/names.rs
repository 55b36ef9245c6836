//! Which names of a folder are known to be on the disk.

use std::collections::HashSet;
use std::io;
use std::path::Path;
use std::sync::Mutex;

use eap_types::TaskId;

use crate::announce::lock;

/// The attempts all of whose names were brought to the disk by this process: what another left, or what could not be
/// brought there, may be gone after a loss of power.
#[derive(Debug, Default)]
pub(super) struct SyncedNames {
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    attempts: HashSet<(TaskId, u32)>,
    /// Changes that were begun, of whatever attempt: what was synced before one may say nothing of it.
    changes: u64,
    /// Those of them that are under way.
    under_way: usize,
}

/// A name is being changed, until this is dropped.
#[derive(Debug)]
pub(super) struct Change<'n>(&'n SyncedNames);

impl SyncedNames {
    /// A name of the attempt is about to change; whoever changes it syncs it.
    pub(super) fn change(&self, task: TaskId, attempt: u32) -> Change<'_> {
        let mut known = lock(&self.known);
        known.attempts.remove(&(task, attempt));
        known.changes += 1;
        known.under_way += 1;
        Change(self)
    }

    /// Syncs the names of an attempt that were read, unless they are known to be on the disk.
    pub(super) fn ensure(&self, task: TaskId, attempt: u32, sync: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let before = {
            let known = lock(&self.known);
            if known.attempts.contains(&(task, attempt)) {
                return Ok(());
            }
            known.changes
        };
        sync()?;
        let mut known = lock(&self.known);
        if known.changes == before && known.under_way == 0 {
            known.attempts.insert((task, attempt));
        }
        Ok(())
    }

    /// The attempt is gone.
    pub(super) fn forget(&self, task: TaskId, attempt: u32) {
        lock(&self.known).attempts.remove(&(task, attempt));
    }
}

impl Drop for Change<'_> {
    fn drop(&mut self) {
        lock(&self.0.known).under_way -= 1;
    }
}

/// Makes what a folder names survive a loss of power; only Unix opens folders.
pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    if cfg!(unix) { std::fs::File::open(folder)?.sync_all() } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_synced_until_nothing_changed_meanwhile() {
        let names = SyncedNames::default();
        let task = TaskId::from_bytes([7; 16]);
        let ensure = |sync: &dyn Fn() -> io::Result<()>| {
            let mut is_synced = false;
            let outcome = names.ensure(task, 1, || {
                is_synced = true;
                sync()
            });
            (is_synced, outcome.is_ok())
        };
        let fine = || Ok(());
        assert_eq!(ensure(&|| Err(io::ErrorKind::Other.into())), (true, false));
        assert_eq!(ensure(&fine), (true, true), "the first time failed");
        assert_eq!(ensure(&fine), (false, true));
        let change = names.change(task, 1);
        assert_eq!(ensure(&fine), (true, true));
        assert_eq!(ensure(&fine), (true, true), "the change is under way");
        drop(change);
        let meanwhile = || {
            drop(names.change(task, 1));
            Ok(())
        };
        assert_eq!(ensure(&meanwhile), (true, true));
        assert_eq!(ensure(&fine), (true, true), "something changed while it was synced");
        assert_eq!(ensure(&fine), (false, true));
        names.forget(task, 1);
        assert_eq!(ensure(&fine), (true, true));
    }
}
