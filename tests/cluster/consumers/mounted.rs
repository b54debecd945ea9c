//! A Pod that reads the Secret of a Registry that pushes as a file, as a build of hours would, across rotations.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::support::place::{HOST, digest};

/// A Pod that prints, each second, which logins the file has.
pub(super) fn reader(namespace: &str, secret: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "reader", "namespace": namespace},
        "spec": {
            "imagePullSecrets": [{"name": "pullpass"}],
            "containers": [{
                "name": "hello", "image": format!("{HOST}/payments/base:1"),
                "args": ["--read", "/auth/.dockerconfigjson"],
                "volumeMounts": [{"name": "auth", "mountPath": "/auth", "readOnly": true}],
            }],
            "volumes": [{"name": "auth", "secret": {"secretName": secret}}],
        },
    })
}

/// What was seen of the file.
#[derive(Debug)]
pub(super) struct Readings {
    pub(super) count: usize,
    /// How many logins there were, one after the other.
    pub(super) logins: usize,
    /// The least that was left of a login's life when it was read, in hundredths of it.
    pub(super) least: i64,
}

/// What a reader printed, held against what AWS minted for the Registry's user.
pub(super) fn judge(log: &str, minted: &[Value]) -> Readings {
    let mut logins = BTreeSet::new();
    let mut least = 100;
    let readings: Vec<Value> = log
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();
    for reading in &readings {
        assert_eq!(reading["error"], Value::Null, "{reading}");
        let passwords = reading["passwords"].as_array().unwrap();
        assert!(!passwords.is_empty(), "{reading}");
        for password in passwords {
            let mut tokens = minted.iter();
            let token = tokens.find(|token| digest(token) == password.as_str().unwrap());
            let token = token.unwrap_or_else(|| panic!("nobody minted {password}"));
            let [read, begin, end] = [&reading["time"], &token["time"], &token["expiresAt"]]
                .map(|time| time.as_str().unwrap().parse::<Timestamp>().unwrap());
            let left = (end - read).total(jiff::Unit::Millisecond).unwrap();
            let life = (end - begin).total(jiff::Unit::Millisecond).unwrap();
            #[allow(clippy::cast_possible_truncation, reason = "hundredths")]
            let hundredths = (left * 100.0 / life) as i64;
            least = least.min(hundredths);
            logins.insert(password.as_str().unwrap().to_owned());
        }
    }
    Readings {
        count: readings.len(),
        logins: logins.len(),
        least,
    }
}

#[test]
fn finds_a_login_that_was_read_with_less_than_a_quarter_left() {
    let minted = [
        json!({"password": "a", "time": "2026-01-01T00:00:00Z", "expiresAt": "2026-01-01T00:01:40Z"}),
        json!({"password": "b", "time": "2026-01-01T00:00:50Z", "expiresAt": "2026-01-01T00:02:30Z"}),
    ];
    let line = |time: &str, token: &Value| {
        json!({"time": time, "passwords": [digest(token)]}).to_string() + "\n"
    };
    let log = "hello from payments/base\n".to_owned()
        + &line("2026-01-01T00:00:10Z", &minted[0])
        + &line("2026-01-01T00:01:20Z", &minted[0])
        + &line("2026-01-01T00:01:21Z", &minted[1]);
    let found = judge(&log, &minted);
    assert_eq!((found.count, found.logins, found.least), (3, 2, 20));
}
