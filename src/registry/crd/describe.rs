//! A Registry's identity in a few words, as its status says it.

use super::acr::{Acr, AcrIdentitySpec};
use super::{Ecr, Identity, RegistrySpec};

impl RegistrySpec {
    /// Which identity asks for credentials: provider, identity and, where there is one, its name: `ecr workload`,
    /// `ecr keys ecr-keys`, `acr servicePrincipal 00000000-…`, `static harbor-login`.
    pub fn describe_identity(&self) -> String {
        match (&self.ecr, &self.acr, &self.fixed) {
            (Some(ecr), _, _) => of_ecr(ecr),
            (_, Some(acr), _) => of_acr(acr),
            (_, _, Some(fixed)) => format!("static {}", fixed.secret_ref.name),
            (None, None, None) => String::new(),
        }
    }
}

fn of_ecr(ecr: &Ecr) -> String {
    let identity = match &ecr.identity {
        Identity { node: Some(_), .. } => "ecr node".to_owned(),
        Identity {
            keys: Some(keys), ..
        } => format!("ecr keys {}", keys.secret_ref.name),
        Identity {
            service_account: Some(account),
            ..
        } => format!("ecr serviceAccount {}", account.name),
        _ => "ecr workload".to_owned(),
    };
    match ecr.assume_roles.last() {
        Some(role) => format!("{identity} as {}", role.role_arn),
        None => identity,
    }
}

fn of_acr(acr: &Acr) -> String {
    match &acr.identity {
        AcrIdentitySpec {
            managed_identity: Some(identity),
            ..
        } => {
            let id = identity
                .client_id
                .as_ref()
                .or(identity.resource_id.as_ref());
            named("acr managedIdentity", id)
        }
        AcrIdentitySpec {
            service_principal: Some(principal),
            ..
        } => named("acr servicePrincipal", Some(&principal.client_id)),
        AcrIdentitySpec {
            service_account: Some(account),
            ..
        } => named("acr serviceAccount", Some(&account.name)),
        AcrIdentitySpec {
            workload: Some(workload),
            ..
        } => named("acr workload", workload.client_id.as_ref()),
        _ => "acr workload".to_owned(),
    }
}

fn named(kind: &str, name: Option<&String>) -> String {
    name.map_or_else(|| kind.to_owned(), |name| format!("{kind} {name}"))
}
