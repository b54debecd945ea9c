//! The chart of Registries: what it makes of them, and that their rights are those that `pullpass rbac` prints.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use serde_json::{Map, Value, json};
use tempfile::TempDir;

use super::support::bed::{Bed, program, succeed};
use super::support::cluster::{Cluster, read_yaml};
use super::support::wait;
use super::{helm, manifests, parse, run};

/// The ClusterRoles are found by it, whoever made them.
const LABEL: &str = "app.kubernetes.io/name=pullpass-registries";

fn chart() -> String {
    let chart = manifests().join("chart-registries");
    chart.to_str().unwrap().to_owned()
}

/// All Registries of the examples, by their names.
fn examples() -> BTreeMap<String, Value> {
    let folder = manifests().join("../examples");
    let files = std::fs::read_dir(folder).unwrap();
    let objects = files.flat_map(|file| read_yaml(file.unwrap().path()));
    let registries = objects.filter(|object| object["kind"] == "Registry");
    let named = registries.map(|object| {
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        (name, object["spec"].clone())
    });
    named.collect()
}

/// A Registry's spec for the images of a host, with `rest`.
fn with_images(host: &str, rest: &Value) -> Value {
    let mut spec = json!({"images": [host], "namespaceSelector": {}});
    let fields = spec.as_object_mut().unwrap();
    fields.append(&mut rest.as_object().unwrap().clone());
    spec
}

/// Further ones, at the borders of what needs rights.
fn borders() -> BTreeMap<String, Value> {
    let ecr = |identity: Value| json!({"identity": identity});
    let host = "123456789012.dkr.ecr.eu-west-1.amazonaws.com";
    let other = "210987654321.dkr.ecr.us-east-1.amazonaws.com";
    let registry = |rest: Value| with_images(host, &rest);
    let named = [
        (
            "no-accounts",
            registry(json!({"serviceAccountNames": [], "ecr": ecr(json!({"workload": {}}))})),
        ),
        (
            "both",
            registry(json!({
                "images": [host, other], "serviceAccountNames": ["ci", "cd"],
                "ecr": ecr(json!({"serviceAccount": {"name": "123", "fromAnnotations": true}})),
            })),
        ),
        (
            "1",
            registry(
                json!({"images": ["contoso.azurecr.io"], "acr": {"identity": {"serviceAccount": {"name": "a.b", "fromAnnotations": true}}}}),
            ),
        ),
        (
            "rests",
            registry(
                json!({"suspend": true, "podSelector": {"matchLabels": {"a": "b"}}, "ecr": ecr(json!({"node": {}}))}),
            ),
        ),
    ];
    named.map(|(name, spec)| (name.to_owned(), spec)).into()
}

/// The same with exports, beside a Secret of the Registry's own and without.
fn exporting() -> BTreeMap<String, Value> {
    let registry = |exports: Value, accounts: Value| {
        json!({
            "images": ["123456789012.dkr.ecr.eu-west-1.amazonaws.com"], "namespaceSelector": {},
            "exports": exports, "serviceAccountNames": accounts, "ecr": {"identity": {"workload": {}}},
        })
    };
    let two = json!([{"name": "user", "format": "BasicAuth"}, {"name": "argo", "format": "ArgoCDRepository"}]);
    let one = json!([{"name": "file", "format": "DockerConfig"}]);
    let named = [
        ("exports", registry(two, json!([]))),
        ("narrow-exports", registry(one, json!(["ci"]))),
        ("no-exports", registry(json!([]), json!([]))),
    ];
    named.map(|(name, spec)| (name.to_owned(), spec)).into()
}

fn all() -> BTreeMap<String, Value> {
    let more = borders().into_iter().chain(exporting());
    examples().into_iter().chain(more).collect()
}

/// What the chart makes of these Registries, and further settings.
fn render(registries: &BTreeMap<String, Value>, settings: &[&str]) -> Vec<Value> {
    let home = tempfile::tempdir().unwrap();
    let values = write_values(&home, registries);
    let mut command = helm(&home, &["template", "team", &chart(), "--values", &values]);
    for setting in settings {
        command.args(["--set", setting]);
    }
    parse(&succeed(&mut command))
}

fn write_values(home: &TempDir, registries: &BTreeMap<String, Value>) -> String {
    let file = home.path().join("values.json");
    std::fs::write(&file, json!({"registries": registries}).to_string()).unwrap();
    file.to_str().unwrap().to_owned()
}

/// The same Registries as objects in a file.
fn write_objects(home: &TempDir, registries: &BTreeMap<String, Value>) -> String {
    let object = |(name, spec): (&String, &Value)| json!({"apiVersion": "pullpass.dev/v1alpha1", "kind": "Registry", "metadata": {"name": name}, "spec": spec});
    let items: Vec<Value> = registries.iter().map(object).collect();
    let file = home.path().join("registries.json");
    let list = json!({"apiVersion": "v1", "kind": "List", "items": items});
    std::fs::write(&file, list.to_string()).unwrap();
    file.to_str().unwrap().to_owned()
}

/// What `pullpass rbac` prints for these Registries.
fn printed(registries: &BTreeMap<String, Value>) -> Vec<Value> {
    let home = tempfile::tempdir().unwrap();
    let file = write_objects(&home, registries);
    let mut command = Command::new(env!("CARGO_BIN_EXE_pullpass"));
    let text = succeed(command.args(["rbac", "-o", "json", "-f", &file]));
    let list: Value = serde_json::from_str(&text).unwrap();
    list["items"].as_array().unwrap().clone()
}

/// Those of one kind, by name.
fn by_name<'a>(objects: &'a [Value], kind: &str) -> BTreeMap<&'a str, &'a Value> {
    let wanted = objects.iter().filter(|object| object["kind"] == kind);
    wanted
        .map(|object| (object["metadata"]["name"].as_str().unwrap(), object))
        .collect()
}

#[test]
fn gives_the_rights_that_pullpass_rbac_prints() {
    let registries = all();
    let (rendered, printed) = (render(&registries, &[]), printed(&registries));
    let (rendered, printed) = (
        by_name(&rendered, "ClusterRole"),
        by_name(&printed, "ClusterRole"),
    );
    assert!(printed.len() > 5, "{:?}", printed.keys());
    assert_eq!(
        rendered.keys().collect::<Vec<_>>(),
        printed.keys().collect::<Vec<_>>()
    );
    for (name, role) in printed {
        assert_eq!(rendered[name]["rules"], role["rules"], "{name}");
        let given = rendered[name]["metadata"]["labels"].as_object().unwrap();
        for (key, value) in role["metadata"]["labels"].as_object().unwrap() {
            assert_eq!(given.get(key), Some(value), "{name}: {key}");
        }
    }
}

#[test]
fn holds_the_registries_as_they_are_written() {
    let registries = all();
    let rendered = render(&registries, &["annotations.owner=payments"]);
    let rendered = by_name(&rendered, "Registry");
    assert_eq!(rendered.len(), registries.len());
    for (name, spec) in &registries {
        assert_eq!(&rendered[name.as_str()]["spec"], spec, "{name}");
        let annotations = &rendered[name.as_str()]["metadata"]["annotations"];
        assert_eq!(annotations, &json!({"owner": "payments"}), "{name}");
    }
}

#[test]
fn labels_every_object_of_registries() {
    let settings = ["commonLabels.team=a", "global.commonLabels.stage=b"];
    for object in render(&all(), &settings) {
        let labels = &object["metadata"]["labels"];
        for (key, value) in [
            ("app.kubernetes.io/name", "pullpass-registries"),
            ("app.kubernetes.io/instance", "team"),
            ("app.kubernetes.io/part-of", "pullpass"),
            ("app.kubernetes.io/managed-by", "Helm"),
            ("team", "a"),
            ("stage", "b"),
        ] {
            assert_eq!(labels[key], value, "{}: {key}", object["metadata"]["name"]);
        }
    }
}

#[test]
fn leaves_out_what_is_not_wanted() {
    let narrow = borders();
    let roles = |settings: &[&str]| by_name(&render(&narrow, settings), "ClusterRole").len();
    assert_eq!(roles(&["rbac.create=false"]), 0);
    assert_eq!(roles(&["registries.both=null"]), roles(&[]) - 1);
    let kept = render(&narrow, &["rbac.keep=true"]);
    for (name, role) in by_name(&kept, "ClusterRole") {
        let policy = &role["metadata"]["annotations"]["helm.sh/resource-policy"];
        assert_eq!(policy, "keep", "{name}");
    }
    assert_eq!(render(&BTreeMap::new(), &[]), [json!(null); 0]);
}

/// An export that its Registry has no more is pullpass' to remove.
#[test]
fn keeps_the_rights_to_secrets_that_are_to_be_removed() {
    let secret = "pullpass-no-accounts.x-gone";
    let setting = format!("rbac.keepSecrets.no-accounts={{{secret}}}");
    let rendered = render(&borders(), &[&setting]);
    let roles = by_name(&rendered, "ClusterRole").into_iter();
    let names: Vec<_> = roles
        .filter(|(_, role)| role["rules"].to_string().contains(secret))
        .map(|(name, _)| name)
        .collect();
    assert_eq!(names, ["pullpass-registry-no-accounts"]);
}

/// What the API server would refuse later, with words about another place.
#[test]
fn refuses_values_that_are_no_registries() {
    let home = tempfile::tempdir().unwrap();
    for (setting, said) in [
        ("registries.a.images={x}", "namespaceSelector"),
        ("registries.a.image=x", "image"),
        ("registries.Upper.images={x}", "Upper"),
        (r"registries.a\.b.images={x}", "a.b"),
        ("registry.a=x", "registry"),
    ] {
        let output = run(helm(&home, &["template", "team", &chart()]).args(["--set", setting]));
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            !output.status.success() && stderr.contains(said),
            "{setting}: {stderr}"
        );
    }
}

/// A field that the kind gets is one that the chart takes.
#[test]
fn knows_the_fields_that_the_kind_has() {
    let kind = read_yaml(manifests().join("crd.yaml")).remove(0);
    let place = "/spec/versions/0/schema/openAPIV3Schema/properties/spec";
    let spec = kind.pointer(place).unwrap();
    let schema = std::fs::read(Path::new(&chart()).join("values.schema.json")).unwrap();
    let schema: Value = serde_json::from_slice(&schema).unwrap();
    let known = &schema["definitions"]["registry"];
    let names = |of: &Value| {
        let properties: &Map<String, Value> = of["properties"].as_object().unwrap();
        properties
            .keys()
            .cloned()
            .collect::<std::collections::BTreeSet<_>>()
    };
    assert_eq!(names(known), names(spec));
    assert_eq!(known["required"], spec["required"]);
}

/// Installed, upgraded, rolled back and uninstalled by Helm on a real API server; and removed where `pullpass rbac` was applied.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[allow(
    clippy::too_many_lines,
    reason = "one installation, told from its beginning to its end"
)]
async fn comes_and_goes_without_leaving_anything() {
    let api = Bed::start("api", &[]);
    let kubeconfig = api.field("kubeconfig").to_owned();
    let cluster = Cluster::connect(&kubeconfig).await;
    cluster.apply_file(manifests().join("crd.yaml")).await;
    wait::until("the Registry kind", async || {
        let path = "/apis/pullpass.dev/v1alpha1/registries";
        let answer = cluster.send("GET", path, None).await;
        answer.status.is_success().then_some(())
    })
    .await;
    let home = tempfile::tempdir().unwrap();
    let by_tool = |tool: &str, arguments: &[&str]| {
        let mut command = Command::new(program(tool));
        command.args(arguments).env_clear().env("HOME", home.path());
        succeed(command.env("KUBECONFIG", &kubeconfig))
    };
    let kubectl = |arguments: &[&str]| {
        let mut command = Command::new(program("kubectl"));
        succeed(command.args(["--kubeconfig", &kubeconfig]).args(arguments))
    };
    let there = |what: &str| {
        let found = kubectl(&["get", what, "-l", LABEL, "-o", "name"]);
        found.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let registries = all();
    let values = write_values(&home, &registries);
    let printed = printed(&registries).len();
    for tool in ["helm", "helm3"] {
        let helm = |arguments: &[&str]| by_tool(tool, arguments);
        let install = [
            "install",
            "team",
            &chart(),
            "--namespace",
            "default",
            "--values",
            &values,
        ];
        let said = helm(&install);
        assert!(
            said.contains("kubectl wait registries") && said.contains("rbac.keep=true"),
            "{said}"
        );
        assert_eq!(there("registries").len(), registries.len());
        assert_eq!(there("clusterroles").len(), printed);

        // One goes and comes back.
        let upgrade = [
            "upgrade",
            "team",
            &chart(),
            "--namespace",
            "default",
            "--values",
            &values,
            "--set",
            "registries.both=null",
        ];
        helm(&upgrade);
        assert_eq!(there("registries").len(), registries.len() - 1);
        assert_eq!(there("clusterroles").len(), printed - 1);
        helm(&["rollback", "team", "1", "--namespace", "default"]);
        assert_eq!(there("clusterroles").len(), printed);
        helm(&["uninstall", "team", "--namespace", "default"]);
        assert_eq!(there("registries"), [""; 0]);
        assert_eq!(there("clusterroles"), [""; 0]);
    }

    // As Flux and Argo CD do.
    let objects = render(&registries, &[]);
    for object in &objects {
        cluster.apply(object).await;
    }
    assert_eq!(there("clusterroles").len(), printed);
    kubectl(&["delete", "clusterroles,registries", "-l", LABEL]);

    // Without Helm: a Registry's rights go when it is gone.
    let apply = |registries: &BTreeMap<String, Value>| {
        let text = json!({"apiVersion": "v1", "kind": "List", "items": self::printed(registries)});
        let file = home.path().join("rbac.json");
        std::fs::write(&file, text.to_string()).unwrap();
        let allowed = "--prune-allowlist=rbac.authorization.k8s.io/v1/ClusterRole";
        kubectl(&[
            "apply",
            "--prune",
            "-l",
            LABEL,
            allowed,
            "-f",
            file.to_str().unwrap(),
        ]);
    };
    apply(&registries);
    assert_eq!(there("clusterroles").len(), printed);
    let mut fewer = registries.clone();
    fewer.remove("both").unwrap();
    apply(&fewer);
    assert_eq!(there("clusterroles").len(), printed - 1);
    kubectl(&[
        "delete",
        "clusterroles",
        "-l",
        "app.kubernetes.io/part-of=pullpass",
    ]);
    assert_eq!(there("clusterroles"), [""; 0]);
}
