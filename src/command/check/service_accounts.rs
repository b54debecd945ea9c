//! A step of a namespace: which of its ServiceAccounts list the pull secrets that their Pods get.
//!
//! What pulls without a Pod reads them there (docs/CONSUMERS.md). pullpass writes no ServiceAccount.

use std::collections::BTreeSet;

use super::context::CheckContext;
use super::report::{CheckReport, StepResult};
use super::{advice, ids};
use crate::cluster::{Kube, ListedSecrets};
use crate::provision::ports::ClusterError;
use crate::provision::{InjectMode, Namespace};
use crate::quantity::verb_of;
use crate::registry::{Labels, Registries};

/// How many ServiceAccounts a message names.
const MAX_NAMED: usize = 5;

/// Says which ServiceAccounts of a namespace lack a pull secret.
pub(super) async fn check(
    context: &CheckContext<'_>,
    kube: &Kube,
    namespace: &Namespace,
    report: &mut CheckReport,
) -> anyhow::Result<()> {
    report.start();
    let result = match kube.fetch_service_accounts(&namespace.name).await {
        Ok((accounts, is_more)) => {
            let result = compare(&context.registries, namespace, &accounts);
            if is_more {
                result.about("of the first of them")
            } else {
                result
            }
        }
        Err(ClusterError::Forbidden { .. }) => {
            StepResult::hidden("this account may not list ServiceAccounts here")
        }
        Err(error) => advice::of_cluster(&error),
    };
    report.add("accounts", result)
}

fn compare(
    registries: &Registries,
    namespace: &Namespace,
    accounts: &[ListedSecrets],
) -> StepResult {
    let mut lacking: Vec<&str> = Vec::new();
    let mut missing: BTreeSet<String> = BTreeSet::new();
    for account in accounts {
        let needed = needed_by(registries, &namespace.labels, &account.name);
        let listed = |secret: &String| account.pull_secrets.contains(secret);
        let unlisted: Vec<String> = needed.into_iter().filter(|one| !listed(one)).collect();
        if !unlisted.is_empty() {
            lacking.push(&account.name);
            missing.extend(unlisted);
        }
    }
    if lacking.is_empty() {
        return StepResult::ok("they list the pull secrets that their Pods get");
    }
    let named: Vec<&str> = lacking.iter().take(MAX_NAMED).copied().collect();
    let more = match lacking.len() - named.len() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let missing: Vec<String> = missing.into_iter().collect();
    let before = match namespace.mode {
        InjectMode::All => "",
        _ => ", where pullpass.dev/inject=all keeps it before there is a Pod",
    };
    let listed: Vec<String> = missing
        .iter()
        .map(|one| format!("{{name: {one}}}"))
        .collect();
    StepResult::info(format!(
        "{} of {} {} no {} in imagePullSecrets: {}{more}. Pods do without; only what reads them there, as Knative and Tekton do, needs imagePullSecrets: [{}] in the ServiceAccount's own manifest{before} (docs/CONSUMERS.md)",
        lacking.len(),
        accounts.len(),
        verb_of(lacking.len(), "lists", "list"),
        missing.join(" or "),
        named.join(", "),
        listed.join(", "),
    ))
    .id(ids::SERVICE_ACCOUNTS_UNLISTED)
}

/// The pull secrets of a ServiceAccount's Pods, whatever their labels are.
fn needed_by(registries: &Registries, namespace: &Labels, account: &str) -> BTreeSet<String> {
    let is_for =
        |accounts: &[String]| accounts.is_empty() || accounts.iter().any(|one| one == account);
    let serving = registries.serving(namespace).into_iter();
    let serving = serving.filter(|registry| {
        registry.access.is_pull() && registry.pods.is_none() && is_for(&registry.service_accounts)
    });
    serving
        .filter_map(|registry| registry.secret.as_ref())
        .map(ToString::to_string)
        .collect()
}
