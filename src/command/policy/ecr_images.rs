//! The repositories of Amazon ECR that a Registry's patterns cover, and those that `excludedImages` takes away.

use std::collections::BTreeSet;

use crate::registry::source::{EcrSource, Partition};
use crate::registry::{Host, Pattern};

/// The account of a registry that nothing says.
const UNKNOWN_ACCOUNT: &str = "<REGISTRY_ACCOUNT_ID>";
/// What the account of an alias of Amazon ECR Public begins with; the alias and `>` follow.
pub(super) const ACCOUNT_OF_ALIAS: &str = "<ACCOUNT_ID_OF_";
/// The repository of a pattern that is a whole host.
const ANY_REPOSITORY: &str = "<REPOSITORY>";

/// A pattern of a Registry.
#[derive(Clone, Copy)]
pub(super) struct EcrImage<'r> {
    pub(super) pattern: &'r Pattern,
    /// What `excludedImages` takes away from it.
    pub(super) exclusions: &'r [Pattern],
    /// What decides its credential.
    pub(super) source: &'r EcrSource,
}

/// One repository.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Repository {
    pub(super) partition: Partition,
    /// Its region; none of Amazon ECR Public.
    pub(super) region: Option<String>,
    /// Its account, or a placeholder.
    pub(super) account: String,
    pub(super) name: String,
}

impl Repository {
    /// <https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonelasticcontainerregistry.html#amazonelasticcontainerregistry-resources-for-iam-policies>
    pub(super) fn arn(&self) -> String {
        let Self {
            partition,
            region,
            account,
            name,
        } = self;
        match region {
            Some(region) => format!("arn:{partition}:ecr:{region}:{account}:repository/{name}"),
            None => format!("arn:{partition}:ecr-public::{account}:repository/{name}"),
        }
    }

    /// Whether its account is known.
    pub(super) fn has_account(&self) -> bool {
        !self.account.starts_with('<')
    }

    pub(super) fn is_public(&self) -> bool {
        self.region.is_none()
    }

    /// Where a builder such as kaniko keeps layers by default.
    ///
    /// <https://github.com/chainguard-forks/kaniko#flag---cache-repo>
    pub(super) fn cache(&self) -> Self {
        Self {
            name: format!("{}/cache", self.name),
            ..self.clone()
        }
    }
}

impl EcrImage<'_> {
    /// The repositories that it covers, as ARNs.
    pub(super) fn repositories(&self, partition: Partition) -> Vec<String> {
        repositories_of(partition, self.source, self.pattern)
    }

    /// The account that its host names; `None` is any, or one that it does not say.
    pub(super) fn account(&self) -> Option<&str> {
        account_of(self.pattern)
    }

    /// The repositories that can be named: of `known` those that it covers, else the pattern's own.
    pub(super) fn name(&self, partition: Partition, known: &[Pattern]) -> Vec<Repository> {
        let repository = |pattern: &Pattern| Repository {
            partition,
            region: (!self.source.public).then(|| self.source.region.clone()),
            account: match self.account() {
                Some(account) => account.to_owned(),
                None => placeholder_of(self.source, pattern),
            },
            name: match self.path_of(pattern) {
                "" => ANY_REPOSITORY.to_owned(),
                path => path.to_owned(),
            },
        };
        let named = known.iter().filter(|known| self.serves(known));
        let named: Vec<Repository> = named.map(repository).collect();
        if named.is_empty() {
            vec![repository(self.pattern)]
        } else {
            named
        }
    }

    /// Whether what is below the pattern's own repository is named by none of `known`.
    pub(super) fn is_open(&self, known: &[Pattern]) -> bool {
        !known.iter().any(|known| self.serves(known))
    }

    /// Where builders keep the layers of a repository that it names; `None`: `excludedImages` takes that away.
    pub(super) fn cache_of(&self, repository: &Repository) -> Option<Repository> {
        let cache = repository.cache();
        let alias = self
            .pattern
            .path()
            .split('/')
            .next()
            .filter(|_| cache.is_public());
        let path = match alias {
            Some(alias) => format!("{alias}/{}", cache.name),
            None => cache.name.clone(),
        };
        let mut exclusions = self.exclusions.iter();
        let is_excluded = exclusions.any(|one| one.covers(self.pattern.domain(), &path));
        (!is_excluded).then_some(cache)
    }

    fn serves(&self, known: &Pattern) -> bool {
        self.pattern.covers(known.domain(), known.path()) && !self.excludes(known)
    }

    /// The path of a repository of its host: that of Amazon ECR Public begins with the registry's alias.
    fn path_of<'p>(&self, pattern: &'p Pattern) -> &'p str {
        if self.source.public {
            public_path(pattern.path())
        } else {
            pattern.path()
        }
    }

    fn excludes(&self, repository: &Pattern) -> bool {
        let mut exclusions = self.exclusions.iter();
        exclusions.any(|excluded| excluded.covers(repository.domain(), repository.path()))
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

/// What may be denied: the repositories of what is excluded, where no pattern of the Registry, and none of `others`, needs any of them.
pub(super) fn excluded_repositories(
    partition: Partition,
    images: &[EcrImage<'_>],
    others: &[EcrImage<'_>],
) -> BTreeSet<String> {
    exclusions(images)
        .filter(|(source, exclusion)| {
            !is_needed(images, source, exclusion) && !is_needed(others, source, exclusion)
        })
        .flat_map(|(source, exclusion)| repositories_of(partition, source, exclusion))
        .collect()
}

/// What is excluded and cannot be denied, because another pattern needs some of it.
pub(super) fn open_exclusions<'i>(images: &[EcrImage<'i>]) -> Vec<&'i str> {
    needed_exclusions(images, images).into_iter().collect()
}

/// What is excluded of `images`, and some of `others` needs.
pub(super) fn needed_exclusions<'i>(
    images: &[EcrImage<'i>],
    others: &[EcrImage<'_>],
) -> BTreeSet<&'i str> {
    exclusions(images)
        .filter(|(source, exclusion)| is_needed(others, source, exclusion))
        .map(|(_, exclusion)| exclusion.as_str())
        .collect()
}

/// All that is excluded, with what decides the credential of the pattern that it is taken away from.
fn exclusions<'i>(images: &[EcrImage<'i>]) -> impl Iterator<Item = (&'i EcrSource, &'i Pattern)> {
    images.iter().copied().flat_map(|image| {
        let exclusions = image.exclusions.iter();
        exclusions.map(move |exclusion| (image.source, exclusion))
    })
}

fn is_needed(images: &[EcrImage<'_>], source: &EcrSource, exclusion: &Pattern) -> bool {
    let mut of_region = images
        .iter()
        .filter(|image| image.source.region == source.region);
    of_region.any(|image| image.needs(exclusion))
}

fn repositories_of(partition: Partition, source: &EcrSource, pattern: &Pattern) -> Vec<String> {
    let account = match Host::recognise_pattern(pattern.host()) {
        Some(Host::Ecr(host)) => host.account.to_owned(),
        _ => placeholder_of(source, pattern),
    };
    let (service, region, path) = if source.public {
        ("ecr-public", "", public_path(pattern.path()))
    } else {
        ("ecr", source.region.as_str(), pattern.path())
    };
    let repository =
        |path: &str| format!("arn:{partition}:{service}:{region}:{account}:repository/{path}");
    match path {
        "" => vec![repository("*")],
        path => vec![repository(path), repository(&format!("{path}/*"))],
    }
}

/// What stands for an account that nothing says. The registry of each alias of Amazon ECR Public may be another account's.
fn placeholder_of(source: &EcrSource, pattern: &Pattern) -> String {
    match pattern.path().split('/').next() {
        Some(alias) if source.public && !alias.is_empty() => format!("{ACCOUNT_OF_ALIAS}{alias}>"),
        _ => UNKNOWN_ACCOUNT.to_owned(),
    }
}

/// A path of public.ecr.aws without the registry's alias.
///
/// <https://docs.aws.amazon.com/AmazonECR/latest/public/public-registries.html>
fn public_path(path: &str) -> &str {
    path.split_once('/')
        .map_or("", |(_, repository)| repository)
}

/// The account that a pattern's host names.
fn account_of(pattern: &Pattern) -> Option<&str> {
    match Host::recognise_pattern(pattern.host()) {
        Some(Host::Ecr(host)) if host.account != "*" => Some(host.account),
        _ => None,
    }
}
