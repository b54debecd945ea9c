//! Reading an image and finding its Registry: what every image of every Pod costs.

use std::collections::BTreeMap;
use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use pullpass::image::Reference;
use pullpass::registry::{Registries, Registry};
use serde_json::json;

/// Thirty Registries: one account each, half of them with repositories on one shared host as well, two of them with `*`.
fn registries() -> Registries {
    let registry = |number: u32| {
        let mut images = vec![format!(
            "{:012}.dkr.ecr.eu-west-1.amazonaws.com",
            100_000_000_000_u64 + u64::from(number)
        )];
        match number {
            0 => images.push("*.dkr.ecr.us-east-1.amazonaws.com".to_owned()),
            1 => images.push("*.dkr.ecr.us-east-2.amazonaws.com/shared".to_owned()),
            _ if number.is_multiple_of(2) => images.push(format!(
                "123456789012.dkr.ecr.eu-west-1.amazonaws.com/team-{number}"
            )),
            _ => {}
        }
        let object = json!({
            "apiVersion": "pullpass.dev/v1alpha1",
            "kind": "Registry",
            "metadata": {"name": format!("registry-{number}")},
            "spec": {
                "images": images,
                "namespaceSelector": {"matchLabels": {"pullpass.dev/inject": "enabled"}},
                "ecr": {"identity": {"workload": {}}},
            },
        });
        serde_json::from_value::<Registry>(object).expect("it has the kind's form")
    };
    Registries::build((0..30).map(registry))
}

fn bench(criterion: &mut Criterion) {
    let registries = registries();
    assert_eq!(registries.problems(), []);
    let namespace: BTreeMap<String, String> = [
        ("kubernetes.io/metadata.name", "payments"),
        ("pullpass.dev/inject", "enabled"),
        ("team", "payments"),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into();
    let images = [
        (
            "literal",
            "123456789012.dkr.ecr.eu-west-1.amazonaws.com/team-28/api/server:v1.2.3",
            true,
        ),
        (
            "wildcard",
            "210987654321.dkr.ecr.us-east-2.amazonaws.com/shared/tools/builder:v1.2.3",
            true,
        ),
        ("unserved", "docker.io/library/ubuntu:24.04", false),
    ];
    for (name, image, is_served) in images {
        criterion.bench_function(&format!("parse/{name}"), |bencher| {
            bencher.iter(|| Reference::parse(black_box(image)));
        });
        let reference = Reference::parse(image).expect("it is a reference");
        assert_eq!(
            registries.resolve(&namespace, &reference).is_some(),
            is_served
        );
        criterion.bench_function(&format!("resolve/{name}"), |bencher| {
            bencher.iter(|| {
                registries
                    .resolve(black_box(&namespace), black_box(&reference))
                    .map(|resolved| resolved.grant)
            });
        });
    }
    criterion.bench_function("grants", |bencher| {
        bencher.iter(|| registries.grants(black_box(&namespace)).len());
    });
}

criterion_group!(benches, bench);
criterion_main!(benches);
