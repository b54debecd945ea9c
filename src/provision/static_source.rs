//! What a Registry's fixed login is read from.

use std::sync::Arc;

use super::provisioner::Provisioner;
use crate::credential::{SourceSecret, SourceSecrets as _};
use crate::registry::CredentialSource;

impl Provisioner {
    /// The source Secret of a Registry's fixed login, and the keys that it is for; `None`: it has none, or the Secret is missing.
    pub fn find_static_source(&self, registry: &str) -> Option<(Arc<SourceSecret>, Vec<String>)> {
        let registries = self.0.state.registries();
        let mut sources = registries.get(registry)?.sources.iter();
        sources.find_map(|(source, keys)| match source {
            CredentialSource::Static(source) => {
                let secret = self.0.state.source(&source.secret)?;
                Some((secret, keys.clone()))
            }
            CredentialSource::Minted(_) => None,
        })
    }
}
