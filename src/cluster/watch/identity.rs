//! Whether an object that a watch shows is one that was asked for.

use kube::Resource;

use crate::cluster::api::check_identity;
use crate::names::{Form, Name, NamespaceName};

/// The name of an object of this namespace, or of none; else what of it is another one's.
pub(super) fn identify<K: Resource, F: Form>(
    object: &K,
    namespace: Option<&NamespaceName>,
) -> Result<Name<F>, String> {
    let namespace = namespace.map(NamespaceName::as_str);
    check_identity(object, namespace, None).map_err(|mismatch| mismatch.to_string())?;
    let name = object.meta().name.as_deref().unwrap_or_default();
    Name::parse(name).map_err(|error| error.to_string())
}
