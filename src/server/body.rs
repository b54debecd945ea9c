//! A request body with a limit, a deadline, and a share of what all requests may take.
//!
//! An ordinary body takes its share as it comes. A large one takes what it may come to before it is read, and waits a little for it:
//! several that are half read would have to go on without, or be given up with all that came.

use std::error::Error;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Bytes;
use futures::future::BoxFuture;
use http_body_util::{BodyExt as _, Limited};
use hyper::body::{Body, Frame, SizeHint};
use memmap2::MmapMut;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep};

use super::Bounds;

/// The part of the longest body that an ordinary one never exceeds: a longer one is large.
const ORDINARY_PART: usize = 64;

/// What the bodies of all requests take until they are answered, in bytes.
#[derive(Debug)]
pub(super) struct RequestBudget {
    taken: AtomicUsize,
    limit: usize,
    /// What large bodies have left: a permit for each byte.
    large: Arc<Semaphore>,
    large_wait: Duration,
}

impl RequestBudget {
    pub(super) fn new(bounds: &Bounds) -> Arc<Self> {
        let large = bounds.large_bodies_bytes.min(bounds.all_bodies_bytes);
        Arc::new(Self {
            taken: AtomicUsize::new(0),
            limit: bounds.all_bodies_bytes,
            large: Arc::new(Semaphore::new(large.min(Semaphore::MAX_PERMITS))),
            large_wait: bounds.large_body_wait,
        })
    }

    /// A share for one request, of nothing yet.
    pub(super) fn share(self: &Arc<Self>) -> Arc<RequestShare> {
        Arc::new(RequestShare {
            budget: Arc::clone(self),
            taken: AtomicUsize::new(0),
            place: OnceLock::new(),
        })
    }
}

/// What the body of one request takes. It is given back with the value.
#[derive(Debug)]
pub(super) struct RequestShare {
    budget: Arc<RequestBudget>,
    taken: AtomicUsize,
    place: OnceLock<OwnedSemaphorePermit>,
}

impl RequestShare {
    /// Takes more; `false`: there is not so much left.
    fn take(&self, bytes: usize) -> bool {
        self.taken.fetch_add(bytes, Ordering::Relaxed);
        let taken = self.budget.taken.fetch_add(bytes, Ordering::Relaxed) + bytes;
        taken <= self.budget.limit
    }

    /// Takes all that a large body may come to before any of it is read, after those that asked before; `false`: there was not so
    /// much left in time.
    async fn reserve(&self, bytes: usize) -> bool {
        let permits = u32::try_from(bytes).unwrap_or(u32::MAX);
        let place = Arc::clone(&self.budget.large).acquire_many_owned(permits);
        let Ok(Ok(place)) = tokio::time::timeout(self.budget.large_wait, place).await else {
            return false;
        };
        self.place.get_or_init(|| place);
        self.take(bytes)
    }
}

impl Drop for RequestShare {
    fn drop(&mut self) {
        let taken = *self.taken.get_mut();
        self.budget.taken.fetch_sub(taken, Ordering::Relaxed);
    }
}

/// A body that ends with an error when it is longer than the limit ([`http_body_util::LengthLimitError`]), not there in time
/// ([`io::ErrorKind::TimedOut`]), or when the bodies of all requests take too much ([`io::ErrorKind::QuotaExceeded`]). In the last
/// case the rest is read and dropped first: a caller that still writes would not see the answer.
pub(super) struct LimitedBody<B> {
    reader: Reader<B>,
    size: SizeHint,
}

enum Reader<B> {
    /// An ordinary body, in the parts in which it comes.
    Parts(Parts<B>),
    /// A large one, in one piece.
    Whole(BoxFuture<'static, Result<Bytes, BoxError>>),
    /// A large one that was handed on.
    Done,
}

type BoxError = Box<dyn Error + Send + Sync>;

impl<B> LimitedBody<B>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    /// A body that may have so many bytes, and has to be there by the deadline.
    pub(super) fn new(inner: B, limit: usize, deadline: Instant, share: Arc<RequestShare>) -> Self {
        let size = inner.size_hint();
        // One that does not say its length may have as much as any.
        let length = size.exact().map_or(limit, |length| {
            usize::try_from(length).unwrap_or(limit).min(limit)
        });
        let reader = if length <= limit / ORDINARY_PART {
            Reader::Parts(Parts {
                inner: Limited::new(inner, limit),
                deadline,
                timer: None,
                share,
                is_shed: false,
            })
        } else {
            let inner = Limited::new(inner, length);
            Reader::Whole(Box::pin(read_large(inner, length, deadline, share)))
        };
        Self { reader, size }
    }
}

impl<B> Body for LimitedBody<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut self.reader {
            Reader::Parts(parts) => parts.poll_frame(context),
            Reader::Whole(whole) => {
                let read = ready!(whole.as_mut().poll(context));
                self.reader = Reader::Done;
                Poll::Ready(Some(read.map(Frame::data)))
            }
            Reader::Done => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.reader {
            Reader::Parts(parts) => parts.inner.is_end_stream(),
            Reader::Whole(_) => false,
            Reader::Done => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.reader {
            Reader::Parts(parts) => parts.inner.size_hint(),
            Reader::Whole(_) => self.size,
            Reader::Done => SizeHint::with_exact(0),
        }
    }
}

/// An ordinary body. The timer is made only for one that has to be waited for.
struct Parts<B> {
    inner: Limited<B>,
    deadline: Instant,
    timer: Option<Pin<Box<Sleep>>>,
    share: Arc<RequestShare>,
    /// Whether there was no place for it, so that what comes is dropped.
    is_shed: bool,
}

impl<B> Parts<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    fn poll_frame(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        while let Poll::Ready(frame) = Pin::new(&mut self.inner).poll_frame(context) {
            let part = frame.as_ref().and_then(|frame| frame.as_ref().ok());
            let bytes = part.and_then(Frame::data_ref).map_or(0, Bytes::len);
            self.is_shed = self.is_shed || (bytes > 0 && !self.share.take(bytes));
            if !self.is_shed {
                return Poll::Ready(frame);
            }
            if part.is_none() {
                return Poll::Ready(Some(Err(no_place())));
            }
        }
        let deadline = self.deadline;
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        ready!(timer.as_mut().poll(context));
        let error = if self.is_shed {
            no_place()
        } else {
            timed_out()
        };
        Poll::Ready(Some(Err(error)))
    }
}

/// Reads a large body, once it has its place, into memory of its own. Parts that are kept until all are there, and then copied, would
/// take twice as much for a moment; and what an allocator gets back of such sizes it keeps, on each thread.
async fn read_large<B>(
    mut body: Limited<B>,
    length: usize,
    deadline: Instant,
    share: Arc<RequestShare>,
) -> Result<Bytes, BoxError>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    if !share.reserve(length).await {
        let dropped = async { while let Some(Ok(_)) = body.frame().await {} };
        let _ = tokio::time::timeout_at(deadline, dropped).await;
        return Err(no_place());
    }
    let mut memory = MmapMut::map_anon(length)?;
    let mut read = 0;
    let fill = async {
        while let Some(frame) = body.frame().await {
            let Ok(part) = frame?.into_data() else {
                continue; // trailers
            };
            let end = read + part.len();
            let place = memory.get_mut(read..end).ok_or_else(no_place)?;
            place.copy_from_slice(&part);
            read = end;
        }
        Ok::<(), BoxError>(())
    };
    tokio::time::timeout_at(deadline, fill)
        .await
        .map_err(|_| timed_out())??;
    Ok(Bytes::from_owner(memory).slice(..read))
}

fn no_place() -> BoxError {
    io::Error::from(io::ErrorKind::QuotaExceeded).into()
}

fn timed_out() -> BoxError {
    io::Error::from(io::ErrorKind::TimedOut).into()
}
