//! `pullpass policy`: what to set up in the cloud.

mod aws;
mod azure;
mod ecr_images;
mod iam;
mod principal;
mod step;
mod text;

use std::path::PathBuf;
use std::process::ExitCode;

use serde::Serialize;

use super::Output;
use super::manifest::Manifests;
use crate::names::{NamespaceName, ObjectName};
use crate::registry::source::MintSource;
use crate::registry::{Access, CredentialSource, Labels, Pattern, Registries, ValidRegistry};
use step::Step;

/// Print what to set up in the cloud for each Registry.
///
/// It needs neither a cluster nor a cloud: Registries come from files. What it cannot know is printed as a placeholder such as
/// <ACCOUNT_ID>, with what to put there. Nothing that is printed allows more than pulling the images that the Registry names, or with
/// access: Push pulling and pushing them. Flags add what else you need.
#[derive(Debug, clap::Args)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "flags of the command line, each of which stands for itself"
)]
#[command(after_help = "Examples:
  pullpass policy -f registries.yaml
  pullpass policy -f registries.yaml --account 123456789012 --issuer https://oidc.eks.eu-west-1.amazonaws.com/id/0123456789ABCDEF
  pullpass policy -f registries.yaml --issuer $(kubectl get --raw /.well-known/openid-configuration | jq -r .issuer)
  pullpass policy -f builders.yaml --create-repositories --cache-repositories
  pullpass policy -f registries.yaml --account 123456789012 --resource-based --repository 123456789012.dkr.ecr.eu-west-1.amazonaws.com/payments/api
  pullpass policy -f registries.yaml -o json | jq '.registries[0].steps[] | select(.kind == \"identityPolicy\").document'")]
pub(super) struct Args {
    /// Files with Registries, and with Namespaces whose ServiceAccounts are to be trusted; `-` is stdin.
    #[arg(short = 'f', long = "filename", value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// The issuer of the cluster's ServiceAccount tokens.
    #[arg(long, value_name = "URL", value_parser = parse_issuer)]
    issuer: Option<String>,
    /// The AWS account of pullpass' own role, of the node's role or of the access keys' user.
    #[arg(long, value_name = "ID", value_parser = parse_account)]
    account: Option<String>,
    /// The EKS cluster, where pullpass' own role is trusted by EKS Pod Identity.
    #[arg(long, value_name = "ARN", value_parser = parse_cluster_arn)]
    cluster_arn: Option<String>,
    /// The repositories are behind pull-through caches of Amazon ECR: the first pull of an image needs two more actions.
    #[arg(long)]
    pull_through_cache: bool,
    /// Amazon ECR: in the principal's own account, grant by repository policies alone what they can grant.
    #[arg(long)]
    resource_based: bool,
    /// An existing repository of Amazon ECR, as HOST/PATH: if it needs a policy of its own, that is printed, too.
    #[arg(long = "repository", value_name = "HOST/PATH", value_parser = parse_repository)]
    repositories: Vec<Pattern>,
    /// Registries with access: Push may create repositories (Amazon ECR; in Azure whoever pushes may).
    #[arg(long)]
    create_repositories: bool,
    /// Builders keep layers in REPOSITORY/cache, as kaniko does by default.
    #[arg(long)]
    cache_repositories: bool,
    /// pullpass' own namespace.
    #[arg(long, value_name = "NAME", default_value = "pullpass")]
    namespace: NamespaceName,
    /// pullpass' own ServiceAccount.
    #[arg(long, value_name = "NAME", default_value = "pullpass")]
    service_account: ObjectName,
    /// How to print it.
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

/// What is known of the place that is set up.
struct PolicyContext<'a> {
    args: &'a Args,
    /// All Registries of the files.
    registries: &'a Registries,
    /// The namespaces that the files hold.
    namespaces: Vec<(NamespaceName, Labels)>,
}

/// What is to be set up for one Registry. The names and forms of its fields are stable.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Setup {
    /// The Registry's name.
    registry: String,
    /// `ecr`, `acr` or `static`.
    provider: &'static str,
    /// What its credential is for.
    access: Access,
    /// Who asks for credentials, for people.
    identity: String,
    /// The Registry's patterns.
    images: Vec<String>,
    /// What else to know of its identity.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    notes: Vec<String>,
    /// What to do, in this order; empty where nothing is to be set up.
    steps: Vec<Step>,
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let manifests = Manifests::load(&args.files)?;
    let registries = Registries::build(manifests.registries);
    let place = PolicyContext {
        args,
        registries: &registries,
        namespaces: manifests.namespaces.into_iter().collect(),
    };
    find_covered(&registries, &args.repositories)?;
    let mut setups: Vec<Setup> = registries
        .iter()
        .map(|registry| plan(registry, &place))
        .collect();
    setups.sort_by(|one, other| one.registry.cmp(&other.registry));
    anyhow::ensure!(
        !setups.is_empty(),
        "the files hold no Registry: name a file with one"
    );
    let report = args.output.format(&PolicyReport {
        registries: &setups,
    })?;
    super::print(&report.unwrap_or_else(|| match args.output {
        Output::Wide => list(&setups),
        _ => text::render(&setups),
    }))?;
    Ok(ExitCode::SUCCESS)
}

/// Each repository that is named is of some Registry's images, or it is misspelt.
fn find_covered(registries: &Registries, repositories: &[Pattern]) -> anyhow::Result<()> {
    for repository in repositories {
        let (domain, path) = (repository.domain(), repository.path());
        if registries
            .iter()
            .any(|one| one.find_serving(domain, path).is_some())
        {
            continue;
        }
        let covers = |one: &&Pattern| one.covers(domain, path);
        let excluded = registries.iter().find_map(|registry| {
            let pattern = registry.patterns().find(covers)?;
            let exclusion = registry.exclusions_of(pattern).iter().find(covers)?;
            Some((registry, exclusion))
        });
        match excluded {
            Some((registry, exclusion)) => anyhow::bail!(
                "--repository {repository}: {exclusion} in excludedImages of Registry {} takes it away, leave it out",
                registry.name
            ),
            None => anyhow::bail!(
                "--repository {repository}: no Registry of the files has an image that covers it, correct its name"
            ),
        }
    }
    Ok(())
}

/// A line for each Registry.
fn list(setups: &[Setup]) -> String {
    let mut lines = vec![
        [
            "REGISTRY", "PROVIDER", "ACCESS", "STEPS", "IDENTITY", "IMAGES",
        ]
        .map(str::to_owned),
    ];
    lines.extend(setups.iter().map(|setup| {
        [
            setup.registry.clone(),
            setup.provider.to_owned(),
            format!("{:?}", setup.access),
            setup.steps.len().to_string(),
            setup.identity.clone(),
            setup.images.join(","),
        ]
    }));
    super::table(&lines)
}

fn plan<'r>(registry: &'r ValidRegistry, place: &PolicyContext<'r>) -> Setup {
    // All credentials of a Registry are of one provider and one identity.
    let source = registry.sources.first().map(|(source, _)| source);
    let (provider, identity, steps) = match source {
        Some(CredentialSource::Static(fixed)) => (
            "static",
            format!("the login in source secret {}", fixed.secret),
            vec![static_login(registry, &fixed.secret, place)],
        ),
        Some(CredentialSource::Minted(MintSource::Acr(_))) => azure::plan(registry, place),
        Some(CredentialSource::Minted(MintSource::Ecr(_))) | None => aws::plan(registry, place),
    };
    Setup {
        registry: registry.name.to_string(),
        provider,
        access: registry.access,
        identity,
        images: registry.patterns().map(ToString::to_string).collect(),
        notes: principal::describe_shared(registry, place),
        steps,
    }
}

fn static_login(registry: &ValidRegistry, secret: &str, place: &PolicyContext<'_>) -> Step {
    let step = Step::static_login(secret, &place.args.namespace, registry.access);
    let mut patterns = registry.patterns();
    if patterns.any(|pattern| !registry.exclusions_of(pattern).is_empty()) {
        step.note("excludedImages bounds what pullpass hands out the login for, not what it may pull: give it no right to those repositories")
    } else {
        step
    }
}

#[derive(Serialize)]
struct PolicyReport<'a> {
    registries: &'a [Setup],
}

impl PolicyContext<'_> {
    /// The namespaces of the files that a Registry serves; a placeholder where there are none.
    fn served_by(&self, registry: &ValidRegistry) -> Vec<&str> {
        let served = self
            .namespaces
            .iter()
            .filter(|(_, labels)| registry.namespaces.matches(labels));
        let names: Vec<&str> = served.map(|(name, _)| name.as_str()).collect();
        if names.is_empty() {
            return vec!["<NAMESPACE>"];
        }
        names
    }
}

/// An issuer as in tokens: <https://openid.net/specs/openid-connect-discovery-1_0.html#IssuerDiscovery>
fn parse_issuer(text: &str) -> Result<String, String> {
    let is_url_byte = |byte: u8| byte.is_ascii_alphanumeric() || b".-_~:/%".contains(&byte);
    match text.strip_prefix("https://") {
        Some(rest) if !rest.is_empty() && rest.bytes().all(is_url_byte) => Ok(text.to_owned()),
        _ => Err("write it as in the tokens' iss claim: https://HOST/PATH".to_owned()),
    }
}

/// One repository, not a pattern for several.
fn parse_repository(text: &str) -> Result<Pattern, String> {
    let pattern = Pattern::parse(text)?;
    if pattern.path().is_empty() || pattern.has_wildcard() {
        return Err("write host and repository, HOST/PATH, without *".to_owned());
    }
    Ok(pattern)
}

fn parse_account(text: &str) -> Result<String, String> {
    if text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit()) {
        Ok(text.to_owned())
    } else {
        Err("an AWS account has 12 digits".to_owned())
    }
}

/// <https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonelastickubernetesservice.html>
fn parse_cluster_arn(text: &str) -> Result<String, String> {
    let parts: Vec<&str> = text.split(':').collect();
    let is_name = |name: &str| {
        let is_name_byte = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        !name.is_empty() && name.bytes().all(is_name_byte)
    };
    match parts.as_slice() {
        ["arn", partition, "eks", region, account, cluster]
            if is_name(partition)
                && is_name(region)
                && parse_account(account).is_ok()
                && cluster.strip_prefix("cluster/").is_some_and(is_name) =>
        {
            Ok(text.to_owned())
        }
        _ => Err("write it as EKS does: arn:PARTITION:eks:REGION:ACCOUNT:cluster/NAME".to_owned()),
    }
}
