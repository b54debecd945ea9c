//! One thing to set up.

use std::collections::BTreeSet;

use serde::Serialize;

use super::ecr_images::ACCOUNT_OF_ALIAS;
use super::iam::Policy;
use crate::registry::Access;

/// One thing to set up. The names and forms of its fields are stable.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Step {
    pub(super) kind: StepKind,
    /// What it is for, for people.
    pub(super) title: String,
    /// What the document is attached to: a role, a user, repositories.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) attach_to: Vec<String>,
    /// What to put there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) document: Option<StepDocument>,
    /// Commands that do it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) commands: Vec<String>,
    /// What else to know.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) notes: Vec<String>,
    /// What to put in place of each placeholder.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) replace: Vec<Replace>,
}

/// What a step is, for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum StepKind {
    /// Who may assume a role.
    TrustPolicy,
    /// What a role or user may do.
    IdentityPolicy,
    /// Who may use one repository.
    RepositoryPolicy,
    /// Who may make repositories in a registry of another account.
    RegistryPolicy,
    /// Whose tokens an application of Entra ID takes.
    FederatedCredential,
    /// What an identity may do in Azure.
    RoleAssignment,
    /// A Secret in pullpass' own namespace.
    SourceSecret,
}

/// What is put somewhere.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum StepDocument {
    /// A policy of AWS IAM.
    Iam(Policy),
    /// Whose tokens an application takes.
    Federated(FederatedCredential),
    /// A role on a registry of Azure.
    Role(RoleAssignment),
}

/// A federated credential, as `az ad app federated-credential create --parameters` reads it.
///
/// <https://learn.microsoft.com/graph/api/resources/federatedidentitycredential>
#[derive(Debug, Serialize)]
pub(super) struct FederatedCredential {
    pub(super) name: String,
    pub(super) issuer: String,
    pub(super) subject: String,
    pub(super) audiences: [String; 1],
}

/// A role assignment.
///
/// <https://learn.microsoft.com/azure/role-based-access-control/role-assignments>
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RoleAssignment {
    pub(super) role: &'static str,
    pub(super) role_definition_id: &'static str,
    pub(super) scope: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) condition: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) condition_version: Option<&'static str>,
}

/// A placeholder, and what to put in its place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Replace {
    pub(super) placeholder: String,
    pub(super) by: String,
}

/// Everything that may be left to be replaced, a line each: the placeholder, then what is to be put there.
const PLACEHOLDERS: &str = include_str!("placeholders.txt");

impl Step {
    /// A step that puts a policy somewhere.
    pub(super) fn policy(
        kind: StepKind,
        title: impl Into<String>,
        attach_to: impl IntoIterator<Item = impl Into<String>>,
        policy: Policy,
    ) -> Self {
        Self {
            attach_to: attach_to.into_iter().map(Into::into).collect(),
            document: Some(StepDocument::Iam(policy)),
            ..Self::new(kind, title)
        }
        .with_replacements()
    }

    /// A federated credential of an application.
    pub(super) fn federated(
        title: String,
        application: &str,
        credential: FederatedCredential,
        command: String,
    ) -> Self {
        Self {
            attach_to: vec![application.to_owned()],
            document: Some(StepDocument::Federated(credential)),
            commands: vec![command],
            ..Self::new(StepKind::FederatedCredential, title)
        }
        .with_replacements()
    }

    /// A role of an identity on a registry.
    pub(super) fn role(title: String, assignee: &str, role: RoleAssignment) -> Self {
        let condition = role
            .condition
            .as_ref()
            .map_or_else(String::new, |condition| {
                let quoted = condition.replace('\'', "'\\''");
                format!(" --condition '{quoted}' --condition-version 2.0")
            });
        let command = format!(
            "az role assignment create --assignee {assignee} --role {} --scope {}{condition}",
            role.role_definition_id, role.scope
        );
        Self {
            attach_to: vec![assignee.to_owned()],
            document: Some(StepDocument::Role(role)),
            commands: vec![command],
            ..Self::new(StepKind::RoleAssignment, title)
        }
        .with_replacements()
    }

    /// The same with a command that does it.
    pub(super) fn command(mut self, command: String) -> Self {
        self.commands.push(command);
        self.with_replacements()
    }

    /// The same with one more thing to know.
    pub(super) fn note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }

    /// The same with the right that pullpass needs in the cluster to ask as namespaces' own ServiceAccounts.
    pub(super) fn note_tokens(self) -> Self {
        self.note("pullpass must be allowed to ask for these ServiceAccounts' tokens: pullpass rbac -f FILE | kubectl apply -f -")
    }

    /// Access keys or a client secret (`what`) in a source Secret, out of a file with a line `KEY=value` for each of these keys.
    pub(super) fn secret_of_file(what: &str, secret: &str, namespace: &str, keys: &[&str]) -> Self {
        let lines: Vec<String> = keys.iter().map(|key| format!("a line {key}=…")).collect();
        Self {
            commands: vec![
                format!(
                    "kubectl create secret generic {secret} -n {namespace} --from-env-file=FILE"
                ),
                label(secret, namespace),
            ],
            notes: vec![format!("FILE holds {}", lines.join(" and "))],
            ..Self::new(
                StepKind::SourceSecret,
                format!("keep the {what} in the Secret {secret} of pullpass' namespace"),
            )
        }
    }

    /// A fixed login in a source Secret.
    pub(super) fn static_login(secret: &str, namespace: &str, access: Access) -> Self {
        let verb = match access {
            Access::Pull => "pulling",
            Access::Push => "pulling and pushing these images",
        };
        Self {
            commands: vec![
                format!(
                    "kubectl create secret generic {secret} -n {namespace} --type kubernetes.io/basic-auth --from-file=username --from-file=password"
                ),
                label(secret, namespace),
            ],
            notes: vec![
                format!(
                    "nothing is to be set up in a cloud: the login is pullpass' only right, so give it no more than {verb}"
                ),
                "a Secret of type kubernetes.io/dockerconfigjson will do, too".to_owned(),
            ],
            ..Self::new(
                StepKind::SourceSecret,
                format!("keep the login in the Secret {secret} of pullpass' namespace"),
            )
        }
    }

    fn new(kind: StepKind, title: impl Into<String>) -> Self {
        Self {
            kind,
            title: title.into(),
            attach_to: Vec::new(),
            document: None,
            commands: Vec::new(),
            notes: Vec::new(),
            replace: Vec::new(),
        }
    }

    /// Finds the placeholders in it.
    fn with_replacements(self) -> Self {
        let document = serde_json::to_string(&self.document).unwrap_or_default();
        let texts = || {
            std::iter::once(&document)
                .chain(&self.attach_to)
                .chain(&self.commands)
        };
        let all = PLACEHOLDERS.lines().filter_map(|row| row.split_once(' '));
        let known = all
            .filter(|(placeholder, _)| texts().any(|text| text.contains(placeholder)))
            .map(|(placeholder, by)| Replace {
                placeholder: placeholder.to_owned(),
                by: by.to_owned(),
            });
        let replace = known.chain(replace_aliases(texts())).collect();
        Self { replace, ..self }
    }
}

/// The accounts of aliases of Amazon ECR Public, which are no fixed list.
fn replace_aliases<'t>(texts: impl Iterator<Item = &'t String>) -> Vec<Replace> {
    let parts = texts.flat_map(|text| text.split(ACCOUNT_OF_ALIAS).skip(1));
    let aliases: BTreeSet<&str> = parts
        .filter_map(|part| part.split_once('>'))
        .map(|(alias, _)| alias)
        .collect();
    let replace = |alias| Replace {
        placeholder: format!("{ACCOUNT_OF_ALIAS}{alias}>"),
        by: format!("the AWS account whose registry is public.ecr.aws/{alias}"),
    };
    aliases.into_iter().map(replace).collect()
}

fn label(secret: &str, namespace: &str) -> String {
    format!("kubectl label secret {secret} -n {namespace} pullpass.dev/source=true")
}
