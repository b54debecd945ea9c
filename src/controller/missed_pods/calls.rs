//! Whether the API server calls the webhook: *configured, opted in, never asked*.
//!
//! A webhook that cannot be reached is not noticed by anybody: with `failurePolicy: Ignore` the API server goes on after a few seconds.
//! So evidence decides. Against: a Pod that lacks what a review would have given it, although all that decides about it was there before
//! it. For: a review that this replica answered, and a Pod with a reference, which another replica may have given it. Where there is
//! neither, as on a quiet cluster, nothing is known and nothing is said. Where it called before, one Pod alone may be one that a replica
//! was killed over: then it takes two, some minutes apart.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use crate::admission::MissingReferences;
use crate::names::{NamespaceName, ObjectName};

/// How many Pods that were not asked about are compared with the cluster, the newest first, one of each time of [`CallTiming::patience`].
const MAX_SUSPECTS: usize = 16;

/// By how much our clock may differ from the API server's.
const CLOCK_SKEW: SignedDuration = SignedDuration::from_secs(30);

/// How much later than its creation the API server may note the request that created a Pod.
const SAME_REQUEST: SignedDuration = SignedDuration::from_secs(1);

/// What it means that the API server asks no replica about Pods; found again in a condition by `pullpass check`.
pub const NOT_CALLED: &str = "the API server cannot reach the webhook";

/// The usual causes, and what to do about each.
/// <https://docs.aws.amazon.com/eks/latest/userguide/alternate-cni-plugins.html>,
/// <https://cloud.google.com/kubernetes-engine/docs/how-to/private-clusters#add_firewall_rules>.
pub const CAUSES: &str = "usual causes: an overlay CNI, where the control plane reaches nodes and no Pods (hostNetwork=true); a firewall of a private cluster that is closed for port 8443 (open it, or listen=[::]:10250 where that is open); a NetworkPolicy in pullpass' namespace; a service mesh with strict mTLS; a caBundle that does not fit";

/// How long evidence is waited for.
#[derive(Clone, Copy, Debug)]
pub struct CallTiming {
    /// So long after what decides about Pods was written the API server may still go by what was before.
    pub settle: SignedDuration,
    /// So long after a Pod no review may come.
    pub patience: SignedDuration,
}

impl Default for CallTiming {
    fn default() -> Self {
        Self {
            settle: SignedDuration::from_secs(5),
            patience: SignedDuration::from_mins(5),
        }
    }
}

/// A Pod that no replica was asked about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnaskedPod {
    /// Its namespace.
    pub namespace: NamespaceName,
    /// Its name.
    pub name: ObjectName,
    /// When it was created.
    pub created: Timestamp,
}

impl UnaskedPod {
    /// What is wrong, by which evidence, and what to do.
    pub fn describe(&self) -> String {
        let Self {
            namespace,
            name,
            created,
        } = self;
        format!(
            "{NOT_CALLED}: no replica was asked about Pod {namespace}/{name}, created {created}, nor about any Pod since; {CAUSES}"
        )
    }
}

/// A Pod that seems not to have been asked about.
#[derive(Debug)]
pub(super) struct Suspect {
    pub(super) pod: UnaskedPod,
    /// What a review would have given it.
    pub(super) lacks: MissingReferences,
}

/// What a scan saw.
#[derive(Debug)]
pub(super) struct CallEvidence {
    timing: CallTiming,
    /// From when on the API server was configured as it is.
    configured: Timestamp,
    /// What was created before shows nothing of whether it calls.
    since: Timestamp,
    now: Timestamp,
    /// Whether this replica ever answered a review.
    has_answered: bool,
    /// When the newest Pod was created that somebody was asked about.
    asked: Option<Timestamp>,
    /// The newest of each time of as long as a review is waited for.
    suspects: BTreeMap<i64, Suspect>,
    /// When the first of those was created that are too young.
    young: Option<Timestamp>,
}

impl CallEvidence {
    /// Nothing was seen yet. `configured` is when the API server was configured as it is, `ready` when this replica became ready, `answered`
    /// when it last answered a review.
    pub(super) fn new(
        timing: CallTiming,
        [configured, ready]: [Timestamp; 2],
        answered: Option<Timestamp>,
        now: Timestamp,
    ) -> Self {
        let later = |moment: Timestamp, by| moment.saturating_add(by).unwrap_or(Timestamp::MAX);
        let heard = answered.map(|answered| later(answered, CLOCK_SKEW));
        let configured = later(configured, timing.settle);
        let callable = later(ready, timing.settle).max(configured);
        Self {
            timing,
            configured,
            since: heard.map_or(callable, |heard| heard.max(callable)),
            now,
            has_answered: answered.is_some(),
            asked: None,
            suspects: BTreeMap::new(),
            young: None,
        }
    }

    /// From when on Pods are to be read, whatever became of them; `None`: none of them would show anything now.
    pub(super) fn since(&self) -> Option<Timestamp> {
        let is_old_enough = self.now.duration_since(self.since) >= self.timing.patience;
        is_old_enough.then_some(self.configured)
    }

    /// There is a Pod with a reference to a pull secret: somebody was asked.
    pub(super) fn note_asked(&mut self, created: Timestamp) {
        self.asked = self.asked.max(Some(created));
    }

    /// There is a Pod without one that a review would have given it; `changed` is when it was written last.
    pub(super) fn note_unasked(&mut self, suspect: Suspect, changed: Option<Timestamp>) {
        let created = suspect.pod.created;
        let is_as_created =
            changed.is_some_and(|changed| changed.duration_since(created) <= SAME_REQUEST);
        if created < self.since || !is_as_created {
            return;
        }
        if self.now.duration_since(created) < self.timing.patience {
            self.young = Some(self.young.map_or(created, |young| young.min(created)));
            return;
        }
        let time = created.as_second() / self.timing.patience.as_secs().max(1);
        let known = self.suspects.get(&time);
        if known.is_none_or(|known| known.pod.created < created) {
            self.suspects.insert(time, suspect);
        }
        if self.suspects.len() > MAX_SUSPECTS {
            self.suspects.pop_first();
        }
    }

    /// Pods that were created after the last one that somebody was asked about, the newest first.
    pub(super) fn suspects(&self) -> impl Iterator<Item = &Suspect> {
        let newest = self.suspects.values().rev();
        newest.take_while(|suspect| Some(suspect.pod.created) > self.asked)
    }

    /// Whether these, of [`CallEvidence::suspects`], show that it does not call: one where it never did, else two that are far apart.
    pub(super) fn suffices(&self, newest: &UnaskedPod, oldest: &UnaskedPod) -> bool {
        let was_called = self.has_answered || self.asked.is_some();
        let apart = newest.created.duration_since(oldest.created);
        !was_called || apart >= self.timing.patience
    }

    /// When those that are too young now are old enough.
    pub(super) fn recheck_at(&self) -> Option<Timestamp> {
        let young = self.young.filter(|young| Some(*young) > self.asked)?;
        young.checked_add(self.timing.patience).ok()
    }

    /// Whether what the API server decided about a Pod by was there when it was created: it was written at `changed`.
    pub(super) fn is_settled(&self, changed: Option<Timestamp>, pod: &UnaskedPod) -> bool {
        changed.is_some_and(|changed| pod.created.duration_since(changed) >= self.timing.settle)
    }

    /// Whether nothing speaks against what a Pod showed before: no review came since, and the configuration is the same.
    pub(super) fn upholds(&self, pod: &UnaskedPod) -> bool {
        pod.created >= self.since && self.asked <= Some(pod.created)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::at;

    const PATIENCE: i64 = 300;

    fn suspect(name: &str, created: i64) -> Suspect {
        Suspect {
            pod: UnaskedPod {
                namespace: "shop".parse().unwrap(),
                name: name.parse().unwrap(),
                created: at(created),
            },
            lacks: MissingReferences {
                secrets: vec!["pullpass".to_owned()],
                registries: vec!["team".to_owned()],
            },
        }
    }

    fn evidence(answered: Option<i64>, now: i64) -> CallEvidence {
        let (timing, answered) = (CallTiming::default(), answered.map(at));
        CallEvidence::new(timing, [at(0), at(0)], answered, at(now))
    }

    fn names(evidence: &CallEvidence) -> Vec<&str> {
        let suspects = evidence.suspects();
        suspects.map(|suspect| suspect.pod.name.as_str()).collect()
    }

    #[test]
    fn suspects_nothing_without_a_pod_that_was_not_asked_about() {
        let mut seen = evidence(None, 10_000);
        assert!(names(&seen).is_empty());
        seen.note_asked(at(100));
        assert!(names(&seen).is_empty());
        assert_eq!(seen.recheck_at(), None);
    }

    #[test]
    fn suspects_a_pod_once_no_review_came_for_long_enough() {
        for (created, now, found) in [
            (100, 100 + PATIENCE - 1, false),
            (100, 100 + PATIENCE, true),
            // Right after it was ready the API server may not know it yet.
            (4, 10_000, false),
            (5, 10_000, true),
        ] {
            let mut seen = evidence(None, now);
            seen.note_unasked(suspect("a", created), Some(at(created)));
            assert_eq!(!names(&seen).is_empty(), found, "{created} {now}");
        }
    }

    #[test]
    fn checks_again_when_the_first_young_pod_is_old_enough() {
        let mut seen = evidence(None, 1000);
        for created in [900, 800, 950] {
            seen.note_unasked(suspect("a", created), Some(at(created)));
        }
        assert!(names(&seen).is_empty());
        assert_eq!(seen.recheck_at(), Some(at(800 + PATIENCE)));
        seen.note_asked(at(800));
        assert_eq!(seen.recheck_at(), None);
    }

    #[test]
    fn trusts_reviews_whoever_answered_them() {
        let pods = [("a", 100), ("b", 500), ("c", 900)];
        // Another replica gave a Pod its reference, in whatever order the list has them.
        for (asked, left) in [(99, &["c", "b", "a"][..]), (500, &["c"]), (900, &[])] {
            let mut seen = evidence(None, 10_000);
            for (name, created) in pods {
                seen.note_unasked(suspect(name, created), Some(at(created)));
            }
            seen.note_asked(at(asked));
            assert_eq!(names(&seen), left, "{asked}");
            assert_eq!(seen.upholds(&suspect("b", 500).pod), asked <= 500);
        }
        // This replica answered; its clock may be behind.
        for (answered, left) in [(60, 3), (90, 2), (800, 1), (871, 0), (5000, 0)] {
            let mut seen = evidence(Some(answered), 10_000);
            for (name, created) in pods {
                seen.note_unasked(suspect(name, created), Some(at(created)));
            }
            assert_eq!(names(&seen).len(), left, "{answered}");
        }
    }

    #[test]
    fn takes_no_pod_for_evidence_that_was_changed_after_it_was_created() {
        for (changed, found) in [
            (Some(100), true),
            (Some(101), true),
            (Some(102), false),
            (None, false),
        ] {
            let mut seen = evidence(None, 10_000);
            seen.note_unasked(suspect("a", 100), changed.map(at));
            assert_eq!(!names(&seen).is_empty(), found, "{changed:?}");
        }
    }

    #[test]
    fn takes_no_change_for_settled_that_came_with_the_pod_or_is_not_known() {
        let seen = evidence(None, 10_000);
        let pod = suspect("a", 100).pod;
        for (changed, settled) in [
            (Some(95), true),
            (Some(96), false),
            (Some(200), false),
            (None, false),
        ] {
            assert_eq!(
                seen.is_settled(changed.map(at), &pod),
                settled,
                "{changed:?}"
            );
        }
    }

    #[test]
    fn upholds_nothing_from_before_the_configuration_changed() {
        for (callable, upheld) in [(94, true), (95, true), (96, false), (5000, false)] {
            let timing = CallTiming::default();
            let moments = [at(callable), at(0)];
            let seen = CallEvidence::new(timing, moments, None, at(10_000));
            assert_eq!(seen.upholds(&suspect("a", 100).pod), upheld, "{callable}");
        }
    }

    #[test]
    fn reads_all_pods_only_once_a_silence_is_long_enough() {
        assert_eq!(evidence(None, 304).since(), None);
        assert_eq!(evidence(None, 305).since(), Some(at(5)));
        assert_eq!(evidence(Some(200), 529).since(), None);
        assert_eq!(evidence(Some(200), 530).since(), Some(at(5)));
        // A clock that went back.
        assert_eq!(evidence(Some(10_000), 100).since(), None);
    }

    #[test]
    fn keeps_few_of_many_pods_and_those_the_newest_and_far_apart() {
        let mut seen = evidence(None, 100_000);
        for created in (10..1000).rev().chain(1000..20_000) {
            seen.note_unasked(suspect("a", created), Some(at(created)));
        }
        let kept: Vec<_> = seen.suspects().map(|one| one.pod.created).collect();
        assert_eq!((kept.len(), kept[0]), (MAX_SUSPECTS, at(19_999)));
        let apart = kept[0].duration_since(kept[2]);
        assert!(apart >= SignedDuration::from_secs(PATIENCE), "{apart}");
    }

    #[test]
    fn needs_two_pods_far_apart_where_it_called_before() {
        let (newest, close, far) = (
            suspect("a", 900).pod,
            suspect("b", 601).pod,
            suspect("c", 600).pod,
        );
        let mut seen = evidence(None, 10_000);
        assert!(seen.suffices(&newest, &newest));
        seen.note_asked(at(50));
        for seen in [seen, evidence(Some(50), 10_000)] {
            assert!(!seen.suffices(&newest, &newest));
            assert!(!seen.suffices(&newest, &close));
            assert!(seen.suffices(&newest, &far));
        }
    }

    #[test]
    fn says_what_is_wrong_and_its_causes_before_an_event_ends() {
        let long = "a".repeat(63);
        let pod = UnaskedPod {
            namespace: long.parse().unwrap(),
            name: "b".repeat(253).parse().unwrap(),
            created: at(0),
        };
        let said = pod.describe();
        assert!(said.starts_with(NOT_CALLED) && said.ends_with("caBundle that does not fit"));
        assert!(said.len() <= 1024, "{}", said.len());
        for cause in [
            "overlay CNI",
            "hostNetwork",
            "firewall",
            "NetworkPolicy",
            "mesh",
        ] {
            assert!(said.contains(cause), "{cause}");
        }
    }
}
