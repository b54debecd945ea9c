//! A kubelet's configuration of credential providers, as the kubelet reads it: strictly. Pure.
//!
//! <https://github.com/kubernetes/kubernetes/blob/v1.36.0/pkg/credentialprovider/plugin/config.go>

use serde_json::{Map, Value};

use super::finding::NodeFinding;
use crate::broker::protocol::API_VERSION as PROTOCOL;
use crate::command::check::ids;
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
    pub(super) args: Vec<String>,
    /// `None`: it is run without a token, as the node.
    pub(super) token: Option<TokenAttributes>,
}

/// Whose token a provider gets.
#[derive(Debug)]
pub(super) struct TokenAttributes {
    pub(super) audience: String,
    pub(super) cache_type: String,
    pub(super) require_service_account: bool,
}

impl NodeProvider {
    /// Whether it runs this program.
    pub(super) fn is_ours(&self) -> bool {
        self.name.starts_with("pullpass")
            || self.args.iter().any(|arg| arg == "credential-provider")
    }

    /// The value of an argument, written as `--name value` or `--name=value`.
    pub(super) fn argument(&self, name: &str) -> Option<&str> {
        let mut words = self.args.iter();
        while let Some(word) = words.next() {
            if word == name {
                return words.next().map(String::as_str);
            }
            let value = word
                .strip_prefix(name)
                .and_then(|rest| rest.strip_prefix('='));
            if value.is_some() {
                return value;
            }
        }
        None
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
const TOKEN_FIELDS: &[&str] = &[
    "cacheType",
    "optionalServiceAccountAnnotationKeys",
    "requireServiceAccount",
    "requiredServiceAccountAnnotationKeys",
    "serviceAccountTokenAudience",
];
const ENV_FIELDS: &[&str] = &["name", "value"];
/// What a plug-in answers, and nobody configures.
const ANSWER_FIELDS: [&str; 3] = ["auth", "cacheDuration", "cacheKeyType"];
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
    let mut reader = FieldReader { document, findings };
    let value = match document.decode::<Value>() {
        Ok(value) => value,
        Err(error) => {
            let fix = "write it as `pullpass credential-provider config` prints it: the kubelet ends at its start with this";
            reader.add(ids::NODE_CONFIG_UNREADABLE, "", &error, fix);
            return Vec::new();
        }
    };
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
    reader.choice(root, "", "apiVersion", &CONFIG_VERSIONS);
    reader.choice(root, "", "kind", &["CredentialProviderConfig"]);
    let entries = reader.list(root, "", "providers");
    let entries = entries.iter().enumerate();
    entries
        .filter_map(|(at, entry)| {
            let field = format!("providers[{at}]");
            let entry = reader.object(entry, &field)?;
            Some(reader.provider(file, field, entry))
        })
        .collect()
}

/// Reads the fields of a document and collects what is wrong with them.
struct FieldReader<'a> {
    document: &'a YamlDocument,
    findings: &'a mut Vec<NodeFinding>,
}

impl FieldReader<'_> {
    fn add(&mut self, id: &'static str, field: &str, message: &str, fix: &str) {
        self.findings.push(NodeFinding {
            id,
            is_warning: false,
            place: self.document.place(field).trim_end_matches(": ").to_owned(),
            field: field.to_owned(),
            message: message.to_owned(),
            fix: fix.into(),
        });
    }

    fn invalid(&mut self, field: &str, message: &str, fix: &str) {
        self.add(ids::NODE_FIELD_INVALID, field, message, fix);
    }

    fn missing(&mut self, field: &str, fix: &str) {
        let message = "is missing: the kubelet ends at its start without it";
        self.add(ids::NODE_FIELD_MISSING, field, message, fix);
    }

    /// Names the fields that the kubelet does not know.
    fn known(&mut self, fields: &Map<String, Value>, field: &str, known: &[&str]) {
        for name in fields.keys().filter(|name| !known.contains(&name.as_str())) {
            let place = join(field, name);
            if ANSWER_FIELDS.contains(&name.as_str()) {
                let message = "is no setting: a provider answers it, and the kubelet ends at its start with it here";
                let fix = format!("remove it: pullpass answers {name} itself");
                self.add(ids::NODE_ANSWER_FIELD, &place, message, &fix);
                continue;
            }
            let message = "is unknown: the kubelet reads strictly and ends at its start with it";
            let fix = format!("remove it, or correct it to one of {}", known.join(", "));
            self.add(ids::NODE_FIELD_UNKNOWN, &place, message, &fix);
        }
    }

    fn object<'v>(&mut self, value: &'v Value, field: &str) -> Option<&'v Map<String, Value>> {
        if value.as_object().is_none() {
            self.invalid(field, "is no list of fields", "write its fields below it");
        }
        value.as_object()
    }

    /// A list that must hold something.
    fn list<'v>(&mut self, fields: &'v Map<String, Value>, field: &str, name: &str) -> &'v [Value] {
        let place = join(field, name);
        match fields.get(name) {
            Some(Value::Array(entries)) if !entries.is_empty() => entries,
            None | Some(Value::Null | Value::Array(_)) => {
                self.missing(&place, "give at least one entry");
                &[]
            }
            Some(_) => {
                self.invalid(&place, "is no list", "write each entry with a - in front");
                &[]
            }
        }
    }

    /// A text that must be there; empty where it is not.
    fn text<'v>(
        &mut self,
        fields: &'v Map<String, Value>,
        field: &str,
        name: &str,
        fix: &str,
    ) -> &'v str {
        let place = join(field, name);
        match fields.get(name) {
            Some(Value::String(text)) if !text.is_empty() => text,
            None | Some(Value::Null | Value::String(_)) => {
                self.missing(&place, fix);
                ""
            }
            Some(_) => {
                self.invalid(&place, "is no text", &format!("write it in quotes; {fix}"));
                ""
            }
        }
    }

    /// A text that must be one of these.
    fn choice<'v>(
        &mut self,
        fields: &'v Map<String, Value>,
        field: &str,
        name: &str,
        choices: &[&str],
    ) -> &'v str {
        let fix = format!("set it to {}", choices[0]);
        let text = self.text(fields, field, name, &fix);
        if !text.is_empty() && !choices.contains(&text) {
            let message = format!("{text:?} is none of {}", choices.join(", "));
            self.invalid(&join(field, name), &message, &fix);
        }
        text
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
        for (at, variable) in array(entry, "env").iter().enumerate() {
            let place = format!("{field}.env[{at}]");
            if let Some(variable) = self.object(variable, &place) {
                self.known(variable, &place, ENV_FIELDS);
            }
        }
        let match_images = self.match_images(entry, &field);
        let token = entry
            .get("tokenAttributes")
            .filter(|value| !value.is_null());
        let token = token.and_then(|value| self.token(value, &field, &protocol));
        NodeProvider {
            file,
            name: name.to_owned(),
            match_images,
            args: texts(entry, "args"),
            token,
            field,
        }
    }

    fn match_images(&mut self, entry: &Map<String, Value>, field: &str) -> Vec<MatchImage> {
        let mut found = Vec::new();
        for (at, image) in self.list(entry, field, "matchImages").iter().enumerate() {
            let place = format!("{field}.matchImages[{at}]");
            let text = image.as_str().unwrap_or_default();
            match MatchImage::parse(text) {
                Ok(image) => found.push(image),
                Err(error) => {
                    let id = match error {
                        MatchImageError::PathGlob => ids::NODE_PATH_GLOB,
                        MatchImageError::MatchesNothing(_) => ids::NODE_MATCHES_NOTHING,
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

    fn token(&mut self, value: &Value, field: &str, protocol: &str) -> Option<TokenAttributes> {
        let field = join(field, "tokenAttributes");
        let entry = self.object(value, &field)?;
        self.known(entry, &field, TOKEN_FIELDS);
        if protocol != PROTOCOL && !protocol.is_empty() {
            let message = format!("{protocol} knows no tokens");
            let fix = format!("set the provider's apiVersion to {PROTOCOL}");
            self.invalid(&field, &message, &fix);
        }
        let fix = "set it to pullpass.dev, or to what the provider wants";
        let audience = self.text(entry, &field, "serviceAccountTokenAudience", fix);
        let cache_type = self.choice(entry, &field, "cacheType", &["ServiceAccount", "Token"]);
        let require = entry
            .get("requireServiceAccount")
            .filter(|value| !value.is_null());
        match require {
            None => self.missing(&join(&field, "requireServiceAccount"), "set it to true"),
            Some(value) if !value.is_boolean() => {
                let place = join(&field, "requireServiceAccount");
                self.invalid(&place, "is neither true nor false", "set it to true");
            }
            Some(_) => {}
        }
        Some(TokenAttributes {
            audience: audience.to_owned(),
            cache_type: cache_type.to_owned(),
            require_service_account: require.and_then(Value::as_bool).unwrap_or(true),
        })
    }
}

fn join(field: &str, name: &str) -> String {
    if field.is_empty() {
        name.to_owned()
    } else {
        format!("{field}.{name}")
    }
}

fn array<'v>(fields: &'v Map<String, Value>, name: &str) -> &'v [Value] {
    fields
        .get(name)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

fn texts(fields: &Map<String, Value>, name: &str) -> Vec<String> {
    let texts = array(fields, name).iter().filter_map(Value::as_str);
    texts.map(str::to_owned).collect()
}

/// Whether it is a duration of Go's that is not negative: <https://pkg.go.dev/time#ParseDuration>.
fn is_duration(text: &str) -> bool {
    const UNITS: [&str; 8] = ["ns", "us", "µs", "μs", "ms", "s", "m", "h"];
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" || rest == "-0" {
        return true;
    }
    while !rest.is_empty() {
        let is_number = |one: char| one.is_ascii_digit() || one == '.';
        let Some(end) = rest.find(|one| !is_number(one)) else {
            return false;
        };
        let (number, after) = rest.split_at(end);
        let end = after.find(is_number).unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        if number.parse::<f64>().is_err() || !UNITS.contains(&unit) {
            return false;
        }
        rest = after;
    }
    !text.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_durations_as_go_does() {
        for good in ["0", "0s", "12h", "1h30m", "1.5h", "100ms", "5µs"] {
            assert!(is_duration(good), "{good}");
        }
        for bad in ["", "12", "-1s", "1d", "s", "1h 30m", "1..5s", "PT1H"] {
            assert!(!is_duration(bad), "{bad}");
        }
    }
}
