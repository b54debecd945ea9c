//! A field of a JSON object that may be absent, null, what was expected, or something else, none of which is an error.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use crate::names::{Form, Name};
use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// What a field holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Field<T> {
    /// The key is not there.
    #[default]
    Absent,
    /// `null`.
    Null,
    /// What was expected.
    Value(T),
    /// Something of another type, or with something of another type inside.
    Malformed,
}

/// The longest string that is copied because it holds escapes, in bytes: none that decides is longer.
const COPIED_TEXT_MAX: usize = 4096;

/// The most bytes of a Pod's list or map that are copied because they hold escapes. What Kubernetes takes for the name of anything
/// holds none.
pub(super) const COPIED_MAX: usize = 64 * 1024;

/// The bytes that were copied of texts.
pub(super) fn copied<'t>(texts: impl IntoIterator<Item = &'t Cow<'t, str>>) -> usize {
    let owned = |text: &Cow<'_, str>| match text {
        Cow::Borrowed(_) => 0,
        Cow::Owned(text) => text.len(),
    };
    texts.into_iter().map(owned).sum()
}

/// A string, borrowed from the body where it holds no escapes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text<'a>(pub Cow<'a, str>);

impl<T> Field<T> {
    /// Whether the field holds something of another type.
    pub fn is_malformed(&self) -> bool {
        matches!(self, Self::Malformed)
    }

    /// The value, when it is what was expected.
    pub fn value(&self) -> Option<&T> {
        match self {
            Self::Value(value) => Some(value),
            Self::Absent | Self::Null | Self::Malformed => None,
        }
    }
}

impl Field<Text<'_>> {
    /// The string, when it is one.
    pub fn as_text(&self) -> Option<&str> {
        self.value().map(|Text(text)| text.as_ref())
    }

    /// Whether the field is absent, null or the empty string, which Kubernetes' types do not distinguish.
    pub fn is_blank(&self) -> bool {
        match self {
            Self::Absent | Self::Null => true,
            Self::Value(Text(text)) => text.is_empty(),
            Self::Malformed => false,
        }
    }
}

/// What a value is made of, by the JSON type that is found. What is not overridden is odd.
pub(super) trait FromJson<'de>: Sized {
    /// A string that the body holds as it is.
    fn borrowed(_text: &'de str) -> Field<Self> {
        Field::Malformed
    }

    /// A string that was unescaped into a buffer of the parser's.
    fn unescaped(_text: &str) -> Field<Self> {
        Field::Malformed
    }

    /// `true` or `false`.
    fn boolean(_value: bool) -> Field<Self> {
        Field::Malformed
    }

    /// An object, to be read to its end.
    fn map<A: MapAccess<'de>>(mut map: A) -> Result<Field<Self>, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Field::Malformed)
    }

    /// An array, to be read to its end.
    fn seq<A: SeqAccess<'de>>(seq: A) -> Result<Field<Self>, A::Error> {
        drain(seq)?;
        Ok(Field::Malformed)
    }
}

/// Skips what is left of an array.
pub(super) fn drain<'de, A: SeqAccess<'de>>(mut seq: A) -> Result<(), A::Error> {
    while seq.next_element::<IgnoredAny>()?.is_some() {}
    Ok(())
}

impl<'de: 'a, 'a> FromJson<'de> for Text<'a> {
    fn borrowed(text: &'de str) -> Field<Self> {
        Field::Value(Self(Cow::Borrowed(text)))
    }

    fn unescaped(text: &str) -> Field<Self> {
        if text.len() > COPIED_TEXT_MAX {
            return Field::Malformed;
        }
        Field::Value(Self(Cow::Owned(text.to_owned())))
    }
}

/// The name of an object, where one is given: Kubernetes' types do not distinguish an absent one from the empty string. A text that is
/// no valid name is malformed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given<F>(Option<Name<F>>);

impl<F> Field<Given<F>> {
    /// The name, if one is given.
    pub fn name(&self) -> Option<&Name<F>> {
        self.value().and_then(|Given(name)| name.as_ref())
    }
}

impl<F: Form> FromJson<'_> for Given<F> {
    fn borrowed(text: &str) -> Field<Self> {
        Self::unescaped(text)
    }

    fn unescaped(text: &str) -> Field<Self> {
        if text.is_empty() {
            return Field::Value(Self(None));
        }
        Name::parse(text).map_or(Field::Malformed, |name| Field::Value(Self(Some(name))))
    }
}

impl FromJson<'_> for bool {
    fn boolean(value: bool) -> Field<Self> {
        Field::Value(value)
    }
}

struct FieldVisitor<T>(PhantomData<T>);

impl<'de, T: FromJson<'de>> Visitor<'de> for FieldVisitor<T> {
    type Value = Field<T>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("any JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(Field::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Self::Value, E> {
        Ok(T::boolean(value))
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Self::Value, E> {
        Ok(Field::Malformed)
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Self::Value, E> {
        Ok(Field::Malformed)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Self::Value, E> {
        Ok(Field::Malformed)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(T::unescaped(text))
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(T::borrowed(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Self::Value, A::Error> {
        T::seq(seq)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        T::map(map)
    }
}

impl<'de, T: FromJson<'de>> Deserialize<'de> for Field<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(FieldVisitor(PhantomData))
    }
}

/// A key of a map whose keys are data, borrowed where it can be.
pub(super) struct Key<'a>(pub(super) Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Key<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeyVisitor;
        impl<'de> Visitor<'de> for KeyVisitor {
            type Value = Key<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a key")
            }

            fn visit_str<E: Error>(self, key: &str) -> Result<Self::Value, E> {
                Ok(Key(Cow::Owned(key.to_owned())))
            }

            fn visit_borrowed_str<E: Error>(self, key: &'de str) -> Result<Self::Value, E> {
                Ok(Key(Cow::Borrowed(key)))
            }
        }
        deserializer.deserialize_str(KeyVisitor)
    }
}

/// Makes a struct that derives `Deserialize` readable from a JSON object alone; the derive refuses keys that come twice.
macro_rules! object {
    ($($type:ty),+ $(,)?) => {$(
        impl<'de: 'a, 'a> $crate::admission::review::field::FromJson<'de> for $type {
            fn map<A: serde::de::MapAccess<'de>>(map: A) -> Result<$crate::admission::review::field::Field<Self>, A::Error> {
                let map = serde::de::value::MapAccessDeserializer::new(map);
                serde::Deserialize::deserialize(map).map($crate::admission::review::field::Field::Value)
            }
        }
    )+};
}
pub(super) use object;
