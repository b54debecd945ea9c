//! What the benchmarks compare: generated reviews, and two other webhooks that give the same answer.

pub(crate) mod floor;
pub(crate) mod reviews;
pub(crate) mod typed;

use anyhow::Context as _;
use pullpass::registry::{Labels, Registries};

/// The Registry of the runs: one ECR registry, for every namespace that opted in.
pub(crate) const REGISTRY: &str = "
apiVersion: pullpass.dev/v1alpha1
kind: Registry
metadata: {name: platform}
spec:
  images: [123456789012.dkr.ecr.eu-west-1.amazonaws.com]
  namespaceSelector: {}
  ecr: {identity: {workload: {}}}
";

/// The labels of the namespace that the reviewed Pods are in.
pub(crate) fn namespace_labels() -> Labels {
    Labels::from([("pullpass.dev/inject".to_owned(), "enabled".to_owned())])
}

/// The Registry of the runs, ready for use.
pub(crate) fn registries() -> anyhow::Result<Registries> {
    let registry = serde_saphyr::from_str(REGISTRY).context("the benchmark's Registry")?;
    let registries = Registries::build([registry]);
    anyhow::ensure!(
        registries.problems().is_empty(),
        "{:?}",
        registries.problems()
    );
    Ok(registries)
}
