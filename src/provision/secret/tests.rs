use super::*;
use crate::provision::ports::Version;

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

fn there(dockerconfigjson: &[u8]) -> PullSecret {
    PullSecret {
        version: Version::default(),
        ours: true,
        dockerconfigjson: Some(dockerconfigjson.to_vec().into()),
        annotations: BTreeMap::new(),
    }
}

fn written(merged: Merged) -> PullSecret {
    let content = merged.content.expect("something to write");
    PullSecret {
        annotations: content.annotations,
        ..there(content.dockerconfigjson.expose_secret())
    }
}

fn text(secret: &PullSecret) -> String {
    String::from_utf8(
        secret
            .dockerconfigjson
            .as_ref()
            .unwrap()
            .expose_secret()
            .to_vec(),
    )
    .unwrap()
}

#[test]
fn writes_auth_alone_sorted_by_key() {
    let secret = written(merge(
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
    let secret = written(merge(
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
    let secret = written(merge(None, &entries, now()));
    let covers = &secret.annotations[COVERS_ANNOTATION];
    assert!(covers.len() < MAX_COVERS_BYTES + 100);
    assert!(
        covers.ends_with(" more\n"),
        "{}",
        &covers[covers.len() - 30..]
    );
}

#[test]
fn writes_nothing_when_equal() {
    let secret = written(merge(None, &[entry("b.example", "2")], now()));
    let again = merge(Some(&secret), &[entry("b.example", "2")], now());
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
    let one = written(merge(
        Some(&written(merge(None, std::slice::from_ref(&a), now()))),
        std::slice::from_ref(&b),
        now(),
    ));
    let other = written(merge(Some(&written(merge(None, &[b], now()))), &[a], now()));
    assert_eq!(text(&one), text(&other));
    assert_eq!(one.annotations, other.annotations);
}

#[test]
fn carries_unknown_entries_over_unchanged() {
    let before = r#"{"auths":{"x.example":{"auth":"YTpi","email":"a@b","extra":[1]}}}"#;
    let secret = written(merge(
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
    let secret = written(merge(None, &[entry("a.example", "1")], now()));
    let secret = written(merge(Some(&secret), &[fixed("b.example", "2")], now()));
    let covers = &secret.annotations[COVERS_ANNOTATION];
    assert!(
        covers.contains("a.example: Registry payments, until 2026-11-21T22:00:00Z\n"),
        "{covers}"
    );
}

#[test]
fn replaces_what_stands_under_its_key_and_says_so() {
    let old = written(merge(None, &[entry("b.example", "1")], now()));
    let merged = merge(Some(&old), &[entry("b.example", "2")], now());
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
    let merged = merge(
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
        let merged = merge(
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
        let merged = merge(Some(&there(before.as_bytes())), &[], now());
        assert_eq!(
            text(&written(merged)),
            r#"{"auths":{"y.example":{"auth":"YTpi"}}}"#,
            "{bad}"
        );
    }
}

#[test]
fn drops_expired_public_oldand_no_other() {
    let secret = written(merge(
        None,
        &[entry("public.ecr.aws", "1"), entry("b.example", "2")],
        now(),
    ));
    let later = "2026-11-22T10:00:00Z".parse().unwrap();
    assert!(merge(Some(&secret), &[], now()).content.is_none());
    assert_eq!(
        text(&written(merge(Some(&secret), &[], later))),
        r#"{"auths":{"b.example":{"auth":"QVdTOjI="}}}"#
    );
    let renewed = merge(Some(&secret), &[entry("public.ecr.aws", "3")], later);
    assert!(renewed.digests.contains_key("public.ecr.aws"));
}

#[test]
fn takes_what_there_is_room_for_and_renews_what_stands() {
    // Three of them fill it: 4/3 of it in base64.
    let big = |fill: &str| fill.repeat(MAX_BYTES / 4 - 100);
    let all = |fill: &str| ["a", "b", "c", "d"].map(|key| entry(key, &big(fill)));
    let first = merge(None, &all("1"), now());
    assert_eq!(first.left_out, ["d"]);
    assert!(first.bytes > MAX_BYTES);
    let first = written(first);
    assert!(text(&first).len() <= MAX_BYTES);
    assert!(!first.annotations[COVERS_ANNOTATION].contains("d: "));
    assert!(merge(Some(&first), &all("1"), now()).content.is_none());

    // All existing entries are renewed, also where they become longer.
    let longer = all("2").map(|old| entry(&old.key, &format!("{}{}", big("2"), "2".repeat(1000))));
    let renewed = merge(Some(&first), &longer, now());
    assert_eq!(renewed.left_out, ["d"]);
    for AuthEntry { key, digest, .. } in &longer[..3] {
        assert_eq!(renewed.digests[key], *digest, "{key}");
    }
    assert!(text(&written(renewed)).len() > MAX_BYTES);
    // A small one that comes later fits in, what is too much for the API server stays as it is.
    let small = [entry("e", "1"), entry("a", &big("3").repeat(2))];
    let mixed = merge(Some(&first), &small, now());
    assert_eq!(mixed.left_out, ["a"]);
    assert_eq!(mixed.digests["a"], all("1")[0].digest);
    assert!(mixed.digests.contains_key("e"));
}

#[test]
fn renews_what_stands_beside_a_surplus_that_leaves_no_room() {
    let stale = fixed("x.example", &"x".repeat(MAX_BYTES * 3 / 4 - 3000));
    let full = written(merge(None, &[entry("a", "1"), stale], now()));
    let merged = merge(
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
    let merged = merge(Some(&there(before.as_bytes())), &wanted, now());
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
    let merged = merge(Some(&there(before.as_bytes())), &[], now());
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
        let merged = merge(Some(&there(&forged)), &[entry("a.example", "1")], now());
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
    let merged = merge(Some(&most), &wanted, now());
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
