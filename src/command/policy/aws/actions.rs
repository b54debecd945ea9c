//! What a principal may do with images of Amazon ECR, by a Registry's `access`.
//!
//! Names and the resources they are on: <https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonelasticcontainerregistry.html>,
//! <https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonelasticcontainerregistrypublic.html>

use super::super::PolicyContext;
use crate::registry::Access;

/// What a pull is made of.
///
/// <https://docs.aws.amazon.com/AmazonECR/latest/userguide/image-pull.html>
const PULL: [&str; 3] = [
    "ecr:BatchCheckLayerAvailability",
    "ecr:BatchGetImage",
    "ecr:GetDownloadUrlForLayer",
];

/// What a push is made of, besides what a pull is.
///
/// <https://docs.aws.amazon.com/AmazonECR/latest/userguide/image-push-iam.html>
const PUSH: [&str; 4] = [
    "ecr:CompleteLayerUpload",
    "ecr:InitiateLayerUpload",
    "ecr:PutImage",
    "ecr:UploadLayerPart",
];

/// What a push to Amazon ECR Public is made of; pulling needs no right there.
///
/// <https://docs.aws.amazon.com/AmazonECR/latest/public/public-repository-policy-examples.html>
const PUSH_PUBLIC: [&str; 5] = [
    "ecr-public:BatchCheckLayerAvailability",
    "ecr-public:CompleteLayerUpload",
    "ecr-public:InitiateLayerUpload",
    "ecr-public:PutImage",
    "ecr-public:UploadLayerPart",
];

/// What a pull needs besides where a repository is behind a pull-through cache and does not hold the image, or is not there, yet.
///
/// <https://docs.aws.amazon.com/AmazonECR/latest/userguide/pull-through-cache-iam.html>
const PULL_THROUGH: [&str; 2] = ["ecr:BatchImportUpstreamImage", "ecr:CreateRepository"];

/// What makes a repository.
const CREATE: [&str; 1] = ["ecr:CreateRepository"];
/// The same of Amazon ECR Public.
const CREATE_PUBLIC: [&str; 1] = ["ecr-public:CreateRepository"];

/// What a Registry's principal may do.
#[derive(Clone, Copy)]
pub(super) struct AllowedActions {
    access: Access,
    pull_through: bool,
    create: bool,
}

impl AllowedActions {
    pub(super) fn new(access: Access, place: &PolicyContext<'_>) -> Self {
        Self {
            access,
            pull_through: place.args.pull_through_cache,
            create: access == Access::Push && place.args.create_repositories,
        }
    }

    /// Whether it pushes.
    pub(super) fn pushes(self) -> bool {
        self.access == Access::Push
    }

    /// What it may do, for titles.
    pub(super) fn verb(self) -> &'static str {
        match self.access {
            Access::Pull => "pull",
            Access::Push => "pull and push",
        }
    }

    /// The statements on repositories that are there: their names, and their actions.
    pub(super) fn on_repositories(self) -> Vec<(&'static str, &'static [&'static str])> {
        let mut statements: Vec<(&str, &[&str])> = vec![("Pull", &PULL)];
        if self.access == Access::Push {
            statements.push(("Push", &PUSH));
        }
        statements
    }

    /// The statements that no repository's own policy can hold, as the repository need not be there.
    pub(super) fn on_registry(self) -> Vec<(&'static str, &'static [&'static str])> {
        let mut statements: Vec<(&str, &[&str])> = Vec::new();
        if self.pull_through {
            statements.push(("PullThroughCache", &PULL_THROUGH));
        }
        // The one before has it already.
        if self.create && !self.pull_through {
            statements.push(("Create", &CREATE));
        }
        statements
    }

    /// The statements on repositories of Amazon ECR Public.
    pub(super) fn on_public(self) -> Vec<(&'static str, &'static [&'static str])> {
        let mut statements: Vec<(&str, &[&str])> = Vec::new();
        if self.access == Access::Push {
            statements.push(("PushPublic", &PUSH_PUBLIC));
        }
        if self.create {
            statements.push(("CreatePublic", &CREATE_PUBLIC));
        }
        statements
    }

    /// Everything that it may do with a repository that is there.
    pub(super) fn of_repository(self, is_public: bool) -> Vec<&'static str> {
        let statements = match (is_public, self.access) {
            (true, Access::Pull) => Vec::new(),
            (true, Access::Push) => return PUSH_PUBLIC.to_vec(),
            (false, _) => self.on_repositories(),
        };
        concat(statements)
    }

    /// Everything that it may do with repositories, be they there or not.
    pub(super) fn all(self, is_public: bool) -> Vec<&'static str> {
        if is_public {
            return concat(self.on_public());
        }
        let mut all = self.on_repositories();
        all.extend(self.on_registry());
        concat(all)
    }
}

fn concat(statements: Vec<(&'static str, &'static [&'static str])>) -> Vec<&'static str> {
    let actions = statements.into_iter().map(|(_, actions)| actions);
    actions.collect::<Vec<_>>().concat()
}
