//! A valid Registry, ready for use: patterns read, credentials' sources derived.

mod acr;
mod exports;

use std::cmp::Ordering;

use jiff::Timestamp;

use super::Labels;
use super::crd::{Access, Delivery, Ecr, Identity, PodMetadata, Registry, RegistrySpec};
use super::host::{Host, partition_of};
use super::pattern::Pattern;
use super::pod_subject::{PodSubject, Specificity};
use super::secret_format::SecretFormat;
use super::selector::LabelSelector;
use super::source::{CredentialSource, EcrIdentity, EcrSource, Partition, StaticSource};
use super::validate::{self, Problem};
use crate::names::ObjectName;
pub use exports::ValidExport;

/// A Registry that breaks no rule.
#[derive(Clone, Debug)]
pub struct ValidRegistry {
    /// Its name.
    pub name: ObjectName,
    /// Its credentials, each with the keys of the patterns that it is for, in the order in which `images` first needs them.
    pub sources: Vec<(CredentialSource, Vec<String>)>,
    /// What its credentials are for.
    pub access: Access,
    /// How Pods get its credentials.
    pub delivery: Delivery,
    /// What a Pod gets besides.
    pub pod_metadata: PodMetadata,
    /// Whether it rests.
    pub suspend: bool,
    /// The namespaces it serves, among those that opted in.
    pub namespaces: LabelSelector,
    /// The ServiceAccounts whose Pods it serves there; empty for all.
    pub service_accounts: Vec<String>,
    /// The Pods it serves there; `None` for all.
    pub pods: Option<LabelSelector>,
    /// How narrowly all this chooses.
    pub specificity: Specificity,
    /// The name of the Secret that holds its credentials in each namespace it serves: [`super::PULL_SECRET`], or its own one
    /// `pullpass-<name>` where it chooses among a namespace's Pods, or pushes; `None`: no Secret does, kubelets ask.
    pub secret: Option<ObjectName>,
    /// Its further Secrets, which no Pod references.
    pub exports: Vec<ValidExport>,
    /// When it was made; nothing for those read from files.
    pub created: Option<Timestamp>,
    pub(super) images: Vec<ImagePattern>,
}

/// One pattern of `images`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ImagePattern {
    pub(super) pattern: Pattern,
    /// What `excludedImages` takes away from the pattern.
    pub(super) exclusions: Vec<Pattern>,
    /// The place of its credential in `sources`.
    pub(super) source: usize,
}

impl ValidRegistry {
    pub(super) fn new(registry: &Registry) -> Result<Self, Vec<Problem>> {
        let patterns = validate::check(registry)?;
        let spec = &registry.spec;
        let mut sources: Vec<(CredentialSource, Vec<String>)> = Vec::new();
        let mut images = Vec::with_capacity(patterns.images.len());
        for pattern in patterns.images {
            let needed = source_of(spec, &pattern);
            let source = sources
                .iter()
                .position(|(source, _)| *source == needed)
                .unwrap_or_else(|| {
                    sources.push((needed, Vec::new()));
                    sources.len() - 1
                });
            sources[source].1.push(pattern.key().to_owned());
            let exclusions = patterns
                .excluded_images
                .iter()
                .filter_map(|excluded_images| pattern.intersect(excluded_images))
                .collect();
            images.push(ImagePattern {
                pattern,
                exclusions,
                source,
            });
        }
        let name = checked(registry.metadata.name.as_deref().unwrap_or_default());
        let specificity = specificity_of(spec);
        let created = registry.metadata.creation_timestamp.as_ref();
        Ok(Self {
            name: name.clone(),
            sources,
            access: spec.access,
            delivery: spec.delivery,
            pod_metadata: spec.pod_metadata.clone().unwrap_or_default(),
            suspend: spec.suspend,
            namespaces: spec.namespace_selector.clone(),
            service_accounts: spec.service_account_names.clone(),
            pods: spec.pod_selector.clone(),
            specificity,
            secret: exports::secret_of(&name, spec, specificity),
            exports: exports::exports_of(&name, spec),
            created: created.map(|time| time.0),
            images,
        })
    }

    /// Whether it serves a namespace with these labels: it selects it and is not suspended.
    pub fn serves(&self, namespace: &Labels) -> bool {
        !self.suspend && self.namespaces.matches(namespace)
    }

    /// Whether it serves this Pod: it selects its namespace, its ServiceAccount and its labels, is not suspended, and does not push.
    pub fn serves_pod(&self, pod_subject: &PodSubject<'_>) -> bool {
        !self.suspend
            && self.access.is_pull()
            && pod_subject
                .namespace
                .is_none_or(|labels| self.namespaces.matches(labels))
            && self.serves_account(pod_subject)
            && self.serves_labels(pod_subject)
    }

    pub(super) fn serves_account(&self, pod_subject: &PodSubject<'_>) -> bool {
        self.service_accounts.is_empty()
            || pod_subject
                .service_account
                .is_none_or(|account| self.service_accounts.iter().any(|one| one == account))
    }

    pub(super) fn serves_labels(&self, pod_subject: &PodSubject<'_>) -> bool {
        match (&self.pods, pod_subject.labels) {
            (Some(pods), Some(labels)) => pods.matches(labels),
            _ => true,
        }
    }

    /// Whether both give the same logins to the same namespaces in the same secret.
    pub(super) fn gives_the_same(&self, other: &Self) -> bool {
        self.images == other.images
            && self.sources == other.sources
            && self.namespaces == other.namespaces
            && self.secret == other.secret
            && self.exports == other.exports
            && self.access == other.access
    }

    /// Whether both do the same for the same Pods, and come equally early.
    pub fn serves_the_same(&self, other: &Self) -> bool {
        self.gives_the_same(other)
            && self.suspend == other.suspend
            && self.compare_rank(other).is_eq()
            && self.service_accounts == other.service_accounts
            && self.pods == other.pods
    }

    /// Whether it rests and its entries in this secret of a namespace with these labels stay until they expire.
    pub fn retains(&self, namespace: &Labels, secret: &str, key: &str) -> bool {
        self.suspend
            && Pattern::of_key(key).is_some_and(|key| self.reaches(namespace, secret, &key))
    }

    /// Whether `key` of this secret lies within its patterns in a namespace with these labels, excluded or not, or is a host's own key.
    pub(super) fn reaches(&self, namespace: &Labels, secret: &str, key: &Pattern) -> bool {
        self.has_secret(secret)
            && self.namespaces.matches(namespace)
            && (self.patterns().any(|given| given.covers_pattern(key))
                || self.has_host_key(secret, key))
    }

    /// Whether it gives a login for a host as such in this secret, of which it may have no pattern.
    fn has_host_key(&self, secret: &str, key: &Pattern) -> bool {
        let is_of_host = |given: &Pattern| given.domain() == key.domain();
        let has_hosts = match self.format_of(secret) {
            Some(SecretFormat::Export(_)) => true,
            Some(SecretFormat::PullSecret) => !self.access.is_pull(),
            None => false,
        };
        has_hosts && key.path().is_empty() && self.patterns().any(is_of_host)
    }

    /// Whether it gives a login for all of `key` in this secret of a namespace with these labels, were it alone.
    pub(super) fn gives(&self, namespace: &Labels, secret: &str, key: &Pattern) -> bool {
        let mut images = self.images.iter();
        self.reaches(namespace, secret, key)
            && (images.any(|image| image.gives(key)) || self.has_host_key(secret, key))
    }

    /// Whether its login is a fixed one, out of a source Secret.
    pub fn has_static_login(&self) -> bool {
        let mut sources = self.sources.iter();
        sources.any(|(source, _)| matches!(source, CredentialSource::Static(_)))
    }

    /// The patterns of its images.
    pub fn patterns(&self) -> impl Iterator<Item = &Pattern> {
        self.images.iter().map(|image| &image.pattern)
    }

    /// The patterns of its images, each with the credential that is for it.
    pub fn credentials(&self) -> impl Iterator<Item = (&Pattern, &CredentialSource)> {
        let source = |image: &ImagePattern| &self.sources[image.source].0;
        self.images
            .iter()
            .map(move |image| (&image.pattern, source(image)))
    }

    /// The keys of what `excludedImages` takes away from one of its credentials: logins there are not the Registry's.
    pub fn excluded_keys(&self, source: &CredentialSource) -> Vec<String> {
        let images = self.credentials().filter(|(_, one)| *one == source);
        let excluded = images.flat_map(|(pattern, _)| self.exclusions_of(pattern));
        excluded.map(|one| one.key().to_owned()).collect()
    }

    /// What `excludedImages` takes away from one of its patterns.
    pub fn exclusions_of(&self, pattern: &Pattern) -> &[Pattern] {
        let mut images = self.images.iter();
        let image = images.find(|image| image.pattern == *pattern);
        image.map_or(&[], |image| &image.exclusions)
    }

    /// The first pattern that covers a repository and does not have it excluded.
    pub fn find_serving(&self, domain: &str, path: &str) -> Option<&Pattern> {
        let serves = |image: &&ImagePattern| {
            image.pattern.covers(domain, path) && image.exclusion(domain, path).is_none()
        };
        let serving = self.images.iter().filter(serves);
        serving.map(|image| &image.pattern).min()
    }

    /// Whether it serves everything that `key` covers.
    pub(super) fn serves_all_of(&self, key: &Pattern) -> bool {
        self.images.iter().any(|image| {
            let mut exclusions = image.exclusions.iter();
            image.pattern.covers_pattern(key) && !exclusions.any(|one| one.intersect(key).is_some())
        })
    }

    /// What decides between equal patterns: the narrower, the older, the name.
    pub(super) fn compare_rank(&self, other: &Self) -> Ordering {
        let age = |registry: &Self| (registry.created.is_none(), registry.created);
        self.specificity
            .cmp(&other.specificity)
            .then_with(|| age(self).cmp(&age(other)))
            .then_with(|| self.name.cmp(&other.name))
    }
}

impl ImagePattern {
    /// Whether all that this key covers is the pattern's, and nothing of it is taken away.
    pub(super) fn gives(&self, key: &Pattern) -> bool {
        self.pattern.covers_pattern(key) && !self.excludes(key)
    }

    /// Whether all that this key covers is taken away.
    pub(super) fn excludes(&self, key: &Pattern) -> bool {
        let mut exclusions = self.exclusions.iter();
        exclusions.any(|exclusion| exclusion.covers_pattern(key))
    }

    /// What takes a repository away from the pattern, if anything does: of several the first in the kubelet's order.
    pub(super) fn exclusion(&self, domain: &str, path: &str) -> Option<&Pattern> {
        self.exclusions
            .iter()
            .filter(|exclusion| exclusion.covers(domain, path))
            .min()
    }
}

/// A name of a Registry that breaks no rule: `validate` refuses all others, and bounds a Registry's own so that its Secret has one, too.
fn checked(name: &str) -> ObjectName {
    ObjectName::parse(name).expect("a valid Registry holds valid names alone")
}

/// The credential that a pattern's images need. The Registry is valid: every ECR host names its region, or `ecr.region` does.
fn source_of(spec: &RegistrySpec, pattern: &Pattern) -> CredentialSource {
    if let Some(ecr) = &spec.ecr {
        return CredentialSource::Minted(ecr_source(ecr, pattern).into());
    }
    if let Some(acr) = &spec.acr {
        return CredentialSource::Minted(acr::source_of(acr, pattern.host(), spec.access).into());
    }
    let fixed = spec.fixed.as_ref();
    let fixed = fixed.expect("a valid Registry has one of ecr, acr and static");
    CredentialSource::Static(StaticSource {
        secret: checked(&fixed.secret_ref.name),
    })
}

fn ecr_source(ecr: &Ecr, pattern: &Pattern) -> EcrSource {
    let region = ecr.region.as_deref().unwrap_or_default();
    let (partition, region, public, fips, dual_stack) =
        match Host::recognise_pattern(pattern.host()) {
            Some(Host::Ecr(host)) => (
                host.partition,
                host.region,
                false,
                host.fips,
                host.dual_stack,
            ),
            Some(Host::EcrPublic { dual_stack }) => {
                (Partition::Aws, "us-east-1", true, false, dual_stack)
            }
            _ => (
                partition_of(region).unwrap_or(Partition::Aws),
                region,
                false,
                false,
                false,
            ),
        };
    EcrSource {
        partition,
        region: region.to_owned(),
        public,
        fips,
        dual_stack,
        identity: identity_of(ecr),
        session_seconds: session_seconds_of(&ecr.identity),
        assume_roles: ecr.assume_roles.clone(),
        token_life: ecr.token_life.unwrap_or_default(),
        endpoints: ecr.endpoints.clone().unwrap_or_default(),
    }
}

fn identity_of(ecr: &Ecr) -> EcrIdentity {
    match &ecr.identity {
        Identity {
            keys: Some(keys), ..
        } => EcrIdentity::Keys {
            secret: checked(&keys.secret_ref.name),
        },
        Identity { node: Some(_), .. } => EcrIdentity::Node,
        Identity {
            service_account: Some(account),
            ..
        } => EcrIdentity::ServiceAccount {
            name: checked(&account.name),
            role_arn: account.role_arn.clone(),
            audience: ecr.audience.clone(),
        },
        _ => EcrIdentity::Workload,
    }
}

fn session_seconds_of(identity: &Identity) -> Option<u32> {
    let of_account = identity.service_account.as_ref();
    let of_own = identity.workload.as_ref();
    of_account
        .and_then(|account| account.duration_seconds)
        .or_else(|| of_own.and_then(|own| own.duration_seconds))
}

/// How narrowly a Registry chooses.
fn specificity_of(spec: &RegistrySpec) -> Specificity {
    if spec.pod_selector.is_some() {
        Specificity::Pods
    } else if !spec.service_account_names.is_empty() {
        Specificity::ServiceAccounts
    } else if spec.namespace_selector.is_empty() {
        Specificity::Everyone
    } else {
        Specificity::Namespaces
    }
}
