//! Names of Kubernetes' objects, as types that only checked text becomes.
//!
//! A name is the only input of callers and tenants in the URL of a request to the API server, and kube puts it there as
//! it is. So a text that could be more than one segment of a path (`tenant-b/serviceaccounts/x`, `..`, `a?b`) is no name: it is refused
//! where it enters, and all code that calls the API server takes these types.

use std::borrow::Borrow;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Serialize, Serializer};

/// The name of a namespace: a DNS label of at most 63 bytes.
///
/// <https://kubernetes.io/docs/concepts/overview/working-with-objects/names/#dns-label-names>
pub type NamespaceName = Name<DnsLabel>;

/// The name of any other object: a DNS subdomain of at most 253 bytes.
///
/// <https://kubernetes.io/docs/concepts/overview/working-with-objects/names/#dns-subdomain-names>
pub type ObjectName = Name<DnsSubdomain>;

/// A name of this form. Clones share the text.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name<F>(Arc<str>, PhantomData<F>);

/// The form of a name.
pub trait Form {
    /// What Kubernetes calls it.
    const FORM: &str;
    /// The longest text of this form, in bytes.
    const MAX: usize;

    /// Whether a text that is not too long has this form.
    fn fits(text: &str) -> bool;
}

/// Lower-case letters, digits and hyphens, a letter or digit at both ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DnsLabel {}

/// DNS labels joined by dots; together they are bounded, one alone is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DnsSubdomain {}

impl Form for DnsLabel {
    const FORM: &str = "a DNS label";
    const MAX: usize = 63;

    fn fits(text: &str) -> bool {
        let is_end = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let bytes = text.as_bytes();
        bytes.first().is_some_and(is_end)
            && bytes.last().is_some_and(is_end)
            && bytes.iter().all(|byte| is_end(byte) || *byte == b'-')
    }
}

impl Form for DnsSubdomain {
    const FORM: &str = "a DNS subdomain";
    const MAX: usize = 253;

    fn fits(text: &str) -> bool {
        text.split('.').all(DnsLabel::fits)
    }
}

/// Why a text is not the name of an object. It holds no more of the text than a person needs to recognise it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is not a valid name: it must be {form} (lower-case letters, digits and '-'{dots}, a letter or digit at both ends) of at most {max} bytes"
)]
pub struct NameError {
    text: String,
    form: &'static str,
    dots: &'static str,
    max: usize,
}

/// The most that a [`NameError`] shows of a text, in bytes.
const SHOWN: usize = 64;

/// Whether a text has the form of a name.
fn is_name<F: Form>(text: &str) -> bool {
    text.len() <= F::MAX && F::fits(text)
}

/// Whether a text has the form of [`NamespaceName`].
pub fn is_label(text: &str) -> bool {
    is_name::<DnsLabel>(text)
}

/// Whether a text has the form of [`ObjectName`].
pub fn is_subdomain(text: &str) -> bool {
    is_name::<DnsSubdomain>(text)
}

impl<F: Form> Name<F> {
    /// Checks a text.
    ///
    /// # Errors
    /// [`NameError`] when it has another form, or is too long.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        if is_name::<F>(text) {
            return Ok(Self(text.into(), PhantomData));
        }
        Err(NameError {
            text: text[..text.floor_char_boundary(SHOWN)].to_owned(),
            form: F::FORM,
            dots: if F::MAX > DnsLabel::MAX {
                " and '.'"
            } else {
                ""
            },
            max: F::MAX,
        })
    }

    /// A constant in the source code.
    ///
    /// # Panics
    /// It is not a valid name.
    pub fn constant(text: &'static str) -> Self {
        Self::parse(text).expect("a name in the source code has the form of one")
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<NamespaceName> for ObjectName {
    fn from(name: NamespaceName) -> Self {
        Self(name.0, PhantomData)
    }
}

impl<F: Form> FromStr for Name<F> {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::parse(text)
    }
}

impl<F> Deref for Name<F> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl<F> Borrow<str> for Name<F> {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl<F> AsRef<str> for Name<F> {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl<F> PartialEq<str> for Name<F> {
    fn eq(&self, other: &str) -> bool {
        *self.0 == *other
    }
}

impl<F> PartialEq<&str> for Name<F> {
    fn eq(&self, other: &&str) -> bool {
        *self.0 == **other
    }
}

impl<F> fmt::Display for Name<F> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(&self.0)
    }
}

impl<F> fmt::Debug for Name<F> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, formatter)
    }
}

impl<F> Serialize for Name<F> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Texts that are the name of nothing, whatever they are meant for.
    const NEVER: [&str; 19] = [
        "",
        ".",
        "..",
        "/",
        "a/b",
        "tenant-b/serviceaccounts/tenant-b",
        "a?b",
        "a#b",
        "a%2fb",
        "%2f",
        "a%b",
        "a\0b",
        "a b",
        "A",
        "ä",
        "a_b",
        "-a",
        "a-",
        "a..b",
    ];

    #[test]
    fn refuses_text_that_could_be_more_than_a_segment_of_a_path() {
        for text in NEVER {
            assert!(NamespaceName::parse(text).is_err(), "{text:?}");
            assert!(ObjectName::parse(text).is_err(), "{text:?}");
        }
        assert!(NamespaceName::parse("a.b").is_err());
        assert_eq!(ObjectName::parse("a.b").unwrap(), "a.b");
    }

    #[test]
    fn bounds_names_as_kubernetes_does() {
        let text = "a".repeat(300);
        for (length, namespace, object) in [
            (1, true, true),
            (63, true, true),
            (64, false, true),
            (253, false, true),
            (254, false, false),
        ] {
            assert_eq!(NamespaceName::parse(&text[..length]).is_ok(), namespace);
            assert_eq!(ObjectName::parse(&text[..length]).is_ok(), object);
        }
    }

    #[test]
    fn shows_little_of_what_it_refuses() {
        let error = NamespaceName::parse(&"ä/".repeat(100_000)).unwrap_err();
        assert!(error.to_string().len() < 300, "{error}");
        let error = ObjectName::parse("x\n\u{1b}[2J").unwrap_err().to_string();
        assert!(!error.contains(['\n', '\u{1b}']), "{error}");
    }
}
