//! The names of the Secrets that pullpass writes into namespaces. Pure.
//!
//! A Registry's name and an export's are DNS labels, so that neither has the dot by which exports' names differ from all others.

/// The name of the pull secret that each served namespace has; a Registry that chooses among a namespace's Pods, or that pushes, has one
/// of its own, of this name with `-<name of the Registry>` behind it.
pub const PULL_SECRET: &str = "pullpass";

/// What is between the name of a Registry's own Secret and that of an export.
const EXPORT: &str = ".x-";

/// The name of a Registry's own Secret.
pub(super) fn own_secret_name(registry: &str) -> String {
    format!("{PULL_SECRET}-{registry}")
}

/// The name of the Secret of one of a Registry's exports.
pub fn export_secret_name(registry: &str, export: &str) -> String {
    format!("{PULL_SECRET}-{registry}{EXPORT}{export}")
}

/// Whether a Secret of this name is one of those that pullpass writes for Pods.
pub fn is_pull_secret_name(name: &str) -> bool {
    let rest = name.strip_prefix(PULL_SECRET);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-')) && !is_export_name(name)
}

/// Whether a Secret of this name is one of those that pullpass writes for an export.
pub fn is_export_name(name: &str) -> bool {
    registry_and_export(name).is_some_and(|(_, export)| export.is_some())
}

/// The Registry whose own Secret, or one of whose exports, has this name.
pub fn registry_of_secret(name: &str) -> Option<&str> {
    registry_and_export(name).map(|(registry, _)| registry)
}

fn registry_and_export(name: &str) -> Option<(&str, Option<&str>)> {
    let rest = name.strip_prefix(PULL_SECRET)?.strip_prefix('-')?;
    Some(match rest.split_once(EXPORT) {
        Some((registry, export)) => (registry, Some(export)),
        None => (rest, None),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::names::{ObjectName, is_label};
    use crate::registry::crd::{EXPORT_NAME_MAX, NAME_MAX};

    fn label(most: usize) -> impl Strategy<Value = String> {
        // Short ones, and those that look like the parts of a name, meet soonest.
        prop_oneof![
            "[x-]{0,3}[a-b]".prop_filter("a DNS label", |text| is_label(text)),
            Just("x".repeat(most)),
            "x-x(-x){0,3}",
            "[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?",
        ]
    }

    /// A Registry, and one of its exports, or its own Secret.
    fn secret() -> impl Strategy<Value = (String, Option<String>)> {
        let export = proptest::option::of(label(EXPORT_NAME_MAX));
        (label(NAME_MAX), export)
    }

    fn name_of((registry, export): &(String, Option<String>)) -> String {
        match export {
            Some(export) => export_secret_name(registry, export),
            None => own_secret_name(registry),
        }
    }

    proptest! {
        #[test]
        fn gives_no_two_secrets_one_name(one in secret(), other in secret()) {
            let name = name_of(&one);
            prop_assert!(ObjectName::parse(&name).is_ok(), "{name}");
            prop_assert!(name.split('.').all(|part| part.len() <= 63), "{name}");
            prop_assert_eq!(name == name_of(&other), one == other);
            prop_assert_ne!(&*name, PULL_SECRET);
            prop_assert_eq!(registry_of_secret(&name), Some(&*one.0));
            prop_assert_eq!(is_export_name(&name), one.1.is_some());
            prop_assert_eq!(is_pull_secret_name(&name), one.1.is_none());
        }
    }

    #[test]
    fn knows_its_names_from_others() {
        for (name, is_pull_secret, is_export) in [
            ("pullpass", true, false),
            ("pullpass-a", true, false),
            ("pullpass-a.x-b", false, true),
            ("pullpassed", false, false),
            ("pullpass.x-b", false, false),
            ("other-pullpass-a.x-b", false, false),
            ("", false, false),
        ] {
            assert_eq!(is_pull_secret_name(name), is_pull_secret, "{name}");
            assert_eq!(is_export_name(name), is_export, "{name}");
        }
    }
}
