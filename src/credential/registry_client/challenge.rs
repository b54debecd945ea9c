//! How a registry asks for a login. Pure.

use std::iter;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::upload_location::is_same_host;

/// What a registry wants before it lets anybody in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    /// Nothing.
    None,
    /// User name and password.
    Basic,
    /// A token of a token service.
    Token {
        /// The token service's URL.
        realm: String,
        /// What the registry is called there.
        service: Option<String>,
    },
}

impl Challenge {
    /// Reads the headers WWW-Authenticate; of several challenges the one for a token, as runtimes do.
    ///
    /// <https://www.rfc-editor.org/rfc/rfc9110#section-11.6.1>
    pub(super) fn find(headers: &[&str]) -> Option<Self> {
        let is = |header: &&&str, scheme: &str| {
            let first = header.trim_start().split(' ').next().unwrap_or_default();
            first.eq_ignore_ascii_case(scheme)
        };
        let token = headers
            .iter()
            .filter(|header| is(header, "bearer"))
            .find_map(|header| {
                Some(Self::Token {
                    realm: parameter(header, "realm")?,
                    service: parameter(header, "service"),
                })
            });
        let basic = || headers.iter().any(|header| is(&header, "basic"));
        token.or_else(|| basic().then_some(Self::Basic))
    }
}

/// The value of a parameter in quotes: `realm="…"`.
fn parameter(header: &str, name: &str) -> Option<String> {
    let (_, mut rest) = header.trim_start().split_once(' ')?;
    loop {
        let (key, after) = rest.split_once("=\"")?;
        let (value, next) = after.split_once('"')?;
        if key.trim_matches([' ', ',']).eq_ignore_ascii_case(name) {
            return Some(value.to_owned());
        }
        rest = next;
    }
}

/// What a token is for: actions on one repository.
///
/// <https://distribution.github.io/distribution/spec/auth/scope/>
#[derive(Clone, Copy, Debug)]
pub(super) struct Scope<'p> {
    pub(super) path: &'p str,
    /// `pull`, or several with commas between them.
    pub(super) actions: &'static str,
}

impl<'p> Scope<'p> {
    /// Pulling from a repository.
    pub(super) fn pull(path: &'p str) -> Self {
        Self {
            path,
            actions: "pull",
        }
    }
}

/// Host, and path with query, by which a token service on the registry's own `domain`, or on an `allowed` host, is asked: for a scope, or
/// for nothing.
///
/// # Errors
/// The host of the realm, when it is another one, or its URL when it is not https.
pub(super) fn token_place<'r>(
    realm: &'r str,
    domain: &'r str,
    allowed: &'r [String],
    service: Option<&str>,
    scope: Option<Scope<'_>>,
) -> Result<(&'r str, String), &'r str> {
    let rest = realm.strip_prefix("https://").ok_or(realm)?;
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (host, place) = rest.split_at(end);
    // A host is asked as it was named, not as the realm spells it.
    let mut named = iter::once(domain).chain(allowed.iter().map(String::as_str));
    let host = named.find(|named| is_same_host(host, named)).ok_or(host)?;
    let place = place.split('#').next().unwrap_or_default();
    let is_plain = place.bytes().all(|byte| byte.is_ascii_graphic());
    if !is_plain {
        return Err(realm);
    }
    let place = if place.starts_with('/') {
        place.to_owned()
    } else {
        format!("/{place}")
    };
    let scope = scope.map(|Scope { path, actions }| format!("repository:{path}:{actions}"));
    let parameters = [("service", service), ("scope", scope.as_deref())];
    let query: Vec<String> = parameters
        .into_iter()
        .filter_map(|(name, value)| Some(format!("{name}={}", encode(value?))))
        .collect();
    let joint = if place.contains('?') { '&' } else { '?' };
    let place = if query.is_empty() {
        place
    } else {
        format!("{place}{joint}{}", query.join("&"))
    };
    Ok((host, place))
}

/// What is escaped in a query's value: all but what may be there as it is, `/`, `,` and `:` of scopes included.
///
/// <https://www.rfc-editor.org/rfc/rfc3986#section-3.4>
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'/')
    .remove(b',')
    .remove(b':');

fn encode(text: &str) -> String {
    utf8_percent_encode(text, ESCAPED).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(realm: &str, service: Option<&str>) -> Challenge {
        Challenge::Token {
            realm: realm.to_owned(),
            service: service.map(str::to_owned),
        }
    }

    #[test]
    fn finds_challenge_of_each_form() {
        let realm = "https://a.io/oauth2/token";
        let rows = [
            (
                vec![r#"Basic realm="x",service="ecr.amazonaws.com""#],
                Some(Challenge::Basic),
            ),
            (vec!["basic"], Some(Challenge::Basic)),
            (
                vec![r#"Bearer realm="https://a.io/oauth2/token",service="a.io""#],
                Some(token(realm, Some("a.io"))),
            ),
            (
                vec![
                    r#"bearer service="a.io", realm="https://a.io/oauth2/token", error="invalid_token""#,
                ],
                Some(token(realm, Some("a.io"))),
            ),
            (
                vec![
                    r#"Basic realm="x""#,
                    r#"Bearer realm="https://a.io/oauth2/token""#,
                ],
                Some(token(realm, None)),
            ),
            (vec![r#"Bearer service="a.io""#], None),
            (vec!["Bearer realm=https://a.io"], None),
            (vec!["Negotiate"], None),
            (vec![""], None),
        ];
        for (headers, challenge) in rows {
            assert_eq!(Challenge::find(&headers), challenge, "{headers:?}");
        }
    }

    #[test]
    fn asks_token_service_of_own_host_alone() {
        let rows = [
            (
                "https://a.io/token",
                Ok("/token?service=s%20x&scope=repository:team/app:pull"),
            ),
            (
                "https://a.io",
                Ok("/?service=s%20x&scope=repository:team/app:pull"),
            ),
            (
                "https://a.io/t?x=1",
                Ok("/t?x=1&service=s%20x&scope=repository:team/app:pull"),
            ),
            (
                "https://a.io?x=1",
                Ok("/?x=1&service=s%20x&scope=repository:team/app:pull"),
            ),
            ("http://a.io/token", Err("http://a.io/token")),
            ("https://auth.a.io/token", Err("auth.a.io")),
            ("https://a.io:8443/token", Err("a.io:8443")),
            ("https://a.io.evil.example/token", Err("a.io.evil.example")),
            ("https://a.io@evil.example/token", Err("a.io@evil.example")),
            (
                "https://a.io\\@evil.example/token",
                Err("a.io\\@evil.example"),
            ),
            ("https://a.io./token", Err("a.io.")),
            ("https://a.io/to ken", Err("https://a.io/to ken")),
            ("//a.io/token", Err("//a.io/token")),
            ("", Err("")),
        ];
        for (realm, expected) in rows {
            let found = token_place(
                realm,
                "a.io",
                &[],
                Some("s x"),
                Some(Scope::pull("team/app")),
            );
            let expected = expected.map(|path| ("a.io", path.to_owned()));
            assert_eq!(found, expected, "{realm}");
        }
        assert_eq!(
            token_place("https://a.io/token", "a.io", &[], None, None),
            Ok(("a.io", "/token".to_owned()))
        );
    }

    /// Case does not count, and port 443 is https' own.
    #[test]
    fn asks_the_own_host_however_it_is_spelt() {
        let place = |realm| token_place(realm, "a.io", &[], None, None);
        for realm in ["https://a.io:443/token", "https://A.Io/token"] {
            assert_eq!(place(realm), Ok(("a.io", "/token".to_owned())), "{realm}");
        }
        for (realm, other) in [
            ("https://a.io:0443/token", "a.io:0443"),
            ("https://a.io:/token", "a.io:"),
        ] {
            assert_eq!(place(realm), Err(other), "{realm}");
        }
    }

    #[test]
    fn asks_for_a_token_of_several_actions() {
        let push = Scope {
            path: "team/app",
            actions: "pull,push",
        };
        assert_eq!(
            token_place("https://a.io/token", "a.io", &[], None, Some(push)),
            Ok((
                "a.io",
                "/token?scope=repository:team/app:pull,push".to_owned()
            ))
        );
    }

    /// F15: a host that was named, to the letter.
    #[test]
    fn asks_token_service_of_an_allowed_host_and_of_no_look_alike() {
        let allowed = ["auth.docker.io".to_owned()];
        let place = |realm| token_place(realm, "registry-1.docker.io", &allowed, None, None);
        assert_eq!(
            place("https://auth.docker.io/token"),
            Ok(("auth.docker.io", "/token".to_owned()))
        );
        assert_eq!(
            place("https://Auth.docker.io:443/token"),
            Ok(("auth.docker.io", "/token".to_owned()))
        );
        for realm in [
            "http://auth.docker.io/token",
            "https://auth.docker.io.evil.example/token",
            "https://auth.docker.io@evil.example/token",
            "https://auth.docker.io:444/token",
            "https://docker.io/token",
        ] {
            assert!(place(realm).is_err(), "{realm}");
        }
    }
}
