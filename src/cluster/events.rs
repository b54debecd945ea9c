//! Events on the objects that they are about.
//!
//! At most one per object, reason and series in ten minutes, across restarts and changes of the leader: an Event's name is derived from its
//! content and its ten-minute window, so a second one conflicts with the first. <https://kubernetes.io/docs/reference/kubernetes-api/cluster-resources/event-v1/>

use std::collections::HashMap;
use std::fmt::Write as _;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};

use super::Kube;
use super::api::Objects;
use crate::names::{NamespaceName, ObjectName};
use crate::provision::login_outcomes::ReasonWord;
use crate::provision::ports::ClusterError;

/// For how long the same reason is not repeated for one object.
const DEDUP_WINDOW: SignedDuration = SignedDuration::from_mins(10);

/// How soon an Event that could not be written may be tried again.
const RETRY_AFTER: SignedDuration = SignedDuration::from_mins(1);

/// How many are remembered before those that no longer matter are forgotten.
const MAX_ENTRIES: usize = 10_000;

/// The longest `note`, in bytes; and the most of an object's name that goes into an Event's.
/// <https://github.com/kubernetes/kubernetes/blob/v1.36.0/pkg/apis/core/validation/events.go>
const NOTE_MAX: usize = 1024;
const NAME_MAX: usize = 200;

/// The longest `reportingInstance`, in bytes.
const INSTANCE_MAX: usize = 128;

/// The Event's reporting controller.
pub(super) const REPORTING_CONTROLLER: &str = "pullpass.dev/controller";

/// Events of objects without a namespace go here, where `kubectl describe` reads them.
const CLUSTER_NAMESPACE: &str = "default";

/// How grave a notice is: the `type` of its Event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventType {
    /// Nothing is wrong.
    Normal,
    /// Something needs attention.
    Warning,
}

/// One Event about an object.
#[derive(Clone, Debug, PartialEq)]
pub struct EventNote {
    /// The object, which need not be there: `apiVersion`, `kind` and `name`, a `namespace` unless it has none, the `uid` if known.
    pub regarding: ObjectReference,
    /// How grave it is.
    pub event_type: EventType,
    /// Why, in one CamelCase word of those that conditions have.
    pub reason: ReasonWord,
    /// What tells it apart from others of the same object and reason, so that one does not keep the other back.
    pub series: Option<String>,
    /// What pullpass did or would have done, in one CamelCase word.
    pub action: &'static str,
    /// What happened and what to do, in words for people; no secret in it. Cut off after 1024 bytes.
    pub note: String,
}

/// A reference to an object of this `apiVersion`, `kind` and `name`, in this namespace, and with this uid if it is known.
pub fn reference(
    [api_version, kind, name]: [&str; 3],
    namespace: Option<&str>,
    uid: Option<&str>,
) -> ObjectReference {
    ObjectReference {
        api_version: Some(api_version.to_owned()),
        kind: Some(kind.to_owned()),
        name: Some(name.to_owned()),
        namespace: namespace.map(ToOwned::to_owned),
        uid: uid.map(ToOwned::to_owned),
        ..ObjectReference::default()
    }
}

/// A reference to a Pod.
pub fn reference_pod(namespace: &NamespaceName, name: &ObjectName, uid: &str) -> ObjectReference {
    reference(["v1", "Pod", name], Some(namespace), Some(uid))
}

/// What became of a notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Published {
    /// There is a new Event.
    Created,
    /// An Event with this object, reason and series was written less than ten minutes ago.
    Suppressed,
    /// The Event could not be written, which was logged.
    Failed,
}

impl Kube {
    /// Writes an Event, in the object's namespace (`default` for one that has none). Nothing depends on Events: what fails is logged
    /// here, and no more often than Events are written.
    pub async fn publish(&self, notice: &EventNote, now: Timestamp) -> Published {
        let key = event_key(notice);
        if !self.correlator.take(&key, now) {
            return Published::Suppressed;
        }
        let event = build_event(notice, self.instance.as_deref(), now);
        let namespace = event.metadata.namespace.as_deref().unwrap_or_default();
        let namespace = match NamespaceName::parse(namespace) {
            Ok(namespace) => namespace,
            Err(error) => {
                tracing::debug!("an object that an Event is about has no namespace: {error}");
                return Published::Failed;
            }
        };
        let what = format!("event regarding {}", describe_object(&notice.regarding));
        let events = Objects::<Event>::namespaced(self, &namespace);
        match events.create(&what, &event).await {
            Ok(()) => Published::Created,
            // It was written before this process started, or by another replica.
            Err(ClusterError::Conflict { .. }) => Published::Suppressed,
            Err(error) => {
                self.correlator.allow_after(&key, now, RETRY_AFTER);
                self.log_failure(&error, now);
                Published::Failed
            }
        }
    }

    fn log_failure(&self, error: &ClusterError, now: Timestamp) {
        if matches!(error, ClusterError::NamespaceGone { .. }) || !self.correlator.take("", now) {
            return;
        }
        tracing::warn!(
            error.reason = error.reason(),
            "failed to create Event (needs \"create\" on events.events.k8s.io), retrying later: {error}"
        );
    }
}

/// What identifies an Event's object and content, without its time.
fn event_key(notice: &EventNote) -> String {
    let object = &notice.regarding;
    let parts = [
        &object.api_version,
        &object.kind,
        &object.namespace,
        &object.name,
        &object.uid,
    ];
    let parts = parts.map(|part| part.as_deref().unwrap_or_default());
    let series = notice.series.as_deref().unwrap_or_default();
    format!("{} {} {series}", parts.join(" "), notice.reason)
}

/// The name of this Event in the ten-minute window around `at`.
fn event_name(notice: &EventNote, at: Timestamp) -> String {
    let window = at.as_second().div_euclid(DEDUP_WINDOW.as_secs());
    let hash = Sha256::digest(format!("{} {window}", event_key(notice)));
    let name = notice.regarding.name.as_deref().unwrap_or_default();
    let mut text = cut(name, NAME_MAX).trim_end_matches(['.', '-']).to_owned();
    text.push('.');
    for byte in &hash[..8] {
        let written = write!(text, "{byte:02x}");
        debug_assert!(written.is_ok(), "a string takes everything");
    }
    text
}

fn build_event(notice: &EventNote, instance: Option<&str>, now: Timestamp) -> Event {
    let regarding = &notice.regarding;
    let namespace = regarding.namespace.clone();
    let metadata = ObjectMeta {
        name: Some(event_name(notice, now)),
        namespace: Some(namespace.unwrap_or_else(|| CLUSTER_NAMESPACE.to_owned())),
        ..ObjectMeta::default()
    };
    let kind = match notice.event_type {
        EventType::Normal => "Normal",
        EventType::Warning => "Warning",
    };
    let instance = cut(instance.unwrap_or_default(), INSTANCE_MAX);
    Event {
        metadata,
        event_time: Some(MicroTime(now)),
        regarding: Some(regarding.clone()),
        type_: Some(kind.to_owned()),
        reason: Some(notice.reason.clone().into_owned()),
        action: Some(notice.action.to_owned()),
        note: Some(cut(&notice.note, NOTE_MAX).to_owned()),
        reporting_controller: Some(REPORTING_CONTROLLER.to_owned()),
        reporting_instance: Some(match instance {
            "" => "pullpass".to_owned(),
            instance => instance.to_owned(),
        }),
        ..Event::default()
    }
}

fn describe_object(object: &ObjectReference) -> String {
    let kind = object.kind.as_deref().unwrap_or_default().to_lowercase();
    let name = object.name.as_deref().unwrap_or_default();
    match &object.namespace {
        Some(namespace) => format!("{kind} {namespace}/{name}"),
        None => format!("{kind} {name}"),
    }
}

/// The first bytes of a text, whole characters of them.
fn cut(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

/// The Events that were written lately, and from when on each may be written again.
#[derive(Debug, Default)]
pub(super) struct EventCorrelator {
    pauses: Mutex<HashMap<String, Suppression>>,
}

#[derive(Clone, Copy, Debug)]
struct Suppression {
    begin: Timestamp,
    length: SignedDuration,
}

impl Suppression {
    /// Whether it still holds at `now`. It does not if the clock went back to before its start: better two Events than none for hours.
    fn holds(self, now: Timestamp) -> bool {
        let passed = now.duration_since(self.begin);
        passed >= SignedDuration::ZERO && passed < self.length
    }
}

impl EventCorrelator {
    /// Whether this Event may be written now; if so, it counts as written for ten minutes.
    fn take(&self, key: &str, now: Timestamp) -> bool {
        let mut pauses = self.pauses.lock();
        if pauses.get(key).is_some_and(|pause| pause.holds(now)) {
            return false;
        }
        if pauses.len() >= MAX_ENTRIES {
            pauses.retain(|_, pause| pause.holds(now));
        }
        let pause = Suppression {
            begin: now,
            length: DEDUP_WINDOW,
        };
        pauses.insert(key.to_owned(), pause);
        true
    }

    fn allow_after(&self, key: &str, begin: Timestamp, length: SignedDuration) {
        let mut pauses = self.pauses.lock();
        pauses.insert(key.to_owned(), Suppression { begin, length });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn notice(name: &str, reason: &'static str) -> EventNote {
        EventNote {
            regarding: ObjectReference {
                kind: Some("Secret".to_owned()),
                namespace: Some("team-a".to_owned()),
                name: Some(name.to_owned()),
                ..ObjectReference::default()
            },
            event_type: EventType::Warning,
            reason: reason.into(),
            series: None,
            action: "Keep",
            note: "é".repeat(600),
        }
    }

    #[test]
    fn tells_once_in_ten_minutes_also_when_the_clock_is_put_back() {
        let lately = EventCorrelator::default();
        assert!(lately.take("a", at(10_000)));
        assert!(!lately.take("a", at(10_599)));
        assert!(!lately.take("a", at(10_000)));
        assert!(lately.take("b", at(10_000)));
        assert!(lately.take("a", at(10_600)));
        assert!(lately.take("a", at(9_000)));
        lately.allow_after("a", at(9_000), RETRY_AFTER);
        assert!(!lately.take("a", at(9_059)));
        assert!(lately.take("a", at(9_060)));
    }

    #[test]
    fn forgets_what_no_longer_matters() {
        let lately = EventCorrelator::default();
        for number in 0..MAX_ENTRIES {
            assert!(lately.take(&number.to_string(), at(0)));
        }
        assert!(lately.take("one more", at(700)));
        assert_eq!(lately.pauses.lock().len(), 1);
    }

    #[test]
    fn names_events_after_object_reason_and_time() {
        let name = |object, reason, second| event_name(&notice(object, reason), at(second));
        let first = name("pullpass", "Foreign", 600);
        assert_eq!(first, name("pullpass", "Foreign", 1199));
        assert!(first.starts_with("pullpass."), "{first}");
        assert_ne!(first, name("pullpass", "Foreign", 1200));
        assert_ne!(first, name("pullpass", "Other", 600));
        assert_ne!(first, name("pullpass-a", "Foreign", 600));
        let series = EventNote {
            series: Some("1a2b".to_owned()),
            ..notice("pullpass", "Foreign")
        };
        assert_ne!(first, event_name(&series, at(600)));
        let long = name(&format!("{}.{}", "a".repeat(199), "b".repeat(50)), "R", 0);
        assert_eq!(long.len(), 199 + 1 + 16, "{long}");
    }

    #[test]
    fn cuts_notes_between_characters() {
        let event = build_event(&notice("pullpass", "R"), None, at(0));
        assert_eq!(event.note.unwrap().len(), 1024);
    }

    #[test]
    fn names_the_process_that_it_was_given_as_the_reporting_instance() {
        let long = "a".repeat(200);
        for (instance, shown) in [
            (Some("pullpass-7d9f-x2k4"), "pullpass-7d9f-x2k4"),
            (Some(&*long), &long[..INSTANCE_MAX]),
            (Some(""), "pullpass"),
            (None, "pullpass"),
        ] {
            let event = build_event(&notice("pullpass", "R"), instance, at(0));
            assert_eq!(event.reporting_instance.as_deref(), Some(shown));
        }
    }
}
