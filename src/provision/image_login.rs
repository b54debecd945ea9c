//! The login of one image, for who asks for it and keeps it in no Secret.

use secrecy::SecretString;
use std::sync::Arc;

use jiff::Timestamp;

use super::grant_fetcher::{FetchedGrant, pending};
use super::{Namespace, Pending, Provisioner};
use crate::names::ObjectName;
use crate::registry::{CredentialSource, Grant};

/// A login.
#[derive(Clone, Debug)]
pub struct ImageLogin {
    /// What it is for: the key that was asked for.
    pub key: String,
    /// The user name.
    pub username: String,
    /// The password; never shown.
    pub password: SecretString,
    /// Until when it is good; `None`: it is a fixed one.
    pub until: Option<Timestamp>,
}

impl Provisioner {
    /// The login of a grant with one key, for a Pod of this namespace and ServiceAccount (its name and uid): the one of the credential
    /// store, minted if need be, once for all who ask. One past half of its life is answered at once and renewed beside. What is minted is
    /// minted also when the caller hangs up.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn fetch_login(
        &self,
        namespace: &Namespace,
        grant: Grant,
        account: (&ObjectName, &str),
    ) -> Result<ImageLogin, Pending> {
        let grant = Arc::new(grant);
        let mut fetched = self.0.fetch(namespace, Arc::clone(&grant)).await?;
        if is_of_another(&fetched, account) {
            // What is remembered is the ServiceAccount that had this name before.
            self.0.accounts.forget(&namespace.name, account.0);
            fetched = self.0.fetch(namespace, Arc::clone(&grant)).await?;
        }
        if is_of_another(&fetched, account) {
            let message = format!(
                "the Pod's ServiceAccount {} is not the one that there is: delete the Pod",
                account.0
            );
            return Err(pending(&grant, "ServiceAccountReplaced", message));
        }
        let mut entries = fetched.entries.iter();
        let entry = entries.find(|entry| grant.keys.contains(&entry.key));
        let login = entry.and_then(|entry| Some((entry, entry.login()?)));
        let Some((entry, (username, password))) = login else {
            let message = "its source Secret has no login for this image: add it".to_owned();
            return Err(pending(&grant, "MalformedSource", message));
        };
        Ok(ImageLogin {
            key: entry.key.clone(),
            username,
            password,
            until: entry.until,
        })
    }
}

/// Whether a credential was minted by a ServiceAccount of this name that is not this one.
fn is_of_another(fetched: &FetchedGrant, (name, uid): (&ObjectName, &str)) -> bool {
    let CredentialSource::Minted(source) = &fetched.grant.source else {
        return false;
    };
    source.tenant().is_some_and(|tenant| {
        tenant.service_account == *name && *tenant.service_account_uid != *uid
    })
}
