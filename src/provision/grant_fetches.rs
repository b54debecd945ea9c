//! What one flight gathers: the entries of each grant of a namespace, each as soon as it is there.

use std::sync::Arc;

use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _};

use super::Pending;
use super::flight::{Flight, FlightProgress, WaitRequest};
use super::grant_fetcher::FetchedGrant;
use super::write::{WriteOutcome, WriteResult};
use crate::registry::Grant;

type Result = std::result::Result<FetchedGrant, Pending>;

/// The grants of a namespace and what was gathered of them.
pub(super) struct GrantFetches<'a> {
    entries: Vec<GrantFetch>,
    running: FuturesUnordered<BoxFuture<'a, (Arc<Grant>, Result)>>,
}

struct GrantFetch {
    grant: Arc<Grant>,
    /// How many had asked when gathering began.
    began: u64,
    /// What came of it; `None` while it is under way.
    result: Option<Result>,
}

impl<'a> GrantFetches<'a> {
    pub(super) fn new() -> Self {
        Self {
            entries: Vec::new(),
            running: FuturesUnordered::new(),
        }
    }

    /// Takes the grants as they are now, and fetches what was not fetched yet, or was before a caller asked for it.
    pub(super) fn plan(
        &mut self,
        grants: &[Arc<Grant>],
        flight: &Flight,
        fetch: impl Fn(Arc<Grant>) -> BoxFuture<'a, Result>,
    ) {
        let mut before = std::mem::take(&mut self.entries);
        for grant in grants {
            let known = before.iter().position(|entry| entry.grant == *grant);
            let last_ask = flight.last_ask_for(&grant.keys);
            let mut entry = match known.map(|index| before.swap_remove(index)) {
                Some(entry) if entry.result.is_none() || entry.began >= last_ask => {
                    self.entries.push(entry);
                    continue;
                }
                Some(entry) => entry,
                None => GrantFetch {
                    grant: Arc::clone(grant),
                    began: 0,
                    result: None,
                },
            };
            entry.began = flight.count();
            entry.result = None;
            let grant = Arc::clone(&entry.grant);
            let fetched = fetch(Arc::clone(&grant));
            self.running
                .push(fetched.map(move |result| (grant, result)).boxed());
            self.entries.push(entry);
        }
    }

    /// Drops all but these grants: the others are none any more.
    pub(super) fn retain(&mut self, grants: &[Arc<Grant>]) {
        self.entries.retain(|entry| grants.contains(&entry.grant));
    }

    /// Whether nothing is under way.
    pub(super) fn is_idle(&self) -> bool {
        self.running.is_empty()
    }

    /// Waits until something more is gathered, and takes what else is ready; at once when nothing is under way.
    pub(super) async fn advance(&mut self) {
        let mut next = self.running.next().await;
        while let Some((grant, result)) = next {
            let entry = self
                .entries
                .iter_mut()
                .find(|entry| Arc::ptr_eq(&entry.grant, &grant));
            // A grant that is no longer one has lost its piece.
            if let Some(entry) = entry {
                entry.result = Some(result);
            }
            next = self.running.next().now_or_never().flatten();
        }
    }

    /// Whether everything that was asked is gathered.
    pub(super) fn answers(&self, request: &WaitRequest) -> bool {
        request.keys.iter().all(|key| {
            let mut entries = self.entries.iter();
            let entry = entries.find(|entry| entry.grant.keys.contains(key));
            entry.is_none_or(|entry| entry.result.is_some() && entry.began >= request.number)
        })
    }

    /// What was gathered so far.
    pub(super) fn fetched(&self) -> Vec<FetchedGrant> {
        let good = |entry: &GrantFetch| entry.result.as_ref()?.as_ref().ok().cloned();
        self.entries.iter().filter_map(good).collect()
    }

    /// Notes what came of each key after a write; `unserved` for keys that are asked for and belong to no grant.
    pub(super) fn resolve(
        &self,
        progress: &mut FlightProgress,
        requests: &[WaitRequest],
        outcome: &std::result::Result<WriteOutcome, Pending>,
        unserved: &Pending,
    ) {
        let left_out = outcome.as_ref().ok().and_then(|one| one.left_out.as_ref());
        progress.foreign = matches!(outcome, Ok(one) if one.written == WriteResult::Foreign);
        for entry in &self.entries {
            let result = match (&entry.result, outcome) {
                (None, _) => continue,
                (Some(Err(why)), _) | (Some(Ok(_)), Err(why)) => Err(why),
                (Some(Ok(fetched)), Ok(_)) => Ok(fetched),
            };
            for key in &entry.grant.keys {
                let result = match result {
                    Err(why) => Err(why.clone()),
                    Ok(fetched) => match left_out {
                        Some((keys, why)) if fetched.lacks(key, keys) => Err(why.clone()),
                        _ => Ok(()),
                    },
                };
                progress.resolve(key, entry.began, result);
            }
        }
        for request in requests {
            let served = |key: &&String| {
                self.entries
                    .iter()
                    .any(|entry| entry.grant.keys.contains(key))
            };
            for key in request.keys.iter().filter(|key| !served(key)) {
                progress.resolve(key, request.number, Err(unserved.clone()));
            }
        }
    }
}
