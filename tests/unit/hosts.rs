//! What a registry's host says of itself, and that look-alikes say nothing.

use pullpass::registry::Host;
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
