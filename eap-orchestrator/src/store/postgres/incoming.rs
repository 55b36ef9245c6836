//! The tasks that a batch writes, as its claims find them before they are written: each is written once, as the claims leave
//! it.

use std::collections::HashMap;

use eap_core::RoutingKey;

use super::claim::Leased;
use super::ground::Ground;
use super::holders::Place;
use crate::store::Ask;
use crate::store::prepared::{Prepared, PreparedTask, PreparedTaskWrite};

/// From here on are the numbers of tasks that are to be inserted: behind all that are stored.
const UNBORN: i64 = i64::MAX / 2;

/// What changes write that were admitted, in their order, each task under its number.
pub(super) fn numbered<'a, 'p>(
    changes: &'a [&'p Prepared],
    ground: &'a Ground,
) -> impl Iterator<Item = (i64, &'p PreparedTask)> + use<'a, 'p> {
    let mut unborn = UNBORN;
    changes.iter().flat_map(|change| &change.tasks).map(move |write| match write.write {
        PreparedTaskWrite::Insert { .. } => {
            unborn += 1;
            (unborn, write)
        }
        PreparedTaskWrite::Update { .. } => {
            let known =
                ground.tasks.get(&write.task.id()).expect("a change was admitted at the revision that is stored");
            (known.more, write)
        }
    })
}

/// What the changes of a batch write.
#[derive(Debug, Default)]
pub(super) struct Incoming<'p> {
    tasks: HashMap<i64, &'p PreparedTask>,
    /// The ready ones in the order of claims, each with the place of its key among the keys.
    ready: Vec<(Place, usize)>,
    keys: Vec<&'p RoutingKey>,
}

impl<'p> Incoming<'p> {
    pub(super) fn of(changes: &[&'p Prepared], ground: &Ground) -> Self {
        let (mut incoming, mut known) = (Self::default(), HashMap::new());
        for (number, write) in numbered(changes, ground) {
            incoming.tasks.insert(number, write);
            if let Some(route) = write.state.route.as_deref() {
                let key = *known.entry(route).or_insert_with(|| {
                    incoming.keys.push(&write.task.spec.routing);
                    incoming.keys.len() - 1
                });
                incoming.ready.push((place(number, write), key));
            }
        }
        incoming.ready.sort_unstable();
        incoming
    }

    /// Whether the batch writes this task: what is stored of it is out of date.
    pub(super) fn has(&self, number: i64) -> bool {
        self.tasks.contains_key(&number)
    }

    pub(super) fn get(&self, number: i64) -> Option<&'p PreparedTask> {
        self.tasks.get(&number).copied()
    }

    /// All of them, in any order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Place, &'p PreparedTask)> {
        self.tasks.iter().map(|(number, write)| (place(*number, write), *write))
    }

    /// The ready ones that are open to an ask and not leased yet, in order.
    pub(super) fn open_to(&self, ask: &Ask, leased: &Leased) -> Vec<(Place, &'p PreparedTask)> {
        let is_open = |key: &&RoutingKey| {
            ask.task_types.as_ref().is_none_or(|types| types.contains(&key.task_type)) && key.admits(&ask.agent)
        };
        let open: Vec<bool> = self.keys.iter().map(is_open).collect();
        let is_left = |(place, key): &&(Place, usize)| open[*key] && leased.get(place.1).is_none();
        self.ready.iter().filter(is_left).filter_map(|(place, _)| Some((*place, self.get(place.1)?))).collect()
    }
}

/// Where a task stands among all that are ready.
fn place(number: i64, write: &PreparedTask) -> Place {
    (i64::from(write.task.spec.priority.get()), number)
}
