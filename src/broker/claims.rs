//! Who asks, as the API server says. Pure.
//!
//! Every claim is wanted, but for the node's uid. One that is missing or empty is no claim that holds of everybody, it refuses
//! ([CVE-2026-23990](https://nvd.nist.gov/vuln/detail/CVE-2026-23990)), and so does one that has not the form of what it names.

use std::collections::BTreeMap;

use k8s_openapi::api::authentication::v1::TokenReviewStatus;

use crate::credential::one_line::shorten;
use crate::names::{NamespaceName, ObjectName};

/// What the API server says of the Pod that a token is bound to.
/// <https://github.com/kubernetes/kubernetes/blob/v1.36.0/staging/src/k8s.io/apiserver/pkg/authentication/serviceaccount/util.go>
const POD_NAME: &str = "authentication.kubernetes.io/pod-name";
const POD_UID: &str = "authentication.kubernetes.io/pod-uid";
const NODE_NAME: &str = "authentication.kubernetes.io/node-name";
/// Said only of a Node that was there when the token was made: anybody who creates a Pod can write the name of one that never was.
/// <https://github.com/kubernetes/kubernetes/blob/v1.36.0/pkg/registry/core/serviceaccount/storage/token.go>
const NODE_UID: &str = "authentication.kubernetes.io/node-uid";

/// The groups of every ServiceAccount, and of those of one namespace.
const ACCOUNTS_GROUP: &str = "system:serviceaccounts";

/// How the names of ServiceAccounts begin as users.
const ACCOUNT_PREFIX: &str = "system:serviceaccount:";

/// The longest unique id, in bytes; Kubernetes' own have 36.
const UID_MAX: usize = 128;

/// The Pod that a token is of, each part of which the API server vouches for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodIdentity {
    /// Its namespace.
    pub namespace: NamespaceName,
    /// Its ServiceAccount.
    pub service_account: ObjectName,
    /// The ServiceAccount's `metadata.uid`.
    pub service_account_uid: String,
    /// Its name.
    pub name: ObjectName,
    /// Its `metadata.uid`.
    pub uid: String,
    /// The node that it is bound to. Who asks need not be there: whoever has the token can.
    pub node: ObjectName,
    /// That node's `metadata.uid`; `None`: there was no Node of this name when the token was made.
    pub node_uid: Option<String>,
}

/// Why a token says not who asks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClaimError {
    /// The API server does not take it.
    #[error("the API server does not accept the token: {0}")]
    Refused(String),
    /// It is for somebody else.
    #[error(
        "the token is not for the audience {0}: write it into serviceAccountTokenAudience of the CredentialProviderConfig"
    )]
    Audience(String),
    /// A claim is missing, or there are several.
    #[error(
        "the API server does not say the {0} of the token: use a token that the kubelet requested for a Pod"
    )]
    Missing(&'static str),
    /// A claim is none.
    #[error("what the API server says as the {0} of the token is none")]
    Odd(&'static str),
    /// What is said of one and the same differs.
    #[error("the token's user is no ServiceAccount of its groups' namespace")]
    Disagree,
}

/// The most of the API server's own words that are repeated, in bytes.
const WORDS_MAX: usize = 256;

/// Who asks with a token for this audience, if the API server said all of it.
///
/// # Errors
/// [`ClaimError`].
pub fn find_pod(status: &TokenReviewStatus, audience: &str) -> Result<PodIdentity, ClaimError> {
    if status.authenticated != Some(true)
        || status.error.as_ref().is_some_and(|error| !error.is_empty())
    {
        let words = status.error.as_deref().unwrap_or("it gives no reason");
        return Err(ClaimError::Refused(shorten(words, WORDS_MAX)));
    }
    let audiences = status.audiences.iter().flatten();
    if !audiences.into_iter().any(|one| one == audience) {
        return Err(ClaimError::Audience(audience.to_owned()));
    }
    let user = status.user.as_ref().ok_or(ClaimError::Missing("user"))?;
    let username = user.username.as_deref().unwrap_or_default();
    let (namespace, service_account) = parse_account(username)?;
    let groups = user.groups.as_deref().unwrap_or_default();
    let of_namespace = format!("{ACCOUNTS_GROUP}:{namespace}");
    let is_in = |group: &str| groups.iter().any(|one| one == group);
    if !is_in(ACCOUNTS_GROUP) || !is_in(&of_namespace) {
        return Err(ClaimError::Disagree);
    }
    let account_uid = user.uid.as_deref().unwrap_or_default();
    let extra = user.extra.as_ref().ok_or(ClaimError::Missing("pod name"))?;
    let claim = |key: &str, what| find_one(extra, key, what);
    let object =
        |key: &str, what| ObjectName::parse(claim(key, what)?).map_err(|_| ClaimError::Odd(what));
    Ok(PodIdentity {
        namespace,
        service_account,
        service_account_uid: check_uid(account_uid, "ServiceAccount uid")?,
        name: object(POD_NAME, "pod name")?,
        uid: check_uid(claim(POD_UID, "pod uid")?, "pod uid")?,
        node: object(NODE_NAME, "node name")?,
        node_uid: find_node_uid(extra)?,
    })
}

/// The one claim that need not be there. One that is there and odd refuses as the others do.
fn find_node_uid(extra: &BTreeMap<String, Vec<String>>) -> Result<Option<String>, ClaimError> {
    if !extra.contains_key(NODE_UID) {
        return Ok(None);
    }
    let uid = find_one(extra, NODE_UID, "node uid")?;
    check_uid(uid, "node uid").map(Some)
}

/// The namespace and the name of the ServiceAccount that a user is.
/// <https://kubernetes.io/docs/reference/access-authn-authz/authentication/#service-account-tokens>
fn parse_account(username: &str) -> Result<(NamespaceName, ObjectName), ClaimError> {
    if username.is_empty() {
        return Err(ClaimError::Missing("user name"));
    }
    let odd = ClaimError::Odd("user name");
    let account = username.strip_prefix(ACCOUNT_PREFIX);
    let (namespace, name) = account
        .and_then(|account| account.split_once(':'))
        .ok_or(odd.clone())?;
    let namespace = NamespaceName::parse(namespace).map_err(|_| odd.clone())?;
    let name = ObjectName::parse(name).map_err(|_| odd)?;
    Ok((namespace, name))
}

/// The one value of a claim.
fn find_one<'e>(
    extra: &'e BTreeMap<String, Vec<String>>,
    key: &str,
    what: &'static str,
) -> Result<&'e str, ClaimError> {
    match extra.get(key).map(Vec::as_slice) {
        Some([one]) if !one.is_empty() => Ok(one),
        _ => Err(ClaimError::Missing(what)),
    }
}

fn check_uid(uid: &str, what: &'static str) -> Result<String, ClaimError> {
    if uid.is_empty() {
        return Err(ClaimError::Missing(what));
    }
    let is_uid = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    if uid.len() > UID_MAX || !uid.bytes().all(is_uid) {
        return Err(ClaimError::Odd(what));
    }
    Ok(uid.to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn good() -> Value {
        json!({
            "authenticated": true,
            "audiences": ["pullpass.dev"],
            "user": {
                "username": "system:serviceaccount:team-a:builder",
                "uid": "11111111-2222-3333-4444-555555555555",
                "groups": ["system:serviceaccounts", "system:serviceaccounts:team-a", "system:authenticated"],
                "extra": {
                    POD_NAME: ["web-7d9f"],
                    POD_UID: ["66666666-2222-3333-4444-555555555555"],
                    NODE_NAME: ["node-1.example"],
                    NODE_UID: ["77777777-2222-3333-4444-555555555555"],
                    "authentication.kubernetes.io/credential-id": ["JTI=1"],
                },
            },
        })
    }

    fn read(status: &Value) -> TokenReviewStatus {
        serde_json::from_value(status.clone()).unwrap()
    }

    fn find(status: &Value) -> Result<PodIdentity, ClaimError> {
        find_pod(&read(status), "pullpass.dev")
    }

    #[test]
    fn finds_the_pod_of_a_token_that_says_everything() {
        let pod = find(&good()).unwrap();
        assert_eq!(pod.namespace, "team-a");
        assert_eq!(pod.service_account, "builder");
        assert_eq!(
            pod.service_account_uid,
            "11111111-2222-3333-4444-555555555555"
        );
        assert_eq!(pod.name, "web-7d9f");
        assert_eq!(pod.uid, "66666666-2222-3333-4444-555555555555");
        assert_eq!(pod.node, "node-1.example");
        let uid = "77777777-2222-3333-4444-555555555555";
        assert_eq!(pod.node_uid.as_deref(), Some(uid));
    }

    #[test]
    fn knows_no_node_uid_where_the_api_server_says_none() {
        let pointer = format!("/user/extra/{}", NODE_UID.replace('/', "~1"));
        let pod = find(&changed(&pointer, None)).unwrap();
        assert_eq!((&*pod.node, pod.node_uid), ("node-1.example", None));
    }

    /// For each claim, values that are missing, empty, doubled, or of another form.
    const ODD: &str = r#"
/authenticated: [null, false]
/audiences: [null, [], [""], [other], [pullpass.dev/x]]
/error: [token is odd]
/user: [null, {}]
/user/uid: [null, "", "a b", ../x, LONG]
/user/groups:
- null
- []
- ["system:serviceaccounts"]
- ["system:serviceaccounts:team-a"]
- ["system:serviceaccounts", "system:serviceaccounts:team-b"]
/user/extra: [null, {}]
/user/username:
- null
- ""
- admin
- system:node:node-1
- "system:serviceaccount:"
- system:serviceaccount:team-a
- "system:serviceaccount:team-a:"
- system:serviceaccount::builder
- system:serviceaccount:team-a:b:c
- system:serviceaccount:team-a:../b
- system:serviceaccount:Team:builder
- system:serviceaccount:team-b:builder
- xsystem:serviceaccount:team-a:builder
- system:serviceaccount:team.a:builder
/user/extra/authentication.kubernetes.io~1pod-name: [[], [""], [a, b], [a/b], [..], [A], ["a?b"], [LONG]]
/user/extra/authentication.kubernetes.io~1node-name: [[], [""], [a, b], [a/b], [..], [A], ["a?b"], [LONG]]
/user/extra/authentication.kubernetes.io~1pod-uid: [[], [""], [a, b], [a/b], ["a\n"]]
/user/extra/authentication.kubernetes.io~1node-uid: [[], [""], [a, b], [a/b], ["a\n"], [LONG]]
"#;

    /// What is there with this claim changed; `None`: without it.
    fn changed(pointer: &str, value: Option<&Value>) -> Value {
        let mut status = good();
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        let name = name.replace("~1", "/");
        let parent = status.pointer_mut(parent).and_then(Value::as_object_mut);
        let parent = parent.unwrap();
        match value {
            Some(value) => parent.insert(name, value.clone()),
            None => parent.remove(&name),
        };
        status
    }

    #[test]
    fn refuses_each_claim_that_is_missing_empty_or_odd() {
        let odd = ODD.replace("LONG", &"a".repeat(300));
        let rows: BTreeMap<String, Vec<Value>> = serde_saphyr::from_str(&odd).unwrap();
        for (pointer, values) in &rows {
            for value in values {
                let found = find(&changed(pointer, Some(value)));
                assert!(found.is_err(), "{pointer} = {value}");
            }
            if pointer != "/error" && !pointer.ends_with("node-uid") {
                assert!(find(&changed(pointer, None)).is_err(), "without {pointer}");
            }
        }
        let pointers = [POD_NAME, NODE_NAME, POD_UID, NODE_UID];
        for key in pointers.map(|key| format!("/user/extra/{}", key.replace('/', "~1"))) {
            assert!(rows.contains_key(&key), "{key}");
        }
        assert!(find(&json!({})).is_err());
    }

    #[test]
    fn says_in_the_api_servers_words_why_it_refuses_and_not_many_of_them() {
        let status = json!({"error": format!("no\nsuch token {}", "ä".repeat(1000))});
        let error = find(&status).unwrap_err().to_string();
        assert!(
            error.contains("no such token") && error.len() < 400,
            "{error}"
        );
        let said = find(&json!({"authenticated": false}))
            .unwrap_err()
            .to_string();
        assert!(said.contains("no reason"), "{said}");
    }
}
