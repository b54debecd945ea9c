//! What the controller asks of this room: how every pull secret stands, and to keep one as it must be.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use jiff::Timestamp;
use tokio::time::Instant;

use super::decide::{Holding, Life, Piece, Stands, View};
use super::ensure::{Ensure, Shared};
use super::verify::{Held, Moment, Standing, Verified};
use super::{InjectMode, Namespace, Outcome};
use crate::credential::{Freshness, freshness};
use crate::registry::source::MintSource;

/// How every pull secret stands, and what the places in the view stand for.
#[derive(Default)]
pub struct Survey {
    /// What to decide by.
    pub view: View,
    /// The pull secrets, by their place.
    pub secrets: Vec<Place>,
    /// The credentials' sources, by their place.
    pub sources: Vec<MintSource>,
    places: HashMap<MintSource, usize>,
}

/// A pull secret of a namespace.
#[derive(Clone, Debug)]
pub struct Place {
    /// The namespace.
    pub namespace: Arc<Namespace>,
    /// The secret's name.
    pub secret: Arc<str>,
}

impl Ensure {
    /// A number that differs whenever something changed that a survey sees.
    pub fn change(&self) -> (u64, u64) {
        Moment::of(&self.0.state, &*self.0.credentials).numbers()
    }

    /// Looks at the pull secrets of every opted-in namespace that a Registry serves and nobody deletes, from memory alone.
    pub fn survey(&self, now: Timestamp) -> Survey {
        let mut survey = Survey::default();
        let registries = self.0.state.registries();
        for namespace in self.0.state.namespaces.all() {
            if namespace.terminating || namespace.mode == InjectMode::Off {
                continue;
            }
            let serving = registries.serving(&namespace.labels);
            let secrets: BTreeSet<&Arc<str>> =
                serving.iter().map(|registry| &registry.secret).collect();
            for secret in secrets {
                let verdict = self.0.verdict(&namespace, secret);
                if verdict.is_foreign() || verdict.held().is_empty() {
                    continue;
                }
                let place = Place {
                    namespace: Arc::clone(&namespace),
                    secret: Arc::clone(secret),
                };
                survey.add(place, &verdict, now, |source| self.life(source));
            }
        }
        survey
    }

    /// Writes what a pull secret lacks of what is there to be written, and waits for it, not beyond `deadline`.
    pub async fn keep(&self, place: &Place, deadline: Instant) -> Outcome {
        let Place { namespace, secret } = place;
        let now = (self.0.clock)();
        let verdict = self.0.verdict(namespace, secret);
        let lacking = verdict
            .held()
            .iter()
            .filter(|held| matches!(stands(held, now), Stands::Missing | Stands::Earlier(_)));
        let keys: Vec<&str> = lacking
            .flat_map(|held| held.keys.iter().map(String::as_str))
            .collect();
        if keys.is_empty() {
            return Outcome::Covered;
        }
        Shared::ensure(&self.0, namespace, secret, &keys, deadline).await
    }

    /// The life of the credential that is there for `source`.
    fn life(&self, source: &MintSource) -> Life {
        let credential = self.0.credentials.current(source);
        Life {
            minted: credential.map(|credential| (credential.minted_at, credential.expires_at)),
            is_minted: false,
            retry_at: None,
            spread: spread(source),
        }
    }
}

/// A number of a source's own; every replica finds the same. FNV-1a, folded.
fn spread(source: &MintSource) -> u8 {
    let text = source.canonical();
    let hash = text.bytes().fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    });
    hash.to_be_bytes()
        .into_iter()
        .fold(0, |fold, byte| fold ^ byte)
}

impl Survey {
    fn add(
        &mut self,
        place: Place,
        verdict: &Verified,
        now: Timestamp,
        life: impl Fn(&MintSource) -> Life,
    ) {
        let mut holding = Holding::default();
        for held in verdict.held() {
            let credential = held.source.as_ref().map(|source| {
                *self.places.entry(source.clone()).or_insert_with(|| {
                    self.view.credentials.push(life(source));
                    self.sources.push(source.clone());
                    self.sources.len() - 1
                })
            });
            let stands = stands(held, now);
            holding.entries.push(Piece { credential, stands });
        }
        self.view.secrets.push(holding);
        self.secrets.push(place);
    }
}

fn stands(held: &Held, now: Timestamp) -> Stands {
    match &held.standing {
        Standing::Good(_) => Stands::Current,
        Standing::Earlier(credential) if freshness(credential, now) != Freshness::Spent => {
            Stands::Earlier(credential.expires_at)
        }
        Standing::Earlier(_) | Standing::Unknown => {
            if held.is_available(now) {
                Stands::Missing
            } else {
                Stands::Unavailable
            }
        }
    }
}
