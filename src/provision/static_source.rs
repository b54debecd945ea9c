//! What a Registry's fixed login is read from.

use std::sync::Arc;

use super::provisioner::Provisioner;
use crate::credential::{SourceSecret, SourceSecrets as _};
use crate::registry::CredentialSource;

/// What a Registry's fixed login is read from.
pub struct StaticLoginSource {
    /// The source Secret.
    pub secret: Arc<SourceSecret>,
    /// The keys that it is for.
    pub keys: Vec<String>,
    /// What lies within them and is not the Registry's.
    pub reserved: Vec<String>,
}

impl Provisioner {
    /// What a Registry's fixed login is read from; `None`: it has none, or the Secret is missing.
    pub fn find_static_source(&self, registry: &str) -> Option<StaticLoginSource> {
        let registries = self.0.state.registries();
        let registry = registries.get(registry)?;
        registry.sources.iter().find_map(|(source, keys)| {
            let CredentialSource::Static(fixed) = source else {
                return None;
            };
            Some(StaticLoginSource {
                secret: self.0.state.source(&fixed.secret)?,
                keys: keys.clone(),
                reserved: registry.excluded_keys(source),
            })
        })
    }
}
