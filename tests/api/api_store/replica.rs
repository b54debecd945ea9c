//! What collects stored credentials, in this process: with a clock of its own, and leading as long as it lives.

use std::sync::Arc;

use async_trait::async_trait;
use futures::FutureExt as _;
use jiff::Timestamp;
use pullpass::cluster::{Connection, KubeCredentialStore, MintedCredentials, Watches, connect};
use pullpass::controller::{CredentialGc, Leadership};
use pullpass::credential::cache::Minter;
use pullpass::credential::mint::{Mint, MintRequest};
use pullpass::credential::{Credential, Metrics, MintError, SourceSecrets};
use pullpass::provision::Provisioner;
use pullpass::provision::state::State;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::support::fixture::{Fixture, OWN};

/// One replica, with pullpass' own rights.
pub(crate) struct Replica {
    pub(crate) minted: Arc<MintedCredentials>,
    leadership: watch::Sender<Leadership>,
    _tasks: JoinSet<()>,
}

impl Replica {
    /// Starts one that knows all that is there and does not lead yet.
    pub(crate) async fn start(fixture: &Fixture, clock: fn() -> Timestamp) -> Self {
        let connection = Connection {
            excluded: Vec::new(),
            kubeconfigs: vec![fixture.launch().await.kubeconfig],
            context: None,
            namespace: Some(OWN.parse().unwrap()),
        };
        let kube = connect(&connection).await.unwrap();
        let state = Arc::new(State::default());
        let store = Arc::new(KubeCredentialStore::new(kube.clone()));
        let watches = Watches::new(&kube, &state, &store);
        let mut synced = watches.synced();
        let secrets: Arc<dyn SourceSecrets> = state.clone();
        let metrics = Metrics::register(&mut prometheus_client::registry::Registry::default());
        let minter = Minter::new(
            Arc::new(NoCloud),
            store.clone(),
            Arc::clone(&secrets),
            metrics,
        );
        let credentials = Arc::new(MintedCredentials::new(minter, store, secrets));
        let provisioner =
            Provisioner::new(state, Arc::new(kube.clone()), credentials.clone(), clock);
        let leadership = watch::Sender::new(Leadership::default());
        let gc = CredentialGc {
            provisioner,
            kube,
            minted: Arc::clone(&credentials),
            clock,
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(watches.run().map(|_| ()));
        tasks.spawn(gc.run(leadership.subscribe()));
        synced.wait().await;
        Self {
            minted: credentials,
            leadership,
            _tasks: tasks,
        }
    }

    /// Leads from now on.
    pub(crate) fn lead(&self) {
        self.leadership.send_replace(Leadership {
            leads: true,
            ..Leadership::default()
        });
    }
}

struct NoCloud;

#[async_trait]
impl Mint for NoCloud {
    async fn mint(&self, _: MintRequest) -> Result<Credential, MintError> {
        Err(MintError::TaskPanicked)
    }
}
