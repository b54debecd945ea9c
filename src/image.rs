//! Image references: what a Pod writes in `image`, read as the container runtime reads it.
//!
//! [`Reference::parse`] follows `ParseNormalizedNamed` of [distribution/reference], which the kubelet and containerd use, in
//! every detail that decides where a pull goes. It allocates only for Docker Hub's single names (`ubuntu`), whose path gets
//! `library/` in front.
//!
//! [distribution/reference]: https://github.com/distribution/reference/blob/v0.6.0/normalize.go

use std::borrow::Cow;

mod grammar;

/// The registry of references that name none.
pub const DEFAULT_DOMAIN: &str = "docker.io";
/// Docker Hub's name of old, read as [`DEFAULT_DOMAIN`].
pub const LEGACY_DEFAULT_DOMAIN: &str = "index.docker.io";
/// The longest path of a repository, in bytes, without its domain.
pub const PATH_MAX: usize = 255;

/// An image reference in its parts, borrowed from the text it was read from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Reference<'a> {
    domain: &'a str,
    path: Cow<'a, str>,
    tag: Option<&'a str>,
    digest: Option<&'a str>,
}

impl<'a> Reference<'a> {
    /// Reads an image as Docker does: `docker.io` where no registry is named, `library/` in front of Docker Hub's single names.
    /// No tag is made up where there is none.
    ///
    /// A first part with a dot that is no host but could be a part of a path (`exa_mple.com/a`) stays in the path, and the
    /// domain is empty, as with the reference implementation.
    ///
    /// # Errors
    /// The first rule that the text breaks.
    pub fn parse(image: &'a str) -> Result<Self, &'static str> {
        if image.is_empty() {
            return Err("the image is empty: write repository[:tag][@digest]");
        }
        if image.len() == 64 && grammar::is_lower_hex(image) {
            return Err(
                "64 hexadecimal digits are an image's ID, not a repository: write the repository's name",
            );
        }
        let (domain, remainder) = split_domain(image);
        let (name, tag, digest) = split_remainder(remainder)?;
        if !grammar::is_path(name) {
            return Err(path_error(name));
        }
        let (domain, path) = if domain == DEFAULT_DOMAIN {
            (domain, hub_path(name))
        } else if grammar::is_domain(domain) {
            (domain, Cow::Borrowed(name))
        } else if grammar::is_path(domain) {
            ("", Cow::Borrowed(&image[..domain.len() + 1 + name.len()]))
        } else {
            return Err(
                "the part before the first / is no host: write letters, digits, dots and hyphens, and a port of digits",
            );
        };
        if path.len() > PATH_MAX {
            return Err("the repository's path has more than 255 characters: shorten it");
        }
        Ok(Self {
            domain,
            path,
            tag,
            digest,
        })
    }

    /// The registry's host, with its port when the image names one; letters as they were written.
    pub fn domain(&self) -> &str {
        self.domain
    }

    /// The registry's host without its port; an IPv6 address keeps its brackets.
    pub fn host(&self) -> &str {
        split_port(self.domain).0
    }

    /// The registry's port, as it was written.
    pub fn port(&self) -> Option<&str> {
        split_port(self.domain).1
    }

    /// The repository's path, with `library/` for Docker Hub's single names.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The tag, when the image names one.
    pub fn tag(&self) -> Option<&str> {
        self.tag
    }

    /// The digest with its algorithm, when the image names one.
    pub fn digest(&self) -> Option<&str> {
        self.digest
    }

    /// The repository: its domain and its path.
    pub fn repository(&self) -> (&str, &str) {
        (self.domain, &self.path)
    }
}

/// Splits `host:port` into its parts; the colons within an IPv6 address's brackets are not a port's.
pub fn split_port(domain: &str) -> (&str, Option<&str>) {
    match domain.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (domain, None),
    }
}

/// Whether a text is a host, with or without a port, by the grammar of image references; letters of both cases.
pub fn is_domain(text: &str) -> bool {
    grammar::is_domain(text)
}

/// Whether a text is a repository's path by the grammar of image references; its length is not checked.
pub fn is_path(text: &str) -> bool {
    grammar::is_path(text)
}

/// The registry and what follows it: `splitDockerDomain` of the reference implementation.
fn split_domain(image: &str) -> (&str, &str) {
    let Some((first, rest)) = image.split_once('/') else {
        return (DEFAULT_DOMAIN, image);
    };
    if first == LEGACY_DEFAULT_DOMAIN {
        return (DEFAULT_DOMAIN, rest);
    }
    let names_a_registry = first == "localhost"
        || first
            .bytes()
            .any(|byte| matches!(byte, b'.' | b':') || byte.is_ascii_uppercase());
    if names_a_registry {
        (first, rest)
    } else {
        (DEFAULT_DOMAIN, image)
    }
}

type RemainderParts<'a> = (&'a str, Option<&'a str>, Option<&'a str>);

/// The path, the tag and the digest of what follows the registry.
fn split_remainder(remainder: &str) -> Result<RemainderParts<'_>, &'static str> {
    let (rest, digest) = match remainder.split_once('@') {
        Some((rest, digest)) if grammar::is_digest(digest) => (rest, Some(digest)),
        Some(_) => {
            return Err(
                "the digest is malformed: write sha256:, sha384: or sha512: and all of its lower-case hexadecimal digits",
            );
        }
        None => (remainder, None),
    };
    match rest.split_once(':') {
        Some((name, tag)) if grammar::is_tag(tag) => Ok((name, Some(tag), digest)),
        Some(_) => Err(
            "the tag is malformed: write 1 to 128 of letters, digits, `_`, `.` and `-`, the first being no `.` or `-`",
        ),
        None => Ok((rest, None, digest)),
    }
}

fn hub_path(name: &str) -> Cow<'_, str> {
    if name.contains('/') {
        Cow::Borrowed(name)
    } else {
        Cow::Owned(format!("library/{name}"))
    }
}

fn path_error(name: &str) -> &'static str {
    if name.bytes().any(|byte| byte.is_ascii_uppercase())
        && grammar::is_path(&name.to_ascii_lowercase())
    {
        "the repository has upper-case letters: write it in lower case"
    } else {
        "the repository's path is malformed: write parts of a-z and 0-9, joined by one of `.`, `_`, `__` or hyphens, with single / between them"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(image: &str) -> &'static str {
        Reference::parse(image).unwrap_err()
    }

    #[test]
    fn borrows_reference_without_docker_hub_single_name() {
        let reference = Reference::parse("registry.example.com:5000/team/app:1").unwrap();
        assert!(matches!(reference.path, Cow::Borrowed("team/app")));
        assert_eq!(
            reference.repository(),
            ("registry.example.com:5000", "team/app")
        );
        assert_eq!(
            (reference.host(), reference.port()),
            ("registry.example.com", Some("5000"))
        );
    }

    #[test]
    fn splits_port_of_ipv6_host() {
        assert_eq!(split_port("[fc00::1]:5000"), ("[fc00::1]", Some("5000")));
        assert_eq!(split_port("[fc00::1]"), ("[fc00::1]", None));
        assert_eq!(split_port("localhost"), ("localhost", None));
    }

    #[test]
    fn names_first_broken_rule() {
        let errors = [
            ("", "the image is empty"),
            (
                "1a3f5e7d9c1b3a5f7e9d1c3b5a7f9e1d3c5b7a9f1e3d5d7c9b1a3f5e7d9c1b3a",
                "64 hexadecimal digits",
            ),
            ("team/App", "the repository has upper-case"),
            ("-host.example.com/app", "the part before the first /"),
            (
                "host.example.com/a//b",
                "the repository's path is malformed",
            ),
            ("app:", "the tag is malformed"),
            ("app@sha256:abc", "the digest is malformed"),
        ];
        for (image, error) in errors {
            assert!(refused(image).starts_with(error), "{image}");
        }
        let long = format!("example.com/{}", "a".repeat(PATH_MAX + 1));
        assert!(refused(&long).starts_with("the repository's path has more"));
    }

    #[test]
    fn reads_megabyte_without_trouble() {
        let image = "a".repeat(1 << 20);
        assert!(refused(&image).starts_with("the repository's path has more"));
        let image = "é/".repeat(1 << 19);
        assert!(refused(&image).starts_with("the repository's path is malformed"));
    }
}
