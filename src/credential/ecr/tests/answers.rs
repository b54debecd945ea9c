//! What people met in the field, of AWS: each answer is shown, and its own advice with it.

use aws_smithy_runtime_api::client::orchestrator::HttpResponse;

use super::*;

/// An answer of the Pod Identity agent.
#[derive(Clone, Debug)]
struct Agent {
    status: u16,
    body: &'static str,
    header: (&'static str, &'static str),
}

impl HttpConnector for Agent {
    fn call(&self, _: HttpRequest) -> HttpConnectorFuture {
        let status = self.status.try_into().unwrap();
        let mut answer = HttpResponse::new(status, SdkBody::from(self.body));
        let (name, value) = self.header;
        answer.headers_mut().insert(name, value);
        HttpConnectorFuture::ready(Ok(answer))
    }
}

/// Status, what it says, the reason, words of the message, whether it passes.
const OF_AGENT: [(u16, &str, &str, &str, bool); 6] = [
    (
        500,
        "unable to fetch credentials from EKS Auth: dial tcp: lookup eks-auth.eu-west-1.api.aws on 10.0.0.2:53: no such host",
        "Unavailable",
        "no such host",
        true,
    ),
    (
        404,
        "(ResourceNotFoundException): No association found, fault: client",
        "NoIdentity",
        "No association found",
        false,
    ),
    (
        400,
        "(AccessDeniedException): canary-agent-token is not allowed",
        "NoIdentity",
        "repeats a secret",
        false,
    ),
    (429, "slow down", "Throttled", "slow down", true),
    (503, "", "Unavailable", "did not say why", true),
    (418, "teapot", "NoIdentity", "teapot", false),
];

/// F4: the agent's own line; what passes is passing, and its Retry-After is followed, in both forms.
#[tokio::test]
async fn mint_says_what_the_agent_said() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "canary-agent-token").unwrap();
    for (status, body, reason, words, is_passing) in OF_AGENT {
        let environment = AwsEnvironment {
            container_credentials_full_uri: Some("http://169.254.170.23/v1/credentials".to_owned()),
            container_authorization_token_file: Some(file.path().into()),
            ..AwsEnvironment::default()
        };
        let agent = Agent {
            status,
            body,
            header: ("retry-after", "Thu, 01 Jan 2099 00:00:00 GMT"),
        };
        let source = EcrSource {
            identity: EcrIdentity::Workload,
            ..source()
        };
        let minted = EcrMint::new(HttpClient::over(agent), environment);
        let error = minted.mint(order(source)).await.unwrap_err();
        let text = error.to_string();
        assert_eq!(error.reason(), reason, "{text}");
        assert!(text.contains(words) && !text.contains("canary"), "{text}");
        assert_eq!(error.is_passing(), is_passing, "{text}");
        let wait = error.retry_after().map(|wait| wait.as_secs());
        assert_eq!(wait, Some(600), "{text}");
    }
}

/// F1, F2, F3, F18 and their like: status, code, message, reason, words of the advice, whether it passes; of ECR's API by access keys.
const OF_ECR: [(u16, &str, &str, &str, &str, bool); 4] = [
    (
        403,
        "InvalidSignatureException",
        "Signature expired: 20261121T100000Z is now earlier than 20261121T101500Z",
        "ClockSkew",
        "check the clock of this node",
        false,
    ),
    (
        403,
        "SignatureDoesNotMatch",
        "Signature not yet current: 20261121T110000Z is still later than 20261121T102500Z",
        "ClockSkew",
        "is ahead",
        false,
    ),
    (
        400,
        "UnrecognizedClientException",
        "The security token included in the request is invalid.",
        "UnrecognizedClient",
        "that the region is enabled",
        false,
    ),
    (
        400,
        "BrandNewException",
        "Turn the other switch",
        "Refused",
        "an unrecognized answer",
        false,
    ),
];

/// The same of AWS STS, for the token of a ServiceAccount.
const OF_STS: [(u16, &str, &str, &str, &str, bool); 5] = [
    (
        400,
        "InvalidIdentityToken",
        "Couldn't retrieve verification key from your identity provider",
        "Unavailable",
        "wait, retrying",
        true,
    ),
    (
        400,
        "InvalidIdentityToken",
        "Incorrect token audience",
        "UnrecognizedClient",
        "client ids of the cluster's OIDC provider",
        false,
    ),
    (
        400,
        "InvalidIdentityToken",
        "No OpenIDConnect provider found in your account for https://oidc.example",
        "UnrecognizedClient",
        "create an OIDC provider",
        false,
    ),
    (
        403,
        "AccessDenied",
        "Not authorized to perform sts:AssumeRoleWithWebIdentity",
        "TrustRefused",
        "trust policy names the cluster's OIDC provider",
        false,
    ),
    (
        403,
        "AccessDenied",
        "User: x is not authorized to perform: sts:TagSession on resource: y",
        "TrustRefused",
        "allow sts:TagSession",
        false,
    ),
];

fn check(error: &MintError, row: (u16, &str, &str, &str, &str, bool)) {
    let (_, code, message, reason, advice, is_passing) = row;
    let text = error.to_string();
    assert_eq!(error.reason(), reason, "{text}");
    for words in [code, message, advice] {
        assert!(text.contains(words), "{words}: {text}");
    }
    assert_eq!(error.is_passing(), is_passing, "{text}");
}

#[tokio::test]
async fn mint_shows_what_was_met_in_the_field_with_its_own_advice() {
    for row in OF_ECR {
        let (status, code, message, ..) = row;
        let body = serde_json::json!({"__type": code, "message": message}).to_string();
        let error = mint(&Recorder::new(status, body), source())
            .await
            .unwrap_err();
        check(&error, row);
    }
    for row in OF_STS {
        let (status, code, message, ..) = row;
        let body = format!(
            "<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error></ErrorResponse>"
        );
        let recorder = Recorder::with_token().with_sts(status, body);
        let error = sts::mint_by_token(&recorder).await.unwrap_err();
        check(&error, row);
    }
}
