//! The fields of a node's configuration, as the kubelet reads them: strictly. Pure.

use serde_json::{Map, Value};

use super::finding::NodeFinding;
use crate::command::check::ids;
use crate::command::manifest::YamlDocument;

/// What a plug-in answers, and nobody configures.
const ANSWER_FIELDS: [&str; 3] = ["auth", "cacheDuration", "cacheKeyType"];

/// Reads the fields of a document and collects what is wrong with them.
pub(super) struct FieldReader<'a> {
    pub(super) document: &'a YamlDocument,
    pub(super) findings: &'a mut Vec<NodeFinding>,
}

impl FieldReader<'_> {
    /// Something that is wrong with a field.
    pub(super) fn add(&mut self, id: &'static str, field: &str, message: &str, fix: &str) {
        self.findings.push(NodeFinding {
            id,
            is_warning: false,
            place: self.document.place(field).trim_end_matches(": ").to_owned(),
            field: field.to_owned(),
            message: message.to_owned(),
            fix: fix.into(),
        });
    }

    /// A field whose value is not taken.
    pub(super) fn invalid(&mut self, field: &str, message: &str, fix: &str) {
        self.add(ids::NODE_FIELD_INVALID, field, message, fix);
    }

    /// A field that the kubelet wants.
    pub(super) fn missing(&mut self, field: &str, fix: &str) {
        let message = "is missing: the kubelet ends at its start without it";
        self.add(ids::NODE_FIELD_MISSING, field, message, fix);
    }

    /// Names the fields that the kubelet does not know.
    pub(super) fn known(&mut self, fields: &Map<String, Value>, field: &str, known: &[&str]) {
        for name in fields.keys().filter(|name| !known.contains(&name.as_str())) {
            let place = join(field, name);
            if ANSWER_FIELDS.contains(&name.as_str()) {
                let message = "is no setting: a provider answers it, and the kubelet ends at its start with it here";
                let fix = format!("remove it: pullpass answers {name} itself");
                self.add(ids::NODE_ANSWER_FIELD, &place, message, &fix);
                continue;
            }
            let message = "is unknown: the kubelet reads strictly and ends at its start with it";
            let fix = format!("remove it, or correct it to one of {}", known.join(", "));
            self.add(ids::NODE_FIELD_UNKNOWN, &place, message, &fix);
        }
    }

    /// A list of fields; `None`: it is none.
    pub(super) fn object<'v>(
        &mut self,
        value: &'v Value,
        field: &str,
    ) -> Option<&'v Map<String, Value>> {
        if value.as_object().is_none() {
            self.invalid(
                field,
                "is no list of fields: the kubelet ends at its start with it",
                "write its fields below it",
            );
        }
        value.as_object()
    }

    /// A list that must hold something.
    pub(super) fn list<'v>(
        &mut self,
        fields: &'v Map<String, Value>,
        field: &str,
        name: &str,
    ) -> &'v [Value] {
        let entries = self.optional_list(fields, field, name);
        if entries.is_some_and(<[Value]>::is_empty) {
            self.missing(&join(field, name), "give at least one entry");
        }
        entries.unwrap_or_default()
    }

    /// A list that may be left out, or hold nothing; `None`: it is none.
    pub(super) fn optional_list<'v>(
        &mut self,
        fields: &'v Map<String, Value>,
        field: &str,
        name: &str,
    ) -> Option<&'v [Value]> {
        match fields.get(name) {
            None | Some(Value::Null) => Some(&[]),
            Some(Value::Array(entries)) => Some(entries),
            Some(_) => {
                let message = "is no list: the kubelet ends at its start with it";
                let fix = "write each entry with a - in front";
                self.invalid(&join(field, name), message, fix);
                None
            }
        }
    }

    /// A text that must be there; empty where it is not.
    pub(super) fn text<'v>(
        &mut self,
        fields: &'v Map<String, Value>,
        field: &str,
        name: &str,
        fix: &str,
    ) -> &'v str {
        let place = join(field, name);
        match fields.get(name) {
            Some(Value::String(text)) if !text.is_empty() => text,
            None | Some(Value::Null | Value::String(_)) => {
                self.missing(&place, fix);
                ""
            }
            Some(_) => {
                self.no_text(&place, &format!("write it in quotes; {fix}"));
                ""
            }
        }
    }

    /// A text that must be one of these.
    pub(super) fn choice<'v>(
        &mut self,
        fields: &'v Map<String, Value>,
        field: &str,
        name: &str,
        choices: &[&str],
    ) -> &'v str {
        let fix = format!("set it to {}", choices[0]);
        let text = self.text(fields, field, name, &fix);
        if !text.is_empty() && !choices.contains(&text) {
            let message = format!("{text:?} is none of {}", choices.join(", "));
            self.invalid(&join(field, name), &message, &fix);
        }
        text
    }

    /// A list of texts that may be left out; `None`: the kubelet cannot read it.
    pub(super) fn texts(
        &mut self,
        fields: &Map<String, Value>,
        field: &str,
        name: &str,
    ) -> Option<Vec<String>> {
        let place = join(field, name);
        let entries = self.optional_list(fields, field, name)?;
        let entries = entries.iter().enumerate();
        let read = entries.map(|(at, entry)| self.entry(entry, &format!("{place}[{at}]")));
        // Each that cannot be read is named.
        read.collect::<Vec<_>>().into_iter().collect()
    }

    /// A text of a list; nothing is an empty one to the kubelet.
    pub(super) fn entry(&mut self, entry: &Value, place: &str) -> Option<String> {
        match entry {
            Value::String(text) => Some(text.clone()),
            Value::Null => Some(String::new()),
            _ => {
                self.no_text(place, "write it in quotes");
                None
            }
        }
    }

    /// A field that should be a text.
    pub(super) fn no_text(&mut self, place: &str, fix: &str) {
        let message = "is no text: the kubelet ends at its start with it";
        self.invalid(place, message, fix);
    }
}

/// The path of a field below another one.
pub(super) fn join(field: &str, name: &str) -> String {
    if field.is_empty() {
        name.to_owned()
    } else {
        format!("{field}.{name}")
    }
}
