//! A second opinion: Azure's own SDK gets through the double with what pullpass gets through with, and is refused as pullpass is.

use std::process::Command;

use crate::support;
use serde_json::{Value, json};
use support::azure::{Application, Azure, Federated};
use support::bed;
use support::jwt::Issuer;

const TENANT: &str = "11111111-1111-1111-1111-111111111111";
const APP: &str = "22222222-2222-2222-2222-222222222220";
const OTHER: &str = "33333333-3333-3333-3333-333333333330";
const SERVER: &str = "myreg.azurecr.io";
const AUDIENCE: &str = "api://AzureADTokenExchange";
const SECRET: &str = "client+secret/&=%";

struct Fixture {
    azure: Azure,
    issuer: Issuer,
    folder: tempfile::TempDir,
}

impl Fixture {
    /// Two applications of a tenant, one of which may pull from a registry.
    async fn new() -> Self {
        let (azure, issuer) = (Azure::start().await, Issuer::new("https://issuer.example"));
        for client_id in [APP, OTHER] {
            let federated = Federated {
                issuer: issuer.url.clone(),
                subject: "system:serviceaccount:pullpass:pullpass".to_owned(),
                audience: AUDIENCE.to_owned(),
            };
            let application = Application {
                client_id: client_id.to_owned(),
                secrets: vec![(SECRET.to_owned(), true)],
                federated: vec![federated],
            };
            azure.add_application(TENANT, application);
        }
        azure.add_server(SERVER, TENANT, &[APP]);
        {
            let mut content = azure.content();
            content.issuers.insert(issuer.url.clone(), issuer.jwks());
            TENANT.clone_into(&mut content.node.tenant_id);
            let other = (OTHER.to_owned(), "/other".to_owned());
            content.node.user_assigned = vec![(APP.to_owned(), "/app".to_owned()), other];
            content.images.insert(format!("{SERVER}/team/hello:1"));
        }
        Self {
            azure,
            issuer,
            folder: tempfile::tempdir().expect("a folder"),
        }
    }

    fn write(&self, name: &str, content: &str) -> std::path::PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, content).expect("a file");
        path
    }

    /// What the SDK says of an image as an identity of this application, which proves itself by this secret or account's token.
    async fn pull(&self, identity: &str, client_id: &str, proof: &str, image: &str) -> Value {
        let token = self.issuer.token(proof, AUDIENCE, 3600);
        let (repository, tag) = image.split_once(':').expect("a tag");
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/bed/azure/pull.py");
        let mut command = Command::new(bed::dir().join("venv-azure/bin/python"));
        command
            .args([script, identity, SERVER, repository, tag])
            .env_clear()
            .env("HTTPS_PROXY", &self.azure.internet.proxy)
            .env(
                "REQUESTS_CA_BUNDLE",
                self.write("ca.crt", &self.azure.internet.ca),
            )
            .env(
                "AZURE_POD_IDENTITY_AUTHORITY_HOST",
                &self.azure.metadata.url,
            )
            .env("AZURE_TENANT_ID", TENANT)
            .env("AZURE_CLIENT_ID", client_id)
            .env("AZURE_CLIENT_SECRET", proof)
            .env("AZURE_FEDERATED_TOKEN_FILE", self.write("token", &token));
        let output = tokio::task::spawn_blocking(move || command.output())
            .await
            .expect("it runs")
            .expect("Azure's SDK is there: run `make bed`");
        let stderr = String::from_utf8_lossy(&output.stderr);
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| json!({"error": stderr}))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn azures_own_sdk_reads_the_manifest_that_its_identity_may() {
    let fixture = Fixture::new().await;
    for (identity, proof) in [
        ("workload", "pullpass:pullpass"),
        ("managed", ""),
        ("principal", SECRET),
    ] {
        let read = fixture.pull(identity, APP, proof, "team/hello:1").await;
        let digest = read["digest"].as_str();
        assert!(
            digest.is_some_and(|digest| digest.starts_with("sha256:")),
            "{identity}: {read}"
        );
        let minted = fixture.azure.content().minted.pop().expect("a token");
        assert_eq!(
            (minted.client_id.as_str(), minted.scopes.as_slice()),
            (APP, &["repository:team/hello:pull".to_owned()][..]),
            "{identity}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn azures_own_sdk_is_refused_where_pullpass_is() {
    let fixture = Fixture::new().await;
    let own = "pullpass:pullpass";
    for (identity, client_id, proof, words) in [
        ("workload", OTHER, own, "authentication required"),
        ("managed", OTHER, "", "authentication required"),
        ("principal", OTHER, SECRET, "authentication required"),
        ("principal", APP, "wrong", "AADSTS7000215"),
        ("workload", APP, "team:default", "AADSTS700213"),
        ("workload", TENANT, own, "AADSTS700016"),
    ] {
        let read = fixture
            .pull(identity, client_id, proof, "team/hello:1")
            .await;
        let error = read["error"].as_str().unwrap_or_default();
        assert!(error.contains(words), "{identity} {client_id}: {read}");
    }
    let read = fixture.pull("principal", APP, SECRET, "team/other:1").await;
    let error = read["error"].as_str().unwrap_or_default();
    assert!(error.contains("Not Found"), "{read}");
    assert!(fixture.azure.content().stolen.is_empty());
}
