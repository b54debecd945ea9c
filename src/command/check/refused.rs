//! Logins that a registry refused meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::credential::login_check::LoginId;
use crate::credential::registry_client::{LoginMethod, RegistryClient, RegistryClientError};
use crate::credential::static_login::Login;

/// How long a login that was refused is not sent again, where it is waited for: its registry may take it by then.
const PAUSE: Duration = Duration::from_mins(1);

/// The logins that were refused, and when: each is sent once, however many Registries and images have it, as its account may be locked.
#[derive(Default)]
pub(super) struct RefusedLogins(Mutex<ByLogin>);

/// By login, and the repository if it was one that refused it.
type ByLogin = BTreeMap<(LoginId, Option<String>), (RegistryClientError, Instant)>;

impl RefusedLogins {
    /// What a host says of a login, or said when it refused it with 401: at its endpoint `/v2/` for all of `paths`, or at one of them.
    ///
    /// # Errors
    /// [`RegistryClientError`].
    pub(super) async fn try_once(
        &self,
        client: &RegistryClient<'_>,
        (domain, paths): (&str, &BTreeSet<String>),
        login: &Login,
    ) -> Result<LoginMethod, RegistryClientError> {
        let id = LoginId::of(domain, &login.username, &login.password);
        let places = std::iter::once(None).chain(paths.iter().cloned().map(Some));
        let known = self.with(|refused| {
            let mut known = places.filter_map(|place| refused.get(&(id, place)));
            let known = known.find(|(_, since)| since.elapsed() < PAUSE);
            known.map(|(error, _)| error.clone())
        });
        if let Some(error) = known {
            return Err(error);
        }
        let answer = client.login(paths.iter().map(String::as_str)).await;
        // What passes, or depends on what is pulled, is no refusal of the login.
        if let Err(error) = &answer
            && error.refuses_login()
        {
            let place = (id, error.repository().map(str::to_owned));
            self.with(|refused| refused.insert(place, (error.clone(), Instant::now())));
        }
        answer
    }

    fn with<T>(&self, act: impl FnOnce(&mut ByLogin) -> T) -> T {
        act(&mut self.0.lock())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use aws_smithy_runtime_api::client::http::{HttpConnector, HttpConnectorFuture};
    use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
    use aws_smithy_runtime_api::http::StatusCode;
    use aws_smithy_types::body::SdkBody;

    use super::*;
    use crate::credential::http::HttpClient;

    /// A registry that answers every login with a status, and counts them.
    #[derive(Clone, Debug)]
    struct Host {
        status: u16,
        /// Whether anybody may see its endpoint `/v2/`.
        is_open: bool,
        logins: Arc<AtomicUsize>,
    }

    impl Host {
        fn new(status: u16, is_open: bool) -> Self {
            let logins = Arc::default();
            Self {
                status,
                is_open,
                logins,
            }
        }

        /// Tries a login, which is of no use; how many were sent so far.
        async fn count(
            &self,
            refused: &RefusedLogins,
            (password, domain, path): (&str, &str, &str),
        ) -> usize {
            let login = Login {
                key: format!("{domain}/{path}"),
                username: "robot".to_owned(),
                password: password.into(),
            };
            let http = HttpClient::over(self.clone());
            let client = RegistryClient::new(&http, domain, &login.username, &login.password);
            let paths = BTreeSet::from([path.to_owned()]);
            let answer = refused.try_once(&client, (domain, &paths), &login).await;
            assert!(answer.is_err(), "{answer:?}");
            self.logins.load(Ordering::SeqCst)
        }
    }

    impl HttpConnector for Host {
        fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
            let has_login = request.headers().get("authorization").is_some();
            self.logins
                .fetch_add(usize::from(has_login), Ordering::SeqCst);
            let status = match has_login {
                true => self.status,
                false if self.is_open && request.uri().ends_with("/v2/") => 200,
                false => 401,
            };
            let status = StatusCode::try_from(status).unwrap();
            let mut response = HttpResponse::new(status, SdkBody::empty());
            let basic = "Basic realm=\"r\"";
            response.headers_mut().insert("www-authenticate", basic);
            HttpConnectorFuture::ready(Ok(response))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn sends_a_refused_login_once_a_minute_however_often_it_is_tried() {
        let (host, refused) = (Host::new(401, false), RefusedLogins::default());
        for _ in 0..10 {
            let sent = host.count(&refused, ("pw", "a.example", "team")).await;
            assert_eq!(sent, 1);
        }
        // What the endpoint `/v2/` refuses no repository takes.
        for (place, expected) in [
            (("pw", "a.example", "other"), 1),
            (("other", "a.example", "team"), 2),
            (("pw", "b.example", "team"), 3),
        ] {
            assert_eq!(host.count(&refused, place).await, expected, "{place:?}");
        }
        tokio::time::advance(PAUSE).await;
        let sent = host.count(&refused, ("pw", "a.example", "team")).await;
        assert_eq!(sent, 4);
    }

    #[tokio::test(start_paused = true)]
    async fn sends_a_login_again_that_was_not_refused_or_at_another_repository() {
        // What is answered, and how many logins are sent by trying these repositories.
        for (status, is_open, paths, expected) in [
            (403, false, ["team", "team"], 2),
            (503, false, ["team", "team"], 2),
            (403, true, ["team", "team"], 2),
            (401, true, ["team", "team"], 1),
            (401, true, ["team", "other"], 2),
        ] {
            let (host, refused) = (Host::new(status, is_open), RefusedLogins::default());
            let mut sent = 0;
            for path in paths {
                sent = host.count(&refused, ("pw", "a.example", path)).await;
            }
            assert_eq!(sent, expected, "{status} {is_open} {paths:?}");
        }
    }
}
