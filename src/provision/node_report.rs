//! What the kubelets of nodes asked of one Registry, as all replicas write it down. Pure.

use jiff::Timestamp;

use super::login_outcomes::LoginOutcomes;
use super::node_list::{NodeList, day_of};

/// Which nodes asked for a Registry's login, and what came of it. To ask and to be served are two things.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeReport {
    /// The Registry's `metadata.uid`: one that is made anew under the same name has none of this.
    pub registry_uid: String,
    /// The nodes that asked.
    pub nodes: NodeList,
    /// What came of the last requests.
    pub outcomes: LoginOutcomes,
}

impl NodeReport {
    /// That of a Registry for which nobody asked.
    pub fn new(registry_uid: &str) -> Self {
        Self {
            registry_uid: registry_uid.to_owned(),
            ..Self::default()
        }
    }

    /// Forgets what was not seen lately.
    pub fn forget_old(&mut self, now: Timestamp) {
        self.nodes.forget_old(day_of(now));
        self.outcomes.forget_old(now);
    }
}
