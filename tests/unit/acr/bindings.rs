//! AKS identity bindings: the token of Entra ID comes through the proxy that the environment names.

use std::path::PathBuf;

use pullpass::credential::MintError;
use pullpass::credential::acr::{AzureEnvironment, TokenProxyEnvironment};
use pullpass::registry::source::{AcrEndpoints, AcrIdentity, AcrSource};
use serde_json::{Value, json};

use super::fixture::{
    APP, Fixture, SERVER, TENANT, WORKLOAD, assert_minted, checked, source, tenant,
};
use super::support::azure::{Application, Federated};
use super::support::internet::Reply;
use super::support::pki::Authority;

/// The name that the proxy is asked by.
const PROXY: &str = "binding.ests.example";
/// Whom tokens are for that it takes.
const BINDING: &str = "api://AKSIdentityBinding";
/// Who would be asked without it.
const ENTRA: &str = "login.microsoftonline.com:443";

/// An Azure in which the tenant's tokens come from the proxy alone, and a folder.
struct Bound {
    fixture: Fixture,
    folder: tempfile::TempDir,
}

impl Bound {
    async fn new() -> Self {
        let fixture = Fixture::new().await;
        let federated = Federated {
            issuer: fixture.issuer.url.clone(),
            subject: "system:serviceaccount:pullpass:pullpass".to_owned(),
            audience: BINDING.to_owned(),
        };
        let application = Application {
            client_id: APP.to_owned(),
            secrets: Vec::new(),
            federated: vec![federated],
        };
        fixture.azure.add_application(TENANT, application);
        let mut content = fixture.azure.content();
        let tenant = content.tenants.get_mut(TENANT).unwrap();
        PROXY.clone_into(&mut tenant.authority);
        drop(content);
        let folder = tempfile::tempdir().unwrap();
        Self { fixture, folder }
    }

    /// The proxy, with this authority in a file.
    fn proxy(&self, ca: &str) -> TokenProxyEnvironment {
        let file = self.folder.path().join("ca.crt");
        std::fs::write(&file, ca).unwrap();
        TokenProxyEnvironment {
            url: Some(
                self.fixture
                    .azure
                    .internet
                    .proxy
                    .replace("http://", "https://"),
            ),
            sni_name: Some(PROXY.to_owned()),
            ca_file: Some(file),
            ca_data: None,
        }
    }

    fn ca(&self) -> String {
        self.fixture.azure.internet.ca.clone()
    }

    fn environment(&self, token_proxy: TokenProxyEnvironment) -> AzureEnvironment {
        let token = self
            .fixture
            .issuer
            .token("pullpass:pullpass", BINDING, 3600);
        AzureEnvironment {
            token_proxy,
            ..self.fixture.environment(&token)
        }
    }

    async fn mint(
        &self,
        identity: AcrIdentity,
        proxy: TokenProxyEnvironment,
    ) -> Result<(), MintError> {
        self.mint_of(source(identity), proxy).await
    }

    async fn mint_of(
        &self,
        source: AcrSource,
        proxy: TokenProxyEnvironment,
    ) -> Result<(), MintError> {
        let environment = self.environment(proxy);
        let minted = self.fixture.mint_with(source, None, environment).await;
        minted
            .map(|credential| assert_minted(&credential, APP))
            .map_err(checked)
    }

    fn reached(&self) -> Vec<String> {
        self.fixture.azure.internet.reached()
    }
}

/// F13: by the name that it has in TLS, at the address in its URL, trusting its authority alone; Entra ID itself is not asked.
#[tokio::test]
async fn mints_by_the_token_proxy_of_the_environment() {
    let bound = Bound::new().await;
    let by_file = bound.proxy(&bound.ca());
    let by_data = TokenProxyEnvironment {
        ca_file: None,
        ca_data: Some(bound.ca()),
        ..by_file.clone()
    };
    for proxy in [by_file, by_data] {
        bound.mint(WORKLOAD, proxy).await.unwrap();
    }
    let (proxy, server) = (&*format!("{PROXY}:443"), &*format!("{SERVER}:443"));
    assert_eq!(bound.reached(), [proxy, server, proxy, server]);
}

/// The token of a namespace's ServiceAccount goes there if it is one for the proxy, and only then.
#[tokio::test]
async fn sends_tokens_of_namespaces_to_the_proxy_only_if_they_are_for_it() {
    let bound = Bound::new().await;
    let account = tenant("pullpass", TENANT, APP);
    let error = bound.mint(account.clone(), bound.proxy(&bound.ca())).await;
    assert!(
        error.is_err(),
        "it is for Entra ID, which has no such tenant here"
    );
    assert_eq!(bound.reached(), [ENTRA]);
    let AcrIdentity::Tenant {
        tenant,
        client_id,
        tenant_id,
        ..
    } = account
    else {
        unreachable!("it is a ServiceAccount of a tenant")
    };
    let account = AcrIdentity::Tenant {
        tenant,
        client_id,
        tenant_id,
        audience: BINDING.to_owned(),
    };
    bound.mint(account, bound.proxy(&bound.ca())).await.unwrap();
    assert_eq!(bound.reached()[1], format!("{PROXY}:443"));
}

/// What an admin says in a Registry comes before what a webhook says of the Pod.
#[tokio::test]
async fn asks_the_authority_of_the_registry_instead_of_the_proxy() {
    let bound = Bound::new().await;
    let endpoints = AcrEndpoints {
        authority: Some("https://login.microsoftonline.com".to_owned()),
        ..AcrEndpoints::default()
    };
    let source = AcrSource {
        endpoints,
        ..source(WORKLOAD)
    };
    assert!(
        bound
            .mint_of(source, bound.proxy(&bound.ca()))
            .await
            .is_err()
    );
    assert_eq!(bound.reached(), [ENTRA]);
}

/// The file is read for each mint: a proxy whose authority was replaced is trusted without a restart, and nobody else is.
#[tokio::test]
async fn reads_the_authority_of_the_proxy_again_when_it_changes() {
    let bound = Bound::new().await;
    let stranger = Authority::new("a stranger").pem();
    let wrong = bound.proxy(&stranger);
    let error = bound.mint(WORKLOAD, wrong).await.unwrap_err().to_string();
    println!("{error}");
    for words in [PROXY, "127.0.0.1", "AZURE_KUBERNETES_CA_FILE"] {
        assert!(error.contains(words), "{words}: {error}");
    }
    assert!(!error.contains("--extra-ca"), "{error}");
    for (ca, words) in [("", "no certificate"), ("hello", "no certificate")] {
        let error = bound.mint(WORKLOAD, bound.proxy(ca)).await.unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
    }
    let missing = TokenProxyEnvironment {
        ca_file: Some(PathBuf::from("/nowhere/ca.crt")),
        ..bound.proxy(&stranger)
    };
    let error = bound.mint(WORKLOAD, missing).await.unwrap_err().to_string();
    assert!(error.contains("/nowhere/ca.crt"), "{error}");
    bound
        .mint(WORKLOAD, bound.proxy(&bound.ca()))
        .await
        .unwrap();
}

/// What the proxy answers: status and body, the reason, and words of what is said of it.
fn proxy_answers() -> Vec<(u16, Value, &'static str, [&'static str; 2])> {
    let status = |message: &str| json!({"kind": "Status", "status": "Failure", "message": message});
    let forbidden = "User \"system:serviceaccount:pullpass:pullpass\" cannot use-managed-identity resource \"x\"";
    let of_entra = json!({
        "error": "invalid_client", "error_codes": [700_016],
        "error_description": "AADSTS700016: Application with identifier 'x' was not found in the directory 'y'.",
    });
    vec![
        (
            403,
            status(forbidden),
            "AccessDenied",
            [
                "use-managed-identity on the client id",
                "cannot use-managed-identity resource",
            ],
        ),
        (
            401,
            status("Unauthorized"),
            "UnrecognizedClient",
            ["api://AKSIdentityBinding", "it said: Unauthorized"],
        ),
        (
            404,
            status("identity binding not found"),
            "NoIdentity",
            [
                "az aks identity-binding create",
                "identity binding not found",
            ],
        ),
        (
            503,
            status("no endpoints"),
            "Unavailable",
            ["wait, retrying", "no endpoints"],
        ),
        (
            401,
            of_entra,
            "UnrecognizedClient",
            ["has a service principal in that tenant", "AADSTS700016"],
        ),
    ]
}

/// What it says itself is no answer of Entra ID, and advised about by what it is; what it hands on is.
#[tokio::test]
async fn advises_by_what_the_proxy_answers() {
    let bound = Bound::new().await;
    for (code, body, reason, words) in proxy_answers() {
        bound.fixture.azure.fail(PROXY, Reply::json(code, &body), 1);
        let error = bound
            .mint(WORKLOAD, bound.proxy(&bound.ca()))
            .await
            .unwrap_err();
        println!("{error}");
        assert_eq!(error.reason(), reason, "{error}");
        for words in words {
            assert!(error.to_string().contains(words), "{words}: {error}");
        }
    }
}
