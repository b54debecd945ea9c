//! Image references, as Pods write them.

use super::Target;
use crate::image::{PATH_MAX, Reference};

pub(super) const TARGET: Target = Target {
    name: "references",
    run,
    seeds: &[
        "ubuntu",
        "index.docker.io/library/nginx:1.27",
        "123456789012.dkr.ecr.eu-west-1.amazonaws.com/team/app:v1@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "[2001:db8::1]:5000/a/b__c",
        "localhost/a",
        "exa_mple.com/a",
        "Contoso.azurecr.io:443/a-b.c",
    ],
};

fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let Ok(reference) = Reference::parse(text) else {
        return;
    };
    assert!(reference.path().len() <= PATH_MAX);
    assert!(!reference.path().is_empty() && !reference.path().contains(['@', ':', '*']));
    assert!(!reference.domain().contains(['/', '@', '*']));
    assert_eq!(
        reference.repository(),
        (reference.domain(), reference.path())
    );
    if let Some(port) = reference.port() {
        assert_eq!(reference.domain(), format!("{}:{port}", reference.host()));
    }
    if reference.domain().is_empty() {
        return;
    }
    // Written out it is the same.
    let tag = reference.tag().map(|tag| format!(":{tag}"));
    let digest = reference.digest().map(|digest| format!("@{digest}"));
    let whole = format!(
        "{}/{}{}{}",
        reference.domain(),
        reference.path(),
        tag.unwrap_or_default(),
        digest.unwrap_or_default()
    );
    assert_eq!(Reference::parse(&whole).as_ref(), Ok(&reference), "{whole}");
}
