//! The wire: AdmissionReview in, AdmissionReview out.
//!
//! Only the few fields that decide are read, borrowed from the body; everything else is skipped undecoded, so that a Pod of any
//! Kubernetes version passes through. Two things are strict. A key that is given twice is refused, because two readers could
//! disagree on its value. A field that decides and has an unexpected type makes the whole object [`Field::Malformed`], which nothing
//! is ever patched on.
//!
//! <https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/#webhook-request-and-response>

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use json_patch::Patch;
use serde::{Deserialize, Serialize};

use crate::names::{DnsLabel, DnsSubdomain, NamespaceName, ObjectName};

mod field;
mod pod;
mod warning;

pub use field::{Field, Given, Text};
pub use pod::{Annotations, ObjectMeta, PodLabels, PodObject, Spec};

/// The annotation that the kubelet puts on the mirror of a static Pod.
///
/// <https://kubernetes.io/docs/reference/labels-annotations-taints/#kubernetes-io-config-mirror>
pub const MIRROR_ANNOTATION: &str = "kubernetes.io/config.mirror";

/// The longest `uid` that is echoed, in bytes. The API server sends 36.
const MAX_UID: usize = 1024;

/// The longest string with escapes, in bytes as it is written. A reader unescapes it into memory of its own, as long as the string;
/// the API server's store takes no whole object that is longer.
///
/// <https://etcd.io/docs/v3.5/dev-guide/limit/#request-size-limit>
const ESCAPED_MAX: usize = 1536 * 1024;

/// Why a body is not a review that can be answered. The answer is 400 with this text.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ReviewError {
    /// The body has no bytes at all.
    #[error("the body is empty: send an AdmissionReview")]
    Empty,
    /// The body is not one JSON value, or gives a key twice.
    #[error("the body is not a readable AdmissionReview: {0}")]
    Syntax(String),
    /// A string is longer than anything that could be stored, and would be copied to be read.
    #[error(
        "the body has a string with escapes that is longer than {ESCAPED_MAX} bytes: shorten it"
    )]
    LongString,
    /// Another version than `admission.k8s.io/v1` and `v1beta1`, or another kind.
    #[error(
        "the body is not an AdmissionReview of admission.k8s.io/v1 or v1beta1: check apiVersion and kind"
    )]
    Unsupported,
    /// No `request` object: a response, or nothing.
    #[error("the review has no request object")]
    NoRequest,
    /// No `request.uid`, an empty, or a very long one: the answer could not be matched.
    #[error("the review's request.uid must be a string of 1 to {MAX_UID} bytes")]
    Uid,
}

/// The version of the admission API that a review was sent in, and is answered in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum ReviewVersion {
    /// `admission.k8s.io/v1`.
    #[serde(rename = "admission.k8s.io/v1")]
    V1,
    /// `admission.k8s.io/v1beta1`.
    #[serde(rename = "admission.k8s.io/v1beta1")]
    V1Beta1,
}

/// A review that can be answered.
#[derive(Debug)]
pub struct Review<'a> {
    /// The version to answer in.
    pub version: ReviewVersion,
    /// The request's id, to be echoed; 1 to 1024 bytes.
    pub uid: Cow<'a, str>,
    /// What is asked.
    pub request: Request<'a>,
}

/// The fields of `request` that decide. <https://pkg.go.dev/k8s.io/api/admission/v1#AdmissionRequest>
#[derive(Debug, Default, Deserialize)]
pub struct Request<'a> {
    #[serde(borrow, default)]
    uid: Field<Text<'a>>,
    #[serde(borrow, default)]
    kind: Field<GroupVersionKind<'a>>,
    #[serde(borrow, default)]
    resource: Field<GroupVersionResource<'a>>,
    #[serde(borrow, default, rename = "subResource")]
    sub_resource: Field<Text<'a>>,
    #[serde(default)]
    namespace: Field<Given<DnsLabel>>,
    #[serde(default)]
    name: Field<Given<DnsSubdomain>>,
    #[serde(borrow, default)]
    operation: Field<Text<'a>>,
    #[serde(borrow, default)]
    object: Field<PodObject<'a>>,
    #[serde(default, rename = "dryRun")]
    dry_run: Field<bool>,
}

#[derive(Debug, Deserialize)]
#[allow(clippy::struct_field_names, reason = "the API's name")]
struct GroupVersionKind<'a> {
    #[serde(borrow, default)]
    group: Field<Text<'a>>,
    #[serde(borrow, default)]
    version: Field<Text<'a>>,
    #[serde(borrow, default)]
    kind: Field<Text<'a>>,
}

#[derive(Debug, Deserialize)]
struct GroupVersionResource<'a> {
    #[serde(borrow, default)]
    group: Field<Text<'a>>,
    #[serde(borrow, default)]
    resource: Field<Text<'a>>,
}

#[derive(Deserialize)]
struct ReviewEnvelope<'a> {
    #[serde(borrow, default, rename = "apiVersion")]
    api_version: Field<Text<'a>>,
    #[serde(borrow, default)]
    kind: Field<Text<'a>>,
    #[serde(borrow, default)]
    request: Field<Request<'a>>,
}

field::object!(
    GroupVersionKind<'a>,
    GroupVersionResource<'a>,
    Request<'a>,
    ReviewEnvelope<'a>
);

impl<'a> Review<'a> {
    /// Reads a request body.
    ///
    /// # Errors
    /// A [`ReviewError`] when the body cannot be answered as a review; everything that can, however odd its object, is not one.
    pub fn parse(body: &'a [u8]) -> Result<Self, ReviewError> {
        if body.is_empty() {
            return Err(ReviewError::Empty);
        }
        if body.len() > ESCAPED_MAX && has_long_escaped_string(body) {
            return Err(ReviewError::LongString);
        }
        let envelope: Field<ReviewEnvelope<'a>> =
            serde_json::from_slice(body).map_err(|error| ReviewError::Syntax(error.to_string()))?;
        let Field::Value(envelope) = envelope else {
            return Err(ReviewError::Unsupported);
        };
        let version = match envelope.api_version.as_text() {
            Some("admission.k8s.io/v1") => ReviewVersion::V1,
            Some("admission.k8s.io/v1beta1") => ReviewVersion::V1Beta1,
            _ => return Err(ReviewError::Unsupported),
        };
        if envelope.kind.as_text() != Some("AdmissionReview") {
            return Err(ReviewError::Unsupported);
        }
        let Field::Value(mut request) = envelope.request else {
            return Err(ReviewError::NoRequest);
        };
        match std::mem::take(&mut request.uid) {
            Field::Value(Text(uid)) if (1..=MAX_UID).contains(&uid.len()) => Ok(Self {
                version,
                uid,
                request,
            }),
            _ => Err(ReviewError::Uid),
        }
    }

    /// The request's id for logs and warnings, where it has the form of a UUID, as every id of the API server has. Whoever else reaches
    /// the port may send any text, which is echoed to him alone.
    /// <https://kubernetes.io/docs/concepts/overview/working-with-objects/names/#uids>
    pub fn well_formed_uid(&self) -> Option<&str> {
        let uid: &str = &self.uid;
        let has_form = |(place, byte): (usize, u8)| match place {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        };
        let is_uuid = uid.len() == 36 && uid.bytes().enumerate().all(has_form);
        is_uuid.then_some(uid)
    }

    /// Writes the answer: refused, with the reason and the warnings.
    pub fn refuse(&self, refusal: &Denial, warnings: &[String]) -> Vec<u8> {
        self.write(Response {
            status: Some(refusal),
            allowed: false,
            ..Response::new(&self.uid, &warning::wrap(warnings, self.well_formed_uid()))
        })
    }

    /// Writes the answer: allowed, with the patch and the warnings, if any.
    ///
    /// Long warnings are broken into several; the last one says by which id the log has the same review.
    pub fn answer(&self, patch: Option<&Patch>, warnings: &[String]) -> Vec<u8> {
        let patch = patch.map(|patch| STANDARD.encode(write_patch(patch)));
        self.write(Response {
            patch_type: patch.as_ref().map(|_| "JSONPatch"),
            patch: patch.as_deref(),
            ..Response::new(&self.uid, &warning::wrap(warnings, self.well_formed_uid()))
        })
    }

    fn write(&self, response: Response<'_>) -> Vec<u8> {
        let length = 192 + self.uid.len() + response.patch.map_or(0, str::len);
        let answer = ReviewResponse {
            api_version: self.version,
            kind: "AdmissionReview",
            response,
        };
        let mut body = Vec::with_capacity(length);
        let written = serde_json::to_writer(&mut body, &answer);
        debug_assert!(
            written.is_ok(),
            "strings and booleans always serialise into memory"
        );
        body
    }
}

/// Whether a string of a JSON text is longer than [`ESCAPED_MAX`] and holds an escape.
fn has_long_escaped_string(body: &[u8]) -> bool {
    let (mut begun, mut is_escaped) = (None, false);
    let mut bytes = body.iter().enumerate();
    while let Some((place, byte)) = bytes.next() {
        match (byte, begun) {
            (b'"', None) => (begun, is_escaped) = (Some(place), false),
            (b'"', Some(_)) => begun = None,
            (b'\\', Some(_)) => {
                is_escaped = true;
                bytes.next(); // what is escaped ends no string
            }
            _ => {}
        }
        if is_escaped && begun.is_some_and(|begun| place - begun > ESCAPED_MAX) {
            return true;
        }
    }
    false
}

impl<'a> Request<'a> {
    /// Whether a Pod itself (not one of its subresources) is being created.
    pub fn creates_pod(&self) -> bool {
        let Field::Value(kind) = &self.kind else {
            return false;
        };
        let Field::Value(resource) = &self.resource else {
            return false;
        };
        self.operation.as_text() == Some("CREATE")
            && self.sub_resource.is_blank()
            && kind.kind.as_text() == Some("Pod")
            && kind.version.as_text() == Some("v1")
            && kind.group.is_blank()
            && resource.resource.as_text() == Some("pods")
            && resource.group.is_blank()
    }

    /// The namespace that the Pod is created in; `None` when it is missing or empty, or no name at all (see [`Request::is_malformed`]). The
    /// object's own is never read.
    pub fn namespace(&self) -> Option<&NamespaceName> {
        self.namespace.name()
    }

    /// The object's name; empty where it has none yet.
    pub fn name(&self) -> &str {
        self.name.name().map_or("", ObjectName::as_str)
    }

    /// Whether a name is none, or another field that decides has an unexpected type.
    pub fn is_malformed(&self) -> bool {
        self.namespace.is_malformed() || self.name.is_malformed() || self.dry_run.is_malformed()
    }

    /// Whether nothing may be written; `None` when the field is odd.
    pub fn dry_run(&self) -> Option<bool> {
        match self.dry_run {
            Field::Absent | Field::Null => Some(false),
            Field::Value(dry_run) => Some(dry_run),
            Field::Malformed => None,
        }
    }

    /// The object as far as it is read.
    pub fn object(&self) -> &Field<PodObject<'a>> {
        &self.object
    }
}

/// Why a request is denied, as returned to the API server.
///
/// <https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/#response>
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Denial {
    code: u16,
    reason: &'static str,
    /// What is wrong and what to do.
    pub message: String,
}

impl Denial {
    fn new(code: u16, reason: &'static str, message: String) -> Self {
        Self {
            code,
            reason,
            message,
        }
    }

    /// The object breaks a rule: 422, as the API server answers itself.
    pub fn invalid(message: String) -> Self {
        Self::new(422, "Invalid", message)
    }

    /// What is asked of the object is not met: 403.
    pub fn forbidden(message: String) -> Self {
        Self::new(403, "Forbidden", message)
    }

    /// It cannot be decided now: 503.
    pub fn unavailable(message: String) -> Self {
        Self::new(503, "ServiceUnavailable", message)
    }
}

/// The patch as the JSON that the API server reads.
fn write_patch(patch: &Patch) -> Vec<u8> {
    let mut text = Vec::with_capacity(128);
    let written = serde_json::to_writer(&mut text, patch);
    debug_assert!(written.is_ok(), "JSON always serialises into memory");
    text
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ReviewResponse<'a> {
    api_version: ReviewVersion,
    kind: &'a str,
    response: Response<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Response<'a> {
    uid: &'a str,
    allowed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<&'a Denial>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch_type: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch: Option<&'a str>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    warnings: &'a [String],
}

impl<'a> Response<'a> {
    fn new(uid: &'a str, warnings: &'a [String]) -> Self {
        Self {
            uid,
            allowed: true,
            status: None,
            patch_type: None,
            patch: None,
            warnings,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn review(request: &str) -> String {
        format!(
            r#"{{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{request}}}"#
        )
    }

    #[test]
    fn refuses_bodies_that_are_no_review() {
        let parse = |body: &str| Review::parse(body.as_bytes()).map(|_| ()).unwrap_err();
        assert_eq!(parse(""), ReviewError::Empty);
        assert!(matches!(parse("{"), ReviewError::Syntax(_)));
        assert!(matches!(parse("\u{feff}{}"), ReviewError::Syntax(_)));
        assert!(matches!(
            parse(&(review(r#"{"uid":"1"}"#) + "x")),
            ReviewError::Syntax(_)
        ));
        assert_eq!(parse("[]"), ReviewError::Unsupported);
        assert_eq!(
            parse(r#"{"kind":"ConversionReview","apiVersion":"apiextensions.k8s.io/v1"}"#),
            ReviewError::Unsupported
        );
        assert_eq!(parse(&review("null")), ReviewError::NoRequest);
        assert_eq!(parse(&review(r#"{"uid":""}"#)), ReviewError::Uid);
        assert_eq!(parse(&review(r#"{"uid":7}"#)), ReviewError::Uid);
    }

    #[test]
    fn copies_no_long_text() {
        let object = |object: &str| review(&format!(r#"{{"uid":"1","object":{object}}}"#));
        let note = |prefix: &str, length: usize| {
            let text = format!("{prefix}{}", "a".repeat(length));
            object(&format!(
                r#"{{"metadata":{{"annotations":{{"note":"{text}"}}}}}}"#
            ))
        };
        for (prefix, length, is_read) in [
            ("\\n", ESCAPED_MAX - 2, true),
            ("\\n", ESCAPED_MAX, false),
            ("\\\"", ESCAPED_MAX, false),
            ("", 2 * ESCAPED_MAX, true),
        ] {
            let body = note(prefix, length);
            let read = Review::parse(body.as_bytes());
            assert_eq!(read.is_ok(), is_read, "{prefix} {length}: {:?}", read.err());
        }
        let escaped: Vec<String> = (0..2000).map(|n| format!("\\u0061{n:050}")).collect();
        let entries = |entry: &dyn Fn(&String) -> String| {
            escaped.iter().map(entry).collect::<Vec<_>>().join(",")
        };
        let map = entries(&|text| format!(r#""{text}":"""#));
        let images = entries(&|text| format!(r#"{{"image":"{text}"}}"#));
        let names = entries(&|text| format!(r#"{{"name":"{text}"}}"#));
        for (metadata, spec) in [
            (format!(r#""labels":{{{map}}}"#), String::new()),
            (format!(r#""annotations":{{{map}}}"#), String::new()),
            (String::new(), format!(r#""containers":[{images}]"#)),
            (String::new(), format!(r#""imagePullSecrets":[{names}]"#)),
        ] {
            let pod = |metadata: &str, spec: &str| {
                object(&format!(
                    r#"{{"metadata":{{{metadata}}},"spec":{{{spec}}}}}"#
                ))
            };
            let body = pod(&metadata, &spec);
            let read = Review::parse(body.as_bytes()).unwrap();
            assert!(read.request.object().value().unwrap().is_malformed());
            let body = pod(
                &metadata.replace("\\u0061", "a"),
                &spec.replace("\\u0061", "a"),
            );
            let read = Review::parse(body.as_bytes()).unwrap();
            assert!(!read.request.object().value().unwrap().is_malformed());
        }
    }

    #[test]
    fn refuses_keys_given_twice() {
        for request in [
            r#"{"uid":"1","uid":"2"}"#,
            r#"{"uid":"1","operation":"CREATE","operation":"UPDATE"}"#,
            r#"{"uid":"1","object":{"spec":{},"spec":{}}}"#,
            r#"{"uid":"1","object":{"spec":{"containers":[{"image":"a","image":"b"}]}}}"#,
            r#"{"uid":"1","object":{"metadata":{"labels":{"pullpass.dev/inject":"disabled","pullpass.dev/inject":""}}}}"#,
        ] {
            let body = review(request);
            let error = Review::parse(body.as_bytes()).map(|_| ()).unwrap_err();
            assert!(
                matches!(&error, ReviewError::Syntax(text) if text.contains("duplicate field")),
                "{request}: {error}"
            );
        }
    }

    #[test]
    fn collects_images_of_all_places() {
        let body = review(
            r#"{"uid":"1","object":{"metadata":{"generateName":"web-"},"spec":{"containers":[{"image":"a"},{"image":""},null,{}],
            "initContainers":[{"image":"b\u002fc"}],"ephemeralContainers":[{"image":"d"}],"volumes":[{"emptyDir":{}},{"image":{"reference":"e"}}]}}}"#,
        );
        let review = Review::parse(body.as_bytes()).unwrap();
        let pod = review.request.object().value().unwrap();
        assert!(!pod.is_malformed());
        assert_eq!(pod.display_name(), "web-");
        assert_eq!(
            pod.spec.value().unwrap().images().collect::<Vec<_>>(),
            ["a", "b/c", "d", "e"]
        );
    }

    #[test]
    fn shows_uid_of_a_uuid_alone() {
        let uuid = "705ab4f5-6393-11e8-b7cc-42010a800002";
        for (uid, shown) in [
            (uuid, true),
            ("705AB4F5-6393-11E8-B7CC-42010A800002", true),
            ("1", false),
            ("705ab4f5-6393-11e8-b7cc-42010a80000", false),
            ("705ab4f5-6393-11e8-b7cc-42010a8000022", false),
            ("705ab4f5 6393-11e8-b7cc-42010a800002", false),
            ("705ab4f5-6393-11e8-b7cc-42010a80000g", false),
            ("705ab4f5-6393-11e8-b7cc-42010a8000é", false),
        ] {
            let body = review(&format!(r#"{{"uid":"{uid}"}}"#));
            let review = Review::parse(body.as_bytes()).unwrap();
            assert_eq!(review.well_formed_uid(), shown.then_some(uid));
            let answer = review.answer(None, &["pullpass: short".to_owned()]);
            let answer: serde_json::Value = serde_json::from_slice(&answer).unwrap();
            let warnings = answer["response"]["warnings"].as_array().unwrap();
            let said = warnings
                .iter()
                .any(|line| line.as_str().unwrap().contains(uid));
            assert_eq!(said, shown, "{warnings:?}");
            let silent = String::from_utf8(review.answer(None, &[])).unwrap();
            assert!(!silent.contains("warnings"), "{silent}");
        }
    }

    #[test]
    fn answers_in_the_version_asked_with_the_uid_escaped() {
        let body = r#"{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1beta1","request":{"uid":"a\"b"}}"#;
        let review = Review::parse(body.as_bytes()).unwrap();
        let answer: serde_json::Value = serde_json::from_slice(&review.answer(
            Some(&Patch::default()),
            &["x ".repeat(60).trim().into(), "a\nb".into()],
        ))
        .unwrap();
        assert_eq!(answer["apiVersion"], "admission.k8s.io/v1beta1");
        assert_eq!(answer["response"]["uid"], "a\"b");
        assert_eq!(answer["response"]["patch"], "W10=");
        assert_eq!(answer["response"]["patchType"], "JSONPatch");
        assert_eq!(answer["response"]["warnings"][1], "a b");
        let plain: serde_json::Value = serde_json::from_slice(&review.answer(None, &[])).unwrap();
        assert_eq!(
            plain["response"],
            serde_json::json!({"uid": "a\"b", "allowed": true})
        );
    }
}
