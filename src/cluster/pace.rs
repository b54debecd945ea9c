//! Patience with the API server, whatever it answers: between the client and each list or watch.
//!
//! kube-runtime's watcher begins a watch anew as soon as one has ended, without a pause when nothing failed. And kube's client waits
//! for ever for an API server that is silent.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use hyper::Request;
use kube::client::Body;
use tokio::time::Instant;
use tower::{BoxError, Layer, Service};

/// How far apart two beginnings of the same watch are at least.
const APART: Duration = Duration::from_secs(1);

/// Within this time an answer to a list or watch begins, or it is given up; Retry-After up to this is kept.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// So many watches are remembered.
const REMEMBERED: usize = 1000;

/// Puts [`Paced`] around a client's service.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pace;

impl<S> Layer<S> for Pace {
    type Service = Paced<S>;

    fn layer(&self, inner: S) -> Paced<S> {
        Paced {
            inner,
            begun: Arc::default(),
        }
    }
}

/// A client's service that begins the same watch at most once a second, and waits only so long for the answer to a list or watch.
#[derive(Clone, Debug)]
pub(super) struct Paced<S> {
    inner: S,
    /// When each watch is begun last.
    begun: Arc<Mutex<HashMap<String, Instant>>>,
}

impl<S> Paced<S> {
    /// How long to wait before this watch begins.
    fn wait(&self, watch: String, now: Instant) -> Duration {
        let mut begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        if begun.len() >= REMEMBERED {
            begun.retain(|_, at| *at + APART > now);
        }
        let last = begun.get(&watch);
        let at = last.map_or(now, |last| (*last + APART).max(now));
        begun.insert(watch, at);
        at - now
    }
}

impl<S, R> Service<Request<Body>> for Paced<S>
where
    S: Service<Request<Body>, Response = R, Error = BoxError>,
    S::Future: Send + 'static,
    R: 'static,
{
    type Response = R;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<R, BoxError>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let what = What::of(
            request.uri().path(),
            request.uri().query().unwrap_or_default(),
        );
        // It does nothing before it is polled.
        let answer = self.inner.call(request);
        let wait = match what {
            What::Other => return answer.boxed(),
            What::List => Duration::ZERO,
            What::Watch(watch) => self.wait(watch, Instant::now()),
        };
        async move {
            if !wait.is_zero() {
                tokio::time::sleep(wait).await;
            }
            let in_time = tokio::time::timeout(ANSWER_WITHIN, answer).await;
            in_time.unwrap_or_else(|_| {
                let message = format!("no answer in {} s", ANSWER_WITHIN.as_secs());
                Err(io::Error::new(io::ErrorKind::TimedOut, message).into())
            })
        }
        .boxed()
    }
}

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
enum What {
    /// A watch of this, wherever it goes on from.
    Watch(String),
    List,
    Other,
}

impl What {
    fn of(path: &str, query: &str) -> Self {
        let mut parameters = query.split('&');
        if parameters.clone().any(|one| one == "watch=true") {
            let rest = parameters.filter(|one| !one.starts_with("resourceVersion="));
            let rest: Vec<&str> = rest.collect();
            return Self::Watch(format!("{path}?{}", rest.join("&")));
        }
        if parameters.any(|one| one.starts_with("limit=")) {
            return Self::List;
        }
        Self::Other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_watches_apart_by_what_they_are_on() {
        let of = |query: &str| What::of("/api/v1/secrets", query);
        let one = of("&watch=true&timeoutSeconds=50&resourceVersion=1");
        assert_eq!(one, of("&watch=true&timeoutSeconds=50&resourceVersion=2"));
        assert_ne!(one, of("&watch=true&fieldSelector=x&resourceVersion=2"));
        assert_eq!(of("&limit=200"), What::List);
        assert_eq!(of("fieldManager=pullpass"), What::Other);
    }

    #[test]
    fn begins_the_same_watch_once_a_second() {
        let (paced, now) = (Pace.layer(()), Instant::now());
        let waits: Vec<u64> = (0..3)
            .map(|_| paced.wait("a".to_owned(), now).as_secs())
            .collect();
        assert_eq!(waits, [0, 1, 2]);
        assert!(paced.wait("b".to_owned(), now).is_zero());
        assert!(paced.wait("a".to_owned(), now + APART * 4).is_zero());
    }
}
