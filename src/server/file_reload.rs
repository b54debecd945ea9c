//! Files that are followed while serving.
//!
//! A mounted Secret changes by a swap of symbolic links, after which watches on the file itself see nothing any more. So files are
//! read again every few seconds and their content compared.

use std::fmt::Display;
use std::time::Duration;

use super::metrics::{Metrics, Reload};

/// How often files are checked.
pub(super) const POLL: Duration = Duration::from_secs(5);

/// What is loaded from files and taken into use again when they change. Clones are the same.
pub trait ReloadableFile: Clone + Send + 'static {
    /// Why what is there cannot be used.
    type Error: Display + Send + 'static;

    /// What is said when the files changed and cannot be used.
    const UNUSABLE: &'static str;

    /// The log message when they could not be read.
    const UNREADABLE: &'static str;

    /// Checks the files once, if there are any. `true`: their content changed, and is in use from now on.
    ///
    /// # Errors
    /// What is there cannot be used (a pair half written, for one): what was read before stays in use.
    fn reload(&self) -> Result<bool, Self::Error>;

    /// Says that it is.
    fn log_replaced(&self);

    /// Shows what is in use, before each check.
    fn show(&self, _: &Metrics) {}
}

/// Checks the files every few seconds, without end.
pub async fn follow_file<F: ReloadableFile>(followed: F, metrics: Metrics) {
    let mut said = String::new();
    loop {
        followed.show(&metrics);
        tokio::time::sleep(POLL).await;
        let looked = followed.clone();
        match tokio::task::spawn_blocking(move || looked.reload()).await {
            Ok(Ok(replaced)) => {
                said.clear();
                if replaced {
                    metrics.count_reload(Reload::Replaced);
                    followed.log_replaced();
                }
            }
            Ok(Err(error)) => {
                metrics.count_reload(Reload::Failed);
                let error = error.to_string();
                if error != said {
                    tracing::warn!(%error, "{}", F::UNUSABLE);
                    said = error;
                }
            }
            Err(error) => tracing::error!(%error, "{}", F::UNREADABLE),
        }
    }
}
