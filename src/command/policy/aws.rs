//! What Amazon ECR needs: who may become a role, what it may do, and who may pull from other accounts' repositories.

mod actions;
mod repositories;
mod trust;

use std::collections::{BTreeMap, BTreeSet};

use super::PolicyContext;
use super::ecr_images::{self, EcrImage};
use super::iam::{Policy, Statement};
use super::principal;
use super::step::{Step, StepKind};
use crate::registry::source::{
    EcrIdentity, EcrSource, MintSource, Partition, RoleHop, STS_AUDIENCE,
};
use crate::registry::{CredentialSource, ValidRegistry};
use actions::AllowedActions;
use trust::{AwsPrincipal, TenantAccount, trust_agent, trust_tenants, trust_tokens};

/// What the node's identity needs besides.
const METADATA: &str =
    "instance metadata (version 2) must reach pullpass' Pod: a hop limit of 2, or the host network";

/// The provider, the identity for people, and the steps.
pub(super) fn plan(
    registry: &ValidRegistry,
    place: &PolicyContext<'_>,
) -> (&'static str, String, Vec<Step>) {
    let mut partitions: BTreeMap<Partition, Vec<EcrImage<'_>>> = BTreeMap::new();
    for image in images_of(registry) {
        let images = partitions.entry(image.source.partition).or_default();
        images.push(image);
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

/// The images of a Registry that are of Amazon ECR.
fn images_of(registry: &ValidRegistry) -> impl Iterator<Item = EcrImage<'_>> {
    let credentials = registry.credentials();
    credentials.filter_map(|(pattern, source)| match source {
        CredentialSource::Minted(MintSource::Ecr(source)) => Some(EcrImage {
            pattern,
            exclusions: registry.exclusions_of(pattern),
            source,
        }),
        _ => None,
    })
}

/// The images of other Registries of the files that ask as the same principal.
fn find_others<'r>(
    registry: &'r ValidRegistry,
    place: &PolicyContext<'r>,
) -> Vec<(&'r str, Vec<EcrImage<'r>>)> {
    let others = principal::find_equals(registry, place);
    others
        .map(|other| (other.name.as_str(), images_of(other).collect()))
        .collect()
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
    let allowed = AllowedActions::new(registry.access, place);
    let plan = AccessPlan {
        partition,
        images,
        others: find_others(registry, place),
        principal: &principal,
        allowed,
        place,
    };
    let identity = plan.identity_policy();
    steps.push(match &source.identity {
        EcrIdentity::Node if source.assume_roles.is_empty() => identity.note(METADATA),
        _ => identity,
    });
    steps.extend(repositories::plan_registries(&plan));
    steps.extend(repositories::plan_repositories(&plan));
    steps
}

/// Who may do what with which images.
struct AccessPlan<'a> {
    partition: Partition,
    images: &'a [EcrImage<'a>],
    /// What other Registries need of the same principal, by their names.
    others: Vec<(&'a str, Vec<EcrImage<'a>>)>,
    principal: &'a AwsPrincipal,
    allowed: AllowedActions,
    place: &'a PolicyContext<'a>,
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

impl AccessPlan<'_> {
    /// Whether an image may be of another account than the principal.
    fn is_foreign(&self, image: &EcrImage<'_>) -> bool {
        let own = self.principal.account.as_deref();
        own.is_none() || own != image.account()
    }

    /// Whether the policies of repositories alone are to allow what can be allowed by them.
    fn is_by_repository(&self, image: &EcrImage<'_>) -> bool {
        self.place.args.resource_based && !self.is_foreign(image)
    }

    /// Whether builders keep layers in repositories beside those that they push to.
    fn has_caches(&self) -> bool {
        self.allowed.pushes() && self.place.args.cache_repositories
    }

    /// What the principal may do: get a token, which is on no resource, and what the Registry is for on the repositories that its patterns
    /// cover.
    ///
    /// <https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonelasticcontainerregistry.html>
    fn identity_policy(&self) -> Step {
        let (public, private): (Vec<EcrImage<'_>>, Vec<EcrImage<'_>>) =
            self.images.iter().partition(|image| image.source.public);
        let mut statements = Vec::new();
        if !private.is_empty() {
            statements.push(Statement::allow("Login", &["ecr:GetAuthorizationToken"]).on(["*"]));
            statements.extend(self.allow_all(self.allowed.on_registry(), private.iter()));
            let here = private.iter().filter(|image| !self.is_by_repository(image));
            statements.extend(self.allow_all(self.allowed.on_repositories(), here));
        }
        let excluded = self.deny(&private, &mut statements, "Excluded");
        if !public.is_empty() {
            let actions = [
                "ecr-public:GetAuthorizationToken",
                "sts:GetServiceBearerToken",
            ];
            statements.push(Statement::allow("LoginPublic", &actions).on(["*"]));
            statements.extend(self.allow_all(self.allowed.on_public(), public.iter()));
        }
        let excluded_public = self.deny(&public, &mut statements, "ExcludedPublic");
        let title = format!("{} may {}", self.principal.title, self.allowed.verb());
        let policy = Policy::of(statements);
        let kind = StepKind::IdentityPolicy;
        let mut step = Step::policy(kind, title, [&self.principal.arn], policy);
        if excluded || excluded_public {
            step = step.note("a Deny holds for all that this principal does: leave out of Excluded what another Registry with the same identity needs");
        }
        self.note_open(&private, &public, step)
    }

    /// What cannot be said of `excludedImages`.
    fn note_open(&self, private: &[EcrImage<'_>], public: &[EcrImage<'_>], mut step: Step) -> Step {
        let open = ecr_images::open_exclusions(private);
        if !open.is_empty() {
            step = step.note(format!(
                "{} of excludedImages can be reached all the same: another host in images may be of the same repositories",
                open.join(", ")
            ));
        }
        for (name, others) in &self.others {
            let (public_others, private_others): (Vec<EcrImage<'_>>, Vec<EcrImage<'_>>) =
                others.iter().partition(|image| image.source.public);
            let mut needed = ecr_images::needed_exclusions(private, &private_others);
            if self.allowed.pushes() {
                needed.extend(ecr_images::needed_exclusions(public, &public_others));
            }
            if !needed.is_empty() {
                let needed: Vec<&str> = needed.into_iter().collect();
                step = step.note(format!(
                    "{} of excludedImages is not denied: Registry {name} asks as the same principal, and is for it or a part of it",
                    needed.join(", ")
                ));
            }
        }
        if public.iter().any(|image| !image.exclusions.is_empty()) {
            step = step.note("pulling excludedImages of public.ecr.aws cannot be denied: anybody may pull from there, and the login is for all of it");
        }
        if self.place.args.resource_based && self.principal.account.is_none() {
            step = step.note("which repositories are of the principal's own account, whose policies alone would do, is not known: give --account");
        }
        step
    }

    /// These statements, on what these images cover.
    fn allow_all<'i>(
        &self,
        statements: Vec<(&'static str, &'static [&'static str])>,
        images: impl Iterator<Item = &'i EcrImage<'i>>,
    ) -> Vec<Statement> {
        let covered: BTreeSet<String> = images
            .flat_map(|image| image.repositories(self.partition))
            .collect();
        let statements = statements.into_iter().filter(|_| !covered.is_empty());
        statements
            .map(|(sid, actions)| Statement::allow(sid, actions).on(&covered))
            .collect()
    }

    /// Denies what is excluded and not needed, all that is allowed elsewhere; whether there is any of that.
    fn deny(
        &self,
        images: &[EcrImage<'_>],
        statements: &mut Vec<Statement>,
        sid: &'static str,
    ) -> bool {
        let is_public = images.iter().any(|image| image.source.public);
        let others = self.others.iter().flat_map(|(_, images)| images);
        let others: Vec<EcrImage<'_>> = others
            .filter(|image| image.source.public == is_public)
            .copied()
            .collect();
        let excluded = ecr_images::excluded_repositories(self.partition, images, &others);
        let actions = self.allowed.all(is_public);
        let is_any = !excluded.is_empty() && !actions.is_empty();
        if is_any {
            statements.push(Statement::deny(sid, &actions).on(&excluded));
        }
        is_any
    }
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
