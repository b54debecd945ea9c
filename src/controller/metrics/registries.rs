//! What the leader shows of each Registry.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use parking_lot::{Mutex, MutexGuard};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::metric::find_help;
use crate::names::ObjectName;
use crate::registry::crd::RegistryStatus;

/// The label: there are as many values as Registries.
const LABEL: &str = "registry";

/// Whether each Registry is ready, and when its credentials end. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(in crate::controller) struct RegistryGauges(Arc<Mutex<BTreeMap<ObjectName, RegistryGauge>>>);

#[derive(Clone, Copy, Debug)]
struct RegistryGauge {
    /// `None`: it is suspended, or nobody can tell yet. Nobody is to be woken.
    ready: Option<bool>,
    /// When the first of its minted credentials ends, Unix time; `None`: it has none.
    expiry: Option<i64>,
}

/// The value of a metric; `None`: it is left out.
type Find = fn(&RegistryGauge) -> Option<i64>;

impl RegistryGauge {
    fn of(status: &RegistryStatus) -> Self {
        let expiry = status.expiration_time.as_deref();
        let expiry = expiry.and_then(|text| text.parse::<Timestamp>().ok());
        Self {
            ready: (!status.is_suspended() && !status.is_unknown()).then(|| status.is_ready()),
            expiry: expiry.map(Timestamp::as_second),
        }
    }
}

impl RegistryGauges {
    /// Shows what a Registry's status says.
    pub(in crate::controller) fn set(&self, name: &ObjectName, status: &RegistryStatus) {
        self.rows().insert(name.clone(), RegistryGauge::of(status));
    }

    /// Shows nothing of the others any more.
    pub(in crate::controller) fn retain(&self, is_there: impl Fn(&ObjectName) -> bool) {
        self.rows().retain(|name, _| is_there(name));
    }

    /// Shows nothing of a Registry any more.
    pub(in crate::controller) fn remove(&self, name: &ObjectName) {
        self.rows().remove(name);
    }

    fn rows(&self) -> MutexGuard<'_, BTreeMap<ObjectName, RegistryGauge>> {
        self.0.lock()
    }
}

impl Collector for RegistryGauges {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        // Not held while it is written out.
        let rows = self.rows().clone();
        let metrics: [(_, Find); 2] = [
            ("pullpass_registry_ready", |row| row.ready.map(i64::from)),
            (
                "pullpass_registry_credential_expiry_timestamp_seconds",
                |row| row.expiry,
            ),
        ];
        for (metric, find) in metrics {
            let help = find_help(metric);
            let mut family = encoder.encode_descriptor(metric, help, None, MetricType::Gauge)?;
            for (name, row) in &rows {
                if let Some(value) = find(row) {
                    let labels = [(LABEL, name.as_str())];
                    ConstGauge::new(value).encode(family.encode_family(&labels)?)?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
    use prometheus_client::encoding::text::encode;
    use prometheus_client::registry::Registry;

    use super::*;

    fn status(conditions: &[(&str, &str)], expiration_time: Option<&str>) -> RegistryStatus {
        let condition = |(kind, status): &(&str, &str)| Condition {
            type_: (*kind).to_owned(),
            status: (*status).to_owned(),
            reason: "Any".to_owned(),
            message: String::new(),
            last_transition_time: Time(Timestamp::UNIX_EPOCH),
            observed_generation: None,
        };
        RegistryStatus {
            conditions: conditions.iter().map(condition).collect(),
            expiration_time: expiration_time.map(str::to_owned),
            ..RegistryStatus::default()
        }
    }

    fn samples(registry: &Registry) -> Vec<String> {
        let mut text = String::new();
        encode(&mut text, registry).unwrap();
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        lines.map(str::to_owned).collect()
    }

    #[test]
    fn shows_each_registry_as_long_as_it_is_there() {
        let gauges = RegistryGauges::default();
        let mut registry = Registry::default();
        registry.register_collector(Box::new(gauges.clone()));
        assert!(samples(&registry).is_empty());
        for (name, conditions, end) in [
            ("a", vec![("Ready", "True")], Some("1970-01-01T00:01:40Z")),
            ("b", vec![("Ready", "False")], None),
            ("c", vec![("Ready", "Unknown")], None),
            ("d", vec![("Ready", "True"), ("Suspended", "True")], None),
            ("e", vec![], None),
        ] {
            gauges.set(&name.parse().unwrap(), &status(&conditions, end));
        }
        let ready =
            |name: &str, value| format!("pullpass_registry_ready{{registry=\"{name}\"}} {value}");
        let mut expected = vec![ready("a", 1), ready("b", 0), ready("e", 0)];
        expected.push(
            "pullpass_registry_credential_expiry_timestamp_seconds{registry=\"a\"} 100".to_owned(),
        );
        assert_eq!(samples(&registry), expected);
        gauges.remove(&"a".parse().unwrap());
        gauges.retain(|name| *name == "b");
        assert_eq!(samples(&registry), [ready("b", 0)]);
    }
}
