//! What every pull secret is worth, remembered until something changes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use super::coverage::SecretCoverage;
use super::lock::lock;

/// The coverage of at least so many namespaces is cached; else of twice as many as there are namespaces.
const NAMESPACES: usize = 20_000;

/// Coverage by namespace, then by secret.
#[derive(Default)]
pub(super) struct CoverageCache(Mutex<NamespacedMap<Arc<SecretCoverage>>>);

/// Something by namespace, then by secret.
struct NamespacedMap<V>(HashMap<String, Vec<(String, V)>>);

impl<V> Default for NamespacedMap<V> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<V> NamespacedMap<V> {
    fn get(&self, namespace: &str, secret: &str) -> Option<&V> {
        let mut of_namespace = self.0.get(namespace)?.iter();
        let (_, value) = of_namespace.find(|(name, _)| name == secret)?;
        Some(value)
    }

    /// Puts one there. Those of namespaces that are gone are among `most` other ones, and all are forgotten when there are so many.
    fn put(&mut self, namespace: &str, secret: &str, value: V, most: usize) {
        if self.0.len() >= most && !self.0.contains_key(namespace) {
            self.0.clear();
        }
        let of_namespace = self.0.entry(namespace.to_owned()).or_default();
        match of_namespace.iter_mut().find(|(name, _)| name == secret) {
            Some((_, known)) => *known = value,
            None => of_namespace.push((secret.to_owned(), value)),
        }
    }
}

impl CoverageCache {
    /// What was worked out last for a pull secret of a namespace.
    pub(super) fn find(&self, namespace: &str, secret: &str) -> Option<Arc<SecretCoverage>> {
        lock(&self.0).get(namespace, secret).cloned()
    }

    /// Keeps it. There are so many `namespaces`.
    pub(super) fn put(
        &self,
        namespace: &str,
        secret: &str,
        coverage: Arc<SecretCoverage>,
        namespaces: usize,
    ) {
        let most = NAMESPACES.max(namespaces.saturating_mul(2));
        lock(&self.0).put(namespace, secret, coverage, most);
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
