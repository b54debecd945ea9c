//! What the broker needs of a cluster, and whom it tells.

use async_trait::async_trait;
use jiff::Timestamp;
use k8s_openapi::api::authentication::v1::TokenReviewStatus;
use secrecy::SecretString;

use super::claims::PodIdentity;
use super::refusal::Refusal;
pub use crate::api_server::ClusterError;
use crate::names::{NamespaceName, ObjectName};
use crate::provision::Pending;
use crate::provision::login_outcomes::LoginSource;
use crate::registry::Labels;

/// The few requests that the broker makes.
#[async_trait]
pub trait BrokerCluster: Send + Sync {
    /// Has the API server say whose a token for this audience is. Its good answers are some 10 s old at the most: it keeps them.
    /// <https://kubernetes.io/docs/reference/kubernetes-api/authentication-resources/token-review-v1/>
    ///
    /// # Errors
    /// The API server cannot be reached or refuses to say.
    async fn review_token(
        &self,
        token: &SecretString,
        audience: &str,
    ) -> Result<TokenReviewStatus, ClusterError>;

    /// Reads one Pod live; `None`: there is none.
    ///
    /// # Errors
    /// The API server cannot be reached or refuses.
    async fn fetch_pod(
        &self,
        namespace: &NamespaceName,
        name: &ObjectName,
    ) -> Result<Option<LivePod>, ClusterError>;

    /// Writes an Event on the Pod that asked, unless there is one of this reason already. What fails is logged there.
    async fn report(&self, pod: &PodIdentity, refusal: &Refusal, now: Timestamp);
}

/// What there is to be known of a Pod that asks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LivePod {
    /// Its `metadata.uid`.
    pub uid: String,
    /// Its ServiceAccount.
    pub service_account: String,
    /// The node that it is bound to.
    pub node: String,
    /// Its labels.
    pub labels: Labels,
}

/// A Registry that is asked for: this very one, if there is another one of its name later.
#[derive(Clone, Copy, Debug)]
pub struct AskedRegistry<'r> {
    /// Its name.
    pub name: &'r ObjectName,
    /// Its `metadata.uid`.
    pub uid: &'r str,
}

/// Who is told what kubelets ask, and what comes of it. It is called for each request, and returns at once.
pub trait NodeRequests: Send + Sync {
    /// The kubelet of this node asked for this Registry's login.
    fn note_node(&self, registry: AskedRegistry<'_>, node: &ObjectName, now: Timestamp);

    /// A login was given; `source` is that of its credential, none of a fixed one.
    fn note_served(
        &self,
        registry: AskedRegistry<'_>,
        source: Option<&LoginSource>,
        now: Timestamp,
    );

    /// There was none to be given.
    fn note_failure(
        &self,
        registry: AskedRegistry<'_>,
        source: &LoginSource,
        why: &Pending,
        now: Timestamp,
    );
}
