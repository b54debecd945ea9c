//! The entries that a login makes in a pull secret: one under each key of its grant. Pure.

use super::secret::AuthEntry;
use crate::credential::Credential;
use crate::credential::static_login::Login;
use crate::registry::Grant;

/// A minted credential under each key of its grant.
pub fn of_credential(grant: &Grant, credential: &Credential) -> Vec<AuthEntry> {
    let mut keys = grant.all_keys();
    let Some(first) = keys.next() else {
        return Vec::new();
    };
    let entry = AuthEntry::new(
        first,
        grant.registry.clone(),
        &credential.username,
        &credential.password,
        Some(credential.expires_at),
    );
    let others: Vec<_> = keys.map(|key| entry.under(key)).collect();
    std::iter::once(entry).chain(others).collect()
}

/// Fixed logins, each under its own key; and once more under its host's own key, where the grant has that. Of an export that holds one
/// login there is that alone.
///
/// A source Secret may hold several logins for one host: its own key has that of the Registry's first image there, or of what is within
/// it, or of any.
pub fn of_logins(grant: &Grant, logins: Vec<Login>) -> Vec<AuthEntry> {
    let entry = |login: Login| {
        AuthEntry::new(
            login.key,
            grant.registry.clone(),
            &login.username,
            &login.password,
            None,
        )
    };
    let mut entries: Vec<AuthEntry> = logins.into_iter().map(entry).collect();
    let of_hosts: Vec<AuthEntry> = grant
        .host_keys
        .iter()
        .filter_map(|host| Some(find_like(&entries, &host.like)?.under(&host.key)))
        .collect();
    if grant.format.holds_one_login() {
        return of_hosts;
    }
    entries.extend(of_hosts);
    entries
}

/// The entry under this key; else the first one within it; else the first one of its host.
fn find_like<'e>(entries: &'e [AuthEntry], like: &str) -> Option<&'e AuthEntry> {
    let host_of = |key: &str| key.split('/').next().unwrap_or_default().to_owned();
    let is_within = |key: &str| {
        let rest = key.strip_prefix(like);
        rest.is_some_and(|rest| rest.starts_with('/'))
    };
    let find = |is_it: &dyn Fn(&str) -> bool| entries.iter().find(|entry| is_it(&entry.key));
    find(&|key| key == like)
        .or_else(|| find(&is_within))
        .or_else(|| find(&|key| host_of(key) == host_of(like)))
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::registry::source::StaticSource;
    use crate::registry::{Access, CredentialSource, HostKey, SecretFormat};

    fn grant(keys: &[&str], host_keys: &[(&str, &str)]) -> Grant {
        let host_key = |(key, like): &(&str, &str)| HostKey {
            key: (*key).to_owned(),
            like: (*like).to_owned(),
        };
        Grant {
            registry: "builds".parse().unwrap(),
            secret: "pullpass-builds".parse().unwrap(),
            format: SecretFormat::PullSecret,
            access: Access::Push,
            source: CredentialSource::Static(StaticSource {
                secret: "login".parse().unwrap(),
            }),
            keys: keys.iter().map(|key| (*key).to_owned()).collect(),
            reserved: Vec::new(),
            host_keys: host_keys.iter().map(host_key).collect(),
        }
    }

    fn login(key: &str, username: &str) -> Login {
        Login {
            key: key.to_owned(),
            username: username.to_owned(),
            password: "p".into(),
        }
    }

    #[test]
    fn puts_a_credential_under_all_keys() {
        let grant = grant(&["a.com/x", "a.com/b"], &[("a.com", "a.com/b")]);
        let credential = Credential {
            username: "AWS".to_owned(),
            password: "p".into(),
            minted_at: Timestamp::UNIX_EPOCH,
            expires_at: Timestamp::UNIX_EPOCH,
            principal: String::new(),
        };
        let entries = of_credential(&grant, &credential);
        let keys: Vec<&str> = entries.iter().map(|entry| &*entry.key).collect();
        assert_eq!(keys, ["a.com/x", "a.com/b", "a.com"]);
        assert!(entries.iter().all(|one| one.digest == entries[0].digest));
    }

    #[test]
    fn gives_a_host_the_login_of_the_first_image_or_of_what_is_within_it_or_any() {
        let rows = [
            (vec![("a.com/b", "ub"), ("a.com/z", "uz")], Some("uz")),
            (vec![("a.com/b", "ub"), ("a.com/z/1", "uz")], Some("uz")),
            (vec![("a.com/b", "ub"), ("a.com/zz", "other")], Some("ub")),
            (vec![("b.com/z", "ub")], None),
            (Vec::new(), None),
        ];
        for (logins, expected) in rows {
            let all = logins.iter().map(|(key, username)| login(key, username));
            let hosts = [
                ("a.com", "a.com/z"),
                ("https://index.docker.io/v1/", "docker.io/c"),
            ];
            let grant = grant(&["a.com/z", "a.com/b"], &hosts);
            let entries = of_logins(&grant, all.collect());
            let of_host = entries.iter().find(|entry| entry.key == "a.com");
            let expected = expected.map(|username| {
                let expected = of_logins(&grant, vec![login("x", username)]);
                expected[0].digest
            });
            assert_eq!(of_host.map(|entry| entry.digest), expected, "{logins:?}");
            assert!(!entries.iter().any(|entry| entry.key.starts_with("https:")));
        }
    }

    #[test]
    fn gives_an_export_of_one_login_that_of_the_first_image_and_no_other() {
        use crate::registry::ExportFormat;
        let of_export = |logins: Vec<Login>| {
            let grant = Grant {
                format: SecretFormat::Export(ExportFormat::BasicAuth),
                ..grant(&["a.com/z", "a.com/b"], &[("a.com", "a.com/z")])
            };
            of_logins(&grant, logins)
        };
        let entries = of_export(vec![login("a.com/b", "ub"), login("a.com/z", "uz")]);
        assert_eq!(entries.len(), 1);
        assert_eq!(&*entries[0].key, "a.com");
        let alone = of_export(vec![login("a.com/z", "uz")]);
        assert_eq!(entries[0].digest, alone[0].digest);
        assert!(of_export(Vec::new()).is_empty());
    }
}
