//! Asking a repository: where the registry's front page `/v2/` is open to anybody, the repository itself may ask for a login.

use secrecy::SecretString;
use tokio::time::Instant;

use super::super::http::Reply;
use super::challenge::{Challenge, Scope};
use super::{LoginMethod, RegistryClient, RegistryClientError, is_trouble};

/// How a repository lets the login in.
pub(super) struct RepositoryEntry<'p> {
    pub(super) challenge: Challenge,
    pub(super) scope: Scope<'p>,
    authorization: Option<SecretString>,
}

impl RegistryClient<'_> {
    /// Whether it takes the login where one of these repositories asks for one: registries do so before they say whether it is there.
    pub(super) async fn login_below(
        &self,
        paths: impl IntoIterator<Item = &str>,
        deadline: Instant,
    ) -> Result<LoginMethod, RegistryClientError> {
        let (mut asked, mut open) = (0, 0);
        for path in paths {
            let mut entry = self
                .enter(Challenge::None, Scope::pull(path), deadline)
                .await?;
            let tags = format!("/v2/{path}/tags/list?n=1");
            let reply = self.ask(&mut entry, "GET", &tags, deadline).await?;
            asked += 1;
            match (entry.challenge, reply.status) {
                (Challenge::None, 200) => open += 1,
                (Challenge::None, status) if !is_trouble(status) => {}
                // Who gave a token took the login, whatever that allows.
                (Challenge::Token { .. }, 200 | 401 | 403 | 404) => return Ok(LoginMethod::Token),
                (Challenge::Basic, 200 | 404) => return Ok(LoginMethod::Basic),
                _ => return Err(self.explain("the login".to_owned(), &reply)),
            }
        }
        if asked > 0 && asked == open {
            return Ok(LoginMethod::Open);
        }
        Ok(LoginMethod::Untried)
    }

    /// What a repository is asked with, by what the front page asked for.
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

    /// Asks a repository; where the front page asked for no login and this does, as it asks for it.
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
