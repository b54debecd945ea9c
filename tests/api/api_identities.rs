//! pullpass' own identities, proved with tokens of the cluster's own issuer.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use crate::support;
use serde_json::{Value, json};
use support::account::{allow_audience, allow_tokens, project_token, put_account};
use support::cluster::Answer;
use support::fixture::{ECR, FIXTURE, Fixture, OWN, references};
use support::keyring::{self, Login};
use support::moto::{key_id, secret_key};
use support::oci::Oci;
use support::process::{Launch, Pullpass, pod};
use support::roles::{add_hop, add_role, add_role_for};
use support::user::User;
use support::wait;

/// Starts pullpass with this environment and a Registry with this `ecr`; answers the namespace that it serves.
async fn start(
    fixture: &Fixture,
    mut ecr: Value,
    environment: &[(&str, String)],
) -> (Pullpass, String) {
    ecr["endpoints"] = json!({"ecr": fixture.aws.url, "sts": fixture.aws.url});
    let spec = json!({"images": [format!("{ECR}/team")], "ecr": ecr});
    fixture.put_registry(fixture.name, spec).await;
    let namespace = fixture.namespace("pods").await;
    let environment = environment
        .iter()
        .map(|(name, value)| ((*name).to_owned(), value.clone()));
    let launch = Launch {
        environment: environment.collect(),
        ..fixture.launch().await
    };
    let pullpass = Pullpass::start(&launch).await;
    pullpass
        .register(&fixture.cluster, FIXTURE, fixture.name)
        .await;
    (pullpass, namespace)
}

/// The image that each of these tests is about.
fn image() -> String {
    format!("{ECR}/team/hello:1")
}

/// Starts pullpass with this environment and a Registry with this `ecr`; answers who minted what the first Pod needs and pulls with.
async fn mint(fixture: &Fixture, ecr: Value, environment: &[(&str, String)]) -> String {
    let (_pullpass, namespace) = start(fixture, ecr, environment).await;
    let created = fixture.create(&namespace, &[&image()]).await;
    assert!(references(&created.body));
    assert_eq!(created.warnings, [""; 0]);
    pull(fixture, &namespace).await
}

/// Pulls with what the kubelet would try first, from a registry that takes only that; answers who minted it, as AWS says.
async fn pull(fixture: &Fixture, namespace: &str) -> String {
    let held = fixture.pull_secret(namespace).await;
    let found = keyring::lookup(&held, &[image()]);
    let login = found[0].first().expect("a login");
    let minted = fixture.world.moto.get("minted").await;
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
async fn refuse(fixture: &Fixture, namespace: &str) -> String {
    let created = fixture.create(namespace, &[&image()]).await;
    assert!(references(&created.body));
    let told = unwrap_lines(&created);
    assert!(!told.is_empty());
    assert!(!fixture.has_pull_secret(namespace).await, "{told}");
    told
}

/// Warnings, which the API server may break into lines.
fn unwrap_lines(answer: &Answer) -> String {
    answer.warnings.join("\n").replace("\n… ", " ")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mints_as_the_role_of_the_node() {
    let fixture = Fixture::new("node").await;
    let role = add_role(&fixture, "node", OWN, "pullpass").await;
    let moto = &fixture.world.moto;
    moto.post("node", json!({"roleArn": role})).await;
    let environment = [(
        "AWS_EC2_METADATA_SERVICE_ENDPOINT",
        moto.field("imds").to_owned(),
    )];
    let minted_by = mint(&fixture, json!({"identity": {"node": {}}}), &environment).await;
    assert_eq!(
        minted_by,
        "arn:aws:sts::123456789012:assumed-role/node/i-0123456789abcdef0"
    );
}

/// Nothing but what was configured: with no identity of its own, or a broken one, no keys out of the environment, no fall-back to
/// the node, whose role may do it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mints_as_nobody_else_when_its_own_identity_is_missing_or_broken() {
    let fixture = Fixture::new("nobody").await;
    let role = add_role(&fixture, "node", OWN, "pullpass").await;
    let moto = &fixture.world.moto;
    // The same as in the test above: there is one node.
    moto.post("node", json!({"roleArn": role})).await;
    let stranger = add_role(&fixture, "nobody-else", "elsewhere", "other").await;
    let file = project_token(&fixture, "sts.amazonaws.com").await;
    let others = [
        ("AWS_ACCESS_KEY_ID", key_id("nobody")),
        ("AWS_SECRET_ACCESS_KEY", secret_key("nobody")),
        (
            "AWS_EC2_METADATA_SERVICE_ENDPOINT",
            moto.field("imds").to_owned(),
        ),
    ];
    let broken = vec![
        ("AWS_ROLE_ARN", stranger),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", file.display().to_string()),
    ];
    let rows = [(vec![], "no workload identity"), (broken, "trust policy")];
    let workload = json!({"identity": {"workload": {}}});
    for (own, words) in rows {
        let environment: Vec<_> = own.into_iter().chain(others.clone()).collect();
        let (pullpass, namespace) = start(&fixture, workload.clone(), &environment).await;
        refuse(&fixture, &namespace).await;
        pullpass.wait_logged(&[words]).await;
    }
    assert!(fixture.user.minted(moto).await.is_empty());
    let minted = moto.get("minted").await.to_string();
    assert!(!minted.contains("nobody-else"), "{minted}");
}

/// Roles on top of access keys: the last one asks, and only it may pull.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mints_as_the_last_role_of_a_chain() {
    let fixture = Fixture::new("chain").await;
    let moto = &fixture.world.moto;
    let assume_chain = json!({"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Action": "sts:AssumeRole", "Resource": "*"},
    ]});
    let user = User::add_with(moto, "chain-user", Some(json!([assume_chain]))).await;
    fixture.put_keys("chain-keys", &user).await;
    let first = add_hop(
        &fixture,
        "chain-first",
        &user.principal,
        Some("pullpass"),
        Some(assume_chain),
    )
    .await;
    let last = add_hop(&fixture, "chain-last", &first, None, None).await;
    let chain = json!({
        "identity": {"keys": {"secretRef": {"name": "chain-keys"}}},
        "assumeRoles": [
            {"roleArn": first, "externalId": "pullpass", "durationSeconds": 3600},
            {"roleArn": last, "sessionName": "pull.chain", "durationSeconds": 900},
        ],
    });
    let principal = mint(&fixture, chain, &[]).await;
    let expected = "arn:aws:sts::123456789012:assumed-role/chain-last/pull.chain";
    assert_eq!(principal, expected);
}

/// A Secret that only names credential helpers is nobody's login: it stays as it is, and does not keep ours from being added.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leaves_alone_a_secret_that_only_names_credential_helpers() {
    let fixture = Fixture::new("helpers").await;
    fixture.serve(&[&format!("{ECR}/team")]).await;
    let namespace = fixture.namespace("pods").await;
    let helpers =
        json!({"credHelpers": {ECR: "ecr-login", "public.ecr.aws": "ecr-login"}}).to_string();
    let theirs = fixture
        .cluster
        .apply(&json!({
            "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/dockerconfigjson",
            "metadata": {"name": "helpers", "namespace": namespace},
            "stringData": {".dockerconfigjson": helpers},
        }))
        .await;
    let _pullpass = fixture.start().await;
    let mut pod = pod(&namespace, &[&image()]);
    pod["spec"]["imagePullSecrets"] = json!([{"name": "helpers"}]);
    let created = fixture.cluster.create_pod(&pod, "").await.ok();

    assert_eq!(created.warnings, [""; 0]);
    let referenced = &created.body["spec"]["imagePullSecrets"];
    assert_eq!(
        *referenced,
        json!([{"name": "helpers"}, {"name": "pullpass"}])
    );
    let now = fixture.cluster.secret(&namespace, "helpers").await.unwrap();
    assert_eq!(
        now["metadata"]["resourceVersion"],
        theirs["metadata"]["resourceVersion"]
    );
    let held = [helpers, fixture.pull_secret(&namespace).await];
    let found = keyring::lookup_all(&held, &[image()]);
    assert_eq!(
        found[0],
        [fixture.user.newest(&fixture.world.moto).await.unwrap()]
    );
    assert_eq!(pull(&fixture, &namespace).await, fixture.user.principal);
}

/// The ServiceAccount of each namespace by itself: what one may, its neighbour of the same name may not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mints_as_the_service_account_of_the_namespace_and_for_no_neighbour() {
    let fixture = Fixture::new("tenant").await;
    // An earlier scene may have had the same port.
    let earlier = fixture.stored().await;
    allow_tokens(&fixture, "tenant-puller").await;
    let [mine, neighbour] = [
        fixture.namespace("mine").await,
        fixture.namespace("neighbour").await,
    ];
    for namespace in [&mine, &neighbour] {
        put_account(&fixture, namespace, "tenant-puller", json!({})).await;
    }
    let role = add_role(&fixture, "tenant", &mine, "tenant-puller").await;
    let spec = json!({"images": [format!("{ECR}/team")], "ecr": {
        "identity": {"serviceAccount": {"name": "tenant-puller", "roleArn": role}},
        "endpoints": {"ecr": fixture.aws.url, "sts": fixture.aws.url},
    }});
    fixture.put_registry(fixture.name, spec).await;
    let _pullpass = fixture.start().await;

    let created = fixture.create(&mine, &[&image()]).await;
    assert!(references(&created.body));
    assert_eq!(created.warnings, [""; 0]);
    assert_eq!(pull(&fixture, &mine).await, session_of("tenant"));

    // The neighbour's ServiceAccount has the same name, and the role does not trust it.
    let told = refuse(&fixture, &neighbour).await;
    assert!(
        told.contains("sts:AssumeRoleWithWebIdentity") && told.contains("trust policy"),
        "{told}"
    );

    // Whose it is stands on it in the store, and the next Pods cost nothing.
    let whose = whose_is_stored(&fixture, &earlier).await;
    assert!(
        matches!(&whose[..], [[of, _]] if *of == *mine),
        "{whose:#?}"
    );
    let before = (fixture.api.requests().len(), fixture.aws.requests().len());
    for _ in 0..5 {
        let created = fixture.create(&mine, &[&image()]).await;
        assert!(references(&created.body) && created.warnings.is_empty());
    }
    let api = fixture.api.requests();
    assert_eq!(api.len(), before.0, "{:?}", api.get(before.0..));
    assert_eq!(fixture.aws.requests().len(), before.1);
}

/// The namespace and the source of each credential in the store that was not there earlier.
async fn whose_is_stored(fixture: &Fixture, earlier: &[Value]) -> Vec<[Value; 2]> {
    let name = |secret: &Value| secret["metadata"]["name"].clone();
    let earlier: Vec<Value> = earlier.iter().map(name).collect();
    let stored = fixture.stored().await;
    let minted = stored.iter().filter(|secret| {
        secret["data"]["password"].is_string() && !earlier.contains(&name(secret))
    });
    let whose = minted.map(|secret| {
        let metadata = &secret["metadata"];
        let of = &metadata["labels"]["pullpass.dev/tenant-namespace"];
        let source = &metadata["annotations"]["pullpass.dev/credential-key"];
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
    let fixture = Fixture::new("named").await;
    allow_tokens(&fixture, "named-puller").await;
    let [one, two] = [
        fixture.namespace("one").await,
        fixture.namespace("two").await,
    ];
    let spec = json!({"images": [format!("{ECR}/team")], "ecr": {
        "identity": {"serviceAccount": {"name": "named-puller", "fromAnnotations": true}},
        "endpoints": {"ecr": fixture.aws.url, "sts": fixture.aws.url},
    }});
    fixture.put_registry(fixture.name, spec).await;
    let role_of_one = add_role(&fixture, "named-one", &one, "named-puller").await;
    let role_of_two = add_role(&fixture, "named-two", &two, "named-puller").await;
    let role = |arn: &str| json!({"eks.amazonaws.com/role-arn": arn});
    let _pullpass = fixture.start().await;

    // One thing is wrong after the other, and each is said; no restart, and no waiting after it is put right.
    assert!(
        refuse(&fixture, &one)
            .await
            .contains("has no ServiceAccount named-puller")
    );
    for (annotations, words) in [
        (json!({}), "has no annotation eks.amazonaws.com/role-arn"),
        (role(&role_of_two), "trust policy"),
    ] {
        put_account(&fixture, &one, "named-puller", annotations).await;
        let told = refuse(&fixture, &one).await;
        assert!(told.contains(words), "{told}");
    }
    for (namespace, arn, name) in [
        (&one, &role_of_one, "named-one"),
        (&two, &role_of_two, "named-two"),
    ] {
        put_account(&fixture, namespace, "named-puller", role(arn)).await;
        wait::until("the role of the ServiceAccount", async || {
            let created = fixture.create(namespace, &[&image()]).await;
            created.warnings.is_empty().then_some(())
        })
        .await;
        assert_eq!(pull(&fixture, namespace).await, session_of(name));
    }
    let [held, other] = [
        fixture.pull_secret(&one).await,
        fixture.pull_secret(&two).await,
    ];
    assert_ne!(held, other);
}

/// F5, F20: a ServiceAccount says whom its tokens are for, as EKS reads it, and the chart which audiences there may be; the session lives
/// as long as the Registry says.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mints_for_the_audience_of_the_annotation_once_the_chart_names_it() {
    const AUDIENCE: &str = "my-cloud";
    // The audience is its IAM's only one.
    let fixture = Fixture::alone("audience").await;
    allow_tokens(&fixture, "audience-puller").await;
    let namespace = fixture.namespace("pods").await;
    let whose = (namespace.as_str(), "audience-puller");
    let role = add_role_for(&fixture, "audience", whose, AUDIENCE).await;
    let annotations =
        json!({"eks.amazonaws.com/role-arn": role, "eks.amazonaws.com/audience": AUDIENCE});
    put_account(&fixture, whose.0, whose.1, annotations).await;
    let account = json!({"name": whose.1, "fromAnnotations": true, "durationSeconds": 900});
    let spec = json!({"images": [format!("{ECR}/team")], "ecr": {
        "identity": {"serviceAccount": account},
        "endpoints": {"ecr": fixture.aws.url, "sts": fixture.aws.url},
    }});
    fixture.put_registry(fixture.name, spec).await;
    let earlier = fixture.stored().await;
    let _pullpass = fixture.start().await;
    let told = refuse(&fixture, &namespace).await;
    for words in ["tokenAudiences", AUDIENCE, whose.1] {
        assert!(told.contains(words), "{told}");
    }
    assert!(fixture.aws.requests().is_empty());

    allow_audience(&fixture, AUDIENCE).await;
    wait::until("a token for that audience", async || {
        let created = fixture.create(&namespace, &[&image()]).await;
        created.warnings.is_empty().then_some(())
    })
    .await;
    assert_eq!(pull(&fixture, &namespace).await, session_of("audience"));
    let stored = whose_is_stored(&fixture, &earlier).await;
    let [_, source] = &stored[0];
    let source = source.as_str().unwrap();
    for words in ["audience=\"my-cloud\"", "sessionSeconds=900"] {
        assert!(source.contains(words), "{source}");
    }
}

/// Without the right to ask for tokens of that name nothing happens but a clear word.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn says_which_right_is_missing_to_ask_for_tokens() {
    let fixture = Fixture::new("rightless").await;
    let namespace = fixture.namespace("pods").await;
    put_account(&fixture, &namespace, "rightless-puller", json!({})).await;
    let role = add_role(&fixture, "rightless", &namespace, "rightless-puller").await;
    let spec = json!({"images": [format!("{ECR}/team")], "ecr": {
        "identity": {"serviceAccount": {"name": "rightless-puller", "roleArn": role}},
        "endpoints": {"ecr": fixture.aws.url, "sts": fixture.aws.url},
    }});
    fixture.put_registry(fixture.name, spec).await;
    let _pullpass = fixture.start().await;
    let told = refuse(&fixture, &namespace).await;
    assert!(
        told.contains(
            "allow pullpass to create serviceaccounts/token with resourceNames [rightless-puller]"
        ),
        "{told}"
    );
    assert!(fixture.aws.requests().is_empty());

    // Once the right is there, a Pod soon has its credential.
    allow_tokens(&fixture, "rightless-puller").await;
    wait::until("a token", async || {
        let created = fixture.create(&namespace, &[&image()]).await;
        created.warnings.is_empty().then_some(())
    })
    .await;
    assert_eq!(pull(&fixture, &namespace).await, session_of("rightless"));
}
