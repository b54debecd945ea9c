//! The steps of a node: its kubelet runs pullpass, for the images that it should, with tokens that it may have.

mod below;
mod document;
mod duration;
mod fields;
mod files;
mod finding;
mod judge;
mod provider;
mod rights;
mod run;
mod token;

use std::io;
use std::path::Path;

use super::report::{CheckReport, Fix, StepResult, SubjectKind};
use super::{Args, advice, context, ids};
use crate::broker::protocol::AUDIENCE;
use crate::cluster::Kube;
use crate::command::credential_provider::config::AUDIENCE_VERB;
use crate::command::manifest::{Manifests, YamlDocument};
use crate::provision::ports::ClusterError;
use crate::registry::Registries;
use crate::registry::match_images::is_asked_for;
use files::NodeFiles;
use finding::NodeFinding;
use judge::Providers;
use provider::NodeProvider;
use rights::FileRights;

/// The steps of a node, in order.
const STEPS: [&str; 4] = ["config", "programs", "pullpass", "images"];

/// Checks the files of a node, which are below `root`.
pub(super) async fn check(
    args: &Args,
    root: &Path,
    report: &mut CheckReport,
) -> anyhow::Result<()> {
    match root.metadata() {
        Ok(found) if found.is_dir() => {}
        found => {
            let problem =
                found.map_or_else(|error| error.to_string(), |_| "it is no folder".to_owned());
            anyhow::bail!(
                "--node {}: {problem}: name the node's root, or a folder with a copy of its files",
                root.display()
            );
        }
    }
    let of_files = Manifests::load(&args.files)?.registries;
    let mut registries = (!args.files.is_empty()).then_some(of_files);
    let kube = args
        .cluster
        .open(args.own_namespace.as_ref(), &args.exclude)
        .await?;
    if let (Some(kube), None) = (&kube, &registries) {
        report.begin(SubjectKind::Cluster, kube.namespace());
        registries = context::load_registries(kube, args, report).await?;
    }
    let registries = registries.map(Registries::build);
    report.begin(SubjectKind::Node, &root.display().to_string());
    let files = NodeFiles::load(
        root,
        args.node_config.as_deref(),
        args.node_bin_dir.as_deref(),
    );
    check_files(&files, registries.as_ref(), report)?;
    if let Some(kube) = &kube {
        report.start();
        let result = check_right(kube, args).await;
        report.add("right", result)?;
    }
    Ok(())
}

/// The steps that the files alone answer; no Registries: none are known.
fn check_files(
    files: &NodeFiles,
    registries: Option<&Registries>,
    report: &mut CheckReport,
) -> anyhow::Result<()> {
    let (mut documents, mut found) = (Vec::new(), Vec::new());
    load_documents(files, &mut documents, &mut found);
    if documents.is_empty() {
        add(report, STEPS[0], found, "")?;
        return report.skip(&STEPS[1..], "there is no configuration");
    }
    let providers = read_providers(&documents, &mut found);
    let is_unread = |finding: &NodeFinding| {
        matches!(
            finding.id,
            ids::NODE_CONFIG_UNREADABLE | ids::NODE_FILE_UNREADABLE
        )
    };
    let is_known = !found.iter().any(is_unread);
    found.extend(files.rights.iter().filter_map(FileRights::judge));
    let message = format!("{} can be read by the kubelet", files.config.display());
    add(report, STEPS[0], found, &message)?;
    if !is_known {
        return report.skip(&STEPS[1..], "not all of the configuration can be read");
    }
    let all = Providers {
        documents: &documents,
        providers: &providers,
    };
    let folder = files.bin_dir.display().to_string();
    let found = all.judge_programs(&files.programs, &folder);
    let message = format!("{folder} has a program for each provider");
    add(report, STEPS[1], found, &message)?;
    check_ours(&all, files, registries, report)
}

/// The steps of the providers that run pullpass.
fn check_ours(
    all: &Providers<'_>,
    files: &NodeFiles,
    registries: Option<&Registries>,
    report: &mut CheckReport,
) -> anyhow::Result<()> {
    const NONE_ASKS: &str = "no Registry has delivery Node or Both";
    let asks = registries.map(|registries| registries.iter().any(is_asked_for));
    if all.ours().next().is_none() {
        if asks == Some(false) {
            let message = format!("no provider runs pullpass; {NONE_ASKS}, so that none has to");
            report.note(STEPS[2], StepResult::skipped(message))?;
            return report.skip(&STEPS[3..], NONE_ASKS);
        }
        add(report, STEPS[2], vec![all.no_ours()], "")?;
        return report.skip(&STEPS[3..], "no provider runs pullpass");
    }
    let ours = all.judge_ours(|path| files.load_file(path));
    let message = "it is run with a token and arguments that it takes";
    add(report, STEPS[2], ours, message)?;
    let Some(registries) = registries else {
        return report.skip(
            &STEPS[3..],
            "no Registry was given: name their files with -f, or a cluster",
        );
    };
    if asks == Some(false) {
        return report.skip(&STEPS[3..], NONE_ASKS);
    }
    let message =
        "the kubelet asks pullpass for all images of Registries with delivery Node or Both";
    add(report, STEPS[3], all.judge_images(registries), message)
}

/// The providers of all files.
fn read_providers(documents: &[YamlDocument], found: &mut Vec<NodeFinding>) -> Vec<NodeProvider> {
    let documents_read = documents.iter().enumerate();
    let providers: Vec<_> = documents_read
        .flat_map(|(file, document)| provider::read(file, document, found))
        .collect();
    if providers.is_empty() && found.iter().all(|finding| finding.is_warning) {
        found.push(NodeFinding {
            id: ids::NODE_FIELD_MISSING,
            is_warning: false,
            place: documents[0].file.clone(),
            field: "providers".to_owned(),
            message: "is missing: the kubelet ends at its start without one".to_owned(),
            fix: "`pullpass credential-provider config` prints it".into(),
        });
    }
    providers
}

/// The files of the configuration, as far as they can be read.
fn load_documents(
    files: &NodeFiles,
    documents: &mut Vec<YamlDocument>,
    found: &mut Vec<NodeFinding>,
) {
    let missing = |message: &str| {
        let fix = "`pullpass credential-provider config --platform` prints what puts it there; --node-config names another place";
        let place = files.config.display().to_string();
        NodeFinding::of_file(ids::NODE_CONFIG_MISSING, place, message, fix)
    };
    let configs = match &files.configs {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let message = "there is no such file or folder below the one that --node names";
            return found.push(missing(message));
        }
        Err(error) => {
            let place = files.config.display().to_string();
            return found.push(NodeFinding::unreadable(&place, error));
        }
        Ok(configs) if configs.is_empty() => {
            let message =
                "holds no .yaml, .yml or .json: the kubelet ends at its start without one";
            return found.push(missing(message));
        }
        Ok(configs) => configs,
    };
    for (path, text) in configs {
        let file = path.display().to_string();
        match text {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                found.push(NodeFinding::unreadable(&file, error));
            }
            Err(error) => {
                let fix =
                    "remove it, or put the file there: the kubelet ends at its start with this";
                let id = ids::NODE_CONFIG_UNREADABLE;
                found.push(NodeFinding::of_file(id, file, error.to_string(), fix));
            }
            Ok(text) => {
                let (text, ignored) = document::first(text);
                found.extend(ignored.map(|line| document::ignored(&file, line)));
                documents.push(YamlDocument {
                    file,
                    text: text.to_owned(),
                });
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
