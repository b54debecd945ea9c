//! Secrets of the credential store that an administrator wrote: with an end and an owner as a test needs them.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::support::fixture::{Fixture, OWN};
use super::support::wait;

/// One Secret of the credential store, by its number.
pub(crate) struct Made(pub(crate) u64);

/// So many minutes from now.
pub(crate) fn minutes(minutes: i64) -> SignedDuration {
    SignedDuration::from_mins(minutes)
}

/// What says that a credential ends so long from now.
pub(crate) fn end(ends_in: SignedDuration) -> Value {
    let end = Timestamp::now() + ends_in;
    json!({"stringData": {"expiresAt": end.to_string()}})
}

/// What says that somebody claimed to mint until so long from now.
pub(crate) fn claim(ends_in: SignedDuration) -> Value {
    let until = (Timestamp::now() + ends_in).to_string();
    json!({"metadata": {"annotations": {"pullpass.dev/claimed-until": until}}})
}

/// The owner of a credential: names, and the unique ids of namespace and ServiceAccount.
pub(crate) fn tenant(namespace: (&str, &str), account: (&str, &str)) -> Value {
    json!({"metadata": {
        "labels": {
            "pullpass.dev/tenant-namespace": namespace.0,
            "pullpass.dev/tenant-namespace-uid": namespace.1,
            "pullpass.dev/tenant-service-account-uid": account.1,
        },
        "annotations": {"pullpass.dev/tenant-service-account": account.0},
    }})
}

impl Made {
    pub(crate) fn name(&self) -> String {
        format!("pullpass-credential-{:064x}", self.0)
    }

    /// Writes it with all of these parts.
    pub(crate) async fn put(&self, fixture: &Fixture, parts: &[Value]) {
        let mut object = json!({
            "apiVersion": "v1", "kind": "Secret", "type": "Opaque",
            "metadata": {
                "name": self.name(), "namespace": OWN,
                "labels": {"pullpass.dev/store": "true", "app.kubernetes.io/managed-by": "pullpass"},
                "annotations": {"pullpass.dev/credential-key": "made by a test"},
            },
        });
        for part in parts {
            merge(&mut object, part);
        }
        if object["stringData"].is_object() {
            let minted_at = (Timestamp::now() - minutes(24 * 60)).to_string();
            let data = json!({"username": "AWS", "password": "p", "mintedAt": minted_at, "principal": "p"});
            merge(&mut object, &json!({"stringData": data}));
        }
        fixture.cluster.apply(&object).await;
    }

    pub(crate) async fn is_there(&self, fixture: &Fixture) -> bool {
        fixture.cluster.secret(OWN, &self.name()).await.is_some()
    }

    pub(crate) async fn wait_gone(&self, fixture: &Fixture) {
        wait::until(&format!("the end of {}", self.name()), async || {
            (!self.is_there(fixture).await).then_some(())
        })
        .await;
    }
}

fn merge(into: &mut Value, part: &Value) {
    for (key, value) in part.as_object().unwrap() {
        match &mut into[key] {
            there @ Value::Object(_) => merge(there, value),
            there => *there = value.clone(),
        }
    }
}
