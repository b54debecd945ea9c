//! Who an identity is, in Entra ID's own words.

use secrecy::SecretString;
use serde::Deserialize;

use super::{AcrMint, AcrMintRequest, check_source, identity};
use crate::credential::cloud::unlogged;
use crate::credential::one_line::one_line;
use crate::credential::{MintError, jwt};

/// An identity that Entra ID gave a token.
pub struct EntraCaller {
    /// Who asked, as far as the identity itself says it.
    pub principal: String,
    /// What the token says: application, object, tenant, audience; `None` when it cannot be read.
    pub claims: Option<String>,
}

impl AcrMint {
    /// Gets a token of Entra ID as [`AcrMint::mint`] does, and exchanges it for nothing.
    ///
    /// # Errors
    /// [`MintError`] when there is no such identity, or Entra ID refuses it.
    pub async fn identify(&self, order: &AcrMintRequest) -> Result<EntraCaller, MintError> {
        check_source(&order.source)?;
        let client = self.client();
        let token = unlogged(identity::fetch(&client, order, self.given())).await?;
        Ok(EntraCaller {
            claims: describe(&token.value),
            principal: token.principal,
        })
    }
}

/// <https://learn.microsoft.com/entra/identity-platform/access-token-claims-reference>
fn describe(token: &SecretString) -> Option<String> {
    #[derive(Deserialize)]
    struct AccessTokenClaims {
        aud: String,
        tid: Option<String>,
        oid: Option<String>,
        #[serde(alias = "azp")]
        appid: Option<String>,
    }
    let claims: AccessTokenClaims = jwt::claims(token)?;
    let parts = [
        ("application", claims.appid),
        ("object", claims.oid),
        ("tenant", claims.tid),
        ("audience", Some(claims.aud)),
    ];
    let parts: Vec<String> = parts
        .into_iter()
        .filter_map(|(name, value)| Some(format!("{name} {}", value?)))
        .collect();
    Some(one_line(&parts.join(", ")))
}
