//! The broker and the kubelet's plug-in before a real API server: who gets a login, and who gets none.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::support;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures::StreamExt as _;
use jiff::Timestamp;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Value, json};
use support::account::put_account;
use support::broker::{
    ACCOUNT, AUDIENCE, Kubelet, bind_pod, fetch_token, grant_broker, pod_token, read_answer,
    request, run_plugin,
};
use support::fixture::{ECR, Fixture};
use support::process::{Launch, Pullpass, make_namespace};
use support::wait;

/// How long the API server and pullpass may take a Pod for one that is there, and some more: 10 s and 5 s.
const BELIEVED: Duration = Duration::from_secs(20);

/// The image that each of these tests is about.
fn image() -> String {
    format!("{ECR}/team/hello")
}

/// A pullpass with its broker, a Registry that delivers by kubelets, and a Pod in its namespace.
struct Scene {
    fixture: Fixture,
    pullpass: Pullpass,
    kubelet: Kubelet,
    namespace: String,
    pod: Value,
    token: String,
}

async fn start(fixture: &Fixture) -> Pullpass {
    let launch = Launch {
        arguments: vec!["--broker-listen=127.0.0.1:0"],
        log: "info,pullpass::broker=debug",
        ..fixture.launch().await
    };
    Pullpass::start(&launch).await
}

impl Scene {
    async fn new(name: &'static str) -> Self {
        Self::within(Fixture::new(name).await, json!({})).await
    }

    /// The same with this in the Registry's `spec` besides.
    async fn within(fixture: Fixture, more: Value) -> Self {
        grant_broker(&fixture.cluster).await;
        let mut spec = json!({
            "images": [format!("{ECR}/team")], "delivery": "Node", "ecr": fixture.ecr(fixture.name),
        });
        for (field, value) in more.as_object().unwrap() {
            spec[field] = value.clone();
        }
        fixture.put_registry(fixture.name, spec).await;
        let namespace = fixture.namespace("pods").await;
        let pullpass = start(&fixture).await;
        let pod = bind_pod(&fixture.cluster, &namespace, "web", &json!({})).await;
        let token = pod_token(&fixture.cluster, &pod).await;
        Self {
            kubelet: Kubelet::of(&pullpass),
            pullpass,
            namespace,
            pod,
            token,
            fixture,
        }
    }

    /// Waits until the broker refuses the scene's image with this token, for this reason; answers the message.
    async fn wait_refused(&self, token: &str, reason: &str) -> String {
        wait::until("a refusal", async || {
            let (status, body) = self.kubelet.ask(&image(), token).await;
            (!status.is_success() && body["reason"] == reason)
                .then(|| body["message"].as_str().unwrap().to_owned())
        })
        .await
    }

    /// How many tokens the API server was asked about.
    fn reviews(&self) -> usize {
        let asked = self.fixture.api.all().into_iter();
        asked
            .filter(|request| request.path.contains("tokenreviews"))
            .count()
    }

    /// The token is refused at once, and nothing was minted.
    async fn refuse(&self, token: &str) -> String {
        let (reason, message) = self.kubelet.refused(&image(), token).await;
        assert_eq!(reason, "Unauthenticated", "{message}");
        assert!(
            self.fixture
                .user
                .minted(&self.fixture.world.moto)
                .await
                .is_empty()
        );
        message
    }
}

/// Makes tokens with this cluster's key, or another one's, out of a real one.
struct Forger {
    header: Value,
    claims: Value,
    key: RsaKeyPair,
}

fn decode(part: &str) -> Value {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

impl Forger {
    fn of(scene: &Scene) -> Self {
        let file = scene
            .fixture
            .world
            .kubeconfig()
            .with_file_name("service-account.key");
        let key = PrivatePkcs8KeyDer::from_pem_file(file).unwrap();
        let parts: Vec<&str> = scene.token.split('.').collect();
        Self {
            header: decode(parts[0]),
            claims: decode(parts[1]),
            key: RsaKeyPair::from_pkcs8(key.secret_pkcs8_der()).unwrap(),
        }
    }

    fn sign(&self, change: impl FnOnce(&mut Value)) -> String {
        let mut claims = self.claims.clone();
        change(&mut claims);
        let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", encode(&self.header), encode(&claims));
        let mut signature = vec![0; self.key.public_modulus_len()];
        let (random, bytes) = (SystemRandom::new(), signed.as_bytes());
        self.key
            .sign(&RSA_PKCS1_SHA256, &random, bytes, &mut signature)
            .unwrap();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn serves_a_pod_and_writes_no_secret() {
    let scene = Scene::new("broker").await;
    let (username, password, kept) = scene.kubelet.log_in(&image(), &scene.token).await;
    let minted = scene
        .fixture
        .user
        .newest(&scene.fixture.world.moto)
        .await
        .unwrap();
    assert_eq!((username, &password), (minted.username, &minted.password));
    assert_eq!(kept, "3600s");
    let again = scene.kubelet.log_in(&image(), &scene.token).await;
    assert_eq!(again.1, password);
    assert_eq!(
        scene
            .fixture
            .user
            .minted(&scene.fixture.world.moto)
            .await
            .len(),
        1
    );
    assert!(!scene.fixture.has_pull_secret(&scene.namespace).await);
    assert_eq!(scene.fixture.stored().await.len(), 1);
    let count = scene
        .pullpass
        .count("pullpass_broker_requests", &["outcome=\"served\""])
        .await;
    assert_eq!(count, 2);
    let reviews = scene
        .pullpass
        .count("pullpass_broker_token_reviews", &[])
        .await;
    assert_eq!(reviews, 2);
    let log = scene
        .pullpass
        .wait_logged(&["answered a kubelet's request", "node-1", "web"])
        .await;
    assert!(!log.contains(&password) && !log.contains(&scene.token));
}

/// What the forgers below change is what is refused: unchanged, and signed anew, it is a token like another.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn serves_a_token_that_is_signed_anew_with_the_clusters_key() {
    let scene = Scene::new("anew").await;
    let token = Forger::of(&scene).sign(|_| {});
    scene.kubelet.log_in(&image(), &token).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refuses_a_token_for_another_audience() {
    let scene = Scene::new("audience").await;
    for audience in [
        "sts.amazonaws.com",
        "pullpass.dev.example",
        &*scene.fixture.world.api_server().0,
    ] {
        let cluster = &scene.fixture.cluster;
        let token = fetch_token(
            cluster,
            &scene.namespace,
            ACCOUNT,
            audience,
            Some(&scene.pod),
        )
        .await;
        let message = scene.refuse(&token).await;
        assert!(
            message.contains(&format!("the audience {AUDIENCE}: ")),
            "{message}"
        );
    }
    assert_eq!(scene.reviews(), 0);
}

/// Whoever reaches the port can make up as many as he likes: the API server is asked about few of them, and about good ones meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn has_few_of_many_made_up_tokens_reviewed_and_answers_other_nodes() {
    let scene = Scene::new("flood").await;
    let begun = Instant::now();
    let reasons = ask_with_made_up_tokens(&scene, 2000).await;
    let refused = reasons.iter().filter(|reason| *reason == "Unauthenticated");
    let refused = refused.count();
    let most = 41 + 2 * usize::try_from(begun.elapsed().as_secs()).unwrap() + 2;
    println!(
        "{refused} of 2000 made-up tokens were reviewed in {:?}",
        begun.elapsed()
    );
    assert!((40..=most).contains(&refused), "{refused}, {most}");
    assert_eq!(scene.reviews(), refused);
    assert!(
        reasons
            .iter()
            .all(|one| one == "Unauthenticated" || one == "Unavailable")
    );
    let limited = scene
        .pullpass
        .count(
            "pullpass_broker_token_reviews",
            &["outcome=\"rate_limited\""],
        )
        .await;
    assert_eq!(limited, u64::try_from(2000 - refused).unwrap());
    // Another address is another's.
    let other = Kubelet::at("127.0.0.2", &scene.pullpass);
    other
        .log_in(&image(), &Forger::of(&scene).sign(|_| {}))
        .await;
}

/// Asks with so many tokens whose claims are good and whose signatures are not; answers why each is refused.
async fn ask_with_made_up_tokens(scene: &Scene, count: u32) -> Vec<String> {
    let (claims, _) = scene.token.rsplit_once('.').unwrap();
    let ask = |number: u32| {
        let signature = URL_SAFE_NO_PAD.encode(number.to_be_bytes());
        let token = format!("{claims}.{signature}");
        async move { scene.kubelet.refused(&image(), &token).await.0 }
    };
    futures::stream::iter(0..count)
        .map(ask)
        .buffer_unordered(64)
        .collect()
        .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refuses_a_token_of_another_issuer() {
    let scene = Scene::new("issuer").await;
    let token = Forger::of(&scene).sign(|claims| claims["iss"] = "https://issuer.example".into());
    scene.refuse(&token).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refuses_a_token_that_has_expired() {
    let scene = Scene::new("expired").await;
    let now = Timestamp::now().as_second();
    // Clocks may differ by ten minutes: until then the API server is asked.
    for (ago, words) in [(3600, "has expired"), (120, "does not accept the token")] {
        let token = Forger::of(&scene).sign(|claims| {
            claims["iat"] = (now - 7200).into();
            claims["nbf"] = (now - 7200).into();
            claims["exp"] = (now - ago).into();
        });
        let message = scene.refuse(&token).await;
        assert!(message.contains(words), "{message}");
    }
    assert_eq!(scene.reviews(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refuses_a_token_that_is_not_signed() {
    let scene = Scene::new("unsigned").await;
    let payload = scene.token.split('.').nth(1).unwrap();
    let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"none","typ":"JWT"}"#);
    let signature = scene.token.rsplit('.').next().unwrap();
    for token in [
        format!("{header}.{payload}."),
        format!("{header}.{payload}.{signature}"),
        format!("{header}.{payload}.AAAA"),
    ] {
        scene.refuse(&token).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refuses_a_token_of_another_clusters_key() {
    let scene = Scene::new("key").await;
    let forger = Forger {
        key: RsaKeyPair::generate(KeySize::Rsa2048).unwrap(),
        ..Forger::of(&scene)
    };
    assert!(forger.key.public_key().as_ref() != Forger::of(&scene).key.public_key().as_ref());
    scene.refuse(&forger.sign(|_| {})).await;
}

/// Of a ServiceAccount, by TokenRequest without a Pod.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refuses_a_token_that_is_bound_to_no_pod() {
    let scene = Scene::new("unbound").await;
    let cluster = &scene.fixture.cluster;
    let token = fetch_token(cluster, &scene.namespace, ACCOUNT, AUDIENCE, None).await;
    let message = scene.refuse(&token).await;
    assert!(message.contains("pod name"), "{message}");
}

/// Of a ServiceAccount, bound to another object than a Pod; and of a Secret, which does not expire.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refuses_a_service_accounts_token_that_is_no_pods() {
    let scene = Scene::new("no-pods").await;
    let cluster = &scene.fixture.cluster;
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "bound", "namespace": scene.namespace},
    });
    let secret = cluster.apply(&secret).await;
    let path = format!(
        "/api/v1/namespaces/{}/serviceaccounts/{ACCOUNT}/token",
        scene.namespace
    );
    let bound = json!({"apiVersion": "v1", "kind": "Secret", "name": "bound", "uid": secret["metadata"]["uid"]});
    let request = json!({
        "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
        "spec": {"audiences": [AUDIENCE], "boundObjectRef": bound},
    });
    let answer = cluster.send("POST", &path, Some(&request)).await.ok();
    scene
        .refuse(answer.body["status"]["token"].as_str().unwrap())
        .await;
    // A Pod that no node has yet: the API server does not say which one asks.
    let mut unbound = scene.pod.clone();
    unbound["metadata"] = json!({"name": "waits", "namespace": scene.namespace});
    unbound["spec"] = json!({"containers": [{"name": "c", "image": "probe.invalid/probe"}]});
    let unbound = cluster.create_pod(&unbound, "").await.ok().body;
    let message = scene.refuse(&pod_token(cluster, &unbound).await).await;
    assert!(message.contains("node name"), "{message}");
    // Claims of a Pod that never was.
    let forged =
        Forger::of(&scene).sign(|claims| claims["kubernetes.io"]["pod"]["uid"] = "0".into());
    scene.refuse(&forged).await;
    let forged = Forger::of(&scene).sign(|claims| claims["kubernetes.io"]["namespace"] = "".into());
    scene.refuse(&forged).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refuses_the_token_of_a_service_account_that_was_made_anew() {
    let scene = Scene::new("remade").await;
    let (cluster, namespace) = (&scene.fixture.cluster, &scene.namespace);
    scene.kubelet.log_in(&image(), &scene.token).await;
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": ACCOUNT, "namespace": namespace}});
    cluster.delete(&account).await;
    put_account(&scene.fixture, namespace, ACCOUNT, json!({})).await;
    let begun = Instant::now();
    scene.wait_refused(&scene.token, "Unauthenticated").await;
    assert!(begun.elapsed() < BELIEVED, "{:?}", begun.elapsed());
    // The new one's are good.
    let pod = bind_pod(cluster, namespace, "next", &json!({})).await;
    scene
        .kubelet
        .log_in(&image(), &pod_token(cluster, &pod).await)
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refuses_the_token_of_a_pod_that_was_deleted() {
    let scene = Scene::new("deleted").await;
    scene.kubelet.log_in(&image(), &scene.token).await;
    let path = format!(
        "/api/v1/namespaces/{}/pods/web?gracePeriodSeconds=0",
        scene.namespace
    );
    scene.fixture.cluster.send("DELETE", &path, None).await.ok();
    let begun = Instant::now();
    scene.wait_refused(&scene.token, "Unauthenticated").await;
    println!("a deleted Pod is refused after {:?}", begun.elapsed());
    assert!(begun.elapsed() < BELIEVED, "{:?}", begun.elapsed());
    // One that was never asked about is refused at once.
    let pod = bind_pod(
        &scene.fixture.cluster,
        &scene.namespace,
        "other",
        &json!({}),
    )
    .await;
    let token = pod_token(&scene.fixture.cluster, &pod).await;
    scene
        .fixture
        .cluster
        .send("DELETE", &path.replace("web", "other"), None)
        .await
        .ok();
    scene.wait_refused(&token, "Unauthenticated").await;
}

/// The kubelet has no token for static Pods, and for their mirrors: <https://kubernetes.io/docs/tasks/configure-pod-container/static-pod/>
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refuses_static_and_mirror_pods_which_have_no_token() {
    let scene = Scene::new("static").await;
    for request in [
        request(&image(), ""),
        json!({"apiVersion": "credentialprovider.kubelet.k8s.io/v1", "kind": "CredentialProviderRequest", "image": image()}),
    ] {
        let (status, body) = scene.kubelet.send(&request).await;
        assert_eq!(
            (status.as_u16(), &body["reason"]),
            (400, &json!("Malformed"))
        );
        let output = run_plugin(
            scene.kubelet.address,
            &scene.pullpass.ca(),
            request.to_string().as_bytes(),
        );
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && output.stdout.is_empty());
        assert!(
            said.contains("no ServiceAccount token") && said.lines().count() == 1,
            "{said}"
        );
    }
    for token in [
        "a.b",
        "a.b.c.d",
        "a.b.!",
        &format!("a.b.{}", "c".repeat(16 * 1024)),
    ] {
        scene.refuse(token).await;
    }
    assert_eq!(scene.reviews(), 0, "the API server was asked");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refuses_namespaces_that_did_not_opt_in() {
    let scene = Scene::new("opted").await;
    let (fixture, labels) = (&scene.fixture, json!({"scene": "opted"}));
    let outside = fixture.namespace_name("outside");
    make_namespace(&fixture.cluster, &outside, &labels).await;
    make_namespace(&fixture.cluster, "kube-opted", &fixture.labels()).await;
    for (namespace, words) in [
        (&*outside, "pullpass.dev/inject=enabled"),
        ("kube-opted", "excluded"),
    ] {
        let pod = bind_pod(&fixture.cluster, namespace, "web", &json!({})).await;
        let token = pod_token(&fixture.cluster, &pod).await;
        let (reason, message) = scene.kubelet.refused(&image(), &token).await;
        assert_eq!(reason, "NotOptedIn", "{message}");
        assert!(message.contains(words), "{message}");
    }
    assert!(fixture.user.minted(&fixture.world.moto).await.is_empty());
    // The one that could opt in is told so, by an Event on its Pod; the other one is none of ours.
    let events = |namespace: &str| format!("/apis/events.k8s.io/v1/namespaces/{namespace}/events");
    let event = wait::until("an Event on the Pod", async || {
        let list = fixture.cluster.get(&events(&outside)).await.unwrap();
        let mut items = list["items"].as_array().unwrap().iter();
        items.find(|event| event["reason"] == "NotOptedIn").cloned()
    })
    .await;
    assert_eq!(event["regarding"]["name"], "web");
    assert!(
        event["regarding"]["uid"].is_string()
            && event["note"].as_str().unwrap().contains("label namespace")
    );
    let list = fixture.cluster.get(&events("kube-opted")).await.unwrap();
    assert_eq!(list["items"], json!([]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refuses_images_that_no_registry_serves() {
    let scene = Scene::new("none").await;
    let other = format!("{ECR}/other/hello");
    let (reason, message) = scene.kubelet.refused(&other, &scene.token).await;
    assert_eq!(reason, "NoRegistry", "{message}");
    assert!(message.contains(&other), "{message}");
    let (status, body) = scene.kubelet.ask("", &scene.token).await;
    assert_eq!(
        (status.as_u16(), &body["reason"]),
        (400, &json!("Malformed"))
    );
    scene
        .pullpass
        .wait_logged(&["refused a kubelet's request", "NoRegistry", "web"])
        .await;
}

/// The precedence is among all Registries: one that is more specific and delivers by Secrets is not passed over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refuses_images_of_a_registry_that_delivers_by_secrets_alone() {
    let scene = Scene::new("secrets").await;
    scene.kubelet.log_in(&image(), &scene.token).await;
    let ecr = scene.fixture.ecr("secrets");
    let more = |delivery: &str| json!({"images": [image()], "delivery": delivery, "ecr": ecr});
    scene
        .fixture
        .put_registry("secrets-more", more("Secret"))
        .await;
    let message = scene.wait_refused(&scene.token, "NotServed").await;
    assert!(message.contains("secrets-more"), "{message}");
    scene
        .fixture
        .put_registry("secrets-more", more("Both"))
        .await;
    wait::until("to be served again", async || {
        scene
            .kubelet
            .ask(&image(), &scene.token)
            .await
            .0
            .is_success()
            .then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn serves_pods_by_their_labels_and_has_nothing_kept() {
    let selector = json!({"podSelector": {"matchLabels": {"tier": "release"}}});
    let scene = Scene::within(Fixture::new("labels").await, selector).await;
    let cluster = &scene.fixture.cluster;
    let (reason, message) = scene.kubelet.refused(&image(), &scene.token).await;
    assert_eq!(reason, "NotServed", "{message}");
    let release = json!({"labels": {"tier": "release"}});
    let pod = bind_pod(cluster, &scene.namespace, "release", &release).await;
    let token = pod_token(cluster, &pod).await;
    let (_, _, kept) = scene.kubelet.log_in(&image(), &token).await;
    assert_eq!(kept, "0s");
    // Its own labels do not make another one's: they are read of the very Pod, live.
    let opted_out = json!({"labels": {"tier": "release", "pullpass.dev/inject": "disabled"}});
    let pod = bind_pod(cluster, &scene.namespace, "out", &opted_out).await;
    let refused = scene
        .kubelet
        .refused(&image(), &pod_token(cluster, &pod).await)
        .await;
    assert_eq!(refused.0, "NotOptedIn");
    assert_eq!(
        scene
            .fixture
            .user
            .minted(&scene.fixture.world.moto)
            .await
            .len(),
        1
    );
}

/// When who got no answer asks again: kubelets wait for 10 s at least.
const ASKED_AGAIN: Duration = Duration::from_secs(1);

/// Asks for all tokens at once, and again where there was no answer in time; answers the passwords.
async fn ask_all(kubelets: &[Kubelet], tokens: &[String]) -> Vec<String> {
    let asked = tokens.iter().enumerate().map(|(number, token)| {
        let kubelet = &kubelets[number % kubelets.len()];
        async move {
            let begun = Instant::now();
            let mut tries = 0;
            wait::until("an answer", async || {
                let next = begun + tries * ASKED_AGAIN;
                tokio::time::sleep_until(next.into()).await;
                tries += 1;
                let asked = kubelet.try_send(&request(&image(), token)).await;
                let (status, body) = asked.ok()?;
                assert!(
                    status.is_success() || body["reason"] == "Unavailable",
                    "{body}"
                );
                status.is_success().then(|| read_answer(&image(), &body).1)
            })
            .await
        }
    });
    futures::future::join_all(asked).await
}

/// The tokens of so many Pods on a node each.
async fn make_pods(scene: &Scene, count: usize) -> Vec<String> {
    let make = |number: usize| async move {
        let (cluster, namespace) = (&scene.fixture.cluster, &scene.namespace);
        let pod = bind_pod(cluster, namespace, &format!("web-{number}"), &json!({})).await;
        pod_token(cluster, &pod).await
    };
    futures::stream::iter(0..count)
        .map(make)
        .buffer_unordered(8)
        .collect()
        .await
}

/// There was one mint, and everybody got it.
async fn assert_minted_once(scene: &Scene, passwords: &[String]) {
    let minted = scene.fixture.user.minted(&scene.fixture.world.moto).await;
    assert_eq!(minted.len(), 1);
    assert!(passwords.iter().all(|password| *password == passwords[0]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mints_once_for_500_nodes_that_ask_at_once() {
    let scene = Scene::new("nodes").await;
    let tokens = make_pods(&scene, 500).await;
    let begun = Instant::now();
    let passwords = ask_all(std::slice::from_ref(&scene.kubelet), &tokens).await;
    println!("500 nodes were answered after {:?}", begun.elapsed());
    assert_minted_once(&scene, &passwords).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mints_once_for_two_replicas() {
    let scene = Scene::new("replicas").await;
    let other = start(&scene.fixture).await;
    let tokens = make_pods(&scene, 20).await;
    let passwords = ask_all(&[scene.kubelet.clone(), Kubelet::of(&other)], &tokens).await;
    assert_minted_once(&scene, &passwords).await;
}

/// The plug-in's stdout is what the kubelet reads, its stderr one line of the kubelet's log.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hands_the_answer_to_the_kubelet_by_the_plug_in() {
    let scene = Scene::new("plugin").await;
    let ca = scene.pullpass.ca();
    let (code, stdout, said) = ask_plugin(&scene, scene.kubelet.address, &ca, &image()).await;
    assert_eq!((code, &*said), (Some(0), ""));
    let (_, password, _) = read_answer(&image(), &serde_json::from_slice(&stdout).unwrap());
    let minted = scene
        .fixture
        .user
        .newest(&scene.fixture.world.moto)
        .await
        .unwrap();
    assert_eq!(password, minted.password);
}

/// What the plug-in of a node says and how it ends, asked for the image of the scene's Pod.
async fn ask_plugin(
    scene: &Scene,
    address: SocketAddr,
    ca: &Path,
    image: &str,
) -> (Option<i32>, Vec<u8>, String) {
    let (stdin, ca) = (request(image, &scene.token).to_string(), ca.to_owned());
    let run = move || run_plugin(address, &ca, stdin.as_bytes());
    let output = tokio::task::spawn_blocking(run).await.unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!said.contains(&scene.token), "{said}");
    (output.status.code(), output.stdout, said)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tells_the_kubelet_in_one_line_why_the_plug_in_has_no_answer() {
    let scene = Scene::new("plugin-fails").await;
    let ca = scene.pullpass.ca();
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (silent_at, nobody_at) = (silent.local_addr().unwrap(), nobody.local_addr().unwrap());
    drop(nobody);
    let others = scene.fixture.file("aws.crt");
    for (address, ca, image, words) in [
        (
            scene.kubelet.address,
            &ca,
            "other.example/x",
            "pullpass: NoRegistry: ",
        ),
        (nobody_at, &ca, &image(), "cannot connect"),
        (silent_at, &ca, &image(), "no answer in 2 s"),
        (scene.kubelet.address, &others, &image(), "TLS with"),
        (scene.pullpass.health(), &ca, &image(), "TLS with"),
        (
            scene.pullpass.address(),
            &ca,
            &image(),
            "no answer of pullpass' broker",
        ),
    ] {
        let begun = Instant::now();
        let (code, stdout, said) = ask_plugin(&scene, address, ca, image).await;
        assert_eq!(code, Some(1), "{words}: {said}");
        assert!(
            stdout.is_empty() && said.lines().count() == 1 && said.contains(words),
            "{words}: {said}"
        );
        assert!(
            begun.elapsed() < Duration::from_secs(10),
            "{:?}",
            begun.elapsed()
        );
    }
}

/// Who asks how fast: `make run/api/api_broker TEST_ARGUMENTS="--ignored --nocapture"`, with `--release` for numbers that count.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "figures, on an idle machine"]
async fn measures_the_plug_in_and_the_broker() {
    let scene = Scene::new("figures").await;
    let ca = scene.pullpass.ca();
    scene.kubelet.log_in(&image(), &scene.token).await;
    let stdin = request(&image(), &scene.token).to_string();
    let mut times: [Vec<Duration>; 2] = Default::default();
    for _ in 0..200 {
        let begun = Instant::now();
        let output = run_plugin(scene.kubelet.address, &ca, stdin.as_bytes());
        times[0].push(begun.elapsed());
        assert!(output.status.success(), "{output:?}");
        let begun = Instant::now();
        std::process::Command::new("/bin/true").status().unwrap();
        times[1].push(begun.elapsed());
    }
    for (what, mut times) in ["plug-in", "/bin/true"].into_iter().zip(times) {
        times.sort_unstable();
        println!("{what}: p50 {:?}, p99 {:?}", times[100], times[198]);
    }
    println!("idle: peak {} KiB", scene.pullpass.memory());
    let (begun, count) = (Instant::now(), 5000_u32);
    let image = image();
    let ask = |_| scene.kubelet.log_in(&image, &scene.token);
    futures::stream::iter(0..count)
        .map(ask)
        .buffer_unordered(32)
        .for_each(async |_| {})
        .await;
    let rate = f64::from(count) / begun.elapsed().as_secs_f64();
    println!(
        "broker: {rate:.0} requests/s over kept connections, peak {} KiB",
        scene.pullpass.memory()
    );
}
