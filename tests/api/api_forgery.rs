//! What tenants can write of all that pullpass reads, forged: nothing changes outside their namespace, also after a restart.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;
use std::net::TcpListener;

use crate::support;
use serde::Deserialize;
use serde_json::{Value, json};
use support::account::put_account;
use support::cluster::Answer;
use support::fixture::{ECR, FIXTURE, Fixture, read_dockerconfigjson};
use support::grant::grant_printed;
use support::keyring::{self, Login};
use support::process::{Pullpass, pod};
use support::roles::add_role;
use support::user::User;
use support::wait;

const TABLE: &str = include_str!("../data/forgeries.yaml");

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    field: String,
    object: Option<Value>,
    pod: Option<Value>,
    account: Option<String>,
    images: Option<Vec<String>>,
    then: Then,
    told: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Then {
    Repaired,
    Served,
    Theirs,
    Alone,
    Refused,
}

/// A victim with everything in place, a thief that listens, and who mints.
struct Stage {
    fixture: Fixture,
    ci: User,
    victim: String,
    role: String,
    thief: TcpListener,
}

impl Stage {
    async fn set() -> Self {
        let fixture = Fixture::alone("forged").await;
        let ci = User::add(&fixture.world.moto, "forged-ci").await;
        fixture.put_keys("forged-ci", &ci).await;
        let registries = registries(&fixture);
        for registry in &registries {
            fixture.cluster.apply(registry).await;
        }
        grant_printed(&fixture, &registries).await;
        let victim = fixture.namespace("victim").await;
        let role = add_role(&fixture, "forged", &victim, "forged-puller").await;
        let annotations = json!({"eks.amazonaws.com/role-arn": role});
        put_account(&fixture, &victim, "forged-puller", annotations).await;
        put_account(&fixture, &victim, "ci", json!({})).await;
        let thief = TcpListener::bind("127.0.0.1:0").unwrap();
        thief.set_nonblocking(true).unwrap();
        Self {
            fixture,
            ci,
            victim,
            role,
            thief,
        }
    }

    /// The rows with their placeholders filled in, each with the name of its namespace.
    async fn rows(&self) -> Vec<(String, Row)> {
        let stored = self.fixture.stored().await;
        let stored = stored[0]["metadata"]["name"].as_str().unwrap();
        let count = serde_saphyr::from_str::<Vec<Row>>(TABLE).unwrap().len();
        let thief = self.thief.local_addr().unwrap().to_string();
        let fill = |place: usize| {
            let namespace = self.fixture.namespace_name(&format!("tenant{place}"));
            let text = TABLE
                .replace("ECR", ECR)
                .replace("VICTIM", &self.victim)
                .replace("ROLE", &self.role)
                .replace("THIEF", &thief)
                .replace("STORED", stored)
                .replace("BIG", &"x".repeat(880 * 1024));
            let rows: Vec<Row> = serde_saphyr::from_str(&text).unwrap();
            (namespace, rows.into_iter().nth(place).unwrap())
        };
        (0..count).map(fill).collect()
    }

    /// Pods of the victim; each is as it must be.
    async fn visit_victim(&self) {
        for (account, image) in [
            ("default", "team/hello:1"),
            ("ci", "team/hello:1"),
            ("default", "own/app:1"),
        ] {
            let mut pod = pod(&self.victim, &[&format!("{ECR}/{image}")]);
            pod["spec"]["serviceAccountName"] = account.into();
            let created = self.fixture.cluster.create_pod(&pod, "").await.ok();
            assert_eq!(told(&created), "");
        }
    }

    /// Everything outside the tenants' namespaces that must not change: all Secrets but what is kept for tenants, Registries, and what
    /// AWS has minted.
    async fn outside(&self) -> BTreeMap<String, Value> {
        let mut found = BTreeMap::new();
        let tenant = |name: &Value| {
            let name = name.as_str().unwrap_or_default();
            name.starts_with(&self.fixture.namespace_name("tenant"))
        };
        for path in [
            "/api/v1/secrets",
            "/apis/pullpass.dev/v1alpha1/registries",
            "/api/v1/serviceaccounts",
        ] {
            let all = self.fixture.cluster.get(path).await.unwrap();
            for object in all["items"].as_array().unwrap() {
                let metadata = &object["metadata"];
                if tenant(&metadata["namespace"])
                    || tenant(&metadata["labels"]["pullpass.dev/tenant-namespace"])
                {
                    continue;
                }
                let name = format!("{path} {} {}", metadata["namespace"], metadata["name"]);
                found.insert(name, object.clone());
            }
        }
        let minted = self.fixture.world.moto.get("minted").await;
        found.insert("minted".to_owned(), minted);
        found
    }

    fn assert_nobody_called(&self, field: &str) {
        assert!(
            self.thief.accept().is_err(),
            "{field}: the thief was called"
        );
    }

    /// The login that a Pod of this ServiceAccount must have.
    async fn login(&self, account: &str) -> Option<Login> {
        let user = if account == "ci" {
            &self.ci
        } else {
            &self.fixture.user
        };
        user.newest(&self.fixture.world.moto).await
    }
}

fn registries(fixture: &Fixture) -> Vec<Value> {
    let all = json!({"matchLabels": {FIXTURE: fixture.name}});
    let own = json!({
        "identity": {"serviceAccount": {"name": "forged-puller", "fromAnnotations": true}},
        "endpoints": {"ecr": fixture.aws.url, "sts": fixture.aws.url},
    });
    let acr =
        json!({"identity": {"serviceAccount": {"name": "forged-puller", "fromAnnotations": true}}});
    let rows = [
        (
            "forged",
            json!({
                "images": [format!("{ECR}/team")], "namespaceSelector": all, "ecr": fixture.ecr("forged"),
                "podMetadata": {"annotations": {"example.com/added": ADDED}},
            }),
        ),
        (
            "forged-ci",
            json!({"images": [format!("{ECR}/team")], "namespaceSelector": all, "serviceAccountNames": ["ci"], "ecr": fixture.ecr("forged-ci")}),
        ),
        (
            "forged-own",
            json!({"images": [format!("{ECR}/own")], "namespaceSelector": all, "ecr": own}),
        ),
        (
            "forged-acr",
            json!({"images": ["forged.azurecr.io"], "namespaceSelector": all, "acr": acr}),
        ),
    ];
    let registry = |(name, spec): (&str, Value)| {
        json!({
            "apiVersion": "pullpass.dev/v1alpha1", "kind": "Registry", "metadata": {"name": name}, "spec": spec,
        })
    };
    rows.into_iter().map(registry).collect()
}

/// The row's object, as the tenant writes it.
fn forge(fixture: &Fixture, namespace: &str, object: &Value) -> Value {
    let mut object = object.clone();
    object["apiVersion"] = "v1".into();
    if object["kind"] == "Namespace" {
        object["metadata"]["name"] = namespace.into();
        let mut labels = fixture.labels();
        let forged = object["metadata"]["labels"].take();
        for (key, value) in forged.as_object().into_iter().flatten() {
            labels[key] = value.clone();
        }
        object["metadata"]["labels"] = labels;
    } else {
        object["metadata"]["namespace"] = namespace.into();
    }
    object
}

/// The Pod of a row.
async fn create(fixture: &Fixture, namespace: &str, row: &Row) -> Answer {
    let images = row.images.clone();
    let images = images.unwrap_or_else(|| vec![format!("{ECR}/team/hello:1")]);
    let images: Vec<&str> = images.iter().map(String::as_str).collect();
    let mut pod = pod(namespace, &images);
    for part in ["metadata", "spec"] {
        let given = row.pod.as_ref().and_then(|given| given[part].as_object());
        for (key, value) in given.into_iter().flatten() {
            pod[part][key] = value.clone();
        }
    }
    pod["spec"]["serviceAccountName"] = row.account.as_deref().unwrap_or("default").into();
    let created = fixture.cluster.create_pod(&pod, "").await.ok();
    check_verbatim(&pod, &created.body);
    created
}

/// What a Pod says it says to the letter, whatever it looks like; and what the Registry adds is added so, too.
fn check_verbatim(sent: &Value, created: &Value) {
    let annotations = &created["metadata"]["annotations"];
    let said = sent["metadata"]["annotations"].as_object();
    for (key, value) in said.into_iter().flatten() {
        assert_eq!(annotations[key], *value, "{key}");
    }
    let containers = |pod: &Value| {
        let containers = pod["spec"]["containers"].as_array();
        let images = containers
            .into_iter()
            .flatten()
            .map(|one| one["image"].clone());
        images.collect::<Vec<_>>()
    };
    assert_eq!(containers(sent), containers(created));
    let added = &annotations["example.com/added"];
    assert!(added.is_null() || added == ADDED, "{added}");
}

/// An annotation of the Registry that is served to everybody.
const ADDED: &str = "{{ .Namespace }} ${HOME} $(HOME) {} %s";

fn told(answer: &Answer) -> String {
    answer.warnings.join("\n").replace("\n… ", " ")
}

fn references(answer: &Answer, secret: &str) -> bool {
    let secrets = answer.body["spec"]["imagePullSecrets"].as_array();
    secrets.is_some_and(|secrets| secrets.iter().any(|found| found["name"] == secret))
}

/// Creates the row's Pod until it is as the row says: pullpass may see the forgery a moment later.
async fn visit(stage: &Stage, namespace: &str, row: &Row) {
    let account = row.account.as_deref().unwrap_or("default");
    let secret = if account == "ci" {
        "pullpass-forged-ci"
    } else {
        "pullpass"
    };
    wait::until(&format!("{}, in {namespace}", row.field), async || {
        let created = create(&stage.fixture, namespace, row).await;
        let referenced = references(&created, secret);
        let is_so = match row.then {
            Then::Alone => !referenced,
            Then::Refused => referenced && told(&created).contains(row.told.as_deref()?),
            Then::Theirs => referenced && told(&created).is_empty(),
            Then::Repaired | Then::Served => {
                let held = stage.fixture.cluster.secret(namespace, secret).await?;
                let held = read_dockerconfigjson(&held);
                let found = keyring::lookup(&held, &[format!("{ECR}/team/hello:1")]);
                let login = found[0].first().cloned();
                referenced && login.is_some() && login == stage.login(account).await
            }
        };
        is_so.then_some(())
    })
    .await;
}

async fn restart(stage: &Stage, pullpass: Pullpass) -> Pullpass {
    drop(pullpass);
    stage.fixture.start().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_nothing_outside_the_namespace_of_who_forges() {
    let stage = Stage::set().await;
    let fixture = &stage.fixture;
    let mut pullpass = fixture.start().await;
    stage.visit_victim().await;
    let rows = stage.rows().await;
    let before = stage.outside().await;
    let check = async |field: &str| {
        stage.visit_victim().await;
        let now = stage.outside().await;
        let changed = now
            .iter()
            .filter(|(name, object)| before.get(*name) != Some(object));
        let changed: Vec<_> = changed.map(|(name, _)| name).collect();
        assert!(
            changed.is_empty() && now.len() == before.len(),
            "{field}: {changed:?}"
        );
        stage.assert_nobody_called(field);
    };
    for (place, (namespace, row)) in rows.iter().enumerate() {
        fixture.namespace(&format!("tenant{place}")).await;
        for account in ["ci", "mounts"] {
            put_account(fixture, namespace, account, json!({})).await;
        }
        // Everything is good before; but for what is read once and remembered, which is forged from the start.
        let is_account = row
            .object
            .as_ref()
            .is_some_and(|object| object["kind"] == "ServiceAccount");
        for account in ["default", "ci"].iter().filter(|_| !is_account) {
            let mut pod = pod(namespace, &[&format!("{ECR}/team/hello:1")]);
            pod["spec"]["serviceAccountName"] = (*account).into();
            let created = fixture.cluster.create_pod(&pod, "").await.ok();
            assert_eq!(told(&created), "");
        }
        if let Some(object) = &row.object {
            fixture
                .cluster
                .apply(&forge(fixture, namespace, object))
                .await;
        }
        visit(&stage, namespace, row).await;
        check(&row.field).await;
    }
    // And again with all of it there from the start.
    pullpass = restart(&stage, pullpass).await;
    for (namespace, row) in &rows {
        visit(&stage, namespace, row).await;
    }
    check("after a restart").await;
    drop(pullpass);
}
