//! docs/INSTALL.md, run: its commands in its order, by a shell, with real Helm and kubectl on real API servers. What needs a cloud, an
//! image or a container engine is not run: a stand-in takes such a command and looks at its form.

use std::fmt::Write as _;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::support::bed::{Bed, program, succeed};
use super::support::cluster::{Cluster, read_yaml};
use super::{manifests, parse, run, template};

/// A block of the document.
struct Block {
    /// The headings above it, the nearest last.
    under: Vec<String>,
    /// `sh` or `yaml`.
    language: String,
    text: String,
}

fn document() -> String {
    std::fs::read_to_string(manifests().join("../docs/INSTALL.md")).unwrap()
}

fn find_blocks(text: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut under: Vec<(usize, String)> = Vec::new();
    let mut open = false;
    for line in text.lines() {
        if let Some(language) = line.strip_prefix("```") {
            open = !open;
            if open {
                blocks.push(Block {
                    under: under.iter().map(|(_, title)| title.clone()).collect(),
                    language: language.to_owned(),
                    text: String::new(),
                });
            }
        } else if open {
            let _ = writeln!(blocks.last_mut().unwrap().text, "{line}");
        } else if line.starts_with('#') {
            let level = line.len() - line.trim_start_matches('#').len();
            under.retain(|(known, _)| *known < level);
            under.push((level, line[level..].trim().to_owned()));
        }
    }
    blocks
}

/// A machine on which an administrator types, and a cluster.
struct Desk {
    _api: Bed,
    folder: TempDir,
    cluster: Cluster,
}

impl Desk {
    async fn sit_down() -> Self {
        let api = Bed::start("api", &[]);
        let cluster = Cluster::connect(api.field("kubeconfig")).await;
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for name in ["bin", ".kube", "asked"] {
            std::fs::create_dir(at(name)).unwrap();
        }
        symlink(api.field("kubeconfig"), at(".kube/config")).unwrap();
        symlink(manifests(), at("manifests")).unwrap();
        std::fs::copy(
            manifests().join("../examples/narrow.yaml"),
            at("registries.yaml"),
        )
        .unwrap();
        symlink(env!("CARGO_BIN_EXE_pullpass"), at("bin/pullpass")).unwrap();
        // No kubelet makes a Pod ready, and no controller ends a namespace.
        let real = |name: &str| program(name).display().to_string();
        let helm = format!(
            "for word; do shift; [ \"$word\" = --wait ] || set -- \"$@\" \"$word\"; done\nexec {} \"$@\"\n",
            real("helm")
        );
        write_script(&at("bin/helm"), &helm);
        let kubectl = format!(
            "[ \"$1 $2\" != 'delete namespace' ] || set -- \"$@\" --wait=false\nexec {} \"$@\"\n",
            real("kubectl")
        );
        write_script(&at("bin/kubectl"), &kubectl);
        for name in STAND_INS {
            let log = at("asked").join(name).display().to_string();
            write_script(&at("bin").join(name), &format!("echo \"$*\" >>{log}\n"));
        }
        let desk = Self {
            _api: api,
            folder,
            cluster,
        };
        desk.make_namespace("payments", &json!({"team": "payments"}))
            .await;
        desk
    }

    async fn make_namespace(&self, name: &str, labels: &Value) {
        for object in [
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}),
            // What kube-controller-manager makes, without which no Pod is admitted.
            json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": name}}),
        ] {
            self.cluster.apply(&object).await;
        }
    }

    /// Types this into a shell; a command that fails ends it.
    fn type_in(&self, text: &str) -> String {
        let text = text
            .replace("sha256:…", &format!("sha256:{}", "0".repeat(64)))
            .replace(" --set IDENTITY", &format!(" --set {}", identities()[0]));
        let mut shell = Command::new("sh");
        let programs = self.folder.path().join("bin");
        let path = std::env::var("PATH").unwrap();
        shell
            .args(["-euc", &text])
            .current_dir(self.folder.path())
            .env_clear()
            .env("HOME", self.folder.path())
            .env("PATH", format!("{}:{path}", programs.display()));
        succeed(&mut shell)
    }

    /// What a stand-in was asked for.
    fn asked(&self, name: &str) -> Vec<String> {
        let log = self.folder.path().join("asked").join(name);
        let log = std::fs::read_to_string(log).unwrap_or_default();
        log.lines().map(str::to_owned).collect()
    }

    fn labelled(&self) -> String {
        self.type_in(
            "kubectl get deployments,services,clusterroles,clusterrolebindings,validatingadmissionpolicies,mutatingwebhookconfigurations,validatingwebhookconfigurations -A -l app.kubernetes.io/part-of=pullpass -o name",
        )
    }
}

/// Programs that are not run.
const STAND_INS: [&str; 2] = ["make", "skopeo"];

fn write_script(file: &Path, text: &str) {
    std::fs::write(file, format!("#!/bin/sh\n{text}")).unwrap();
    std::fs::set_permissions(file, PermissionsExt::from_mode(0o755)).unwrap();
}

/// The settings of the table of identities, filled in.
fn identities() -> Vec<String> {
    let text = document();
    let rows = text
        .lines()
        .skip_while(|line| !line.contains("| `IDENTITY` |"));
    let rows = rows.skip(2).take_while(|line| line.starts_with('|'));
    let cells = rows.filter_map(|row| row.split('|').nth(2)?.trim().strip_prefix('`'));
    let settings = cells.filter_map(|cell| cell.strip_suffix('`'));
    let filled =
        settings.map(|setting| setting.replace('…', "11111111-1111-1111-1111-111111111111"));
    filled.collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[allow(
    clippy::too_many_lines,
    reason = "one installation, told from its beginning to its end"
)]
async fn installs_and_goes_as_the_document_says_in_its_order() {
    let text = document();
    let blocks = find_blocks(&text);
    let (helm, plain) = (Desk::sit_down().await, Desk::sit_down().await);
    let mut typed = Vec::new();
    for Block {
        under,
        language,
        text,
    } in &blocks
    {
        let title = under.last().unwrap().as_str();
        let is_plain =
            title == "Without Helm" || text.contains("-l app.kubernetes.io/part-of=pullpass");
        let desk = if is_plain { &plain } else { &helm };
        if language == "yaml" {
            let file = desk.folder.path().join("secret.yaml");
            std::fs::write(file, text).unwrap();
            desk.type_in("kubectl apply -f secret.yaml");
            continue;
        }
        assert_eq!(language, "sh", "{text}");
        let uninstalls = text.starts_with("helm uninstall ");
        if uninstalls {
            assert_ne!(helm.labelled(), "");
        }
        desk.type_in(text);
        if uninstalls {
            // Rights of Registries are not of that release.
            let left = helm.labelled();
            assert!(
                left.lines()
                    .all(|name| name.contains("/pullpass-registry-")),
                "{left}"
            );
        }
        let lines = text.replace("\\\n", " ");
        typed.extend(lines.lines().map(|line| line.trim().to_owned()));
    }
    assert!(typed.len() > 12, "{typed:#?}");
    assert_eq!(plain.labelled(), "");
    let crd = "kubectl get crd --ignore-not-found -o name registries.pullpass.dev";
    assert_eq!(
        helm.type_in(crd),
        "",
        "the document takes the kind away at its end"
    );
    assert_ne!(plain.type_in(crd), "");

    // A Pod was created there, of an image that a Registry serves.
    let pod = "/api/v1/namespaces/payments/pods/api";
    assert!(helm.cluster.get(pod).await.is_some());
    // What was not run: its form.
    let asked = helm.asked("skopeo");
    assert_eq!(asked.len(), 1, "{asked:?}");
    assert!(
        asked[0].starts_with("copy oci-archive:target/image/pullpass.tar docker://"),
        "{asked:?}"
    );
    let makefile = std::fs::read_to_string(manifests().join("../Makefile")).unwrap();
    let asked = [helm.asked("make"), plain.asked("make")].concat();
    assert_eq!(asked.len(), 2, "{asked:?}");
    for line in asked {
        let (target, image) = line.split_once(' ').unwrap();
        assert!(makefile.contains(&format!("\n{target}:")), "{target}");
        assert!(
            image.starts_with("IMAGE=registry.example.com/pullpass"),
            "{image}"
        );
    }
}

/// Each row of the table of identities is one that the chart takes.
#[test]
fn takes_the_identities_of_the_document() {
    let identities = identities();
    assert_eq!(identities.len(), 4, "{identities:?}");
    for identity in identities {
        let identity = identity.replace("SELECTOR", "image-puller");
        let objects = parse(&succeed(&mut template(&[&identity])));
        let plain = parse(&succeed(&mut template(&[])));
        assert_ne!(objects, plain, "{identity}");
    }
}

/// A cloud's commands are not run: they are verbs with flags that have values, and nothing is left to fill in but words in capitals.
#[test]
fn writes_commands_of_clouds_in_their_form() {
    let text = document();
    let code = text
        .lines()
        .flat_map(|line| line.split('`').skip(1).step_by(2));
    let commands = code.filter(|code| code.starts_with("aws ") || code.starts_with("az "));
    let mut seen = 0;
    for command in commands {
        let words: Vec<&str> = command.split(' ').collect();
        let is_verb = |word: &&str| {
            word.chars()
                .all(|letter| letter.is_ascii_lowercase() || letter == '-')
        };
        let verbs = words[1..]
            .iter()
            .take_while(|word| !word.starts_with("--"))
            .count();
        assert!(verbs == 2 && words[1..3].iter().all(is_verb), "{command}");
        for flag in words[3..].chunks(2) {
            assert!(
                flag.len() == 2 && flag[0].starts_with("--") && !flag[1].starts_with('-'),
                "{command}"
            );
        }
        seen += 1;
    }
    assert_eq!(seen, 2);
}

/// What it calls the settings of the chart are some.
#[test]
fn names_settings_that_the_chart_has() {
    let values = read_yaml(manifests().join("chart/values.yaml")).remove(0);
    let text = document();
    let code = text
        .lines()
        .flat_map(|line| line.split('`').skip(1).step_by(2));
    let is_setting = |code: &&str| {
        let (name, _) = code.split_once('=').unwrap_or((code, ""));
        let (first, rest) = name.split_once('.').unwrap_or((name, ""));
        // A Registry has an identity, too.
        !rest.is_empty() && !values[first].is_null() && name != "identity.serviceAccount"
    };
    let mut seen = 0;
    for setting in code.filter(is_setting) {
        let (name, _) = setting.split_once('=').unwrap_or((setting, ""));
        let place = format!("/{}", name.replace('.', "/"));
        let is_open = ["podLabels.", "resources.limits.", "global."]
            .iter()
            .any(|open| name.starts_with(open));
        assert!(is_open || values.pointer(&place).is_some(), "{setting}");
        seen += 1;
    }
    assert!(seen > 15, "{seen}");
    let unknown = run(&mut template(&["networkPolicy.egres.enabled=true"]));
    assert!(!unknown.status.success());
}
