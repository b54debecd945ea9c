//! The definition of the Registry kind before a real API server.

#![allow(clippy::disallowed_methods, reason = "the names are the test's own")]

use crate::support;
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::config::{Config, KubeConfigOptions, Kubeconfig};
use kube::core::Request;
use kube::runtime::wait::{await_condition, conditions};
use pullpass::registry::crd::definition;
use support::bed::Bed;
use support::registries::cases;

async fn client(bed: &Bed) -> kube::Client {
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let kubeconfig =
        Kubeconfig::read_from(bed.field("kubeconfig")).expect("the bed writes a kubeconfig");
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .expect("it has a context");
    kube::Client::try_from(config).expect("it has a certificate")
}

#[tokio::test]
async fn refuses_what_the_program_refuses_as_far_as_a_schema_can() {
    let bed = Bed::start("api", &[]);
    let client = client(&bed).await;
    let definitions: Api<k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition> =
        Api::all(client.clone());
    let name = "registries.pullpass.dev";
    let apply = PatchParams::apply("test").validation_strict();
    definitions
        .patch(name, &apply, &Patch::Apply(definition()))
        .await
        .expect("the API server takes the definition");
    let established = await_condition(definitions, name, conditions::is_crd_established());
    let deadline = std::time::Duration::from_secs(30);
    tokio::time::timeout(deadline, established)
        .await
        .expect("in time")
        .expect("the definition is watched");

    let mut wrong = Vec::new();
    for case in cases() {
        let answer = create(&client, &case.object()).await;
        let is_refused =
            matches!(&answer, Err(kube::Error::Api(status)) if matches!(status.code, 400 | 422));
        if is_refused == case.is_accepted() {
            wrong.push(format!("{}: {answer:?}", case.title));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Creates an object as `kubectl create --dry-run=server` does: unknown fields are refused.
async fn create(
    client: &kube::Client,
    object: &serde_json::Value,
) -> Result<serde_json::Value, kube::Error> {
    let body = serde_json::to_vec(object).expect("it is JSON");
    let parameters = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    let request = Request::new("/apis/pullpass.dev/v1alpha1/registries").create(&parameters, body);
    let mut request = request.expect("it is a request");
    *request.uri_mut() = format!("{}&fieldValidation=Strict", request.uri())
        .parse()
        .expect("it is a URI");
    client.request(request).await
}
