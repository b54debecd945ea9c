//! Pull secrets that somebody else keeps changing. Pure.

use std::collections::{HashMap, HashSet};

use jiff::{SignedDuration, Timestamp};

use crate::provision::survey::Name;

/// So many changes by others are taken back at once.
const REPAIRS_FREE: u32 = 5;

/// After so long without one they are forgotten.
const PEACE: SignedDuration = SignedDuration::from_mins(10);

/// The longest wait before somebody's change is taken back.
const LONGEST: SignedDuration = SignedDuration::from_mins(5);

/// How often somebody else's changes to each pull secret were taken back, by a write or by a removal.
#[derive(Default)]
pub(super) struct Fights(HashMap<Name, Fight>);

struct Fight {
    repairs: u32,
    last: Timestamp,
}

impl Fight {
    /// How often it happened beyond what may be a mishap.
    fn beyond(&self) -> u32 {
        self.repairs.saturating_sub(REPAIRS_FREE)
    }
}

/// How a change is answered that was one too many.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// How long the next one is left as it is.
    pub(super) wait: SignedDuration,
    /// Whether nobody was told yet.
    pub(super) is_first: bool,
}

impl Fights {
    /// A change by somebody else was taken back just now; `None`: as any mishap.
    pub(super) fn answer(&mut self, name: &Name, now: Timestamp) -> Option<Answer> {
        let fight = self.0.entry(name.clone()).or_insert(Fight {
            repairs: 0,
            last: now,
        });
        if now.duration_since(fight.last).abs() > PEACE {
            fight.repairs = 0;
        }
        fight.last = now;
        fight.repairs += 1;
        let beyond = fight.beyond();
        (beyond > 0).then(|| Answer {
            wait: SignedDuration::from_secs(1 << beyond.min(16)).min(LONGEST),
            is_first: beyond == 1,
        })
    }

    /// The pull secrets that are fought over.
    pub(super) fn lasting(&self) -> HashSet<Name> {
        let lasting = self.0.iter().filter(|(_, fight)| fight.beyond() > 0);
        lasting.map(|(name, _)| name.clone()).collect()
    }

    /// When the first fight is over if nobody goes on with it.
    pub(super) fn end(&self) -> Option<Timestamp> {
        let lasting = self.0.values().filter(|fight| fight.beyond() > 0);
        lasting
            .filter_map(|fight| fight.last.checked_add(PEACE).ok())
            .min()
    }

    /// Whether this pull secret is fought over.
    pub(super) fn lasts(&self, name: &Name) -> bool {
        self.0.get(name).is_some_and(|fight| fight.beyond() > 0)
    }

    /// Forgets what is over. A pull secret that is not there may be the very one that somebody keeps making.
    pub(super) fn forget_over(&mut self, now: Timestamp) {
        self.0
            .retain(|_, fight| now.duration_since(fight.last).abs() < PEACE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::at;

    #[test]
    fn answers_more_and_more_slowly_until_there_is_peace() {
        let (mut fights, name) = (
            Fights::default(),
            ("team".parse().unwrap(), "pullpass".parse().unwrap()) as Name,
        );
        let waits: Vec<Option<i64>> = (0..15)
            .map(|second| Some(fights.answer(&name, at(second))?.wait.as_secs()))
            .collect();
        assert_eq!(waits[..5], [None; 5]);
        let slower = [2, 4, 8, 16, 32, 64, 128, 256, 300, 300].map(Some);
        assert_eq!(waits[5..], slower);
        assert_eq!(fights.lasting(), HashSet::from([name.clone()]));
        assert_eq!(fights.end(), Some(at(14 + 600)));

        fights.forget_over(at(14 + 599));
        assert!(!fights.lasting().is_empty() && fights.lasts(&name));
        fights.forget_over(at(14 + 600));
        assert!(fights.lasting().is_empty() && !fights.lasts(&name));
        assert_eq!(fights.answer(&name, at(14 + 600)), None);
    }

    #[test]
    fn tells_once_of_each_fight() {
        let (mut fights, name) = (
            Fights::default(),
            ("team".parse().unwrap(), "pullpass".parse().unwrap()) as Name,
        );
        let told = (0..9).filter_map(|second| fights.answer(&name, at(second)));
        let told: Vec<bool> = told.map(|answer| answer.is_first).collect();
        assert_eq!(told, [true, false, false, false]);
    }
}
