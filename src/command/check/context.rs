//! What is tried, and with what.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use jiff::Timestamp;

use super::advice::{OwnPlace, explain_command};
use super::refused::RefusedLogins;
use super::report::{CheckReport, Fix, StepResult, SubjectKind};
use super::source::{SecretError, Secrets};
use super::{Args, advice, ids};
use crate::cluster::Kube;
use crate::command::NAME_LABEL;
use crate::command::installed::fetch_parts;
use crate::command::manifest::Manifests;
use crate::controller::missed_pods::calls::NOT_CALLED;
use crate::credential::acr::{self, AcrMint};
use crate::credential::ecr::EcrMint;
use crate::credential::http::HttpClient;
use crate::credential::identity::AwsEnvironment;
use crate::credential::mint::Clouds;
use crate::credential::proxy::find_proxy;
use crate::credential::{MintError, SourceSecret};
use crate::names::{NamespaceName, ObjectName};
use crate::provision::Namespace;
use crate::provision::ports::{Cluster as _, ClusterError};
use crate::registry::{Labels, PodSubject, Registries, Registry, ValidRegistry};

/// What is tried, and with what.
pub(super) struct CheckContext<'a> {
    pub(super) args: &'a Args,
    pub(super) registries: Arc<Registries>,
    /// Whether the cluster's Registries could not be read: nothing is known of who serves what.
    pub(super) registries_unknown: bool,
    /// The namespace, if one is named: the cluster's, the files', or its name alone.
    pub(super) namespace: Option<Namespace>,
    /// Whether the cluster has no namespace of that name, and no file has one.
    pub(super) namespace_missing: bool,
    /// The cluster, if there is one.
    pub(super) kube: Option<Kube>,
    pub(super) http: HttpClient,
    pub(super) clouds: Clouds,
    pub(super) secrets: Secrets,
    /// What registries refused.
    pub(super) refused: &'a RefusedLogins,
    /// What the leader found out of the API server's calls, if they do not come; Registries' conditions say it.
    pub(super) not_called: Option<String>,
    /// What the status of each Registry of the cluster says that is not ready, and on which nobody works.
    pub(super) not_ready: BTreeMap<String, String>,
}

impl<'a> CheckContext<'a> {
    /// Reads the Registries from files, or from the cluster.
    ///
    /// # Errors
    /// Arguments or files are wrong.
    pub(super) async fn load(
        args: &'a Args,
        refused: &'a RefusedLogins,
        report: &mut CheckReport,
    ) -> anyhow::Result<Self> {
        let own = args.own_namespace.as_ref();
        let kube = args.cluster.open(own, &args.exclude).await?;
        let manifests = Manifests::load(&args.files)?;
        let mut registries = manifests.registries;
        let mut registries_unknown = false;
        anyhow::ensure!(
            args.files.is_empty() || !registries.is_empty(),
            "the files hold no Registry: name a file with one"
        );
        if args.files.is_empty() {
            let kube = kube.as_ref().context(
                "no Registries to try: name files with -f, or a cluster with --kubeconfig",
            )?;
            report.begin(SubjectKind::Cluster, kube.namespace());
            let listed = load_registries(kube, args, report).await?;
            registries_unknown = listed.is_none();
            registries = listed.unwrap_or_default();
        }
        let not_called = registries.iter().find_map(find_not_called);
        let not_ready = registries.iter().filter_map(find_not_ready).collect();
        let mut namespace_missing = false;
        let namespace = match &args.namespace {
            Some(name) => {
                let found = find_namespace(name, kube.as_ref(), &manifests.namespaces, args).await;
                namespace_missing = found.is_err();
                found.unwrap_or_else(Some)
            }
            None => None,
        };
        let http = open_http(args.extra_ca.as_deref())?;
        Ok(Self {
            args,
            registries: Arc::new(Registries::build(registries)),
            registries_unknown,
            namespace,
            namespace_missing,
            clouds: open_clouds(&http, kube.as_ref()),
            kube,
            http,
            secrets: Secrets::default(),
            refused,
            not_called,
            not_ready,
        })
    }

    /// The labels of the namespace, if one is named.
    pub(super) fn labels(&self) -> Option<&Labels> {
        self.namespace.as_ref().map(|namespace| &namespace.labels)
    }

    /// The Pod that is tried, as Registries see it; any Pod where no namespace is named.
    pub(super) fn pod_subject(&self) -> PodSubject<'_> {
        self.labels()
            .map_or_else(PodSubject::default, |namespace| PodSubject {
                namespace: Some(namespace),
                service_account: Some(&self.args.service_account),
                labels: Some(&self.args.pod_labels),
                known: None,
            })
    }

    /// Whether a Registry is of interest: it is not suspended and serves the namespace, if one is named.
    pub(super) fn concerns(&self, registry: &ValidRegistry) -> bool {
        match self.labels() {
            Some(labels) => registry.serves(labels),
            None => !registry.suspend,
        }
    }

    /// Whether it would be, were it not suspended.
    pub(super) fn would_concern(&self, registry: &ValidRegistry) -> bool {
        let selects = |labels: &Labels| registry.namespaces.matches(labels);
        registry.suspend && self.labels().is_none_or(selects)
    }

    /// A kubectl command that asks the same cluster.
    pub(super) fn kubectl(&self, command: &str) -> String {
        format!("kubectl {command}{}", self.same_cluster())
    }

    /// The arguments by which kubectl asks the same cluster.
    pub(super) fn same_cluster(&self) -> String {
        self.args.cluster.for_kubectl()
    }

    /// pullpass' own namespace, for messages.
    pub(super) fn own_namespace(&self) -> &str {
        self.kube
            .as_ref()
            .map_or("pullpass", |kube| kube.namespace())
    }

    /// Whether this runs in pullpass' own Pod.
    fn is_here(&self) -> bool {
        self.args.cluster.is_pod_of(self.own_namespace())
    }

    /// The command by which `pullpass explain` says more about an image.
    pub(super) fn explain(&self, image: &str) -> String {
        let own_pod = self.is_here().then(|| self.own_namespace());
        explain_command(self.args, own_pod, image)
    }

    /// pullpass' own namespace, in this cluster.
    pub(super) fn own_place<'p>(&'p self, same_cluster: &'p str) -> OwnPlace<'p> {
        OwnPlace {
            namespace: self.own_namespace(),
            same_cluster,
            is_here: self.is_here(),
        }
    }

    /// Reads a source Secret live.
    ///
    /// # Errors
    /// [`SecretError`].
    pub(super) async fn fetch_secret(
        &self,
        name: &ObjectName,
    ) -> Result<Arc<SourceSecret>, SecretError> {
        let kube = self
            .kube
            .as_ref()
            .ok_or_else(|| SecretError::NoCluster(name.to_string()))?;
        let found = kube.fetch_source(name).await?;
        let Some(secret) = found.map(Arc::new) else {
            let missing = MintError::MissingSource {
                secret: name.to_string(),
            };
            let is_there = kube.has_own_secret(name).await?;
            return Err(if is_there {
                SecretError::Unlabelled(missing)
            } else {
                SecretError::Missing(missing)
            });
        };
        self.secrets.keep(name, &secret);
        Ok(secret)
    }
}

fn open_clouds(http: &HttpClient, kube: Option<&Kube>) -> Clouds {
    let variable = |name: &str| std::env::var(name).ok();
    let environment = AwsEnvironment::find(variable);
    let mut ecr = EcrMint::new(http.clone(), environment);
    let mut acr = AcrMint::new(http.clone(), acr::AzureEnvironment::find(variable));
    if let Some(kube) = kube {
        let tokens = Arc::new(kube.clone());
        ecr = ecr.with_tokens(tokens.clone());
        acr = acr.with_tokens(tokens);
    }
    Clouds { ecr, acr }
}

fn open_http(extra_ca: Option<&Path>) -> anyhow::Result<HttpClient> {
    let extra_ca = match extra_ca {
        Some(path) => {
            Some(std::fs::read(path).with_context(|| format!("--extra-ca {}", path.display()))?)
        }
        None => None,
    };
    let proxy = find_proxy(|name| std::env::var(name).ok())?;
    HttpClient::build(extra_ca.as_deref(), proxy)
        .context("--extra-ca, or the machine's own CA certificates")
}

/// The cluster's Registries; those that serve nothing are reported. `None`: they cannot be read.
pub(super) async fn load_registries(
    kube: &Kube,
    args: &Args,
    report: &mut CheckReport,
) -> anyhow::Result<Option<Vec<Registry>>> {
    const STEP: &str = "registries";
    let same_cluster = args.cluster.for_kubectl();
    let (registries, unreadable) = match kube.fetch_registries().await {
        Ok(found) => found,
        Err(error) => {
            let is_kind_missing = matches!(error, ClusterError::NotFound { .. });
            let now = Timestamp::now();
            let result = if is_kind_missing && !fetch_parts(kube).await.is_installed(now) {
                advice::not_installed(kube.namespace())
            } else {
                of_registries(&error, &same_cluster)
            };
            report.add(STEP, result)?;
            return Ok(None);
        }
    };
    let count = registries.len();
    let message = if count == 1 {
        "1 Registry".to_owned()
    } else {
        format!("{count} Registries")
    };
    report.add(STEP, StepResult::ok(message))?;
    for (name, problem) in unreadable {
        let message = format!("Registry {name} serves nothing, it cannot be read: {problem}");
        let fix = format!("correct it: kubectl edit ppr {name}{same_cluster}");
        report.note(STEP, StepResult::failed(message, fix).id(ids::UNREADABLE))?;
    }
    for problem in Registries::build(registries.iter().cloned()).problems() {
        let name = &problem.registry;
        let message = format!(
            "Registry {name} serves nothing: {} {}",
            problem.field, problem.message
        );
        let fix = format!(
            "correct {}: kubectl edit ppr {name}{same_cluster}",
            problem.field
        );
        report.note(STEP, StepResult::failed(message, fix).id(ids::INVALID))?;
    }
    Ok(Some(registries))
}

/// The Registries cannot be listed.
fn of_registries(error: &ClusterError, same_cluster: &str) -> StepResult {
    match error {
        ClusterError::Forbidden { message, .. } => StepResult::failed(
            format!("this account may not list Registries, so nothing is known of who serves what: {message}"),
            "ask who administers the cluster: the ClusterRole pullpass-view allows it, and whoever has view, edit or admin in a namespace needs it for the whole cluster; or name files that hold them with -f",
        )
        .id(ids::REGISTRIES_FORBIDDEN),
        ClusterError::NotFound { .. } => StepResult::failed(
            "the API server does not know the kind Registry",
            Fix::run(
                "apply it",
                format!("pullpass crd | kubectl apply --server-side -f -{same_cluster}"),
            ),
        )
        .id(ids::KIND_MISSING),
        _ => advice::of_cluster(error),
    }
}

/// What a Registry's conditions say of the API server's calls.
fn find_not_called(registry: &Registry) -> Option<String> {
    let mut conditions = registry.status.iter().flat_map(|status| &status.conditions);
    let said = conditions.find_map(|condition| {
        let begin = condition.message.find(NOT_CALLED)?;
        Some(&condition.message[begin..])
    })?;
    Some(said.to_owned())
}

/// What a Registry's status, if it is of this state of it, says where it is not ready; the leader knows what this account may not see.
fn find_not_ready(registry: &Registry) -> Option<(String, String)> {
    let mut conditions = registry.status.iter().flat_map(|status| &status.conditions);
    let ready = conditions.find(|condition| condition.type_ == "Ready")?;
    let is_of_now = ready.observed_generation == registry.metadata.generation;
    let is_stuck = ready.status == "False" && ready.reason != "Provisioning";
    let name = registry.metadata.name.clone()?;
    (is_of_now && is_stuck).then(|| (name, ready.message.clone()))
}

/// The namespace as the cluster has it, else as a file has it, else what its name says; an error where the cluster has none, nor a file.
/// `None`: this account may not see its labels, so that nothing is known of who selects it.
async fn find_namespace(
    name: &NamespaceName,
    kube: Option<&Kube>,
    files: &BTreeMap<NamespaceName, Labels>,
    args: &Args,
) -> Result<Option<Namespace>, Namespace> {
    let found = match kube {
        Some(kube) => kube.fetch_namespace(name).await,
        None => Ok(None),
    };
    let is_missing = kube.is_some() && matches!(found, Ok(None)) && !files.contains_key(name);
    if let Ok(Some((_, namespace))) = found {
        return Ok(Some(namespace));
    }
    let is_hidden = matches!(found, Err(ClusterError::Forbidden { .. }));
    if is_hidden && !files.contains_key(name) {
        return Ok(None);
    }
    let named = || Labels::from([(NAME_LABEL.to_owned(), name.to_string())]);
    let labels = files.get(name).cloned().unwrap_or_else(named);
    let excluded = args.exclude.build(args.own_namespace.as_ref());
    let namespace = Namespace::new(name.clone(), labels, false).unless_excluded(&excluded);
    if is_missing {
        Err(namespace)
    } else {
        Ok(Some(namespace))
    }
}
