//! A cluster and an Azure that trusts it, and what pullpass makes of both.

use serde_json::{Value, json};

use super::support::account::project_token;
use super::support::azure::{Application, Azure, Federated};
use super::support::cluster::Answer;
use super::support::fixture::{FIXTURE, Fixture, references};
use super::support::keyring::{self, Login};
use super::support::process::{Launch, Pullpass};
use super::support::wait;

pub(super) const TENANT: &str = "11111111-1111-1111-1111-111111111111";
pub(super) const ELSEWHERE: &str = "66666666-6666-6666-6666-666666666666";
pub(super) const APP: &str = "22222222-2222-2222-2222-222222222220";
pub(super) const OTHER: &str = "33333333-3333-3333-3333-333333333330";
pub(super) const RESOURCE_ID: &str = "/subscriptions/44444444-4444-4444-4444-444444444444/resourceGroups/rg/providers/Microsoft.ManagedIdentity/userAssignedIdentities/pull";
pub(super) const AUDIENCE: &str = "api://AzureADTokenExchange";
pub(super) const SECRET: &str = "canary~client+secret/&=%";

/// A cluster, and an Azure that trusts its issuer.
pub(super) struct Cloud {
    pub(super) fixture: Fixture,
    pub(super) azure: Azure,
    issuer: String,
}

impl Cloud {
    /// A cloud of this name in the cluster of this test binary.
    pub(super) async fn new(name: &'static str) -> Self {
        Self::within(Fixture::new(name).await).await
    }

    /// The same with a cluster of its own: one process of a cluster leads.
    pub(super) async fn alone(name: &'static str) -> Self {
        Self::within(Fixture::alone(name).await).await
    }

    async fn within(fixture: Fixture) -> Self {
        let azure = Azure::start().await;
        let configuration = "/.well-known/openid-configuration";
        let configuration = fixture.cluster.get(configuration).await.unwrap();
        let issuer = configuration["issuer"].as_str().unwrap().to_owned();
        let jwks = fixture.cluster.get("/openid/v1/jwks").await.unwrap();
        {
            let mut content = azure.content();
            content.issuers.insert(issuer.clone(), jwks);
            TENANT.clone_into(&mut content.node.tenant_id);
        }
        Self {
            fixture,
            azure,
            issuer,
        }
    }

    /// Makes an application known that trusts a ServiceAccount (`NAMESPACE:NAME`) and has a client secret.
    pub(super) fn add_application(&self, client_id: &str, account: &str) {
        let federated = Federated {
            issuer: self.issuer.clone(),
            subject: format!("system:serviceaccount:{account}"),
            audience: AUDIENCE.to_owned(),
        };
        let application = Application {
            client_id: client_id.to_owned(),
            secrets: vec![(SECRET.to_owned(), true)],
            federated: vec![federated],
        };
        self.azure.add_application(TENANT, application);
    }

    /// Makes the application known in a tenant of another cloud, with that cloud's audience, if it trusts ServiceAccounts at all.
    pub(super) fn add_application_to(
        &self,
        tenant_id: &str,
        authority: &str,
        account: &str,
        audience: &str,
    ) {
        let mut content = self.azure.content();
        let tenant = content.tenants.entry(tenant_id.to_owned()).or_default();
        authority.clone_into(&mut tenant.authority);
        let federated = Federated {
            issuer: self.issuer.clone(),
            subject: format!("system:serviceaccount:{account}"),
            audience: audience.to_owned(),
        };
        tenant.applications = vec![Application {
            client_id: APP.to_owned(),
            secrets: vec![(SECRET.to_owned(), true)],
            federated: vec![federated],
        }];
    }

    /// Writes a Registry of this name that serves a registry's `team`, with this `acr`.
    pub(super) async fn put_registry(&self, name: &str, server: &str, acr: Value) {
        let spec = json!({"images": [format!("{server}/team")], "acr": acr});
        self.fixture.put_registry(name, spec).await;
    }

    /// Writes a source Secret with this client secret.
    pub(super) async fn put_secret(&self, name: &str, value: &str) {
        let data = json!({"AZURE_CLIENT_SECRET": value});
        self.fixture.put_source(name, "Opaque", data).await;
    }

    /// How to start pullpass with the environment that Azure's webhook makes.
    pub(super) async fn launch(&self) -> Launch {
        let launch = self.fixture.launch().await;
        let mut authorities = std::fs::read_to_string(&launch.extra_ca).unwrap();
        authorities.push_str(&self.azure.internet.ca);
        let extra_ca = self.fixture.file("authorities.crt");
        std::fs::write(&extra_ca, authorities).unwrap();
        let file = project_token(&self.fixture, AUDIENCE).await;
        let environment = [
            ("HTTPS_PROXY", self.azure.internet.proxy.as_str()),
            (
                "AZURE_POD_IDENTITY_AUTHORITY_HOST",
                &self.azure.metadata.url,
            ),
            ("AZURE_CLIENT_ID", APP),
            ("AZURE_TENANT_ID", TENANT),
            ("AZURE_AUTHORITY_HOST", "https://login.microsoftonline.com/"),
            ("AZURE_FEDERATED_TOKEN_FILE", file.to_str().unwrap()),
        ];
        let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Launch {
            extra_ca,
            environment: environment.to_vec(),
            // At this level libraries tell the most.
            log: "trace",
            ..launch
        }
    }

    /// Starts pullpass and lets the API server call it.
    pub(super) async fn start(&self) -> Pullpass {
        self.start_as(self.launch().await).await
    }

    /// The same with its controller.
    pub(super) async fn start_controller(&self) -> Pullpass {
        let launch = Launch {
            controller: true,
            ..self.launch().await
        };
        self.start_as(launch).await
    }

    async fn start_as(&self, launch: Launch) -> Pullpass {
        let pullpass = Pullpass::start(&launch).await;
        pullpass
            .register(&self.fixture.cluster, FIXTURE, self.fixture.name)
            .await;
        pullpass
    }

    /// What the kubelet would try first for an image; it must be there.
    pub(super) async fn first(&self, namespace: &str, image: &str) -> Login {
        let held = self.fixture.pull_secret(namespace).await;
        let mut found = keyring::lookup(&held, &[image]).remove(0).into_iter();
        found
            .next()
            .unwrap_or_else(|| panic!("no login for {image}"))
    }

    /// Creates a Pod that gets the reference and no credential for its image; answers why, as the user is told.
    pub(super) async fn refuse(&self, namespace: &str, image: &str) -> String {
        let created = self.fixture.create(namespace, &[image]).await;
        assert!(references(&created.body));
        let told = unwrap_lines(&created);
        assert!(!told.is_empty(), "no warning about {image}");
        if self.fixture.has_pull_secret(namespace).await {
            let held = self.fixture.pull_secret(namespace).await;
            assert_eq!(keyring::lookup(&held, &[image]), [vec![]], "{image}");
        }
        told
    }

    /// Waits until the pull secret holds the newest token of a registry, with no Pod in sight.
    pub(super) async fn wait_newest(&self, namespace: &str, server: &str) -> Login {
        let image = format!("{server}/team/hello:1");
        wait::until(&format!("the newest token of {server}"), async || {
            let newest = self.azure.newest(server)?;
            self.fixture.cluster.secret(namespace, "pullpass").await?;
            let held = self.fixture.pull_secret(namespace).await;
            let found = keyring::lookup(&held, &[&image]).remove(0);
            (found.first() == Some(&newest)).then_some(newest)
        })
        .await
    }

    /// Nobody but these hosts was ever asked, and no host got what it should not.
    pub(super) fn check_reached(&self, hosts: &[&str]) {
        for reached in self.azure.internet.reached() {
            let host = reached.strip_suffix(":443");
            assert!(
                host.is_some_and(|host| hosts.contains(&host)),
                "{reached} was asked"
            );
        }
        let stolen = &self.azure.content().stolen;
        assert!(stolen.is_empty(), "{stolen:?}");
    }
}

/// Warnings, which the API server may break into lines.
pub(super) fn unwrap_lines(answer: &Answer) -> String {
    answer.warnings.join("\n").replace("\n… ", " ")
}

/// Texts that every secret here has: tokens, logins with them, and what tests plant; plain and in base64.
const MARKS: [&str; 5] = [
    "canary",
    "Y2FuYXJ5",
    "eyJhbGciOi",
    "ZXlKaGJHY2lP",
    "MDAwMDAwMDAtMDAwMC0wMDAwLTAwMDAtMDAwMDAwMDAwMDAwO",
];

impl Cloud {
    /// No secret of any kind is in what may be read without the right to read Secrets' data: the log at its most talkative, the
    /// metrics, warnings, and every object of the cluster.
    pub(super) async fn check_discreet(&self, pullpass: &Pullpass, warnings: &str) {
        let mut seen = vec![
            ("the log", pullpass.log()),
            ("the metrics", pullpass.metrics().await),
            ("the warnings", warnings.to_owned()),
        ];
        for (what, path) in [
            ("the Pods", "/api/v1/pods"),
            ("the events", "/api/v1/events"),
            ("the Registries", "/apis/pullpass.dev/v1alpha1/registries"),
            ("the Leases", "/apis/coordination.k8s.io/v1/leases"),
            ("the Secrets beside their data", "/api/v1/secrets"),
        ] {
            let mut list = self.fixture.cluster.get(path).await.unwrap();
            for item in list["items"].as_array_mut().unwrap() {
                item.as_object_mut().unwrap().remove("data");
                seen.push((what, item.to_string()));
            }
        }
        for (what, text) in &seen {
            for mark in MARKS {
                let found = text.lines().find(|line| line.contains(mark));
                assert_eq!(found, None, "{mark} is in {what}");
            }
        }
    }
}
