//! The hops of an image: which Registry serves it, the login on its registry, its manifest.

use std::collections::BTreeSet;

use super::context::CheckContext;
use super::login::{Logins, find_login, open_client, provider_of, try_login};
use super::push::{self, PushTarget};
use super::report::{CheckReport, HopResult, SubjectKind};
use super::{advice, ids, selection};
use crate::credential::login_check::{MAX_PATHS, path_of};
use crate::credential::static_login::Login;
use crate::image::Reference;
use crate::registry::{Host, Resolved, ValidRegistry};

/// The hops after it is known who serves the image.
const AFTER_SERVED: [&str; 2] = ["login", "manifest"];

/// An image to try.
pub(super) struct CheckedImage<'s> {
    pub(super) text: &'s str,
    /// What it is read as; or why it cannot be read.
    reference: Result<Reference<'s>, String>,
    /// Who serves it; or why nobody does.
    resolved: Result<Resolved<'s>, HopResult>,
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
            Ok(reference) => resolve(context, reference, &pushes),
            Err(error) => Err(HopResult::failed(
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
    reference: &Reference<'_>,
    pushes: &[PushTarget<'_>],
) -> Result<Resolved<'s>, HopResult> {
    let mut explanation = context.registries.explain(context.pod_subject(), reference);
    if let Some(resolved) = explanation.resolved.take() {
        return Ok(resolved);
    }
    let host = reference.host().to_ascii_lowercase();
    let result = selection::of_image(context, &explanation, Host::recognise(&host));
    let is_for_builders = result.is(ids::NO_PATTERN) || result.is(ids::PUSH_ONLY);
    Err(match pushes.first() {
        // They are what is tried.
        Some(push) if is_for_builders => HopResult::skipped(format!(
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
    report.note("served", HopResult::ok(served))?;
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
            HopResult::ok(digest.unwrap_or("there, of an unknown digest"))
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
        for login in held.into_iter().flatten() {
            let domain = login.key.split('/').next().unwrap_or_default();
            if !tried.insert((domain, login.username.as_str())) {
                continue;
            }
            if domain.contains('*') {
                let message = format!("{domain} is no host: name an image to have it tried");
                let result = HopResult::skipped(message).id(ids::WILDCARD_HOST);
                report.note("login", result)?;
                continue;
            }
            let provider = provider_of(source);
            let client = open_client(context, domain, login, provider);
            let of_login = |one: &&Login| {
                let same_host = one.key.split('/').next() == Some(domain);
                same_host && one.username == login.username
            };
            let paths = held.into_iter().flatten().filter(of_login);
            let paths = paths.filter_map(|one| path_of(&one.key)).take(MAX_PATHS);
            let place = (domain, &paths.collect());
            if try_login(context, &client, place, login, provider, report).await? {
                taken.push(domain.to_owned());
            }
        }
    }
    Ok(taken)
}
