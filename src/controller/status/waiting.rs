//! Namespaces whose Pods wait for a login: people there may read no Registry, so an Event says it, and another one when it is back.
//!
//! It says which Registry and, in one word, why. What a cloud answered is for those who run pullpass, in the Registry's status.

use std::collections::BTreeMap;

use super::facts::Facts;
use super::secret;
use crate::cluster::{EventNote, EventType};
use crate::names::ObjectName;
use crate::provision::changes::PullSecretKey;
use crate::provision::login_outcomes::ReasonWord;
use crate::registry::{CredentialSource, RegistryInfo, ValidRegistry};

/// In how many namespaces it is said of one Registry, and of all of them.
const MAX_OF_REGISTRY: usize = 100;
/// See [`MAX_OF_REGISTRY`].
const MAX_OF_ALL: usize = 1000;

/// Why Pods wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct WaitCause {
    /// Who waits.
    users: &'static str,
    reason: ReasonWord,
    /// What people in the namespace can do; `None`: only those who run pullpass can do something.
    advice: Option<String>,
}

/// Why Pods wait, by pull secret.
pub(super) type WaitCauses = BTreeMap<PullSecretKey, WaitCause>;

/// The pull secrets in which a Registry's login is missing or refused, and it is known why.
pub(super) fn find(
    facts: &Facts<'_>,
    listed: &RegistryInfo,
    is_refused: bool,
    others: usize,
) -> WaitCauses {
    let (index, name) = (facts.input.index, &listed.name);
    let Some((counts, registry)) = index.registry(name).zip(facts.registries.get(name)) else {
        return WaitCauses::new();
    };
    let most = MAX_OF_REGISTRY.min(MAX_OF_ALL.saturating_sub(others));
    if is_refused {
        let refused = |secret: &str| WaitCause {
            users: registry.users(secret),
            reason: "LoginRefused".into(),
            advice: None,
        };
        let keys = index.keys_of_registry(counts).take(most);
        return keys.map(|key| (key.clone(), refused(&key.1))).collect();
    }
    let lacking = counts.lacking.iter().take(most);
    lacking
        .filter_map(|key| Some((key.clone(), find_cause(facts, registry, key)?)))
        .collect()
}

fn find_cause(
    facts: &Facts<'_>,
    registry: &ValidRegistry,
    key: &PullSecretKey,
) -> Option<WaitCause> {
    let view = facts.input.index.get(key)?.view()?;
    let users = registry.users(&key.1);
    // With the last fixed login, Pods pull for as long as it works.
    if registry.has_static_login() && view.holds_any_of(&registry.name) {
        return None;
    }
    let entries = view.entries(facts.now);
    let mut missing =
        entries.filter(|one| *one.registry == registry.name && !one.entry_state.is_good());
    let failure = missing.find_map(|one| {
        let source = one.source?;
        Some((source, (facts.input.failure)(source)?))
    });
    if let Some((source, failure)) = failure {
        let reason = failure.reason;
        // Who is refused is their own ServiceAccount: what the cloud says of it is for them. What comes behind it is not theirs.
        let is_theirs = source.tenant().is_some() && !failure.is_for_admins;
        let advice = is_theirs.then_some(failure.message);
        return Some(WaitCause {
            users,
            reason,
            advice,
        });
    }
    let provisioner = facts.input.provisioner;
    let lack = provisioner.find_lack(view, &registry.name, facts.now)?;
    // Their own ServiceAccount is theirs to correct.
    let is_own = |(source, _): &(CredentialSource, Vec<String>)| match source {
        CredentialSource::Minted(source) => source.unbound().is_some(),
        CredentialSource::Static(_) => false,
    };
    let advice = registry.sources.iter().any(is_own).then_some(lack.message);
    Some(WaitCause {
        users,
        reason: lack.reason.into(),
        advice,
    })
}

/// That Pods wait.
pub(super) fn describe(
    (namespace, name): &PullSecretKey,
    registry: &str,
    cause: &WaitCause,
) -> EventNote {
    let WaitCause {
        users,
        reason,
        advice,
    } = cause;
    let note = match advice {
        Some(advice) => format!("{users} here get no login of Registry {registry}: {advice}"),
        None => format!(
            "{users} here get no login of Registry {registry} ({reason}): ask who runs pullpass, the Registry's status says why"
        ),
    };
    EventNote {
        regarding: secret(namespace, name),
        event_type: EventType::Warning,
        reason: reason.clone(),
        series: Some(registry.to_owned()),
        action: "Provision",
        note,
    }
}

/// Those that wait, and those that did before and lack the login still, or hold one that `is_untried`, though nothing speaks against it
/// any more.
pub(super) fn keep_lacking(
    facts: &Facts<'_>,
    (registry, is_untried): (&ObjectName, bool),
    before: &WaitCauses,
    mut now_waiting: WaitCauses,
) -> WaitCauses {
    let Some(counts) = facts.input.index.registry(registry) else {
        return now_waiting;
    };
    let lacking = before
        .iter()
        .filter(|(key, _)| is_untried || counts.lacking.contains(*key));
    for (key, cause) in lacking {
        let known = now_waiting.entry(key.clone());
        known.or_insert_with(|| cause.clone());
    }
    now_waiting
}

/// That those wait no more which did and hold a good login now; nothing of those that are not served any more.
pub(super) fn describe_ended<'w>(
    facts: &'w Facts<'_>,
    registry: &'w ObjectName,
    before: &'w WaitCauses,
    now_waiting: &'w WaitCauses,
) -> impl Iterator<Item = EventNote> + 'w {
    let is_good = move |(key, _): &(&PullSecretKey, &WaitCause)| {
        let record = facts.input.index.get(key);
        let mut entries = record
            .and_then(|record| record.view())
            .into_iter()
            .flat_map(|view| view.entries(facts.now))
            .filter(|one| one.registry == registry)
            .peekable();
        entries.peek().is_some() && entries.all(|one| one.entry_state.is_good())
    };
    let ended = before
        .iter()
        .filter(move |(key, _)| !now_waiting.contains_key(*key));
    ended
        .filter(is_good)
        .map(move |((namespace, name), cause)| EventNote {
            regarding: secret(namespace, name),
            event_type: EventType::Normal,
            reason: "LoginAvailable".into(),
            series: Some(registry.to_string()),
            action: "Provision",
            note: format!(
                "{} here get the login of Registry {registry} again",
                cause.users
            ),
        })
}
