//! Reviews of just under 7 MiB that cost the most to read and to answer.

use std::fmt::Write as _;

use super::webhook::{HOST, review};

/// How long such a review is, about.
const BYTES: usize = 7 * 1024 * 1024 - 4_000;

/// A review, and where it is sent.
pub struct Worst {
    pub name: &'static str,
    pub path: &'static str,
    pub body: String,
    pub status: u16,
}

/// As many entries, each with a number, as fit.
fn list(bytes: usize, entry: impl Fn(usize, &mut String)) -> String {
    let (mut list, mut next) = (String::with_capacity(bytes), String::new());
    for number in 0.. {
        next.clear();
        entry(number, &mut next);
        if list.len() + next.len() + 1 > bytes {
            break;
        }
        if number > 0 {
            list.push(',');
        }
        list.push_str(&next);
    }
    list
}

/// Of each list as many entries as are read, each entry as long as is allowed, and blanks up to the length.
fn full(name: &'static str, old: &str, new: &str) -> Worst {
    let mut worst = pod(name, old, new);
    let blanks = BYTES.saturating_sub(worst.body.len());
    worst.body.push_str(&" ".repeat(blanks));
    worst
}

/// How many entries of a list are read.
const ENTRIES: usize = 4096;

fn entries(entry: impl Fn(usize) -> String) -> String {
    (0..ENTRIES).map(entry).collect::<Vec<_>>().join(",")
}

/// So many Registries that choose Pods by their labels, each with the image of all, one of its own and patterns with `*`.
pub fn registries(count: usize) -> String {
    let mut yaml = String::new();
    for number in 0..count {
        write!(
            yaml,
            "---\napiVersion: pullpass.dev/v1alpha1\nkind: Registry\nmetadata: {{name: r{number}}}\nspec:\n  images: [{HOST}/team, {HOST}/own/a{number}, '*.dkr.ecr.eu-west-2.amazonaws.com/a{number}', '*.dkr.ecr.eu-central-1.amazonaws.com/a{number}']\n  \
             excludedImages: [{HOST}/team/a{number}, {HOST}/own/a{number}/x]\n  namespaceSelector: {{}}\n  podSelector: {{matchExpressions: [{{key: l{number}, operator: NotIn, values: [a, b]}}, {{key: app, operator: Exists}}]}}\n  ecr: {{identity: {{workload: {{}}}}}}\n"
        )
        .unwrap();
    }
    yaml
}

/// The review of a Pod with something else in place of a part of it.
fn pod(name: &'static str, old: &str, new: &str) -> Worst {
    let review = review().to_string();
    assert!(review.contains(old), "{old}: {review}");
    Worst {
        name,
        path: "/mutate?timeout=30s",
        body: review.replace(old, new),
        status: 200,
    }
}

fn registry(name: &'static str, metadata: &str, spec: &str) -> Worst {
    let object = format!(
        r#"{{"apiVersion":"pullpass.dev/v1alpha1","kind":"Registry","metadata":{{"name":"a"{metadata}}},"spec":{{{spec}}}}}"#
    );
    let body = format!(
        r#"{{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{{"uid":"1","object":{object},"oldObject":null}}}}"#
    );
    Worst {
        name,
        path: "/validate-registry?timeout=30s",
        body,
        status: 200,
    }
}

const ACCOUNT: &str = r#""serviceAccountName":"default""#;
const LABELS: &str = r#""labels":{"app":"web"}"#;

/// As many labels, or pairs of any map, as fit.
fn labels() -> String {
    list(BYTES, |number, entry| {
        write!(entry, "\"{number:x}\":\"\"").unwrap();
    })
}

fn empty_objects() -> String {
    list(BYTES, |_, entry| entry.push_str("{}"))
}

/// All of them.
pub fn reviews() -> Vec<Worst> {
    let all = [of_images(), of_maps(), of_registries()];
    all.into_iter().flatten().collect()
}

fn of_images() -> Vec<Worst> {
    let empty = empty_objects();
    let init = |images: &str| format!(r#""initContainers":[{images}]"#);
    let images = |host: &str| {
        let image = |number: usize, entry: &mut String| {
            write!(entry, "{{\"image\":\"{host}/team/{number:x}\"}}").unwrap();
        };
        init(&list(BYTES, image))
    };
    let container =
        |path: &'static str| move |number: usize| format!(r#"{{"image":"{HOST}/{path}{number}"}}"#);
    let other = HOST.replace("west-1", "west-2");
    let volume = |number: usize| format!(r#"{{"image":{{"reference":"{other}/x{number}"}}}}"#);
    let all_images = format!(
        r#""initContainers":[{}],"ephemeralContainers":[{}],"volumes":[{}]"#,
        entries(container("team/a")),
        entries(container("own/a")),
        entries(volume)
    );
    let pull_secrets = format!(r#""imagePullSecrets":[{empty}]"#);
    vec![
        pod("imagePullSecrets", ACCOUNT, &pull_secrets),
        pod("initContainers", ACCOUNT, &init(&empty)),
        pod("images", ACCOUNT, &images(HOST)),
        full("all images that are read", ACCOUNT, &all_images),
        pod("upper-case hosts", ACCOUNT, &images(&HOST.to_uppercase())),
    ]
}

fn of_maps() -> Vec<Worst> {
    let escaped = list(BYTES, |number, entry| {
        write!(entry, "\"\\u0061{number:x}\":\"\\u0061\"").unwrap();
    });
    let long = format!("\"note\":\"\\n{}\"", "a".repeat(BYTES));
    let all_labels = entries(|number| format!(r#""l{number}":"c""#));
    // One is there already.
    let (all_labels, _) = all_labels.rsplit_once(',').unwrap();
    let all_labels = format!(r#""app":"web",{all_labels}"#);
    let map = |field: &str, pairs: &str| format!(r#""{field}":{{{pairs}}}"#);
    let labels = labels();
    vec![
        full(
            "all labels that are read",
            LABELS,
            &map("labels", &all_labels),
        ),
        pod("labels", LABELS, &map("labels", &labels)),
        pod("escaped labels", LABELS, &map("labels", &escaped)),
        pod("annotations", LABELS, &map("annotations", &labels)),
        pod("escaped annotations", LABELS, &map("annotations", &escaped)),
        Worst {
            status: 400,
            ..pod("one long text", LABELS, &map("annotations", &long))
        },
    ]
}

fn of_registries() -> Vec<Worst> {
    const STATIC: &str = r#""namespaceSelector":{},"static":{"secretRef":{"name":"login"}}"#;
    let texts = list(BYTES, |_, entry| entry.push_str("\"\""));
    let patterns = list(BYTES, |number, entry| {
        write!(entry, "\"*.{number:x}.com/a\"").unwrap();
    });
    let requirements = list(BYTES, |_, entry| {
        entry.push_str(r#"{"key":"","operator":"In"}"#);
    });
    let managed = format!(r#","managedFields":[{}]"#, empty_objects());
    let images = |images: &str| format!(r#""images":[{images}],{STATIC}"#);
    let selector =
        |selector: &str| format!(r#""images":["a.com"],"podSelector":{{{selector}}},{STATIC}"#);
    let by_labels = selector(&format!(r#""matchLabels":{{{}}}"#, labels()));
    let by_expressions = selector(&format!(r#""matchExpressions":[{requirements}]"#));
    vec![
        registry("managedFields", &managed, &images(r#""a.com""#)),
        registry("no images", "", &images(&texts)),
        registry("patterns", "", &images(&patterns)),
        registry("selector", "", &by_labels),
        registry("requirements", "", &by_expressions),
    ]
}
