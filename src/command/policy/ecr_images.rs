//! The repositories of Amazon ECR that a Registry's patterns cover, and those that `excludedImages` takes away.

use std::collections::BTreeSet;

use crate::registry::source::{EcrSource, Partition};
use crate::registry::{Host, Pattern};

/// What a pull needs besides where a repository is behind a pull-through cache and does not hold the image, or is not there, yet.
///
/// <https://docs.aws.amazon.com/AmazonECR/latest/userguide/pull-through-cache-iam.html>
pub(super) const PULL_THROUGH: [&str; 2] = ["ecr:BatchImportUpstreamImage", "ecr:CreateRepository"];

/// A pattern of a Registry.
#[derive(Clone, Copy)]
pub(super) struct EcrImage<'r> {
    pub(super) pattern: &'r Pattern,
    /// What `excludedImages` takes away from it.
    pub(super) exclusions: &'r [Pattern],
    /// What decides its credential.
    pub(super) source: &'r EcrSource,
}

impl EcrImage<'_> {
    /// The repositories that it covers, as ARNs.
    pub(super) fn repositories(&self, partition: Partition) -> Vec<String> {
        repositories_of(partition, &self.source.region, self.pattern)
    }

    /// The account that its host names; `None` is any, or one that it does not say.
    pub(super) fn account(&self) -> Option<&str> {
        account_of(self.pattern)
    }

    /// Whether it covers, and does not exclude itself, some repository of `excluded`, which is of another pattern of the same region: the
    /// names with and without FIPS or dual stack are of one registry.
    fn needs(&self, excluded: &Pattern) -> bool {
        let account = account_of(excluded);
        if self.account().is_some() && account.is_some() && self.account() != account {
            return false;
        }
        let common = match (self.pattern.path(), excluded.path()) {
            (outer, path) if lies_in(path, outer) => path,
            (path, outer) if lies_in(path, outer) => path,
            _ => return false,
        };
        let is_taken_away = |exclusion: &Pattern| {
            let of = account_of(exclusion);
            let has_accounts = of.is_none() || of == account || of == self.account();
            has_accounts && lies_in(common, exclusion.path())
        };
        !self.exclusions.iter().any(is_taken_away)
    }
}

/// Whether a path is, or is below, what a pattern has as its path.
fn lies_in(path: &str, outer: &str) -> bool {
    let below = path.strip_prefix(outer);
    outer.is_empty() || below.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// What may be denied: the repositories of what is excluded, where no pattern of the Registry needs any of them.
pub(super) fn excluded_repositories(
    partition: Partition,
    images: &[EcrImage<'_>],
) -> BTreeSet<String> {
    let of_region = images.iter().flat_map(|image| {
        let exclusions = image.exclusions.iter();
        exclusions.map(|exclusion| (&image.source.region, exclusion))
    });
    of_region
        .filter(|(region, exclusion)| !is_needed(images, region, exclusion))
        .flat_map(|(region, exclusion)| repositories_of(partition, region, exclusion))
        .collect()
}

/// What is excluded and cannot be denied, because another pattern needs some of it.
pub(super) fn open_exclusions<'i>(images: &[EcrImage<'i>]) -> Vec<&'i str> {
    let of_region = images.iter().flat_map(|image| {
        let exclusions = image.exclusions.iter();
        exclusions.map(|exclusion| (&image.source.region, exclusion))
    });
    let open: BTreeSet<&str> = of_region
        .filter(|(region, exclusion)| is_needed(images, region, exclusion))
        .map(|(_, exclusion)| exclusion.as_str())
        .collect();
    open.into_iter().collect()
}

fn is_needed(images: &[EcrImage<'_>], region: &str, exclusion: &Pattern) -> bool {
    let mut of_region = images
        .iter()
        .filter(|image| *image.source.region == *region);
    of_region.any(|image| image.needs(exclusion))
}

fn repositories_of(partition: Partition, region: &str, pattern: &Pattern) -> Vec<String> {
    let account = match Host::recognise_pattern(pattern.host()) {
        Some(Host::Ecr(host)) => host.account,
        _ => "<REGISTRY_ACCOUNT_ID>",
    };
    let repository =
        |path: &str| format!("arn:{partition}:ecr:{region}:{account}:repository/{path}");
    match pattern.path() {
        "" => vec![repository("*")],
        path => vec![repository(path), repository(&format!("{path}/*"))],
    }
}

/// The account that a pattern's host names.
fn account_of(pattern: &Pattern) -> Option<&str> {
    match Host::recognise_pattern(pattern.host()) {
        Some(Host::Ecr(host)) if host.account != "*" => Some(host.account),
        _ => None,
    }
}
