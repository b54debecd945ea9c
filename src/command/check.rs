//! `pullpass check`: the test connection.

mod advice;
mod clients;
mod cloud;
mod cluster;
mod context;
mod dry_run;
pub(super) mod ids;
mod image;
mod injection;
mod kyverno;
mod login;
mod missed_pods;
mod namespace;
mod node;
mod opt_in;
mod push;
mod refused;
mod report;
mod selection;
mod service_accounts;
mod shared_login;
mod source;
mod step_result;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use jiff::SignedDuration;

use super::cluster_args::ClusterArgs;
use super::explain::parse_labels;
use super::{ExcludeArgs, Output};
use crate::names::{NamespaceName, ObjectName};
use crate::registry::Labels;
use context::CheckContext;
use refused::RefusedLogins;
use report::CheckReport;

/// Try each step from a Registry to a pulled image: identity, token, login, manifest, and the reference in a Pod.
///
/// Each step is reported with its time and, if it fails, with what to do. Tokens are minted as `pullpass serve` mints them, and used on the
/// Registry's own host alone (a fixed login on those of --token-service, too). Nothing is stored or written into a cluster; a registry gets
/// nothing but the upload of --push, which is cancelled. With images, only the Registries that serve them are tried, without images all. The
/// cluster is that of the kubeconfig, or the one that this runs in. Without a cluster its steps are left out, and logins of its Secrets are
/// not tried.
///
/// The identity is that of the place where this runs: to try pullpass' own workload identity, run it in pullpass' Pod.
///
/// Each finding has a stable name, in brackets where something fails: docs/CHECK.md lists them. A fix that is a command can be pasted into a
/// shell as it is. With --wait it is tried again until no step fails and no pull secret is missing, or until --timeout.
///
/// The exit code is 0 when no step fails, 1 when one does (or still does at the end of --timeout), and 2 when the files or arguments are wrong,
/// or the cluster that they name cannot be used.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  pullpass check
  pullpass check -n payments 123456789012.dkr.ecr.eu-west-1.amazonaws.com/payments/api:1
  pullpass check -n payments --wait --timeout 2m
  pullpass check -f registries.yaml --context production -o json
  pullpass check -n builds --push 123456789012.dkr.ecr.eu-west-1.amazonaws.com/payments/api:1
  pullpass check --node / -f registries.yaml
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
    /// CA certificates, PEM, to trust besides the public ones.
    #[arg(long, value_name = "FILE", env = "PULLPASS_EXTRA_CA")]
    extra_ca: Option<PathBuf>,
    /// Hosts of token services that get a fixed login if its registry names them, such as `gitlab.com` for `registry.gitlab.com`; `serve` asks
    /// none of them.
    #[arg(long = "token-service", value_name = "HOST")]
    token_services: Vec<String>,
    /// Also try whether logins of Registries with access Push may push: open an upload in a repository that exists, and cancel it.
    #[arg(long)]
    push: bool,
    /// Check a node instead, whose kubelet asks pullpass for logins: the node's root, or a folder with a copy of its files. The Registries, of
    /// files or of the cluster, say for which images it should ask; with a cluster, the nodes' right is checked, too.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["images", "namespace", "push", "wait"])]
    node: Option<PathBuf>,
    /// The node's file or folder of CredentialProviderConfig, as the kubelet's flag --image-credential-provider-config names it; by default
    /// where the node's platform has it.
    #[arg(long, value_name = "PATH", requires = "node")]
    node_config: Option<PathBuf>,
    /// The node's folder of providers, as the kubelet's flag --image-credential-provider-bin-dir names it; by default where the node's platform
    /// has it.
    #[arg(long, value_name = "PATH", requires = "node")]
    node_bin_dir: Option<PathBuf>,
    /// Try again until nothing fails; stderr says what is waited for.
    #[arg(long)]
    wait: bool,
    /// How long to wait at most: 90s, 5m, 1h.
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = parse_timeout, requires = "wait")]
    timeout: Duration,
    /// How to print it.
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

/// How long a pause between two tries is at first, and at most: each try mints.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(15));

/// Reads `90s`, `5m`, `1h`.
fn parse_timeout(text: &str) -> Result<Duration, String> {
    let span = text.parse::<SignedDuration>();
    let span = span.map_err(|error| format!("{error}: write 90s, 5m or 1h"))?;
    Duration::try_from(span).map_err(|error| error.to_string())
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    super::block_on(async {
        if args.wait {
            return wait(args).await;
        }
        let mut report = CheckReport::new(args.output, false);
        if let Some(root) = &args.node {
            node::check(args, root, &mut report).await?;
            return report.finish();
        }
        try_once(args, &RefusedLogins::default(), &mut report).await?;
        report.finish()
    })
}

/// Tries it until all is well, or until there is no time for another try; prints the last one.
async fn wait(args: &Args) -> anyhow::Result<ExitCode> {
    let deadline = Instant::now() + args.timeout;
    let mut pause = PAUSES.0;
    let (mut said, refused) = (Vec::new(), RefusedLogins::default());
    loop {
        let mut report = CheckReport::new(args.output, true);
        try_once(args, &refused, &mut report).await?;
        let pending = report.pending();
        if pending.is_empty() {
            return report.finish();
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left < pause {
            super::print_error(format!("gave up after {} s\n", args.timeout.as_secs()));
            report.finish()?;
            return Ok(super::FAILED);
        }
        if pending != said {
            let seconds = left.as_secs();
            super::print_error(format!(
                "waiting, {seconds} s left: {}\n",
                pending.join("; ")
            ));
            said = pending;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSES.1);
    }
}

async fn try_once(
    args: &Args,
    refused: &RefusedLogins,
    report: &mut CheckReport,
) -> anyhow::Result<()> {
    let context = CheckContext::load(args, refused, report).await?;
    try_all(&context, report).await
}

async fn try_all(context: &CheckContext<'_>, report: &mut CheckReport) -> anyhow::Result<()> {
    let images = image::read(context);
    if let Some(kube) = &context.kube {
        cluster::check(context, kube, report).await?;
        kyverno::check(kube, report).await?;
    }
    let logins = cloud::check(context, &images, report).await?;
    image::check(context, &images, &logins, report).await?;
    if let (Some(kube), Some(name)) = (&context.kube, &context.args.namespace) {
        namespace::check(context, kube, name, &images, report).await?;
    }
    Ok(())
}
