//! The report for people.

use super::report::{ExplainedImage, PodGets, ProviderInfo};
use super::{DEFAULT_SERVICE_ACCOUNT, ExplainContext};
use crate::command::table;
use crate::provision::InjectMode;
use crate::provision::namespace::{INJECT_LABEL, describe_unknown_inject};

/// All rows, and what is to be known of all of them.
pub(super) fn render(context: &ExplainContext, rows: &[ExplainedImage]) -> String {
    let mut lines = Vec::new();
    for row in rows {
        render_row(context, row, &mut lines);
        lines.push(String::new());
    }
    lines.extend(notes(context, rows));
    while lines.last().is_some_and(String::is_empty) {
        lines.pop();
    }
    lines.join("\n") + "\n"
}

fn render_row(context: &ExplainContext, row: &ExplainedImage, lines: &mut Vec<String>) {
    let place = row
        .details
        .place
        .as_ref()
        .map_or_else(String::new, |place| format!("  ({place})"));
    lines.push(format!("{}{place}", row.image));
    if let Some(error) = &row.error {
        lines.push(format!("  unreadable  {error}"));
        return;
    }
    let parts = [
        ("host", &row.host),
        ("port", &row.port),
        ("path", &row.path),
        ("tag", &row.tag),
        ("digest", &row.digest),
    ];
    let parts = parts
        .iter()
        .filter_map(|(name, part)| part.as_ref().map(|part| format!("{name} {part}")));
    lines.push(format!(
        "  read as     {}",
        parts.collect::<Vec<_>>().join(", ")
    ));
    lines.push(format!(
        "  host        {}",
        row.provider
            .as_ref()
            .map_or_else(|| "no cloud's own registry".to_owned(), host)
    ));
    lines.push(format!("  verdict     {}", row.reason));
    render_others(row, lines);
    let gets = match &row.details.gets {
        Some(_) if context.pod_opts_out() => "nothing: its label opts out".to_owned(),
        Some(_) if context.excluded => "nothing: its namespace is excluded".to_owned(),
        Some(gets) => format!("{}{}", describe(gets), find_condition(context)),
        None => "nothing".to_owned(),
    };
    lines.push(format!("  Pod gets    {gets}"));
    for option in &row.builders {
        lines.push(format!("  builders    {}", option.describe()));
    }
    for export in &row.exports {
        lines.push(format!("  exports     {}", export.describe()));
    }
    if let Some(clients) = &row.clients {
        lines.push(format!("  clients     {clients}"));
    }
}

/// What is still to be done so that Pods get it; empty where nothing is known to be.
fn find_condition(context: &ExplainContext) -> &'static str {
    let mode = context.namespace.as_ref().map(InjectMode::find);
    match mode {
        Some(InjectMode::Off) => ", once its namespace opted in",
        Some(InjectMode::Unknown) => ", once the label of its namespace is corrected",
        Some(InjectMode::Enabled | InjectMode::All) | None => "",
    }
}

fn render_others(row: &ExplainedImage, lines: &mut Vec<String>) {
    let mut others: Vec<String> = row
        .details
        .others
        .iter()
        .map(|(name, why)| format!("{name}: {why}"))
        .collect();
    if row.details.without_pattern > 0 && row.registry.is_some() {
        others.push(format!(
            "{} more: no pattern covers the image",
            row.details.without_pattern
        ));
    }
    for (index, other) in others.iter().enumerate() {
        let title = if index == 0 { "not by" } else { "" };
        lines.push(format!("  {title:<11} {other}"));
    }
}

fn describe(gets: &PodGets) -> String {
    let key = &gets.key;
    let secret = gets.secret.as_ref();
    let secret = secret.map(|secret| format!("the pull secret {secret} (key {key})"));
    let by_node = "a login that its node's kubelet asks pullpass for (where its credential provider runs, docs/DELIVERY.md)";
    let by_node = gets.by_node.then(|| by_node.to_owned());
    let labels = gets
        .pod_metadata
        .labels
        .iter()
        .map(|(key, value)| format!("the label {key}={value}"));
    let annotations = gets
        .pod_metadata
        .annotations
        .iter()
        .map(|(key, value)| format!("the annotation {key}={value}"));
    secret
        .into_iter()
        .chain(by_node)
        .chain(labels)
        .chain(annotations)
        .collect::<Vec<_>>()
        .join(", ")
}

fn host(provider: &ProviderInfo) -> String {
    let name = match (provider.kind, provider.public) {
        ("ecr", true) => "Amazon ECR Public",
        ("ecr", false) => "Amazon ECR",
        _ => "Azure Container Registry",
    };
    let parts = [
        ("account", provider.account.as_deref()),
        ("region", provider.region.as_deref()),
        ("partition", provider.partition),
        ("login server", provider.server.as_deref()),
    ];
    let parts = parts
        .iter()
        .filter_map(|(name, part)| part.map(|part| format!("{name} {part}")));
    let flags = [("FIPS", provider.fips), ("dual-stack", provider.dual_stack)];
    let flags = flags
        .iter()
        .filter(|(_, is_set)| *is_set)
        .map(|(name, _)| (*name).to_owned());
    std::iter::once(name.to_owned())
        .chain(parts)
        .chain(flags)
        .collect::<Vec<_>>()
        .join(", ")
}

/// What holds for all images: whose Pod it is, whether its namespace opted in, who holds what is injected.
fn notes(context: &ExplainContext, rows: &[ExplainedImage]) -> Vec<String> {
    let mut notes = Vec::new();
    if let Some(namespace) = &context.namespace_name {
        let account = context
            .pod
            .service_account
            .as_deref()
            .unwrap_or(DEFAULT_SERVICE_ACCOUNT);
        notes.push(format!(
            "Pod of ServiceAccount {account} in namespace {namespace}."
        ));
    }
    if rows.iter().all(|row| row.registry.is_none()) {
        return notes;
    }
    notes.extend(opt_in_note(context));
    notes.extend(pod_label_note(context));
    let mut injecting: Vec<&str> = rows
        .iter()
        .filter(|row| {
            row.details
                .gets
                .as_ref()
                .is_some_and(|gets| !gets.pod_metadata.is_empty())
        })
        .filter_map(|row| row.registry.as_deref())
        .collect();
    injecting.sort_unstable();
    injecting.dedup();
    for name in injecting {
        notes.push(format!(
            "Anyone who may create Pods in a namespace that {name} serves gets what it injects."
        ));
    }
    notes
}

/// Whether the namespace opted in, where it did not, or that is not known.
fn opt_in_note(context: &ExplainContext) -> Option<String> {
    if context.excluded {
        return Some(format!(
            "The namespace is excluded: Pods get nothing there, also where it has the label {INJECT_LABEL}."
        ));
    }
    let Some(labels) = &context.namespace else {
        return Some(match &context.namespace_name {
            Some(name) => format!(
                "Whether namespace {name} opted in, and which Registries serve it, is not known: give its labels with --namespace-labels, in a file with -f, or a cluster with --kubeconfig."
            ),
            None => "Namespaces were left out of account: say which one with --namespace or --namespace-labels."
                .to_owned(),
        });
    };
    match InjectMode::find(labels) {
        InjectMode::Enabled | InjectMode::All => None,
        InjectMode::Off => Some(format!(
            "The namespace has not opted in: Pods get nothing until it has the label {INJECT_LABEL}=enabled."
        )),
        InjectMode::Unknown => {
            let value = labels.get(INJECT_LABEL).map_or("", String::as_str);
            let name = context.namespace_name.as_deref().unwrap_or("NAMESPACE");
            let unknown = describe_unknown_inject(name, value);
            Some(format!("Pods get nothing, since {unknown}."))
        }
    }
}

/// What a Pod's own label says, where that means nothing.
fn pod_label_note(context: &ExplainContext) -> Option<String> {
    let value = context.pod.labels.get(INJECT_LABEL)?;
    (value != "disabled").then(|| {
        format!(
            "The Pod's label {INJECT_LABEL}={value} means nothing: only disabled does, which opts it out."
        )
    })
}

/// A line for each image, with the columns that people compare.
pub(super) fn render_wide(context: &ExplainContext, rows: &[ExplainedImage]) -> String {
    let mut lines =
        vec![["IMAGE", "REGISTRY", "SECRET", "KEY", "PROVIDER", "REASON"].map(str::to_owned)];
    lines.extend(rows.iter().map(|row| {
        let gets = row.details.gets.as_ref();
        let cell = |text: Option<&str>| text.unwrap_or("-").to_owned();
        [
            row.image.clone(),
            cell(row.registry.as_deref()),
            cell(row.secret.as_deref()),
            cell(
                gets.filter(|gets| gets.secret.is_some())
                    .map(|gets| gets.key.as_str()),
            ),
            cell(row.provider.as_ref().map(|provider| provider.kind)),
            row.error.clone().unwrap_or_else(|| row.reason.clone()),
        ]
    }));
    let mut text = table(&lines);
    let notes = notes(context, rows);
    if !notes.is_empty() {
        text = format!("{text}\n{}\n", notes.join("\n"));
    }
    text
}
