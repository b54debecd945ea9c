//! Credentials: who asks, whom, for what, and for how long the answer is good.
//!
//! A [`crate::registry::source::CredentialSource`] says what decides a credential. What clouds mint the [`cache::Minter`] finds in
//! the [`CredentialStore`], or claims the right to mint, mints ([`ecr`], signed by an [`identity`]; [`acr`]) and stores it, so that
//! all replicas hold the same bytes. Fixed logins are read straight from their source Secret ([`static_login`]). What this room needs
//! of a cluster it names as traits: [`SourceSecrets`], [`ServiceAccountTokens`] and [`CredentialStore`].

pub mod acr;
pub mod cache;
pub mod ecr;
pub mod http;
pub mod identity;
pub mod login_check;
pub mod mint;
pub mod proxy;
pub mod static_login;

pub(crate) mod answer_words;
pub(crate) mod answers;
mod aws;
pub(crate) mod cloud;
mod error;
pub(crate) mod jwt;
mod metrics;
pub(crate) mod one_line;
pub(crate) mod outgoing;
mod refusal;
pub(crate) mod registry_client;
pub(crate) mod retry_after;
pub(crate) mod service_call;
mod store;
mod tenant;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use secrecy::{SecretSlice, SecretString};
use sha2::{Digest, Sha256};

use crate::clock;
use crate::names::ObjectName;
use crate::registry::source::MintSource;

pub use answers::AnswerReason;
pub use cloud::{CloudMint, MintTimeouts};
pub use error::{MintError, is_passing_reason};
pub use metrics::Metrics;
pub use refusal::Refusal;
pub use store::{CLAIM_LIFE, Claim, CredentialStore, Ticket, find_claim_left};
pub use tenant::{ServiceAccountTokens, TenantError};

/// A login that a registry accepts until it expires.
#[derive(Clone, Debug)]
pub struct Credential {
    /// The user name, `AWS` for Amazon ECR.
    pub username: String,
    /// The password; never shown.
    pub password: SecretString,
    /// When it was minted.
    pub minted_at: Timestamp,
    /// Until when it is good: the cloud's answer, or the end of the session that signed for it if that is sooner.
    pub expires_at: Timestamp,
    /// Who minted it, for people: a role's ARN, or which access key of which Secret.
    pub principal: String,
}

/// What to do with a credential now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// In the first half of its life: nothing to do.
    Fresh,
    /// Past the half of its life: still good, to be renewed beside the work.
    Renewable,
    /// Expired, or so close to it that a pull that starts now may not end in time, or minted by a clock that was wrong
    /// ([`clock::is_from_future`]): to be replaced before it is used.
    Spent,
}

/// The longest time before its end at which a credential counts as [`Freshness::Spent`]; a tenth of its life if that is shorter.
const MARGIN: SignedDuration = SignedDuration::from_mins(5);

/// What to do with `credential` at `now`.
///
/// Amazon's own credential providers renew at half of the life, too:
/// <https://github.com/kubernetes/cloud-provider-aws/blob/master/cmd/ecr-credential-provider/main.go>
pub fn freshness(credential: &Credential, now: Timestamp) -> Freshness {
    let life = credential.expires_at.duration_since(credential.minted_at);
    let left = credential.expires_at.duration_since(now);
    if left <= MARGIN.min(life / 10)
        || !life.is_positive()
        || clock::is_from_future(credential.minted_at, now)
    {
        Freshness::Spent
    } else if left <= life / 2 {
        Freshness::Renewable
    } else {
        Freshness::Fresh
    }
}

/// What one credential is kept under: 64 lower-case hexadecimal digits, usable in an object's name.
///
/// It is the SHA-256 of [`crate::registry::source::MintSource::canonical`] and, for static keys, of the keys themselves, so
/// that rotated keys lead to another credential. Nothing can be learned from it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CredentialKey(String);

impl CredentialKey {
    /// The key of the credential that `source` decides.
    ///
    /// # Errors
    /// [`MintError::MissingSource`] or [`MintError::MalformedSource`] when the source is static keys that `secrets` does not hold.
    pub fn of(source: &MintSource, secrets: &dyn SourceSecrets) -> Result<Self, MintError> {
        let keys = mint::SourceKeys::find(source, secrets)?;
        Ok(Self::derive(source, keys.as_ref()))
    }

    fn derive(source: &MintSource, keys: Option<&mint::SourceKeys>) -> Self {
        let mut hash = Sha256::new();
        hash.update(source.canonical());
        if let Some(keys) = keys {
            hash.update(keys.fingerprint());
        }
        Self(to_hex(&hash.finalize()))
    }

    /// Reads a key back from an object's name or label; `None` when it is not 64 lower-case hexadecimal digits.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        (text.len() == 64 && digits).then(|| Self(text.to_owned()))
    }

    /// The 64 digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for CredentialKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

fn to_hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            write!(text, "{byte:02x}").expect("a String takes all that is written to it");
            text
        })
}

/// A Secret in pullpass' own namespace that carries the label `pullpass.dev/source: "true"`.
#[derive(Clone, Debug)]
pub struct SourceSecret {
    /// The Secret's name.
    pub name: ObjectName,
    /// The Secret's type, such as `kubernetes.io/basic-auth`; `Opaque` when it says none.
    pub type_: String,
    /// The Secret's data, decoded from base64; never shown.
    pub data: BTreeMap<String, SecretSlice<u8>>,
    /// The version that this is, to see that it changed.
    pub resource_version: String,
}

/// The source Secrets, from memory. A changed one is seen without a restart.
pub trait SourceSecrets: Send + Sync {
    /// The source Secret of this name; `None` when there is none, or when it lacks the label.
    fn source(&self, name: &str) -> Option<Arc<SourceSecret>>;

    /// The source Secret of this name.
    ///
    /// # Errors
    /// [`MintError::MissingSource`] when there is none.
    fn require(&self, name: &str) -> Result<Arc<SourceSecret>, MintError> {
        self.source(name).ok_or_else(|| MintError::MissingSource {
            secret: name.to_owned(),
        })
    }
}
