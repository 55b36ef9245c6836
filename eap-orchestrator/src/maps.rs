//! Maps by ids of ours.

use std::collections::{HashMap, HashSet};

/// A map by ids that nobody else chooses, or that are digests: nobody can aim at collisions, so a quick hash does, seeded
/// at random all the same. What others choose freely (task types, texts) stays with the standard one.
pub(crate) type IdMap<K, V> = HashMap<K, V, foldhash::fast::RandomState>;

/// The same without values.
pub(crate) type IdSet<K> = HashSet<K, foldhash::fast::RandomState>;
