//! Patience with the API server, whatever it answers: between the client and each list or watch.
//!
//! kube-runtime's watcher restarts a watch as soon as one has ended, without a pause when nothing failed. And kube's client waits
//! for ever for an API server that is silent.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use hyper::{Request, Response};
use kube::client::Body;
use parking_lot::Mutex;
use tokio::time::Instant;
use tower::{BoxError, Layer, Service};

/// How far apart two beginnings of the same watch are at least.
const MIN_INTERVAL: Duration = Duration::from_secs(1);

/// Within this time an answer to a list or watch begins, or it is given up; Retry-After up to this is kept.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(30);

/// So many watches are remembered.
const MAX_ENTRIES: usize = 1000;

/// A watch that sent no request for this long has ended: a healthy one is restarted every 50 s, a failing one sooner.
const FORGET_AFTER: Duration = Duration::from_mins(2);

/// Puts [`ThrottledService`] around a client's service.
#[derive(Clone, Debug, Default)]
pub(super) struct WatchThrottle {
    watches: WatchRequests,
}

impl WatchThrottle {
    /// The watches that go through the services it is put around.
    pub(super) fn watches(&self) -> WatchRequests {
        self.watches.clone()
    }
}

impl<S> Layer<S> for WatchThrottle {
    type Service = ThrottledService<S>;

    fn layer(&self, inner: S) -> ThrottledService<S> {
        ThrottledService {
            inner,
            watches: self.watches.clone(),
        }
    }
}

/// A client's service that begins the same watch at most once a second, and waits only so long for the answer to a list or watch.
#[derive(Clone, Debug)]
pub(super) struct ThrottledService<S> {
    inner: S,
    watches: WatchRequests,
}

/// The watches that are asked for, each by what it is on. Clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct WatchRequests(Arc<Mutex<HashMap<String, WatchTimes>>>);

#[derive(Clone, Copy, Debug)]
struct WatchTimes {
    /// When it is begun last.
    started: Instant,
    /// When the API server granted it last; before it ever did, when it was begun first.
    granted: Instant,
}

impl WatchRequests {
    /// How long to wait before this watch begins.
    fn begin_watch(&self, watch: &str, now: Instant) -> Duration {
        let mut watches = self.0.lock();
        if watches.len() >= MAX_ENTRIES {
            watches.retain(|_, times| times.started + FORGET_AFTER > now);
        }
        let Some(times) = watches.get_mut(watch) else {
            let times = WatchTimes {
                started: now,
                granted: now,
            };
            watches.insert(watch.to_owned(), times);
            return Duration::ZERO;
        };
        if times.started + FORGET_AFTER <= now {
            times.granted = now;
        }
        times.started = (times.started + MIN_INTERVAL).max(now);
        times.started - now
    }

    /// What the watch is on is listed: it goes on after that.
    fn keep_watch(&self, watch: &str, now: Instant) {
        if let Some(times) = self.0.lock().get_mut(watch) {
            times.started = times.started.max(now);
        }
    }

    fn record_granted(&self, watch: &str, now: Instant) {
        if let Some(times) = self.0.lock().get_mut(watch) {
            times.granted = now;
        }
    }

    /// How long ago the API server last accepted the oldest of the watches. Each is restarted every 50 s.
    pub(super) fn age(&self, now: Instant) -> Duration {
        let watches = self.0.lock();
        let running = watches
            .values()
            .filter(|times| times.started + FORGET_AFTER > now);
        let ages = running.map(|times| now.saturating_duration_since(times.granted));
        ages.max().unwrap_or_default()
    }
}

impl<S, B> Service<Request<Body>> for ThrottledService<S>
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
        let what = RequestKind::of(
            request.uri().path(),
            request.uri().query().unwrap_or_default(),
        );
        // It does nothing before it is polled.
        let answer = self.inner.call(request);
        let watches = self.watches.clone();
        let wait = match &what {
            RequestKind::Other => return answer.boxed(),
            RequestKind::List(listed) => {
                watches.keep_watch(listed, Instant::now());
                Duration::ZERO
            }
            RequestKind::Watch(watch) => watches.begin_watch(watch, Instant::now()),
        };
        async move {
            if !wait.is_zero() {
                tokio::time::sleep(wait).await;
            }
            let in_time = tokio::time::timeout(RESPONSE_TIMEOUT, answer).await;
            let answer = in_time.unwrap_or_else(|_| {
                let message = format!("no answer in {} s", RESPONSE_TIMEOUT.as_secs());
                Err(io::Error::new(io::ErrorKind::TimedOut, message).into())
            })?;
            if let RequestKind::Watch(watch) = &what
                && answer.status().is_success()
            {
                watches.record_granted(watch, Instant::now());
            }
            Ok(answer)
        }
        .boxed()
    }
}

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
enum RequestKind {
    /// A watch of this, wherever it goes on from.
    Watch(String),
    /// A page of a list of this.
    List(String),
    Other,
}

impl RequestKind {
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
        let of = |query: &str| RequestKind::of("/api/v1/secrets", query);
        let one = of("&watch=true&timeoutSeconds=50&resourceVersion=1");
        assert_eq!(one, of("&watch=true&timeoutSeconds=50&resourceVersion=2"));
        assert_ne!(one, of("&watch=true&fieldSelector=x&resourceVersion=2"));
        let list = of("&fieldSelector=x&limit=200&continue=y");
        assert_eq!(
            list,
            RequestKind::List("/api/v1/secrets?fieldSelector=x".to_owned())
        );
        let watch = of("&watch=true&fieldSelector=x&resourceVersion=2");
        assert_eq!(
            watch,
            RequestKind::Watch("/api/v1/secrets?fieldSelector=x".to_owned())
        );
        assert_eq!(of("fieldManager=pullpass"), RequestKind::Other);
    }

    #[test]
    fn begins_the_same_watch_once_a_second() {
        let (watches, now) = (WatchRequests::default(), Instant::now());
        let waits: Vec<u64> = (0..3)
            .map(|_| watches.begin_watch("a", now).as_secs())
            .collect();
        assert_eq!(waits, [0, 1, 2]);
        assert!(watches.begin_watch("b", now).is_zero());
        assert!(watches.begin_watch("a", now + MIN_INTERVAL * 4).is_zero());
    }

    #[test]
    fn tells_the_age_of_the_oldest_watch_that_goes_on() {
        let (watches, start) = (WatchRequests::default(), Instant::now());
        let after = |seconds| start + Duration::from_secs(seconds);
        let age = |seconds| watches.age(after(seconds)).as_secs();
        assert_eq!(age(0), 0);
        for (watch, seconds) in [("a", 0), ("b", 0), ("a", 50)] {
            watches.begin_watch(watch, after(seconds));
            watches.record_granted(watch, after(seconds));
        }
        assert_eq!(age(60), 60);
        // It is asked for in vain, then its list is.
        watches.begin_watch("b", after(100));
        watches.keep_watch("b", after(150));
        watches.keep_watch("never watched", after(150));
        watches.begin_watch("a", after(150));
        watches.record_granted("a", after(150));
        assert_eq!(age(200), 200);
        // It is asked for no more.
        assert_eq!(age(270), 0);
        watches.begin_watch("b", after(280));
        assert_eq!(age(285), 5);
    }
}
