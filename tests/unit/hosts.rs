//! What a registry's host says of itself, and that look-alikes say nothing.

use pullpass::image::Reference;
use pullpass::registry::{Host, PodSubject, Registries, Registry, Why};
use serde_json::{Value, json};

/// A host in the table's form.
fn describe(host: &str) -> Value {
    match Host::recognise(host) {
        Some(Host::Ecr(ecr)) => json!({
            "host": host,
            "kind": "ecr",
            "account": ecr.account,
            "region": ecr.region,
            "partition": ecr.partition.name(),
            "fips": ecr.fips,
            "dualStack": ecr.dual_stack,
        }),
        Some(Host::EcrPublic { dual_stack }) => {
            json!({"host": host, "kind": "ecrPublic", "dualStack": dual_stack})
        }
        Some(Host::Acr(acr)) => {
            assert_eq!(acr.server, host);
            json!({"host": host, "kind": "acr", "cloud": acr.cloud.name(), "region": acr.region})
        }
        Some(Host::AcrData) => json!({"host": host, "kind": "acrData"}),
        None => json!({"host": host, "kind": null}),
    }
}

#[test]
fn recognises_hosts_of_the_table_and_no_look_alike() {
    let rows: Vec<Value> =
        serde_json::from_str(include_str!("../data/hosts.json")).expect("the table is JSON");
    assert!(rows.len() >= 120, "the table lost rows: {}", rows.len());
    for row in rows {
        assert_eq!(
            describe(row["host"].as_str().expect("each row has a host")),
            row
        );
    }
}

#[test]
fn takes_wildcard_for_an_account_in_patterns_alone() {
    let pattern = "*.dkr.ecr.eu-west-1.amazonaws.com";
    assert!(matches!(Host::recognise_pattern(pattern), Some(Host::Ecr(ecr)) if ecr.account == "*"));
    for other in [
        "123456789012.dkr.ecr.*.amazonaws.com",
        "*.azurecr.io",
        "*.ecr.aws",
        "*.*.dkr.ecr.eu-west-1.amazonaws.com",
    ] {
        assert_eq!(Host::recognise_pattern(other), None, "{other}");
    }
}

/// F14: where only one of image and pattern names the usual port, nobody serves the image, and it is said why.
#[test]
fn explains_that_the_usual_port_is_compared_as_text() {
    let registries = |pattern: &str| {
        let yaml = format!(
            "{{apiVersion: pullpass.dev/v1alpha1, kind: Registry, metadata: {{name: one}}, spec: {{images: ['{pattern}'], namespaceSelector: {{}}, acr: {{identity: {{workload: {{}}}}}}}}}}"
        );
        Registries::build([serde_saphyr::from_str::<Registry>(&yaml).expect("it is YAML")])
    };
    let (plain, named) = ("contoso.azurecr.io", "contoso.azurecr.io:443");
    for (pattern, image, is_served, is_near) in [
        (plain, "contoso.azurecr.io:443/a", false, true),
        (named, "contoso.azurecr.io/a", false, true),
        (named, "contoso.azurecr.io:443/a", true, false),
        (plain, "contoso.azurecr.io/a", true, false),
        (plain, "contoso.azurecr.io:8443/a", false, false),
        (plain, "fabrikam.azurecr.io:443/a", false, false),
    ] {
        let registries = registries(pattern);
        let reference = Reference::parse(image).expect("it is an image");
        let explanation = registries.explain(PodSubject::default(), &reference);
        assert_eq!(
            explanation.resolved.is_some(),
            is_served,
            "{pattern} {image}"
        );
        let why = explanation.matches[0].why;
        assert_eq!(
            matches!(why, Why::UsualPort { .. }),
            is_near,
            "{pattern} {image}: {why:?}"
        );
    }
}

/// F14: 443 is the usual port; an image that names it is served by a pattern that does.
#[test]
fn serves_hosts_of_clouds_with_the_usual_port_alone() {
    let problems = |provider: &str, image: &str| {
        let yaml = format!(
            "{{apiVersion: pullpass.dev/v1alpha1, kind: Registry, metadata: {{name: one}}, spec: {{images: ['{image}'], namespaceSelector: {{}}, {provider}: {{identity: {{workload: {{}}}}}}}}}}"
        );
        let registry: Registry = serde_saphyr::from_str(&yaml).expect("it is YAML");
        let registries = Registries::build([registry]);
        let problems = registries.problems().iter();
        let texts = problems.map(|problem| format!("{problem:?}"));
        texts.collect::<Vec<_>>().join("; ")
    };
    assert_eq!(problems("acr", "contoso.azurecr.io:443/a"), "");
    let ecr = "123456789012.dkr.ecr.eu-west-1.amazonaws.com:443/a";
    assert_eq!(problems("ecr", ecr), "");
    let other = problems("acr", "contoso.azurecr.io:8443/a");
    assert!(other.contains("a port other than 443"), "{other}");
}
