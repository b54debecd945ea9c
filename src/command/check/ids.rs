//! The names of what `check` finds, besides the reasons of mints and of the API server's refusals: stable, and listed in docs/CHECK.md.
//! What a condition, an Event or a log says, too, has the same name there; what `status` finds, too, has its name of here.

/// As it should be.
pub(in crate::command) const OK: &str = "Ok";
/// Wrong in no way that has a name of its own.
pub(in crate::command) const FAILED: &str = "Failed";
/// Not tried, because of what failed before it or because nothing says with what.
pub(in crate::command) const SKIPPED: &str = "Skipped";
/// The account that asks may not see it, or not try it.
pub(in crate::command) const ACCOUNT_FORBIDDEN: &str = "AccountForbidden";

// The cluster.
/// This account may not list Registries.
pub(in crate::command) const REGISTRIES_FORBIDDEN: &str = "RegistriesForbidden";
/// Neither pullpass' webhook configuration nor its Deployment is there.
pub(in crate::command) const NOT_INSTALLED: &str = "NotInstalled";
/// The API server does not know the kind.
pub(in crate::command) const KIND_MISSING: &str = "KindMissing";
/// A Registry breaks a rule.
pub(in crate::command) const INVALID: &str = "Invalid";
/// A Registry cannot be read.
pub(in crate::command) const UNREADABLE: &str = "Unreadable";
/// No webhook configuration calls pullpass.
pub(in crate::command) const WEBHOOK_MISSING: &str = "WebhookMissing";
/// The other one of the two configurations is not there.
pub(in crate::command) const VALIDATING_WEBHOOK_MISSING: &str = "ValidatingWebhookMissing";
/// The API server is not told whom to trust.
pub(in crate::command) const CA_BUNDLE_MISSING: &str = "CaBundleMissing";
/// The webhook's selectors leave out a namespace that opted in.
pub(in crate::command) const WEBHOOK_SELECTOR_CHANGED: &str = "WebhookSelectorChanged";
/// The leader found that the API server does not reach the webhook.
pub(in crate::command) const WEBHOOK_NOT_CALLED: &str = "WebhookNotCalled";
/// A Kyverno whose credential helpers a reference switches off.
pub(in crate::command) const KYVERNO_HELPERS_OFF: &str = "KyvernoHelpersOff";

// A Registry and its login.
/// It is suspended.
pub(in crate::command) const SUSPENDED: &str = "Suspended";
/// What is asked for is in a cluster, and none is connected.
pub(in crate::command) const NO_CLUSTER: &str = "NoCluster";
/// A source Secret holds no login that can be used.
pub(in crate::command) const MALFORMED_SOURCE: &str = "MalformedSource";
/// A credential ends too soon to be used.
pub(in crate::command) const SHORT_LIFE: &str = "ShortLife";
/// A pattern with `*` is no host that can be asked.
pub(in crate::command) const HOST_PATTERN: &str = "HostPattern";
/// The registry does not take the login, or not for this image.
pub(in crate::command) const LOGIN_REFUSED: &str = "LoginRefused";
/// Another host checks the logins, and was not asked.
pub(in crate::command) const FOREIGN_REALM: &str = "ForeignRealm";
/// The registry takes no push to the repository by this login.
pub(in crate::command) const PUSH_REFUSED: &str = "PushRefused";
/// Its endpoint is open to anybody, and no repository is known that asks for a login.
pub(in crate::command) const NO_LOGIN_ASKED: &str = "NoLoginAsked";
/// The registry does not show that the repository is there.
pub(in crate::command) const REPOSITORY_UNKNOWN: &str = "RepositoryUnknown";
/// An upload was opened and not cancelled.
pub(in crate::command) const UPLOAD_LEFT: &str = "UploadLeft";
/// The login that Pods get is that of a Registry with access Push.
pub(in crate::command) const PODS_PUSH: &str = "PodsPush";
/// No Registry with access Push is for it.
pub(in crate::command) const NO_PUSH: &str = "NoPush";
/// There is no such image.
pub(in crate::command) const IMAGE_NOT_FOUND: &str = "ImageNotFound";

// An image.
/// It is no image reference.
pub(in crate::command) const IMAGE_UNREADABLE: &str = "ImageUnreadable";
/// No Registry has a pattern for it.
pub(in crate::command) const NO_PATTERN: &str = "NoPattern";
/// A Registry has a pattern for it in lower case.
pub(in crate::command) const UPPERCASE_HOST: &str = "UppercaseHost";
/// A Registry has a pattern for it that names port 443 where it does not, or the other way around.
pub(in crate::command) const USUAL_PORT: &str = "UsualPort";
/// Only Registries with access Push have a pattern for it.
pub(in crate::command) const PUSH_ONLY: &str = "PushOnly";
/// A Registry excludes it.
pub(in crate::command) const IMAGE_EXCLUDED: &str = "ImageExcluded";
/// The Registry with a pattern for it does not select the namespace; or none selects it.
pub(in crate::command) const NAMESPACE_NOT_SELECTED: &str = "NamespaceNotSelected";
/// That Registry is not for the ServiceAccount.
pub(in crate::command) const SERVICE_ACCOUNT_NOT_SELECTED: &str = "ServiceAccountNotSelected";
/// That Registry is not for Pods with these labels.
pub(in crate::command) const POD_NOT_SELECTED: &str = "PodNotSelected";

// A namespace.
/// There is none.
pub(in crate::command) const NAMESPACE_MISSING: &str = "NamespaceMissing";
/// It did not opt in.
pub(in crate::command) const NAMESPACE_NOT_OPTED_IN: &str = "NamespaceNotOptedIn";
/// Its label has a value that means nothing.
pub(in crate::command) const UNKNOWN_INJECT_VALUE: &str = "UnknownInjectValue";
/// What it asks to be enforced means nothing.
pub(in crate::command) const UNKNOWN_ENFORCE_VALUE: &str = "UnknownEnforceValue";
/// It opted in and is excluded.
pub(in crate::command) const NAMESPACE_EXCLUDED: &str = "NamespaceExcluded";
/// The pull secret is not there yet.
pub(in crate::command) const SECRET_NOT_WRITTEN: &str = "SecretNotWritten";
/// A Secret of its name is somebody else's.
pub(in crate::command) const SECRET_NOT_MANAGED: &str = "SecretNotManaged";
/// The pull secret holds something else than it should.
pub(in crate::command) const SECRET_DIFFERS: &str = "SecretDiffers";
/// It holds several logins for one host, which clients that know hosts alone take at random.
pub(in crate::command) const SEVERAL_LOGINS: &str = "SeveralLogins";
/// What it should hold is not for this account to see, or not known.
pub(in crate::command) const CANNOT_COMPARE: &str = "CannotCompare";
/// ServiceAccounts do not list the pull secrets that their Pods get.
pub(in crate::command) const SERVICE_ACCOUNTS_UNLISTED: &str = "ServiceAccountsUnlisted";
/// The Pod's own label opts out.
pub(in crate::command) const POD_OPTED_OUT: &str = "PodOptedOut";
/// Its ServiceAccount allows only Secrets that it lists.
pub(in crate::command) const MOUNTABLE_SECRETS: &str = "MountableSecrets";
/// A Pod has no reference to a pull secret that its images need.
pub(in crate::command) const PULL_SECRET_NOT_REFERENCED: &str = "PullSecretNotReferenced";

// A node.
/// There is no configuration of credential providers.
pub(in crate::command) const NODE_CONFIG_MISSING: &str = "NodeConfigMissing";
/// A file is none that the kubelet can read.
pub(in crate::command) const NODE_CONFIG_UNREADABLE: &str = "NodeConfigUnreadable";
/// A configuration's file holds more than the document that the kubelet reads.
pub(in crate::command) const NODE_DOCUMENT_IGNORED: &str = "NodeDocumentIgnored";
/// A file or folder of a node is there and cannot be read.
pub(in crate::command) const NODE_FILE_UNREADABLE: &str = "NodeFileUnreadable";
/// Somebody else than root may write a file that the kubelet runs or reads.
pub(in crate::command) const NODE_FILE_WRITABLE: &str = "NodeFileWritable";
/// A field that the kubelet does not know.
pub(in crate::command) const NODE_FIELD_UNKNOWN: &str = "NodeFieldUnknown";
/// A field of a provider's answer in the configuration.
pub(in crate::command) const NODE_ANSWER_FIELD: &str = "NodeAnswerField";
/// A field that the kubelet wants is not there.
pub(in crate::command) const NODE_FIELD_MISSING: &str = "NodeFieldMissing";
/// A field has a value that the kubelet, or pullpass, does not take.
pub(in crate::command) const NODE_FIELD_INVALID: &str = "NodeFieldInvalid";
/// `*` in the path of an entry of `matchImages`.
pub(in crate::command) const NODE_PATH_GLOB: &str = "NodePathGlob";
/// An entry of `matchImages` that no image matches.
pub(in crate::command) const NODE_MATCHES_NOTHING: &str = "NodeMatchesNothing";
/// There is no program of a provider's name.
pub(in crate::command) const NODE_PROGRAM_MISSING: &str = "NodeProgramMissing";
/// It is there and cannot be run.
pub(in crate::command) const NODE_PROGRAM_NOT_EXECUTABLE: &str = "NodeProgramNotExecutable";
/// No provider runs pullpass.
pub(in crate::command) const NODE_PROVIDER_MISSING: &str = "NodeProviderMissing";
/// pullpass is run without a token.
pub(in crate::command) const NODE_TOKEN_MISSING: &str = "NodeTokenMissing";
/// The token is for somebody else.
pub(in crate::command) const NODE_AUDIENCE_OTHER: &str = "NodeAudienceOther";
/// Nodes may not ask for tokens of our audience.
pub(in crate::command) const NODE_AUDIENCE_FORBIDDEN: &str = "NodeAudienceForbidden";
/// Pods of one ServiceAccount share an answer, and a Registry tells them apart.
pub(in crate::command) const NODE_CACHE_SHARED: &str = "NodeCacheShared";
/// The authority's certificate is not there.
pub(in crate::command) const NODE_CA_MISSING: &str = "NodeCaMissing";
/// It is none.
pub(in crate::command) const NODE_CA_MALFORMED: &str = "NodeCaMalformed";
/// The node itself may pull what a Registry keeps for some Pods.
pub(in crate::command) const NODE_NOT_ISOLATED: &str = "NodeNotIsolated";
/// The kubelet does not ask pullpass for a Registry's images.
pub(in crate::command) const NODE_IMAGE_NOT_MATCHED: &str = "NodeImageNotMatched";
