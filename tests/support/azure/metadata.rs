//! A node's instance metadata, or AAD Pod Identity's agent (NMI) in its place.
//!
//! <https://learn.microsoft.com/entra/identity/managed-identities-azure-resources/how-to-use-vm-token>
//! <https://github.com/Azure/aad-pod-identity/blob/master/pkg/nmi/server/server.go>

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::super::internet::{Reply, parse_form};
use super::token::issue;
use super::{Content, RESOURCE};

const API_VERSIONS: [&str; 3] = ["2018-02-01", "2019-08-01", "2019-11-01"];

/// What a node's instance metadata knows.
#[derive(Clone, Debug, Default)]
pub struct Node {
    pub tenant_id: String,
    /// The client id of the system-assigned identity.
    pub system: Option<String>,
    /// User-assigned identities: client id and resource id.
    pub user_assigned: Vec<(String, String)>,
    /// Whether AAD Pod Identity's agent answers in its place.
    pub pod_identity: PodIdentity,
}

impl Node {
    fn find(&self, client_id: Option<&String>, resource_id: Option<&String>) -> Option<String> {
        if client_id.is_none() && resource_id.is_none() {
            return self.system.clone();
        }
        let is_it = |(client, resource): &&(String, String)| {
            client_id == Some(client)
                || resource_id.is_some_and(|id| id.eq_ignore_ascii_case(resource))
        };
        let found = self.user_assigned.iter().find(is_it);
        found.map(|(client_id, _)| client_id.clone())
    }
}

/// What AAD Pod Identity's agent knows of the Pod that asks.
#[derive(Clone, Debug, Default)]
pub enum PodIdentity {
    /// There is none.
    #[default]
    Absent,
    /// The Pod has not been assigned an identity yet.
    Waiting,
    /// The Pod is assigned the identity of this client id.
    Assigned(String),
}

/// A running one, on plain HTTP as the real one.
pub struct Metadata {
    /// For `AZURE_POD_IDENTITY_AUTHORITY_HOST`.
    pub url: String,
    task: JoinHandle<()>,
}

impl Drop for Metadata {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Metadata {
    pub(super) async fn start(content: Arc<Mutex<Content>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().fallback(answer).with_state(content);
        let serve = async { axum::serve(listener, router).await.unwrap() };
        Self {
            url,
            task: tokio::spawn(serve),
        }
    }
}

async fn answer(
    State(content): State<Arc<Mutex<Content>>>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let reply = {
        let mut content = content.lock().unwrap();
        let url = format!("metadata{}", uri.path());
        content.calls.push(url.clone());
        match content.fault(&url) {
            Some(Reply {
                status: 0, delay, ..
            }) => Reply {
                delay,
                ..token(&mut content, &uri, &headers)
            },
            Some(reply) => reply,
            None => token(&mut content, &uri, &headers),
        }
    };
    tokio::time::sleep(reply.delay).await;
    let status = StatusCode::from_u16(reply.status).unwrap();
    let mut response = (status, reply.body).into_response();
    for (name, value) in reply.headers {
        response.headers_mut().insert(name, value.parse().unwrap());
    }
    response
}

fn bad(description: &str) -> Reply {
    Reply::json(
        400,
        &json!({"error": "invalid_request", "error_description": description}),
    )
}

fn token(content: &mut Content, uri: &Uri, headers: &HeaderMap) -> Reply {
    if uri.path() != "/metadata/identity/oauth2/token" {
        return Reply::json(404, &json!({"error": "Not found"}));
    }
    if headers.get("metadata").is_none_or(|value| value != "true")
        || headers.contains_key("x-forwarded-for")
    {
        return bad("Required metadata header not specified");
    }
    let query: BTreeMap<_, _> = parse_form(uri.query().unwrap_or_default())
        .into_iter()
        .collect();
    let field = |name: &str| query.get(name).map(String::as_str).unwrap_or_default();
    if !API_VERSIONS.contains(&field("api-version")) {
        return bad("Required query variable 'api-version' is missing or unknown");
    }
    let resource = field("resource").to_owned();
    if resource != RESOURCE && !resource.contains("://management.") {
        return bad("AADSTS500011: The resource principal was not found in the tenant");
    }
    let node = content.node.clone();
    let found = match &node.pod_identity {
        PodIdentity::Waiting => {
            // It waits for the assignment for a minute and more, and says so in plain text then.
            return Reply {
                status: 404,
                body: "no AzureAssignedIdentity found for pod:pullpass/pullpass\n".to_owned(),
                delay: Duration::from_secs(80),
                ..Reply::default()
            };
        }
        PodIdentity::Assigned(client_id) => Some(client_id.clone()),
        PodIdentity::Absent => node.find(query.get("client_id"), query.get("msi_res_id")),
    };
    let Some(client_id) = found else {
        return bad("Identity not found");
    };
    let token = issue(content, &node.tenant_id, &client_id, &resource);
    Reply::json(
        200,
        &json!({
            "access_token": token, "client_id": client_id, "expires_in": "3599", "expires_on": "1506484173",
            "not_before": "1506480273", "resource": resource, "token_type": "Bearer",
        }),
    )
}
