//! A kubelet's configuration of credential providers, as the kubelet reads it: strictly. Pure.
//!
//! <https://github.com/kubernetes/kubernetes/blob/v1.36.0/pkg/credentialprovider/plugin/config.go>

use serde_json::{Map, Value};

use super::document;
use super::duration::is_duration;
use super::fields::{FieldReader, join};
use super::finding::NodeFinding;
use super::token::{self, TokenAttributes};
use crate::broker::protocol::API_VERSION as PROTOCOL;
use crate::command::check::ids;
use crate::command::credential_provider::arguments::SUBCOMMAND;
use crate::command::credential_provider::config::CONFIG_VERSION;
use crate::command::manifest::YamlDocument;
use crate::registry::match_images::{MatchImage, MatchImageError};

/// A provider of a configuration, as far as it can be read.
#[derive(Debug)]
pub(super) struct NodeProvider {
    /// Its file.
    pub(super) file: usize,
    /// The path of its entry: `providers[0]`.
    pub(super) field: String,
    pub(super) name: String,
    pub(super) match_images: Vec<MatchImage>,
    /// `None`: they cannot be read.
    pub(super) args: Option<Vec<String>>,
    /// The variables that it gets beside the kubelet's own.
    pub(super) env: Vec<(String, String)>,
    /// `None`: it is run without a token, as the node.
    pub(super) token: Option<TokenAttributes>,
}

impl NodeProvider {
    /// Whether it runs this program.
    pub(super) fn is_ours(&self) -> bool {
        self.name.starts_with("pullpass") || self.args.iter().flatten().any(|arg| arg == SUBCOMMAND)
    }
}

const CONFIG_FIELDS: &[&str] = &["apiVersion", "kind", "providers"];
const PROVIDER_FIELDS: &[&str] = &[
    "apiVersion",
    "args",
    "defaultCacheDuration",
    "env",
    "matchImages",
    "name",
    "tokenAttributes",
];
const ENV_FIELDS: &[&str] = &["name", "value"];
const CONFIG_VERSIONS: [&str; 3] = [
    CONFIG_VERSION,
    "kubelet.config.k8s.io/v1beta1",
    "kubelet.config.k8s.io/v1alpha1",
];
const PROTOCOLS: [&str; 3] = [
    PROTOCOL,
    "credentialprovider.kubelet.k8s.io/v1beta1",
    "credentialprovider.kubelet.k8s.io/v1alpha1",
];

/// Reads the providers of one file and adds what is wrong with it.
pub(super) fn read(
    file: usize,
    document: &YamlDocument,
    findings: &mut Vec<NodeFinding>,
) -> Vec<NodeProvider> {
    let value = match document::decode(document) {
        Ok(value) => value,
        Err(finding) => {
            findings.push(*finding);
            return Vec::new();
        }
    };
    let mut reader = FieldReader { document, findings };
    let Some(root) = value.as_object() else {
        let fix =
            "write a CredentialProviderConfig: `pullpass credential-provider config` prints one";
        reader.add(
            ids::NODE_CONFIG_UNREADABLE,
            "",
            "it is no CredentialProviderConfig",
            fix,
        );
        return Vec::new();
    };
    reader.known(root, "", CONFIG_FIELDS);
    let version = reader.choice(root, "", "apiVersion", &CONFIG_VERSIONS);
    reader.choice(root, "", "kind", &["CredentialProviderConfig"]);
    // Where there are none, another file may have some.
    let entries = reader.optional_list(root, "", "providers");
    let entries = entries.unwrap_or_default().iter().enumerate();
    entries
        .filter_map(|(at, entry)| {
            let field = format!("providers[{at}]");
            let entry = reader.object(entry, &field)?;
            if version != CONFIG_VERSION && entry.contains_key("tokenAttributes") {
                reader.token_too_early(&field, version);
            }
            Some(reader.provider(file, field, entry))
        })
        .collect()
}

impl FieldReader<'_> {
    fn token_too_early(&mut self, field: &str, version: &str) {
        if version.is_empty() {
            return;
        }
        let message = format!(
            "is unknown in {version}: the kubelet reads strictly and ends at its start with it"
        );
        let fix = format!("set the file's apiVersion to {CONFIG_VERSION}");
        let place = join(field, "tokenAttributes");
        self.add(ids::NODE_FIELD_UNKNOWN, &place, &message, &fix);
    }

    fn provider(&mut self, file: usize, field: String, entry: &Map<String, Value>) -> NodeProvider {
        self.known(entry, &field, PROVIDER_FIELDS);
        let name = self.text(
            entry,
            &field,
            "name",
            "name the program in the folder of providers",
        );
        if name.contains(['/', ' ']) || name == "." || name == ".." {
            let fix = "give the file's name alone, without spaces: the folder is the kubelet's flag --image-credential-provider-bin-dir";
            self.invalid(&join(&field, "name"), "is no name of a file", fix);
        }
        let protocol = self
            .choice(entry, &field, "apiVersion", &PROTOCOLS)
            .to_owned();
        self.duration(entry, &field);
        let env = self.env(entry, &field);
        let match_images = self.match_images(entry, &field);
        let token = entry
            .get("tokenAttributes")
            .filter(|value| !value.is_null());
        let token = token.and_then(|value| token::read(self, value, &field, &protocol));
        NodeProvider {
            file,
            name: name.to_owned(),
            match_images,
            args: self.texts(entry, &field, "args"),
            env,
            token,
            field,
        }
    }

    fn match_images(&mut self, entry: &Map<String, Value>, field: &str) -> Vec<MatchImage> {
        let mut found = Vec::new();
        for (at, image) in self.list(entry, field, "matchImages").iter().enumerate() {
            let place = format!("{field}.matchImages[{at}]");
            let Some(text) = self.entry(image, &place) else {
                continue;
            };
            match MatchImage::parse(&text) {
                Ok(image) => found.push(image),
                Err(error) => {
                    let id = match error {
                        MatchImageError::PathGlob => ids::NODE_PATH_GLOB,
                        MatchImageError::MatchesNothing(_) => ids::NODE_MATCHES_NOTHING,
                        MatchImageError::Unreadable(_) => ids::NODE_FIELD_INVALID,
                    };
                    let fix = "write host or host/path; `pullpass credential-provider config` prints what the Registries need";
                    self.add(id, &place, &format!("{text} {error}"), fix);
                }
            }
        }
        found
    }

    fn duration(&mut self, entry: &Map<String, Value>, field: &str) {
        let fix = "set it to \"0s\": pullpass says itself how long each answer is kept";
        let text = self.text(entry, field, "defaultCacheDuration", fix);
        if !text.is_empty() && !is_duration(text) {
            let message = format!("{text:?} is no duration of 0 or more");
            self.invalid(&join(field, "defaultCacheDuration"), &message, fix);
        }
    }

    /// The variables that can be read.
    fn env(&mut self, entry: &Map<String, Value>, field: &str) -> Vec<(String, String)> {
        let entries = self.optional_list(entry, field, "env").unwrap_or_default();
        let mut found = Vec::new();
        for (at, variable) in entries.iter().enumerate() {
            let place = format!("{field}.env[{at}]");
            // The kubelet takes it for one without a name.
            if variable.is_null() {
                continue;
            }
            let Some(variable) = self.object(variable, &place) else {
                continue;
            };
            self.known(variable, &place, ENV_FIELDS);
            let mut read = |name| {
                let value = variable.get(name).unwrap_or(&Value::Null);
                self.entry(value, &join(&place, name))
            };
            if let (Some(name), Some(value)) = (read("name"), read("value")) {
                found.push((name, value));
            }
        }
        found
    }
}
