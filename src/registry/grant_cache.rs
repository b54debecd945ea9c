//! Grants by secret, planned once for each set of Registries that serve a namespace together.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};

use super::grants::{self, Grant};
use super::valid::ValidRegistry;
use crate::names::ObjectName;

/// How many sets are remembered. Most namespaces are served by one of a few.
const SETS: usize = 1024;

/// The grants of one secret.
type Grants = Arc<[Arc<Grant>]>;

type BySecret = BTreeMap<ObjectName, Grants>;

type GrantsByRegistries = HashMap<Vec<usize>, Arc<BySecret>>;

/// The grants of each secret, by the places of the Registries that serve.
#[derive(Debug, Default)]
pub(super) struct GrantCache(Mutex<GrantsByRegistries>);

impl GrantCache {
    /// The grants of one secret where the Registries at these places serve.
    pub(super) fn find(
        &self,
        served: &[ValidRegistry],
        places: Vec<usize>,
        secret: &str,
    ) -> Grants {
        let known = self.lock().get(&places).cloned();
        let planned = known.unwrap_or_else(|| {
            let planned = Arc::new(plan(served, &places));
            let mut sets = self.lock();
            if sets.len() >= SETS {
                sets.clear();
            }
            sets.insert(places, Arc::clone(&planned));
            planned
        });
        planned.get(secret).map_or_else(|| Arc::new([]), Arc::clone)
    }

    fn lock(&self) -> MutexGuard<'_, GrantsByRegistries> {
        self.0.lock()
    }
}

fn plan(served: &[ValidRegistry], places: &[usize]) -> BySecret {
    let serving: Vec<&ValidRegistry> = places.iter().map(|place| &served[*place]).collect();
    let mut secrets: BTreeMap<ObjectName, Vec<Arc<Grant>>> = BTreeMap::new();
    for grant in grants::plan(&serving) {
        let secret = grant.secret.clone();
        secrets.entry(secret).or_default().push(Arc::new(grant));
    }
    secrets
        .into_iter()
        .map(|(secret, grants)| (secret, grants.into()))
        .collect()
}
