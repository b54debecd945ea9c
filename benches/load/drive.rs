//! Driving a webhook.

use std::time::{Duration, Instant};

use futures::future::{join_all, try_join_all};

use crate::client::Target;

/// What a drive came to.
pub(crate) struct Load {
    /// From the first request to the last answer.
    pub(crate) wall: Duration,
    /// Of each answer, sorted.
    latencies: Vec<Duration>,
}

impl Load {
    fn new(wall: Duration, latencies: impl IntoIterator<Item = Duration>) -> Self {
        let mut latencies: Vec<Duration> = latencies.into_iter().collect();
        latencies.sort_unstable();
        Self { wall, latencies }
    }

    /// How many answers there were.
    pub(crate) fn answers(&self) -> u32 {
        u32::try_from(self.latencies.len()).unwrap_or(u32::MAX)
    }

    /// The latency that so many of a hundred answers did not exceed.
    pub(crate) fn percentile(&self, percent: usize) -> Duration {
        let rank = (self.latencies.len() * percent).div_ceil(100);
        self.latencies
            .get(rank.saturating_sub(1))
            .copied()
            .unwrap_or_default()
    }
}

/// Asks on so many connections, on each one request after the other, for a time and at least once.
pub(crate) async fn keep(
    target: &Target,
    expected: &[u8],
    connections: usize,
    duration: Duration,
) -> anyhow::Result<Load> {
    let connections = try_join_all((0..connections).map(|_| target.connect())).await?;
    let started = Instant::now();
    let end = started + duration;
    let asking = connections.into_iter().map(async |mut connection| {
        let mut latencies = Vec::new();
        let mut asked = Instant::now();
        loop {
            connection.expect(target, expected).await?;
            let answered = Instant::now();
            latencies.push(answered - asked);
            asked = answered;
            if answered >= end {
                return anyhow::Ok(latencies);
            }
        }
    });
    let latencies = try_join_all(asking).await?;
    Ok(Load::new(
        started.elapsed(),
        latencies.into_iter().flatten(),
    ))
}

/// Asks once on each of many new connections, all at the same time. The latencies hold the connection's handshakes.
pub(crate) async fn burst(
    target: &Target,
    expected: &[u8],
    creates: usize,
) -> (Load, Vec<anyhow::Error>) {
    let started = Instant::now();
    let asking = (0..creates).map(async |_| {
        target.connect().await?.expect(target, expected).await?;
        anyhow::Ok(started.elapsed())
    });
    let (answered, failed): (Vec<_>, Vec<_>) =
        join_all(asking).await.into_iter().partition(Result::is_ok);
    let load = Load::new(started.elapsed(), answered.into_iter().flatten());
    (load, failed.into_iter().filter_map(Result::err).collect())
}
