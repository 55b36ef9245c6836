//! Tasks as they were last committed, in memory.
//!
//! One process owns the file, and one thread writes it: what that thread has just committed need not be read back. The
//! writer publishes here after the commit and before it answers, so that whoever was told of a write finds it.

use std::sync::{Arc, Mutex, PoisonError};

use eap_core::Task;
use eap_types::{TaskId, Timestamp};

use super::rows::number;
use crate::maps::IdMap;
use crate::store::prepared::Kept;
use crate::store::{Revision, Stored};

/// How many tasks a generation holds, and how many bytes of inputs and contexts. There are two of them.
const MAX_TASKS: usize = 8_192;
const MAX_BYTES: usize = 16 << 20;

/// A task as it stands in the file.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) seq: i64,
    pub(super) revision: Revision,
    pub(super) task: Arc<Task>,
    /// Its result, if it was recorded lately.
    pub(super) result: Option<Arc<Kept>>,
}

impl Known {
    pub(super) fn is_at(&self, revision: Revision) -> bool {
        number(self.revision.0) == number(revision.0)
    }
}

/// The tasks that were written lately. Two generations: when the younger is full, it takes the place of the older one,
/// which is forgotten.
#[derive(Debug, Default)]
pub(super) struct Recent(Mutex<Generations>);

#[derive(Debug, Default)]
struct Generations {
    young: IdMap<TaskId, Known>,
    old: IdMap<TaskId, Known>,
    bytes: usize,
}

impl Recent {
    /// The task as it was last committed, if that is remembered.
    pub(super) fn get(&self, id: TaskId) -> Option<Known> {
        let generations = self.lock();
        generations.young.get(&id).or_else(|| generations.old.get(&id)).cloned()
    }

    /// The same as a reader is told it.
    pub(super) fn read(&self, id: TaskId, now: impl FnOnce() -> Timestamp) -> Option<Stored<Task>> {
        let Known { revision, task, .. } = self.get(id)?;
        Some(Stored { record: Task::clone(&task), revision, now: now() })
    }

    /// Takes over what was committed.
    pub(super) fn publish(&self, written: impl Iterator<Item = (TaskId, Known)>) {
        let mut generations = self.lock();
        for (id, known) in written {
            generations.bytes +=
                known.task.spec.payload_bytes() + known.result.as_ref().map_or(0, |kept| kept.text.len());
            generations.young.insert(id, known);
            if generations.young.len() >= MAX_TASKS || generations.bytes >= MAX_BYTES {
                generations.old = std::mem::take(&mut generations.young);
                generations.bytes = 0;
            }
        }
    }

    /// Forgets tasks that are purged.
    pub(super) fn forget(&self, ids: &[TaskId]) {
        let mut generations = self.lock();
        for id in ids {
            generations.young.remove(id);
            generations.old.remove(id);
        }
    }

    /// Forgets everything: what is in the file is not known for certain.
    pub(super) fn clear(&self) {
        *self.lock() = Generations::default();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Generations> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use eap_core::{RoutingKey, TaskSpec};
    use eap_types::{JsonObject, Priority, SessionId, TenantId};

    use super::*;

    fn known(number: u32) -> (TaskId, Known) {
        let mut bytes = [0; 10];
        bytes[4..8].copy_from_slice(&number.to_be_bytes());
        let id = TaskId::v7(Timestamp::UNIX_EPOCH, bytes);
        let spec = TaskSpec {
            id,
            routing: RoutingKey::of_type(TenantId::default(), "sum".parse().unwrap()),
            session_id: SessionId::v7(Timestamp::UNIX_EPOCH, bytes),
            input: "x".repeat(100),
            context: JsonObject::default(),
            preferred_agents: Default::default(),
            requirements: Vec::new(),
            priority: Priority::default(),
            timeout: Duration::from_secs(3600),
            inactivity: None,
            max_attempts: 3,
            run_at: None,
            expires_at: None,
            created_at: Timestamp::UNIX_EPOCH,
            traceparent: None,
            requeued_from: None,
            is_step: false,
            callback_url: None,
        };
        (id, Known { seq: number.into(), revision: Revision(1), task: Arc::new(Task::submitted(spec)), result: None })
    }

    #[test]
    fn the_newest_are_remembered_and_memory_is_bounded() {
        let recent = Recent::default();
        let last = 5 * u32::try_from(MAX_TASKS).unwrap();
        recent.publish((0..last).map(known));
        assert!(recent.get(known(last - 1).0).is_some());
        assert!(recent.get(known(0).0).is_none());
        let generations = recent.lock();
        assert!(generations.young.len() + generations.old.len() <= 2 * MAX_TASKS);
    }

    #[test]
    fn what_was_purged_or_is_in_doubt_is_forgotten() {
        let recent = Recent::default();
        recent.publish((0..3).map(known));
        recent.forget(&[known(1).0]);
        let is_known = |number| recent.get(known(number).0).is_some();
        assert!(is_known(0) && !is_known(1) && is_known(2));
        recent.clear();
        assert!(recent.get(known(0).0).is_none());
    }
}
