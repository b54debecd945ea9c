//! What one flight gathers: the entries of each grant of a namespace, each as soon as it is there.

use std::sync::Arc;

use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _};

use super::Pending;
use super::flight::{Ask, Flight, Progress};
use super::gather::Gathered;
use super::write::{Ended, Written};
use crate::registry::Grant;

type Result = std::result::Result<Gathered, Pending>;

/// The grants of a namespace and what was gathered of them.
pub(super) struct Work<'a> {
    pieces: Vec<Piece>,
    running: FuturesUnordered<BoxFuture<'a, (Arc<Grant>, Result)>>,
}

struct Piece {
    grant: Arc<Grant>,
    /// How many had asked when gathering began.
    began: u64,
    /// What came of it; `None` while it is under way.
    result: Option<Result>,
}

impl<'a> Work<'a> {
    pub(super) fn new() -> Self {
        Self {
            pieces: Vec::new(),
            running: FuturesUnordered::new(),
        }
    }

    /// Takes the grants as they are now, and gathers what was not gathered yet, or before somebody asked for it.
    pub(super) fn plan(
        &mut self,
        grants: &[Arc<Grant>],
        flight: &Flight,
        fetch: impl Fn(Arc<Grant>) -> BoxFuture<'a, Result>,
    ) {
        let mut before = std::mem::take(&mut self.pieces);
        for grant in grants {
            let known = before.iter().position(|piece| piece.grant == *grant);
            let last_ask = flight.last_ask_for(&grant.keys);
            let mut piece = match known.map(|place| before.swap_remove(place)) {
                Some(piece) if piece.result.is_none() || piece.began >= last_ask => {
                    self.pieces.push(piece);
                    continue;
                }
                Some(piece) => piece,
                None => Piece {
                    grant: Arc::clone(grant),
                    began: 0,
                    result: None,
                },
            };
            piece.began = flight.count();
            piece.result = None;
            let grant = Arc::clone(&piece.grant);
            let fetched = fetch(Arc::clone(&grant));
            self.running
                .push(fetched.map(move |result| (grant, result)).boxed());
            self.pieces.push(piece);
        }
    }

    /// Whether nothing is under way.
    pub(super) fn is_idle(&self) -> bool {
        self.running.is_empty()
    }

    /// Waits until something more is gathered, and takes what else is ready; at once when nothing is under way.
    pub(super) async fn advance(&mut self) {
        let mut next = self.running.next().await;
        while let Some((grant, result)) = next {
            let piece = self
                .pieces
                .iter_mut()
                .find(|piece| Arc::ptr_eq(&piece.grant, &grant));
            // A grant that is no longer one has lost its piece.
            if let Some(piece) = piece {
                piece.result = Some(result);
            }
            next = self.running.next().now_or_never().flatten();
        }
    }

    /// Whether everything that was asked is gathered.
    pub(super) fn answers(&self, ask: &Ask) -> bool {
        ask.keys.iter().all(|key| {
            let mut pieces = self.pieces.iter();
            let piece = pieces.find(|piece| piece.grant.keys.contains(key));
            piece.is_none_or(|piece| piece.result.is_some() && piece.began >= ask.number)
        })
    }

    /// What was gathered so far.
    pub(super) fn gathered(&self) -> Vec<Gathered> {
        let good = |piece: &Piece| piece.result.as_ref()?.as_ref().ok().cloned();
        self.pieces.iter().filter_map(good).collect()
    }

    /// Notes what came of each key after a write; `unserved` for keys that are asked for and belong to no grant.
    pub(super) fn settle(
        &self,
        progress: &mut Progress,
        asks: &[Ask],
        ended: &std::result::Result<Ended, Pending>,
        unserved: &Pending,
    ) {
        let left_out = ended.as_ref().ok().and_then(|one| one.left_out.as_ref());
        progress.foreign = matches!(ended, Ok(one) if one.written == Written::Foreign);
        for piece in &self.pieces {
            let result = match (&piece.result, ended) {
                (None, _) => continue,
                (Some(Err(why)), _) | (Some(Ok(_)), Err(why)) => Err(why),
                (Some(Ok(gathered)), Ok(_)) => Ok(gathered),
            };
            for key in &piece.grant.keys {
                let result = match result {
                    Err(why) => Err(why.clone()),
                    Ok(gathered) => match left_out {
                        Some((keys, why)) if gathered.lacks(key, keys) => Err(why.clone()),
                        _ => Ok(()),
                    },
                };
                progress.settle(key, piece.began, result);
            }
        }
        for ask in asks {
            let served = |key: &&String| {
                self.pieces
                    .iter()
                    .any(|piece| piece.grant.keys.contains(key))
            };
            for key in ask.keys.iter().filter(|key| !served(key)) {
                progress.settle(key, ask.number, Err(unserved.clone()));
            }
        }
    }
}
