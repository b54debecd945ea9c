//! Kubelets that ask the broker, and the tokens of Pods.

use std::net::SocketAddr;
use std::process::{Command, Output, Stdio};

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::chart;
use super::cluster::Cluster;
use super::process::Pullpass;

/// Whom the kubelet's tokens are for.
pub const AUDIENCE: &str = "pullpass.dev";

/// A Pod's ServiceAccount where nothing else is said.
pub const ACCOUNT: &str = "default";

/// Lets pullpass have tokens reviewed and read Pods, as the chart does with the broker.
pub async fn grant_broker(cluster: &Cluster) {
    let mut rights = chart::render(&["broker.enabled=true"]);
    rights.retain(|object| {
        let is_role = object["kind"]
            .as_str()
            .is_some_and(|kind| kind.starts_with("ClusterRole"));
        is_role && object["metadata"]["name"] == "pullpass-broker"
    });
    assert_eq!(rights.len(), 2);
    for object in &rights {
        cluster.apply(object).await;
    }
}

/// The node that Pods are bound to where nothing else is said.
pub const NODE: &str = "node-1";

/// Makes a Node, unless it is there: the API server says its uid of the tokens of Pods there.
pub async fn put_node(cluster: &Cluster, name: &str) {
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}});
    cluster.apply(&node).await;
}

/// Makes a Pod that is bound to a node which is there, or to a made-up one; answers it.
pub async fn bind_pod(cluster: &Cluster, namespace: &str, name: &str, more: &Value) -> Value {
    let made_up = more.get("made-up node").and_then(Value::as_str);
    if made_up.is_none() {
        put_node(cluster, NODE).await;
    }
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": namespace},
        "spec": {"nodeName": made_up.unwrap_or(NODE), "containers": [{"name": "c", "image": "probe.invalid/probe"}]},
    });
    if let Some(labels) = more.get("labels") {
        pod["metadata"]["labels"] = labels.clone();
    }
    if let Some(account) = more.get("account") {
        pod["spec"]["serviceAccountName"] = account.clone();
    }
    cluster.create_pod(&pod, "").await.ok().body
}

/// A token of a ServiceAccount for this audience, bound to a Pod where one is given.
pub async fn fetch_token(
    cluster: &Cluster,
    namespace: &str,
    account: &str,
    audience: &str,
    pod: Option<&Value>,
) -> String {
    let mut spec = json!({"audiences": [audience], "expirationSeconds": 3600});
    if let Some(pod) = pod {
        let metadata = &pod["metadata"];
        spec["boundObjectRef"] = json!({
            "apiVersion": "v1", "kind": "Pod", "name": metadata["name"], "uid": metadata["uid"],
        });
    }
    let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token");
    let request =
        json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec});
    let answer = cluster.send("POST", &path, Some(&request)).await.ok();
    answer.body["status"]["token"].as_str().unwrap().to_owned()
}

/// The token that the kubelet has of a Pod.
pub async fn pod_token(cluster: &Cluster, pod: &Value) -> String {
    let namespace = pod["metadata"]["namespace"].as_str().unwrap();
    let account = pod["spec"]["serviceAccountName"]
        .as_str()
        .unwrap_or(ACCOUNT);
    fetch_token(cluster, namespace, account, AUDIENCE, Some(pod)).await
}

/// What the kubelet asks about an image.
pub fn request(image: &str, token: &str) -> Value {
    json!({
        "apiVersion": "credentialprovider.kubelet.k8s.io/v1", "kind": "CredentialProviderRequest",
        "image": image, "serviceAccountToken": token,
    })
}

/// Who asks a replica's broker.
#[derive(Clone)]
pub struct Kubelet {
    pub address: SocketAddr,
    client: reqwest::Client,
}

impl Kubelet {
    /// Asks this process, which was told `--broker-listen`.
    pub fn of(pullpass: &Pullpass) -> Self {
        let line = pullpass.find_line("listening for kubelets").unwrap();
        Self {
            address: line["broker.address"].as_str().unwrap().parse().unwrap(),
            client: pullpass.client(),
        }
    }

    /// The same from this address.
    pub fn at(address: &str, pullpass: &Pullpass) -> Self {
        Self {
            client: pullpass.client_from(Some(address.parse().unwrap())),
            ..Self::of(pullpass)
        }
    }

    /// The broker's answer: its status, and what it says.
    pub async fn ask(&self, image: &str, token: &str) -> (StatusCode, Value) {
        self.send(&request(image, token)).await
    }

    /// The same of any request.
    pub async fn send(&self, request: &Value) -> (StatusCode, Value) {
        self.try_send(request).await.unwrap()
    }

    /// The same where the connection may be closed, as one is that gets no time for its handshake.
    pub async fn try_send(&self, request: &Value) -> reqwest::Result<(StatusCode, Value)> {
        let url = format!("https://{}/v1/credentials", self.address);
        let answer = self.client.post(url).json(request).send().await?;
        let status = answer.status();
        let text = answer.text().await?;
        let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
        Ok((status, body))
    }

    /// Asks, and is answered: the user name, the password, and for how long both are kept.
    pub async fn log_in(&self, image: &str, token: &str) -> (String, String, String) {
        let (status, body) = self.ask(image, token).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        read_answer(image, &body)
    }

    /// Asks, and is refused: the reason, and the message.
    pub async fn refused(&self, image: &str, token: &str) -> (String, String) {
        let (status, body) = self.ask(image, token).await;
        assert!(!status.is_success(), "{status}");
        let text = |field: &str| {
            body[field]
                .as_str()
                .unwrap_or_else(|| panic!("{status}: {body}"))
                .to_owned()
        };
        (text("reason"), text("message"))
    }
}

/// User name, password and life of an answer about one image.
pub fn read_answer(image: &str, body: &Value) -> (String, String, String) {
    assert_eq!(body["kind"], "CredentialProviderResponse", "{body}");
    assert_eq!(body["cacheKeyType"], "Image");
    let auth = body["auth"].as_object().unwrap();
    assert_eq!(auth.len(), 1, "one image is asked about");
    let login = &auth[image];
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    (
        text(&login["username"]),
        text(&login["password"]),
        text(&body["cacheDuration"]),
    )
}

/// Runs the plug-in as the kubelet does, with this on its stdin.
pub fn run_plugin(address: SocketAddr, ca: &std::path::Path, stdin: &[u8]) -> Output {
    use std::io::Write as _;
    let mut child = Command::new(env!("CARGO_BIN_EXE_pullpass"))
        .args(["credential-provider", "--server-name", "127.0.0.1"])
        .args(["--address", &address.to_string()])
        .arg("--ca-file")
        .arg(ca)
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It may have ended before all was written.
    drop(child.stdin.take().unwrap().write_all(stdin));
    child.wait_with_output().unwrap()
}
