//! `pullpass policy`, as it is run.

use std::collections::BTreeSet;
use std::process::{Command, Output};

use serde_json::{Value, json};

const REGISTRIES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/policy.yaml");
const EXAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/registries.yaml");

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
fn allows_nothing_but_pulling() {
    for file in [REGISTRIES, EXAMPLES] {
        for setup in setups(&["-f", file]) {
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
                    assert!(ACTIONS.contains(action), "{action} in {setup}");
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
        [
            "arn:aws:ecr:eu-west-1:210987654321:repository/shared/base",
            "arn:aws:ecr:eu-west-1:210987654321:repository/shared/base/*",
        ]
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
    assert!(has(&format!("not to {}", hidden.join(", "))), "{notes:?}");
    assert!(has("public.ecr.aws cannot be denied"), "{notes:?}");
    assert!(has("another Registry with the same identity"), "{notes:?}");

    // Under its other name the registry is asked for `secret`.
    let (denied, notes) = denied_and_notes(&setups, "p-excluded-by-one-host");
    let both = [
        arn("123456789012:repository/team/both"),
        arn("123456789012:repository/team/both/*"),
    ];
    assert_eq!(denied, both);
    let open = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/team/secret of excludedImages can be pulled all the same";
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
    let rows: [(&[&str], &str); 6] = [
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
