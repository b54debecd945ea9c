//! A request body with a limit, a deadline, and a share of what all requests may take.

use std::error::Error;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use axum::body::Bytes;
use http_body_util::Limited;
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep};

/// What the bodies of all requests take until they are answered, in bytes.
#[derive(Debug)]
pub(super) struct RequestBudget {
    taken: AtomicUsize,
    limit: usize,
}

impl RequestBudget {
    pub(super) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self {
            taken: AtomicUsize::new(0),
            limit,
        })
    }

    /// A share for one request, of nothing yet.
    pub(super) fn share(self: &Arc<Self>) -> Arc<RequestShare> {
        Arc::new(RequestShare {
            load: Arc::clone(self),
            taken: AtomicUsize::new(0),
        })
    }
}

/// What the body of one request takes. It is given back with the value.
#[derive(Debug)]
pub(super) struct RequestShare {
    load: Arc<RequestBudget>,
    taken: AtomicUsize,
}

impl RequestShare {
    /// Takes more; `false`: there is not so much left.
    fn take(&self, bytes: usize) -> bool {
        self.taken.fetch_add(bytes, Ordering::Relaxed);
        let taken = self.load.taken.fetch_add(bytes, Ordering::Relaxed) + bytes;
        taken <= self.load.limit
    }
}

impl Drop for RequestShare {
    fn drop(&mut self) {
        let taken = *self.taken.get_mut();
        self.load.taken.fetch_sub(taken, Ordering::Relaxed);
    }
}

/// A body that ends with an error when it is longer than the limit ([`http_body_util::LengthLimitError`]), not there in time
/// ([`io::ErrorKind::TimedOut`]), or when the bodies of all requests take too much ([`io::ErrorKind::QuotaExceeded`]). The timer is
/// made only for a body that has to be waited for.
pub(super) struct LimitedBody<B> {
    inner: Limited<B>,
    deadline: Instant,
    timer: Option<Pin<Box<Sleep>>>,
    share: Arc<RequestShare>,
}

impl<B> LimitedBody<B> {
    pub(super) fn new(inner: B, limit: usize, deadline: Instant, share: Arc<RequestShare>) -> Self {
        Self {
            inner: Limited::new(inner, limit),
            deadline,
            timer: None,
            share,
        }
    }
}

impl<B> Body for LimitedBody<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    type Data = Bytes;
    type Error = Box<dyn Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.inner).poll_frame(context) {
            let bytes = frame
                .as_ref()
                .and_then(|frame| frame.as_ref().ok()?.data_ref());
            if !self.share.take(bytes.map_or(0, Bytes::len)) {
                return Poll::Ready(Some(Err(
                    io::Error::from(io::ErrorKind::QuotaExceeded).into()
                )));
            }
            return Poll::Ready(frame);
        }
        let deadline = self.deadline;
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        timer
            .as_mut()
            .poll(context)
            .map(|()| Some(Err(io::Error::from(io::ErrorKind::TimedOut).into())))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
