//! A login on its registry.

use std::collections::{BTreeMap, BTreeSet};

use super::context::CheckContext;
use super::report::{CheckReport, StepResult};
use super::{advice, ids};
use crate::credential::login_check::describe_untried;
use crate::credential::registry_client::{LoginMethod, RegistryClient, RegistryClientError};
use crate::credential::static_login::Login;
use crate::image::Reference;
use crate::registry::source::MintSource;
use crate::registry::{CredentialSource, Pattern};

/// The logins of a Registry's credentials, by the Registry's name and the credential's place in its `sources`.
pub(super) type Logins = BTreeMap<(String, usize), Vec<Login>>;

/// A client by which a login is tried. What a cloud minted goes to the registry alone, whatever an admin allows.
pub(super) fn open_client<'c>(
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

/// Whether the login may be used further. `paths` are repositories that it is for.
pub(super) async fn try_login(
    context: &CheckContext<'_>,
    client: &RegistryClient<'_>,
    (domain, paths): (&str, &BTreeSet<String>),
    login: &Login,
    provider: &str,
    report: &mut CheckReport,
) -> anyhow::Result<bool> {
    let (result, goes_on) = match context
        .refused
        .try_once(client, (domain, paths), login)
        .await
    {
        Ok(LoginMethod::Open) => (StepResult::ok(format!("{domain} asks for no login")), true),
        Ok(LoginMethod::NotAsked) => {
            let untried = describe_untried(domain, paths.iter().map(String::as_str));
            let result = StepResult::skipped(format!("not tried: {untried}; name an image"));
            (result.id(ids::NO_LOGIN_ASKED), true)
        }
        Ok(LoginMethod::Basic) => (
            StepResult::ok(format!("{domain} takes the login of {}", login.username)),
            true,
        ),
        Ok(LoginMethod::Token) => (
            StepResult::ok(format!("{domain} gives {} a token", login.username)),
            true,
        ),
        // Some logins may pull from a repository whose tags they may not list: its image tells.
        Err(error @ RegistryClientError::TokenRefused { .. }) => {
            let result = StepResult::skipped(format!("not known: {error}; name an image"));
            (result.id(ids::REPOSITORY_UNKNOWN), true)
        }
        Err(error) => (advice::of_registry_client(&error, provider), false),
    };
    report.add("login", result)?;
    Ok(goes_on)
}

/// The login that the kubelet would try first for an image.
pub(super) fn find_login<'l>(
    held: &'l [Login],
    reference: &Reference<'_>,
    key: &str,
) -> Option<&'l Login> {
    let covering = held.iter().filter_map(|login| {
        let pattern = Pattern::of_key(&login.key)?;
        let covers = pattern.covers(reference.domain(), reference.path());
        (covers || login.key == key).then_some((pattern, login))
    });
    covering
        .min_by(|(one, _), (other, _)| one.cmp(other))
        .map(|(_, login)| login)
}

pub(super) fn provider_of(source: &CredentialSource) -> &'static str {
    match source {
        CredentialSource::Minted(MintSource::Ecr(_)) => "ecr",
        CredentialSource::Minted(MintSource::Acr(_)) => "acr",
        CredentialSource::Static(_) => "static",
    }
}
