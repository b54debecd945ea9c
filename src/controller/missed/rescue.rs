//! Which missed Pods may be evicted. Pure.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use crate::cluster::WaitingPod;

/// How long nothing else of the same owner is evicted.
pub(super) const OWNER_PAUSE: SignedDuration = SignedDuration::from_hours(1);

/// Why a missed Pod is left where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Left {
    /// It is being deleted.
    Deleted,
    /// No image of it has failed to be pulled yet.
    NotHanging,
    /// Nothing would make it again.
    NoController,
}

/// The controller of a missed Pod that may be evicted.
pub(super) fn find_owner(pod: &WaitingPod) -> Result<&OwnerReference, Left> {
    if pod.is_deleted {
        return Err(Left::Deleted);
    }
    if !pod.hangs {
        return Err(Left::NotHanging);
    }
    pod.controller.as_ref().ok_or(Left::NoController)
}

/// Whether what is evicted would not be missed again: the webhook has answered the API server since the `youngest` of all missed Pods
/// was created. An answer that is later than an older one alone may be from before an outage that goes on.
pub(super) fn is_way_open(answered: Option<Timestamp>, youngest: Option<Timestamp>) -> bool {
    answered.is_some_and(|answered| youngest.is_none_or(|youngest| answered > youngest))
}

/// The evictions that were announced and failed, by their owners: the same Pod's may be tried again, and no other one's.
#[derive(Debug, Default)]
pub(super) struct Failed(HashMap<String, Try>);

#[derive(Debug)]
struct Try {
    pod: String,
    announced: Timestamp,
}

impl Try {
    fn counts(&self, now: Timestamp) -> bool {
        let passed = now.duration_since(self.announced);
        !passed.is_negative() && passed < OWNER_PAUSE
    }
}

impl Failed {
    /// Whether the Pod with this unique id may be evicted: no other one of its owner was announced.
    pub(super) fn allows(&self, owner: &str, pod: &str, now: Timestamp) -> bool {
        let other = self.0.get(owner).filter(|other| other.counts(now));
        other.is_none_or(|other| other.pod == pod)
    }

    /// When the eviction of this very Pod was announced, if it failed since.
    pub(super) fn find(&self, owner: &str, pod: &str, now: Timestamp) -> Option<Timestamp> {
        let tried = self.0.get(owner).filter(|tried| tried.counts(now))?;
        (tried.pod == pod).then_some(tried.announced)
    }

    /// The eviction of a Pod that was announced then has failed.
    pub(super) fn note(&mut self, owner: &str, pod: &str, announced: Timestamp, now: Timestamp) {
        self.0.retain(|_, tried| tried.counts(now));
        let pod = pod.to_owned();
        self.0.insert(owner.to_owned(), Try { pod, announced });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn finds_the_owner_of_those_that_may_be_evicted() {
        let json = serde_json::value::RawValue::from_string("{}".to_owned()).unwrap();
        let pod = WaitingPod {
            namespace: "n".parse().unwrap(),
            name: "p".parse().unwrap(),
            uid: "u".to_owned(),
            created: at(100),
            is_deleted: false,
            hangs: true,
            controller: Some(OwnerReference::default()),
            json,
        };
        assert_eq!(find_owner(&pod).err(), None);
        let deleted = WaitingPod {
            is_deleted: true,
            ..pod.clone()
        };
        assert_eq!(find_owner(&deleted).err(), Some(Left::Deleted));
        let waits = WaitingPod {
            hangs: false,
            ..pod.clone()
        };
        assert_eq!(find_owner(&waits).err(), Some(Left::NotHanging));
        let bare = WaitingPod {
            controller: None,
            ..pod
        };
        assert_eq!(find_owner(&bare).err(), Some(Left::NoController));
    }

    #[test]
    fn takes_the_way_for_open_after_an_answer_that_is_later_than_all_that_were_missed() {
        let table = [
            (None, None, false),
            (None, Some(100), false),
            (Some(100), None, true),
            (Some(99), Some(100), false),
            (Some(100), Some(100), false),
            (Some(101), Some(100), true),
        ];
        for (answered, youngest, open) in table {
            let is_open = is_way_open(answered.map(at), youngest.map(at));
            assert_eq!(is_open, open, "{answered:?} {youngest:?}");
        }
    }

    #[test]
    fn tries_the_same_pod_again_within_the_hour_and_no_other_one() {
        let mut failed = Failed::default();
        assert!(failed.allows("web", "1", at(0)));
        assert_eq!(failed.find("web", "1", at(0)), None);
        failed.note("web", "1", at(0), at(10));
        for (second, first, other) in [(10, true, false), (3599, true, false), (3600, true, true)] {
            assert_eq!(failed.allows("web", "1", at(second)), first, "{second}");
            assert_eq!(failed.allows("web", "2", at(second)), other, "{second}");
        }
        assert!(failed.allows("api", "3", at(10)));
        assert_eq!(failed.find("web", "1", at(20)), Some(at(0)));
        assert_eq!(failed.find("web", "2", at(20)), None);
        assert_eq!(
            failed.find("web", "1", at(3600)),
            None,
            "it is announced anew"
        );
        assert!(failed.allows("web", "2", at(-1)), "the clock was put back");
        // Failing again does not make the hour longer, and what is over is forgotten.
        failed.note("web", "1", at(0), at(30));
        assert_eq!(failed.find("web", "1", at(40)), Some(at(0)));
        failed.note("api", "3", at(3600), at(3600));
        assert_eq!(failed.0.len(), 1);
    }
}
