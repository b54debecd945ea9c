//! Registries and Namespaces from YAML files, with the validation that a cluster's objects get.

mod spans;

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use serde::Deserialize;

use crate::names::NamespaceName;
use crate::registry::{Labels, Problem, Registries, Registry};
use spans::YamlNode;

/// The largest file that is read, in bytes: far above any use, far below what a bomb of aliases needs.
const FILE_MAX: u64 = 4 << 20;

/// What files hold.
#[derive(Debug, Default)]
pub(super) struct Manifests {
    /// The Registries.
    pub(super) registries: Vec<Registry>,
    /// The Namespaces' labels, with the one that the API server gives each of them.
    pub(super) namespaces: BTreeMap<NamespaceName, Labels>,
    /// The origin of each Registry: the index of its document in `documents`.
    origins: Vec<usize>,
    documents: Vec<YamlDocument>,
}

/// One document of a file. Lines are the file's, as the text has as many empty lines in front.
#[derive(Debug)]
pub(super) struct YamlDocument {
    /// The file's name, for messages.
    pub(super) file: String,
    /// The document.
    pub(super) text: String,
}

/// Everything that is wrong with files, a line each: file, line, field, message.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub(super) struct ManifestErrors(Vec<String>);

/// What each document says of itself.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ObjectHead {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
    #[serde(default)]
    metadata: DocumentMeta,
    #[serde(default)]
    items: Vec<serde_json::Value>,
}

#[derive(Debug, Default, Deserialize)]
struct DocumentMeta {
    #[serde(default)]
    name: String,
    labels: Option<Labels>,
}

impl Manifests {
    /// Reads files; `-` is stdin. Documents of other kinds than Registry and Namespace, or lists of them, are refused.
    ///
    /// # Errors
    /// All that is wrong with the files and with the Registries in them.
    pub(super) fn load(paths: &[impl AsRef<Path>]) -> Result<Self, ManifestErrors> {
        let mut manifests = Self::default();
        let mut errors = Vec::new();
        for path in paths {
            let path = path.as_ref();
            match read(path) {
                Ok(text) => manifests.add_file(&name(path), &text, &mut errors),
                Err(error) => errors.push(format!(
                    "{}: {error}: name a file that can be read",
                    name(path)
                )),
            }
        }
        let registries = Registries::build(manifests.registries.iter().cloned());
        errors.extend(
            registries
                .problems()
                .iter()
                .map(|problem| manifests.describe(problem)),
        );
        if errors.is_empty() {
            Ok(manifests)
        } else {
            Err(ManifestErrors(errors))
        }
    }

    /// A problem with the file and the line of its field.
    fn describe(&self, problem: &Problem) -> String {
        let place = self.registries.iter().rposition(|registry| {
            registry.metadata.name.as_deref().unwrap_or_default() == problem.registry
        });
        let document = place.and_then(|place| self.documents.get(self.origins[place]));
        let place = document.map_or_else(String::new, |document| document.place(&problem.field));
        format!("{place}{}: {}", problem.field, problem.message)
    }

    fn add_file(&mut self, file: &str, text: &str, errors: &mut Vec<String>) {
        for text in split(text) {
            let document = YamlDocument {
                file: file.to_owned(),
                text,
            };
            let head = match document.decode::<Option<ObjectHead>>() {
                Ok(Some(head)) => head,
                Ok(None) => continue,
                Err(error) => {
                    errors.push(error);
                    continue;
                }
            };
            if let Err(error) = self.add_document(&document, head) {
                errors.push(error);
            }
            self.documents.push(document);
        }
    }

    fn add_document(&mut self, document: &YamlDocument, head: ObjectHead) -> Result<(), String> {
        let origin = self.documents.len();
        match (head.api_version.as_str(), head.kind.as_str()) {
            ("pullpass.dev/v1alpha1", "Registry") => self.add_registry(document.decode()?, origin),
            ("v1", "Namespace") => self.add_namespace(document, head.metadata)?,
            ("v1", "List" | "NamespaceList") | ("pullpass.dev/v1alpha1", "RegistryList") => {
                // The items of a typed list may leave out what they are.
                let of_list = head.kind.strip_suffix("List").unwrap_or_default();
                for item in head.items {
                    self.add_item(document, of_list, item)
                        .map_err(|error| format!("{}items: {error}", document.place("items")))?;
                }
            }
            (version, kind) => {
                let place = document.place("kind");
                return Err(format!(
                    "{place}kind: {version} {kind} is neither a pullpass.dev/v1alpha1 Registry nor a v1 Namespace: leave it out"
                ));
            }
        }
        Ok(())
    }

    /// Adds an item of a list, which is of the kind `of_list` where it does not say its own.
    fn add_item(
        &mut self,
        document: &YamlDocument,
        of_list: &str,
        item: serde_json::Value,
    ) -> Result<(), String> {
        let head = ObjectHead::deserialize(&item).map_err(|error| error.to_string())?;
        let kind = Some(head.kind.as_str()).filter(|kind| !kind.is_empty());
        match kind.unwrap_or(of_list) {
            "Registry" => {
                let registry = serde_json::from_value(item).map_err(|error| error.to_string())?;
                self.add_registry(registry, self.documents.len());
                Ok(())
            }
            "Namespace" => self.add_namespace(document, head.metadata),
            kind => Err(format!(
                "{kind:?} is neither a Registry nor a Namespace: leave it out"
            )),
        }
    }

    fn add_registry(&mut self, registry: Registry, origin: usize) {
        self.registries.push(registry);
        self.origins.push(origin);
    }

    fn add_namespace(
        &mut self,
        document: &YamlDocument,
        metadata: DocumentMeta,
    ) -> Result<(), String> {
        let DocumentMeta { name, labels } = metadata;
        let mut labels = labels.unwrap_or_default();
        let name = NamespaceName::parse(&name).map_err(|error| {
            let place = document.place("metadata.name");
            format!("{place}metadata.name: {error}")
        })?;
        labels.insert(super::NAME_LABEL.to_owned(), name.to_string());
        self.namespaces.insert(name, labels);
        Ok(())
    }
}

impl YamlDocument {
    /// Reads it as a value.
    ///
    /// # Errors
    /// File, line, field and what is wrong, in one line.
    pub(super) fn decode<'de, T: Deserialize<'de>>(&'de self) -> Result<T, String> {
        serde_saphyr::from_str(&self.text).map_err(|error| {
            let error = error.without_snippet();
            let place = error
                .location()
                .map(|location| (location.line(), location.column()));
            let message = error.to_string();
            let message = message
                .split(" at line ")
                .next()
                .unwrap_or(&message)
                .to_owned();
            match place {
                Some((line, column)) => {
                    let field = YamlNode::read(&self.text).field(line, column);
                    let field = if field.is_empty() {
                        field
                    } else {
                        format!("{field}: ")
                    };
                    format!("{}:{line}: {field}{message}", self.file)
                }
                None => format!("{}: {message}", self.file),
            }
        })
    }

    /// `file:line: ` of a field, or else of the nearest part around it.
    pub(super) fn place(&self, field: &str) -> String {
        let line = YamlNode::read(&self.text).line(field);
        line.map_or_else(
            || format!("{}: ", self.file),
            |line| format!("{}:{line}: ", self.file),
        )
    }
}

/// A file's name for messages.
fn name(path: &Path) -> String {
    if path == Path::new("-") {
        "stdin".to_owned()
    } else {
        path.display().to_string()
    }
}

/// A file's text; `-` is stdin.
pub(super) fn read(path: &Path) -> std::io::Result<String> {
    let source: Box<dyn Read> = if path == Path::new("-") {
        Box::new(std::io::stdin())
    } else {
        Box::new(std::fs::File::open(path)?)
    };
    let mut text = String::new();
    source.take(FILE_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > FILE_MAX {
        return Err(std::io::Error::new(
            std::io::ErrorKind::FileTooLarge,
            "has more than 4 MiB",
        ));
    }
    Ok(text)
}

/// The documents of a text, each with empty lines in front so that its lines are the text's.
///
/// A line that starts with `---` ends a document, also within a block of text:
/// <https://yaml.org/spec/1.2.2/#document-markers>
fn split(text: &str) -> Vec<String> {
    let mut documents = vec![String::new()];
    for (number, line) in text.lines().enumerate() {
        let is_marker = line == "---" || line.starts_with("--- ") || line.starts_with("---\t");
        if is_marker {
            documents.push("\n".repeat(number));
        }
        if let Some(document) = documents.last_mut() {
            document.push_str(if is_marker { &line[3..] } else { line });
            document.push('\n');
        }
    }
    documents.retain(|document| !document.trim().is_empty());
    documents
}
