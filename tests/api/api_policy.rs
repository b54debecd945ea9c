//! What `pullpass policy` prints is what it takes: with all of it set up a token is minted, with any part left out none is.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;
use std::process::Command;

use crate::support;
use serde_json::{Value, json};
use support::account::{allow_tokens, project_token, put_account};
use support::fixture::{ECR, Fixture, OWN};
use support::moto::{key_id, secret_key};
use support::roles::trust_cluster;

const USER: &str = "printed-user";
const ROLE: &str = "arn:aws:iam::123456789012:role/printed-own";
const TENANT_ROLE: &str = "arn:aws:iam::123456789012:role/printed-tenant";
const FAR_ROLE: &str = "arn:aws:iam::210987654321:role/printed-far";

/// A scene with a namespace and all that no cloud decides.
struct Place {
    fixture: Fixture,
    issuer: String,
    namespace: String,
}

impl Place {
    async fn new() -> Self {
        let fixture = Fixture::new("printed").await;
        let issuer = format!("https://{}", trust_cluster(&fixture).await);
        let namespace = fixture.namespace("pods").await;
        put_account(&fixture, &namespace, "puller", json!({})).await;
        allow_tokens(&fixture, "puller").await;
        let keys =
            json!({"AWS_ACCESS_KEY_ID": key_id(USER), "AWS_SECRET_ACCESS_KEY": secret_key(USER)});
        fixture.put_source("printed-keys", "Opaque", keys).await;
        Self {
            fixture,
            issuer,
            namespace,
        }
    }

    /// A file with a Registry of this `ecr`, and with a Namespace that it serves.
    fn write(&self, mut ecr: Value, namespace: &str) -> String {
        ecr["endpoints"] = json!({"ecr": self.fixture.aws.url, "sts": self.fixture.aws.url});
        let registry = json!({
            "apiVersion": "pullpass.dev/v1alpha1", "kind": "Registry", "metadata": {"name": "printed"},
            "spec": {"images": [format!("{ECR}/team")], "namespaceSelector": {}, "ecr": ecr},
        });
        let namespace = json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": namespace, "labels": self.fixture.labels()},
        });
        let file = self.fixture.file("printed.yaml");
        std::fs::write(&file, format!("{registry}\n---\n{namespace}\n")).unwrap();
        file.to_str().unwrap().to_owned()
    }

    async fn run(&self, arguments: &[&str], environment: &[(&str, String)]) -> Value {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pullpass"));
        command
            .args(arguments)
            .args(["-o", "json"])
            .env_clear()
            .envs(environment.iter().map(|(name, value)| (name, value)))
            // The registry itself is not of interest.
            .env("HTTPS_PROXY", "http://127.0.0.1:1")
            .env("NO_PROXY", "127.0.0.1");
        let output = tokio::task::spawn_blocking(move || command.output().unwrap());
        let output = output.await.unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        let printed = serde_json::from_slice(&output.stdout);
        assert!(printed.is_ok(), "{arguments:?}: {stderr}");
        printed.unwrap()
    }

    /// The steps for IAM that are printed, with names in place of the placeholders.
    async fn print(&self, file: &str) -> Vec<Value> {
        let arguments = [
            "policy",
            "-f",
            file,
            "--account",
            "123456789012",
            "--issuer",
            &self.issuer,
        ];
        let printed = self.run(&arguments, &[]).await.to_string();
        let printed = printed
            .replace("<PULLPASS_ROLE>", "printed-own")
            .replace("<NODE_ROLE>", "printed-own")
            .replace(
                "<CLUSTER_ARN>",
                "arn:aws:eks:eu-west-1:123456789012:cluster/bed",
            )
            .replace("<USER>", USER);
        let printed: Value = serde_json::from_str(&printed).unwrap();
        let steps = printed["registries"][0]["steps"].as_array().unwrap();
        // A repository's own policy is asked when an image is pulled, not before.
        let is_of_iam =
            |step: &&Value| step["kind"] == "trustPolicy" || step["kind"] == "identityPolicy";
        steps.iter().filter(is_of_iam).cloned().collect()
    }

    /// Sets up these steps and nothing else for the principals that `all` are about.
    async fn set_up(&self, all: &[Value], steps: &[&Value]) {
        let mut principals: BTreeMap<&str, [Vec<Value>; 2]> = BTreeMap::new();
        for step in all {
            let arn = step["attachTo"][0].as_str().unwrap();
            let [trust, policies] = principals.entry(arn).or_default();
            if !steps.contains(&step) {
                continue;
            }
            if step["kind"] == "trustPolicy" {
                let statements = step["document"]["Statement"].as_array();
                trust.extend(statements.unwrap().iter().cloned());
            } else {
                policies.push(step["document"].clone());
            }
        }
        let moto = &self.fixture.world.moto;
        for (arn, [trust, policies]) in principals {
            if arn.contains(":user/") {
                let key = json!({
                    "accessKeyId": key_id(USER), "secretAccessKey": secret_key(USER),
                    "principal": arn, "policies": policies,
                });
                moto.post("keys", key).await;
            } else {
                let trust = json!({"Version": "2012-10-17", "Statement": trust});
                moto.post(
                    "roles",
                    json!({"roleArn": arn, "trust": trust, "policies": policies}),
                )
                .await;
            }
        }
    }

    /// Whether `pullpass check` mints a token; else which step fails.
    async fn check(&self, file: &str, environment: &[(&str, String)]) -> Result<String, String> {
        let kubeconfig = self.fixture.world.kubeconfig().to_str().unwrap().to_owned();
        let ca = self.fixture.file("aws.crt");
        std::fs::write(&ca, &self.fixture.aws.certificate).unwrap();
        let arguments = [
            "check",
            "-f",
            file,
            "--namespace",
            &self.namespace,
            "--kubeconfig",
            &kubeconfig,
            "--extra-ca",
            ca.to_str().unwrap(),
        ];
        let report = self.run(&arguments, environment).await;
        let checks = report["checks"].as_array().unwrap();
        let message = |check: &Value| check["message"].as_str().unwrap().to_owned();
        let token = checks
            .iter()
            .find(|check| check["step"] == "token")
            .unwrap();
        if token["status"] == "ok" {
            return Ok(message(token));
        }
        let of_registry =
            |check: &&Value| check["kind"] == "Registry" && check["status"] == "failed";
        Err(message(checks.iter().find(of_registry).unwrap()))
    }
}

/// An identity: its name, its `ecr`, its environment, and the principal in trust policies of another way that it does not go.
type Row = (
    &'static str,
    Value,
    Vec<(&'static str, String)>,
    &'static str,
);

async fn rows(place: &Place) -> Vec<Row> {
    let fixture = &place.fixture;
    let token = async |audience| project_token(fixture, audience).await.display().to_string();
    let moto = &fixture.world.moto;
    let web = vec![
        ("AWS_ROLE_ARN", ROLE.to_owned()),
        (
            "AWS_WEB_IDENTITY_TOKEN_FILE",
            token("sts.amazonaws.com").await,
        ),
    ];
    let agent = vec![
        (
            "AWS_CONTAINER_CREDENTIALS_FULL_URI",
            format!("{}/v1/credentials", moto.field("agent")),
        ),
        (
            "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
            token("pods.eks.amazonaws.com").await,
        ),
    ];
    let node = vec![(
        "AWS_EC2_METADATA_SERVICE_ENDPOINT",
        moto.field("imds").to_owned(),
    )];
    let workload = json!({"identity": {"workload": {}}});
    let chain = json!({"identity": {"workload": {}}, "assumeRoles": [{"roleArn": FAR_ROLE, "externalId": "pullpass"}]});
    let keys = json!({"identity": {"keys": {"secretRef": {"name": "printed-keys"}}}});
    let tenant =
        json!({"identity": {"serviceAccount": {"name": "puller", "roleArn": TENANT_ROLE}}});
    vec![
        ("web identity", workload.clone(), web.clone(), "Service"),
        ("Pod Identity", workload, agent, "Federated"),
        ("chain", chain, web, "Service"),
        ("keys", keys, vec![], ""),
        ("tenant", tenant, vec![], ""),
        ("node", json!({"identity": {"node": {}}}), node, ""),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mints_with_all_that_is_printed_and_with_no_less() {
    let place = Place::new().await;
    let moto = &place.fixture.world.moto;
    let nobody = json!({"Version": "2012-10-17", "Statement": []});
    moto.post("roles", json!({"roleArn": ROLE, "trust": nobody}))
        .await;
    let association = json!({"namespace": OWN, "serviceAccount": "pullpass", "roleArn": ROLE});
    moto.post("associations", association).await;
    for (name, ecr, environment, other) in rows(&place).await {
        let file = place.write(ecr.clone(), &place.namespace);
        let mut steps = place.print(&file).await;
        steps.retain(|step| step["document"]["Statement"][0]["Principal"][other].is_null());
        let all: Vec<&Value> = steps.iter().collect();
        if name == "node" {
            place.set_up(&steps, &all).await;
            moto.post("node", json!({"roleArn": ROLE})).await;
        }
        place.set_up(&steps, &all).await;
        let minted = place.check(&file, &environment).await;
        assert!(minted.is_ok(), "{name}: {minted:?} with {steps:#?}");
        for left_out in &steps {
            let others: Vec<&Value> = steps.iter().filter(|step| *step != left_out).collect();
            place.set_up(&steps, &others).await;
            if name == "node" {
                moto.post("node/rotate", json!({})).await;
            }
            let refused = place.check(&file, &environment).await;
            assert!(
                refused.is_err(),
                "{name}: {refused:?} without {left_out:#?}"
            );
        }
    }
    trust_nobody_else(&place).await;
}

/// What is printed for one namespace trusts that one alone.
async fn trust_nobody_else(place: &Place) {
    let (_, ecr, environment, _) = rows(place).await.remove(4);
    let file = place.write(ecr, "printed-elsewhere");
    let steps = place.print(&file).await;
    let all: Vec<&Value> = steps.iter().collect();
    place.set_up(&steps, &all).await;
    let refused = place.check(&file, &environment).await.unwrap_err();
    assert!(
        refused.contains("sts:AssumeRoleWithWebIdentity"),
        "{refused}"
    );
}
