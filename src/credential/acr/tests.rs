//! Instance metadata of Azure that takes longer than any admission: in simulated time.

use std::time::Duration;

use aws_smithy_runtime_api::client::http::{HttpConnector, HttpConnectorFuture};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_types::body::SdkBody;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::SignedDuration;

use super::*;
use crate::credential::http::HttpClient;
use crate::registry::source::{AcrEndpoints, AcrIdentity, ManagedIdentity};

/// Instance metadata that answers after so many seconds, and a login server that answers at once.
#[derive(Clone, Debug)]
struct Slow {
    seconds: u64,
    token: String,
}

impl Slow {
    fn after(seconds: u64) -> Self {
        let end = now() + SignedDuration::from_hours(3);
        let claims = format!(r#"{{"exp":{}}}"#, end.as_second());
        let token = format!("h.{}.s", URL_SAFE_NO_PAD.encode(claims));
        Self { seconds, token }
    }
}

impl HttpConnector for Slow {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let uri = request.uri();
        let (field, wait) = if uri.starts_with("http://169.254.169.254/metadata/identity") {
            ("access_token", self.seconds)
        } else {
            assert_eq!(uri, "https://contoso.azurecr.io/oauth2/exchange");
            ("refresh_token", 0)
        };
        let body = format!(r#"{{"{field}":"{}"}}"#, self.token);
        HttpConnectorFuture::new(async move {
            tokio::time::sleep(Duration::from_secs(wait)).await;
            let status = 200.try_into().expect("a status");
            Ok(HttpResponse::new(status, SdkBody::from(body)))
        })
    }
}

fn now() -> Timestamp {
    "2026-11-21T10:00:00Z".parse().unwrap()
}

async fn mint(slow: Slow) -> Result<Credential, MintError> {
    let source = AcrSource {
        server: "contoso.azurecr.io".to_owned(),
        cloud: AzureCloud::Public,
        identity: AcrIdentity::Managed(ManagedIdentity::System),
        scopes: Vec::new(),
        endpoints: AcrEndpoints::default(),
    };
    let order = AcrMintRequest {
        source,
        secret: None,
        now: now(),
    };
    let mint = AcrMint::new(HttpClient::over(slow), AzureEnvironment::default());
    mint.mint(order).await
}

/// F9: instance metadata that answers after ten seconds and more is waited for; what does not answer is given up all the same.
#[tokio::test(start_paused = true)]
async fn mint_waits_for_instance_metadata_that_answers_after_ten_seconds() {
    for seconds in [4, 10, 12, 19] {
        let began = Instant::now();
        let minted = mint(Slow::after(seconds)).await.unwrap();
        assert_eq!(began.elapsed().as_secs(), seconds);
        assert_eq!(minted.expires_at, now() + SignedDuration::from_hours(3));
    }
    let began = Instant::now();
    let error = mint(Slow::after(3600)).await.unwrap_err().to_string();
    assert_eq!(began.elapsed().as_secs(), 20);
    assert!(error.contains("does not answer"), "{error}");
}
