//! Who may become a role: tokens of the cluster, and EKS Pod Identity.

use super::super::PolicyContext;
use super::super::iam::{Policy, Statement};
use super::super::step::{Step, StepKind};
use crate::registry::ValidRegistry;
use crate::registry::arn::RoleArn;
use crate::registry::source::{Partition, STS_AUDIENCE};

/// Who calls AWS.
pub(super) struct AwsPrincipal {
    pub(super) arn: String,
    /// Its account, if it is known.
    pub(super) account: Option<String>,
    /// What it is called in titles.
    pub(super) title: String,
}

impl AwsPrincipal {
    pub(super) fn of_role(arn: &str) -> Self {
        let role = RoleArn::parse(arn).ok();
        Self {
            arn: arn.to_owned(),
            account: role.map(|role| role.account.to_owned()),
            title: role.map_or_else(|| arn.to_owned(), |role| format!("role {}", role.name)),
        }
    }
}

/// The ServiceAccounts of namespaces, as a Registry says it.
pub(super) struct TenantAccount<'a> {
    pub(super) name: &'a str,
    /// Whether annotations name the role.
    pub(super) is_annotated: bool,
    /// Whom their tokens are for, where the Registry says it.
    pub(super) audience: Option<&'a str>,
}

/// The role of namespaces' own ServiceAccounts trusts those of the namespaces that are served.
pub(super) fn trust_tenants(
    partition: Partition,
    role: &AwsPrincipal,
    account: &TenantAccount<'_>,
    registry: &ValidRegistry,
    place: &PolicyContext<'_>,
) -> Step {
    let namespaces = place.served_by(registry);
    let name = account.name;
    let subjects = namespaces
        .iter()
        .map(|namespace| format!("system:serviceaccount:{namespace}:{name}"));
    let audience = account.audience.unwrap_or(STS_AUDIENCE);
    let mut step = trust_tokens(partition, role, subjects, audience, place).note_tokens();
    if account.is_annotated {
        step = step.note(format!("then annotate the ServiceAccount {name} in each of the namespaces: eks.amazonaws.com/role-arn: {}", role.arn));
    }
    if audience != STS_AUDIENCE {
        step = step.note(format!(
            "tokenAudiences of the chart must name {audience}, too"
        ));
    } else if account.is_annotated && account.audience.is_none() {
        step = step.note("where ServiceAccounts have the annotation eks.amazonaws.com/audience, its value is the audience: tokenAudiences of the chart must name it, too");
    }
    step
}

/// IAM roles for service accounts: the role trusts tokens of the cluster's issuer.
///
/// <https://docs.aws.amazon.com/eks/latest/userguide/associate-service-account-role.html>
pub(super) fn trust_tokens(
    partition: Partition,
    role: &AwsPrincipal,
    subjects: impl IntoIterator<Item = String>,
    audience: &str,
    place: &PolicyContext<'_>,
) -> Step {
    let issuer = place
        .args
        .issuer
        .as_deref()
        .and_then(|issuer| issuer.strip_prefix("https://"));
    let issuer = issuer.unwrap_or("<ISSUER>");
    let account = role.account.as_deref().unwrap_or("<ACCOUNT_ID>");
    let provider = format!("arn:{partition}:iam::{account}:oidc-provider/{issuer}");
    let statement = Statement::allow("ServiceAccountTokens", &["sts:AssumeRoleWithWebIdentity"])
        .by("Federated", provider)
        .when(format!("{issuer}:aud"), [audience])
        .when(format!("{issuer}:sub"), subjects);
    let title = format!(
        "trust of {}: tokens of the cluster (IAM roles for service accounts)",
        role.title
    );
    Step::policy(
        StepKind::TrustPolicy,
        title,
        [&role.arn],
        Policy::of([statement]),
    )
    .note(format!(
        "the account needs an IAM OIDC provider for https://{issuer} with the audience {audience}"
    ))
}

/// EKS Pod Identity, instead of tokens of the cluster.
///
/// <https://docs.aws.amazon.com/eks/latest/userguide/pod-id-role.html>
pub(super) fn trust_agent(role: &AwsPrincipal, place: &PolicyContext<'_>) -> Step {
    let statement = Statement::allow("PodIdentity", &["sts:AssumeRole", "sts:TagSession"])
        .by("Service", "pods.eks.amazonaws.com")
        .when(
            "aws:RequestTag/kubernetes-namespace",
            [place.args.namespace.as_str()],
        )
        .when(
            "aws:RequestTag/kubernetes-service-account",
            [place.args.service_account.as_str()],
        )
        .when(
            "aws:RequestTag/eks-cluster-arn",
            [place.args.cluster_arn.as_deref().unwrap_or("<CLUSTER_ARN>")],
        );
    let title = format!(
        "or, instead of that: trust of {} by EKS Pod Identity",
        role.title
    );
    Step::policy(StepKind::TrustPolicy, title, [&role.arn], Policy::of([statement])).note(format!(
        "then install the chart with identity.aws.podIdentity=true and associate it: aws eks create-pod-identity-association --cluster-name CLUSTER --namespace {} --service-account {} --role-arn {}",
        place.args.namespace, place.args.service_account, role.arn
    ))
}
