//! A valid Registry, ready for use: patterns read, credentials' sources derived.

mod acr;

use std::cmp::Ordering;
use std::sync::Arc;

use jiff::Timestamp;

use super::Labels;
use super::host::{Host, partition_of};
use super::kind::{self, AssumeRole, Ecr, Identity, Inject, Registry, RegistrySpec};
use super::pattern::Pattern;
use super::selector::LabelSelector;
use super::source::{
    CredentialSource, EcrEndpoints, EcrIdentity, EcrSource, RoleHop, StaticSource, TokenLife,
};
use super::validate::{self, Problem};

/// A Registry that breaks no rule.
#[derive(Clone, Debug)]
pub struct ServedRegistry {
    /// Its name.
    pub name: Arc<str>,
    /// Its credentials, each with the keys of the patterns that it is for, in the order in which `images` first needs them.
    pub sources: Vec<(CredentialSource, Vec<String>)>,
    /// What a Pod gets besides.
    pub inject: Inject,
    /// Whether it rests.
    pub suspend: bool,
    /// The namespaces it serves, among those that opted in.
    pub namespaces: LabelSelector,
    /// When it was made; nothing for those read from files.
    pub created: Option<Timestamp>,
    pub(super) images: Vec<Image>,
}

/// One pattern of `images`.
#[derive(Clone, Debug)]
pub(super) struct Image {
    pub(super) pattern: Pattern,
    /// What `exclude` takes away from the pattern.
    pub(super) cuts: Vec<Pattern>,
    /// The place of its credential in `sources`.
    pub(super) source: usize,
}

impl ServedRegistry {
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
            let cuts = patterns
                .exclude
                .iter()
                .filter_map(|exclude| pattern.intersect(exclude))
                .collect();
            images.push(Image {
                pattern,
                cuts,
                source,
            });
        }
        Ok(Self {
            name: registry.metadata.name.as_deref().unwrap_or_default().into(),
            sources,
            inject: spec.inject.clone().unwrap_or_default(),
            suspend: spec.suspend,
            namespaces: spec.serves.namespaces.clone(),
            created: registry
                .metadata
                .creation_timestamp
                .as_ref()
                .map(|time| time.0),
            images,
        })
    }

    /// Whether it serves a namespace with these labels: it selects it and is not suspended.
    pub fn serves(&self, namespace: &Labels) -> bool {
        !self.suspend && self.namespaces.matches(namespace)
    }

    /// The patterns of its images.
    pub fn patterns(&self) -> impl Iterator<Item = &Pattern> {
        self.images.iter().map(|image| &image.pattern)
    }

    /// The patterns of its images, each with the credential that is for it.
    pub fn credentials(&self) -> impl Iterator<Item = (&Pattern, &CredentialSource)> {
        let source = |image: &Image| &self.sources[image.source].0;
        self.images
            .iter()
            .map(move |image| (&image.pattern, source(image)))
    }

    /// What decides between equal patterns: selecting namespaces before serving all, the older, the name.
    pub(super) fn compare_rank(&self, other: &Self) -> Ordering {
        let age = |registry: &Self| (registry.created.is_none(), registry.created);
        self.namespaces
            .is_empty()
            .cmp(&other.namespaces.is_empty())
            .then_with(|| age(self).cmp(&age(other)))
            .then_with(|| self.name.cmp(&other.name))
    }
}

impl Image {
    /// What takes a repository away from the pattern, if anything does: of several the first in the kubelet's order.
    pub(super) fn cut(&self, domain: &str, path: &str) -> Option<&Pattern> {
        self.cuts
            .iter()
            .filter(|cut| cut.covers(domain, path))
            .min()
    }
}

/// The credential that a pattern's images need. The Registry is valid: every ECR host names its region, or `ecr.region` does.
fn source_of(spec: &RegistrySpec, pattern: &Pattern) -> CredentialSource {
    match (&spec.ecr, &spec.fixed) {
        (Some(ecr), _) => CredentialSource::Minted(ecr_source(ecr, pattern).into()),
        (None, fixed) => {
            if let Some(acr) = &spec.acr {
                return CredentialSource::Minted(acr::source_of(acr, pattern.host()).into());
            }
            let secret = fixed
                .as_ref()
                .map(|fixed| fixed.secret_ref.name.clone())
                .unwrap_or_default();
            CredentialSource::Static(StaticSource { secret })
        }
    }
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
            Some(Host::EcrPublic { dual_stack }) => (
                super::source::Partition::Aws,
                "us-east-1",
                true,
                false,
                dual_stack,
            ),
            _ => (
                partition_of(region).unwrap_or(super::source::Partition::Aws),
                region,
                false,
                false,
                false,
            ),
        };
    let endpoints = ecr.endpoints.clone().unwrap_or_default();
    EcrSource {
        partition,
        region: region.to_owned(),
        public,
        fips,
        dual_stack,
        identity: identity_of(ecr.identity.as_ref()),
        assume_role: ecr.assume_role.iter().map(hop_of).collect(),
        token_life: match ecr.token_life {
            Some(kind::TokenLife::Answer) => TokenLife::Answer,
            Some(kind::TokenLife::Session) | None => TokenLife::Session,
        },
        endpoints: EcrEndpoints {
            ecr: endpoints.ecr,
            ecr_public: endpoints.ecr_public,
            sts: endpoints.sts,
        },
    }
}

fn identity_of(identity: Option<&Identity>) -> EcrIdentity {
    match identity {
        Some(Identity {
            keys: Some(keys), ..
        }) => EcrIdentity::Keys {
            secret: keys.secret_ref.name.clone(),
        },
        Some(Identity { node: Some(_), .. }) => EcrIdentity::Node,
        Some(Identity {
            service_account: Some(account),
            ..
        }) => EcrIdentity::ServiceAccount {
            name: account.name.clone(),
            role_arn: account.role_arn.clone(),
        },
        _ => EcrIdentity::Workload,
    }
}

fn hop_of(hop: &AssumeRole) -> RoleHop {
    RoleHop {
        role_arn: hop.role_arn.clone(),
        external_id: hop.external_id.clone(),
        session_name: hop.session_name.clone(),
        duration_seconds: hop.duration_seconds,
    }
}
