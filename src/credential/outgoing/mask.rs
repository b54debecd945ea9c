//! Masks what has the form of a secret in words of others, whoever's it is. Pure.

/// What stands where something was masked.
const MASKED: &str = "…";

/// What is never shown of a text that names it: `name=value`, `"name":"value"`, in any case.
const NAMES: [&str; 30] = [
    "access_token",
    "accesstoken",
    "accountkey",
    "api_key",
    "apikey",
    "assertion",
    "authorization",
    "aws_secret_access_key",
    "aws_session_token",
    "client_assertion",
    "client_secret",
    "clientsecret",
    "id_token",
    "passwd",
    "password",
    "private_key",
    "pwd",
    "refresh_token",
    "refreshtoken",
    "secret",
    "secret_access_key",
    "secretaccesskey",
    "session_token",
    "sessiontoken",
    "sharedaccesskey",
    "sharedaccesssignature",
    "sig",
    "signature",
    "token",
    "x-amz-security-token",
];

/// What access key ids begin with.
/// <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_identifiers.html#identifiers-unique-ids>
const KEY_IDS: [&str; 3] = ["AKIA", "ASIA", "ABIA"];

/// The text with everything masked in it that has the form of a secret: values that are named so, bearer tokens, access key ids but for
/// their end, and long runs of characters without a pattern. Hosts, ARNs, GUIDs, digests of images and resource ids stay.
pub(super) fn mask(line: &str) -> String {
    let mut masked = String::with_capacity(line.len());
    let mut context = Context::default();
    let mut rest = line;
    while let Some(first) = rest.chars().next() {
        let length = rest.find(|c| !is_of_run(c)).unwrap_or(rest.len());
        if length == 0 {
            masked.push(first);
            context.pass(first);
            rest = &rest[first.len_utf8()..];
            continue;
        }
        let (run, others) = rest.split_at(length);
        let is_digest = masked.ends_with("sha256:");
        match context.value_of(run) {
            true => masked.push_str(MASKED),
            false if is_digest => masked.push_str(run),
            false => masked.push_str(&mask_run(run)),
        }
        rest = others;
    }
    masked
}

/// Of what secrets, names, hosts and paths are made; `=` is between a name and its value, and at the end of base64.
fn is_of_run(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '~' | '.' | '+' | '/' | '%' | '-')
}

/// What was read just before.
#[derive(Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is another place in the text"
)]
struct Context {
    /// A name of [`NAMES`], and nothing but quotes since.
    is_named: bool,
    /// A quote came after it.
    is_quoted: bool,
    /// Its value comes next.
    wants_value: bool,
    /// A scheme of the header Authorization.
    is_scheme: bool,
}

impl Context {
    /// Takes a character between runs.
    fn pass(&mut self, c: char) {
        match c {
            '=' => self.wants_value |= self.is_named,
            ':' => self.wants_value |= self.is_named && self.is_quoted,
            '"' | '\'' | '\\' => self.is_quoted = true,
            ' ' => {}
            _ => *self = Self::default(),
        }
    }

    /// Takes a run; whether it is a value that is not to be shown.
    fn value_of(&mut self, run: &str) -> bool {
        let is_scheme = ["bearer", "basic"].contains(&&*run.to_ascii_lowercase());
        let is_value = (self.wants_value && !is_scheme) || (self.is_scheme && run.len() >= 16);
        let name = run.rsplit(['.', '%', '/']).next().unwrap_or_default();
        let is_named = NAMES.contains(&&*name.to_ascii_lowercase());
        *self = Self {
            is_named,
            is_quoted: false,
            wants_value: self.wants_value && is_scheme,
            is_scheme,
        };
        is_value
    }
}

fn mask_run(run: &str) -> String {
    let key_id = KEY_IDS.iter().any(|prefix| run.starts_with(prefix));
    if key_id && run.len() >= 16 && run.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return format!("{MASKED}{}", &run[run.len() - 4..]);
    }
    let is_token = run.find("eyJ").is_some_and(|at| run.len() - at >= 20);
    let is_secret = is_token
        || is_client_secret(run)
        || is_base64(run)
        || is_without_pattern(run)
        || run.split(['/', '.', '-', '_', '%']).any(is_long_mixture)
        || run
            .split(|c: char| !c.is_ascii_hexdigit())
            .any(|hex| hex.len() >= 40);
    if is_secret {
        MASKED.to_owned()
    } else {
        run.to_owned()
    }
}

/// So many letters of both cases and digits in a row are no word, nor are somewhat fewer that are mixed well.
fn is_long_mixture(text: &str) -> bool {
    let mixture = Mixture::of(text);
    let is_long =
        text.len() >= 24 || (text.len() >= 20 && mixture.changes * 100 >= text.len() * 30);
    is_long && mixture.has_all()
}

/// So many characters of base64's alphabet alone are no path.
fn is_base64(run: &str) -> bool {
    let is_digit = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    run.len() >= 32 && run.bytes().all(is_digit) && Mixture::of(run).has_all()
}

/// Client secrets of Entra ID have a `~`, and hardly anything else has one.
fn is_client_secret(run: &str) -> bool {
    run.len() >= 32 && run.contains('~') && Mixture::of(run).has_all()
}

/// Whether characters of different classes follow each other as in random text: in names and paths far fewer do.
fn is_without_pattern(run: &str) -> bool {
    let mixture = Mixture::of(run);
    run.len() >= 32 && mixture.has_all() && mixture.changes * 100 >= run.len() * 33
}

#[derive(Default)]
struct Mixture {
    upper: bool,
    lower: bool,
    digit: bool,
    /// How often a character is of another class than the one before it.
    changes: usize,
}

impl Mixture {
    fn of(text: &str) -> Self {
        let mut found = Self::default();
        let mut last = None;
        for byte in text.bytes() {
            let class = match byte {
                b'A'..=b'Z' => 0_u8,
                b'a'..=b'z' => 1,
                b'0'..=b'9' => 2,
                _ => 3,
            };
            found.upper |= class == 0;
            found.lower |= class == 1;
            found.digit |= class == 2;
            if class < 3 && last.is_some_and(|last| last != class) {
                found.changes += 1;
            }
            last = Some(class).filter(|class| *class < 3);
        }
        found
    }

    fn has_all(&self) -> bool {
        self.upper && self.lower && self.digit
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
    use proptest::prelude::*;
    use sha2::Digest as _;

    use super::*;

    #[test]
    fn leaves_what_helps() {
        for line in [
            "Signature expired: 20261121T100000Z is now earlier than 20261121T101500Z (20261121T102000Z - 5 min.)",
            "User: arn:aws:sts::123456789012:assumed-role/eksctl-prod-NodeInstanceRole-1AB2CD3EF4G5/i-0abc123def4567890 is not authorized",
            "AADSTS700016: Application with identifier '11111111-2222-3333-4444-55556666aaaa' was not found in the directory",
            "/subscriptions/12ab34cd-12ab-34cd-56ef-12ab34cd56ef/resourceGroups/RG1/providers/Microsoft.ManagedIdentity/userAssignedIdentities/Pull1",
            "manifest unknown: sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
            "Post \"https://eks-auth.eu-west-1.api.aws/clusters/prod/assume-role-for-pod-identity\": dial tcp: lookup eks-auth.eu-west-1.api.aws: no such host",
            "InvalidIdentityToken: Incorrect token audience",
            "Your authorization token has expired. Reauthenticate and try again.",
            "secret: check it",
            "123456789012.dkr.ecr.us-gov-west-1.amazonaws.com/Team2/App",
            "Trace ID: 0a1b2c3d-0a1b-0a1b-0a1b-0a1b2c3d4e00 Correlation ID: 0a1b2c3d-0a1b-0a1b-0a1b-0a1b2c3d4e01 Timestamp: 2026-11-21 10:00:00Z",
        ] {
            assert_eq!(mask(line), line);
        }
    }

    #[test]
    fn masks_what_is_named_a_secret() {
        for line in [
            "client_secret=hunter2",
            "you sent client_secret=hunter2&grant_type=x",
            r#"{"password":"hunter2"}"#,
            r#"{\"password\": \"hunter2\"}"#,
            "DefaultEndpointsProtocol=https;AccountKey=hunter2==",
            "Authorization=Bearer hunter2",
            "'X-Amz-Security-Token'='hunter2'",
            "Authorization: Bearer hunter2hunter2hunter2",
            "?sv=2020&sig=hunter2",
        ] {
            let masked = mask(line);
            assert!(!masked.contains("hunter2"), "{masked}");
            assert!(masked.contains(MASKED), "{masked}");
        }
        assert_eq!(mask("key AKIAIOSFODNN7EXAMPLE is off"), "key …MPLE is off");
    }

    /// Found by chance: a token of the alphabet of URLs whose letters come in longer runs than usual.
    #[test]
    fn masks_a_token_that_is_mixed_less_than_most() {
        let token = "OMTZgxtHZMoYAsc4_KTlrlxegaPKDUGc1yX5IRRL";
        assert_eq!(mask(token), MASKED);
        for name in [
            "role/AmazonEKSNodeRole2024",
            "eksctl-prod-NodeInstanceRole-1AB2CD3EF4G5",
        ] {
            assert_eq!(mask(name), name);
        }
    }

    /// Secrets of the forms that clouds give out.
    fn secrets() -> impl Strategy<Value = String> {
        // Random as a cloud's are, however small a failing case is made.
        let bytes = |most: usize| {
            (any::<u64>(), 30..most).prop_map(|(seed, length)| {
                let blocks = (0_u8..4).flat_map(|block| {
                    let input = [&seed.to_be_bytes()[..], &[block]].concat();
                    sha2::Sha256::digest(input).to_vec()
                });
                blocks.take(length).collect::<Vec<u8>>()
            })
        };
        prop_oneof![
            bytes(90).prop_map(|bytes| STANDARD.encode(bytes)),
            bytes(90).prop_map(|bytes| URL_SAFE_NO_PAD.encode(bytes)),
            bytes(60).prop_map(|bytes| {
                let payload = URL_SAFE_NO_PAD.encode(bytes);
                format!("eyJhbGciOiJSUzI1NiJ9.eyJ{payload}.{payload}")
            }),
            "[a-z0-9]{3}8Q~[A-Za-z0-9._~-]{34}",
            "[0-9a-f]{64}",
            "(AKIA|ASIA)[A-Z2-7]{16}",
        ]
    }

    proptest! {
        /// Nothing of a secret that anybody could use is left, and what is masked stays as it is.
        #[test]
        fn masks_secrets_of_every_form(
            before in "([a-z]{1,8} ){0,3}(token=|\"|'|\\(|: )?",
            secret in secrets(),
            after in "([\"'),;&]?( [a-z]{1,8}){0,3})?",
        ) {
            // What by chance has no capital letter, or no digit, is no base64 that a cloud gave out.
            let mixture = Mixture::of(&secret);
            let is_hex = secret.bytes().all(|byte| byte.is_ascii_hexdigit());
            prop_assume!(mixture.has_all() || is_hex || secret.starts_with('A'));
            let masked = mask(&format!("{before}{secret}{after}"));
            let parts = secret.as_bytes().windows(12);
            for part in parts.map(|part| std::str::from_utf8(part).unwrap()) {
                prop_assert!(!masked.contains(part), "{masked}");
            }
            prop_assert_eq!(mask(&masked), masked);
        }
    }
}
