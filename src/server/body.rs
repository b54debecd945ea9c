//! A request body with a limit and a deadline.

use std::error::Error;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Bytes;
use http_body_util::Limited;
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep};

/// A body that ends with an error when it is longer than the limit ([`http_body_util::LengthLimitError`]) or not there in time
/// ([`io::ErrorKind::TimedOut`]). The timer is made only for a body that has to be waited for.
pub(super) struct Bounded<B> {
    inner: Limited<B>,
    deadline: Instant,
    timer: Option<Pin<Box<Sleep>>>,
}

impl<B> Bounded<B> {
    pub(super) fn new(inner: B, limit: usize, deadline: Instant) -> Self {
        Self {
            inner: Limited::new(inner, limit),
            deadline,
            timer: None,
        }
    }
}

impl<B> Body for Bounded<B>
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
