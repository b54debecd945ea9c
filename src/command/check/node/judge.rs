//! What is wrong with a node's credential providers beside the form of their configuration.

use std::collections::BTreeMap;
use std::io;

use super::files::NodeProgram;
use super::finding::NodeFinding;
use super::provider::NodeProvider;
use super::token::TokenAttributes;
use crate::command::check::ids;
use crate::command::check::report::Fix;
use crate::command::manifest::YamlDocument;
use crate::registry::match_images::{MatchImage, is_asked_for};
use crate::registry::{Pattern, Registries, ValidRegistry};

/// What prints the configuration as it should be.
pub(super) const PRINT: &str = "`pullpass credential-provider config` prints it as it should be";

/// The providers of a node, with the documents that they are in.
pub(super) struct Providers<'a> {
    pub(super) documents: &'a [YamlDocument],
    pub(super) providers: &'a [NodeProvider],
}

impl Providers<'_> {
    /// Something that is wrong with a field of a provider.
    pub(super) fn finding(
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

    /// The providers that run pullpass.
    pub(super) fn ours(&self) -> impl Iterator<Item = &NodeProvider> {
        self.providers.iter().filter(|provider| provider.is_ours())
    }

    /// Names that are given twice, or that no program in the folder has, or none that can be run, or one that others may write.
    pub(super) fn judge_programs(
        &self,
        programs: &io::Result<BTreeMap<String, NodeProgram>>,
        folder: &str,
    ) -> Vec<NodeFinding> {
        let mut findings = Vec::new();
        let nothing = BTreeMap::new();
        let programs = match programs {
            Ok(programs) => programs,
            Err(error) if error.kind() == io::ErrorKind::NotFound => &nothing,
            Err(error) => return vec![NodeFinding::unreadable(folder, error)],
        };
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
                let id = ids::NODE_FIELD_INVALID;
                findings.push(self.finding(provider, "name", id, message, fix));
                continue;
            }
            match programs.get(name) {
                Some(program) if program.is_executable => findings.extend(program.rights.judge()),
                found => findings.push(self.no_program(provider, folder, found.is_some())),
            }
        }
        findings
    }

    fn no_program(&self, provider: &NodeProvider, folder: &str, is_there: bool) -> NodeFinding {
        let name = &provider.name;
        let (id, message, fix) = if is_there {
            (
                ids::NODE_PROGRAM_NOT_EXECUTABLE,
                format!("{folder}/{name} cannot be run: the kubelet ends at its start with it"),
                Fix::run(
                    "make it so on the node",
                    format!("chmod 0755 {folder}/{name}"),
                ),
            )
        } else {
            (
                ids::NODE_PROGRAM_MISSING,
                format!("{folder} has no program {name}: the kubelet ends at its start without it"),
                format!("copy it there with mode 0755, under the provider's name {name}").into(),
            )
        };
        self.finding(provider, "name", id, message, fix)
    }

    /// That no provider runs pullpass.
    pub(super) fn no_ours(&self) -> NodeFinding {
        NodeFinding {
            id: ids::NODE_PROVIDER_MISSING,
            is_warning: false,
            place: self.documents[0].file.clone(),
            field: "providers".to_owned(),
            message: "none runs pullpass, so that no Pod here gets a login of a Registry with delivery Node".to_owned(),
            fix: format!("add it: {PRINT}").into(),
        }
    }

    /// For which images of the Registries the kubelet does not ask pullpass, or somebody else as well.
    pub(super) fn judge_images(&self, registries: &Registries) -> Vec<NodeFinding> {
        let asked: Vec<&ValidRegistry> =
            registries.iter().filter(|one| is_asked_for(one)).collect();
        let mut findings = Vec::new();
        for registry in &asked {
            findings.extend(self.judge_matches(registry));
            findings.extend(self.judge_isolation(registry));
        }
        let shared = asked.iter().find(|registry| registry.pods.is_some());
        for provider in self.ours() {
            let is_shared = |token: &TokenAttributes| token.cache_type == "ServiceAccount";
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
