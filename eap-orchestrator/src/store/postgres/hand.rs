//! The tasks that a batch writes, as its claims find them before they are written: each is written once, as the claims leave
//! it.

use std::collections::HashSet;

use super::claim::Leased;
use super::ground::Ground;
use super::holders::Place;
use crate::store::Ask;
use crate::store::prepared::{Prepared, PreparedTask, PreparedTaskWrite};

/// From here on are the numbers of tasks that are to be inserted: behind all that are stored.
const UNBORN: i64 = i64::MAX / 2;

/// What changes write, in their order, each task under its number.
pub(super) fn numbered<'a, 'p>(
    changes: &'a [&'p Prepared],
    ground: &'a Ground,
) -> impl Iterator<Item = (i64, &'p PreparedTask)> + use<'a, 'p> {
    let mut unborn = UNBORN..;
    changes.iter().flat_map(|change| &change.tasks).filter_map(move |write| {
        let number = match write.write {
            PreparedTaskWrite::Insert { .. } => unborn.next(),
            PreparedTaskWrite::Update { .. } => ground.tasks.get(&write.task.id()).map(|known| known.more),
        };
        Some((number?, write))
    })
}

/// What the changes of a batch write.
#[derive(Debug, Default)]
pub(super) struct Hand<'p> {
    /// In the order of claims.
    tasks: Vec<(Place, &'p PreparedTask)>,
    numbers: HashSet<i64>,
}

impl<'p> Hand<'p> {
    pub(super) fn of(changes: &[&'p Prepared], ground: &Ground) -> Self {
        let place = |write: &PreparedTask, number| (i64::from(write.task.spec.priority.get()), number);
        let mut tasks: Vec<(Place, &PreparedTask)> =
            numbered(changes, ground).map(|(number, write)| (place(write, number), write)).collect();
        tasks.sort_unstable_by_key(|(place, _)| *place);
        Self { numbers: tasks.iter().map(|((_, number), _)| *number).collect(), tasks }
    }

    /// Whether the batch writes this task: what is stored of it is out of date.
    pub(super) fn has(&self, number: i64) -> bool {
        self.numbers.contains(&number)
    }

    pub(super) fn get(&self, number: i64) -> Option<&'p PreparedTask> {
        self.tasks.iter().find(|((_, other), _)| *other == number).map(|(_, write)| *write)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Place, &'p PreparedTask)> {
        self.tasks.iter().copied()
    }

    /// The ready ones that are open to an ask and not leased yet, in order.
    pub(super) fn open_to(&self, ask: &Ask, leased: &Leased) -> Vec<(Place, &'p PreparedTask)> {
        let is_open = |write: &PreparedTask| {
            let key = &write.task.spec.routing;
            let is_wanted = ask.task_types.as_ref().is_none_or(|types| types.contains(&key.task_type));
            write.task.is_ready() && is_wanted && key.admits(&ask.agent)
        };
        self.iter().filter(|((_, number), write)| is_open(write) && leased.get(*number).is_none()).collect()
    }
}
