//! Objects by name: the one place that makes URLs of the API server, of checked names alone.
//!
//! kube puts names into URLs as they are, so its by-name methods are disallowed everywhere else (`clippy.toml`). An answer that is not the
//! object that was asked for is an error and never data: whatever proxy is between us and the API server, no other object is accepted.

#![expect(
    clippy::disallowed_methods,
    reason = "all names that reach kube's by-name methods here are types"
)]

use std::fmt::Debug;

use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{Kube, api_error};
use crate::names::{NamespaceName, ObjectName};
use crate::provision::ports::{ClusterError, Version};

/// The objects of one kind, of one namespace or of none.
pub(super) struct Objects<'k, K> {
    kube: &'k Kube,
    namespace: Option<&'k NamespaceName>,
    api: Api<K>,
}

/// What is wrong with an answer that is not the object asked for.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(super) enum Mismatch {
    /// Another name.
    #[error("the API server answered with another object's metadata.name")]
    Name,
    /// Another namespace.
    #[error("the API server answered with an object of another metadata.namespace")]
    Namespace,
    /// No unique id: what is kept, or asked for, by it would be anybody's.
    #[error("the API server answered with an object without metadata.uid")]
    Uid,
    /// Another kind, or nothing that can be read as this kind.
    #[error("the API server did not answer with a {0}")]
    Kind(String),
}

/// Whether an object is the one of this name, or any where none is asked for, in this namespace, or in none, and says which one it is.
///
/// # Errors
/// What of it is another one's, or missing.
pub(super) fn check_identity<K: Resource>(
    object: &K,
    namespace: Option<&str>,
    name: Option<&str>,
) -> Result<(), Mismatch> {
    check_name(object, namespace, name)?;
    match object.meta().uid.as_deref() {
        None | Some("") => Err(Mismatch::Uid),
        Some(_) => Ok(()),
    }
}

/// The same for an answer of which nothing is kept, whichever object it is.
///
/// # Errors
/// What of it is another one's.
pub(super) fn check_name<K: Resource>(
    object: &K,
    namespace: Option<&str>,
    name: Option<&str>,
) -> Result<(), Mismatch> {
    let metadata = object.meta();
    if name.is_some_and(|name| metadata.name.as_deref() != Some(name)) {
        return Err(Mismatch::Name);
    }
    if metadata.namespace.as_deref() != namespace {
        return Err(Mismatch::Namespace);
    }
    Ok(())
}

impl<'k, K> Objects<'k, K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    /// The objects of a kind that has no namespaces.
    pub(super) fn cluster_scoped(kube: &'k Kube) -> Self {
        Self {
            kube,
            namespace: None,
            api: Api::all(kube.client.clone()),
        }
    }

    /// How messages name one of them.
    fn describe(&self, name: &ObjectName) -> String {
        let kind = K::kind(&()).to_lowercase();
        match self.namespace {
            Some(namespace) => format!("{kind} {namespace}/{name}"),
            None => format!("{kind} {name}"),
        }
    }

    /// Reads one live; `None`: there is none.
    ///
    /// # Errors
    /// The API server cannot be reached, refuses, or answers with another object.
    pub(super) async fn get(&self, name: &ObjectName) -> Result<Option<K>, ClusterError> {
        let what = self.describe(name);
        match self.ask(&what, self.api.get_opt(name)).await? {
            Some(object) => self.check(&what, name, object).map(Some),
            None => Ok(None),
        }
    }

    /// Server-side apply of what `object` holds; its `apiVersion`, `kind` and `metadata.name` are set here.
    ///
    /// # Errors
    /// [`ClusterError::Conflict`] when it is not what its `metadata.uid` and `metadata.resourceVersion` say.
    pub(super) async fn apply(
        &self,
        name: &ObjectName,
        object: Value,
        parameters: &PatchParams,
    ) -> Result<K, ClusterError> {
        let what = self.describe(name);
        // An empty text is no precondition: any object would do.
        let given = ["uid", "resourceVersion"].map(|field| &object["metadata"][field]);
        if given.contains(&&Value::from("")) {
            return Err(ClusterError::Conflict { what });
        }
        let patch = Patch::Apply(identify::<K>(name, object));
        let applied = self.ask(&what, self.api.patch(name, parameters, &patch));
        self.check(&what, name, applied.await?)
    }

    /// The same for the subresource `status`.
    ///
    /// # Errors
    /// As [`Objects::apply`].
    pub(super) async fn apply_status(
        &self,
        name: &ObjectName,
        object: Value,
        parameters: &PatchParams,
    ) -> Result<K, ClusterError> {
        let what = self.describe(name);
        let patch = Patch::Apply(identify::<K>(name, object));
        let applied = self.ask(&what, self.api.patch_status(name, parameters, &patch));
        self.check(&what, name, applied.await?)
    }

    /// Deletes one if it is the very object of this uid, and in this state where one is given; answers whether it was there.
    ///
    /// # Errors
    /// [`ClusterError::Conflict`] when it is another one, or in another state.
    pub(super) async fn delete(
        &self,
        name: &ObjectName,
        version: &Version,
    ) -> Result<bool, ClusterError> {
        let state = Some(&version.resource_version).filter(|state| !state.is_empty());
        let parameters = DeleteParams::default().preconditions(Preconditions {
            uid: Some(version.uid.clone()),
            resource_version: state.cloned(),
        });
        let what = self.describe(name);
        match self.ask(&what, self.api.delete(name, &parameters)).await {
            Ok(_) => Ok(true),
            Err(ClusterError::NotFound { .. } | ClusterError::NamespaceGone { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Creates one, which says its own name. Of the answer nothing is read.
    ///
    /// # Errors
    /// [`ClusterError::Conflict`] when there is one of its name.
    pub(super) async fn create(&self, what: &str, object: &K) -> Result<(), ClusterError>
    where
        K: Serialize,
    {
        let parameters = PostParams::default();
        let created = self.ask(what, self.api.create(&parameters, object)).await;
        created.map(drop)
    }

    async fn ask<T>(
        &self,
        what: &str,
        call: impl Future<Output = kube::Result<T>>,
    ) -> Result<T, ClusterError> {
        // On the heap: what waits for a request is part of what waits for that, and so on up to the tasks.
        let call = Box::pin(async {
            // k8s-openapi refuses an object of another kind; its words could repeat what the object holds.
            match call.await {
                Err(kube::Error::SerdeError(_)) => {
                    Ok(Err(Mismatch::Kind(K::kind(&()).into_owned())))
                }
                answer => answer.map(Ok),
            }
        });
        let answer = api_error::request(what, call).await?;
        answer.map_err(|mismatch| self.kube.reject(what, &mismatch))
    }

    fn check<T: Resource>(
        &self,
        what: &str,
        name: &ObjectName,
        object: T,
    ) -> Result<T, ClusterError> {
        let namespace = self.namespace.map(NamespaceName::as_str);
        match check_identity(&object, namespace, Some(name)) {
            Ok(()) => Ok(object),
            Err(mismatch) => Err(self.kube.reject(what, &mismatch)),
        }
    }
}

impl<'k, K> Objects<'k, K>
where
    K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
        + Clone
        + Debug
        + DeserializeOwned,
{
    /// The objects of a namespace.
    pub(super) fn namespaced(kube: &'k Kube, namespace: &'k NamespaceName) -> Self {
        Self {
            kube,
            namespace: Some(namespace),
            api: kube.namespaced(namespace),
        }
    }
}

impl Objects<'_, ServiceAccount> {
    /// Asks for a token of one of these ServiceAccounts.
    ///
    /// # Errors
    /// The API server cannot be reached or refuses.
    pub(super) async fn create_token(
        &self,
        name: &ObjectName,
        request: &TokenRequest,
    ) -> Result<TokenRequest, ClusterError> {
        let (what, parameters) = (self.describe(name), PostParams::default());
        let asked = self.api.create_token_request(name, &parameters, request);
        let answer = self.ask(&what, asked).await?;
        let namespace = self.namespace.map(NamespaceName::as_str);
        match check_name(&answer, namespace, Some(name)) {
            Ok(()) => Ok(answer),
            Err(mismatch) => Err(self.kube.reject(&what, &mismatch)),
        }
    }
}

impl<K> Objects<'_, K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Serialize,
{
    /// Has the API server answer a question that is asked by creating an object of this kind, of which nothing is kept: who asks, or what
    /// somebody may do.
    ///
    /// # Errors
    /// The API server cannot be reached or refuses.
    pub(super) async fn review(&self, question: &K) -> Result<K, ClusterError> {
        let parameters = PostParams::default();
        let asked = self.api.create(&parameters, question);
        self.ask(&K::kind(&()).to_lowercase(), asked).await
    }
}

impl Kube {
    /// The objects of a namespace, to list and watch. To get one by its name, use [`Objects`].
    pub(super) fn namespaced<K>(&self, namespace: &NamespaceName) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// An answer that is rejected: counted here, logged by the caller.
    pub(super) fn reject(&self, what: &str, mismatch: &Mismatch) -> ClusterError {
        self.metrics.count_mismatch();
        ClusterError::Mismatch {
            what: what.to_owned(),
            message: mismatch.to_string(),
        }
    }
}

/// The path of a namespace's Pods.
pub(super) fn pods_path(namespace: &NamespaceName) -> String {
    format!("/api/v1/namespaces/{namespace}/pods")
}

/// The one object of a name, where the right to list or watch is all there is.
/// <https://kubernetes.io/docs/concepts/overview/working-with-objects/field-selectors/>
pub(super) fn named(name: &ObjectName) -> String {
    format!("metadata.name={name}")
}

/// The same as parameters of a list.
pub(super) fn list_named(name: &ObjectName) -> ListParams {
    ListParams::default().fields(&named(name))
}

fn identify<K: Resource<DynamicType = ()>>(name: &ObjectName, mut object: Value) -> Value {
    object["apiVersion"] = K::api_version(&()).into();
    object["kind"] = K::kind(&()).into();
    object["metadata"]["name"] = name.as_str().into();
    object
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Secret;
    use serde_json::json;

    use super::*;

    #[tokio::test]
    async fn writes_nothing_on_a_precondition_that_is_empty() {
        // Nobody is there to be asked.
        let service = tower::service_fn(|_: hyper::Request<kube::client::Body>| async {
            Err::<hyper::Response<kube::client::Body>, _>(std::io::Error::other("away"))
        });
        let client = kube::Client::new(service, "pullpass");
        let kube = Kube::new(client, NamespaceName::constant("pullpass"));
        let namespace = NamespaceName::constant("n");
        let secrets = Objects::<Secret>::namespaced(&kube, &namespace);
        let name = ObjectName::constant("a");
        for metadata in [
            json!({"uid": "", "resourceVersion": "7"}),
            json!({"uid": "u", "resourceVersion": ""}),
        ] {
            let object = json!({"metadata": metadata});
            let written = secrets
                .apply(&name, object, &PatchParams::apply("test"))
                .await;
            assert!(matches!(written, Err(ClusterError::Conflict { .. })));
        }
    }

    #[test]
    fn refuses_an_answer_that_is_another_object() {
        let rows = [
            (json!({"name": "a", "namespace": "n", "uid": "u"}), Ok(())),
            (
                json!({"name": "b", "namespace": "n", "uid": "u"}),
                Err(Mismatch::Name),
            ),
            (
                json!({"name": "a", "namespace": "m", "uid": "u"}),
                Err(Mismatch::Namespace),
            ),
            (json!({"name": "a", "uid": "u"}), Err(Mismatch::Namespace)),
            (json!({"namespace": "n", "uid": "u"}), Err(Mismatch::Name)),
            (json!({"name": "a", "namespace": "n"}), Err(Mismatch::Uid)),
            (
                json!({"name": "a", "namespace": "n", "uid": ""}),
                Err(Mismatch::Uid),
            ),
        ];
        for (metadata, expected) in rows {
            let secret: Secret = serde_json::from_value(json!({"metadata": metadata})).unwrap();
            assert_eq!(check_identity(&secret, Some("n"), Some("a")), expected);
        }
    }
}
