//! The rules of `spec.ecr`.

use super::super::arn::{RoleArn, is_name_byte};
use super::super::audience::is_sts_audience;
use super::super::crd::{Ecr, Identity, RoleHop, ServiceAccountRole};
use super::super::host::{Host, partition_of};
use super::super::pattern::Pattern;
use super::super::source::{Partition, STS_AUDIENCE};
use super::{Problems, check_endpoints, check_object_name};

/// How many roles a chain may have.
const HOPS_MAX: usize = 5;
/// How long a session may live, in seconds.
const SESSION_SECONDS: std::ops::RangeInclusive<u32> = 900..=43_200;
/// How long a session may live that another role's session signed for.
/// <https://docs.aws.amazon.com/IAM/latest/UserGuide/id_roles.html#iam-term-role-chaining>
const CHAINED_SECONDS: u32 = 3600;

pub(super) fn check(ecr: &Ecr, images: &[Pattern], findings: &mut Problems<'_>) {
    let region = ecr.region.as_deref();
    let partitions = partitions(images, region);
    check_identity(&ecr.identity, &partitions, findings);
    check_audience(ecr, findings);
    check_hops(ecr, &partitions, findings);
    if let Some(region) =
        region.filter(|region| region.len() > 32 || partition_of(region).is_none())
    {
        findings.add(
            "spec.ecr.region",
            format!("{region:?} is no region of AWS: write one like eu-west-1"),
        );
    }
    let mut has_use = false;
    for image in images {
        match Host::recognise_pattern(image.host()) {
            Some(Host::Ecr(_) | Host::EcrPublic { .. }) => {}
            Some(Host::Acr(_) | Host::AcrData) => {
                findings.add_of_image(image, format!("\"{image}\" is a registry of Azure: Amazon ECR's credentials are not for it"));
            }
            None if image.has_wildcard() => findings.add_of_image(
                image,
                format!("\"{image}\" has a * that is not the account of an Amazon ECR host: list the hosts"),
            ),
            None if region.is_none() => findings.add_of_image(
                image,
                format!("\"{image}\" is no host of Amazon ECR: correct it, or give ecr.region if it is an alias of one"),
            ),
            None => has_use = true,
        }
    }
    if region.is_some() && !has_use {
        findings.add(
            "spec.ecr.region",
            "is said by every host of images: remove it",
        );
    }
    let endpoints = ecr.endpoints.clone().unwrap_or_default();
    let urls = [
        ("ecr", &endpoints.ecr),
        ("ecrPublic", &endpoints.ecr_public),
        ("sts", &endpoints.sts),
    ];
    check_endpoints("spec.ecr.endpoints", urls, findings);
}

fn check_identity(identity: &Identity, partitions: &[Partition], findings: &mut Problems<'_>) {
    let given = [
        identity.workload.is_some(),
        identity.node.is_some(),
        identity.keys.is_some(),
        identity.service_account.is_some(),
    ];
    if given.iter().filter(|given| **given).count() != 1 {
        findings.add(
            "spec.ecr.identity",
            "must have exactly one of workload, node, keys and serviceAccount: give exactly one",
        );
    }
    if let Some(keys) = &identity.keys {
        let field = "spec.ecr.identity.keys.secretRef.name";
        check_object_name("a Secret", field, &keys.secret_ref.name, findings);
    }
    if let Some(workload) = &identity.workload {
        check_seconds(
            "spec.ecr.identity.workload",
            workload.duration_seconds,
            findings,
        );
    }
    if let Some(account) = &identity.service_account {
        check_service_account(account, partitions, findings);
    }
}

fn check_audience(ecr: &Ecr, findings: &mut Problems<'_>) {
    let Some(audience) = ecr.audience.as_deref() else {
        return;
    };
    let field = "spec.ecr.audience";
    if !is_sts_audience(audience) {
        findings.add(
            field,
            format!("{audience:?} is no audience of tokens for AWS STS: write one like {STS_AUDIENCE}, and none that API servers take for their own"),
        );
    } else if ecr.identity.service_account.is_none() {
        findings.add(
            field,
            "is for the tokens of identity.serviceAccount alone: remove it",
        );
    }
}

/// How long a session by web identity lives.
fn check_seconds(field: &str, seconds: Option<u32>, findings: &mut Problems<'_>) {
    if let Some(seconds) = seconds.filter(|seconds| !SESSION_SECONDS.contains(seconds)) {
        findings.add(
            format!("{field}.durationSeconds"),
            format!("is {seconds}: sessions live for 900 to 43200 seconds"),
        );
    }
}

fn check_service_account(
    account: &ServiceAccountRole,
    partitions: &[Partition],
    findings: &mut Problems<'_>,
) {
    const FIELD: &str = "spec.ecr.identity.serviceAccount";
    check_object_name(
        "a ServiceAccount",
        &format!("{FIELD}.name"),
        &account.name,
        findings,
    );
    check_seconds(FIELD, account.duration_seconds, findings);
    match (&account.role_arn, account.from_annotations) {
        (Some(role), false) => {
            check_role(&format!("{FIELD}.roleArn"), role, partitions, findings);
        }
        (None, true) => {}
        _ => findings.add(
            FIELD,
            "must say which role: give exactly one of roleArn and fromAnnotations: true",
        ),
    }
}

fn check_role(field: &str, role: &str, partitions: &[Partition], findings: &mut Problems<'_>) {
    match RoleArn::parse(role) {
        Err(problem) => findings.add(field, format!("{role:?} {problem}")),
        Ok(parsed) => {
            let other = partitions
                .iter()
                .find(|partition| partition.name() != parsed.partition);
            if let Some(other) = other {
                findings.add(
                    field,
                    format!(
                        "{role:?} is of partition {}, and images are of partition {other}: give them to Registries of their own",
                        parsed.partition
                    ),
                );
            }
        }
    }
}

fn check_hops(ecr: &Ecr, partitions: &[Partition], findings: &mut Problems<'_>) {
    if ecr.assume_roles.len() > HOPS_MAX {
        findings.add(
            "spec.ecr.assumeRoles",
            format!("has more than {HOPS_MAX} roles: shorten the chain"),
        );
    }
    let has_keys = ecr.identity.keys.is_some();
    for (index, hop) in ecr.assume_roles.iter().enumerate().take(HOPS_MAX) {
        let field = format!("spec.ecr.assumeRoles[{index}]");
        // Access keys are a user's; every other identity is the session of a role already.
        let is_chained = index > 0 || !has_keys;
        check_hop(&field, hop, is_chained, findings);
        check_role(
            &format!("{field}.roleArn"),
            &hop.role_arn,
            partitions,
            findings,
        );
    }
}

fn check_hop(field: &str, hop: &RoleHop, is_chained: bool, findings: &mut Problems<'_>) {
    let is_id_byte = |byte: u8| is_name_byte(byte) || matches!(byte, b':' | b'/');
    if let Some(id) = &hop.external_id
        && !((2..=1224).contains(&id.len()) && id.bytes().all(is_id_byte))
    {
        findings.add(
            format!("{field}.externalId"),
            "is no external id: write 2 to 1224 letters, digits and _+=,.@:/-",
        );
    }
    if let Some(name) = &hop.session_name
        && !((2..=64).contains(&name.len()) && name.bytes().all(is_name_byte))
    {
        findings.add(
            format!("{field}.sessionName"),
            format!("{name:?} is no session name: write 2 to 64 letters, digits and _+=,.@-"),
        );
    }
    check_seconds(field, hop.duration_seconds, findings);
    let seconds = hop.duration_seconds.unwrap_or_default();
    if is_chained && seconds > CHAINED_SECONDS && SESSION_SECONDS.contains(&seconds) {
        findings.add(
            format!("{field}.durationSeconds"),
            format!("is {seconds}: AWS gives at most {CHAINED_SECONDS} seconds to a session that another role's session signs for; only the first role over access keys may have more"),
        );
    }
}

/// The partitions that the images are of, without repeats.
fn partitions(images: &[Pattern], region: Option<&str>) -> Vec<Partition> {
    let mut found: Vec<Partition> = Vec::new();
    for image in images {
        let partition = match Host::recognise_pattern(image.host()) {
            Some(Host::Ecr(host)) => Some(host.partition),
            Some(Host::EcrPublic { .. }) => Some(Partition::Aws),
            _ => region.and_then(partition_of),
        };
        found.extend(partition.filter(|partition| !found.contains(partition)));
    }
    found
}
