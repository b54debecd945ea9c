//! Whom a Registry may serve: what of a Pod and of its namespace decides.

use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, Ordering};

use super::Labels;

/// The ServiceAccount of Pods that name none.
///
/// <https://kubernetes.io/docs/tasks/configure-pod-container/configure-service-account/>
pub const DEFAULT_SERVICE_ACCOUNT: &str = "default";

/// Labels, to read one by one.
pub trait FindLabel {
    /// The value of a label; `None`: it is not there.
    fn find_label(&self, key: &str) -> Option<&str>;
}

impl FindLabel for Labels {
    fn find_label(&self, key: &str) -> Option<&str> {
        self.get(key).map(String::as_str)
    }
}

/// A Pod that pulls. What is not known of it is taken to be what a Registry asks for.
#[derive(Clone, Copy, Default)]
pub struct PodSubject<'p> {
    /// The labels of its namespace.
    pub namespace: Option<&'p Labels>,
    /// The name of its ServiceAccount.
    pub service_account: Option<&'p str>,
    /// Its own labels.
    pub labels: Option<&'p dyn FindLabel>,
    /// What was found out about it, for whoever asks about many images of one Pod.
    pub known: Option<&'p KnownServing>,
}

/// Which Registries serve one Pod, each decided once: a Pod has many images and many labels.
#[derive(Debug, Default)]
pub struct KnownServing(OnceLock<Box<[AtomicU8]>>, usize);

impl KnownServing {
    const YES: u8 = 1;
    const NO: u8 = 2;

    /// For so many Registries.
    pub(super) fn new(registries: usize) -> Self {
        Self(OnceLock::new(), registries)
    }

    /// Whether the Registry at this place serves the Pod.
    pub(super) fn serves(&self, place: usize, decide: impl FnOnce() -> bool) -> bool {
        let none = || (0..self.1).map(|_| AtomicU8::new(0)).collect();
        let Some(known) = self.0.get_or_init(none).get(place) else {
            return decide();
        };
        match known.load(Ordering::Relaxed) {
            Self::YES => true,
            Self::NO => false,
            _ => {
                let serves = decide();
                let answer = if serves { Self::YES } else { Self::NO };
                known.store(answer, Ordering::Relaxed);
                serves
            }
        }
    }
}

impl fmt::Debug for PodSubject<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Puller")
            .field("namespace", &self.namespace)
            .field("service_account", &self.service_account)
            .finish_non_exhaustive()
    }
}

static NO_LABELS: Labels = Labels::new();

/// A Pod of a namespace with these labels, of ServiceAccount `default` and without labels.
impl<'p> From<&'p Labels> for PodSubject<'p> {
    fn from(namespace: &'p Labels) -> Self {
        Self {
            namespace: Some(namespace),
            service_account: Some(DEFAULT_SERVICE_ACCOUNT),
            labels: Some(&NO_LABELS),
            known: None,
        }
    }
}

/// With nothing known of the Pod; or a Pod of a namespace with these labels, as above.
impl<'p> From<Option<&'p Labels>> for PodSubject<'p> {
    fn from(namespace: Option<&'p Labels>) -> Self {
        namespace.map(Self::from).unwrap_or_default()
    }
}

/// How narrowly a Registry chooses whom it serves; the narrowest is the least.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Specificity {
    /// Pods by their labels.
    Pods,
    /// The Pods of some ServiceAccounts.
    ServiceAccounts,
    /// The Pods of some namespaces.
    Namespaces,
    /// Every Pod of every opted-in namespace.
    Everyone,
}

impl Specificity {
    /// Whether it chooses among the Pods of a namespace.
    pub fn is_narrow(self) -> bool {
        self < Self::Namespaces
    }
}

impl fmt::Display for Specificity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Pods => "selects Pods",
            Self::ServiceAccounts => "selects ServiceAccounts",
            Self::Namespaces => "selects namespaces",
            Self::Everyone => "serves all",
        })
    }
}
