//! The steps of an image: which Registry serves it, the login on its registry, its manifest.

use std::collections::BTreeSet;

use super::context::CheckContext;
use super::login::{Logins, find_login, open_client, provider_of, try_login};
use super::push::{self, PushTarget};
use super::report::{CheckReport, StepResult, SubjectKind};
use super::{advice, ids, selection};
use crate::credential::login_check::{LoginId, MAX_PATHS, host_of, path_of};
use crate::credential::static_login::Login;
use crate::image::Reference;
use crate::registry::{Host, Resolved, ValidRegistry};

/// The steps after it is known who serves the image.
const AFTER_SERVED: [&str; 2] = ["login", "manifest"];

/// An image to try.
pub(super) struct CheckedImage<'s> {
    pub(super) text: &'s str,
    /// What it is read as; or why it cannot be read.
    reference: Result<Reference<'s>, String>,
    /// Who serves it; or why nobody does.
    resolved: Result<Resolved<'s>, StepResult>,
    /// The Registries for builders that cover it, where pushing is tried.
    pushes: Vec<PushTarget<'s>>,
}

impl CheckedImage<'_> {
    /// Whether this credential of this Registry is for it.
    pub(super) fn needs(&self, registry: &str, place: usize) -> bool {
        let resolved = self.resolved.as_ref();
        let mut pushes = self.pushes.iter();
        resolved
            .is_ok_and(|resolved| &*resolved.registry.name == registry && resolved.grant == place)
            || pushes.any(|push| &*push.registry.name == registry && push.place == place)
    }

    /// Whether a Registry serves it.
    pub(super) fn is_served(&self) -> bool {
        self.resolved.is_ok()
    }
}

/// Reads the images, and finds who serves them.
pub(super) fn read<'s>(context: &'s CheckContext<'_>) -> Vec<CheckedImage<'s>> {
    let read = |text: &'s String| {
        let reference = Reference::parse(text).map_err(str::to_owned);
        let covering = reference.as_ref().ok();
        let covering = covering.filter(|_| context.args.push);
        let pushes = covering.map_or_else(Vec::new, |one| push::find_targets(context, one));
        let resolved = match &reference {
            Ok(reference) => resolve(context, text, reference, &pushes),
            Err(error) => Err(StepResult::failed(
                format!("the image cannot be read: {error}"),
                "correct it",
            )
            .id(ids::IMAGE_UNREADABLE)),
        };
        CheckedImage {
            text,
            reference,
            resolved,
            pushes,
        }
    };
    context.args.images.iter().map(read).collect()
}

fn resolve<'s>(
    context: &'s CheckContext<'_>,
    text: &str,
    reference: &Reference<'_>,
    pushes: &[PushTarget<'_>],
) -> Result<Resolved<'s>, StepResult> {
    let mut explanation = context.registries.explain(context.pod_subject(), reference);
    if let Some(resolved) = explanation.resolved.take() {
        return Ok(resolved);
    }
    let host = reference.host().to_ascii_lowercase();
    let result = selection::of_image(context, text, &explanation, Host::recognise(&host));
    let is_for_builders = result.is(ids::NO_PATTERN) || result.is(ids::PUSH_ONLY);
    Err(match pushes.first() {
        // They are what is tried.
        Some(push) if is_for_builders => StepResult::info(format!(
            "to no Pod: only Registry {}, with access Push, has a pattern for it",
            push.registry.name
        ))
        .id(ids::PUSH_ONLY),
        _ => result,
    })
}

/// Tries the images.
pub(super) async fn check(
    context: &CheckContext<'_>,
    images: &[CheckedImage<'_>],
    logins: &Logins,
    report: &mut CheckReport,
) -> anyhow::Result<()> {
    for image in images {
        report.begin(SubjectKind::Image, image.text);
        try_image(context, image, logins, report).await?;
        let Ok(reference) = &image.reference else {
            continue;
        };
        for push in &image.pushes {
            push::try_image(context, reference, push, logins, report).await?;
        }
        if context.args.push && image.pushes.is_empty() {
            report.note("push", push::none_covers())?;
        }
    }
    Ok(())
}

async fn try_image(
    context: &CheckContext<'_>,
    image: &CheckedImage<'_>,
    logins: &Logins,
    report: &mut CheckReport,
) -> anyhow::Result<()> {
    let (reference, resolved) = match (&image.reference, &image.resolved) {
        (Ok(reference), Ok(resolved)) => (reference, resolved),
        (_, Err(result)) => {
            report.note("served", result.clone())?;
            return report.skip(&AFTER_SERVED, "no Registry serves it");
        }
        // What cannot be read, nobody serves.
        (Err(_), Ok(_)) => return Ok(()),
    };
    let registry = resolved.registry;
    let served = format!("by Registry {} as {}", registry.name, resolved.key);
    report.note("served", StepResult::ok(served))?;
    let held = logins.get(&(registry.name.to_string(), resolved.grant));
    let Some(login) = held.and_then(|held| find_login(held, reference, &resolved.key)) else {
        return report.skip(&AFTER_SERVED, "there is no login for it");
    };
    let domain = reference.domain();
    let provider = provider_of(&registry.sources[resolved.grant].0);
    let client = open_client(context, domain, login, provider);
    report.start();
    let place = (domain, &BTreeSet::from([reference.path().to_owned()]));
    if !try_login(context, &client, place, login, provider, report).await? {
        return report.skip(&["manifest"], "the login is not taken");
    }
    let wanted = reference.digest().or(reference.tag()).unwrap_or("latest");
    let result = match client.manifest(reference.path(), wanted).await {
        Ok(manifest) => {
            let digest = manifest.digest.as_deref();
            StepResult::ok(digest.unwrap_or("there, of an unknown digest"))
        }
        Err(error) => advice::of_registry_client(&error, provider),
    };
    report.add("manifest", result)
}

/// The login on each host of a Registry; answers those that took it.
pub(super) async fn try_hosts(
    context: &CheckContext<'_>,
    registry: &ValidRegistry,
    logins: &Logins,
    report: &mut CheckReport,
) -> anyhow::Result<Vec<String>> {
    let (mut tried, mut taken) = (BTreeSet::new(), Vec::new());
    for (place, (source, _)) in registry.sources.iter().enumerate() {
        let held = logins.get(&(registry.name.to_string(), place));
        for (id, login, paths) in plan_tries(held.map_or(&[], Vec::as_slice)) {
            let domain = host_of(&login.key);
            if !tried.insert(id) {
                continue;
            }
            if domain.contains('*') {
                let message = format!("not tried: {domain} is no host, name an image");
                let result = StepResult::skipped(message).id(ids::HOST_PATTERN);
                report.note("login", result)?;
                continue;
            }
            let provider = provider_of(source);
            let client = open_client(context, domain, login, provider);
            let place = (domain, &paths);
            if try_login(context, &client, place, login, provider, report).await? {
                taken.push(domain.to_owned());
            }
        }
    }
    Ok(taken)
}

/// Each login of a credential once for each host, with a few of the repositories that it is for.
fn plan_tries(held: &[Login]) -> Vec<(LoginId, &Login, BTreeSet<String>)> {
    let mut tries: Vec<(LoginId, &Login, BTreeSet<String>)> = Vec::new();
    for login in held {
        let id = LoginId::of(host_of(&login.key), &login.username, &login.password);
        let known = tries.iter().position(|(known, ..)| *known == id);
        let place = known.unwrap_or_else(|| {
            tries.push((id, login, BTreeSet::new()));
            tries.len() - 1
        });
        let paths = &mut tries[place].2;
        if paths.len() < MAX_PATHS {
            paths.extend(path_of(&login.key));
        }
    }
    tries
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plans_logins_of_one_user_with_several_passwords_each_at_its_own_repositories() {
        let login = |key: &str, username: &str, password: &str| Login {
            key: key.to_owned(),
            username: username.to_owned(),
            password: password.into(),
        };
        let held = [
            login("a.example/x", "robot", "one"),
            login("a.example/y", "robot", "two"),
            login("a.example/z", "robot", "one"),
            login("a.example/x", "other", "one"),
            login("b.example", "robot", "one"),
            login("a.example/v", "robot", "one"),
            login("a.example/w", "robot", "one"),
        ];
        let planned = plan_tries(&held);
        let planned: Vec<_> = planned
            .iter()
            .map(|(_, login, paths)| {
                let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
                (host_of(&login.key), login.username.as_str(), paths)
            })
            .collect();
        let expected = [
            ("a.example", "robot", vec!["v", "x", "z"]),
            ("a.example", "robot", vec!["y"]),
            ("a.example", "other", vec!["x"]),
            ("b.example", "robot", vec![]),
        ];
        assert_eq!(planned, expected);
    }
}
