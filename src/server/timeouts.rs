//! A stream that runs out of patience: deadlines for a request's header, between requests, and for writes.
//!
//! hyper's own header time-out starts when a connection becomes idle, so one value would have to be short (against callers that
//! send a header byte by byte) and longer than the caller keeps idle connections. Here the header's time starts with its first
//! byte. No timer is touched while requests come in whole.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tokio::time::{Instant, Sleep};

use super::Bounds;

/// What the service reports to the stream of its connection.
#[derive(Debug, Default)]
pub(super) struct ConnectionActivity {
    started: AtomicUsize,
    ended: AtomicUsize,
    /// Counts up with whatever happens on any connection of the listener.
    ticks: Arc<AtomicU64>,
    /// What it counted when this connection was opened, or a request on it ended.
    last_tick: AtomicU64,
    closed_idle: Notify,
}

impl ConnectionActivity {
    /// One that takes its turns from this counter.
    pub(super) fn counting(ticks: Arc<AtomicU64>) -> Self {
        let last_tick = ticks.fetch_add(1, Ordering::Relaxed);
        Self {
            ticks,
            last_tick: last_tick.into(),
            ..Self::default()
        }
    }

    /// A request's header is complete.
    pub(super) fn start(&self) {
        self.started.fetch_add(1, Ordering::Relaxed);
    }

    /// An answer is ready, or given up.
    pub(super) fn end(&self) {
        let last_tick = self.ticks.fetch_add(1, Ordering::Relaxed);
        self.last_tick.store(last_tick, Ordering::Relaxed);
        self.ended.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether no request is being answered.
    pub(super) fn is_idle(&self) -> bool {
        self.started() == self.ended()
    }

    /// The lower, the longer ago something ended here.
    pub(super) fn last_tick(&self) -> u64 {
        self.last_tick.load(Ordering::Relaxed)
    }

    /// Closes the connection to make place, if it is still idle.
    pub(super) fn close_idle(&self) {
        self.closed_idle.notify_one();
    }

    /// Ends when the connection is to make place for another one.
    pub(super) async fn closed_idle(&self) {
        loop {
            self.closed_idle.notified().await;
            if self.is_idle() {
                return;
            }
        }
    }

    fn ended(&self) -> usize {
        self.ended.load(Ordering::Relaxed)
    }

    fn started(&self) -> usize {
        self.started.load(Ordering::Relaxed)
    }
}

/// A stream with [`Bounds`].
pub(super) struct TimeoutStream<S> {
    inner: S,
    bounds: Bounds,
    activity: Arc<ConnectionActivity>,
    /// Requests started when the times below were set.
    observed: usize,
    /// When this stream was last known to be between requests.
    idle_since: Instant,
    /// When the first byte of an unfinished header came.
    header_since: Option<Instant>,
    /// Since when no byte could be written.
    stalled_since: Option<Instant>,
    timer: Pin<Box<Sleep>>,
}

impl<S> TimeoutStream<S> {
    pub(super) fn new(inner: S, bounds: Bounds, activity: Arc<ConnectionActivity>) -> Self {
        let now = Instant::now();
        Self {
            inner,
            bounds,
            activity,
            observed: 0,
            idle_since: now,
            header_since: None,
            stalled_since: None,
            timer: Box::pin(tokio::time::sleep_until(now + bounds.first_request)),
        }
    }

    /// Forgets the header that has become a request since.
    fn refresh(&mut self) {
        let started = self.activity.started();
        if started != self.observed {
            self.observed = started;
            self.header_since = None;
            self.idle_since = Instant::now();
        }
    }

    /// Until when this stream may wait for bytes; `None` while a request is being answered, which has its own deadline.
    fn read_deadline(&mut self) -> Option<Instant> {
        self.refresh();
        if self.observed != self.activity.ended() {
            self.idle_since = Instant::now();
            return None;
        }
        let waiting = if self.observed == 0 {
            self.bounds.first_request
        } else {
            self.bounds.idle
        };
        Some(
            self.header_since
                .map_or(self.idle_since + waiting, |since| {
                    since + self.bounds.header
                }),
        )
    }

    /// Ready when the deadline has passed; else this task is woken by then.
    fn poll_deadline(&mut self, context: &mut Context<'_>, deadline: Instant) -> Poll<io::Error> {
        loop {
            if self.timer.deadline() > deadline || self.timer.is_elapsed() {
                self.timer.as_mut().reset(deadline);
            }
            if self.timer.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
            if Instant::now() >= deadline {
                return Poll::Ready(io::ErrorKind::TimedOut.into());
            }
        }
    }

    /// Passes on what a write came to, and keeps the time of one that makes no progress.
    fn poll_stall<T>(
        &mut self,
        context: &mut Context<'_>,
        result: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if result.is_ready() {
            self.stalled_since = None;
            return result;
        }
        let since = *self.stalled_since.get_or_insert_with(Instant::now);
        self.poll_deadline(context, since + self.bounds.write)
            .map(Err)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for TimeoutStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        if let Poll::Ready(result) = Pin::new(&mut self.inner).poll_read(context, buffer) {
            if buffer.filled().len() > before {
                self.refresh();
                if self.header_since.is_none() && self.observed == self.activity.ended() {
                    self.header_since = Some(Instant::now());
                }
            }
            return Poll::Ready(result);
        }
        let Some(deadline) = self.read_deadline() else {
            return Poll::Pending;
        };
        self.poll_deadline(context, deadline).map(Err)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for TimeoutStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.inner).poll_write(context, bytes);
        self.poll_stall(context, result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.inner).poll_write_vectored(context, slices);
        self.poll_stall(context, result)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.inner).poll_flush(context);
        self.poll_stall(context, result)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.inner).poll_shutdown(context);
        self.poll_stall(context, result)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

    use super::*;

    fn stream() -> (
        DuplexStream,
        TimeoutStream<DuplexStream>,
        Arc<ConnectionActivity>,
    ) {
        let (peer, inner) = duplex(64);
        let activity = Arc::<ConnectionActivity>::default();
        let stream = TimeoutStream::new(inner, Bounds::default(), Arc::clone(&activity));
        (peer, stream, activity)
    }

    /// Reads until something goes wrong, and says after how many seconds and what.
    async fn read_to_error(stream: &mut TimeoutStream<DuplexStream>) -> (u64, io::ErrorKind) {
        let begun = Instant::now();
        loop {
            match stream.read_u8().await {
                Ok(_) => {}
                Err(error) => return (begun.elapsed().as_secs(), error.kind()),
            }
        }
    }

    /// Sends a byte a second for ever.
    async fn drip(mut peer: DuplexStream) {
        while peer.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn ends_when_first_request_does_not_come() {
        let (_peer, mut stream, _) = stream();
        assert_eq!(
            read_to_error(&mut stream).await,
            (10, io::ErrorKind::TimedOut)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn ends_header_that_comes_byte_by_byte() {
        let (peer, mut stream, activity) = stream();
        tokio::spawn(drip(peer));
        assert_eq!(
            read_to_error(&mut stream).await,
            (5, io::ErrorKind::TimedOut)
        );
        let (peer, mut stream, _) = self::stream();
        stream.activity = activity;
        stream.activity.start();
        stream.activity.end();
        tokio::time::sleep(Duration::from_mins(1)).await;
        tokio::spawn(drip(peer));
        assert_eq!(
            read_to_error(&mut stream).await,
            (5, io::ErrorKind::TimedOut),
            "of a later request"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn keeps_idle_connection_for_two_minutes() {
        let (mut peer, mut stream, activity) = stream();
        peer.write_all(b"x").await.unwrap();
        stream.read_u8().await.unwrap();
        activity.start();
        activity.end();
        assert_eq!(
            read_to_error(&mut stream).await,
            (120, io::ErrorKind::TimedOut)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn waits_without_end_while_a_request_is_answered() {
        let (mut peer, mut stream, activity) = stream();
        activity.start();
        let answered = async {
            tokio::time::sleep(Duration::from_secs(1000)).await;
            activity.end();
            peer.write_all(b"x").await.unwrap();
        };
        let (read, ()) = tokio::join!(read_to_error(&mut stream), answered);
        assert_eq!(read, (1005, io::ErrorKind::TimedOut));
    }

    #[tokio::test(start_paused = true)]
    async fn ends_when_the_peer_takes_nothing() {
        let (_peer, mut stream, activity) = stream();
        activity.start();
        let begun = Instant::now();
        let error = stream.write_all(&[0; 1000]).await.unwrap_err();
        assert_eq!(
            (begun.elapsed().as_secs(), error.kind()),
            (10, io::ErrorKind::TimedOut)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn goes_on_while_the_peer_takes_something() {
        let (mut peer, mut stream, activity) = stream();
        activity.start();
        let slow = async {
            for _ in 0..20 {
                tokio::time::sleep(Duration::from_secs(9)).await;
                peer.read_exact(&mut [0; 50]).await.unwrap();
            }
        };
        let (written, ()) = tokio::join!(stream.write_all(&[0; 1000]), slow);
        written.unwrap();
    }
}
