//! `pullpass policy`, as it is run.

use std::collections::BTreeSet;
use std::process::{Command, Output};

use serde_json::{Value, json};

const REGISTRIES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/policy.yaml");
const EXAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/registries.yaml");

/// What pushing takes besides, which documents of Registries with access Push alone may allow.
const PUSH_ACTIONS: [&str; 4] = [
    "ecr:CompleteLayerUpload",
    "ecr:InitiateLayerUpload",
    "ecr:PutImage",
    "ecr:UploadLayerPart",
];

/// The same of Amazon ECR Public, where anybody may pull.
const PUBLIC_PUSH_ACTIONS: [&str; 5] = [
    "ecr-public:BatchCheckLayerAvailability",
    "ecr-public:CompleteLayerUpload",
    "ecr-public:InitiateLayerUpload",
    "ecr-public:PutImage",
    "ecr-public:UploadLayerPart",
];

/// What pulling takes, and no more: the actions that any document may allow.
const ACTIONS: [&str; 9] = [
    "ecr-public:GetAuthorizationToken",
    "ecr:BatchCheckLayerAvailability",
    "ecr:BatchGetImage",
    "ecr:GetAuthorizationToken",
    "ecr:GetDownloadUrlForLayer",
    "sts:AssumeRole",
    "sts:AssumeRoleWithWebIdentity",
    "sts:GetServiceBearerToken",
    "sts:TagSession",
];

/// The actions that AWS takes on every resource alone.
const ON_EVERYTHING: [&str; 3] = [
    "ecr-public:GetAuthorizationToken",
    "ecr:GetAuthorizationToken",
    "sts:GetServiceBearerToken",
];

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_pullpass"))
        .arg("policy")
        .args(arguments)
        .output()
        .expect("the program can be run")
}

/// What it prints, when all is well.
fn text(arguments: &[&str]) -> String {
    let output = run(arguments);
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!((output.status.code(), stderr.as_str()), (Some(0), ""));
    String::from_utf8(output.stdout).expect("it writes UTF-8")
}

/// The Registries of `-o json`.
fn setups(arguments: &[&str]) -> Vec<Value> {
    let text = text(&[&["-o", "json"], arguments].concat());
    let report: Value = serde_json::from_str(&text).expect("it writes JSON");
    report["registries"].as_array().expect("a list").clone()
}

/// A file with Registries.
fn file_of(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().expect("a file can be made");
    std::fs::write(file.path(), text).expect("the file can be written");
    file
}

fn path(file: &tempfile::NamedTempFile) -> &str {
    file.path().to_str().expect("the path is UTF-8")
}

fn list(value: &Value) -> Vec<&Value> {
    value.as_array().into_iter().flatten().collect()
}

/// All statements of a Registry's documents.
fn statements(setup: &Value) -> Vec<&Value> {
    let steps = list(&setup["steps"]).into_iter();
    steps
        .flat_map(|step| list(&step["document"]["Statement"]))
        .collect()
}

fn setup<'a>(setups: &'a [Value], name: &str) -> &'a Value {
    let found = setups.iter().find(|setup| setup["registry"] == name);
    found.expect("the Registry is there")
}

#[test]
fn prints_what_each_identity_needs() {
    insta::assert_snapshot!(text(&["-f", REGISTRIES]));
}

#[test]
fn prints_documents_filled_in_for_programs() {
    let arguments = [
        "-f",
        REGISTRIES,
        "--issuer",
        "https://oidc.example.com/id/ABC",
        "--account",
        "123456789012",
        "--namespace",
        "registry-system",
        "--service-account",
        "puller",
    ];
    insta::assert_json_snapshot!(setups(&arguments));
}

#[test]
fn allows_nothing_but_what_the_registry_is_for() {
    for file in [REGISTRIES, EXAMPLES] {
        for setup in setups(&["-f", file]) {
            let is_push = setup["access"] == "Push";
            let is_allowed = |action: &str| {
                let pushes =
                    PUSH_ACTIONS.contains(&action) || PUBLIC_PUSH_ACTIONS.contains(&action);
                ACTIONS.contains(&action) || (is_push && pushes)
            };
            for statement in statements(&setup) {
                let is_denied = statement["Sid"] == "Excluded";
                let effect = if is_denied { "Deny" } else { "Allow" };
                assert_eq!(statement["Effect"], effect);
                let actions: BTreeSet<&str> = list(&statement["Action"])
                    .into_iter()
                    .filter_map(Value::as_str)
                    .collect();
                assert!(!actions.is_empty(), "{statement}");
                for action in &actions {
                    assert!(is_allowed(action), "{action} in {setup}");
                }
                let resources = list(&statement["Resource"]);
                if resources.iter().any(|resource| *resource == "*") {
                    let is_known = actions.iter().all(|action| ON_EVERYTHING.contains(action));
                    assert!(is_known, "{statement}");
                }
                let has_principal = statement["Principal"].is_object();
                assert_ne!(has_principal, !resources.is_empty(), "{statement}");
            }
        }
    }
}

#[test]
fn names_every_placeholder_that_it_leaves() {
    for setup in setups(&["-f", REGISTRIES]) {
        for step in list(&setup["steps"]) {
            let mut shown = step.clone();
            let replace = shown["replace"].take();
            let shown = format!(
                "{}{}{}",
                shown["document"], shown["attachTo"], shown["commands"]
            );
            let left: BTreeSet<&str> = shown
                .split('<')
                .skip(1)
                .filter_map(|rest| rest.split('>').next())
                .collect();
            let named: BTreeSet<&str> = list(&replace)
                .into_iter()
                .filter_map(|replace| replace["placeholder"].as_str())
                .map(|placeholder| placeholder.trim_matches(['<', '>']))
                .collect();
            assert_eq!(left, named, "{step}");
        }
    }
}

#[test]
fn trusts_no_other_subject_than_the_identity() {
    let setups = setups(&["-f", REGISTRIES, "--issuer", "https://oidc.example.com"]);
    let subjects = |name: &str| -> Vec<String> {
        let conditions = statements(setup(&setups, name)).into_iter();
        conditions
            .flat_map(|statement| {
                list(&statement["Condition"]["StringEquals"]["oidc.example.com:sub"])
            })
            .map(|subject| subject.as_str().expect("a text").to_owned())
            .collect()
    };
    assert_eq!(
        subjects("a-workload"),
        ["system:serviceaccount:pullpass:pullpass"]
    );
    assert_eq!(
        subjects("f-service-account"),
        [
            "system:serviceaccount:ci-one:ci",
            "system:serviceaccount:ci-two:ci"
        ]
    );
    assert_eq!(
        subjects("g-annotated"),
        ["system:serviceaccount:<NAMESPACE>:default"]
    );
    assert!(subjects("b-keys").is_empty());
    let hop = statements(setup(&setups, "e-chain"))
        .into_iter()
        .find(|statement| statement["Condition"]["StringEquals"]["sts:ExternalId"].is_array())
        .expect("the chain's last role asks for the external id");
    assert_eq!(
        hop["Principal"]["AWS"],
        "arn:aws:iam::123456789012:role/hub"
    );
}

#[test]
fn asks_other_accounts_for_their_repositories_alone() {
    let setups = setups(&["-f", REGISTRIES, "--account", "123456789012"]);
    let foreign = |name: &str| -> Vec<Value> {
        let steps = list(&setup(&setups, name)["steps"]).into_iter();
        steps
            .filter(|step| step["kind"] == "repositoryPolicy")
            .flat_map(|step| list(&step["attachTo"]))
            .cloned()
            .collect()
    };
    assert_eq!(
        foreign("a-workload"),
        ["arn:aws:ecr:eu-west-1:210987654321:repository/shared/base"]
    );
    for name in [
        "b-keys",
        "d-public",
        "e-chain",
        "f-service-account",
        "i-static",
    ] {
        assert_eq!(foreign(name), [] as [&str; 0], "{name}");
    }
}

/// The repositories that an identity policy of a Registry denies, and all notes of the Registry's steps.
fn denied_and_notes(setups: &[Value], name: &str) -> (Vec<String>, Vec<String>) {
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let steps = list(&setup(setups, name)["steps"]).into_iter();
    let notes = steps.flat_map(|step| list(&step["notes"])).map(text);
    let statements = statements(setup(setups, name)).into_iter();
    let denied = statements
        .filter(|statement| statement["Effect"] == "Deny")
        .flat_map(|statement| list(&statement["Resource"]))
        .map(text);
    (denied.collect(), notes.collect())
}

#[test]
fn denies_what_excluded_images_take_away() {
    let setups = setups(&["-f", REGISTRIES, "--account", "123456789012"]);
    let arn = |rest: &str| format!("arn:aws:ecr:eu-west-1:{rest}");
    let (denied, notes) = denied_and_notes(&setups, "o-excluded");
    let hidden = [
        arn("210987654321:repository/hidden"),
        arn("210987654321:repository/hidden/*"),
    ];
    let secret = [
        arn("123456789012:repository/team/secret"),
        arn("123456789012:repository/team/secret/*"),
    ];
    assert_eq!(denied, [secret, hidden.clone()].concat());
    let has = |words: &str| notes.iter().any(|note| note.contains(words));
    let given = "give none to 210987654321.dkr.ecr.eu-west-1.amazonaws.com/hidden";
    assert!(has(given), "{notes:?}");
    assert!(has("of public.ecr.aws cannot be denied"), "{notes:?}");
    assert!(has("another Registry with the same identity"), "{notes:?}");

    // Under its other name the registry is asked for `secret`.
    let (denied, notes) = denied_and_notes(&setups, "p-excluded-by-one-host");
    let both = [
        arn("123456789012:repository/team/both"),
        arn("123456789012:repository/team/both/*"),
    ];
    assert_eq!(denied, both);
    let open = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/team/secret of excludedImages can be reached all the same";
    assert!(notes.iter().any(|note| note.contains(open)), "{notes:?}");

    let (_, notes) = denied_and_notes(&setups, "r-static-excluded");
    let words = "give it no right to those repositories";
    assert!(notes.iter().any(|note| note.contains(words)), "{notes:?}");
    for name in ["a-workload", "i-static", "j-azure-workload"] {
        let (denied, notes) = denied_and_notes(&setups, name);
        assert_eq!(denied, [] as [&str; 0], "{name}");
        assert!(!notes.join(" ").contains("xclude"), "{name}: {notes:?}");
    }
}

#[test]
fn takes_what_is_excluded_out_of_conditions() {
    let setups = setups(&["-f", REGISTRIES]);
    let roles = documents(&setups, "q-azure-excluded", "roleAssignment");
    let condition = |registry: &str| {
        let of_registry = |role: &&Value| {
            let scope = role["scope"].as_str().expect("a text");
            scope.ends_with(registry) && role["condition"].is_string()
        };
        let role = roles.iter().find(of_registry).expect("it has a condition");
        let condition = role["condition"].as_str().expect("a text");
        let (_, names) = condition.split_once(" OR (").expect("names");
        names.replace(
            "@Request[Microsoft.ContainerRegistry/registries/repositories:name]",
            "name",
        )
    };
    assert_eq!(
        condition("contoso"),
        "((name StringEqualsIgnoreCase 'team' OR name StringStartsWithIgnoreCase 'team/') \
         AND name StringNotEqualsIgnoreCase 'team/secret' AND name StringNotStartsWithIgnoreCase 'team/secret/') \
         OR name StringEqualsIgnoreCase 'base' OR name StringStartsWithIgnoreCase 'base/'))"
    );
    // What is excluded under one login server may be an image under another one.
    assert_eq!(
        condition("fabrikam"),
        "(name StringNotEqualsIgnoreCase 'hidden' AND name StringNotStartsWithIgnoreCase 'hidden/') \
         OR name StringEqualsIgnoreCase 'team' OR name StringStartsWithIgnoreCase 'team/'))"
    );
    let (_, notes) = denied_and_notes(&setups, "q-azure-excluded");
    let words = "what excludedImages takes away, too";
    assert!(notes.iter().any(|note| note.contains(words)), "{notes:?}");
}

/// A scope that a pattern has excluded, or that is another pattern's, is not allowed by it.
#[test]
fn leaves_scopes_that_are_excluded_out_of_conditions() {
    let file = file_of(
        "{apiVersion: pullpass.dev/v1alpha1, kind: Registry, metadata: {name: scoped}, spec: {access: Push, namespaceSelector: {matchLabels: {a: b}},
          images: [contoso.azurecr.io/a, contoso.azurecr.io/b], excludedImages: [contoso.azurecr.io/a/prod, contoso.azurecr.io/b/x/cache],
          acr: {identity: {workload: {}}, scopes: [a/prod, b/x, b/y]}}}",
    );
    for (more, wanted) in [
        (&[][..], &["b/x", "b/y"][..]),
        (&["--cache-repositories"], &["b/x", "b/y", "b/y/cache"]),
    ] {
        let setups = setups(&[&["-f", path(&file)], more].concat());
        let roles = documents(&setups, "scoped", "roleAssignment");
        let condition = roles[1]["condition"].as_str().expect("a condition");
        let (_, names) = condition.split_once(" OR (").expect("names");
        let names: Vec<&str> = names.split('\'').skip(1).step_by(2).collect();
        assert_eq!(names, wanted, "{condition}");
    }
}

/// A role that trusts the agent for a namespace and ServiceAccount alone is open to those of every cluster of the account.
#[test]
fn trusts_pod_identity_of_one_cluster() {
    let arn = "arn:aws:eks:eu-west-1:123456789012:cluster/main";
    for (arguments, wanted) in [
        (&["-f", REGISTRIES][..], "<CLUSTER_ARN>"),
        (&["-f", REGISTRIES, "--cluster-arn", arn], arn),
    ] {
        let setups = setups(arguments);
        let trusts: Vec<&Value> = setups
            .iter()
            .flat_map(statements)
            .filter(|statement| statement["Sid"] == "PodIdentity")
            .collect();
        assert!(!trusts.is_empty());
        for trust in trusts {
            let tags = &trust["Condition"]["StringEquals"];
            assert_eq!(tags["aws:RequestTag/eks-cluster-arn"], json!([wanted]));
            assert_eq!(
                tags["aws:RequestTag/kubernetes-namespace"],
                json!(["pullpass"])
            );
        }
    }
}

#[test]
fn assigns_no_role_in_azure_but_those_that_read() {
    let setups = setups(&["-f", REGISTRIES, "--issuer", "https://oidc.example.com/"]);
    let roles = |name: &str| -> Vec<(String, bool)> {
        let all = documents(&setups, name, "roleAssignment").into_iter();
        all.map(|role| {
            let id = role["roleDefinitionId"]
                .as_str()
                .expect("a text")
                .to_owned();
            (id, role["condition"].is_string())
        })
        .collect()
    };
    let (pull, read) = (
        "7f951dda-4ed3-4680-a7ca-43fe172d538d",
        "b93aa761-3e63-49ed-ac28-beffa264f7ac",
    );
    let (pull, read) = (pull.to_owned(), read.to_owned());
    assert_eq!(
        roles("j-azure-workload"),
        [
            (pull.clone(), false),
            (read.clone(), true),
            (pull.clone(), false),
            (read.clone(), false),
        ]
    );
    for name in ["k-azure-managed-china", "l-azure-principal"] {
        assert_eq!(
            roles(name),
            [(pull.clone(), false), (read.clone(), true)],
            "{name}"
        );
    }
}

/// The documents of a Registry's steps of one kind.
fn documents(setups: &[Value], name: &str, kind: &str) -> Vec<Value> {
    let all = list(&setup(setups, name)["steps"]).into_iter();
    all.filter(|step| step["kind"] == kind)
        .map(|step| step["document"].clone())
        .collect()
}

/// What Entra ID compares to the letter.
#[test]
fn federates_applications_with_the_identity_alone() {
    let setups = setups(&["-f", REGISTRIES, "--issuer", "https://oidc.example.com/"]);
    let ci = [
        "system:serviceaccount:ci-one:ci",
        "system:serviceaccount:ci-two:ci",
    ];
    let rows: [(&str, &[&str], &str); 4] = [
        (
            "j-azure-workload",
            &["system:serviceaccount:pullpass:pullpass"],
            "api://AzureADTokenExchange",
        ),
        ("k-azure-managed-china", &[], ""),
        ("m-azure-service-account", &ci, "api://AzureADTokenExchange"),
        (
            "n-azure-annotated",
            &["system:serviceaccount:<NAMESPACE>:default"],
            "api://AzureADTokenExchangeUSGov",
        ),
    ];
    for (name, subjects, audience) in rows {
        let federated = documents(&setups, name, "federatedCredential");
        let told: Vec<&Value> = federated.iter().map(|one| &one["subject"]).collect();
        assert_eq!(told, subjects, "{name}");
        for one in &federated {
            assert_eq!(one["issuer"], "https://oidc.example.com/", "{name}");
            assert_eq!(one["audiences"], json!([audience]), "{name}");
        }
    }
}

#[test]
fn refuses_what_it_cannot_use() {
    let rows: [(&[&str], &str); 10] = [
        (&[], "--filename <FILE>"),
        (&["-f", "/nonexistent"], "name a file that can be read"),
        (
            &["-f", REGISTRIES, "--issuer", "http://a.io"],
            "https://HOST/PATH",
        ),
        (
            &["-f", REGISTRIES, "--issuer", "https://a.io/\"x"],
            "https://HOST/PATH",
        ),
        (
            &["-f", REGISTRIES, "--account", "12345678901x"],
            "12 digits",
        ),
        (
            &["-f", REGISTRIES, "--cluster-arn", "main"],
            "arn:PARTITION:eks:REGION:ACCOUNT:cluster/NAME",
        ),
        (
            &["-f", REGISTRIES, "--repository", "public.ecr.aws"],
            "HOST/PATH",
        ),
        (
            &["-f", REGISTRIES, "--repository", "*.example.com/a"],
            "without *",
        ),
        (
            &["-f", REGISTRIES, "--repository", "other.example.com/a"],
            "no Registry of the files has an image that covers it",
        ),
        (
            &[
                "-f",
                REGISTRIES,
                "--repository",
                "210987654321.dkr.ecr.eu-west-1.amazonaws.com/hidden/a",
            ],
            "/hidden in excludedImages of Registry o-excluded takes it away",
        ),
    ];
    for (arguments, words) in rows {
        let output = run(arguments);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(stderr.contains(words), "{arguments:?}: {stderr}");
        assert!(output.stdout.is_empty(), "{arguments:?}");
    }
}

#[test]
fn assigns_one_role_for_all_doors_of_a_registry() {
    let setups = setups(&["-f", EXAMPLES]);
    let steps = list(&setup(&setups, "azure")["steps"]);
    let roles = steps.iter().filter(|step| step["kind"] == "roleAssignment");
    let titles: Vec<&str> = roles.filter_map(|step| step["title"].as_str()).collect();
    // One of them for each of the two ways in which a registry gives rights.
    assert_eq!(titles.len(), 2, "{titles:?}");
    let doors = "contoso.azurecr.io and contoso.westeurope.geo.azurecr.io";
    assert!(
        titles.iter().all(|title| title.contains(doors)),
        "{titles:?}"
    );
}

/// F5, F20: what IAM must know of another audience and of longer sessions.
#[test]
fn asks_iam_for_the_audience_and_the_session_that_the_registry_says() {
    let setups = setups(&["-f", REGISTRIES]);
    let chosen = setup(&setups, "z-audience");
    let audiences = |setup| {
        let conditions = statements(setup).into_iter();
        let conditions =
            conditions.map(|one| one["Condition"]["StringEquals"]["<ISSUER>:aud"].clone());
        conditions.filter(|one| !one.is_null()).collect::<Vec<_>>()
    };
    assert_eq!(audiences(chosen), [json!(["my-cloud"])]);
    let plain = setup(&setups, "g-annotated");
    assert_eq!(audiences(plain), [json!(["sts.amazonaws.com"])]);
    let (_, notes) = denied_and_notes(&setups, "z-audience");
    for words in [
        "audience my-cloud",
        "tokenAudiences",
        "must be 7200 s or more",
    ] {
        assert!(notes.iter().any(|note| note.contains(words)), "{notes:?}");
    }
    let (_, notes) = denied_and_notes(&setups, "g-annotated");
    let annotation = "eks.amazonaws.com/audience";
    assert!(
        notes.iter().any(|note| note.contains(annotation)),
        "{notes:?}"
    );
}

/// F10: printed where wanted, on the very repositories that may be pulled, and nowhere else.
#[test]
fn prints_what_pull_through_caches_need_where_that_is_asked_for() {
    let plain = text(&["-f", REGISTRIES]);
    let cached = setups(&["-f", REGISTRIES, "--pull-through-cache"]);
    let actions = ["ecr:BatchImportUpstreamImage", "ecr:CreateRepository"];
    for action in actions {
        assert!(!plain.contains(action), "{action}");
    }
    let find = |setup, sid: &str| {
        let mut found = statements(setup)
            .into_iter()
            .filter(|one| one["Sid"] == sid);
        found.next().cloned()
    };
    let mut count = 0;
    for setup in &cached {
        let (pull, cache) = (find(setup, "Pull"), find(setup, "PullThroughCache"));
        assert_eq!(pull.is_some(), cache.is_some(), "{setup}");
        if let (Some(pull), Some(cache)) = (pull, cache) {
            count += 1;
            assert_eq!(cache["Action"], json!(actions), "{cache}");
            assert_eq!(cache["Resource"], pull["Resource"], "{cache}");
        }
    }
    assert!(count > 0);
}

/// What is attached to what, of one kind of steps: the ARN or name, the actions, and the principal.
fn attached(setups: &[Value], name: &str, kind: &str) -> Vec<(String, Vec<String>)> {
    let steps = list(&setup(setups, name)["steps"]).into_iter();
    let steps = steps.filter(|step| step["kind"] == kind);
    steps
        .map(|step| {
            let to = list(&step["attachTo"]);
            assert_eq!(to.len(), 1, "{step}");
            let statements = list(&step["document"]["Statement"]).into_iter();
            let actions = statements.flat_map(|statement| list(&statement["Action"]));
            let text = |value: &Value| value.as_str().expect("a text").to_owned();
            (text(to[0]), actions.map(text).collect())
        })
        .collect()
}

/// A policy of a repository is that repository's: it can be put on no wildcard, and names no resource.
#[test]
fn prints_one_policy_for_each_repository_and_none_for_wildcards() {
    let more: [&[&str]; 4] = [
        &[],
        &["--resource-based", "--account", "123456789012"],
        &["--cache-repositories", "--create-repositories"],
        &["--pull-through-cache"],
    ];
    for more in more {
        let setups = setups(&[&["-f", REGISTRIES], more].concat());
        let mut count = 0;
        for step in setups.iter().flat_map(|setup| list(&setup["steps"])) {
            if step["kind"] != "repositoryPolicy" {
                continue;
            }
            count += 1;
            let [arn] = list(&step["attachTo"])[..] else {
                panic!("{step}");
            };
            assert!(!arn.as_str().expect("a text").contains('*'), "{step}");
            for statement in list(&step["document"]["Statement"]) {
                assert!(statement["Principal"]["AWS"].is_string(), "{step}");
                assert!(statement["Resource"].is_null(), "{step}");
            }
            let command = step["commands"][0].as_str().expect("a command");
            assert!(command.contains("set-repository-policy"), "{command}");
        }
        assert!(count > 5, "{count}");
    }
}

#[test]
fn allows_builders_to_push_by_the_identity_and_by_the_repository_of_another_account() {
    let setups = setups(&["-f", REGISTRIES, "--account", "123456789012"]);
    let pull = [
        "BatchCheckLayerAvailability",
        "BatchGetImage",
        "GetDownloadUrlForLayer",
    ];
    let pull = pull.map(|action| format!("ecr:{action}"));
    let both = [&pull[..], &PUSH_ACTIONS.map(str::to_owned)].concat();
    let ecr = "arn:aws:ecr:eu-west-1";
    assert_eq!(
        attached(&setups, "push-ecr", "repositoryPolicy"),
        [(
            format!("{ecr}:210987654321:repository/shared/app"),
            both.clone()
        )]
    );
    let found: Vec<&Value> = statements(setup(&setups, "push-ecr"));
    let push = found
        .iter()
        .find(|one| one["Sid"] == "Push")
        .expect("it pushes");
    assert_eq!(push["Action"], json!(PUSH_ACTIONS));
    let repositories = [
        "123456789012:repository/team/app",
        "210987654321:repository/shared/app",
    ];
    let repositories: Vec<String> = repositories
        .iter()
        .flat_map(|one| [format!("{ecr}:{one}"), format!("{ecr}:{one}/*")])
        .collect();
    assert_eq!(push["Resource"], json!(repositories));
    let denied = found
        .iter()
        .find(|one| one["Effect"] == "Deny")
        .expect("a Deny");
    assert_eq!(denied["Action"], json!(both));
    let secret = format!("{ecr}:123456789012:repository/team/app/secret");
    assert_eq!(denied["Resource"], json!([secret, format!("{secret}/*")]));

    let public = statements(setup(&setups, "push-public"));
    let push = public
        .iter()
        .find(|one| one["Sid"] == "PushPublic")
        .expect("it pushes");
    assert_eq!(push["Action"], json!(PUBLIC_PUSH_ACTIONS));
    let arn = "arn:aws:ecr-public::<ACCOUNT_ID_OF_alias>:repository/app";
    assert_eq!(push["Resource"], json!([arn, format!("{arn}/*")]));
    assert_eq!(
        attached(&setups, "push-public", "repositoryPolicy")[0].0,
        arn
    );

    let (_, notes) = denied_and_notes(&setups, "push-static");
    let words = "no more than pulling and pushing";
    assert!(notes.iter().any(|note| note.contains(words)), "{notes:?}");
}

/// In its own account the policy of a repository is enough, but for the login, which is on no repository.
#[test]
fn leaves_to_repositories_what_they_can_allow_where_that_is_asked_for() {
    let host = "123456789012.dkr.ecr.eu-west-1.amazonaws.com";
    let named = format!("{host}/team/app/web");
    let arguments = [
        "-f",
        REGISTRIES,
        "--account",
        "123456789012",
        "--resource-based",
    ];
    let arguments = [&arguments[..], &["--repository", &named]].concat();
    let setups = setups(&arguments);
    let ecr = "arn:aws:ecr:eu-west-1";
    let to = |kind| -> Vec<String> {
        let all = attached(&setups, "push-ecr", kind).into_iter();
        all.map(|(to, _)| to).collect()
    };
    assert_eq!(
        to("repositoryPolicy"),
        [
            format!("{ecr}:123456789012:repository/team/app/web"),
            format!("{ecr}:210987654321:repository/shared/app"),
        ]
    );
    let found = statements(setup(&setups, "push-ecr"));
    let push = found
        .iter()
        .find(|one| one["Sid"] == "Push" && one["Resource"].is_array());
    let shared = format!("{ecr}:210987654321:repository/shared/app");
    assert_eq!(
        push.expect("it pushes")["Resource"],
        json!([shared, format!("{shared}/*")])
    );
    // Of the principal's own account nothing but the login is left.
    let found = statements(setup(&setups, "b-keys"));
    assert_eq!(list(&found[0]["Action"]), ["ecr:GetAuthorizationToken"]);
    // Its account is not known to be the registry's.
    let unknown = text(&["-f", REGISTRIES, "--resource-based"]);
    assert!(unknown.contains("give --account"), "{unknown}");
}

#[test]
fn lets_builders_make_repositories_and_keep_layers_where_that_is_asked_for() {
    let plain = text(&["-f", REGISTRIES]);
    for word in ["CreateRepository", "/cache"] {
        assert!(!plain.contains(word), "{word}");
    }
    let arguments = ["--create-repositories", "--cache-repositories"];
    let arguments = [
        &["-f", REGISTRIES, "--account", "123456789012"],
        &arguments[..],
    ]
    .concat();
    let setups = setups(&arguments);
    for setup in &setups {
        let creates = setup.to_string().contains(":CreateRepository");
        let is_ecr_push = setup["access"] == "Push" && setup["provider"] == "ecr";
        assert_eq!(creates, is_ecr_push, "{setup}");
    }
    let shared = "arn:aws:ecr:eu-west-1:210987654321:repository/shared/app";
    let to = |kind| -> Vec<String> {
        let all = attached(&setups, "push-ecr", kind).into_iter();
        all.map(|(to, _)| to).collect()
    };
    assert_eq!(
        to("repositoryPolicy"),
        [shared.to_owned(), format!("{shared}/cache")]
    );
    // A repository that is not there has no policy: its registry's allows making it.
    assert_eq!(to("registryPolicy"), ["registry 210987654321 in eu-west-1"]);
    let found = statements(setup(&setups, "push-ecr"));
    let theirs = |one: &&&Value| one["Principal"].is_object() && one["Resource"].is_array();
    let created = found.iter().find(theirs).expect("the registry's policy");
    assert_eq!(created["Action"], json!(["ecr:CreateRepository"]));
    assert_eq!(created["Resource"], json!([shared, format!("{shared}/*")]));
    let roles = documents(&setups, "push-azure-scoped", "roleAssignment");
    let condition = roles[1]["condition"].as_str().expect("a condition");
    for name in ["'team/app'", "'team/app/cache'"] {
        assert!(condition.contains(name), "{condition}");
    }
    let (_, notes) = denied_and_notes(&setups, "push-azure-scoped");
    let words = "acr.scopes must list the repositories of the layers";
    assert!(notes.iter().any(|note| note.contains(words)), "{notes:?}");
}

/// What is excluded from one Registry may be named as another one's: the first one's own pattern is named all the same.
#[test]
fn gives_excluded_repositories_and_caches_no_policy() {
    let host = "123456789012.dkr.ecr.eu-west-1.amazonaws.com";
    let registry = |name: &str, rest: &str| {
        format!(
            "{{apiVersion: pullpass.dev/v1alpha1, kind: Registry, metadata: {{name: {name}}}, spec: {{access: Push, namespaceSelector: {{matchLabels: {{a: b}}}}, {rest}, ecr: {{identity: {{keys: {{secretRef: {{name: {name}}}}}}}}}}}}}"
        )
    };
    let file = file_of(
        &[
            registry(
                "one",
                &format!(
                    "images: [{host}/team], excludedImages: [{host}/team/secret, {host}/team/cache]"
                ),
            ),
            registry("two", &format!("images: [{host}/team/secret]")),
        ]
        .join("\n---\n"),
    );
    let named = format!("{host}/team/secret");
    let arguments = ["--cache-repositories", "--repository", &named];
    let setups = setups(&[&["-f", path(&file)], &arguments[..]].concat());
    let to = |name| -> Vec<String> {
        let all = attached(&setups, name, "repositoryPolicy").into_iter();
        all.map(|(to, _)| to.rsplit_once(':').expect("an ARN").1.to_owned())
            .collect()
    };
    assert_eq!(to("one"), ["repository/team"]);
    assert_eq!(
        to("two"),
        ["repository/team/secret", "repository/team/secret/cache"]
    );
    // Others below it are named by nobody.
    let (_, notes) = denied_and_notes(&setups, "one");
    let words = "name those that are there with --repository";
    assert!(notes.iter().any(|note| note.contains(words)), "{notes:?}");
}

/// One principal has all rights that any Registry needs of it.
#[test]
fn tells_where_logins_of_pods_push_and_denies_nothing_that_another_registry_needs() {
    let host = "123456789012.dkr.ecr.eu-west-1.amazonaws.com";
    let role = "ecr: {identity: {workload: {}}, assumeRoles: [{roleArn: 'arn:aws:iam::123456789012:role/push'}]}";
    let own = "ecr: {identity: {workload: {}}}";
    let azure = "acr: {identity: {workload: {}}}";
    let narrowed = "acr: {identity: {workload: {}}, scopes: [team]}";
    let secret = format!("{host}/team/secret");
    let rows = [
        (host, own, own, true),
        (host, own, role, false),
        (host, role, role, true),
        ("contoso.azurecr.io", azure, azure, true),
        ("contoso.azurecr.io", azure, narrowed, true),
        ("contoso.azurecr.io", narrowed, azure, false),
    ];
    for (host, pull, push, is_shared) in rows {
        let selector = "namespaceSelector: {matchLabels: {a: b}}";
        let kind = "apiVersion: pullpass.dev/v1alpha1, kind: Registry";
        let file = file_of(&format!(
            "{{{kind}, metadata: {{name: pods}}, spec: {{{selector}, images: [{host}/team], excludedImages: [{host}/team/secret], {pull}}}}}
---
{{{kind}, metadata: {{name: builds}}, spec: {{access: Push, {selector}, images: [{host}/team], {push}}}}}"
        ));
        let arguments = ["-f", path(&file), "--account", "123456789012"];
        let setups = setups(&arguments);
        for (name, other) in [("pods", "builds"), ("builds", "pods")] {
            let notes: Vec<&str> = list(&setup(&setups, name)["notes"])
                .into_iter()
                .filter_map(Value::as_str)
                .collect();
            let words = format!(
                "Pods' logins push, too: Registry {other} asks as the same principal; give Registry builds another role or identity"
            );
            let wanted = if is_shared {
                vec![words.as_str()]
            } else {
                Vec::new()
            };
            assert_eq!(notes, wanted, "{host} {pull} {push}");
            assert_eq!(text(&arguments).contains(&words), is_shared);
        }
        if pull.starts_with("ecr") {
            let (denied, notes) = denied_and_notes(&setups, "pods");
            assert_eq!(denied.is_empty(), is_shared, "{denied:?}");
            let words = format!("{secret} of excludedImages is not denied: Registry builds");
            let is_noted = notes.iter().any(|note| note.contains(&words));
            assert_eq!(is_noted, is_shared, "{notes:?}");
        }
    }
}

/// Each alias of Amazon ECR Public may be another account's.
#[test]
fn leaves_the_account_of_each_public_alias_to_be_replaced() {
    let file = file_of(
        "{apiVersion: pullpass.dev/v1alpha1, kind: Registry, metadata: {name: public}, spec: {access: Push, namespaceSelector: {matchLabels: {a: b}},
          images: [public.ecr.aws/one/app, public.ecr.aws/two/app], ecr: {identity: {workload: {}}}}}",
    );
    let setups = setups(&["-f", path(&file), "--account", "123456789012"]);
    let steps = list(&setup(&setups, "public")["steps"]).into_iter();
    let steps: Vec<&Value> = steps
        .filter(|step| step["kind"] == "repositoryPolicy")
        .collect();
    assert_eq!(steps.len(), 2, "{steps:?}");
    for (step, alias) in steps.into_iter().zip(["one", "two"]) {
        let account = format!("<ACCOUNT_ID_OF_{alias}>");
        let arn = format!("arn:aws:ecr-public::{account}:repository/app");
        assert_eq!(step["attachTo"], json!([arn]));
        let by = format!("the AWS account whose registry is public.ecr.aws/{alias}");
        let row = json!({"placeholder": account, "by": by});
        let rows = list(&step["replace"]);
        assert_eq!(rows.iter().filter(|one| ***one == row).count(), 1);
        assert_eq!(rows.len(), 2, "its own, and that of pullpass' role");
        let note = step["notes"][0].as_str().expect("a note");
        assert!(note.starts_with("only where the repository is of another account"));
    }
}

/// Both ways in which a registry of Azure gives rights, and the condition on all that the second one's role may do.
#[test]
fn assigns_builders_the_roles_that_push() {
    let setups = setups(&["-f", REGISTRIES]);
    let roles = documents(&setups, "push-azure", "roleAssignment");
    let ids: Vec<(&Value, &Value)> = roles
        .iter()
        .map(|role| (&role["role"], &role["roleDefinitionId"]))
        .collect();
    let expected = [
        ("AcrPush", "8311e382-0749-4cb8-b61a-304f252e45ec"),
        (
            "Container Registry Repository Writer",
            "2a1e307c-b015-4ebd-883e-5b7698a07328",
        ),
    ];
    let expected = expected.map(|(role, id)| (json!(role), json!(id)));
    let expected: Vec<(&Value, &Value)> = expected.iter().map(|(role, id)| (role, id)).collect();
    assert_eq!(ids, expected);
    assert!(roles[0]["condition"].is_null(), "{}", roles[0]);
    let condition = roles[1]["condition"].as_str().expect("a condition");
    let (actions, names) = condition.split_once(" OR ((").expect("actions and names");
    let on = "Microsoft.ContainerRegistry/registries/repositories";
    for action in [
        "content/read",
        "content/write",
        "metadata/read",
        "metadata/write",
    ] {
        let action = format!("!(ActionMatches{{'{on}/{action}'}})");
        assert!(actions.contains(&action), "{actions}");
    }
    assert!(
        names.contains("StringNotStartsWithIgnoreCase 'team/secret/'"),
        "{names}"
    );
    let (_, notes) = denied_and_notes(&setups, "push-azure");
    let words =
        "pulling and pushing every repository of the registry, what excludedImages takes away, too";
    assert!(notes.iter().any(|note| note.contains(words)), "{notes:?}");
}
