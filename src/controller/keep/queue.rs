//! The credentials that wait to be minted, and the pull secrets that wait to be written. Pure.

use std::collections::VecDeque;
use std::time::Duration;

use jiff::Timestamp;

use super::allowance::Allowance;
use crate::provision::decide::Decision;
use crate::provision::survey::{Place, Survey};
use crate::registry::source::MintSource;

/// What waits to be minted and written, as it was decided last.
#[derive(Default)]
pub(super) struct Queue {
    /// What is to be minted, the most urgent first.
    mint: VecDeque<MintSource>,
    /// Something is missing there.
    complete: VecDeque<Place>,
    /// Something is to be renewed there, soonest to end first.
    renew: VecDeque<Place>,
    /// How many of those begin per second.
    pace: f64,
    /// How many of those may begin.
    allowance: Allowance,
}

impl Queue {
    /// Takes what was decided on everything, instead of what waited.
    pub(super) fn fill(&mut self, survey: &Survey, decision: &Decision) {
        let place = |place: &usize| survey.secrets[*place].clone();
        let source = |place: &usize| survey.sources[*place].clone();
        self.mint = decision.mint.iter().map(source).collect();
        self.complete = decision.complete.iter().map(place).collect();
        self.renew = decision.renew.iter().map(place).collect();
        self.pace = decision.pace;
    }

    /// Puts first what is missing in a few namespaces.
    pub(super) fn hurry(&mut self, survey: &Survey, decision: &Decision) {
        for place in &decision.complete {
            self.complete.push_front(survey.secrets[*place].clone());
        }
        let first: Vec<&MintSource> = decision
            .mint
            .iter()
            .map(|place| &survey.sources[*place])
            .collect();
        if !first.is_empty() {
            self.mint.retain(|source| !first.contains(&source));
        }
        for source in first.into_iter().rev() {
            self.mint.push_front(source.clone());
        }
    }

    /// Adds what the pace gives since the last time, which was a `tick` ago at least.
    pub(super) fn grow(&mut self, tick: Duration, now: Timestamp) {
        self.allowance.grow(self.pace, tick, now);
    }

    /// Takes the next credential to be minted.
    pub(super) fn take_mint(&mut self) -> Option<MintSource> {
        self.mint.pop_front()
    }

    /// Takes the next pull secret whose writing may begin.
    pub(super) fn take(&mut self) -> Option<Place> {
        if let Some(place) = self.complete.pop_front() {
            return Some(place);
        }
        if !self.allowance.is_there() {
            return None;
        }
        let place = self.renew.pop_front()?;
        self.allowance.take();
        Some(place)
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

    fn survey(names: &[&str]) -> Survey {
        let place = |name: &&str| Place {
            namespace: Arc::new(Namespace::new(
                name.parse().unwrap(),
                BTreeMap::new(),
                false,
            )),
            secret: "pullpass".parse().unwrap(),
            seen: None,
        };
        let mut survey = Survey::default();
        survey.secrets.extend(names.iter().map(place));
        survey
    }

    /// The source of some credential.
    pub(in super::super) fn source(region: &str) -> MintSource {
        let spec = serde_json::json!({"apiVersion": "pullpass.dev/v1alpha1", "kind": "Registry", "metadata": {"name": "r"},
            "spec": {"images": [format!("123456789012.dkr.ecr.{region}.amazonaws.com")], "serves": {"namespaces": {}}, "ecr": {"identity": {"node": {}}}}});
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
            let mut survey = Survey::default();
            let sources = sources.iter().map(|&source| source.clone());
            survey.sources.extend(sources);
            survey
        };
        let mint = |mint: &[usize]| Decision {
            mint: mint.to_vec(),
            ..Decision::default()
        };
        let mut queue = Queue::default();
        queue.fill(&all(&[&eu, &us]), &mint(&[1, 0]));
        queue.hurry(&all(&[&eu, &ap]), &mint(&[0, 1]));
        assert!(!queue.is_empty());
        let taken: Vec<MintSource> = std::iter::from_fn(|| queue.take_mint()).collect();
        assert_eq!(taken, [eu, ap, us]);
        assert!(queue.is_empty());
    }

    fn decision(complete: &[usize], renew: &[usize]) -> Decision {
        Decision {
            complete: complete.to_vec(),
            renew: renew.to_vec(),
            pace: 20.0,
            ..Decision::default()
        }
    }

    fn take(queue: &mut Queue) -> Vec<String> {
        let next = || Some(queue.take()?.namespace.name.to_string());
        std::iter::from_fn(next).collect()
    }

    #[test]
    fn takes_what_is_missing_at_once_and_what_is_renewed_at_its_pace() {
        let mut queue = Queue::default();
        queue.fill(&survey(&["a", "b", "c", "d"]), &decision(&[2], &[3, 0, 1]));
        assert_eq!(take(&mut queue), ["c"]);
        for (tick, taken) in [(0, "d"), (1, "a"), (2, "b")] {
            let now = Timestamp::from_millisecond(1_800_000_000_000 + 50 * tick).unwrap();
            queue.grow(TICK, now);
            assert_eq!(take(&mut queue), [taken]);
        }
        assert!(queue.is_empty());
    }

    #[test]
    fn takes_first_what_just_changed_and_only_what_was_decided_last() {
        let mut queue = Queue::default();
        queue.fill(&survey(&["a", "b"]), &decision(&[0, 1], &[]));
        queue.hurry(&survey(&["new"]), &decision(&[0], &[]));
        assert_eq!(
            queue.take().map(|place| place.namespace.name.to_string()),
            Some("new".to_owned())
        );
        queue.fill(&survey(&["c"]), &decision(&[0], &[]));
        assert_eq!(take(&mut queue), ["c"]);
    }
}
