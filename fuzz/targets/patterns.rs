//! Patterns of Registries, two at a time, and an image: lines of the input.

use super::Target;
use crate::image::Reference;
use crate::registry::Pattern;

pub(super) const TARGET: Target = Target {
    name: "patterns",
    run,
    seeds: &[
        "*.dkr.ecr.eu-west-1.amazonaws.com/team\n123456789012.dkr.ecr.eu-west-1.amazonaws.com\n123456789012.dkr.ecr.eu-west-1.amazonaws.com/team/app:1",
        "docker.io/v1/a\ndocker.io\nubuntu",
        "a.example/team\na.example\na.example/team-b",
        "*.example.com:5000/a/b\na.*.com:5000/a\na.example.com:5000/a/b/c",
        "[2001:db8::1]:5000\n*.*\n[2001:db8::1]:5000/a",
    ],
};

fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let mut lines = text.splitn(3, '\n');
    let mut pattern = || Pattern::parse(lines.next().unwrap_or_default());
    let (Ok(one), Ok(other)) = (pattern(), pattern()) else {
        return;
    };
    for pattern in [&one, &other] {
        assert_eq!(Pattern::parse(pattern.as_str()).as_ref(), Ok(pattern));
        assert!(pattern.covers_pattern(pattern));
        assert!(pattern.key().len() <= pattern.as_str().len() + "/v2".len());
    }
    let both = one.intersect(&other);
    assert_eq!(both, other.intersect(&one), "{one} {other}");
    if one.covers_pattern(&other) {
        assert_eq!(both.as_ref(), Some(&other), "{one} {other}");
    }
    if let Some(both) = &both {
        assert_eq!(Pattern::parse(both.as_str()).as_ref(), Ok(both));
        assert!(one.covers_pattern(both) && other.covers_pattern(both));
    }
    if let Ok(image) = Reference::parse(lines.next().unwrap_or_default()) {
        let (domain, path) = image.repository();
        for pattern in [&one, &other] {
            // Whole segments: `team` covers `team/app`, and no `team-b`.
            let mut segments = pattern.path().split('/').filter(|part| !part.is_empty());
            let mut there = path.split('/');
            let is_path = segments.all(|part| there.next() == Some(part));
            assert!(is_path || !pattern.covers(domain, path), "{pattern} {path}");
        }
        let by_each = one.covers(domain, path) && other.covers(domain, path);
        let by_both = both.is_some_and(|both| both.covers(domain, path));
        assert_eq!(by_each, by_both, "{one} {other} {image:?}");
    }
}
