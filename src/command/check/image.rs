//! The hops of an image: which Registry serves it, the login on its registry, its manifest.

use std::collections::{BTreeMap, BTreeSet};

use super::context::CheckContext;
use super::report::{CheckReport, HopResult, SubjectKind};
use super::{advice, ids, selection};
use crate::credential::registry_client::{LoginMethod, RegistryClient};
use crate::credential::static_login::Login;
use crate::image::Reference;
use crate::registry::source::MintSource;
use crate::registry::{CredentialSource, Host, Pattern, Resolved, ValidRegistry};

/// The hops after it is known who serves the image.
const AFTER_SERVED: [&str; 2] = ["login", "manifest"];

/// The logins of a Registry's credentials, by the Registry's name and the credential's place in its `sources`.
pub(super) type Logins = BTreeMap<(String, usize), Vec<Login>>;

/// An image to try.
pub(super) struct CheckedImage<'s> {
    pub(super) text: &'s str,
    /// What it is read as; or why it cannot be read.
    reference: Result<Reference<'s>, String>,
    /// Who serves it; or why nobody does.
    resolved: Result<Resolved<'s>, HopResult>,
}

impl CheckedImage<'_> {
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
pub(super) fn read<'s>(context: &'s CheckContext<'_>) -> Vec<CheckedImage<'s>> {
    let read = |text: &'s String| {
        let reference = Reference::parse(text).map_err(str::to_owned);
        let resolved = match &reference {
            Ok(reference) => resolve(context, reference),
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
        }
    };
    context.args.images.iter().map(read).collect()
}

fn resolve<'s>(
    context: &'s CheckContext<'_>,
    reference: &Reference<'_>,
) -> Result<Resolved<'s>, HopResult> {
    let mut explanation = context.registries.explain(context.pod_subject(), reference);
    if let Some(resolved) = explanation.resolved.take() {
        return Ok(resolved);
    }
    let host = reference.host().to_ascii_lowercase();
    Err(selection::of_image(
        context,
        &explanation,
        Host::recognise(&host),
    ))
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
    if !try_login(&client, domain, login, provider, report).await? {
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

/// The login on each host of a Registry.
pub(super) async fn try_hosts(
    context: &CheckContext<'_>,
    registry: &ValidRegistry,
    logins: &Logins,
    report: &mut CheckReport,
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
                let result = HopResult::skipped(message).id(ids::WILDCARD_HOST);
                report.note("login", result)?;
                continue;
            }
            let provider = provider_of(source);
            let client = open_client(context, domain, login, provider);
            try_login(&client, domain, login, provider, report).await?;
        }
    }
    Ok(())
}

/// A client by which a login is tried. What a cloud minted goes to the registry alone, whatever an admin allows.
fn open_client<'c>(
    context: &'c CheckContext<'_>,
    domain: &'c str,
    login: &'c Login,
    provider: &str,
) -> RegistryClient<'c> {
    let client = RegistryClient::new(&context.http, domain, &login.username, &login.password);
    match provider {
        "static" => client.with_token_services(&context.args.token_services),
        _ => client,
    }
}

/// Whether the login may be used further.
async fn try_login(
    client: &RegistryClient<'_>,
    domain: &str,
    login: &Login,
    provider: &str,
    report: &mut CheckReport,
) -> anyhow::Result<bool> {
    let (result, goes_on) = match client.login().await {
        Ok(LoginMethod::Open) => (HopResult::ok(format!("{domain} asks for no login")), true),
        Ok(LoginMethod::Basic) => (
            HopResult::ok(format!("{domain} takes the login of {}", login.username)),
            true,
        ),
        Ok(LoginMethod::Token) => (
            HopResult::ok(format!("{domain} gives {} a token", login.username)),
            true,
        ),
        Err(error) => (advice::of_registry_client(&error, provider), false),
    };
    report.add("login", result)?;
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
