//! The events of one watch, without end: retried with back-off, and relisted where going on from the last revision would
//! show nothing any more.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use kube::Client;
use kube::api::{Api, Resource};
use kube::runtime::utils::ResetTimerBackoff;
use kube::runtime::watcher::{Error, Event, ExponentialBackoff};
use serde::de::DeserializeOwned;
use tokio::sync::{Notify, watch as signal};
use tokio::time::Instant;

use super::list_watch::{Selection, list_and_watch};
use crate::cluster::{Kube, Metrics};

/// What is done before each list.
type BeforeList = Box<dyn Fn() -> BoxFuture<'static, ()> + Send + Sync>;

/// The events of one watch.
pub(super) struct WatchStream<K> {
    kind: &'static str,
    metrics: Metrics,
    client: Client,
    api: Api<K>,
    selection: Selection,
    /// Rings when the cluster was restored to an earlier state.
    rolled_back: signal::Receiver<u64>,
    before_list: Option<BeforeList>,
    /// Rings when everything is to be listed anew.
    relist: Arc<Notify>,
}

/// One [`WatchStream`] that has begun.
pub(super) struct RunningWatch<K> {
    from: WatchStream<K>,
    longest: Duration,
    events: BoxStream<'static, Result<Event<K>, Error>>,
    /// The pauses after failures. The library's own start over at each attempt to list, since it reports that attempt
    /// as an event.
    pauses: ResetTimerBackoff<ExponentialBackoff>,
    /// Nothing is asked for before.
    not_before: Instant,
}

impl<K> WatchStream<K> {
    /// What `selection` selects of `api`; failures are counted under `kind`. Nothing is asked for before it begins.
    pub(super) fn new(kube: &Kube, kind: &'static str, api: Api<K>, selection: Selection) -> Self {
        Self {
            kind,
            metrics: kube.metrics.clone(),
            client: kube.client.clone(),
            api,
            selection,
            rolled_back: kube.revision.subscribe(),
            before_list: None,
            relist: Arc::default(),
        }
    }

    /// The same; no list is begun before this has ended.
    pub(super) fn before_each_list(
        self,
        before: impl Fn() -> BoxFuture<'static, ()> + Send + Sync + 'static,
    ) -> Self {
        Self {
            before_list: Some(Box::new(before)),
            ..self
        }
    }

    /// What lists everything anew when it is notified.
    pub(super) fn relist(&self) -> Arc<Notify> {
        Arc::clone(&self.relist)
    }
}

impl<K> WatchStream<K>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    /// What counts this watch's failures.
    pub(super) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Begins; it is tried again at least every `longest` as long as it fails.
    pub(super) fn begin(self, longest: Duration) -> RunningWatch<K> {
        RunningWatch {
            events: self.list(),
            pauses: backoff(longest),
            not_before: Instant::now(),
            from: self,
            longest,
        }
    }

    fn list(&self) -> BoxStream<'static, Result<Event<K>, Error>> {
        let (client, api) = (self.client.clone(), self.api.clone());
        let events = list_and_watch(client, api, self.selection.clone());
        self.metrics.count_failures(self.kind, events).boxed()
    }
}

impl<K> RunningWatch<K>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    /// The next event or failure.
    pub(super) async fn next(&mut self) -> Result<Event<K>, Error> {
        loop {
            let next = async {
                tokio::time::sleep_until(self.not_before).await;
                self.events.next().await
            };
            tokio::select! {
                // The sender lives as long as this one's own client.
                Ok(()) = self.from.rolled_back.changed() => self.events = self.from.list(),
                () = self.from.relist.notified() => self.events = self.from.list(),
                Some(event) = next => {
                    // Nothing is asked for between this event and the next one.
                    let before_list = self.from.before_list.as_ref();
                    let before_list = before_list.filter(|_| matches!(event, Ok(Event::Init)));
                    if let Some(before_list) = before_list.map(|begin| begin()) {
                        before_list.await;
                    }
                    if let Err(error) = &event {
                        let pause = self.pauses.next().unwrap_or(self.longest);
                        self.not_before = Instant::now() + pause;
                        if is_out_of_date(error) {
                            self.events = self.from.list();
                        }
                    }
                    return event;
                }
            }
        }
    }
}

/// Whether the API server refuses to begin a watch where the last one has ended, because it knows that state no more or not yet:
/// <https://kubernetes.io/docs/reference/using-api/api-concepts/#410-gone-responses>. The watcher would ask the same for ever.
fn is_out_of_date(error: &Error) -> bool {
    let Error::WatchStartFailed(kube::Error::Api(status)) = error else {
        return false;
    };
    let causes = status.details.iter().flat_map(|details| &details.causes);
    let mut reasons = causes.map(|cause| cause.reason.as_str());
    status.code == 410 || reasons.any(|reason| reason == "ResourceVersionTooLarge")
}

/// The pauses between attempts: short enough to be current seconds after an API server came back, and jittered, so that all watches of
/// all replicas do not come back at once.
fn backoff(longest: Duration) -> ResetTimerBackoff<ExponentialBackoff> {
    let pauses = backon::ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(200))
        // As much again may come on top.
        .with_max_delay(longest / 2)
        .with_factor(2.0)
        .with_jitter()
        .without_max_times();
    ResetTimerBackoff::new(pauses.into(), Duration::from_mins(1))
}
