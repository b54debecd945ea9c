//! `pullpass serve`: the webhook and the controller.

mod certificates;
mod cluster;
mod log;
mod manager;
mod patch_only;
mod user;

use super::{ExcludeArgs, version};
use crate::metric;
use crate::names::NamespaceName;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use jiff::SignedDuration;

/// How often it is said what readiness waits for.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// The soft limit of file descriptors that a process has where nothing else is said.
const DESCRIPTORS_DEFAULT: u64 = 1024;

/// Serve the admission webhook, and run the controller
///
/// Every replica answers the API server's reviews. One of them, elected by a Lease, also runs the controller. It keeps the pull secrets of
/// all opted-in namespaces valid, whether Pods are created or not: it writes them ahead of the first Pod, renews them at half of their
/// credentials' lives, reverts drift, removes stale entries, writes each Registry's status, and finds Pods that were created while the
/// webhook was down.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    pullpass certs certs\n  \
    pullpass serve --kubeconfig pullpass.kubeconfig --namespace pullpass --tls-cert certs/tls.crt --tls-key certs/tls.key\n  \
    pullpass serve --kubeconfig pullpass.kubeconfig --namespace pullpass --tls-host webhook.example.internal\n  \
    pullpass serve --patch-only --registries examples/registries.yaml --tls-cert certs/tls.crt --tls-key certs/tls.key")]
pub(super) struct Args {
    /// The cluster to serve, for a process that runs beside it; without this the ServiceAccount of the Pod that it runs in
    #[arg(long, value_name = "FILE", conflicts_with = "patch_only")]
    kubeconfig: Option<PathBuf>,
    /// The kubeconfig's context, instead of its current one
    #[arg(long, value_name = "NAME", requires = "kubeconfig")]
    context: Option<String>,
    /// The user that pullpass is for the API server; a process that is another one is not ready. By default the ServiceAccount pullpass of its
    /// own namespace. The chart's value `user` gives rights and policies to the same name
    #[arg(
        long,
        value_name = "NAME",
        env = "PULLPASS_USER",
        value_parser = clap::builder::NonEmptyStringValueParser::new(),
        conflicts_with = "patch_only"
    )]
    user: Option<String>,
    /// CA certificates, PEM, to trust for clouds and registries, besides the public ones
    #[arg(
        long,
        value_name = "FILE",
        env = "PULLPASS_EXTRA_CA",
        conflicts_with = "patch_only"
    )]
    extra_ca: Option<PathBuf>,
    /// Run no controller: only answer reviews, and leave the pull secrets to other replicas where no Pod is created
    #[arg(long, conflicts_with = "patch_only")]
    no_controller: bool,
    /// How many pull secrets are written per second, as long as there is time, when their credentials were renewed
    #[arg(long, value_name = "WRITES", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..))]
    renewals_per_second: u16,
    /// How many at most, however soon the earlier ones end; where that is not enough, the Registries' condition has the reason `RenewalRateExceeded`
    #[arg(long, value_name = "WRITES", default_value_t = 500, value_parser = clap::value_parser!(u16).range(1..))]
    max_renewals_per_second: u16,
    /// How often to scan for Pods that wait without a reference to their pull secret: 10m, 90s, 1h; 0 never. They are counted and reported
    /// by Events, also when this replica begins to lead and when the first admission follows a minute without any. What the Pods show of
    /// whether the API server reaches the webhook is reported, too
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = parse_interval)]
    missed_pod_scan_interval: SignedDuration,
    #[command(flatten)]
    certificates: certificates::CertificateArgs,
    /// Answer reviews from a file alone: no API server, nothing minted or written; for trying out and for load tests
    #[arg(long, requires = "registries", requires = "tls_cert")]
    patch_only: bool,
    /// The Registries to serve, and the Namespaces to know, as YAML; `-` is stdin
    #[arg(long, value_name = "FILE", requires = "patch_only")]
    registries: Vec<PathBuf>,
    #[command(flatten)]
    manager: ManagerArgs,
}

/// What every way of serving needs.
#[derive(Debug, clap::Args)]
struct ManagerArgs {
    /// Where the webhook listens (TLS); port 0 takes a free one. By default all addresses of IPv6 and IPv4 at 8443, or 0.0.0.0:8443 where
    /// there is no IPv6
    #[arg(long, value_name = "ADDRESS:PORT", env = "PULLPASS_LISTEN")]
    listen: Option<SocketAddr>,
    /// Where /livez, /readyz and /metrics are (plain HTTP). By default all addresses of IPv6 and IPv4 at 8080, or 0.0.0.0:8080 where
    /// there is no IPv6
    #[arg(long, value_name = "ADDRESS:PORT", env = "PULLPASS_METRICS_LISTEN")]
    metrics_listen: Option<SocketAddr>,
    /// Where the broker listens (TLS), which kubelets ask by `pullpass credential-provider`; without this it does not. With the webhook's
    /// certificate, and for callers of any client certificate or none: each shows a token of its Pod
    #[arg(
        long,
        value_name = "ADDRESS:PORT",
        env = "PULLPASS_BROKER_LISTEN",
        conflicts_with = "patch_only"
    )]
    broker_listen: Option<SocketAddr>,
    /// The serving certificate and its chain, PEM; reloaded when it changes. Without it pullpass makes its own, with a CA of its own that it
    /// writes into the caBundle of its webhooks
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The serving certificate's key, PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// CA certificates, PEM: only callers with a certificate that one of them signed are answered. For clusters whose API server presents one
    /// (its --admission-control-config-file); reloaded when it changes
    #[arg(long, value_name = "FILE")]
    client_ca: Option<PathBuf>,
    /// How many seconds to keep serving after SIGTERM, not ready, with `Connection: close` in each response
    #[arg(long, value_name = "SECONDS", default_value = "15", value_parser = parse_seconds)]
    drain_delay: Duration,
    /// pullpass' own namespace: source Secrets and minted credentials are kept there, and its Pods are admitted unchanged. By default
    /// the Pod's, or the kubeconfig context's; with --patch-only pullpass
    #[arg(long, env = "POD_NAMESPACE", value_name = "NAME")]
    namespace: Option<NamespaceName>,
    #[command(flatten)]
    exclude: ExcludeArgs,
    /// How log lines are written
    #[arg(long, value_enum, default_value_t)]
    log_format: log::LogFormat,
    /// Which log lines are written: a level, or a filter of tracing-subscriber
    #[arg(
        long,
        env = "PULLPASS_LOG",
        default_value = "info",
        value_name = "FILTER"
    )]
    log: String,
}

fn parse_seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text
        .parse()
        .map_err(|_| "give a number of seconds".to_owned())?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

/// A duration with its unit; `0` needs none.
fn parse_interval(text: &str) -> Result<SignedDuration, String> {
    if text == "0" {
        return Ok(SignedDuration::ZERO);
    }
    match text.parse::<SignedDuration>() {
        Ok(pause) if pause.is_zero() || pause >= SignedDuration::from_secs(1) => Ok(pause),
        _ => Err("give a duration of a second or more with its unit, such as 10m, or 0".to_owned()),
    }
}

/// Raises the soft limit of file descriptors to the hard one, and gives what it is then. The soft one is low for programs that use
/// `select`: <https://0pointer.net/blog/file-descriptor-limits.html>
fn raise_descriptor_limit() -> u64 {
    rlimit::increase_nofile_limit(u64::MAX).unwrap_or_else(|error| {
        tracing::warn!(%error, "failed to raise the limit of file descriptors, going on with the one that there is");
        let limit = rlimit::Resource::NOFILE.get_soft();
        limit.unwrap_or(DESCRIPTORS_DEFAULT)
    })
}

/// Shows which program this is, and what the kernel says of its process.
fn register_program(registry: &mut prometheus_client::registry::Registry) {
    let labels = [("version", version::VERSION), ("commit", version::COMMIT)];
    metric::register_info(registry, "pullpass_build", labels);
    metric::process::register(registry);
}

/// Runs the command until SIGTERM or SIGINT, or until a part of it ends that should not.
pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    anyhow::ensure!(
        args.renewals_per_second <= args.max_renewals_per_second,
        "--renewals-per-second is more than --max-renewals-per-second: lower the one or raise the other"
    );
    let log = log::start(&args.manager)?;
    let descriptors = raise_descriptor_limit();
    // Two where there is one CPU, too: what keeps one busy holds up neither the Lease nor reviews.
    let threads = std::thread::available_parallelism().map_or(2, |cpus| cpus.get().max(2));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_all()
        .build();
    let runtime = runtime.context("cannot start the runtime's threads")?;
    runtime.block_on(async {
        let mut manager = manager::Manager::open(&args.manager, descriptors).await?;
        log.register(&mut manager.metrics);
        register_program(&mut manager.metrics);
        if args.patch_only {
            patch_only::serve(args, manager).await
        } else {
            cluster::serve(args, manager).await
        }
    })?;
    Ok(ExitCode::SUCCESS)
}
