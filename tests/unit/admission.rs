//! What the webhook does about a Pod, by what provisioning says.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::support;
use async_trait::async_trait;
use jiff::Timestamp;
use pullpass::admission::metrics::{AdmissionOutcome as Counted, CacheResult};
use pullpass::names::{NamespaceName, ObjectName};
use pullpass::provision::offline::Offline;
use pullpass::provision::{Coverage, EnsureOutcome, Namespace, Pending, Provision};
use pullpass::registry::Registries;
use serde_json::{Value, json};
use support::names::name;
use support::webhook::{HOST, offline, post, registries, review, team, webhook};
use tokio::time::Instant;

/// What the double answers; what it does not say is as when everything is there.
#[allow(clippy::struct_excessive_bools, reason = "each is one answer")]
struct Script {
    memory: Arc<Offline>,
    /// Whether namespaces are known without a live read.
    known: bool,
    readable: bool,
    may_reference: bool,
    /// The one secret that the ServiceAccount does not list.
    unlisted: Option<&'static str>,
    /// The one secret that is somebody else's.
    foreign: Option<&'static str>,
    coverage: Coverage,
    ensured: EnsureOutcome,
    lacks: Vec<Pending>,
    /// The live parts of it never end.
    hangs: bool,
    panics: bool,
    fetched: AtomicUsize,
    ensure_calls: Mutex<Vec<Vec<String>>>,
    dry_runs: Mutex<Vec<bool>>,
}

impl Script {
    fn new(registries: Registries) -> Self {
        Self {
            memory: offline(registries),
            known: true,
            readable: true,
            may_reference: true,
            unlisted: None,
            foreign: None,
            coverage: Coverage::Covered,
            ensured: EnsureOutcome::Covered,
            lacks: Vec::new(),
            hangs: false,
            panics: false,
            fetched: AtomicUsize::new(0),
            ensure_calls: Mutex::default(),
            dry_runs: Mutex::default(),
        }
    }

    async fn live<T>(&self, value: T) -> T {
        if self.hangs {
            std::future::pending::<()>().await;
        }
        value
    }
}

#[async_trait]
impl Provision for Script {
    fn registries(&self) -> Arc<Registries> {
        self.memory.registries()
    }

    fn namespace(&self, name: &NamespaceName) -> Option<Arc<Namespace>> {
        self.memory.namespace(name).filter(|_| self.known)
    }

    async fn fetch_namespace(&self, name: &NamespaceName) -> Option<Arc<Namespace>> {
        self.fetched.fetch_add(1, Ordering::Relaxed);
        self.live(self.memory.namespace(name).filter(|_| self.readable))
            .await
    }

    async fn may_reference(&self, _: &NamespaceName, account: &ObjectName, secret: &str) -> bool {
        assert_eq!(*account, "default");
        self.live(self.may_reference && self.unlisted != Some(secret))
            .await
    }

    fn covers(
        &self,
        _: &Arc<Namespace>,
        secret: &ObjectName,
        _: &[&str],
        _: Timestamp,
        dry_run: bool,
    ) -> Coverage {
        assert!(!self.panics, "as planned");
        self.dry_runs.lock().unwrap().push(dry_run);
        if self.foreign == Some(secret.as_str()) {
            return Coverage::Foreign;
        }
        self.coverage
    }

    fn find_lacks(
        &self,
        _: &Arc<Namespace>,
        _: &ObjectName,
        _: &[&str],
        _: Timestamp,
    ) -> Vec<Pending> {
        self.lacks.clone()
    }

    async fn ensure(
        &self,
        _: &Arc<Namespace>,
        _: &ObjectName,
        keys: &[&str],
        deadline: Instant,
    ) -> EnsureOutcome {
        assert!(deadline > Instant::now());
        self.ensure_calls
            .lock()
            .unwrap()
            .push(keys.iter().map(ToString::to_string).collect());
        self.ensured.clone()
    }
}

#[allow(
    clippy::unnecessary_wraps,
    reason = "compared with a patch that may be missing"
)]
fn reference() -> Option<Value> {
    Some(json!([{"op": "add", "path": "/spec/imagePullSecrets", "value": [{"name": "pullpass"}]}]))
}

fn in_namespace(namespace: &str) -> Value {
    let mut review = review();
    review["request"]["namespace"] = json!(namespace);
    review
}

fn with_images(images: &[String]) -> Value {
    let mut review = review();
    let containers = images
        .iter()
        .map(|image| json!({"name": "a", "image": image}));
    review["request"]["object"]["spec"]["containers"] = containers.collect();
    review
}

#[tokio::test]
async fn asks_for_nothing_when_secret_is_known_to_be_good() {
    let script = Arc::new(Script::new(team()));
    let (router, metrics) = webhook(script.clone());
    assert_eq!(
        post(&router, review().to_string()).await.patch(),
        reference()
    );
    assert_eq!(script.fetched.load(Ordering::Relaxed), 0);
    assert!(script.ensure_calls.lock().unwrap().is_empty());
    assert_eq!(metrics.counted(Counted::Injected, "", CacheResult::Hit), 1);
}

#[tokio::test]
async fn ensures_keys_of_the_pods_images_when_secret_is_missing() {
    let mut script = Script::new(team());
    script.coverage = Coverage::Missing;
    let script = Arc::new(script);
    let (router, metrics) = webhook(script.clone());
    let images = [
        format!("{HOST}/team/a"),
        format!("{HOST}/team/b:2"),
        "busybox".to_owned(),
    ];
    let answer = post(&router, with_images(&images).to_string()).await;
    assert_eq!(answer.patch(), reference());
    assert!(answer.warnings().is_empty());
    assert_eq!(
        *script.ensure_calls.lock().unwrap(),
        [[format!("{HOST}/team")]]
    );
    assert_eq!(metrics.counted(Counted::Injected, "", CacheResult::Miss), 1);
}

#[tokio::test]
async fn references_and_warns_when_secret_is_not_complete() {
    let mut script = Script::new(team());
    script.coverage = Coverage::Missing;
    let pending = Pending {
        registry: Some(name("team")),
        reason: "MissingSource",
        message: "create or label it".into(),
        is_for_admins: false,
    };
    script.ensured = EnsureOutcome::Pending(vec![pending]);
    let (router, metrics) = webhook(Arc::new(script));
    let answer = post(&router, review().to_string()).await;
    assert_eq!(answer.patch(), reference());
    assert_eq!(
        answer.warnings(),
        ["pullpass: Registry team: create or label it"]
    );
    assert_eq!(
        metrics.counted(Counted::Pending, "MissingSource", CacheResult::Miss),
        1
    );
}

/// One Registry of `delivery: Node` with something for Pods, and one beside it.
fn asked_for(pod_metadata: &Value) -> Registries {
    let login = json!({"secretRef": {"name": "login"}});
    let selector = json!({"matchExpressions": [{"key": "none", "operator": "DoesNotExist"}]});
    let registry = |name: &str, spec: Value| {
        let object = json!({
            "apiVersion": "pullpass.dev/v1alpha1", "kind": "Registry", "metadata": {"name": name}, "spec": spec,
        });
        serde_json::from_value(object).unwrap()
    };
    let mut node = json!({
        "images": [format!("{HOST}/team")], "delivery": "Node", "static": login, "namespaceSelector": selector,
    });
    if !pod_metadata.is_null() {
        node["podMetadata"] = pod_metadata.clone();
    }
    let other = json!({"images": ["other.example"], "static": login, "namespaceSelector": {}});
    let built = Registries::build([registry("node", node), registry("other", other)]);
    assert_eq!(built.problems(), []);
    built
}

#[tokio::test]
async fn references_nothing_for_a_login_that_the_kubelet_asks_for() {
    let metadata = json!({"labels": {"aadpodidbinding": "image-puller"}});
    let label =
        json!([{"op": "add", "path": "/metadata/labels/aadpodidbinding", "value": "image-puller"}]);
    let (routine, other) = ("DeliveredByNode", "other.example/x:1");
    for (namespace, metadata, patch) in [
        ("shop", Value::Null, None),
        ("shop", metadata.clone(), Some(label.clone())),
    ] {
        // Nothing is asked of what no Secret holds.
        let mut script = Script::new(asked_for(&metadata));
        script.coverage = Coverage::Foreign;
        let (router, metrics) = webhook(Arc::new(script));
        let answer = post(&router, in_namespace(namespace).to_string()).await;
        assert_eq!(answer.patch(), patch, "{metadata}");
        assert!(answer.warnings().is_empty());
        let skipped = metrics.counted(Counted::Unchanged, routine, CacheResult::Hit);
        assert_eq!(skipped, u64::from(metadata.is_null()));
    }
    let (router, _) = webhook(Arc::new(Script::new(asked_for(&metadata))));
    let mut both = review();
    both["request"]["object"]["spec"]["initContainers"] = json!([{"name": "i", "image": other}]);
    let patch = post(&router, both.to_string()).await.patch().unwrap();
    let [reference, added] = [&reference().unwrap()[0], &label[0]].map(Clone::clone);
    assert_eq!(patch, json!([reference, added]));
    // Where that Secret is somebody else's, the label is added all the same.
    let mut script = Script::new(asked_for(&metadata));
    script.coverage = Coverage::Foreign;
    let (router, _) = webhook(Arc::new(script));
    let answer = post(&router, both.to_string()).await;
    assert_eq!(answer.patch(), Some(label));
    assert!(answer.warnings()[0].contains("Secret shop/pullpass"));
}

/// What a cloud answers names principals and accounts: it is for those who may read Registries.
#[tokio::test]
async fn repeats_no_words_of_a_cloud_to_whoever_creates_a_pod() {
    let mut script = Script::new(team());
    script.coverage = Coverage::Missing;
    let pending = Pending {
        registry: Some(name("team")),
        reason: "AccessDenied",
        message: "denied to arn:aws:iam::123456789012:user/x (it said: no)".into(),
        is_for_admins: true,
    };
    script.ensured = EnsureOutcome::Pending(vec![pending]);
    let (router, _) = webhook(Arc::new(script));
    let answer = post(&router, review().to_string()).await;
    assert_eq!(answer.patch(), reference());
    let warnings = answer.warnings().join(" ").replace(" … ", " ");
    assert!(
        warnings.contains("Registry team has no login yet (AccessDenied)"),
        "{warnings}"
    );
    assert!(warnings.contains("ask who runs pullpass"), "{warnings}");
    for words in ["123456789012", "it said"] {
        assert!(!warnings.contains(words), "{warnings}");
    }
}

/// A dry run works for nothing, and says what memory knows to be missing.
#[tokio::test]
async fn warns_on_dry_run_of_what_is_known_to_be_missing() {
    let mut script = Script::new(team());
    script.coverage = Coverage::Missing;
    script.lacks = vec![Pending {
        registry: Some(name("team")),
        reason: "MissingSource",
        message: "create or label it".into(),
        is_for_admins: false,
    }];
    let script = Arc::new(script);
    let (router, _) = webhook(script.clone());
    let mut review = review();
    review["request"]["dryRun"] = json!(true);
    let answer = post(&router, review.to_string()).await;
    assert_eq!(answer.patch(), reference());
    assert_eq!(
        answer.warnings(),
        ["pullpass: Registry team: create or label it"]
    );
    assert!(script.ensure_calls.lock().unwrap().is_empty());
}

#[tokio::test]
async fn never_references_secret_that_is_not_ours() {
    for (coverage, path) in [
        (Coverage::Foreign, CacheResult::Hit),
        (Coverage::Missing, CacheResult::Miss),
    ] {
        let mut script = Script::new(team());
        script.coverage = coverage;
        script.ensured = EnsureOutcome::Foreign;
        let (router, metrics) = webhook(Arc::new(script));
        let answer = post(&router, review().to_string()).await;
        assert_eq!(answer.patch(), None);
        assert!(
            answer.warnings()[0].contains("Secret shop/pullpass"),
            "{:?}",
            answer.warnings()
        );
        assert_eq!(
            metrics.counted(Counted::Unchanged, "SecretNotManaged", path),
            1
        );
    }
}

#[tokio::test]
async fn ensures_nothing_on_dry_run() {
    let mut script = Script::new(team());
    script.coverage = Coverage::Missing;
    let script = Arc::new(script);
    let (router, metrics) = webhook(script.clone());
    let mut review = review();
    review["request"]["dryRun"] = json!(true);
    assert_eq!(post(&router, review.to_string()).await.patch(), reference());
    assert!(script.ensure_calls.lock().unwrap().is_empty());
    assert_eq!(*script.dry_runs.lock().unwrap(), [true]);
    assert_eq!(
        metrics.counted(Counted::Pending, "DryRun", CacheResult::Hit),
        1
    );
}

#[tokio::test]
async fn waits_for_nothing_when_no_image_is_managed() {
    let mut script = Script::new(team());
    script.coverage = Coverage::Missing;
    let script = Arc::new(script);
    let (router, _) = webhook(script.clone());
    let mut review = in_namespace("everything");
    review["request"]["object"]["spec"]["containers"][0]["image"] = json!("busybox");
    let answer = post(&router, review.to_string()).await;
    assert_eq!(answer.patch(), reference());
    assert!(answer.warnings().is_empty());
    assert!(script.ensure_calls.lock().unwrap().is_empty());
}

#[tokio::test]
async fn reads_namespace_live_when_memory_lacks_it() {
    let mut script = Script::new(team());
    script.known = false;
    let script = Arc::new(script);
    let (router, metrics) = webhook(script.clone());
    assert_eq!(
        post(&router, review().to_string()).await.patch(),
        reference()
    );
    assert_eq!(script.fetched.load(Ordering::Relaxed), 1);
    assert_eq!(metrics.counted(Counted::Injected, "", CacheResult::Miss), 1);
}

#[tokio::test]
async fn leaves_pod_when_namespace_cannot_be_read() {
    let mut script = Script::new(team());
    (script.known, script.readable) = (false, false);
    let (router, metrics) = webhook(Arc::new(script));
    assert_eq!(post(&router, review().to_string()).await.patch(), None);
    assert_eq!(
        metrics.counted(Counted::Unchanged, "NamespaceUnknown", CacheResult::Miss),
        1
    );
}

#[tokio::test(start_paused = true)]
async fn answers_in_time_when_the_cluster_hangs() {
    for known in [true, false] {
        let mut script = Script::new(team());
        (script.known, script.hangs) = (known, true);
        let (router, _) = webhook(Arc::new(script));
        let begun = Instant::now();
        let answer = post(&router, review().to_string()).await;
        assert_eq!(answer.patch(), reference().filter(|_| known));
        assert!(
            begun.elapsed() < Duration::from_secs(5),
            "the caller waits for 5 s"
        );
    }
}

#[tokio::test]
async fn leaves_pod_whose_service_account_enforces_mountable_secrets() {
    let mut script = Script::new(team());
    script.may_reference = false;
    let (router, metrics) = webhook(Arc::new(script));
    let answer = post(&router, review().to_string()).await;
    assert_eq!(answer.patch(), None);
    assert!(
        answer.warnings()[0].contains("imagePullSecrets"),
        "{:?}",
        answer.warnings()
    );
    assert_eq!(
        metrics.counted(Counted::Unchanged, "MountableSecrets", CacheResult::Hit),
        1
    );
}

#[tokio::test]
async fn answers_unchanged_when_the_handler_panics() {
    let mut script = Script::new(team());
    script.panics = true;
    let (router, metrics) = webhook(Arc::new(script));
    let response = post(&router, review().to_string()).await.response();
    assert_eq!(
        response,
        json!({"uid": review()["request"]["uid"], "allowed": true})
    );
    assert_eq!(metrics.counted(Counted::Panicked, "", CacheResult::Hit), 1);
    assert_eq!(
        post(&router, in_namespace("plain").to_string())
            .await
            .patch(),
        None
    );
}

#[tokio::test]
async fn answers_500_when_reading_panics() {
    let (router, metrics) = webhook(offline(team()));
    let body = futures::stream::poll_fn(|_| -> std::task::Poll<Option<std::io::Result<String>>> {
        panic!("as planned")
    });
    let answer = post(&router, axum::body::Body::from_stream(body)).await;
    assert_eq!(answer.status, 500);
    assert_eq!(metrics.counted(Counted::Panicked, "", CacheResult::Hit), 1);
    assert!(post(&router, review().to_string()).await.patch().is_some());
}

/// Two Registries of one host that inject different values under one key, and a third on another host.
fn injecting() -> Registries {
    registries(&format!(
        "apiVersion: pullpass.dev/v1alpha1\nkind: Registry\nmetadata: {{name: wide}}\nspec:\n  images: [{HOST}]\n  namespaceSelector: {{matchLabels: {{pullpass.dev/inject: enabled}}}}\n  ecr: {{identity: {{workload: {{}}}}}}\n  podMetadata: {{labels: {{aadpodidbinding: wide, wide: 'yes'}}, annotations: {{iam.amazonaws.com/role: wide}}}}\n\
         ---\napiVersion: pullpass.dev/v1alpha1\nkind: Registry\nmetadata: {{name: narrow}}\nspec:\n  images: [{HOST}/narrow]\n  namespaceSelector: {{matchLabels: {{pullpass.dev/inject: enabled}}}}\n  ecr: {{identity: {{workload: {{}}}}}}\n  podMetadata: {{labels: {{aadpodidbinding: narrow}}, annotations: {{iam.amazonaws.com/role: narrow}}}}\n"
    ))
}

#[tokio::test]
async fn injects_of_the_more_specific_registry_and_warns_of_conflicts() {
    let (router, _) = webhook(offline(injecting()));
    for images in [["a", "narrow/b"], ["narrow/b", "a"]] {
        let images = images.map(|path| format!("{HOST}/{path}"));
        let answer = post(&router, with_images(&images).to_string()).await;
        let expected = json!([
            {"op": "add", "path": "/spec/imagePullSecrets", "value": [{"name": "pullpass"}]},
            {"op": "add", "path": "/metadata/labels/aadpodidbinding", "value": "narrow"},
            {"op": "add", "path": "/metadata/labels/wide", "value": "yes"},
            {"op": "add", "path": "/metadata/annotations", "value": {"iam.amazonaws.com/role": "narrow"}},
        ]);
        assert_eq!(answer.patch(), Some(expected));
        let told = answer.told();
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(told[0].contains("the one of narrow is used"), "{told:?}");
    }
}

/// A Registry for all, one for a ServiceAccount and one for Pods, all of one host; the narrow ones inject.
fn narrow() -> Registries {
    let registry = |name: &str, serves: &str, inject: &str| {
        format!(
            "apiVersion: pullpass.dev/v1alpha1\nkind: Registry\nmetadata: {{name: {name}}}\nspec:\n  images: [{HOST}/{name}]\n  namespaceSelector: {{matchLabels: {{pullpass.dev/inject: enabled}}}}\n{serves}  ecr: {{identity: {{workload: {{}}}}}}\n{inject}---\n"
        )
    };
    let inject = |value: &str| {
        format!(
            "  podMetadata: {{labels: {{aadpodidbinding: {value}, azure.workload.identity/use: '{value}'}}, annotations: {{iam.amazonaws.com/role: {value}}}}}\n"
        )
    };
    registries(
        &[
            registry("wide", "", &inject("wide")),
            registry("ci", "  serviceAccountNames: [default]\n", &inject("ci")),
            registry(
                "release",
                "  podSelector: {matchLabels: {tier: release}}\n",
                &inject("release"),
            ),
        ]
        .concat(),
    )
}

fn with_tier(images: &[&str], tier: &str) -> Value {
    let images: Vec<String> = images.iter().map(|path| format!("{HOST}/{path}")).collect();
    let mut review = with_images(&images);
    review["request"]["object"]["metadata"]["labels"] = json!({"tier": tier});
    review
}

#[tokio::test]
async fn references_the_secrets_that_the_images_need_narrow_ones_first() {
    let (router, _) = webhook(offline(narrow()));
    let rows: [(&[&str], &str, &[&str]); 6] = [
        (&["wide"], "", &["pullpass"]),
        (&["ci"], "", &["pullpass-ci"]),
        (&["wide", "ci"], "", &["pullpass-ci", "pullpass"]),
        (
            &["wide", "ci", "release"],
            "release",
            &["pullpass-release", "pullpass-ci", "pullpass"],
        ),
        (&["release"], "canary", &[]),
        (&["release", "wide"], "canary", &["pullpass"]),
    ];
    for (images, tier, expected) in rows {
        let answer = post(&router, with_tier(images, tier).to_string()).await;
        let patch = answer.patch().unwrap_or_else(|| json!([]));
        let secrets: Vec<&str> = patch[0]["value"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|secret| secret["name"].as_str().unwrap())
            .collect();
        assert_eq!(secrets, expected, "{images:?} {tier}");
    }
}

#[tokio::test]
async fn injects_of_the_narrower_registry_where_patterns_are_as_specific() {
    let (router, _) = webhook(offline(narrow()));
    let answer = post(
        &router,
        with_tier(&["wide", "release"], "release").to_string(),
    )
    .await;
    let patch = answer.patch().unwrap();
    assert_eq!(
        patch[1],
        json!({"op": "add", "path": "/metadata/labels/aadpodidbinding", "value": "release"})
    );
    assert_eq!(answer.told().len(), 3, "{:?}", answer.told());
    let equal = registries(&format!(
        "apiVersion: pullpass.dev/v1alpha1\nkind: Registry\nmetadata: {{name: wide}}\nspec:\n  images: [{HOST}/a]\n  excludedImages: [{HOST}/a/x]\n  namespaceSelector: {{matchLabels: {{pullpass.dev/inject: enabled}}}}\n  ecr: {{identity: {{workload: {{}}}}}}\n  podMetadata: {{labels: {{aadpodidbinding: wide}}}}\n\
         ---\napiVersion: pullpass.dev/v1alpha1\nkind: Registry\nmetadata: {{name: narrow}}\nspec:\n  images: [{HOST}/a]\n  namespaceSelector: {{matchLabels: {{pullpass.dev/inject: enabled}}}}\n  serviceAccountNames: [default]\n  ecr: {{identity: {{workload: {{}}}}}}\n  podMetadata: {{labels: {{aadpodidbinding: narrow}}}}\n"
    ));
    let (router, _) = webhook(offline(equal));
    let answer = post(&router, with_tier(&["a"], "").to_string()).await;
    let patch = answer.patch().unwrap();
    assert_eq!(patch[0]["value"], json!([{"name": "pullpass-narrow"}]));
    assert_eq!(patch[1]["value"], "narrow");
}

#[tokio::test]
async fn leaves_out_the_secret_that_is_foreign_or_not_listed_and_references_the_others() {
    type Break = fn(&mut Script);
    let rows: [(Break, &str); 2] = [
        (
            |script| script.foreign = Some("pullpass-ci"),
            "shop/pullpass-ci is not managed by pullpass",
        ),
        (
            |script| script.unlisted = Some("pullpass-ci"),
            "list pullpass-ci in its imagePullSecrets",
        ),
    ];
    for (spoil, warning) in rows {
        let mut script = Script::new(narrow());
        spoil(&mut script);
        let (router, _) = webhook(Arc::new(script));
        let answer = post(&router, with_tier(&["wide", "ci"], "").to_string()).await;
        let patch = answer.patch().unwrap();
        assert_eq!(patch[0]["value"], json!([{"name": "pullpass"}]));
        let warnings = answer.told().join("\n");
        assert!(warnings.contains(warning), "{warnings}");
    }
}

#[tokio::test]
async fn never_replaces_labels_and_annotations_that_are_there() {
    let (router, _) = webhook(offline(injecting()));
    let mut review = with_images(&[format!("{HOST}/narrow/b")]);
    review["request"]["object"]["metadata"]["labels"] = json!({"aadpodidbinding": "mine"});
    review["request"]["object"]["metadata"]["annotations"] = json!({"iam.amazonaws.com/role": ""});
    assert_eq!(post(&router, review.to_string()).await.patch(), reference());
}

#[tokio::test]
async fn injects_no_annotations_beyond_what_kubernetes_takes() {
    let (router, _) = webhook(offline(injecting()));
    // The key and value to be added are 28 bytes; the ones that are there have a key of 1.
    for (value, added) in [(256 * 1024 - 29, true), (256 * 1024 - 28, false)] {
        let mut review = with_images(&[format!("{HOST}/narrow/b")]);
        review["request"]["object"]["metadata"]["annotations"] = json!({"a": "x".repeat(value)});
        let answer = post(&router, review.to_string()).await;
        let patch = answer.patch().unwrap().to_string();
        assert_eq!(patch.contains("/metadata/annotations"), added, "{value}");
        assert!(patch.contains("/spec/imagePullSecrets") && patch.contains("/metadata/labels"));
        assert_eq!(answer.warnings().is_empty(), added);
    }
}
