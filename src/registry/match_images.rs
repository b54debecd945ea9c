//! For which images the kubelet asks a credential provider: entries of `matchImages` in its CredentialProviderConfig.
//!
//! An entry is no pattern of a Registry, though it looks like one: `*` may be a part of a label, and a path covers by its bytes, so that
//! `host/team` is for `host/teammate`, too. The kubelet then asks for more than a Registry serves, and the answer is no.
//! <https://github.com/kubernetes/kubernetes/blob/v1.36.0/pkg/credentialprovider/keyring.go> (`URLsMatch`)

use core::net::Ipv6Addr;
use std::fmt;

use super::{Pattern, ValidRegistry};
use crate::image;

/// An entry of `matchImages`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MatchImage {
    /// The host's labels, each of which may hold `*`.
    labels: Vec<String>,
    port: Option<String>,
    /// The path, without a slash in front; empty for the whole host.
    path: String,
}

/// Why the kubelet asks for no image because of an entry, or ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MatchImageError {
    /// It has a `*` in its path.
    #[error(
        "has a * in its path, which the kubelet takes as it stands: no image has one; a path covers all below it without"
    )]
    PathGlob,
    /// It has a form that no image has.
    #[error("{0}")]
    MatchesNothing(&'static str),
    /// It has a form that no URL has.
    #[error("{0}: the kubelet ends at its start with it")]
    Unreadable(&'static str),
}

impl MatchImage {
    /// Reads an entry.
    ///
    /// # Errors
    /// No image matches it, or the kubelet cannot read it.
    pub fn parse(text: &str) -> Result<Self, MatchImageError> {
        if let Some(problem) = url_problem(text) {
            return Err(MatchImageError::Unreadable(problem));
        }
        let (domain, path) = text.split_once('/').unwrap_or((text, ""));
        // A : without a port is none to the kubelet.
        let domain = domain.strip_suffix(':').unwrap_or(domain);
        let path = unescape(path).ok_or(MatchImageError::MatchesNothing(
            "has a path that no repository has",
        ))?;
        let problem = form_problem(text, domain, &path);
        if let Some(problem) = problem {
            return Err(MatchImageError::MatchesNothing(problem));
        }
        if path.contains('*') {
            return Err(MatchImageError::PathGlob);
        }
        if let Some(problem) = image_problem(domain, &path) {
            return Err(MatchImageError::MatchesNothing(problem));
        }
        let (host, port) = image::split_port(domain);
        Ok(Self {
            labels: host.split('.').map(str::to_owned).collect(),
            port: port.map(str::to_owned),
            path,
        })
    }

    /// The entry that is for all that a pattern covers.
    pub fn of_pattern(pattern: &Pattern) -> Self {
        let (host, port) = image::split_port(pattern.domain());
        Self {
            labels: host.split('.').map(str::to_owned).collect(),
            port: port.map(str::to_owned),
            path: pattern.path().to_owned(),
        }
    }

    /// Whether the kubelet asks for every image of a pattern because of this entry.
    pub fn covers(&self, pattern: &Pattern) -> bool {
        let covers_label = |label: &str, other: &str| match other {
            "*" => label.bytes().all(|byte| byte == b'*'),
            _ => matches_glob(label, other),
        };
        self.has_labels(pattern, covers_label) && pattern.path().starts_with(&self.path)
    }

    /// Whether there is an image of a pattern for which the kubelet asks because of this entry.
    pub fn overlaps(&self, pattern: &Pattern) -> bool {
        let path = pattern.path();
        let is_below = || {
            let rest = self.path.strip_prefix(path);
            rest.is_some_and(|rest| path.is_empty() || rest.starts_with('/'))
        };
        self.has_labels(pattern, |label, other| {
            other == "*" || matches_glob(label, other)
        }) && (path.starts_with(&self.path) || is_below())
    }

    /// Whether it has the port of a pattern, and labels of the host that agree with the pattern's one by one.
    fn has_labels(&self, pattern: &Pattern, agree: impl Fn(&str, &str) -> bool) -> bool {
        let (host, port) = image::split_port(pattern.domain());
        let mut others = host.split('.');
        self.port.as_deref() == port
            && self
                .labels
                .iter()
                .all(|label| others.next().is_some_and(|other| agree(label, other)))
            && others.next().is_none()
    }
}

impl fmt::Display for MatchImage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.labels.join("."))?;
        if let Some(port) = &self.port {
            write!(formatter, ":{port}")?;
        }
        if !self.path.is_empty() {
            write!(formatter, "/{}", self.path)?;
        }
        Ok(())
    }
}

/// What people write into an entry, and no image has.
fn form_problem(text: &str, domain: &str, path: &str) -> Option<&'static str> {
    let is_upper = |byte: u8| byte.is_ascii_uppercase();
    let problems = [
        (
            text.contains("://"),
            "has a scheme: write it without https://",
        ),
        (domain.is_empty(), "names no host: write host or host/path"),
        (
            domain.contains('@'),
            "names a user: write host or host/path alone",
        ),
        (
            path.contains('@'),
            "has a digest: the kubelet asks for the repository alone",
        ),
        (
            text.contains(['?', '#']),
            "has a ? or a #, after which the kubelet reads nothing: * is for any text of a label",
        ),
        (
            path.contains(':'),
            "has a tag: the kubelet asks for the repository alone",
        ),
        (
            text.bytes().any(is_upper),
            "has upper-case letters: the kubelet compares case-sensitively, and repositories are lower case",
        ),
    ];
    let mut problems = problems.into_iter();
    problems.find_map(|(is_broken, problem)| is_broken.then_some(problem))
}

/// Why no image has a host, or a path that begins so, by the grammar of image references.
fn image_problem(domain: &str, path: &str) -> Option<&'static str> {
    if domain.starts_with('[') && domain.ends_with(']') {
        return Some(
            "is an IPv6 address without a port, in whose brackets the kubelet sees a set of letters: write [address]:port",
        );
    }
    if !image::is_domain(&domain.replace('*', "a")) {
        return Some("has a host that no image has: letters, digits, - and * between dots");
    }
    let begins_a_path = path.is_empty() || image::is_path(&format!("{path}a"));
    (!begins_a_path).then_some("has a path that no repository has")
}

/// Why Go reads no URL from `https://` and an entry, as the kubelet has it do. Of Go 1.26, with which Kubernetes 1.36 is built; older ones
/// take some of these hosts, which no image has.
///
/// <https://cs.opensource.google/go/go/+/refs/tags/go1.26.0:src/net/url/url.go> (`parse`)
fn url_problem(entry: &str) -> Option<&'static str> {
    const ESCAPE: &str = "has a % that no two hexadecimal digits follow";
    let (text, fragment) = entry.split_once('#').unwrap_or((entry, ""));
    if text.bytes().any(|byte| byte.is_ascii_control()) {
        return Some("has a control character");
    }
    let (text, _) = text.split_once('?').unwrap_or((text, ""));
    let (authority, path) = text.split_once('/').unwrap_or((text, ""));
    if !has_whole_escapes(path) || !has_whole_escapes(fragment) {
        return Some(ESCAPE);
    }
    let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
    let is_user = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:~!$&'()*+,;=%@".contains(&byte);
    if !user.bytes().all(is_user) || !has_whole_escapes(user) {
        return Some("has an @ behind what is no user's name");
    }
    host_problem(host)
}

/// `parseHost` there.
fn host_problem(host: &str) -> Option<&'static str> {
    const BRACKETS: &str = "has brackets around what is no IPv6 address";
    let (name, port) = match host.rfind('[') {
        Some(0) => {
            let Some((address, port)) = host[1..].rsplit_once(']') else {
                return Some("has a [ without its ]");
            };
            let address = address.split("%25").next().unwrap_or_default();
            if address.parse::<Ipv6Addr>().is_err() {
                return Some(BRACKETS);
            }
            ("", port)
        }
        Some(_) => return Some(BRACKETS),
        None => host.split_at(host.find(':').unwrap_or(host.len())),
    };
    let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
    if !port.is_empty() && !port.strip_prefix(':').is_some_and(is_port) {
        return Some("has a port that is no number");
    }
    // Only what is not ASCII, and % itself, may be escaped in a host.
    let mut escapes = name.split('%').skip(1);
    let is_allowed = |escape: &str| escape.starts_with("25") || escape.as_bytes()[0] >= b'8';
    if !has_whole_escapes(name) || !escapes.all(is_allowed) {
        return Some("has a % in its host");
    }
    let is_host = |byte: u8| {
        !byte.is_ascii()
            || byte.is_ascii_alphanumeric()
            || b"-_.~!$&'()*+,;=:[]<>\"%".contains(&byte)
    };
    (!name.bytes().all(is_host)).then_some("has a character that no host may have")
}

/// Whether two hexadecimal digits follow each `%`.
fn has_whole_escapes(text: &str) -> bool {
    let mut escapes = text.as_bytes().split(|byte| *byte == b'%').skip(1);
    escapes.all(|escape| escape.len() >= 2 && escape[..2].iter().all(u8::is_ascii_hexdigit))
}

/// A path as the kubelet compares it; `None`: it is no text.
fn unescape(path: &str) -> Option<String> {
    let decoded = percent_encoding::percent_decode_str(path).decode_utf8();
    decoded.ok().map(std::borrow::Cow::into_owned)
}

/// Whether a Registry is one whose images the kubelet asks for.
pub fn is_asked_for(registry: &ValidRegistry) -> bool {
    registry.delivers_by_node() && registry.access.is_pull()
}

/// The fewest entries of `matchImages` that are for all images of these Registries, as far as kubelets ask for them, in order.
pub fn match_images<'r>(registries: impl Iterator<Item = &'r ValidRegistry>) -> Vec<String> {
    let asked = registries.filter(|registry| is_asked_for(registry));
    let mut patterns: Vec<&Pattern> = asked.flat_map(ValidRegistry::patterns).collect();
    patterns.sort_unstable_by_key(|pattern| pattern.as_str());
    patterns.dedup();
    let is_covered = |pattern: &Pattern| {
        let mut others = patterns.iter().filter(|other| **other != pattern);
        others.any(|other| MatchImage::of_pattern(other).covers(pattern))
    };
    patterns
        .iter()
        .filter(|pattern| !is_covered(pattern))
        .map(|pattern| pattern.as_str().to_owned())
        .collect()
}

/// Whether a label has the form of another one that may hold `*`, any text. `?` begins a query in the kubelet's eyes, and sets of letters in
/// brackets, which Go's [path/filepath](https://pkg.go.dev/path/filepath#Match) knows, are no part of a host.
fn matches_glob(glob: &str, label: &str) -> bool {
    let Some((start, rest)) = glob.split_once('*') else {
        return glob == label;
    };
    let Some(label) = label.strip_prefix(start) else {
        return false;
    };
    let mut ends = label.char_indices().map(|(at, _)| at);
    matches_glob(rest, "") || ends.any(|at| matches_glob(rest, &label[at..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> Pattern {
        Pattern::parse(text).unwrap()
    }

    #[test]
    fn covers_and_overlaps_as_the_kubelet_matches() {
        // An entry, a pattern, whether it is for all of the pattern's images, and for some of them.
        let rows = [
            ("a.com", "a.com", true, true),
            ("a.com", "a.com/team", true, true),
            ("a.com/team", "a.com", false, true),
            ("a.com/te", "a.com/team", true, true),
            ("a.com/team/api", "a.com/team", false, true),
            ("a.com/teams", "a.com/team", false, false),
            ("a.com/team/", "a.com/team", false, true),
            ("*.com", "a.com", true, true),
            ("*.com", "*.com", true, true),
            ("a*.com", "abc.com", true, true),
            ("a*c*.com", "abcd.com", true, true),
            ("a*d.com", "abc.com", false, false),
            ("a*.com", "*.com", false, true),
            ("a.com", "*.com", false, true),
            ("b.a.com", "a.com", false, false),
            ("a.com:5000", "a.com", false, false),
            ("a.com:5000", "a.com:5000/x", true, true),
            (
                "*.dkr.ecr.*.amazonaws.com",
                "1.dkr.ecr.eu-west-1.amazonaws.com/x",
                true,
                true,
            ),
            ("docker.io/library", "docker.io/library", true, true),
            ("[fc00::1]:5000", "[fc00::1]:5000/x", true, true),
        ];
        for (entry, text, covers, overlaps) in rows {
            let entry_read = MatchImage::parse(entry).unwrap();
            let pattern = pattern(text);
            let found = (entry_read.covers(&pattern), entry_read.overlaps(&pattern));
            assert_eq!(found, (covers, overlaps), "{entry} {text}");
        }
    }

    #[test]
    fn reads_escapes_of_a_path_and_a_port_that_is_none() {
        for (entry, other) in [("a.com/te%61m", "a.com/team"), ("a.com:", "a.com")] {
            assert_eq!(MatchImage::parse(entry), MatchImage::parse(other));
        }
    }

    /// What the kubelet of Kubernetes 1.36.3 said of each: `match image is invalid`.
    #[test]
    fn refuses_entries_that_the_kubelet_cannot_read() {
        for text in [
            "a.com:port",
            "a.com:*",
            "*.com:*",
            "a.com:1:2",
            "fc00::1",
            "[fc00::1",
            "[fc00::1]x:5",
            "[1.2.3.4]:5",
            "[ab].com",
            "[a-z]*.com",
            "{a,b}.com",
            "^.com",
            "a b.com",
            "a.com\\x",
            "a.com\t",
            "a.com/%zz",
            "a.com/x%4",
            "%zz.com",
            "a%41.com",
            "a.com#%zz",
            "u ser@a.com",
        ] {
            let refused = MatchImage::parse(text);
            assert!(
                matches!(refused, Err(MatchImageError::Unreadable(_))),
                "{text}: {refused:?}"
            );
        }
    }

    #[test]
    fn refuses_entries_that_match_no_image() {
        let is_glob = |text: &str| MatchImage::parse(text) == Err(MatchImageError::PathGlob);
        assert!(is_glob("a.com/*") && is_glob("a.com/team/*/api"));
        for text in [
            "https://a.com",
            "",
            "/team",
            "a.com/team:1",
            "a.com/x@sha256:0",
            "A.com",
            "a?c.com",
            "[fc00::1]",
            "user:pw@a.com",
            "a_b.com",
            "a!b.com",
            "é.com",
            "a.com/é",
            "a.com/a b",
            "a.com/..",
            "a.com//x",
            "a.com?%zz",
            "a%80.com",
            "a.com/%ff",
        ] {
            let refused = MatchImage::parse(text);
            assert!(
                matches!(refused, Err(MatchImageError::MatchesNothing(_))),
                "{text}: {refused:?}"
            );
        }
    }
}
