//! Why a Pod is admitted unchanged.

/// Why a review is answered with "allowed" and nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Skip {
    /// Not the creation of a Pod itself: another operation, subresource or kind.
    NotPodCreation,
    /// The request names no namespace.
    NoNamespace,
    /// The namespace is excluded: a `kube-*` one, pullpass' own, or one that an admin excludes.
    NamespaceExcluded,
    /// A field that decides has an unexpected type, or is not the name of an object; or the Pod has no metadata or spec.
    MalformedObject,
    /// The mirror of a static Pod: the API server would refuse it.
    MirrorPod,
    /// The Pod's label says `pullpass.dev/inject: disabled`.
    PodOptedOut,
    /// The namespace is not known, and could not be read.
    NamespaceUnknown,
    /// The namespace has not opted in.
    NamespaceNotOptedIn,
    /// The value of the namespace's label means nothing.
    UnknownInjectValue,
    /// The namespace is being deleted.
    NamespaceTerminating,
    /// No Registry serves one of the images (or, with `all`, the namespace).
    NoRegistry,
    /// No Secret holds the logins for its images: the kubelet asks for them.
    DeliveredByNode,
    /// The ServiceAccount enforces mountable secrets and does not list ours: the API server would refuse the Pod.
    MountableSecrets,
    /// A Secret of our name is there that is not ours.
    SecretNotManaged,
}

impl Skip {
    /// The reason in one word, for metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotPodCreation => "NotPodCreation",
            Self::NoNamespace => "NoNamespace",
            Self::NamespaceExcluded => "NamespaceExcluded",
            Self::MalformedObject => "MalformedObject",
            Self::MirrorPod => "MirrorPod",
            Self::PodOptedOut => "PodOptedOut",
            Self::NamespaceUnknown => "NamespaceUnknown",
            Self::NamespaceNotOptedIn => "NamespaceNotOptedIn",
            Self::UnknownInjectValue => "UnknownInjectValue",
            Self::NamespaceTerminating => "NamespaceTerminating",
            Self::NoRegistry => "NoRegistry",
            Self::DeliveredByNode => "DeliveredByNode",
            Self::MountableSecrets => "MountableSecrets",
            Self::SecretNotManaged => "SecretNotManaged",
        }
    }

    /// Whether it happens all the time and nobody needs to know.
    pub fn is_routine(self) -> bool {
        matches!(
            self,
            Self::NotPodCreation
                | Self::NoNamespace
                | Self::NamespaceExcluded
                | Self::MirrorPod
                | Self::PodOptedOut
                | Self::NamespaceNotOptedIn
                | Self::NoRegistry
                | Self::DeliveredByNode
        )
    }
}
