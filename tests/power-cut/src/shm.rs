//! The memory that connections to one log share, and its locks. Nothing of it survives a cut.
#![allow(unsafe_code, reason = "SQLite is handed plain pointers to the shared memory, which outlive any borrow")]

use std::collections::BTreeSet;

/// SQLite's shared memory has eight locks.
const LOCKS: usize = 8;

/// SQLite maps the shared memory in regions of this size.
pub(crate) const REGION: usize = 32 * 1024;

type Region = [u64; REGION / 8];

#[derive(Debug, Default)]
pub(crate) struct Shm {
    regions: Vec<RegionPointer>,
    users: BTreeSet<u64>,
    locks: [ShmLock; LOCKS],
}

#[derive(Debug, Default)]
struct ShmLock {
    shared: BTreeSet<u64>,
    exclusive: Option<u64>,
}

/// Owns a region; the pointer is the only way to it, since SQLite keeps copies.
#[derive(Debug)]
struct RegionPointer(*mut Region);

// SAFETY: the pointer is to memory of its own, and what is read and written there SQLite orders by its locks.
unsafe impl Send for RegionPointer {}

impl Drop for RegionPointer {
    fn drop(&mut self) {
        // SAFETY: it came from a box, and regions are dropped once the last user has unmapped them.
        drop(unsafe { Box::from_raw(self.0) });
    }
}

impl Shm {
    /// Where a region is; it is made if `extend` says so.
    pub(crate) fn map(&mut self, user: u64, region: usize, extend: bool) -> Option<*mut Region> {
        self.users.insert(user);
        while extend && self.regions.len() <= region {
            self.regions.push(RegionPointer(Box::into_raw(Box::new([0; REGION / 8]))));
        }
        self.regions.get(region).map(|region| region.0)
    }

    pub(crate) fn unmap(&mut self, user: u64) {
        self.users.remove(&user);
        self.unlock(user, 0, LOCKS);
        if self.users.is_empty() {
            self.regions.clear();
        }
    }

    pub(crate) fn unlock(&mut self, user: u64, first: usize, count: usize) {
        for lock in &mut self.locks[first..first + count] {
            lock.shared.remove(&user);
            lock.exclusive.take_if(|holder| *holder == user);
        }
    }

    /// Takes all of these locks, or none.
    pub(crate) fn lock(&mut self, user: u64, first: usize, count: usize, exclusive: bool) -> bool {
        let locks = &mut self.locks[first..first + count];
        let is_free = |lock: &ShmLock| {
            let others = lock.shared.iter().any(|holder| *holder != user);
            lock.exclusive.is_none_or(|holder| holder == user) && !(exclusive && others)
        };
        if !locks.iter().all(is_free) {
            return false;
        }
        for lock in locks {
            if exclusive {
                lock.exclusive = Some(user);
            } else {
                lock.shared.insert(user);
            }
        }
        true
    }
}
