//! One kind of object as the watch shows it, plus what we wrote ourselves and the watch has not shown yet.

use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::lock::lock;

/// So many names of what changed are remembered: of more, it is known that they are many.
const MAX_NAMES: usize = 1_000;

/// Objects by their own name (or that of their namespace), each the newest one that was seen.
///
/// Resource versions are compared as numbers, which Kubernetes allows for objects of one kind:
/// <https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-versions>.
pub struct Store<N, T> {
    inner: RwLock<StoreInner<N, T>>,
    generation: Arc<AtomicU64>,
    changed: Option<Arc<ChangedNames<N>>>,
    is_same: fn(&T, &T) -> bool,
}

/// The names of what changed since they were last taken, if they are few.
pub struct ChangedNames<N>(Mutex<NameSet<N>>);

struct NameSet<N> {
    names: BTreeSet<N>,
    overflowed: bool,
}

impl<N> Default for ChangedNames<N> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<N> Default for NameSet<N> {
    fn default() -> Self {
        Self {
            names: BTreeSet::new(),
            overflowed: false,
        }
    }
}

impl<N: Clone + Ord> ChangedNames<N> {
    /// Takes the names; `None`: they are too many to be remembered.
    pub fn take(&self) -> Option<BTreeSet<N>> {
        let NameSet { names, overflowed } = std::mem::take(&mut *lock(&self.0));
        (!overflowed).then_some(names)
    }

    fn record(&self, name: &N) {
        let mut names = lock(&self.0);
        if names.overflowed || names.names.contains(name) {
            return;
        }
        if names.names.len() < MAX_NAMES {
            names.names.insert(name.clone());
        } else {
            *names = NameSet {
                names: BTreeSet::new(),
                overflowed: true,
            };
        }
    }
}

struct StoreInner<N, T> {
    rows: BTreeMap<N, StoreRow<T>>,
    /// The newest resource version that the watch has shown: what is not here and older than this has been deleted.
    last_seen: u64,
    /// Counts the lists that began.
    list: u64,
}

struct StoreRow<T> {
    value: Arc<T>,
    version: u64,
    /// In which list we put it here ourselves; `None` when the watch did.
    own_write_in: Option<u64>,
}

impl<N: Borrow<str> + Clone + Ord, T> Store<N, T> {
    /// An empty table that counts `generation` up at each change; one that `is_same` calls no change is none.
    pub fn new(generation: Arc<AtomicU64>, is_same: fn(&T, &T) -> bool) -> Self {
        let inner = StoreInner {
            rows: BTreeMap::new(),
            last_seen: 0,
            list: 0,
        };
        Self {
            inner: RwLock::new(inner),
            generation,
            changed: None,
            is_same,
        }
    }

    /// Notes the names of what changes there, too.
    #[must_use]
    pub fn with_change_tracking(self, changed: &Arc<ChangedNames<N>>) -> Self {
        Self {
            changed: Some(Arc::clone(changed)),
            ..self
        }
    }

    /// The object of this name.
    pub fn get(&self, name: &str) -> Option<Arc<T>> {
        self.read().rows.get(name).map(|row| Arc::clone(&row.value))
    }

    /// All objects, in no order.
    pub fn list(&self) -> Vec<Arc<T>> {
        self.read()
            .rows
            .values()
            .map(|row| Arc::clone(&row.value))
            .collect()
    }

    /// All objects with their names, in no order.
    pub fn entries(&self) -> Vec<(N, Arc<T>)> {
        let inner = self.read();
        let rows = inner.rows.iter();
        rows.map(|(name, row)| (name.clone(), Arc::clone(&row.value)))
            .collect()
    }

    /// How many objects there are.
    pub fn len(&self) -> usize {
        self.read().rows.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The watch shows an object. Answers whether anything changed.
    pub fn apply_event(&self, name: &N, resource_version: &str, value: T) -> bool {
        let version = number(resource_version);
        let mut inner = self.write();
        inner.last_seen = inner.last_seen.max(version);
        if inner
            .rows
            .get(name.borrow())
            .is_some_and(|row| row.version > version && version > 0)
        {
            return false;
        }
        let changed = inner
            .rows
            .get(name.borrow())
            .is_none_or(|row| !(self.is_same)(&row.value, &value));
        inner.rows.insert(
            name.clone(),
            StoreRow {
                value: Arc::new(value),
                version,
                own_write_in: None,
            },
        );
        self.bump_generation(changed.then_some(name))
    }

    /// The watch shows that an object is gone. Answers whether anything changed.
    pub fn delete(&self, name: &str, resource_version: &str) -> bool {
        let version = number(resource_version);
        let mut inner = self.write();
        inner.last_seen = inner.last_seen.max(version);
        if inner
            .rows
            .get(name)
            .is_some_and(|row| row.version > version && version > 0)
        {
            return false;
        }
        let removed = inner.rows.remove_entry(name);
        self.bump_generation(removed.as_ref().map(|(name, _)| name))
    }

    /// We read or wrote an object ourselves, before the watch showed it. Older than what the watch has shown, it counts for nothing; of
    /// the very same state what was read of it counts: the watch may have kept less.
    pub fn apply_own_write(&self, name: &N, resource_version: &str, value: T) -> bool {
        let version = number(resource_version);
        let mut inner = self.write();
        if let Some(row) = inner.rows.get_mut(name.borrow())
            && row.version == version
            && version > 0
        {
            let is_same = (self.is_same)(&row.value, &value);
            if !is_same {
                row.value = Arc::new(value);
            }
            return self.bump_generation((!is_same).then_some(name));
        }
        let is_stale = match inner.rows.get(name.borrow()) {
            Some(row) => row.version >= version,
            None => inner.last_seen >= version,
        };
        if is_stale && version > 0 {
            return false;
        }
        let own_write_in = Some(inner.list);
        inner.rows.insert(
            name.clone(),
            StoreRow {
                value: Arc::new(value),
                version,
                own_write_in,
            },
        );
        self.bump_generation([name])
    }

    /// A list begins: what we put from now on is newer than what it will show.
    pub fn begin_relist(&self) {
        self.write().list += 1;
    }

    /// A list has ended: what it does not hold is gone. Answers whether anything changed.
    pub fn replace(&self, listed: Vec<(N, String, T)>) -> bool {
        let mut inner = self.write();
        let list = inner.list;
        let mut before = std::mem::take(&mut inner.rows);
        inner.last_seen = 0;
        let mut changed = Vec::new();
        for (name, resource_version, value) in listed {
            let version = number(&resource_version);
            inner.last_seen = inner.last_seen.max(version);
            let row = match before.remove(name.borrow()) {
                Some(row) if row.own_write_in == Some(list) && row.version > version => row,
                Some(row) if (self.is_same)(&row.value, &value) => StoreRow {
                    version,
                    own_write_in: None,
                    ..row
                },
                _ => {
                    changed.push(name.clone());
                    StoreRow {
                        value: Arc::new(value),
                        version,
                        own_write_in: None,
                    }
                }
            };
            inner.rows.insert(name, row);
        }
        for (name, row) in before {
            if row.own_write_in == Some(list) {
                inner.rows.insert(name, row);
            } else {
                changed.push(name);
            }
        }
        self.bump_generation(&changed)
    }

    /// Counts a change of all these together; answers whether there are any.
    fn bump_generation<'n>(&self, changed: impl IntoIterator<Item = &'n N>) -> bool
    where
        N: 'n,
    {
        let mut any = false;
        for name in changed {
            any = true;
            if let Some(names) = &self.changed {
                names.record(name);
            }
        }
        // Last: who sees another number finds the names.
        if any {
            self.generation.fetch_add(1, Ordering::AcqRel);
        }
        any
    }

    fn read(&self) -> RwLockReadGuard<'_, StoreInner<N, T>> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, StoreInner<N, T>> {
        self.inner.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A resource version as a number; 0 when it is none: then it is neither older nor newer than another.
fn number(resource_version: &str) -> u64 {
    resource_version.parse().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Store<&'static str, &'static str> {
        Store::new(Arc::default(), PartialEq::eq)
    }

    fn value(table: &Store<&'static str, &'static str>, name: &str) -> Option<&'static str> {
        table.get(name).map(|value| *value)
    }

    #[test]
    fn keeps_newer_own_write_when_the_watch_lags() {
        let table = table();
        table.apply_event(&"a", "5", "seen");
        assert!(table.apply_own_write(&"a", "9", "written"));
        assert!(!table.apply_event(&"a", "7", "older"));
        assert!(!table.delete("a", "8"));
        assert_eq!(value(&table, "a"), Some("written"));
        assert!(table.delete("a", "10"));
        assert_eq!(value(&table, "a"), None);
    }

    #[test]
    fn takes_what_was_read_of_the_very_same_state() {
        let table = table();
        table.apply_event(&"a", "5", "less");
        assert!(table.apply_own_write(&"a", "5", "more"));
        assert!(!table.apply_own_write(&"a", "5", "more"));
        assert_eq!(value(&table, "a"), Some("more"));
        assert!(!table.apply_own_write(&"a", "4", "older"));
        // The watch has shown it: a list that does not hold it says that it is gone.
        table.begin_relist();
        assert!(table.apply_own_write(&"a", "5", "again"));
        assert!(table.replace(vec![]));
        assert_eq!(value(&table, "a"), None);
    }

    #[test]
    fn ignores_own_write_when_the_watch_already_showed_its_deletion() {
        let table = table();
        table.apply_event(&"a", "9", "written");
        table.delete("a", "10");
        assert!(!table.apply_own_write(&"a", "9", "written"));
        assert_eq!(value(&table, "a"), None);
    }

    #[test]
    fn keeps_own_write_through_a_list_that_began_before_it() {
        let table = table();
        table.apply_own_write(&"old", "3", "old");
        table.begin_relist();
        table.apply_own_write(&"new", "12", "new");
        table.apply_own_write(&"both", "13", "newer");
        table.replace(vec![("both", "10".to_owned(), "older")]);
        assert_eq!(value(&table, "old"), None);
        assert_eq!(value(&table, "new"), Some("new"));
        assert_eq!(value(&table, "both"), Some("newer"));
    }

    #[test]
    fn takes_lower_versions_from_a_list_when_the_cluster_was_restored() {
        let table = table();
        table.apply_event(&"a", "900", "before");
        table.begin_relist();
        table.replace(vec![("a", "20".to_owned(), "restored")]);
        assert_eq!(value(&table, "a"), Some("restored"));
        assert!(table.apply_event(&"a", "21", "after"));
    }

    #[test]
    fn counts_changes_and_nothing_else() {
        let generation = Arc::new(AtomicU64::new(0));
        let table = Store::new(Arc::clone(&generation), PartialEq::eq);
        let bump_generation = || generation.load(Ordering::Acquire);
        table.apply_event(&"a", "1", "x");
        assert_eq!(bump_generation(), 1);
        table.apply_event(&"a", "2", "x");
        table.delete("b", "3");
        table.replace(vec![("a", "2".to_owned(), "x")]);
        assert_eq!(bump_generation(), 1);
        table.replace(Vec::new());
        assert_eq!(bump_generation(), 2);
        assert!(table.is_empty());
    }

    #[test]
    fn notes_names_of_what_changed_as_long_as_they_are_few() {
        let changed = Arc::default();
        let table = table().with_change_tracking(&changed);
        let names = || Some(changed.take()?.into_iter().collect::<Vec<_>>().join(" "));
        table.apply_event(&"a", "1", "x");
        table.apply_own_write(&"b", "2", "x");
        assert_eq!(names().as_deref(), Some("a b"));
        table.apply_event(&"a", "3", "x");
        table.delete("c", "3");
        assert_eq!(names().as_deref(), Some(""), "that is no change");
        table.begin_relist();
        table.replace(vec![("a", "4".to_owned(), "y")]);
        assert_eq!(names().as_deref(), Some("a b"));
        for number in 0..=MAX_NAMES {
            let name: &'static str = number.to_string().leak();
            table.apply_event(&name, "9", "x");
        }
        assert_eq!(names(), None);
        assert_eq!(names().as_deref(), Some(""), "all was resynced");
    }

    #[test]
    fn takes_anything_when_versions_are_no_numbers() {
        let table = table();
        table.apply_event(&"a", "9", "x");
        assert!(table.apply_event(&"a", "odd", "y"));
        assert!(table.apply_own_write(&"a", "odd", "z"));
        assert!(table.delete("a", ""));
        assert_eq!(table.len(), 0);
    }
}
