//! What clouds, metadata services and whatever stands between answer. The first byte says who answers and with which status.

use aws_sdk_ecr::operation::get_authorization_token::GetAuthorizationTokenOutput;
use aws_sdk_ecr::types::AuthorizationData;
use aws_smithy_types::DateTime;
use secrecy::SecretString;

use super::{Target, now};
use crate::credential::MintError;
use crate::credential::acr::entra;
use crate::credential::acr::exchange;
use crate::credential::acr::token_expiry::find_expiry;
use crate::credential::answers::{Service, Signer};
use crate::credential::ecr::answer::Authorization;
use crate::credential::http::Reply;
use crate::credential::identity::metadata::MetadataCredentials;
use crate::credential::outgoing::Sent;
use crate::credential::service_call::ServiceCall;
use crate::plain_text::is_token;

/// What was sent, which no message may repeat.
const SECRET: &str = "canary-0123456789/+=";

pub(super) const TARGET: Target = Target {
    name: "answers",
    run,
    seeds: &[
        r#"0{"refresh_token":"h.eyJleHAiOjE4MDAwMDM2MDB9.s","access_token":"x"}"#,
        r#"2{"errors":[{"code":"UNAUTHORIZED","message":"no canary-0123456789/+= here"}]}"#,
        r#"5{"error":"invalid_client","error_description":"AADSTS7000215: canary-0123456789%2F","error_codes":[7000215]}"#,
        r#"8{"error":"invalid_request","error_description":"Identity not found"}"#,
        r#"b{"Code":"Success","AccessKeyId":"AKIA","SecretAccessKey":"s","Token":"t","Expiration":"2027-01-15T08:00:00Z","RoleArn":"r"}"#,
        "cQVdTOnNlY3JldA==",
        "d1800003600",
    ],
};

fn run(data: &[u8]) {
    let Some((first, body)) = data.split_first() else {
        return;
    };
    let status = [200, 401, 400, 403, 404, 429, 500, 302][usize::from(*first) % 8];
    let secret = SecretString::from(SECRET);
    let call = |service| ServiceCall {
        service,
        host: "login.example".to_owned(),
        principal: "application x",
        signer: Some(Signer::Secret),
        permission: "AcrPull",
        sent: Sent::Text(&secret),
    };
    let reply = Reply::of(status, body.to_vec());
    match *first % 6 {
        0 | 1 => match exchange::read(&call(Service::Acr), &reply, |answer| answer.refresh_token) {
            Ok(token) => {
                assert!(is_token(&token));
                let _ = find_expiry(&token, now());
            }
            Err(error) => check(&error, body),
        },
        2 => check(&entra::explain(&call(Service::Entra), &reply), body),
        3 => {
            for service in [
                Service::Imds,
                Service::Agent,
                Service::Ec2,
                Service::Registry,
            ] {
                check(&call(service).explain(&reply), body);
            }
        }
        4 => match MetadataCredentials::parse(body) {
            Ok(credentials) => {
                if let Err(problem) = credentials.into_credentials("test") {
                    assert!(problem.len() < 2_000, "{problem}");
                }
            }
            Err(problem) => assert!(problem.len() < 100, "{problem}"),
        },
        _ => authorize(body),
    }
}

fn authorize(body: &[u8]) {
    let text = String::from_utf8_lossy(body);
    let (token, end) = text.split_once('|').unwrap_or((&text, "1800003600"));
    let data = AuthorizationData::builder()
        .authorization_token(token)
        .expires_at(DateTime::from_secs(end.parse().unwrap_or(i64::MIN)))
        .build();
    let answer = GetAuthorizationTokenOutput::builder();
    let answer = answer.authorization_data(data).build();
    match Authorization::of_private(answer).and_then(|one| one.check(now())) {
        Ok((_, end)) => assert!(end > now()),
        Err(problem) => assert!(format!("{problem:?}").len() < 250, "{problem:?}"),
    }
}

/// A message is of one line and bounded, and repeats nothing that was sent.
fn check(error: &MintError, body: &[u8]) {
    let text = error.to_string();
    assert!(text.len() < 3_000, "{} of {}", text.len(), body.len());
    assert!(!text.contains('\n') && !text.contains('\u{1b}'), "{text}");
    let shown = format!("{text} {error:?}");
    assert!(!shown.contains(&SECRET[..16]), "{shown}");
    assert!(!shown.contains("canary-0123456789%2F"), "{shown}");
}
