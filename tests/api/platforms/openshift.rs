//! Pod Security, and OpenShift's restricted-v2, which takes no fixed ids.

use serde_json::json;

use super::place::{create, install, prepare, refuse};
use super::support::fixture::Fixture;

/// The namespace enforces the restricted standard. What OpenShift's security context constraints add is that an id is the namespace's own
/// or none: <https://docs.redhat.com/en/documentation/openshift_container_platform/4.20/html/authentication_and_authorization/managing-pod-security-policies>
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn is_admitted_under_the_restricted_standard_with_ids_and_without() {
    let fixture = Fixture::alone("openshift").await;
    prepare(&fixture).await;
    let fixed = create(&fixture, &install(&fixture, &[]).await).await;
    assert_eq!(fixed["spec"]["securityContext"]["runAsUser"], 65532);

    let pod = install(&fixture, &["openshift=true"]).await;
    let created = create(&fixture, &pod).await;
    for context in [
        &created["spec"]["securityContext"],
        &created["spec"]["containers"][0]["securityContext"],
    ] {
        for field in ["runAsUser", "runAsGroup", "fsGroup"] {
            assert!(context[field].is_null(), "{field}: {context}");
        }
    }
    // With the ids that the constraints put in, it is the same Pod to Pod Security.
    let mut given = pod.clone();
    let context = &mut given["spec"]["securityContext"];
    context["runAsUser"] = json!(1_000_680_000);
    context["fsGroup"] = json!(1_000_680_000);
    create(&fixture, &given).await;

    // And the namespace does enforce it.
    for (place, value, words) in [
        (
            "/spec/securityContext/runAsNonRoot",
            json!(false),
            "runAsNonRoot",
        ),
        (
            "/spec/containers/0/securityContext/allowPrivilegeEscalation",
            json!(true),
            "allowPrivilegeEscalation",
        ),
    ] {
        let mut damaged = pod.clone();
        *damaged.pointer_mut(place).unwrap() = value;
        let said = refuse(&fixture, &damaged).await;
        assert!(
            said.contains("restricted") && said.contains(words),
            "{said}"
        );
    }
}
