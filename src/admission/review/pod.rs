//! The parts of a Pod that decide.

use std::borrow::Cow;
use std::sync::LazyLock;

use serde::Deserialize;
use serde::de::{Error as _, IgnoredAny, MapAccess, SeqAccess};

use super::MIRROR_ANNOTATION;
use super::field::{COPIED_MAX, Field, FromJson, Given, Key, Text, copied, drain, object};
use crate::names::{DnsSubdomain, Form as _, ObjectName, is_subdomain};
use crate::provision::namespace::INJECT_LABEL;
use crate::registry::pod_subject::{DEFAULT_SERVICE_ACCOUNT, FindLabel};

/// `request.object`.
#[derive(Debug, Default, Deserialize)]
pub struct PodObject<'a> {
    /// `metadata`.
    #[serde(borrow, default)]
    pub metadata: Field<ObjectMeta<'a>>,
    /// `spec`.
    #[serde(borrow, default)]
    pub spec: Field<Spec<'a>>,
}

/// `metadata`.
#[derive(Debug, Default, Deserialize)]
pub struct ObjectMeta<'a> {
    /// `name`; empty or absent where the API server has still to generate one.
    #[serde(default)]
    pub name: Field<Given<DnsSubdomain>>,
    /// `generateName`.
    #[serde(default, rename = "generateName")]
    pub generate_name: Field<Prefix>,
    /// `labels`.
    #[serde(borrow, default)]
    pub labels: Field<PodLabels<'a>>,
    /// `annotations`.
    #[serde(borrow, default)]
    pub annotations: Field<Annotations<'a>>,
}

/// The most entries that are kept of a list or map of a Pod. A Pod with more is left as it is, as one with a field of another type
/// is: what a review makes of its body is bounded, whatever the body is made of. No kubelet runs a Pod of so many containers.
pub(crate) const ENTRIES_MAX: usize = 4096;

/// Whether a list or map with so many entries, of which so many bytes were copied, takes no more.
fn is_full(entries: usize, copied: usize) -> bool {
    entries == ENTRIES_MAX || copied > COPIED_MAX
}

/// `metadata.labels`.
#[derive(Debug, Default)]
pub struct PodLabels<'a> {
    /// Every key, in order.
    pub keys: Vec<Cow<'a, str>>,
    /// The value of each key; `None` where it is no string, and the API server refuses the Pod.
    pub values: Vec<Option<Cow<'a, str>>>,
    /// The value of [`INJECT_LABEL`].
    pub inject: Field<Text<'a>>,
}

/// `metadata.annotations`.
#[derive(Debug, Default)]
pub struct Annotations<'a> {
    /// Every key.
    pub keys: Vec<Cow<'a, str>>,
    /// The bytes of all keys and values together, which Kubernetes limits to 256 KiB.
    pub bytes: usize,
    /// Whether this is the mirror of a static Pod.
    pub mirror: bool,
}

/// `spec`.
#[derive(Debug, Default, Deserialize)]
pub struct Spec<'a> {
    #[serde(borrow, default)]
    containers: Field<Images<'a, Container<'a>>>,
    #[serde(borrow, default, rename = "initContainers")]
    init_containers: Field<Images<'a, Container<'a>>>,
    #[serde(borrow, default, rename = "ephemeralContainers")]
    ephemeral_containers: Field<Images<'a, Container<'a>>>,
    #[serde(borrow, default)]
    volumes: Field<Images<'a, Volume<'a>>>,
    /// `imagePullSecrets`: the names, in order; an entry without one is the empty string.
    #[serde(borrow, default, rename = "imagePullSecrets")]
    pub image_pull_secrets: Field<Vec<Cow<'a, str>>>,
    /// `serviceAccountName`.
    #[serde(default, rename = "serviceAccountName")]
    pub service_account_name: Field<Given<DnsSubdomain>>,
}

#[derive(Debug, Deserialize)]
struct Container<'a> {
    #[serde(borrow, default)]
    image: Field<Text<'a>>,
}

#[derive(Debug, Deserialize)]
struct Volume<'a> {
    #[serde(borrow, default)]
    image: Field<ImageVolume<'a>>,
}

#[derive(Debug, Deserialize)]
struct ImageVolume<'a> {
    #[serde(borrow, default)]
    reference: Field<Text<'a>>,
}

#[derive(Debug, Deserialize)]
struct LocalObjectReference<'a> {
    #[serde(borrow, default)]
    name: Field<Text<'a>>,
}

object!(
    PodObject<'a>,
    ObjectMeta<'a>,
    Spec<'a>,
    Container<'a>,
    Volume<'a>,
    ImageVolume<'a>,
    LocalObjectReference<'a>
);

impl FindLabel for PodLabels<'_> {
    fn find_label(&self, key: &str) -> Option<&str> {
        let place = self
            .keys
            .binary_search_by(|known| (**known).cmp(key))
            .ok()?;
        self.values[place].as_deref()
    }
}

impl PodObject<'_> {
    /// Whether anything that decides has an unexpected type, or the Pod has no metadata or spec at all: then nothing is patched.
    pub fn is_malformed(&self) -> bool {
        let Field::Value(metadata) = &self.metadata else {
            return true;
        };
        let Field::Value(spec) = &self.spec else {
            return true;
        };
        metadata.is_malformed() || spec.is_malformed()
    }

    /// The name for people: the Pod's own, or the prefix of the one to be generated.
    pub fn display_name(&self) -> &str {
        let Field::Value(metadata) = &self.metadata else {
            return "";
        };
        let name = metadata.name.name().map(ObjectName::as_str);
        let prefix = || metadata.generate_name.value().map(|Prefix(text)| &**text);
        name.or_else(prefix).unwrap_or("")
    }
}

impl ObjectMeta<'_> {
    fn is_malformed(&self) -> bool {
        let inject_odd = self
            .labels
            .value()
            .is_some_and(|labels| labels.inject.is_malformed());
        let name_odd = self.name.is_malformed() || self.generate_name.is_malformed();
        name_odd || self.labels.is_malformed() || inject_odd || self.annotations.is_malformed()
    }
}

impl<'a> Spec<'a> {
    fn is_malformed(&self) -> bool {
        self.containers.is_malformed()
            || self.init_containers.is_malformed()
            || self.ephemeral_containers.is_malformed()
            || self.volumes.is_malformed()
            || self.image_pull_secrets.is_malformed()
            || self.service_account_name.is_malformed()
    }

    /// Every image reference as it was written: containers, init containers, ephemeral containers, image volumes. Empty ones are
    /// left out; such a Pod is the API server's to refuse.
    pub fn images(&self) -> impl Iterator<Item = &str> + Clone {
        let containers = [
            &self.containers,
            &self.init_containers,
            &self.ephemeral_containers,
        ];
        let containers = containers
            .into_iter()
            .filter_map(Field::value)
            .flat_map(|images| &images.texts);
        let volumes = self
            .volumes
            .value()
            .into_iter()
            .flat_map(|images| &images.texts);
        containers.chain(volumes).map(AsRef::as_ref)
    }

    /// The ServiceAccount that the Pod runs as.
    pub fn service_account(&self) -> &ObjectName {
        static DEFAULT: LazyLock<ObjectName> =
            LazyLock::new(|| ObjectName::constant(DEFAULT_SERVICE_ACCOUNT));
        self.service_account_name.name().unwrap_or(&DEFAULT)
    }

    /// The names in `imagePullSecrets`; none when the list is absent or null.
    pub fn pull_secrets(&self) -> &[Cow<'a, str>] {
        self.image_pull_secrets.value().map_or(&[], Vec::as_slice)
    }
}

/// The beginning of a name to be generated.
/// <https://kubernetes.io/docs/reference/using-api/api-concepts/#generated-values>
#[derive(Debug)]
pub struct Prefix(Box<str>);

impl FromJson<'_> for Prefix {
    fn borrowed(text: &str) -> Field<Self> {
        Self::unescaped(text)
    }

    fn unescaped(text: &str) -> Field<Self> {
        // A letter or digit ends what is generated, so the beginning may end as it likes.
        // One that is too long is refused before it is copied.
        let is_short = text.len() < DnsSubdomain::MAX;
        if text.is_empty() || (is_short && is_subdomain(&format!("{text}x"))) {
            return Field::Value(Self(text.into()));
        }
        Field::Malformed
    }
}

/// Something in a list that may carry an image reference.
trait CarriesImage<'a> {
    fn image(self) -> Field<Text<'a>>;
}

impl<'a> CarriesImage<'a> for Container<'a> {
    fn image(self) -> Field<Text<'a>> {
        self.image
    }
}

impl<'a> CarriesImage<'a> for Volume<'a> {
    fn image(self) -> Field<Text<'a>> {
        match self.image {
            Field::Value(image) => image.reference,
            Field::Absent | Field::Null => Field::Absent,
            Field::Malformed => Field::Malformed,
        }
    }
}

/// The image references of a list, without what carries them: a list of a million empty entries takes no memory.
#[derive(Debug)]
struct Images<'a, T> {
    texts: Vec<Cow<'a, str>>,
    carrier: std::marker::PhantomData<T>,
}

impl<'de: 'a, 'a, T: FromJson<'de> + CarriesImage<'a>> FromJson<'de> for Images<'a, T> {
    fn seq<A: SeqAccess<'de>>(mut seq: A) -> Result<Field<Self>, A::Error> {
        let (mut texts, mut bytes) = (Vec::new(), 0);
        while let Some(item) = seq.next_element::<Field<T>>()? {
            let image = match item {
                Field::Value(item) => item.image(),
                Field::Absent | Field::Null => Field::Absent,
                Field::Malformed => Field::Malformed,
            };
            match image {
                Field::Value(_) if is_full(texts.len(), bytes) => {
                    return drain(seq).map(|()| Field::Malformed);
                }
                Field::Value(Text(text)) if !text.is_empty() => {
                    bytes += copied([&text]);
                    texts.push(text);
                }
                Field::Value(_) | Field::Absent | Field::Null => {}
                Field::Malformed => return drain(seq).map(|()| Field::Malformed),
            }
        }
        Ok(Field::Value(Self {
            texts,
            carrier: std::marker::PhantomData,
        }))
    }
}

impl<'de: 'a, 'a> FromJson<'de> for Vec<Cow<'a, str>> {
    fn seq<A: SeqAccess<'de>>(mut seq: A) -> Result<Field<Self>, A::Error> {
        let (mut names, mut bytes) = (Self::new(), 0);
        while let Some(secret) = seq.next_element::<Field<LocalObjectReference<'a>>>()? {
            let name = match secret {
                Field::Value(secret) => secret.name,
                Field::Absent | Field::Null => Field::Absent,
                Field::Malformed => Field::Malformed,
            };
            match name {
                _ if is_full(names.len(), bytes) => {
                    return drain(seq).map(|()| Field::Malformed);
                }
                Field::Value(Text(name)) => {
                    bytes += copied([&name]);
                    names.push(name);
                }
                Field::Absent | Field::Null => names.push(Cow::Borrowed("")),
                Field::Malformed => return drain(seq).map(|()| Field::Malformed),
            }
        }
        Ok(Field::Value(names))
    }
}

impl<'de: 'a, 'a> FromJson<'de> for PodLabels<'a> {
    fn map<A: MapAccess<'de>>(mut map: A) -> Result<Field<Self>, A::Error> {
        let (mut inject, mut bytes) = (Field::Absent, 0);
        let mut labels = Vec::new();
        while let Some(Key(key)) = map.next_key()? {
            let value = map.next_value::<Field<Text<'a>>>()?;
            if key == INJECT_LABEL {
                if !matches!(inject, Field::Absent) {
                    return Err(A::Error::duplicate_field(INJECT_LABEL));
                }
                inject = value.clone();
            }
            if is_full(labels.len(), bytes) {
                drain_map(map)?;
                return Ok(Field::Malformed);
            }
            let value = match value {
                Field::Value(Text(text)) => Some(text),
                // Kubernetes' types do not distinguish null from the empty string.
                Field::Null => Some(Cow::Borrowed("")),
                Field::Absent | Field::Malformed => None,
            };
            bytes += copied([&key]) + copied(&value);
            labels.push((key, value));
        }
        // Each Registry asks for some of them.
        labels.sort_by(|(one, _), (other, _)| one.cmp(other));
        let (keys, values) = labels.into_iter().unzip();
        Ok(Field::Value(Self {
            keys,
            values,
            inject,
        }))
    }
}

impl<'de: 'a, 'a> FromJson<'de> for Annotations<'a> {
    fn map<A: MapAccess<'de>>(mut map: A) -> Result<Field<Self>, A::Error> {
        let (mut annotations, mut bytes) = (Self::default(), 0);
        while let Some(Key(key)) = map.next_key()? {
            if is_full(annotations.keys.len(), bytes) {
                map.next_value::<IgnoredAny>()?;
                drain_map(map)?;
                return Ok(Field::Malformed);
            }
            let value = map
                .next_value::<Field<TextSize>>()?
                .value()
                .map_or(0, |TextSize(bytes)| *bytes);
            annotations.bytes += key.len() + value;
            bytes += copied([&key]);
            annotations.mirror |= key == MIRROR_ANNOTATION;
            annotations.keys.push(key);
        }
        Ok(Field::Value(annotations))
    }
}

/// Skips what is left of an object.
fn drain_map<'de, A: MapAccess<'de>>(mut map: A) -> Result<(), A::Error> {
    while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
    Ok(())
}

/// The length of a string in bytes.
struct TextSize(usize);

impl<'de> FromJson<'de> for TextSize {
    fn borrowed(text: &'de str) -> Field<Self> {
        Field::Value(Self(text.len()))
    }

    fn unescaped(text: &str) -> Field<Self> {
        Field::Value(Self(text.len()))
    }
}
