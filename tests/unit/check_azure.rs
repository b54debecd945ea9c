//! `pullpass check` before Azure: Entra ID, a login server and the registry behind it, without a cluster.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::process::Command;

use crate::support;
use serde_json::{Value, json};
use support::azure::{Application, Azure, Federated};
use support::internet::Reply;
use support::jwt::Issuer;

const TENANT: &str = "11111111-1111-1111-1111-111111111111";
const APP: &str = "22222222-2222-2222-2222-222222222220";
const SERVER: &str = "myreg.azurecr.io";
const IMAGE: &str = "myreg.azurecr.io/team/app:1";
const AUDIENCE: &str = "api://AzureADTokenExchange";

/// Azure with one application, federated with pullpass' ServiceAccount, that may pull from one registry.
struct Place {
    azure: Azure,
    issuer: Issuer,
    folder: tempfile::TempDir,
}

impl Place {
    async fn new() -> Self {
        let azure = Azure::start().await;
        let issuer = Issuer::new("https://issuer.example");
        let federated = Federated {
            issuer: issuer.url.clone(),
            subject: "system:serviceaccount:pullpass:pullpass".to_owned(),
            audience: AUDIENCE.to_owned(),
        };
        let application = Application {
            client_id: APP.to_owned(),
            secrets: Vec::new(),
            federated: vec![federated],
        };
        azure.add_application(TENANT, application);
        azure.add_server(SERVER, TENANT, &[APP]);
        let jwks = issuer.jwks();
        azure.content().issuers.insert(issuer.url.clone(), jwks);
        azure.content().images.insert(IMAGE.to_owned());
        Self {
            azure,
            issuer,
            folder: tempfile::tempdir().unwrap(),
        }
    }

    /// Runs it for one image as this ServiceAccount; answers the exit code and the steps.
    async fn check(&self, account: &str, image: &str) -> (Option<i32>, Vec<Value>) {
        let file = |name: &str, text: &str| {
            let path = self.folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let registry = json!({
            "apiVersion": "pullpass.dev/v1alpha1", "kind": "Registry", "metadata": {"name": "azure"},
            "spec": {"images": [SERVER], "namespaceSelector": {}, "acr": {"identity": {"workload": {}}}},
        });
        let token = self.issuer.token(account, AUDIENCE, 3600);
        let mut command = Command::new(env!("CARGO_BIN_EXE_pullpass"));
        command
            .args(["check", "-o", "json", "--extra-ca"])
            .arg(file("ca.crt", &self.azure.internet.ca))
            .arg("-f")
            .arg(file("registry.yaml", &registry.to_string()))
            .arg(image)
            .env_clear()
            .env("HTTPS_PROXY", &self.azure.internet.proxy)
            .env("AZURE_CLIENT_ID", APP)
            .env("AZURE_TENANT_ID", TENANT)
            .env("AZURE_FEDERATED_TOKEN_FILE", file("token", &token));
        let output = tokio::task::spawn_blocking(move || command.output().unwrap());
        let output = output.await.unwrap();
        let stdout = String::from_utf8(output.stdout).unwrap();
        assert!(!stdout.contains(&token), "{stdout}");
        for minted in &self.azure.content().minted {
            assert!(!stdout.contains(&minted.password), "{stdout}");
        }
        let report: Value = serde_json::from_str(&stdout).unwrap();
        (
            output.status.code(),
            report["checks"].as_array().unwrap().clone(),
        )
    }

    /// The first step that fails is this one and says so in these words.
    async fn assert_fails(&self, account: &str, image: &str, step: &str, message: &str, fix: &str) {
        let (code, checks) = self.check(account, image).await;
        assert_eq!(code, Some(1), "{checks:?}");
        let failed = checks.iter().find(|check| check["status"] == "failed");
        let failed = failed.unwrap();
        assert_eq!(failed["step"], step, "{failed}");
        assert!(
            failed["message"].as_str().unwrap().contains(message),
            "{failed}"
        );
        assert!(failed["fix"].as_str().unwrap().contains(fix), "{failed}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tells_every_hop_of_what_works() {
    let place = Place::new().await;
    let (code, checks) = place.check("pullpass:pullpass", IMAGE).await;
    assert_eq!(code, Some(0), "{checks:?}");
    let steps: Vec<(&str, &str)> = checks
        .iter()
        .map(|check| {
            (
                check["step"].as_str().unwrap(),
                check["message"].as_str().unwrap(),
            )
        })
        .collect();
    let expected = expected();
    assert_eq!(steps.len(), expected.len(), "{checks:?}");
    for ((step, message), (expected_step, words)) in steps.iter().zip(&expected) {
        assert_eq!(step, expected_step);
        assert!(message.contains(words.as_str()), "{message} lacks {words}");
    }
}

/// The steps, and what each says when all is well.
fn expected() -> [(&'static str, String); 7] {
    let object = APP.replace('0', "f");
    [
        (
            "identity",
            format!(
                "application {APP} of tenant {TENANT} by federation with system:serviceaccount:pullpass:pullpass (issuer https://issuer.example, audience {AUDIENCE})"
            ),
        ),
        (
            "caller",
            format!(
                "application {APP}, object {object}, tenant {TENANT}, audience https://containerregistry.azure.net"
            ),
        ),
        ("token", format!("minted for {SERVER} by application {APP}")),
        ("life", "3h until".to_owned()),
        ("served", "by Registry azure as myreg.azurecr.io".to_owned()),
        (
            "login",
            "myreg.azurecr.io gives 00000000-0000-0000-0000-000000000000 a token".to_owned(),
        ),
        // Of the two bytes `{}`.
        (
            "manifest",
            "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a".to_owned(),
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn tells_which_hop_fails() {
    let place = Place::new().await;
    let own = "pullpass:pullpass";
    place
        .assert_fails(
            "other:pullpass",
            IMAGE,
            "identity",
            "AADSTS700213",
            "federated credential",
        )
        .await;
    place
        .assert_fails(
            own,
            "myreg.azurecr.io/team/app:2",
            "manifest",
            "has no manifest team/app:2",
            "tag",
        )
        .await;
    place.azure.add_server(SERVER, TENANT, &[]);
    place
        .assert_fails(own, IMAGE, "token", "denied AcrPull", "pullpass policy")
        .await;
    place.azure.add_server(SERVER, TENANT, &[APP]);
    place.azure.content().access_life = 1;
    place.azure.content().refresh_life = 600;
    place
        .assert_fails(own, IMAGE, "life", "10m until", "longer")
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn takes_no_login_to_another_host() {
    let place = Place::new().await;
    for realm in [
        "https://thief.example/token",
        "https://myreg.azurecr.io.thief.example/token",
        "https://myreg.azurecr.io@thief.example/token",
        "https://myreg.azurecr.io:444/token",
        "http://myreg.azurecr.io/token",
    ] {
        let challenge = format!("Bearer realm=\"{realm}\",service=\"{SERVER}\"");
        let reply = reply(401, "www-authenticate", challenge);
        place.azure.fail("/v2/", reply, 1);
        let (code, checks) = place.check("pullpass:pullpass", IMAGE).await;
        let login = checks
            .iter()
            .find(|check| check["step"] == "login")
            .unwrap();
        assert_eq!(
            (code, &login["status"]),
            (Some(1), &json!("failed")),
            "{login}"
        );
        assert!(
            login["message"].as_str().unwrap().contains("not asked"),
            "{login}"
        );
    }
    // A redirect is an answer that is not a registry's.
    let reply = reply(307, "location", "https://thief.example/v2/".to_owned());
    place.azure.fail("/v2/", reply, 1);
    place
        .assert_fails(
            "pullpass:pullpass",
            IMAGE,
            "login",
            "HTTP 307",
            "what answers there",
        )
        .await;
    assert!(place.azure.content().stolen.is_empty());
    let reached = place.azure.internet.reached();
    assert!(
        reached
            .iter()
            .all(|name| name == "myreg.azurecr.io:443" || name == "login.microsoftonline.com:443"),
        "{reached:?}"
    );
}

fn reply(status: u16, header: &'static str, value: String) -> Reply {
    Reply {
        status,
        headers: vec![(header, value)],
        ..Reply::default()
    }
}

/// What is printed where something fails.
fn print_failing(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_pullpass"))
        .arg("check")
        .args(arguments)
        .env_clear()
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let printed = String::from_utf8(output.stdout).unwrap();
    printed.lines().map(without_time).collect()
}

/// A line without the time that its step took, which is printed from a millisecond on.
fn without_time(line: &str) -> String {
    let time = line.strip_suffix(" ms)").and_then(|rest| {
        let (before, number) = rest.rsplit_once(" (")?;
        number.parse::<u32>().ok().map(|_| before)
    });
    format!("{}\n", time.unwrap_or(line))
}

#[test]
fn prints_lines_for_people() {
    let examples = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/registries.yaml");
    let printed = print_failing(&["-f", examples, "contoso.azurecr.io/team/app:1"]);
    let expected = "Registry azure-team
  ✗ identity   source secret orders-client-secret is in a cluster, and none is connected [NoCluster]
    fix        name the cluster with --kubeconfig
  – not tried  caller, token, life: there is no identity

Image contoso.azurecr.io/team/app:1
  ✓ served     by Registry azure-team as contoso.azurecr.io/team
  – not tried  login, manifest: there is no login for it

1 fine, 1 failed, 5 not tried
";
    assert_eq!(printed, expected);
}

#[test]
fn says_of_which_server_it_speaks_where_there_are_several() {
    let principal = json!({"tenantId": TENANT, "clientId": APP, "secretRef": {"name": "puller"}});
    let registry = json!({
        "apiVersion": "pullpass.dev/v1alpha1", "kind": "Registry", "metadata": {"name": "azure"},
        "spec": {
            "images": ["one.azurecr.io/team", "two.azurecr.io"], "namespaceSelector": {},
            "acr": {"identity": {"servicePrincipal": principal}},
        },
    });
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("registry.yaml");
    std::fs::write(&file, registry.to_string()).unwrap();
    let file = file.to_str().unwrap();
    let printed = print_failing(&["-f", file]);
    let expected = "Registry azure
  ✗ identity   one.azurecr.io: source secret puller is in a cluster, and none is connected [NoCluster]
    fix        name the cluster with --kubeconfig
  – not tried  one.azurecr.io: caller, token, life: there is no identity
  ✗ identity   two.azurecr.io: source secret puller is in a cluster, and none is connected [NoCluster]
    fix        name the cluster with --kubeconfig
  – not tried  two.azurecr.io: caller, token, life: there is no identity

0 fine, 2 failed, 6 not tried
";
    assert_eq!(printed, expected);
    // One image is of one server: nothing is to be told apart.
    let printed = print_failing(&["-f", file, "two.azurecr.io/app:1"]);
    assert!(!printed.contains("two.azurecr.io: source"), "{printed}");
}
