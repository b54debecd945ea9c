//! What is said of a Registry that is about to be written. Pure.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::review::Denial;
use crate::registry::{Problem, Registries, Registry, Tie, ValidRegistry};

/// What is done about an object that is about to be written.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct ValidationResponse {
    /// Why it is refused; `None`: it is not.
    pub refusal: Option<Denial>,
    /// What the user should know.
    pub warnings: Vec<String>,
}

/// The parts of a review that [`validate`] reads besides those that every review has.
#[derive(Debug, Deserialize)]
struct ObjectsEnvelope<'a> {
    #[serde(borrow)]
    request: OldAndNew<'a>,
}

/// The Registry as it is to be and, where it is changed, as it was.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OldAndNew<'a> {
    #[serde(borrow, default)]
    object: Option<&'a RawValue>,
    #[serde(borrow, default)]
    old_object: Option<&'a RawValue>,
}

impl<'a> OldAndNew<'a> {
    /// Finds them in the body of a review; nothing where there is none.
    pub fn find(body: &'a [u8]) -> Self {
        serde_json::from_slice::<ObjectsEnvelope<'a>>(body)
            .map(|envelope| envelope.request)
            .unwrap_or_default()
    }
}

/// Evaluates a Registry together with the others. It is refused when it breaks a rule on its own. What may still come later in
/// the same apply, a Secret or another Registry, is worth a warning.
///
/// `source_problems` says what is wrong with a Registry's source Secrets.
pub fn validate(
    objects: &OldAndNew<'_>,
    registries: &Registries,
    source_problems: impl FnOnce(&ValidRegistry) -> Vec<String>,
) -> ValidationResponse {
    let Some(object) = objects.object else {
        return ValidationResponse::default();
    };
    let registry: Registry = match serde_json::from_str(object.get()) {
        Ok(registry) => registry,
        // The API server checked it against the schema: the kind in the cluster is another one than this program's.
        Err(error) => return ValidationResponse::unreadable(&error),
    };
    let old = objects
        .old_object
        .map(|old| serde_json::from_str(old.get()));
    let is_same = matches!(old, Some(Ok(Registry { spec, .. })) if spec == registry.spec);
    // One that breaks a rule since an upgrade can still be labelled, and go.
    if is_same || registry.metadata.deletion_timestamp.is_some() {
        return ValidationResponse::default();
    }
    match registries.validate_candidate(&registry) {
        Err(problems) => ValidationResponse::refused(&problems),
        Ok(vetted) => {
            let mut warnings: Vec<String> = vetted.ties.iter().map(describe).collect();
            if !vetted.registry.suspend {
                let problems = source_problems(&vetted.registry);
                warnings.extend(
                    problems
                        .iter()
                        .map(|problem| format!("pullpass: {problem}")),
                );
            }
            ValidationResponse {
                refusal: None,
                warnings,
            }
        }
    }
}

impl ValidationResponse {
    fn unreadable(error: &serde_json::Error) -> Self {
        Self {
            refusal: None,
            warnings: vec![format!(
                "pullpass: cannot decode this Registry, it serves nothing ({error}): upgrade pullpass and its CRD together"
            )],
        }
    }

    fn refused(problems: &[Problem]) -> Self {
        let lines: Vec<String> = problems
            .iter()
            .map(|problem| format!("{} {}", problem.field, problem.message))
            .collect();
        Self {
            refusal: Some(Denial::invalid(lines.join("; "))),
            warnings: Vec::new(),
        }
    }
}

fn describe(tie: &Tie) -> String {
    let Tie {
        field,
        pattern,
        with,
        loses,
    } = tie;
    let first = if *loses {
        Cow::Owned(format!("{with} comes first, as it is older"))
    } else {
        Cow::Borrowed("this one comes first")
    };
    format!(
        "pullpass: {field}: ambiguous precedence: Registry {with} has the same pattern \"{pattern}\" and is as specific: where both serve, {first}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const FINE: &str =
        r#"{"images":["a.com/x"],"namespaceSelector":{},"static":{"secretRef":{"name":"login"}}}"#;
    const BROKEN: &str = r#"{"images":["a.com/x"],"excludedImages":["a.com"],"namespaceSelector":{},"static":{"secretRef":{"name":"login"}}}"#;

    fn object(metadata: &str, spec: &str) -> String {
        format!(
            r#"{{"apiVersion":"pullpass.dev/v1alpha1","kind":"Registry","metadata":{{"name":"a"{metadata}}},"spec":{spec}}}"#
        )
    }

    fn judge_objects(object: &str, old: &str) -> ValidationResponse {
        let body = format!(r#"{{"request":{{"object":{object},"oldObject":{old}}}}}"#);
        let missing = |_: &ValidRegistry| vec!["source secret login is missing".to_owned()];
        validate(
            &OldAndNew::find(body.as_bytes()),
            &Registries::default(),
            missing,
        )
    }

    #[test]
    fn refuses_what_breaks_a_rule_with_its_field() {
        let fine = object("", FINE);
        for old in ["null", &fine] {
            let refusal = judge_objects(&object("", BROKEN), old).refusal.unwrap();
            assert!(
                refusal.message.starts_with("spec.excludedImages[0] "),
                "{}",
                refusal.message
            );
        }
    }

    #[test]
    fn admits_what_was_broken_before_or_goes() {
        let broken = object("", BROKEN);
        let labelled = object(r#","labels":{"a":"b"}"#, BROKEN);
        assert_eq!(
            judge_objects(&labelled, &broken),
            ValidationResponse::default()
        );
        let going = object(r#","deletionTimestamp":"2026-01-01T00:00:00Z""#, BROKEN);
        let fine = object("", FINE);
        assert_eq!(judge_objects(&going, &fine), ValidationResponse::default());
        assert_eq!(judge_objects("null", &fine), ValidationResponse::default());
    }

    #[test]
    fn warns_of_what_may_come_later() {
        let response = judge_objects(&object("", FINE), "null");
        assert_eq!(response.refusal, None);
        assert_eq!(
            response.warnings,
            ["pullpass: source secret login is missing"]
        );
        let suspended = FINE.replacen('{', r#"{"suspend":true,"#, 1);
        assert_eq!(
            judge_objects(&object("", &suspended), "null"),
            ValidationResponse::default()
        );
        let newer = FINE.replacen('{', r#"{"unheardOf":true,"#, 1);
        let response = judge_objects(&object("", &newer), "null");
        assert_eq!(response.refusal, None);
        assert!(response.warnings[0].contains("unheardOf"), "{response:?}");
    }
}
