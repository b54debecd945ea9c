//! Which Pods may hold an image that a Registry serves, said in CEL: the API server then asks about no other Pod.
//!
//! It may be true of Pods that nobody serves, never false of one that somebody serves: it looks at hosts alone, at what Registries say
//! and not whom they serve, and at suspended ones too.
//!
//! <https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/#matching-requests-matchconditions>

use std::collections::BTreeSet;

use super::{Pattern, Registries, ServedRegistry};

/// Beyond so many hosts every Pod is asked about: what an expression may cost is bounded, and one that costs more is an error, which
/// lets the Pod pass unasked.
const HOSTS_MAX: usize = 500;

/// All image references of a Pod.
const IMAGES: &str = "((object.spec.?containers.orValue([]) + object.spec.?initContainers.orValue([]) \
    + object.spec.?ephemeralContainers.orValue([])).map(c, c.?image.orValue('')) \
    + object.spec.?volumes.orValue([]).map(v, v.?image.?reference.orValue('')))";

/// Docker Hub, which images without a host come from.
const HUB: &str = "docker.io";

/// The hosts of Registries, with their ports, some with `*`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hosts(BTreeSet<Box<str>>);

impl Hosts {
    /// Those of all valid Registries.
    pub fn of(registries: &Registries) -> Self {
        let patterns = registries.iter().flat_map(ServedRegistry::patterns);
        Self(patterns.map(|pattern| pattern.domain().into()).collect())
    }

    /// Whether all hosts of a Registry are among them.
    pub fn cover(&self, registry: &ServedRegistry) -> bool {
        let mut patterns = registry.patterns();
        patterns.all(|pattern| self.0.contains(pattern.domain()))
    }

    /// Whether a Pod may need one of them, as an expression of CEL over the Pod.
    pub fn condition(&self) -> String {
        if self.0.len() > HOSTS_MAX {
            return "true".to_owned();
        }
        let is_wild = |host: &&str| host.contains('*');
        let (wild, literal): (Vec<&str>, Vec<&str>) =
            self.0.iter().map(Box::as_ref).partition(is_wild);
        let mut tests = Vec::new();
        if !literal.is_empty() {
            let hosts: Vec<String> = literal.iter().map(|host| format!("'{host}'")).collect();
            tests.push(format!("image.split('/')[0] in [{}]", hosts.join(", ")));
        }
        tests.extend(
            wild.iter()
                .map(|host| format!("image.matches('^{}/')", regex(host))),
        );
        if self.0.iter().any(|host| covers_hub(host)) {
            // Volumes that are no images have an empty reference here.
            tests.push("image != '' && !image.matches('^[^/]*[.:][^/]*/')".to_owned());
            tests.push("image.startsWith('index.docker.io/')".to_owned());
        }
        if tests.is_empty() {
            return "false".to_owned();
        }
        format!("{IMAGES}.exists(image, {})", tests.join(" || "))
    }
}

fn covers_hub(host: &str) -> bool {
    host == HUB || Pattern::parse(host).is_ok_and(|pattern| pattern.covers(HUB, "library/any"))
}

/// A host with `*` as a regular expression: it has letters, digits, `.`, `-`, `:`, `[`, `]` and `*`.
fn regex(host: &str) -> String {
    let literal = host.replace('[', "\\\\[").replace(']', "\\\\]");
    literal.replace('.', "[.]").replace('*', "[^./:]+")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(hosts: &[&str]) -> Hosts {
        Hosts(hosts.iter().map(|&host| host.into()).collect())
    }

    #[test]
    fn asks_about_hosts_alone() {
        let condition = hosts(&["a.example.com:5000", "*.azurecr.io"]).condition();
        let tests = "exists(image, image.split('/')[0] in ['a.example.com:5000'] || image.matches('^[^./:]+[.]azurecr[.]io/'))";
        assert!(condition.ends_with(tests), "{condition}");
        assert_eq!(Hosts::default().condition(), "false");
    }

    #[test]
    fn asks_about_images_without_host_where_a_pattern_covers_docker_hub() {
        for (host, asks) in [
            ("docker.io", true),
            ("*.io", true),
            ("quay.io", false),
            ("*.azurecr.io", false),
        ] {
            let condition = hosts(&[host]).condition();
            assert_eq!(condition.contains("index.docker.io"), asks, "{host}");
        }
    }

    #[test]
    fn asks_about_everything_beyond_the_bound() {
        let many: Vec<String> = (0..=HOSTS_MAX)
            .map(|number| format!("r{number}.example.com"))
            .collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert_eq!(hosts(&many).condition(), "true");
        assert_ne!(hosts(&many[1..]).condition(), "true");
    }
}
