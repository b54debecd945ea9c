use secrecy::ExposeSecret;

use super::*;

fn secret(type_: &str, data: &[(&str, &str)]) -> SourceSecret {
    let entry = |(key, value): &(&str, &str)| ((*key).to_owned(), value.as_bytes().to_vec().into());
    SourceSecret {
        name: "harbor".parse().unwrap(),
        type_: type_.to_owned(),
        data: data.iter().map(entry).collect(),
        resource_version: "1".to_owned(),
    }
}

fn docker(json: &str) -> SourceSecret {
    secret(DOCKER_CONFIG_JSON, &[(DOCKER_CONFIG_KEY, json)])
}

fn keys(keys: &[&str]) -> Vec<String> {
    keys.iter().map(|key| (*key).to_owned()).collect()
}

/// `key=username:password` of each login.
fn show(logins: &[Login]) -> Vec<String> {
    logins
        .iter()
        .map(|login| {
            format!(
                "{}={}:{}",
                login.key,
                login.username,
                login.password.expose_secret()
            )
        })
        .collect()
}

#[test]
fn find_logins_puts_basic_auth_under_every_key() {
    let secret = secret(
        BASIC_AUTH,
        &[("username", "robot\n"), ("password", " pa:ss \r\n")],
    );
    let logins = logins(&secret, &keys(&["a.example", "b.example/team"]), &[]).unwrap();
    assert_eq!(
        show(&logins),
        ["a.example=robot: pa:ss ", "b.example/team=robot: pa:ss "]
    );
}

#[test]
fn find_logins_names_what_is_wrong_with_basic_auth() {
    let error = |data| {
        logins(&secret(BASIC_AUTH, data), &keys(&["a"]), &[])
            .unwrap_err()
            .to_string()
    };
    assert!(error(&[("password", "x")]).contains("harbor has no username"));
    assert!(error(&[("username", "x"), ("password", "\n")]).contains("harbor has no password"));
    assert!(error(&[("username", "a:canary"), ("password", "x")]).contains("cannot hold a colon"));
    assert!(!error(&[("username", "a:canary"), ("password", "x")]).contains("canary"));
    let opaque = secret("Opaque", &[("username", "x")]);
    assert!(
        logins(&opaque, &keys(&["a"]), &[])
            .unwrap_err()
            .to_string()
            .contains("has the type Opaque")
    );
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    why: String,
    auths: serde_json::Value,
    keys: Vec<String>,
    #[serde(default)]
    reserved: Vec<String>,
    /// `key=username:password`, empty when there is none.
    logins: Vec<String>,
}

#[test]
fn find_logins_takes_the_entries_that_the_kubelet_would() {
    let rows: Vec<Row> =
        serde_json::from_str(include_str!("../../../tests/data/static_logins.json")).unwrap();
    assert!(rows.len() > 20);
    for row in rows {
        let secret = docker(&serde_json::json!({ "auths": row.auths }).to_string());
        let found = logins(&secret, &row.keys, &row.reserved)
            .map_or_else(|_| Vec::new(), |logins| show(&logins));
        assert_eq!(found, row.logins, "{}", row.why);
    }
}

#[test]
fn find_logins_says_that_helpers_are_no_logins() {
    let helpers = r#"{"credHelpers":{"123456789012.dkr.ecr.eu-west-1.amazonaws.com":"ecr-login"}}"#;
    let error = logins(
        &docker(helpers),
        &keys(&["123456789012.dkr.ecr.eu-west-1.amazonaws.com"]),
        &[],
    )
    .unwrap_err();
    assert_eq!(
        error,
        StaticLoginError::NoLogins {
            secret: "harbor".to_owned(),
            found: "credHelpers or credsStore, which neither the kubelet nor pullpass runs"
        }
    );
    let store = r#"{"auths":{"a.example":{}},"credsStore":"desktop"}"#;
    assert!(matches!(
        logins(&docker(store), &keys(&["a.example"]), &[]),
        Err(StaticLoginError::NoLogins { .. })
    ));
}

#[test]
fn find_logins_lists_what_is_there_when_nothing_matches() {
    let json = r#"{"auths":{"a.example":{"username":"u","password":"canary"}}}"#;
    let error = logins(&docker(json), &keys(&["b.example/x"]), &[])
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("no entry for b.example/x; it has a.example"),
        "{error}"
    );
    let error = logins(&docker("{}"), &keys(&["b.example/x"]), &[])
        .unwrap_err()
        .to_string();
    assert!(error.contains("it has none"), "{error}");
}

#[test]
fn find_logins_names_the_malformed_entry() {
    for (auth, words) in [
        (r#"{"auth":"%%%"}"#, "not base64"),
        (r#"{"auth":"bm9jb2xvbg=="}"#, "not USER:PASSWORD"),
        (r#"{"auth":"//79"}"#, "not UTF-8"),
        (r#"{"auth":5}"#, "not an object"),
        ("7", "not an object"),
        (r#"{"username":"a:b","password":"c"}"#, "colon"),
    ] {
        let json = format!(
            r#"{{"auths":{{"a.example":{auth},"b.example":{{"username":"u","password":"p"}}}}}}"#
        );
        let error = logins(&docker(&json), &keys(&["a.example"]), &[])
            .unwrap_err()
            .to_string();
        assert!(
            error.contains(words) && error.contains("\"a.example\"") && error.contains("harbor"),
            "{error}"
        );
        // Another Registry that uses the same Secret is not hurt.
        assert_eq!(
            show(&logins(&docker(&json), &keys(&["b.example"]), &[]).unwrap()),
            ["b.example=u:p"]
        );
    }
    for json in ["", "[]", "{", r#"{"auths":[]}"#, r#"{"auths":"canary"}"#] {
        let error = logins(&docker(json), &keys(&["a.example"]), &[]).unwrap_err();
        assert!(
            matches!(error, StaticLoginError::Malformed { .. }),
            "{json}: {error}"
        );
        assert!(!error.to_string().contains("canary"));
    }
    let empty = secret(DOCKER_CONFIG_JSON, &[]);
    assert!(matches!(
        logins(&empty, &keys(&["a"]), &[]),
        Err(StaticLoginError::MissingKey { .. })
    ));
}

#[test]
fn show_login_hides_the_password() {
    let secret = secret(BASIC_AUTH, &[("username", "robot"), ("password", "canary")]);
    let logins = logins(&secret, &keys(&["a.example"]), &[]).unwrap();
    assert!(!format!("{secret:?} {logins:?}").contains("canary"));
}

/// All texts of these characters with one to `longest` of them.
fn texts_of(characters: &[char], longest: usize) -> Vec<String> {
    let mut all = Vec::new();
    let mut last = vec![String::new()];
    for _ in 0..longest {
        let longer = |text: &String| {
            let one = |character: &char| format!("{text}{character}");
            characters.iter().map(one).collect::<Vec<_>>()
        };
        last = last.iter().flat_map(longer).collect();
        all.extend_from_slice(&last);
    }
    all
}

/// What matches, letter by letter; it tries everything.
fn matches_by_trying_all(glob: &[u8], text: &[u8]) -> bool {
    match (glob, text) {
        ([], _) => text.is_empty(),
        ([b'*', glob @ ..], _) => {
            (0..=text.len()).any(|skipped| matches_by_trying_all(glob, &text[skipped..]))
        }
        ([wanted, glob @ ..], [found, text @ ..]) => {
            wanted == found && matches_by_trying_all(glob, text)
        }
        (_, []) => false,
    }
}

#[test]
fn covers_matches_a_glob_as_trying_everything_does() {
    for glob in texts_of(&['a', 'b', '*'], 5) {
        let entry = Location::parse(&format!("{glob}.example")).unwrap();
        for text in texts_of(&['a', 'b'], 5) {
            let target = Location::parse(&format!("{text}.example")).unwrap();
            assert_eq!(
                entry.covers(&target),
                matches_by_trying_all(glob.as_bytes(), text.as_bytes()),
                "{glob} {text}"
            );
        }
    }
}

/// It never ended: each star doubled what was tried.
#[test]
fn covers_ends_for_a_glob_of_thirty_stars() {
    let entry = Location::parse(&format!("{}b.example", "*a".repeat(30))).unwrap();
    let target = Location::parse(&format!("{}.example", "a".repeat(60))).unwrap();
    assert!(!entry.covers(&target));
}

/// `*` of a Registry took the empty label, and the login went under a key that no image has.
#[test]
fn parse_location_ignores_hosts_with_an_empty_label() {
    for key in [
        ".*.example",
        "a..example",
        "a.example.",
        ":5000",
        ".:5000/a",
    ] {
        assert_eq!(Location::parse(key), None, "{key}");
    }
    let secret = docker(r#"{"auths":{".*.example":{"username":"a","password":"b"}}}"#);
    assert!(logins(&secret, &keys(&["*.quay.example/team"]), &[]).is_err());
}

/// `echo user:pw | base64`, a file's newline, and the same in every form of a login.
#[test]
fn find_logins_leaves_out_the_newline_of_a_file_in_every_form() {
    for entry in [
        r#"{"auth":"dTpwdwo="}"#,
        r#"{"auth":"dTpwdw0K"}"#,
        r#"{"auth":"dTpwdw=="}"#,
        r#"{"username":"u\n","password":"pw\r\n"}"#,
        r#"{"username":"u","password":"pw\n"}"#,
    ] {
        let secret = docker(&format!(r#"{{"auths":{{"r.example":{entry}}}}}"#));
        let logins = logins(&secret, &keys(&["r.example"]), &[]).unwrap();
        assert_eq!(show(&logins), ["r.example=u:pw"], "{entry}");
    }
    // White space elsewhere may be a part of it.
    let secret = docker(r#"{"auths":{"r.example":{"username":"u","password":" p\nw "}}}"#);
    let logins = logins(&secret, &keys(&["r.example"]), &[]).unwrap();
    assert_eq!(show(&logins), ["r.example=u: p\nw "]);
}

#[test]
fn find_logins_says_that_an_identity_token_is_no_login() {
    let config = r#"{"auths":{"r.example":{"auth":"","identitytoken":"canary"},"s.example":{"auth":"dTpwdw=="}}}"#;
    let refusal = |key| {
        let error = logins(&docker(config), &keys(&[key]), &[]).unwrap_err();
        error.to_string()
    };
    let text = refusal("r.example/team");
    assert!(
        text.contains("only an identitytoken, which the kubelet ignores"),
        "{text}"
    );
    assert!(!text.contains("canary"), "{text}");
    assert!(refusal("t.example").contains("it has r.example, s.example"));
}
