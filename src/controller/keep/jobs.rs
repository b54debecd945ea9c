//! What runs beside the keeper, each piece with what it is about: one that panics has failed, and leaves nothing under way.

use std::collections::HashMap;

use tokio::task::{Id, JoinError, JoinSet};

use super::super::report::Finding;
use super::work::{Done, Kept};
use crate::names::ObjectName;
use crate::provision::access::ClusterError;
use crate::provision::survey::Name;
use crate::provision::{Outcome, Pending};
use crate::registry::source::MintSource;

/// Why it failed, in one word and in words for people.
const LOST: (&str, &str) = (
    "Lost",
    "it ended without an answer: it is tried again; please report this with the log",
);

/// What a piece is about.
pub(super) enum About {
    /// A credential is minted.
    Mint(MintSource),
    /// A pull secret is written.
    Write(Name),
    /// Something is taken out of a pull secret.
    Remove(Name),
    /// The API server is asked about the kind Registry.
    Check,
    /// A Registry's status is written.
    Report(ObjectName),
    /// An Event is published.
    Notice,
}

impl About {
    /// How it ends where it panicked: that is logged where it did.
    fn failed(self) -> Done {
        let (reason, message) = LOST;
        match self {
            Self::Mint(source) => Done::Minted(source, Some(Finding::new(reason, message))),
            Self::Write(name) => {
                let pending = Pending {
                    registry: None,
                    reason,
                    message: message.to_owned(),
                };
                let kept = Kept {
                    outcome: Outcome::Pending(vec![pending]),
                    repaired: false,
                    version: None,
                };
                Done::Kept(name, kept)
            }
            Self::Remove(name) => {
                let what = format!("taking logins out of secret {}/{}", name.0, name.1);
                Done::Removed(name, false, Err(lost(&what)))
            }
            Self::Check => Done::Checked(Err(lost("reading the Registries").into())),
            Self::Report(registry) => {
                let what = format!("writing the status of registry {registry}");
                Done::Reported(registry, Err(lost(&what)))
            }
            Self::Notice => Done::Told,
        }
    }
}

fn lost(what: &str) -> ClusterError {
    ClusterError::Unreachable {
        what: what.to_owned(),
        message: LOST.1.to_owned(),
    }
}

/// All that runs. What is left is aborted when this is dropped.
#[derive(Default)]
pub(super) struct Jobs {
    running: JoinSet<Done>,
    about: HashMap<Id, About>,
}

impl Jobs {
    /// Begins a piece.
    pub(super) fn begin(&mut self, about: About, job: impl Future<Output = Done> + Send + 'static) {
        let id = self.running.spawn(job).id();
        self.about.insert(id, about);
    }

    /// Waits for the next one that ends; `None`: nothing runs. Nothing is lost when this is dropped.
    pub(super) async fn next(&mut self) -> Option<Done> {
        loop {
            let ended = self.running.join_next_with_id().await?;
            if let Some(done) = self.end(ended) {
                return Some(done);
            }
        }
    }

    /// The next one that has ended.
    pub(super) fn next_ended(&mut self) -> Option<Done> {
        loop {
            let ended = self.running.try_join_next_with_id()?;
            if let Some(done) = self.end(ended) {
                return Some(done);
            }
        }
    }

    fn end(&mut self, ended: Result<(Id, Done), JoinError>) -> Option<Done> {
        match ended {
            Ok((id, done)) => {
                self.about.remove(&id);
                Some(done)
            }
            Err(error) => self.about.remove(&error.id()).map(About::failed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_that_panics_has_failed() {
        let mut jobs = Jobs::default();
        let name: Name = ("team".parse().unwrap(), "pullpass".parse().unwrap());
        let about = [
            About::Write(name.clone()),
            About::Remove(name.clone()),
            About::Check,
            About::Report("eu".parse().unwrap()),
            About::Notice,
        ];
        for about in about {
            jobs.begin(about, async { panic!("a bug") });
        }
        let (mut written, mut others) = (Vec::new(), 0);
        while let Some(done) = jobs.next().await {
            match done {
                Done::Kept(name, kept) => {
                    assert_ne!(kept.outcome, Outcome::Covered);
                    written.push(name);
                }
                Done::Removed(_, false, Err(_))
                | Done::Checked(Err(_))
                | Done::Reported(_, Err(_))
                | Done::Told => others += 1,
                _ => panic!("taken for a success"),
            }
        }
        assert_eq!((written, others), (vec![name], 4));
        assert!(jobs.about.is_empty());
    }
}
