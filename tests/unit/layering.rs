//! The rooms' arrows point one way, no files name each other in a circle, pure rooms stay pure, files stay short.
//! `docs/ARCHITECTURE.md` draws it.

mod circles;

use circles::FileGraph;

use crate::support::sources::{Source, sources};

/// Each room, and the rooms it may import.
const ARROWS: &[(&str, &[&str])] = &[
    ("image", &[]),
    ("names", &[]),
    ("metric", &[]),
    ("clock", &[]),
    ("log_throttle", &[]),
    ("plain_text", &[]),
    ("quantity", &[]),
    ("api_server", &[]),
    ("registry", &["image", "names"]),
    (
        "credential",
        &[
            "api_server",
            "clock",
            "metric",
            "names",
            "plain_text",
            "registry",
        ],
    ),
    (
        "provision",
        &[
            "api_server",
            "clock",
            "log_throttle",
            "names",
            "plain_text",
            "quantity",
            "registry",
            "credential",
        ],
    ),
    (
        "admission",
        &[
            "metric",
            "image",
            "names",
            "registry",
            "provision",
            "server",
        ],
    ),
    (
        "broker",
        &[
            "api_server",
            "clock",
            "metric",
            "log_throttle",
            "names",
            "plain_text",
            "image",
            "registry",
            "credential",
            "provision",
            "server",
        ],
    ),
    (
        "cluster",
        &[
            "clock",
            "metric",
            "log_throttle",
            "names",
            "plain_text",
            "registry",
            "credential",
            "provision",
            "broker",
        ],
    ),
    (
        "controller",
        &[
            "clock",
            "metric",
            "log_throttle",
            "names",
            "quantity",
            "registry",
            "provision",
            "admission",
            "cluster",
            "certificates",
        ],
    ),
    ("server", &["metric", "log_throttle", "plain_text"]),
    ("certificates", &["clock", "metric", "plain_text"]),
    (
        "command",
        &[
            "clock",
            "image",
            "log_throttle",
            "metric",
            "names",
            "plain_text",
            "quantity",
            "registry",
            "credential",
            "provision",
            "admission",
            "broker",
            "cluster",
            "controller",
            "server",
            "certificates",
        ],
    ),
];

/// Modules that decide and do nothing else: `now` is an argument, everything they know is given to them.
const PURE: &[&str] = &[
    "api_server",
    "image",
    "names",
    "clock",
    "quantity",
    "registry",
    "admission/plan",
    "admission/patch",
    "admission/validate_registry",
    "broker/claims",
    "broker/decide",
    "broker/protocol",
    "broker/refusal",
    "broker/token",
    "provision/digest",
    "provision/secret",
    "provision/decide",
    "certificates/decide",
    "certificates/rewrite_backoff",
    "controller/credential_gc/plan",
    "controller/login_checks/schedule",
    "controller/reconciler/index",
    "controller/reconciler/record",
    "controller/reconciler/workqueue",
    "controller/removal_guard",
    "controller/missed_pods/calls",
    "controller/missed_pods/event",
    "controller/missed_pods/owner",
    "controller/missed_pods/schedule",
    "command/invocation",
    "command/status/findings",
    "command/status/of_cluster",
    "command/status/of_namespace",
    "command/status/render",
    "command/status/view",
];

/// What a pure module does not name: tasks, sockets, clients, clouds, clocks, the environment, files.
const IMPURE: &[&str] = &[
    "tokio",
    "axum",
    "hyper",
    "hyper_util",
    "tower",
    "tower_http",
    "reqwest",
    "rustls",
    "moka",
    "azure_core",
    "azure_identity",
    "tracing",
    "prometheus_client",
    "aws_config",
    "aws_credential_types",
    "aws_sdk_ecr",
    "aws_sdk_ecrpublic",
    "aws_sdk_sts",
    "aws_smithy_http_client",
    "aws_smithy_runtime_api",
    "aws_smithy_types",
    "Timestamp::now",
    "Zoned::now",
    "SystemTime",
    "Instant",
    "std::env",
    "std::fs",
    "std::io",
    "std::net",
    "std::process",
    "std::thread",
    "kube::Client",
    "kube::Api",
    "kube::api",
    "kube::client",
    "kube::config",
    "kube::runtime",
];

/// What only some rooms name.
const HELD_BY: &[(&str, &[&str])] = &[
    ("kube::Client", &["cluster", "controller", "command"]),
    ("kube::Api", &["cluster", "controller"]),
    ("kube::api", &["cluster", "controller"]),
    ("kube::runtime", &["cluster", "controller"]),
    ("aws_sdk_ecr", &["credential"]),
    ("aws_sdk_ecrpublic", &["credential"]),
    ("aws_sdk_sts", &["credential"]),
    ("azure_core", &["credential"]),
    ("azure_identity", &["credential"]),
    ("axum", &["admission", "broker", "server", "command"]),
    ("tokio_rustls", &["broker", "server"]),
    ("clap", &["command"]),
];

/// The only files that have a secret's plain text, which everybody else holds as a `SecretString`: to write it into what needs it, to
/// read what it says, or to compare it by digest. Six at the most: who reviews that nothing leaks reads no others.
const HAVE_PLAIN_TEXT: [&str; 6] = [
    "credential/jwt.rs",
    "credential/outgoing.rs",
    "credential/static_login.rs",
    "plain_text.rs",
    "plain_text/private_key.rs",
    "provision/secret.rs",
];

/// How it is had: of our own types, and of the clouds' libraries'.
const PLAIN_TEXT: &[&str] = &[
    "expose_secret",
    "expose_secret_mut",
    "ExposeSecret",
    "ExposeSecretMut",
    "secret_access_key()",
    "session_token()",
    "token.secret()",
];

/// The longest file, without its tests.
const LINES_MAX: usize = 400;

impl Source {
    /// The room it belongs to; `lib.rs` and `main.rs` belong to none.
    fn room(&self) -> &str {
        let first = self.path.split('/').next().unwrap_or_default();
        first.strip_suffix(".rs").unwrap_or(first)
    }

    /// The module, as a path: `registry/pattern`.
    fn module(&self) -> &str {
        self.path.strip_suffix(".rs").unwrap_or(&self.path)
    }

    fn is_within(&self, module: &str) -> bool {
        self.module()
            .strip_prefix(module)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// The text without comments, literals, and the tests at its end.
    fn code(&self) -> String {
        without_comments(without_tests(&self.text))
    }
}

fn without_tests(text: &str) -> &str {
    text.split_once("#[cfg(test)]\nmod ")
        .map_or(text, |(code, _)| code)
}

fn without_comments(text: &str) -> String {
    let lines = text.lines().map(|line| {
        let code = if line.trim_start().starts_with("//") {
            ""
        } else {
            line
        };
        code.split(" // ").next().unwrap_or_default()
    });
    let mut code = String::new();
    // Texts in quotes are no code; a quote within a text has a backslash in front.
    for line in lines {
        let mut in_text = false;
        let mut previous = ' ';
        for character in line.chars() {
            if character == '"' && previous != '\\' && previous != '\'' {
                in_text = !in_text;
            } else if !in_text {
                code.push(character);
            }
            previous = if previous == '\\' { ' ' } else { character };
        }
        code.push('\n');
    }
    code
}

/// The rooms that code names by `crate::`.
fn imported_rooms(code: &str) -> Vec<String> {
    let mut rooms = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        if code[..at].ends_with(|character: char| {
            character.is_alphanumeric() || matches!(character, '_' | '$')
        }) {
            continue;
        }
        let rest = &code[at + "crate::".len()..];
        match rest.strip_prefix('{') {
            Some(group) => rooms.extend(group_members(group)),
            None => rooms.push(identifier(rest)),
        }
    }
    rooms
}

/// The first identifiers of a group's members: `a` and `b` of `{a::x, b::{c, d}}`.
fn group_members(group: &str) -> Vec<String> {
    let mut members = vec![String::new()];
    let mut depth = 1;
    for character in group.chars() {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 1 => members.push(String::new()),
            _ => {}
        }
        if depth == 0 {
            break;
        }
        if let Some(member) = members.last_mut() {
            member.push(character);
        }
    }
    members
        .iter()
        .map(|member| identifier(member.trim_start_matches([',', ' ', '\n'])))
        .filter(|name| !name.is_empty())
        .collect()
}

fn identifier(text: &str) -> String {
    text.chars()
        .take_while(|character| character.is_alphanumeric() || *character == '_')
        .collect()
}

/// Whether code names a path as whole words.
fn names(code: &str, path: &str) -> bool {
    let is_word = |character: char| character.is_alphanumeric() || character == '_';
    let found = |needle: &str| {
        code.match_indices(needle).any(|(at, _)| {
            !code[..at].ends_with(is_word) && !code[at + needle.len()..].starts_with(is_word)
        })
    };
    // `use kube::{Api, Client}` names kube::Api as well.
    let in_group = path.split_once("::").is_some_and(|(krate, item)| {
        code.match_indices(&format!("{krate}::{{"))
            .any(|(at, opening)| {
                group_members(&code[at + opening.len()..])
                    .iter()
                    .any(|member| member == item)
            })
    });
    found(path) || in_group
}

/// Everything that breaks a rule.
fn violations(sources: &[Source]) -> Vec<String> {
    let mut found = Vec::new();
    for source in sources {
        let (path, room, code) = (&source.path, source.room(), source.code());
        let lines = without_tests(&source.text).lines().count();
        if lines > LINES_MAX {
            found.push(format!(
                "{path} has {lines} lines without its tests: split it"
            ));
        }
        if matches!(room, "lib" | "main") {
            continue;
        }
        let Some((_, allowed)) = ARROWS.iter().find(|(name, _)| *name == room) else {
            found.push(format!("{path} is in no known room: add its arrows"));
            continue;
        };
        for import in imported_rooms(&code) {
            if import != room && !allowed.contains(&import.as_str()) {
                found.push(format!(
                    "{path} imports {import}: no arrow leads from {room} to it"
                ));
            }
        }
        let depth = path.split('/').count();
        if code.contains(&"super::".repeat(depth)) {
            found.push(format!(
                "{path} reaches out of its room by super: write crate"
            ));
        }
        if PURE.iter().any(|module| source.is_within(module)) {
            let impure = IMPURE.iter().filter(|path| names(&code, path));
            found.extend(impure.map(|impure| format!("{path} is pure and names {impure}")));
        }
        let taken = HELD_BY
            .iter()
            .filter(|(path, rooms)| !rooms.contains(&room) && names(&code, path));
        found.extend(taken.map(|(taken, rooms)| {
            format!("{path} names {taken}, which only {} may", rooms.join(", "))
        }));
        if has_plain_text(source) && !HAVE_PLAIN_TEXT.contains(&path.as_str()) {
            found.push(format!(
                "{path} has the plain text of a secret: let one of {} do it",
                HAVE_PLAIN_TEXT.join(", ")
            ));
        }
    }
    found
}

fn has_plain_text(source: &Source) -> bool {
    let code = source.code();
    PLAIN_TEXT.iter().any(|accessor| names(&code, accessor))
}

#[test]
fn keeps_arrows_between_rooms() {
    let sources = sources();
    for (room, _) in ARROWS.iter().filter(|(room, _)| *room != "controller") {
        assert!(
            sources.iter().any(|source| source.room() == *room),
            "there is no room {room}"
        );
    }
    let violations = violations(&sources);
    assert!(violations.is_empty(), "{}", violations.join("\n"));
}

#[test]
fn lists_no_file_without_plain_text() {
    let sources = sources();
    let found = sources.iter().filter(|source| has_plain_text(source));
    let mut found: Vec<&str> = found.map(|source| source.path.as_str()).collect();
    found.sort_unstable();
    assert_eq!(found, HAVE_PLAIN_TEXT);
}

#[test]
fn finds_no_circle_among_files() {
    let sources = sources();
    let graph = FileGraph::of(&sources);
    let circles = graph.circles();
    println!("circles among {} files: {}", sources.len(), circles.len());
    let circles: Vec<String> = circles
        .iter()
        .map(|circle| graph.describe(circle))
        .collect();
    assert!(
        circles.is_empty(),
        "files name each other in a circle: move what both need into a file of its own\n{}",
        circles.join("\n")
    );
}

/// Files by name and text, and the circles among them.
type Planted = (
    &'static [(&'static str, &'static str)],
    &'static [&'static str],
);

const PLANTED_CIRCLES: &[Planted] = &[
    (
        &[
            ("server/a.rs", "use super::b::B;"),
            ("server/b.rs", "fn f() { crate::server::a::g(); }"),
        ],
        &["server/a.rs names server/b.rs; server/b.rs names server/a.rs"],
    ),
    // Through groups, aliases, a macro's arguments, a type, an inline module, and more than two files.
    (
        &[
            (
                "server/a.rs",
                "use crate::{image, server::{b::{self as other, C}, d}};",
            ),
            ("server/b.rs", "type T = Vec<super::c::C>;"),
            ("server/c.rs", "fn f() { log!(\"{}\", super::d::D); }"),
            ("server/d.rs", "mod inner { use super::super::a::A; }"),
            ("image.rs", ""),
        ],
        &[
            "server/a.rs names server/b.rs, server/d.rs; server/b.rs names server/c.rs; server/c.rs names server/d.rs; server/d.rs names server/a.rs",
        ],
    ),
    // A face stands for the file that defines the name.
    (
        &[
            (
                "server.rs",
                "mod a; mod b; pub use self::a::{A as First}; pub use self::b::B;",
            ),
            ("server/a.rs", "use super::B;"),
            ("server/b.rs", "use crate::server::First;"),
        ],
        &["server/a.rs names server/b.rs; server/b.rs names server/a.rs"],
    ),
    // One that names its files in code of its own is no face: who names them by it names it.
    (
        &[
            (
                "server.rs",
                "mod a; mod b; pub use self::a::A; use self::b::f; fn g() { f() }",
            ),
            ("server/a.rs", ""),
            ("server/b.rs", "use super::A;"),
        ],
        &["server.rs names server/b.rs; server/b.rs names server.rs"],
    ),
    (
        &[
            ("server.rs", "use self::a::f; pub struct S;"),
            ("server/a.rs", "use super::S;"),
        ],
        &["server.rs names server/a.rs; server/a.rs names server.rs"],
    ),
    (
        &[
            ("server/a.rs", "use super::b::{\n    // first\n    B,\n};"),
            ("server/b.rs", "use super::a::A;"),
            (
                "server/c.rs",
                "impl super::d::D for C { fn f() { self::g() } }",
            ),
            ("server/d.rs", "const C: super::c::C = super::c::C::new();"),
        ],
        &[
            "server/a.rs names server/b.rs; server/b.rs names server/a.rs",
            "server/c.rs names server/d.rs; server/d.rs names server/c.rs",
        ],
    ),
    // No circles: tests, comments and texts, visibilities, another crate's path, a face that re-exports alone.
    (
        &[
            (
                "server/a.rs",
                "use super::b::B; #[cfg(test)] mod tests { use crate::server::c::C; } fn f() {}",
            ),
            (
                "server/b.rs",
                "/// [`super::a`]\n#[cfg(test)]\nuse super::a::A; pub(in crate::server::a) fn f() -> &str { \"super::a::A\" }",
            ),
            (
                "server/c.rs",
                "use ::server::a::A; fn f() { other::server::a::A; self.a() }",
            ),
        ],
        &[],
    ),
    (
        &[
            (
                "server.rs",
                "mod a; mod b; pub(crate) use self::a::A; pub use self::b::B;",
            ),
            ("server/a.rs", "use super::B;"),
            ("server/b.rs", ""),
        ],
        &[],
    ),
];

#[test]
fn finds_planted_circles() {
    for (files, expected) in PLANTED_CIRCLES {
        let planted: Vec<Source> = files
            .iter()
            .map(|(path, text)| Source {
                path: (*path).to_owned(),
                text: (*text).to_owned(),
            })
            .collect();
        let graph = FileGraph::of(&planted);
        let circles = graph.circles();
        let found: Vec<String> = circles
            .iter()
            .map(|circle| graph.describe(circle))
            .collect();
        assert_eq!(found, *expected, "{files:?}");
    }
}

/// Planted files, and what is found in each of them.
const PLANTED: &[(&str, &str, &str)] = &[
    (
        "image.rs",
        "use crate::registry::Host;",
        "image.rs imports registry: no arrow leads from image to it",
    ),
    (
        "server/tls.rs",
        "use crate::{admission::x, server::y};",
        "server/tls.rs imports admission: no arrow leads from server to it",
    ),
    (
        "provision/provisioner.rs",
        "fn f() { crate::cluster::apply(); }",
        "provision/provisioner.rs imports cluster: no arrow leads from provision to it",
    ),
    (
        "registry/a.rs",
        "use super::super::credential::X;",
        "registry/a.rs reaches out of its room by super: write crate",
    ),
    (
        "registry/a.rs",
        "use tokio::sync::Mutex;",
        "registry/a.rs is pure and names tokio",
    ),
    (
        "admission/plan.rs",
        "let now = Timestamp::now();",
        "admission/plan.rs is pure and names Timestamp::now",
    ),
    (
        "provision/secret/merge.rs",
        "std::env::var(x)",
        "provision/secret/merge.rs is pure and names std::env",
    ),
    (
        "provision/state.rs",
        "use kube::{Resource, runtime::watcher};",
        "provision/state.rs names kube::runtime, which only cluster, controller may",
    ),
    (
        "admission.rs",
        "aws_sdk_ecr::Client",
        "admission.rs names aws_sdk_ecr, which only credential may",
    ),
    (
        "credential/ecr.rs",
        "let text = secret.expose_secret();",
        "credential/ecr.rs has the plain text of a secret: let one of credential/jwt.rs, credential/outgoing.rs, credential/static_login.rs, plain_text.rs, plain_text/private_key.rs, provision/secret.rs do it",
    ),
    (
        "credential/aws.rs",
        "f(keys.secret_access_key())",
        "credential/aws.rs has the plain text of a secret: let one of credential/jwt.rs, credential/outgoing.rs, credential/static_login.rs, plain_text.rs, plain_text/private_key.rs, provision/secret.rs do it",
    ),
    (
        "somewhere.rs",
        "",
        "somewhere.rs is in no known room: add its arrows",
    ),
];

#[test]
fn finds_planted_violations() {
    let long = "\n".repeat(LINES_MAX + 1);
    let long = (
        "server.rs",
        long.as_str(),
        "server.rs has 401 lines without its tests: split it",
    );
    for (path, text, expected) in PLANTED.iter().chain([&long]) {
        let planted = Source {
            path: (*path).to_owned(),
            text: (*text).to_owned(),
        };
        assert_eq!(violations(&[planted]), [*expected]);
    }
}

#[test]
fn leaves_allowed_things_alone() {
    let rows = [
        (
            "admission/plan.rs",
            "//! As [`crate::cluster`] does.\nuse crate::{image::Reference, registry};\nlet x = \"tokio\"; // tokio\n",
        ),
        (
            "registry/crd/schema.rs",
            "use super::super::pattern;\nuse kube::{CustomResource, KubeSchema};",
        ),
        (
            "image.rs",
            "fn f() {}\n#[cfg(test)]\nmod tests { use crate::command; }",
        ),
        (
            "command.rs",
            "use crate::{admission, cluster};\nuse clap::Parser;",
        ),
    ];
    for (path, text) in rows {
        let source = Source {
            path: path.to_owned(),
            text: text.to_owned(),
        };
        assert_eq!(violations(&[source]), Vec::<String>::new());
    }
}
