//! Finds where the fields of a YAML document are, so that a message can name file, line and field.

use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;
use serde_saphyr::options::DuplicateKeyPolicy;

/// The shape of a document, with the line of each of its parts.
pub(super) enum YamlNode {
    /// Keys with their lines.
    Map(Vec<(Spanned<String>, YamlNode)>),
    /// Entries with their lines.
    List(Vec<Spanned<YamlNode>>),
    /// Anything else.
    Scalar,
}

impl YamlNode {
    /// Reads a document's shape. One that is no YAML has none.
    pub(super) fn read(text: &str) -> Self {
        let options = serde_saphyr::options! { duplicate_keys: DuplicateKeyPolicy::FirstWins };
        serde_saphyr::from_str_with_options(text, options).unwrap_or(Self::Scalar)
    }

    /// The line of a field such as `spec.podMetadata.labels[a/b]` or `spec.images[0]`, or else of the nearest part around it.
    pub(super) fn line(&self, field: &str) -> Option<u64> {
        let mut line = None;
        let mut shape = self;
        for step in steps(field) {
            let found = match shape {
                Self::Map(entries) => entries
                    .iter()
                    .find(|(key, _)| key.value == step)
                    .map(|(key, shape)| (key.referenced.line(), shape)),
                Self::List(entries) => step
                    .parse()
                    .ok()
                    .and_then(|index: usize| entries.get(index))
                    .map(|entry| (entry.referenced.line(), &entry.value)),
                Self::Scalar => None,
            };
            let Some(found) = found else { break };
            line = Some(found.0);
            shape = found.1;
        }
        line
    }

    /// The field at a line and a column: the last one that starts there or before.
    pub(super) fn field(&self, line: u64, column: u64) -> String {
        let mut field = String::new();
        let mut shape = self;
        loop {
            let at = |place: &serde_saphyr::Location| (place.line(), place.column());
            let starts_before = |place: &serde_saphyr::Location| at(place) <= (line, column);
            let next = match shape {
                Self::Map(entries) => entries
                    .iter()
                    .rfind(|(key, _)| starts_before(&key.referenced))
                    .map(|(key, shape)| {
                        let dot = if field.is_empty() { "" } else { "." };
                        (format!("{dot}{}", key.value), shape)
                    }),
                Self::List(entries) => entries
                    .iter()
                    .enumerate()
                    .rfind(|(_, entry)| starts_before(&entry.referenced))
                    .map(|(index, entry)| (format!("[{index}]"), &entry.value)),
                Self::Scalar => None,
            };
            let Some((step, inner)) = next else {
                return field;
            };
            field.push_str(&step);
            shape = inner;
        }
    }
}

/// The steps of a field's path; the content of brackets is one step, whatever it holds.
fn steps(field: &str) -> Vec<&str> {
    let mut steps = Vec::new();
    let mut rest = field;
    while !rest.is_empty() {
        let (step, after) = match rest
            .strip_prefix('[')
            .and_then(|inner| inner.split_once(']'))
        {
            Some(split) => split,
            None => rest.split_at(rest.find(['.', '[']).unwrap_or(rest.len())),
        };
        steps.push(step);
        rest = after.strip_prefix('.').unwrap_or(after);
    }
    steps
}

impl<'de> Deserialize<'de> for YamlNode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(YamlNodeVisitor)
    }
}

struct YamlNodeVisitor;

impl<'de> Visitor<'de> for YamlNodeVisitor {
    type Value = YamlNode;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("any YAML")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<YamlNode, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(YamlNode::Map(entries))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<YamlNode, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = list.next_element()? {
            entries.push(entry);
        }
        Ok(YamlNode::List(entries))
    }

    fn visit_bool<E>(self, _: bool) -> Result<YamlNode, E> {
        Ok(YamlNode::Scalar)
    }

    fn visit_i64<E>(self, _: i64) -> Result<YamlNode, E> {
        Ok(YamlNode::Scalar)
    }

    fn visit_u64<E>(self, _: u64) -> Result<YamlNode, E> {
        Ok(YamlNode::Scalar)
    }

    fn visit_f64<E>(self, _: f64) -> Result<YamlNode, E> {
        Ok(YamlNode::Scalar)
    }

    fn visit_str<E>(self, _: &str) -> Result<YamlNode, E> {
        Ok(YamlNode::Scalar)
    }

    fn visit_unit<E>(self) -> Result<YamlNode, E> {
        Ok(YamlNode::Scalar)
    }

    fn visit_none<E>(self) -> Result<YamlNode, E> {
        Ok(YamlNode::Scalar)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<YamlNode, D::Error> {
        YamlNode::deserialize(deserializer)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(
        self,
        deserializer: D,
    ) -> Result<YamlNode, D::Error> {
        IgnoredAny::deserialize(deserializer).map(|_| YamlNode::Scalar)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\n\nmetadata: {name: x}\nspec:\n  images:\n    - a\n    -\n      b\n  podMetadata:\n    labels:\n      a.b/c: d\n  suspend: true\n";

    #[test]
    fn finds_line_of_field() {
        let shape = YamlNode::read(TEXT);
        let rows = [
            ("metadata.name", 3),
            ("spec", 4),
            ("spec.images[0]", 6),
            ("spec.images[1]", 8),
            ("spec.images[7]", 5),
            ("spec.podMetadata.labels[a.b/c]", 11),
            ("spec.static.secretRef.name", 4),
            ("spec.suspend", 12),
        ];
        for (field, line) in rows {
            assert_eq!(shape.line(field), Some(line), "{field}");
        }
        assert_eq!(shape.line("nothing"), None);
        assert_eq!(YamlNode::read("a: [").line("a"), None);
    }

    #[test]
    fn finds_field_at_place() {
        let shape = YamlNode::read(TEXT);
        for (line, column, field) in [
            (3, 12, "metadata.name"),
            (6, 7, "spec.images[0]"),
            (8, 7, "spec.images[1]"),
            (12, 12, "spec.suspend"),
        ] {
            assert_eq!(shape.field(line, column), field);
        }
    }
}
