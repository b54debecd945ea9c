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
pub(super) fn render_login(
    format: SecretFormat,
    key: &str,
    auth: &str,
) -> Option<Vec<(&'static str, Vec<u8>)>> {
    let login = Zeroizing::new(STANDARD.decode(auth).ok()?);
    let end = login.iter().position(|byte| *byte == b':')?;
    let url = url_of(format, &Pattern::of_key(key)?);
    Some(vec![
        (USERNAME, login[..end].to_vec()),
        (PASSWORD, login[end + 1..].to_vec()),
        (URL, url.into_bytes()),
        (TYPE.0, TYPE.1.as_bytes().to_vec()),
        (ENABLE_OCI.0, ENABLE_OCI.1.as_bytes().to_vec()),
    ])
}

/// The URL of an image. Argo CD takes a credential template for every repository whose URL begins with its own, as text: without the slash
/// that of a whole host would be for hosts whose names go on behind it. One of a path has none, since a Helm repository is looked up
/// without: what it begins, `charts-other` with `charts`, is on the same host.
/// <https://github.com/argoproj/argo-cd/blob/v3.1.0/util/db/repository_secrets.go> (getRepositoryCredentialIndex),
/// <https://github.com/argoproj/argo-cd/blob/v3.1.0/util/git/git.go> (NormalizeGitURL)
fn url_of(format: SecretFormat, image: &Pattern) -> String {
    let is_template = format == SecretFormat::Export(ExportFormat::ArgoCdRepositoryCreds);
    let end = if is_template && image.path().is_empty() {
        "/"
    } else {
        ""
    };
    format!("{}{end}", image.as_str())
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
        let url = text(URL)?;
        let image = Pattern::parse(url.strip_suffix('/').unwrap_or(url)).ok()?;
        let is_ours = url_of(SecretFormat::Export(format), &image) == url;
        Some(image).filter(|_| is_ours && has(TYPE) && has(ENABLE_OCI))?
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
