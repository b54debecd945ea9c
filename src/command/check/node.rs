//! The steps of a node: its kubelet runs pullpass, for the images that it should, with tokens that it may have.

mod files;
mod finding;
mod judge;
mod provider;

use std::path::Path;

use super::report::{CheckReport, Fix, StepResult, SubjectKind};
use super::{Args, advice, context, ids};
use crate::broker::protocol::AUDIENCE;
use crate::cluster::Kube;
use crate::command::credential_provider::config::AUDIENCE_VERB;
use crate::command::manifest::{Manifests, YamlDocument};
use crate::provision::ports::ClusterError;
use crate::registry::Registries;
use files::NodeFiles;
use finding::NodeFinding;
use judge::Providers;

/// The steps of a node, in order.
const STEPS: [&str; 4] = ["config", "programs", "pullpass", "images"];

/// Checks the files of a node, which are below `root`.
pub(super) async fn check(
    args: &Args,
    root: &Path,
    report: &mut CheckReport,
) -> anyhow::Result<()> {
    let mut registries = Manifests::load(&args.files)?.registries;
    let kube = args
        .cluster
        .open(args.own_namespace.as_ref(), &args.exclude)
        .await?;
    if let (Some(kube), true) = (&kube, args.files.is_empty()) {
        report.begin(SubjectKind::Cluster, kube.namespace());
        let listed = context::load_registries(kube, args, report).await?;
        registries = listed.unwrap_or_default();
    }
    let registries = Registries::build(registries);
    report.begin(SubjectKind::Node, &root.display().to_string());
    let files = NodeFiles::load(
        root,
        args.node_config.as_deref(),
        args.node_bin_dir.as_deref(),
    );
    check_files(&files, &registries, report)?;
    if let Some(kube) = &kube {
        report.start();
        let result = check_right(kube, args).await;
        report.add("right", result)?;
    }
    Ok(())
}

/// The steps that the files alone answer.
fn check_files(
    files: &NodeFiles,
    registries: &Registries,
    report: &mut CheckReport,
) -> anyhow::Result<()> {
    let (mut documents, mut found) = (Vec::new(), Vec::new());
    load_documents(files, &mut documents, &mut found);
    if documents.is_empty() {
        add(report, STEPS[0], found, "")?;
        return report.skip(&STEPS[1..], "there is no configuration");
    }
    let documents_read = documents.iter().enumerate();
    let providers = documents_read.flat_map(|(file, document)| {
        let mut of_file = Vec::new();
        let providers = provider::read(file, document, &mut of_file);
        found.append(&mut of_file);
        providers
    });
    let providers: Vec<_> = providers.collect();
    let message = format!("{} can be read by the kubelet", files.config.display());
    let is_known = found
        .iter()
        .all(|finding| finding.id != ids::NODE_CONFIG_UNREADABLE);
    add(report, STEPS[0], found, &message)?;
    if !is_known {
        return report.skip(&STEPS[1..], "not all of the configuration can be read");
    }

    let all = Providers {
        documents: &documents,
        providers: &providers,
    };
    let folder = files.bin_dir.display().to_string();
    let message = format!("{folder} has a program for each provider");
    add(
        report,
        STEPS[1],
        all.judge_programs(&files.programs, &folder),
        &message,
    )?;
    let ours = all.judge_ours(|path| files.load_file(path));
    add(
        report,
        STEPS[2],
        ours,
        "it is run with a token and arguments that it takes",
    )?;
    let message =
        "the kubelet asks pullpass for all images of Registries with delivery Node or Both";
    add(report, STEPS[3], all.judge_images(registries), message)
}

/// The files of the configuration, as far as they can be read.
fn load_documents(
    files: &NodeFiles,
    documents: &mut Vec<YamlDocument>,
    found: &mut Vec<NodeFinding>,
) {
    let missing = |id, place: &Path, message: String| {
        NodeFinding {
        id,
        is_warning: false,
        place: place.display().to_string(),
        field: String::new(),
        message,
        fix: "`pullpass credential-provider config --platform` prints what puts it there; --node-config names another place".into(),
    }
    };
    match &files.configs {
        Err(error) => {
            found.push(missing(
                ids::NODE_CONFIG_MISSING,
                &files.config,
                error.to_string(),
            ));
        }
        Ok(configs) if configs.is_empty() => {
            let message =
                "holds no .yaml, .yml or .json: the kubelet ends at its start without one";
            found.push(missing(
                ids::NODE_CONFIG_MISSING,
                &files.config,
                message.to_owned(),
            ));
        }
        Ok(configs) => {
            for (path, text) in configs {
                match text {
                    Err(error) => {
                        found.push(missing(
                            ids::NODE_CONFIG_UNREADABLE,
                            path,
                            error.to_string(),
                        ));
                    }
                    Ok(text) => documents.push(YamlDocument {
                        file: path.display().to_string(),
                        text: text.clone(),
                    }),
                }
            }
        }
    }
}

/// What a step found; `message` where all is well.
fn add(
    report: &mut CheckReport,
    step: &'static str,
    found: Vec<NodeFinding>,
    message: &str,
) -> anyhow::Result<()> {
    if found.is_empty() {
        return report.note(step, StepResult::ok(message));
    }
    found
        .into_iter()
        .try_for_each(|finding| report.note(step, finding.report()))
}

/// Whether nodes may ask for tokens of our audience.
async fn check_right(kube: &Kube, args: &Args) -> StepResult {
    match kube.may_nodes(AUDIENCE_VERB, AUDIENCE).await {
        Ok(true) => StepResult::ok(format!("nodes may ask for tokens for {AUDIENCE}")),
        Ok(false) => StepResult::failed(
            format!(
                "nodes may not ask for tokens for {AUDIENCE}: where the API server runs NodeRestriction, the kubelet gets none and logs \"failed to get service account token\""
            ),
            Fix::run(
                "give them the right",
                format!(
                    "pullpass credential-provider config --rbac | kubectl apply -f -{}",
                    args.cluster.for_kubectl()
                ),
            ),
        )
        .id(ids::NODE_AUDIENCE_FORBIDDEN),
        Err(ClusterError::Forbidden { message, .. }) => {
            StepResult::hidden(format!("this account may not ask: {message}"))
        }
        Err(error) => advice::of_cluster(&error),
    }
}
