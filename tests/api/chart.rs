//! The chart and what is rendered from it, by real Helm, against a real API server.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot be set up has failed"
)]

mod install;
mod registries;
mod schemas;
mod values;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::support;
use base64::Engine as _;
use serde_json::{Value, json};
use support::bed::{self, Bed, program, succeed};
use support::cluster::read_yaml;
use support::manifests::of_document;
use tempfile::TempDir;

/// What is rendered, below `manifests/`.
const RENDERED: [&str; 5] = [
    "install.yaml",
    "base/install.yaml",
    "rbac.yaml",
    "webhook.yaml",
    "components/cert-manager/certificate.yaml",
];

/// Kinds that other projects define, whose schemas are not the API server's.
const FOREIGN: [&str; 4] = ["Certificate", "Issuer", "PrometheusRule", "ServiceMonitor"];

fn manifests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests")
}

fn run(command: &mut Command) -> Output {
    let output = command.output();
    output.unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

fn kubectl(arguments: &[&str]) -> String {
    let mut command = Command::new(program("kubectl"));
    succeed(
        command
            .args(["--kubeconfig", bed::shared_api()])
            .args(arguments),
    )
}

/// Helm with a home of its own.
fn helm(home: &TempDir, arguments: &[&str]) -> Command {
    let mut command = Command::new(program("helm"));
    command
        .args(arguments)
        .env_clear()
        .env("HOME", home.path())
        .env("KUBECONFIG", bed::shared_api());
    command
}

fn chart() -> String {
    manifests().join("chart").to_str().unwrap().to_owned()
}

/// The chart with these settings, on top of an image.
fn template(settings: &[&str]) -> Command {
    let home = tempfile::tempdir().unwrap();
    let chart = chart();
    let mut command = helm(&home, &["template", "pullpass", &chart]);
    command.args(["--namespace", "pullpass"]);
    command.args(["--set", "image.repository=registry.example.com/pullpass"]);
    for setting in settings {
        command.args(["--set", setting]);
    }
    command
}

fn parse(text: &str) -> Vec<Value> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(text).unwrap();
    documents
        .into_iter()
        .filter(|object| !object.is_null())
        .collect()
}

/// The image of the Deployment among these.
fn image(objects: &[Value]) -> &str {
    let deployment = objects.iter().find(|object| object["kind"] == "Deployment");
    let containers = &deployment.unwrap()["spec"]["template"]["spec"]["containers"];
    containers[0]["image"].as_str().unwrap()
}

#[test]
fn renders_the_manifests_that_are_committed() {
    let folder = tempfile::tempdir().unwrap();
    let committed = read_yaml(manifests().join("install.yaml"));
    let mut render = Command::new(manifests().join("render.sh"));
    render.arg(program("helm")).arg(folder.path());
    succeed(render.arg(image(&committed)));
    for file in RENDERED {
        let rendered = std::fs::read_to_string(folder.path().join(file)).unwrap();
        let committed = std::fs::read_to_string(manifests().join(file)).unwrap();
        assert!(
            rendered == committed,
            "manifests/{file} is stale: run `make manifests`"
        );
    }
}

/// Flux leaves links out when it packs a chart from Git, and a checkout on Windows makes texts of them.
#[test]
fn holds_files_and_no_links() {
    let mut folders = vec![manifests()];
    let mut files = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let kind = entry.file_type().unwrap();
            assert!(!kind.is_symlink(), "{} is a link", entry.path().display());
            files += usize::from(kind.is_file());
            if kind.is_dir() {
                folders.push(entry.path());
            }
        }
    }
    assert!(files > 20, "{files}");
}

/// `crd.yaml` itself is compared with the code by a test of its own.
#[test]
fn brings_the_kind_that_is_applied_without_it() {
    let [alone, of_chart] =
        ["crd.yaml", "chart/crd.yaml"].map(|file| std::fs::read(manifests().join(file)).unwrap());
    assert!(
        alone == of_chart,
        "manifests/chart/crd.yaml is stale: run `make manifests`"
    );
}

/// The forms of the chart whose every field is looked at.
const FORMS: [&[&str]; 7] = [
    &["namespace.create=true"],
    &[
        "certificates.mode=secret,certificates.caBundle=PEM",
        "image.digest=sha256:0000000000000000000000000000000000000000000000000000000000000000",
    ],
    &[
        "identity.aws.roleArn=arn:aws:iam::123456789012:role/pullpass",
        "extraCAConfigMap=ca",
        "webhook.clientCAConfigMap=callers",
    ],
    &[
        "identity.aws.podIdentity=true",
        "podLabels.aadpodidbinding=pullpass",
        "serviceMonitor.enabled=true",
        "prometheusRule.enabled=true",
        "grafanaDashboard.enabled=true",
    ],
    &[
        "identity.azure.clientId=11111111-1111-1111-1111-111111111111",
        "identity.azure.tenantId=22222222-2222-2222-2222-222222222222",
        "certificates.mode=cert-manager",
        "webhook.excludeNamespaces={infra}",
        "webhook.enforceDeny=true",
        "extraEnv[0].name=HTTPS_PROXY",
        "extraEnv[0].value=http://proxy:3128",
    ],
    &[
        "openshift=true",
        "listen=0.0.0.0:9443",
        "metricsListen=[::]:9080",
        "nodeSelector.disk=ssd",
        "podLabels.team=platform",
        "serviceAccount.labels.team=platform",
        "extraEnv[0].name=POD_NAMESPACE",
        "extraEnv[0].value=elsewhere",
        "podSecurityContext.supplementalGroups={1000680000}",
    ],
    &[
        "dnsConfig.searches={example.com}",
        "commonLabels.team=platform",
        "global.imagePullSecrets[0].name=parent",
        "imagePullSecrets[0].name=own",
        "identity.aws.region=eu-west-1",
        "networkPolicy.egress.enabled=true",
        "networkPolicy.egress.extra[0].ports[0].port=3128",
        "networkPolicy.ingress.webhook[0].ipBlock.cidr=10.0.0.0/8",
        "service.ipFamilyPolicy=PreferDualStack",
        "extraArgs={--log=debug}",
        "extraVolumes[0].name=more",
        "extraVolumes[0].configMap.name=more",
        "extraVolumeMounts[0].name=more",
        "extraVolumeMounts[0].mountPath=/more",
        "serviceMonitor.enabled=true",
        "serviceMonitor.scrapeTimeout=10s",
        "prometheusRule.enabled=true",
        "prometheusRule.runbookURL=https://example.com/operations",
    ],
];

/// The API server's own word on every field, and kubeconform's, for the chart in each of its forms and for each overlay.
#[test]
fn passes_strict_validation_of_the_api_server() {
    for file in ["crd.yaml", "rbac.yaml"] {
        let file = manifests().join(file);
        kubectl(&["apply", "--server-side", "-f", file.to_str().unwrap()]);
    }
    let foreign = bed::dir().join("kinds.yaml");
    let foreign = foreign.to_str().unwrap();
    kubectl(&["apply", "--server-side", "-f", foreign]);
    kubectl(&[
        "wait",
        "--for=condition=Established",
        "--timeout=60s",
        "-f",
        foreign,
    ]);
    for settings in FORMS {
        check(&succeed(&mut template(settings)));
    }
    for overlay in std::fs::read_dir(manifests().join("overlays")).unwrap() {
        let overlay = overlay.unwrap().path();
        check(&kubectl(&["kustomize", overlay.to_str().unwrap()]));
    }
}

/// The Pods that the chart makes with these settings.
fn pods(settings: &[&str]) -> Value {
    let rendered = parse(&succeed(&mut template(settings)));
    let deployment = rendered
        .into_iter()
        .find(|object| object["kind"] == "Deployment");
    deployment.unwrap()["spec"]["template"].take()
}

/// The environment of a Pod's container, each name once: what is applied by a server, as Helm does, is refused otherwise.
fn environment(pods: &Value) -> BTreeMap<String, Value> {
    let entries = pods["spec"]["containers"][0]["env"].as_array().unwrap();
    let named = |entry: &Value| (entry["name"].as_str().unwrap().to_owned(), entry.clone());
    let environment: BTreeMap<_, _> = entries.iter().map(named).collect();
    assert_eq!(environment.len(), entries.len(), "{entries:?}");
    environment
}

/// Whatever the chart sets, an entry of `extraEnv` replaces it.
#[test]
fn lets_entries_of_extra_env_replace_its_own() {
    let none = "00000000-0000-0000-0000-000000000000";
    let azure = format!("identity.azure.clientId={none},identity.azure.tenantId={none}");
    let role = "identity.aws.roleArn=arn:aws:iam::123456789012:role/pullpass,extraCAConfigMap=ca";
    for settings in [role, "identity.aws.podIdentity=true", &azure] {
        let own = environment(&pods(&[settings]));
        assert!(own.len() > 2, "{own:?}");
        for name in own.keys() {
            // Of several with one name the last counts, as it does for the kubelet.
            let given = format!(
                "extraEnv[0].name={name},extraEnv[0].value=first,extraEnv[1].name=OTHER,extraEnv[1].value=x,extraEnv[2].name={name},extraEnv[2].value=last"
            );
            let pods = pods(&[settings, &given]);
            let replaced = environment(&pods);
            assert_eq!(replaced[name]["value"], "last");
            assert_eq!(replaced[name].get("valueFrom"), None);
            assert_eq!(replaced["OTHER"]["value"], "x");
            assert_eq!(replaced.len(), own.len() + 1);
            let first = &pods["spec"]["containers"][0]["env"][0]["name"];
            assert_eq!(first, "POD_NAMESPACE", "the order stays");
        }
    }
}

/// The webhooks' selectors, the process and the policies are given the same names.
#[test]
fn excludes_namespaces_in_one_place() {
    let settings = ["webhook.excludeNamespaces={infra,monitoring}"];
    let own = environment(&pods(&settings));
    let given = &own["PULLPASS_EXCLUDE_NAMESPACES"]["value"];
    assert_eq!(*given, "infra,monitoring");
    assert!(!environment(&pods(&[])).contains_key("PULLPASS_EXCLUDE_NAMESPACES"));
    let rendered = parse(&succeed(&mut template(&settings)));
    let count = |kind: &str, text: &str| {
        let of_kind = rendered.iter().filter(|object| object["kind"] == kind);
        of_kind
            .map(|object| object.to_string().matches(text).count())
            .sum::<usize>()
    };
    let names =
        r#"["kube-system","kube-public","kube-node-lease","pullpass","infra","monitoring"]"#;
    assert_eq!(count("MutatingWebhookConfiguration", names), 1);
    assert_eq!(count("ValidatingWebhookConfiguration", names), 1);
    // Of Secrets and of tokens.
    let expression = "request.namespace.startsWith('kube-') || request.namespace in ['pullpass', 'infra', 'monitoring']";
    assert_eq!(count("ValidatingAdmissionPolicy", expression), 2);
}

/// Labels that a user gives come on top: selectors and uninstalling count on the chart's own.
#[test]
fn keeps_its_labels_whatever_is_added() {
    let given = [
        "podLabels.team=a,podLabels.app\\.kubernetes\\.io/name=mine",
        "podLabels.app\\.kubernetes\\.io/component=mine",
        "serviceAccount.labels.team=a,serviceAccount.labels.app\\.kubernetes\\.io/part-of=mine",
    ];
    let pods = pods(&given);
    let labels = &pods["metadata"]["labels"];
    assert_eq!(labels["team"], "a");
    assert_eq!(labels["app.kubernetes.io/name"], "pullpass");
    assert_eq!(labels["app.kubernetes.io/component"], "webhook");
    let rendered = parse(&succeed(&mut template(&given)));
    let account = rendered
        .iter()
        .find(|object| object["kind"] == "ServiceAccount");
    let labels = &account.unwrap()["metadata"]["labels"];
    assert_eq!(labels["team"], "a");
    assert_eq!(labels["app.kubernetes.io/part-of"], "pullpass");
}

/// The image is for Linux, whichever the architecture.
#[test]
fn runs_on_nodes_of_linux_alone() {
    let os = "kubernetes.io/os";
    for (settings, expected) in [
        (vec![], json!({os: "linux"})),
        (
            vec!["nodeSelector.disk=ssd"],
            json!({os: "linux", "disk": "ssd"}),
        ),
        (
            vec!["nodeSelector.kubernetes\\.io/os=windows"],
            json!({os: "linux"}),
        ),
        (vec!["nodeSelector=null"], json!({os: "linux"})),
    ] {
        let pods = pods(&settings);
        assert_eq!(pods["spec"]["nodeSelector"], expected, "{settings:?}");
        assert!(!pods.to_string().contains("/arch"), "{pods}");
    }
}

/// OpenShift's restricted-v2 takes its ids from the namespace and refuses others.
#[test]
fn fixes_no_ids_on_openshift() {
    let default = pods(&[]).to_string();
    for words in [
        "\"runAsUser\":65532",
        "\"runAsGroup\":65532",
        "\"fsGroup\":65532",
    ] {
        assert!(default.contains(words), "{words}: {default}");
    }
    let rows: [&[&str]; 3] = [
        &["openshift=true"],
        &[
            "openshift=true",
            "securityContext.runAsUser=1000,securityContext.runAsGroup=1000",
        ],
        &[
            "podSecurityContext.runAsUser=null,podSecurityContext.runAsGroup=null,podSecurityContext.fsGroup=null",
        ],
    ];
    for settings in rows {
        let pods = pods(settings);
        let text = pods.to_string();
        for field in ["runAsUser", "runAsGroup", "fsGroup"] {
            assert!(!text.contains(field), "{settings:?}: {text}");
        }
        // And it stays as strict otherwise.
        let context = &pods["spec"]["securityContext"];
        assert_eq!(
            *context,
            json!({"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}})
        );
        let own = &pods["spec"]["containers"][0]["securityContext"];
        let strict = json!({
            "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]},
        });
        assert_eq!(*own, strict);
    }
    // Ids that OpenShift gives are large.
    let given = pods(&["podSecurityContext.runAsUser=1000680000"]);
    let user = &given["spec"]["securityContext"]["runAsUser"];
    assert_eq!(*user, 1_000_680_000);
}

/// Every field that the API server knows in them can be set, but for Windows'.
#[test]
fn takes_every_field_of_security_contexts() {
    let schema = std::fs::read_to_string(manifests().join("chart/values.schema.json")).unwrap();
    let schema: Value = serde_json::from_str(&schema).unwrap();
    let shown: Value = serde_json::from_str(&kubectl(&["get", "--raw", "/openapi/v2"])).unwrap();
    let names = |of: &Value| -> BTreeSet<String> {
        let fields = of["properties"].as_object().unwrap().keys().cloned();
        fields.filter(|name| name != "windowsOptions").collect()
    };
    for (value, kind) in [
        ("podSecurityContext", "PodSecurityContext"),
        ("securityContext", "SecurityContext"),
    ] {
        let known = &shown["definitions"][format!("io.k8s.api.core.v1.{kind}")];
        assert_eq!(names(&schema["properties"][value]), names(known), "{kind}");
    }
}

/// Ports that Services, probes and policies name follow the addresses.
#[test]
fn listens_where_it_is_told() {
    let arguments = |pods: &Value| pods["spec"]["containers"][0]["args"].to_string();
    let ports = |pods: &Value| {
        let ports = pods["spec"]["containers"][0]["ports"].as_array().unwrap();
        let port = |named: &Value| named["containerPort"].as_u64().unwrap();
        ports.iter().map(port).collect::<Vec<_>>()
    };
    let default = pods(&[]);
    assert!(!arguments(&default).contains("listen"));
    assert_eq!(ports(&default), [8443, 8080]);
    let told = pods(&["listen=0.0.0.0:9443", "metricsListen=[fd00::1]:9080"]);
    for argument in ["--listen=0.0.0.0:9443", "--metrics-listen=[fd00::1]:9080"] {
        assert!(arguments(&told).contains(argument), "{told}");
    }
    assert_eq!(ports(&told), [9443, 9080]);
}

/// An overlay is the chart with these values, alone and with cert-manager besides. What is a list in one order or another is the same.
#[test]
fn renders_overlays_as_the_chart_renders_their_values() {
    let none = "00000000-0000-0000-0000-000000000000";
    let azure = format!("identity.azure.clientId={none},identity.azure.tenantId={none}");
    let overlays = [
        (
            "eks-irsa",
            "identity.aws.roleArn=arn:aws:iam::123456789012:role/pullpass",
        ),
        ("eks-pod-identity", "identity.aws.podIdentity=true"),
        ("aks-workload-identity", &azure),
        ("aad-pod-identity", "podLabels.aadpodidbinding=pullpass"),
        ("static-keys", "replicas=2"),
        ("cert-manager", "certificates.mode=cert-manager"),
    ];
    let folder = tempfile::tempdir().unwrap();
    let mut copy = Command::new("cp");
    let parts = ["base", "components", "overlays"].map(|part| manifests().join(part));
    succeed(copy.arg("-r").args(parts).arg(folder.path()));
    let mut found = std::fs::read_dir(folder.path().join("overlays")).unwrap();
    assert!(found.all(|known| {
        overlays
            .iter()
            .any(|(name, _)| *known.as_ref().unwrap().file_name() == **name)
    }));
    for (name, values) in overlays {
        let overlay = folder.path().join("overlays").join(name);
        let file = overlay.join("kustomization.yaml");
        compare(&overlay, &[values]);
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, text.replace("# components:", "components:")).unwrap();
        compare(&overlay, &[values, "certificates.mode=cert-manager"]);
    }
}

fn compare(overlay: &Path, values: &[&str]) {
    let image = image(&read_yaml(manifests().join("install.yaml"))).to_owned();
    let (_, tag) = image.rsplit_once(':').unwrap();
    let tag = format!("namespace.create=true,image.tag={tag}");
    let values = [&[tag.as_str()], values].concat();
    let mut rendered = parse(&succeed(template(&values).arg("--skip-tests")));
    rendered.iter_mut().for_each(leave_out_labels_of_helm);
    let mut overlaid = parse(&kubectl(&["kustomize", overlay.to_str().unwrap()]));
    // The source Secret is the user's own; the kind, which nothing changes, loses empty lines of its texts.
    overlaid.retain(|object| object["kind"] != "Secret");
    let sort = |mut objects: Vec<Value>| {
        objects.retain(|object| object["kind"] != "CustomResourceDefinition");
        objects.into_iter().map(sorted).collect::<BTreeSet<_>>()
    };
    let (rendered, overlaid) = (sort(rendered), sort(overlaid));
    assert!(rendered.len() > 20, "{rendered:?}");
    let lacking: Vec<_> = rendered.difference(&overlaid).collect();
    let beyond: Vec<_> = overlaid.difference(&rendered).collect();
    let overlay = overlay.display();
    assert!(
        lacking.is_empty() && beyond.is_empty(),
        "{overlay} {values:?}: {lacking:#?} {beyond:#?}"
    );
}

/// What only a release of Helm has.
fn leave_out_labels_of_helm(object: &mut Value) {
    for labels in ["/metadata/labels", "/spec/template/metadata/labels"] {
        if let Some(labels) = object.pointer_mut(labels).and_then(Value::as_object_mut) {
            labels.remove("app.kubernetes.io/managed-by");
            labels.remove("helm.sh/chart");
        }
    }
}

/// A value as text, with its lists in one order.
fn sorted(mut value: Value) -> String {
    fn sort(value: &mut Value) {
        match value {
            Value::Array(items) => {
                items.iter_mut().for_each(sort);
                items.sort_by_key(Value::to_string);
            }
            Value::Object(fields) => fields.values_mut().for_each(sort),
            _ => {}
        }
    }
    sort(&mut value);
    value.to_string()
}

fn check(manifest: &str) {
    let mut objects = parse(manifest);
    assert!(objects.len() > 10, "{manifest}");
    dry_run(&objects);
    objects.retain(|object| !FOREIGN.iter().any(|kind| object["kind"] == *kind));
    conform(&objects).unwrap();
}

/// What kubeconform says of objects.
fn conform(objects: &[Value]) -> Result<(), String> {
    schemas::conform(&program("kubeconform"), objects, || {
        kubectl(&["get", "--raw", "/openapi/v2"])
    })
}

/// What documents show of Kubernetes' own kinds, for builders and for other consumers.
#[test]
fn documents_show_fields_that_are_there() {
    let shown = ["docs/BUILDERS.md", "docs/CONSUMERS.md"].map(of_document);
    let known = ["v1", "batch/v1"];
    let objects: Vec<Value> = shown
        .into_iter()
        .flatten()
        .filter(|object| known.iter().any(|known| object["apiVersion"] == *known))
        .collect();
    assert!(objects.len() >= 4, "{objects:?}");
    conform(&objects).unwrap();
}

#[test]
fn kubeconform_finds_planted_faults() {
    let rendered = parse(&succeed(&mut template(&[])));
    let mut objects = rendered.into_iter();
    let deployment = objects
        .find(|object| object["kind"] == "Deployment")
        .unwrap();
    conform(std::slice::from_ref(&deployment)).unwrap();
    for (place, value) in [
        ("/spec/replicas", json!("two")),
        ("/spec/template/spec/containers/0/image", json!(["a"])),
        ("/spec/strategy", json!({"rollingUpdates": {}})),
        (
            "/spec/template/spec/containers/0/livenessProbe/httpGet/prot",
            json!(1),
        ),
    ] {
        let mut damaged = deployment.clone();
        let (parent, field) = place.rsplit_once('/').unwrap();
        damaged.pointer_mut(parent).unwrap()[field] = value;
        assert!(conform(&[damaged]).is_err(), "{place}");
    }
}

/// A server-side dry run with unknown and doubled fields refused, and with no warnings.
fn dry_run(items: &[Value]) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("list.json");
    let list = json!({"apiVersion": "v1", "kind": "List", "items": items});
    std::fs::write(&file, list.to_string()).unwrap();
    let mut command = Command::new(program("kubectl"));
    command
        .args(["--kubeconfig", bed::shared_api()])
        .args(["apply", "--server-side", "--force-conflicts"])
        .args(["--dry-run=server", "--validate=strict", "-f"])
        .arg(&file);
    let output = run(&mut command);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{stderr}
{list}"
    );
    assert_eq!(stderr, "", "warnings");
}

/// kube-score finds what manifests/README.md lists, and nothing else.
#[test]
fn passes_a_linter_but_for_the_exceptions_that_are_written_down() {
    let text = std::fs::read_to_string(manifests().join("README.md")).unwrap();
    let table = text.split("| exception | why |").nth(1).unwrap();
    let rows = table.lines().skip(1).take_while(|line| !line.is_empty());
    let named = rows.filter_map(|row| row.strip_prefix("| `")?.split('`').next());
    let (flags, exceptions): (BTreeSet<&str>, BTreeSet<&str>) =
        named.partition(|name| name.starts_with("--"));
    let mut score = Command::new(program("kube-score"));
    score
        .args([
            "score",
            "--output-format",
            "json",
            "--kubernetes-version",
            "v1.36",
        ])
        .args(["--enable-optional-test", "container-seccomp-profile"])
        .args(["--enable-optional-test", "container-ports-check"])
        .args(flags)
        .arg(manifests().join("base/install.yaml"));
    let output = run(&mut score);
    let judged: Value = serde_json::from_slice(&output.stdout).unwrap();
    let checks = judged.as_array().unwrap().iter();
    let checks = checks
        .filter_map(|object| object["checks"].as_array())
        .flatten();
    let checks: Vec<&Value> = checks.filter(|check| check["skipped"] == false).collect();
    assert!(checks.len() > 20, "{judged}");
    let full = |check: &&&Value| check["grade"].as_u64() < Some(10);
    let found = checks.iter().filter(full);
    let found: BTreeSet<&str> = found
        .map(|check| check["check"]["id"].as_str().unwrap())
        .collect();
    assert_eq!(found, exceptions);
}

/// Nobody is woken without being told what to do: each alert's address leads to its section of docs/reference/alerts.md, which a test of
/// its own (`reference::alerts`) holds to the alerts.
#[test]
fn has_a_runbook_for_each_alert() {
    let page = "https://example.com/alerts";
    let address = format!("prometheusRule.runbookURL={page}");
    let rendered = parse(&succeed(&mut template(&[
        "prometheusRule.enabled=true",
        &address,
    ])));
    let rule = rendered
        .iter()
        .find(|object| object["kind"] == "PrometheusRule");
    let rules = &rule.unwrap()["spec"]["groups"][0]["rules"];
    let rules = rules.as_array().unwrap();
    assert!(rules.len() > 5, "{rules:?}");
    let runbooks = manifests().join("../docs/reference/alerts.md");
    let runbooks = std::fs::read_to_string(runbooks).unwrap();
    let headings = runbooks.lines().filter_map(|line| line.strip_prefix("## "));
    let known: BTreeSet<String> = headings
        .map(|heading| format!("{page}#{}", heading.to_lowercase()))
        .collect();
    for rule in rules {
        let runbook = rule["annotations"]["runbook_url"].as_str().unwrap();
        assert!(known.contains(runbook), "nothing is at {runbook}");
        check_metrics(rule["expr"].as_str().unwrap());
    }
}

/// An expression is one that Prometheus understands, about metrics that there are: of docs/reference/metrics.md, which a test of its own compares
/// with a running pullpass.
fn check_metrics(expression: &str) {
    let known = std::fs::read_to_string(manifests().join("../docs/reference/metrics.md")).unwrap();
    let words = expression.split(|c: char| !c.is_ascii_lowercase() && c != '_');
    let is_metric = |word: &&str| word.starts_with("pullpass_") || word.starts_with("process_");
    let metrics: Vec<&str> = words.filter(is_metric).collect();
    assert!(!metrics.is_empty(), "{expression}");
    // Grafana puts a duration there.
    let plain = expression.replace("$__rate_interval", "5m");
    succeed(Command::new(program("promql")).arg(plain));
    for metric in metrics {
        let metric = metric.trim_end_matches("_bucket");
        let row = format!("\n| `{metric}` |");
        assert!(known.contains(&row), "nothing shows {metric}");
    }
}

#[test]
fn has_a_dashboard_of_metrics_that_there_are() {
    let rendered = parse(&succeed(&mut template(&["grafanaDashboard.enabled=true"])));
    let named = |object: &&Value| object["metadata"]["name"] == "pullpass-dashboard";
    let held = rendered.iter().find(named).unwrap();
    assert_eq!(held["metadata"]["labels"]["grafana_dashboard"], "1");
    let dashboard = held["data"]["pullpass.json"].as_str().unwrap();
    let dashboard: Value = serde_json::from_str(dashboard).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let shown = panels
        .iter()
        .filter_map(|panel| panel["targets"].as_array());
    let shown: Vec<&Value> = shown.flatten().collect();
    assert!(shown.len() > 15, "{}", shown.len());
    for target in shown {
        check_metrics(target["expr"].as_str().unwrap());
    }
    let mut ids: Vec<u64> = panels
        .iter()
        .map(|panel| panel["id"].as_u64().unwrap())
        .collect();
    ids.dedup();
    assert_eq!(ids.len(), panels.len());
}

/// Values that would not work are refused before anything is applied.
#[test]
fn refuses_values_that_cannot_work() {
    let refused = [
        ("replica=3", "replica"),
        ("nameOverride=other", "nameOverride"),
        ("image.digest=sha256:12", "digest"),
        ("certificates.mode=none", "mode"),
        ("certificates.mode=secret", "caBundle is not set"),
        ("webhook.timeoutSeconds=31", "timeoutSeconds"),
        ("webhook.prefilter=true", "prefilter"),
        ("webhook.url=https://127.0.0.1:8443", "url"),
        ("identity.aws.roleArn=pullpass", "roleArn"),
        (
            "identity.azure.clientId=11111111-1111-1111-1111-111111111111",
            "tenantId",
        ),
        (
            "tokenAudiences={https://kubernetes.default.svc}",
            "tokenAudiences",
        ),
        ("tokenAudiences={kubernetes}", "tokenAudiences"),
        ("identity.aws.audience=k3s", "audience"),
        ("image.repository=", "image.repository is not set"),
        ("podSecurityContext.runAsUsr=1", "runAsUsr"),
        ("podSecurityContext.runAsUser=root", "runAsUser"),
        ("podSecurityContext.fsGroup=-1", "fsGroup"),
        ("securityContext.fsGroup=1", "fsGroup"),
        ("securityContext.privileged=maybe", "privileged"),
        ("openshift=yes", "openshift"),
        ("extraEnv[0].value=x", "name"),
        ("listen=8443", "listen"),
        ("listen=localhost:8443", "listen"),
        ("metricsListen=::1:8080", "metricsListen"),
        ("env[0].name=HTTPS_PROXY", "env"),
        ("extraArgs={debug}", "extraArgs"),
        ("dnsPolicy=None2", "dnsPolicy"),
        ("identity.aws.region=europe", "region"),
        ("service.ipFamilies={IPv5}", "ipFamilies"),
        ("networkPolicy.egress[0].ports=1", "egress"),
        ("networkPolicy.egress.dns.port=53", "port"),
    ];
    for (setting, named) in refused {
        let output = run(&mut template(&[setting]));
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{setting} was taken");
        assert!(stderr.contains(named), "{setting}: {stderr}");
    }
}

/// The kinds of configuration that name webhooks.
const KINDS: [&str; 2] = [
    "mutatingwebhookconfiguration",
    "validatingwebhookconfiguration",
];

/// A release on an API server of its own.
struct Release {
    server: Bed,
    home: TempDir,
}

impl Release {
    fn prepare() -> Self {
        Self {
            server: Bed::start("api", &[]),
            home: tempfile::tempdir().unwrap(),
        }
    }

    fn kubectl(&self, arguments: &[&str]) -> String {
        let mut command = Command::new(program("kubectl"));
        command.args(["--kubeconfig", self.server.field("kubeconfig")]);
        succeed(command.args(arguments))
    }

    fn helm(&self, arguments: &[&str]) {
        succeed(&mut self.helming(arguments));
    }

    fn helming(&self, arguments: &[&str]) -> Command {
        let mut command = helm(&self.home, arguments);
        command
            .env("KUBECONFIG", self.server.field("kubeconfig"))
            .args(["--namespace", "pullpass"]);
        command
    }

    /// Installs or upgrades it with one more setting.
    fn put(&self, verb: &[&str], setting: &str) {
        succeed(&mut self.putting(verb, setting));
    }

    fn putting(&self, verb: &[&str], setting: &str) -> Command {
        let image = "image.repository=registry.example.com/pullpass";
        let chart = chart();
        let fixed = ["pullpass", &chart, "--set", image, "--set", setting];
        self.helming(&[verb, &fixed].concat())
    }

    /// Nothing of pullpass but the kind Registry, its namespace and what it keeps there.
    fn assert_only_the_kind_is_left(&self) {
        assert!(!self.read(&["crd", "registries.pullpass.dev"]).is_null());
        let list = ["api-resources", "--verbs=list,delete", "-o", "name"];
        let kinds = self.kubectl(&list);
        let mut kinds: Vec<&str> = kinds.lines().collect();
        assert!(kinds.len() > 40, "{kinds:?}");
        kinds.retain(|kind| {
            ![
                "customresourcedefinitions.apiextensions.k8s.io",
                "namespaces",
            ]
            .contains(kind)
        });
        let left = self.read(&[&kinds.join(","), "-l", "app.kubernetes.io/part-of=pullpass"]);
        let left = left["items"].as_array().into_iter().flatten();
        let left = left.map(|object| format!("{} {}", object["kind"], object["metadata"]["name"]));
        let left: Vec<_> = left.filter(|one| !one.starts_with("\"Endpoint")).collect();
        assert!(left.is_empty(), "{left:?}");
    }

    /// One object, or all of a kind; null where there is none.
    fn read(&self, what: &[&str]) -> Value {
        let get = [
            "get",
            "--namespace",
            "pullpass",
            "--ignore-not-found",
            "-o",
            "json",
        ];
        serde_json::from_str(&self.kubectl(&[&get, what].concat())).unwrap_or_default()
    }

    fn replicas(&self) -> Value {
        self.read(&["deployment", "pullpass"])["spec"]["replicas"].clone()
    }

    /// The `caBundle` of all webhooks.
    fn bundles(&self) -> Vec<Value> {
        let configurations = KINDS.map(|kind| self.read(&[kind, "00-pullpass"]));
        let webhooks = configurations
            .iter()
            .flat_map(|configuration| configuration["webhooks"].as_array().unwrap());
        webhooks
            .map(|webhook| webhook["clientConfig"]["caBundle"].clone())
            .collect()
    }

    /// Writes them as a running pullpass does.
    fn tell_authority(&self, authority: &str) {
        for kind in KINDS {
            let mut configuration = self.read(&[kind, "00-pullpass"]);
            for webhook in configuration["webhooks"].as_array_mut().unwrap() {
                *webhook =
                    json!({"name": webhook["name"], "clientConfig": {"caBundle": authority}});
            }
            let object = json!({
                "apiVersion": configuration["apiVersion"], "kind": configuration["kind"],
                "metadata": {"name": "00-pullpass"}, "webhooks": configuration["webhooks"],
            });
            self.apply_as_pullpass(&object);
        }
    }

    fn apply_as_pullpass(&self, object: &Value) {
        let file = self.home.path().join("bundle.json");
        std::fs::write(&file, object.to_string()).unwrap();
        let apply = ["apply", "--server-side", "--force-conflicts"];
        let manager = ["--field-manager", "pullpass", "-f", file.to_str().unwrap()];
        self.kubectl(&[&apply[..], &manager].concat());
    }
}

/// Installed, upgraded and uninstalled by Helm: what pullpass told the API server to trust stays, and the kind stays when everything
/// else goes.
#[test]
fn keeps_the_authority_and_leaves_the_kind() {
    let release = Release::prepare();
    release.put(&["install", "--create-namespace"], "replicas=2");
    assert_eq!(release.bundles(), vec![Value::Null; 4]);
    let (_, authority) = make_authority();
    release.tell_authority(&authority);
    // What is switched on and off again does not stumble over what pullpass wrote.
    for setting in ["webhook.enforceDeny=true", "webhook.enforceDeny=false"] {
        release.put(&["upgrade"], setting);
        assert_eq!(release.bundles(), vec![authority.as_str(); 4], "{setting}");
    }
    release.put(&["upgrade"], "replicas=3");
    assert_eq!(release.bundles(), vec![authority.as_str(); 4]);
    assert_eq!(release.replicas(), 3);
    release.helm(&["rollback", "pullpass", "1"]);
    assert_eq!(release.bundles(), vec![authority.as_str(); 4]);
    assert_eq!(release.replicas(), 2);
    release.helm(&["uninstall", "pullpass"]);
    release.assert_only_the_kind_is_left();
    // And it goes over the kind that stayed.
    release.put(&["install"], "replicas=2");
}

/// From certificates of pullpass' own to given ones, and back.
#[test]
fn changes_whose_certificates_they_are() {
    let release = Release::prepare();
    release.put(&["install", "--create-namespace"], "replicas=2");
    let (_, own) = make_authority();
    release.tell_authority(&own);
    let (file, given) = make_authority();
    let file = format!(
        "certificates.caBundle={}",
        file.path().join("ca.crt").display()
    );
    let change = ["upgrade", "--set-file", &file];
    let mode = "certificates.mode=secret";
    // What pullpass wrote is not taken from it unasked: docs/INSTALL.md.
    let refused = run(&mut release.putting(&change, mode));
    let stderr = String::from_utf8_lossy(&refused.stderr);
    assert!(stderr.contains("conflicts with \"pullpass\""), "{stderr}");
    release.put(&[&change[..], &["--force-conflicts"]].concat(), mode);
    assert_eq!(release.bundles(), vec![given.as_str(); 4]);
    let annotations = || {
        let read = KINDS.map(|kind| release.read(&[kind, "00-pullpass"]));
        read.map(|one| one["metadata"]["annotations"]["pullpass.dev/ca-bundle"].clone())
    };
    assert_eq!(annotations(), ["given", "given"]);
    // What it is told from now on, a later upgrade does not stumble over.
    release.put(&change, mode);
    release.put(&["upgrade"], "certificates.mode=self");
    assert_eq!(release.bundles(), vec![Value::Null; 4]);
    assert_eq!(annotations(), [Value::Null, Value::Null]);
    release.tell_authority(&own);
    assert_eq!(release.bundles(), vec![own.as_str(); 4]);
}

/// As docs/INSTALL.md says, to the letter.
#[test]
fn uninstalls_plain_manifests_but_for_the_kind() {
    let release = Release::prepare();
    let file = manifests().join("install.yaml");
    release.kubectl(&["apply", "--server-side", "-f", file.to_str().unwrap()]);
    let document = std::fs::read_to_string(manifests().join("../docs/INSTALL.md")).unwrap();
    let lines = document.lines().filter_map(|line| {
        let line = line.strip_prefix("kubectl delete ")?;
        line.ends_with("-l app.kubernetes.io/part-of=pullpass")
            .then_some(line)
    });
    let lines: Vec<_> = lines.collect();
    assert_eq!(lines.len(), 2, "{lines:?}");
    for line in lines {
        let words: Vec<_> = line.split(' ').collect();
        release.kubectl(&[&["delete"], &words[..]].concat());
    }
    release.assert_only_the_kind_is_left();
    assert!(!release.read(&["namespace", "pullpass"]).is_null());
}

/// An authority of its own: its folder, and its certificate in base64.
fn make_authority() -> (TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let mut certs = Command::new(env!("CARGO_BIN_EXE_pullpass"));
    succeed(certs.arg("certs").arg(folder.path()));
    let authority = std::fs::read(folder.path().join("ca.crt")).unwrap();
    let encoded = base64::engine::general_purpose::STANDARD.encode(authority);
    (folder, encoded)
}
