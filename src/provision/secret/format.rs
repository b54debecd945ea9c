//! What is under which key of a Secret, in each form in which it holds logins. Pure.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::zeroize::Zeroizing;
use serde_json::Value;

use crate::registry::{ExportFormat, Pattern, SecretFormat};

/// The key whose content the kubelet reads.
/// <https://kubernetes.io/docs/concepts/configuration/secret/#docker-config-secrets>
pub const DOCKERCONFIGJSON: &str = ".dockerconfigjson";
/// The same for what takes a directory with Docker's configuration: as a mounted file it has the name that is looked for there.
/// <https://docs.docker.com/reference/cli/docker/#change-the-docker-directory>
const CONFIG_JSON: &str = "config.json";
/// <https://kubernetes.io/docs/concepts/configuration/secret/#basic-authentication-secret>
const USERNAME: &str = "username";
const PASSWORD: &str = "password";
/// <https://argo-cd.readthedocs.io/en/stable/operator-manual/declarative-setup/#helm-oci>
const URL: &str = "url";
const TYPE: (&str, &str) = ("type", "helm");
const ENABLE_OCI: (&str, &str) = ("enableOCI", "true");

/// The keys of a Secret's data.
pub fn keys_of(format: SecretFormat) -> &'static [&'static str] {
    match format {
        SecretFormat::PullSecret => &[DOCKERCONFIGJSON],
        SecretFormat::Export(ExportFormat::DockerConfig) => &[DOCKERCONFIGJSON, CONFIG_JSON],
        SecretFormat::Export(ExportFormat::BasicAuth) => &[USERNAME, PASSWORD],
        SecretFormat::Export(
            ExportFormat::ArgoCdRepository | ExportFormat::ArgoCdRepositoryCreds,
        ) => &[URL, TYPE.0, ENABLE_OCI.0, USERNAME, PASSWORD],
    }
}

/// How often the logins are in it: all of it together has a limit.
pub(super) fn copies_of(format: SecretFormat) -> usize {
    if format.holds_one_login() {
        1
    } else {
        keys_of(format).len()
    }
}

/// What is under those keys of a Secret that holds one login, the entry of an `auths` key; `None`: the entry is no login.
pub(super) fn render_login(key: &str, auth: &str) -> Option<Vec<(&'static str, Vec<u8>)>> {
    let login = Zeroizing::new(STANDARD.decode(auth).ok()?);
    let end = login.iter().position(|byte| *byte == b':')?;
    let url = Pattern::of_key(key)?;
    Some(vec![
        (USERNAME, login[..end].to_vec()),
        (PASSWORD, login[end + 1..].to_vec()),
        (URL, url.as_str().as_bytes().to_vec()),
        (TYPE.0, TYPE.1.as_bytes().to_vec()),
        (ENABLE_OCI.0, ENABLE_OCI.1.as_bytes().to_vec()),
    ])
}

/// The `auths` key and the entry of a Secret that holds one login, from what is under its keys; `covered`: the key that its annotation
/// names. `None`: it is not as pullpass writes it.
pub(super) fn parse_login<'d>(
    format: ExportFormat,
    data: impl Fn(&str) -> Option<&'d [u8]>,
    covered: Option<&str>,
) -> Option<(String, Value)> {
    let text = |key: &str| std::str::from_utf8(data(key)?).ok();
    let pattern = if format.is_of_one_image() {
        let has = |(key, value): (&str, &str)| text(key) == Some(value);
        Pattern::parse(text(URL)?)
            .ok()
            .filter(|_| has(TYPE) && has(ENABLE_OCI))?
    } else {
        Pattern::of_key(covered?)?
    };
    let (username, password) = (text(USERNAME)?, text(PASSWORD)?);
    if username.contains(':') {
        return None;
    }
    let login = Zeroizing::new(format!("{username}:{password}"));
    let entry = serde_json::json!({ "auth": STANDARD.encode(login.as_bytes()) });
    Some((pattern.key().to_owned(), entry))
}
