//! Asking a repository: where the registry's endpoint `/v2/` is open to anybody, the repository itself may ask for a login.

use secrecy::SecretString;
use tokio::time::Instant;

use super::super::http::Reply;
use super::challenge::{Challenge, Scope};
use super::tag_list::TagList;
use super::{LoginMethod, RegistryClient, RegistryClientError, is_trouble};

/// How a repository lets the login in.
pub(super) struct RepositoryEntry<'p> {
    pub(super) challenge: Challenge,
    pub(super) scope: Scope<'p>,
    authorization: Option<SecretString>,
}

impl RegistryClient<'_> {
    /// Whether it takes the login where one of these repositories asks for one: registries do so before they say whether it is there. Of
    /// what went wrong at them the first counts, unless another one shows more; a login that is refused is sent no further.
    pub(super) async fn login_at_repositories(
        &self,
        paths: impl IntoIterator<Item = &str>,
        deadline: Instant,
    ) -> Result<LoginMethod, RegistryClientError> {
        let (mut method, mut first_error) = (None, None);
        for path in paths {
            match self.login_at(path, deadline).await {
                Ok(LoginMethod::Open) => {
                    method.get_or_insert(LoginMethod::Open);
                }
                Ok(LoginMethod::NotAsked) => method = Some(LoginMethod::NotAsked),
                Ok(taken @ (LoginMethod::Basic | LoginMethod::Token)) => return Ok(taken),
                Err(error) if error.refuses_login() => return Err(error),
                Err(error) => {
                    first_error.get_or_insert(error);
                }
            }
        }
        match first_error {
            Some(error) => Err(error),
            None => Ok(method.unwrap_or(LoginMethod::NotAsked)),
        }
    }

    /// How one repository lets the login in.
    async fn login_at(
        &self,
        path: &str,
        deadline: Instant,
    ) -> Result<LoginMethod, RegistryClientError> {
        let scope = Scope::pull(path);
        let mut entry = self.enter(Challenge::None, scope, deadline).await?;
        let tags = format!("/v2/{path}/tags/list?n=1");
        let reply = self.ask(&mut entry, "GET", &tags, deadline).await?;
        match (entry.challenge, reply.status) {
            // Anything may answer 200, as a page for people does.
            (Challenge::None, 200) if TagList::parse(&reply.body).is_some() => {
                Ok(LoginMethod::Open)
            }
            (Challenge::None, status) if !is_trouble(status) => Ok(LoginMethod::NotAsked),
            // Who gave a token took the login, whatever that allows.
            (Challenge::Token { .. }, 200 | 403 | 404) => Ok(LoginMethod::Token),
            (Challenge::Token { .. }, 401) => Err(RegistryClientError::TokenRefused {
                host: self.domain.to_owned(),
                repository: path.to_owned(),
                answer: self.words(&reply.body),
            }),
            (Challenge::Basic, 200 | 404) => Ok(LoginMethod::Basic),
            _ => {
                let what = format!("the login at repository {path}");
                Err(self.explain(what, &reply).at_repository(path))
            }
        }
    }

    /// What a repository is asked with, by what the endpoint `/v2/` asked for.
    pub(super) async fn enter<'p>(
        &self,
        challenge: Challenge,
        scope: Scope<'p>,
        deadline: Instant,
    ) -> Result<RepositoryEntry<'p>, RegistryClientError> {
        let authorization = self.authorize(&challenge, Some(scope), deadline).await?;
        Ok(RepositoryEntry {
            challenge,
            scope,
            authorization,
        })
    }

    /// Asks a repository; where the endpoint `/v2/` asked for no login and this does, as it asks for it.
    pub(super) async fn ask(
        &self,
        entry: &mut RepositoryEntry<'_>,
        method: &'static str,
        place: &str,
        deadline: Instant,
    ) -> Result<Reply, RegistryClientError> {
        let authorization = entry.authorization.as_ref();
        let reply = self.send(method, place, authorization, deadline).await?;
        if entry.challenge != Challenge::None || reply.status != 401 {
            return Ok(reply);
        }
        let challenge = self.read_challenge(place, &reply)?;
        *entry = self.enter(challenge, entry.scope, deadline).await?;
        let authorization = entry.authorization.as_ref();
        self.send(method, place, authorization, deadline).await
    }
}
