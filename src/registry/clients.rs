//! Which clients find the right login in a Secret. Pure.
//!
//! Where a Secret has several logins for one host, only those that take the longest key find the right one; the others take any of them, in
//! random order (measured; `host_keys` has the sources).

use super::{Labels, Registries, ValidRegistry};

/// Clients that take the longest key that is a prefix of the image.
pub const CLIENTS_BY_PATH: &str = "the kubelet, skopeo, buildah and k8schain";
/// Clients that find a login by its host.
pub const CLIENTS_BY_HOST: &str = "docker, buildx, crane, kaniko, oras and helm";

impl Registries {
    /// The Registry whose Secret those clients can use for a host in a namespace with these labels: one that pushes, by name.
    pub fn find_for_host_clients(
        &self,
        namespace: &Labels,
        domain: &str,
    ) -> Option<&ValidRegistry> {
        let pushing = self.iter().filter(|one| {
            let mut patterns = one.patterns();
            !one.access.is_pull()
                && one.serves(namespace)
                && patterns.any(|pattern| pattern.domain() == domain)
        });
        pushing.min_by(|one, other| one.name.cmp(&other.name))
    }
}

/// What is to be said of a Secret with several logins for a host; `other`: the Registry whose Secret the clients can use that cannot use
/// this one.
pub fn describe_shared_host(secret: &str, domain: &str, other: Option<&ValidRegistry>) -> String {
    let advice = match other.filter(|other| *other.secret != *secret) {
        Some(other) => format!(
            "let them mount Secret {} (Registry {})",
            other.secret, other.name
        ),
        None => {
            "let them mount the Secret of a Registry with access Push and one login for that host"
                .to_owned()
        }
    };
    format!(
        "Secret {secret} has several logins for {domain}: {CLIENTS_BY_PATH} find the right one, {CLIENTS_BY_HOST} take any of them; {advice}"
    )
}

/// The host of a dockerconfigjson's key.
pub fn domain_of_key(key: &str) -> Option<String> {
    let pattern = super::Pattern::of_key(key)?;
    Some(pattern.domain().to_owned())
}
