//! What keeps source Secrets from being used, and what they are at this moment.

use super::ports::{Cluster, ClusterError};
use super::state::State;
use crate::credential::{CredentialKey, SourceSecrets as _, static_login};
use crate::names::ObjectName;
use crate::registry::{CredentialSource, ValidRegistry};

/// One line for each source Secret of a Registry that is missing or does not hold what is needed; what each identity says of a
/// ServiceAccount is not asked for.
pub(super) fn find_problems(registry: &ValidRegistry, state: &State) -> Vec<String> {
    let mut problems: Vec<String> = registry
        .sources
        .iter()
        .filter_map(|(source, keys)| find_problem(source, keys, state))
        .collect();
    problems.dedup();
    problems
}

/// Takes into memory what a source Secret is now. One that is gone is left to the watch.
///
/// # Errors
/// The API server cannot be reached or refuses.
pub(super) async fn read(
    secret: &ObjectName,
    cluster: &dyn Cluster,
    state: &State,
) -> Result<(), ClusterError> {
    if let Some(found) = cluster.fetch_source(secret).await? {
        let version = found.resource_version.clone();
        state.sources.apply_own_write(secret, &version, found);
    }
    Ok(())
}

fn find_problem(source: &CredentialSource, keys: &[String], state: &State) -> Option<String> {
    match source {
        CredentialSource::Minted(source) => CredentialKey::of(source, state)
            .err()
            .map(|error| error.to_string()),
        CredentialSource::Static(source) => {
            let secret = match state.require(&source.secret) {
                Ok(secret) => secret,
                Err(error) => return Some(error.to_string()),
            };
            let read = static_login::logins(&secret, keys, &[]);
            read.err().map(|error| error.to_string())
        }
    }
}
