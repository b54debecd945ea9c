//! Sources of credentials, and source Secrets in memory.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use pullpass::credential::{SourceSecret, SourceSecrets};
use pullpass::registry::source::{EcrEndpoints, EcrIdentity, EcrSource, Partition, TokenLifetime};

/// A private source of this region, at AWS' own endpoints.
pub fn ecr(region: &str, identity: EcrIdentity) -> EcrSource {
    EcrSource {
        partition: Partition::Aws,
        region: region.to_owned(),
        public: false,
        fips: false,
        dual_stack: false,
        identity,
        session_seconds: None,
        assume_roles: Vec::new(),
        token_life: TokenLifetime::Session,
        endpoints: EcrEndpoints::default(),
    }
}

/// Source Secrets that a test changes.
#[derive(Default)]
pub struct Secrets(Mutex<BTreeMap<String, Arc<SourceSecret>>>);

impl Secrets {
    /// Sets a Secret with static keys.
    pub fn set_keys(&self, name: &str, access_key_id: &str, secret_access_key: &str) {
        self.set(
            name,
            &[
                ("AWS_ACCESS_KEY_ID", access_key_id),
                ("AWS_SECRET_ACCESS_KEY", secret_access_key),
            ],
        );
    }

    pub fn set(&self, name: &str, data: &[(&str, &str)]) {
        let data = data
            .iter()
            .map(|(key, value)| ((*key).to_owned(), value.as_bytes().to_vec().into()));
        let secret = SourceSecret {
            name: name.parse().unwrap(),
            type_: "Opaque".to_owned(),
            data: data.collect(),
            resource_version: "1".to_owned(),
        };
        self.0
            .lock()
            .unwrap()
            .insert(name.to_owned(), Arc::new(secret));
    }
}

impl SourceSecrets for Secrets {
    fn source(&self, name: &str) -> Option<Arc<SourceSecret>> {
        self.0.lock().unwrap().get(name).cloned()
    }
}
