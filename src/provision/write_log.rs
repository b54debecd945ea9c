//! What is logged of each write of a pull secret.

use super::write::{WriteOutcome, WriteResult};
use super::{Namespace, Pending};
use crate::log_throttle::{LogThrottle, MINUTE};
use crate::names::ObjectName;

/// How many writes that failed for the same reason are logged within a minute: where namespaces come and go, or a policy refuses them
/// all, there is one for each of them.
const FAILURES_PER_MINUTE: u32 = 20;

/// Logs how writes of pull secrets end.
pub(super) struct WriteLog {
    /// By the reason.
    failures: LogThrottle<&'static str>,
}

impl Default for WriteLog {
    fn default() -> Self {
        Self {
            failures: LogThrottle::new(FAILURES_PER_MINUTE, MINUTE),
        }
    }
}

impl WriteLog {
    /// Logs how a write of this pull secret ended.
    pub(super) fn log(
        &self,
        namespace: &Namespace,
        secret: &ObjectName,
        outcome: &Result<WriteOutcome, Pending>,
    ) {
        let name = namespace.name.as_str();
        match outcome.as_ref().map(|outcome| outcome.written) {
            Ok(WriteResult::Applied) => {
                tracing::info!(
                    namespace.name = name,
                    secret.name = secret.as_str(),
                    "wrote pull secret"
                );
            }
            Ok(WriteResult::Unchanged) => {
                tracing::debug!(
                    namespace.name = name,
                    secret.name = secret.as_str(),
                    "pull secret is up to date"
                );
            }
            Ok(WriteResult::Foreign) => {
                if let Some(suppressed) = self.failures.admit("SecretNotManaged") {
                    tracing::warn!(
                        namespace.name = name,
                        suppressed,
                        "secret {name}/{secret} is not managed by pullpass, not writing it: rename or delete it, pullpass then creates its own"
                    );
                }
            }
            Err(why) => self.warn(
                namespace,
                secret,
                why,
                "failed to write pull secret, retrying",
            ),
        }
        if let Ok(WriteOutcome {
            left_out: Some((_, why)),
            ..
        }) = outcome
        {
            self.warn(
                namespace,
                secret,
                why,
                "wrote pull secret, but not all logins fit",
            );
        }
    }

    fn warn(&self, namespace: &Namespace, secret: &ObjectName, why: &Pending, what: &str) {
        if let Some(suppressed) = self.failures.admit(why.reason) {
            tracing::warn!(
                namespace.name = namespace.name.as_str(),
                secret.name = secret.as_str(),
                reason = why.reason,
                suppressed,
                "{what}: {}",
                why.message
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log_throttle::count_lines;
    use crate::names::NamespaceName;
    use crate::registry::Labels;

    #[test]
    fn logs_so_many_failures_of_each_reason_however_many_namespaces_there_are() {
        let log = WriteLog::default();
        let secret = ObjectName::constant("pullpass");
        let write = |outcome: Result<WriteOutcome, Pending>| {
            count_lines(|| {
                for number in 0..500 {
                    let name = NamespaceName::parse(&format!("team-{number}")).unwrap();
                    log.log(
                        &Namespace::new(name, Labels::new(), false),
                        &secret,
                        &outcome,
                    );
                }
            })
        };
        let pending = |reason| Pending {
            is_for_admins: false,
            registry: None,
            reason,
            message: "no".to_owned(),
        };
        assert_eq!(write(Err(pending("NamespaceTerminating"))), 20);
        assert_eq!(write(Err(pending("NamespaceTerminating"))), 0);
        assert_eq!(write(Err(pending("Forbidden"))), 20, "another reason");
        assert_eq!(write(Ok(WriteResult::Foreign.into())), 20);
        let crowded = WriteOutcome {
            written: WriteResult::Applied,
            left_out: Some((std::collections::BTreeSet::new(), pending("SecretTooLarge"))),
        };
        assert_eq!(
            write(Ok(crowded)),
            500 + 20,
            "each write, and why it lacks something"
        );
    }
}
