//! What `pullpass policy` prints for Amazon ECR, before an AWS that judges policies: it allows what a Registry is for, and nothing to its
//! neighbours.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;
use std::process::Command;

use aws_credential_types::Credentials;
use aws_sdk_ecr::Client;
use aws_sdk_ecr::config::{BehaviorVersion, Region};
use aws_sdk_ecr::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_ecr::types::ImageIdentifier;
use aws_smithy_http_client::Builder;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use aws_smithy_types::Blob;
use serde_json::{Value, json};

use crate::support::moto::{Moto, key_id, secret_key};

const OWN: &str = "123456789012";
const OTHER: &str = "210987654321";
/// What a push and a pull are made of.
const PULL: [&str; 3] = [
    "BatchCheckLayerAvailability",
    "BatchGetImage",
    "GetDownloadUrlForLayer",
];
const PUSH: [&str; 4] = [
    "CompleteLayerUpload",
    "InitiateLayerUpload",
    "PutImage",
    "UploadLayerPart",
];

/// AWS with repositories of two accounts.
struct Place {
    moto: Moto,
    folder: tempfile::TempDir,
}

/// What was printed for one Registry.
struct Printed(Value);

impl Place {
    async fn new() -> Self {
        let place = Self {
            moto: Moto::start(),
            folder: tempfile::tempdir().unwrap(),
        };
        let everything =
            json!([{"Statement": [{"Effect": "Allow", "Action": "ecr:*", "Resource": "*"}]}]);
        for (account, repositories) in [
            (
                OWN,
                &[
                    "team/app",
                    "team/app/web",
                    "team/app/secret",
                    "team/apple",
                    "other",
                ][..],
            ),
            (OTHER, &["shared/app", "shared/apple"]),
        ] {
            place.add_user(account, "owner", &everything).await;
            let owner = place.client(account, "owner");
            for repository in repositories {
                let made = owner.create_repository().repository_name(*repository);
                made.send().await.unwrap();
            }
        }
        place
    }

    async fn add_user(&self, account: &str, name: &str, policies: &Value) {
        let user = format!("{name}{account}");
        let body = json!({
            "accessKeyId": key_id(&user), "secretAccessKey": secret_key(&user),
            "principal": format!("arn:aws:iam::{account}:user/{name}"), "policies": policies,
        });
        self.moto.post("keys", body).await;
    }

    fn client(&self, account: &str, name: &str) -> Client {
        let user = format!("{name}{account}");
        let ca = std::fs::read(self.moto.field("ca")).unwrap();
        let trust = TrustStore::empty().with_pem_certificate(ca);
        let tls = TlsContext::builder()
            .with_trust_store(trust)
            .build()
            .unwrap();
        let http = Builder::new()
            .tls_provider(Provider::rustls(CryptoMode::AwsLc))
            .tls_context(tls)
            .build_https();
        let keys = Credentials::new(key_id(&user), secret_key(&user), None, None, "test");
        let config = aws_sdk_ecr::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("eu-west-1"))
            .endpoint_url(self.moto.field("url"))
            .credentials_provider(keys)
            .http_client(http)
            .build();
        Client::from_conf(config)
    }

    /// What is printed for a Registry with access keys of these images (`ACCOUNT/PATH`), for the user `builder`.
    fn print(&self, access: &str, images: &[&str], more: &[&str]) -> Printed {
        let host = ".dkr.ecr.eu-west-1.amazonaws.com/";
        let images: Vec<String> = images
            .iter()
            .map(|image| image.replacen('/', host, 1))
            .collect();
        let registry = json!({
            "apiVersion": "pullpass.dev/v1alpha1", "kind": "Registry", "metadata": {"name": "builders"},
            "spec": {
                "access": access, "images": images, "namespaceSelector": {"matchLabels": {"builds": "yes"}},
                "excludedImages": [format!("{OWN}.dkr.ecr.eu-west-1.amazonaws.com/team/app/secret")],
                "ecr": {"identity": {"keys": {"secretRef": {"name": "builder"}}}},
            },
        });
        let file = self.folder.path().join("registry.yaml");
        std::fs::write(&file, registry.to_string()).unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_pullpass"))
            .args(["policy", "-o", "json", "--account", OWN, "-f"])
            .arg(&file)
            .args(more)
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout)
            .unwrap()
            .replace("<USER>", "builder");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{stderr}");
        let report: Value = serde_json::from_str(&text).unwrap();
        Printed(report["registries"][0].clone())
    }

    /// Puts the printed policies where they belong, and nothing else.
    async fn set_up(&self, printed: &Printed) {
        let identity = printed.documents("identityPolicy");
        let identity: Vec<Value> = identity.into_values().collect();
        self.add_user(OWN, "builder", &identity.into()).await;
        for (arn, policy) in printed.documents("repositoryPolicy") {
            let (head, repository) = arn.split_once(":repository/").unwrap();
            let account = head.rsplit(':').next().unwrap();
            let owner = self.client(account, "owner");
            let set = owner.set_repository_policy().repository_name(repository);
            set.policy_text(policy.to_string()).send().await.unwrap();
        }
        for (registry, policy) in printed.documents("registryPolicy") {
            let account = registry.split(' ').nth(1).unwrap();
            let owner = self.client(account, "owner");
            let put = owner.put_registry_policy().policy_text(policy.to_string());
            put.send().await.unwrap();
        }
    }

    /// What the user `builder` may do with a repository; that it is not there is no refusal.
    async fn allowed(&self, account: &str, repository: &str) -> Vec<&'static str> {
        let client = self.client(OWN, "builder");
        let (id, name) = (account, repository);
        let layer = "sha256:0";
        let blob = Blob::new(b"{}".to_vec());
        let mut allowed = Vec::new();
        let mut note = |action: &'static str, is_denied: bool| {
            if !is_denied {
                allowed.push(action);
            }
        };
        macro_rules! ask {
            ($action:expr, $call:expr) => {
                note(
                    $action,
                    is_denied(&$call.registry_id(id).repository_name(name).send().await),
                );
            };
        }
        let images = ImageIdentifier::builder().image_tag("1").build();
        let checked = client.batch_check_layer_availability();
        ask!(PULL[0], checked.layer_digests(layer));
        ask!(PULL[1], client.batch_get_image().image_ids(images));
        let downloaded = client.get_download_url_for_layer();
        ask!(PULL[2], downloaded.layer_digest(layer));
        let completed = client.complete_layer_upload().upload_id("1");
        ask!(PUSH[0], completed.layer_digests(layer));
        ask!(PUSH[1], client.initiate_layer_upload());
        let put = client.put_image().image_manifest("{}");
        ask!(PUSH[2], put.image_tag("1"));
        let part = client.upload_layer_part().upload_id("1").part_first_byte(0);
        ask!(PUSH[3], part.part_last_byte(1).layer_part_blob(blob));
        ask!("CreateRepository", client.create_repository());
        ask!("ListImages", client.list_images());
        let set = client.set_repository_policy().policy_text("{}");
        ask!("SetRepositoryPolicy", set);
        ask!("DeleteRepository", client.delete_repository());
        allowed
    }

    async fn is_allowed(&self, account: &str, repository: &str, expected: &[&str]) {
        let allowed = self.allowed(account, repository).await;
        assert_eq!(allowed, expected, "{account} {repository}");
    }
}

impl Printed {
    /// The documents of one kind of steps, by what they are attached to.
    fn documents(&self, kind: &str) -> BTreeMap<String, Value> {
        let steps = self.0["steps"].as_array().unwrap().iter();
        let steps = steps.filter(|step| step["kind"] == kind);
        steps
            .map(|step| {
                let to = step["attachTo"][0].as_str().unwrap().to_owned();
                (to, step["document"].clone())
            })
            .collect()
    }
}

fn is_denied<T, E: ProvideErrorMetadata>(answer: &Result<T, SdkError<E>>) -> bool {
    let is_answer = match answer {
        Ok(_) => true,
        Err(error) => error.raw_response().is_some(),
    };
    assert!(is_answer, "no answer");
    let refused = answer.as_ref().err().and_then(SdkError::as_service_error);
    refused.is_some_and(|error| error.code() == Some("AccessDeniedException"))
}

fn both() -> Vec<&'static str> {
    [&PULL[..], &PUSH].concat()
}

#[tokio::test]
async fn policy_lets_builders_push_to_their_repositories_and_to_no_neighbour() {
    let place = Place::new().await;
    let images = [&*format!("{OWN}/team/app"), &format!("{OTHER}/shared/app")];
    let printed = place.print("Push", &images, &[]);
    place.set_up(&printed).await;
    let login = place.client(OWN, "builder").get_authorization_token();
    assert!(login.send().await.is_ok());
    for (account, repository) in [
        (OWN, "team/app"),
        (OWN, "team/app/web"),
        (OTHER, "shared/app"),
    ] {
        place.is_allowed(account, repository, &both()).await;
    }
    for (account, repository) in [
        (OWN, "team/apple"),
        (OWN, "team/app/secret"),
        (OWN, "other"),
        (OWN, "shared/app"),
        (OTHER, "shared/apple"),
        (OTHER, "team/app"),
    ] {
        place.is_allowed(account, repository, &[]).await;
    }
    // Another account's repository has the last word.
    let owner = place.client(OTHER, "owner");
    let removed = owner
        .delete_repository_policy()
        .repository_name("shared/app");
    removed.send().await.unwrap();
    place.is_allowed(OTHER, "shared/app", &[]).await;
}

#[tokio::test]
async fn policy_lets_those_who_pull_push_nothing() {
    let place = Place::new().await;
    let images = [&*format!("{OWN}/team/app"), &format!("{OTHER}/shared/app")];
    let printed = place.print("Pull", &images, &[]);
    place.set_up(&printed).await;
    for (account, repository) in [(OWN, "team/app"), (OTHER, "shared/app")] {
        place.is_allowed(account, repository, &PULL).await;
    }
}

#[tokio::test]
async fn policy_of_each_repository_is_enough_in_its_own_account() {
    let place = Place::new().await;
    let images = [&*format!("{OWN}/team/app")];
    let host = format!("{OWN}.dkr.ecr.eu-west-1.amazonaws.com");
    let named = format!("{host}/team/app/web");
    let more = ["--resource-based", "--repository", &named];
    let printed = place.print("Push", &images, &more);
    place.set_up(&printed).await;
    let login = place.client(OWN, "builder").get_authorization_token();
    assert!(login.send().await.is_ok());
    place.is_allowed(OWN, "team/app/web", &both()).await;
    for repository in ["team/app", "team/app/secret", "team/apple", "other"] {
        place.is_allowed(OWN, repository, &[]).await;
    }
}

#[tokio::test]
async fn policy_lets_builders_make_repositories_where_that_is_asked_for() {
    let place = Place::new().await;
    let images = [&*format!("{OWN}/team/app"), &format!("{OTHER}/shared/app")];
    let printed = place.print("Push", &images, &["--create-repositories"]);
    place.set_up(&printed).await;
    let with_create = [&both()[..], &["CreateRepository"]].concat();
    place.is_allowed(OWN, "team/app/new", &with_create).await;
    // Who made it in another account may not use it before it has a policy.
    place
        .is_allowed(OTHER, "shared/app/new", &["CreateRepository"])
        .await;
    for (account, repository) in [(OWN, "team/new"), (OTHER, "shared/new")] {
        place.is_allowed(account, repository, &[]).await;
    }
}
