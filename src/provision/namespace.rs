//! What matters of a namespace.

use std::collections::BTreeMap;

use crate::names::NamespaceName;

/// The label that opts a namespace in, and a Pod out.
pub const INJECT_LABEL: &str = "pullpass.dev/inject";

/// A namespace as admission and provisioning see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespace {
    /// Its name.
    pub name: NamespaceName,
    /// Its `metadata.uid`; empty for one that is read from a file.
    pub uid: String,
    /// Its labels: Registries select by them.
    pub labels: BTreeMap<String, String>,
    /// What its opt-in label says.
    pub mode: InjectMode,
    /// Whether it is being deleted: nothing may be written into it.
    pub terminating: bool,
}

impl Namespace {
    /// A namespace of this name with these labels.
    pub fn new(name: NamespaceName, labels: BTreeMap<String, String>, terminating: bool) -> Self {
        let mode = InjectMode::find(&labels);
        Self {
            name,
            uid: String::new(),
            labels,
            mode,
            terminating,
        }
    }

    /// The same with this `metadata.uid`.
    #[must_use]
    pub fn with_uid(self, uid: String) -> Self {
        Self { uid, ..self }
    }

    /// Whether pull secrets belong into it: it is opted in, and not being deleted.
    pub fn wants_pull_secrets(&self) -> bool {
        !self.terminating && self.mode != InjectMode::Off
    }
}

/// What a namespace's label `pullpass.dev/inject` says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum InjectMode {
    /// Not opted in: no label, or any other value.
    #[default]
    Off,
    /// `enabled`: Pods with an image that a Registry serves reference the pull secret.
    Enabled,
    /// `all`: every Pod does, once any Registry serves the namespace.
    All,
}

impl InjectMode {
    /// Reads the mode out of a namespace's labels.
    pub fn find(labels: &BTreeMap<String, String>) -> Self {
        match labels.get(INJECT_LABEL).map(String::as_str) {
            Some("enabled") => Self::Enabled,
            Some("all") => Self::All,
            _ => Self::Off,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_mode_of_each_label_value() {
        for (value, mode) in [
            ("enabled", InjectMode::Enabled),
            ("all", InjectMode::All),
            ("disabled", InjectMode::Off),
            ("Enabled", InjectMode::Off),
            ("", InjectMode::Off),
        ] {
            let labels = BTreeMap::from([(INJECT_LABEL.to_owned(), value.to_owned())]);
            assert_eq!(InjectMode::find(&labels), mode, "{value:?}");
        }
        assert_eq!(InjectMode::find(&BTreeMap::new()), InjectMode::Off);
    }
}
