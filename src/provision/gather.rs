//! The entries of one grant: minted, or read from its source Secret.

use jiff::Timestamp;

use super::Pending;
use super::access::Credentials;
use super::secret::Entry;
use super::state::State;
use crate::credential::{Credential, SourceSecrets as _, fixed};
use crate::registry::source::StaticSource;
use crate::registry::{CredentialSource, Grant};

/// The entries of `grant`, minting if need be.
pub(super) async fn fetch(
    grant: &Grant,
    credentials: &dyn Credentials,
    state: &State,
    now: Timestamp,
) -> Result<Vec<Entry>, Pending> {
    match &grant.source {
        CredentialSource::Static(source) => find_fixed(grant, source, state),
        CredentialSource::Minted(source) => match credentials.mint(source, now).await {
            Ok(credential) => Ok(of_credential(grant, &credential)),
            Err(error) => Err(Pending {
                registry: Some(grant.registry.clone()),
                reason: error.reason(),
                message: error.to_string(),
            }),
        },
    }
}

/// The entries of `grant` as far as memory knows them now.
pub(super) fn find(
    grant: &Grant,
    credentials: &dyn Credentials,
    state: &State,
) -> Option<Vec<Entry>> {
    match &grant.source {
        CredentialSource::Static(source) => find_fixed(grant, source, state).ok(),
        CredentialSource::Minted(source) => {
            let credential = credentials.current(source)?;
            Some(of_credential(grant, &credential))
        }
    }
}

/// A minted credential under each key of its grant.
pub(super) fn of_credential(grant: &Grant, credential: &Credential) -> Vec<Entry> {
    let Some((first, others)) = grant.keys.split_first() else {
        return Vec::new();
    };
    let entry = Entry::new(
        first,
        grant.registry.clone(),
        &credential.username,
        &credential.password,
        Some(credential.expires_at),
    );
    let others: Vec<_> = others.iter().map(|key| entry.under(key)).collect();
    std::iter::once(entry).chain(others).collect()
}

fn find_fixed(grant: &Grant, source: &StaticSource, state: &State) -> Result<Vec<Entry>, Pending> {
    let pending = |reason, message| Pending {
        registry: Some(grant.registry.clone()),
        reason,
        message,
    };
    let Some(secret) = state.source(&source.secret) else {
        let error = crate::credential::MintError::MissingSource {
            secret: source.secret.clone(),
        };
        return Err(pending(error.reason(), error.to_string()));
    };
    let logins = fixed::logins(&secret, &grant.keys, &grant.reserved)
        .map_err(|error| pending("MalformedSource", error.to_string()))?;
    Ok(logins
        .into_iter()
        .map(|login| {
            Entry::new(
                login.key,
                grant.registry.clone(),
                &login.username,
                &login.password,
                None,
            )
        })
        .collect())
}
