//! The API server's refusals in our words.

use std::future::Future;
use std::time::Duration;

use kube::core::Status;

use crate::provision::ports::ClusterError;

/// How long one request may take: the API server itself is given 30 to 60 seconds by its own rules, but a Pod waits for us.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// Runs one request about `what` (such as `secret team-a/pullpass`) and translates its failure.
pub(super) async fn request<T>(
    what: &str,
    call: impl Future<Output = kube::Result<T>>,
) -> Result<T, ClusterError> {
    match tokio::time::timeout(REQUEST_TIMEOUT, call).await {
        Ok(answer) => answer.map_err(|error| translate(what, &error)),
        Err(_) => Err(ClusterError::Unreachable {
            what: what.to_owned(),
            message: format!("no answer in {} s", REQUEST_TIMEOUT.as_secs()),
        }),
    }
}

fn translate(what: &str, error: &kube::Error) -> ClusterError {
    let what = what.to_owned();
    let kube::Error::Api(status) = error else {
        return ClusterError::Unreachable {
            what,
            message: describe(error),
        };
    };
    let message = status.message.clone();
    match status.code {
        409 => ClusterError::Conflict { what },
        _ if is_namespace_gone(status) => ClusterError::NamespaceGone { what },
        403 if is_refused_by_rule(&message) => ClusterError::Rejected { what, message },
        401 => ClusterError::Unauthenticated { what, message },
        403 => ClusterError::Forbidden { what, message },
        404 => ClusterError::NotFound { what },
        422 if is_about(status, "metadata.uid") => ClusterError::Conflict { what },
        400 | 405 | 413 | 415 | 422 => ClusterError::Rejected { what, message },
        _ => ClusterError::Unreachable { what, message },
    }
}

/// <https://kubernetes.io/docs/reference/access-authn-authz/admission-controllers/#namespacelifecycle>
fn is_namespace_gone(status: &Status) -> bool {
    let terminating = status
        .details
        .iter()
        .flat_map(|details| &details.causes)
        .any(|cause| cause.reason == "NamespaceTerminating");
    let missing = status.code == 404
        && status
            .details
            .as_ref()
            .is_some_and(|details| details.kind == "namespaces");
    terminating || missing
}

/// Whether a quota, a policy or a webhook refuses. A caller without the right gets another message: that the user may not do it.
/// <https://github.com/kubernetes/kubernetes/blob/v1.36.0/staging/src/k8s.io/apiserver/pkg/endpoints/handlers/responsewriters/errors.go>
fn is_refused_by_rule(message: &str) -> bool {
    let forbids = message.contains(" is forbidden: ") && !message.contains(" is forbidden: User ");
    forbids || message.contains(" denied the request")
}

fn is_about(status: &Status, field: &str) -> bool {
    status
        .details
        .iter()
        .flat_map(|details| &details.causes)
        .any(|cause| cause.field == field)
}

/// An error and what caused it, on one line; never a body.
pub(super) fn describe(error: &kube::Error) -> String {
    if let kube::Error::Api(status) = error {
        return format!("{} ({})", status.message, status.code);
    }
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn api_error(status: &serde_json::Value) -> kube::Error {
        kube::Error::Api(Box::new(serde_json::from_value(status.clone()).unwrap()))
    }

    #[test]
    fn tells_a_missing_right_from_a_rule_that_refuses() {
        let rows = [
            (
                "secrets \"pullpass\" is forbidden: User \"system:serviceaccount:pullpass:pullpass\" cannot patch resource \"secrets\" in API group \"\" in the namespace \"a\"",
                "Forbidden",
            ),
            ("", "Forbidden"),
            (
                "secrets \"pullpass\" is forbidden: exceeded quota: few, requested: count/secrets=1, used: count/secrets=3, limited: count/secrets=3",
                "Rejected",
            ),
            (
                "admission webhook \"policy.example\" denied the request: no Secrets here",
                "Rejected",
            ),
        ];
        for (message, reason) in rows {
            let status =
                serde_json::json!({"code": 403, "reason": "Forbidden", "message": message});
            let error = translate("secret a/pullpass", &api_error(&status));
            assert_eq!(error.reason(), reason, "{message}");
        }
    }

    #[test]
    fn translates_each_refusal() {
        let rows = [
            (
                serde_json::json!({"code": 409, "reason": "Conflict"}),
                "Conflict",
            ),
            (
                serde_json::json!({"code": 401, "reason": "Unauthorized", "message": "Unauthorized"}),
                "Unauthenticated",
            ),
            (
                serde_json::json!({"code": 403, "reason": "Forbidden", "message": "no"}),
                "Forbidden",
            ),
            (
                serde_json::json!({"code": 403, "reason": "Forbidden", "details": {"causes": [{"reason": "NamespaceTerminating"}]}}),
                "NamespaceTerminating",
            ),
            (
                serde_json::json!({"code": 404, "reason": "NotFound", "details": {"kind": "namespaces", "name": "x"}}),
                "NamespaceTerminating",
            ),
            (
                serde_json::json!({"code": 404, "reason": "NotFound", "details": {"kind": "secrets", "name": "x"}}),
                "NotFound",
            ),
            (
                serde_json::json!({"code": 422, "reason": "Invalid", "details": {"causes": [{"field": "metadata.uid"}]}}),
                "Conflict",
            ),
            (
                serde_json::json!({"code": 422, "reason": "Invalid"}),
                "Rejected",
            ),
            (serde_json::json!({"code": 429}), "Unreachable"),
            (serde_json::json!({"code": 500}), "Unreachable"),
        ];
        for (status, reason) in rows {
            assert_eq!(
                translate("secret a/pullpass", &api_error(&status)).reason(),
                reason,
                "{status}"
            );
        }
    }

    /// An expired token is not mended by RBAC.
    #[test]
    fn sends_nobody_to_rbac_whose_token_is_not_accepted() {
        let status =
            serde_json::json!({"code": 401, "reason": "Unauthorized", "message": "Unauthorized"});
        let text = translate("secret a/pullpass", &api_error(&status)).to_string();
        assert!(text.contains("token expired"), "{text}");
        assert!(
            !text.contains("RBAC") && !text.contains("forbidden"),
            "{text}"
        );
    }
}
