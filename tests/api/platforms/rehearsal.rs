//! The chart installed as people install it where they are: by each tool, under what each platform does to it, and the program behind it.
//! Ready, called, injected, upgraded, rolled back, uninstalled with nothing left.
//!
//! Real are Helm 4 and 3, kubectl's three-way and server-side applies, the API server with its quotas, Pod Security and policies, and the
//! program. Doubles are what no API server brings, each with the source that it follows: [`super::platform`].

use serde_json::json;

use super::platform::Platform;
use super::site::{Site, Tool};
use super::support::fixture::{OWN, references};
use super::support::process::pod;
use super::support::wait;

/// A place, and what docs/INSTALL.md says to set there.
struct Row {
    platform: Platform,
    tool: Tool,
    settings: &'static [&'static str],
}

const fn row(platform: Platform, tool: Tool, settings: &'static [&'static str]) -> Row {
    Row {
        platform,
        tool,
        settings,
    }
}

const ROWS: [Row; 11] = [
    row(Platform::Aks, Tool::Helm4, &[]),
    row(Platform::Gke, Tool::Helm4, &[]),
    row(Platform::OpenShift, Tool::Helm4, &["openshift=true"]),
    row(Platform::Baseline, Tool::Helm4, &["resources.limits.cpu=1"]),
    row(Platform::Ipv6, Tool::Helm4, &[]),
    row(Platform::Plain, Tool::Helm4, &[]),
    row(Platform::Plain, Tool::Helm3, &[]),
    row(Platform::Plain, Tool::Flux, &[]),
    row(Platform::Plain, Tool::ArgoCd, &[]),
    row(Platform::Plain, Tool::Subchart, &[]),
    row(Platform::Plain, Tool::OverPlainManifests, &[]),
];

/// A namespace that opted in, and Registries with a fixed login that serve it.
async fn use_it(site: &Site) {
    let labels = json!({"pullpass.dev/inject": "enabled"});
    site.make_namespace("shop", &labels).await;
    let login = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/basic-auth",
        "metadata": {"name": "login", "namespace": OWN, "labels": {"pullpass.dev/source": "true"}},
        "stringData": {"username": "robot", "password": "canary"},
    });
    site.cluster.apply(&login).await;
    site.install_registries();
}

async fn rehearse(row: &Row) {
    let site = Site::prepare(row.platform, row.tool, row.settings).await;
    let (platform, tool) = (row.platform, row.tool);
    site.install();
    platform.act(&site).await;
    site.create_own_pod().await.ok();
    let pullpass = site.serve().await;
    use_it(&site).await;
    site.assert_injected(&pullpass, "after installing").await;
    wait::until("status to be written", async || {
        let path = "/apis/pullpass.dev/v1alpha1/registries/team";
        let found = site.cluster.get(path).await?;
        found["status"]["conditions"].is_array().then_some(())
    })
    .await;
    site.assert_no_drift("it wrote caBundle and status");

    site.upgrade("replicas=3");
    platform.act(&site).await;
    assert_eq!(site.replicas().await, 3, "{platform:?} {tool:?}");
    site.create_own_pod().await.ok();
    site.assert_injected(&pullpass, "after an upgrade").await;
    site.roll_back();
    platform.act(&site).await;
    assert_eq!(site.replicas().await, 2, "{platform:?} {tool:?}");
    pullpass.terminate();
    let pullpass = site.serve().await;
    site.assert_injected(&pullpass, "after rolling back, and a restart")
        .await;
    site.assert_no_drift("a restart");

    site.uninstall_registries();
    pullpass.terminate();
    site.uninstall();
    site.assert_gone();
    // Pods are created as if it had never been there.
    let created = pod("shop", &["registry.invalid/team/hello:1"]);
    let made = site.cluster.create_pod(&created, "").await.ok().body;
    assert!(!references(&made), "{made}");
    println!("| {platform:?} | {tool:?} | yes | yes | yes | yes | yes | yes | yes |");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn is_installed_called_upgraded_rolled_back_and_uninstalled_in_each_place() {
    println!(
        "| platform | tool | installed | ready | called | injected | upgraded | rolled back | uninstalled |"
    );
    for row in &ROWS {
        rehearse(row).await;
    }
}

/// Each double does what it is there for: without the setting, it fails as people reported.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn is_refused_in_each_place_without_what_is_set_for_it() {
    for (platform, settings, words) in [
        (
            Platform::Gke,
            &["resourceQuota.enabled=false"][..],
            "insufficient quota",
        ),
        (Platform::OpenShift, &[], "restricted-v2"),
        (Platform::Baseline, &[], "limits"),
    ] {
        let site = Site::prepare(platform, Tool::Helm4, settings).await;
        site.install();
        platform.act(&site).await;
        let answer = site.create_own_pod().await;
        let said = answer.body["message"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        assert!(
            !answer.status.is_success() && said.contains(words),
            "{platform:?}: {said}"
        );
    }
    // AKS takes fields over, and Helm is in conflict with it.
    let site = Site::prepare(
        Platform::Aks,
        Tool::Helm4,
        &[r"webhook.annotations.admissions\.enforcer/disabled=null"],
    )
    .await;
    site.install();
    Platform::Aks.act(&site).await;
    let refused = site.by_helm(&["upgrade"], &["webhook.excludeNamespaces={infra}"]);
    let stderr = String::from_utf8_lossy(&refused.stderr);
    assert!(stderr.contains("admissionsenforcer"), "{stderr}");
}
