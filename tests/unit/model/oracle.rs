//! Every write of pullpass is judged when it happens: nothing that works is lost, nothing foreign changed, nothing travels.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use jiff::{SignedDuration, Timestamp};
use pullpass::provision::PULL_SECRET;
use pullpass::registry::CredentialSource;

use super::cloud::Clouds;
use super::double::Stored;
use super::time;
use super::truth::{Epoch, Wanted};

/// How long the login of an earlier identity stays at least, where there is none of the new one.
const EARLIER_IDENTITY: SignedDuration = SignedDuration::from_mins(10);

pub(crate) struct Oracle {
    pub(crate) clouds: Arc<Clouds>,
    pub(crate) epochs: Mutex<Vec<Arc<Epoch>>>,
    /// The oldest epoch that a replica may still act upon.
    pub(crate) oldest: AtomicUsize,
    /// Whether pullpass' clock was ever stepped.
    pub(crate) stepped: AtomicBool,
    pub(crate) verdicts: Mutex<Vec<String>>,
    /// When each Secret was written.
    pub(crate) writes: Mutex<Vec<(String, Timestamp)>>,
    pub(crate) fixed: CredentialSource,
}

/// A login that pullpass may have put somewhere.
#[derive(Debug)]
pub(crate) struct Login {
    pub(crate) source: CredentialSource,
    number: u64,
    pub(crate) until: Option<Timestamp>,
}

/// The password under each key, as far as it can be read.
pub(crate) fn passwords(stored: Option<&Stored>) -> BTreeMap<String, String> {
    let bytes = stored.map_or(&[][..], |stored| &stored.dockerconfigjson);
    let value: serde_json::Value = serde_json::from_slice(bytes).unwrap_or_default();
    let auths = value["auths"].as_object().into_iter().flatten();
    let read = |entry: &serde_json::Value| {
        let login = base64::engine::general_purpose::STANDARD
            .decode(entry["auth"].as_str()?)
            .ok()?;
        let login = String::from_utf8(login).ok()?;
        Some(login.split_once(':')?.1.to_owned())
    };
    auths
        .filter_map(|(key, entry)| Some((key.clone(), read(entry)?)))
        .collect()
}

/// The namespace and the Secret's name.
pub(crate) fn names(place: &str) -> (&str, &str) {
    place.split_once('/').unwrap_or((place, PULL_SECRET))
}

impl Oracle {
    /// Who gave this password; `None`: nobody that pullpass knows.
    pub(crate) fn login(&self, password: &str) -> Option<Login> {
        if let Some(number) = password.strip_prefix("fixed-") {
            return Some(Login {
                source: self.fixed.clone(),
                number: number.parse().ok()?,
                until: None,
            });
        }
        let issued = self.clouds.issued.lock().unwrap();
        let issued = issued.get(password)?;
        Some(Login {
            source: CredentialSource::Minted(issued.source.clone()),
            number: issued.number,
            until: Some(issued.until),
        })
    }

    pub(crate) fn judge(&self, place: &str, before: Option<&Stored>, after: Option<&Stored>) {
        let now = time::truth();
        self.writes.lock().unwrap().push((place.to_owned(), now));
        if before.is_some_and(|before| !before.ours) {
            self.condemn("foreign", place, "somebody else's Secret was written");
        }
        let (before, after) = (passwords(before), passwords(after));
        for (key, old) in &before {
            let works = self
                .login(old)
                .filter(|login| login.until.is_none_or(|until| until > now));
            if let Some(old_login) = works
                && after.get(key) != Some(old)
            {
                self.judge_change(place, key, &old_login, after.get(key));
            }
        }
        for (key, new) in after
            .iter()
            .filter(|(key, new)| before.get(*key) != Some(*new))
        {
            match self.login(new) {
                None => self.condemn("travelled", place, &format!("{key} has {new}")),
                Some(login) if !self.was_wanted(place, key, &login.source) => {
                    self.condemn("unasked", place, &format!("{key} was given {new}"));
                }
                Some(_) => {}
            }
        }
    }

    /// A login that works is replaced or taken out.
    fn judge_change(&self, place: &str, key: &str, old: &Login, new: Option<&String>) {
        let Some(new) = new else {
            if !self.may_go(place, key, &old.source) {
                self.condemn("lost", place, &format!("{key} had {old:?}"));
            }
            return;
        };
        let login = self.login(new);
        let is_staler =
            |new: &Login| new.source == old.source && (new.number, new.until) < (old.number, None);
        // With a clock that is behind nobody can know that a credential has ended.
        let known = time::truth().min(time::clock());
        let is_spent = |new: &Login| new.until.is_some_and(|until| until <= known);
        if login
            .as_ref()
            .is_none_or(|new| is_staler(new) || is_spent(new))
        {
            self.condemn("staler", place, &format!("{key} had {old:?}, has {new}"));
        }
    }

    /// What was wanted under a key lately: watches of Registries and of namespaces show things apart.
    fn was(&self, place: &str, key: &str, what: impl Fn(&Wanted) -> bool) -> bool {
        let (namespace, secret) = names(place);
        let oldest = self.oldest.load(Ordering::SeqCst);
        let recent = self.epochs.lock().unwrap()[oldest..].to_vec();
        let mut rules = recent.iter().rev();
        rules.any(|rules| {
            let mut namespaces = recent.iter().rev();
            namespaces.any(|other| what(&rules.wanted(other, namespace, secret, key)))
        })
    }

    fn was_wanted(&self, place: &str, key: &str, source: &CredentialSource) -> bool {
        self.was(place, key, |wanted| *wanted == Wanted::From(source.clone()))
    }

    /// Whether a working login may be taken out: nothing was wanted there, or for a while another identity's.
    fn may_go(&self, place: &str, key: &str, source: &CredentialSource) -> bool {
        let (namespace, secret) = names(place);
        let is_other = |wanted: &Wanted| matches!(wanted, Wanted::From(other) if other != source);
        if self.was(place, key, |wanted| *wanted == Wanted::Nothing) {
            return true;
        }
        let epochs = self.epochs.lock().unwrap().clone();
        let namespaces = epochs.last().expect("there is always one");
        let other =
            |epoch: &&Arc<Epoch>| is_other(&epoch.wanted(namespaces, namespace, secret, key));
        let all = epochs.iter().rev();
        let since = all
            .skip_while(|epoch| !other(epoch))
            .take_while(other)
            .last();
        let waited = since.map(|epoch| time::truth().duration_since(epoch.since));
        let slack = if self.stepped.load(Ordering::SeqCst) {
            EARLIER_IDENTITY * 2
        } else {
            SignedDuration::ZERO
        };
        self.was(place, key, is_other)
            && waited.is_some_and(|waited| waited + slack >= EARLIER_IDENTITY)
    }

    pub(crate) fn condemn(&self, what: &str, place: &str, why: &str) {
        let verdict = format!("{what}: {place} at {}: {why}", time::truth());
        self.verdicts.lock().unwrap().push(verdict);
    }
}
