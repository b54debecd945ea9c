//! What is to be said of a Registry that is about to be written beside those that are there.

use std::cmp::Ordering;
use std::collections::HashMap;

use super::Registries;
use super::crd::Registry;
use super::pattern::Pattern;
use super::valid::ValidRegistry;
use super::validate::Problem;
use crate::names::ObjectName;

/// A Registry that breaks no rule.
#[derive(Debug)]
pub struct ValidatedRegistry {
    /// The Registry.
    pub registry: ValidRegistry,
    /// The Registries that it ties with.
    pub ties: Vec<Tie>,
}

/// Two Registries with an equal pattern that choose equally narrowly, and for some Pod both: age or name decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tie {
    /// The field, as a path from the object's root: `spec.images[0]`.
    pub field: String,
    /// The pattern that both have.
    pub pattern: String,
    /// The other Registry.
    pub with: ObjectName,
    /// Whether the other one comes first.
    pub loses: bool,
}

/// How many ties are said: more than are shown.
const TIES_MAX: usize = 16;

impl Registries {
    /// Validates a Registry that is about to be written, together with these or in place of the one of its name.
    ///
    /// # Errors
    /// All rules that it breaks, never an empty list.
    pub fn validate_candidate(
        &self,
        registry: &Registry,
    ) -> Result<ValidatedRegistry, Vec<Problem>> {
        let registry = ValidRegistry::new(registry)?;
        let patterns = registry.patterns().map(Pattern::as_str).zip(0..);
        let places: HashMap<&str, usize> = patterns.collect();
        let rivals = self.served.iter().filter(|other| {
            other.name != registry.name && other.specificity == registry.specificity
        });
        // No image resolves to one that pushes.
        let is_of_pods = |one: &ValidRegistry| one.access.is_pull();
        let rivals = rivals.filter(|other| is_of_pods(other) && is_of_pods(&registry));
        let mut ties = Vec::new();
        for other in rivals {
            let known = |pattern: &Pattern| {
                let pattern = pattern.as_str();
                #[cfg(test)]
                super::tests::count_step();
                places
                    .get(pattern)
                    .map(|place| (*place, pattern.to_owned()))
            };
            let Some((place, pattern)) = other.patterns().filter_map(known).min() else {
                continue;
            };
            // Selectors are compared last, and no more often than there are ties to be shown.
            if may_both_serve(&registry, other) {
                ties.push(Tie {
                    field: format!("spec.images[{place}]"),
                    pattern,
                    with: other.name.clone(),
                    loses: other.compare_rank(&registry) == Ordering::Less,
                });
            }
            if ties.len() == TIES_MAX {
                break;
            }
        }
        drop(places);
        Ok(ValidatedRegistry { registry, ties })
    }
}

/// Whether there may be a Pod that both serve.
fn may_both_serve(one: &ValidRegistry, other: &ValidRegistry) -> bool {
    let accounts = &other.service_accounts;
    let share_account = one.service_accounts.is_empty()
        || accounts.is_empty()
        || one
            .service_accounts
            .iter()
            .any(|account| accounts.contains(account));
    let share_pod = match (&one.pods, &other.pods) {
        (Some(one), Some(other)) => one.overlaps(other),
        _ => true,
    };
    !one.suspend
        && !other.suspend
        && one.namespaces.overlaps(&other.namespaces)
        && share_account
        && share_pod
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registry(name: &str, spec: &str) -> Registry {
        let yaml = format!(
            "{{apiVersion: pullpass.dev/v1alpha1, kind: Registry, metadata: {{name: {name}}}, spec: {{{spec}, static: {{secretRef: {{name: login}}}}}}}}"
        );
        serde_saphyr::from_str(&yaml).unwrap()
    }

    fn ties(there: &[(&str, &str)], name: &str, spec: &str) -> Vec<(String, String, bool)> {
        let there = there.iter().map(|(name, spec)| registry(name, spec));
        let registries = Registries::build(there);
        assert!(registries.problems().is_empty());
        let ties = registries
            .validate_candidate(&registry(name, spec))
            .unwrap()
            .ties;
        let short = |tie: Tie| (tie.field, tie.with.to_string(), tie.loses);
        ties.into_iter().map(short).collect()
    }

    #[test]
    fn tells_ties_of_registries_that_may_serve_the_same_pod() {
        const EVERYONE: &str = "images: [a.com/x, b.com], namespaceSelector: {}";
        const TEAM: &str = "images: [b.com], namespaceSelector: {matchLabels: {team: a}}";
        let tie = |field: &str, with: &str, loses| vec![(field.to_owned(), with.to_owned(), loses)];
        let rows = [
            (
                "images: [c.com, b.com], namespaceSelector: {}",
                tie("spec.images[1]", "b", true),
            ),
            (TEAM, Vec::new()),
            ("images: [b.com/y], namespaceSelector: {}", Vec::new()),
            (
                "images: [b.com], namespaceSelector: {}, suspend: true",
                Vec::new(),
            ),
        ];
        for (spec, expected) in rows {
            assert_eq!(ties(&[("b", EVERYONE)], "c", spec), expected, "{spec}");
        }
        assert_eq!(ties(&[("b", EVERYONE)], "b", EVERYONE), [], "itself");
        let first = ties(&[("b", EVERYONE)], "a", EVERYONE);
        assert_eq!(first, tie("spec.images[0]", "b", false));
        let serves = |team: &str| {
            format!("images: [b.com], namespaceSelector: {{matchLabels: {{team: {team}}}}}")
        };
        assert_eq!(ties(&[("b", TEAM)], "c", &serves("b")), []);
        assert_eq!(ties(&[("b", TEAM)], "c", &serves("a")).len(), 1);
    }

    #[test]
    fn tells_ties_of_narrow_registries_by_account_and_pod() {
        let spec = |serves: &str| format!("images: [b.com], namespaceSelector: {{}}, {serves}");
        let rows = [
            (
                "serviceAccountNames: [ci]",
                "serviceAccountNames: [ci, cd]",
                1,
            ),
            ("serviceAccountNames: [ci]", "serviceAccountNames: [cd]", 0),
            (
                "podSelector: {matchLabels: {tier: a}}",
                "podSelector: {matchLabels: {tier: a}}",
                1,
            ),
            (
                "podSelector: {matchLabels: {tier: a}}",
                "podSelector: {matchLabels: {tier: b}}",
                0,
            ),
            (
                "podSelector: {matchLabels: {tier: a}}",
                "serviceAccountNames: [ci]",
                0,
            ),
        ];
        for (one, other, count) in rows {
            let found = ties(&[("b", &spec(one))], "c", &spec(other));
            assert_eq!(found.len(), count, "{one}; {other}");
        }
    }

    #[test]
    fn refuses_registry_that_breaks_a_rule() {
        let broken = registry("a", "images: ['b.com:x'], namespaceSelector: {}");
        let problems = Registries::default()
            .validate_candidate(&broken)
            .unwrap_err();
        assert_eq!(problems[0].field, "spec.images[0]");
    }
}
