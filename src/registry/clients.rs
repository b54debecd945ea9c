//! Which clients find the right login in a Secret. Pure.
//!
//! Where a Secret has several logins for one host, only those that take the longest key find the right one; the others take any of them, in
//! random order (measured; `host_keys` has the sources).

use super::{CredentialSource, ExportFormat, Labels, Pattern, Registries, ValidRegistry};
use crate::names::ObjectName;

/// Clients that take the longest key that is a prefix of the image.
pub const CLIENTS_BY_PATH: &str = "the kubelet, skopeo, buildah and k8schain";
/// Clients that find a login by its host.
pub const CLIENTS_BY_HOST: &str = "docker, buildx, crane, kaniko, oras and helm";

/// What a login is looked for.
#[derive(Clone, Copy, Debug)]
pub enum WantedLogin<'a> {
    /// For the image with this path.
    Image(&'a str),
    /// For all that the Secret of this name has logins for on the host.
    Secret(&'a str),
}

/// A Secret that clients can use which know hosts alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostKeyedSecret<'r> {
    /// The Secret's name.
    pub secret: &'r ObjectName,
    /// The Registry that it is of.
    pub registry: &'r ObjectName,
}

impl Registries {
    /// The Secret that those clients can use for a host in a namespace with these labels: that of a Registry that is for all of what is
    /// wanted, an export before one that pushes, by name. What a source Secret of fixed logins holds is not known here: there may be
    /// several for the host.
    pub fn find_for_host_clients(
        &self,
        namespace: &Labels,
        domain: &str,
        wanted: WantedLogin<'_>,
    ) -> Option<HostKeyedSecret<'_>> {
        let keys = match wanted {
            WantedLogin::Image(_) => Vec::new(),
            WantedLogin::Secret(secret) => self.keys_of_host(namespace, domain, secret),
        };
        let is_for_all = |one: &ValidRegistry| match wanted {
            WantedLogin::Image(path) => one.find_serving(domain, path).is_some(),
            WantedLogin::Secret(_) => keys.iter().all(|key| one.serves_all_of(key)),
        };
        let usable = self.iter().filter(|one| {
            let mut patterns = one.patterns();
            one.serves(namespace)
                && !one.has_static_login()
                && patterns.any(|pattern| pattern.domain() == domain)
                && is_for_all(one)
        });
        let secrets = usable.flat_map(|one| {
            let secrets = host_keyed_secrets(one);
            secrets.map(|secret| (!one.access.is_pull(), &one.name, secret))
        });
        let (_, registry, secret) = secrets.min()?;
        Some(HostKeyedSecret { secret, registry })
    }

    /// Whose login exports hold that hold only one, of the fixed ones for a host in a namespace with these labels: a clause to be added to
    /// what is said of a Secret with several, or nothing.
    fn describe_sole_logins(&self, namespace: &Labels, domain: &str) -> String {
        let grants = self.grants(namespace).into_iter().filter(|grant| {
            grant.format.holds_one_login() && matches!(grant.source, CredentialSource::Static(_))
        });
        let said: Vec<String> = grants
            .filter_map(|grant| {
                let mut of_host = grant.host_keys.iter();
                let host =
                    of_host.find(|host| domain_of_key(&host.key).as_deref() == Some(domain))?;
                Some(format!(
                    "; Secret {} holds that of {}",
                    grant.secret, host.like
                ))
            })
            .collect();
        said.concat()
    }

    /// What is to be said of a Secret with several logins for a host in a namespace with these labels, and of other clients' Secret.
    pub fn describe_shared_host(
        &self,
        namespace: &Labels,
        (secret, domain): (&str, &str),
        wanted: WantedLogin<'_>,
    ) -> String {
        let other = self.find_for_host_clients(namespace, domain, wanted);
        let of_exports = self.describe_sole_logins(namespace, domain);
        describe_shared_host(secret, domain, other) + &of_exports
    }

    /// What a Secret has logins for on a host.
    fn keys_of_host(&self, namespace: &Labels, domain: &str, secret: &str) -> Vec<Pattern> {
        let grants = self.grants(namespace).into_iter();
        let keys = grants
            .filter(|grant| *grant.secret == *secret)
            .flat_map(|grant| grant.keys);
        keys.filter_map(|key| Pattern::of_key(&key))
            .filter(|key| key.domain() == domain)
            .collect()
    }
}

/// The Secrets of a Registry with the hosts' own keys.
fn host_keyed_secrets(registry: &ValidRegistry) -> impl Iterator<Item = &ObjectName> {
    let exports = registry.exports.iter();
    let exports = exports.filter(|export| export.format == ExportFormat::DockerConfig);
    let own = registry.secret.iter();
    let own = own.filter(|_| !registry.access.is_pull());
    exports.map(|export| &export.secret).chain(own)
}

/// What is to be said of a Secret with several logins for a host; `other`: the one that the clients can use that cannot use this one.
fn describe_shared_host(secret: &str, domain: &str, other: Option<HostKeyedSecret<'_>>) -> String {
    let advice = match other.filter(|other| *other.secret != *secret) {
        Some(HostKeyedSecret { secret, registry }) => {
            format!("let them mount Secret {secret} (Registry {registry})")
        }
        None => "let them mount an export of format DockerConfig, or the Secret of a Registry with access Push and one login for that host"
            .to_owned(),
    };
    format!(
        "Secret {secret} has several logins for {domain}: {CLIENTS_BY_PATH} find the right one, {CLIENTS_BY_HOST} take any of them; {advice}"
    )
}

/// The host of a dockerconfigjson's key.
pub fn domain_of_key(key: &str) -> Option<String> {
    let pattern = Pattern::of_key(key)?;
    Some(pattern.domain().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::Registry;

    fn registry(name: &str, rest: &str) -> Registry {
        let yaml = format!(
            "{{apiVersion: pullpass.dev/v1alpha1, kind: Registry, metadata: {{name: {name}}}, spec: {{namespaceSelector: {{matchLabels: {{a: b}}}}, {rest}}}}}"
        );
        serde_saphyr::from_str(&yaml).unwrap()
    }

    #[test]
    fn offers_the_secret_of_a_registry_that_is_for_all_that_is_wanted() {
        const DOMAIN: &str = "123456789012.dkr.ecr.eu-west-1.amazonaws.com";
        let keys = "ecr: {identity: {keys: {secretRef: {name: k}}}}";
        let static_ = "static: {secretRef: {name: k}}";
        let one = format!("{DOMAIN}/one");
        let both = format!("{DOMAIN}/one, {DOMAIN}/other");
        // What pushes; what is taken away from it; whether it is offered for the image `one`, and for the Secret.
        let rows = [
            (one.as_str(), "", keys, true, false),
            (&both, "", keys, true, true),
            (DOMAIN, "", keys, true, true),
            (DOMAIN, "/one", keys, false, false),
            (DOMAIN, "/one/secret", keys, true, false),
            (&both, "", static_, false, false),
        ];
        for (images, excluded, source, is_for_image, is_for_secret) in rows {
            let excluded = match excluded {
                "" => String::new(),
                path => format!("excludedImages: [{DOMAIN}{path}], "),
            };
            let registries = Registries::build([
                registry("a", &format!("images: [{DOMAIN}/one], {keys}")),
                registry("b", &format!("images: [{DOMAIN}/other], {static_}")),
                registry(
                    "c",
                    &format!("access: Push, images: [{images}], {excluded}{source}"),
                ),
            ]);
            assert_eq!(registries.problems(), []);
            let labels = Labels::from([("a".to_owned(), "b".to_owned())]);
            let found = |wanted| {
                let found = registries.find_for_host_clients(&labels, DOMAIN, wanted);
                found.is_some()
            };
            let offered = (
                found(WantedLogin::Image("one")),
                found(WantedLogin::Secret("pullpass")),
            );
            assert_eq!(
                offered,
                (is_for_image, is_for_secret),
                "{images} {excluded}"
            );
        }
    }

    #[test]
    fn offers_an_export_of_what_pulls_before_a_secret_that_pushes() {
        const DOMAIN: &str = "123456789012.dkr.ecr.eu-west-1.amazonaws.com";
        let spec = |rest: &str| {
            format!(
                "images: [{DOMAIN}], {rest}, ecr: {{identity: {{keys: {{secretRef: {{name: k}}}}}}}}"
            )
        };
        let export = |format: &str| format!("exports: [{{name: b, format: {format}}}]");
        let rows = [
            (export("BasicAuth"), "pullpass-z"),
            (export("DockerConfig"), "pullpass-a.x-b"),
            (
                format!("{}, access: Push", export("DockerConfig")),
                "pullpass-a",
            ),
        ];
        for (rest, expected) in rows {
            let registries = Registries::build([
                registry("a", &spec(&rest)),
                registry("z", &spec("access: Push")),
            ]);
            assert_eq!(registries.problems(), []);
            let labels = Labels::from([("a".to_owned(), "b".to_owned())]);
            let wanted = WantedLogin::Secret("pullpass");
            let found = registries.find_for_host_clients(&labels, DOMAIN, wanted);
            assert_eq!(*found.unwrap().secret, expected, "{rest}");
        }
    }

    #[test]
    fn names_whose_login_exports_of_one_login_hold() {
        let registries = Registries::build([
            registry(
                "a",
                "images: [a.com/z, a.com/b], static: {secretRef: {name: k}}, exports: [{name: user, format: BasicAuth}, {name: file, format: DockerConfig}]",
            ),
            registry(
                "b",
                "images: [b.com/x], static: {secretRef: {name: k}}, exports: [{name: user, format: BasicAuth}]",
            ),
        ]);
        assert_eq!(registries.problems(), []);
        let said = |team: &str, domain: &str| {
            let labels = Labels::from([("a".to_owned(), team.to_owned())]);
            let wanted = WantedLogin::Secret("pullpass");
            registries.describe_shared_host(&labels, ("pullpass", domain), wanted)
        };
        let of_a = said("b", "a.com");
        let expected = "; Secret pullpass-a.x-user holds that of a.com/z";
        assert!(of_a.ends_with(expected), "{of_a}");
        assert!(!said("other", "a.com").contains("holds that of"));
        assert!(!said("b", "c.com").contains("holds that of"));
    }
}
