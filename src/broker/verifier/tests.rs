use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use k8s_openapi::api::authentication::v1::TokenReviewStatus;
use serde_json::json;

use super::super::ports::LivePod;
use super::*;
use crate::names::{NamespaceName, ObjectName};

/// How an API server answers that is asked about a token.
#[derive(Clone, Copy, PartialEq)]
enum Mode {
    /// It accepts those that are signed with `good`.
    Answers,
    Fails,
    Hangs,
    /// It accepts every token, after this time.
    IsSlow(Duration),
    /// It accepts every token, after so much work, which it does for all at once.
    IsOverloaded(Duration),
}

struct ApiServer {
    mode: Mutex<Mode>,
    asked: AtomicUsize,
    at_once: AtomicUsize,
    most_at_once: AtomicUsize,
}

/// The end of a request, also of one that is given up.
struct End<'a>(&'a AtomicUsize);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl ApiServer {
    fn new(mode: Mode) -> Arc<Self> {
        Arc::new(Self {
            mode: Mutex::new(mode),
            asked: AtomicUsize::default(),
            at_once: AtomicUsize::default(),
            most_at_once: AtomicUsize::default(),
        })
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }

    fn set(&self, mode: Mode) {
        *self.mode.lock().unwrap() = mode;
    }

    fn verifier(self: &Arc<Self>) -> Arc<Verifier> {
        let cluster: Arc<dyn BrokerCluster> = Arc::clone(self) as _;
        Arc::new(Verifier::new(cluster, Metrics::default(), now))
    }
}

#[async_trait]
impl BrokerCluster for ApiServer {
    async fn review_token(
        &self,
        token: &SecretString,
        _: &str,
    ) -> Result<TokenReviewStatus, ClusterError> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let at_once = self.at_once.fetch_add(1, Ordering::Relaxed) + 1;
        self.most_at_once.fetch_max(at_once, Ordering::Relaxed);
        let _end = End(&self.at_once);
        let mode = *self.mode.lock().unwrap();
        if mode == Mode::Hangs {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
        if mode == Mode::Fails {
            return Err(no_answer("it"));
        }
        if let Mode::IsSlow(time) = mode {
            tokio::time::sleep(time).await;
        }
        if let Mode::IsOverloaded(mut work) = mode {
            while !work.is_zero() {
                tokio::time::sleep(Duration::from_millis(5)).await;
                let share = u32::try_from(self.at_once.load(Ordering::Relaxed)).unwrap();
                work = work.saturating_sub(Duration::from_millis(5) / share);
            }
        }
        let is_good = matches!(mode, Mode::IsSlow(_) | Mode::IsOverloaded(_))
            || plain_text::digest(token) == plain_text::digest(&make_token("good"));
        let status = if is_good {
            json!({"authenticated": true, "audiences": [AUDIENCE], "user": {
                "username": "system:serviceaccount:team:default", "uid": "1",
                "groups": ["system:serviceaccounts", "system:serviceaccounts:team"],
                "extra": {
                    "authentication.kubernetes.io/pod-name": ["web"],
                    "authentication.kubernetes.io/pod-uid": ["2"],
                    "authentication.kubernetes.io/node-name": ["node-1"],
                },
            }})
        } else {
            json!({"error": "invalid bearer token"})
        };
        Ok(serde_json::from_value(status).unwrap())
    }

    async fn fetch_pod(
        &self,
        _: &NamespaceName,
        _: &ObjectName,
    ) -> Result<Option<LivePod>, ClusterError> {
        Ok(None)
    }

    async fn report(&self, _: &PodIdentity, _: &Refusal, _: Timestamp) {}
}

fn now() -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap()
}

/// A token for us that ends in an hour, signed so.
fn make_token(signature: &str) -> SecretString {
    let claims = json!({"aud": [AUDIENCE], "exp": 1_800_003_600});
    let payload = URL_SAFE_NO_PAD.encode(claims.to_string());
    format!("e30.{payload}.{signature}").into()
}

fn address(number: u8) -> IpAddr {
    [10, 0, 0, number].into()
}

/// Sends so many made-up tokens at once from an address; answers the reasons why they are refused.
async fn flood(verifier: &Arc<Verifier>, from: IpAddr, tokens: usize) -> Vec<Reason> {
    let asked = (0..tokens).map(|number| {
        let verifier = Arc::clone(verifier);
        async move {
            let token = make_token(&format!("bad{number}"));
            verifier.verify(&token, from).await.unwrap_err().reason
        }
    });
    futures::future::join_all(asked).await
}

#[tokio::test(start_paused = true)]
async fn asks_nobody_about_a_token_that_cannot_be_good() {
    let server = ApiServer::new(Mode::Answers);
    let verifier = server.verifier();
    for (claims, words) in [
        (json!({"aud": ["other"], "exp": 1_800_003_600}), AUDIENCE),
        (json!({"aud": AUDIENCE, "exp": 1_799_990_000}), "expired"),
        (json!("text"), "form"),
    ] {
        let payload = URL_SAFE_NO_PAD.encode(claims.to_string());
        let token = format!("e30.{payload}.good").into();
        let refused = verifier.verify(&token, address(1)).await.unwrap_err();
        assert_eq!(refused.reason, Reason::Unauthenticated);
        assert!(refused.message.contains(words), "{}", refused.message);
    }
    assert_eq!(server.asked(), 0);
}

#[tokio::test(start_paused = true)]
async fn bounds_the_reviews_of_a_flood_and_answers_another_address_meanwhile() {
    let server = ApiServer::new(Mode::Answers);
    let verifier = server.verifier();
    let flooded = {
        let verifier = Arc::clone(&verifier);
        tokio::spawn(async move { flood(&verifier, address(1), 2000).await })
    };
    tokio::task::yield_now().await;
    let begun = Instant::now();
    let pod = verifier.verify(&make_token("good"), address(2)).await;
    assert_eq!(pod.unwrap().name, "web");
    assert!(begun.elapsed() < Duration::from_millis(50));
    let reasons = flooded.await.unwrap();
    let of = |reason| reasons.iter().filter(|one| **one == reason).count();
    assert_eq!(of(Reason::Unauthenticated), 40);
    assert_eq!(of(Reason::Unavailable), 1960);
    assert_eq!(server.asked(), 41);
    let refused = verifier.verify(&make_token("good"), address(1)).await;
    assert!(refused.is_ok(), "it is known already, whoever has it");
}

#[tokio::test(start_paused = true)]
async fn takes_nothing_for_an_api_server_that_fails_or_hangs() {
    for mode in [Mode::Fails, Mode::Hangs] {
        let server = ApiServer::new(mode);
        let verifier = server.verifier();
        let begun = Instant::now();
        for reason in flood(&verifier, address(1), 200).await {
            assert_eq!(reason, Reason::Unavailable);
        }
        assert!(begun.elapsed() < REVIEW_TIMEOUT + Duration::from_millis(100));
        assert!(server.most_at_once.load(Ordering::Relaxed) <= 40);
        server.set(Mode::Answers);
        let pod = verifier.verify(&make_token("good"), address(1)).await;
        assert!(pod.is_ok(), "{:?}", pod.unwrap_err());
    }
}

/// Who cannot be answered in time is told so, and the API server is not asked.
#[tokio::test(start_paused = true)]
async fn asks_a_slow_api_server_for_no_answer_that_comes_too_late() {
    let server = ApiServer::new(Mode::IsSlow(Duration::from_millis(450)));
    let verifier = server.verifier();
    let asked = (0..500).map(|number| {
        let verifier = Arc::clone(&verifier);
        async move {
            let token = make_token(&format!("one{number}"));
            verifier.verify(&token, address(1)).await.is_ok()
        }
    });
    let accepted = futures::future::join_all(asked).await;
    let accepted = accepted.into_iter().filter(|is_ok| *is_ok).count();
    assert!(accepted >= 80, "{accepted}");
    assert_eq!(accepted, server.asked());
}

/// It answers nobody in time as long as it is asked for all that may be asked for at once.
#[tokio::test(start_paused = true)]
async fn asks_an_overloaded_api_server_for_as_much_as_it_answers_in_time() {
    let server = ApiServer::new(Mode::IsOverloaded(Duration::from_millis(50)));
    let verifier = server.verifier();
    let begun = Instant::now();
    for addresses in [1, 200] {
        let asked = (0..200_u8).map(|number| {
            let verifier = Arc::clone(&verifier);
            let (token, from) = (format!("{addresses}-{number}"), number % addresses);
            async move {
                let mut tries = 1;
                while verifier
                    .verify(&make_token(&token), address(from))
                    .await
                    .is_err()
                {
                    tries += 1;
                    assert!(tries < 60, "it is never answered");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
                tries
            }
        });
        let tries = futures::future::join_all(asked).await;
        assert!(tries.iter().any(|tries| *tries > 1), "it is overloaded");
    }
    assert!(
        begun.elapsed() < Duration::from_mins(1),
        "{:?}",
        begun.elapsed()
    );
}
