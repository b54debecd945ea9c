//! `--client-ca` with an API server that shows a certificate: `--admission-control-config-file` says which, and to whom.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;

use crate::support;
use serde_json::{Value, json};
use support::bed::Bed;
use support::cluster::Cluster;
use support::fixture::references;
use support::patch_only::Setup;
use support::pki::{Authority, VALID};
use support::process::{configuration, make_namespace, pod};
use support::wait;
use support::webhook::IMAGE;

/// Writes how the API server shows itself to this host, and to no other one.
/// <https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/#authenticate-apiservers>
fn write_admission(folder: &Path, host: &str, authority: &Authority) -> std::path::PathBuf {
    let pair = authority.sign_client(VALID);
    let write = |name: &str, content: String| {
        let file = folder.join(name);
        std::fs::write(&file, content).unwrap();
        file
    };
    let user = json!({
        "client-certificate": write("client.crt", pair.certificate), "client-key": write("client.key", pair.key),
    });
    let kubeconfig =
        json!({"apiVersion": "v1", "kind": "Config", "users": [{"name": host, "user": user}]});
    let version = "apiserver.config.k8s.io/v1";
    let webhooks = json!({
        "apiVersion": version, "kind": "WebhookAdmissionConfiguration",
        "kubeConfigFile": write("kubeconfig", kubeconfig.to_string()),
    });
    let admission = json!({
        "apiVersion": version, "kind": "AdmissionConfiguration",
        "plugins": [{"name": "MutatingAdmissionWebhook", "configuration": webhooks}],
    });
    write("admission.yaml", admission.to_string())
}

/// The webhook at this host, which must answer.
fn demanded(host: &str, setup: &Setup) -> Value {
    let url = format!("https://{host}/mutate");
    let ca = setup.certificate("ca.crt");
    let mut configuration = configuration(&url, &[&ca], "shop", "yes");
    for webhook in configuration["webhooks"].as_array_mut().unwrap() {
        webhook["failurePolicy"] = "Fail".into();
    }
    configuration
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_the_api_server_that_shows_its_certificate() {
    let setup = Setup::new("localhost");
    let authority = Authority::new("callers");
    let file = setup.certificate("callers.crt");
    std::fs::write(&file, authority.pem()).unwrap();
    let replica = setup
        .start_as(&[&format!("--client-ca={}", file.display())])
        .await;
    let (known, unknown) = (
        replica.webhook.to_string(),
        format!("localhost:{}", replica.webhook.port()),
    );
    let folder = tempfile::tempdir().unwrap();
    let admission = write_admission(folder.path(), &known, &authority);
    let bed = Bed::start("api", &["--admission-config", admission.to_str().unwrap()]);
    let cluster = Cluster::connect(bed.field("kubeconfig")).await;
    make_namespace(
        &cluster,
        "shop",
        &json!({"pullpass.dev/inject": "enabled", "shop": "yes"}),
    )
    .await;
    let pod = pod("shop", &[IMAGE]);

    cluster.apply(&demanded(&known, &setup)).await;
    wait::until("the Pod to be injected", async || {
        let answer = cluster.create_pod(&pod, "dryRun=All").await;
        references(&answer.body).then_some(())
    })
    .await;

    // Under another name the API server shows none. What it still sends may cross the answer that says so, and end the connection first.
    cluster.apply(&demanded(&unknown, &setup)).await;
    wait::until("the caller to be told what is wrong", async || {
        let answer = cluster.create_pod(&pod, "dryRun=All").await;
        let refused = answer.status.is_server_error();
        let message = answer.body["message"].to_string();
        (refused && message.contains("certificate required")).then_some(())
    })
    .await;
}
