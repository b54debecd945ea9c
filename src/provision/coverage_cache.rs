//! What every pull secret is worth, remembered until something changes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use super::Namespace;
use super::cache_version::CacheVersion;
use super::coverage::SecretCoverage;
use super::lock::lock;
use super::state::Observed;

/// The coverage of at least so many namespaces is cached; else of twice as many as there are namespaces.
const NAMESPACES: usize = 20_000;

/// Coverage by namespace, then by secret.
#[derive(Default)]
pub(super) struct CoverageCache(Mutex<NamespacedMap<Arc<SecretCoverage>>>);

/// Something by namespace, then by secret.
struct NamespacedMap<V>(HashMap<String, HashMap<String, V>>);

impl<V> Default for NamespacedMap<V> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<V> NamespacedMap<V> {
    fn get(&self, namespace: &str, secret: &str) -> Option<&V> {
        self.0.get(namespace)?.get(secret)
    }

    /// Puts one there. Those of namespaces that are gone are among `most` other ones, and all are forgotten when there are so many.
    fn put(&mut self, namespace: &str, secret: &str, value: V, most: usize) {
        if self.0.len() >= most && !self.0.contains_key(namespace) {
            self.0.clear();
        }
        let of_namespace = self.0.entry(namespace.to_owned()).or_default();
        of_namespace.insert(secret.to_owned(), value);
    }
}

impl CoverageCache {
    /// The coverage of a pull secret of a namespace, computed by `work` if none is cached that is still valid. There are so many `namespaces`.
    pub(super) fn get_or_insert_with(
        &self,
        namespace: &Arc<Namespace>,
        secret: &str,
        observed: Option<&Arc<Observed>>,
        (version, namespaces): (CacheVersion, usize),
        work: impl FnOnce() -> SecretCoverage,
    ) -> Arc<SecretCoverage> {
        let known = lock(&self.0).get(&namespace.name, secret).cloned();
        if let Some(coverage) = known
            && coverage.holds(namespace, observed, version)
        {
            return coverage;
        }
        let coverage = Arc::new(work());
        let most = NAMESPACES.max(namespaces.saturating_mul(2));
        lock(&self.0).put(&namespace.name, secret, Arc::clone(&coverage), most);
        coverage
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forgets_all_only_for_a_namespace_beyond_the_bound() {
        let mut rows = NamespacedMap::default();
        for (number, namespace) in ["a", "b", "c"].iter().enumerate() {
            rows.put(namespace, "pullpass", number, 3);
        }
        rows.put("a", "pullpass", 10, 3);
        rows.put("a", "pullpass-own", 11, 3);
        assert_eq!(rows.get("a", "pullpass"), Some(&10));
        assert_eq!(rows.get("a", "pullpass-own"), Some(&11));
        assert_eq!(rows.get("c", "pullpass"), Some(&2));
        rows.put("d", "pullpass", 3, 3);
        assert_eq!(rows.get("a", "pullpass"), None);
        assert_eq!(rows.get("d", "pullpass"), Some(&3));
    }
}
