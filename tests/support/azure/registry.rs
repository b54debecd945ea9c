//! The OAuth endpoints of a login server.
//!
//! <https://github.com/Azure/acr/blob/main/docs/AAD-OAuth.md>

use serde_json::{Value, json};

use super::super::internet::{Asked, Reply};
use super::token::{make, now};
use super::{Content, Minted, RESOURCE};

pub(super) fn answer(content: &mut Content, server: &str, asked: &Asked) -> Reply {
    let answered = match (asked.method.as_str(), asked.uri.path()) {
        ("POST", "/oauth2/exchange") => exchange(content, server, asked),
        ("POST", "/oauth2/token") => token(content, server, asked),
        _ => {
            let pulled = super::pull::answer(content, server, asked);
            return pulled.unwrap_or_else(|| refusal(404, "NOT_FOUND", "404 page not found"));
        }
    };
    answered.map_or_else(|reply| reply, |body| Reply::json(200, &body))
}

pub(super) fn refusal(status: u16, code: &str, message: &str) -> Reply {
    let body = json!({"errors": [{"code": code, "message": message}]});
    Reply::json(status, &body)
}

fn unauthorized() -> Reply {
    let message =
        "authentication required, visit https://aka.ms/acr/authorization for more information.";
    refusal(401, "UNAUTHORIZED", message)
}

fn exchange(content: &mut Content, name: &str, asked: &Asked) -> Result<Value, Reply> {
    let form = asked.form();
    let field = |name: &str| form.get(name).map(String::as_str).unwrap_or_default();
    let server = &content.servers[name];
    if server.closed {
        let message = "client with IP '192.0.2.1' is not allowed access. Refer https://aka.ms/acr/firewall to grant access.";
        return Err(refusal(403, "DENIED", message));
    }
    if field("grant_type") != "access_token" || field("service") != name {
        return Err(refusal(400, "UNSUPPORTED", "grant_type or service"));
    }
    let aad = content
        .issued
        .get(field("access_token"))
        .ok_or_else(unauthorized)?;
    let takes =
        aad.audience == RESOURCE || server.takes_arm && aad.audience.contains("://management.");
    let tenant = form.get("tenant").unwrap_or(&aad.tenant_id);
    let is_good = takes
        && aad.expires_at > now()
        && aad.tenant_id == server.tenant_id
        && *tenant == aad.tenant_id
        && server.pullers.contains(&aad.client_id);
    let received = (name.to_owned(), aad.client_id.clone());
    if !is_good {
        content.received.push(received);
        return Err(unauthorized());
    }
    let minted = mint(content, name, aad.client_id.clone(), Vec::new());
    let body = json!({"refresh_token": minted.password});
    content
        .refresh_tokens
        .insert(minted.password.clone(), minted.clone());
    content.minted.push(minted);
    content.received.push(received);
    Ok(body)
}

fn token(content: &mut Content, name: &str, asked: &Asked) -> Result<Value, Reply> {
    let form = asked.form();
    let field = |name: &str| form.get(name).map(String::as_str).unwrap_or_default();
    let refresh = content.refresh_tokens.get(field("refresh_token"));
    let refresh = refresh.filter(|refresh| {
        field("grant_type") == "refresh_token" && field("service") == name && refresh.server == name
    });
    let client_id = refresh.ok_or_else(unauthorized)?.client_id.clone();
    let fields = asked.fields();
    let scopes: Vec<String> = fields
        .into_iter()
        .filter_map(|(name, scope)| (name == "scope").then_some(scope))
        .collect();
    if scopes.is_empty() || scopes.iter().any(|scope| scope.contains('*')) {
        return Err(refusal(400, "UNSUPPORTED", "scope"));
    }
    let minted = mint(content, name, client_id, scopes);
    let body = json!({"access_token": minted.password});
    content.minted.push(minted);
    Ok(body)
}

fn mint(content: &Content, name: &str, client_id: String, scopes: Vec<String>) -> Minted {
    let (kind, life) = if scopes.is_empty() {
        ("refresh_token", content.refresh_life)
    } else {
        ("access_token", content.access_life)
    };
    let password = make(&json!({
        "iss": "Azure Container Registry", "aud": name, "appid": client_id, "grant_type": kind,
        "scopes": scopes, "jti": content.minted.len(), "iat": now(), "exp": now().saturating_add(life),
    }));
    Minted {
        server: name.to_owned(),
        client_id,
        scopes,
        password,
    }
}
