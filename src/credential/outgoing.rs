//! Secrets on their way to a cloud: into a request, and never back out of an answer into a message.

mod mask;

use async_trait::async_trait;
use aws_credential_types::Credentials;
use aws_sdk_sts::operation::assume_role_with_web_identity::builders::AssumeRoleWithWebIdentityFluentBuilder as AssumeRole;
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_types::body::SdkBody;
use azure_core::credentials::{AccessToken, Secret};
use azure_core::http::ClientMethodOptions;
use azure_identity::ClientAssertion;
use form_urlencoded::Serializer;
use percent_encoding::percent_decode_str;
use secrecy::{ExposeSecret as _, SecretString};

use crate::credential::one_line::one_line;
use mask::mask;

/// A request, with a secret in one of its headers, if there is one; the error says which part is not valid in it.
pub(crate) fn build_request(
    method: &'static str,
    url: &str,
    headers: &[(&'static str, &str)],
    secret: Option<(&'static str, &SecretString)>,
    body: Vec<u8>,
) -> Result<HttpRequest, String> {
    let mut request = HttpRequest::new(SdkBody::from(body));
    let placed = request
        .set_method(method)
        .and_then(|()| request.set_uri(url));
    placed.map_err(|error| format!("{url} cannot be asked, {error}"))?;
    let secret = secret.map(|(name, value)| (name, value.expose_secret()));
    for (name, value) in headers.iter().copied().chain(secret) {
        let set = request.headers_mut().try_insert(name, value.to_owned());
        set.map_err(|_| format!("the value of {name} is not valid in a header"))?;
    }
    Ok(request)
}

/// A form's body, or a query.
///
/// <https://url.spec.whatwg.org/#application/x-www-form-urlencoded>
pub(crate) struct FormBody(String);

impl FormBody {
    /// A form of these values.
    pub(crate) fn new(values: &[(&str, &str)]) -> Self {
        Self(Serializer::new(String::new()).extend_pairs(values).finish())
    }

    /// With this secret, too.
    #[must_use]
    pub(crate) fn with_secret(self, name: &str, secret: &SecretString) -> Self {
        let mut form = Serializer::for_suffix(self.0, 0);
        Self(form.append_pair(name, secret.expose_secret()).finish())
    }

    /// As it is sent.
    pub(crate) fn encode(self) -> String {
        self.0
    }
}

/// Access keys as the AWS SDK signs by them; it wipes its copies.
pub(crate) fn sign_with(
    access_key_id: &str,
    secret_access_key: &SecretString,
    session_token: Option<&SecretString>,
) -> Credentials {
    Credentials::new(
        access_key_id,
        secret_access_key.expose_secret(),
        session_token.map(|token| token.expose_secret().to_owned()),
        None,
        "keys",
    )
}

/// A call of AWS STS that shows this token.
pub(crate) fn show_token(call: AssumeRole, token: &SecretString) -> AssumeRole {
    call.web_identity_token(token.expose_secret())
}

/// A client secret as Azure's SDK takes it.
pub(crate) fn to_azure(secret: &SecretString) -> Secret {
    Secret::new(secret.expose_secret().to_owned())
}

/// The token that Azure's SDK got.
pub(crate) fn of_azure(token: &AccessToken) -> SecretString {
    token.token.secret().into()
}

/// A ServiceAccount token, as Azure's SDK takes it.
#[derive(Debug)]
pub(crate) struct Assertion(pub(crate) SecretString);

#[async_trait]
impl ClientAssertion for Assertion {
    async fn secret(&self, _: Option<ClientMethodOptions<'_>>) -> azure_core::Result<String> {
        Ok(self.0.expose_secret().to_owned())
    }
}

/// Who repeats so many bytes of a secret in a row repeats it.
const PART: usize = 16;

/// What a request proves by who asks: an answer must not repeat it into a message.
#[derive(Clone, Copy)]
pub(crate) enum Sent<'a> {
    /// Nothing that is secret.
    Nothing,
    /// A token, a password or a client secret.
    Text(&'a SecretString),
    /// A signature by these keys.
    Keys(&'a Credentials),
}

impl Sent<'_> {
    /// The other side's own words on one line, unless they repeat a part of what was sent: a signature error quotes the whole signed
    /// request. What has the form of another secret is masked.
    pub(crate) fn show(self, text: &str) -> String {
        let line = one_line(text);
        if self.is_repeated_in(&line) {
            "an answer that is not shown because it repeats a secret".to_owned()
        } else {
            mask(&line)
        }
    }

    fn is_repeated_in(self, text: &str) -> bool {
        match self {
            Self::Nothing => false,
            Self::Text(secret) => repeats(text, secret.expose_secret()),
            Self::Keys(keys) => {
                let token = keys.session_token();
                repeats(text, keys.secret_access_key())
                    || token.is_some_and(|token| repeats(text, token))
            }
        }
    }
}

/// Whether a text contains a part of a secret, as it is or as a form sends it: 16 bytes in a row, or all of a shorter one.
fn repeats(text: &str, secret: &str) -> bool {
    let length = secret.len().min(PART);
    let repeats = |text: &[u8]| {
        let mut parts = secret.as_bytes().windows(length);
        parts.any(|part| text.windows(length).any(|found| found == part))
    };
    length > 0 && (repeats(text.as_bytes()) || repeats(&decode_form(text)))
}

/// What a text says once it is read as a form.
///
/// <https://url.spec.whatwg.org/#application/x-www-form-urlencoded>
fn decode_form(text: &str) -> Vec<u8> {
    percent_decode_str(&text.replace('+', " ")).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn hides_words_that_repeat_a_part_of_a_secret() {
        let secret = "a+secret/that~is&long=enough";
        for text in [
            "you sent a+secret/that~is&long=enough to me",
            "you sent client_secret=a%2Bsecret%2Fthat~is%26long%3Denough",
            "cut off: a+secret/that~is&lon",
            "its end: that~is&long=enough",
            "cut off in a form: a%2bsecret%2fthat%7eis%2",
        ] {
            assert!(repeats(text, secret), "{text}");
        }
        assert!(repeats("it is short.", "short"));
        for text in ["", "you sent a secret that is long enough", "a+secret"] {
            assert!(!repeats(text, secret), "{text}");
        }
        assert!(!repeats("anything", ""));
    }

    #[test]
    fn shows_one_line_of_what_repeats_nothing() {
        let canary = SecretString::from("canary");
        let (sent, empty) = (Sent::Text(&canary), SecretString::default());
        assert_eq!(sent.show("Rate\nexceeded"), "Rate exceeded");
        assert!(sent.show("Rate canary").contains("repeats a secret"));
        assert_eq!(Sent::Text(&empty).show("Rate canary"), "Rate canary");
        assert_eq!(Sent::Nothing.show("Rate canary"), "Rate canary");
        for keys in [
            sign_with("AKIA", &canary, None),
            sign_with("AKIA", &"other".into(), Some(&canary)),
        ] {
            let shown = Sent::Keys(&keys).show("Rate canary");
            assert!(shown.contains("repeats a secret"), "{shown}");
        }
    }

    #[test]
    fn puts_secrets_where_requests_have_them() {
        let secret = SecretString::from("a b&c");
        let form = FormBody::new(&[("grant_type", "x")]).with_secret("token", &secret);
        assert_eq!(form.encode(), "grant_type=x&token=a+b%26c");
        let headers = [("accept", "text/plain")];
        let login = Some(("authorization", &secret));
        let request = build_request("GET", "https://a.example/", &headers, login, Vec::new());
        let request = request.unwrap();
        assert_eq!(request.headers().get("accept"), Some("text/plain"));
        assert_eq!(request.headers().get("authorization"), Some("a b&c"));
        let odd = SecretString::from("a\nb");
        let problem = build_request(
            "GET",
            "https://a.example/",
            &[],
            Some(("authorization", &odd)),
            Vec::new(),
        );
        let problem = problem.unwrap_err();
        assert_eq!(
            problem,
            "the value of authorization is not valid in a header"
        );
    }

    proptest! {
        /// Whatever is answered: one line, bounded, no control characters, and nothing of what was sent.
        #[test]
        fn shows_a_bounded_line_without_the_secret(
            before in "\\PC{0,40}|[\\x00-\\x7f\u{202e}\u{2028}]{0,400}",
            secret in "[!-~]{8,60}",
            after in "\\PC{0,40}",
            form in any::<bool>(),
        ) {
            let sent = if form {
                form_urlencoded::byte_serialize(secret.as_bytes()).collect()
            } else {
                secret.clone()
            };
            let canary = SecretString::from(secret.as_str());
            let line = Sent::Text(&canary).show(&format!("{before}{sent}{after}"));
            prop_assert!(line.chars().count() <= 301, "{line}");
            prop_assert!(!line.chars().any(|c| c.is_control() || ('\u{2028}'..='\u{202e}').contains(&c)), "{line:?}");
            prop_assert!(!repeats(&line, &secret) || line.contains("repeats a secret"), "{line}");
        }
    }
}
