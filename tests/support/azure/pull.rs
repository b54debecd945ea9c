//! The registry behind a login server: what a container runtime asks it.
//!
//! <https://github.com/Azure/acr/blob/main/docs/Token-BasicAuth.md>

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::super::internet::{Asked, Reply, decode, parse_form};
use super::registry::refusal;
use super::token::{claims, make, now};
use super::{Content, USERNAME};

/// Answers a runtime's requests; `None`: this is none of them.
pub(super) fn answer(content: &mut Content, server: &str, asked: &Asked) -> Option<Reply> {
    // Clients may encode the repository's `/`.
    let path = decode(asked.uri.path());
    let header = asked.headers.get("authorization");
    let authorization = header.map_or("", |value| value.to_str().unwrap());
    if asked.method == "GET" && path == "/oauth2/token" {
        return Some(give_token(
            content,
            server,
            authorization,
            asked.uri.query()?,
        ));
    }
    let rest = path.strip_prefix("/v2/")?;
    let bearer = authorization.strip_prefix("Bearer ").unwrap_or_default();
    let Some((repository, tag)) = rest.split_once("/manifests/") else {
        let is_known = content.bearers.contains(bearer) && claims(bearer)["aud"] == server;
        return Some(if is_known {
            Reply::json(200, &json!({}))
        } else {
            challenge(server, "")
        });
    };
    let scope = format!("repository:{repository}:pull");
    if !allows(content, bearer, server, &scope) {
        return Some(challenge(server, &format!(",scope=\"{scope}\"")));
    }
    if !content
        .images
        .contains(&format!("{server}/{repository}:{tag}"))
    {
        return Some(refusal(404, "MANIFEST_UNKNOWN", "manifest unknown"));
    }
    let mut reply = Reply::json(200, &json!({}));
    let digest = Sha256::digest(&reply.body)
        .iter()
        .fold("sha256:".to_owned(), |digest, byte| {
            format!("{digest}{byte:02x}")
        });
    reply.headers.push(("docker-content-digest", digest));
    Some(reply)
}

/// Whether a token is for this: it was given for a login, or for a refresh token.
fn allows(content: &Content, bearer: &str, server: &str, scope: &str) -> bool {
    if content.bearers.contains(bearer) {
        let claims = claims(bearer);
        return claims["aud"] == server && claims["scope"] == scope;
    }
    let mut minted = content.minted.iter();
    minted.any(|minted| {
        minted.password == bearer
            && minted.server == server
            && minted.scopes.iter().any(|allowed| allowed == scope)
    })
}

fn challenge(server: &str, scope: &str) -> Reply {
    let realm =
        format!("Bearer realm=\"https://{server}/oauth2/token\",service=\"{server}\"{scope}");
    let mut reply = refusal(401, "UNAUTHORIZED", "authentication required");
    reply.headers.push(("www-authenticate", realm));
    reply
}

/// A token for the login in the header.
fn give_token(content: &mut Content, server: &str, authorization: &str, query: &str) -> Reply {
    let basic = authorization.strip_prefix("Basic ").unwrap_or_default();
    let login = String::from_utf8(STANDARD.decode(basic).unwrap_or_default()).unwrap_or_default();
    let is_good = login.split_once(':').is_some_and(|(username, password)| {
        let mut minted = content.minted.iter();
        username == USERNAME
            && minted.any(|minted| minted.server == server && minted.password == password)
    });
    let fields: std::collections::BTreeMap<String, String> =
        parse_form(query).into_iter().collect();
    if !is_good || fields.get("service").map(String::as_str) != Some(server) {
        return refusal(
            401,
            "UNAUTHORIZED",
            "authentication required, visit https://aka.ms/acr/authorization for more information.",
        );
    }
    let token = make(&json!({"aud": server, "scope": fields.get("scope"), "exp": now() + 4500}));
    content.bearers.insert(token.clone());
    Reply::json(200, &json!({"access_token": token}))
}
