//! Which missed Pods may be evicted. Pure.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use crate::cluster::WaitingPod;

/// Why a missed Pod is left where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Left {
    /// It is being deleted.
    Deleted,
    /// No image of it has failed to be pulled yet.
    NotHanging,
    /// Nothing would make it again.
    NoController,
    /// The API server has not asked the webhook since the Pod was created: the next one might be missed as well.
    NoAdmission,
}

/// The controller of a missed Pod that may be evicted; `answered` is when the webhook last answered the API server.
pub(super) fn find_owner(
    pod: &WaitingPod,
    answered: Option<Timestamp>,
) -> Result<&OwnerReference, Left> {
    if pod.is_deleted {
        return Err(Left::Deleted);
    }
    if !pod.hangs {
        return Err(Left::NotHanging);
    }
    let owner = pod.controller.as_ref().ok_or(Left::NoController)?;
    if answered.is_none_or(|answered| answered <= pod.created) {
        return Err(Left::NoAdmission);
    }
    Ok(owner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn finds_the_owner_of_those_that_may_be_evicted() {
        let json = serde_json::value::RawValue::from_string("{}".to_owned()).unwrap();
        let pod = WaitingPod {
            namespace: "n".to_owned(),
            name: "p".to_owned(),
            uid: "u".to_owned(),
            created: at(100),
            is_deleted: false,
            hangs: true,
            controller: Some(OwnerReference::default()),
            json,
        };
        let ended = |pod: &WaitingPod, answered| find_owner(pod, answered).err();
        assert_eq!(ended(&pod, Some(at(101))), None);
        assert_eq!(ended(&pod, Some(at(100))), Some(Left::NoAdmission));
        assert_eq!(ended(&pod, None), Some(Left::NoAdmission));
        let deleted = WaitingPod {
            is_deleted: true,
            ..pod.clone()
        };
        assert_eq!(ended(&deleted, Some(at(101))), Some(Left::Deleted));
        let waits = WaitingPod {
            hangs: false,
            ..pod.clone()
        };
        assert_eq!(ended(&waits, Some(at(101))), Some(Left::NotHanging));
        let bare = WaitingPod {
            controller: None,
            ..pod
        };
        assert_eq!(ended(&bare, Some(at(101))), Some(Left::NoController));
    }
}
