//! Entra ID's token endpoint.
//!
//! <https://learn.microsoft.com/entra/identity-platform/v2-oauth2-client-creds-grant-flow>
//! <https://learn.microsoft.com/entra/identity-platform/reference-error-codes>

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::super::internet::{Asked, Reply};
use super::token::{claims, is_signed, issue, now};
use super::{Application, Content, RESOURCE};

/// What tokens may be for.
const RESOURCES: [&str; 4] = [
    RESOURCE,
    "https://management.azure.com",
    "https://management.chinacloudapi.cn",
    "https://management.usgovcloudapi.net",
];

type Form = BTreeMap<String, String>;

pub(super) fn answer(content: &mut Content, authority: &str, asked: &Asked) -> Reply {
    if let Some(configuration) = describe(content, authority, asked) {
        return Reply::json(200, &configuration);
    }
    match token(content, authority, asked) {
        Ok(token) => Reply::json(
            200,
            &json!({"token_type": "Bearer", "expires_in": 3599, "ext_expires_in": 3599, "access_token": token}),
        ),
        Err((status, error, code, description)) => Reply::json(
            status,
            &json!({
                "error": error, "error_codes": [code],
                "error_description": format!("AADSTS{code}: {description} Trace ID: 0 Correlation ID: 0"),
            }),
        ),
    }
}

/// What an authority or a tenant publishes about itself; `None`: that was not asked.
///
/// <https://learn.microsoft.com/entra/identity-platform/v2-protocols-oidc>
fn describe(content: &Content, authority: &str, asked: &Asked) -> Option<Value> {
    let path = asked.uri.path().strip_prefix('/')?;
    if path == "common/discovery/instance" {
        let names = json!({"preferred_network": authority, "preferred_cache": authority, "aliases": [authority]});
        return Some(json!({"api-version": "1.1", "metadata": [names]}));
    }
    let tenant_id = path.strip_suffix("/v2.0/.well-known/openid-configuration")?;
    let tenant = content.tenants.get(tenant_id)?;
    let is_asked = asked.method == "GET" && tenant.authority == authority;
    is_asked.then(|| {
        let base = format!("https://{authority}/{tenant_id}");
        json!({
            "issuer": format!("{base}/v2.0"),
            "authorization_endpoint": format!("{base}/oauth2/v2.0/authorize"),
            "token_endpoint": format!("{base}/oauth2/v2.0/token"),
        })
    })
}

type Refusal = (u16, &'static str, u64, String);

fn token(content: &mut Content, authority: &str, asked: &Asked) -> Result<String, Refusal> {
    let path = asked.uri.path().to_owned();
    let tenant_id = path
        .strip_prefix('/')
        .and_then(|path| path.strip_suffix("/oauth2/v2.0/token"))
        .filter(|_| asked.method == "POST");
    let tenant_id = tenant_id.ok_or((404, "not_found", 90_014, String::new()))?;
    let tenant = content
        .tenants
        .get(tenant_id)
        .filter(|tenant| tenant.authority == authority);
    let tenant = tenant.ok_or_else(|| {
        let words = format!("Tenant '{tenant_id}' not found.");
        (400, "invalid_request", 90_002, words)
    })?;
    let form = asked.form();
    let field = |name: &str| form.get(name).map(String::as_str).unwrap_or_default();
    if field("grant_type") != "client_credentials" {
        return Err((400, "unsupported_grant_type", 70_003, String::new()));
    }
    let client_id = field("client_id");
    let mut applications = tenant.applications.iter();
    let application = applications
        .find(|application| application.client_id == client_id)
        .ok_or_else(|| {
            let words = format!(
                "Application with identifier '{client_id}' was not found in the directory '{tenant_id}'."
            );
            (400, "unauthorized_client", 700_016, words)
        })?;
    prove(content, application, &form)?;
    let resource = field("scope").strip_suffix("/.default");
    let resource = resource.filter(|resource| RESOURCES.contains(resource));
    let resource = resource.ok_or_else(|| {
        let words = format!(
            "The resource principal named {} was not found.",
            field("scope")
        );
        (400, "invalid_resource", 500_011, words)
    })?;
    Ok(issue(content, tenant_id, client_id, resource))
}

fn prove(content: &Content, application: &Application, form: &Form) -> Result<(), Refusal> {
    if let Some(assertion) = form.get("client_assertion") {
        let type_ = form.get("client_assertion_type").map(String::as_str);
        if type_ != Some("urn:ietf:params:oauth:client-assertion-type:jwt-bearer") {
            return Err((400, "invalid_request", 50_027, String::new()));
        }
        return check_assertion(content, application, assertion);
    }
    let given = form.get("client_secret");
    let given = given.ok_or((401, "invalid_client", 7_000_216, String::new()))?;
    match application
        .secrets
        .iter()
        .find(|(secret, _)| secret == given)
    {
        Some((_, true)) => Ok(()),
        Some((_, false)) => Err((
            401,
            "invalid_client",
            7_000_222,
            "The provided client secret keys are expired.".to_owned(),
        )),
        // The real one does not quote the secret; somebody in between might.
        None => Err((
            401,
            "invalid_client",
            7_000_215,
            format!("Invalid client secret provided: '{given}'."),
        )),
    }
}

fn check_assertion(
    content: &Content,
    application: &Application,
    assertion: &str,
) -> Result<(), Refusal> {
    if assertion.split('.').count() != 3 {
        return refuse(50_027, "JWT token is invalid or malformed.");
    }
    let claims = claims(assertion);
    match_federated(application, &claims)?;
    let issuer = claims["iss"].as_str().unwrap_or_default();
    let Some(jwks) = content.issuers.get(issuer) else {
        return refuse(90_061, "Request to External OIDC endpoint failed.");
    };
    if !is_signed(assertion, jwks) {
        return refuse(50_013, "Assertion failed signature validation.");
    }
    if claims["exp"].as_i64().is_none_or(|end| end <= now())
        || claims["nbf"]
            .as_i64()
            .is_some_and(|start| start > now() + 300)
    {
        return refuse(
            700_024,
            "Client assertion is not within its valid time range.",
        );
    }
    Ok(())
}

/// An application takes the tokens of exactly one issuer, subject and audience for each of its federated credentials.
fn match_federated(application: &Application, claims: &Value) -> Result<(), Refusal> {
    let text = |name: &str| claims[name].as_str().unwrap_or_default().to_owned();
    let (issuer, subject) = (text("iss"), text("sub"));
    let audiences = match &claims["aud"] {
        Value::Array(all) => all.clone(),
        one => vec![one.clone()],
    };
    let federated = &application.federated;
    let words = "No matching federated identity record found for presented assertion";
    let of_issuer = federated.iter().filter(|known| known.issuer == issuer);
    if of_issuer.clone().next().is_none() {
        return refuse(700_211, &format!("{words} issuer '{issuer}'."));
    }
    let mut of_subject = of_issuer
        .filter(|known| known.subject == subject)
        .peekable();
    if of_subject.peek().is_none() {
        return refuse(700_213, &format!("{words} subject '{subject}'."));
    }
    if of_subject.any(|known| audiences.contains(&json!(known.audience))) {
        Ok(())
    } else {
        refuse(700_212, &format!("{words} audience."))
    }
}

fn refuse(code: u64, words: &str) -> Result<(), Refusal> {
    Err((400, "invalid_client", code, words.to_owned()))
}
