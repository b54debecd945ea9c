//! Why the broker answers no credential. Pure.

use super::protocol::RefusalBody;

/// Why, in one word of a closed set: the kubelet logs it, Events and metrics have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The request has not the form of one.
    Malformed,
    /// The token is not one of a Pod of this cluster, for pullpass.
    Unauthenticated,
    /// The namespace did not opt in, or is excluded.
    NotOptedIn,
    /// No Registry has the image for this Pod.
    NoRegistry,
    /// A Registry has the image, and does not give its login here.
    NotServed,
    /// There is no credential, or nobody can say who asks: the kubelet asks again.
    Unavailable,
}

impl Reason {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Malformed,
        Self::Unauthenticated,
        Self::NotOptedIn,
        Self::NoRegistry,
        Self::NotServed,
        Self::Unavailable,
    ];

    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "Malformed",
            Self::Unauthenticated => "Unauthenticated",
            Self::NotOptedIn => "NotOptedIn",
            Self::NoRegistry => "NoRegistry",
            Self::NotServed => "NotServed",
            Self::Unavailable => "Unavailable",
        }
    }

    /// Whether this is as it was meant, more often than not: that a namespace did not opt in, or that nobody has the image. The Pod's Event
    /// is then `Normal`.
    pub fn is_as_meant(self) -> bool {
        matches!(self, Self::NotOptedIn | Self::NoRegistry)
    }

    /// The status of the HTTP answer.
    pub fn status(self) -> u16 {
        match self {
            Self::Malformed => 400,
            Self::Unauthenticated => 401,
            Self::NotOptedIn | Self::NoRegistry | Self::NotServed => 403,
            Self::Unavailable => 503,
        }
    }
}

/// A request that is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Why.
    pub reason: Reason,
    /// What happened and what to do, for whoever has the Pod; no secret in it.
    pub message: String,
    /// What is for those who run pullpass besides: it goes into the log alone.
    pub detail: Option<String>,
    /// Whether the Pod is none of pullpass' business: it gets no Event.
    pub is_silent: bool,
}

impl Refusal {
    /// For this reason, with what to do.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
            detail: None,
            is_silent: false,
        }
    }

    /// The same with what the log says besides.
    #[must_use]
    pub fn with_detail(self, detail: String) -> Self {
        Self {
            detail: Some(detail),
            ..self
        }
    }

    /// The same without an Event.
    #[must_use]
    pub fn silent(self) -> Self {
        Self {
            is_silent: true,
            ..self
        }
    }

    /// As the plug-in gets it.
    pub fn body(&self) -> RefusalBody {
        RefusalBody {
            reason: self.reason.as_str().to_owned(),
            message: self.message.clone(),
        }
    }
}
