//! `pullpass crd`: the definition of the Registry kind.

use std::process::ExitCode;

use crate::registry::crd;

/// Print the definition of the Registry kind as YAML.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  pullpass crd | kubectl apply --server-side -f -")]
pub(super) struct Args {}

pub(super) fn run(_args: &Args) -> anyhow::Result<ExitCode> {
    super::print(&render()?)?;
    Ok(ExitCode::SUCCESS)
}

/// The definition, as in `manifests/crd.yaml`.
fn render() -> anyhow::Result<String> {
    let definition = serde_json::to_value(crd::definition())?;
    Ok(serde_saphyr::to_string(&definition)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_manifest_as_generated() {
        let manifest = include_str!("../../manifests/crd.yaml");
        assert!(
            manifest == render().unwrap(),
            "manifests/crd.yaml is stale: run `cargo run -- crd > manifests/crd.yaml`"
        );
    }
}
