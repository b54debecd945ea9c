//! Reading the Pod that asks, where its labels decide: once for all that it asks in a moment, and not too many at a time.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::claims::PodIdentity;
use super::ports::{BrokerCluster, ClusterError, LivePod};
use super::verifier::{TURN_TIMEOUT, no_answer};
use crate::provision::read_cache::ReadCache;

/// How long the labels of a Pod are relied on: one with many images asks for all of them at once.
const RELIED_ON: Duration = Duration::from_secs(1);

/// Of how many Pods that is.
const PODS_MAX: u64 = 1000;

/// How many labels a Pod has whose labels are relied on: a tenant may write up to a megabyte of them.
const LABELS_MAX: usize = 64;

/// How many reads go on at a time.
const READS_MAX: usize = 32;

/// The Pods that ask, as they are now.
pub(super) struct PodReader {
    cluster: Arc<dyn BrokerCluster>,
    /// By the Pod's uid.
    read: ReadCache<String, Option<Arc<LivePod>>>,
    turns: Arc<Semaphore>,
}

impl PodReader {
    pub(super) fn new(cluster: Arc<dyn BrokerCluster>) -> Self {
        let relied_on = |found: &Option<Arc<LivePod>>| match found {
            Some(pod) if pod.labels.len() <= LABELS_MAX => RELIED_ON,
            _ => Duration::ZERO,
        };
        Self {
            cluster,
            read: ReadCache::new(PODS_MAX, relied_on),
            turns: Arc::new(Semaphore::new(READS_MAX)),
        }
    }

    /// The Pod of this name; `None`: there is none.
    ///
    /// # Errors
    /// The API server cannot be reached or refuses.
    pub(super) async fn find(
        &self,
        pod: &PodIdentity,
    ) -> Result<Option<Arc<LivePod>>, Arc<ClusterError>> {
        let (cluster, turns) = (Arc::clone(&self.cluster), Arc::clone(&self.turns));
        let (namespace, name) = (pod.namespace.clone(), pod.name.clone());
        let read = async move {
            let Ok(_turn) = timeout(TURN_TIMEOUT, turns.acquire_owned()).await else {
                return Err(no_answer("the read of a Pod"));
            };
            let found = cluster.fetch_pod(&namespace, &name).await?;
            Ok(found.map(Arc::new))
        };
        let found = self.read.find(pod.uid.clone(), read).await;
        found.map(|(found, _)| found)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use async_trait::async_trait;
    use jiff::Timestamp;
    use k8s_openapi::api::authentication::v1::TokenReviewStatus;
    use secrecy::SecretString;

    use super::super::refusal::Refusal;
    use super::*;
    use crate::names::{NamespaceName, ObjectName};

    /// One that takes a moment for each Pod, which has so many labels; none: there is no such Pod.
    #[derive(Default)]
    struct ApiServer {
        labels: Mutex<Option<usize>>,
        reads: AtomicUsize,
        at_once: AtomicUsize,
        most_at_once: AtomicUsize,
        /// How much longer than a moment it takes.
        delay: Duration,
    }

    #[async_trait]
    impl BrokerCluster for ApiServer {
        async fn review_token(
            &self,
            _: &SecretString,
            _: &str,
        ) -> Result<TokenReviewStatus, ClusterError> {
            Ok(TokenReviewStatus::default())
        }

        async fn fetch_pod(
            &self,
            _: &NamespaceName,
            _: &ObjectName,
        ) -> Result<Option<LivePod>, ClusterError> {
            self.reads.fetch_add(1, Ordering::Relaxed);
            let at_once = self.at_once.fetch_add(1, Ordering::Relaxed) + 1;
            self.most_at_once.fetch_max(at_once, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(5) + self.delay).await;
            self.at_once.fetch_sub(1, Ordering::Relaxed);
            let labels = *self.labels.lock().unwrap();
            Ok(labels.map(|count| LivePod {
                labels: (0..count).map(|n| (n.to_string(), String::new())).collect(),
                ..LivePod::default()
            }))
        }

        async fn report(&self, _: &PodIdentity, _: &Refusal, _: Timestamp) {}
    }

    fn pod(uid: usize) -> PodIdentity {
        PodIdentity {
            namespace: "team".parse().unwrap(),
            service_account: "default".parse().unwrap(),
            service_account_uid: "1".to_owned(),
            name: "web".parse().unwrap(),
            uid: uid.to_string(),
            node: "node-1".parse().unwrap(),
            node_uid: None,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn reads_a_pod_once_for_all_that_it_asks_in_a_moment() {
        for (labels, reads) in [
            (Some(64), [1, 1, 2]),
            (Some(65), [1, 2, 3]),
            (None, [1, 2, 3]),
        ] {
            let server = Arc::new(ApiServer::default());
            *server.labels.lock().unwrap() = labels;
            let reader = PodReader::new(Arc::clone(&server) as _);
            let one = pod(1);
            for (wait, reads) in [Duration::ZERO, Duration::ZERO, RELIED_ON]
                .into_iter()
                .zip(reads)
            {
                tokio::time::advance(wait).await;
                let asked = (0..20).map(|_| reader.find(&one));
                for found in futures::future::join_all(asked).await {
                    let found = found.unwrap().map(|pod| pod.labels.len());
                    assert_eq!(found, labels);
                }
                assert_eq!(server.reads.load(Ordering::Relaxed), reads, "{labels:?}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn reads_not_too_many_at_a_time() {
        let server = Arc::new(ApiServer::default());
        let reader = PodReader::new(Arc::clone(&server) as _);
        let pods: Vec<_> = (0..200).map(pod).collect();
        futures::future::join_all(pods.iter().map(|pod| reader.find(pod))).await;
        assert_eq!(server.reads.load(Ordering::Relaxed), 200);
        assert_eq!(server.most_at_once.load(Ordering::Relaxed), READS_MAX);
    }

    /// Who cannot be answered in time is told so, and the API server is not asked.
    #[tokio::test(start_paused = true)]
    async fn asks_a_slow_api_server_for_no_pod_that_comes_too_late() {
        let server = Arc::new(ApiServer {
            delay: Duration::from_millis(450),
            ..ApiServer::default()
        });
        let reader = PodReader::new(Arc::clone(&server) as _);
        let pods: Vec<_> = (0..500).map(pod).collect();
        let found = futures::future::join_all(pods.iter().map(|pod| reader.find(pod))).await;
        let read = found.iter().filter(|found| found.is_ok()).count();
        assert_eq!(read, 2 * READS_MAX);
        assert_eq!(server.reads.load(Ordering::Relaxed), read);
    }
}
