//! What is said of one image: the row that programs read.

use serde::Serialize;

use super::ExplainContext;
use super::builders::{self, PushOption};
use super::exports::{self, ExportedSecret};
use super::images::ImageArg;
use crate::image::Reference;
use crate::registry::{
    Delivery, Explanation, Host, Pattern, PodMetadata, Precedence, RegistryMatch, Resolved, Why,
};

/// A row of `-o json`. The names and forms of its fields are stable.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ExplainedImage {
    /// The image as it was given.
    pub(super) image: String,
    pub(super) host: Option<String>,
    pub(super) port: Option<String>,
    pub(super) path: Option<String>,
    pub(super) tag: Option<String>,
    pub(super) digest: Option<String>,
    /// The Registry that serves it.
    pub(super) registry: Option<String>,
    /// The pull secret that holds its credential.
    pub(super) secret: Option<String>,
    /// How Pods get it.
    pub(super) delivery: Option<Delivery>,
    /// What its host is.
    pub(super) provider: Option<ProviderInfo>,
    pub(super) reason: String,
    /// The Registries with access Push that are for it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) builders: Vec<PushOption>,
    /// The further Secrets that hold its login.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) exports: Vec<ExportedSecret>,
    /// Which clients cannot use the pull secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) clients: Option<String>,
    /// Why the image could not be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<String>,
    /// What only people are shown.
    #[serde(skip)]
    pub(super) details: Details,
}

/// What a host name says; every kind has all fields, null where they do not apply.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ProviderInfo {
    /// `ecr` or `acr`.
    pub(super) kind: &'static str,
    pub(super) account: Option<String>,
    pub(super) region: Option<String>,
    pub(super) partition: Option<&'static str>,
    pub(super) public: bool,
    pub(super) fips: bool,
    pub(super) dual_stack: bool,
    /// The login server of an Azure Container Registry.
    pub(super) server: Option<String>,
}

/// What people are shown besides.
#[derive(Debug, Default)]
pub(super) struct Details {
    /// The field of the Pod that has the image.
    pub(super) place: Option<String>,
    /// What a Pod with the image gets.
    pub(super) gets: Option<PodGets>,
    /// The Registries that have to do with the image, each with why it does not serve it.
    pub(super) others: Vec<(String, String)>,
    /// How many Registries have nothing to do with the image.
    pub(super) without_pattern: usize,
}

/// What a Pod with an image gets.
#[derive(Debug)]
pub(super) struct PodGets {
    /// The pull secret that it references; `None`: it references none.
    pub(super) secret: Option<String>,
    /// The key of the image in the pull secret.
    pub(super) key: String,
    /// Whether its node's kubelet gets the credential that asks.
    pub(super) by_node: bool,
    /// Labels and annotations.
    pub(super) pod_metadata: PodMetadata,
}

impl Details {
    fn new(explanation: &Explanation<'_>) -> Self {
        let gets = explanation.resolved.as_ref().map(|resolved| PodGets {
            secret: resolved.registry.secret.as_ref().map(ToString::to_string),
            key: resolved.key.to_string(),
            by_node: resolved.registry.delivers_by_node(),
            pod_metadata: resolved.registry.pod_metadata.clone(),
        });
        let without_pattern = explanation
            .matches
            .iter()
            .filter(|result| matches!(result.why, Why::NoPattern))
            .count();
        Self {
            place: None,
            gets,
            others: others(explanation),
            without_pattern,
        }
    }
}

/// Explains one image.
pub(super) fn explain(context: &ExplainContext, image: &ImageArg) -> ExplainedImage {
    let row = ExplainedImage {
        image: image.text.clone(),
        ..ExplainedImage::default()
    };
    let details = Details {
        place: image.place.clone(),
        ..Details::default()
    };
    let reference = match Reference::parse(&image.text) {
        Ok(reference) => reference,
        Err(error) => {
            return ExplainedImage {
                reason: "the image could not be read".to_owned(),
                error: Some(error.to_owned()),
                details,
                ..row
            };
        }
    };
    let host = reference.host().to_ascii_lowercase();
    let recognised = Host::recognise(&host);
    let explanation = context
        .registries
        .explain(context.pod_subject(), &reference);
    let owned = |part: Option<&str>| part.map(str::to_owned);
    let resolved = explanation.resolved.as_ref();
    let registry = resolved.map(|resolved| resolved.registry);
    ExplainedImage {
        host: Some(reference.host().to_owned()),
        port: owned(reference.port()),
        path: Some(reference.path().to_owned()),
        tag: owned(reference.tag()),
        digest: owned(reference.digest()),
        registry: registry.map(|registry| registry.name.to_string()),
        secret: owned(registry.and_then(|registry| registry.secret.as_deref())),
        delivery: registry.map(|registry| registry.delivery),
        provider: recognised.and_then(provider),
        reason: reason(&explanation, recognised),
        builders: builders::find(&explanation),
        exports: exports::find(&explanation, reference.repository()),
        clients: builders::find_shared_host(context, &explanation, reference.repository()),
        details: Details {
            place: image.place.clone(),
            ..Details::new(&explanation)
        },
        ..row
    }
}

/// All rows, for programs.
#[derive(Serialize)]
pub(super) struct ExplainReport<'a> {
    pub(super) images: &'a [ExplainedImage],
}

fn provider(host: Host<'_>) -> Option<ProviderInfo> {
    let none = ProviderInfo {
        kind: "ecr",
        account: None,
        region: None,
        partition: None,
        public: false,
        fips: false,
        dual_stack: false,
        server: None,
    };
    match host {
        Host::Ecr(ecr) => Some(ProviderInfo {
            account: Some(ecr.account.to_owned()),
            region: Some(ecr.region.to_owned()),
            partition: Some(ecr.partition.name()),
            fips: ecr.fips,
            dual_stack: ecr.dual_stack,
            ..none
        }),
        Host::EcrPublic { dual_stack } => {
            let partition = Some(crate::registry::source::Partition::Aws.name());
            Some(ProviderInfo {
                partition,
                public: true,
                dual_stack,
                ..none
            })
        }
        Host::Acr(acr) => Some(ProviderInfo {
            kind: "acr",
            region: acr.region.map(str::to_owned),
            partition: Some(acr.cloud.name()),
            server: Some(acr.server.to_owned()),
            ..none
        }),
        Host::AcrData => None,
    }
}

/// One sentence: who serves the image, or why nobody does.
pub(in crate::command) fn reason(explanation: &Explanation<'_>, host: Option<Host<'_>>) -> String {
    if let Some(Resolved { registry, .. }) = &explanation.resolved {
        let pattern = explanation
            .matches
            .iter()
            .find_map(|result| match result.why {
                Why::Serves { pattern } => Some(pattern),
                _ => None,
            });
        return match pattern {
            Some(pattern) => format!(
                "{} serves it: its pattern {pattern} covers the image",
                registry.name
            ),
            None => format!("{} serves it", registry.name),
        };
    }
    if host == Some(Host::AcrData) {
        return "no Registry serves it: its host is a data endpoint, where no image is pulled from"
            .to_owned();
    }
    if explanation.matches.is_empty() {
        return "no Registry serves it: there is none, create one, or name a file of them with -f"
            .to_owned();
    }
    let near: Vec<String> = others(explanation)
        .into_iter()
        .map(|(name, why)| format!("{name}: {why}"))
        .collect();
    if near.is_empty() {
        "no Registry serves it: no pattern covers the image".to_owned()
    } else {
        format!("no Registry serves it: {}", near.join("; "))
    }
}

/// The Registries that have to do with the image, but do not serve it.
fn others(explanation: &Explanation<'_>) -> Vec<(String, String)> {
    let others = explanation
        .matches
        .iter()
        .filter(|result| !matches!(result.why, Why::Serves { .. } | Why::NoPattern));
    others
        .map(|result| (result.registry.name.to_string(), why_not(result)))
        .collect()
}

fn why_not(result: &RegistryMatch<'_>) -> String {
    match result.why {
        Why::Serves { pattern } => format!("its pattern {pattern} covers the image"),
        Why::NoPattern => "no pattern of it covers the image".to_owned(),
        Why::UppercaseHost { pattern } => {
            format!(
                "its pattern {pattern} is in lower case, the image's host is not, and the kubelet compares case-sensitively: write the host in lower case"
            )
        }
        Why::UsualPort { pattern } => {
            let (pattern_is, image_is) = if pattern.domain().ends_with(":443") {
                ("names port 443, the image's host does not", "with :443")
            } else {
                ("names no port, the image's host names 443", "without :443")
            };
            format!(
                "its pattern {pattern} {pattern_is}, and the kubelet compares ports as text: write the image {image_is}, or add the other form to images"
            )
        }
        Why::Excluded { exclude } => format!("it excludes {exclude}"),
        Why::NamespaceNotServed => format!(
            "it does not serve the namespace: it selects {}",
            result.registry.namespaces
        ),
        Why::ServiceAccountNotServed => format!(
            "it does not serve the ServiceAccount: it selects {}",
            result.registry.service_accounts.join(", ")
        ),
        Why::PodNotServed => {
            let selector = result.registry.pods.as_ref();
            let selector = selector.map(ToString::to_string).unwrap_or_default();
            format!("it does not serve the Pod: it selects Pods by {selector}")
        }
        Why::Suspended => "it is suspended".to_owned(),
        Why::Pushes { pattern } => format!(
            "its pattern {pattern} covers the image, its access is Push: builders mount its Secret {}, no Pod is given it to pull",
            result.registry.secret.as_deref().unwrap_or("none")
        ),
        Why::Outranked {
            pattern,
            by,
            because,
        } => {
            let because = describe_precedence(because, pattern);
            format!("{} comes first: {because}", by.name)
        }
    }
}

fn describe_precedence(because: Precedence<'_>, pattern: &Pattern) -> String {
    match because {
        Precedence::Pattern(first) => format!("its pattern {first} comes before {pattern}"),
        Precedence::MoreSpecific { specificity, than } => {
            format!("it {specificity}, this one {than}")
        }
        Precedence::Older => "it is older".to_owned(),
        Precedence::Name => "its name comes first".to_owned(),
    }
}
