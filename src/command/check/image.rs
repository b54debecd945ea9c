//! The hops of an image: which Registry serves it, the login on its registry, its manifest.

use std::collections::BTreeSet;

use super::advice;
use super::cloud::Logins;
use super::report::{Kind, Report, Verdict};
use super::scene::Scene;
use crate::command::explain;
use crate::credential::fixed::Login;
use crate::credential::trial::{Entrance, Trial};
use crate::image::Reference;
use crate::registry::source::MintSource;
use crate::registry::{CredentialSource, Host, Pattern, Resolved, ServedRegistry};

/// The hops after it is known who serves the image.
const AFTER_SERVED: [&str; 2] = ["login", "manifest"];

/// An image to try.
pub(super) struct Image<'s> {
    pub(super) text: &'s str,
    /// What it is read as; or why it cannot be read.
    reference: Result<Reference<'s>, String>,
    /// Who serves it; or why nobody does.
    resolved: Result<Resolved<'s>, String>,
}

impl Image<'_> {
    /// Whether this credential of this Registry is for it.
    pub(super) fn needs(&self, registry: &str, place: usize) -> bool {
        let resolved = self.resolved.as_ref();
        resolved
            .is_ok_and(|resolved| &*resolved.registry.name == registry && resolved.grant == place)
    }

    /// Whether a Registry serves it.
    pub(super) fn is_served(&self) -> bool {
        self.resolved.is_ok()
    }
}

/// Reads the images, and finds who serves them.
pub(super) fn read<'s>(scene: &'s Scene<'_>) -> Vec<Image<'s>> {
    let read = |text: &'s String| {
        let reference = Reference::parse(text).map_err(|error| error.to_string());
        let resolved = match &reference {
            Ok(reference) => resolve(scene, reference),
            Err(_) => Err(String::new()),
        };
        Image {
            text,
            reference,
            resolved,
        }
    };
    scene.args.images.iter().map(read).collect()
}

fn resolve<'s>(scene: &'s Scene<'_>, reference: &Reference<'_>) -> Result<Resolved<'s>, String> {
    let explanation = scene.registries.explain(scene.puller(), reference);
    let host = reference.host().to_ascii_lowercase();
    let reason = explain::reason(&explanation, Host::recognise(&host));
    explanation.resolved.ok_or(reason)
}

/// Tries the images, or without any the logins on the hosts of the Registries.
pub(super) async fn check(
    scene: &Scene<'_>,
    images: &[Image<'_>],
    logins: &Logins,
    report: &mut Report,
) -> anyhow::Result<()> {
    for image in images {
        report.begin(Kind::Image, image.text);
        try_image(scene, image, logins, report).await?;
    }
    if images.is_empty() {
        for registry in scene
            .registries
            .iter()
            .filter(|registry| scene.concerns(registry))
        {
            report.begin(Kind::Registry, &registry.name);
            try_hosts(scene, registry, logins, report).await?;
        }
    }
    Ok(())
}

async fn try_image(
    scene: &Scene<'_>,
    image: &Image<'_>,
    logins: &Logins,
    report: &mut Report,
) -> anyhow::Result<()> {
    let (reference, resolved) = match find_served(image) {
        Ok(served) => served,
        Err(verdict) => {
            report.note("served", verdict)?;
            return report.skip(&AFTER_SERVED, "no Registry serves it");
        }
    };
    let registry = resolved.registry;
    let served = format!("by Registry {} as {}", registry.name, resolved.key);
    report.note("served", Verdict::ok(served))?;
    let held = logins.get(&(registry.name.to_string(), resolved.grant));
    let Some(login) = held.and_then(|held| find_login(held, reference, &resolved.key)) else {
        return report.skip(&AFTER_SERVED, "there is no login for it");
    };
    let domain = reference.domain();
    let trial = Trial::new(&scene.http, domain, &login.username, &login.password);
    let provider = provider_of(&registry.sources[resolved.grant].0);
    report.start();
    if !try_login(&trial, domain, login, provider, report).await? {
        return report.skip(&["manifest"], "the login is not taken");
    }
    let wanted = reference.digest().or(reference.tag()).unwrap_or("latest");
    let verdict = match trial.manifest(reference.path(), wanted).await {
        Ok(manifest) => {
            let digest = manifest.digest.as_deref();
            Verdict::ok(digest.unwrap_or("there, of an unknown digest"))
        }
        Err(error) => advice::of_trial(&error, provider),
    };
    report.add("manifest", verdict)
}

/// What an image is read as and who serves it, if anybody does.
fn find_served<'i, 's>(
    image: &'i Image<'s>,
) -> Result<(&'i Reference<'s>, &'i Resolved<'s>), Verdict> {
    let reference = image.reference.as_ref().map_err(|error| {
        Verdict::failed(format!("the image cannot be read: {error}"), "correct it")
    })?;
    let resolved = image.resolved.as_ref().map_err(|reason| {
        let fix = "add a pattern for it to a Registry that serves the namespace: `pullpass explain` tells more";
        Verdict::failed(reason, fix)
    })?;
    Ok((reference, resolved))
}

/// The login on each host of a Registry.
async fn try_hosts(
    scene: &Scene<'_>,
    registry: &ServedRegistry,
    logins: &Logins,
    report: &mut Report,
) -> anyhow::Result<()> {
    let mut tried = BTreeSet::new();
    for (place, (source, _)) in registry.sources.iter().enumerate() {
        let held = logins.get(&(registry.name.to_string(), place));
        for login in held.into_iter().flatten() {
            let domain = login.key.split('/').next().unwrap_or_default();
            if !tried.insert((domain, login.username.as_str())) {
                continue;
            }
            if domain.contains('*') {
                let message = format!("{domain} is no host: name an image to have it tried");
                report.note("login", Verdict::skipped(message))?;
                continue;
            }
            let trial = Trial::new(&scene.http, domain, &login.username, &login.password);
            try_login(&trial, domain, login, provider_of(source), report).await?;
        }
    }
    Ok(())
}

/// Whether the login may be used further.
async fn try_login(
    trial: &Trial<'_>,
    domain: &str,
    login: &Login,
    provider: &str,
    report: &mut Report,
) -> anyhow::Result<bool> {
    let (verdict, goes_on) = match trial.login().await {
        Ok(Entrance::Open) => (Verdict::ok(format!("{domain} asks for no login")), true),
        Ok(Entrance::Basic) => (
            Verdict::ok(format!("{domain} takes the login of {}", login.username)),
            true,
        ),
        Ok(Entrance::Token) => (
            Verdict::ok(format!("{domain} gives {} a token", login.username)),
            true,
        ),
        Err(error) => (advice::of_trial(&error, provider), false),
    };
    report.add("login", verdict)?;
    Ok(goes_on)
}

/// The login that the kubelet would try first for an image.
fn find_login<'l>(held: &'l [Login], reference: &Reference<'_>, key: &str) -> Option<&'l Login> {
    let covering = held.iter().filter_map(|login| {
        let pattern = Pattern::parse(&login.key).ok()?;
        let covers = pattern.covers(reference.domain(), reference.path());
        (covers || login.key == key).then_some((pattern, login))
    });
    covering
        .min_by(|(one, _), (other, _)| one.cmp(other))
        .map(|(_, login)| login)
}

fn provider_of(source: &CredentialSource) -> &'static str {
    match source {
        CredentialSource::Minted(MintSource::Ecr(_)) => "ecr",
        CredentialSource::Minted(MintSource::Acr(_)) => "acr",
        CredentialSource::Static(_) => "static",
    }
}
