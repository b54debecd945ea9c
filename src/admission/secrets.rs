//! The pull secrets that a Pod is to reference: which of them it may, and whether they are there.

use std::borrow::Cow;
use std::sync::Arc;

use futures::future::join_all;
use jiff::Timestamp;
use tokio::time::Instant;

use super::plan::{self, Injection, Skip};
use super::review::PodObject;
use crate::names::ObjectName;
use crate::provision::{Coverage, EnsureOutcome, Namespace, Pending, Provision, SecretRead};

/// One review, as far as the pull secrets are concerned.
pub(super) struct SecretsReview<'a> {
    pub(super) provision: &'a dyn Provision,
    pub(super) namespace: &'a Arc<Namespace>,
    pub(super) dry_run: bool,
    pub(super) now: Timestamp,
    pub(super) deadline: Instant,
}

/// What came of a Pod's pull secrets.
#[derive(Debug, Default)]
pub(super) struct SecretsResult {
    /// Whether any of them had to be worked for.
    pub(super) cold: bool,
    /// Why something is not there yet, in one word; `None`: all of it is there.
    pub(super) pending: Option<&'static str>,
    /// The secrets of which nobody knows yet whether they are there and ours.
    pub(super) unread: Vec<String>,
    /// Why the last secret that is left out is.
    pub(super) left_out: Option<Skip>,
    /// What the user should know.
    pub(super) warnings: Vec<String>,
    /// What the log says of what is pending: all of it.
    pub(super) details: Vec<String>,
}

impl SecretsReview<'_> {
    /// Leaves out the secrets whose reference the API server would refuse.
    pub(super) async fn screen(
        &self,
        pod: &PodObject<'_>,
        injection: &mut Injection<'_>,
        result: &mut SecretsResult,
    ) {
        let Some(spec) = pod.spec.value() else { return };
        let (namespace, account) = (&self.namespace.name, spec.service_account());
        let names = std::mem::take(&mut injection.additions.pull_secrets);
        // The other half is for minting.
        let now = Instant::now();
        let half = now + self.deadline.saturating_duration_since(now) / 2;
        for name in names {
            // A Pod that has the reference already is not asked about.
            let has_it = spec
                .pull_secrets()
                .iter()
                .any(|present| **present == **name);
            let asked = self.provision.may_reference(namespace, account, name);
            if has_it || tokio::time::timeout_at(half, asked).await.unwrap_or(true) {
                injection.additions.pull_secrets.push(name);
            } else {
                result.left_out = Some(Skip::MountableSecrets);
                result.warnings.push(plan::mountable_secrets_warning(name));
            }
        }
    }

    /// Makes sure of the secrets, and leaves out those that are not ours.
    pub(super) async fn ensure(&self, injection: &mut Injection<'_>, result: &mut SecretsResult) {
        let names = std::mem::take(&mut injection.additions.pull_secrets);
        let needed = |name: &ObjectName| -> Vec<&str> {
            let resolved = injection.resolved.iter();
            let mine = resolved.filter(|resolved| resolved.registry.secret.as_ref() == Some(name));
            mine.map(|resolved| resolved.key.as_ref()).collect()
        };
        let needs: Vec<(&ObjectName, Vec<&str>)> =
            names.iter().map(|name| (*name, needed(name))).collect();
        let outcomes = join_all(needs.iter().map(|(name, keys)| self.ensure_one(name, keys))).await;
        for (name, ensured) in names.into_iter().zip(outcomes) {
            result.cold |= ensured.is_cold;
            if !ensured.is_known {
                result.unread.push(name.to_string());
            }
            match ensured.outcome {
                EnsureOutcome::Covered => {}
                EnsureOutcome::Foreign => {
                    result.left_out = Some(Skip::SecretNotManaged);
                    let warning = plan::not_managed_warning(&self.namespace.name, name);
                    result.warnings.push(warning);
                    continue;
                }
                EnsureOutcome::Pending(pending) => {
                    let unknown = if self.dry_run { "DryRun" } else { "" };
                    let reason = pending.first().map_or(unknown, |first| first.reason);
                    result.pending.get_or_insert(reason);
                    result.details.extend(pending.iter().map(describe_in_full));
                    result.warnings.extend(pending.iter().map(describe));
                }
            }
            injection.additions.pull_secrets.push(name);
        }
    }

    async fn ensure_one(&self, secret: &ObjectName, keys: &[&str]) -> EnsuredSecret {
        let covers = || {
            let (namespace, now) = (self.namespace, self.now);
            self.provision
                .covers(namespace, secret, keys, now, self.dry_run)
        };
        let mut found = covers();
        let mut ensured = EnsuredSecret {
            outcome: EnsureOutcome::Covered,
            is_cold: false,
            is_known: true,
        };
        // What is worked for finds out by itself whose the Secret is.
        let is_only_looked_up = keys.is_empty() || self.dry_run && found == Coverage::Missing;
        if is_only_looked_up && found != Coverage::Foreign {
            let read = self
                .provision
                .read_if_unlisted(&self.namespace.name, secret);
            let read = tokio::time::timeout_at(self.deadline, read).await;
            let known = read.unwrap_or(SecretRead::Failed);
            ensured.is_known = known != SecretRead::Failed;
            if known == SecretRead::Done {
                found = covers();
            }
        }
        ensured.outcome = match found {
            Coverage::Covered => EnsureOutcome::Covered,
            Coverage::Foreign => EnsureOutcome::Foreign,
            Coverage::Missing if self.dry_run || keys.is_empty() => {
                let (namespace, now) = (self.namespace, self.now);
                let lacks = self.provision.find_lacks(namespace, secret, keys, now);
                EnsureOutcome::Pending(lacks)
            }
            Coverage::Missing => {
                ensured.is_cold = true;
                let (namespace, deadline) = (self.namespace, self.deadline);
                let result = self.provision.ensure(namespace, secret, keys, deadline);
                result.await
            }
        };
        ensured
    }
}

/// What came of one pull secret.
struct EnsuredSecret {
    outcome: EnsureOutcome,
    /// Whether it had to be worked for.
    is_cold: bool,
    /// Whether it is known if it is there.
    is_known: bool,
}

/// For whoever creates the Pod, who may read no Registry: what is of those who run pullpass is for them.
fn describe(pending: &Pending) -> String {
    match &pending.registry {
        Some(registry) if pending.is_for_admins => format!(
            "pullpass: Registry {registry} has no login yet ({}), so that its images cannot be pulled: if it stays so, ask who runs pullpass, the Registry's status says why",
            pending.reason
        ),
        _ => describe_in_full(pending),
    }
}

fn describe_in_full(pending: &Pending) -> String {
    let registry = pending.registry.as_ref().map_or(Cow::Borrowed(""), |name| {
        Cow::Owned(format!("Registry {name}: "))
    });
    format!("pullpass: {registry}{}", pending.message)
}
