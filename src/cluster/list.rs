//! A list that is read one item at a time out of the stream of the answer, so that no page of it is in memory at once, however large its
//! objects are.

mod page_size;
mod splitter;

use std::io;
use std::pin::Pin;

use futures::io::{AsyncBufRead, AsyncBufReadExt as _};
use kube::Client;
use kube::api::{ListParams, Request};
use serde::Deserialize;
use serde::de::DeserializeOwned;

pub(super) use self::page_size::PageSize;
use self::splitter::{ListSplitter, Split, SplitError};

/// One page of a list.
pub(super) struct ListReader {
    body: Pin<Box<dyn AsyncBufRead + Send>>,
    splitter: ListSplitter,
    bytes: u64,
}

/// What a page says of the list.
/// <https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/list-meta/>
#[derive(Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub(super) struct ListMeta {
    #[serde(default, rename = "continue")]
    next: Option<String>,
    #[serde(default)]
    resource_version: Option<String>,
}

#[derive(Deserialize)]
struct ListFrame {
    #[serde(default)]
    metadata: ListMeta,
}

impl ListMeta {
    /// What the next page is asked for with; `None`: this is the last.
    pub(super) fn next(&self) -> Option<&str> {
        self.next.as_deref().filter(|next| !next.is_empty())
    }

    /// The state of the cluster that the list shows.
    pub(super) fn resource_version(&self) -> Option<&str> {
        let version = self.resource_version.as_deref();
        version.filter(|version| !version.is_empty())
    }
}

impl ListReader {
    /// Asks for the page that `parameters` say of the objects below `path`.
    ///
    /// # Errors
    /// The API server cannot be reached or refuses.
    pub(super) async fn open(
        client: &Client,
        path: &str,
        parameters: &ListParams,
    ) -> kube::Result<Self> {
        Self::read(client, Request::new(path).list(parameters)).await
    }

    /// The same of their metadata alone: the rest is not sent.
    ///
    /// # Errors
    /// As [`ListReader::open`].
    pub(super) async fn open_metadata(
        client: &Client,
        path: &str,
        parameters: &ListParams,
    ) -> kube::Result<Self> {
        Self::read(client, Request::new(path).list_metadata(parameters)).await
    }

    async fn read(
        client: &Client,
        request: Result<hyper::Request<Vec<u8>>, kube::core::request::Error>,
    ) -> kube::Result<Self> {
        let request = request.map_err(kube::Error::BuildRequest)?;
        let body = client.request_stream(request).await?;
        Ok(Self {
            body: Box::pin(body),
            splitter: ListSplitter::default(),
            bytes: 0,
        })
    }

    /// The JSON of the next item; `None`: that was the last of the page.
    ///
    /// # Errors
    /// The connection ended, or what came is no list.
    pub(super) async fn next(&mut self) -> kube::Result<Option<&[u8]>> {
        loop {
            let chunk = self.body.fill_buf().await;
            let chunk = chunk.map_err(kube::Error::ReadEvents)?;
            if chunk.is_empty() {
                return Ok(None);
            }
            let (used, split) = self.splitter.push(chunk).map_err(unreadable)?;
            self.body.as_mut().consume(used);
            self.bytes += used as u64;
            if split == Split::Item {
                return Ok(Some(self.splitter.item()));
            }
        }
    }

    /// The next item, read as `T`.
    ///
    /// # Errors
    /// As [`ListReader::next`]; and it is no `T`.
    pub(super) async fn next_as<T: DeserializeOwned>(&mut self) -> kube::Result<Option<T>> {
        let item = self.next().await?;
        item.map(serde_json::from_slice)
            .transpose()
            .map_err(kube::Error::SerdeError)
    }

    /// How many bytes of the page were read.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What the page says of the list; to be asked after its last item.
    ///
    /// # Errors
    /// The answer ended before the list did, or was none.
    pub(super) fn finish(self) -> kube::Result<ListMeta> {
        let frame = self.splitter.finish().map_err(unreadable)?;
        let frame: ListFrame = serde_json::from_slice(&frame).map_err(kube::Error::SerdeError)?;
        Ok(frame.metadata)
    }
}

fn unreadable(error: SplitError) -> kube::Error {
    kube::Error::ReadEvents(io::Error::new(io::ErrorKind::InvalidData, error))
}
