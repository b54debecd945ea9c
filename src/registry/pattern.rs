//! Patterns: which images a Registry names, and their keys in a dockerconfigjson.
//!
//! A pattern is `host` or `host/path`. It covers its repository and everything below it, on whole segments of the path; `*` is one
//! whole label of the host. Its order and its key are the kubelet's, so that what is meant here is what a node does:
//! <https://github.com/kubernetes/kubernetes/blob/v1.36.0/pkg/credentialprovider/keyring.go>

use std::cmp::Ordering;
use std::fmt;

use super::crd::PATTERN_MAX;
use crate::image;

/// The key by which Docker's clients find Docker Hub's login, and no other one.
///
/// <https://github.com/docker/cli/blob/master/cli/config/configfile/file.go>, `IndexServer` in
/// <https://github.com/moby/moby/blob/master/registry/config.go>
pub const DOCKER_HUB_KEY: &str = "https://index.docker.io/v1/";

/// A pattern of images. Ordered as the kubelet tries its keys, the first one being the least: a literal label of the host before
/// `*`, a longer path before a shorter one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    /// `host[:port][/path]`.
    text: Box<str>,
    /// How many bytes of the text are the host and the port.
    domain: usize,
    /// The key in a dockerconfigjson, where it is not the text.
    key: Option<Box<str>>,
    /// Where the host's last `*` ends, if it has one: what follows is the same in all hosts that are covered.
    wildcard: Option<usize>,
}

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// The first rule that the text breaks.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        check_form(text)?;
        let (domain, path) = split(text);
        check_domain(domain)?;
        if let Some(path) = path {
            check_path(path)?;
        }
        Ok(Self::new(domain, path.unwrap_or_default()))
    }

    /// What a key of a dockerconfigjson covers, for every key that pullpass writes; `None` for others that no pattern has.
    ///
    /// <https://github.com/kubernetes/kubernetes/blob/v1.36.0/pkg/credentialprovider/keyring.go> (`Add`)
    pub fn of_key(key: &str) -> Option<Self> {
        if key == DOCKER_HUB_KEY {
            return Some(Self::new(image::DEFAULT_DOMAIN, ""));
        }
        let pattern = Self::parse(key).ok()?;
        let path = pattern.path();
        let stripped = path
            .strip_prefix("v1/")
            .or_else(|| path.strip_prefix("v2/"));
        Some(stripped.map_or_else(|| pattern.clone(), |path| Self::new(pattern.domain(), path)))
    }

    fn new(domain: &str, path: &str) -> Self {
        let separator = if path.is_empty() { "" } else { "/" };
        Self {
            text: format!("{domain}{separator}{path}").into(),
            domain: domain.len(),
            key: hides_first_segment(path).then(|| format!("{domain}/v2/{path}").into()),
            wildcard: domain.rfind('*').map(|at| at + 1),
        }
    }

    /// The pattern as it is written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The pattern's key in a dockerconfigjson's `auths`. It is the pattern, but for paths that start with
    /// `v1/` or `v2/`, which the kubelet takes for the registry API's version and strips: they get `v2/` in front.
    pub fn key(&self) -> &str {
        self.key.as_deref().unwrap_or(&self.text)
    }

    /// The host, with its port.
    pub fn domain(&self) -> &str {
        &self.text[..self.domain]
    }

    /// The host, without its port.
    pub fn host(&self) -> &str {
        image::split_port(self.domain()).0
    }

    /// The path; empty for the whole host.
    pub fn path(&self) -> &str {
        self.text.get(self.domain + 1..).unwrap_or_default()
    }

    /// Whether a label of the host is `*`.
    pub fn has_wildcard(&self) -> bool {
        self.wildcard.is_some()
    }

    /// Whether the pattern covers a repository of a domain.
    pub fn covers(&self, domain: &str, path: &str) -> bool {
        self.covers_domain(domain) && covers_path(self.path(), path)
    }

    /// Whether the pattern covers everything that the other one covers.
    pub fn covers_pattern(&self, other: &Self) -> bool {
        self.covers(other.domain(), other.path())
    }

    /// What both patterns cover, if there is anything.
    pub fn intersect(&self, other: &Self) -> Option<Self> {
        let path = if covers_path(self.path(), other.path()) {
            other.path()
        } else if covers_path(other.path(), self.path()) {
            self.path()
        } else {
            return None;
        };
        if self.covers_domain(other.domain()) {
            return Some(Self::new(other.domain(), path));
        }
        let (host, port) = image::split_port(self.domain());
        let (other_host, other_port) = image::split_port(other.domain());
        if port != other_port || host.split('.').count() != other_host.split('.').count() {
            return None;
        }
        let labels = host
            .split('.')
            .zip(other_host.split('.'))
            .map(|(label, other)| match (label, other) {
                ("*", _) => Some(other),
                (_, "*") => Some(label),
                _ => (label == other).then_some(label),
            });
        let host = labels.collect::<Option<Vec<_>>>()?.join(".");
        let domain = port.map_or_else(|| host.clone(), |port| format!("{host}:{port}"));
        Some(Self::new(&domain, path))
    }

    fn covers_domain(&self, domain: &str) -> bool {
        let Some(end) = self.wildcard else {
            return self.domain() == domain;
        };
        if !domain.ends_with(&self.domain()[end..]) {
            return false;
        }
        let (host, port) = image::split_port(self.domain());
        let (other, other_port) = image::split_port(domain);
        let mut labels = other.split('.');
        port == other_port
            && host.split('.').all(|label| {
                labels
                    .next()
                    .is_some_and(|other| label == "*" || label == other)
            })
            && labels.next().is_none()
    }
}

impl Ord for Pattern {
    fn cmp(&self, other: &Self) -> Ordering {
        other.text.cmp(&self.text)
    }
}

impl PartialOrd for Pattern {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

/// Whether a path is a prefix of another one on whole segments.
fn covers_path(prefix: &str, path: &str) -> bool {
    path.strip_prefix(prefix)
        .is_some_and(|rest| prefix.is_empty() || rest.is_empty() || rest.starts_with('/'))
}

/// Whether the kubelet would strip the path's first segment from a key.
fn hides_first_segment(path: &str) -> bool {
    path.starts_with("v1/") || path.starts_with("v2/")
}

fn split(text: &str) -> (&str, Option<&str>) {
    text.split_once('/')
        .map_or((text, None), |(domain, path)| (domain, Some(path)))
}

/// What is said of the first rule that is broken.
fn refuse<const RULES: usize>(rules: [(bool, &'static str); RULES]) -> Result<(), &'static str> {
    let mut broken = rules.into_iter().filter(|(is_broken, _)| *is_broken);
    broken.next().map_or(Ok(()), |(_, problem)| Err(problem))
}

fn check_form(text: &str) -> Result<(), &'static str> {
    refuse([
        (text.is_empty(), "is empty: write host or host/path"),
        (
            text.len() > PATTERN_MAX,
            "has more than 515 characters: shorten it",
        ),
        (
            text.contains("://"),
            "starts with a scheme: write it without https://",
        ),
        (
            text.ends_with('/'),
            "ends in /: remove it, a pattern covers everything below it",
        ),
        (
            text.contains('@'),
            "has a digest: write the repository alone",
        ),
        (
            text.bytes().any(|byte| byte.is_ascii_uppercase()),
            "has upper-case letters: write lower case, the kubelet compares case-sensitively",
        ),
    ])
}

fn check_domain(domain: &str) -> Result<(), &'static str> {
    let (host, port) = image::split_port(domain);
    let is_port = |port: &str| {
        !port.starts_with('0')
            && port.bytes().all(|byte| byte.is_ascii_digit())
            && port.parse::<u16>().is_ok()
    };
    let mut labels = host.split('.');
    // A wildcard matches any label: the rest must be a host with any label in its place.
    let is_host = host.len() <= 253 && image::is_domain(&host.replace('*', "0"));
    refuse([
        (
            domain == image::LEGACY_DEFAULT_DOMAIN,
            "is Docker Hub's old name: write docker.io",
        ),
        (
            domain != "localhost" && !domain.contains(['.', ':']),
            "names no host: start with a registry's host, for Docker Hub with docker.io",
        ),
        (
            port.is_some_and(|port| !is_port(port)),
            "has a malformed port: write 1 to 65535 without leading zeros",
        ),
        (
            port.is_none() && host.starts_with('['),
            "is an IPv6 address without a port: the kubelet never matches one, give the registry a name or a port",
        ),
        (
            labels.any(|label| label.contains('*') && label != "*"),
            "has a * within a label of the host: * matches one whole label",
        ),
        (
            !is_host,
            "has a malformed host: write labels of letters, digits and hyphens, joined by dots",
        ),
    ])
}

fn check_path(path: &str) -> Result<(), &'static str> {
    refuse([
        (
            path.contains('*'),
            "has a * in its path: a pattern covers everything below it, and the kubelet knows no * in paths",
        ),
        (path.contains(':'), "has a tag: write the repository alone"),
        (
            path.len() > image::PATH_MAX || !image::is_path(path),
            "has a malformed path: write what a repository's name may have, in lower case",
        ),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> Pattern {
        Pattern::parse(text).unwrap()
    }

    #[test]
    fn reads_every_key_that_it_writes() {
        let texts = [
            "a.com",
            "a.com/x",
            "*.a.com:5000/x/y",
            "a.com/v1",
            "a.com/v2/x",
            "a.com/v1/v2/x",
            "docker.io",
            "docker.io/team",
        ];
        for text in texts {
            let pattern = pattern(text);
            assert_eq!(Pattern::of_key(pattern.key()), Some(pattern), "{text}");
        }
        assert_eq!(Pattern::of_key(DOCKER_HUB_KEY), Some(pattern("docker.io")));
        for none in [
            "https://a.com",
            "https://index.docker.io/v1",
            "A.com",
            "",
            "a.com/X",
        ] {
            assert_eq!(Pattern::of_key(none), None, "{none}");
        }
    }

    #[test]
    fn refuses_what_no_image_or_kubelet_could_match() {
        let rows = [
            ("", "is empty"),
            ("https://example.com", "starts with a scheme"),
            ("example.com/", "ends in /"),
            ("example.com/app@sha256:00", "has a digest"),
            ("example.com/app:1", "has a tag"),
            ("Example.com/app", "has upper-case letters"),
            ("index.docker.io/library", "is Docker Hub's old name"),
            ("payments", "names no host"),
            ("payments/app", "names no host"),
            ("*", "names no host"),
            ("exam_ple.com/app", "has a malformed host"),
            ("-a.com", "has a malformed host"),
            ("a..com", "has a malformed host"),
            ("a.com.", "has a malformed host"),
            ("user@a.com", "has a digest"),
            ("a.com?x", "has a malformed host"),
            ("a.com:0", "has a malformed port"),
            ("a.com:080", "has a malformed port"),
            ("a.com:65536", "has a malformed port"),
            ("a.com:", "has a malformed port"),
            ("a.com:x", "has a malformed port"),
            ("a*.com", "has a * within a label"),
            ("**.com", "has a * within a label"),
            ("a.com/*", "has a * in its path"),
            ("a.com/team/*", "has a * in its path"),
            ("[fc00::1]/app", "is an IPv6 address"),
            ("a.com/-app", "has a malformed path"),
            ("a.com//app", "has a malformed path"),
            ("a.com/../app", "has a malformed path"),
        ];
        let refused = |text: &str| Pattern::parse(text).unwrap_err();
        for (text, problem) in rows {
            assert!(refused(text).starts_with(problem), "{text:?}");
        }
        let path = format!("a.com/{}", "a".repeat(256));
        assert!(refused(&path).starts_with("has a malformed path"));
        let host = format!("{}.com", "a".repeat(600));
        assert!(refused(&host).starts_with("has more than 515"));
    }

    #[test]
    fn covers_on_whole_segments_and_labels() {
        let rows = [
            ("a.com", "a.com", "x", true),
            ("a.com/x", "a.com", "x", true),
            ("a.com/x", "a.com", "x/y/z", true),
            ("a.com/x", "a.com", "xy", false),
            ("a.com/x", "a.com", "y/x", false),
            ("a.com/x/y", "a.com", "x", false),
            ("a.com", "a.com:443", "x", false),
            ("a.com:443", "a.com:443", "x", true),
            ("a.com", "b.a.com", "x", false),
            ("a.com", "a.com.evil.io", "x", false),
            ("*.a.com", "b.a.com", "x", true),
            ("*.a.com", "c.b.a.com", "x", false),
            ("*.a.com", "a.com", "x", false),
            ("*.a.com", "b.a.com:5000", "x", false),
            ("*.a.com:5000", "b.a.com:5000", "x", true),
            ("b.*.com", "b.a.com", "x", true),
            ("b.*.com", "b.a.com.evil", "x", false),
            ("[fc00::1]:5000", "[fc00::1]:5000", "x", true),
        ];
        for (text, domain, path, covers) in rows {
            assert_eq!(
                pattern(text).covers(domain, path),
                covers,
                "{text} {domain} {path}"
            );
        }
    }

    #[test]
    fn orders_literal_host_then_longer_path_first() {
        let mut patterns = [
            "*.com",
            "*.com/x/y",
            "a.com",
            "*.*",
            "a.com/x",
            "a.com/x/y",
            "a.*",
        ]
        .map(pattern);
        patterns.sort();
        assert_eq!(
            patterns.each_ref().map(Pattern::as_str),
            [
                "a.com/x/y",
                "a.com/x",
                "a.com",
                "a.*",
                "*.com/x/y",
                "*.com",
                "*.*"
            ]
        );
    }

    #[test]
    fn intersects_hosts_and_paths() {
        let rows = [
            ("a.com", "a.com/x", Some("a.com/x")),
            ("a.com/x", "a.com/y", None),
            ("a.com", "b.com", None),
            ("*.com/x", "a.com", Some("a.com/x")),
            ("*.com/x", "a.com/x/y", Some("a.com/x/y")),
            ("x.*.com", "*.y.com/t", Some("x.y.com/t")),
            ("x.*.com:1", "*.y.com:1", Some("x.y.com:1")),
            ("x.*.com:1", "*.y.com", None),
            ("*.com", "*.a.com", None),
            ("*.*.com/x", "*.y.com", Some("*.y.com/x")),
        ];
        for (one, other, expected) in rows {
            for (one, other) in [(one, other), (other, one)] {
                assert_eq!(
                    pattern(one).intersect(&pattern(other)),
                    expected.map(pattern),
                    "{one} {other}"
                );
            }
        }
    }

    #[test]
    fn keeps_path_that_kubelet_would_strip() {
        let rows = [
            ("a.com/v2/x", "a.com/v2/v2/x"),
            ("a.com/v1/x", "a.com/v2/v1/x"),
            ("a.com/v2", "a.com/v2"),
            ("a.com/v3/x", "a.com/v3/x"),
        ];
        for (text, key) in rows {
            assert_eq!(pattern(text).key(), key);
        }
    }
}
