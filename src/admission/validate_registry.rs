//! What is said of a Registry that is about to be written. Pure.

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::review::{Denial, Field, Text};
use crate::registry::crd::NAME_MAX;
use crate::registry::{Problem, Registries, Registry, RegistrySpec, Tie, ValidRegistry};

/// The longest `spec` that is decoded, in bytes, and the most entries of all its lists and maps together. Within all other bounds it has
/// neither; what is decoded takes many times what came.
const SPEC_MAX: usize = 512 * 1024;
/// See [`SPEC_MAX`].
const SPEC_ENTRIES_MAX: usize = 8192;

/// How many problems are said of one Registry, and how many characters of each.
const PROBLEMS_MAX: usize = 16;
/// See [`PROBLEMS_MAX`].
const PROBLEM_MAX: usize = 512;

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

/// What is read of a Registry: managed fields, annotations and status decide nothing.
#[derive(Debug, Deserialize)]
struct RegistryObject<'a> {
    #[serde(borrow, default)]
    metadata: RegistryMetadata<'a>,
    #[serde(borrow)]
    spec: &'a RawValue,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RegistryMetadata<'a> {
    #[serde(borrow, default)]
    name: Field<Text<'a>>,
    #[serde(default)]
    creation_timestamp: Option<Time>,
    #[serde(default)]
    deletion_timestamp: Option<IgnoredAny>,
}

impl RegistryObject<'_> {
    fn is_too_large(&self) -> bool {
        let spec = self.spec.get();
        spec.len() > SPEC_MAX || count_entries(spec) > SPEC_ENTRIES_MAX
    }

    fn decode(&self) -> serde_json::Result<Registry> {
        let spec: RegistrySpec = serde_json::from_str(self.spec.get())?;
        // Enough of one that is too long to be found too long.
        let name = self.metadata.name.as_text().unwrap_or_default();
        let name: String = name.chars().take(NAME_MAX + 1).collect();
        let mut registry = Registry::new(&name, spec);
        let created = &self.metadata.creation_timestamp;
        registry.metadata.creation_timestamp.clone_from(created);
        Ok(registry)
    }

    /// Whether the other one says the same, however it is written.
    fn is_same(&self, spec: &RegistrySpec) -> bool {
        let decode = || serde_json::from_str::<RegistrySpec>(self.spec.get());
        !self.is_too_large() && decode().is_ok_and(|other| other == *spec)
    }
}

/// The commas outside strings of a JSON text: about as many as it has entries.
fn count_entries(json: &str) -> usize {
    let (mut entries, mut is_string) = (0, false);
    let mut bytes = json.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => is_string = !is_string,
            b'\\' if is_string => {
                bytes.next(); // what is escaped ends no string
            }
            b',' if !is_string => entries += 1,
            _ => {}
        }
    }
    entries
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
/// With it comes the Registry as it is used, where it is valid and not suspended.
pub fn validate(
    objects: &OldAndNew<'_>,
    registries: &Registries,
) -> (ValidationResponse, Option<ValidRegistry>) {
    let registry = match find_changed(objects) {
        Ok(Some(registry)) => registry,
        Ok(None) => return (ValidationResponse::default(), None),
        Err(response) => return (response, None),
    };
    match registries.validate_candidate(&registry) {
        Err(problems) => (ValidationResponse::refused(&problems), None),
        Ok(vetted) => {
            let warnings = vetted.ties.iter().map(describe).collect();
            let in_use = (!vetted.registry.suspend).then_some(vetted.registry);
            (ValidationResponse::warn(warnings), in_use)
        }
    }
}

/// The Registry as it is to be; `None`: nothing about it changes that counts. An error is the answer.
fn find_changed(objects: &OldAndNew<'_>) -> Result<Option<Registry>, ValidationResponse> {
    let Some(object) = objects.object else {
        return Ok(None);
    };
    let unreadable = |error| ValidationResponse::unreadable(&error);
    let object: RegistryObject<'_> = serde_json::from_str(object.get()).map_err(unreadable)?;
    let old = objects.old_object.map(RawValue::get);
    let old = old.and_then(|old| serde_json::from_str::<RegistryObject<'_>>(old).ok());
    let is_unchanged = |old: &RegistryObject<'_>| old.spec.get() == object.spec.get();
    // One that breaks a rule since an upgrade can still be labelled, and go.
    if object.metadata.deletion_timestamp.is_some() || old.as_ref().is_some_and(is_unchanged) {
        return Ok(None);
    }
    if object.is_too_large() {
        return Err(ValidationResponse::too_large());
    }
    // The API server checked it against the schema: where it cannot be decoded, the kind in the cluster is another one than this program's.
    let registry = object.decode().map_err(unreadable)?;
    let is_same = old.is_some_and(|old| old.is_same(&registry.spec));
    Ok((!is_same).then_some(registry))
}

impl ValidationResponse {
    /// The object is admitted, with these warnings.
    pub(super) fn warn(warnings: Vec<String>) -> Self {
        let refusal = None;
        Self { refusal, warnings }
    }

    /// The object is refused.
    pub(super) fn refuse(denial: Denial) -> Self {
        Self {
            refusal: Some(denial),
            warnings: Vec::new(),
        }
    }

    fn unreadable(error: &serde_json::Error) -> Self {
        Self::warn(vec![format!(
            "pullpass: cannot decode this Registry, it serves nothing ({error}): upgrade pullpass and its CRD together"
        )])
    }

    fn too_large() -> Self {
        Self::refused(&[Problem {
            registry: String::new(),
            field: "spec".to_owned(),
            message: format!(
                "has more than {SPEC_MAX} bytes or {SPEC_ENTRIES_MAX} entries: split it over several Registries"
            ),
        }])
    }

    fn refused(problems: &[Problem]) -> Self {
        let line = |problem: &Problem| {
            let line = format!("{} {}", problem.field, problem.message);
            line.chars().take(PROBLEM_MAX).collect()
        };
        let mut lines: Vec<String> = problems.iter().take(PROBLEMS_MAX).map(line).collect();
        let more = problems.len().saturating_sub(PROBLEMS_MAX);
        if more > 0 {
            lines.push(format!("and {more} more"));
        }
        Self::refuse(Denial::invalid(lines.join("; ")))
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
        let (response, _) = validate_body(&body);
        response
    }

    fn validate_body(body: &str) -> (ValidationResponse, Option<ValidRegistry>) {
        validate(&OldAndNew::find(body.as_bytes()), &Registries::default())
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
    fn refuses_spec_that_is_too_large_undecoded() {
        let images = |count: usize| vec![r#""""#; count].join(",");
        let spec = |images: &str| FINE.replace(r#""a.com/x""#, images);
        let large = spec(&images(SPEC_ENTRIES_MAX + 2));
        let long = spec(&format!(r#""{}""#, "a".repeat(SPEC_MAX)));
        for spec in [&large, &long] {
            let refusal = judge_objects(&object("", spec), "null").refusal.unwrap();
            assert!(
                refusal.message.starts_with("spec has more than"),
                "{refusal:?}"
            );
            let there = object("", spec);
            let labelled = object(r#","labels":{"a":"b"}"#, spec);
            assert_eq!(
                judge_objects(&labelled, &there),
                ValidationResponse::default()
            );
        }
        let odd = format!(r#""{}""#, "-".repeat(10_000));
        let odd = spec(&vec![odd; 30].join(","));
        let refusal = judge_objects(&object("", &odd), "null").refusal.unwrap();
        assert!(
            refusal.message.ends_with("and 14 more"),
            "{}",
            refusal.message.len()
        );
        assert!(refusal.message.len() < (PROBLEMS_MAX + 1) * (PROBLEM_MAX + 2));
    }

    #[test]
    fn reads_nothing_that_does_not_decide() {
        let managed = vec!["{}"; 100_000].join(",");
        let metadata = format!(r#","managedFields":[{managed}],"annotations":7"#);
        let response = judge_objects(&object(&metadata, FINE), "null");
        assert_eq!(response.refusal, None);
        let name = "a".repeat(1_000_000);
        let named = object("", BROKEN).replacen(r#""a""#, &format!("{name:?}"), 1);
        let refusal = judge_objects(&named, "null").refusal.unwrap();
        assert!(
            refusal.message.starts_with("metadata.name has more than"),
            "{refusal:?}"
        );
    }

    #[test]
    fn tells_what_is_in_use_and_warns_of_what_it_cannot_read() {
        let suspended = FINE.replacen('{', r#"{"suspend":true,"#, 1);
        for (spec, is_in_use) in [(FINE, true), (&suspended, false), (BROKEN, false)] {
            let object = object("", spec);
            let (response, in_use) =
                validate_body(&format!(r#"{{"request":{{"object":{object}}}}}"#));
            assert_eq!(response == ValidationResponse::default(), spec != BROKEN);
            assert_eq!(response.refusal.is_some(), spec == BROKEN);
            assert_eq!(in_use.is_some(), is_in_use, "{spec}");
        }
        let newer = FINE.replacen('{', r#"{"unheardOf":true,"#, 1);
        let response = judge_objects(&object("", &newer), "null");
        assert_eq!(response.refusal, None);
        assert!(response.warnings[0].contains("unheardOf"), "{response:?}");
    }
}
