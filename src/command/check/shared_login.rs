//! Fixed logins that Registries for Pods and Registries for builders have in common. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::ids;
use super::report::StepResult;
use crate::credential::login_check::LoginId;
use crate::credential::static_login::Login;
use crate::names::ObjectName;
use crate::registry::{Access, CredentialSource, ValidRegistry};

/// The fixed logins of the Registries that were tried so far, and who has each.
#[derive(Default)]
pub(super) struct SharedLogins(BTreeMap<LoginId, Vec<(ObjectName, Access)>>);

impl SharedLogins {
    /// Notes the logins of one credential of a Registry, if they are fixed. Answers what is to be said of it and of a Registry before it
    /// with the other access.
    pub(super) fn add(
        &mut self,
        registry: &ValidRegistry,
        place: usize,
        logins: &[Login],
    ) -> Option<StepResult> {
        let is_fixed = matches!(registry.sources[place].0, CredentialSource::Static(_));
        let of_registry = (&registry.name, registry.access);
        is_fixed
            .then(|| self.add_fixed(of_registry, logins))
            .flatten()
    }

    fn add_fixed(
        &mut self,
        (registry, access): (&ObjectName, Access),
        logins: &[Login],
    ) -> Option<StepResult> {
        let of_login = |login: &Login| {
            let host = login.key.split('/').next().unwrap_or_default();
            LoginId::of(host, &login.username, &login.password)
        };
        let mut shared = None;
        for id in logins.iter().map(of_login).collect::<BTreeSet<_>>() {
            let users = self.0.entry(id).or_default();
            let other = users.iter().find(|(_, other)| *other != access);
            shared = shared.or_else(|| other.map(|(other, _)| other.clone()));
            users.push((registry.clone(), access));
        }
        let other = shared?;
        let (pulling, pushing) = if access.is_pull() {
            (registry, &other)
        } else {
            (&other, registry)
        };
        let message = format!(
            "Pods' logins push, too: Registry {pulling} has the login of Registry {pushing}, which has access Push"
        );
        let fix = format!("give Registry {pulling} a login of its own that may pull and no more");
        Some(StepResult::warning(message, fix).id(ids::PODS_PUSH))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login(key: &str, username: &str) -> Login {
        Login {
            key: key.to_owned(),
            username: username.to_owned(),
            password: "pw".into(),
        }
    }

    #[test]
    fn warns_of_pods_that_hold_a_login_of_builders() {
        // Who has it first, and then; what they pull or push; whether Pods push.
        let robot = login("a.com/team", "robot");
        let rows = [
            (Access::Pull, Access::Push, robot.clone(), true),
            (Access::Push, Access::Pull, robot.clone(), true),
            (Access::Pull, Access::Pull, robot.clone(), false),
            (Access::Push, Access::Push, robot.clone(), false),
            (Access::Push, Access::Pull, login("a.com", "robot"), true),
            (
                Access::Push,
                Access::Pull,
                login("a.com/team", "puller"),
                false,
            ),
            (
                Access::Push,
                Access::Pull,
                login("b.com/team", "robot"),
                false,
            ),
        ];
        for (before, access, then, is_shared) in rows {
            let mut shared = SharedLogins::default();
            let names = ["one", "two"].map(|name| name.parse::<ObjectName>().unwrap());
            let first = shared.add_fixed((&names[0], before), std::slice::from_ref(&robot));
            assert!(first.is_none());
            let said = shared.add_fixed((&names[1], access), std::slice::from_ref(&then));
            assert_eq!(said.is_some(), is_shared, "{before:?} {access:?} {then:?}");
            if let Some(said) = said {
                assert!(said.is(ids::PODS_PUSH));
                let pulling = &names[usize::from(access.is_pull())];
                let fix = format!("give Registry {pulling} a login of its own");
                assert!(format!("{said:?}").contains(&fix), "{said:?}");
            }
        }
    }
}
