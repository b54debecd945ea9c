//! How the work grows with its input: what is done is counted, since a count is the same on every machine, a time is not.

use std::cell::Cell;

use crate::image::Reference;
use crate::registry::{PodSubject, Registries, Registry, is_pull_secret_name};

thread_local! {
    static STEPS: Cell<usize> = const { Cell::new(0) };
}

/// One more.
pub(super) fn count_step() {
    STEPS.set(STEPS.get() + 1);
}

/// How many there were in some work of this thread.
fn during(work: impl FnOnce()) -> usize {
    STEPS.set(0);
    work();
    STEPS.get()
}

fn registries(yaml: impl Iterator<Item = String>) -> Registries {
    let registries = Registries::build(yaml.map(|one| read(&one)));
    assert_eq!(registries.problems(), []);
    registries
}

fn read(yaml: &str) -> Registry {
    serde_saphyr::from_str(yaml).unwrap()
}

/// A Registry with some number of patterns.
fn registry(name: usize, serves: &str, patterns: impl Iterator<Item = String>) -> String {
    let patterns: Vec<String> = patterns.map(|pattern| format!("'{pattern}'")).collect();
    format!(
        "{{apiVersion: pullpass.dev/v1alpha1, kind: Registry, metadata: {{name: r{name}}}, spec: {{images: [{}], {serves}, static: {{secretRef: {{name: login}}}}}}}}",
        patterns.join(", ")
    )
}

const EVERYONE: &str = "namespaceSelector: {}";

/// Each with its `*` in one of three places.
fn wildcards(count: usize) -> Registries {
    let pattern = |number: usize| match number % 3 {
        0 => format!("*.a{number}.example.com/team"),
        1 => format!("a{number}.*.example.com/team"),
        _ => format!("*.*.a{number}.com"),
    };
    let registries_of = (0..count / 100).map(|name| {
        registry(
            name,
            EVERYONE,
            (0..100).map(move |one| pattern(name * 100 + one)),
        )
    });
    registries(registries_of)
}

/// Asserts that the steps grow as the input does, when that is doubled four times.
#[track_caller]
fn assert_linear(steps: impl Fn(usize) -> usize) {
    let first = steps(1).max(1);
    for factor in [2, 4, 8, 16] {
        let steps = steps(factor);
        assert!(
            steps <= first * factor + 16,
            "{first}, then {steps} at {factor} times"
        );
    }
}

fn resolve_all(registries: &Registries, images: usize) {
    let known = registries.known_serving();
    let subject = PodSubject {
        known: Some(&known),
        ..PodSubject::default()
    };
    for image in 0..images {
        let image = format!("x.a{image}.example.com/team/app");
        registries.resolve(subject, &Reference::parse(&image).unwrap());
    }
}

#[test]
fn resolves_images_in_steps_that_wildcards_do_not_multiply() {
    let registries = wildcards(1600);
    assert_linear(|factor| during(|| resolve_all(&registries, 100 * factor)));
    let few = wildcards(100);
    let few = during(|| resolve_all(&few, 100));
    for count in [200, 400, 800, 1600] {
        let many = wildcards(count);
        let many = during(|| resolve_all(&many, 100));
        assert!(many <= few + 100, "{few}, and {many} with {count}");
    }
}

#[test]
fn arranges_secrets_in_steps_linear_in_images() {
    let narrow = |name: usize| {
        let serves = format!(
            "excludedImages: ['a.com/x/e{name}'], namespaceSelector: {{}}, serviceAccountNames: [ci]"
        );
        registry(name, &serves, std::iter::once("a.com/x".to_owned()))
    };
    let registries = registries((0..20).map(narrow));
    let chosen: Vec<_> = registries.iter().collect();
    assert_linear(|factor| {
        let images = (0..50 * factor).map(|image| format!("a.com/x/e{image}"));
        let images: Vec<String> = images.collect();
        let images = images.iter().map(|image| Reference::parse(image).unwrap());
        let images: Vec<Reference<'_>> = images.collect();
        during(|| {
            registries.arrange(&PodSubject::default(), &images, &chosen);
        })
    });
}

#[test]
fn validates_candidate_in_steps_linear_in_all_patterns() {
    let patterns = |name: usize| (0..100).map(move |one| format!("a{one}.com/n{name}"));
    assert_linear(|factor| {
        let others = (1..=5 * factor).map(|name| registry(name, EVERYONE, patterns(name)));
        let registries = registries(others);
        let candidate = read(&registry(0, EVERYONE, patterns(0)));
        during(|| {
            registries.validate_candidate(&candidate).unwrap();
        })
    });
}

/// What breaks a bound is said once, whatever its size.
#[test]
fn says_as_many_problems_of_any_size() {
    let repeat = |entry: &str, count: usize| vec![entry; count].join(", ");
    let spec = |count: usize| {
        let labels: Vec<String> = (0..count).map(|key| format!("'-{key}': ''")).collect();
        let selector = format!(
            "{{matchLabels: {{{}}}, matchExpressions: [{}]}}",
            labels.join(", "),
            repeat("{key: '', operator: In}", count)
        );
        format!(
            "images: [{images}], excludedImages: [{images}], namespaceSelector: {selector}, podSelector: {selector}, serviceAccountNames: [{texts}], acr: {{identity: {{}}, scopes: [{texts}]}}, ecr: {{identity: {{}}, assumeRoles: [{roles}]}}",
            images = repeat("'-'", count),
            texts = repeat("'-'", count),
            roles = repeat("{roleArn: ''}", count),
        )
    };
    let problems = |provider: &str, count: usize| {
        let other = if provider == "acr" {
            ", ecr: "
        } else {
            ", acr: "
        };
        let spec = spec(count);
        let (acr, ecr) = spec.split_once(", ecr: ").unwrap();
        let spec = match provider {
            "acr" => acr.to_owned(),
            _ => format!("{}, ecr: {ecr}", acr.split_once(", acr: ").unwrap().0),
        };
        assert!(!spec.contains(other));
        let yaml = format!(
            "{{apiVersion: pullpass.dev/v1alpha1, kind: Registry, metadata: {{name: a}}, spec: {{{spec}}}}}"
        );
        let registry = read(&yaml);
        Registries::default()
            .validate_candidate(&registry)
            .unwrap_err()
            .len()
    };
    for provider in ["acr", "ecr"] {
        let first = problems(provider, 200);
        assert!(first < 300, "{first}");
        for count in [400, 800, 1600] {
            assert_eq!(problems(provider, count), first, "{provider}: {count}");
        }
    }
}

#[test]
fn knows_names_of_pull_secrets() {
    for name in [
        "pullpass",
        "pullpass-payments",
        "pullpass-credential-0123456789abcdef",
    ] {
        assert!(is_pull_secret_name(name), "{name}");
    }
    for name in ["pullpassport", "my-pullpass", "payments", ""] {
        assert!(!is_pull_secret_name(name), "{name}");
    }
}
