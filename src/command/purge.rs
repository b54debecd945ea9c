//! `pullpass purge`: takes away what pullpass wrote.

use std::process::ExitCode;

use serde_json::json;

use super::Output;
use super::cluster_args::ClusterArgs;
use crate::cluster::{Kube, OwnedSecret, connect};
use crate::quantity::count;

/// Remove the Secrets that pullpass wrote, for good: after it was uninstalled.
///
/// These are the Secrets named pullpass, or pullpass- and something, that carry the label app.kubernetes.io/managed-by=pullpass: the
/// namespaces' pull secrets and exports, and in pullpass' own namespace the minted credentials, the lists of nodes and the certificates. Source Secrets stay, pullpass did not make them. Pods that
/// run are not touched; one that pulls its image again needs another way to do so. On a terminal it asks first, elsewhere it wants --yes. The
/// exit code is 1 when something could not be removed, and 2 when nothing was tried.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  pullpass purge --dry-run
  pullpass purge --context production --yes")]
pub(super) struct Args {
    #[command(flatten)]
    cluster: ClusterArgs,
    /// Only say what would be removed.
    #[arg(long)]
    dry_run: bool,
    /// Do not ask whether to remove them.
    #[arg(short, long)]
    yes: bool,
    /// How to print it, a line or document for each.
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    super::block_on(purge(args))
}

async fn purge(args: &Args) -> anyhow::Result<ExitCode> {
    let kube = connect(&args.cluster.connection()).await?;
    if !args.dry_run && !kube.fetch_webhooks().await?.is_empty() {
        anyhow::bail!("pullpass is still installed and would write them again: uninstall it first");
    }
    let written = kube.fetch_owned(None).await?;
    if !args.dry_run && !args.yes && !written.is_empty() && !is_confirmed(written.len())? {
        anyhow::bail!("nothing was removed");
    }
    let columns = Columns::of(&written);
    if args.output == Output::Wide {
        super::print(&columns.line("NAMESPACE", "NAME", "HOLDS", "OUTCOME"))?;
    }
    let mut failed = 0;
    for secret in &written {
        let outcome = if args.dry_run {
            "would be removed".to_owned()
        } else {
            remove(&kube, secret, &mut failed).await
        };
        print_line(args.output, &columns, secret, &outcome)?;
    }
    if args.output.is_text() {
        let done = if args.dry_run {
            "nothing was removed (--dry-run)".to_owned()
        } else {
            format!("{} removed, {failed} not", written.len() - failed)
        };
        super::print(&format!("{}: {done}\n", count(written.len(), "Secret")))?;
    }
    Ok(if failed == 0 {
        ExitCode::SUCCESS
    } else {
        super::FAILED
    })
}

/// Asks on the terminal.
///
/// # Errors
/// There is no terminal to ask on.
fn is_confirmed(secrets: usize) -> anyhow::Result<bool> {
    use std::io::IsTerminal as _;
    anyhow::ensure!(
        std::io::stdin().is_terminal() && std::io::stderr().is_terminal(),
        "{} would be removed and nobody can be asked: show what with --dry-run, remove it with --yes",
        count(secrets, "Secret")
    );
    let secrets = count(secrets, "Secret");
    eprint!("Remove {secrets} that pullpass wrote? [y/N] ");
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

async fn remove(kube: &Kube, secret: &OwnedSecret, failed: &mut usize) -> String {
    match kube.delete_owned(secret).await {
        Ok(true) => "removed".to_owned(),
        Ok(false) => "was gone already".to_owned(),
        Err(error) => {
            *failed += 1;
            format!("stays: {error}")
        }
    }
}

/// One line per Secret, also as JSON: a large cluster has thousands.
fn print_line(
    output: Output,
    columns: &Columns,
    secret: &OwnedSecret,
    outcome: &str,
) -> anyhow::Result<()> {
    let OwnedSecret {
        namespace,
        name,
        holds,
        ..
    } = secret;
    let line = json!({"namespace": namespace, "name": name, "outcome": outcome});
    super::print(&match output {
        Output::Text => format!("{namespace}/{name}: {outcome}\n"),
        Output::Wide => columns.line(namespace, name, holds, outcome),
        Output::Json => format!("{line}\n"),
        Output::Yaml => format!("---\n{}", serde_saphyr::to_string(&line)?),
    })
}

/// How wide the columns of all lines are: they are printed one by one.
struct Columns {
    namespace: usize,
    name: usize,
}

impl Columns {
    fn of(written: &[OwnedSecret]) -> Self {
        let widest = |heading: &str, cells: &mut dyn Iterator<Item = usize>| {
            cells.max().unwrap_or_default().max(heading.len())
        };
        Self {
            namespace: widest(
                "NAMESPACE",
                &mut written.iter().map(|one| one.namespace.len()),
            ),
            name: widest("NAME", &mut written.iter().map(|one| one.name.len())),
        }
    }

    fn line(&self, namespace: &str, name: &str, holds: &str, outcome: &str) -> String {
        let (one, two) = (self.namespace, self.name);
        format!("{namespace:<one$}   {name:<two$}   {holds:<17}   {outcome}\n")
    }
}
