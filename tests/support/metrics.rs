//! Metrics in the text format of Prometheus.

/// The sum of all samples whose name begins so and whose labels contain each of `labels`, such as `cache="hit"`.
/// <https://prometheus.io/docs/instrumenting/exposition_formats/>
pub fn sum(text: &str, name: &str, labels: &[&str]) -> u64 {
    text.lines()
        .filter(|line| line.starts_with(name))
        .filter(|line| labels.iter().all(|label| line.contains(label)))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
        .sum()
}
