//! One kind of object as the watch shows it, plus what we wrote ourselves and the watch has not shown yet.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Objects by their own name (or that of their namespace), each the newest one that was seen.
///
/// Resource versions are compared as numbers, which Kubernetes allows for objects of one kind:
/// <https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-versions>.
pub struct Store<N, T> {
    inner: RwLock<StoreInner<N, T>>,
    generation: Arc<AtomicU64>,
    on_change: Option<OnChange<N, T>>,
    is_same: fn(&T, &T) -> bool,
}

/// Called at each change with the name, what was there and what is there now.
type OnChange<N, T> = Box<dyn Fn(&N, Option<&T>, Option<&T>) + Send + Sync>;

struct StoreInner<N, T> {
    rows: BTreeMap<N, StoreRow<T>>,
    /// The newest resource version that the watch has shown: what is not here and older than this has been deleted.
    last_seen: u64,
    /// Counts the lists that began.
    list: u64,
    /// Whether a list has ended.
    has_ended: bool,
    /// Whether there are no rights to one, as the last answer says.
    is_forbidden: bool,
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
            has_ended: false,
            is_forbidden: false,
        };
        Self {
            inner: RwLock::new(inner),
            generation,
            on_change: None,
            is_same,
        }
    }

    /// Calls this at each change, before it is counted.
    #[must_use]
    pub fn on_change(
        self,
        on_change: impl Fn(&N, Option<&T>, Option<&T>) + Send + Sync + 'static,
    ) -> Self {
        Self {
            on_change: Some(Box::new(on_change)),
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
    pub fn count(&self) -> usize {
        self.read().rows.len()
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
        self.put(&mut inner, name, version, None, value)
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
        let Some((name, row)) = inner.rows.remove_entry(name) else {
            return false;
        };
        self.note(&name, Some(&row.value), None);
        true
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
            if (self.is_same)(&row.value, &value) {
                return false;
            }
            let before = std::mem::replace(&mut row.value, Arc::new(value));
            self.note(name, Some(&before), Some(&row.value));
            return true;
        }
        let is_stale = match inner.rows.get(name.borrow()) {
            Some(row) => row.version >= version,
            None => inner.last_seen >= version,
        };
        if is_stale && version > 0 {
            return false;
        }
        let own_write_in = Some(inner.list);
        self.put(&mut inner, name, version, own_write_in, value);
        true
    }

    /// Puts an object there; answers whether it is another one than before.
    fn put(
        &self,
        inner: &mut StoreInner<N, T>,
        name: &N,
        version: u64,
        own_write_in: Option<u64>,
        value: T,
    ) -> bool {
        let row = StoreRow {
            value: Arc::new(value),
            version,
            own_write_in,
        };
        let value = Arc::clone(&row.value);
        let before = inner.rows.insert(name.clone(), row);
        let is_same = before
            .as_ref()
            .is_some_and(|before| (self.is_same)(&before.value, &value));
        if !is_same {
            self.note(
                name,
                before.as_ref().map(|before| &*before.value),
                Some(&value),
            );
        }
        !is_same
    }

    /// A list begins: what we put from now on is newer than what it will show.
    pub fn begin_relist(&self) {
        self.write().list += 1;
    }

    /// Whether what is not here is not there, as far as can be known: a list has ended, or there are no rights to one.
    pub fn is_listed(&self) -> bool {
        let inner = self.read();
        inner.has_ended || inner.is_forbidden
    }

    /// There are no rights to a list: nothing more will be known, unless they are given.
    pub fn mark_list_forbidden(&self) {
        self.write().is_forbidden = true;
    }

    /// There are rights to a list by now, and it is under way.
    pub fn mark_list_permitted(&self) {
        // Each object that comes says so.
        if self.read().is_forbidden {
            self.write().is_forbidden = false;
        }
    }

    /// A list has ended: what it does not hold is gone. Answers whether anything changed.
    pub fn replace(&self, listed: Vec<(N, String, T)>) -> bool {
        let mut inner = self.write();
        inner.has_ended = true;
        let list = inner.list;
        let mut before = std::mem::take(&mut inner.rows);
        inner.last_seen = 0;
        let mut is_changed = false;
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
                known => {
                    is_changed = true;
                    let known = known.as_ref().map(|row| &*row.value);
                    self.note(&name, known, Some(&value));
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
                is_changed = true;
                self.note(&name, Some(&row.value), None);
            }
        }
        is_changed
    }

    /// Notes a change and counts it, before and after: who is told of it finds another number, and who finds another number before it
    /// was noted finds yet another one then.
    fn note(&self, name: &N, before: Option<&T>, now: Option<&T>) {
        self.generation.fetch_add(1, Ordering::AcqRel);
        if let Some(on_change) = &self.on_change {
            on_change(name, before, now);
        }
        self.generation.fetch_add(1, Ordering::AcqRel);
    }

    fn read(&self) -> RwLockReadGuard<'_, StoreInner<N, T>> {
        self.inner.read()
    }

    fn write(&self) -> RwLockWriteGuard<'_, StoreInner<N, T>> {
        self.inner.write()
    }
}

/// A resource version as a number; 0 when it is none: then it is neither older nor newer than another.
fn number(resource_version: &str) -> u64 {
    resource_version.parse().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

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
        assert_eq!(bump_generation(), 2);
        table.apply_event(&"a", "2", "x");
        table.delete("b", "3");
        table.replace(vec![("a", "2".to_owned(), "x")]);
        assert_eq!(bump_generation(), 2);
        table.replace(Vec::new());
        assert_eq!(bump_generation(), 4);
        assert_eq!(table.count(), 0);
    }

    #[test]
    fn tells_of_each_change_what_was_there_and_what_is() {
        let told = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&told);
        let table = table().on_change(move |name, before, now| {
            let text = |value: Option<&&str>| value.copied().unwrap_or("-").to_owned();
            let line = format!("{name} {} {}", text(before), text(now));
            log.lock().unwrap().push(line);
        });
        let told = || std::mem::take(&mut *told.lock().unwrap()).join(", ");
        table.apply_event(&"a", "1", "x");
        table.apply_own_write(&"b", "2", "x");
        assert_eq!(told(), "a - x, b - x");
        table.apply_event(&"a", "3", "x");
        table.delete("c", "3");
        assert_eq!(told(), "", "that is no change");
        table.begin_relist();
        table.replace(vec![("a", "4".to_owned(), "y")]);
        assert_eq!(told(), "a x y, b x -");
        table.apply_own_write(&"a", "4", "z");
        table.delete("a", "5");
        assert_eq!(told(), "a y z, a z -");
    }

    #[test]
    fn takes_anything_when_versions_are_no_numbers() {
        let table = table();
        table.apply_event(&"a", "9", "x");
        assert!(table.apply_event(&"a", "odd", "y"));
        assert!(table.apply_own_write(&"a", "odd", "z"));
        assert!(table.delete("a", ""));
        assert_eq!(table.count(), 0);
    }
}
