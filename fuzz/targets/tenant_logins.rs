//! Pull secrets, as whoever may write into a namespace leaves them.

use std::collections::BTreeMap;
use std::sync::Arc;

use secrecy::{ExposeSecret as _, SecretSlice};

use super::{Target, now};
use crate::provision::ports::{PullSecret, Version};
use crate::provision::secret::format::DOCKERCONFIGJSON;
use crate::provision::secret::{AuthEntry, Auths, merge, prune};
use crate::registry::SecretFormat;

pub(super) const TARGET: Target = Target {
    name: "tenant_logins",
    run,
    seeds: &[
        r#"{"auths":{"a.example":{"auth":"YTpi"},"other.example":{"auth":"YTpi","email":"x"}}}"#,
        r#"{"auths":{"b.example/x":{"username":"a","password":"b"},"bad":{"auth":"!"}},"HttpHeaders":{}}"#,
        r#"{"auths":{"public.ecr.aws":{"auth":"YTpi"},"x":{"AUTH":7}}}"#,
        // A number that is another one once it was written and read again.
        r#"{"auths":{"public.ecr.aws":{"at":7444444444444444444444444444444444444444444444444444444444444444444444444444444444444444}}}"#,
        "{}",
    ],
};

fn run(data: &[u8]) {
    let existing = read(data);
    let before = Auths::parse(data);
    let there = before.digests();
    let registry = || "team".parse().unwrap();
    let wanted = ["a.example", "b.example/x", "b.example"]
        .map(|key| AuthEntry::new(key, registry(), "user", &"password".into(), None));
    let merged = merge(Some(&existing), SecretFormat::PullSecret, &wanted, now());
    // What was readable and is nobody's of ours stays as it was; nothing else comes in.
    for (key, digest) in &there {
        if wanted.iter().all(|entry| entry.key != *key) {
            assert_eq!(merged.digests.get(key), Some(digest), "{key}");
        }
    }
    for key in merged.digests.keys() {
        let is_wanted = wanted.iter().any(|entry| entry.key == *key);
        assert!(is_wanted || there.contains_key(key), "{key}");
    }
    for entry in &wanted {
        let is_left_out = merged.left_out.contains(&entry.key);
        assert!(is_left_out || merged.digests.get(&entry.key) == Some(&entry.digest));
    }
    let Some(content) = merged.content else {
        assert!(before.is_intact());
        return;
    };
    let written = content.data[DOCKERCONFIGJSON].expose_secret();
    // Base64 of three logins, and what JSON's escapes make of the rest.
    assert!(written.len() <= 6 * data.len() + 1_000, "{}", written.len());
    let after = Auths::parse(written);
    assert!(after.is_intact());
    assert_eq!(after.digests(), merged.digests);
    let mut again = read(written);
    again.annotations = content.annotations;
    let again = merge(Some(&again), SecretFormat::PullSecret, &wanted, now());
    assert!(again.content.is_none(), "the second merge writes, too");
    let pruned = prune(&read(written), |key| key == "a.example");
    assert!(pruned.digests.keys().all(|key| key == "a.example"));
}

fn read(dockerconfigjson: &[u8]) -> PullSecret {
    PullSecret {
        version: Version {
            uid: "u".to_owned(),
            resource_version: "1".to_owned(),
        },
        ours: true,
        format: Some(SecretFormat::PullSecret),
        type_: SecretFormat::PullSecret.secret_type().to_owned(),
        data: BTreeMap::from([(
            DOCKERCONFIGJSON,
            Arc::new(SecretSlice::from(dockerconfigjson.to_vec())),
        )]),
        annotations: BTreeMap::new(),
    }
}
