//! The roles of Azure that a Registry's principal needs, by its `access`.

use super::super::PolicyContext;
use crate::registry::Access;

/// A role, and the id of its definition.
pub(super) type Role = (&'static str, &'static str);

/// The roles that pull, and that push besides.
///
/// <https://learn.microsoft.com/azure/role-based-access-control/built-in-roles/containers#acrpull>,
/// <https://learn.microsoft.com/azure/role-based-access-control/built-in-roles/containers#acrpush>
const PULL: Role = ("AcrPull", "7f951dda-4ed3-4680-a7ca-43fe172d538d");
const PUSH: Role = ("AcrPush", "8311e382-0749-4cb8-b61a-304f252e45ec");

/// The roles that count where a registry has repository permissions, which ignores [`PULL`] and [`PUSH`].
///
/// <https://learn.microsoft.com/azure/container-registry/container-registry-rbac-abac-repository-permissions>
const READ_REPOSITORY: Role = (
    "Container Registry Repository Reader",
    "b93aa761-3e63-49ed-ac28-beffa264f7ac",
);
const WRITE_REPOSITORY: Role = (
    "Container Registry Repository Writer",
    "2a1e307c-b015-4ebd-883e-5b7698a07328",
);

/// What the role [`WRITE_REPOSITORY`] may do, of which [`READ_REPOSITORY`] may do the first two: a condition restrains only the actions that
/// it names.
///
/// <https://learn.microsoft.com/azure/container-registry/container-registry-rbac-built-in-roles-directory-reference>
const ON_REPOSITORY: [&str; 4] = [
    "Microsoft.ContainerRegistry/registries/repositories/content/read",
    "Microsoft.ContainerRegistry/registries/repositories/metadata/read",
    "Microsoft.ContainerRegistry/registries/repositories/content/write",
    "Microsoft.ContainerRegistry/registries/repositories/metadata/write",
];

/// What a Registry's principal gets, by its `access`.
pub(super) struct Rights {
    /// What it may do, for titles.
    pub(super) verb: &'static str,
    /// The same with repositories, in the other mode.
    pub(super) repository_verb: &'static str,
    /// The same with every repository.
    pub(super) every_verb: &'static str,
    pub(super) role: Role,
    pub(super) repository_role: Role,
    /// What the repository role may do.
    pub(super) actions: &'static [&'static str],
    /// Whether layers are kept in repositories beside those that are pushed to.
    pub(super) has_caches: bool,
}

impl Rights {
    pub(super) fn new(access: Access, place: &PolicyContext<'_>) -> Self {
        match access {
            Access::Pull => Self {
                verb: "pull from",
                repository_verb: "read its repositories",
                every_verb: "pulling every repository",
                role: PULL,
                repository_role: READ_REPOSITORY,
                actions: &ON_REPOSITORY[..2],
                has_caches: false,
            },
            Access::Push => Self {
                verb: "pull from and push to",
                repository_verb: "read and write its repositories",
                every_verb: "pulling and pushing every repository",
                role: PUSH,
                repository_role: WRITE_REPOSITORY,
                actions: &ON_REPOSITORY,
                has_caches: place.args.cache_repositories,
            },
        }
    }
}
