//! The cluster room over a real API server: compare-and-swap writes, the credential store, and watches.

#![allow(clippy::disallowed_methods, reason = "the names are the test's own")]
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::needless_pass_by_value,
    reason = "a test that cannot be set up has failed"
)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::support;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Namespace as NamespaceObject, Secret, ServiceAccount};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use pullpass::clock::MAX_SKEW;
use pullpass::cluster::{Kube, KubeCredentialStore, Synced, Watches};
use pullpass::credential::{
    CLAIM_LIFE, Claim, Credential, CredentialKey, CredentialStore, ServiceAccountTokens,
    SourceSecrets,
};
use pullpass::provision::PULL_SECRET;
use pullpass::provision::ports::{Cluster, ClusterError, Precondition, PullSecretContent, Version};
use pullpass::provision::secret::format::DOCKERCONFIGJSON;
use pullpass::provision::state::State;
use pullpass::registry::SecretFormat;
use pullpass::registry::source::{EcrIdentity, MintSource, Tenant};
use secrecy::{ExposeSecret, SecretSlice, SecretString};
use serde_json::{Value, json};
use support::bed::{self, Bed};
use support::names::name;
use support::wait;

type Crd =
    k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;

const OWN: &str = "pullpass";
const DEADLINE: Duration = Duration::from_secs(30);

async fn client(kubeconfig: &str) -> Client {
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let file = Kubeconfig::read_from(kubeconfig).unwrap();
    let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await;
    Client::try_from(config.unwrap()).unwrap()
}

async fn make_namespace(client: &Client, name: &str, labels: Value) {
    let object = json!({"metadata": {"name": name, "labels": labels}});
    apply(&Api::<NamespaceObject>::all(client.clone()), name, object).await;
}

async fn apply<K>(api: &Api<K>, name: &str, object: Value)
where
    K: kube::Resource<DynamicType = ()> + Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    let mut object = object;
    object["apiVersion"] = K::api_version(&()).into();
    object["kind"] = K::kind(&()).into();
    object["metadata"]["name"] = name.into();
    let parameters = PatchParams::apply("test").force();
    api.patch(name, &parameters, &Patch::Apply(object))
        .await
        .unwrap();
}

async fn install_registries(client: &Client) {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/manifests/crd.yaml");
    let crd: Value = serde_saphyr::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    apply(
        &Api::<Crd>::all(client.clone()),
        "registries.pullpass.dev",
        crd,
    )
    .await;
}

fn content(dockerconfigjson: &str) -> PullSecretContent {
    PullSecretContent {
        format: SecretFormat::PullSecret,
        data: BTreeMap::from([(
            DOCKERCONFIGJSON,
            Arc::new(SecretSlice::from(dockerconfigjson.as_bytes().to_vec())),
        )]),
        annotations: BTreeMap::from([("pullpass.dev/covers".to_owned(), "nothing".to_owned())]),
    }
}

/// Waits for a condition; says what did not come when it does not.
async fn wait_for(what: &str, condition: impl Fn() -> bool) {
    wait::until(what, async || condition().then_some(())).await;
}

async fn synced(mut synced: Synced) {
    let waited = tokio::time::timeout(DEADLINE, synced.wait()).await;
    assert!(waited.is_ok(), "still missing: {:?}", synced.missing());
}

#[tokio::test]
async fn applies_only_over_the_state_it_was_told_of() {
    let client = client(bed::shared_api()).await;
    make_namespace(&client, "swaps", json!({})).await;
    let kube = Kube::new(client.clone(), name(OWN));
    let (one, two) = (
        content(r#"{"auths":{}}"#),
        content(r#"{"auths":{"a.example":{"auth":"YTpi"}}}"#),
    );
    let apply = async |content, precondition| {
        kube.apply_pull_secret(&name("swaps"), &name(PULL_SECRET), content, &precondition)
            .await
    };
    let first = apply(&one, Precondition::Absent).await.unwrap();
    assert!(
        is_conflict(apply(&two, Precondition::Absent).await),
        "something is there already"
    );
    let second = apply(&two, Precondition::Exactly(first.clone()))
        .await
        .unwrap();
    assert_eq!(second.uid, first.uid, "the object stays the same one");
    assert!(
        is_conflict(apply(&one, Precondition::Exactly(first.clone())).await),
        "an older state"
    );
    let stranger = Version {
        uid: "00000000-0000-0000-0000-000000000000".to_owned(),
        ..second.clone()
    };
    assert!(
        is_conflict(apply(&one, Precondition::Exactly(stranger)).await),
        "another object"
    );
    let again = apply(&two, Precondition::Exactly(second.clone()))
        .await
        .unwrap();
    assert_eq!(again, second, "nothing changed, nothing was written");
    let secrets: Api<Secret> = Api::namespaced(client, "swaps");
    secrets
        .delete("pullpass", &DeleteParams::default())
        .await
        .unwrap();
    assert!(
        is_conflict(apply(&one, Precondition::Exactly(second)).await),
        "nothing is there any more"
    );
    let found = kube
        .fetch_pull_secret(&name("swaps"), &name(PULL_SECRET))
        .await;
    assert!(found.unwrap().is_none());
}

fn is_conflict(result: Result<Version, ClusterError>) -> bool {
    matches!(result, Err(ClusterError::Conflict { .. }))
}

#[tokio::test]
async fn reads_back_what_it_applied_and_knows_what_is_foreign() {
    let client = client(bed::shared_api()).await;
    make_namespace(&client, "reads", json!({})).await;
    let kube = Kube::new(client.clone(), name(OWN));
    let text = r#"{"auths":{"a.example":{"auth":"YTpi"}}}"#;
    let version = kube
        .apply_pull_secret(
            &name("reads"),
            &name(PULL_SECRET),
            &content(text),
            &Precondition::Absent,
        )
        .await
        .unwrap();
    let found = kube
        .fetch_pull_secret(&name("reads"), &name(PULL_SECRET))
        .await
        .unwrap()
        .unwrap();
    assert!(found.ours);
    assert_eq!(found.version, version);
    assert_eq!(
        found.data[DOCKERCONFIGJSON].expose_secret(),
        text.as_bytes()
    );
    make_namespace(&client, "foreign", json!({})).await;
    let secrets: Api<Secret> = Api::namespaced(client, "foreign");
    let foreign: Secret = serde_json::from_value(json!({
        "metadata": {"name": "pullpass"}, "type": "kubernetes.io/dockerconfigjson", "stringData": {".dockerconfigjson": text},
    })).unwrap();
    secrets
        .create(&PostParams::default(), &foreign)
        .await
        .unwrap();
    assert!(
        !kube
            .fetch_pull_secret(&name("foreign"), &name(PULL_SECRET))
            .await
            .unwrap()
            .unwrap()
            .ours
    );
    let refused = kube
        .apply_pull_secret(
            &name("foreign"),
            &name(PULL_SECRET),
            &content(text),
            &Precondition::Absent,
        )
        .await;
    assert!(is_conflict(refused), "a first write never takes over");
}

#[tokio::test]
async fn says_that_a_namespace_is_gone_or_going() {
    let client = client(bed::shared_api()).await;
    let kube = Kube::new(client.clone(), name(OWN));
    let apply = async |namespace| {
        kube.apply_pull_secret(
            &name(namespace),
            &name(PULL_SECRET),
            &content("{}"),
            &Precondition::Absent,
        )
        .await
    };
    assert!(matches!(
        apply("nowhere").await,
        Err(ClusterError::NamespaceGone { .. })
    ));
    assert!(
        kube.fetch_namespace(&name("nowhere"))
            .await
            .unwrap()
            .is_none()
    );
    make_namespace(&client, "going", json!({"pullpass.dev/inject": "all"})).await;
    // No controller-manager runs here to finish it: it stays terminating.
    let namespaces: Api<NamespaceObject> = Api::all(client);
    namespaces
        .delete("going", &DeleteParams::default())
        .await
        .unwrap();
    assert!(matches!(
        apply("going").await,
        Err(ClusterError::NamespaceGone { .. })
    ));
    let (_, going) = kube.fetch_namespace(&name("going")).await.unwrap().unwrap();
    assert!(going.terminating);
}

fn source(region: &str) -> MintSource {
    support::source::ecr(region, EcrIdentity::Workload).into()
}

fn key(region: &str) -> CredentialKey {
    CredentialKey::of(&source(region), &State::default()).unwrap()
}

fn now() -> Timestamp {
    "2026-11-21T10:00:00Z".parse().unwrap()
}

fn credential(password: &str, minted_at: Timestamp) -> Credential {
    Credential {
        username: "AWS".to_owned(),
        password: SecretString::from(password),
        minted_at,
        expires_at: minted_at + SignedDuration::from_hours(12),
        principal: "tester".to_owned(),
    }
}

async fn stores<const N: usize>() -> [Arc<KubeCredentialStore>; N] {
    let client = client(bed::shared_api()).await;
    make_namespace(&client, OWN, json!({})).await;
    std::array::from_fn(|_| {
        Arc::new(KubeCredentialStore::new(Kube::new(
            client.clone(),
            name(OWN),
        )))
    })
}

fn is_pending(claim: &Claim) -> bool {
    matches!(claim, Claim::Pending { .. })
}

#[tokio::test]
async fn gives_the_claim_to_one_of_many_and_the_credential_to_all() {
    let stores = stores::<8>().await;
    let key = key("claim-1");
    let of = source("eu-west-1");
    let claims = stores.iter().map(|store| store.claim(&key, &of, now()));
    let claims = futures::future::join_all(claims).await;
    let mut won = Vec::new();
    for (store, claim) in stores.iter().zip(claims) {
        match claim.unwrap() {
            Claim::Acquired(ticket) => won.push((store, ticket)),
            other => assert!(is_pending(&other), "{other:?}"),
        }
    }
    let (winner, ticket) = won.pop().expect("somebody has the claim");
    assert!(won.is_empty(), "only one has it");
    let put = winner.put(ticket, credential("one", now())).await.unwrap();
    assert_eq!(put.password.expose_secret(), "one");
    for store in &stores {
        let Claim::AlreadyStored(theirs) = store
            .claim(&key, &source("eu-west-1"), now())
            .await
            .unwrap()
        else {
            panic!("the credential is fresh")
        };
        assert_eq!(theirs.password.expose_secret(), "one");
        assert_eq!(store.current(&key).unwrap().password.expose_secret(), "one");
    }
}

#[tokio::test]
async fn takes_over_the_claim_of_one_who_died() {
    let [died, heir] = stores().await;
    let key = key("claim-2");
    let Claim::Acquired(old) = died.claim(&key, &source("eu-west-1"), now()).await.unwrap() else {
        panic!("nobody else is there")
    };
    // Its clock is nine minutes behind: the claim ends ten seconds after it was seen first, however often it is read.
    let behind = now() - SignedDuration::from_mins(9);
    let of = source("eu-west-1");
    let mut left = CLAIM_LIFE;
    let ticket = wait::until("the end of the claim", async || {
        match heir.claim(&key, &of, behind).await.unwrap() {
            Claim::Acquired(ticket) => Some(ticket),
            Claim::Pending { until } => {
                let before = left;
                left = until.duration_since(behind);
                assert!(left < before, "{left:#} after {before:#}");
                None
            }
            other @ Claim::AlreadyStored(_) => panic!("{other:?}"),
        }
    })
    .await;
    let later = now() + SignedDuration::from_secs(10);
    heir.put(ticket, credential("heir", later)).await.unwrap();
    // It was only slow: what stands there with a later end stays, and it takes that.
    let stood = died.put(old, credential("died", now())).await.unwrap();
    assert_eq!(stood.password.expose_secret(), "heir");
    assert_eq!(died.current(&key).unwrap().password.expose_secret(), "heir");
}

#[tokio::test]
async fn stores_over_a_claim_that_was_taken_over_and_not_used() {
    let [slow, other] = stores().await;
    let key = key("claim-3");
    let Claim::Acquired(old) = slow.claim(&key, &source("eu-west-1"), now()).await.unwrap() else {
        panic!("nobody else is there")
    };
    // No clock that is about right wrote such a claim: it holds nobody up.
    let later = now() + CLAIM_LIFE + MAX_SKEW + SignedDuration::from_millis(1);
    assert!(matches!(
        other
            .claim(&key, &source("eu-west-1"), later)
            .await
            .unwrap(),
        Claim::Acquired(_)
    ));
    let stood = slow.put(old, credential("slow", now())).await.unwrap();
    assert_eq!(stood.password.expose_secret(), "slow");
}

#[tokio::test]
async fn ends_a_claim_and_keeps_the_credential_after_a_failed_mint() {
    let [failing, other] = stores().await;
    let key = key("claim-4");
    let Claim::Acquired(ticket) = failing
        .claim(&key, &source("eu-west-1"), now())
        .await
        .unwrap()
    else {
        panic!("nobody else is there")
    };
    failing
        .put(ticket, credential("first", now()))
        .await
        .unwrap();
    let half = now() + SignedDuration::from_hours(7);
    let Claim::Acquired(ticket) = failing
        .claim(&key, &source("eu-west-1"), half)
        .await
        .unwrap()
    else {
        panic!("it is past half of its life")
    };
    assert!(is_pending(
        &other.claim(&key, &source("eu-west-1"), half).await.unwrap()
    ));
    failing.release(ticket).await;
    assert!(matches!(
        other.claim(&key, &source("eu-west-1"), half).await.unwrap(),
        Claim::Acquired(_)
    ));
    assert_eq!(
        other.current(&key).unwrap().password.expose_secret(),
        "first"
    );
}

/// Watches over an API server of their own.
struct Watched {
    bed: Bed,
    client: Client,
    state: Arc<State>,
    store: Arc<KubeCredentialStore>,
    synced: Synced,
    running: tokio::task::JoinHandle<&'static str>,
}

impl Watched {
    async fn start(prepare: impl AsyncFnOnce(&Client)) -> Self {
        let bed = Bed::start("api", &[]);
        let client = client(bed.field("kubeconfig")).await;
        make_namespace(&client, OWN, json!({})).await;
        prepare(&client).await;
        let kube = Kube::new(client.clone(), name(OWN));
        let (state, store) = (
            Arc::new(State::default()),
            Arc::new(KubeCredentialStore::new(kube.clone())),
        );
        let watches = Watches::new(&kube, &state, &store);
        let synced = watches.synced();
        let running = tokio::spawn(watches.run());
        Self {
            bed,
            client,
            state,
            store,
            synced,
            running,
        }
    }

    async fn give_namespace(&self, name: &str, mode: &str) {
        make_namespace(&self.client, name, json!({"pullpass.dev/inject": mode})).await;
    }

    async fn give_registry(&self, name: &str) {
        let registry = json!({"spec": {
            "images": [format!("{name}.example.com")], "namespaceSelector": {}, "static": {"secretRef": {"name": "login"}},
        }});
        apply(
            &Api::<pullpass::registry::Registry>::all(self.client.clone()),
            name,
            registry,
        )
        .await;
    }

    async fn give_secret(&self, namespace: &str, name: &str, labels: Value) {
        let secret = json!({"metadata": {"labels": labels}, "stringData": {"username": "u", "password": "p"}});
        apply(
            &Api::<Secret>::namespaced(self.client.clone(), namespace),
            name,
            secret,
        )
        .await;
    }

    fn has_registry(&self, name: &str) -> bool {
        self.state.registries().get(name).is_some()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shows_what_is_made_and_nothing_that_is_not_ours_to_know() {
    let watched = Watched::start(install_registries).await;
    synced(watched.synced.clone()).await;
    watched.give_namespace("team-a", "enabled").await;
    watched.give_namespace("team-b", "disabled").await;
    watched.give_registry("some").await;
    watched.give_secret("team-a", "pullpass", json!({})).await;
    watched.give_secret(OWN, "other", json!({})).await;
    watched
        .give_secret(OWN, "login", json!({"pullpass.dev/source": "true"}))
        .await;
    let state = Arc::clone(&watched.state);
    wait_for("the namespace", || state.namespaces.get("team-a").is_some()).await;
    wait_for("the Registry", || watched.has_registry("some")).await;
    wait_for("the pull secret", || {
        state.pull_secrets.get("team-a").is_some()
    })
    .await;
    wait_for("the source", || state.source("login").is_some()).await;
    assert!(!state.pull_secrets.get("team-a").unwrap().ours);
    assert!(state.namespaces.get("team-b").is_none());
    assert!(state.source("other").is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keeps_the_state_current_through_an_api_server_restart() {
    let mut watched = Watched::start(install_registries).await;
    synced(watched.synced.clone()).await;
    watched.give_namespace("team-a", "enabled").await;
    watched.give_registry("before").await;
    watched
        .give_secret(OWN, "login", json!({"pullpass.dev/source": "true"}))
        .await;
    let state = Arc::clone(&watched.state);
    wait_for("the namespace", || state.namespaces.get("team-a").is_some()).await;
    wait_for("the Registry", || watched.has_registry("before")).await;
    wait_for("the source", || state.source("login").is_some()).await;

    watched.bed.command("stop");
    assert!(watched.has_registry("before"), "what is known stays");
    watched.bed.command("start");
    watched.give_registry("after").await;
    watched.give_namespace("team-b", "all").await;
    watched.give_namespace("team-a", "disabled").await;
    let secrets: Api<Secret> = Api::namespaced(watched.client.clone(), OWN);
    secrets
        .delete("login", &DeleteParams::default())
        .await
        .unwrap();
    wait_for("the new namespace", || {
        state.namespaces.get("team-b").is_some()
    })
    .await;
    wait_for("the end of the old one", || {
        state.namespaces.get("team-a").is_none()
    })
    .await;
    wait_for("the new Registry", || watched.has_registry("after")).await;
    wait_for("the end of the source", || state.source("login").is_none()).await;
    assert!(watched.has_registry("before"));
    assert!(!watched.running.is_finished());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn is_not_ready_before_the_registry_kind_is_there() {
    let watched = Watched::start(async |_: &Client| {}).await;
    wait_for("the other watches", || {
        watched.synced.missing() == ["registries", "registry_pull_secrets"]
    })
    .await;
    install_registries(&watched.client).await;
    synced(watched.synced.clone()).await;
    watched.give_registry("kept").await;
    wait_for("the Registry", || watched.has_registry("kept")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shows_one_replica_what_another_one_minted() {
    let watched = Watched::start(install_registries).await;
    synced(watched.synced.clone()).await;
    let other = KubeCredentialStore::new(Kube::new(watched.client.clone(), name(OWN)));
    let key = key("claim-5");
    let mut changes = watched.store.changes();
    let before = *changes.borrow();
    let Claim::Acquired(ticket) = other
        .claim(&key, &source("eu-west-1"), now())
        .await
        .unwrap()
    else {
        panic!("nobody else is there")
    };
    other
        .put(ticket, credential("theirs", now()))
        .await
        .unwrap();
    wait_for("the credential", || watched.store.current(&key).is_some()).await;
    assert_eq!(
        watched
            .store
            .current(&key)
            .unwrap()
            .password
            .expose_secret(),
        "theirs"
    );
    assert!(*changes.borrow_and_update() > before);
}

/// Tokens of namespaces' own ServiceAccounts, by a real API server.
#[tokio::test]
async fn asks_for_tokens_of_one_service_account_and_no_other_of_its_name() {
    let client = client(bed::shared_api()).await;
    let kube = Kube::new(client.clone(), name(OWN));
    make_namespace(&client, "tokens", json!({})).await;
    let accounts = Api::<ServiceAccount>::namespaced(client.clone(), "tokens");
    apply(&accounts, "puller", json!({})).await;
    let first = tenant_of(&kube, "tokens", "puller").await;
    let token = kube.fetch_token(&first, "sts.amazonaws.com").await.unwrap();
    let claims = claims_of(token.expose_secret());
    assert_eq!(claims["aud"], json!(["sts.amazonaws.com"]));
    assert_eq!(claims["sub"], "system:serviceaccount:tokens:puller");
    let life = claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap();
    assert_eq!(life, 3600);

    // Never for the API server itself.
    let error = kube.fetch_token(&first, "").await.unwrap_err();
    assert_eq!(error.reason(), "TokenUnreachable", "{error}");

    // Made anew, it is another one.
    accounts
        .delete("puller", &DeleteParams::default())
        .await
        .unwrap();
    let error = kube
        .fetch_token(&first, "sts.amazonaws.com")
        .await
        .unwrap_err();
    assert_eq!(error.reason(), "MissingServiceAccount", "{error}");
    apply(&accounts, "puller", json!({})).await;
    let error = kube
        .fetch_token(&first, "sts.amazonaws.com")
        .await
        .unwrap_err();
    assert_eq!(error.reason(), "ServiceAccountReplaced", "{error}");
    let second = tenant_of(&kube, "tokens", "puller").await;
    assert_ne!(first, second);
    kube.fetch_token(&second, "sts.amazonaws.com")
        .await
        .unwrap();

    let nowhere = Tenant {
        namespace: name("nowhere"),
        ..second
    };
    let error = kube
        .fetch_token(&nowhere, "sts.amazonaws.com")
        .await
        .unwrap_err();
    assert_eq!(error.reason(), "MissingServiceAccount", "{error}");
}

async fn tenant_of(kube: &Kube, namespace: &str, account: &str) -> Tenant {
    let service_account = name(account);
    let (_, namespace) = kube
        .fetch_namespace(&name(namespace))
        .await
        .unwrap()
        .unwrap();
    assert!(!namespace.uid.is_empty());
    let account = kube
        .fetch_service_account(&namespace.name, &service_account)
        .await;
    Tenant {
        namespace: namespace.name,
        namespace_uid: namespace.uid,
        service_account,
        service_account_uid: account.unwrap().unwrap().uid,
    }
}

fn claims_of(token: &str) -> Value {
    use base64::Engine as _;
    let payload = token.split('.').nth(1).unwrap();
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(payload);
    serde_json::from_slice(&bytes.unwrap()).unwrap()
}
