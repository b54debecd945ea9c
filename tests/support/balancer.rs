//! What kube-proxy does: connections stay where they are, and a replica that is leaving gets new ones until that has got about.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};

use super::patch_only::is_ready;

/// How long it takes until a replica that is not ready gets no new connections.
const PROPAGATION: Duration = Duration::from_secs(1);

/// How often replicas are asked whether they are ready.
const LOOK: Duration = Duration::from_millis(50);

/// Connections go to the replicas in turn. It runs as long as the test's runtime; clones are the same.
#[derive(Clone, Default)]
pub struct Balancer {
    /// Where the webhooks and their health endpoints are.
    replicas: Arc<Mutex<Vec<(SocketAddr, SocketAddr)>>>,
    next: Arc<AtomicUsize>,
}

impl Balancer {
    /// Starts one at this address. Answers it and its URL.
    pub async fn start(address: &str) -> (Self, String) {
        let balancer = Self::default();
        let listener = TcpListener::bind((address, 0)).await.unwrap();
        let url = format!("https://{}/mutate", listener.local_addr().unwrap());
        tokio::spawn(balancer.clone().forward(listener));
        tokio::spawn(balancer.clone().watch());
        (balancer, url)
    }

    /// Takes a replica in.
    pub fn add(&self, webhook: SocketAddr, health: SocketAddr) {
        self.replicas.lock().unwrap().push((webhook, health));
    }

    /// How many connections came so far.
    pub fn connections(&self) -> usize {
        self.next.load(Ordering::Relaxed)
    }

    fn pick(&self) -> Option<SocketAddr> {
        let replicas = self.replicas.lock().unwrap();
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        replicas
            .get(turn % replicas.len().max(1))
            .map(|known| known.0)
    }

    async fn forward(self, listener: TcpListener) {
        loop {
            let (mut caller, _) = listener.accept().await.unwrap();
            let Some(replica) = self.pick() else {
                continue; // nobody is there: the connection ends
            };
            tokio::spawn(async move {
                let Ok(mut replica) = TcpStream::connect(replica).await else {
                    return;
                };
                // Either side may go away at any time; what that does to a Pod is what these tests are about.
                let _ = tokio::io::copy_bidirectional(&mut caller, &mut replica).await;
            });
        }
    }

    /// Takes replicas that are not ready out, some time after they said so.
    async fn watch(self) {
        loop {
            let known = self.replicas.lock().unwrap().clone();
            for replica in known {
                if !is_ready(replica.1).await {
                    tokio::time::sleep(PROPAGATION).await;
                    self.replicas
                        .lock()
                        .unwrap()
                        .retain(|known| *known != replica);
                }
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}
