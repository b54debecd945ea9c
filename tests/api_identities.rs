//! pullpass' own identities, proved with tokens of the cluster's own issuer.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::path::PathBuf;

use serde_json::{Value, json};
use support::process::{Launch, Pullpass};
use support::scene::{ECR, OWN, SCENE, Scene, references};

const ACCOUNT: &str = "arn:aws:iam::123456789012";

/// Lets IAM know the cluster's issuer, for web identity and for the Pod Identity agent; answers its host.
async fn trust_cluster(scene: &Scene) -> String {
    let configuration = "/.well-known/openid-configuration";
    let configuration = scene.cluster.get(configuration).await.unwrap();
    let issuer = configuration["issuer"].as_str().unwrap();
    let jwks = scene.cluster.get("/openid/v1/jwks").await.unwrap();
    let audiences = ["sts.amazonaws.com", "pods.eks.amazonaws.com"];
    let body = json!({"issuer": issuer, "jwks": jwks, "audiences": audiences});
    scene.world.moto.post("issuers", body).await;
    issuer.strip_prefix("https://").unwrap().to_owned()
}

/// Makes a role of this name that the cluster's ServiceAccount pullpass/pullpass may assume.
async fn add_role(scene: &Scene, name: &str) -> String {
    let issuer = trust_cluster(scene).await;
    let role = format!("{ACCOUNT}:role/{name}");
    let statement = json!({
        "Effect": "Allow", "Action": "sts:AssumeRoleWithWebIdentity",
        "Principal": {"Federated": format!("{ACCOUNT}:oidc-provider/{issuer}")},
        "Condition": {"StringEquals": {
            format!("{issuer}:sub"): "system:serviceaccount:pullpass:pullpass",
            format!("{issuer}:aud"): "sts.amazonaws.com",
        }},
    });
    let trust = json!({"Version": "2012-10-17", "Statement": [statement]});
    scene
        .world
        .moto
        .post("roles", json!({"roleArn": role, "trust": trust}))
        .await;
    role
}

/// A token of pullpass' ServiceAccount for this audience, as the kubelet projects it into a file.
async fn project_token(scene: &Scene, audience: &str) -> PathBuf {
    let path = format!("/api/v1/namespaces/{OWN}/serviceaccounts/pullpass/token");
    let request = json!({
        "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
        "spec": {"audiences": [audience], "expirationSeconds": 3600},
    });
    let answer = scene.cluster.send("POST", &path, Some(&request)).await.ok();
    let file = scene.file(audience);
    std::fs::write(&file, answer.body["status"]["token"].as_str().unwrap()).unwrap();
    file
}

/// Starts pullpass with this environment and a Registry with this identity; answers who minted what the first Pod needs.
async fn mint(scene: &Scene, identity: Value, environment: &[(&str, String)]) -> String {
    let endpoints = json!({"ecr": scene.aws.url, "sts": scene.aws.url});
    let spec = json!({"images": [format!("{ECR}/team")], "ecr": {"identity": identity, "endpoints": endpoints}});
    scene.put_registry(scene.name, spec).await;
    let namespace = scene.namespace("pods").await;
    let environment = environment
        .iter()
        .map(|(name, value)| ((*name).to_owned(), value.clone()));
    let launch = Launch {
        environment: environment.collect(),
        ..scene.launch().await
    };
    let pullpass = Pullpass::start(&launch).await;
    pullpass.register(&scene.cluster, SCENE, scene.name).await;

    let image = format!("{ECR}/team/hello:1");
    let created = scene.create(&namespace, &[&image]).await;

    assert!(references(&created.body));
    assert_eq!(created.warnings, [""; 0]);
    let held = scene.pull_secret(&namespace).await;
    let found = support::keyring::lookup(&held, &[&image]);
    found[0][0].password.split('|').next().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mints_as_the_role_of_its_service_account() {
    let scene = Scene::new("irsa").await;
    let role = add_role(&scene, "irsa").await;
    let file = project_token(&scene, "sts.amazonaws.com").await;
    let environment = [
        ("AWS_ROLE_ARN", role),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", file.display().to_string()),
        ("AWS_REGION", "eu-west-1".to_owned()),
    ];
    let minted_by = mint(&scene, json!({"workload": {}}), &environment).await;
    assert_eq!(
        minted_by,
        "arn:aws:sts::123456789012:assumed-role/irsa/pullpass"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mints_as_the_role_that_the_pod_identity_agent_hands_out() {
    let scene = Scene::new("agent").await;
    let role = add_role(&scene, "agent").await;
    let moto = &scene.world.moto;
    let association = json!({"namespace": OWN, "serviceAccount": "pullpass", "roleArn": role});
    moto.post("associations", association).await;
    let file = project_token(&scene, "pods.eks.amazonaws.com").await;
    let agent = format!("{}/v1/credentials", moto.field("agent"));
    let environment = [
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", agent),
        (
            "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
            file.display().to_string(),
        ),
    ];
    let minted_by = mint(&scene, json!({"workload": {}}), &environment).await;
    let expected = "arn:aws:sts::123456789012:assumed-role/agent/eks-pullpass-pullpass-";
    assert!(minted_by.starts_with(expected), "{minted_by}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mints_as_the_role_of_the_node() {
    let scene = Scene::new("node").await;
    let role = add_role(&scene, "node").await;
    let moto = &scene.world.moto;
    moto.post("node", json!({"roleArn": role})).await;
    let environment = [(
        "AWS_EC2_METADATA_SERVICE_ENDPOINT",
        moto.field("imds").to_owned(),
    )];
    let minted_by = mint(&scene, json!({"node": {}}), &environment).await;
    assert_eq!(
        minted_by,
        "arn:aws:sts::123456789012:assumed-role/node/i-0123456789abcdef0"
    );
}

/// Nothing but what was configured: no keys out of the environment, no fall-back to the node.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mints_as_nobody_else_when_it_has_no_identity_of_its_own() {
    let scene = Scene::new("nobody").await;
    let role = add_role(&scene, "node").await;
    let moto = &scene.world.moto;
    // The same as in the test above: there is one node.
    moto.post("node", json!({"roleArn": role})).await;
    let spec = json!({
        "images": [format!("{ECR}/team")],
        "ecr": {"endpoints": {"ecr": scene.aws.url, "sts": scene.aws.url}},
    });
    scene.put_registry(scene.name, spec).await;
    let namespace = scene.namespace("pods").await;
    let environment = [
        ("AWS_ACCESS_KEY_ID", support::moto::key_id("nobody")),
        ("AWS_SECRET_ACCESS_KEY", support::moto::secret_key("nobody")),
        (
            "AWS_EC2_METADATA_SERVICE_ENDPOINT",
            moto.field("imds").to_owned(),
        ),
    ];
    let environment = environment.map(|(name, value)| (name.to_owned(), value));
    let launch = Launch {
        environment: environment.to_vec(),
        ..scene.launch().await
    };
    let pullpass = Pullpass::start(&launch).await;
    pullpass.register(&scene.cluster, SCENE, scene.name).await;

    let created = scene
        .create(&namespace, &[&format!("{ECR}/team/hello:1")])
        .await;

    assert!(references(&created.body));
    let warnings = created.warnings.join(" ");
    assert!(warnings.contains("no workload identity"), "{warnings}");
    assert!(scene.aws.requests().is_empty());
    assert!(!scene.has_pull_secret(&namespace).await);
}

/// Makes a role that a ServiceAccount of a namespace may assume by web identity.
async fn add_tenant_role(scene: &Scene, name: &str, namespace: &str, account: &str) -> String {
    let issuer = trust_cluster(scene).await;
    let role = format!("{ACCOUNT}:role/{name}");
    let statement = json!({
        "Effect": "Allow", "Action": "sts:AssumeRoleWithWebIdentity",
        "Principal": {"Federated": format!("{ACCOUNT}:oidc-provider/{issuer}")},
        "Condition": {"StringEquals": {
            format!("{issuer}:sub"): format!("system:serviceaccount:{namespace}:{account}"),
            format!("{issuer}:aud"): "sts.amazonaws.com",
        }},
    });
    let trust = json!({"Version": "2012-10-17", "Statement": [statement]});
    let body = json!({"roleArn": role, "trust": trust});
    scene.world.moto.post("roles", body).await;
    role
}

/// Lets pullpass ask for tokens of ServiceAccounts of this name, as `pullpass rbac` says it.
async fn allow_tokens(scene: &Scene, account: &str) {
    let name = format!("{}-tokens", scene.name);
    let tokens = json!({
        "apiGroups": [""], "resources": ["serviceaccounts/token"],
        "resourceNames": [account], "verbs": ["create"],
    });
    let group = "rbac.authorization.k8s.io";
    let role = json!({
        "apiVersion": format!("{group}/v1"), "kind": "ClusterRole",
        "metadata": {"name": name}, "rules": [tokens],
    });
    let binding = json!({
        "apiVersion": format!("{group}/v1"), "kind": "ClusterRoleBinding", "metadata": {"name": name},
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": "pullpass", "namespace": OWN}],
    });
    scene.cluster.apply(&role).await;
    scene.cluster.apply(&binding).await;
}

async fn put_account(scene: &Scene, namespace: &str, name: &str, annotations: Value) {
    let account = json!({
        "apiVersion": "v1", "kind": "ServiceAccount",
        "metadata": {"name": name, "namespace": namespace, "annotations": annotations},
    });
    scene.cluster.apply(&account).await;
}

/// Who minted the first credential that the kubelet would take for the image.
async fn minted_by(scene: &Scene, namespace: &str, image: &str) -> String {
    let held = scene.pull_secret(namespace).await;
    let found = support::keyring::lookup(&held, &[image]);
    found[0][0].password.split('|').next().unwrap().to_owned()
}

/// The ServiceAccount of each namespace by itself: what one may, its neighbour of the same name may not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mints_as_the_service_account_of_the_namespace_and_for_no_neighbour() {
    let scene = Scene::new("tenant").await;
    allow_tokens(&scene, "tenant-puller").await;
    let [mine, neighbour] = [
        scene.namespace("mine").await,
        scene.namespace("neighbour").await,
    ];
    for namespace in [&mine, &neighbour] {
        put_account(&scene, namespace, "tenant-puller", json!({})).await;
    }
    let role = add_tenant_role(&scene, "tenant", &mine, "tenant-puller").await;
    let spec = json!({"images": [format!("{ECR}/team")], "ecr": {
        "identity": {"serviceAccount": {"name": "tenant-puller", "roleArn": role}},
        "endpoints": {"ecr": scene.aws.url, "sts": scene.aws.url},
    }});
    scene.put_registry(scene.name, spec).await;
    let _pullpass = scene.start().await;
    let image = format!("{ECR}/team/hello:1");

    let created = scene.create(&mine, &[&image]).await;
    assert!(references(&created.body));
    assert_eq!(created.warnings, [""; 0]);
    let expected = "arn:aws:sts::123456789012:assumed-role/tenant/pullpass";
    assert_eq!(minted_by(&scene, &mine, &image).await, expected);

    // The neighbour's ServiceAccount has the same name, and the role does not trust it.
    let refused = scene.create(&neighbour, &[&image]).await;
    let warnings = refused.warnings.join(" ");
    assert!(
        warnings.contains("sts:AssumeRoleWithWebIdentity") && warnings.contains("trust policy"),
        "{warnings}"
    );
    assert!(!scene.has_pull_secret(&neighbour).await);

    // Whose it is stands on it in the store, and the next Pods cost nothing.
    let stored = scene.stored().await;
    let of_mine: Vec<_> = stored
        .iter()
        .filter(|secret| secret["data"]["password"].is_string())
        .collect();
    assert_eq!(of_mine.len(), 1);
    let metadata = &of_mine[0]["metadata"];
    assert_eq!(metadata["labels"]["pullpass.dev/tenant-namespace"], *mine);
    let before = (scene.api.requests().len(), scene.aws.requests().len());
    for _ in 0..5 {
        let created = scene.create(&mine, &[&image]).await;
        assert!(references(&created.body) && created.warnings.is_empty());
    }
    let api = scene.api.requests();
    assert_eq!(api.len(), before.0, "{:?}", api.get(before.0..));
    assert_eq!(scene.aws.requests().len(), before.1);
}
