//! How much waits, by kind: asked of the store, but not more often than it is cheap, and told under a bounded number
//! of labels.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use eap_types::{Capability, TenantId, Timestamp};

use crate::announce::lock;
use crate::store::{Depth, Depths, Repository, StoreError};

/// How many kinds of one tenant are told by name; further ones are told together.
const NAMED_KINDS: usize = 100;
/// The name of all the others; no task type begins like this.
const OTHERS: &str = "_other";
/// A count that took longer than this is kept for a while.
const CHEAP: Duration = Duration::from_millis(5);
/// For how many times as long as it took: counting takes at most 2 % of one reader's time.
const KEPT_FOR: u32 = 50;

/// The counts of the store, and which kinds were told by name before.
#[derive(Debug, Default)]
pub(crate) struct QueueGauges {
    counted: tokio::sync::Mutex<Option<Counted>>,
    named: Mutex<BTreeMap<TenantId, Named>>,
}

#[derive(Debug)]
struct Counted {
    depths: Arc<Depths>,
    at: Instant,
    took: Duration,
}

/// What was told to a tenant by name. Bounded: by the tenants that have a key, and by [`NAMED_KINDS`].
#[derive(Debug, Default)]
struct Named {
    kinds: BTreeSet<Kind>,
    types: BTreeSet<String>,
}

/// Task type and capabilities, as they are told.
type Kind = (String, String);

/// The counts for one tenant's eyes.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Told {
    pub(super) ready: BTreeMap<Kind, u64>,
    /// Only where there is a ready task.
    pub(super) oldest: BTreeMap<Kind, Timestamp>,
    pub(super) delayed: BTreeMap<String, u64>,
    pub(super) leased: BTreeMap<String, u64>,
}

impl QueueGauges {
    /// What the store counts, and how old that is. While the queue is short it is never old.
    pub(super) async fn depths(&self, store: &dyn Repository) -> Result<(Arc<Depths>, Duration), StoreError> {
        // Held while the store counts: of several who ask at once, one asks the store.
        let mut counted = self.counted.lock().await;
        if let Some(Counted { depths, at, took }) = &*counted
            && *took > CHEAP
            && at.elapsed() < *took * KEPT_FOR
        {
            return Ok((Arc::clone(depths), at.elapsed()));
        }
        let began = Instant::now();
        let depths = Arc::new(store.depths().await?);
        *counted = Some(Counted { depths: Arc::clone(&depths), at: Instant::now(), took: began.elapsed() });
        Ok((depths, Duration::ZERO))
    }

    /// The counts as a tenant is told them: its own kinds by name, all else together.
    pub(super) fn told(&self, depths: &Depths, tenant: TenantId) -> Told {
        let mut named = lock(&self.named);
        let Named { kinds, types } = named.entry(tenant).or_default();
        let mut told = Told::default();
        for depth in &depths.ready {
            let capabilities: Vec<&str> = depth.required_capabilities.iter().map(Capability::as_str).collect();
            let kind = (depth.task_type.to_string(), capabilities.join("+"));
            let is_named = depth.tenant == tenant && is_named(kinds, &kind);
            let kind = if is_named { kind } else { (OTHERS.to_owned(), OTHERS.to_owned()) };
            *told.ready.entry(kind.clone()).or_default() += depth.tasks;
            let oldest = told.oldest.entry(kind).or_insert(depth.oldest);
            *oldest = depth.oldest.min(*oldest);
        }
        let mut by_type = |depths: &[Depth], told: &mut BTreeMap<String, u64>| {
            for depth in depths {
                let task_type = depth.task_type.to_string();
                let is_named = depth.tenant == tenant && is_named(types, &task_type);
                *told.entry(if is_named { task_type } else { OTHERS.to_owned() }).or_default() += depth.tasks;
            }
        };
        by_type(&depths.delayed, &mut told.delayed);
        by_type(&depths.leased, &mut told.leased);
        // What was told once is told as zero, not as nothing, once it is gone.
        for kind in kinds.iter() {
            told.ready.entry(kind.clone()).or_default();
        }
        for task_type in types.iter() {
            told.delayed.entry(task_type.clone()).or_default();
            told.leased.entry(task_type.clone()).or_default();
        }
        told
    }
}

/// Whether this one has a name of its own; it gets one while there are some left, and keeps it.
fn is_named<T: Clone + Ord>(named: &mut BTreeSet<T>, kind: &T) -> bool {
    if !named.contains(kind) && named.len() < NAMED_KINDS {
        named.insert(kind.clone());
    }
    named.contains(kind)
}

#[cfg(test)]
mod tests {
    use eap_core::RoutingKey;

    use super::*;
    use crate::store::ReadyDepth;

    fn ready(tenant: TenantId, task_type: &str, oldest: i64) -> ReadyDepth {
        let RoutingKey { tenant, task_type, required_capabilities, .. } =
            RoutingKey::of_type(tenant, task_type.parse().unwrap());
        ReadyDepth { tenant, task_type, required_capabilities, tasks: 1, oldest: Timestamp::from_seconds(oldest) }
    }

    fn kind(word: &str) -> Kind {
        (word.to_owned(), word.to_owned())
    }

    #[test]
    fn kinds_beyond_the_limit_are_told_together_and_a_name_once_given_stays() {
        let (gauges, ours) = (QueueGauges::default(), TenantId::default());
        let words: Vec<String> = (100..100 + NAMED_KINDS + 5).map(|number| format!("type{number}")).collect();
        let first = Depths { ready: vec![ready(ours, "zebra", 7)], ..Depths::default() };
        assert_eq!(gauges.told(&first, ours).ready, BTreeMap::from([(kind("zebra"), 1)]));
        let many = words.iter().enumerate().map(|(index, word)| ready(ours, word, 1_000 - index as i64)).collect();
        let told = gauges.told(&Depths { ready: many, ..Depths::default() }, ours);
        assert_eq!(told.ready.len(), NAMED_KINDS + 1);
        assert_eq!((told.ready[&kind("zebra")], told.ready[&kind(OTHERS)]), (0, 6));
        assert_eq!(told.oldest[&kind(OTHERS)], Timestamp::from_seconds(1_000 - words.len() as i64 + 1));
        assert_eq!(told.oldest.get(&kind("zebra")), None);
        assert_eq!(told.ready.values().sum::<u64>(), words.len() as u64, "none is lost");
    }

    #[test]
    fn the_words_of_another_tenant_are_not_told() {
        let (gauges, ours, theirs) = (QueueGauges::default(), TenantId::default(), TenantId::from_bytes([1; 16]));
        let depth = Depth { tenant: theirs, task_type: "secret".parse().unwrap(), tasks: 3 };
        let depths = Depths { ready: vec![ready(theirs, "secret", 1)], delayed: vec![depth], ..Depths::default() };
        let told = gauges.told(&depths, ours);
        assert_eq!(told.ready, BTreeMap::from([(kind(OTHERS), 1)]));
        assert_eq!(told.delayed, BTreeMap::from([(OTHERS.to_owned(), 3)]));
        assert_eq!(gauges.told(&depths, theirs).ready, BTreeMap::from([(kind("secret"), 1)]));
    }
}
