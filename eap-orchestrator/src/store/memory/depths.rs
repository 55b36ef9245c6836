//! How many tasks are not over.

use std::collections::BTreeMap;

use eap_core::{Phase, Task};
use eap_types::{TaskType, TenantId};

use super::tables::Tables;
use crate::store::{Depth, Depths, InboxDepth, Insertion, ReadyDepth};

impl Tables {
    pub(super) fn depths(&self) -> Depths {
        let mut ready = BTreeMap::new();
        for (key, queue) in self.all_queues() {
            let kind = (key.tenant, key.task_type.clone(), key.required_capabilities.clone());
            let first = queue.iter().map(|(_, number)| *number).min();
            let (tasks, oldest): &mut (u64, Option<Insertion>) = ready.entry(kind).or_default();
            *tasks += queue.len() as u64;
            *oldest = [*oldest, first].into_iter().flatten().min();
        }
        let ready = ready.into_iter().filter_map(|((tenant, task_type, required_capabilities), (tasks, oldest))| {
            let spec = &self.row(oldest?).record.spec;
            let oldest = spec.run_at.map_or(spec.created_at, |at| at.max(spec.created_at));
            Some(ReadyDepth { tenant, task_type, required_capabilities, tasks, oldest })
        });
        let delayed = self.all_due().filter(|task| matches!(task.state.phase, Phase::Queued { ready_at: Some(_) }));
        Depths {
            ready: ready.collect(),
            delayed: by_type(delayed),
            leased: by_type(self.leased_after(None).map(|row| &row.record)),
            inbox: InboxDepth::default(),
        }
    }
}

fn by_type<'a>(tasks: impl Iterator<Item = &'a Task>) -> Vec<Depth> {
    let mut counts: BTreeMap<(TenantId, &TaskType), u64> = BTreeMap::new();
    for task in tasks {
        let routing = &task.spec.routing;
        *counts.entry((routing.tenant, &routing.task_type)).or_default() += 1;
    }
    let depths = counts.into_iter();
    depths.map(|((tenant, task_type), tasks)| Depth { tenant, task_type: task_type.clone(), tasks }).collect()
}
