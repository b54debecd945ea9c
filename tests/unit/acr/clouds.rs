//! Who is asked in each cloud, by the Registry that says it.

use pullpass::credential::acr::AzureEnvironment;
use pullpass::registry::source::{AcrIdentity, AcrSource, MintSource};
use pullpass::registry::{CredentialSource, Registries, Registry};
use secrecy::ExposeSecret as _;
use serde::Deserialize;
use serde_json::{Value, json};

use super::fixture::{APP, Fixture, SECRET, TENANT};
use super::support::azure::token::claims;

/// A row of the table.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    server: String,
    /// `spec.acr`, without an identity.
    acr: Value,
    /// Who gives tokens of Entra ID.
    authority: String,
    /// Whom ServiceAccounts' tokens are for.
    audience: String,
    /// Whom tokens of Entra ID are for.
    resource: String,
}

impl Case {
    /// The source of a Registry with this identity.
    fn source(&self, identity: Value) -> AcrSource {
        let mut acr = self.acr.clone();
        if identity["serviceAccount"].is_null() {
            // It is for those tokens alone.
            acr.as_object_mut().unwrap().remove("audience");
        }
        acr["identity"] = identity;
        let object = json!({
            "apiVersion": "pullpass.dev/v1alpha1", "kind": "Registry", "metadata": {"name": "any"},
            "spec": {"images": [format!("{}/team", self.server)], "namespaceSelector": {}, "acr": acr},
        });
        let registry: Registry = serde_json::from_value(object).unwrap();
        let registries = Registries::build([registry]);
        assert_eq!(
            registries.problems().len(),
            0,
            "{:?}",
            registries.problems()
        );
        match &registries.iter().next().unwrap().sources[0].0 {
            CredentialSource::Minted(MintSource::Acr(source)) => source.clone(),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn asks_the_cloud_that_the_registry_says() {
    let cases: Vec<Case> =
        serde_json::from_str(include_str!("../../data/azure_clouds.json")).unwrap();
    assert!(cases.len() >= 12, "the table lost rows: {}", cases.len());
    for case in cases {
        let (server, authority) = (case.server.as_str(), &case.authority);
        let fixture = Fixture::new().await;
        {
            let mut content = fixture.azure.content();
            authority.clone_into(&mut content.tenants.get_mut(TENANT).unwrap().authority);
        }
        fixture.azure.add_server(server, TENANT, &[APP]);
        let takes_arm = case.resource.contains("://management.");
        fixture
            .azure
            .content()
            .servers
            .get_mut(server)
            .unwrap()
            .takes_arm = takes_arm;
        let identity = json!({"servicePrincipal": {"clientId": APP, "tenantId": TENANT, "secretRef": {"name": "principal"}}});
        let source = case.source(identity);
        let minted = fixture.mint_with(source, Some(SECRET), AzureEnvironment::default());
        let credential = minted
            .await
            .unwrap_or_else(|error| panic!("{server}: {error}"));
        assert_eq!(claims(credential.password.expose_secret())["aud"], server);
        let reached = [format!("{authority}:443"), format!("{server}:443")];
        assert_eq!(fixture.azure.internet.reached(), reached);
        assert_eq!(
            fixture.azure.content().asked_for,
            [case.resource.as_str()],
            "{server}"
        );

        let account = json!({"serviceAccount": {"name": "puller", "fromAnnotations": true}});
        match case.source(account).identity {
            AcrIdentity::ServiceAccount { audience, .. } => {
                assert_eq!(audience, case.audience, "{server}");
            }
            other => panic!("{server}: {other:?}"),
        }
    }
}
