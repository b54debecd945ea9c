//! `pullpass check`: the test connection.

mod advice;
mod cloud;
mod cluster;
mod context;
mod image;
mod namespace;
mod report;

use std::path::PathBuf;
use std::process::ExitCode;

use super::cluster_args::ClusterArgs;
use super::explain::parse_labels;
use super::{ExcludeArgs, Output};
use crate::names::{NamespaceName, ObjectName};
use crate::registry::Labels;
use context::CheckContext;
use report::CheckReport;

/// What to do about a namespace that is opted in and excluded.
const EXCLUDED_FIX: &str = "take its label pullpass.dev/inject off, or take it out of webhook.excludeNamespaces (kube-* and pullpass' own are always excluded)";

/// Try out every hop between a Registry and a pulled image: identity, token, login, manifest, and the way into a Pod.
///
/// Each hop is reported with its time and, where it fails, with what to do. Tokens are minted as `pullpass serve` mints them and used on
/// the Registry's own host alone (a fixed login on those of --token-service, too); nothing is stored, nothing is written into a cluster. With images only the Registries that serve
/// them are tried, without images all of them. The cluster is the kubeconfig's, or the one that this runs in; without one its hops
/// are left out, and what a Secret of the cluster holds cannot be tried.
///
/// An identity is that of the place where this runs: to try pullpass' own workload identity, run it in pullpass' Pod.
///
/// The exit code is 0 when no hop fails, 1 when one does, and 2 when the files or arguments are wrong.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  pullpass check
  pullpass check -n payments 123456789012.dkr.ecr.eu-west-1.amazonaws.com/payments/api:1
  pullpass check -f registries.yaml --context production -o json
  kubectl exec -n pullpass deploy/pullpass -- pullpass check -n payments")]
pub(super) struct Args {
    /// Images to try.
    #[arg(value_name = "IMAGE")]
    images: Vec<String>,
    /// Files with Registries, and with Namespaces whose labels are to be used, instead of the cluster's Registries; `-` is stdin.
    #[arg(short = 'f', long = "filename", value_name = "FILE")]
    files: Vec<PathBuf>,
    /// A namespace: only Registries that serve it are tried and, with a cluster, what a Pod there would get.
    #[arg(short, long, value_name = "NAME")]
    namespace: Option<NamespaceName>,
    /// The ServiceAccount of the Pod that is tried.
    #[arg(
        long,
        value_name = "NAME",
        default_value = "default",
        requires = "namespace"
    )]
    service_account: ObjectName,
    /// The labels of the Pod that is tried.
    #[arg(
        long,
        value_name = "KEY=VALUE,…",
        value_parser = parse_labels,
        default_value = "",
        requires = "namespace"
    )]
    pod_labels: Labels,
    #[command(flatten)]
    cluster: ClusterArgs,
    /// pullpass' own namespace, where source Secrets and minted credentials are; by default the Pod's, else pullpass.
    #[arg(long, value_name = "NAME", env = "POD_NAMESPACE")]
    own_namespace: Option<NamespaceName>,
    #[command(flatten)]
    exclude: ExcludeArgs,
    /// Certificates, PEM, of CAs that sign what is connected to, besides the public ones.
    #[arg(long, value_name = "FILE", env = "PULLPASS_EXTRA_CA")]
    extra_ca: Option<PathBuf>,
    /// Hosts of token services that may have a fixed login whose registry names them, as `gitlab.com` for `registry.gitlab.com`; `serve` asks
    /// none of them.
    #[arg(long = "token-service", value_name = "HOST")]
    token_services: Vec<String>,
    /// How to print it.
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    super::block_on(async {
        let mut report = CheckReport::new(args.output);
        let context = CheckContext::load(args, &mut report).await?;
        try_all(&context, &mut report).await?;
        report.finish()
    })
}

async fn try_all(context: &CheckContext<'_>, report: &mut CheckReport) -> anyhow::Result<()> {
    let images = image::read(context);
    if let Some(kube) = &context.kube {
        cluster::check(context, kube, report).await?;
    }
    let logins = cloud::check(context, &images, report).await?;
    image::check(context, &images, &logins, report).await?;
    if let (Some(kube), Some(name)) = (&context.kube, &context.args.namespace) {
        namespace::check(context, kube, name, &images, report).await?;
    }
    Ok(())
}
