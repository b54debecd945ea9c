//! Policies that resources have: of one repository each, and of a registry.

use std::collections::{BTreeMap, BTreeSet};

use super::super::ecr_images::{EcrImage, Repository};
use super::super::iam::{Policy, Statement};
use super::super::step::{Step, StepKind};
use super::AccessPlan;
use crate::registry::Pattern;

/// The file that the commands read a document from.
const FILE: &str = "file://policy.json";

/// The policies that repositories need: those of other accounts always, as an identity policy is enough only within one account; those of
/// the principal's own account where they alone are to allow it. A policy is one repository's: none is on a wildcard.
///
/// <https://docs.aws.amazon.com/AmazonECR/latest/userguide/repository-policies.html>
pub(super) fn plan_repositories(plan: &AccessPlan<'_>) -> Vec<Step> {
    let known = &plan.place.args.repositories;
    let mut open: BTreeMap<Repository, Option<String>> = BTreeMap::new();
    let needs_policy = |image: &&EcrImage<'_>| {
        let actions = plan.allowed.of_repository(image.source.public);
        !actions.is_empty() && (plan.is_foreign(image) || plan.place.args.resource_based)
    };
    for image in plan.images.iter().filter(needs_policy) {
        let below = image.is_open(known).then(|| describe_open(image));
        for repository in image.name(plan.partition, known) {
            if plan.has_caches() {
                let cache = image.cache_of(&repository);
                open.extend(cache.map(|cache| (cache, None)));
            }
            open.insert(repository, below.clone());
        }
    }
    let steps = open.into_iter();
    steps
        .map(|(repository, below)| policy_of(plan, &repository, below))
        .collect()
}

/// The policy of one repository; `below` says which others a pattern covers.
fn policy_of(plan: &AccessPlan<'_>, repository: &Repository, below: Option<String>) -> Step {
    let is_foreign = plan.principal.account.as_deref() != Some(repository.account.as_str());
    let sid = match (is_foreign, plan.allowed.pushes()) {
        (true, false) => "PullFromOtherAccount",
        (true, true) => "PushFromOtherAccount",
        (false, false) => "Pull",
        (false, true) => "Push",
    };
    let actions = plan.allowed.of_repository(repository.is_public());
    let statement = Statement::allow(sid, &actions).by("AWS", &plan.principal.arn);
    let title = format!(
        "repository {} of account {} lets {} {}",
        repository.name,
        repository.account,
        plan.principal.title,
        plan.allowed.verb()
    );
    let mut step = Step::policy(
        StepKind::RepositoryPolicy,
        title,
        [repository.arn()],
        Policy::of([statement]),
    )
    .command(set_policy(repository));
    step = step.note(match plan.principal.account {
        Some(_) if repository.has_account() => "add the statement to the policy that the repository has: setting one replaces it",
        _ => "only where the repository is of another account than the principal; add the statement to the policy that it has: setting one replaces it",
    });
    match below {
        Some(below) => step.note(below),
        None => step,
    }
}

/// <https://docs.aws.amazon.com/cli/latest/reference/ecr/set-repository-policy.html>,
/// <https://docs.aws.amazon.com/cli/latest/reference/ecr-public/set-repository-policy.html>
fn set_policy(repository: &Repository) -> String {
    let Repository {
        region,
        account,
        name,
        ..
    } = repository;
    let (service, region) = match region {
        Some(region) => ("ecr", region.as_str()),
        None => ("ecr-public", "us-east-1"),
    };
    format!(
        "aws {service} set-repository-policy --region {region} --registry-id {account} --repository-name {name} --policy-text {FILE}"
    )
}

/// What a pattern covers besides the repository that it names.
fn describe_open(image: &EcrImage<'_>) -> String {
    let pattern = image.pattern;
    let covered = if pattern.path().is_empty() {
        "all repositories there"
    } else {
        "what is below it, too"
    };
    let mut text = format!(
        "{pattern} covers {covered}, and each repository has a policy of its own: name those that are there with --repository HOST/PATH"
    );
    if !image.exclusions.is_empty() {
        let excluded: Vec<&str> = image.exclusions.iter().map(Pattern::as_str).collect();
        text = format!("{text}; give none to {}", excluded.join(", "));
    }
    text
}

/// What registries of other accounts need where repositories are made by the principal: a repository that is not there has no policy.
///
/// <https://docs.aws.amazon.com/AmazonECR/latest/userguide/registry-permissions.html>
pub(super) fn plan_registries(plan: &AccessPlan<'_>) -> Vec<Step> {
    let actions = plan.allowed.on_registry();
    let mut registries: BTreeMap<(String, &str), BTreeSet<String>> = BTreeMap::new();
    let foreign = plan
        .images
        .iter()
        .filter(|image| !actions.is_empty() && !image.source.public && plan.is_foreign(image));
    for image in foreign {
        let account = image.account().unwrap_or("<REGISTRY_ACCOUNT_ID>");
        let registry = (account.to_owned(), image.source.region.as_str());
        let covered = registries.entry(registry).or_default();
        covered.extend(image.repositories(plan.partition));
    }
    let steps = registries.into_iter();
    steps
        .map(|((account, region), covered)| {
            let statements = actions.iter().map(|(sid, actions)| {
                Statement::allow(sid, actions)
                    .by("AWS", &plan.principal.arn)
                    .on(&covered)
            });
            let title = format!(
                "registry {account} in {region} lets {} make repositories",
                plan.principal.title
            );
            let registry = format!("registry {account} in {region}");
            let policy = Policy::of(statements);
            let step = Step::policy(StepKind::RegistryPolicy, title, [registry], policy)
                .command(format!(
                    "aws ecr put-registry-policy --region {region} --policy-text {FILE}"
                ))
                .note("as that account; add the statements to the policy that the registry has: putting one replaces it");
            let step = step.note("a repository that is made has no policy yet: a repository creation template of that registry can give it the one that it needs");
            match plan.principal.account {
                Some(_) => step,
                None => step.note("only where the registry is of another account than the principal"),
            }
        })
        .collect()
}
