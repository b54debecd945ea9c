//! A namespace's own ServiceAccount.

use secrecy::SecretString;
use tokio::time::Instant;

use super::{Session, SessionRequest, web_identity};
use crate::credential::{MintError, ServiceAccountTokens, TenantError};
use crate::registry::source::Tenant;

/// Opens a session of the role by a token of the ServiceAccount, which the API server gives out for this audience alone.
pub(super) async fn open(
    session_request: &SessionRequest<'_>,
    tenant: &Tenant,
    role_arn: &str,
    audience: &str,
) -> Result<Session, MintError> {
    let (tokens, deadline) = (session_request.tokens, session_request.deadline);
    let token = fetch_token(tokens, tenant, audience, deadline).await?;
    web_identity::open(session_request, role_arn, None, &token).await
}

/// A token of the ServiceAccount for one audience, in time.
pub(crate) async fn fetch_token(
    tokens: Option<&dyn ServiceAccountTokens>,
    tenant: &Tenant,
    audience: &str,
    deadline: Instant,
) -> Result<SecretString, TenantError> {
    let tokens = tokens.ok_or_else(|| TenantError::Unbound {
        service_account: tenant.service_account.to_string(),
    })?;
    let asked = tokens.fetch_token(tenant, audience);
    tokio::time::timeout_at(deadline, asked)
        .await
        .map_err(|_| TenantError::TokenUnreachable {
            namespace: tenant.namespace.to_string(),
            service_account: tenant.service_account.to_string(),
            message: "no answer of the API server in time".to_owned(),
        })?
}
