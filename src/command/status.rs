//! `pullpass status`: how pullpass is, on one screen.

mod fetch;
mod findings;
mod of_cluster;
mod of_namespace;
mod reasons;
mod render;
#[cfg(test)]
mod tests;
mod view;

use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use futures::StreamExt as _;
use jiff::Timestamp;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::cluster_args::ClusterArgs;
use super::invocation::Program;
use super::{ExcludeArgs, Output};
use crate::cluster::Kube;
use crate::names::NamespaceName;
use findings::Commands;
use render::Look;
use view::StatusView;

/// Show the state of pullpass on one screen: webhook, Registries and when their logins end, what fails, and the command to run next.
///
/// It reads what pullpass and the cluster say, and tries and mints nothing; `pullpass check` tries each step. With --namespace it shows one
/// namespace, to somebody with rights there alone: its pull secrets and when they end, Events, Pods that were created without them. What the
/// account may not read is listed, and the rest is shown. No login is read.
///
/// The exit code is 0 when all is ready, 1 when something fails, and 2 when the arguments cannot be used or the cluster cannot be reached.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  pullpass status
  pullpass status -n payments
  pullpass status -w --context production
  pullpass status -o json")]
pub(super) struct Args {
    /// One namespace; needs no rights outside it.
    #[arg(short, long, value_name = "NAME")]
    namespace: Option<NamespaceName>,
    /// Show it again whenever it changes, until Ctrl-C.
    #[arg(short, long)]
    watch: bool,
    #[command(flatten)]
    cluster: ClusterArgs,
    /// pullpass' own namespace; by default the Pod's, else pullpass.
    #[arg(long, value_name = "NAME", env = "POD_NAMESPACE")]
    own_namespace: Option<NamespaceName>,
    #[command(flatten)]
    exclude: ExcludeArgs,
    /// How to print it; wide shortens and wraps nothing.
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

/// What comes together is shown together.
const SETTLE: Duration = Duration::from_millis(300);

/// How soon it is read again after the API server could not be reached.
const RETRY: Duration = Duration::from_secs(5);

/// On a terminal it is shown again after so long though nothing changed: it says how long ago things were.
const REFRESH: Duration = Duration::from_secs(30);

pub(super) fn run(args: &Args, program: Program) -> anyhow::Result<ExitCode> {
    super::block_on(async {
        let kube = args
            .cluster
            .open(args.own_namespace.as_ref(), &args.exclude)
            .await?;
        let kube = kube.context("no cluster to ask: name one with --kubeconfig or --context")?;
        let commands = Commands {
            program: program.name(),
            same_cluster: args.cluster.for_kubectl(),
            own_namespace: kube.namespace().clone(),
        };
        let is_terminal = std::io::stdout().is_terminal();
        let look = Look::find(args.output, is_terminal, |name| std::env::var(name).ok());
        let screen = Screen {
            args,
            kube,
            commands,
            look,
            is_terminal,
        };
        if args.watch {
            return Box::pin(screen.follow()).await;
        }
        let view = Box::pin(screen.fetch()).await?;
        screen.show(&view)?;
        Ok(exit_code(&view))
    })
}

fn exit_code(view: &StatusView) -> ExitCode {
    if view.ok {
        ExitCode::SUCCESS
    } else {
        super::FAILED
    }
}

/// What is shown, and how.
struct Screen<'a> {
    args: &'a Args,
    kube: Kube,
    commands: Commands,
    look: Look,
    is_terminal: bool,
}

impl Screen<'_> {
    async fn fetch(&self) -> anyhow::Result<StatusView> {
        let now = Timestamp::now();
        Ok(if let Some(name) = &self.args.namespace {
            let facts = Box::pin(fetch::fetch_namespace(&self.kube, name)).await?;
            of_namespace::build(&facts, &self.commands, now)
        } else {
            let facts = Box::pin(fetch::fetch_cluster(&self.kube)).await?;
            of_cluster::build(&facts, &self.commands, now)
        })
    }

    fn show(&self, view: &StatusView) -> anyhow::Result<()> {
        let text = self.args.output.format(view)?;
        let text = text.unwrap_or_else(|| render::render(view, &self.look, Timestamp::now()));
        super::print(&text)
    }

    /// Shows it whenever it changes, until Ctrl-C or nobody reads it any more.
    async fn follow(&self) -> anyhow::Result<ExitCode> {
        let interrupted = tokio::signal::ctrl_c();
        tokio::pin!(interrupted);
        let mut changes = self.kube.watch_status(self.args.namespace.as_ref());
        let mut shown: Option<StatusView> = None;
        loop {
            let refresh = match Box::pin(self.fetch()).await {
                Ok(view) => {
                    if self.is_terminal || shown.as_ref() != Some(&view) {
                        self.redraw(&view, shown.is_some())?;
                    }
                    shown = Some(view);
                    self.is_terminal.then(|| Instant::now() + REFRESH)
                }
                // The first time it is the arguments that may be wrong.
                Err(error) if shown.is_none() => return Err(error),
                Err(error) => {
                    super::print_error(format!("error: {}\n", super::describe(&error)));
                    Some(Instant::now() + RETRY)
                }
            };
            let later = async {
                match refresh {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                _ = &mut interrupted => break,
                _ = changes.next() => {
                    let settled = Instant::now() + SETTLE;
                    while timeout_at(settled, changes.next()).await.is_ok() {}
                }
                () = later => {}
            }
        }
        Ok(shown.as_ref().map_or(ExitCode::SUCCESS, exit_code))
    }

    /// On a terminal in place of what is there, elsewhere below it.
    fn redraw(&self, view: &StatusView, is_again: bool) -> anyhow::Result<()> {
        const CLEAR: &str = "\x1b[2J\x1b[H";
        if self.args.output.is_text() {
            let before = match (self.is_terminal, is_again) {
                (true, _) => CLEAR,
                (false, true) => "\n",
                (false, false) => "",
            };
            super::print(before)?;
        } else if self.args.output == Output::Yaml {
            super::print("---\n")?;
        }
        self.show(view)
    }
}
