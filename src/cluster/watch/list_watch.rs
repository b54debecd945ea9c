//! A list, then a watch from where it ended, for ever: as kube's watcher does it, but that a list is read an object at a time.
//!
//! Each failure is an event, too, after which the list begins anew or the watch goes on; who reads the events makes the pauses.
//! <https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes>

use std::fmt::Debug;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::{self, BoxStream, Stream};
use kube::api::{Api, ListParams, WatchEvent, WatchParams};
use kube::runtime::watcher::{Error, Event};
use kube::{Client, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;

use crate::cluster::list::{ListMeta, ListReader, PageSize};

/// How long one watch request lasts, in seconds. A connection that silently went away is noticed 5 s later at the latest; going on
/// from a bookmark costs next to nothing.
const WATCH_SECONDS: u32 = 50;

/// How much longer nothing may come of a watch before its connection counts as gone.
const WATCH_MARGIN: Duration = Duration::from_secs(5);

/// What is listed and watched.
#[derive(Clone, Debug, Default)]
pub(super) struct Selection {
    labels: Option<String>,
    fields: Option<String>,
}

impl Selection {
    /// Those with these labels.
    pub(super) fn of_labels(selector: String) -> Self {
        Self {
            labels: Some(selector),
            fields: None,
        }
    }

    /// Those with these fields.
    pub(super) fn of_fields(selector: String) -> Self {
        Self {
            labels: None,
            fields: Some(selector),
        }
    }

    fn list(&self, next: Option<String>, page: PageSize) -> ListParams {
        ListParams {
            label_selector: self.labels.clone(),
            field_selector: self.fields.clone(),
            limit: Some(page.limit()),
            continue_token: next,
            ..ListParams::default()
        }
    }

    fn watch(&self) -> WatchParams {
        WatchParams {
            label_selector: self.labels.clone(),
            field_selector: self.fields.clone(),
            timeout: Some(WATCH_SECONDS),
            bookmarks: true,
            send_initial_events: false,
        }
    }
}

/// The events of what `selection` selects of `api`.
pub(super) fn list_and_watch<K>(
    client: Client,
    api: Api<K>,
    selection: Selection,
) -> impl Stream<Item = Result<Event<K>, Error>> + Send
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let machine = ListWatch {
        client,
        api,
        selection,
        page: PageSize::default(),
        state: ListWatchState::Empty,
    };
    stream::unfold(machine, |mut machine| async move {
        let event = machine.next().await;
        Some((event, machine))
    })
}

struct ListWatch<K> {
    client: Client,
    api: Api<K>,
    selection: Selection,
    /// Of the page that is read or asked for next.
    page: PageSize,
    state: ListWatchState<K>,
}

enum ListWatchState<K> {
    /// Nothing is known.
    Empty,
    /// A page is to be asked for.
    Listing { next: Option<String> },
    /// A page is being read.
    Reading(ListReader),
    /// All was listed, or a watch has ended.
    Listed { version: String },
    /// The watch is under way.
    Watching {
        version: String,
        events: BoxStream<'static, kube::Result<WatchEvent<K>>>,
    },
}

impl<K> ListWatch<K>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    async fn next(&mut self) -> Result<Event<K>, Error> {
        loop {
            // Whatever fails in a list, it begins anew.
            let event = match std::mem::replace(&mut self.state, ListWatchState::Empty) {
                ListWatchState::Empty => {
                    self.page = PageSize::default();
                    self.state = ListWatchState::Listing { next: None };
                    return Ok(Event::Init);
                }
                ListWatchState::Listing { next } => self.open(next).await?,
                ListWatchState::Reading(page) => self.read(page).await?,
                ListWatchState::Listed { version } => self.watch(version).await?,
                ListWatchState::Watching { version, events } => self.wait(version, events).await?,
            };
            if let Some(event) = event {
                return Ok(event);
            }
        }
    }

    async fn open(&mut self, next: Option<String>) -> Result<Option<Event<K>>, Error> {
        let parameters = self.selection.list(next, self.page);
        let page = ListReader::open(&self.client, self.api.resource_url(), &parameters).await;
        self.state = ListWatchState::Reading(page.map_err(Error::InitialListFailed)?);
        Ok(None)
    }

    async fn read(&mut self, mut page: ListReader) -> Result<Option<Event<K>>, Error> {
        let object = page.next_as().await.map_err(Error::InitialListFailed)?;
        if let Some(object) = object {
            self.state = ListWatchState::Reading(page);
            return Ok(Some(Event::InitApply(object)));
        }
        self.page = self.page.after(page.bytes());
        let list = page.finish().map_err(Error::InitialListFailed)?;
        self.finish(&list)
    }

    fn finish(&mut self, list: &ListMeta) -> Result<Option<Event<K>>, Error> {
        if let Some(next) = list.next() {
            let next = Some(next.to_owned());
            self.state = ListWatchState::Listing { next };
            return Ok(None);
        }
        let version = list.resource_version().ok_or(Error::NoResourceVersion)?;
        let version = version.to_owned();
        self.state = ListWatchState::Listed { version };
        Ok(Some(Event::InitDone))
    }

    async fn watch(&mut self, version: String) -> Result<Option<Event<K>>, Error> {
        match self.api.watch(&self.selection.watch(), &version).await {
            Ok(events) => {
                let events = events.boxed();
                self.state = ListWatchState::Watching { version, events };
                Ok(None)
            }
            Err(error) => {
                self.state = ListWatchState::Listed { version };
                Err(Error::WatchStartFailed(error))
            }
        }
    }

    async fn wait(
        &mut self,
        version: String,
        mut events: BoxStream<'static, kube::Result<WatchEvent<K>>>,
    ) -> Result<Option<Event<K>>, Error> {
        let longest = Duration::from_secs(WATCH_SECONDS.into()) + WATCH_MARGIN;
        let Ok(Some(event)) = tokio::time::timeout(longest, events.next()).await else {
            // It ended, or its connection is gone.
            self.state = ListWatchState::Listed { version };
            return Ok(None);
        };
        let (version, event) = match event {
            Ok(WatchEvent::Added(object) | WatchEvent::Modified(object)) => {
                (version_of(&object)?, Ok(Some(Event::Apply(object))))
            }
            Ok(WatchEvent::Deleted(object)) => {
                (version_of(&object)?, Ok(Some(Event::Delete(object))))
            }
            Ok(WatchEvent::Bookmark(bookmark)) => (bookmark.metadata.resource_version, Ok(None)),
            // What came since is forgotten there: only a list knows it.
            Ok(WatchEvent::Error(status)) if status.code == 410 => {
                return Err(Error::WatchError(status.boxed()));
            }
            Ok(WatchEvent::Error(status)) => (version, Err(Error::WatchError(status.boxed()))),
            Err(error) => (version, Err(Error::WatchFailed(error))),
        };
        self.state = ListWatchState::Watching { version, events };
        event
    }
}

fn version_of<K: Resource>(object: &K) -> Result<String, Error> {
    let version = object.resource_version();
    let version = version.filter(|version| !version.is_empty());
    version.ok_or(Error::NoResourceVersion)
}
