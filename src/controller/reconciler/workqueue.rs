//! The credentials that wait to be minted, and the pull secrets that wait to be written. Pure.

use std::collections::VecDeque;
use std::time::Duration;

use jiff::Timestamp;

use super::token_bucket::TokenBucket;
use crate::provision::decide::Decision;
use crate::provision::snapshot::{PullSecretRef, Snapshot};
use crate::registry::source::MintSource;

/// What waits to be minted and written, as it was decided last.
#[derive(Default)]
pub(super) struct WorkQueue {
    /// What is to be minted, the most urgent first.
    mint: VecDeque<MintSource>,
    /// Something is missing there.
    complete: VecDeque<PullSecretRef>,
    /// Something is to be renewed there, soonest to end first.
    renew: VecDeque<PullSecretRef>,
    /// How many of those begin per second.
    rate: f64,
    /// How many of those may begin.
    token_bucket: TokenBucket,
}

impl WorkQueue {
    /// Takes what was decided on everything, instead of what waited.
    pub(super) fn replace(&mut self, snapshot: &Snapshot, decision: &Decision) {
        let target = |index: &usize| snapshot.secrets[*index].clone();
        let source = |index: &usize| snapshot.sources[*index].clone();
        self.mint = decision.mint.iter().map(source).collect();
        self.complete = decision.complete.iter().map(target).collect();
        self.renew = decision.renew.iter().map(target).collect();
        self.rate = decision.rate;
    }

    /// Puts first what is missing in a few namespaces.
    pub(super) fn push_front(&mut self, snapshot: &Snapshot, decision: &Decision) {
        for index in &decision.complete {
            self.complete.push_front(snapshot.secrets[*index].clone());
        }
        let first: Vec<&MintSource> = decision
            .mint
            .iter()
            .map(|index| &snapshot.sources[*index])
            .collect();
        if !first.is_empty() {
            self.mint.retain(|source| !first.contains(&source));
        }
        for source in first.into_iter().rev() {
            self.mint.push_front(source.clone());
        }
    }

    /// Adds what the pace gives since the last time, which was a `tick` ago at least.
    pub(super) fn refill(&mut self, tick: Duration, now: Timestamp) {
        self.token_bucket.refill(self.rate, tick, now);
    }

    /// Takes the next credential to be minted.
    pub(super) fn pop_mint(&mut self) -> Option<MintSource> {
        self.mint.pop_front()
    }

    /// Takes the next pull secret whose writing may begin.
    pub(super) fn take(&mut self) -> Option<PullSecretRef> {
        if let Some(target) = self.complete.pop_front() {
            return Some(target);
        }
        if !self.token_bucket.has_token() {
            return None;
        }
        let target = self.renew.pop_front()?;
        self.token_bucket.take();
        Some(target)
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.mint.is_empty() && self.complete.is_empty() && self.renew.is_empty()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use super::*;
    use crate::provision::Namespace;

    const TICK: Duration = Duration::from_millis(50);

    fn snapshot(names: &[&str]) -> Snapshot {
        let target = |name: &&str| PullSecretRef {
            namespace: Arc::new(Namespace::new(
                name.parse().unwrap(),
                BTreeMap::new(),
                false,
            )),
            secret: "pullpass".parse().unwrap(),
            observed: None,
        };
        let mut snapshot = Snapshot::default();
        snapshot.secrets.extend(names.iter().map(target));
        snapshot
    }

    /// The source of some credential.
    pub(in super::super) fn source(region: &str) -> MintSource {
        let spec = serde_json::json!({"apiVersion": "pullpass.dev/v1alpha1", "kind": "Registry", "metadata": {"name": "r"},
            "spec": {"images": [format!("123456789012.dkr.ecr.{region}.amazonaws.com")], "namespaceSelector": {}, "ecr": {"identity": {"node": {}}}}});
        let registry = serde_json::from_value(spec).unwrap();
        let registries = crate::registry::Registries::build([registry]);
        let grants = registries.grants_of(&BTreeMap::new(), "pullpass");
        match &grants[0].source {
            crate::registry::CredentialSource::Minted(source) => source.clone(),
            crate::registry::CredentialSource::Static(_) => panic!("a fixed login"),
        }
    }

    #[test]
    fn mints_what_is_urgent_first_and_nothing_twice() {
        let [eu, us, ap] = ["eu-west-1", "us-east-1", "ap-south-1"].map(source);
        let all = |sources: &[&MintSource]| {
            let mut snapshot = Snapshot::default();
            let sources = sources.iter().map(|&source| source.clone());
            snapshot.sources.extend(sources);
            snapshot
        };
        let mint = |mint: &[usize]| Decision {
            mint: mint.to_vec(),
            ..Decision::default()
        };
        let mut queue = WorkQueue::default();
        queue.replace(&all(&[&eu, &us]), &mint(&[1, 0]));
        queue.push_front(&all(&[&eu, &ap]), &mint(&[0, 1]));
        assert!(!queue.is_empty());
        let taken: Vec<MintSource> = std::iter::from_fn(|| queue.pop_mint()).collect();
        assert_eq!(taken, [eu, ap, us]);
        assert!(queue.is_empty());
    }

    fn decision(complete: &[usize], renew: &[usize]) -> Decision {
        Decision {
            complete: complete.to_vec(),
            renew: renew.to_vec(),
            rate: 20.0,
            ..Decision::default()
        }
    }

    fn take(queue: &mut WorkQueue) -> Vec<String> {
        let next = || Some(queue.take()?.namespace.name.to_string());
        std::iter::from_fn(next).collect()
    }

    #[test]
    fn takes_what_is_missing_at_once_and_what_is_renewed_at_its_pace() {
        let mut queue = WorkQueue::default();
        queue.replace(
            &snapshot(&["a", "b", "c", "d"]),
            &decision(&[2], &[3, 0, 1]),
        );
        assert_eq!(take(&mut queue), ["c"]);
        for (tick, taken) in [(0, "d"), (1, "a"), (2, "b")] {
            let now = Timestamp::from_millisecond(1_800_000_000_000 + 50 * tick).unwrap();
            queue.refill(TICK, now);
            assert_eq!(take(&mut queue), [taken]);
        }
        assert!(queue.is_empty());
    }

    #[test]
    fn takes_first_what_just_changed_and_only_what_was_decided_last() {
        let mut queue = WorkQueue::default();
        queue.replace(&snapshot(&["a", "b"]), &decision(&[0, 1], &[]));
        queue.push_front(&snapshot(&["new"]), &decision(&[0], &[]));
        assert_eq!(
            queue.take().map(|target| target.namespace.name.to_string()),
            Some("new".to_owned())
        );
        queue.replace(&snapshot(&["c"]), &decision(&[0], &[]));
        assert_eq!(take(&mut queue), ["c"]);
    }
}
