//! What every pull secret is worth, remembered until something changes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use super::Namespace;
use super::lock::lock;
use super::state::Seen;
use super::verify::{Moment, Verified};

/// How many namespaces' verdicts are remembered beyond those that changed.
const NAMESPACES: usize = 20_000;

/// Verdicts by namespace, then by secret.
#[derive(Default)]
pub(super) struct Verdicts(Mutex<HashMap<String, BySecret>>);

type BySecret = HashMap<String, Arc<Verified>>;

impl Verdicts {
    /// The verdict on a pull secret of a namespace, by `work` where none holds at this moment.
    pub(super) fn find_or(
        &self,
        namespace: &Arc<Namespace>,
        secret: &str,
        seen: Option<&Arc<Seen>>,
        moment: Moment,
        work: impl FnOnce() -> Verified,
    ) -> Arc<Verified> {
        let known = |verdicts: &HashMap<String, BySecret>| {
            verdicts.get(&namespace.name)?.get(secret).cloned()
        };
        if let Some(verdict) = known(&lock(&self.0))
            && verdict.holds(namespace, seen, moment)
        {
            return verdict;
        }
        let verdict = Arc::new(work());
        let mut verdicts = lock(&self.0);
        if verdicts.len() >= NAMESPACES {
            verdicts.clear();
        }
        verdicts
            .entry(namespace.name.clone())
            .or_default()
            .insert(secret.to_owned(), Arc::clone(&verdict));
        verdict
    }
}
