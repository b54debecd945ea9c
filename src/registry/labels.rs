//! The grammar of names, labels and annotations, as the API server checks them.
//!
//! <https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#syntax-and-character-set>

use crate::names::is_subdomain;

/// Domains whose labels and annotations steer Kubernetes or pullpass: a Registry adds none of them, nor of their subdomains.
const RESERVED: [&str; 3] = ["pullpass.dev", "kubernetes.io", "k8s.io"];

/// What is wrong with a label's or an annotation's key: `[prefix/]name`.
pub fn label_key_problem(key: &str) -> Option<String> {
    let (prefix, name) = match key.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    if let Some(prefix) = prefix.filter(|prefix| !is_subdomain(prefix)) {
        return Some(format!(
            "the prefix {prefix:?} is no DNS subdomain: write lower-case labels joined by dots"
        ));
    }
    if name.is_empty() || name.len() > 63 || !is_label_text(name) {
        return Some(format!(
            "{name:?} is no label name: write 1 to 63 of letters, digits, `-`, `_` and `.`, a letter or digit at both ends"
        ));
    }
    None
}

/// What is wrong with a label's value.
pub fn label_value_problem(value: &str) -> Option<String> {
    let is_valid = value.is_empty() || (value.len() <= 63 && is_label_text(value));
    (!is_valid).then(|| {
        format!(
            "{value:?} is no label value: write up to 63 of letters, digits, `-`, `_` and `.`, a letter or digit at both ends"
        )
    })
}

/// What forbids adding a label or an annotation of this key to Pods.
pub fn injected_key_problem(key: &str) -> Option<String> {
    label_key_problem(key).or_else(|| {
        let prefix = key.split_once('/')?.0;
        let reserved = RESERVED.iter().find(|reserved| {
            prefix
                .strip_suffix(**reserved)
                .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        })?;
        Some(format!(
            "keys under {reserved} steer Kubernetes or pullpass: take another"
        ))
    })
}

fn is_label_text(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.first().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.last().is_some_and(u8::is_ascii_alphanumeric)
        && bytes
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_keys_that_pods_may_have() {
        for key in [
            "aadpodidbinding",
            "iam.amazonaws.com/role",
            "azure.workload.identity/use",
            "a",
            "A_b.c-D",
            "notkubernetes.io/x",
        ] {
            assert_eq!(injected_key_problem(key), None, "{key}");
        }
    }

    #[test]
    fn refuses_keys_that_no_pod_may_have_or_that_steer() {
        let long_name = "a".repeat(64);
        let long_prefix = format!("{}/a", "a".repeat(254));
        let rows = [
            "",
            "/",
            "a/",
            "/a",
            "a/b/c",
            "-a",
            "a-",
            "a b",
            "ä",
            "UPPER.example/a",
            "a..b/c",
            "-a.b/c",
            &long_name,
            &long_prefix,
            "pullpass.dev/inject",
            "x.pullpass.dev/a",
            "kubernetes.io/config.mirror",
            "pod.kubernetes.io/a",
            "k8s.io/a",
            "seccomp.security.alpha.kubernetes.io/pod",
        ];
        for key in rows {
            assert!(injected_key_problem(key).is_some(), "{key:?}");
        }
    }

    #[test]
    fn judges_label_values() {
        for value in ["", "a", "0", "a_b.c-D", &"a".repeat(63)] {
            assert_eq!(label_value_problem(value), None, "{value:?}");
        }
        for value in ["-a", "a-", "a b", "a/b", "é", ".", &"a".repeat(64)] {
            assert!(label_value_problem(value).is_some(), "{value:?}");
        }
    }
}
