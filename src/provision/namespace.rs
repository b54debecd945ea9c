//! What matters of a namespace.

use std::collections::{BTreeMap, BTreeSet};

use crate::names::NamespaceName;

/// The label that opts a namespace in, and a Pod out.
pub const INJECT_LABEL: &str = "pullpass.dev/inject";

/// The label by which a namespace asks that its Pods really get what their images need.
pub const ENFORCE_LABEL: &str = "pullpass.dev/enforce";

/// How the names of the namespaces begin that Kubernetes itself uses.
/// <https://kubernetes.io/docs/concepts/overview/working-with-objects/namespaces/#initial-namespaces>
const SYSTEM_PREFIX: &str = "kube-";

/// The namespaces that pullpass has nothing to do with, whatever their labels say: Kubernetes' own, pullpass' own, and those that an
/// admin excludes. One predicate for reviews, provisioning, the controller and `check`; the chart gives the same to webhooks and policies.
#[derive(Clone, Debug)]
pub struct ExcludedNamespaces {
    own: NamespaceName,
    names: BTreeSet<NamespaceName>,
}

impl ExcludedNamespaces {
    /// `kube-*`, pullpass' own namespace, and these.
    pub fn new(own: NamespaceName, names: impl IntoIterator<Item = NamespaceName>) -> Self {
        Self {
            own,
            names: names.into_iter().collect(),
        }
    }

    /// Whether a namespace of this name is one of them.
    pub fn contains(&self, name: &str) -> bool {
        name.starts_with(SYSTEM_PREFIX) || self.own == *name || self.names.contains(name)
    }
}

/// A namespace as admission and provisioning see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespace {
    /// Its name.
    pub name: NamespaceName,
    /// Its `metadata.uid`; empty for one that is read from a file.
    pub uid: String,
    /// Its labels: Registries select by them.
    pub labels: BTreeMap<String, String>,
    /// What its opt-in label says; off where it is excluded.
    pub mode: InjectMode,
    /// Whether its label says that it opted in, and it is excluded.
    pub excluded: bool,
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
            excluded: false,
            terminating,
        }
    }

    /// The same, not opted in where it is one of `excluded`.
    #[must_use]
    pub fn unless_excluded(self, excluded: &ExcludedNamespaces) -> Self {
        if !excluded.contains(&self.name) {
            return self;
        }
        Self {
            excluded: self.mode != InjectMode::Off,
            mode: InjectMode::Off,
            ..self
        }
    }

    /// The same with this `metadata.uid`.
    #[must_use]
    pub fn with_uid(self, uid: String) -> Self {
        Self { uid, ..self }
    }

    /// Whether pull secrets belong into it: it is opted in, and not being deleted.
    pub fn wants_pull_secrets(&self) -> bool {
        !self.terminating && self.mode.is_opted_in()
    }

    /// Whether the pull secrets that are there are kept and renewed: none of them goes for a value that means nothing.
    pub fn keeps_pull_secrets(&self) -> bool {
        !self.terminating && self.mode != InjectMode::Off
    }

    /// The same as if the value of its label were `enabled`, where it means nothing: what its Pods need, whatever they get.
    #[must_use]
    pub fn as_if_enabled(&self) -> Self {
        let mode = match self.mode {
            InjectMode::Unknown => InjectMode::Enabled,
            known => known,
        };
        Self {
            mode,
            ..self.clone()
        }
    }

    /// Whether its label is not followed: it is excluded, or the value means nothing.
    pub fn is_unheeded(&self) -> bool {
        self.excluded || self.mode == InjectMode::Unknown
    }

    /// What to say where the value of its label means nothing; `None`: it is a known one, or the namespace is excluded.
    pub fn find_unknown_inject(&self) -> Option<String> {
        if self.mode != InjectMode::Unknown {
            return None;
        }
        let value = self.labels.get(INJECT_LABEL).map_or("", String::as_str);
        Some(describe_unknown_inject(&self.name, value))
    }
}

/// What to say of a namespace whose label has a value that means nothing.
pub fn describe_unknown_inject(namespace: &str, value: &str) -> String {
    format!(
        "the label {INJECT_LABEL}={value} means nothing, so nothing changes for namespace {namespace}: pull secrets that are there are kept and renewed, none is made, and new Pods get no reference; write enabled, all or disabled: kubectl label namespace {namespace} --overwrite {INJECT_LABEL}=enabled"
    )
}

/// What a namespace's label `pullpass.dev/inject` says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum InjectMode {
    /// Not opted in: no label, or `disabled`.
    #[default]
    Off,
    /// Any other value: a typo, and no order. What is there stays, nothing is made.
    Unknown,
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
            Some("disabled") | None => Self::Off,
            Some(_) => Self::Unknown,
        }
    }

    /// Whether it is one of those that opt in.
    pub fn is_opted_in(self) -> bool {
        matches!(self, Self::Enabled | Self::All)
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
            ("Enabled", InjectMode::Unknown),
            ("true", InjectMode::Unknown),
            ("", InjectMode::Unknown),
        ] {
            let labels = BTreeMap::from([(INJECT_LABEL.to_owned(), value.to_owned())]);
            assert_eq!(InjectMode::find(&labels), mode, "{value:?}");
            let namespace = Namespace::new(NamespaceName::constant("shop"), labels, false);
            assert_eq!(namespace.wants_pull_secrets(), mode.is_opted_in());
            assert_eq!(namespace.keeps_pull_secrets(), mode != InjectMode::Off);
            let is_unknown = namespace.find_unknown_inject().is_some();
            assert_eq!(is_unknown, mode == InjectMode::Unknown, "{value:?}");
        }
        assert_eq!(InjectMode::find(&BTreeMap::new()), InjectMode::Off);
    }

    #[test]
    fn wants_nothing_where_it_is_excluded() {
        let names = ["infra", "monitoring"].map(NamespaceName::constant);
        let excluded = ExcludedNamespaces::new(NamespaceName::constant("pullpass"), names);
        for (name, value, expected) in [
            ("shop", "enabled", (InjectMode::Enabled, false)),
            ("infrastructure", "all", (InjectMode::All, false)),
            ("kube", "all", (InjectMode::All, false)),
            ("my-kube-system", "all", (InjectMode::All, false)),
            ("infra", "enabled", (InjectMode::Off, true)),
            ("monitoring", "all", (InjectMode::Off, true)),
            ("pullpass", "all", (InjectMode::Off, true)),
            ("kube-system", "enabled", (InjectMode::Off, true)),
            ("kube-of-mine", "enabled", (InjectMode::Off, true)),
            ("infra", "disabled", (InjectMode::Off, false)),
            ("infra", "true", (InjectMode::Off, true)),
        ] {
            let labels = BTreeMap::from([(INJECT_LABEL.to_owned(), value.to_owned())]);
            let namespace = Namespace::new(NamespaceName::constant(name), labels, false)
                .unless_excluded(&excluded);
            assert_eq!((namespace.mode, namespace.excluded), expected, "{name}");
            assert_eq!(
                namespace.wants_pull_secrets(),
                expected.0 != InjectMode::Off
            );
        }
    }
}
