//! Azure workload identity, beside Azure's own webhook of before 1.6 (which mounts the path that everybody knows) and after.

use serde_json::{Value, json};

use super::place::{
    Platform, create, environment, install, prepare, projected, refuse, rename_volume, variable,
};
use super::support::azure::token::claims;
use super::support::azure::{Application, Azure, Federated};
use super::support::fixture::{FIXTURE, Fixture, OWN};
use super::support::keyring;
use super::support::process::{Launch, Pullpass};
use super::support::wait;

/// The tenant of the bed's webhooks.
const TENANT: &str = "22222222-2222-2222-2222-222222222222";
const APP: &str = "33333333-3333-3333-3333-333333333330";
const AUDIENCE: &str = "api://AzureADTokenExchange";
const PATH: &str = "/var/run/secrets/azure/tokens/azure-identity-token";
const LABEL: &str = r"=podLabels.azure\.workload\.identity/use=true";
const VALUES: &str = "identity.azure.clientId=33333333-3333-3333-3333-333333333330,identity.azure.tenantId=22222222-2222-2222-2222-222222222222";
const ANNOTATION: &str = r"serviceAccount.annotations.azure\.workload\.identity/client-id=33333333-3333-3333-3333-333333333330";

/// The webhooks of `bed platform`, and where each mounts its token.
const WEBHOOKS: [(&str, &str); 2] = [
    ("azure-1.5", PATH),
    (
        "azure",
        "/var/run/secrets/azure/wi/token/azure-identity-token",
    ),
];

/// A cluster whose issuer Entra ID knows, and a namespace that opted in.
struct Cluster {
    fixture: Fixture,
    azure: Azure,
    namespace: String,
}

impl Cluster {
    async fn start(name: &'static str) -> Self {
        let fixture = Fixture::alone(name).await;
        prepare(&fixture).await;
        let azure = Azure::start().await;
        let configuration = "/.well-known/openid-configuration";
        let configuration = fixture.cluster.get(configuration).await.unwrap();
        let issuer = configuration["issuer"].as_str().unwrap().to_owned();
        let jwks = fixture.cluster.get("/openid/v1/jwks").await.unwrap();
        azure.content().issuers.insert(issuer.clone(), jwks);
        let federated = Federated {
            issuer,
            subject: format!("system:serviceaccount:{OWN}:pullpass"),
            audience: AUDIENCE.to_owned(),
        };
        let application = Application {
            client_id: APP.to_owned(),
            federated: vec![federated],
            ..Application::default()
        };
        azure.add_application(TENANT, application);
        let namespace = fixture.namespace("pods").await;
        Self {
            fixture,
            azure,
            namespace,
        }
    }

    /// Azure's webhook of this version, which looks at Pods with its label alone.
    async fn webhook(&self, version: &str) -> Platform {
        let selector = json!({"matchLabels": {"azure.workload.identity/use": "true"}});
        Platform::start(&self.fixture, &[version], selector).await
    }

    /// Runs the program with the environment of a Pod that was created, until it is ready and has minted for this registry; answers for
    /// which application.
    async fn run(&self, pod: &Value, server: &str) -> String {
        let fixture = &self.fixture;
        self.azure.add_server(server, TENANT, &[APP]);
        let spec =
            json!({"images": [format!("{server}/team")], "acr": {"identity": {"workload": {}}}});
        fixture.put_registry(fixture.name, spec).await;
        let launch = fixture.launch().await;
        std::fs::write(&launch.extra_ca, &self.azure.internet.ca).unwrap();
        let launch = Launch {
            environment: environment(fixture, pod).await,
            arguments: vec!["--drain-delay", "0"],
            ..launch
        };
        let pullpass = Pullpass::start(&launch).await;
        pullpass
            .register(&fixture.cluster, FIXTURE, fixture.name)
            .await;
        let image = format!("{server}/team/hello:1");
        let login = wait::until(&format!("a login for {image}"), async || {
            fixture.create(&self.namespace, &[&image]).await;
            fixture.cluster.secret(&self.namespace, "pullpass").await?;
            let held = fixture.pull_secret(&self.namespace).await;
            keyring::lookup(&held, &[&image]).remove(0).pop()
        })
        .await;
        pullpass.terminate();
        let newest = self.azure.newest(server);
        assert_eq!(newest.as_ref(), Some(&login));
        claims(&login.password)["appid"]
            .as_str()
            .unwrap()
            .to_owned()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mints_on_azure_with_its_label_and_without() {
    let cluster = Cluster::start("azure").await;
    let fixture = &cluster.fixture;
    let proxy = format!(
        "extraEnv[0].name=HTTPS_PROXY,extraEnv[0].value={}",
        cluster.azure.internet.proxy
    );
    for (version, path) in WEBHOOKS {
        let platform = cluster.webhook(version).await;
        let rows: [(&str, &[&str], &str, bool); 3] = [
            ("values", &[VALUES], PATH, false),
            ("label", &[VALUES, LABEL], PATH, true),
            // All of it by Azure's webhook.
            ("annotation", &[ANNOTATION, LABEL], path, true),
        ];
        for (name, settings, path, is_seen) in rows {
            let pod = install(fixture, &[settings, &[proxy.as_str()]].concat()).await;
            let created = create(fixture, &pod).await;
            let row = format!("{version} {name}");
            for (variable_name, expected) in [
                ("AZURE_CLIENT_ID", APP),
                ("AZURE_TENANT_ID", TENANT),
                ("AZURE_FEDERATED_TOKEN_FILE", path),
            ] {
                let said = variable(&created, variable_name);
                assert_eq!(said, Some(expected), "{row}");
            }
            let authority = variable(&created, "AZURE_AUTHORITY_HOST");
            assert_eq!(authority.is_some(), is_seen, "{row}: {authority:?}");
            let token = projected(&created, path);
            let token = token.unwrap_or_else(|| panic!("{row}: no token at {path}"));
            assert_eq!(token.audience, AUDIENCE, "{row}");
            assert_eq!(token.seconds, 3600, "{row}");
            let server = format!("{name}{}.azurecr.io", version.replace(['-', '.'], ""));
            assert_eq!(cluster.run(&created, &server).await, APP, "{row}");
        }
        platform.leave(fixture).await;
    }
}

/// What this is about: under another name Azure's webhook of before 1.6 mounts the same path once more, and no replica is ever created.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn needs_the_name_of_azure_for_its_volume() {
    let cluster = Cluster::start("azure-names").await;
    let fixture = &cluster.fixture;
    let pod = install(fixture, &[VALUES, LABEL]).await;
    let renamed = rename_volume(&pod, "azure-identity-token", "azure");
    for (version, is_refused) in [("azure-1.5", true), ("azure", false)] {
        let platform = cluster.webhook(version).await;
        if is_refused {
            let said = refuse(fixture, &renamed).await;
            assert!(said.contains("must be unique"), "{said}");
        } else {
            create(fixture, &renamed).await;
        }
        create(fixture, &pod).await;
        platform.leave(fixture).await;
    }
}
