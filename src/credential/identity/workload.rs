//! pullpass' own identity: web identity (IAM roles for service accounts) or container credentials (EKS Pod Identity).

mod container;

use std::path::Path;

use secrecy::SecretString;

use super::{Session, SessionRequest, web_identity};
use crate::credential::MintError;
use crate::plain_text;
use container::Agent;

/// Opens a session with web identity when the environment has it, else with container credentials, in the order of AWS's SDKs.
///
/// <https://docs.aws.amazon.com/sdkref/latest/guide/standardized-credentials.html>
pub(super) async fn open(session_request: &SessionRequest<'_>) -> Result<Session, MintError> {
    let environment = session_request.environment;
    match (&environment.role_arn, &environment.web_identity_token_file, Agent::find(environment)) {
        (Some(role_arn), Some(file), _) => {
            let token = load_token(file).await?;
            let name = environment.role_session_name.as_deref();
            web_identity::open(session_request, role_arn, name, &token).await
        }
        (_, _, Some(agent)) => container::open(session_request, &agent).await,
        (Some(_), None, None) => Err(none("AWS_ROLE_ARN is set without AWS_WEB_IDENTITY_TOKEN_FILE: set identity.aws.roleArn of the chart, or annotate pullpass' ServiceAccount with eks.amazonaws.com/role-arn and restart it".to_owned())),
        (None, Some(_), None) => Err(none("AWS_WEB_IDENTITY_TOKEN_FILE is set without AWS_ROLE_ARN: set identity.aws.roleArn of the chart, or annotate pullpass' ServiceAccount with eks.amazonaws.com/role-arn and restart it".to_owned())),
        (None, None, None) => Err(none("set identity.aws.roleArn or identity.aws.podIdentity of the chart, or give pullpass' ServiceAccount a role by the annotation eks.amazonaws.com/role-arn or an EKS Pod Identity association and restart it, or set another ecr.identity in the Registry".to_owned())),
    }
}

fn none(problem: String) -> MintError {
    MintError::NoIdentity {
        identity: "workload",
        problem,
    }
}

/// Reads a small token file without the white space around it.
pub(crate) async fn load_token(path: &Path) -> Result<SecretString, MintError> {
    let shown = path.display();
    let token = plain_text::read_file(path).await.map_err(|error| {
        none(format!("the token file {shown} cannot be read, {error}: check the projected volume of pullpass' Pod"))
    })?;
    if !plain_text::is_token(&token) {
        return Err(none(format!(
            "the token file {shown} holds no token: check the projected volume of pullpass' Pod"
        )));
    }
    Ok(token)
}
