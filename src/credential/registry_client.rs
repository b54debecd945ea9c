//! Trying a login on its registry, as a container runtime or a builder uses it: the login itself, the manifest of one image, an upload.
//!
//! The login goes to the registry's own host, and to a token service on another one only where whoever checks it named that host.
//!
//! <https://github.com/opencontainers/distribution-spec/blob/main/spec.md>,
//! <https://distribution.github.io/distribution/spec/auth/token/>

mod challenge;
mod error;
mod repository;
mod tag_list;
mod upload;
mod upload_location;

use std::time::Duration;

use secrecy::SecretString;
use serde::Deserialize;
use tokio::time::Instant;

use super::answer_words::{self, BodyWords};
use super::answers::{self, CloudAnswer, Lasts, Service};
use super::cloud::unlogged;
use super::http::{FetchError, HttpClient, Reply, Route};
use super::outgoing::{Sent, build_request};
use crate::credential::one_line::one_line;
use crate::plain_text::{self, basic_auth, with_prefix};
use challenge::{Challenge, Scope};

pub(crate) use error::RegistryClientError;
pub(crate) use upload_location::PushOutcome;

/// How long one try may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// The kinds of manifests that a runtime takes.
const MANIFESTS: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json";

/// Where Docker Hub's images are pulled from.
const DOCKER_HUB: (&str, &str) = ("docker.io", "registry-1.docker.io");

/// Tries logins on one registry.
pub(crate) struct RegistryClient<'a> {
    http: &'a HttpClient,
    domain: &'a str,
    username: &'a str,
    password: &'a SecretString,
    /// Other hosts that may be asked whether the login is good.
    token_services: &'a [String],
}

/// How a registry let a login in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LoginMethod {
    /// It asks for no login, for none of the repositories that were asked for.
    Open,
    /// It shows the endpoint `/v2/` to anybody, and no repository that asks for a login is known: none was sent.
    NotAsked,
    /// With the login in each request.
    Basic,
    /// With a token that it gave for the login.
    Token,
}

/// What a registry says of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Manifest {
    /// Its digest, if the registry said it.
    pub(crate) digest: Option<String>,
}

impl<'a> RegistryClient<'a> {
    /// A login for the registry of this domain, which is a host and at most a port.
    pub(crate) fn new(
        http: &'a HttpClient,
        domain: &'a str,
        username: &'a str,
        password: &'a SecretString,
    ) -> Self {
        let domain = if domain == DOCKER_HUB.0 {
            DOCKER_HUB.1
        } else {
            domain
        };
        Self {
            http,
            domain,
            username,
            password,
            token_services: &[],
        }
    }

    /// The same; these hosts, too, may have the login where the registry names one of them as its token service.
    pub(crate) fn with_token_services(self, token_services: &'a [String]) -> Self {
        Self {
            token_services,
            ..self
        }
    }

    /// Whether the registry takes the login. `paths` are repositories, or what they are below: they are asked for where the endpoint
    /// `/v2/` is open to anybody, which says nothing of them.
    ///
    /// # Errors
    /// [`RegistryClientError`].
    pub(crate) async fn login(
        &self,
        paths: impl IntoIterator<Item = &str>,
    ) -> Result<LoginMethod, RegistryClientError> {
        let asked = async {
            let deadline = Instant::now() + REQUEST_TIMEOUT;
            let challenge = self.fetch_challenge(deadline).await?;
            let entrance = match challenge {
                Challenge::None => return self.login_at_repositories(paths, deadline).await,
                Challenge::Basic => LoginMethod::Basic,
                Challenge::Token { .. } => LoginMethod::Token,
            };
            let authorization = self.authorize(&challenge, None, deadline).await?;
            let authorization = authorization.as_ref();
            let reply = self.send("GET", "/v2/", authorization, deadline).await?;
            match reply.status {
                200 => Ok(entrance),
                _ => Err(self.explain("the login".to_owned(), &reply)),
            }
        };
        unlogged(asked).await
    }

    /// What the registry says of an image; `reference` is its tag or digest.
    ///
    /// # Errors
    /// [`RegistryClientError`].
    pub(crate) async fn manifest(
        &self,
        path: &str,
        reference: &str,
    ) -> Result<Manifest, RegistryClientError> {
        let asked = async {
            let deadline = Instant::now() + REQUEST_TIMEOUT;
            let challenge = self.fetch_challenge(deadline).await?;
            let mut entry = self.enter(challenge, Scope::pull(path), deadline).await?;
            let manifest = format!("/v2/{path}/manifests/{reference}");
            let reply = self.ask(&mut entry, "HEAD", &manifest, deadline).await?;
            if reply.status == 200 {
                return Ok(Manifest {
                    digest: reply.header("docker-content-digest").map(one_line),
                });
            }
            // An answer to HEAD has no words: the same question by GET has.
            let spoken = self.ask(&mut entry, "GET", &manifest, deadline).await?;
            let reply = if spoken.status == reply.status {
                spoken
            } else {
                reply
            };
            let joint = if reference.contains(':') { "@" } else { ":" };
            Err(self.explain(format!("manifest {path}{joint}{reference}"), &reply))
        };
        unlogged(asked).await
    }

    /// How the registry asks for a login.
    async fn fetch_challenge(&self, deadline: Instant) -> Result<Challenge, RegistryClientError> {
        let reply = self.send("GET", "/v2/", None, deadline).await?;
        if reply.status == 200 {
            return Ok(Challenge::None);
        }
        if is_trouble(reply.status) {
            return Err(self.explain("/v2/".to_owned(), &reply));
        }
        if reply.status != 401 {
            return Err(self.bad(format!("it answers /v2/ with HTTP {}", reply.status)));
        }
        self.read_challenge("/v2/", &reply)
    }

    /// What a 401 asks for.
    fn read_challenge(&self, place: &str, reply: &Reply) -> Result<Challenge, RegistryClientError> {
        let headers: Vec<&str> = reply.headers("www-authenticate").collect();
        if headers.is_empty() {
            return Err(self.bad(format!("it answers {place} with HTTP {}", reply.status)));
        }
        Challenge::find(&headers)
            .ok_or_else(|| self.bad("it asks for a login in no way that runtimes know".to_owned()))
    }

    /// The header Authorization that answers a challenge, for what is done with one repository, or for nothing.
    async fn authorize(
        &self,
        challenge: &Challenge,
        scope: Option<Scope<'_>>,
        deadline: Instant,
    ) -> Result<Option<SecretString>, RegistryClientError> {
        let basic = || with_prefix("Basic ", &basic_auth(self.username, self.password));
        let (realm, service) = match challenge {
            Challenge::None => return Ok(None),
            Challenge::Basic => return Ok(Some(basic())),
            Challenge::Token { realm, service } => (realm, service),
        };
        let (host, path) = challenge::token_place(
            realm,
            self.domain,
            self.token_services,
            service.as_deref(),
            scope,
        )
        .map_err(|realm| RegistryClientError::ForeignRealm {
            host: self.domain.to_owned(),
            realm: one_line(realm),
        })?;
        let login = basic();
        let reply = self
            .send_to(host, "GET", &path, Some(&login), deadline)
            .await?;
        if reply.status != 200 {
            let place = scope.map(|scope| format!(" at repository {}", scope.path));
            let what = format!("a token for the login{}", place.unwrap_or_default());
            return Err(self.explain(what, &reply));
        }
        let token = serde_json::from_slice::<RegistryTokenResponse>(&reply.body)
            .ok()
            .and_then(|answer| answer.token.or(answer.access_token))
            .map(SecretString::from)
            .filter(plain_text::is_token)
            .ok_or_else(|| self.bad("its token service gives no token".to_owned()))?;
        Ok(Some(with_prefix("Bearer ", &token)))
    }

    async fn send(
        &self,
        method: &'static str,
        path: &str,
        authorization: Option<&SecretString>,
        deadline: Instant,
    ) -> Result<Reply, RegistryClientError> {
        self.send_to(self.domain, method, path, authorization, deadline)
            .await
    }

    async fn send_to(
        &self,
        asked: &str,
        method: &'static str,
        path: &str,
        authorization: Option<&SecretString>,
        deadline: Instant,
    ) -> Result<Reply, RegistryClientError> {
        let host = || asked.to_owned();
        let url = format!("https://{asked}{path}");
        let login = authorization.map(|login| ("authorization", login));
        let request = build_request(method, &url, &[("accept", MANIFESTS)], login, Vec::new())
            .map_err(|problem| self.bad(problem))?;
        self.http
            .exchange(Route::Cloud, request, deadline)
            .await
            .map_err(|error| match error {
                FetchError::Timeout => RegistryClientError::Timeout { host: host() },
                FetchError::Network(detail) => RegistryClientError::Network {
                    host: host(),
                    detail,
                },
            })
    }

    fn explain(&self, what: String, reply: &Reply) -> RegistryClientError {
        let host = self.domain.to_owned();
        let answer = self.words(&reply.body);
        let body = answer_words::read_body(&reply.body);
        let known = answers::find(&CloudAnswer {
            from: Service::Registry,
            status: reply.status,
            code: "",
            action: "",
            signer: None,
            text: &body.text,
        });
        if let Some(known) = known {
            let wait = reply.retry_after.map(|wait| wait.as_secs());
            let wait = wait.map(|seconds| format!(", it asks to wait {seconds} s"));
            return RegistryClientError::Known {
                host,
                what,
                status: reply.status,
                answer: format!("{answer}{}", wait.unwrap_or_default()),
                reason: known.reason,
                is_passing: known.lasts == Lasts::Passing,
                retry_after: reply.retry_after,
                advice: &known.advice,
                repository: None,
            };
        }
        match reply.status {
            status @ (401 | 403) => RegistryClientError::Refused {
                host,
                what,
                status,
                answer,
                repository: None,
            },
            404 => RegistryClientError::NotFound { host, what, answer },
            status => self.bad(format!("it answers {what} with HTTP {status}: {answer}")),
        }
    }

    /// The registry's own words, unless they repeat the login.
    fn words(&self, body: &[u8]) -> String {
        let BodyWords { code, text } = answer_words::read_body(body);
        let said: Vec<&str> = [code.as_str(), text.as_str()]
            .into_iter()
            .filter(|part| !part.is_empty())
            .collect();
        if said.is_empty() {
            return "it does not say why".to_owned();
        }
        Sent::Text(self.password).show(&said.join(" "))
    }

    fn bad(&self, problem: String) -> RegistryClientError {
        RegistryClientError::BadAnswer {
            host: self.domain.to_owned(),
            problem,
        }
    }
}

/// Whether an answer says nothing of what was asked.
fn is_trouble(status: u16) -> bool {
    matches!(status, 429 | 500..=599)
}

/// <https://distribution.github.io/distribution/spec/auth/token/#token-response-fields>
#[derive(Deserialize)]
struct RegistryTokenResponse {
    token: Option<String>,
    access_token: Option<String>,
}

#[cfg(test)]
mod tests;
