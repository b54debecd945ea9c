//! ECR tokens from an AWS that refuses what AWS refuses: every identity, public and private, and the faults of a cloud.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::unwrap_in_result,
    reason = "helpers of a test may fail it"
)]

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crate::support;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::{SignedDuration, Timestamp};
use pullpass::credential::cache::Minter;
use pullpass::credential::ecr::{EcrMint, EcrMintRequest};
use pullpass::credential::http::{HttpClient, ProxyConfig};
use pullpass::credential::identity::AwsEnvironment;
use pullpass::credential::identity::keys::AccessKeys;
use pullpass::credential::mint::Clouds;
use pullpass::credential::{Credential, Metrics, MintError};
use pullpass::registry::source::{
    EcrEndpoints, EcrIdentity, EcrSource, MintSource, RoleHop, TokenLifetime,
};
use secrecy::ExposeSecret;
use serde_json::json;
use support::figure;
use support::jwt::Issuer;
use support::log::Log;
use support::moto::{Moto, key_id, secret_key};
use support::source::Secrets;
use support::store::{Replica, Seeded, Shared};

const ACCOUNT: &str = "arn:aws:iam::123456789012";
const SUBJECT: &str = "pullpass:pullpass";

/// The double that the tests share which change nothing for others.
fn moto() -> &'static Moto {
    static MOTO: OnceLock<Moto> = OnceLock::new();
    MOTO.get_or_init(Moto::start)
}

fn keys_of(secret: &str) -> EcrIdentity {
    EcrIdentity::Keys {
        secret: secret.parse().unwrap(),
    }
}

fn order(source: EcrSource, keys: Option<AccessKeys>) -> EcrMintRequest {
    EcrMintRequest {
        source,
        keys,
        expires_at: None,
        now: Timestamp::now(),
    }
}

/// Mints with the keys of the user `name`, but with `secret` as the secret key.
async fn mint_as(moto: &Moto, name: &str, secret: &str) -> Result<Credential, MintError> {
    let secrets = Secrets::default();
    secrets.set_keys(name, &key_id(name), secret);
    let keys = AccessKeys::find(name, &secrets)?;
    let source = moto.source(keys_of(name));
    moto.mint(AwsEnvironment::default())
        .mint(order(source, Some(keys)))
        .await
}

async fn mint_with(mint: &EcrMint, source: EcrSource) -> Result<Credential, MintError> {
    mint.mint(order(source, None)).await
}

/// What the password says: who minted it, and where.
fn minted_by(credential: &Credential) -> (String, String) {
    let password = credential.password.expose_secret();
    let mut parts = password.split('|').map(str::to_owned);
    (parts.next().unwrap(), parts.next().unwrap())
}

fn life(credential: &Credential) -> i64 {
    credential
        .expires_at
        .duration_since(credential.minted_at)
        .as_secs()
}

#[tokio::test]
async fn mint_with_right_keys_says_who_minted_where() {
    let principal = moto().add_user("right", None).await;
    let credential = mint_as(moto(), "right", &secret_key("right"))
        .await
        .unwrap();
    assert_eq!(credential.username, "AWS");
    assert_eq!(minted_by(&credential), (principal, "eu-west-1".to_owned()));
    assert!(
        (life(&credential) - 12 * 3600).abs() < 5,
        "{}",
        life(&credential)
    );
    let minted = moto().get("minted").await.to_string();
    assert!(
        minted.contains(credential.password.expose_secret()),
        "{minted}"
    );
    assert!(
        credential.principal.contains("source secret right"),
        "{}",
        credential.principal
    );
}

#[tokio::test]
async fn mint_with_wrong_secret_key_says_which_secret_to_correct() {
    moto().add_user("wrong", None).await;
    let error = mint_as(moto(), "wrong", "canary/not-the-right-one")
        .await
        .unwrap_err();
    assert_eq!(error.reason(), "UnrecognizedClient", "{error}");
    let text = error.to_string();
    assert!(
        text.contains("source secret wrong") && text.contains("check AWS_ACCESS_KEY_ID"),
        "{text}"
    );
    assert!(!text.contains("canary"), "{text}");
}

#[tokio::test]
async fn mint_with_unknown_keys_is_not_accepted() {
    let error = mint_as(moto(), "unknown", &secret_key("unknown"))
        .await
        .unwrap_err();
    assert_eq!(error.reason(), "UnrecognizedClient", "{error}");
}

#[tokio::test]
async fn mint_without_permission_names_it_and_the_principal() {
    let principal = moto().add_user("forbidden", Some(json!([]))).await;
    let error = mint_as(moto(), "forbidden", &secret_key("forbidden"))
        .await
        .unwrap_err();
    assert_eq!(error.reason(), "AccessDenied", "{error}");
    let text = error.to_string();
    assert!(
        text.contains("denied ecr:GetAuthorizationToken") && text.contains(&principal),
        "{text}"
    );
    assert!(text.contains("127.0.0.1:"), "{text}");
}

#[tokio::test]
async fn mint_with_temporary_keys_needs_the_right_session_token() {
    let moto = moto();
    moto.post(
        "keys",
        json!({"accessKeyId": "ASIATEMPORARYXXXXXXX", "secretAccessKey": "s3", "sessionToken": "canary-token",
            "principal": "arn:aws:sts::123456789012:assumed-role/temporary/x"}),
    )
    .await;
    for (token, is_good) in [
        ("canary-token\n", true),
        ("canary-other", false),
        ("", false),
    ] {
        let secrets = Secrets::default();
        let data = [
            ("AWS_ACCESS_KEY_ID", "ASIATEMPORARYXXXXXXX"),
            ("AWS_SECRET_ACCESS_KEY", "s3\n"),
            ("AWS_SESSION_TOKEN", token),
        ];
        secrets.set("temporary", &data);
        let keys = AccessKeys::find("temporary", &secrets).unwrap();
        let source = moto.source(keys_of("temporary"));
        let minted = moto
            .mint(AwsEnvironment::default())
            .mint(order(source, Some(keys)))
            .await;
        match minted {
            Ok(credential) => assert!(
                is_good
                    && minted_by(&credential)
                        .0
                        .ends_with("assumed-role/temporary/x")
            ),
            Err(error) => {
                assert!(
                    !is_good && error.reason() == "UnrecognizedClient",
                    "{token:?}: {error}"
                );
                assert!(
                    !format!("{error} {error:?}").contains("canary"),
                    "{error:?}"
                );
            }
        }
    }
}

#[tokio::test]
async fn mint_public_says_public_and_needs_both_permissions() {
    let moto = moto();
    let principal = moto.add_user("publicly", None).await;
    let narrow = json!([{"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Action": "ecr-public:GetAuthorizationToken", "Resource": "*"}]}]);
    moto.add_user("halfway", Some(narrow)).await;
    let mint = async |name: &str| {
        let secrets = Secrets::default();
        secrets.set_keys(name, &key_id(name), &secret_key(name));
        let keys = AccessKeys::find(name, &secrets)?;
        let source = EcrSource {
            public: true,
            region: "us-east-1".to_owned(),
            ..moto.source(keys_of(name))
        };
        moto.mint(AwsEnvironment::default())
            .mint(order(source, Some(keys)))
            .await
    };
    let credential = mint("publicly").await.unwrap();
    assert_eq!(minted_by(&credential), (principal, "public".to_owned()));
    let error = mint("halfway").await.unwrap_err();
    assert_eq!(error.reason(), "AccessDenied", "{error}");
    assert!(
        error.to_string().contains("sts:GetServiceBearerToken"),
        "{error}"
    );
}

#[tokio::test]
async fn rotated_keys_are_picked_up_and_the_old_ones_not_asked_again() {
    let moto = moto();
    let (old, new) = (
        moto.add_user("rotated-old", None).await,
        moto.add_user("rotated-new", None).await,
    );
    let secrets = Arc::new(Secrets::default());
    let replica = Replica::start(&Shared::default(), &Seeded::new(1), 1);
    let mint = moto.clouds(AwsEnvironment::default());
    let minter = Minter::new(Arc::new(mint), replica, secrets.clone(), Metrics::default());
    let source = moto.source(keys_of("rotated")).into();
    for (name, principal) in [("rotated-old", &old), ("rotated-new", &new)] {
        secrets.set_keys("rotated", &key_id(name), &secret_key(name));
        for _ in 0..3 {
            let credential = minter.credential(&source, Timestamp::now()).await.unwrap();
            assert_eq!(minted_by(&credential).0, *principal);
        }
        assert_eq!(moto.count("GetAuthorizationToken", principal).await, 1);
        moto.delete(&format!("keys/{}", key_id("rotated-old")))
            .await;
        moto.add_user("rotated-old", Some(json!([]))).await;
    }
}

#[tokio::test]
async fn life_follows_the_answer() {
    let principal = moto().add_user("shortly", None).await;
    moto()
        .post("life", json!({"seconds": 90, "principal": principal}))
        .await;
    let credential = mint_as(moto(), "shortly", &secret_key("shortly"))
        .await
        .unwrap();
    assert!((life(&credential) - 90).abs() <= 2, "{}", life(&credential));
}

/// A cluster's issuer that IAM knows, a role that trusts one of its ServiceAccounts, and a token file.
struct Cluster {
    issuer: Issuer,
    role: String,
    folder: tempfile::TempDir,
}

impl Cluster {
    async fn start(moto: &Moto) -> Self {
        let issuer = Issuer::new("https://oidc.example/cluster");
        moto.post(
            "issuers",
            json!({"issuer": issuer.url, "jwks": issuer.jwks()}),
        )
        .await;
        let role = format!("{ACCOUNT}:role/pullpass");
        let trust = json!({"Version": "2012-10-17", "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"Federated": format!("{ACCOUNT}:oidc-provider/oidc.example/cluster")},
                "Action": "sts:AssumeRoleWithWebIdentity",
                "Condition": {"StringEquals": {"oidc.example/cluster:sub": "system:serviceaccount:pullpass:pullpass"}},
            },
            {
                "Effect": "Allow",
                "Principal": {"Service": "pods.eks.amazonaws.com"},
                "Action": ["sts:AssumeRole", "sts:TagSession"],
            },
            {"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"},
        ]});
        moto.post("roles", json!({"roleArn": role, "trust": trust}))
            .await;
        Self {
            issuer,
            role,
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn file(&self, token: &str) -> PathBuf {
        let path = self.folder.path().join("token");
        std::fs::write(&path, format!("{token}\n")).unwrap();
        path
    }

    fn web_identity(&self, file: &Path) -> AwsEnvironment {
        AwsEnvironment {
            role_arn: Some(self.role.clone()),
            web_identity_token_file: Some(file.to_owned()),
            ..AwsEnvironment::default()
        }
    }
}

#[tokio::test]
async fn web_identity_opens_a_session_for_each_mint_and_its_end_bounds_the_token() {
    let moto = Moto::start();
    let cluster = Cluster::start(&moto).await;
    moto.post("life", json!({"sessionSeconds": 900})).await;
    let file = cluster.file(&cluster.issuer.token(SUBJECT, "sts.amazonaws.com", 600));
    let mint = moto.mint(cluster.web_identity(&file));
    for _ in 0..2 {
        let credential = mint_with(&mint, moto.source(EcrIdentity::Workload))
            .await
            .unwrap();
        let session = "arn:aws:sts::123456789012:assumed-role/pullpass/pullpass".to_owned();
        assert_eq!(
            minted_by(&credential),
            (session.clone(), "eu-west-1".to_owned())
        );
        assert_eq!(credential.principal, session);
        assert!(
            (life(&credential) - 900).abs() <= 3,
            "{}",
            life(&credential)
        );
    }
    let calls = moto.get("calls").await.to_string();
    assert_eq!(
        calls.matches("AssumeRoleWithWebIdentity").count(),
        2,
        "{calls}"
    );
}

#[tokio::test]
async fn web_identity_says_what_to_do_when_it_is_refused() {
    let moto = Moto::start();
    let cluster = Cluster::start(&moto).await;
    let (good, stranger) = (&cluster.issuer, Issuer::new("https://oidc.example/other"));
    let sts = "sts.amazonaws.com";
    for (token, reason, words) in [
        (
            good.token("team:other", sts, 600),
            "TrustRefused",
            "of system:serviceaccount:team:other",
        ),
        (
            stranger.token(SUBJECT, sts, 600),
            "UnrecognizedClient",
            "OIDC provider",
        ),
        (
            good.token(SUBJECT, sts, -10),
            "UnrecognizedClient",
            "ExpiredToken",
        ),
        (
            good.token(SUBJECT, "vault", 600),
            "UnrecognizedClient",
            "audience",
        ),
        (
            "not-a-token".to_owned(),
            "UnrecognizedClient",
            "InvalidIdentityToken",
        ),
    ] {
        let mint = moto.mint(cluster.web_identity(&cluster.file(&token)));
        let error = mint_with(&mint, moto.source(EcrIdentity::Workload))
            .await
            .unwrap_err();
        assert_eq!(error.reason(), reason, "{error}");
        assert!(error.to_string().contains(words), "{error}");
        assert!(error.to_string().contains(&cluster.role), "{error}");
        assert!(!format!("{error} {error:?}").contains(&token), "{error:?}");
    }
}

#[tokio::test]
async fn web_identity_says_what_is_missing() {
    let moto = Moto::start();
    let cluster = Cluster::start(&moto).await;
    let mint = moto.mint(cluster.web_identity(Path::new("/nonexistent/token")));
    let error = mint_with(&mint, moto.source(EcrIdentity::Workload))
        .await
        .unwrap_err();
    assert!(
        error.reason() == "NoIdentity" && error.to_string().contains("/nonexistent/token"),
        "{error}"
    );
    moto.post(
        "roles",
        json!({"roleArn": cluster.role, "trust": {"Version": "2012-10-17", "Statement": []}}),
    )
    .await;
    let file = cluster.file(&cluster.issuer.token(SUBJECT, "sts.amazonaws.com", 600));
    let mint = moto.mint(cluster.web_identity(&file));
    let error = mint_with(&mint, moto.source(EcrIdentity::Workload))
        .await
        .unwrap_err();
    assert!(
        error.reason() == "TrustRefused" && error.to_string().contains("trust policy"),
        "{error}"
    );
}

#[tokio::test]
async fn workload_without_identity_says_how_to_give_one() {
    let error = mint_with(
        &moto().mint(AwsEnvironment::default()),
        moto().source(EcrIdentity::Workload),
    )
    .await
    .unwrap_err();
    assert_eq!(error.reason(), "NoIdentity", "{error}");
    assert!(
        error.to_string().contains("eks.amazonaws.com/role-arn"),
        "{error}"
    );
}

fn with_agent(moto: &Moto, file: &Path) -> AwsEnvironment {
    AwsEnvironment {
        container_credentials_full_uri: Some(format!("{}/v1/credentials", moto.field("agent"))),
        container_authorization_token_file: Some(file.to_owned()),
        ..AwsEnvironment::default()
    }
}

#[tokio::test]
async fn container_credentials_mint_as_the_associated_role() {
    let moto = Moto::start();
    let cluster = Cluster::start(&moto).await;
    moto.post(
        "associations",
        json!({"namespace": "pullpass", "serviceAccount": "pullpass", "roleArn": cluster.role}),
    )
    .await;
    moto.post("life", json!({"sessionSeconds": 900})).await;
    let environment = |file: &Path| with_agent(&moto, file);
    let audience = "pods.eks.amazonaws.com";
    let file = cluster.file(&cluster.issuer.token(SUBJECT, audience, 600));
    let credential = mint_with(
        &moto.mint(environment(&file)),
        moto.source(EcrIdentity::Workload),
    )
    .await
    .unwrap();
    assert!(
        minted_by(&credential)
            .0
            .contains(":assumed-role/pullpass/eks-pullpass-pullpass")
    );
    assert!(
        (life(&credential) - 900).abs() <= 3,
        "{}",
        life(&credential)
    );
    assert!(
        credential.principal.contains("account 123456789012"),
        "{}",
        credential.principal
    );
    for token in [
        cluster.issuer.token("team:other", audience, 600),
        cluster.issuer.token(SUBJECT, "sts.amazonaws.com", 600),
    ] {
        let mint = moto.mint(environment(&cluster.file(&token)));
        let error = mint_with(&mint, moto.source(EcrIdentity::Workload))
            .await
            .unwrap_err();
        assert_eq!(error.reason(), "NoIdentity", "{error}");
        assert!(
            error.to_string().contains("Pod Identity association"),
            "{error}"
        );
        assert!(!error.to_string().contains(&token));
    }
}

#[tokio::test]
async fn node_mints_as_the_node_and_waits_for_a_later_session() {
    let moto = Moto::start();
    let cluster = Cluster::start(&moto).await;
    let environment = AwsEnvironment {
        metadata_endpoint: Some(moto.field("imds").to_owned()),
        ..AwsEnvironment::default()
    };
    let mint = moto.mint(environment);
    let error = mint_with(&mint, moto.source(EcrIdentity::Node))
        .await
        .unwrap_err();
    assert!(
        error.reason() == "NoIdentity" && error.to_string().contains("instance profile"),
        "{error}"
    );
    moto.post("node", json!({"roleArn": cluster.role, "seconds": 3600}))
        .await;
    let first = mint_with(&mint, moto.source(EcrIdentity::Node))
        .await
        .unwrap();
    assert!(
        minted_by(&first).0.contains(":assumed-role/pullpass/"),
        "{:?}",
        minted_by(&first)
    );
    assert_eq!(first.principal, "node role pullpass");
    assert!((life(&first) - 3600).abs() <= 3, "{}", life(&first));
    let renewal = || EcrMintRequest {
        expires_at: Some(first.expires_at),
        ..order(moto.source(EcrIdentity::Node), None)
    };
    let before = moto.get("minted").await.as_array().unwrap().len();
    let error = mint.mint(renewal()).await.unwrap_err();
    assert_eq!(error.reason(), "SessionNotRenewed", "{error}");
    assert_eq!(
        moto.get("minted").await.as_array().unwrap().len(),
        before,
        "nothing is minted for nothing"
    );
    moto.post("node", json!({"roleArn": cluster.role, "seconds": 7200}))
        .await;
    let second = mint.mint(renewal()).await.unwrap();
    assert!(second.expires_at > first.expires_at);
}

#[tokio::test]
async fn node_that_is_silent_or_off_says_so() {
    let moto = Moto::start();
    let environment = AwsEnvironment {
        metadata_endpoint: Some(moto.field("imds").to_owned()),
        ..AwsEnvironment::default()
    };
    let mint = moto.mint(environment);
    moto.post(
        "faults",
        json!({"operation": "ImdsToken", "status": 403, "body": "off"}),
    )
    .await;
    let error = mint_with(&mint, moto.source(EcrIdentity::Node))
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("switch instance metadata"),
        "{error}"
    );
    moto.post(
        "faults",
        json!({"operation": "ImdsToken", "delayMs": 60_000}),
    )
    .await;
    let error = mint_with(&mint, moto.source(EcrIdentity::Node))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("hop limit"), "{error}");
    moto.delete("faults").await;
}

#[tokio::test]
async fn throttled_cloud_is_said_to_be_throttled() {
    let principal = moto().add_user("throttled", None).await;
    let fault = json!({"operation": "GetAuthorizationToken", "principal": principal, "count": 1, "status": 429,
        "code": "ThrottlingException", "message": "Rate exceeded"});
    moto().post("faults", fault).await;
    let error = mint_as(moto(), "throttled", &secret_key("throttled"))
        .await
        .unwrap_err();
    assert_eq!(error.reason(), "Throttled", "{error}");
    mint_as(moto(), "throttled", &secret_key("throttled"))
        .await
        .unwrap();
}

#[tokio::test]
async fn slow_cloud_is_waited_for() {
    let principal = moto().add_user("slow", None).await;
    let fault =
        json!({"operation": "GetAuthorizationToken", "principal": principal, "delayMs": 1500});
    moto().post("faults", fault).await;
    mint_as(moto(), "slow", &secret_key("slow")).await.unwrap();
}

#[tokio::test]
async fn hanging_cloud_is_given_up_and_holds_up_nobody_else() {
    let moto = Moto::start();
    let hanging = moto.add_user("hanging", None).await;
    moto.add_user("lively", None).await;
    let fault = json!({"operation": "GetAuthorizationToken", "principal": hanging, "count": 9, "delayMs": 600_000});
    moto.post("faults", fault).await;
    let started = Instant::now();
    let secret_keys = (secret_key("hanging"), secret_key("lively"));
    let both = tokio::join!(mint_as(&moto, "hanging", &secret_keys.0), async {
        mint_as(&moto, "lively", &secret_keys.1).await.unwrap();
        started.elapsed()
    });
    assert_eq!(both.0.unwrap_err().reason(), "Timeout");
    figure::within(
        "a cloud that hangs is given up",
        started.elapsed(),
        Duration::from_secs(9),
    );
    assert!(both.1 < started.elapsed(), "the other one did not wait");
    moto.delete("faults").await;
}

#[tokio::test]
async fn unusable_answers_are_refused() {
    const CLOCK: &str = "is this node's clock right?";
    let principal = moto().add_user("odd", None).await;
    let token = |text: &str| STANDARD.encode(text);
    let now = Timestamp::now().as_second();
    let answer = |token: String, end: i64| {
        json!({"authorizationData": [{"authorizationToken": token, "expiresAt": end}]}).to_string()
    };
    for (body, words) in [
        ("<html>captive portal</html>".to_owned(), "HTTP 200"),
        (answer(String::new(), now + 3600), "token is empty"),
        (answer("%%%".to_owned(), now + 3600), "not base64"),
        (answer(token("root:x"), now + 3600), "another user name"),
        (answer(token("AWS:x"), now - 3600), CLOCK),
        (
            answer(token("AWS:x"), now + 400 * 86_400),
            "longer than any",
        ),
    ] {
        let fault = json!({"operation": "GetAuthorizationToken", "principal": principal, "status": 200, "body": body,
            "contentType": "application/x-amz-json-1.1"});
        moto().post("faults", fault).await;
        let error = mint_as(moto(), "odd", &secret_key("odd"))
            .await
            .unwrap_err();
        let reason = if words == CLOCK {
            "ClockSkew"
        } else {
            "InvalidResponse"
        };
        assert_eq!(error.reason(), reason, "{error}");
        assert!(error.to_string().contains(words), "{error}");
    }
    mint_as(moto(), "odd", &secret_key("odd")).await.unwrap();
}

#[tokio::test]
async fn odd_answer_never_replaces_a_credential_that_works() {
    let moto = moto();
    let principal = moto.add_user("steady", None).await;
    moto.post("life", json!({"seconds": 3600, "principal": principal}))
        .await;
    let secrets = Arc::new(Secrets::default());
    secrets.set_keys("steady", &key_id("steady"), &secret_key("steady"));
    let replica = Replica::start(&Shared::default(), &Seeded::new(1), 1);
    let minter = Minter::new(
        Arc::new(moto.clouds(AwsEnvironment::default())),
        replica,
        secrets,
        Metrics::default(),
    );
    let source = moto.source(keys_of("steady")).into();
    let first = minter.credential(&source, Timestamp::now()).await.unwrap();
    let fault = json!({"operation": "GetAuthorizationToken", "principal": principal, "status": 200, "body": "<html>"});
    moto.post("faults", fault).await;
    // 57 minutes later it is spent, so this waits for the mint, which fails.
    let later = Timestamp::now() + SignedDuration::from_mins(57);
    let second = minter.credential(&source, later).await.unwrap();
    assert_eq!(
        first.password.expose_secret(),
        second.password.expose_secret()
    );
    assert_eq!(moto.count("GetAuthorizationToken", &principal).await, 2);
}

#[tokio::test]
async fn unknown_authority_says_how_to_trust_it() {
    let http = HttpClient::build(None, ProxyConfig::disabled()).unwrap();
    let secrets = Secrets::default();
    secrets.set_keys("tls", &key_id("tls"), &secret_key("tls"));
    let keys = AccessKeys::find("tls", &secrets).unwrap();
    let mint = EcrMint::new(http, AwsEnvironment::default());
    let error = mint
        .mint(order(moto().source(keys_of("tls")), Some(keys)))
        .await
        .unwrap_err();
    assert_eq!(error.reason(), "Network", "{error}");
    assert!(error.to_string().contains("--extra-ca"), "{error}");
}

#[tokio::test]
async fn closed_port_says_which_host() {
    let secrets = Secrets::default();
    secrets.set_keys("closed", &key_id("closed"), &secret_key("closed"));
    let keys = AccessKeys::find("closed", &secrets).unwrap();
    let endpoints = EcrEndpoints {
        ecr: Some("https://127.0.0.1:1".to_owned()),
        ..EcrEndpoints::default()
    };
    let source = EcrSource {
        endpoints,
        ..moto().source(keys_of("closed"))
    };
    let error = moto()
        .mint(AwsEnvironment::default())
        .mint(order(source, Some(keys)))
        .await
        .unwrap_err();
    assert_eq!(error.reason(), "Network", "{error}");
    assert!(
        error
            .to_string()
            .contains("cannot talk to 127.0.0.1:1: Connection refused"),
        "{error}"
    );
}

#[tokio::test]
async fn no_secret_is_logged_even_at_trace() {
    let moto = moto();
    moto.add_user("logged", None).await;
    moto.add_user("refused", Some(json!([]))).await;
    let log = Log::begin();
    let credential = mint_as(moto, "logged", &secret_key("logged"))
        .await
        .unwrap();
    mint_as(moto, "refused", &secret_key("refused"))
        .await
        .unwrap_err();
    mint_as(moto, "logged", "canary/not-the-right-one")
        .await
        .unwrap_err();
    tracing::trace!("the log is taken");
    let log = log.end();
    let password = credential.password.expose_secret();
    let lines = |needle: &str| {
        log.lines()
            .filter(|line| line.contains(needle))
            .collect::<Vec<_>>()
            .join("\n")
    };
    assert!(log.contains("the log is taken"));
    assert!(!log.contains("canary"), "{}", lines("canary"));
    assert!(!log.contains(password), "{}", lines(password));
    let packed = STANDARD.encode(format!("AWS:{password}"));
    assert!(!log.contains(&packed), "{}", lines(&packed));
}

/// A role that this principal may assume, with this external id if one is given.
async fn add_hop(moto: &Moto, name: &str, principal: &str, external_id: Option<&str>) -> RoleHop {
    let role_arn = format!("{ACCOUNT}:role/{name}");
    let mut statement =
        json!({"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"AWS": principal}});
    if let Some(external_id) = external_id {
        statement["Condition"] = json!({"StringEquals": {"sts:ExternalId": external_id}});
    }
    let trust = json!({"Version": "2012-10-17", "Statement": [statement]});
    let policy = json!({"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Action": ["sts:AssumeRole", "ecr:GetAuthorizationToken"], "Resource": "*"},
    ]});
    let role = json!({"roleArn": role_arn, "trust": trust, "policies": [policy], "maxSessionDuration": 43200});
    moto.post("roles", role).await;
    RoleHop {
        role_arn,
        external_id: external_id.map(str::to_owned),
        ..RoleHop::default()
    }
}

/// Mints with the keys of the user `name` and these roles on top.
async fn mint_over(moto: &Moto, name: &str, hops: &[&RoleHop]) -> Result<Credential, MintError> {
    let secrets = Secrets::default();
    secrets.set_keys(name, &key_id(name), &secret_key(name));
    let source = EcrSource {
        assume_roles: hops.iter().map(|hop| (*hop).clone()).collect(),
        ..moto.source(keys_of(name))
    };
    let order = order(source, Some(AccessKeys::find(name, &secrets)?));
    moto.mint(AwsEnvironment::default()).mint(order).await
}

/// A user who may assume roles.
async fn add_climber(moto: &Moto, name: &str) -> String {
    let policy = json!({"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Action": "sts:AssumeRole", "Resource": "*"},
    ]});
    moto.add_user(name, Some(json!([policy]))).await
}

#[tokio::test]
async fn chain_ends_as_its_last_role_and_lives_as_long_as_its_session() {
    let user = add_climber(moto(), "climber").await;
    let first = add_hop(moto(), "climb-1", &user, Some("ext:1")).await;
    let second = add_hop(moto(), "climb-2", &first.role_arn, None).await;
    let second = RoleHop {
        session_name: Some("pull.er@2".to_owned()),
        duration_seconds: Some(1200),
        ..second
    };

    let credential = mint_over(moto(), "climber", &[&first, &second])
        .await
        .unwrap();
    let session = "arn:aws:sts::123456789012:assumed-role/climb-2/pull.er@2";
    assert_eq!(minted_by(&credential).0, session);
    assert_eq!(credential.principal, session);
    assert!(
        (life(&credential) - 1200).abs() <= 3,
        "{}",
        life(&credential)
    );

    // Access keys open a session of many hours; the token's own end counts then.
    let long = RoleHop {
        duration_seconds: Some(43_200),
        ..first
    };
    let credential = mint_over(moto(), "climber", &[&long]).await.unwrap();
    assert!(
        (life(&credential) - 43_200).abs() <= 5,
        "{}",
        life(&credential)
    );
}

#[tokio::test]
async fn chain_that_fails_names_the_hop_and_what_to_do() {
    let user = add_climber(moto(), "stumbler").await;
    let first = add_hop(moto(), "stumble-1", &user, Some("right")).await;
    let second = add_hop(moto(), "stumble-2", &first.role_arn, None).await;
    let stranger = add_hop(moto(), "stumble-3", &user, None).await;
    let nobody = RoleHop {
        role_arn: format!("{ACCOUNT}:role/nobody"),
        ..RoleHop::default()
    };
    let wrong_id = RoleHop {
        external_id: Some("wrong".to_owned()),
        ..first.clone()
    };
    let too_long = RoleHop {
        duration_seconds: Some(3601),
        ..second.clone()
    };
    let rows = [
        (vec![&wrong_id], "TrustRefused", "role 1 of 1"),
        (vec![&wrong_id, &second], "TrustRefused", "role 1 of 2"),
        // It trusts the user, not the role before it.
        (vec![&first, &stranger], "TrustRefused", "role 2 of 2"),
        (
            vec![&first, &second, &nobody],
            "TrustRefused",
            "role 3 of 3",
        ),
        (vec![&first, &too_long], "Refused", "role 2 of 2"),
    ];
    for (hops, reason, words) in rows {
        let error = mint_over(moto(), "stumbler", &hops).await.unwrap_err();
        let text = error.to_string();
        assert_eq!(error.reason(), reason, "{text}");
        assert!(text.contains(words), "{text}");
        assert!(!text.contains("canary"), "{text}");
        let MintError::Hop { hop, role_arn, .. } = &error else {
            panic!("{text} names no hop");
        };
        assert!(text.contains(role_arn.as_str()), "{text}");
        assert_eq!(hops[hop - 1].role_arn, *role_arn);
    }
}

#[tokio::test]
async fn chain_is_minted_by_nobody_else_when_its_role_may_not() {
    let user = add_climber(moto(), "powerless").await;
    let hop = add_hop(moto(), "powerless", &user, None).await;
    let role = json!({"roleArn": hop.role_arn, "policies": [], "trust": {"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"AWS": user}},
    ]}});
    moto().post("roles", role).await;
    let error = mint_over(moto(), "powerless", &[&hop]).await.unwrap_err();
    let text = error.to_string();
    assert_eq!(error.reason(), "AccessDenied", "{text}");
    assert!(
        text.contains("assumed-role/powerless/pullpass")
            && text.contains("ecr:GetAuthorizationToken")
            && text.contains("a repository policy cannot grant it"),
        "{text}"
    );
}

#[tokio::test]
async fn token_life_answer_outlives_the_session_that_asked() {
    let user = add_climber(moto(), "outliver").await;
    let hop = RoleHop {
        duration_seconds: Some(900),
        ..add_hop(moto(), "outlive", &user, None).await
    };
    let secrets = Secrets::default();
    secrets.set_keys("outliver", &key_id("outliver"), &secret_key("outliver"));
    for (token_life, seconds) in [
        (TokenLifetime::Session, 900),
        (TokenLifetime::Answer, 43_200),
    ] {
        let source = EcrSource {
            assume_roles: vec![hop.clone()],
            token_life,
            ..moto().source(keys_of("outliver"))
        };
        let order = order(
            source,
            Some(AccessKeys::find("outliver", &secrets).unwrap()),
        );
        let mint = moto().mint(AwsEnvironment::default());
        let credential = mint.mint(order).await.unwrap();
        assert!((life(&credential) - seconds).abs() <= 5, "{token_life:?}");
    }
}

/// A container's session is not to be had on demand: with `Answer` what it signed counts until the cloud's answer all the same, and a
/// new one is minted without a later session.
#[tokio::test]
async fn token_life_answer_needs_no_later_session() {
    let moto = Moto::start();
    let cluster = Cluster::start(&moto).await;
    moto.post("node", json!({"roleArn": cluster.role})).await;
    let environment = AwsEnvironment {
        metadata_endpoint: Some(moto.field("imds").to_owned()),
        ..AwsEnvironment::default()
    };
    let mint = moto.mint(environment);
    let source = |token_life| EcrSource {
        token_life,
        ..moto.source(EcrIdentity::Node)
    };
    let first = mint_with(&mint, source(TokenLifetime::Answer))
        .await
        .unwrap();
    assert!((life(&first) - 43_200).abs() <= 5, "{}", life(&first));
    let again = |token_life| EcrMintRequest {
        expires_at: Some(first.expires_at),
        ..order(source(token_life), None)
    };
    assert!(mint.mint(again(TokenLifetime::Answer)).await.is_ok());
    let error = mint.mint(again(TokenLifetime::Session)).await.unwrap_err();
    assert_eq!(error.reason(), "SessionNotRenewed", "{error}");
}

/// An identity's name, the operation that opens its sessions, what mints with it, for what, and what it minted.
type Row = (
    &'static str,
    &'static str,
    Minter,
    MintSource,
    Arc<Credential>,
);

/// Every identity that opens a session: its name, the operation by which it does, and what mints with it.
struct Identities {
    rows: Vec<(&'static str, &'static str, EcrMint, EcrMintRequest)>,
}

impl Identities {
    async fn start(moto: &Moto, cluster: &Cluster) -> Self {
        let user = add_climber(moto, "identities").await;
        let hop = add_hop(moto, "identities", &user, None).await;
        let secrets = Secrets::default();
        let (id, secret) = (key_id("identities"), secret_key("identities"));
        secrets.set_keys("identities", &id, &secret);
        let keys = AccessKeys::find("identities", &secrets).unwrap();
        let association =
            json!({"namespace": "pullpass", "serviceAccount": "pullpass", "roleArn": cluster.role});
        moto.post("associations", association).await;
        moto.post("node", json!({"roleArn": cluster.role})).await;
        let folder = cluster.folder.path();
        let file = |name: &str, audience: &str| {
            let path = folder.join(name);
            let token = cluster.issuer.token(SUBJECT, audience, 600);
            std::fs::write(&path, token).unwrap();
            path
        };
        let web = moto.mint(cluster.web_identity(&file("web", "sts.amazonaws.com")));
        let agent = moto.mint(with_agent(moto, &file("agent", "pods.eks.amazonaws.com")));
        let node = || {
            moto.mint(AwsEnvironment {
                metadata_endpoint: Some(moto.field("imds").to_owned()),
                ..AwsEnvironment::default()
            })
        };
        let chain = EcrSource {
            assume_roles: vec![hop],
            ..moto.source(keys_of("identities"))
        };
        let workload = || order(moto.source(EcrIdentity::Workload), None);
        let of_node = || order(moto.source(EcrIdentity::Node), None);
        let by_keys = moto.mint(AwsEnvironment::default());
        let rows = vec![
            ("web identity", "AssumeRoleWithWebIdentity", web, workload()),
            ("chain", "AssumeRole", by_keys, order(chain, Some(keys))),
            ("agent", "AgentCredentials", agent, workload()),
            ("node", "ImdsToken", node(), of_node()),
            ("node", "ImdsMetadata", node(), of_node()),
        ];
        Self { rows }
    }

    /// Mints with each identity while the operation that opens its session fails so; all at once, but for those that share a service.
    async fn fail(
        &self,
        moto: &Moto,
        fault: serde_json::Value,
    ) -> Vec<(&'static str, Result<Credential, MintError>)> {
        let one = async |row: &(&'static str, &'static str, EcrMint, EcrMintRequest)| {
            let (name, operation, mint, order) = row;
            let mut fault = fault.clone();
            fault["operation"] = (*operation).into();
            moto.post("faults", fault).await;
            (*name, mint.mint(order.clone()).await)
        };
        let [web, chain, agent, first, second] = &self.rows[..] else {
            panic!("five rows")
        };
        let node = async { [one(first).await, one(second).await] };
        let (web, chain, agent, node) = tokio::join!(one(web), one(chain), one(agent), node);
        moto.delete("faults").await;
        [web, chain, agent].into_iter().chain(node).collect()
    }
}

#[tokio::test]
async fn session_that_cannot_be_opened_is_told_of_and_the_next_one_is_good() {
    let moto = Moto::start();
    let cluster = Cluster::start(&moto).await;
    let identities = Identities::start(&moto, &cluster).await;
    let html =
        |status: u16| json!({"count": 9, "status": status, "body": "<html>canary-page</html>"});
    let faults = [
        (html(200), ["InvalidResponse", "Network"].as_slice()),
        (html(502), &["Unavailable", "InvalidResponse"]),
        (html(429), &["Throttled", "InvalidResponse"]),
        (
            json!({"count": 9, "delayMs": 600_000}),
            &["Timeout", "NoIdentity"],
        ),
    ];
    for (fault, reasons) in faults {
        let started = Instant::now();
        for (name, outcome) in Box::pin(identities.fail(&moto, fault.clone())).await {
            let error = outcome.unwrap_err();
            assert!(
                reasons.contains(&error.reason()),
                "{name} {fault}: {} {error}",
                error.reason()
            );
            assert!(!error.to_string().contains("canary"), "{name}: {error}");
        }
        figure::within(
            &format!("failures of all identities, {fault}"),
            started.elapsed(),
            Duration::from_secs(14),
        );
    }
    for (name, outcome) in Box::pin(identities.fail(&moto, json!({"delayMs": 1200}))).await {
        assert!(outcome.is_ok(), "{name} slow: {outcome:?}");
    }
}

/// Whatever the service says that opens the sessions of an identity: what was minted before stays until its end.
#[tokio::test]
async fn credential_that_works_is_kept_while_its_identity_fails() {
    let moto = Moto::start();
    let cluster = Cluster::start(&moto).await;
    let identities = Identities::start(&moto, &cluster).await;
    let secrets = Arc::new(Secrets::default());
    let (id, secret) = (key_id("identities"), secret_key("identities"));
    secrets.set_keys("identities", &id, &secret);
    let mut rows = Vec::new();
    for (name, operation, ecr, order) in identities.rows {
        let clouds = Arc::new(Clouds {
            ecr,
            ..moto.clouds(AwsEnvironment::default())
        });
        let replica = Replica::start(&Shared::default(), &Seeded::new(1), 1);
        let minter = Minter::new(clouds, replica, secrets.clone(), Metrics::default());
        let source: MintSource = order.source.into();
        let first = minter.credential(&source, order.now).await;
        rows.push((name, operation, minter, source, first.unwrap()));
    }
    let html = |status: u16| json!({"status": status, "body": "<html>"});
    let faults = [html(200), html(403), html(429), json!({"delayMs": 600_000})];
    for (number, fault) in (1..).zip(faults) {
        for (_, operation, ..) in &rows {
            let mut fault = fault.clone();
            fault["operation"] = (*operation).into();
            fault["count"] = 9.into();
            moto.post("faults", fault).await;
        }
        let before = moto.get("calls").await.as_array().unwrap().len();
        // Each is spent by now, so that this waits for the mint, which fails.
        let ask = async |(name, _, minter, source, first): &Row| {
            let later = first.expires_at - SignedDuration::from_secs(170 - 30 * number);
            let kept = minter.credential(source, later).await;
            let kept = kept.unwrap_or_else(|error| panic!("{name} {fault}: {error}"));
            assert_eq!(
                kept.password.expose_secret(),
                first.password.expose_secret()
            );
        };
        futures::future::join_all(rows.iter().map(ask)).await;
        moto.delete("faults").await;
        // A call that hung is noted when it ends.
        support::wait::until("the identities to have been asked", async || {
            let calls = moto.get("calls").await.as_array().unwrap().len();
            (calls - before >= rows.len() - 1).then_some(())
        })
        .await;
    }
}
