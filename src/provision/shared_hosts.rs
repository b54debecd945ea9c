//! The hosts for which a pull secret has several logins. Pure.

use std::collections::BTreeMap;

use super::digest::Digest;
use crate::registry::clients::domain_of_key;

/// Those hosts, in order. A key with `*` is of no host to the clients that this matters to.
pub fn find<'e>(entries: impl IntoIterator<Item = (&'e String, &'e Digest)>) -> Vec<String> {
    let mut hosts: BTreeMap<String, (&Digest, bool)> = BTreeMap::new();
    for (key, digest) in entries {
        let Some(domain) = domain_of_key(key).filter(|domain| !domain.contains('*')) else {
            continue;
        };
        let (first, is_shared) = hosts.entry(domain).or_insert((digest, false));
        *is_shared |= *first != digest;
    }
    let shared = hosts.into_iter().filter(|(_, (_, is_shared))| *is_shared);
    shared.map(|(domain, _)| domain).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_hosts_that_have_several_logins() {
        let [one, other] = ["one", "other"].map(Digest::of_auth);
        let entries = [
            ("a.com/x", one),
            ("a.com/b", other),
            ("b.com/x", one),
            ("b.com/v2/v2/y", one),
            ("b.com:5000/x", other),
            ("docker.io", one),
            ("https://index.docker.io/v1/", other),
            ("*.c.com/x", one),
            ("*.c.com/b", other),
            ("no key", other),
        ];
        let entries: Vec<_> = entries
            .into_iter()
            .map(|(key, digest)| (key.to_owned(), digest))
            .collect();
        let found = find(entries.iter().map(|(key, digest)| (key, digest)));
        assert_eq!(found, ["a.com", "docker.io"]);
    }
}
