//! Kubernetes' label selectors.
//!
//! <https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#label-selectors>

#![expect(
    unreachable_pub,
    reason = "the derive of KubeSchema repeats each struct inside a function"
)]

use std::collections::BTreeMap;
use std::fmt;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::labels;
use super::pod_subject::FindLabel;

/// How many labels, and how many conditions, a selector may have.
const PARTS_MAX: usize = 32;
/// How many values a condition may compare with.
const VALUES_MAX: usize = 64;

/// A label selector as it is written: every part must hold; without parts it selects everything.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LabelSelector {
    /// Labels with the values that they must have. Form: up to 32. Default: none, all match.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub match_labels: BTreeMap<String, String>,
    /// Conditions on labels; all must hold. Form: up to 32. Default: none, all match.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub match_expressions: Vec<Requirement>,
}

/// A condition on one label.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = Rule::new("(self.operator in ['In', 'NotIn']) == (has(self.values) && self.values.size() > 0)")
    .message("In and NotIn need values, Exists and DoesNotExist take none"))]
pub struct Requirement {
    /// The label. Form: `name` or `prefix/name`.
    #[schemars(length(min = 1, max = 317))]
    pub key: String,
    /// What must be true of it.
    pub operator: Operator,
    /// The values that `In` and `NotIn` compare with. Form: up to 64. Default: none, as `Exists` and `DoesNotExist` need.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 63)))]
    pub values: Vec<String>,
}

/// What a condition says of its label.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Operator {
    /// The label is there with one of the values.
    In,
    /// The label is not there, or has none of the values.
    NotIn,
    /// The label is there.
    Exists,
    /// The label is not there.
    DoesNotExist,
}

impl LabelSelector {
    /// Whether it selects everything.
    pub fn is_empty(&self) -> bool {
        self.match_labels.is_empty() && self.match_expressions.is_empty()
    }

    /// Whether it selects an object with these labels.
    pub fn matches(&self, labels: &(impl FindLabel + ?Sized)) -> bool {
        self.match_labels
            .iter()
            .all(|(key, value)| labels.find_label(key) == Some(value))
            && self
                .match_expressions
                .iter()
                .all(|requirement| requirement.matches(labels))
    }

    /// Whether some set of labels is selected by both. Each key is decided by itself.
    pub fn overlaps(&self, other: &Self) -> bool {
        let mut keys: BTreeMap<&str, Allowed<'_>> = BTreeMap::new();
        for selector in [self, other] {
            for (key, value) in &selector.match_labels {
                keys.entry(key)
                    .or_default()
                    .only(|one| one == value, || vec![value]);
            }
            for requirement in &selector.match_expressions {
                let allowed = keys.entry(&requirement.key).or_default();
                let listed = |one: &str| requirement.values.iter().any(|value| value == one);
                match requirement.operator {
                    Operator::In => allowed.only(listed, || {
                        requirement.values.iter().map(String::as_str).collect()
                    }),
                    Operator::NotIn => allowed.never.extend(&requirement.values),
                    Operator::Exists => allowed.present = true,
                    Operator::DoesNotExist => allowed.absent = true,
                }
            }
        }
        keys.values().all(Allowed::is_possible)
    }

    /// What is wrong with it: the place within the selector and a message, for each thing.
    pub fn problems(&self) -> Vec<(String, String)> {
        let mut problems = Vec::new();
        for (field, parts) in [
            ("matchLabels", self.match_labels.len()),
            ("matchExpressions", self.match_expressions.len()),
        ] {
            if parts > PARTS_MAX {
                let message = format!("has more than {PARTS_MAX} entries: remove some");
                problems.push((field.to_owned(), message));
            }
        }
        for (key, value) in self.match_labels.iter().take(PARTS_MAX) {
            let problem =
                labels::label_key_problem(key).or_else(|| labels::label_value_problem(value));
            problems.extend(problem.map(|problem| (format!("matchLabels[{key}]"), problem)));
        }
        let requirements = self.match_expressions.iter().take(PARTS_MAX);
        for (index, requirement) in requirements.enumerate() {
            let problem = requirement.problem();
            problems.extend(problem.map(|problem| (format!("matchExpressions[{index}]"), problem)));
        }
        problems
    }
}

/// What may be said of one label.
#[derive(Debug, Default)]
struct Allowed<'a> {
    /// The values that it may have, where they are listed: then it must be there.
    values: Option<Vec<&'a str>>,
    /// The values that it must not have.
    never: Vec<&'a String>,
    /// Whether it must be there.
    present: bool,
    /// Whether it must not be there.
    absent: bool,
}

impl<'a> Allowed<'a> {
    fn only(&mut self, is_listed: impl Fn(&str) -> bool, list: impl FnOnce() -> Vec<&'a str>) {
        match &mut self.values {
            Some(values) => values.retain(|value| is_listed(value)),
            None => self.values = Some(list()),
        }
    }

    fn is_possible(&self) -> bool {
        let is_free = |value: &&str| !self.never.iter().any(|never| *never == value);
        match &self.values {
            Some(values) => !self.absent && values.iter().any(is_free),
            None => !(self.present && self.absent),
        }
    }
}

impl Requirement {
    fn matches(&self, labels: &(impl FindLabel + ?Sized)) -> bool {
        let value = labels.find_label(&self.key);
        let is_listed = || value.is_some_and(|value| self.values.iter().any(|one| one == value));
        match self.operator {
            Operator::In => is_listed(),
            Operator::NotIn => !is_listed(),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
        }
    }

    fn problem(&self) -> Option<String> {
        if let Some(problem) = labels::label_key_problem(&self.key) {
            return Some(problem);
        }
        let takes_values = matches!(self.operator, Operator::In | Operator::NotIn);
        match (takes_values, self.values.is_empty()) {
            (true, true) => Some(format!(
                "{:?} needs values: list at least one",
                self.operator
            )),
            (false, false) => Some(format!("{:?} takes no values: remove them", self.operator)),
            _ if self.values.len() > VALUES_MAX => {
                Some(format!("has more than {VALUES_MAX} values: remove some"))
            }
            _ => self
                .values
                .iter()
                .find_map(|value| labels::label_value_problem(value)),
        }
    }
}

/// As `kubectl get -l` takes it: `team=payments,tier in (release,canary)`.
impl fmt::Display for LabelSelector {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let labels = self
            .match_labels
            .iter()
            .map(|(key, value)| format!("{key}={value}"));
        let expressions = self.match_expressions.iter().map(|requirement| {
            let (key, values) = (&requirement.key, requirement.values.join(","));
            match requirement.operator {
                Operator::In => format!("{key} in ({values})"),
                Operator::NotIn => format!("{key} notin ({values})"),
                Operator::Exists => key.clone(),
                Operator::DoesNotExist => format!("!{key}"),
            }
        });
        formatter.write_str(&labels.chain(expressions).collect::<Vec<_>>().join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selector(yaml: &str) -> LabelSelector {
        serde_saphyr::from_str(yaml).unwrap()
    }

    #[test]
    fn selects_by_every_operator() {
        let labels = BTreeMap::from([("team".to_owned(), "payments".to_owned())]);
        let rows = [
            ("{}", true),
            ("{matchLabels: {team: payments}}", true),
            ("{matchLabels: {team: search}}", false),
            ("{matchLabels: {tier: release}}", false),
            (
                "{matchExpressions: [{key: team, operator: In, values: [search, payments]}]}",
                true,
            ),
            (
                "{matchExpressions: [{key: tier, operator: In, values: [release]}]}",
                false,
            ),
            (
                "{matchExpressions: [{key: team, operator: NotIn, values: [search]}]}",
                true,
            ),
            (
                "{matchExpressions: [{key: team, operator: NotIn, values: [payments]}]}",
                false,
            ),
            (
                "{matchExpressions: [{key: tier, operator: NotIn, values: [release]}]}",
                true,
            ),
            ("{matchExpressions: [{key: team, operator: Exists}]}", true),
            ("{matchExpressions: [{key: tier, operator: Exists}]}", false),
            (
                "{matchExpressions: [{key: tier, operator: DoesNotExist}]}",
                true,
            ),
            (
                "{matchExpressions: [{key: team, operator: DoesNotExist}]}",
                false,
            ),
            (
                "{matchLabels: {team: payments}, matchExpressions: [{key: team, operator: DoesNotExist}]}",
                false,
            ),
        ];
        for (yaml, selected) in rows {
            assert_eq!(selector(yaml).matches(&labels), selected, "{yaml}");
        }
    }

    #[test]
    fn overlaps_where_some_labels_suit_both() {
        let rows = [
            ("{}", "{matchLabels: {a: x}}", true),
            ("{matchLabels: {a: x}}", "{matchLabels: {b: y}}", true),
            ("{matchLabels: {a: x}}", "{matchLabels: {a: y}}", false),
            (
                "{matchLabels: {a: x}}",
                "{matchExpressions: [{key: a, operator: In, values: [x, y]}]}",
                true,
            ),
            (
                "{matchLabels: {a: x}}",
                "{matchExpressions: [{key: a, operator: In, values: [y]}]}",
                false,
            ),
            (
                "{matchLabels: {a: x}}",
                "{matchExpressions: [{key: a, operator: NotIn, values: [x]}]}",
                false,
            ),
            (
                "{matchLabels: {a: x}}",
                "{matchExpressions: [{key: a, operator: NotIn, values: [y]}]}",
                true,
            ),
            (
                "{matchLabels: {a: x}}",
                "{matchExpressions: [{key: a, operator: Exists}]}",
                true,
            ),
            (
                "{matchLabels: {a: x}}",
                "{matchExpressions: [{key: a, operator: DoesNotExist}]}",
                false,
            ),
            (
                "{matchExpressions: [{key: a, operator: Exists}]}",
                "{matchExpressions: [{key: a, operator: DoesNotExist}]}",
                false,
            ),
            (
                "{matchExpressions: [{key: a, operator: NotIn, values: [x]}]}",
                "{matchExpressions: [{key: a, operator: DoesNotExist}]}",
                true,
            ),
        ];
        for (one, other, overlap) in rows {
            let (one, other) = (selector(one), selector(other));
            assert_eq!(one.overlaps(&other), overlap, "{one}; {other}");
            assert_eq!(other.overlaps(&one), overlap, "{other}; {one}");
        }
    }

    #[test]
    fn names_problem_with_its_place() {
        let rows = [
            ("{matchLabels: {'a b': c}}", "matchLabels[a b]"),
            ("{matchLabels: {a: 'c d'}}", "matchLabels[a]"),
            (
                "{matchExpressions: [{key: a, operator: In}]}",
                "matchExpressions[0]",
            ),
            (
                "{matchExpressions: [{key: a, operator: Exists}, {key: a, operator: Exists, values: [b]}]}",
                "matchExpressions[1]",
            ),
            (
                "{matchExpressions: [{key: a, operator: NotIn, values: ['-']}]}",
                "matchExpressions[0]",
            ),
        ];
        for (yaml, place) in rows {
            let problems = selector(yaml).problems();
            assert_eq!(problems.len(), 1, "{yaml}");
            assert_eq!(problems[0].0, place);
        }
        assert_eq!(selector("{matchLabels: {a.example/b: ''}}").problems(), []);
    }

    #[test]
    fn prints_as_kubectl_takes_it() {
        let text = selector(
            "{matchLabels: {team: a}, matchExpressions: [{key: b, operator: In, values: [c, d]}, {key: e, operator: DoesNotExist}]}",
        );
        assert_eq!(text.to_string(), "team=a,b in (c,d),!e");
    }
}
