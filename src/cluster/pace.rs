//! Patience with the API server, whatever it answers: between the client and each list or watch.
//!
//! kube-runtime's watcher begins a watch anew as soon as one has ended, without a pause when nothing failed. And kube's client waits
//! for ever for an API server that is silent.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use hyper::{Request, Response};
use kube::client::Body;
use tokio::time::Instant;
use tower::{BoxError, Layer, Service};

use crate::provision::lock::lock;

/// How far apart two beginnings of the same watch are at least.
const APART: Duration = Duration::from_secs(1);

/// Within this time an answer to a list or watch begins, or it is given up; Retry-After up to this is kept.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// So many watches are remembered.
const REMEMBERED: usize = 1000;

/// A watch that was not asked for in this time is none any more: one that goes on is begun anew every 50 s, one that fails sooner.
const OVER_AFTER: Duration = Duration::from_mins(2);

/// Puts [`Paced`] around a client's service.
#[derive(Clone, Debug, Default)]
pub(super) struct Pace {
    watches: Asked,
}

impl Pace {
    /// The watches that go through the services it is put around.
    pub(super) fn watches(&self) -> Asked {
        self.watches.clone()
    }
}

impl<S> Layer<S> for Pace {
    type Service = Paced<S>;

    fn layer(&self, inner: S) -> Paced<S> {
        Paced {
            inner,
            watches: self.watches.clone(),
        }
    }
}

/// A client's service that begins the same watch at most once a second, and waits only so long for the answer to a list or watch.
#[derive(Clone, Debug)]
pub(super) struct Paced<S> {
    inner: S,
    watches: Asked,
}

/// The watches that are asked for, each by what it is on. Clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct Asked(Arc<Mutex<HashMap<String, Times>>>);

#[derive(Clone, Copy, Debug)]
struct Times {
    /// When it is begun last.
    begun: Instant,
    /// When the API server granted it last; before it ever did, when it was begun first.
    granted: Instant,
}

impl Asked {
    /// How long to wait before this watch begins.
    fn begin(&self, watch: &str, now: Instant) -> Duration {
        let mut watches = lock(&self.0);
        if watches.len() >= REMEMBERED {
            watches.retain(|_, times| times.begun + OVER_AFTER > now);
        }
        let Some(times) = watches.get_mut(watch) else {
            let times = Times {
                begun: now,
                granted: now,
            };
            watches.insert(watch.to_owned(), times);
            return Duration::ZERO;
        };
        if times.begun + OVER_AFTER <= now {
            times.granted = now;
        }
        times.begun = (times.begun + APART).max(now);
        times.begun - now
    }

    /// What the watch is on is listed: it goes on after that.
    fn keep(&self, watch: &str, now: Instant) {
        if let Some(times) = lock(&self.0).get_mut(watch) {
            times.begun = times.begun.max(now);
        }
    }

    fn grant(&self, watch: &str, now: Instant) {
        if let Some(times) = lock(&self.0).get_mut(watch) {
            times.granted = now;
        }
    }

    /// How long ago the API server granted the watch that it granted the longest ago. It begins each anew every 50 s.
    pub(super) fn age(&self, now: Instant) -> Duration {
        let watches = lock(&self.0);
        let running = watches
            .values()
            .filter(|times| times.begun + OVER_AFTER > now);
        let ages = running.map(|times| now.saturating_duration_since(times.granted));
        ages.max().unwrap_or_default()
    }
}

impl<S, B> Service<Request<Body>> for Paced<S>
where
    S: Service<Request<Body>, Response = Response<B>, Error = BoxError>,
    S::Future: Send + 'static,
    B: 'static,
{
    type Response = Response<B>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Response<B>, BoxError>>;

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
        let watches = self.watches.clone();
        let wait = match &what {
            What::Other => return answer.boxed(),
            What::List(listed) => {
                watches.keep(listed, Instant::now());
                Duration::ZERO
            }
            What::Watch(watch) => watches.begin(watch, Instant::now()),
        };
        async move {
            if !wait.is_zero() {
                tokio::time::sleep(wait).await;
            }
            let in_time = tokio::time::timeout(ANSWER_WITHIN, answer).await;
            let answer = in_time.unwrap_or_else(|_| {
                let message = format!("no answer in {} s", ANSWER_WITHIN.as_secs());
                Err(io::Error::new(io::ErrorKind::TimedOut, message).into())
            })?;
            if let What::Watch(watch) = &what
                && answer.status().is_success()
            {
                watches.grant(watch, Instant::now());
            }
            Ok(answer)
        }
        .boxed()
    }
}

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
enum What {
    /// A watch of this, wherever it goes on from.
    Watch(String),
    /// A page of a list of this.
    List(String),
    Other,
}

impl What {
    fn of(path: &str, query: &str) -> Self {
        let parameters = query.split('&');
        let has = |start: &str| parameters.clone().any(|one| one.starts_with(start));
        let (is_watch, is_list) = (has("watch=true"), has("limit="));
        if !is_watch && !is_list {
            return Self::Other;
        }
        let selectors = ["labelSelector=", "fieldSelector="];
        let mut selected: Vec<&str> = parameters
            .clone()
            .filter(|one| selectors.iter().any(|name| one.starts_with(name)))
            .collect();
        selected.sort_unstable();
        let what = format!("{path}?{}", selected.join("&"));
        if is_watch {
            Self::Watch(what)
        } else {
            Self::List(what)
        }
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
        let list = of("&fieldSelector=x&limit=200&continue=y");
        assert_eq!(
            list,
            What::List("/api/v1/secrets?fieldSelector=x".to_owned())
        );
        let watch = of("&watch=true&fieldSelector=x&resourceVersion=2");
        assert_eq!(
            watch,
            What::Watch("/api/v1/secrets?fieldSelector=x".to_owned())
        );
        assert_eq!(of("fieldManager=pullpass"), What::Other);
    }

    #[test]
    fn begins_the_same_watch_once_a_second() {
        let (watches, now) = (Asked::default(), Instant::now());
        let waits: Vec<u64> = (0..3).map(|_| watches.begin("a", now).as_secs()).collect();
        assert_eq!(waits, [0, 1, 2]);
        assert!(watches.begin("b", now).is_zero());
        assert!(watches.begin("a", now + APART * 4).is_zero());
    }

    #[test]
    fn tells_the_age_of_the_oldest_watch_that_goes_on() {
        let (watches, start) = (Asked::default(), Instant::now());
        let after = |seconds| start + Duration::from_secs(seconds);
        let age = |seconds| watches.age(after(seconds)).as_secs();
        assert_eq!(age(0), 0);
        for (watch, seconds) in [("a", 0), ("b", 0), ("a", 50)] {
            watches.begin(watch, after(seconds));
            watches.grant(watch, after(seconds));
        }
        assert_eq!(age(60), 60);
        // It is asked for in vain, then its list is.
        watches.begin("b", after(100));
        watches.keep("b", after(150));
        watches.keep("never watched", after(150));
        watches.begin("a", after(150));
        watches.grant("a", after(150));
        assert_eq!(age(200), 200);
        // It is asked for no more.
        assert_eq!(age(270), 0);
        watches.begin("b", after(280));
        assert_eq!(age(285), 5);
    }
}
