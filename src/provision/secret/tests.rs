use super::*;
use crate::provision::ports::Version;
use crate::registry::ExportFormat;

fn now() -> Timestamp {
    "2026-11-21T10:00:00Z".parse().unwrap()
}

fn entry(key: &str, password: &str) -> AuthEntry {
    let until = "2026-11-21T22:00:00.25Z".parse().unwrap();
    AuthEntry::new(
        key,
        "payments".parse().unwrap(),
        "AWS",
        &SecretString::from(password),
        Some(until),
    )
}

fn fixed(key: &str, password: &str) -> AuthEntry {
    AuthEntry::new(
        key,
        "harbor".parse().unwrap(),
        "robot",
        &SecretString::from(password),
        None,
    )
}

fn data<const N: usize>(data: [(&'static str, &[u8]); N]) -> SecretData {
    let data = data.into_iter();
    data.map(|(key, bytes)| (key, Arc::new(SecretSlice::from(bytes.to_vec()))))
        .collect()
}

fn there(dockerconfigjson: &[u8]) -> PullSecret {
    PullSecret {
        version: Version::default(),
        ours: true,
        format: Some(SecretFormat::PullSecret),
        type_: SecretFormat::PullSecret.secret_type().to_owned(),
        data: data([(format::DOCKERCONFIGJSON, dockerconfigjson)]),
        annotations: BTreeMap::new(),
    }
}

fn written(merged: Merged) -> PullSecret {
    let content = merged.content.expect("something to write");
    read(content)
}

fn read(content: PullSecretContent) -> PullSecret {
    PullSecret {
        version: Version::default(),
        ours: true,
        format: Some(content.format),
        type_: content.format.secret_type().to_owned(),
        data: content.data,
        annotations: content.annotations,
    }
}

fn merge_pull_secret(
    existing: Option<&PullSecret>,
    wanted: &[AuthEntry],
    now: Timestamp,
) -> Merged {
    merge(existing, SecretFormat::PullSecret, wanted, now)
}

fn text(secret: &PullSecret) -> String {
    let bytes = secret.data[format::DOCKERCONFIGJSON].expose_secret();
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn writes_auth_alone_sorted_by_key() {
    let secret = written(merge_pull_secret(
        None,
        &[entry("b.example", "2"), entry("a.example/x", "1")],
        now(),
    ));
    // AWS:1 and AWS:2
    assert_eq!(
        text(&secret),
        r#"{"auths":{"a.example/x":{"auth":"QVdTOjE="},"b.example":{"auth":"QVdTOjI="}}}"#
    );
}

#[test]
fn describes_what_it_covers_and_until_when() {
    let secret = written(merge_pull_secret(
        None,
        &[fixed("a.example", "1"), entry("b.example", "2")],
        now(),
    ));
    assert_eq!(
        secret.annotations,
        BTreeMap::from([
            (
                COVERS_ANNOTATION.to_owned(),
                "b.example: Registry payments, until 2026-11-21T22:00:00Z\na.example: Registry harbor\n".to_owned()
            ),
            (UNTIL_ANNOTATION.to_owned(), "2026-11-21T22:00:00Z".to_owned()),
        ])
    );
}

#[test]
fn cuts_the_description_when_it_is_too_long() {
    let entries: Vec<_> = (0..MAX_ENTRIES)
        .map(|number| fixed(&format!("registry.example/{number:0103}"), "p"))
        .collect();
    let secret = written(merge_pull_secret(None, &entries, now()));
    let covers = &secret.annotations[COVERS_ANNOTATION];
    assert!(covers.len() < covers::MAX_COVERS_BYTES + 100);
    assert!(
        covers.ends_with(" more\n"),
        "{}",
        &covers[covers.len() - 30..]
    );
}

#[test]
fn writes_nothing_when_equal() {
    let secret = written(merge_pull_secret(None, &[entry("b.example", "2")], now()));
    let again = merge_pull_secret(Some(&secret), &[entry("b.example", "2")], now());
    assert!(again.content.is_none());
    assert!(again.displaced.is_empty());
    assert_eq!(
        again.digests,
        BTreeMap::from([("b.example".to_owned(), entry("b.example", "2").digest)])
    );
}

#[test]
fn writes_the_same_bytes_in_any_order() {
    let (a, b) = (entry("a.example", "1"), fixed("b.example", "2"));
    let one = written(merge_pull_secret(
        Some(&written(merge_pull_secret(
            None,
            std::slice::from_ref(&a),
            now(),
        ))),
        std::slice::from_ref(&b),
        now(),
    ));
    let other = written(merge_pull_secret(
        Some(&written(merge_pull_secret(None, &[b], now()))),
        &[a],
        now(),
    ));
    assert_eq!(text(&one), text(&other));
    assert_eq!(one.annotations, other.annotations);
}

#[test]
fn carries_unknown_entries_over_unchanged() {
    let before = r#"{"auths":{"x.example":{"auth":"YTpi","email":"a@b","extra":[1]}}}"#;
    let secret = written(merge_pull_secret(
        Some(&there(before.as_bytes())),
        &[entry("b.example", "2")],
        now(),
    ));
    let value: Value = serde_json::from_str(&text(&secret)).unwrap();
    assert_eq!(
        value["auths"]["x.example"],
        serde_json::json!({"auth": "YTpi", "email": "a@b", "extra": [1]})
    );
    assert!(value["auths"]["b.example"].is_object());
}

#[test]
fn keeps_descriptions_of_entries_it_carries_over() {
    let secret = written(merge_pull_secret(None, &[entry("a.example", "1")], now()));
    let secret = written(merge_pull_secret(
        Some(&secret),
        &[fixed("b.example", "2")],
        now(),
    ));
    let covers = &secret.annotations[COVERS_ANNOTATION];
    assert!(
        covers.contains("a.example: Registry payments, until 2026-11-21T22:00:00Z\n"),
        "{covers}"
    );
}

#[test]
fn replaces_what_stands_under_its_key_and_says_so() {
    let old = written(merge_pull_secret(None, &[entry("b.example", "1")], now()));
    let merged = merge_pull_secret(Some(&old), &[entry("b.example", "2")], now());
    let displaced = Displaced {
        key: "b.example".to_owned(),
        digest: entry("b.example", "1").digest,
    };
    assert_eq!(merged.displaced, [displaced]);
    assert_eq!(merged.digests["b.example"], entry("b.example", "2").digest);
}

#[test]
fn repairs_own_oldwith_members_added_to_it() {
    let before = r#"{"auths":{"b.example":{"auth":"QVdTOjI=","username":"x"}}}"#;
    let merged = merge_pull_secret(
        Some(&there(before.as_bytes())),
        &[entry("b.example", "2")],
        now(),
    );
    assert_eq!(
        text(&written(merged)),
        r#"{"auths":{"b.example":{"auth":"QVdTOjI="}}}"#
    );
}

#[test]
fn counts_unreadable_content_as_empty() {
    for before in [
        "",
        "null",
        "[]",
        "{",
        "\u{feff}{}",
        r#"{"auths":null}"#,
        r#"{"auths":[]}"#,
        r#"{"auths":"x"}"#,
        r#"{"credHelpers":{}}"#,
    ] {
        let merged = merge_pull_secret(
            Some(&there(before.as_bytes())),
            &[entry("b.example", "2")],
            now(),
        );
        assert_eq!(
            text(&written(merged)),
            r#"{"auths":{"b.example":{"auth":"QVdTOjI="}}}"#,
            "{before}"
        );
    }
}

#[test]
fn leaves_out_entries_that_would_break_every_pull() {
    for bad in [
        r"5",
        r"null",
        r#"{"auth":5}"#,
        r#"{"auth":"%%%"}"#,
        r#"{"auth":"bm9jb2xvbg=="}"#,
        r#"{"AUTH":5}"#,
        r#"{"Username":{}}"#,
        r#"{"password":null}"#,
    ] {
        let before = format!(r#"{{"auths":{{"x.example":{bad},"y.example":{{"auth":"YTpi"}}}}}}"#);
        let merged = merge_pull_secret(Some(&there(before.as_bytes())), &[], now());
        assert_eq!(
            text(&written(merged)),
            r#"{"auths":{"y.example":{"auth":"YTpi"}}}"#,
            "{bad}"
        );
    }
}

#[test]
fn drops_expired_public_oldand_no_other() {
    let secret = written(merge_pull_secret(
        None,
        &[entry("public.ecr.aws", "1"), entry("b.example", "2")],
        now(),
    ));
    let later = "2026-11-22T10:00:00Z".parse().unwrap();
    assert!(
        merge_pull_secret(Some(&secret), &[], now())
            .content
            .is_none()
    );
    assert_eq!(
        text(&written(merge_pull_secret(Some(&secret), &[], later))),
        r#"{"auths":{"b.example":{"auth":"QVdTOjI="}}}"#
    );
    let renewed = merge_pull_secret(Some(&secret), &[entry("public.ecr.aws", "3")], later);
    assert!(renewed.digests.contains_key("public.ecr.aws"));
}

#[test]
fn takes_what_there_is_room_for_and_renews_what_stands() {
    // Three of them fill it: 4/3 of it in base64.
    let big = |fill: &str| fill.repeat(MAX_BYTES / 4 - 100);
    let all = |fill: &str| ["a", "b", "c", "d"].map(|key| entry(key, &big(fill)));
    let first = merge_pull_secret(None, &all("1"), now());
    assert_eq!(first.left_out, ["d"]);
    assert!(first.bytes > MAX_BYTES);
    let first = written(first);
    assert!(text(&first).len() <= MAX_BYTES);
    assert!(!first.annotations[COVERS_ANNOTATION].contains("d: "));
    assert!(
        merge_pull_secret(Some(&first), &all("1"), now())
            .content
            .is_none()
    );

    // All existing entries are renewed, also where they become longer.
    let longer = all("2").map(|old| entry(&old.key, &format!("{}{}", big("2"), "2".repeat(1000))));
    let renewed = merge_pull_secret(Some(&first), &longer, now());
    assert_eq!(renewed.left_out, ["d"]);
    for AuthEntry { key, digest, .. } in &longer[..3] {
        assert_eq!(renewed.digests[key], *digest, "{key}");
    }
    assert!(text(&written(renewed)).len() > MAX_BYTES);
    // A small one that comes later fits in, what is too much for the API server stays as it is.
    let small = [entry("e", "1"), entry("a", &big("3").repeat(2))];
    let mixed = merge_pull_secret(Some(&first), &small, now());
    assert_eq!(mixed.left_out, ["a"]);
    assert_eq!(mixed.digests["a"], all("1")[0].digest);
    assert!(mixed.digests.contains_key("e"));
}

#[test]
fn renews_what_stands_beside_a_surplus_that_leaves_no_room() {
    let stale = fixed("x.example", &"x".repeat(MAX_BYTES * 3 / 4 - 3000));
    let full = written(merge_pull_secret(None, &[entry("a", "1"), stale], now()));
    let merged = merge_pull_secret(
        Some(&full),
        &[entry("a", "2"), entry("b", &"2".repeat(9000))],
        now(),
    );
    assert_eq!(merged.left_out, ["b"]);
    assert_eq!(merged.digests["a"], entry("a", "2").digest);
    assert!(merged.digests.contains_key("x.example"));
}

#[test]
fn counts_the_bytes_that_are_written() {
    let before =
        r#"{"auths":{"a":{"auth":"YTpi"},"x\"y":{"auth":"YTpi","extra":[1]},"z":{"auth":""}}}"#;
    let wanted = [entry("a", "longer"), entry("b", "2")];
    let merged = merge_pull_secret(Some(&there(before.as_bytes())), &wanted, now());
    let bytes = merged.bytes;
    assert_eq!(bytes, text(&written(merged)).len() + 1, "a comma more");
}

#[test]
fn debug_shows_no_secret() {
    let auths = Auths::parse(br#"{"auths":{"x.example":{"auth":"YTpi"}}}"#);
    assert_eq!(format!("{auths:?}"), r#"{"x.example"}"#);
}

#[test]
fn rewrites_content_with_members_that_the_kubelet_may_not_decode() {
    let before = r#"{"auths":{"y.example":{"auth":"YTpi"}},"HttpHeaders":5}"#;
    assert!(!Auths::parse(before.as_bytes()).is_intact());
    let merged = merge_pull_secret(Some(&there(before.as_bytes())), &[], now());
    assert_eq!(
        text(&written(merged)),
        r#"{"auths":{"y.example":{"auth":"YTpi"}}}"#
    );
}

/// So many logins of few bytes.
fn many(count: usize) -> Vec<u8> {
    let logins: Vec<_> = (0..count)
        .map(|number| format!(r#""{number:x}.example":{{"auth":"YTpi"}}"#))
        .collect();
    format!(r#"{{"auths":{{{}}}}}"#, logins.join(",")).into_bytes()
}

#[test]
fn reads_nothing_of_what_has_more_entries_than_it_writes() {
    let most = Auths::parse(&many(MAX_ENTRIES));
    assert!(most.is_intact());
    assert_eq!(most.digests().len(), MAX_ENTRIES);
    let long_keys = format!(
        r#"{{"auths":{{"{}":{{}},"{}":{{}}}}}}"#,
        "a".repeat(MAX_KEY_BYTES / 2 + 1),
        "b".repeat(MAX_KEY_BYTES / 2),
    );
    for forged in [many(MAX_ENTRIES + 1), long_keys.into_bytes()] {
        let auths = Auths::parse(&forged);
        assert!(!auths.is_intact());
        assert!(auths.digests().is_empty());
        // It is replaced by what is wanted.
        let merged = merge_pull_secret(Some(&there(&forged)), &[entry("a.example", "1")], now());
        assert_eq!(merged.digests.len(), 1);
        assert_eq!(
            text(&written(merged)),
            r#"{"auths":{"a.example":{"auth":"QVdTOjE="}}}"#
        );
    }
}

#[test]
fn writes_no_more_entries_than_it_reads() {
    let most = there(&many(MAX_ENTRIES));
    let wanted = [
        entry("0.example", "renewed"),
        entry("new.example", "1"),
        entry("newer.example", "1"),
    ];
    let merged = merge_pull_secret(Some(&most), &wanted, now());
    assert_eq!(merged.left_out, ["new.example", "newer.example"]);
    assert_eq!(merged.digests["0.example"], wanted[0].digest);
    let read = Auths::parse(text(&written(merged)).as_bytes());
    assert!(read.is_intact());
    assert_eq!(read.digests().len(), MAX_ENTRIES);
}

#[test]
fn reads_a_login_of_any_length_and_nothing_else_that_is_large() {
    let login = STANDARD.encode(format!("a:{}", "p".repeat(100_000)));
    let large = "[".repeat(10_000) + &"]".repeat(10_000);
    let rows = [
        (format!(r#"{{"auth":"{login}"}}"#), true),
        (format!(r#"{{"auth":"YTpi","other":{large}}}"#), false),
        (r#"{"auth":"YTpi","other":{"a":[1]}}"#.to_owned(), true),
        // A login of no user is none.
        (format!(r#"{{"auth":"{}"}}"#, "YWFh".repeat(10_000)), false),
    ];
    for (entry, is_read) in rows {
        let auths = format!(r#"{{"auths":{{"x.example":{entry}}}}}"#);
        let auths = Auths::parse(auths.as_bytes());
        assert_eq!(auths.is_intact(), is_read);
        assert_eq!(auths.digests().len(), usize::from(is_read));
    }
}

#[test]
fn takes_for_unreadable_what_is_no_object_of_logins() {
    let rows = [
        "",
        "[]",
        "5",
        "{}",
        r#"{"auths":[]}"#,
        r#"{"auths":null}"#,
        r#"{"auths":{"a":{}}"#,
        r#"{"auths":{"a":{}}} x"#,
        r#"{"auths":{"a":{}},"auths":5}"#,
    ];
    for config in rows {
        let auths = Auths::parse(config.as_bytes());
        assert!(!auths.is_intact(), "{config}");
        assert!(auths.digests().is_empty(), "{config}");
    }
    let twice =
        Auths::parse(br#"{"auths":{"a":{"auth":"YTpi"},"a":{}},"auths":{"b":{"auth":"YTpi"}}}"#);
    assert_eq!(twice.digests().into_keys().collect::<Vec<_>>(), ["b"]);
}

fn exported(format: ExportFormat) -> SecretFormat {
    SecretFormat::Export(format)
}

fn merge_export(
    existing: Option<&PullSecret>,
    format: ExportFormat,
    wanted: &[AuthEntry],
) -> Merged {
    merge(existing, exported(format), wanted, now())
}

/// What is under each key, in text.
fn texts(secret: &PullSecret) -> Vec<(&'static str, &str)> {
    let data = secret.data.iter();
    data.map(|(key, bytes)| (*key, std::str::from_utf8(bytes.expose_secret()).unwrap()))
        .collect()
}

#[test]
fn renders_each_format_with_exactly_its_keys_and_reads_it_again() {
    use ExportFormat::{ArgoCdRepository, ArgoCdRepositoryCreds, BasicAuth, DockerConfig};
    let json = r#"{"auths":{"a.example/v2/v2/x":{"auth":"cm9ib3Q6cDpx"}}}"#;
    let argo = [
        ("enableOCI", "true"),
        ("password", "p:q"),
        ("type", "helm"),
        ("url", "a.example/v2/x"),
        ("username", "robot"),
    ];
    let rows: [(ExportFormat, &[(&str, &str)]); 4] = [
        (
            DockerConfig,
            &[(".dockerconfigjson", json), ("config.json", json)],
        ),
        (BasicAuth, &[("password", "p:q"), ("username", "robot")]),
        (ArgoCdRepository, &argo),
        (ArgoCdRepositoryCreds, &argo),
    ];
    // What the kubelet would strip of a key is in no URL.
    let wanted = [fixed("a.example/v2/v2/x", "p:q")];
    for (format, expected) in rows {
        let merged = merge_export(None, format, &wanted);
        let digests = merged.digests.clone();
        let secret = written(merged);
        assert_eq!(texts(&secret), expected, "{format:?}");
        let auths = Auths::of(&secret);
        assert!(auths.is_intact(), "{format:?}");
        assert_eq!(auths.digests(), digests, "{format:?}");
        assert_eq!(digests["a.example/v2/v2/x"], wanted[0].digest, "{format:?}");
        assert!(
            merge_export(Some(&secret), format, &wanted)
                .content
                .is_none()
        );
        assert!(prune(&secret, |_| false).content.is_none(), "{format:?}");
        assert!(!prune(&secret, |_| true).is_changed, "{format:?}");
    }
}

#[test]
fn repairs_whatever_another_writer_changed_in_an_export() {
    let wanted = [fixed("a.example/x", "1")];
    let formats = [
        ExportFormat::DockerConfig,
        ExportFormat::BasicAuth,
        ExportFormat::ArgoCdRepository,
        ExportFormat::ArgoCdRepositoryCreds,
    ];
    let mut tried = 0;
    for format in formats {
        let good = written(merge_export(None, format, &wanted));
        for key in format::keys_of(exported(format)) {
            for value in [None, Some("theirs"), Some("")] {
                let mut touched = good.clone();
                let value = value.map(|text| Arc::new(SecretSlice::from(text.as_bytes().to_vec())));
                match value {
                    Some(value) => drop(touched.data.insert(key, value)),
                    None => drop(touched.data.remove(key)),
                }
                let repaired = written(merge_export(Some(&touched), format, &wanted));
                assert_eq!(texts(&repaired), texts(&good), "{format:?} {key}");
                tried += 1;
            }
        }
        let mut touched = good.clone();
        touched.annotations.clear();
        let merged = merge_export(Some(&touched), format, &wanted);
        // The key of a login that has no host in it is in the annotation alone.
        assert_eq!(
            merged.content.is_some(),
            format == ExportFormat::BasicAuth,
            "{format:?}"
        );
        // One of another form is written anew.
        let other = PullSecret {
            format: None,
            ..good.clone()
        };
        assert!(Auths::of(&other).digests().is_empty() && !Auths::of(&other).is_intact());
        assert_eq!(
            texts(&written(merge_export(Some(&other), format, &wanted))),
            texts(&good)
        );
    }
    assert_eq!(tried, 3 * (2 + 2 + 5 + 5));
}

/// Argo CD compares text: without a slash at its end the URL of a host begins those of other hosts.
#[test]
fn ends_the_url_of_a_whole_host_in_a_credential_template() {
    use ExportFormat::{ArgoCdRepository, ArgoCdRepositoryCreds};
    let rows = [
        (ArgoCdRepositoryCreds, "a.example", "a.example/"),
        (ArgoCdRepositoryCreds, "a.example:5000", "a.example:5000/"),
        (ArgoCdRepositoryCreds, "a.example/x", "a.example/x"),
        (ArgoCdRepository, "a.example", "a.example"),
    ];
    for (format, key, url) in rows {
        let wanted = [fixed(key, "1")];
        let secret = written(merge_export(None, format, &wanted));
        assert_eq!(texts(&secret)[3], ("url", url), "{format:?}");
        let merged = merge_export(Some(&secret), format, &wanted);
        assert!(merged.content.is_none(), "{format:?} {key}");
        // With the slash, or without it where it belongs, it is no URL of ours.
        let other = match url.strip_suffix('/') {
            Some(without) => without.to_owned(),
            None => format!("{url}/"),
        };
        let mut touched = secret.clone();
        let other = SecretSlice::from(other.into_bytes());
        touched.data.insert("url", Arc::new(other));
        let repaired = written(merge_export(Some(&touched), format, &wanted));
        assert_eq!(texts(&repaired), texts(&secret), "{format:?} {key}");
    }
}

#[test]
fn replaces_the_one_login_of_an_export_whatever_its_key_was() {
    let format = ExportFormat::ArgoCdRepository;
    let before = written(merge_export(None, format, &[fixed("a.example/old", "1")]));
    let merged = merge_export(Some(&before), format, &[entry("a.example/new", "2")]);
    assert_eq!(merged.digests.len(), 1);
    assert!(merged.digests.contains_key("a.example/new"));
    let after = written(merged);
    assert_eq!(texts(&after)[3], ("url", "a.example/new"));
    let covers = &after.annotations[COVERS_ANNOTATION];
    assert_eq!(
        covers,
        "a.example/new: Registry payments, until 2026-11-21T22:00:00Z\n"
    );
    // Nothing to be written leaves what is there.
    assert!(merge_export(Some(&after), format, &[]).content.is_none());
}

/// The logins are in it twice, and a Secret has a limit.
#[test]
fn fills_an_export_of_two_copies_to_half_of_the_limit() {
    let entries: Vec<_> = (0..600)
        .map(|number| fixed(&format!("a.example/{number}"), &"p".repeat(1024)))
        .collect();
    let merged = merge_export(None, ExportFormat::DockerConfig, &entries);
    assert!(!merged.left_out.is_empty());
    assert_eq!(merged.max_bytes, MAX_BYTES / 2);
    let secret = written(merged);
    let bytes: usize = texts(&secret).iter().map(|(_, text)| text.len()).sum();
    assert!(bytes <= MAX_BYTES && bytes > MAX_BYTES / 10 * 9, "{bytes}");
}
