//! AWS as the whole program meets it: each partition's own endpoints, accounts, temporary keys, rights, and the lives of tokens.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::support;
use futures::FutureExt as _;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use support::account::project_token;
use support::fixture::{ECR, FIXTURE, Fixture, OWN, references};
use support::internet::{Asked, Hosts, Internet, Reply};
use support::keyring::{self, Login};
use support::moto::{Moto, key_id, secret_key};
use support::oci::Oci;
use support::process::{Launch, Pullpass};
use support::roles::{add_hop, add_role};
use support::user::User;
use support::wait;

/// Every host leads to the AWS of this test, which verifies that the request was signed for that host.
fn hosts(moto: &Moto) -> Hosts {
    let door = moto.field("url").to_owned();
    let ca = std::fs::read(moto.field("ca")).unwrap();
    let client = reqwest::Client::builder()
        .no_proxy()
        .tls_certs_only([reqwest::Certificate::from_pem(&ca).unwrap()])
        .build()
        .unwrap();
    Arc::new(move |asked: Asked| {
        let url = format!("{door}{}", asked.uri);
        let request = client.request(asked.method, url).headers(asked.headers);
        async move {
            let answer = request.body(asked.body).send().await.ok()?;
            let kind = answer.headers().get("content-type")?.to_str().ok()?;
            Some(Reply {
                headers: vec![("content-type", kind.to_owned())],
                status: answer.status().as_u16(),
                body: answer.text().await.ok()?,
                ..Reply::default()
            })
        }
        .boxed()
    })
}

/// Starts pullpass where all names lead to the test's AWS, with this environment besides.
async fn start(fixture: &Fixture, internet: &Internet, environment: &[(&str, &str)]) -> Pullpass {
    let launch = fixture.launch().await;
    std::fs::write(&launch.extra_ca, &internet.ca).unwrap();
    let proxy = ("HTTPS_PROXY", internet.proxy.as_str());
    let environment = environment.iter().copied().chain([proxy]);
    let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let launch = Launch {
        environment: environment.collect(),
        ..launch
    };
    let pullpass = Pullpass::start(&launch).await;
    pullpass
        .register(&fixture.cluster, FIXTURE, fixture.name)
        .await;
    pullpass
}

/// What the kubelet would try first for an image.
async fn first(fixture: &Fixture, namespace: &str, image: &str) -> Login {
    let held = fixture.pull_secret(namespace).await;
    let found = keyring::lookup(&held, &[image]).remove(0);
    found.into_iter().next().expect("a login")
}

/// Partition, host of the images, who is asked for the token, and for which region.
const PLACES: [(&str, &str, &str, &str); 10] = [
    (
        "aws",
        "123456789012.dkr.ecr.eu-west-1.amazonaws.com",
        "api.ecr.eu-west-1.amazonaws.com",
        "eu-west-1",
    ),
    // Another account, which lets this one pull: the same token.
    (
        "aws",
        "210987654321.dkr.ecr.eu-west-1.amazonaws.com",
        "api.ecr.eu-west-1.amazonaws.com",
        "eu-west-1",
    ),
    (
        "aws",
        "123456789012.dkr.ecr.eu-central-1.amazonaws.com",
        "api.ecr.eu-central-1.amazonaws.com",
        "eu-central-1",
    ),
    (
        "aws",
        "123456789012.dkr-ecr.eu-west-2.on.aws",
        "ecr.eu-west-2.api.aws",
        "eu-west-2",
    ),
    (
        "aws",
        "123456789012.dkr.ecr-fips.us-east-2.amazonaws.com",
        "api.ecr-fips.us-east-2.amazonaws.com",
        "us-east-2",
    ),
    (
        "aws",
        "public.ecr.aws",
        "api.ecr-public.us-east-1.amazonaws.com",
        "public",
    ),
    (
        "aws-us-gov",
        "123456789012.dkr.ecr.us-gov-west-1.amazonaws.com",
        "api.ecr.us-gov-west-1.amazonaws.com",
        "us-gov-west-1",
    ),
    (
        "aws-cn",
        "123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn",
        "api.ecr.cn-north-1.amazonaws.com.cn",
        "cn-north-1",
    ),
    (
        "aws-eusc",
        "123456789012.dkr.ecr.eusc-de-east-1.amazonaws.eu",
        "api.ecr.eusc-de-east-1.amazonaws.eu",
        "eusc-de-east-1",
    ),
    (
        "aws-iso",
        "123456789012.dkr.ecr.us-iso-east-1.c2s.ic.gov",
        "api.ecr.us-iso-east-1.c2s.ic.gov",
        "us-iso-east-1",
    ),
];

/// One user of each partition, with a Registry for its hosts.
async fn put_partitions(fixture: &Fixture) {
    let partitions: BTreeSet<&str> = PLACES.iter().map(|place| place.0).collect();
    for partition in partitions {
        let name = format!("places-{partition}");
        let key = json!({
            "accessKeyId": key_id(&name), "secretAccessKey": secret_key(&name),
            "principal": format!("arn:{partition}:iam::123456789012:user/{name}"),
        });
        fixture.world.moto.post("keys", key).await;
        let user = User {
            name: name.clone(),
            principal: String::new(),
        };
        fixture.put_keys(&name, &user).await;
        let hosts = PLACES.iter().filter(|place| place.0 == partition);
        let images: Vec<String> = hosts.map(|place| format!("{}/team", place.1)).collect();
        let ecr = json!({"identity": {"keys": {"secretRef": {"name": name}}}});
        fixture
            .put_registry(&name, json!({"images": images, "ecr": ecr}))
            .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn asks_the_endpoint_of_each_partition_region_and_kind_of_host() {
    let fixture = Fixture::new("places").await;
    let internet = Internet::start(hosts(&fixture.world.moto)).await;
    put_partitions(&fixture).await;
    let namespace = fixture.namespace("pods").await;
    let _pullpass = start(&fixture, &internet, &[]).await;
    let images: Vec<String> = PLACES
        .iter()
        .map(|place| format!("{}/team/hello:1", place.1))
        .collect();
    let asked: Vec<&str> = images.iter().map(String::as_str).collect();

    let created = fixture.create(&namespace, &asked).await;

    assert!(references(&created.body));
    assert_eq!(created.warnings, [""; 0]);
    let held = fixture.pull_secret(&namespace).await;
    let found = keyring::lookup(&held, &images);
    for ((partition, host, _, place), logins) in PLACES.iter().zip(&found) {
        let user = format!("arn:{partition}:iam::123456789012:user/places-{partition}|{place}|");
        assert!(logins[0].password.starts_with(&user), "{host}: {logins:?}");
    }
    assert_eq!(found[0], found[1]);
    let expected: BTreeSet<String> = PLACES
        .iter()
        .map(|place| format!("{}:443", place.2))
        .collect();
    let reached: BTreeSet<String> = internet.reached().into_iter().collect();
    assert_eq!(reached, expected);

    // Each login opens its own registry and no other one's.
    let oci = Oci::start(&["team/hello:1"]);
    oci.allow(&found[0][0]);
    oci.pull(&held, &images[1]).unwrap();
    for image in &images[2..] {
        let refused = oci.pull(&held, image).unwrap_err();
        assert!(refused.contains("UNAUTHORIZED"), "{image}: {refused}");
    }
}

/// Its own role by web identity, and from there a role of another account.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn opens_sessions_at_the_regional_endpoint_of_aws_sts() {
    let fixture = Fixture::new("regional").await;
    let internet = Internet::start(hosts(&fixture.world.moto)).await;
    let role = add_role(&fixture, "regional", OWN, "pullpass").await;
    let hop = add_hop(&fixture, "regional-hop", &role, None, None).await;
    let file = project_token(&fixture, "sts.amazonaws.com").await;
    let rows = [
        ("direct", "eu-west-1", json!({"identity": {"workload": {}}})),
        (
            "chain",
            "eu-central-1",
            json!({"identity": {"workload": {}}, "assumeRoles": [{"roleArn": hop}]}),
        ),
    ];
    let mut images = Vec::new();
    for (path, region, ecr) in rows {
        let pattern = format!("123456789012.dkr.ecr.{region}.amazonaws.com/{path}");
        let spec = json!({"images": [pattern], "ecr": ecr});
        fixture
            .put_registry(&format!("regional-{path}"), spec)
            .await;
        images.push(format!("{pattern}/app:1"));
    }
    let namespace = fixture.namespace("pods").await;
    // Where pullpass runs is where its session is opened; where the images are is where the token is asked for.
    let environment = [
        ("AWS_ROLE_ARN", role.as_str()),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", file.to_str().unwrap()),
        ("AWS_REGION", "ap-south-1"),
        ("AWS_STS_REGIONAL_ENDPOINTS", "legacy"),
    ];
    let _pullpass = start(&fixture, &internet, &environment).await;
    let asked: Vec<&str> = images.iter().map(String::as_str).collect();
    let created = fixture.create(&namespace, &asked).await;
    assert_eq!(created.warnings, [""; 0]);
    let minters = [
        "regional/pullpass|eu-west-1",
        "regional-hop/pullpass|eu-central-1",
    ];
    for (image, minter) in images.iter().zip(minters) {
        let login = first(&fixture, &namespace, image).await;
        let minter = format!("arn:aws:sts::123456789012:assumed-role/{minter}|");
        assert!(login.password.starts_with(&minter), "{}", login.password);
    }
    let reached: BTreeSet<String> = internet.reached().into_iter().collect();
    let expected = [
        "api.ecr.eu-central-1.amazonaws.com:443",
        "api.ecr.eu-west-1.amazonaws.com:443",
        "sts.ap-south-1.amazonaws.com:443",
    ];
    assert_eq!(reached, expected.map(str::to_owned).into());
}

/// Keys of a session come with its token; when they are rotated the next Pod has the new one's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mints_with_temporary_keys_and_their_session_token() {
    let fixture = Fixture::new("temporary").await;
    let session = |token: &str| {
        json!({
            "AWS_ACCESS_KEY_ID": "ASIATEMPORARYE2EXXXX", "AWS_SECRET_ACCESS_KEY": "canary/temporary", "AWS_SESSION_TOKEN": token,
        })
    };
    let principal = "arn:aws:sts::123456789012:assumed-role/temporary/person";
    let key = json!({
        "accessKeyId": "ASIATEMPORARYE2EXXXX", "secretAccessKey": "canary/temporary",
        "sessionToken": "canary/token", "principal": principal,
    });
    fixture.world.moto.post("keys", key).await;
    fixture.serve(&[&format!("{ECR}/team")]).await;
    let namespace = fixture.namespace("pods").await;
    let image = format!("{ECR}/team/hello:1");
    fixture
        .put_source("temporary", "Opaque", session("canary/old"))
        .await;
    let pullpass = fixture.start().await;

    let created = fixture.create(&namespace, &[&image]).await;
    let warnings = created.warnings.join("\n").replace("\n… ", " ");
    let log = pullpass.wait_logged(&["AWS_SESSION_TOKEN"]).await;
    let told = format!("{warnings}\n{log}");
    assert!(warnings.contains("(UnrecognizedClient)"), "{warnings}");
    assert!(!told.contains("canary"), "{told}");
    assert!(!fixture.has_pull_secret(&namespace).await);

    fixture
        .put_source("temporary", "Opaque", session("canary/token"))
        .await;
    wait::until("the session's token", async || {
        let created = fixture.create(&namespace, &[&image]).await;
        created.warnings.is_empty().then_some(())
    })
    .await;
    let login = first(&fixture, &namespace, &image).await;
    assert!(
        login
            .password
            .starts_with(&format!("{principal}|eu-west-1|"))
    );
    let (oci, held) = (
        Oci::start(&["team/hello:1"]),
        fixture.pull_secret(&namespace).await,
    );
    oci.allow(&login);
    oci.pull(&held, &image).unwrap();
}

/// What a repository policy grants needs nothing on the identity but the right to log in; without that nothing helps.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn needs_the_right_to_ask_for_a_token_and_no_other() {
    let fixture = Fixture::new("rights").await;
    let allow = |actions: &[&str]| {
        json!([{"Version": "2012-10-17", "Statement": [
            {"Effect": "Allow", "Action": actions, "Resource": "*"},
        ]}])
    };
    let moto = &fixture.world.moto;
    let login = allow(&["ecr:GetAuthorizationToken"]);
    let login = User::add_with(moto, "rights-login", Some(login)).await;
    let pull = allow(&[
        "ecr:BatchGetImage",
        "ecr:GetDownloadUrlForLayer",
        "ecr:BatchCheckLayerAvailability",
    ]);
    let pull = User::add_with(moto, "rights-pull", Some(pull)).await;
    for user in [&login, &pull] {
        fixture.put_keys(&user.name, user).await;
        let host = "210987654321.dkr.ecr.eu-west-1.amazonaws.com";
        let spec =
            json!({"images": [format!("{host}/{}", user.name)], "ecr": fixture.ecr(&user.name)});
        fixture.put_registry(&user.name, spec).await;
    }
    let namespace = fixture.namespace("pods").await;
    let pullpass = fixture.start().await;
    let image = |user: &User| {
        format!(
            "210987654321.dkr.ecr.eu-west-1.amazonaws.com/{}/app:1",
            user.name
        )
    };

    let created = fixture.create(&namespace, &[&image(&pull)]).await;
    let warnings = created.warnings.join("\n").replace("\n… ", " ");
    assert!(warnings.contains("(AccessDenied)"), "{warnings}");
    assert!(!warnings.contains(&pull.principal), "{warnings}");
    for words in [
        "ecr:GetAuthorizationToken",
        &pull.principal,
        "a repository policy cannot grant it",
    ] {
        pullpass.wait_logged(&[words]).await;
    }
    let created = fixture.create(&namespace, &[&image(&login)]).await;
    assert_eq!(created.warnings, [""; 0]);
    let minted = login.newest(moto).await.unwrap();
    assert_eq!(first(&fixture, &namespace, &image(&login)).await, minted);
    assert!(pull.minted(moto).await.is_empty());
}

/// `tokenLife` says whether a token counts as good no longer than the session that asked for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counts_on_a_token_until_its_session_or_the_answer_ends() {
    let fixture = Fixture::new("lives").await;
    let moto = &fixture.world.moto;
    let user = User::add(moto, "lives-user").await;
    fixture.put_keys("lives-user", &user).await;
    let role = add_hop(&fixture, "lives", &user.principal, None, None).await;
    for life in ["Session", "Answer"] {
        let mut ecr = fixture.ecr("lives-user");
        ecr["endpoints"]["sts"] = fixture.aws.url.as_str().into();
        ecr["assumeRoles"] = json!([{"roleArn": role, "durationSeconds": 900}]);
        ecr["tokenLife"] = life.into();
        let name = life.to_lowercase();
        // Each is alone in its namespace: a Secret is good until the first of its credentials ends.
        let mine = json!({"kubernetes.io/metadata.name": fixture.namespace_name(&name)});
        let serves = json!({"matchLabels": mine});
        let spec =
            json!({"images": [format!("{ECR}/{name}")], "ecr": ecr, "namespaceSelector": serves});
        fixture.put_registry(&format!("lives-{name}"), spec).await;
    }
    let _pullpass = fixture.start().await;
    for (life, minutes) in [("session", 15), ("answer", 12 * 60)] {
        let namespace = fixture.namespace(life).await;
        let created = fixture
            .create(&namespace, &[&format!("{ECR}/{life}/app:1")])
            .await;
        assert_eq!(created.warnings, [""; 0]);
        let secret = fixture
            .cluster
            .secret(&namespace, "pullpass")
            .await
            .unwrap();
        let left = until(&secret).duration_since(Timestamp::now());
        let expected = SignedDuration::from_mins(minutes);
        assert!(
            (left - expected).abs() < SignedDuration::from_mins(1),
            "{life}: {left}"
        );
    }
}

/// Until when a pull secret says that it is good.
fn until(secret: &Value) -> Timestamp {
    let until = &secret["metadata"]["annotations"]["pullpass.dev/expiration-time"];
    until.as_str().unwrap().parse().unwrap()
}
