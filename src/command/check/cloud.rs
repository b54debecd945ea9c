//! The steps to a login: identity, caller, token, life; or the source Secret of a fixed login.

use jiff::{SignedDuration, SpanRound, Timestamp, Unit};

use super::context::CheckContext;
use super::image::{self, CheckedImage};
use super::login::Logins;
use super::push;
use super::report::{CheckReport, StepResult, SubjectKind};
use super::shared_login::SharedLogins;
use super::source::SecretError;
use super::{advice, ids, selection};
use crate::credential::mint::{Mint as _, MintRequest, SourceKeys};
use crate::credential::static_login::{self, Login};
use crate::credential::{Credential, MintError, SourceSecret, acr, ecr};
use crate::names::ObjectName;
use crate::provision::ports::Cluster as _;
use crate::provision::secret::seconds;
use crate::provision::tenant_identity;
use crate::quantity::count;
use crate::registry::source::{
    AcrIdentity, AcrSource, EcrIdentity, EcrSource, MintSource, StaticSource,
};
use crate::registry::{Access, CredentialSource, Grant, ValidRegistry};

/// The steps after the identity is known.
const AFTER_IDENTITY: [&str; 3] = ["caller", "token", "life"];

/// Tries the credentials of each Registry that is of interest.
pub(super) async fn check(
    context: &CheckContext<'_>,
    images: &[CheckedImage<'_>],
    report: &mut CheckReport,
) -> anyhow::Result<Logins> {
    let (mut logins, mut shared) = (Logins::new(), SharedLogins::default());
    for registry in context.registries.iter() {
        let is_asked = |place: usize| {
            images.is_empty()
                || images
                    .iter()
                    .any(|image| image.needs(&registry.name, place))
        };
        let places: Vec<usize> = (0..registry.sources.len())
            .filter(|place| is_asked(*place))
            .collect();
        if places.is_empty() || !context.concerns(registry) {
            if images.is_empty() && context.would_concern(registry) {
                report.begin(SubjectKind::Registry, &registry.name);
                report.note("served", suspended(context, registry))?;
            }
            continue;
        }
        report.begin(SubjectKind::Registry, &registry.name);
        let places_tried = places.len();
        for place in places {
            if let (CredentialSource::Minted(source), _) = &registry.sources[place]
                && places_tried > 1
            {
                report.narrow(&location_of(source));
            }
            let found = try_source(context, registry, place, report).await?;
            if let Some(said) = shared.add(registry, place, &found) {
                report.note("access", said)?;
            }
            logins.insert((registry.name.to_string(), place), found);
        }
        if images.is_empty() {
            report.widen();
            let taken = image::try_hosts(context, registry, &logins, report).await?;
            if context.args.push && registry.access == Access::Push {
                push::try_patterns(context, registry, &taken, &logins, report).await?;
            }
        }
    }
    Ok(logins)
}

/// One credential of a Registry; answers its logins.
async fn try_source(
    context: &CheckContext<'_>,
    registry: &ValidRegistry,
    place: usize,
    report: &mut CheckReport,
) -> anyhow::Result<Vec<Login>> {
    let (source, keys) = &registry.sources[place];
    match source {
        CredentialSource::Static(fixed) => {
            let reserved = registry.excluded_keys(source);
            try_static(context, fixed, (keys, &reserved), report).await
        }
        CredentialSource::Minted(source) => try_mint(context, registry, source, keys, report).await,
    }
}

/// A Registry that rests.
fn suspended(context: &CheckContext<'_>, registry: &ValidRegistry) -> StepResult {
    let message = "it is suspended: nothing is injected, minted, renewed or removed";
    StepResult::warning(message, selection::resume(context, registry)).id(ids::SUSPENDED)
}

/// A fixed login is in its source Secret.
async fn try_static(
    context: &CheckContext<'_>,
    source: &StaticSource,
    (keys, reserved): (&[String], &[String]),
    report: &mut CheckReport,
) -> anyhow::Result<Vec<Login>> {
    let found = context.fetch_secret(&source.secret).await;
    let secret = match found {
        Ok(secret) => secret,
        Err(error) => {
            report.add("identity", of_secret(context, &error))?;
            return Ok(Vec::new());
        }
    };
    let (result, logins) = read_logins(&secret, keys, reserved);
    report.add("identity", result)?;
    Ok(logins)
}

/// The logins of a source Secret for these keys, without those that lie in what is `reserved`.
fn read_logins(
    secret: &SourceSecret,
    keys: &[String],
    reserved: &[String],
) -> (StepResult, Vec<Login>) {
    match static_login::logins(secret, keys, reserved) {
        Ok(logins) => {
            let logins_found = count(logins.len(), "login");
            let message = format!("{logins_found} in source secret {}", secret.name);
            (StepResult::ok(message), logins)
        }
        Err(error) => {
            let text = error.to_string();
            let (message, fix) = text.rsplit_once(": ").unwrap_or((&text, "correct it"));
            let result = StepResult::failed(message, fix).id(ids::MALFORMED_SOURCE);
            (result, Vec::new())
        }
    }
}

/// A minted credential, step by step.
async fn try_mint(
    context: &CheckContext<'_>,
    registry: &ValidRegistry,
    source: &MintSource,
    keys: &[String],
    report: &mut CheckReport,
) -> anyhow::Result<Vec<Login>> {
    let grant = registry.grant(
        CredentialSource::Minted(source.clone()),
        keys.iter().map(String::as_str),
    );
    let bound = match bind(context, &grant, source).await {
        Ok(bound) => bound,
        Err(result) => {
            report.add("identity", result)?;
            report.skip(&AFTER_IDENTITY, "there is no identity")?;
            return Ok(Vec::new());
        }
    };
    let source = &bound;
    let order = match order(context, source).await {
        Ok(order) => order,
        Err(result) => {
            report.add("identity", result)?;
            report.skip(&AFTER_IDENTITY, "there is no identity")?;
            return Ok(Vec::new());
        }
    };
    let is_known = match source {
        MintSource::Ecr(source) => try_aws(context, registry, source, &order, report).await?,
        MintSource::Acr(source) => try_azure(context, registry, source, &order, report).await?,
    };
    if !is_known {
        return Ok(Vec::new());
    }
    report.start();
    match context.clouds.mint(order).await {
        Ok(credential) => {
            let (location, principal) = (source.location(), &credential.principal);
            let message = format!("minted for {location} by {principal}");
            report.add("token", StepResult::ok(message))?;
            report.note("life", check_life(&credential))?;
            Ok(keys.iter().map(|key| login_of(key, &credential)).collect())
        }
        Err(error) => {
            report.add("token", of_mint(context, &error, &registry.name))?;
            report.skip(&["life"], "there is no token")?;
            Ok(Vec::new())
        }
    }
}

/// Which of a Registry's credentials this is: its server or region.
fn location_of(source: &MintSource) -> String {
    match source {
        MintSource::Ecr(ecr) if ecr.public => "ECR Public".to_owned(),
        MintSource::Ecr(_) | MintSource::Acr(_) => source.location().to_owned(),
    }
}

/// What a grant's `source` is in the namespace: its own ServiceAccount is an identity only together with it.
pub(super) async fn bind(
    context: &CheckContext<'_>,
    grant: &Grant,
    source: &MintSource,
) -> Result<MintSource, StepResult> {
    let Some(account) = source.unbound() else {
        return Ok(source.clone());
    };
    let Some(namespace) = &context.namespace else {
        return Err(StepResult::skipped(format!(
            "not tried: each namespace asks as its own ServiceAccount {account}, name one with --namespace"
        )));
    };
    let Some(kube) = &context.kube else {
        return Err(StepResult::failed(
            format!(
                "ServiceAccount {}/{account} is in a cluster, and none is connected",
                namespace.name
            ),
            "name the cluster with --kubeconfig",
        )
        .id(ids::NO_CLUSTER));
    };
    let read = kube.fetch_service_account(&namespace.name, account).await;
    let read = read.map_err(|error| advice::of_cluster(&error))?;
    match tenant_identity::bind(grant, namespace, read.as_ref()).map(|grant| grant.source) {
        Ok(CredentialSource::Minted(bound)) => Ok(bound),
        Ok(CredentialSource::Static(_)) => Ok(source.clone()),
        Err(error) => Err(of_mint(context, &error.into(), &grant.registry)),
    }
}

fn of_secret(context: &CheckContext<'_>, error: &SecretError) -> StepResult {
    let same_cluster = context.same_cluster();
    advice::of_secret(error, context.own_place(&same_cluster))
}

fn of_mint(context: &CheckContext<'_>, error: &MintError, registry: &str) -> StepResult {
    let same_cluster = context.same_cluster();
    advice::of_mint(error, registry, context.own_place(&same_cluster))
}

/// What is to be minted, with the keys out of its source Secret.
async fn order(context: &CheckContext<'_>, source: &MintSource) -> Result<MintRequest, StepResult> {
    if let Some(secret) = secret_of(source) {
        let read = context.fetch_secret(secret).await;
        read.map_err(|error| of_secret(context, &error))?;
    }
    let keys =
        SourceKeys::find(source, &context.secrets).map_err(|error| of_mint(context, &error, ""))?;
    Ok(MintRequest {
        source: source.clone(),
        keys,
        expires_at: None,
        now: Timestamp::now(),
    })
}

/// The source Secret that a credential's identity needs.
pub(super) fn secret_of(source: &MintSource) -> Option<&ObjectName> {
    match source {
        MintSource::Ecr(source) => match &source.identity {
            EcrIdentity::Keys { secret } => Some(secret),
            _ => None,
        },
        MintSource::Acr(source) => match &source.identity {
            AcrIdentity::ServicePrincipal { secret, .. } => Some(secret),
            _ => None,
        },
    }
}

/// Whether there is an identity; who it is to AWS is reported as well.
async fn try_aws(
    context: &CheckContext<'_>,
    registry: &ValidRegistry,
    source: &EcrSource,
    order: &MintRequest,
    report: &mut CheckReport,
) -> anyhow::Result<bool> {
    let order = ecr::EcrMintRequest {
        source: source.clone(),
        keys: order.keys.clone().and_then(SourceKeys::aws),
        expires_at: None,
        now: order.now,
    };
    let opened = match context.clouds.ecr.open(&order).await {
        Ok(opened) => opened,
        Err(error) => {
            report.add("identity", of_mint(context, &error, &registry.name))?;
            report.skip(&AFTER_IDENTITY, "there is no identity")?;
            return Ok(false);
        }
    };
    let until = opened.expires_at().map_or_else(String::new, |end| {
        format!(", a session until {}", seconds(end))
    });
    report.add(
        "identity",
        StepResult::ok(format!("{}{until}", opened.principal())),
    )?;
    let caller = match context.clouds.ecr.fetch_caller(&order, &opened).await {
        Ok(arn) => StepResult::ok(arn),
        // Where only Amazon ECR's endpoint can be reached, tokens are minted all the same.
        Err(error @ (MintError::Timeout { .. } | MintError::Network { .. })) => {
            of_mint(context, &error, &registry.name).without_consequence()
        }
        Err(error) => of_mint(context, &error, &registry.name),
    };
    report.add("caller", caller)?;
    Ok(true)
}

/// Whether there is an identity to Entra ID, and what its token says.
async fn try_azure(
    context: &CheckContext<'_>,
    registry: &ValidRegistry,
    source: &AcrSource,
    order: &MintRequest,
    report: &mut CheckReport,
) -> anyhow::Result<bool> {
    let order = acr::AcrMintRequest {
        source: source.clone(),
        secret: order.keys.clone().and_then(SourceKeys::azure),
        now: order.now,
    };
    match context.clouds.acr.identify(&order).await {
        Ok(known) => {
            report.add("identity", StepResult::ok(known.principal))?;
            let claims = known.claims.map_or_else(
                || StepResult::info("the token of Entra ID says nothing that can be read"),
                StepResult::ok,
            );
            report.note("caller", claims)?;
            Ok(true)
        }
        Err(error) => {
            report.add("identity", of_mint(context, &error, &registry.name))?;
            report.skip(&AFTER_IDENTITY, "there is no identity")?;
            Ok(false)
        }
    }
}

fn login_of(key: &str, credential: &Credential) -> Login {
    Login {
        key: key.to_owned(),
        username: credential.username.clone(),
        password: credential.password.clone(),
    }
}

/// Whether there is time to use a credential.
fn check_life(credential: &Credential) -> StepResult {
    let left = credential.expires_at.duration_since(credential.minted_at);
    let until = seconds(credential.expires_at);
    let message = format!("{} until {until}", span(left));
    if left < SignedDuration::from_mins(15) {
        return StepResult::failed(
            message,
            "have the session that signs last longer: a credential is renewed at half of its life, and a pull takes time",
        )
        .id(ids::SHORT_LIFE);
    }
    StepResult::ok(message)
}

/// `11h 59m`.
fn span(duration: SignedDuration) -> String {
    let rounding = SpanRound::new().smallest(Unit::Minute).largest(Unit::Hour);
    jiff::Span::try_from(duration)
        .and_then(|span| span.round(rounding))
        .map_or_else(|_| duration.to_string(), |span| format!("{span:#}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::{Registries, Registry};

    /// What `excludedImages` takes away is no login of the Registry, nor what lies in it: no host is asked about it.
    #[test]
    fn reads_no_login_of_what_a_registry_excludes() {
        let entry = r#"{"username":"robot","password":"p"}"#;
        let keys = [
            "a.com/team",
            "a.com/team/app",
            "a.com/team/secret",
            "a.com/team/secret/x",
        ];
        let auths = keys.map(|key| format!("\"{key}\":{entry}")).join(",");
        let config = format!("{{\"auths\":{{{auths}}}}}");
        let secret = SourceSecret {
            name: "a".parse().unwrap(),
            type_: "kubernetes.io/dockerconfigjson".to_owned(),
            data: [(".dockerconfigjson".to_owned(), config.into_bytes().into())].into(),
            resource_version: "1".to_owned(),
        };
        let all = &keys[..];
        let rows: [(&str, &[&str]); 3] = [
            ("", all),
            ("a.com/team/secret", &keys[..2]),
            ("a.com/team/app, a.com/team/secret", &keys[..1]),
        ];
        for (excluded, expected) in rows {
            let yaml = format!(
                "{{apiVersion: pullpass.dev/v1alpha1, kind: Registry, metadata: {{name: a}}, spec: {{images: [a.com/team], excludedImages: [{excluded}], namespaceSelector: {{}}, static: {{secretRef: {{name: a}}}}}}}}"
            );
            let registry: Registry = serde_saphyr::from_str(&yaml).unwrap();
            let registries = Registries::build([registry]);
            assert_eq!(registries.problems(), []);
            let registry = registries.iter().next().unwrap();
            let (source, keys) = &registry.sources[0];
            let reserved = registry.excluded_keys(source);
            let (_, logins) = read_logins(&secret, keys, &reserved);
            let found: Vec<&str> = logins.iter().map(|login| login.key.as_str()).collect();
            assert_eq!(found, expected, "{excluded}");
        }
    }
}
