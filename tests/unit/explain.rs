//! `pullpass explain`, as it is run.

use std::io::Write;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

const REGISTRIES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/registries.yaml");
const API: &str = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/payments/api:1";

fn run(arguments: &[&str], stdin: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_pullpass"))
        .env_clear()
        // No kubeconfig.
        .env("HOME", "/nonexistent")
        .arg("explain")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program can be run");
    // It may end without reading its input; what it printed then tells why.
    drop(
        child
            .stdin
            .take()
            .expect("stdin is piped")
            .write_all(stdin.as_bytes()),
    );
    child.wait_with_output().expect("the program ends")
}

/// The exit code, stdout and stderr.
fn text(arguments: &[&str], stdin: &str) -> (Option<i32>, String, String) {
    let output = run(arguments, stdin);
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("it writes UTF-8");
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

/// The exit code and the rows of `-o json`.
fn rows(arguments: &[&str], stdin: &str) -> (Option<i32>, Vec<Value>) {
    let (code, stdout, stderr) = text(&[&["-o", "json"], arguments].concat(), stdin);
    assert_eq!(stderr, "");
    let report: Value = serde_json::from_str(&stdout).expect("it writes JSON");
    assert_eq!(report.as_object().map(serde_json::Map::len), Some(1));
    (
        code,
        report["images"]
            .as_array()
            .expect("images is a list")
            .clone(),
    )
}

fn file(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(text.as_bytes())
        .expect("the file can be written");
    file
}

fn path(file: &tempfile::NamedTempFile) -> &str {
    file.path().to_str().expect("the path is UTF-8")
}

#[test]
fn prints_stable_row_for_served_image() {
    let (code, rows) = rows(
        &["-f", REGISTRIES, "--namespace-labels", "team=payments", API],
        "",
    );
    assert_eq!(code, Some(0));
    let host = "123456789012.dkr.ecr.eu-west-1.amazonaws.com";
    let expected = json!({
        "image": API,
        "host": host,
        "port": null,
        "path": "payments/api",
        "tag": "1",
        "digest": null,
        "registry": "payments",
        "secret": "pullpass",
        "delivery": "Secret",
        "provider": {
            "kind": "ecr", "account": "123456789012", "region": "eu-west-1", "partition": "aws",
            "public": false, "fips": false, "dualStack": false, "server": null,
        },
        "reason": format!("payments serves it: its pattern {host}/payments covers the image"),
        "clients": format!("Secret pullpass has several logins for {host}: the kubelet, skopeo, buildah and k8schain find the right one, docker, buildx, crane, kaniko, oras and helm take any of them; let them mount an export of format DockerConfig, or the Secret of a Registry with access Push and one login for that host"),
    });
    assert_eq!(rows, [expected]);
}

/// Registries that push, of each kind of source.
const PUSHING: &str = r"
{apiVersion: pullpass.dev/v1alpha1, kind: Registry, metadata: {name: answer}, spec: {access: Push, namespaceSelector: {matchLabels: {team: payments}},
  images: [123456789012.dkr.ecr.eu-west-1.amazonaws.com/payments], ecr: {identity: {node: {}}, tokenLife: Answer}}}
---
{apiVersion: pullpass.dev/v1alpha1, kind: Registry, metadata: {name: chain}, spec: {access: Push, namespaceSelector: {matchLabels: {team: payments}},
  images: [123456789012.dkr.ecr.eu-west-1.amazonaws.com/payments],
  ecr: {identity: {node: {}}, assumeRoles: [{roleArn: 'arn:aws:iam::123456789012:role/push'}]}}}
---
{apiVersion: pullpass.dev/v1alpha1, kind: Registry, metadata: {name: node}, spec: {access: Push, namespaceSelector: {matchLabels: {team: payments}},
  images: [123456789012.dkr.ecr.eu-west-1.amazonaws.com/payments], ecr: {identity: {node: {}}}}}
---
{apiVersion: pullpass.dev/v1alpha1, kind: Registry, metadata: {name: workload}, spec: {access: Push, namespaceSelector: {matchLabels: {team: payments}},
  images: [123456789012.dkr.ecr.eu-west-1.amazonaws.com/payments], ecr: {identity: {workload: {}}}}}
---
{apiVersion: pullpass.dev/v1alpha1, kind: Registry, metadata: {name: azure}, spec: {access: Push, namespaceSelector: {matchLabels: {team: payments}},
  images: [a.azurecr.io], acr: {identity: {workload: {}}}}}
---
{apiVersion: pullpass.dev/v1alpha1, kind: Registry, metadata: {name: hub}, spec: {access: Push, namespaceSelector: {matchLabels: {team: payments}},
  images: [docker.io/team], static: {secretRef: {name: hub}}}}
";

/// What of a mounted login is left at least.
const QUARTER: &str = "at least a quarter of its credential's life left, as long as";

#[test]
fn says_what_builders_mount_and_what_is_left_to_them() {
    let file = file(PUSHING);
    let row_of = |labels: &str, image: &str| {
        let (code, rows) = rows(
            &["-f", path(&file), "--namespace-labels", labels, image],
            "",
        );
        assert_eq!(code, Some(0));
        rows.into_iter().next().expect("a row for the image")
    };
    let of_ecr = vec![
        ("answer", QUARTER),
        ("chain", QUARTER),
        ("node", "may have 5 minutes left"),
        ("workload", "with EKS Pod Identity what the agent leaves"),
    ];
    for (image, expected) in [
        (API, of_ecr),
        ("a.azurecr.io/x", vec![("azure", QUARTER)]),
        ("team/x", vec![("hub", "which does not end by itself")]),
    ] {
        let row = row_of("team=payments", image);
        assert_eq!(row["registry"], json!(null), "no Pod is given it");
        let reason = row["reason"].as_str().expect("text");
        assert!(reason.contains("its access is Push"), "{row}");
        let builders = row["builders"].as_array().expect("a list");
        assert_eq!(builders.len(), expected.len(), "{row}");
        for (builder, (name, left)) in builders.iter().zip(expected) {
            assert_eq!(builder["registry"], name);
            assert_eq!(builder["secret"], format!("pullpass-{name}"));
            let text = builder["left"].as_str().expect("text");
            assert!(text.contains(left), "{builder}");
        }
    }
    let other = row_of("team=orders", API);
    assert_eq!(other["builders"], json!(null), "not of that namespace");
}

#[test]
fn shows_what_builders_mount_beside_what_a_pod_gets() {
    let file = file(PUSHING);
    let labels = ["-f", path(&file), "--namespace-labels", "team=payments"];
    let (_, text, _) = text(&[&labels[..], &["team/x"]].concat(), "");
    let line = "  builders    mount Secret pullpass-hub (Registry hub): a fixed login, which does not end by itself";
    assert!(text.lines().any(|one| one == line), "{text}");
    assert!(text.contains("  Pod gets    nothing\n"), "{text}");
}

#[test]
fn shows_the_exports_of_what_is_for_an_image() {
    let registries = file(
        "{apiVersion: pullpass.dev/v1alpha1, kind: Registry, metadata: {name: charts}, spec: {images: [a.example/charts], namespaceSelector: {}, exports: [{name: user, format: BasicAuth}, {name: argo, format: ArgoCDRepository}], static: {secretRef: {name: a}}}}
---
{apiVersion: pullpass.dev/v1alpha1, kind: Registry, metadata: {name: narrow}, spec: {images: [123456789012.dkr.ecr.eu-west-1.amazonaws.com], serviceAccountNames: [build], namespaceSelector: {}, exports: [{name: file, format: DockerConfig}], ecr: {identity: {node: {}}}}}
---
{apiVersion: pullpass.dev/v1alpha1, kind: Registry, metadata: {name: other}, spec: {images: [b.example], namespaceSelector: {}, exports: [{name: user, format: BasicAuth}], static: {secretRef: {name: a}}}}
",
    );
    let (_, rows) = rows(
        &[
            "-f",
            path(&registries),
            "a.example/charts/app:1",
            "c.example/x",
        ],
        "",
    );
    let left = "a fixed login, which does not end by itself";
    assert_eq!(
        rows[0]["exports"],
        json!([
            {"registry": "charts", "secret": "pullpass-charts.x-argo", "format": "ArgoCDRepository", "left": left},
            {"registry": "charts", "secret": "pullpass-charts.x-user", "format": "BasicAuth", "left": left},
        ])
    );
    assert_eq!(
        rows[0]["secret"], "pullpass",
        "what a Pod gets is no export"
    );
    assert_eq!(rows[1]["exports"], json!(null));
    let (_, text, _) = text(&["-f", path(&registries), "a.example/charts/app:1"], "");
    let line = format!(
        "  exports     Secret pullpass-charts.x-argo (Registry charts): ArgoCDRepository, {left}"
    );
    assert!(text.lines().any(|one| one == line), "{text}");
    // Those of a Registry that chooses among Pods are for the namespace, and say where a session decides how long they last.
    let (_, text, _) = self::text(
        &[
            "-f",
            path(&registries),
            "--service-account",
            "other",
            "123456789012.dkr.ecr.eu-west-1.amazonaws.com/a",
        ],
        "",
    );
    let line = "  exports     Secret pullpass-narrow.x-file (Registry narrow): DockerConfig, the mounted file may have 5 minutes left";
    assert!(text.lines().any(|one| one.starts_with(line)), "{text}");
}

#[test]
fn says_what_host_is_where_no_registry_serves_it() {
    let digest = "sha256:1a3f5e7d9c1b3a5f7e9d1c3b5a7f9e1d3c5b7a9f1e3d5d7c9b1a3f5e7d9c1b3a";
    let images = [
        "ubuntu".to_owned(),
        format!("myreg.westeurope.geo.azurecr.cn/app@{digest}"),
        "public.ecr.aws/nginx/nginx:1".to_owned(),
        "127.0.0.1:5000/app".to_owned(),
    ];
    let (code, rows) = rows(&images.each_ref().map(String::as_str), "");
    assert_eq!(code, Some(0));
    assert!(rows.iter().all(|row| row["registry"].is_null()));
    assert_eq!(
        (&rows[0]["host"], &rows[0]["path"], &rows[0]["provider"]),
        (&json!("docker.io"), &json!("library/ubuntu"), &json!(null))
    );
    assert_eq!(rows[1]["digest"], digest);
    let provider = &rows[1]["provider"];
    assert_eq!(provider["kind"], "acr");
    assert_eq!(provider["server"], "myreg.westeurope.geo.azurecr.cn");
    assert_eq!(
        (&provider["region"], &provider["partition"]),
        (&json!("westeurope"), &json!("China"))
    );
    assert_eq!(
        (&rows[2]["provider"]["kind"], &rows[2]["provider"]["public"]),
        (&json!("ecr"), &json!(true))
    );
    assert_eq!(
        (&rows[3]["host"], &rows[3]["port"]),
        (&json!("127.0.0.1"), &json!("5000"))
    );
}

/// F14: nobody serves it, and it is said why.
#[test]
fn explains_an_image_whose_host_names_the_usual_port() {
    let image = "harbor.example.com:443/library/app";
    let (code, rows) = rows(&["-f", REGISTRIES, image], "");
    assert_eq!(code, Some(0));
    assert!(rows[0]["registry"].is_null());
    let reason = rows[0]["reason"].as_str().expect("a reason");
    println!("{reason}");
    for words in ["harbor: its pattern", "ports as text", "without :443"] {
        assert!(reason.contains(words), "{reason}");
    }
}

#[test]
fn exits_with_1_and_an_error_in_the_row_of_an_unreadable_image() {
    let (code, rows) = rows(&["ubuntu", "App", "https://example.com/x"], "");
    assert_eq!(code, Some(1));
    assert!(rows[0].get("error").is_none());
    assert_eq!(
        rows[1]["error"],
        "the repository has upper-case letters: write it in lower case"
    );
    assert!(rows[2]["error"].is_string() && rows[2]["registry"].is_null());
    let (code, stdout, _) = text(&["App"], "");
    assert_eq!(code, Some(1));
    assert!(stdout.contains("unreadable  the repository has upper-case letters"));
}

#[test]
fn reads_list_on_stdin() {
    let (code, rows) = rows(
        &["-f", REGISTRIES, "first", "-"],
        &format!("{API}\n\n  harbor.example.com/library/app \r\n"),
    );
    assert_eq!(code, Some(0));
    let images: Vec<_> = rows
        .iter()
        .map(|row| row["image"].as_str().expect("a text"))
        .collect();
    assert_eq!(images, ["first", API, "harbor.example.com/library/app"]);
    assert_eq!(rows[2]["registry"], "harbor");
}

#[test]
fn judges_by_the_namespace_that_is_named() {
    let registry =
        |arguments: &[&str]| rows(&[&["-f", REGISTRIES], arguments].concat(), "").1[0].clone();
    assert_eq!(registry(&[API])["registry"], "payments");
    assert_eq!(
        registry(&["--namespace-labels", "team=search", API])["registry"],
        json!(null)
    );
    let reason = registry(&["--namespace-labels", "team=search", API])["reason"].to_string();
    assert!(
        reason.contains("payments: it does not serve the namespace: it selects team=payments"),
        "{reason}"
    );
    assert!(reason.contains("platform: it excludes"), "{reason}");
    let harbor = [
        "--namespace-labels",
        "tier=canary",
        "harbor.example.com/library/x",
    ];
    assert_eq!(registry(&harbor)["registry"], "harbor");
    let namespaces =
        file("apiVersion: v1\nkind: Namespace\nmetadata: {name: shop, labels: {team: payments}}\n");
    assert_eq!(
        registry(&["-f", path(&namespaces), "--namespace", "shop", API])["registry"],
        "payments"
    );
    // Also as `kubectl get namespaces -o yaml` prints it, with all that an API server adds.
    let list = file(
        "{apiVersion: v1, kind: List, items: [{apiVersion: v1, kind: Namespace, metadata: {name: shop, uid: u, labels: {team: search}},
          spec: {finalizers: [kubernetes]}, status: {phase: Active}}, {apiVersion: v1, kind: Namespace, metadata: {name: bare}}]}",
    );
    for namespace in ["shop", "bare"] {
        assert_eq!(
            registry(&["-f", path(&list), "-n", namespace, API])["registry"],
            json!(null),
            "{namespace}"
        );
    }
}

#[test]
fn says_that_it_does_not_know_labels_of_the_namespace() {
    let arguments = ["-f", REGISTRIES, "-n", "other", API];
    let (code, stdout, stderr) = text(&arguments, "");
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    assert!(
        stdout.contains(
            "Whether namespace other opted in, and which Registries serve it, is not known"
        ),
        "{stdout}"
    );
    assert!(!stdout.contains("has not opted in"), "{stdout}");
}

#[test]
fn names_the_way_to_a_kubeconfig_where_a_context_has_none() {
    let (code, _, stderr) = text(&["--context", "production", API], "");
    assert_eq!(code, Some(2));
    assert!(
        stderr.contains("production") && stderr.contains("--kubeconfig"),
        "{stderr}"
    );
}

#[test]
fn explains_precedence_suspension_and_case() {
    let registries = file(
        "
{apiVersion: pullpass.dev/v1alpha1, kind: Registry, metadata: {name: wide}, spec: {images: [\"*.example.com\"], namespaceSelector: {}, static: {secretRef: {name: a}}}}
---
{apiVersion: pullpass.dev/v1alpha1, kind: Registry, metadata: {name: host}, spec: {images: [a.example.com], namespaceSelector: {}, static: {secretRef: {name: a}}}}
---
{apiVersion: pullpass.dev/v1alpha1, kind: Registry, metadata: {name: narrow}, spec: {images: [a.example.com], namespaceSelector: {matchLabels: {a: b}}, static: {secretRef: {name: a}}}}
---
{apiVersion: pullpass.dev/v1alpha1, kind: Registry, metadata: {name: resting}, spec: {images: [a.example.com/x], namespaceSelector: {}, static: {secretRef: {name: a}}, suspend: true}}
",
    );
    let (code, stdout, stderr) = text(
        &[
            "-f",
            path(&registries),
            "--namespace-labels",
            "a=b",
            "a.example.com/x",
        ],
        "",
    );
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    for line in [
        "verdict     narrow serves it: its pattern a.example.com covers the image",
        "host: narrow comes first: it selects namespaces, this one serves all",
        "wide: narrow comes first: its pattern a.example.com comes before *.example.com",
        "resting: it is suspended",
        "Pod gets    the pull secret pullpass (key a.example.com), once its namespace opted in",
        "The namespace has not opted in",
    ] {
        assert!(stdout.contains(line), "{line:?} is not in:\n{stdout}");
    }
    let (_, stdout, _) = text(&["-f", path(&registries), "A.example.com:443/x"], "");
    assert!(stdout.contains("no Registry serves it"), "{stdout}");
    let (_, stdout, _) = text(&["-f", REGISTRIES, "HARBOR.example.com/library/x"], "");
    assert!(
        stdout.contains("harbor: its pattern harbor.example.com/library is in lower case"),
        "{stdout}"
    );
}

#[test]
fn says_what_pod_gets() {
    let pod = format!(
        "
apiVersion: v1
kind: Pod
metadata: {{name: p, namespace: shop}}
spec:
  serviceAccountName: ci
  initContainers: [{{name: i, image: ubuntu}}]
  containers: [{{name: c, image: '{API}'}}]
"
    );
    let pod = file(&pod);
    let arguments = [
        "-f",
        REGISTRIES,
        "--namespace-labels",
        "team=payments,pullpass.dev/inject=enabled",
        "--pod",
        path(&pod),
    ];
    let (code, stdout, stderr) = text(&arguments, "");
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    for line in [
        "ubuntu  (spec.initContainers[0].image)",
        "(spec.containers[0].image)",
        "the annotation iam.amazonaws.com/role=image-puller",
        "Pod of ServiceAccount ci in namespace shop.",
        "Anyone who may create Pods in a namespace that payments serves gets what it injects.",
    ] {
        assert!(stdout.contains(line), "{line:?} is not in:\n{stdout}");
    }
    assert!(!stdout.contains("has not opted in"), "{stdout}");
    let (_, stdout, _) = text(
        &[
            &arguments[..],
            &["--pod-labels", "pullpass.dev/inject=disabled"],
        ]
        .concat(),
        "",
    );
    assert!(
        stdout.contains("Pod gets    nothing: its label opts out"),
        "{stdout}"
    );
}

#[test]
fn names_file_line_and_field_of_what_is_wrong() {
    let head = "apiVersion: pullpass.dev/v1alpha1\nkind: Registry\nmetadata: {name: a}\n";
    let rows = [
        (
            "spec:\n  images: [a.example.com]\n  imagez: []\n  namespaceSelector: {}\n",
            ":6: spec.imagez: ",
        ),
        (
            "spec:\n  images: [a.example.com, 'https://b']\n  namespaceSelector: {}\n  static: {secretRef: {name: a}}\n",
            ":5: spec.images[1]: ",
        ),
        (
            "spec:\n  images: [a.example.com]\n  namespaceSelector: {}\n",
            ":4: spec: has none of ecr, acr and static",
        ),
        ("spec: [\n", ":"),
        ("spec: {}\nspec: {}\n", ":5: spec: "),
    ];
    for (spec, expected) in rows {
        let file = file(&format!("{head}{spec}"));
        let (code, stdout, stderr) = text(&["-f", path(&file), "ubuntu"], "");
        assert_eq!((code, stdout.as_str()), (Some(2), ""), "{spec}");
        assert!(
            stderr.contains(&format!("{}{expected}", path(&file))),
            "{expected:?} is not in:\n{stderr}"
        );
    }
    let second = format!("---\n# nothing\n---\n{head}spec: {{}}\n");
    let file = file(&second);
    let (_, _, stderr) = text(&["-f", path(&file), "ubuntu"], "");
    assert!(stderr.contains(":7: spec: "), "{stderr}");
    let (code, _, stderr) = text(&["-f", "/nowhere.yaml", "ubuntu"], "");
    assert_eq!(code, Some(2));
    assert!(stderr.contains("/nowhere.yaml: No such file"), "{stderr}");
}

#[test]
fn takes_what_kubectl_prints() {
    let list = format!(
        "apiVersion: v1\nkind: List\nitems:\n- {}\n",
        "{apiVersion: pullpass.dev/v1alpha1, kind: Registry, metadata: {name: a, uid: x, generation: 1, creationTimestamp: \"2026-01-01T00:00:00Z\", managedFields: []}, spec: {images: [a.example.com], namespaceSelector: {}, static: {secretRef: {name: a}}}}"
    );
    let (code, rows) = rows(&["-f", "-", "a.example.com/x"], &list);
    assert_eq!(code, Some(0));
    assert_eq!(rows[0]["registry"], "a");
}

#[test]
fn refuses_arguments_that_make_no_sense() {
    for arguments in [
        &[][..],
        &["-f", "-", "-"],
        &["--namespace-labels", "a b=c", "x"],
        &["--namespace-labels", "a", "x"],
        &["--pod", "x", "y"],
    ] {
        let (code, stdout, stderr) = text(arguments, "");
        assert_eq!(code, Some(2), "{arguments:?}");
        assert_eq!(stdout, "", "{arguments:?}");
        assert!(stderr.starts_with("error: "), "{stderr}");
    }
}

/// Whatever its labels say, and by the same names as `serve` is given.
#[test]
fn says_that_a_namespace_is_excluded() {
    let opted_in = "team=payments,pullpass.dev/inject=enabled";
    let run = |namespace: &str| {
        let arguments = [
            "-f",
            REGISTRIES,
            "--exclude-namespaces",
            "infra,other",
            "--namespace-labels",
            opted_in,
            "--namespace",
            namespace,
            API,
        ];
        let (code, stdout, stderr) = text(&arguments, "");
        assert_eq!((code, stderr.as_str()), (Some(0), ""));
        stdout
    };
    for namespace in ["infra", "other", "kube-system", "pullpass"] {
        let told = run(namespace);
        for line in [
            "Pod gets    nothing: its namespace is excluded",
            "The namespace is excluded:",
        ] {
            assert!(
                told.contains(line),
                "{namespace}: {line:?} is not in:\n{told}"
            );
        }
    }
    let told = run("shop");
    assert!(told.contains("Pod gets    the pull secret"), "{told}");
    assert!(!told.contains("excluded"), "{told}");
}
