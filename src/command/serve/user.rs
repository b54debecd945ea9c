//! Whether this process is who the cluster takes for pullpass: the rights are bound to one user, and policies let nobody else write what
//! pullpass writes.

use std::time::Duration;

use tokio::sync::watch;

use super::LOG_INTERVAL;
use crate::cluster::Kube;
use crate::log_throttle::LogThrottle;
use crate::names::NamespaceName;
use crate::provision::ports::ClusterError;
use crate::server::Drain;

/// How long to wait before the API server is asked again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The most that is shown of a user's name, in bytes.
const SHOWN: usize = 320;

/// What readiness waits for besides the watches: the user to be the expected one.
pub(super) const WAITING: &str = "user";

/// The user that the chart binds the rights to unless it is given another one.
pub(super) fn default_user(own_namespace: &NamespaceName) -> String {
    format!("system:serviceaccount:{own_namespace}:pullpass")
}

/// Becomes true through `confirmed` once the API server says that this process is `expected`. Until then the process is not ready, and says
/// why. Where the API server does not say who we are, which a cluster may forbid, nothing waits for it.
pub(super) async fn confirm(
    kube: Kube,
    expected: String,
    drain: Drain,
    confirmed: watch::Sender<bool>,
) {
    let lines = LogThrottle::new(1, LOG_INTERVAL);
    loop {
        let problem = match kube.fetch_user().await {
            Ok(user) if user.name == expected => {
                kube.bind_lease_to(&user);
                break;
            }
            Ok(user) => describe(&user.name, &expected),
            Err(error @ (ClusterError::Forbidden { .. } | ClusterError::NotFound { .. })) => {
                tracing::warn!("cannot find out which user this process is, going on: {error}");
                break;
            }
            Err(error) => format!("cannot find out which user this process is: {error}"),
        };
        if lines.admit(()).is_some() {
            tracing::warn!("not ready: {problem}");
        }
        drain.set_obstacle(WAITING, Some(problem));
        tokio::time::sleep(RETRY_AFTER).await;
    }
    drain.set_obstacle(WAITING, None);
    confirmed.send_replace(true);
}

fn describe(user: &str, expected: &str) -> String {
    format!(
        "this process is user {}, and pullpass is {} in this cluster: give it the credentials of that user, or name its own with --user and the chart's value user",
        shorten(user),
        shorten(expected)
    )
}

/// A name on one line, cut off where it is too long.
fn shorten(name: &str) -> String {
    name[..name.floor_char_boundary(SHOWN)]
        .escape_default()
        .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn describes_a_user_on_one_bounded_line() {
        let expected = default_user(&NamespaceName::constant("pullpass"));
        let told = describe("bed\nadmin", &expected);
        assert!(
            told.contains(
                "user bed\\nadmin, and pullpass is system:serviceaccount:pullpass:pullpass in"
            ),
            "{told}"
        );
        let told = describe(&"\u{e9}".repeat(100_000), &expected);
        assert!(told.len() < 2_000 && !told.contains('\n'), "{}", told.len());
    }
}
