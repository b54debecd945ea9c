//! What is wrong with a node's credential providers beside the form of their configuration.

use std::collections::BTreeMap;

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::finding::NodeFinding;
use super::provider::NodeProvider;
use crate::broker::protocol::AUDIENCE;
use crate::command::check::ids;
use crate::command::check::report::Fix;
use crate::command::manifest::YamlDocument;
use crate::registry::match_images::{MatchImage, is_asked_for};
use crate::registry::{Pattern, Registries, ValidRegistry};

/// What prints the configuration as it should be.
const PRINT: &str = "`pullpass credential-provider config` prints it as it should be";

/// The providers of a node, with the documents that they are in.
pub(super) struct Providers<'a> {
    pub(super) documents: &'a [YamlDocument],
    pub(super) providers: &'a [NodeProvider],
}

impl Providers<'_> {
    /// Something that is wrong with a field of a provider.
    fn finding(
        &self,
        provider: &NodeProvider,
        field: &str,
        id: &'static str,
        message: String,
        fix: impl Into<Fix>,
    ) -> NodeFinding {
        let field = match field {
            "" => provider.field.clone(),
            field => format!("{}.{field}", provider.field),
        };
        NodeFinding {
            id,
            is_warning: false,
            place: self.place(provider.file, &field),
            field,
            message,
            fix: fix.into(),
        }
    }

    fn place(&self, file: usize, field: &str) -> String {
        let place = self.documents[file].place(field);
        place.trim_end_matches(": ").to_owned()
    }

    fn ours(&self) -> impl Iterator<Item = &NodeProvider> {
        self.providers.iter().filter(|provider| provider.is_ours())
    }

    /// Names that are given twice, or that no program in the folder has, or none that can be run.
    pub(super) fn judge_programs(
        &self,
        programs: &BTreeMap<String, bool>,
        folder: &str,
    ) -> Vec<NodeFinding> {
        let mut findings = Vec::new();
        for (at, provider) in self.providers.iter().enumerate() {
            let name = &provider.name;
            if name.is_empty() {
                continue;
            }
            let mut before = self.providers[..at].iter();
            if before.any(|other| other.name == *name) {
                let message =
                    format!("{name} is there twice: the kubelet ends at its start with it");
                let fix = "remove one, or copy the program under another name";
                findings.push(self.finding(
                    provider,
                    "name",
                    ids::NODE_FIELD_INVALID,
                    message,
                    fix,
                ));
            }
            let (id, message, fix) = match programs.get(name) {
                Some(true) => continue,
                Some(false) => (
                    ids::NODE_PROGRAM_NOT_EXECUTABLE,
                    format!("{folder}/{name} cannot be run: the kubelet ends at its start with it"),
                    Fix::run(
                        "make it so on the node",
                        format!("chmod 0755 {folder}/{name}"),
                    ),
                ),
                None => (
                    ids::NODE_PROGRAM_MISSING,
                    format!(
                        "{folder} has no program {name}: the kubelet ends at its start without it"
                    ),
                    format!("copy it there with mode 0755, under the provider's name {name}")
                        .into(),
                ),
            };
            findings.push(self.finding(provider, "name", id, message, fix));
        }
        findings
    }

    /// How pullpass is run: with which token and which arguments.
    pub(super) fn judge_ours(
        &self,
        load: impl Fn(&str) -> std::io::Result<Vec<u8>>,
    ) -> Vec<NodeFinding> {
        let mut findings = Vec::new();
        for provider in self.ours() {
            findings.extend(self.judge_token(provider));
            for name in ["--address", "--server-name", "--ca-file"] {
                // The name has a default.
                if provider.argument(name).is_none() && name != "--server-name" {
                    let message =
                        format!("{name} is missing: pullpass ends with that, for each image");
                    findings.push(self.finding(
                        provider,
                        "args",
                        ids::NODE_FIELD_MISSING,
                        message,
                        PRINT,
                    ));
                }
            }
            if provider
                .args
                .first()
                .is_none_or(|first| first != "credential-provider")
            {
                let message = "the first one is not credential-provider: pullpass ends with that, for each image";
                findings.push(self.finding(
                    provider,
                    "args",
                    ids::NODE_FIELD_INVALID,
                    message.to_owned(),
                    PRINT,
                ));
            }
            if let Some(path) = provider.argument("--ca-file") {
                findings.extend(self.judge_authority(provider, path, load(path)));
            }
        }
        findings
    }

    fn judge_token(&self, provider: &NodeProvider) -> Vec<NodeFinding> {
        let Some(token) = &provider.token else {
            let message = "is missing: pullpass is run without a Pod's token, and gives no login";
            let id = ids::NODE_TOKEN_MISSING;
            return vec![self.finding(provider, "tokenAttributes", id, message.to_owned(), PRINT)];
        };
        let mut findings = Vec::new();
        if token.audience != AUDIENCE && !token.audience.is_empty() {
            let field = "tokenAttributes.serviceAccountTokenAudience";
            let message = format!(
                "tokens for {} are none for pullpass, which refuses them",
                token.audience
            );
            let fix = format!("set it to {AUDIENCE}");
            findings.push(self.finding(provider, field, ids::NODE_AUDIENCE_OTHER, message, fix));
        }
        if !token.require_service_account {
            let field = "tokenAttributes.requireServiceAccount";
            let message = "with false pullpass is run for static Pods, too, which have no token, and refuses each";
            let finding = self.finding(
                provider,
                field,
                ids::NODE_FIELD_INVALID,
                message.to_owned(),
                "set it to true",
            );
            findings.push(finding.warning());
        }
        findings
    }

    fn judge_authority(
        &self,
        provider: &NodeProvider,
        path: &str,
        file: std::io::Result<Vec<u8>>,
    ) -> Option<NodeFinding> {
        let fix = "copy ca.crt of the Secret pullpass-certificates there, with mode 0644";
        let (id, message) = match file {
            Err(error) => (
                ids::NODE_CA_MISSING,
                format!("--ca-file {path}: {error}: pullpass ends with that, for each image"),
            ),
            Ok(text) => (
                ids::NODE_CA_MALFORMED,
                format!(
                    "--ca-file {path} {}: pullpass ends with that, for each image",
                    authority_problem(&text)?
                ),
            ),
        };
        Some(self.finding(provider, "args", id, message, fix))
    }

    /// For which images of the Registries the kubelet does not ask pullpass, or somebody else as well.
    pub(super) fn judge_images(&self, registries: &Registries) -> Vec<NodeFinding> {
        let asked: Vec<&ValidRegistry> =
            registries.iter().filter(|one| is_asked_for(one)).collect();
        let mut findings = Vec::new();
        if asked.is_empty() {
            return findings;
        }
        if self.ours().next().is_none() {
            findings.push(NodeFinding {
                id: ids::NODE_PROVIDER_MISSING,
                is_warning: false,
                place: self.documents[0].file.clone(),
                field: "providers".to_owned(),
                message: "none runs pullpass, so that no Pod here gets a login of a Registry with delivery Node".to_owned(),
                fix: format!("add it: {PRINT}").into(),
            });
            return findings;
        }
        for registry in &asked {
            findings.extend(self.judge_matches(registry));
            findings.extend(self.judge_isolation(registry));
        }
        let shared = asked.iter().find(|registry| registry.pods.is_some());
        for provider in self.ours() {
            let is_shared =
                |token: &super::provider::TokenAttributes| token.cache_type == "ServiceAccount";
            if let Some(registry) = shared
                && provider.token.as_ref().is_some_and(is_shared)
            {
                let field = "tokenAttributes.cacheType";
                let message = format!(
                    "Pods of one ServiceAccount share an answer, and Registry {} has a podSelector, by which they get different ones",
                    registry.name
                );
                findings.push(self.finding(
                    provider,
                    field,
                    ids::NODE_CACHE_SHARED,
                    message,
                    "set it to Token",
                ));
            }
        }
        findings
    }

    /// The patterns of a Registry for all of whose images the kubelet does not ask.
    fn judge_matches(&self, registry: &ValidRegistry) -> Vec<NodeFinding> {
        let Some(provider) = self.ours().next() else {
            return Vec::new();
        };
        let is_matched = |pattern: &&Pattern| {
            let mut entries = self.ours().flat_map(|provider| &provider.match_images);
            entries.any(|entry| entry.covers(pattern))
        };
        let missed = registry.patterns().filter(|pattern| !is_matched(pattern));
        missed
            .map(|pattern| {
                let message = format!(
                    "the kubelet does not ask for {pattern}, which Registry {} names",
                    registry.name
                );
                let entry = MatchImage::of_pattern(pattern);
                let fix = format!("add {entry}, and restart the kubelet");
                self.finding(
                    provider,
                    "matchImages",
                    ids::NODE_IMAGE_NOT_MATCHED,
                    message,
                    fix,
                )
            })
            .collect()
    }

    /// The providers that give the same images to every Pod of the node.
    fn judge_isolation(&self, registry: &ValidRegistry) -> Vec<NodeFinding> {
        let mut findings = Vec::new();
        for provider in self
            .providers
            .iter()
            .filter(|one| one.token.is_none() && !one.is_ours())
        {
            let mut entries = provider.match_images.iter();
            let shared = registry
                .patterns()
                .find(|pattern| entries.clone().any(|entry| entry.overlaps(pattern)));
            if let (Some(pattern), Some(_)) = (shared, entries.next()) {
                let message = format!(
                    "{} is run as the node for {pattern} of Registry {}: where the node's own identity may pull it, every Pod here may, whoever the Registry serves",
                    provider.name, registry.name
                );
                let fix = "take those images out of matchImages, or the right to pull them from the node's identity";
                let id = ids::NODE_NOT_ISOLATED;
                findings.push(
                    self.finding(provider, "matchImages", id, message, fix)
                        .warning(),
                );
            }
        }
        findings
    }
}

/// Why a file is no authority's certificate; `None`: it is.
fn authority_problem(text: &[u8]) -> Option<String> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text).collect();
    match found {
        Err(error) => Some(format!("is no PEM: {error}")),
        Ok(found) if found.is_empty() => Some("holds no certificate".to_owned()),
        Ok(found) => {
            let mut store = RootCertStore::empty();
            let mut refused = found.into_iter().filter_map(|one| store.add(one).err());
            let refused = refused.next()?;
            Some(format!("holds what is no certificate: {refused}"))
        }
    }
}
