//! Which Registries an admin changed or deleted lately: an order to take out what they no longer give.

use std::collections::VecDeque;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::pattern::Pattern;
use super::valid::ValidRegistry;
use super::{CredentialSource, Labels, Registries};

/// How long an order is remembered.
const REMEMBERED: SignedDuration = SignedDuration::from_hours(1);

/// Within this time only one Registry's change counts as an order: what takes many away at once (the kind deleted with all Registries,
/// a cluster restored) is none.
const APART: SignedDuration = SignedDuration::from_mins(1);

/// How many orders are remembered.
const MOST: usize = 1000;

/// The changes and deletions of Registries that were seen while the process ran, each by itself.
#[derive(Debug, Default)]
pub struct Orders {
    last: Option<Arc<Registries>>,
    /// How often the Registries changed.
    count: u64,
    log: VecDeque<Order>,
    /// What Registries were after the first of these orders and are no more, and at which change they ended.
    past: VecDeque<(u64, ValidRegistry)>,
}

/// One Registry that was changed or deleted.
#[derive(Debug)]
struct Order {
    at: Timestamp,
    /// At which change of the Registries.
    change: u64,
    was: ValidRegistry,
    /// Since when another one is in its place, or none yet.
    followed_at: Timestamp,
}

impl Orders {
    /// Notes what changed since the last call. What is seen to change together is no order, but for one Registry alone.
    pub fn note(&mut self, registries: &Arc<Registries>, now: Timestamp) {
        let Some(last) = self.last.replace(Arc::clone(registries)) else {
            return;
        };
        if Arc::ptr_eq(&last, registries) {
            return;
        }
        self.count += 1;
        for order in &mut self.log {
            let name = &order.was.name;
            if last.get(name).is_none() && registries.get(name).is_some() {
                order.followed_at = now;
            }
        }
        let mut gone = last
            .iter()
            .filter(|was| is_less(was, registries))
            .collect::<Vec<_>>();
        if let Some(was) = gone.pop().filter(|_| gone.is_empty()) {
            let mut lately = self.log.iter().filter(|order| is_close(order.at, now));
            if lately.all(|order| order.was.name == was.name) {
                self.log.push_back(Order {
                    at: now,
                    change: self.count,
                    was: was.clone(),
                    followed_at: now,
                });
            }
        }
        let ended = last.iter().filter(|was| {
            let is = registries.get(&was.name);
            is.is_none_or(|is| !is.gives_the_same(was))
        });
        let ended = ended.map(|was| (self.count, was.clone()));
        self.past.extend(ended);
        self.forget(now);
    }

    fn forget(&mut self, now: Timestamp) {
        while self.log.len() > MOST || self.log.front().is_some_and(|order| order.is_old(now)) {
            self.log.pop_front();
        }
        let first = self.log.front().map_or(self.count, |order| order.change);
        while self.past.len() > MOST || self.past.front().is_some_and(|(end, _)| *end <= first) {
            self.past.pop_front();
        }
    }

    /// Whether an entry under `key` of this secret was given, in a namespace with these labels, by a Registry that was changed or
    /// deleted by order, and by none since then: what a later one gives stays until that one is changed or deleted, too.
    pub fn covers(&self, namespace: &Labels, secret: &str, key: &str) -> bool {
        let Ok(key) = Pattern::parse(key) else {
            return false;
        };
        let gives = |registry: &ValidRegistry| registry.gives(namespace, secret, &key);
        let last_given = self.past.iter().rev().find(|(_, past)| gives(past));
        // One that breaks a rule now may have given it once more before, unseen.
        let problems = self.last.as_ref().map_or(&[][..], |last| last.problems());
        let is_broken = |name: &str| problems.iter().any(|problem| problem.registry == name);
        let mut orders = self.log.iter();
        orders.any(|order| {
            !is_broken(&order.was.name)
                && order.was.reaches(namespace, secret, &key)
                && last_given.is_none_or(|(ended, _)| *ended <= order.change)
        })
    }

    /// Since when this Registry's credentials come from somewhere else than before, not counting a time in which it was deleted;
    /// `None`: for longer than is remembered.
    pub fn source_changed_at(
        &self,
        registry: &str,
        source: &CredentialSource,
    ) -> Option<Timestamp> {
        let had = |order: &&Order| order.was.sources.iter().any(|(had, _)| had == source);
        let of = |order: &&Order| *order.was.name == *registry;
        let last = self.log.iter().rev().find(of)?;
        (!had(&last)).then_some(last.followed_at)
    }
}

impl Order {
    fn is_old(&self, now: Timestamp) -> bool {
        now.duration_since(self.at).abs() > REMEMBERED
    }
}

fn is_close(at: Timestamp, now: Timestamp) -> bool {
    now.duration_since(at).abs() < APART
}

/// Whether a Registry is gone or another one now. One that breaks a rule since then is neither: nobody ordered that.
fn is_less(was: &ValidRegistry, registries: &Registries) -> bool {
    if let Some(is) = registries.get(&was.name) {
        return !is.gives_the_same(was);
    }
    let mut problems = registries.problems().iter();
    !problems.any(|problem| problem.registry == *was.name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::Registry;

    fn registry(name: &str, image: &str, secret: &str) -> Registry {
        serde_json::from_value(serde_json::json!({
            "apiVersion": "pullpass.dev/v1alpha1", "kind": "Registry", "metadata": {"name": name},
            "spec": {
                "images": [image], "namespaceSelector": {},
                "static": {"secretRef": {"name": secret}},
            },
        }))
        .unwrap()
    }

    fn all(registries: &[(&str, &str)]) -> Arc<Registries> {
        let registries = registries
            .iter()
            .map(|(name, image)| registry(name, image, "login"));
        Arc::new(Registries::build(registries))
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    fn covers(orders: &Orders, key: &str) -> bool {
        orders.covers(&Labels::new(), "pullpass", key)
    }

    #[test]
    fn takes_one_deletion_as_order() {
        let mut orders = Orders::default();
        orders.note(
            &all(&[("a", "a.example.com/x"), ("b", "b.example.com")]),
            at(0),
        );
        assert!(!covers(&orders, "a.example.com/x"));
        orders.note(&all(&[("b", "b.example.com")]), at(1));
        assert!(covers(&orders, "a.example.com/x"));
        assert!(covers(&orders, "a.example.com/x/y"));
        assert!(!covers(&orders, "a.example.com"));
        assert!(!covers(&orders, "b.example.com"));
        let labels = Labels::new();
        assert!(!orders.covers(&labels, "pullpass-a", "a.example.com/x"));
    }

    #[test]
    fn takes_many_at_once_or_one_after_the_other_for_none() {
        let mut orders = Orders::default();
        let three = [
            ("a", "a.example.com"),
            ("b", "b.example.com"),
            ("c", "c.example.com"),
        ];
        orders.note(&all(&three), at(0));
        orders.note(&all(&three[..1]), at(1));
        assert!(!covers(&orders, "b.example.com") && !covers(&orders, "c.example.com"));

        let mut orders = Orders::default();
        orders.note(&all(&three), at(0));
        orders.note(&all(&three[..2]), at(1));
        orders.note(&all(&three[..1]), at(30));
        assert!(covers(&orders, "c.example.com"));
        assert!(!covers(&orders, "b.example.com"));
        orders.note(&all(&three[..2]), at(100));
        orders.note(&all(&three[..1]), at(200));
        assert!(covers(&orders, "b.example.com"), "a minute later it is one");
    }

    #[test]
    fn takes_registry_that_breaks_a_rule_for_no_order() {
        let mut orders = Orders::default();
        orders.note(&all(&[("a", "a.example.com")]), at(0));
        orders.note(&all(&[("a", "not an image")]), at(1));
        assert!(!covers(&orders, "a.example.com"));
    }

    #[test]
    fn takes_change_for_no_order_against_what_is_still_given() {
        let mut orders = Orders::default();
        orders.note(&all(&[("a", "a.example.com")]), at(0));
        orders.note(&all(&[("a", "a.example.com/x")]), at(1));
        assert!(covers(&orders, "a.example.com"));
        assert!(covers(&orders, "a.example.com/y"));
        orders.note(&all(&[("a", "not an image")]), at(2));
        assert!(!covers(&orders, "a.example.com"), "it waits meanwhile");
        orders.note(&all(&[("a", "b.example.com")]), at(100));
        assert!(covers(&orders, "a.example.com"));
        assert!(
            !covers(&orders, "a.example.com/x"),
            "it was given until the Registry broke a rule"
        );
    }

    #[test]
    fn takes_no_order_for_one_against_what_was_given_again_since() {
        let mut orders = Orders::default();
        orders.note(
            &all(&[("a", "a.example.com"), ("b", "b.example.com")]),
            at(0),
        );
        orders.note(&all(&[("b", "b.example.com")]), at(1));
        assert!(covers(&orders, "a.example.com"));
        orders.note(
            &all(&[("a", "a.example.com"), ("b", "b.example.com")]),
            at(100),
        );
        orders.note(
            &all(&[("a", "not an image"), ("b", "b.example.com")]),
            at(200),
        );
        assert!(!covers(&orders, "a.example.com"), "it broke a rule");
        orders.note(&all(&[("b", "a.example.com")]), at(300));
        assert!(covers(&orders, "b.example.com"));
        orders.note(&all(&[("b", "not an image")]), at(400));
        assert!(!covers(&orders, "a.example.com"), "another one gave it");
        orders.note(&all(&[("a", "a.example.com")]), at(500));
        orders.note(&all(&[]), at(600));
        assert!(covers(&orders, "a.example.com"), "it was deleted");
    }

    #[test]
    fn tells_since_when_a_source_is_another() {
        let build =
            |secret: &str| Arc::new(Registries::build([registry("a", "a.example.com", secret)]));
        let source = |registries: &Registries| registries.get("a").unwrap().sources[0].0.clone();
        let (old, new) = (build("old"), build("new"));
        let mut orders = Orders::default();
        orders.note(&old, at(0));
        assert_eq!(orders.source_changed_at("a", &source(&old)), None);
        orders.note(&new, at(5));
        assert_eq!(orders.source_changed_at("a", &source(&new)), Some(at(5)));
        assert_eq!(orders.source_changed_at("a", &source(&old)), None);
        orders.note(&all(&[]), at(700));
        orders.note(&old, at(1400));
        assert_eq!(orders.source_changed_at("a", &source(&old)), Some(at(1400)));
    }
}
