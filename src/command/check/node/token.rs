//! `tokenAttributes` of a provider: whose token it gets. Pure.

use serde_json::Value;

use super::fields::{FieldReader, join};
use crate::broker::protocol::API_VERSION as PROTOCOL;
use crate::registry::label_key_problem;

const TOKEN_FIELDS: &[&str] = &[
    "cacheType",
    OPTIONAL_KEYS,
    "requireServiceAccount",
    REQUIRED_KEYS,
    "serviceAccountTokenAudience",
];
/// Annotations without which the kubelet does not run a provider.
pub(super) const REQUIRED_KEYS: &str = "requiredServiceAccountAnnotationKeys";
const OPTIONAL_KEYS: &str = "optionalServiceAccountAnnotationKeys";

/// Whose token a provider gets.
#[derive(Debug)]
pub(super) struct TokenAttributes {
    pub(super) audience: String,
    pub(super) cache_type: String,
    pub(super) require_service_account: bool,
    /// The annotations without which the kubelet does not run it for a ServiceAccount.
    pub(super) required_keys: Vec<String>,
}

/// Reads them; `None`: they are no list of fields.
pub(super) fn read(
    reader: &mut FieldReader<'_>,
    value: &Value,
    field: &str,
    protocol: &str,
) -> Option<TokenAttributes> {
    let field = join(field, "tokenAttributes");
    let entry = reader.object(value, &field)?;
    reader.known(entry, &field, TOKEN_FIELDS);
    if protocol != PROTOCOL && !protocol.is_empty() {
        let message = format!("{protocol} knows no tokens");
        let fix = format!("set the provider's apiVersion to {PROTOCOL}");
        reader.invalid(&field, &message, &fix);
    }
    let fix = "set it to pullpass.dev, or to what the provider wants";
    let audience = reader.text(entry, &field, "serviceAccountTokenAudience", fix);
    let cache_type = reader.choice(entry, &field, "cacheType", &["ServiceAccount", "Token"]);
    let place = join(&field, "requireServiceAccount");
    let require = match entry.get("requireServiceAccount") {
        None | Some(Value::Null) => {
            reader.missing(&place, "set it to true");
            None
        }
        Some(value) => {
            if !value.is_boolean() {
                reader.invalid(&place, "is neither true nor false", "set it to true");
            }
            value.as_bool()
        }
    };
    let mut keys = |name| {
        let keys = reader.texts(entry, &field, name).unwrap_or_default();
        judge_keys(reader, &keys, &join(&field, name));
        keys
    };
    let (required, optional) = (keys(REQUIRED_KEYS), keys(OPTIONAL_KEYS));
    if !required.is_empty() && require == Some(false) {
        let message = "needs requireServiceAccount: true: the kubelet ends at its start without it";
        let place = join(&field, REQUIRED_KEYS);
        reader.invalid(&place, message, "set requireServiceAccount to true");
    }
    if let Some(key) = required.iter().find(|key| optional.contains(key)) {
        let message = format!("{key} is required, too: the kubelet ends at its start with it");
        let place = join(&field, OPTIONAL_KEYS);
        reader.invalid(&place, &message, "remove it from one of the two");
    }
    Some(TokenAttributes {
        audience: audience.to_owned(),
        cache_type: cache_type.to_owned(),
        require_service_account: require.unwrap_or(true),
        required_keys: required,
    })
}

/// Keys that are no annotation's, or there twice.
fn judge_keys(reader: &mut FieldReader<'_>, keys: &[String], field: &str) {
    for (at, key) in keys.iter().enumerate() {
        let place = format!("{field}[{at}]");
        if let Some(problem) = label_key_problem(&key.to_lowercase()) {
            let message = format!(
                "{key:?} is no annotation's key ({problem}): the kubelet ends at its start with it"
            );
            reader.invalid(&place, &message, "write it as the ServiceAccounts have it");
        }
        if keys[..at].contains(key) {
            let message = format!("{key} is there twice: the kubelet ends at its start with it");
            reader.invalid(&place, &message, "remove one");
        }
    }
}
