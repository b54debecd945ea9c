//! `pullpass explain`: which Registry serves an image, and why.

mod builders;
mod exports;
mod images;
mod report;
mod text;

use std::path::PathBuf;
use std::process::ExitCode;

use super::cluster_args::ClusterArgs;
use super::manifest::Manifests;
use super::{ExcludeArgs, Output};
use crate::cluster::Kube;
use crate::names::{NamespaceName, ObjectName};
use crate::provision::namespace::INJECT_LABEL;
use crate::provision::ports::Cluster as _;
use crate::registry::pod_subject::DEFAULT_SERVICE_ACCOUNT;
use crate::registry::{self, Labels, PodSubject, Registries, Registry};
use images::{Pod, Source};
pub(super) use report::reason;

/// Show how images are read, which Registry serves each of them, and why the others do not.
///
/// It needs no cluster where Registries come from files. Without files it reads those of the kubeconfig's cluster, or of the one that this runs
/// in, and the namespace's labels; with files and --kubeconfig or --context only the labels. The exit code is 0 when all images could be read,
/// 1 when one could not, and 2 when the files or arguments are wrong, or the cluster cannot be used.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  pullpass explain 123456789012.dkr.ecr.eu-west-1.amazonaws.com/payments/api:1
  pullpass explain -f registries.yaml --namespace-labels team=payments --pod pod.yaml
  pullpass explain --context production -n payments --pod pod.yaml
  kubectl get registries,namespaces -o yaml | pullpass explain -f - -n payments harbor.example.com/library/app
  kubectl get pods -A -o jsonpath='{.items[*].spec.containers[*].image}' | tr ' ' '\\n' | pullpass explain -f registries.yaml -o json -")]
pub(super) struct Args {
    /// Images; `-` reads them from stdin, one per line.
    #[arg(value_name = "IMAGE", required_unless_present = "pod")]
    images: Vec<String>,
    /// Files with Registries, and with Namespaces whose labels are to be used; `-` is stdin.
    #[arg(short = 'f', long = "filename", value_name = "FILE")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    cluster: ClusterArgs,
    /// A file with a Pod, or with a workload that has a Pod template, whose images are explained.
    #[arg(long, value_name = "FILE", conflicts_with = "images")]
    pod: Option<PathBuf>,
    /// The Pod's namespace. Where its labels are not known, each Registry is taken to serve it.
    #[arg(short, long, value_name = "NAME")]
    namespace: Option<NamespaceName>,
    #[command(flatten)]
    exclude: ExcludeArgs,
    /// The namespace's labels.
    #[arg(long, value_name = "KEY=VALUE,…", value_parser = parse_labels)]
    namespace_labels: Option<Labels>,
    /// The Pod's ServiceAccount; `default` where the namespace is known and none is given.
    #[arg(long, value_name = "NAME")]
    service_account: Option<ObjectName>,
    /// The Pod's labels.
    #[arg(long, value_name = "KEY=VALUE,…", value_parser = parse_labels)]
    pod_labels: Option<Labels>,
    /// How to print it.
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

/// What an image is evaluated against.
struct ExplainContext {
    registries: Registries,
    /// The labels of the namespace, if they are known.
    namespace: Option<Labels>,
    namespace_name: Option<NamespaceName>,
    /// Whether the namespace is one that pullpass leaves alone.
    excluded: bool,
    pod: Pod,
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let stdin = PathBuf::from("-");
    let uses = args
        .files
        .iter()
        .chain(&args.pod)
        .filter(|file| **file == stdin)
        .count()
        + args.images.iter().filter(|image| *image == "-").count();
    anyhow::ensure!(
        uses <= 1,
        "stdin is named more than once: give all but one of them as files"
    );
    let source = args
        .pod
        .as_ref()
        .map_or(Source::List(&args.images), |file| Source::Pod(file));
    let pod = images::load(&source)?;
    let mut manifests = Manifests::load(&args.files)?;
    let namespace = args.namespace.as_ref().or(pod.namespace.as_ref());
    super::block_on(add_from_cluster(args, namespace, &mut manifests))?;
    let context = ExplainContext::new(args, manifests, pod);
    let rows: Vec<report::ExplainedImage> = context
        .pod
        .images
        .iter()
        .map(|image| report::explain(&context, image))
        .collect();
    let report = args
        .output
        .format(&report::ExplainReport { images: &rows })?;
    super::print(&report.unwrap_or_else(|| match args.output {
        Output::Wide => text::render_wide(&context, &rows),
        _ => text::render(&context, &rows),
    }))?;
    let all_readable = rows.iter().all(|row| row.error.is_none());
    Ok(if all_readable {
        ExitCode::SUCCESS
    } else {
        super::FAILED
    })
}

/// Adds the Registries of the cluster, unless files say which ones, and the namespace's labels. With files a cluster has to be named; without
/// files it may be that of the environment, or none.
async fn add_from_cluster(
    args: &Args,
    namespace: Option<&NamespaceName>,
    manifests: &mut Manifests,
) -> anyhow::Result<()> {
    if !args.cluster.is_given() && !args.files.is_empty() {
        return Ok(());
    }
    let own = NamespaceName::constant("pullpass");
    let Some(kube) = args.cluster.open(Some(&own), &args.exclude).await? else {
        return Ok(());
    };
    if args.files.is_empty() {
        manifests.registries = load_registries(&kube).await?;
    }
    // Who may not read Namespaces gets an answer without its labels, which says so.
    if let Some(name) = namespace
        && let Some((_, found)) = kube.fetch_namespace(name).await.ok().flatten()
    {
        manifests.namespaces.insert(name.clone(), found.labels);
    }
    Ok(())
}

async fn load_registries(kube: &Kube) -> anyhow::Result<Vec<Registry>> {
    let (registries, unreadable) = kube.fetch_registries().await?;
    for (name, problem) in unreadable {
        eprintln!("warning: Registry {name} cannot be read: {problem}");
    }
    Ok(registries)
}

impl ExplainContext {
    fn new(args: &Args, manifests: Manifests, mut pod: Pod) -> Self {
        let namespace_name = args.namespace.clone().or_else(|| pod.namespace.clone());
        let known = namespace_name
            .as_ref()
            .and_then(|name| manifests.namespaces.get(name));
        let is_known = known.is_some() || args.namespace_labels.is_some();
        let named = namespace_name
            .iter()
            .map(|name| (super::NAME_LABEL.to_owned(), name.to_string()));
        let labels: Labels = named
            .chain(
                known
                    .into_iter()
                    .chain(&args.namespace_labels)
                    .flatten()
                    .map(|(key, value)| (key.clone(), value.clone())),
            )
            .collect();
        pod.labels
            .extend(args.pod_labels.clone().unwrap_or_default());
        pod.service_account = args.service_account.clone().or(pod.service_account);
        let excluded = args.exclude.build(None);
        Self {
            registries: Registries::build(manifests.registries),
            excluded: namespace_name
                .as_ref()
                .is_some_and(|name| excluded.contains(name)),
            namespace: is_known.then_some(labels),
            namespace_name,
            pod,
        }
    }

    /// The Pod as Registries see it. Once the namespace is named, it is a Pod without labels of ServiceAccount `default` where
    /// nothing else is said.
    fn pod_subject(&self) -> PodSubject<'_> {
        let pod = &self.pod;
        let is_known = self.namespace.is_some() || self.namespace_name.is_some();
        PodSubject {
            namespace: self.namespace.as_ref(),
            service_account: pod
                .service_account
                .as_deref()
                .or(is_known.then_some(DEFAULT_SERVICE_ACCOUNT)),
            labels: (is_known || !pod.labels.is_empty()).then_some(&pod.labels as _),
            known: None,
        }
    }

    /// Whether the Pod's own label keeps pullpass away from it.
    fn pod_opts_out(&self) -> bool {
        self.pod
            .labels
            .get(INJECT_LABEL)
            .is_some_and(|value| value == "disabled")
    }
}

/// Reads `key=value,key=value`.
pub(super) fn parse_labels(text: &str) -> Result<Labels, String> {
    let parts = text.split(',').filter(|part| !part.is_empty());
    let labels = parts.map(|part| {
        let (key, value) = part
            .split_once('=')
            .ok_or_else(|| format!("{part:?} has no =: write key=value"))?;
        match registry::label_key_problem(key).or_else(|| registry::label_value_problem(value)) {
            Some(problem) => Err(problem),
            None => Ok((key.to_owned(), value.to_owned())),
        }
    });
    labels.collect()
}
