//! The `Registry` kind: what an admin writes, as the API server stores it and as files hold it.
//!
//! The schema says what a schema can (forms, lengths, exactly one provider); `validate` beside this file says all of it again, and the rest.

#![expect(
    unreachable_pub,
    reason = "the derive of KubeSchema repeats each struct inside a function"
)]

pub mod acr;
mod describe;
mod export;
mod schema;
mod status;

use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::selector::LabelSelector;
pub use export::{EXPORT_NAME_MAX, EXPORTS_MAX, Export, ExportFormat};
pub use schema::definition;
pub use status::{NamespaceCounts, RegistryStatus};

/// The longest name of a Registry, a DNS label, so that `pullpass-<name>`, a Secret's name for one, stays a name that every kind of object may have.
pub const NAME_MAX: usize = 54;
/// How many patterns `images` and `excludedImages` may each hold.
pub const PATTERNS_MAX: usize = 128;
/// How many ServiceAccounts `serviceAccountNames` may name.
pub const SERVICE_ACCOUNTS_MAX: usize = 64;
/// The longest pattern: a host of 253 characters, a port and a path of 255.
pub const PATTERN_MAX: usize = 515;
/// How many labels, and how many annotations, a Registry may add to a Pod.
pub const POD_METADATA_MAX: usize = 32;
/// The longest value of an annotation to add, in bytes.
pub const ANNOTATION_VALUE_MAX: usize = 2048;

/// What a Registry is for: which images it serves, in which namespaces, and where their credentials come from.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "pullpass.dev",
    version = "v1alpha1",
    kind = "Registry",
    plural = "registries",
    shortname = "ppr",
    derive = "PartialEq",
    doc = "A Registry gives the Pods of the namespaces it serves the credentials to pull the images it names.",
    validation = Rule::new("self.metadata.name.size() <= 54").message("metadata.name has more than 54 characters: shorten it"),
    validation = Rule::new("self.metadata.name.matches('^[a-z0-9]([a-z0-9-]*[a-z0-9])?$')").message("metadata.name is no DNS label: write lower-case letters, digits and hyphens, no dots"),
    status = "RegistryStatus",
    category = "pullpass",
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status"),
    printcolumn(name = "Images", type_ = "string", json_path = ".status.images"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].reason"),
    printcolumn(name = "Degraded", type_ = "string", json_path = ".status.conditions[?(@.type=='Degraded')].status"),
    printcolumn(name = "Namespaces", type_ = "integer", json_path = ".status.namespaces.total"),
    printcolumn(name = "Provisioned", type_ = "integer", json_path = ".status.namespaces.ready"),
    // A column of type date says how long ago, and <invalid> of what is to come.
    printcolumn(name = "Expires", type_ = "string", json_path = ".status.expirationTime"),
    printcolumn(name = "Identity", type_ = "string", json_path = ".status.identity", priority = 1),
    printcolumn(name = "Principals", type_ = "string", json_path = ".status.principals", priority = 1),
    printcolumn(name = "Selector", type_ = "string", json_path = ".spec.namespaceSelector", priority = 1),
    printcolumn(name = "Access", type_ = "string", json_path = ".spec.access", priority = 1),
    printcolumn(name = "Delivery", type_ = "string", json_path = ".spec.delivery", priority = 1),
    printcolumn(name = "Suspended", type_ = "boolean", json_path = ".spec.suspend", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = Rule::new("[has(self.ecr), has(self.acr), has(self.static)].filter(given, given).size() == 1")
        .message("give exactly one of ecr, acr and static"),
    validation = Rule::new("!has(self.podMetadata) || [has(self.namespaceSelector.matchLabels) && self.namespaceSelector.matchLabels.size() > 0, has(self.namespaceSelector.matchExpressions) && self.namespaceSelector.matchExpressions.size() > 0].exists(given, given)")
        .message("podMetadata needs a namespaceSelector that selects by labels: anyone who may create Pods in a served namespace gets what it adds"),
    validation = Rule::new("!has(self.podSelector) || [has(self.podSelector.matchLabels) && self.podSelector.matchLabels.size() > 0, has(self.podSelector.matchExpressions) && self.podSelector.matchExpressions.size() > 0].exists(given, given)")
        .message("podSelector selects every Pod: leave it out, or select by labels"),
    validation = Rule::new("!has(self.access) || self.access != 'Push' || [has(self.namespaceSelector.matchLabels) && self.namespaceSelector.matchLabels.size() > 0, has(self.namespaceSelector.matchExpressions) && self.namespaceSelector.matchExpressions.size() > 0].exists(given, given)")
        .message("namespaceSelector must select by labels with access Push: any Pod of a served namespace can mount the credential that pushes"),
    validation = Rule::new("!has(self.access) || self.access != 'Push' || !has(self.serviceAccountNames) || self.serviceAccountNames.size() == 0")
        .message("serviceAccountNames must be left out with access Push: any Pod of a served namespace can mount its Secret, so remove it, and narrow namespaceSelector"),
    validation = Rule::new("!has(self.access) || self.access != 'Push' || !has(self.podSelector)")
        .message("podSelector must be left out with access Push: any Pod of a served namespace can mount its Secret, so remove it, and narrow namespaceSelector"),
    validation = Rule::new("!has(self.access) || self.access != 'Push' || !has(self.podMetadata)")
        .message("podMetadata must be left out with access Push: no Pod is patched for it, so write labels and annotations into the builder's own Pod template"),
    validation = Rule::new("!has(self.access) || self.access != 'Push' || self.images.all(image, !image.contains('*'))")
        .message("images must have no * with access Push: builders take it literally, list the hosts"),
    validation = Rule::new("!has(self.access) || self.access != 'Push' || !has(self.delivery) || self.delivery == 'Secret'")
        .message("delivery must be Secret with access Push: builders mount its Secret, and no kubelet asks for them"),
    validation = Rule::new("!has(self.exports) || self.exports.size() == 0 || !has(self.delivery) || self.delivery != 'Node'")
        .message("delivery must be Secret or Both with exports: an export is a Secret with its login"),
    validation = Rule::new("!has(self.exports) || self.exports.size() == 0 || self.images.all(image, !image.contains('*'))")
        .message("images must have no * with exports: consumers take it literally, list the hosts"),
    validation = Rule::new("!has(self.exports) || !self.exports.exists(one, one.format == 'BasicAuth') || self.images.all(image, image.split('/')[0] == self.images[0].split('/')[0])")
        .message("exports of format BasicAuth hold one login: let images name one host alone"),
    validation = Rule::new("!has(self.exports) || !self.exports.exists(one, one.format.startsWith('ArgoCD')) || self.images.size() == 1")
        .message("exports of formats ArgoCDRepository and ArgoCDRepositoryCreds have one URL: let images name exactly one"),
    validation = Rule::new("!has(self.exports) || !self.exports.exists(one, one.format.startsWith('ArgoCD')) || self.images.all(image, !image.split('/')[0].contains(':') || image.matches('^[a-z]'))")
        .message("exports of formats ArgoCDRepository and ArgoCDRepositoryCreds are no URL for Argo CD with an IP address or a leading digit and a port: name the host by a name that begins with a letter, or leave the port out")
)]
pub struct RegistrySpec {
    /// The images. A pattern covers its repository and everything below it. Form: 1 to 128 of `host` or `host/path` in lower case,
    /// with a port where the images name one; `*` matches one whole label of the host: the account of an Amazon ECR host, any label
    /// with `static`.
    #[schemars(length(min = 1, max = 128), extend("items" = schema::pattern()), extend("x-kubernetes-list-type" = "set"))]
    pub images: Vec<String>,
    /// Images among them that this Registry does not serve. Form: as `images`. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 128), extend("items" = schema::pattern()), extend("x-kubernetes-list-type" = "set"))]
    pub excluded_images: Vec<String>,
    /// The namespaces it serves, by their labels, among those that opted in. Form: a label selector; `{}` selects all of them.
    pub namespace_selector: LabelSelector,
    /// Of their Pods those of these ServiceAccounts alone. The credentials are then in a separate Secret, `pullpass-<name of the
    /// Registry>`. It chooses and protects nothing: any Pod of a namespace can read its Secrets. Form: up to 64 names. Default: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 253), regex(pattern = OBJECT_NAME)), extend("x-kubernetes-list-type" = "set"))]
    pub service_account_names: Vec<String>,
    /// Of their Pods those with these labels alone. The credentials are then in a separate Secret; it protects nothing, as
    /// `serviceAccountNames`. Form: a label selector that is not empty. Default: all.
    pub pod_selector: Option<LabelSelector>,
    /// What its credential is for. `Pull`: Pods with its images get it. `Push`: builders that push, too, mount it: it is in a separate
    /// Secret, `pullpass-<name of the Registry>`, kept in each namespace that it serves, and no Pod is patched for it. Default: Pull.
    #[serde(default, skip_serializing_if = "Access::is_pull")]
    pub access: Access,
    /// How Pods get its credential. `Secret`: pull secrets in their namespace hold it. `Node`: no Secret there does; the kubelet of a node
    /// that runs pullpass' credential provider asks for it. `Both`: either way. Default: Secret.
    #[serde(default, skip_serializing_if = "Delivery::is_secret")]
    pub delivery: Delivery,
    /// Credentials that Amazon ECR mints. Exactly one of `ecr`, `acr` and `static` is given. Default: none.
    pub ecr: Option<Ecr>,
    /// Credentials that Azure Container Registry mints. Exactly one of `ecr`, `acr` and `static` is given. Default: none.
    pub acr: Option<acr::Acr>,
    /// A fixed login. Exactly one of `ecr`, `acr` and `static` is given. Default: none.
    #[serde(rename = "static")]
    pub fixed: Option<Static>,
    /// What a Pod gets besides, when one of its images is served. It needs a `namespaceSelector` that is not empty. Default: nothing.
    pub pod_metadata: Option<PodMetadata>,
    /// The same credential in further Secrets, `pullpass-<name of the Registry>.x-<name of the export>`, kept in each namespace that it
    /// serves, in forms that consumers read which are no Pods; no Pod is given one. Form: up to 8, each with another name; their images
    /// have no `*`. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub exports: Vec<Export>,
    /// Whether this Registry is suspended: nothing is injected, minted, renewed or removed for it; what is in secrets stays until it expires.
    /// Default: false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub suspend: bool,
}

/// What its credential is for. `Pull`: Pods with its images get it. `Push`: builders that push, too, mount it: it is in a separate
/// Secret, `pullpass-<name of the Registry>`, kept in each namespace that it serves, and no Pod is patched for it. Default: Pull.
// The schema takes the description of an enum from its type.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Access {
    /// Pods with its images get it.
    #[default]
    Pull,
    /// Builders that push, too, mount it.
    Push,
}

impl Access {
    /// Whether it is for Pods that pull.
    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference")]
    pub fn is_pull(&self) -> bool {
        *self == Self::Pull
    }
}

/// How Pods get its credential. `Secret`: pull secrets in their namespace hold it. `Node`: no Secret there does; the kubelet of a node
/// that runs pullpass' credential provider asks for it. `Both`: either way. Default: Secret.
// The schema takes the description of an enum from its type.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Delivery {
    /// Pull secrets in their namespace hold it.
    #[default]
    Secret,
    /// The kubelet asks for it: <https://kubernetes.io/docs/tasks/administer-cluster/kubelet-credential-provider/>.
    Node,
    /// Either way.
    Both,
}

impl Delivery {
    /// Whether it is by Secrets alone.
    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference")]
    pub fn is_secret(&self) -> bool {
        *self == Self::Secret
    }
}

/// An https URL of a host and, at most, a port and a path.
const ENDPOINT: &str = r"^https://[A-Za-z0-9.\[\]:-]+(/[A-Za-z0-9._~/-]*)?$";
/// The ARN of an IAM role.
const ROLE_ARN: &str =
    r"^arn:aws(-[a-z-]+)?:iam::[0-9]{12}:role/([A-Za-z0-9_+=,.@-]+/)*[A-Za-z0-9_+=,.@-]{1,64}$";
/// The name of a Secret or ServiceAccount.
const OBJECT_NAME: &str = r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$";
/// An audience that is no URL: API servers' own are.
const AUDIENCE: &str = r"^(api://[A-Za-z0-9._~/-]+|[A-Za-z0-9][A-Za-z0-9._~-]*)$";
/// A region of AWS.
const REGION: &str = r"^[a-z]{2,5}(-[a-z]+)+-[0-9]{1,2}$";

/// Credentials that Amazon ECR mints.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Ecr {
    /// Who asks for them.
    pub identity: Identity,
    /// The audience of the ServiceAccount tokens of `identity.serviceAccount`; `tokenAudiences` of the chart must name it. Form: as
    /// `sts.amazonaws.com` or `api://pull`. Default: with `fromAnnotations` what the ServiceAccount's annotation
    /// `eks.amazonaws.com/audience` names, else `sts.amazonaws.com`.
    #[schemars(length(max = 253), regex(pattern = AUDIENCE))]
    pub audience: Option<String>,
    /// The region of images whose host does not say it. Form: as `eu-west-1`. Default: what the host says.
    #[schemars(length(max = 32), regex(pattern = REGION))]
    pub region: Option<String>,
    /// Endpoints instead of AWS's own. Default: AWS's own.
    pub endpoints: Option<EcrEndpoints>,
    /// Roles to assume on top of the identity, one after the other; the last one asks. Form: up to 5. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 5))]
    pub assume_roles: Vec<RoleHop>,
    /// Until when a token counts as good. `Session`: what Amazon ECR answers, or the end of the session that asked if that is sooner;
    /// `Answer`: what Amazon ECR answers. Default: Session.
    pub token_life: Option<TokenLifetime>,
}

/// Until when a token counts as good. `Session`: what Amazon ECR answers, or the end of the session that asked if that is sooner;
/// `Answer`: what Amazon ECR answers. Default: Session.
// The schema takes the description of an enum from its type.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum TokenLifetime {
    /// What Amazon ECR answers, or the end of the session that asked if that is sooner.
    #[default]
    Session,
    /// What Amazon ECR answers.
    Answer,
}

/// A role to assume.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RoleHop {
    /// The role. Form: an ARN, as `arn:aws:iam::123456789012:role/pull`.
    #[schemars(length(max = 2048), regex(pattern = ROLE_ARN))]
    pub role_arn: String,
    /// The external id that the role's trust policy asks for. Form: 2 to 1224 letters, digits and `_+=,.@:/-`. Default: none.
    #[schemars(
        length(min = 2, max = 1224),
        regex(pattern = r"^[A-Za-z0-9_+=,.@:/-]*$")
    )]
    pub external_id: Option<String>,
    /// How the session is called in CloudTrail. Form: 2 to 64 letters, digits and `_+=,.@-`. Default: pullpass.
    #[schemars(length(min = 2, max = 64), regex(pattern = r"^[A-Za-z0-9_+=,.@-]*$"))]
    pub session_name: Option<String>,
    /// How long the session lives. Form: seconds, 900 to 43200 as far as the role allows, at most 3600 where the session of another
    /// role signs for it. Default: 3600.
    // The API server knows no format of numbers without a sign, and warns.
    #[schemars(with = "Option<i32>", range(min = 900, max = 43200))]
    pub duration_seconds: Option<u32>,
}

/// Who asks Amazon ECR for credentials: exactly one of these.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = Rule::new("[has(self.workload), has(self.node), has(self.keys), has(self.serviceAccount)].filter(given, given).size() == 1")
    .message("give exactly one of workload, node, keys and serviceAccount"))]
pub struct Identity {
    /// pullpass' own workload identity: IAM roles for service accounts, or EKS Pod Identity. Form: `{}`, or with how long a session
    /// lives. Default: not used.
    pub workload: Option<EcrWorkload>,
    /// The role of the node that pullpass runs on. Form: `{}`. Default: not used.
    pub node: Option<Empty>,
    /// Access keys that a Secret holds. Default: not used.
    pub keys: Option<Keys>,
    /// A ServiceAccount of the Pod's namespace; the credential is used in that namespace alone. Default: not used.
    pub service_account: Option<ServiceAccountRole>,
}

/// pullpass' own workload identity.
#[derive(KubeSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EcrWorkload {
    /// How long a session of IAM roles for service accounts lives; those of EKS Pod Identity live as long as its agent says.
    /// Form: seconds, 900 to 43200 as far as the role allows. Default: 3600.
    #[schemars(with = "Option<i32>", range(min = 900, max = 43200))]
    pub duration_seconds: Option<u32>,
}

/// A ServiceAccount of the Pod's namespace, and the role that it assumes by web identity.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = Rule::new("has(self.roleArn) != (has(self.fromAnnotations) && self.fromAnnotations)")
    .message("give exactly one of roleArn and fromAnnotations: true"))]
pub struct ServiceAccountRole {
    /// The ServiceAccount. Form: its name.
    #[schemars(length(min = 1, max = 253), regex(pattern = OBJECT_NAME))]
    pub name: String,
    /// The role. Form: an ARN, as `arn:aws:iam::123456789012:role/pull`. Default: none, `fromAnnotations` is true.
    #[schemars(length(max = 2048), regex(pattern = ROLE_ARN))]
    pub role_arn: Option<String>,
    /// Whether the ServiceAccount's annotation `eks.amazonaws.com/role-arn` names the role: then anyone who may write ServiceAccounts in
    /// a served namespace chooses among the roles that trust it. Default: false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub from_annotations: bool,
    /// How long its session lives. Form: seconds, 900 to 43200 as far as the role allows. Default: 3600.
    #[schemars(with = "Option<i32>", range(min = 900, max = 43200))]
    pub duration_seconds: Option<u32>,
}

/// Nothing more to say: write `{}`.
#[derive(KubeSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Empty {}

/// Access keys that a Secret holds: `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` and, at will, `AWS_SESSION_TOKEN`.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Keys {
    /// The Secret that holds them.
    pub secret_ref: SecretRef,
}

/// Endpoints instead of AWS's own, for PrivateLink: https URLs.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EcrEndpoints {
    /// Amazon ECR's API. Form: an https URL. Default: AWS's own.
    #[schemars(length(max = 512), regex(pattern = ENDPOINT))]
    pub ecr: Option<String>,
    /// ECR Public's API. Form: an https URL. Default: AWS's own.
    #[schemars(length(max = 512), regex(pattern = ENDPOINT))]
    pub ecr_public: Option<String>,
    /// AWS STS. Form: an https URL. Default: AWS's own.
    #[schemars(length(max = 512), regex(pattern = ENDPOINT))]
    pub sts: Option<String>,
}

/// A fixed login that a Secret holds.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Static {
    /// The Secret, of type `kubernetes.io/basic-auth` or `kubernetes.io/dockerconfigjson`.
    pub secret_ref: SecretRef,
}

/// A Secret in pullpass' own namespace that carries the label `pullpass.dev/source: "true"`.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SecretRef {
    /// The Secret. Form: its name.
    #[schemars(length(min = 1, max = 253), regex(pattern = OBJECT_NAME))]
    pub name: String,
}

/// Labels and annotations for Pods; never put over what a Pod has.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PodMetadata {
    /// Labels. Form: up to 32, such as `azure.workload.identity/use: "true"`. Default: none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(
        extend("maxProperties" = 32),
        extend("additionalProperties" = {"type": "string", "maxLength": 63, "pattern": schema::LABEL_VALUE}),
        extend("x-kubernetes-validations" = schema::injected_key_rules()),
    )]
    pub labels: BTreeMap<String, String>,
    /// Annotations. Form: up to 32, such as `iam.amazonaws.com/role: image-puller`, of at most 2048 bytes each. Default: none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(
        extend("maxProperties" = 32),
        extend("additionalProperties" = {"type": "string", "maxLength": 2048}),
        extend("x-kubernetes-validations" = schema::injected_key_rules()),
    )]
    pub annotations: BTreeMap<String, String>,
}

impl PodMetadata {
    /// Whether there is nothing to add.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.annotations.is_empty()
    }
}
