//! Replicas agree on a leader over a real API server.

#![allow(clippy::disallowed_methods, reason = "the names are the test's own")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::time::{Duration, Instant};

use crate::support;
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use pullpass::cluster::{ApiUser, Kube};
use pullpass::controller::{LeaderElector, Leadership};
use serde_json::json;
use support::bed::Bed;
use support::figure;
use support::names::name;
use support::wait;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

/// One replica that stands for election.
struct Replica {
    told: watch::Receiver<Leadership>,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl Replica {
    fn start(kube: &Kube, identity: &str) -> Self {
        let candidate = LeaderElector::new(kube.clone(), identity);
        let told = candidate.leadership();
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(candidate.run(async {
            let _ = stopped.await;
        }));
        Self {
            told,
            stop: Some(stop),
            task,
        }
    }

    fn leads(&self) -> bool {
        self.told.borrow().leads
    }

    async fn wait_until_it_leads(&mut self) -> Duration {
        let started = Instant::now();
        let leads = self.told.wait_for(|told| told.leads);
        tokio::time::timeout(Duration::from_mins(1), leads)
            .await
            .unwrap()
            .unwrap();
        started.elapsed()
    }

    async fn stop(mut self) {
        self.stop.take().unwrap().send(()).unwrap();
        self.task.await.unwrap();
    }
}

async fn client(bed: &Bed) -> Client {
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let file = Kubeconfig::read_from(bed.field("kubeconfig")).unwrap();
    let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await;
    Client::try_from(config.unwrap()).unwrap()
}

/// The uid of the ServiceAccount that the Lease goes with.
const OWNER: &str = "1-2";

fn account() -> ApiUser {
    let (name, uid) = (
        "system:serviceaccount:default:default".to_owned(),
        OWNER.to_owned(),
    );
    ApiUser { name, uid }
}

fn owners(lease: &Lease) -> Vec<&str> {
    let owners = lease.metadata.owner_references.iter().flatten();
    owners.map(|owner| owner.uid.as_str()).collect()
}

/// Somebody writes into the Lease, and its holder is told to stop before it sees that.
async fn annotate_and_stop(leases: &Api<Lease>, holder: Replica) {
    let note = json!({"metadata": {"annotations": {"example.com/note": "canary"}}});
    let (parameters, patch) = (PatchParams::default(), Patch::Merge(note));
    leases.patch("pullpass", &parameters, &patch).await.unwrap();
    holder.stop().await;
}

/// One after the other on one Lease: each part goes on where the one before it ended.
#[tokio::test]
async fn hands_leadership_over_and_never_has_two_leaders() {
    let bed = Bed::start("api", &[]);
    let client = client(&bed).await;
    let kube = Kube::new(client.clone(), name("default"));
    kube.bind_lease_to(&account());
    let leases: Api<Lease> = Api::namespaced(client, "default");

    let mut first = Replica::start(&kube, "first");
    first.wait_until_it_leads().await;
    let mut second = Replica::start(&kube, "second");
    wait::until("a renewal", async || {
        let lease = leases.get("pullpass").await.unwrap();
        let spec = lease.spec.unwrap();
        assert_eq!(spec.holder_identity.as_deref(), Some("first"));
        (spec.renew_time.unwrap().0 > spec.acquire_time.unwrap().0).then_some(())
    })
    .await;
    assert!(first.leads() && !second.leads());

    annotate_and_stop(&leases, first).await;
    let acquired = second.wait_until_it_leads().await;
    figure::within("the Lease is handed over", acquired, Duration::from_secs(5));

    // Killed: nobody gives the Lease back.
    let mut third = Replica::start(&kube, "third");
    second.task.abort();
    let acquired = third.wait_until_it_leads().await;
    figure::within(
        "the Lease is taken over from a killed leader",
        acquired,
        Duration::from_secs(20),
    );
    let lease = leases.get("pullpass").await.unwrap();
    assert_eq!(owners(&lease), [OWNER]);
    assert_eq!(lease.spec.unwrap().lease_transitions, Some(2));

    // Somebody takes the Lease away: the leader stops, and leaves it to them.
    let foreign = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "spec": {"holderIdentity": "somebody"}});
    let parameters = PatchParams::apply("test").force();
    leases
        .patch("pullpass", &parameters, &Patch::Apply(foreign))
        .await
        .unwrap();
    wait::until("the leader to notice", async || {
        (!third.leads()).then_some(())
    })
    .await;

    // The Lease is deleted: it is made anew.
    leases
        .delete("pullpass", &DeleteParams::default())
        .await
        .unwrap();
    third.wait_until_it_leads().await;
    third.stop().await;
    let lease = leases.get("pullpass").await.unwrap();
    assert_eq!(owners(&lease), [OWNER]);
    let holder = lease.spec.unwrap().holder_identity;
    assert_eq!(holder.unwrap_or_default(), "");
}
