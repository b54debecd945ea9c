//! Fixed logins are tried before they are called good.

use pullpass::provision::ports::{LoginOutcome, LoginTry};

use super::*;

/// Registries that answer a login so; `None`: they hang.
#[derive(Default)]
struct Answers {
    outcome: Mutex<Option<LoginOutcome>>,
    asked: AtomicUsize,
    panics: AtomicBool,
}

impl Answers {
    fn of(outcome: Option<LoginOutcome>) -> Arc<Self> {
        let answers = Self::default();
        answers.set(outcome);
        Arc::new(answers)
    }

    fn set(&self, outcome: Option<LoginOutcome>) {
        *self.outcome.lock().unwrap() = outcome;
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl LoginChecker for Answers {
    async fn check(&self, attempt: &LoginTry) -> LoginOutcome {
        assert_eq!(attempt.host, "harbor.example");
        self.asked.fetch_add(1, Ordering::SeqCst);
        assert!(!self.panics.load(Ordering::SeqCst), "a bug");
        let outcome = self.outcome.lock().unwrap().clone();
        match outcome {
            Some(outcome) => outcome,
            None => std::future::pending().await,
        }
    }
}

fn refused() -> LoginOutcome {
    let message = "harbor.example refuses the login (HTTP 401): UNAUTHORIZED".to_owned();
    LoginOutcome::Refused { message }
}

fn unreachable() -> LoginOutcome {
    LoginOutcome::Unknown {
        reason: "Network",
        message: "cannot talk to harbor.example".to_owned(),
        is_passing: true,
        retry_after: None,
    }
}

/// A leader with a fixed login in two namespaces.
fn start(answers: &Arc<Answers>) -> Replica {
    let replica = Replica::start_with(Duration::ZERO, Some(answers.clone()));
    replica.serve(fixed("u-1", &json!({})));
    replica.give_source("first");
    replica.opted_in(2);
    replica.lead();
    replica
}

/// Status and reason of these conditions, in each status that was written.
fn said(replica: &Replica, kind: &str) -> Vec<String> {
    let written = replica.statuses.written.lock().unwrap();
    let of = |status: &RegistryStatus| {
        let mut conditions = status.conditions.iter();
        let found = conditions.find(|one| one.type_ == kind);
        found.map_or_else(
            || "none".to_owned(),
            |one| format!("{} {}", one.status, one.reason),
        )
    };
    let mut all: Vec<String> = written.iter().map(|(_, status)| of(status)).collect();
    all.dedup();
    all
}

/// The message of `Ready` that was written last.
fn ready_message(replica: &Replica) -> String {
    let written = replica.statuses.written.lock().unwrap();
    let (_, status) = written.last().unwrap();
    status.conditions[0].message.clone()
}

/// The watch shows what was written last.
fn show_status(replica: &Replica) {
    let last = replica.statuses.written.lock().unwrap().last().cloned();
    let (_, status) = last.unwrap();
    replica.state.record_status(&name("fixed"), Some(status));
}

#[tokio::test(start_paused = true)]
async fn says_that_a_login_is_refused_and_that_a_corrected_one_is_taken() {
    let answers = Answers::of(Some(refused()));
    let replica = start(&answers);
    pass(20_000).await;
    let ready = said(&replica, "Ready");
    assert_eq!(ready.last().unwrap(), "False LoginRefused");
    assert!(
        !ready.iter().any(|one| one.starts_with("True")),
        "{ready:?}"
    );
    let verified = said(&replica, "Verified");
    assert_eq!(verified.last().unwrap(), "False LoginRefused");
    assert_eq!(replica.gauge("pullpass_logins_refused"), "1");
    assert!(ready_message(&replica).contains("UNAUTHORIZED"));
    let events = replica.statuses.events.lock().unwrap().clone();
    assert!(events.iter().any(|event| event.reason == "LoginRefused"));

    answers.set(Some(LoginOutcome::Taken));
    replica.give_source("second");
    pass(20_000).await;
    assert_eq!(said(&replica, "Ready").last().unwrap(), "True Provisioned");
    assert_eq!(
        said(&replica, "Verified").last().unwrap(),
        "True LoginTaken"
    );
    assert_eq!(ready_message(&replica), "2 namespaces hold a valid login");
    assert_eq!(replica.gauge("pullpass_logins_refused"), "0");
    assert_eq!(answers.asked(), 2);
    pass(24 * 3_600_000).await;
    assert_eq!(answers.asked(), 2, "once for each state of the Secret");
}

#[tokio::test(start_paused = true)]
async fn tries_no_login_again_that_an_earlier_leader_tried() {
    for (outcome, verified) in [
        (Some(LoginOutcome::Taken), "True LoginTaken"),
        (Some(refused()), "False LoginRefused"),
    ] {
        let answers = Answers::of(outcome);
        let replica = start(&answers);
        pass(20_000).await;
        show_status(&replica);
        replica.leadership.send_modify(|told| told.leads = false);
        pass(5_000).await;
        let before = replica.statuses.count();
        replica.lead();
        pass(20_000).await;
        assert_eq!(answers.asked(), 1, "{verified}");
        assert_eq!(replica.statuses.count(), before, "it is said already");
        assert_eq!(said(&replica, "Verified").last().unwrap(), verified);
        // Another one is tried at once.
        answers.set(Some(LoginOutcome::Taken));
        replica.give_source("second");
        pass(20_000).await;
        assert_eq!(answers.asked(), 2, "{verified}");
        assert_eq!(said(&replica, "Ready").last().unwrap(), "True Provisioned");
    }
}

/// What was found of one login says nothing of the next, whether its Secret or its Registry is another one.
#[tokio::test(start_paused = true)]
async fn calls_no_changed_login_what_the_one_before_it_was() {
    for (outcome, ready) in [
        (LoginOutcome::Taken, "True Provisioned"),
        (refused(), "False Provisioning"),
    ] {
        let answers = Answers::of(Some(outcome));
        let replica = start(&answers);
        pass(20_000).await;
        replica.statuses.events.lock().unwrap().clear();
        answers.set(None);
        replica.give_source("second");
        pass(20_000).await;
        assert_eq!(answers.asked(), 2);
        let verified = said(&replica, "Verified");
        assert_eq!(verified.last().unwrap(), "Unknown NotTried");
        assert_eq!(said(&replica, "Ready").last().unwrap(), ready);
        let events = replica.statuses.events.lock().unwrap().clone();
        let is_back = |event: &EventNote| event.reason == "LoginAvailable";
        assert!(!events.iter().any(is_back), "nobody knows yet: {events:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn calls_no_login_good_that_nobody_could_try() {
    let answers = Answers::of(Some(unreachable()));
    let replica = start(&answers);
    pass(20_000).await;
    assert_eq!(said(&replica, "Ready").last().unwrap(), "True Provisioned");
    assert_eq!(
        said(&replica, "Verified").last().unwrap(),
        "Unknown Network"
    );
    assert_eq!(
        ready_message(&replica),
        "2 namespaces hold the login, which is not verified: cannot talk to harbor.example"
    );
    assert_eq!(said(&replica, "Degraded"), ["False AsExpected"]);
    pass(60_000).await;
    assert_eq!(answers.asked(), 2);
    // Rarely, where it stays so.
    pass(24 * 3_600_000).await;
    assert!((20..=40).contains(&answers.asked()), "{}", answers.asked());
    answers.set(Some(LoginOutcome::Taken));
    pass(3_600_000).await;
    assert_eq!(
        said(&replica, "Verified").last().unwrap(),
        "True LoginTaken"
    );
}

/// A registry that hangs, or a bug, holds nothing else up.
#[tokio::test(start_paused = true)]
async fn writes_pull_secrets_whatever_becomes_of_the_try() {
    for panics in [false, true] {
        let answers = Answers::of(None);
        answers.panics.store(panics, Ordering::SeqCst);
        let replica = start(&answers);
        pass(20_000).await;
        for namespace in ["team-0", "team-1"] {
            assert_eq!(replica.world.logins(namespace).len(), 1);
        }
        let ready = said(&replica, "Ready");
        let expected = if panics {
            "True Provisioned"
        } else {
            "False Provisioning"
        };
        assert_eq!(ready.last().unwrap(), expected);
        pass(120_000).await;
        assert_eq!(said(&replica, "Ready").last().unwrap(), "True Provisioned");
    }
}

#[tokio::test(start_paused = true)]
async fn says_nothing_of_a_login_whose_source_is_gone() {
    let answers = Answers::of(Some(refused()));
    let replica = start(&answers);
    pass(20_000).await;
    replica.state.sources.delete("login", "1000000");
    pass(20_000).await;
    assert_eq!(
        said(&replica, "Ready").last().unwrap(),
        "False MissingSource"
    );
    let verified = said(&replica, "Verified");
    assert_eq!(verified.last().unwrap(), "Unknown MissingSource");
    assert_eq!(replica.gauge("pullpass_logins_refused"), "0");
}

#[tokio::test(start_paused = true)]
async fn tries_no_login_of_a_registry_that_rests() {
    let answers = Answers::of(Some(refused()));
    let replica = Replica::start_with(Duration::ZERO, Some(answers.clone()));
    let mut resting = json!({
        "apiVersion": "pullpass.dev/v1alpha1", "kind": "Registry",
        "metadata": {"name": "fixed", "uid": "u-1", "generation": 1},
        "spec": {"images": ["harbor.example"], "namespaceSelector": {}, "suspend": true, "static": {"secretRef": {"name": "login"}}},
    });
    let build = |one: &Value| Registries::build([serde_json::from_value(one.clone()).unwrap()]);
    replica.serve(build(&resting));
    replica.give_source("first");
    replica.opted_in(2);
    replica.lead();
    pass(20_000).await;
    assert_eq!(answers.asked(), 0);
    resting["spec"]["suspend"] = json!(false);
    resting["metadata"]["generation"] = json!(2);
    replica.apply_fixed(build(&resting));
    pass(20_000).await;
    assert_eq!(answers.asked(), 1);
}
