//! Which Registry serves an image, against a model of what the kubelet does with the keys of a pull secret.

use std::collections::BTreeMap;

use crate::support;
use proptest::prelude::*;
use pullpass::image::Reference;
use pullpass::names::ObjectName;
use pullpass::registry::{
    CredentialSource, Delivery, Pattern, Registries, Registry, ValidRegistry,
};
use serde_json::json;
use support::kubelet::{
    TEAMS, effective, images, matches, narrow_registries, object, pod, registries,
};

/// Whether the Registry of this name excludes an image.
fn excludes(registries: &[Registry], name: &str, reference: &Reference<'_>) -> bool {
    let registry = registries
        .iter()
        .find(|registry| registry.metadata.name.as_deref() == Some(name))
        .expect("it is one of them");
    let covers = |text: &String| {
        Pattern::parse(text)
            .expect("it is valid")
            .covers(reference.domain(), reference.path())
    };
    registry.spec.excluded_images.iter().any(covers)
}

#[test]
fn names_fields_of_the_table() {
    for case in support::registries::cases() {
        let registry = serde_json::from_value::<Registry>(case.object());
        assert_eq!(registry.is_err(), case.unreadable, "{}", case.title);
        let registries = Registries::build(registry);
        let fields: Vec<&str> = registries
            .problems()
            .iter()
            .map(|problem| problem.field.as_str())
            .collect();
        assert_eq!(
            fields,
            case.fields,
            "{}: {:?}",
            case.title,
            registries.problems()
        );
        assert_eq!(
            registries.iter().next().is_none(),
            !fields.is_empty() || case.unreadable,
            "{}",
            case.title
        );
    }
}

#[test]
fn says_of_access_and_exports_what_the_api_server_says() {
    let schema = serde_json::to_value(pullpass::registry::crd::definition()).expect("it is JSON");
    let schema = &schema["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    let rules = schema["properties"]["spec"]["x-kubernetes-validations"].as_array();
    let rules = rules.expect("the spec has rules").iter();
    let of_server: Vec<&str> = rules.filter_map(|rule| rule["message"].as_str()).collect();
    let mut compared = 0;
    for case in support::registries::cases() {
        let is_export = !case.spec["exports"].is_null();
        if case.unreadable || case.spec["access"] != "Push" && !is_export {
            continue;
        }
        let registry = serde_json::from_value::<Registry>(case.object()).expect("it can be read");
        for problem in Registries::build([registry]).problems() {
            // What the form of the one field says has the API server's words.
            let is_form =
                problem.field.contains("].name") || problem.message.starts_with("has more than");
            if is_form || problem.message.starts_with("is empty") {
                continue;
            }
            let field = problem
                .field
                .strip_prefix("spec.")
                .expect("one of the spec");
            let field = field.split('[').next().expect("a name");
            let message = format!("{field} {}", problem.message);
            assert!(of_server.contains(&message.as_str()), "{message}");
            compared += 1;
        }
    }
    assert!(compared >= 14, "{compared}");
}

/// The texts of which the keys of a Registry's credentials in the store are made.
fn sources(access: &str, provider: &serde_json::Value) -> Vec<String> {
    let mut spec = json!({
        "images": ["team.azurecr.io", "other.azurecr.io"], "access": access,
        "namespaceSelector": {"matchLabels": {"a": "b"}},
    });
    for (name, value) in provider.as_object().expect("one provider") {
        spec[name] = value.clone();
    }
    let registries = Registries::build([object("a", 0, &spec)]);
    assert_eq!(registries.problems(), []);
    let registry = registries.get("a").expect("it is valid");
    let sources = registry.sources.iter().map(|(source, _)| match source {
        CredentialSource::Minted(source) => source.canonical(),
        CredentialSource::Static(source) => source.secret.to_string(),
    });
    sources.collect()
}

#[test]
fn narrows_a_token_of_azure_to_what_access_says() {
    let acr = |scopes: &[&str]| json!({"acr": {"identity": {"workload": {}}, "scopes": scopes}});
    let narrowed = acr(&["samples/b", "samples/a"]);
    let (pull, push) = (sources("Pull", &narrowed), sources("Push", &narrowed));
    for (sources, actions) in [(&pull, "pull"), (&push, "pull,push")] {
        let scopes = format!(
            "scopes=[\"repository:samples/a:{actions}\", \"repository:samples/b:{actions}\"]"
        );
        assert_eq!(sources.len(), 2, "one for each login server");
        assert!(
            sources.iter().all(|source| source.contains(&scopes)),
            "{sources:?}"
        );
    }
    assert!(pull.iter().all(|source| !push.contains(source)));
    // What its identity may do is the token's where no scopes narrow it, and then the same one will do.
    let wide = acr(&[]);
    assert_eq!(sources("Pull", &wide), sources("Push", &wide));
}

#[test]
fn finds_nothing_wrong_with_the_examples() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/examples");
    let files = std::fs::read_dir(folder).expect("it is there");
    for file in files.map(|file| file.expect("it can be read").path()) {
        let text = std::fs::read_to_string(&file).expect("it is text");
        let documents: Vec<serde_json::Value> =
            serde_saphyr::from_multiple(&text).expect("it is YAML");
        let kind = |document: &serde_json::Value| document["kind"] == "Registry";
        let found = documents.into_iter().filter(kind);
        let registries = Registries::build(
            found.map(|object| serde_json::from_value(object).expect("it has the kind's form")),
        );
        assert!(
            registries.problems().is_empty(),
            "{}: {:?}",
            file.display(),
            registries.problems()
        );
        assert!(registries.iter().next().is_some(), "{}", file.display());
    }
}

#[test]
fn keeps_valid_registries_beside_broken_ones() {
    let cases = support::registries::cases();
    let broken = cases.iter().filter(|case| !case.fields.is_empty());
    let objects = broken.chain(&cases[..1]).enumerate().map(|(number, case)| {
        let name = if case.name == "any" {
            format!("r{number}")
        } else {
            case.name.clone()
        };
        object(&name, 0, &case.spec)
    });
    let registries = Registries::build(objects);
    assert_eq!(registries.iter().count(), 1);
    let reference =
        Reference::parse("123456789012.dkr.ecr.eu-west-1.amazonaws.com/x").expect("a reference");
    assert!(registries.resolve(&BTreeMap::new(), &reference).is_some());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn gives_kubelet_the_credential_of_the_registry_that_serves(registries in registries(), team in prop::sample::select(&TEAMS[..])) {
        let specs = registries.clone();
        let registries = Registries::build(registries);
        let namespace: BTreeMap<String, String> = BTreeMap::from([("team".to_owned(), team.to_owned())]);
        let mut keys = BTreeMap::new();
        for grant in registries.grants(&namespace) {
            for key in grant.keys {
                let earlier = keys.insert(effective(&key), (key, grant.registry.clone(), grant.source.clone()));
                prop_assert!(earlier.is_none(), "{earlier:?} is there twice");
            }
        }
        for image in images() {
            let reference = Reference::parse(&image).expect("a reference");
            let resolved = registries.resolve(&namespace, &reference);
            let first = keys.iter().rev().find(|(key, _)| matches(key, &image).1).map(|(_, grant)| grant);
            match (&resolved, first) {
                (None, None) => {}
                // A dockerconfigjson has no negative entry: where no Registry serves what one excludes, the kubelet
                // still takes that one's credential.
                (None, Some((_, registry, _))) => prop_assert!(excludes(&specs, registry, &reference), "{image}"),
                (Some(resolved), Some((_, registry, source))) => {
                    prop_assert_eq!(&resolved.registry.name, registry, "{}", image);
                    prop_assert_eq!(&resolved.registry.sources[resolved.grant].0, source, "{}", image);
                    let (_, registry, source) = &keys[&effective(&resolved.key)];
                    prop_assert_eq!(&resolved.registry.name, registry, "{} {}", image, resolved.key);
                    prop_assert_eq!(&resolved.registry.sources[resolved.grant].0, source, "{} {}", image, resolved.key);
                }
                _ => prop_assert!(false, "{image}: resolved {resolved:?}, the kubelet takes {first:?}"),
            }
        }
    }

    #[test]
    fn gives_kubelet_the_right_credential_of_several_secrets(
        registries in narrow_registries(),
        team in prop::sample::select(&TEAMS[..]),
        pod in pod(),
    ) {
        let registries = Registries::build(registries);
        let namespace: BTreeMap<String, String> = BTreeMap::from([("team".to_owned(), team.to_owned())]);
        let pod_subject = pod.pod_subject(&namespace);
        let (secrets, is_decided) = pod.secrets(&registries, &namespace);
        let mut keys: BTreeMap<String, Vec<_>> = BTreeMap::new();
        for secret in &secrets {
            let mut planned = registries.grants(&namespace);
            planned.retain(|grant| *grant.secret == **secret);
            let of_secret = registries.grants_of(&namespace, secret);
            prop_assert!(planned.iter().eq(of_secret.iter().map(AsRef::as_ref)));
            for grant in &*of_secret {
                for key in &grant.keys {
                    keys.entry(effective(key)).or_default().push((grant.registry.clone(), grant.source.clone(), *secret));
                }
            }
        }
        for logins in keys.values() {
            let of_secrets: Vec<_> = logins.iter().map(|(_, _, secret)| secret).collect();
            prop_assert!(of_secrets.windows(2).all(|pair| pair[0] != pair[1]), "twice in one secret: {logins:?}");
        }
        for image in &pod.images {
            let reference = Reference::parse(image).expect("a reference");
            let Some(resolved) = registries.resolve(pod_subject, &reference) else { continue };
            let source = &resolved.registry.sources[resolved.grant].0;
            let Some(secret) = &resolved.registry.secret else { continue };
            prop_assert!(secrets.contains(&&**secret));
            let asked = keys.get(&effective(&resolved.key)).into_iter().flatten();
            let is_there = asked.into_iter().any(|(registry, found, _)| *registry == resolved.registry.name && found == source);
            prop_assert!(is_there, "{}: {} is no key of {}", image, resolved.key, secret);
            let first = keys.iter().rev().find(|(key, _)| matches(key, image).1).expect("a key covers it").1;
            if is_decided {
                prop_assert_eq!(&first[0].0, &resolved.registry.name, "{} of {:?}", image, secrets);
                prop_assert_eq!(&first[0].1, source, "{} of {:?}", image, secrets);
            }
        }
    }

    /// With and without the Registries that push: what Pods get, by which keys, and in which order, is the same.
    #[test]
    fn gives_pods_the_same_whatever_pushes(
        registries in narrow_registries(),
        team in prop::sample::select(&TEAMS[..]),
        pod in pod(),
    ) {
        let pulls = |registry: &Registry| registry.spec.access.is_pull();
        let pulling: Vec<Registry> = registries.iter().filter(|one| pulls(one)).cloned().collect();
        let (all, pulling) = (Registries::build(registries), Registries::build(pulling));
        let namespace: BTreeMap<String, String> = BTreeMap::from([("team".to_owned(), team.to_owned())]);
        prop_assert_eq!(pod.secrets(&all, &namespace), pod.secrets(&pulling, &namespace));
        for image in &pod.images {
            let reference = Reference::parse(image).expect("a reference");
            let resolve = |of: &Registries| {
                let resolved = of.resolve(pod.pod_subject(&namespace), &reference)?;
                Some((resolved.registry.name.clone(), resolved.key.into_owned()))
            };
            prop_assert_eq!(resolve(&all), resolve(&pulling), "{}", image);
        }
        let mut of_pods = all.grants(&namespace);
        of_pods.retain(|grant| grant.access.is_pull());
        prop_assert!(of_pods.iter().all(|grant| grant.host_keys.is_empty()));
        prop_assert_eq!(of_pods, pulling.grants(&namespace));
        prop_assert_eq!(names_of_ties(&all, &namespace), names_of_ties(&pulling, &namespace));
    }

    /// With and without the Registries whose credentials no Secret holds: what Secrets hold is the same, and which Registry serves an image
    /// is what it would be if Secrets held them all.
    #[test]
    fn fills_secrets_the_same_whatever_nodes_ask_for(
        registries in narrow_registries(),
        team in prop::sample::select(&TEAMS[..]),
        pod in pod(),
    ) {
        let mut by_secret = registries.clone();
        by_secret.retain(|registry| registry.spec.delivery == Delivery::Secret);
        let mut all_by_secret = registries.clone();
        for registry in &mut all_by_secret {
            registry.spec.delivery = Delivery::Secret;
        }
        let [mixed, by_secret, all_by_secret] = [registries, by_secret, all_by_secret].map(Registries::build);
        let namespace: BTreeMap<String, String> = BTreeMap::from([("team".to_owned(), team.to_owned())]);
        prop_assert_eq!(mixed.grants(&namespace), by_secret.grants(&namespace));
        prop_assert_eq!(mixed.secrets(&namespace), by_secret.secrets(&namespace));
        for image in &pod.images {
            let reference = Reference::parse(image).expect("a reference");
            let resolve = |of: &Registries| {
                let resolved = of.resolve(pod.pod_subject(&namespace), &reference)?;
                Some((resolved.registry.name.clone(), resolved.key.into_owned()))
            };
            let winner = resolve(&mixed);
            let name = |of: &Option<(ObjectName, String)>| of.as_ref().map(|(name, _)| name.clone());
            prop_assert_eq!(name(&winner), name(&resolve(&all_by_secret)), "{}", image);
            let has_secret = |name: &ObjectName| mixed.get(name).is_some_and(ValidRegistry::delivers_by_secret);
            if winner.as_ref().is_some_and(|(name, _)| has_secret(name)) {
                prop_assert_eq!(winner, resolve(&by_secret), "{}", image);
            }
        }
    }

    /// A Secret that builders mount: those that know hosts alone find what those find that take the longest key.
    #[test]
    fn gives_builders_of_every_kind_the_same_login(
        registries in narrow_registries(),
        team in prop::sample::select(&TEAMS[..]),
    ) {
        let registries = Registries::build(registries);
        let namespace: BTreeMap<String, String> = BTreeMap::from([("team".to_owned(), team.to_owned())]);
        let mut pushing = registries.grants(&namespace);
        pushing.retain(|grant| !grant.access.is_pull());
        let mut keys = BTreeMap::new();
        for grant in &pushing {
            prop_assert_eq!(grant.secret.as_str(), format!("pullpass-{}", grant.registry));
            for key in grant.all_keys() {
                let earlier = keys.insert((grant.secret.clone(), key.clone()), &grant.source);
                prop_assert!(earlier.is_none(), "{key} is there twice");
            }
        }
        for registry in registries.iter().filter(|one| !one.access.is_pull() && one.serves(&namespace)) {
            for pattern in registry.patterns() {
                let secret = registry.secret.clone().expect("builders mount it");
                let find = |key: &str| keys.get(&(secret.clone(), key.to_owned()));
                let (by_path, by_host) = (find(pattern.key()), find(pattern.domain()));
                prop_assert!(by_path.is_some() && by_path == by_host, "{pattern}");
                prop_assert!(registry.retains(&namespace, &secret, pattern.domain()) == registry.suspend);
            }
        }
    }

    #[test]
    fn explains_the_registry_that_serves(registries in registries(), team in prop::sample::select(&TEAMS[..])) {
        let registries = Registries::build(registries);
        let namespace: BTreeMap<String, String> = BTreeMap::from([("team".to_owned(), team.to_owned())]);
        for image in images() {
            let reference = Reference::parse(&image).expect("a reference");
            let resolved = registries.resolve(&namespace, &reference).map(|resolved| resolved.registry.name.clone());
            let explanation = registries.explain(Some(&namespace), &reference);
            let serving: Vec<_> = explanation
                .matches
                .iter()
                .filter(|verdict| matches!(verdict.why, pullpass::registry::Why::Serves { .. }))
                .map(|verdict| verdict.registry.name.clone())
                .collect();
            prop_assert_eq!(serving, resolved.into_iter().collect::<Vec<_>>(), "{}", image);
            prop_assert_eq!(explanation.matches.len(), registries.iter().count());
        }
    }
}

fn names_of_ties(
    registries: &Registries,
    namespace: &BTreeMap<String, String>,
) -> Vec<[String; 2]> {
    let ties = registries.ties(namespace).into_iter();
    ties.map(|(one, other)| [one.name.to_string(), other.name.to_string()])
        .collect()
}

/// A Registry with a fixed login that serves everyone.
fn fixed(
    name: &str,
    age: u64,
    images: &[&str],
    exclude: &[&str],
    namespaces: &serde_json::Value,
) -> Registry {
    let spec = json!({
        "images": images,
        "excludedImages": exclude,
        "namespaceSelector": namespaces,
        "static": {"secretRef": {"name": name}},
    });
    object(name, age, &spec)
}

fn resolve(registries: &Registries, image: &str) -> Option<(String, String)> {
    let namespace = BTreeMap::from([("team".to_owned(), "red".to_owned())]);
    let reference = Reference::parse(image).expect("a reference");
    let resolved = registries.resolve(&namespace, &reference)?;
    Some((
        resolved.registry.name.to_string(),
        resolved.key.into_owned(),
    ))
}

#[test]
fn prefers_by_key_then_narrower_then_older_then_name() {
    let (everyone, red) = (&json!({}), &json!({"matchLabels": {"team": "red"}}));
    // Of each row's Registries the first one serves the image, in whatever order they come.
    let rows = [
        vec![
            fixed("b", 2, &["a.com/x"], &[], everyone),
            fixed("a", 0, &["a.com"], &[], red),
        ],
        vec![
            fixed("b", 2, &["a.com"], &[], everyone),
            fixed("a", 0, &["*.com/x"], &[], red),
        ],
        vec![
            fixed("b", 2, &["a.*"], &[], everyone),
            fixed("a", 0, &["*.com/x"], &[], red),
        ],
        vec![
            fixed("b", 2, &["a.com"], &[], red),
            fixed("a", 0, &["a.com"], &[], everyone),
        ],
        vec![
            fixed("b", 0, &["a.com"], &[], everyone),
            fixed("a", 1, &["a.com"], &[], everyone),
        ],
        vec![
            fixed("a", 0, &["a.com"], &[], everyone),
            fixed("b", 0, &["a.com"], &[], everyone),
        ],
        vec![
            fixed("b", 2, &["a.com"], &[], everyone),
            fixed("a", 0, &["a.com"], &["a.com/x"], red),
        ],
        vec![
            fixed("b", 2, &["a.com"], &[], everyone),
            fixed(
                "a",
                0,
                &["a.com"],
                &[],
                &json!({"matchLabels": {"team": "blue"}}),
            ),
        ],
    ];
    for mut row in rows {
        let expected = row[0].metadata.name.clone();
        for _ in 0..2 {
            let resolved = resolve(&Registries::build(row.clone()), "a.com/x/y");
            assert_eq!(resolved.map(|(name, _)| name), expected, "{row:?}");
            row.reverse();
        }
    }
}

#[test]
fn gives_excluded_path_the_key_of_the_registry_that_serves_it() {
    let registries = Registries::build([
        fixed(
            "narrow",
            0,
            &["a.com"],
            &["a.com/shared"],
            &json!({"matchLabels": {"team": "red"}}),
        ),
        fixed("wide", 0, &["a.com"], &[], &json!({})),
    ]);
    assert_eq!(
        resolve(&registries, "a.com/x"),
        Some(("narrow".to_owned(), "a.com".to_owned()))
    );
    assert_eq!(
        resolve(&registries, "a.com/shared/x"),
        Some(("wide".to_owned(), "a.com/shared".to_owned()))
    );
}

#[test]
fn serves_no_host_that_only_looks_alike() {
    let registries = Registries::build([fixed(
        "a",
        0,
        &["a.example.com/x", "*.b.example.com"],
        &[],
        &json!({}),
    )]);
    assert!(registries.problems().is_empty());
    for image in [
        "a.example.com/xy",
        "a.example.com/y/x",
        "a.example.com:443/x",
        "A.example.com/x",
        "a.example.com.evil.io/x",
        "xa.example.com/x",
        "b.a.example.com/x",
        "evil.io/a.example.com/x",
        "x.example.com/x",
        "b.example.com/x",
        "c.x.b.example.com/x",
        "a.b.example.com.evil.io/x",
    ] {
        assert_eq!(resolve(&registries, image), None, "{image}");
    }
    assert!(resolve(&registries, "a.example.com/x/y").is_some());
    assert!(resolve(&registries, "x.b.example.com/y").is_some());
}

#[test]
fn serves_nothing_while_suspended_and_is_still_known() {
    let mut registry = fixed("a", 0, &["a.com"], &[], &json!({}));
    registry.spec.suspend = true;
    let registries = Registries::build([registry]);
    assert_eq!(resolve(&registries, "a.com/x"), None);
    assert_eq!(registries.grants(&BTreeMap::new()), []);
    assert!(registries.serving(&BTreeMap::new()).is_empty());
    assert!(registries.get("a").is_some_and(|registry| registry.suspend));
}

#[test]
fn derives_one_source_per_credential() {
    let spec = json!({
        "images": [
            "123456789012.dkr.ecr.eu-west-1.amazonaws.com/a",
            "210987654321.dkr.ecr.eu-west-1.amazonaws.com",
            "*.dkr-ecr-fips.us-gov-west-1.on.aws",
            "public.ecr.aws",
            "registry.example.com:5000",
            "123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn",
        ],
        "namespaceSelector": {},
        "ecr": {"region": "eusc-de-east-1", "identity": {"keys": {"secretRef": {"name": "k"}}}, "endpoints": {"sts": "https://sts.example.com"}},
    });
    let registries = Registries::build([object("a", 0, &spec)]);
    assert_eq!(registries.problems(), []);
    let sources = &registries.get("a").expect("it is valid").sources;
    let texts: Vec<String> = sources
        .iter()
        .map(|(source, keys)| match source {
            CredentialSource::Minted(source) => format!("{} {keys:?}", source.canonical()),
            CredentialSource::Static(source) => format!("{source:?}"),
        })
        .collect();
    let common = r#"endpoints=("","","https://sts.example.com")"#;
    let keys = r#"ecr identity=keys("k")"#;
    let expected = [
        format!(
            r#"{keys} partition=aws region="eu-west-1" public=false fips=false dualStack=false {common} ["123456789012.dkr.ecr.eu-west-1.amazonaws.com/a", "210987654321.dkr.ecr.eu-west-1.amazonaws.com"]"#
        ),
        format!(
            r#"{keys} partition=aws-us-gov region="us-gov-west-1" public=false fips=true dualStack=true {common} ["*.dkr-ecr-fips.us-gov-west-1.on.aws"]"#
        ),
        format!(
            r#"{keys} partition=aws region="us-east-1" public=true fips=false dualStack=false {common} ["public.ecr.aws"]"#
        ),
        format!(
            r#"{keys} partition=aws-eusc region="eusc-de-east-1" public=false fips=false dualStack=false {common} ["registry.example.com:5000"]"#
        ),
        format!(
            r#"{keys} partition=aws-cn region="cn-north-1" public=false fips=false dualStack=false {common} ["123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn"]"#
        ),
    ];
    assert_eq!(texts, expected);
}

#[test]
fn serves_from_ten_thousand_registries() {
    let registry = |number: u64| {
        fixed(
            &format!("r{number}"),
            0,
            &[&format!("host-{number}.example.com/team")],
            &[],
            &json!({}),
        )
    };
    let registries = Registries::build((0..10_000).map(registry));
    assert_eq!(registries.iter().count(), 10_000);
    assert_eq!(
        resolve(&registries, "host-7777.example.com/team/app")
            .map(|(name, _)| name)
            .as_deref(),
        Some("r7777")
    );
    assert_eq!(registries.grants(&BTreeMap::new()).len(), 10_000);
}
