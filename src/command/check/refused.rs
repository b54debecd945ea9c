//! Logins that a registry refused meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::credential::login_check::LoginId;
use crate::credential::registry_client::{LoginMethod, RegistryClient, RegistryClientError};
use crate::credential::static_login::Login;

/// How long a login that was refused is not sent again, where it is waited for: its registry may take it by then.
const PAUSE: Duration = Duration::from_mins(1);

/// The logins that were refused, and when: each is sent once, however many Registries and images have it, as its account may be locked.
#[derive(Default)]
pub(super) struct RefusedLogins(Mutex<Refused>);

type Refused = BTreeMap<LoginId, (RegistryClientError, Instant)>;

impl RefusedLogins {
    /// What a host says of a login, or said when it refused it.
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
        let known = self.with(|refused| refused.get(&id).cloned());
        if let Some((error, since)) = known
            && since.elapsed() < PAUSE
        {
            return Err(error);
        }
        let answer = client.login(paths.iter().map(String::as_str)).await;
        if let Err(
            error @ (RegistryClientError::Refused { .. } | RegistryClientError::Known { .. }),
        ) = &answer
        {
            self.with(|refused| refused.insert(id, (error.clone(), Instant::now())));
        }
        answer
    }

    fn with<T>(&self, act: impl FnOnce(&mut Refused) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
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

    /// A registry that refuses every login, and counts them.
    #[derive(Clone, Debug, Default)]
    struct Host(Arc<AtomicUsize>);

    impl HttpConnector for Host {
        fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
            let has_login = request.headers().get("authorization").is_some();
            self.0.fetch_add(usize::from(has_login), Ordering::SeqCst);
            let status = StatusCode::try_from(401).unwrap();
            let mut response = HttpResponse::new(status, SdkBody::empty());
            let basic = "Basic realm=\"r\"";
            response.headers_mut().insert("www-authenticate", basic);
            HttpConnectorFuture::ready(Ok(response))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn sends_a_refused_login_once_a_minute_however_often_it_is_tried() {
        let host = Host::default();
        let http = HttpClient::over(host.clone());
        let refused = RefusedLogins::default();
        let login = |password: &str| Login {
            key: "a.example/team".to_owned(),
            username: "robot".to_owned(),
            password: password.into(),
        };
        let paths = BTreeSet::new();
        let count = async |login: &Login, domain: &str| {
            let client = RegistryClient::new(&http, domain, &login.username, &login.password);
            let answer = refused.try_once(&client, (domain, &paths), login).await;
            assert!(answer.is_err(), "{answer:?}");
            host.0.load(Ordering::SeqCst)
        };
        for _ in 0..10 {
            assert_eq!(count(&login("pw"), "a.example").await, 1);
        }
        assert_eq!(count(&login("other"), "a.example").await, 2);
        assert_eq!(count(&login("pw"), "b.example").await, 3);
        tokio::time::advance(PAUSE).await;
        assert_eq!(count(&login("pw"), "a.example").await, 4);
    }
}
