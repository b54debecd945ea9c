//! Two hundred clusters whose credentials are minted by one account, all starting at once: what decides when to mint
//! ([`crate::provision::decide`]), when to try again ([`super::super::backoff`], [`crate::controller::SourceFailure`]) and how fast to
//! ask ([`super::super::account_throttle`]), in simulated time.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::super::account_throttle::{AccountThrottle, RequestEnd, Turn, scope_of};
use super::super::backoff::{MintFailure, RememberedFailure};
use super::super::throttles::HeldOff;
use crate::clock::RetryTimer;
use crate::controller::SourceFailure;
use crate::credential::{MintError, Refusal};
use crate::provision::decide::{
    CredentialState, Decision, EntryState, SecretEntry, SecretState, decide, spread,
};
use crate::registry::source::{
    EcrEndpoints, EcrIdentity, EcrSource, MintSource, Partition, RoleHop, TokenLifetime,
};

const INSTANCES: usize = 200;
const CREDENTIALS: usize = 50;
const HOURS: i64 = 3;
const LIFE: SignedDuration = SignedDuration::from_hours(1);

/// What Amazon ECR takes of one account in a region.
/// <https://docs.aws.amazon.com/AmazonECR/latest/userguide/common-errors.html>
const BUCKET: f64 = 200.0;
const REFILL: f64 = 20.0;

/// How long the account takes to answer.
const ANSWER: SignedDuration = SignedDuration::from_millis(200);

/// As the reconciler does: how many are under way at once.
const MAX_CONCURRENT_MINTS: usize = 32;

/// How long one waits for its turn behind others.
const TURN_TIMEOUT: SignedDuration = SignedDuration::from_secs(1);

/// The account: a bucket of tokens, and what it was asked in each second.
struct Account {
    tokens: f64,
    at: Timestamp,
    began: Timestamp,
    requests: Vec<u32>,
    refused: u32,
}

impl Account {
    fn new(now: Timestamp) -> Self {
        let seconds = usize::try_from(HOURS * 3600 + 60).unwrap();
        Self {
            tokens: BUCKET,
            at: now,
            began: now,
            requests: vec![0; seconds],
            refused: 0,
        }
    }

    fn ask(&mut self, now: Timestamp) -> bool {
        let passed = now.duration_since(self.at).as_secs_f64();
        self.tokens = (self.tokens + passed * REFILL).min(BUCKET);
        self.at = now;
        let second = now.duration_since(self.began).as_secs();
        self.requests[usize::try_from(second).unwrap()] += 1;
        let is_granted = self.tokens >= 1.0;
        if is_granted {
            self.tokens -= 1.0;
        } else {
            self.refused += 1;
        }
        is_granted
    }

    fn print(&self, all_minted: Option<i64>) {
        let total: u32 = self.requests.iter().sum();
        let minutes: Vec<u32> = self
            .requests
            .chunks(60)
            .map(|minute| minute.iter().sum::<u32>() / 60)
            .collect();
        println!(
            "all minted after {all_minted:?} minutes; {total} requests, {} refused; per second: {:.2} on average, {:.1} in the first minute, {:.1} at most in any later one, {:.1} in any after ten; by minutes {minutes:?}",
            self.refused,
            f64::from(total) / (3600.0 * 3.0),
            self.busiest_minute(0),
            self.busiest_minute(60),
            self.busiest_minute(600),
        );
    }

    /// The most requests per second, refused ones included, in any minute from `first` on.
    fn busiest_minute(&self, first: usize) -> f64 {
        let minutes = self.requests[first..].windows(60);
        let busiest = minutes.map(|minute| minute.iter().sum::<u32>()).max();
        f64::from(busiest.unwrap()) / 60.0
    }
}

/// One credential of one cluster.
#[derive(Clone, Default)]
struct Held {
    minted: Option<(Timestamp, Timestamp)>,
    minting_since: Option<Timestamp>,
    retry: Option<RetryTimer>,
    failures: u32,
    failed: Option<RememberedFailure>,
}

/// One cluster: its pull secret as the reconciler sees it, and its mints.
struct Instance {
    held: Vec<Held>,
    queue: VecDeque<usize>,
    running: usize,
    throttle: AccountThrottle,
    why: Option<Arc<MintError>>,
    /// Those that wait for their turn, until then.
    waiting: VecDeque<(usize, Timestamp)>,
    /// When it reconciles next.
    wake: Option<Timestamp>,
    /// Whether a credential ended before it was renewed.
    ended: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Wake,
    Answered(usize, bool),
    TurnTimeout,
}

struct World {
    now: Timestamp,
    account: Account,
    instances: Vec<Instance>,
    events: BinaryHeap<Reverse<(Timestamp, u64, usize, Event)>>,
    count: u64,
    jitter: Vec<u8>,
}

impl World {
    /// All clusters start at once.
    fn new(sources: &[MintSource]) -> Self {
        let began: Timestamp = "2026-11-21T10:00:00Z".parse().unwrap();
        let instance = |seed: usize| Instance {
            held: vec![Held::default(); CREDENTIALS],
            queue: VecDeque::new(),
            running: 0,
            throttle: AccountThrottle::new(u64::try_from(seed).unwrap(), began),
            why: None,
            waiting: VecDeque::new(),
            wake: Some(began),
            ended: 0,
        };
        let mut world = World {
            now: began,
            account: Account::new(began),
            instances: (0..INSTANCES).map(instance).collect(),
            events: BinaryHeap::new(),
            count: 0,
            jitter: sources.iter().map(MintSource::jitter).collect(),
        };
        for instance in 0..INSTANCES {
            world.push(began, instance, Event::Wake);
        }
        world
    }

    fn push(&mut self, at: Timestamp, instance: usize, event: Event) {
        self.count += 1;
        self.events.push(Reverse((at, self.count, instance, event)));
    }

    fn run(&mut self, until: Timestamp) {
        while let Some(Reverse((at, ..))) = self.events.peek()
            && *at <= until
            && let Some(Reverse((at, _, instance, event))) = self.events.pop()
        {
            self.now = at;
            match event {
                // One that was put off, or brought forward.
                Event::Wake if self.instances[instance].wake != Some(at) => continue,
                Event::Wake => self.instances[instance].wake = None,
                Event::Answered(place, is_granted) => self.answered(instance, place, is_granted),
                Event::TurnTimeout => self.admit_waiting(instance),
            }
            self.reconcile(instance);
        }
    }

    /// As the reconciler: decides, and begins what is to be minted.
    fn reconcile(&mut self, instance: usize) {
        let now = self.now;
        let one = &mut self.instances[instance];
        loop {
            let entries = one.held.iter().zip(&self.jitter);
            let entries = entries.map(|(held, jitter)| SecretEntry {
                credential: Some(CredentialState {
                    minted: held.minted,
                    minting_since: held.minting_since,
                    retry_at: held.retry.map(|timer| timer.at(now)),
                    jitter: held.minted.map_or(0, |(at, _)| spread(*jitter, at)),
                }),
                entry_state: match held.minted {
                    Some(_) => EntryState::Current,
                    None => EntryState::Unavailable,
                },
            });
            let secret = SecretState {
                entries: entries.collect(),
                ..SecretState::default()
            };
            match decide(&secret, now) {
                Decision::Mint(places) => {
                    for place in places {
                        one.held[place].minting_since = Some(now);
                        one.queue.push_back(place);
                    }
                }
                Decision::Wait(next) => {
                    // What failed is asked for again at its own time, not by what is decided.
                    let failed = one.held.iter().filter(|held| held.minting_since.is_none());
                    let retries = failed.filter_map(|held| Some(held.retry?.at(now)));
                    let retries = retries.filter(|at| *at > now);
                    let next = retries.chain(next).map(|next| next.max(now)).min();
                    if let Some(next) = next.filter(|_| one.wake != next) {
                        one.wake = Some(next);
                        self.push(next, instance, Event::Wake);
                    }
                    break;
                }
                other => panic!("{other:?}"),
            }
        }
        while self.instances[instance].running < MAX_CONCURRENT_MINTS
            && let Some(place) = self.instances[instance].queue.pop_front()
        {
            self.instances[instance].running += 1;
            let until = now + TURN_TIMEOUT;
            self.begin(instance, place, until);
        }
    }

    /// As the minter: whoever is remembered to have failed fails; else it asks in its turn.
    fn begin(&mut self, instance: usize, place: usize, until: Timestamp) {
        let now = self.now;
        let one = &mut self.instances[instance];
        let failed = one.held[place].failed.as_ref();
        if failed.is_some_and(|failed| failed.is_active(now)) {
            self.fail(instance, place);
            return;
        }
        let turn = if now >= until {
            one.throttle.admit_anyway(now)
        } else {
            one.throttle.admit(now)
        };
        match turn {
            Turn::Now => {
                let is_granted = self.account.ask(now);
                self.push(now + ANSWER, instance, Event::Answered(place, is_granted));
            }
            Turn::AfterAnother => {
                one.waiting.push_back((place, until));
                if until == now + TURN_TIMEOUT {
                    self.push(until, instance, Event::TurnTimeout);
                }
            }
            Turn::Later(wait) => {
                let why = Arc::clone(one.why.as_ref().unwrap());
                let held_off = MintFailure::held_off(&HeldOff { why, wait });
                self.remember(instance, place, held_off);
                self.fail(instance, place);
            }
        }
    }

    fn answered(&mut self, instance: usize, place: usize, is_granted: bool) {
        let now = self.now;
        let one = &mut self.instances[instance];
        if is_granted {
            one.throttle.end(RequestEnd::Minted, now);
            one.running -= 1;
            let held = &mut one.held[place];
            if held.minted.is_some_and(|(_, until)| until <= now) {
                one.ended += 1;
            }
            *held = Held {
                minted: Some((now, now + LIFE)),
                ..Held::default()
            };
        } else {
            let error = throttled();
            one.throttle.end(RequestEnd::Throttled(Duration::ZERO), now);
            one.why = Some(Arc::new(error.clone()));
            self.remember(instance, place, error.into());
            self.fail(instance, place);
        }
        self.admit_waiting(instance);
    }

    fn admit_waiting(&mut self, instance: usize) {
        let waiting = std::mem::take(&mut self.instances[instance].waiting);
        for (place, until) in waiting {
            self.begin(instance, place, until);
        }
    }

    fn remember(&mut self, instance: usize, place: usize, failure: MintFailure) {
        let held = &mut self.instances[instance].held[place];
        let failed = RememberedFailure::after(held.failed.as_ref(), failure, self.now);
        held.failed = Some(failed);
    }

    fn fail(&mut self, instance: usize, place: usize) {
        let now = self.now;
        let one = &mut self.instances[instance];
        one.running -= 1;
        let held = &mut one.held[place];
        held.minting_since = None;
        let why = SourceFailure::of(&throttled());
        held.retry = Some(why.retry(held.failures, now));
        held.failures += 1;
        // Whatever ended is reconciled.
        if one.wake != Some(now) {
            one.wake = Some(now);
            self.push(now, instance, Event::Wake);
        }
    }
}

fn throttled() -> MintError {
    MintError::Refused(Box::new(Refusal::of_throttle()))
}

/// The credentials of one cluster, by a role each; every cluster has the same.
fn sources() -> Vec<MintSource> {
    let source = |role: usize| EcrSource {
        partition: Partition::Aws,
        region: "eu-west-1".to_owned(),
        public: false,
        fips: false,
        dual_stack: false,
        identity: EcrIdentity::Workload,
        session_seconds: None,
        assume_roles: vec![RoleHop {
            role_arn: format!("arn:aws:iam::123456789012:role/pull-{role}"),
            ..RoleHop::default()
        }],
        token_life: TokenLifetime::Session,
        endpoints: EcrEndpoints::default(),
    };
    (0..CREDENTIALS).map(|role| source(role).into()).collect()
}

#[test]
fn keeps_within_the_limit_of_an_account_and_loses_no_credential() {
    let sources = sources();
    let scope = scope_of(&sources[0]);
    assert!(sources.iter().all(|source| scope_of(source) == scope));
    let mut world = World::new(&sources);
    let began = world.now;
    let mut all_minted = None;
    for minute in 1..=HOURS * 60 {
        world.run(began + SignedDuration::from_mins(minute));
        let every = world.instances.iter().flat_map(|one| &one.held);
        let is_good = |held: &Held| held.minted.is_some_and(|(_, until)| until > world.now);
        let good = every.filter(|held| is_good(held)).count();
        if good == INSTANCES * CREDENTIALS {
            all_minted.get_or_insert(minute);
        } else {
            assert!(all_minted.is_none(), "{good} are good in minute {minute}");
        }
    }
    let account = &world.account;
    account.print(all_minted);
    let ended: u32 = world.instances.iter().map(|one| one.ended).sum();
    assert_eq!(ended, 0);
    assert!(
        all_minted.is_some_and(|minute| minute <= 30),
        "{all_minted:?}"
    );
    // What the bucket holds at the start is there to be used; from then on no more is asked for than it is refilled with.
    assert!(account.busiest_minute(0) <= REFILL + BUCKET / 60.0);
    assert!(account.busiest_minute(60) <= REFILL);
}
