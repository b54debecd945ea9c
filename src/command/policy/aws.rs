//! What Amazon ECR needs: who may become a role, what it may do, and who may pull from other accounts' repositories.

mod trust;

use std::collections::{BTreeMap, BTreeSet};

use super::PolicyContext;
use super::ecr_images::{self, EcrImage};
use super::iam::{Policy, Statement};
use super::step::{Step, StepKind};
use crate::registry::source::{
    EcrIdentity, EcrSource, MintSource, Partition, RoleHop, STS_AUDIENCE,
};
use crate::registry::{CredentialSource, ValidRegistry};
use trust::{AwsPrincipal, TenantAccount, trust_agent, trust_tenants, trust_tokens};

/// What a pull is made of.
///
/// <https://docs.aws.amazon.com/AmazonECR/latest/userguide/image-pull.html>
const PULL: [&str; 3] = [
    "ecr:BatchCheckLayerAvailability",
    "ecr:BatchGetImage",
    "ecr:GetDownloadUrlForLayer",
];

/// What the node's identity needs besides.
const METADATA: &str =
    "instance metadata (version 2) must reach pullpass' Pod: a hop limit of 2, or the host network";

/// The provider, the identity for people, and the steps.
pub(super) fn plan(
    registry: &ValidRegistry,
    place: &PolicyContext<'_>,
) -> (&'static str, String, Vec<Step>) {
    let mut partitions: BTreeMap<Partition, Vec<EcrImage<'_>>> = BTreeMap::new();
    for (pattern, source) in registry.credentials() {
        if let CredentialSource::Minted(MintSource::Ecr(source)) = source {
            let images = partitions.entry(source.partition).or_default();
            images.push(EcrImage {
                pattern,
                exclusions: registry.exclusions_of(pattern),
                source,
            });
        }
    }
    let identity = partitions
        .values()
        .flatten()
        .next()
        .map_or_else(String::new, |image| describe(image.source));
    let steps = partitions
        .into_iter()
        .flat_map(|(partition, images)| plan_partition(partition, &images, registry, place));
    ("ecr", identity, steps.collect())
}

fn plan_partition(
    partition: Partition,
    images: &[EcrImage<'_>],
    registry: &ValidRegistry,
    place: &PolicyContext<'_>,
) -> Vec<Step> {
    let Some(EcrImage { source, .. }) = images.first() else {
        return Vec::new();
    };
    let (mut principal, mut steps) = plan_identity(partition, &source.identity, registry, place);
    if let Some(seconds) = source.session_seconds.filter(|seconds| *seconds > 3600) {
        let mut rest = steps.into_iter();
        let trust = rest.next().map(|step| note_session(step, seconds));
        steps = trust.into_iter().chain(rest).collect();
    }
    let is_tagged = matches!(source.identity, EcrIdentity::Workload);
    for hop in &source.assume_roles {
        let next = AwsPrincipal::of_role(&hop.role_arn);
        steps.extend(plan_hop(&principal, &next, hop, is_tagged));
        principal = next;
    }
    let pull = plan_pull(partition, images, &principal, place);
    steps.push(match &source.identity {
        EcrIdentity::Node if source.assume_roles.is_empty() => pull.note(METADATA),
        _ => pull,
    });
    steps.extend(plan_repositories(partition, images, &principal));
    steps
}

/// Who the identity is, and what makes it so.
fn plan_identity(
    partition: Partition,
    identity: &EcrIdentity,
    registry: &ValidRegistry,
    place: &PolicyContext<'_>,
) -> (AwsPrincipal, Vec<Step>) {
    let own = |kind: &str, name: &str, title: &str| {
        let account = place.args.account.clone();
        let shown = account.as_deref().unwrap_or("<ACCOUNT_ID>");
        AwsPrincipal {
            arn: format!("arn:{partition}:iam::{shown}:{kind}/{name}"),
            account,
            title: title.to_owned(),
        }
    };
    match identity {
        EcrIdentity::Keys { secret } => {
            let keys = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"];
            let step = Step::secret_of_file("access keys", secret, &place.args.namespace, &keys);
            (own("user", "<USER>", "the access keys' user"), vec![step])
        }
        EcrIdentity::Node => (own("role", "<NODE_ROLE>", "the nodes' role"), Vec::new()),
        EcrIdentity::Workload => {
            let role = own("role", "<PULLPASS_ROLE>", "pullpass' own role");
            let account = (&place.args.namespace, &place.args.service_account);
            let subjects = [format!("system:serviceaccount:{}:{}", account.0, account.1)];
            let steps = vec![
                trust_tokens(partition, &role, subjects, STS_AUDIENCE, place).note(format!(
                    "then install the chart with identity.aws.roleArn={}, or annotate the ServiceAccount {}/{}: eks.amazonaws.com/role-arn",
                    role.arn, account.0, account.1
                )),
                trust_agent(&role, place),
            ];
            (role, steps)
        }
        EcrIdentity::ServiceAccount {
            name,
            role_arn,
            audience,
        } => {
            let role = match role_arn {
                Some(arn) => AwsPrincipal::of_role(arn),
                None => own("role", "<ROLE>", "the role that the ServiceAccounts name"),
            };
            let account = TenantAccount {
                name,
                is_annotated: role_arn.is_none(),
                audience: audience.as_deref(),
            };
            let step = trust_tenants(partition, &role, &account, registry, place);
            (role, vec![step])
        }
        EcrIdentity::Tenant { role_arn, .. } => (AwsPrincipal::of_role(role_arn), Vec::new()),
    }
}

/// One role assumes the next one: the one must be allowed to, the other must trust it.
fn plan_hop(from: &AwsPrincipal, to: &AwsPrincipal, hop: &RoleHop, is_tagged: bool) -> [Step; 2] {
    let actions: &[&str] = if is_tagged {
        &["sts:AssumeRole", "sts:TagSession"]
    } else {
        &["sts:AssumeRole"]
    };
    let allow = Statement::allow("AssumeNextRole", actions).on([&to.arn]);
    let mut trust = Statement::allow("PreviousRole", actions).by("AWS", &from.arn);
    if let Some(external_id) = &hop.external_id {
        trust = trust.when("sts:ExternalId", [external_id]);
    }
    let tags = "sts:TagSession is for EKS Pod Identity, whose session tags stay along the chain: leave it out with IAM roles for service accounts";
    let mut steps = [
        Step::policy(
            StepKind::IdentityPolicy,
            format!("{} may assume {}", from.title, to.title),
            [&from.arn],
            Policy::of([allow]),
        ),
        Step::policy(
            StepKind::TrustPolicy,
            format!("trust of {}: {}", to.title, from.title),
            [&to.arn],
            Policy::of([trust]),
        ),
    ];
    if is_tagged {
        steps = steps.map(|step| step.note(tags));
    }
    if let Some(seconds) = hop.duration_seconds.filter(|seconds| *seconds > 3600) {
        let [allow, trust] = steps;
        steps = [allow, note_session(trust, seconds)];
    }
    steps
}

/// A role lets its sessions live an hour unless it is told otherwise.
///
/// <https://docs.aws.amazon.com/IAM/latest/UserGuide/id_roles_update-role-settings.html>
fn note_session(trust: Step, seconds: u32) -> Step {
    trust.note(format!(
        "its maximum session duration must be {seconds} s or more"
    ))
}

/// What pulls: a token, which is on no resource, and the repositories that the patterns cover.
///
/// <https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonelasticcontainerregistry.html>
fn plan_pull(
    partition: Partition,
    images: &[EcrImage<'_>],
    principal: &AwsPrincipal,
    place: &PolicyContext<'_>,
) -> Step {
    let (public, private): (Vec<EcrImage<'_>>, Vec<EcrImage<'_>>) =
        images.iter().partition(|image| image.source.public);
    let mut statements = Vec::new();
    let excluded = ecr_images::excluded_repositories(partition, &private);
    if !private.is_empty() {
        let repositories: BTreeSet<String> = private
            .iter()
            .flat_map(|image| image.repositories(partition))
            .collect();
        statements.push(Statement::allow("Login", &["ecr:GetAuthorizationToken"]).on(["*"]));
        if place.args.pull_through_cache {
            statements.push(
                Statement::allow("PullThroughCache", &ecr_images::PULL_THROUGH).on(&repositories),
            );
        }
        statements.push(Statement::allow("Pull", &PULL).on(repositories));
    }
    if !excluded.is_empty() {
        statements.push(Statement::deny("Excluded", &PULL).on(&excluded));
    }
    if !public.is_empty() {
        let actions = [
            "ecr-public:GetAuthorizationToken",
            "sts:GetServiceBearerToken",
        ];
        statements.push(Statement::allow("LoginPublic", &actions).on(["*"]));
    }
    let title = format!("{} may pull", principal.title);
    let mut step = Step::policy(
        StepKind::IdentityPolicy,
        title,
        [&principal.arn],
        Policy::of(statements),
    );
    if !excluded.is_empty() {
        step = step.note("a Deny holds for all that this principal does: leave out of Excluded what another Registry with the same identity needs");
    }
    let open = ecr_images::open_exclusions(&private);
    if !open.is_empty() {
        step = step.note(format!(
            "{} of excludedImages can be pulled all the same: another host in images may be of the same repositories",
            open.join(", ")
        ));
    }
    if public.iter().any(|image| !image.exclusions.is_empty()) {
        step = step.note("excludedImages of public.ecr.aws cannot be denied: anybody may pull from there, and the login is for all of it");
    }
    step
}

/// Repositories of other accounts need a repository policy that allows the principal; an identity policy is enough only within one account.
///
/// <https://docs.aws.amazon.com/AmazonECR/latest/userguide/repository-policies.html>
fn plan_repositories(
    partition: Partition,
    images: &[EcrImage<'_>],
    principal: &AwsPrincipal,
) -> Option<Step> {
    let is_foreign = |image: &&EcrImage<'_>| {
        let own = principal.account.as_deref();
        !image.source.public && (own.is_none() || own != image.account())
    };
    let foreign: Vec<EcrImage<'_>> = images.iter().filter(is_foreign).copied().collect();
    let repositories: BTreeSet<String> = foreign
        .iter()
        .flat_map(|image| image.repositories(partition))
        .collect();
    if repositories.is_empty() {
        return None;
    }
    let statement = Statement::allow("PullFromOtherAccount", &PULL).by("AWS", &principal.arn);
    let title = format!("repositories of other accounts let {} in", principal.title);
    let step = Step::policy(
        StepKind::RepositoryPolicy,
        title,
        repositories,
        Policy::of([statement]),
    );
    let excluded = ecr_images::excluded_repositories(partition, &foreign);
    let step = if excluded.is_empty() {
        step
    } else {
        let excluded: Vec<String> = excluded.into_iter().collect();
        step.note(format!("not to {}", excluded.join(", ")))
    };
    Some(match principal.account {
        Some(_) => step.note("add the statement to the policy that a repository has: setting one replaces it"),
        None => step.note("only for repositories of another account than the principal's; add the statement to the policy that a repository has"),
    })
}

/// Who asks, for people.
fn describe(source: &EcrSource) -> String {
    let identity = match &source.identity {
        EcrIdentity::Workload => "pullpass' own workload identity".to_owned(),
        EcrIdentity::Node => "the node's role".to_owned(),
        EcrIdentity::Keys { secret } => format!("the access keys in source secret {secret}"),
        EcrIdentity::ServiceAccount { name, .. } => {
            format!("ServiceAccount {name} of the Pod's namespace")
        }
        EcrIdentity::Tenant { tenant, .. } => format!(
            "ServiceAccount {}/{}",
            tenant.namespace, tenant.service_account
        ),
    };
    let hops = source
        .assume_roles
        .iter()
        .map(|hop| format!(", then {}", hop.role_arn));
    std::iter::once(identity).chain(hops).collect()
}
