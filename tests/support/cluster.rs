//! The API server as an administrator sees it: plain JSON, and the warnings that come with an answer.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::http::{Request, StatusCode, header};
use http_body_util::BodyExt as _;
use kube::client::Body;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::{Value, json};

use super::wait;

/// A client of one user.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
}

/// What the API server answered.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub body: Value,
    pub warnings: Vec<String>,
}

impl Answer {
    /// This answer, which must be a good one.
    pub fn ok(self) -> Self {
        assert!(self.status.is_success(), "{}: {}", self.status, self.body);
        self
    }
}

impl Cluster {
    /// A client of the user in a kubeconfig file.
    pub async fn connect(kubeconfig: impl AsRef<Path>) -> Self {
        drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
        let file = Kubeconfig::read_from(kubeconfig).unwrap();
        let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await;
        let client = Client::try_from(config.unwrap()).unwrap();
        Self { client }
    }

    /// Binds the rights to pullpass' own webhook configurations, as the default installation does beyond `manifests/rbac.yaml`.
    pub async fn grant_webhooks(&self) {
        let manifests = Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests");
        let mut rights = read_yaml(manifests.join("base/install.yaml"));
        rights.retain(|object| {
            let role = object["kind"].as_str().unwrap().starts_with("ClusterRole");
            role && object["metadata"]["name"] == "pullpass-webhooks"
        });
        assert_eq!(rights.len(), 2);
        for object in &rights {
            self.apply(object).await;
        }
    }

    /// Sends a request, with a body in JSON if there is one.
    pub async fn send(&self, method: &str, path: &str, body: Option<&Value>) -> Answer {
        self.try_send(method, path, body)
            .await
            .unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    /// The same where the API server may be away.
    pub async fn try_send(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Answer, kube::Error> {
        // JSON is YAML, which is what a server-side apply is sent as.
        let content_type = match method {
            "PATCH" => "application/apply-patch+yaml",
            _ => "application/json",
        };
        let bytes = body.map(ToString::to_string).unwrap_or_default();
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::CONTENT_TYPE, content_type)
            .body(Body::from(bytes.into_bytes()))
            .expect("a request of known parts");
        let answer = self.client.send(request).await?;
        let (parts, body) = answer.into_parts();
        let bytes = body.collect().await?.to_bytes();
        let warnings = parts.headers.get_all(header::WARNING).iter();
        Ok(Answer {
            status: parts.status,
            body: serde_json::from_slice(&bytes)
                .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&bytes).into_owned())),
            warnings: warnings
                .map(|warning| read_warning(&String::from_utf8_lossy(warning.as_bytes())))
                .collect(),
        })
    }

    /// Reads an object; `None`: there is none.
    pub async fn get(&self, path: &str) -> Option<Value> {
        let answer = self.send("GET", path, None).await;
        if answer.status == StatusCode::NOT_FOUND {
            return None;
        }
        Some(answer.ok().body)
    }

    /// Makes an object, or makes it as said, by server-side apply.
    pub async fn apply(&self, object: &Value) -> Value {
        let path = format!("{}?fieldManager=test&force=true", path_of(object));
        self.send("PATCH", &path, Some(object)).await.ok().body
    }

    /// Applies every document of a YAML file.
    pub async fn apply_file(&self, file: impl AsRef<Path>) {
        for object in read_yaml(file) {
            self.apply(&object).await;
        }
    }

    /// Deletes an object of the form that [`Cluster::apply`] takes.
    pub async fn delete(&self, object: &Value) {
        self.send("DELETE", &path_of(object), None).await.ok();
    }

    /// Waits until the API server asks every policy that was applied before. It learns of policies and of bindings in the order in which
    /// they were made, some seconds late: once it asks the last of each, it asks all.
    pub async fn wait_for_policies(&self) {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = &format!("marker-{}-{count}", std::process::id());
        let api_version = "admissionregistration.k8s.io/v1";
        let rule = json!({"apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"], "operations": ["CREATE"]});
        let expression = format!("object.metadata.name != '{name}'");
        let marker = [
            json!({
                "apiVersion": api_version, "kind": "ValidatingAdmissionPolicy", "metadata": {"name": name},
                "spec": {"matchConstraints": {"resourceRules": [rule]}, "validations": [{"expression": expression}]},
            }),
            json!({
                "apiVersion": api_version, "kind": "ValidatingAdmissionPolicyBinding", "metadata": {"name": name},
                "spec": {"policyName": name, "validationActions": ["Deny"]},
            }),
        ];
        for object in &marker {
            self.apply(object).await;
        }
        let probe = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}});
        let path = "/api/v1/namespaces/default/configmaps?dryRun=All";
        wait::until("the API server to ask the policies", async || {
            let answer = self.send("POST", path, Some(&probe)).await;
            (answer.status == StatusCode::UNPROCESSABLE_ENTITY).then_some(())
        })
        .await;
        for object in marker.iter().rev() {
            self.delete(object).await;
        }
    }

    /// Creates a Pod; `query` may be `dryRun=All`.
    pub async fn create_pod(&self, pod: &Value, query: &str) -> Answer {
        let namespace = pod["metadata"]["namespace"].as_str().expect("a namespace");
        let path = format!("/api/v1/namespaces/{namespace}/pods?{query}");
        self.send("POST", &path, Some(pod)).await
    }

    /// The Secret of this name; `None`: there is none.
    pub async fn secret(&self, namespace: &str, name: &str) -> Option<Value> {
        self.get(&format!("/api/v1/namespaces/{namespace}/secrets/{name}"))
            .await
    }

    /// Whether this user may do that, as the API server says: `verb`, `resource`, `namespace`, `name` and so on.
    pub async fn may(&self, attributes: &Value) -> bool {
        let review = json!({
            "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": attributes},
        });
        let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
        let answer = self.send("POST", path, Some(&review)).await.ok();
        answer.body["status"]["allowed"] == true
    }
}

/// The documents of a YAML file.
pub fn read_yaml(file: impl AsRef<Path>) -> Vec<Value> {
    let text = std::fs::read_to_string(&file).unwrap();
    serde_saphyr::from_multiple(&text)
        .unwrap_or_else(|error| panic!("{}: {error}", file.as_ref().display()))
}

fn path_of(object: &Value) -> String {
    let version = object["apiVersion"].as_str().expect("an apiVersion");
    let kind = object["kind"].as_str().expect("a kind").to_lowercase();
    let name = object["metadata"]["name"].as_str().expect("a name");
    let root = if version.contains('/') { "apis" } else { "api" };
    let plural = match kind.strip_suffix('y') {
        Some(stem) => format!("{stem}ies"),
        None => format!("{kind}s"),
    };
    match object["metadata"]["namespace"].as_str() {
        Some(namespace) => format!("/{root}/{version}/namespaces/{namespace}/{plural}/{name}"),
        None => format!("/{root}/{version}/{plural}/{name}"),
    }
}

/// `299 - "text"`: <https://www.rfc-editor.org/rfc/rfc7234#section-5.5>
fn read_warning(header: &str) -> String {
    let text = header.splitn(3, ' ').nth(2).unwrap_or(header);
    text.trim_matches('"').replace("\\\"", "\"")
}
