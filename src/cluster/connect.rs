//! Finding the API server: in a cluster by the ServiceAccount's files, elsewhere by a kubeconfig.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use kube::Config;
use kube::client::ClientBuilder;
use kube::client::retry::RetryPolicy;
use kube::config::{KubeConfigOptions, Kubeconfig};
use thiserror::Error;
use tower::buffer::BufferLayer;
use tower::retry::RetryLayer;

use super::watch_throttle::WatchThrottle;
use super::{Kube, Metrics};
use crate::names::{NameError, NamespaceName};
use crate::provision::ExcludedNamespaces;

/// After so long without a byte a connection is given up; watches end every 50 s.
const IDLE_TIMEOUT: Duration = Duration::from_secs(57);

/// The first pause before a request is sent again that the API server was too busy for (429, 503, 504), and the longest, unless it
/// asks for a longer one by Retry-After. kube's own go up to a thousand seconds: an API server that comes back would be left alone.
const RETRY_BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// How often such a request is sent again before it counts as failed.
const MAX_RETRIES: u32 = 10;

/// How many requests may wait to be sent.
const MAX_QUEUED: usize = 1024;

/// How to reach the cluster.
#[derive(Clone, Debug, Default)]
pub struct Connection {
    /// Kubeconfig files, merged as kubectl merges those of `KUBECONFIG`: the first one that says something counts. None: the Pod's own
    /// ServiceAccount.
    ///
    /// <https://kubernetes.io/docs/concepts/configuration/organize-cluster-access-kubeconfig/#merging-kubeconfig-files>
    pub kubeconfigs: Vec<PathBuf>,
    /// Which of its contexts; `None`: its current one.
    pub context: Option<String>,
    /// pullpass' own namespace; `None`: the ServiceAccount's, or the context's.
    pub namespace: Option<NamespaceName>,
    /// The namespaces that an admin excludes.
    pub excluded: Vec<NamespaceName>,
}

/// Why there is no connection.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// The kubeconfig cannot be used.
    #[error("kubeconfig {path} cannot be used, {message}: give another with --kubeconfig")]
    Kubeconfig {
        /// The file, or files.
        path: String,
        /// What is wrong with it.
        message: String,
    },
    /// This process runs in no Pod.
    #[error(
        "this is no Pod with a ServiceAccount token, {message}: outside a cluster give --kubeconfig FILE"
    )]
    NoPod {
        /// What is missing.
        message: String,
    },
    /// A context is asked for where no kubeconfig is.
    #[error(
        "there is no kubeconfig with context {context}: give one with --kubeconfig FILE, or in KUBECONFIG"
    )]
    NoContext {
        /// The context.
        context: String,
    },
    /// The namespace of the ServiceAccount's files, or of the kubeconfig's context, is none.
    #[error("the namespace of the ServiceAccount or of the kubeconfig's context: {0}")]
    Namespace(#[from] NameError),
    /// No client could be made of it.
    #[error("no client for the API server: {message}")]
    Client {
        /// What went wrong.
        message: String,
    },
}

/// Makes a client for the API server. It connects at the first request, so this works while the API server is down.
///
/// # Errors
/// [`ConnectError`]: no or no usable kubeconfig, no ServiceAccount.
pub async fn connect(connection: &Connection) -> Result<Kube, ConnectError> {
    let mut config = if connection.kubeconfigs.is_empty() {
        if let Some(context) = connection.context.clone() {
            return Err(ConnectError::NoContext { context });
        }
        Config::incluster().map_err(|error| ConnectError::NoPod {
            message: error.to_string(),
        })?
    } else {
        load_kubeconfigs(&connection.kubeconfigs, connection.context.clone()).await?
    };
    let own_token = config.auth_info.token_file.as_deref().map(Path::new);
    let own_token = own_token.map(Into::into);
    let namespace = match &connection.namespace {
        Some(namespace) => namespace.clone(),
        None => NamespaceName::parse(&config.default_namespace)?,
    };
    // Longer than any watch is silent, so that a connection that silently went away is noticed.
    config.read_timeout = Some(IDLE_TIMEOUT);
    config.reset_reader_on_write = true;
    config.default_retry = false;
    let builder = ClientBuilder::try_from(config).map_err(|error| ConnectError::Client {
        message: error.to_string(),
    })?;
    let pace = WatchThrottle::default();
    let client = builder
        .with_layer(&BufferLayer::new(MAX_QUEUED))
        .with_layer(&RetryLayer::new(retry()))
        .with_layer(&pace)
        .build();
    let excluded = ExcludedNamespaces::new(namespace.clone(), connection.excluded.clone());
    let mut kube = Kube::new(client, namespace);
    kube.excluded = Arc::new(excluded);
    kube.metrics = Metrics::of(pace.watches());
    kube.own_token = own_token;
    Ok(kube)
}

fn retry() -> RetryPolicy {
    let (first, longest) = RETRY_BACKOFF;
    RetryPolicy::new(first, longest, MAX_RETRIES, true).expect("the first pause is the shorter one")
}

async fn load_kubeconfigs(
    paths: &[PathBuf],
    context: Option<String>,
) -> Result<Config, ConnectError> {
    let shown: Vec<String> = paths
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    let failed = |message: String| ConnectError::Kubeconfig {
        path: shown.join(", "),
        message,
    };
    let mut merged = Kubeconfig::default();
    for path in paths {
        let file = Kubeconfig::read_from(path).map_err(|error| failed(error.to_string()))?;
        merged = merged
            .merge(file)
            .map_err(|error| failed(error.to_string()))?;
    }
    let proxy = find_proxy(&merged, context.as_deref());
    let options = KubeConfigOptions {
        context,
        ..KubeConfigOptions::default()
    };
    let mut config = Config::from_custom_kubeconfig(merged, &options)
        .await
        .map_err(|error| failed(error.to_string()))?;
    // kube takes a proxy out of the environment, too; that one is for the internet.
    config.proxy_url = proxy
        .map(|proxy| proxy.parse())
        .transpose()
        .map_err(|error| failed(format!("proxy-url of its cluster is no URL ({error})")))?;
    Ok(config)
}

/// The `proxy-url` of the context's cluster.
///
/// <https://kubernetes.io/docs/concepts/configuration/organize-cluster-access-kubeconfig/#proxy>
fn find_proxy(file: &Kubeconfig, context: Option<&str>) -> Option<String> {
    let name = context.or(file.current_context.as_deref())?;
    let context = file.contexts.iter().find(|context| context.name == name)?;
    let cluster = &context.context.as_ref()?.cluster;
    let cluster = file.clusters.iter().find(|each| each.name == *cluster)?;
    cluster.cluster.as_ref()?.proxy_url.clone()
}
