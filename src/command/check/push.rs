//! The step of who builds images: whether the login of a Registry with access Push may push to a repository that is there.

use std::collections::BTreeSet;

use super::context::CheckContext;
use super::login::{Logins, find_login, open_client, provider_of, try_login};
use super::report::{CheckReport, StepResult};
use super::{advice, ids};
use crate::credential::registry_client::{PushOutcome, RegistryClient};
use crate::credential::static_login::Login;
use crate::image::Reference;
use crate::registry::{Access, Pattern, ValidRegistry};

const STEP: &str = "push";

/// How many repositories of a Registry are tried where no image is named.
const MAX_TRIED: usize = 16;

/// A Registry for builders that covers an image.
pub(super) struct PushTarget<'s> {
    pub(super) registry: &'s ValidRegistry,
    /// The place of the image's credential in its `sources`.
    pub(super) place: usize,
    /// The pattern's key.
    key: String,
}

/// The Registries for builders that cover an image, of those that are of interest.
pub(super) fn find_targets<'s>(
    context: &'s CheckContext<'_>,
    reference: &Reference<'_>,
) -> Vec<PushTarget<'s>> {
    let (domain, path) = (reference.domain(), reference.path());
    let find = |registry: &'s ValidRegistry| {
        let key = registry.find_serving(domain, path)?.key();
        let mut sources = registry.sources.iter();
        let place = sources.position(|(_, keys)| keys.iter().any(|one| one == key))?;
        Some(PushTarget {
            registry,
            place,
            key: key.to_owned(),
        })
    };
    let is_asked =
        |registry: &&ValidRegistry| registry.access == Access::Push && context.concerns(registry);
    let registries = context.registries.iter().filter(is_asked);
    registries.filter_map(find).collect()
}

/// Tries to push where an image is.
pub(super) async fn try_image(
    context: &CheckContext<'_>,
    reference: &Reference<'_>,
    target: &PushTarget<'_>,
    logins: &Logins,
    report: &mut CheckReport,
) -> anyhow::Result<()> {
    let registry = target.registry;
    report.narrow(&format!("Registry {}", registry.name));
    let held = logins.get(&(registry.name.to_string(), target.place));
    let Some(login) = held.and_then(|held| find_login(held, reference, &target.key)) else {
        report.skip(&["login", STEP], "there is no login for it")?;
        report.widen();
        return Ok(());
    };
    let provider = provider_of(&registry.sources[target.place].0);
    let domain = reference.domain();
    let client = open_client(context, domain, login, provider);
    report.start();
    let place = (domain, &BTreeSet::from([reference.path().to_owned()]));
    if try_login(context, &client, place, login, provider, report).await? {
        let image = reference.digest().or(reference.tag()).unwrap_or("latest");
        let place = (domain, reference.path());
        let result = try_repository(&client, place, Some(image), provider, registry).await;
        report.add(STEP, result)?;
    } else {
        report.skip(&[STEP], "the login is not taken")?;
    }
    report.widen();
    Ok(())
}

/// Tries to push to the repositories that the patterns of a Registry name, on the hosts that took its login (`domains`).
pub(super) async fn try_patterns(
    context: &CheckContext<'_>,
    registry: &ValidRegistry,
    domains: &[String],
    logins: &Logins,
    report: &mut CheckReport,
) -> anyhow::Result<()> {
    let mut tried = 0;
    for (place, (source, _)) in registry.sources.iter().enumerate() {
        let held = logins.get(&(registry.name.to_string(), place));
        for (pattern, login) in find_places(registry, held.into_iter().flatten()) {
            let (domain, path) = (pattern.domain(), pattern.path());
            if !domains.iter().any(|one| one == domain) {
                continue;
            }
            if path.is_empty() {
                let message =
                    format!("not tried: {domain} names no repository, name an image that is there");
                report.note(
                    STEP,
                    StepResult::skipped(message).id(ids::REPOSITORY_UNKNOWN),
                )?;
                continue;
            }
            tried += 1;
            if tried > MAX_TRIED {
                let message = format!(
                    "not tried: the repositories after the first {MAX_TRIED}, name an image"
                );
                return report.note(STEP, StepResult::skipped(message));
            }
            let provider = provider_of(source);
            let client = open_client(context, domain, login, provider);
            report.start();
            let result = try_repository(&client, (domain, path), None, provider, registry).await;
            report.add(STEP, result)?;
        }
    }
    Ok(())
}

/// Where the logins of a Registry may push: what their keys cover, but for what `excludedImages` takes away.
fn find_places<'l>(
    registry: &ValidRegistry,
    logins: impl Iterator<Item = &'l Login>,
) -> impl Iterator<Item = (Pattern, &'l Login)> {
    let places = logins.filter_map(|login| Some((Pattern::of_key(&login.key)?, login)));
    places.filter(|(place, _)| {
        let serving = registry.find_serving(place.domain(), place.path());
        serving.is_some()
    })
}

/// No Registry for builders is of interest, where one is asked for.
pub(super) fn none_covers() -> StepResult {
    StepResult::skipped("not tried: no Registry with access Push is for it").id(ids::NO_PUSH)
}

async fn try_repository(
    client: &RegistryClient<'_>,
    (domain, path): (&str, &str),
    image: Option<&str>,
    provider: &str,
    registry: &ValidRegistry,
) -> StepResult {
    match client.try_push(path, image).await {
        Ok(PushOutcome::Cancelled) => StepResult::ok(format!(
            "{domain} takes a push to {path}: an upload was opened, and cancelled"
        )),
        Ok(PushOutcome::Left(why)) => StepResult::ok(format!(
            "{domain} takes a push to {path}: an upload was opened, and is left to the registry, which drops it ({why})"
        ))
        .id(ids::UPLOAD_LEFT),
        Ok(PushOutcome::Unknown(words)) => StepResult::skipped(format!(
            "not tried: {domain} does not show that {path} is there ({words}), and a push may create it; name an image that is there"
        ))
        .id(ids::REPOSITORY_UNKNOWN),
        Err(error) => advice::of_push(&error, provider, &registry.name),
    }
}

#[cfg(test)]
mod tests {
    use secrecy::SecretString;

    use super::*;
    use crate::registry::{Registries, Registry};

    #[test]
    fn tries_repositories_and_none_that_are_excluded() {
        let yaml = "{apiVersion: pullpass.dev/v1alpha1, kind: Registry, metadata: {name: a}, spec: {access: Push, images: [a.com/team, a.com/v2/b], excludedImages: [a.com/team/secret], namespaceSelector: {matchLabels: {a: b}}, static: {secretRef: {name: a}}}}";
        let registry: Registry = serde_saphyr::from_str(yaml).unwrap();
        let registries = Registries::build([registry]);
        assert_eq!(registries.problems(), []);
        let keys = [
            "a.com/team",
            "a.com/team/secret/x",
            "a.com/team/app",
            "a.com/v2/v2/b",
            "a.com/other",
        ];
        let logins = keys.map(|key| Login {
            key: key.to_owned(),
            username: "robot".to_owned(),
            password: SecretString::from("p"),
        });
        let registry = registries.iter().next().unwrap();
        let places = find_places(registry, logins.iter());
        let places: Vec<String> = places.map(|(place, _)| place.to_string()).collect();
        let expected = ["a.com/team", "a.com/team/app", "a.com/v2/b"];
        assert_eq!(places, expected);
    }
}
