//! Agents and instance metadata that take longer than any admission: in simulated time.

use std::io::Write as _;
use std::time::Duration;

use super::*;

/// What it answers, by a part of the URI, and after which seconds.
#[derive(Clone, Debug)]
struct Slow {
    answers: Vec<(&'static str, String)>,
    seconds: u64,
}

impl HttpConnector for Slow {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let uri = request.uri().to_owned();
        let found = self.answers.iter().find(|(part, _)| uri.contains(part));
        let body = found.map(|(_, body)| body.clone());
        let is_cloud = uri.starts_with("https://api.ecr");
        let wait = Duration::from_secs(if is_cloud { 0 } else { self.seconds });
        HttpConnectorFuture::new(async move {
            tokio::time::sleep(wait).await;
            let body = body.unwrap_or_else(|| panic!("{uri}"));
            let mut answer = HttpResponse::new(200.try_into().unwrap(), SdkBody::from(body));
            let headers = answer.headers_mut();
            headers.insert("content-type", "application/x-amz-json-1.1");
            Ok(answer)
        })
    }
}

fn slow(seconds: u64) -> Slow {
    let end = now() + SignedDuration::from_hours(6);
    let session = format!(
        r#"{{"Code":"Success","AccessKeyId":"ASIA1","SecretAccessKey":"s","Token":"t","Expiration":"{end}"}}"#
    );
    Slow {
        answers: vec![
            ("/api/token", "metadata-token".to_owned()),
            ("/security-credentials/node", session.clone()),
            ("/security-credentials/", "node".to_owned()),
            ("/v1/credentials", session),
            ("https://api.ecr", Recorder::with_token().body),
        ],
        seconds,
    }
}

async fn mint_as(
    connector: Slow,
    identity: EcrIdentity,
    environment: AwsEnvironment,
) -> Result<Credential, MintError> {
    let source = EcrSource {
        identity,
        ..source()
    };
    EcrMint::new(HttpClient::over(connector), environment)
        .mint(order(source))
        .await
}

/// F9: what answers after ten seconds and more works; what does not answer is given up all the same.
#[tokio::test(start_paused = true)]
async fn mint_waits_for_an_agent_that_answers_after_ten_seconds() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    write!(file, "canary-agent-token").unwrap();
    let environment = || AwsEnvironment {
        container_credentials_full_uri: Some("http://169.254.170.23/v1/credentials".to_owned()),
        container_authorization_token_file: Some(file.path().into()),
        ..AwsEnvironment::default()
    };
    let minted = mint_as(slow(12), EcrIdentity::Workload, environment()).await;
    assert!(minted.is_ok(), "{minted:?}");
    let began = Instant::now();
    let hung = mint_as(slow(3600), EcrIdentity::Workload, environment()).await;
    assert_eq!(hung.unwrap_err().reason(), "Timeout");
    assert_eq!(began.elapsed().as_secs(), 20);
}

#[tokio::test(start_paused = true)]
async fn mint_waits_for_instance_metadata_that_answers_after_nine_seconds_each_time() {
    let minted = mint_as(slow(9), EcrIdentity::Node, AwsEnvironment::default()).await;
    assert!(minted.is_ok(), "{minted:?}");
    let hung = mint_as(slow(3600), EcrIdentity::Node, AwsEnvironment::default()).await;
    assert!(hung.unwrap_err().to_string().contains("hop limit"));
}
