//! Each value of the chart does what its comment says: tests/data/chart_values.yaml.

use serde::Deserialize;
use serde_json::Value;

use super::support::bed::succeed;
use super::{manifests, parse, read_yaml, template};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    /// What is set.
    set: Vec<String>,
    /// KIND, or KIND/NAME where there are several of a kind.
    object: String,
    /// Where in the object, a JSON pointer.
    #[serde(default)]
    at: String,
    /// What is there then; null where nothing is, also where there is no such object.
    is: Value,
}

fn find<'a>(objects: &'a [Value], wanted: &str) -> Option<&'a Value> {
    let (kind, name) = wanted.split_once('/').unwrap_or((wanted, ""));
    objects.iter().find(|object| {
        object["kind"] == kind && (name.is_empty() || object["metadata"]["name"] == name)
    })
}

#[test]
fn renders_each_value_as_its_row_says() {
    let rows = manifests().join("../tests/data/chart_values.yaml");
    let rows: Vec<Row> = serde_json::from_value(read_yaml(rows).remove(0)).unwrap();
    assert!(rows.len() > 30);
    for row in rows {
        let settings: Vec<&str> = row.set.iter().map(String::as_str).collect();
        let objects = parse(&succeed(&mut template(&settings)));
        let object = find(&objects, &row.object);
        let found = object.and_then(|object| object.pointer(&row.at));
        assert_eq!(
            found.unwrap_or(&Value::Null),
            &row.is,
            "{:?}: {}{}",
            row.set,
            row.object,
            row.at
        );
    }
}

/// Every object can be found and deleted by its labels, and carries those of the user.
#[test]
fn labels_every_object() {
    let rendered = succeed(&mut template(&[
        "commonLabels.team=platform",
        "global.commonLabels.stage=production",
        "commonLabels.app\\.kubernetes\\.io/name=mine",
        "namespace.create=true",
        "certificates.mode=cert-manager",
        "serviceMonitor.enabled=true",
        "prometheusRule.enabled=true",
        "grafanaDashboard.enabled=true",
    ]));
    let objects = parse(&rendered);
    assert!(objects.len() > 30, "{}", objects.len());
    for object in objects {
        let labels = &object["metadata"]["labels"];
        let name = &object["metadata"]["name"];
        for (key, value) in [
            ("app.kubernetes.io/name", "pullpass"),
            ("app.kubernetes.io/instance", "pullpass"),
            ("app.kubernetes.io/part-of", "pullpass"),
            ("app.kubernetes.io/managed-by", "Helm"),
            ("team", "platform"),
            ("stage", "production"),
        ] {
            assert_eq!(labels[key], value, "{} {name}: {key}", object["kind"]);
        }
        assert!(labels["helm.sh/chart"].is_string(), "{name}");
    }
}
