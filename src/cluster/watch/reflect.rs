//! One watch, from its events into one table.

use std::borrow::Borrow;
use std::collections::{HashMap, HashSet};
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kube::runtime::watcher::{Error, Event};
use kube::{Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::sync::watch as signal;
use tokio::time::Instant;

use super::stream::WatchStream;
use super::sync::SyncState;
use crate::cluster::Metrics;
use crate::cluster::api_error::describe;
use crate::log_throttle::LogThrottle;
use crate::provision::state::UnreadableCount;
use crate::provision::store::Store;

/// How often a watch is tried again at least: what waits for it after an outage is not to wait for longer.
const MAX_BACKOFF: Duration = Duration::from_secs(2);

/// How often a watch is tried again at least that pullpass may have no rights to.
const FORBIDDEN_BACKOFF: Duration = Duration::from_secs(10);

/// What a watch is on, and what is done when it fails.
pub(super) struct WatchTarget {
    /// What is watched, for logs.
    pub(super) what: &'static str,
    /// Its name, where there are several of the kind.
    pub(super) name: String,
    /// What to do when pullpass has no rights.
    pub(super) advice: String,
    /// Whether pullpass is not ready before it has the rights.
    pub(super) blocks_readiness: bool,
    /// Whether pullpass has no rights to it, as the last answer says.
    pub(super) is_forbidden: Arc<AtomicBool>,
}

impl From<&'static str> for WatchTarget {
    fn from(what: &'static str) -> Self {
        Self {
            what,
            name: String::new(),
            advice: "apply manifests/rbac.yaml".to_owned(),
            blocks_readiness: true,
            is_forbidden: Arc::default(),
        }
    }
}

/// How objects of one kind are read.
pub(super) struct ReflectorSpec<I, R, C> {
    /// What is watched, and how.
    pub(super) target: WatchTarget,
    /// The key of an object's row, its own name or its namespace's; the error says that it is none of those watched.
    pub(super) identify: I,
    /// Reads an object, or says why it cannot be read.
    pub(super) read: R,
    /// Called after each change, with the name of what changed; with an empty one after each list, changed or not.
    pub(super) changed: C,
    /// Where the number of objects that cannot be read is kept.
    pub(super) unreadable: Arc<UnreadableCount>,
}

/// Writes the events of a watch into `table`, for ever, and says through `synced` when a first list has begun and ended.
pub(super) async fn follow<K, N, T, I, R, C>(
    events: WatchStream<K>,
    store: &Store<N, T>,
    reader: ReflectorSpec<I, R, C>,
    synced: signal::Sender<SyncState>,
) where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
    N: Borrow<str> + Clone + Hash + Ord,
    T: Clone,
    I: Fn(&K) -> Result<N, String>,
    R: Fn(&N, K) -> Result<T, String>,
    C: FnMut(&str),
{
    let blocks_readiness = reader.target.blocks_readiness;
    let longest = if blocks_readiness {
        MAX_BACKOFF
    } else {
        FORBIDDEN_BACKOFF
    };
    let metrics = events.metrics().clone();
    let mut events = events.begin(longest);
    let mut trouble = WatchHealth::new(&reader.target);
    let is_refused = Arc::clone(&reader.target.is_forbidden);
    let mut rows = Reflector::new(store, reader, metrics);
    loop {
        match events.next().await {
            Ok(event) => {
                if is_answer(&event) {
                    trouble.clear();
                }
                let began = matches!(event, Event::InitApply(_)).then_some(SyncState::Listing);
                let ended = rows.take(event).then_some(SyncState::Listed);
                advance(&synced, ended.or(began));
            }
            Err(error) => {
                trouble.report_failure(&error);
                is_refused.store(is_forbidden(&error), Ordering::Release);
                if !blocks_readiness && is_forbidden(&error) {
                    store.mark_list_forbidden();
                    synced.send_replace(SyncState::Listed);
                }
            }
        }
    }
}

/// Whether an event shows that there are rights to the watch: a list that begins is no answer yet.
fn is_answer<K>(event: &Event<K>) -> bool {
    !matches!(event, Event::Init)
}

/// A first list goes on or has ended; what comes after that changes nothing.
fn advance(synced: &signal::Sender<SyncState>, reached: Option<SyncState>) {
    synced.send_if_modified(|now| {
        let next = reached.filter(|next| next > now);
        *now = next.unwrap_or(*now);
        next.is_some()
    });
}

struct Reflector<'t, N, T, I, R, C> {
    store: &'t Store<N, T>,
    reader: ReflectorSpec<I, R, C>,
    listed: Vec<(N, String, T)>,
    /// What could not be read, by name, and in which version: logged once.
    unreadable_versions: HashMap<N, String>,
    /// Those that the list under way showed.
    listed_names: HashSet<N>,
    metrics: Metrics,
    /// Of objects that do not belong to the watch.
    mismatches: LogThrottle<()>,
}

impl<'t, N: Borrow<str> + Clone + Hash + Ord, T: Clone, I, R, C> Reflector<'t, N, T, I, R, C> {
    fn new(store: &'t Store<N, T>, reader: ReflectorSpec<I, R, C>, metrics: Metrics) -> Self {
        Self {
            store,
            reader,
            listed: Vec::new(),
            unreadable_versions: HashMap::new(),
            listed_names: HashSet::new(),
            metrics,
            mismatches: LogThrottle::default(),
        }
    }

    /// Takes one event; answers whether a list has ended with it.
    fn take<K: ResourceExt>(&mut self, event: Event<K>) -> bool
    where
        I: Fn(&K) -> Result<N, String>,
        R: Fn(&N, K) -> Result<T, String>,
        C: FnMut(&str),
    {
        let listed = matches!(event, Event::InitDone);
        if is_answer(&event) {
            let target = &self.reader.target;
            target.is_forbidden.store(false, Ordering::Release);
            self.store.mark_list_permitted();
        }
        match event {
            Event::Init => {
                self.listed_names.clear();
                self.listed.clear();
                self.store.begin_relist();
                return false;
            }
            Event::InitApply(object) => {
                let row = self.read(object);
                self.listed.extend(row);
                return false;
            }
            Event::InitDone => {
                self.unreadable_versions
                    .retain(|name, _| self.listed_names.contains::<N>(name));
                self.count_more();
                self.store.replace(std::mem::take(&mut self.listed));
                (self.reader.changed)("");
            }
            Event::Apply(object) => {
                let row = self.read(object);
                self.count_more();
                if let Some((name, version, value)) = row
                    && self.store.apply_event(&name, &version, value)
                {
                    (self.reader.changed)(name.borrow());
                }
            }
            Event::Delete(object) => self.delete(&object),
        }
        // One that can be read now was announced before: nobody is to believe meanwhile that all are known.
        self.reader.unreadable.set(self.unreadable_versions.len());
        listed
    }

    fn delete<K: ResourceExt>(&mut self, object: &K)
    where
        I: Fn(&K) -> Result<N, String>,
        C: FnMut(&str),
    {
        let Some(name) = self.identify(object) else {
            return;
        };
        self.unreadable_versions.remove(name.borrow());
        let version = object.resource_version().unwrap_or_default();
        if self.store.delete(name.borrow(), &version) {
            (self.reader.changed)(name.borrow());
        }
    }

    /// The key of an object's row; `None`: it does not belong to the watch, so it is counted, logged now and then, and ignored.
    fn identify<K>(&mut self, object: &K) -> Option<N>
    where
        I: Fn(&K) -> Result<N, String>,
    {
        let mismatch = match (self.reader.identify)(object) {
            Ok(name) => return Some(name),
            Err(mismatch) => mismatch,
        };
        self.metrics.count_mismatch();
        if let Some(suppressed) = self.mismatches.admit(()) {
            tracing::warn!(
                suppressed,
                watch.kind = self.reader.target.what,
                watch.name = self.reader.target.name,
                "a watch returned an object that does not belong to it, ignored: {mismatch} -> check for a proxy between pullpass and the API server"
            );
        }
        None
    }

    /// More objects that cannot be read are logged before the change is announced.
    fn count_more(&self) {
        self.reader.unreadable.raise(self.unreadable_versions.len());
    }

    /// Reads an object; for one that cannot be read, what was last read of it.
    fn read<K: ResourceExt>(&mut self, object: K) -> Option<(N, String, T)>
    where
        I: Fn(&K) -> Result<N, String>,
        R: Fn(&N, K) -> Result<T, String>,
    {
        let name = self.identify(&object)?;
        let version = object.resource_version().unwrap_or_default();
        match (self.reader.read)(&name, object) {
            Ok(value) => {
                self.unreadable_versions.remove(name.borrow());
                Some((name, version, value))
            }
            Err(message) => {
                self.listed_names.insert(name.clone());
                if self
                    .unreadable_versions
                    .insert(name.clone(), version.clone())
                    != Some(version.clone())
                {
                    tracing::warn!(
                        object.kind = self.reader.target.what,
                        object.name = name.borrow(),
                        "cannot decode an object, keeping what is cached of it: {message}"
                    );
                }
                let last = self.store.get(name.borrow())?;
                Some((name, version, T::clone(&last)))
            }
        }
    }
}

/// The health of one watch; failures are logged at intervals.
struct WatchHealth {
    what: &'static str,
    name: String,
    advice: String,
    failures: LogThrottle<()>,
    failing_since: Option<Instant>,
}

impl WatchHealth {
    fn new(target: &WatchTarget) -> Self {
        Self {
            what: target.what,
            name: target.name.clone(),
            advice: target.advice.clone(),
            failures: LogThrottle::default(),
            failing_since: None,
        }
    }

    fn report_failure(&mut self, error: &Error) {
        self.failing_since.get_or_insert_with(Instant::now);
        let Some(suppressed) = self.failures.admit(()) else {
            return;
        };
        let (message, advice) = explain(error, &self.advice);
        tracing::warn!(
            watch.kind = self.what,
            watch.name = self.name,
            suppressed,
            "watch failed, keeping the cache and retrying: {message}{advice}"
        );
    }

    fn clear(&mut self) {
        if let Some(failing_since) = self.failing_since.take() {
            let seconds = failing_since.elapsed().as_secs_f64();
            tracing::info!(
                watch.kind = self.what,
                watch.name = self.name,
                watch.failing_seconds = seconds,
                "watch recovered"
            );
            self.failures.forget(&());
        }
    }
}

fn explain(error: &Error, rights: &str) -> (String, String) {
    let inner = match error {
        Error::InitialListFailed(error)
        | Error::WatchStartFailed(error)
        | Error::WatchFailed(error) => error,
        Error::WatchError(status) => {
            return (
                format!("{} ({})", status.message, status.code),
                String::new(),
            );
        }
        Error::NoResourceVersion => return (error.to_string(), String::new()),
    };
    let advice = match inner {
        kube::Error::Api(status) if status.code == 403 => format!(" -> {rights}"),
        kube::Error::Api(status) if status.code == 404 => {
            " -> install the Registry CRD: pullpass crd | kubectl apply -f -".to_owned()
        }
        _ => String::new(),
    };
    (describe(inner), advice)
}

fn is_forbidden(error: &Error) -> bool {
    match error {
        Error::InitialListFailed(error)
        | Error::WatchStartFailed(error)
        | Error::WatchFailed(error) => {
            matches!(error, kube::Error::Api(status) if status.code == 403)
        }
        Error::WatchError(status) => status.code == 403,
        Error::NoResourceVersion => false,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::AtomicU64;

    use k8s_openapi::api::core::v1::Secret;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

    use super::*;

    /// A Secret; one with a type cannot be read.
    fn object(name: &str, version: u32, type_: Option<&str>) -> Secret {
        Secret {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                resource_version: Some(version.to_string()),
                ..ObjectMeta::default()
            },
            type_: type_.map(str::to_owned),
            ..Secret::default()
        }
    }

    #[test]
    fn calls_secrets_unlisted_once_there_are_rights_to_list_them() {
        let store = Store::new(Arc::new(AtomicU64::new(0)), PartialEq::eq);
        let target = WatchTarget::from("secrets");
        let is_forbidden = Arc::clone(&target.is_forbidden);
        let reader = ReflectorSpec {
            target,
            identify: |object: &Secret| Ok(object.name_any()),
            read: |_: &String, object: Secret| Ok(object.resource_version()),
            changed: |_: &str| (),
            unreadable: Arc::default(),
        };
        let mut rows = Reflector::new(&store, reader, Metrics::default());
        // Refused, and then another failure: the last error is no refusal any more.
        store.mark_list_forbidden();
        for (event, is_listed) in [
            (Event::Init, true),
            (Event::InitApply(object("a", 1, None)), false),
            (Event::InitApply(object("b", 2, None)), false),
            (Event::InitDone, true),
        ] {
            rows.take(event);
            assert_eq!(store.is_listed(), is_listed);
        }
        // What was listed once is known, whatever becomes of the rights.
        store.mark_list_forbidden();
        is_forbidden.store(true, Ordering::Release);
        rows.take(Event::Apply(object("c", 3, None)));
        assert!(store.is_listed());
    }

    #[test]
    fn tells_of_what_cannot_be_read_before_the_change_and_of_what_can_be_after_it() {
        let store = Store::new(Arc::new(AtomicU64::new(0)), PartialEq::eq);
        let (unreadable, heard) = (Arc::new(UnreadableCount::default()), Mutex::new(Vec::new()));
        let count = || unreadable.get();
        let reader = ReflectorSpec {
            target: "secrets".into(),
            identify: |object: &Secret| Ok(object.name_any()),
            read: |_: &String, object: Secret| match object.type_ {
                None => Ok(object.resource_version()),
                Some(type_) => Err(type_),
            },
            changed: |name: &str| heard.lock().unwrap().push((name.to_owned(), count())),
            unreadable: Arc::clone(&unreadable),
        };
        let mut rows = Reflector::new(&store, reader, Metrics::default());
        // The event; whether it is announced, and with what number; the number afterwards.
        let bad = Some("bad");
        let steps = [
            (Event::Init, None, 0),
            (Event::InitApply(object("a", 1, bad)), None, 0),
            (Event::InitApply(object("b", 2, None)), None, 0),
            (Event::InitDone, Some(("", 1)), 1),
            (Event::Init, None, 1),
            (Event::InitApply(object("a", 1, bad)), None, 1),
            (Event::InitApply(object("b", 2, None)), None, 1),
            (Event::InitDone, Some(("", 1)), 1),
            // What can be read now is known before it counts no more.
            (Event::Apply(object("a", 3, None)), Some(("a", 1)), 0),
            (Event::Apply(object("c", 4, bad)), None, 1),
            (Event::Delete(object("c", 5, bad)), None, 0),
            (Event::Apply(object("c", 6, bad)), None, 1),
            // The same by a list.
            (Event::Init, None, 1),
            (Event::InitApply(object("c", 7, None)), None, 1),
            (Event::InitDone, Some(("", 1)), 0),
        ];
        for (number, (event, announced, after)) in steps.into_iter().enumerate() {
            let listed = matches!(event, Event::InitDone);
            assert_eq!(rows.take(event), listed);
            let announced = announced.map(|(name, count)| (name.to_owned(), count));
            assert_eq!(heard.lock().unwrap().pop(), announced, "{number}");
            assert_eq!(count(), after, "{number}");
        }
    }
}
