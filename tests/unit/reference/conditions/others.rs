//! Words in CamelCase that are no reasons of pullpass': those of Kubernetes, of clouds, of the kind (docs/reference/registry.md has these) and
//! of metrics (docs/reference/metrics.md). Each is one in the files that are named beside it, and nowhere else.

use std::collections::BTreeSet;

use super::words::find_files;
use crate::support::sources::Source;

/// The words of each file.
const OTHERS: &[(&str, &[&str])] = &[
    (
        "admission/review.rs",
        &["AdmissionReview", "JSONPatch", "Pod"],
    ),
    ("broker/metrics.rs", &["Served"]),
    (
        "broker/protocol.rs",
        &[
            "CredentialProviderRequest",
            "CredentialProviderResponse",
            "Image",
        ],
    ),
    ("certificates/metrics.rs", &["Written"]),
    (
        "cluster/apply.rs",
        &["Deleted", "ValidatingAdmissionPolicy", "Written"],
    ),
    ("cluster/credential_store/object.rs", &["Opaque"]),
    ("cluster/events.rs", &["Normal", "Pod", "Warning"]),
    ("cluster/glance.rs", &["Warning"]),
    ("cluster/inspect.rs", &["Deployment", "Pod"]),
    ("cluster/metrics.rs", &["Deleted", "Written"]),
    ("cluster/node_lists.rs", &["Opaque"]),
    ("cluster/objects.rs", &["Opaque"]),
    (
        "cluster/pods.rs",
        &["ErrImagePull", "ImagePullBackOff", "Pending"],
    ),
    ("cluster/token_reviews.rs", &["TokenReview"]),
    ("cluster/user.rs", &["ServiceAccount"]),
    ("cluster/watch/registries.rs", &["Registry"]),
    ("cluster/watch/stream.rs", &["ResourceVersionTooLarge"]),
    ("controller/cert_rotation.rs", &["Written"]),
    ("controller/conditions.rs", &["False"]),
    ("controller/conditions/asked.rs", &["False", "True"]),
    ("controller/conditions/login.rs", &["False", "Unknown"]),
    ("controller/conditions/progress.rs", &["True"]),
    (
        "controller/conditions/verdict.rs",
        &["False", "True", "Unknown"],
    ),
    ("controller/login_checks/schedule.rs", &["False", "True"]),
    (
        "controller/missed_pods/event.rs",
        &["MutatingWebhookConfiguration"],
    ),
    (
        "controller/missed_pods/metrics.rs",
        &["Failed", "Succeeded"],
    ),
    (
        "controller/missed_pods/owner.rs",
        &[
            "DaemonSet",
            "Job",
            "ReplicaSet",
            "ReplicationController",
            "StatefulSet",
            "TaskRun",
            "Workflow",
        ],
    ),
    ("controller/reconciler/blocked.rs", &["Lease"]),
    ("controller/status.rs", &["Registry", "Secret"]),
    ("controller/status/unheeded.rs", &["Namespace"]),
    ("credential/acr/exchange.rs", &["AcrPull"]),
    ("credential/acr/transport.rs", &["Transport"]),
    ("credential/answer_words.rs", &["Code", "Message"]),
    ("credential/answers.rs", &["Exception"]),
    ("credential/cache.rs", &["Minted"]),
    ("credential/http.rs", &["Bounded"]),
    ("credential/identity.rs", &["IPv6"]),
    (
        "credential/identity/metadata.rs",
        &["AccessKeyId", "SecretAccessKey", "Success", "Token"],
    ),
    ("credential/login_check.rs", &["LoginId"]),
    (
        "registry/crd/export.rs",
        &[
            "ArgoCDRepository",
            "ArgoCDRepositoryCreds",
            "BasicAuth",
            "DockerConfig",
        ],
    ),
    ("registry/crd/status.rs", &["Ready", "Suspended", "True"]),
    (
        "registry/host.rs",
        &["China", "Germany", "Public", "USGovernment"],
    ),
    ("registry/pod_subject.rs", &["Puller"]),
    ("registry/secret_format.rs", &["Opaque"]),
    ("registry/valid/exports.rs", &["Pods"]),
];

/// Whether a word of this file is none of pullpass' reasons.
pub(super) fn has(path: &str, word: &str) -> bool {
    let mut files = OTHERS.iter().filter(|(file, _)| *file == path);
    files.any(|(_, words)| words.contains(&word))
}

/// A word that a file no longer has would be one that it may have as a reason.
#[test]
fn lists_no_word_that_its_file_does_not_have() {
    let files = find_files();
    let mut gone: BTreeSet<(&str, &str)> = BTreeSet::new();
    for (path, words) in OTHERS {
        let source = files.iter().find(|source| source.path == *path);
        let texts = source.map(Source::texts).unwrap_or_default();
        let lacking = words.iter().filter(|word| !texts.contains(**word));
        gone.extend(lacking.map(|word| (*path, *word)));
    }
    assert_eq!(gone, BTreeSet::new());
    let paths: Vec<&str> = OTHERS.iter().map(|(path, _)| *path).collect();
    assert!(paths.is_sorted(), "{paths:?}");
}
