//! Names that callers send: none of them is ever more than a name, on a real API server behind a proxy that counts.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use crate::support;
use serde::Deserialize;
use serde_json::{Value, json};
use support::account::put_account;
use support::fixture::{ECR, FIXTURE, Fixture, references};
use support::metrics;
use support::process::{Pullpass, pod};
use support::proxy::Fault;
use support::wait;

const TABLE: &str = include_str!("../data/names.yaml");

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    text: String,
    /// Whether an object other than a namespace may have this name.
    #[serde(default)]
    object: bool,
}

fn rows(tenant: &str) -> Vec<Row> {
    let text = TABLE
        .replace("TENANT", tenant)
        .replace("A64", &"a".repeat(64))
        .replace("A254", &"a".repeat(254));
    serde_saphyr::from_str(&text).unwrap()
}

fn image() -> String {
    format!("{ECR}/team/hello:1")
}

/// A review of a Pod's creation in `namespace`.
fn review(namespace: &str) -> Value {
    json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "test", "operation": "CREATE", "namespace": namespace, "object": pod(namespace, &[&image()]),
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "resource": {"group": "", "version": "v1", "resource": "pods"},
        },
    })
}

/// The names of a review, as pointers; whether what stands there is used for anything.
const PLACES: [(&str, bool); 7] = [
    ("/request/namespace", true),
    ("/request/name", true),
    ("/request/object/metadata/name", true),
    ("/request/object/metadata/generateName", true),
    ("/request/object/spec/serviceAccountName", true),
    ("/request/object/metadata/namespace", false),
    ("/request/object/metadata/ownerReferences/0/name", false),
];

/// Puts a text into a review, where its parents are made if they are not there.
fn put(review: &mut Value, place: &str, text: &str) {
    let metadata = &mut review["request"]["object"]["metadata"];
    metadata["ownerReferences"] =
        json!([{"apiVersion": "v1", "kind": "ConfigMap", "uid": "u", "name": "x"}]);
    let (parent, field) = place.rsplit_once('/').unwrap();
    review.pointer_mut(parent).unwrap()[field] = text.into();
}

const PATHS: [&str; 3] = ["mutate", "validate-pod/warn", "validate-pod/deny"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn asks_for_nothing_by_a_text_that_is_no_name_in_any_place_of_a_review() {
    let fixture = Fixture::new("texts").await;
    fixture.serve(&[&format!("{ECR}/team")]).await;
    let (shop, tenant) = (
        fixture.namespace("shop").await,
        fixture.namespace_name("tenant"),
    );
    let pullpass = fixture.start().await;
    fixture.wait_served(&shop, &image()).await;

    for (place, decides) in PLACES {
        for row in rows(&tenant) {
            // A prefix may end as it likes, and an object's name may have dots.
            let is_prefix = place.ends_with("generateName");
            // Where a name may be left out, an empty one is none.
            let may_be_any = place != "/request/namespace";
            let is_fine = may_be_any && (row.object || row.text.is_empty())
                || is_prefix && matches!(row.text.as_str(), "a-");
            if is_fine {
                continue;
            }
            let mut review = review(&shop);
            put(&mut review, place, &row.text);
            for path in PATHS {
                fixture.api.forget();
                let answer = pullpass.post(path, &review).await;
                let response = &answer["response"];
                let asked = fixture.api.requests();
                let case = format!("{path} {place} {:?}: {answer} {asked:?}", row.text);
                assert_eq!(response["allowed"], !is_denied(path, decides), "{case}");
                if decides {
                    assert!(response["patch"].is_null(), "{case}");
                }
                assert!(asked.iter().all(|seen| is_of(&seen.path, &shop)), "{case}");
                assert!(!decides || asked.is_empty(), "{case}");
            }
        }
    }
    assert_eq!(fixture.cluster.secret(&tenant, "pullpass").await, None);
    assert_eq!(
        pullpass.count("pullpass_api_answers_mismatched", &[]).await,
        0
    );
}

/// A Pod that lacks its reference is denied; one that nothing can be said of is not.
fn is_denied(path: &str, decides: bool) -> bool {
    path == "validate-pod/deny" && !decides
}

/// Whether a request is about the namespace, or about what is in it.
fn is_of(path: &str, namespace: &str) -> bool {
    path.contains(&format!("/namespaces/{namespace}/")) || path.contains("/namespaces/pullpass/")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn believes_no_object_of_a_tenant_to_be_a_namespace() {
    let fixture = Fixture::new("believed").await;
    fixture.serve(&[&format!("{ECR}/team")]).await;
    let payments = fixture.namespace("payments").await;
    let tenant = fixture.namespace_name("tenant");
    support::process::make_namespace(&fixture.cluster, &tenant, &json!({})).await;
    // What made it believed: a ServiceAccount with all labels that a served namespace has.
    let labels = json!({"pullpass.dev/inject": "enabled", FIXTURE: fixture.name, "kubernetes.io/metadata.name": payments});
    for name in [&tenant, &payments] {
        put_account(&fixture, &tenant, name, json!({})).await;
        let path = format!("/api/v1/namespaces/{tenant}/serviceaccounts/{name}");
        let object = json!({
            "apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": {"name": name, "namespace": tenant, "labels": labels},
        });
        fixture.cluster.apply(&object).await;
        assert!(fixture.cluster.get(&path).await.is_some());
    }
    let pullpass = fixture.start().await;
    fixture.wait_served(&payments, &image()).await;
    fixture.create(&payments, &[&image()]).await;

    for account in [&tenant, &payments] {
        for suffix in ["", "?0", "?1"] {
            let text = format!("{tenant}/serviceaccounts/{account}{suffix}");
            let answer = pullpass.post("mutate", &review(&text)).await;
            assert!(answer["response"]["patch"].is_null(), "{answer}");
        }
    }
    // What was under way is over by when the next one is done.
    fixture.create(&payments, &[&image()]).await;
    assert_eq!(fixture.cluster.secret(&tenant, "pullpass").await, None);
}

/// An answer of the API server to a read of one object.
fn found(kind: &str, name: &str, namespace: Option<&str>, labels: &Value) -> Fault {
    let object = json!({
        "apiVersion": "v1", "kind": kind,
        "metadata": {"name": name, "namespace": namespace, "uid": "u", "resourceVersion": "7", "labels": labels},
    });
    Fault::Answer(200, Vec::new(), object.to_string())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn believes_no_answer_that_is_another_object() {
    let fixture = Fixture::new("answers").await;
    fixture.serve(&[&format!("{ECR}/team")]).await;
    let pullpass = fixture.start().await;
    let shop = fixture.namespace("shop").await;
    fixture.wait_served(&shop, &image()).await;
    let labels = fixture.labels();
    let rows: [(&str, Fault); 4] = [
        (
            "kind",
            found(
                "ServiceAccount",
                "absent-kind",
                Some("absent-kind"),
                &labels,
            ),
        ),
        ("name", found("Namespace", &shop, None, &labels)),
        (
            "namespace",
            found("Namespace", "absent-namespace", Some("x"), &labels),
        ),
        (
            "text",
            Fault::Answer(200, Vec::new(), "\"Namespace\"".to_owned()),
        ),
    ];
    for (number, (case, fault)) in rows.into_iter().enumerate() {
        let name = format!("absent-{case}");
        let path = format!("/api/v1/namespaces/{name}");
        fixture
            .api
            .inject(move |seen| (seen.path == path).then(|| fault.clone()));
        let answer = pullpass.post("mutate", &review(&name)).await;
        fixture.api.heal();
        let response = &answer["response"];
        assert!(response["patch"].is_null(), "{case}: {answer}");
        let warning = response["warnings"][0].as_str().unwrap();
        assert!(warning.contains("could not be read"), "{case}: {answer}");
        let counted = pullpass.count("pullpass_api_answers_mismatched", &[]).await;
        assert_eq!(counted, number as u64 + 1, "{case}");
    }
    let told = "a namespace could not be read, its Pod is admitted unchanged";
    pullpass.wait_logged(&[told]).await;
}

/// The names of a Registry, as pointers from its root, and the rest of its spec.
fn registry_places() -> Vec<(&'static str, Value)> {
    let ecr = |identity: Value| json!({"images": [ECR], "namespaceSelector": {}, "ecr": {"identity": identity}});
    let acr = |identity: Value| json!({"images": ["contoso.azurecr.io"], "namespaceSelector": {}, "acr": {"identity": identity}});
    let fixed = json!({"images": ["r.example.com"], "namespaceSelector": {}, "static": {"secretRef": {"name": "x"}}});
    let mut accounts = fixed.clone();
    accounts["serviceAccountNames"] = json!(["x"]);
    let id = "11111111-2222-4333-8444-555555555555";
    vec![
        ("/metadata/name", fixed.clone()),
        ("/spec/static/secretRef/name", fixed),
        ("/spec/serviceAccountNames/0", accounts),
        (
            "/spec/ecr/identity/keys/secretRef/name",
            ecr(json!({"keys": {"secretRef": {"name": "x"}}})),
        ),
        (
            "/spec/ecr/identity/serviceAccount/name",
            ecr(json!({"serviceAccount": {"name": "x", "fromAnnotations": true}})),
        ),
        (
            "/spec/acr/identity/servicePrincipal/secretRef/name",
            acr(
                json!({"servicePrincipal": {"tenantId": id, "clientId": id, "secretRef": {"name": "x"}}}),
            ),
        ),
        (
            "/spec/acr/identity/serviceAccount/name",
            acr(json!({"serviceAccount": {"name": "x", "fromAnnotations": true}})),
        ),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refuses_a_registry_with_a_text_that_is_no_name_and_asks_for_nothing() {
    let fixture = Fixture::new("named").await;
    let pullpass = fixture.start().await;
    for (place, spec) in registry_places() {
        let registry = |text: &str| {
            let mut registry = json!({
                "apiVersion": "pullpass.dev/v1alpha1", "kind": "Registry", "metadata": {"name": "named"}, "spec": spec,
            });
            *registry.pointer_mut(place).unwrap() = text.into();
            registry
        };
        let fine = pullpass.validate(&registry("fine")).await;
        assert_eq!(fine["response"]["allowed"], true, "{place}: {fine}");
        for row in rows("tenant") {
            // A Registry's own name is shorter, so that its Secret has one, too.
            if row.object && place != "/metadata/name" || row.text == "a.b" {
                continue;
            }
            fixture.api.forget();
            let answer = pullpass.validate(&registry(&row.text)).await;
            let case = format!("{place} {:?}: {answer}", row.text);
            assert_eq!(answer["response"]["allowed"], false, "{case}");
            assert_eq!(answer["response"]["status"]["code"], 422, "{case}");
            assert!(fixture.api.requests().is_empty(), "{case}");
        }
    }
}

/// How many callers send forged names, each the next one as soon as it is answered: more than the reads they may cause, and
/// no more load than a busy machine answers. `PULLPASS_FORGERS=1000` shows what a quiet one takes.
fn forgers() -> usize {
    let given = std::env::var("PULLPASS_FORGERS").ok();
    given.map_or(300, |number| number.parse().unwrap())
}

/// How many namespaces come meanwhile.
const ARRIVE: usize = 100;

/// How often the API server created a Pod without an answer of the webhook, which it had given up on.
/// <https://kubernetes.io/docs/reference/instrumentation/metrics/>
async fn given_up(fixture: &Fixture) -> usize {
    let answer = fixture.cluster.send("GET", "/metrics", None).await.ok();
    let counter = "apiserver_admission_webhook_fail_open_count";
    let count = metrics::sum(answer.body.as_str().unwrap(), counter, &[]);
    usize::try_from(count).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn references_or_warns_all_that_arrive_beside_forged_names() {
    let fixture = Fixture::new("flood").await;
    fixture.serve(&[&format!("{ECR}/team")]).await;
    let shop = fixture.namespace("shop").await;
    let pullpass = fixture.start().await;
    fixture.wait_served(&shop, &image()).await;
    fixture.create(&shop, &[&image()]).await;
    fixture.api.forget();

    let (begun, given_up_before) = (Instant::now(), given_up(&fixture).await);
    let flood = Flood::start(&pullpass, &shop);
    wait::until("the burst of reads to be used up", async || {
        (fixture.api.requests().len() >= 100).then_some(())
    })
    .await;
    let list = fixture.file("arrive.json");
    std::fs::write(&list, arriving(&fixture).to_string()).unwrap();
    let printed = fixture
        .world
        .kubectl(&["apply", "-f", list.to_str().unwrap()]);
    let (sent, seconds) = (flood.end().await, begun.elapsed().as_secs() + 1);

    let mut referenced = 0;
    for number in 0..ARRIVE {
        let namespace = fixture.namespace_name(&format!("new{number}"));
        let path = format!("/api/v1/namespaces/{namespace}/pods/{namespace}");
        referenced += usize::from(references(&fixture.cluster.get(&path).await.unwrap()));
    }
    let warned = printed.matches("Warning: pullpass").count();
    // What a machine that is too busy to answer at all makes of it is the API server's to say.
    let given_up = given_up(&fixture).await - given_up_before;
    println!(
        "{ARRIVE} namespaces with a Pod each beside {} forged names a second: {referenced} referenced, {warned} warned, {given_up} not answered in time",
        sent / seconds
    );
    assert!(referenced + warned + given_up >= ARRIVE, "{printed}");
    // One that answers nobody in time would pass otherwise.
    assert!(given_up < ARRIVE / 2, "{given_up} were not answered");

    let reads = fixture.api.requests();
    let bound = 100 + 50 * (seconds + 1);
    for what in ["/namespaces/forged-", "/serviceaccounts/forged-"] {
        let count = reads.iter().filter(|seen| seen.path.contains(what)).count();
        let count = u64::try_from(count).unwrap();
        assert!(count < sent / 2, "{what}: each of {sent} was read");
        assert!(count <= bound, "{what}: {count} reads in {seconds} s");
    }
    // Nobody is left waiting: who is legitimate is served at once again.
    fixture.create(&shop, &[&image()]).await;
}

/// Namespaces, each with its ServiceAccount and a Pod.
fn arriving(fixture: &Fixture) -> Value {
    let items = (0..ARRIVE).flat_map(|number| {
        let [namespace, account] = fixture.namespace_objects(&format!("new{number}"));
        let name = namespace["metadata"]["name"].as_str().unwrap().to_owned();
        let mut pod = pod(&name, &[&image()]);
        pod["metadata"] = json!({"name": name, "namespace": name});
        [namespace, account, pod]
    });
    json!({"apiVersion": "v1", "kind": "List", "items": items.collect::<Vec<_>>()})
}

/// Somebody who sends reviews about namespaces and ServiceAccounts that do not exist.
struct Flood {
    sent: Arc<AtomicU64>,
    over: Arc<AtomicBool>,
    tasks: tokio::task::JoinSet<()>,
}

impl Flood {
    fn start(pullpass: &Pullpass, shop: &str) -> Self {
        let (sent, over) = (Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..forgers() {
            let (client, url, shop) = (pullpass.client(), pullpass.url("mutate"), shop.to_owned());
            let (count, end) = (Arc::clone(&sent), Arc::clone(&over));
            tasks.spawn(async move {
                while !end.load(Ordering::Acquire) {
                    let number = count.fetch_add(1, Ordering::AcqRel);
                    let body = forged(number, &shop);
                    drop(client.post(&url).json(&body).send().await);
                }
            });
        }
        Self { sent, over, tasks }
    }

    /// Ends it; answers how many were sent.
    async fn end(mut self) -> u64 {
        self.over.store(true, Ordering::Release);
        while self.tasks.join_next().await.is_some() {}
        self.sent.load(Ordering::Acquire)
    }
}

/// A namespace that nobody has, or a ServiceAccount of one that somebody has.
fn forged(number: u64, shop: &str) -> Value {
    if number.is_multiple_of(2) {
        return review(&format!("forged-{number}"));
    }
    let mut review = review(shop);
    review["request"]["object"]["spec"]["serviceAccountName"] = format!("forged-{number}").into();
    review
}
