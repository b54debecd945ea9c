//! pullpass' own identities, proved with tokens of the cluster's own issuer.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use serde_json::{Value, json};
use support::account::{allow_tokens, project_token, put_account};
use support::cluster::Answer;
use support::keyring::{self, Login};
use support::moto::{key_id, secret_key};
use support::oci::Oci;
use support::process::{Launch, Pullpass, pod};
use support::roles::{add_hop, add_role};
use support::scene::{ECR, OWN, SCENE, Scene, references};
use support::user::User;
use support::wait;

/// Starts pullpass with this environment and a Registry with this `ecr`; answers the namespace that it serves.
async fn start(
    scene: &Scene,
    mut ecr: Value,
    environment: &[(&str, String)],
) -> (Pullpass, String) {
    ecr["endpoints"] = json!({"ecr": scene.aws.url, "sts": scene.aws.url});
    let spec = json!({"images": [format!("{ECR}/team")], "ecr": ecr});
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
    (pullpass, namespace)
}

/// The image that each of these tests is about.
fn image() -> String {
    format!("{ECR}/team/hello:1")
}

/// Starts pullpass with this environment and a Registry with this `ecr`; answers who minted what the first Pod needs and pulls with.
async fn mint(scene: &Scene, ecr: Value, environment: &[(&str, String)]) -> String {
    let (_pullpass, namespace) = start(scene, ecr, environment).await;
    let created = scene.create(&namespace, &[&image()]).await;
    assert!(references(&created.body));
    assert_eq!(created.warnings, [""; 0]);
    pull(scene, &namespace).await
}

/// Pulls with what the kubelet would try first, from a registry that takes only that; answers who minted it, as AWS says.
async fn pull(scene: &Scene, namespace: &str) -> String {
    let held = scene.pull_secret(namespace).await;
    let found = keyring::lookup(&held, &[image()]);
    let login = found[0].first().expect("a login");
    let minted = scene.world.moto.get("minted").await;
    let mut minted = minted.as_array().unwrap().iter();
    let token = minted.find(|token| token["password"] == login.password.as_str());
    let principal = token.expect("AWS minted it")["principal"].as_str().unwrap();

    let oci = Oci::start(&["team/hello:1"]);
    oci.allow(&Login::aws(
        "arn:aws:iam::123456789012:user/neighbour|eu-west-1|1|x",
    ));
    let refused = oci.pull(&held, &image()).unwrap_err();
    assert!(refused.contains("UNAUTHORIZED"), "{refused}");
    oci.allow(login);
    oci.pull(&held, &image()).unwrap();
    principal.to_owned()
}

/// Creates a Pod that is admitted with the reference and without a credential; answers why, as the user is told.
async fn refuse(scene: &Scene, namespace: &str) -> String {
    let created = scene.create(namespace, &[&image()]).await;
    assert!(references(&created.body));
    let told = unwrap_lines(&created);
    assert!(!told.is_empty());
    assert!(!scene.has_pull_secret(namespace).await, "{told}");
    told
}

/// Warnings, which the API server may break into lines.
fn unwrap_lines(answer: &Answer) -> String {
    answer.warnings.join("\n").replace("\n… ", " ")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mints_as_the_role_of_its_service_account() {
    let scene = Scene::new("irsa").await;
    let role = add_role(&scene, "irsa", OWN, "pullpass").await;
    let file = project_token(&scene, "sts.amazonaws.com").await;
    let environment = [
        ("AWS_ROLE_ARN", role),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", file.display().to_string()),
        ("AWS_REGION", "eu-west-1".to_owned()),
    ];
    let minted_by = mint(&scene, json!({"identity": {"workload": {}}}), &environment).await;
    assert_eq!(
        minted_by,
        "arn:aws:sts::123456789012:assumed-role/irsa/pullpass"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mints_as_the_role_that_the_pod_identity_agent_hands_out() {
    let scene = Scene::new("agent").await;
    let role = add_role(&scene, "agent", OWN, "pullpass").await;
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
    let minted_by = mint(&scene, json!({"identity": {"workload": {}}}), &environment).await;
    let expected = "arn:aws:sts::123456789012:assumed-role/agent/eks-pullpass-pullpass-";
    assert!(minted_by.starts_with(expected), "{minted_by}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mints_as_the_role_of_the_node() {
    let scene = Scene::new("node").await;
    let role = add_role(&scene, "node", OWN, "pullpass").await;
    let moto = &scene.world.moto;
    moto.post("node", json!({"roleArn": role})).await;
    let environment = [(
        "AWS_EC2_METADATA_SERVICE_ENDPOINT",
        moto.field("imds").to_owned(),
    )];
    let minted_by = mint(&scene, json!({"identity": {"node": {}}}), &environment).await;
    assert_eq!(
        minted_by,
        "arn:aws:sts::123456789012:assumed-role/node/i-0123456789abcdef0"
    );
}

/// Nothing but what was configured: with no identity of its own, or a broken one, no keys out of the environment, no fall-back to
/// the node, whose role may do it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mints_as_nobody_else_when_its_own_identity_is_missing_or_broken() {
    let scene = Scene::new("nobody").await;
    let role = add_role(&scene, "node", OWN, "pullpass").await;
    let moto = &scene.world.moto;
    // The same as in the test above: there is one node.
    moto.post("node", json!({"roleArn": role})).await;
    let stranger = add_role(&scene, "nobody-else", "elsewhere", "other").await;
    let file = project_token(&scene, "sts.amazonaws.com").await;
    let wrong_audience = project_token(&scene, "pods.eks.amazonaws.com").await;
    let agent = format!("{}/v1/credentials", moto.field("agent"));
    let others = [
        ("AWS_ACCESS_KEY_ID", key_id("nobody")),
        ("AWS_SECRET_ACCESS_KEY", secret_key("nobody")),
        (
            "AWS_EC2_METADATA_SERVICE_ENDPOINT",
            moto.field("imds").to_owned(),
        ),
    ];
    let web = |role: &str, file: &std::path::Path| {
        vec![
            ("AWS_ROLE_ARN", role.to_owned()),
            ("AWS_WEB_IDENTITY_TOKEN_FILE", file.display().to_string()),
        ]
    };
    let rows = [
        (vec![], "no workload identity"),
        (web(&stranger, &file), "trust policy"),
        (web(&role, &wrong_audience), "trust policy"),
        (web(&role, "/nonexistent".as_ref()), "/nonexistent"),
        (
            // The agent takes tokens for another audience.
            vec![
                ("AWS_CONTAINER_CREDENTIALS_FULL_URI", agent),
                (
                    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
                    file.display().to_string(),
                ),
            ],
            "EKS Pod Identity association",
        ),
    ];
    for (own, words) in rows {
        let environment: Vec<_> = own.into_iter().chain(others.clone()).collect();
        let (_pullpass, namespace) = start(&scene, json!({}), &environment).await;
        let told = refuse(&scene, &namespace).await;
        assert!(told.contains(words), "{told}");
    }
    assert!(scene.user.minted(moto).await.is_empty());
    let minted = moto.get("minted").await.to_string();
    assert!(!minted.contains("nobody-else"), "{minted}");
}

/// Roles on top of access keys: the last one asks, and only it may pull.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mints_as_the_last_role_of_a_chain_and_names_the_hop_that_fails() {
    let scene = Scene::new("chain").await;
    let moto = &scene.world.moto;
    let climb = json!({"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Action": "sts:AssumeRole", "Resource": "*"},
    ]});
    let user = User::add_with(moto, "chain-user", Some(json!([climb]))).await;
    scene.put_keys("chain-keys", &user).await;
    let first = add_hop(
        &scene,
        "chain-first",
        &user.principal,
        Some("pullpass"),
        Some(climb),
    )
    .await;
    let last = add_hop(&scene, "chain-last", &first, None, None).await;
    let chain = |external_id: &str| {
        json!({
            "identity": {"keys": {"secretRef": {"name": "chain-keys"}}},
            "assumeRole": [
                {"roleArn": first, "externalId": external_id, "durationSeconds": 3600},
                {"roleArn": last, "sessionName": "pull.chain", "durationSeconds": 900},
            ],
        })
    };
    let principal = mint(&scene, chain("pullpass"), &[]).await;
    let expected = "arn:aws:sts::123456789012:assumed-role/chain-last/pull.chain";
    assert_eq!(principal, expected);

    let mut wrong = chain("wrong");
    wrong["endpoints"] = json!({"ecr": scene.aws.url, "sts": scene.aws.url});
    let broken = format!("{ECR}/broken");
    let spec = json!({"images": [broken], "ecr": wrong});
    scene.put_registry("chain-wrong", spec).await;
    let (_pullpass, namespace) = (scene.start().await, scene.namespace("wrong").await);
    let created = scene.create(&namespace, &[&format!("{broken}:1")]).await;
    let told = unwrap_lines(&created);
    assert!(
        told.contains("role 1 of 2 in ecr.assumeRole") && told.contains("externalId"),
        "{told}"
    );
}

/// A Secret that only names credential helpers is nobody's login: it stays as it is, and does not keep ours from being added.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leaves_alone_a_secret_that_only_names_credential_helpers() {
    let scene = Scene::new("helpers").await;
    scene.serve(&[&format!("{ECR}/team")]).await;
    let namespace = scene.namespace("pods").await;
    let helpers =
        json!({"credHelpers": {ECR: "ecr-login", "public.ecr.aws": "ecr-login"}}).to_string();
    let theirs = scene
        .cluster
        .apply(&json!({
            "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/dockerconfigjson",
            "metadata": {"name": "helpers", "namespace": namespace},
            "stringData": {".dockerconfigjson": helpers},
        }))
        .await;
    let _pullpass = scene.start().await;
    let mut pod = pod(&namespace, &[&image()]);
    pod["spec"]["imagePullSecrets"] = json!([{"name": "helpers"}]);
    let created = scene.cluster.create_pod(&pod, "").await.ok();

    assert_eq!(created.warnings, [""; 0]);
    let referenced = &created.body["spec"]["imagePullSecrets"];
    assert_eq!(
        *referenced,
        json!([{"name": "helpers"}, {"name": "pullpass"}])
    );
    let now = scene.cluster.secret(&namespace, "helpers").await.unwrap();
    assert_eq!(
        now["metadata"]["resourceVersion"],
        theirs["metadata"]["resourceVersion"]
    );
    let held = [helpers, scene.pull_secret(&namespace).await];
    let found = keyring::lookup_all(&held, &[image()]);
    assert_eq!(
        found[0],
        [scene.user.newest(&scene.world.moto).await.unwrap()]
    );
    assert_eq!(pull(&scene, &namespace).await, scene.user.principal);
}

/// The ServiceAccount of each namespace by itself: what one may, its neighbour of the same name may not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mints_as_the_service_account_of_the_namespace_and_for_no_neighbour() {
    let scene = Scene::new("tenant").await;
    // An earlier scene may have had the same port.
    let earlier = scene.stored().await;
    allow_tokens(&scene, "tenant-puller").await;
    let [mine, neighbour] = [
        scene.namespace("mine").await,
        scene.namespace("neighbour").await,
    ];
    for namespace in [&mine, &neighbour] {
        put_account(&scene, namespace, "tenant-puller", json!({})).await;
    }
    let role = add_role(&scene, "tenant", &mine, "tenant-puller").await;
    let spec = json!({"images": [format!("{ECR}/team")], "ecr": {
        "identity": {"serviceAccount": {"name": "tenant-puller", "roleArn": role}},
        "endpoints": {"ecr": scene.aws.url, "sts": scene.aws.url},
    }});
    scene.put_registry(scene.name, spec).await;
    let _pullpass = scene.start().await;

    let created = scene.create(&mine, &[&image()]).await;
    assert!(references(&created.body));
    assert_eq!(created.warnings, [""; 0]);
    assert_eq!(pull(&scene, &mine).await, session_of("tenant"));

    // The neighbour's ServiceAccount has the same name, and the role does not trust it.
    let told = refuse(&scene, &neighbour).await;
    assert!(
        told.contains("sts:AssumeRoleWithWebIdentity") && told.contains("trust policy"),
        "{told}"
    );

    // Whose it is stands on it in the store, and the next Pods cost nothing.
    let whose = whose_is_stored(&scene, &earlier).await;
    assert!(
        matches!(&whose[..], [[of, _]] if *of == *mine),
        "{whose:#?}"
    );
    let before = (scene.api.requests().len(), scene.aws.requests().len());
    for _ in 0..5 {
        let created = scene.create(&mine, &[&image()]).await;
        assert!(references(&created.body) && created.warnings.is_empty());
    }
    let api = scene.api.requests();
    assert_eq!(api.len(), before.0, "{:?}", api.get(before.0..));
    assert_eq!(scene.aws.requests().len(), before.1);
}

/// The namespace and the source of each credential in the store that was not there earlier.
async fn whose_is_stored(scene: &Scene, earlier: &[Value]) -> Vec<[Value; 2]> {
    let name = |secret: &Value| secret["metadata"]["name"].clone();
    let earlier: Vec<Value> = earlier.iter().map(name).collect();
    let stored = scene.stored().await;
    let minted = stored.iter().filter(|secret| {
        secret["data"]["password"].is_string() && !earlier.contains(&name(secret))
    });
    let whose = minted.map(|secret| {
        let metadata = &secret["metadata"];
        let of = &metadata["labels"]["pullpass.dev/tenant-namespace"];
        let source = &metadata["annotations"]["pullpass.dev/source"];
        [of.clone(), source.clone()]
    });
    whose.collect()
}

/// The session that web identity opens of a role of this name.
fn session_of(role: &str) -> String {
    format!("arn:aws:sts::123456789012:assumed-role/{role}/pullpass")
}

/// Each namespace says by its ServiceAccount's annotation which role it is, and each has what that role minted, and nothing else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mints_as_the_role_that_the_service_account_names() {
    let scene = Scene::new("named").await;
    allow_tokens(&scene, "named-puller").await;
    let [one, two] = [scene.namespace("one").await, scene.namespace("two").await];
    let spec = json!({"images": [format!("{ECR}/team")], "ecr": {
        "identity": {"serviceAccount": {"name": "named-puller", "fromAnnotations": true}},
        "endpoints": {"ecr": scene.aws.url, "sts": scene.aws.url},
    }});
    scene.put_registry(scene.name, spec).await;
    let role_of_one = add_role(&scene, "named-one", &one, "named-puller").await;
    let role_of_two = add_role(&scene, "named-two", &two, "named-puller").await;
    let role = |arn: &str| json!({"eks.amazonaws.com/role-arn": arn});
    let _pullpass = scene.start().await;

    // One thing is wrong after the other, and each is said; no restart, and no waiting after it is put right.
    assert!(
        refuse(&scene, &one)
            .await
            .contains("has no ServiceAccount named-puller")
    );
    for (annotations, words) in [
        (json!({}), "has no annotation eks.amazonaws.com/role-arn"),
        (role("named-one"), "is no ARN of an IAM role"),
        (
            role("arn:aws-cn:iam::123456789012:role/x"),
            "names a role of partition aws-cn",
        ),
        (role(&role_of_two), "trust policy"),
    ] {
        put_account(&scene, &one, "named-puller", annotations).await;
        let told = refuse(&scene, &one).await;
        assert!(told.contains(words), "{told}");
    }
    for (namespace, arn, name) in [
        (&one, &role_of_one, "named-one"),
        (&two, &role_of_two, "named-two"),
    ] {
        put_account(&scene, namespace, "named-puller", role(arn)).await;
        wait::until("the role of the ServiceAccount", async || {
            let created = scene.create(namespace, &[&image()]).await;
            created.warnings.is_empty().then_some(())
        })
        .await;
        assert_eq!(pull(&scene, namespace).await, session_of(name));
    }
    let [held, other] = [scene.pull_secret(&one).await, scene.pull_secret(&two).await];
    assert_ne!(held, other);
}

/// Without the right to ask for tokens of that name nothing happens but a clear word.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn says_which_right_is_missing_to_ask_for_tokens() {
    let scene = Scene::new("rightless").await;
    let namespace = scene.namespace("pods").await;
    put_account(&scene, &namespace, "rightless-puller", json!({})).await;
    let role = add_role(&scene, "rightless", &namespace, "rightless-puller").await;
    let spec = json!({"images": [format!("{ECR}/team")], "ecr": {
        "identity": {"serviceAccount": {"name": "rightless-puller", "roleArn": role}},
        "endpoints": {"ecr": scene.aws.url, "sts": scene.aws.url},
    }});
    scene.put_registry(scene.name, spec).await;
    let _pullpass = scene.start().await;
    let told = refuse(&scene, &namespace).await;
    assert!(
        told.contains(
            "allow it to create serviceaccounts/token with resourceNames [rightless-puller]"
        ),
        "{told}"
    );
    assert!(scene.aws.requests().is_empty());

    // Once the right is there, a Pod soon has its credential.
    allow_tokens(&scene, "rightless-puller").await;
    wait::until("a token", async || {
        let created = scene.create(&namespace, &[&image()]).await;
        created.warnings.is_empty().then_some(())
    })
    .await;
    assert_eq!(pull(&scene, &namespace).await, session_of("rightless"));
}
