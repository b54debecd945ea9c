//! What the metrics of all rooms are made of: counters and gauges by a label of a closed set, whose values are the words of conditions,
//! Events and logs in snake_case, as Prometheus' own are.
//!
//! <https://prometheus.io/docs/practices/naming/>

pub(crate) mod process;

use std::fmt::{self, Debug, Write as _};
use std::hash::Hash;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeLabelValue, EncodeMetric, LabelValueEncoder, MetricEncoder,
};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::info::Info;
use prometheus_client::metrics::{MetricType, TypedMetric};
use prometheus_client::registry::{Metric, Registry, Unit};

/// Adds a metric to what the metrics endpoint shows: all of its clones are shown. A name that ends with `_seconds` says the unit.
pub(crate) fn register(registry: &mut Registry, name: &str, metric: &(impl Metric + Clone)) {
    let help = find_help(name);
    match name.strip_suffix("_seconds") {
        Some(name) => registry.register_with_unit(name, help, Unit::Seconds, metric.clone()),
        None => registry.register(name, help, metric.clone()),
    }
}

/// Adds what does not change, each as a label.
pub(crate) fn register_info<const LABELS: usize>(
    registry: &mut Registry,
    name: &'static str,
    labels: [(&'static str, &'static str); LABELS],
) {
    registry.register(name, find_help(name), Info::new(labels));
}

/// Adds a metric that is worked out each time the metrics endpoint is read.
pub(crate) fn register_sampled<M: EncodeMetric + 'static>(
    registry: &mut Registry,
    name: &'static str,
    sample: impl Fn() -> M + Send + Sync + 'static,
) {
    let sample = Box::new(sample);
    registry.register_collector(Box::new(Sampled { name, sample }));
}

struct Sampled<M> {
    name: &'static str,
    sample: Box<dyn Fn() -> M + Send + Sync>,
}

impl<M> Debug for Sampled<M> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name)
    }
}

impl<M: EncodeMetric + 'static> Collector for Sampled<M> {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let (sample, help) = ((self.sample)(), find_help(self.name));
        let kind = sample.metric_type();
        sample.encode(encoder.encode_descriptor(self.name, help, None, kind)?)
    }
}

/// What the metrics endpoint says of each metric, a line each: its name, then the text. `docs/reference/metrics.md` says more.
const HELP: &str = include_str!("metric/help.txt");

/// The text of a metric.
pub(crate) fn find_help(name: &str) -> &'static str {
    let rows = HELP.lines().filter_map(|row| row.split_once(' '));
    let mut texts = rows.filter_map(|(known, text)| (known == name).then_some(text));
    texts.next().expect("help.txt has a line for each metric")
}

/// A number of things, as gauges have it.
pub(crate) fn to_gauge(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Metrics of one kind, one for each word that a label may have. Clones are the same.
#[derive(Clone, Debug)]
pub(crate) struct ByLabel<T, M> {
    label: &'static str,
    family: Family<LabelSet<T>, M, fn() -> M>,
}

type LabelSet<T> = [(&'static str, Snake<T>); 1];

impl<T: Clone + Hash + Eq, M: Clone> ByLabel<T, M> {
    /// None yet; `make` makes each one when its word comes up first.
    pub(crate) fn new(label: &'static str, make: fn() -> M) -> Self {
        let family = Family::new_with_constructor(make);
        Self { label, family }
    }

    /// With those of these words, which are shown before anything happens.
    pub(crate) fn with(self, words: impl IntoIterator<Item = T>) -> Self {
        words.into_iter().for_each(|word| drop(self.of(word)));
        self
    }

    /// The one of a word.
    pub(crate) fn of(&self, word: T) -> M {
        self.family
            .get_or_create_owned(&[(self.label, Snake(word))])
    }
}

impl<T, M: TypedMetric> TypedMetric for ByLabel<T, M> {
    const TYPE: MetricType = M::TYPE;
}

impl<T, M> EncodeMetric for ByLabel<T, M>
where
    T: Clone + Hash + Eq + Debug,
    M: EncodeMetric + TypedMetric,
{
    fn encode(&self, encoder: MetricEncoder<'_>) -> fmt::Result {
        self.family.encode(encoder)
    }

    fn metric_type(&self) -> MetricType {
        self.family.metric_type()
    }
}

/// A word of a closed set, a variant or a `&'static str`, that a label shows in snake_case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Snake<T>(pub(crate) T);

impl<T: Debug> EncodeLabelValue for Snake<T> {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), fmt::Error> {
        encoder.write_str(&to_snake_case(&format!("{:?}", self.0)))
    }
}

/// `NamespaceTerminating` and `namespace terminating` as `namespace_terminating`; the quotes that a string's `Debug` has are left out.
fn to_snake_case(word: &str) -> String {
    let mut snake = String::with_capacity(word.len() + 4);
    let mut follows_lower = false;
    for letter in word.trim_matches('"').chars() {
        if letter.is_uppercase() && follows_lower {
            snake.push('_');
        }
        follows_lower = letter.is_lowercase() || letter.is_numeric();
        snake.extend(if matches!(letter, ' ' | '-') {
            '_'.to_lowercase()
        } else {
            letter.to_lowercase()
        });
    }
    snake
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_words_of_any_form_in_snake_case() {
        for (word, snake) in [
            ("Injected", "injected"),
            ("NamespaceTerminating", "namespace_terminating"),
            ("\"NotTls\"", "not_tls"),
            ("\"\"", ""),
            ("pull secrets", "pull_secrets"),
            ("ecr_public", "ecr_public"),
            ("X509Error", "x509_error"),
        ] {
            assert_eq!(to_snake_case(word), snake);
        }
    }

    #[test]
    fn shows_known_words_before_anything_happens_and_others_once_they_come_up() {
        use prometheus_client::encoding::text::encode;
        use prometheus_client::metrics::counter::Counter;
        let mut registry = Registry::default();
        let counted: ByLabel<&str, Counter> = ByLabel::new("outcome", Counter::default);
        let counted = counted.with(["NotTls"]);
        register(&mut registry, "pullpass_mints", &counted);
        let time = Counter::<u64>::default();
        register(&mut registry, "pullpass_mint_duration_seconds", &time);
        counted.of("Other").inc();
        let mut shown = String::new();
        encode(&mut shown, &registry).unwrap();
        for line in [
            "# HELP pullpass_mints Attempts to mint a credential.",
            "# TYPE pullpass_mints counter",
            "pullpass_mints_total{outcome=\"not_tls\"} 0",
            "pullpass_mints_total{outcome=\"other\"} 1",
            "# UNIT pullpass_mint_duration_seconds seconds",
        ] {
            assert!(shown.lines().any(|shown| shown == line), "{line}: {shown}");
        }
    }
}
