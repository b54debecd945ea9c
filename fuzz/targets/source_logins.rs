//! Source Secrets, as admins and their tools write them.

use secrecy::ExposeSecret as _;

use super::Target;
use crate::credential::SourceSecret;
use crate::credential::static_login::logins;

/// The keys of the Registry, and what of them is another one's.
const KEYS: [&str; 3] = ["harbor.example.com", "*.quay.example/team", "docker.io"];
const RESERVED: [&str; 2] = ["harbor.example.com/secret", "docker.io/other"];

/// Never repeated in a message.
const CANARY: &str = "canary-password";

pub(super) const TARGET: Target = Target {
    name: "source_logins",
    run,
    seeds: &[
        r#"{"auths":{"harbor.example.com":{"username":"u","password":"canary-password"}}}"#,
        r#"{"auths":{"https://index.docker.io/v1/":{"auth":"dTpjYW5hcnktcGFzc3dvcmQ="},"*.example.com/secret/a":{"auth":"YTpi"}}}"#,
        r#"{"auths":{"a.quay.example/team/x":{"auth":"YTpi"},"*.*.example":{"username":"a","password":"b"}},"credHelpers":{},"credsStore":"x"}"#,
        r#"{"auths":{"*a*a*a*a*b.example.com":{"identitytoken":"canary-password"},"harbor.example.com/secret":{"auth":"YTpi"}}}"#,
    ],
};

fn run(data: &[u8]) {
    let owned = |keys: &[&str]| keys.iter().map(|key| (*key).to_owned()).collect::<Vec<_>>();
    for (type_, key) in [
        ("kubernetes.io/dockerconfigjson", ".dockerconfigjson"),
        ("kubernetes.io/basic-auth", "password"),
    ] {
        let username = ("username".to_owned(), b"robot".to_vec().into());
        let secret = SourceSecret {
            name: "login".parse().unwrap(),
            type_: type_.to_owned(),
            data: [username, (key.to_owned(), data.to_vec().into())].into(),
            resource_version: "1".to_owned(),
        };
        match logins(&secret, &owned(&KEYS), &owned(&RESERVED)) {
            Ok(found) => {
                assert!(!found.is_empty());
                for login in found {
                    assert!(!login.username.is_empty() && !login.username.contains(':'));
                    assert!(!login.password.expose_secret().is_empty());
                    check_key(&login.key);
                }
            }
            Err(error) => {
                let text = format!("{error} {error:?}");
                assert!(text.len() < 20_000, "{}", text.len());
                let in_key = text.contains("the entry") || text.contains("it has");
                assert!(in_key || !text.contains(CANARY), "{text}");
            }
        }
    }
}

/// A login is under a key of the Registry, or below it, and in nothing that is another one's.
fn check_key(key: &str) {
    let lies_in = |outer: &&str| {
        let (host, path) = key.split_once('/').unwrap_or((key, ""));
        let (outer_host, outer_path) = outer.split_once('/').unwrap_or((outer, ""));
        let is_host = match outer_host.strip_prefix("*.") {
            Some(rest) => host
                .split_once('.')
                .is_some_and(|(label, below)| !label.is_empty() && below == rest),
            None => host == outer_host,
        };
        let below = path.strip_prefix(outer_path);
        is_host
            && (outer_path.is_empty()
                || below.is_some_and(|below| below.is_empty() || below.starts_with('/')))
    };
    assert!(KEYS.iter().any(lies_in), "{key}");
    assert!(!RESERVED.iter().any(lies_in), "{key}");
}
