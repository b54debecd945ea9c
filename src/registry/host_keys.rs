//! The keys by which clients find a login that know hosts alone.
//!
//! The kubelet, skopeo and buildah take the longest key that is a prefix of the image. Docker's own library (docker, buildx, buildctl) and
//! go-containerregistry (crane, kaniko, ko, cosign) look for exactly the repository or the host, and else take any key of that host, in
//! random order; oras and helm know hosts alone. With a key that is the bare host, and the same login under all keys of that host, all of
//! them find the same one:
//! <https://github.com/docker/cli/blob/master/cli/config/credentials/file_store.go>,
//! <https://github.com/google/go-containerregistry/blob/main/pkg/authn/keychain.go>.

use std::collections::BTreeSet;

use super::crd::ExportFormat;
use super::pattern::{DOCKER_HUB_KEY, Pattern};
use super::source::CredentialSource;
use super::valid::ValidRegistry;
use crate::image;

/// A host's own key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HostKey {
    /// The key.
    pub key: String,
    /// The key of the same grant whose login it has: that of the first of the Registry's images on this host, or of the whole host if
    /// that is one.
    pub like: String,
}

/// The hosts' own keys for one of a Registry's credentials, beside those of its patterns. No host has two credentials of one Registry.
pub(super) fn find(registry: &ValidRegistry, source: &CredentialSource) -> Vec<HostKey> {
    let patterns = || {
        let all = registry.credentials();
        all.filter(|(_, one)| *one == source).map(|(one, _)| one)
    };
    let mut seen = BTreeSet::new();
    let mut keys = Vec::new();
    for first in patterns().filter(|one| seen.insert(one.domain().to_owned())) {
        let is_whole_host =
            |one: &&Pattern| one.domain() == first.domain() && one.path().is_empty();
        let whole_host = patterns().find(is_whole_host);
        let like = whole_host.unwrap_or(first).key();
        let mut add = |key: &str| {
            keys.push(HostKey {
                key: key.to_owned(),
                like: like.to_owned(),
            });
        };
        if whole_host.is_none() {
            add(first.domain());
        }
        if first.domain() == image::DEFAULT_DOMAIN {
            add(DOCKER_HUB_KEY);
        }
    }
    keys
}

/// The key of an export's login. One that holds a single one has no other: it is the host, or the image whose text is the URL.
pub(super) fn find_only(registry: &ValidRegistry, format: ExportFormat) -> Option<HostKey> {
    let first = registry.patterns().next()?;
    let mut patterns = registry.patterns();
    let whole_host = patterns.find(|one| one.path().is_empty());
    let key = if format.is_of_one_image() {
        first.key()
    } else {
        first.domain()
    };
    Some(HostKey {
        key: key.to_owned(),
        like: whole_host.unwrap_or(first).key().to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use crate::registry::{Labels, Registries, Registry};

    /// The hosts' own keys, each with the key whose login it has.
    fn host_keys(access: &str, images: &str) -> Vec<(String, String)> {
        let yaml = format!(
            "{{apiVersion: pullpass.dev/v1alpha1, kind: Registry, metadata: {{name: a}}, spec: {{access: {access}, images: [{images}], namespaceSelector: {{matchLabels: {{a: b}}}}, static: {{secretRef: {{name: a}}}}}}}}"
        );
        let registry: Registry = serde_saphyr::from_str(&yaml).unwrap();
        let registries = Registries::build([registry]);
        assert_eq!(registries.problems(), []);
        let labels = Labels::from([("a".to_owned(), "b".to_owned())]);
        let grants = registries.grants(&labels).into_iter();
        let keys = grants.flat_map(|grant| grant.host_keys);
        keys.map(|host| (host.key, host.like)).collect()
    }

    #[test]
    fn gives_each_host_a_key_of_its_own_with_the_login_of_its_first_image() {
        const HUB: &str = "https://index.docker.io/v1/";
        let rows: [(&str, &[(&str, &str)]); 7] = [
            ("a.com", &[]),
            ("a.com/z, a.com/b", &[("a.com", "a.com/z")]),
            ("a.com/z, a.com", &[]),
            (
                "'a.com:5000/b', a.com/b",
                &[("a.com:5000", "a.com:5000/b"), ("a.com", "a.com/b")],
            ),
            ("a.com/v2/b", &[("a.com", "a.com/v2/v2/b")]),
            ("docker.io", &[(HUB, "docker.io")]),
            (
                "docker.io/team",
                &[("docker.io", "docker.io/team"), (HUB, "docker.io/team")],
            ),
        ];
        for (images, expected) in rows {
            let found = host_keys("Push", images);
            let found: Vec<_> = found.iter().map(|(key, like)| (&**key, &**like)).collect();
            assert_eq!(found, expected, "{images}");
            assert_eq!(host_keys("Pull", images), [], "{images}");
        }
    }

    #[test]
    fn gives_exports_the_keys_of_their_formats() {
        const HUB: &str = "https://index.docker.io/v1/";
        let yaml = |images: &str, exports: &str| {
            format!(
                "{{apiVersion: pullpass.dev/v1alpha1, kind: Registry, metadata: {{name: a}}, spec: {{images: [{images}], exports: [{exports}], namespaceSelector: {{}}, static: {{secretRef: {{name: a}}}}}}}}"
            )
        };
        let rows: [(&str, &str, &[&str]); 6] = [
            (
                "a.com/z, a.com/b",
                "DockerConfig",
                &["a.com/z", "a.com/b", "a.com"],
            ),
            (
                "docker.io/b",
                "DockerConfig",
                &["docker.io/b", "docker.io", HUB],
            ),
            ("a.com/z, a.com/b", "BasicAuth", &["a.com"]),
            ("docker.io/b", "BasicAuth", &["docker.io"]),
            ("a.com/v2/z", "ArgoCDRepository", &["a.com/v2/v2/z"]),
            ("a.com", "ArgoCDRepositoryCreds", &["a.com"]),
        ];
        for (images, format, expected) in rows {
            let exports = format!("{{name: b, format: {format}}}");
            let registry: Registry = serde_saphyr::from_str(&yaml(images, &exports)).unwrap();
            let registries = Registries::build([registry]);
            assert_eq!(registries.problems(), []);
            let grants = registries.grants(&Labels::new());
            let (exported, others): (Vec<_>, Vec<_>) = grants
                .iter()
                .partition(|grant| *grant.secret == *"pullpass-a.x-b");
            let keys: Vec<&String> = exported.iter().flat_map(|grant| grant.all_keys()).collect();
            assert_eq!(keys, expected, "{images} {format}");
            assert!(exported.iter().all(|grant| grant.is_mounted()));
            // Pods have the same as without.
            let alone: Registry = serde_saphyr::from_str(&yaml(images, "")).unwrap();
            let alone = Registries::build([alone]).grants(&Labels::new());
            assert_eq!(others, Vec::from_iter(&alone), "{images} {format}");
        }
    }
}
