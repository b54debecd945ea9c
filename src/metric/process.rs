//! What the kernel says of this process, under the names that Prometheus' client libraries have for it.
//!
//! <https://prometheus.io/docs/instrumenting/writing_clientlibs/#process-metrics>, <https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html>

use std::fmt::{self, Debug};
use std::fs;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use super::find_help;

/// The kernel's clock ticks in a second, as it shows them to programs: 100 on every platform that Rust has.
/// <https://man7.org/linux/man-pages/man7/time.7.html>
const TICKS: f64 = 100.0;

/// Adds what the kernel says of this process, read each time the metrics endpoint is. What it does not say is left out.
pub(crate) fn register(registry: &mut Registry) {
    registry.register_collector(Box::new(ProcessCollector));
}

#[derive(Debug)]
struct ProcessCollector;

/// What is read at a time.
#[derive(Debug, Default, PartialEq)]
struct ProcessUsage {
    cpu_seconds: Option<f64>,
    resident_bytes: Option<u64>,
    virtual_bytes: Option<u64>,
    threads: Option<u64>,
    open_files: Option<u64>,
    max_files: Option<u64>,
    start_time: Option<f64>,
}

impl ProcessUsage {
    fn load() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let mut usage = Self::parse(
            &read("/proc/self/stat"),
            &read("/proc/self/status"),
            &read("/proc/stat"),
        );
        // One of them is that by which they are counted.
        let files = fs::read_dir("/proc/self/fd");
        usage.open_files = files
            .ok()
            .map(|files| files.count().saturating_sub(1) as u64);
        usage.max_files = rlimit::Resource::NOFILE.get_soft().ok();
        usage
    }

    /// `/proc/self/stat`, `/proc/self/status`, and `/proc/stat` of the machine.
    fn parse(stat: &str, status: &str, machine: &str) -> Self {
        // A program's name is in brackets, and may hold any.
        let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        let fields: Vec<&str> = fields.split_whitespace().collect();
        // The documentation counts from 1, and two fields are gone.
        let ticks = |number: usize| Some(fields.get(number - 3)?.parse::<f64>().ok()? / TICKS);
        let line = |text: &str, name: &str| {
            let mut lines = text.lines().filter_map(|line| line.strip_prefix(name));
            let value = lines.next()?.split_whitespace().next()?;
            value.parse::<u64>().ok()
        };
        let kib = |name: &str| line(status, name).map(|kib| kib * 1024);
        let cpu = ticks(14).zip(ticks(15));
        #[expect(clippy::cast_precision_loss, reason = "seconds since 1970 fit")]
        let boot = line(machine, "btime ").map(|boot| boot as f64);
        Self {
            cpu_seconds: cpu.map(|(user, system)| user + system),
            resident_bytes: kib("VmRSS:"),
            virtual_bytes: kib("VmSize:"),
            threads: line(status, "Threads:"),
            start_time: boot.zip(ticks(22)).map(|(boot, since)| boot + since),
            ..Self::default()
        }
    }
}

impl Collector for ProcessCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let usage = ProcessUsage::load();
        let mut show = |name: &str, metric: Option<&dyn EncodeMetric>| match metric {
            Some(metric) => {
                let help = find_help(name);
                let kind = metric.metric_type();
                metric.encode(encoder.encode_descriptor(name, help, None, kind)?)
            }
            None => Ok(()),
        };
        let cpu = usage.cpu_seconds.map(ConstCounter::new);
        show("process_cpu_seconds", cpu.as_ref().map(as_metric))?;
        for (name, value) in [
            ("process_resident_memory_bytes", usage.resident_bytes),
            ("process_virtual_memory_bytes", usage.virtual_bytes),
            ("process_threads", usage.threads),
            ("process_open_fds", usage.open_files),
            ("process_max_fds", usage.max_files),
        ] {
            let gauge = value.map(ConstGauge::new);
            show(name, gauge.as_ref().map(as_metric))?;
        }
        let start = usage.start_time.map(ConstGauge::new);
        show("process_start_time_seconds", start.as_ref().map(as_metric))
    }
}

fn as_metric(metric: &impl EncodeMetric) -> &dyn EncodeMetric {
    metric
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str = "7 (a) S) S 1 7 7 0 -1 4194560 17 0 0 0 250 50 0 0 20 0 9 0 4200 123 456";
    const STATUS: &str = "Name:\ta\nVmSize:\t    2048 kB\nVmRSS:\t 1024 kB\nThreads:\t9\n";

    #[test]
    fn reads_what_the_kernel_says_and_leaves_out_the_rest() {
        let usage = ProcessUsage::parse(STAT, STATUS, "cpu 1 2\nbtime 1000\n");
        let expected = ProcessUsage {
            cpu_seconds: Some(3.0),
            resident_bytes: Some(1 << 20),
            virtual_bytes: Some(2 << 20),
            threads: Some(9),
            start_time: Some(1042.0),
            ..ProcessUsage::default()
        };
        assert_eq!(usage, expected);
        for (stat, status) in [("", ""), ("7 (a) S 1", "VmRSS: x kB")] {
            assert_eq!(
                ProcessUsage::parse(stat, status, ""),
                ProcessUsage::default()
            );
        }
    }

    #[test]
    fn knows_this_process() {
        let usage = ProcessUsage::load();
        let now = jiff::Timestamp::now().as_second();
        let started = usage.start_time.unwrap();
        #[expect(clippy::cast_precision_loss, reason = "seconds since 1970 fit")]
        let age = now as f64 - started;
        assert!((-5.0..86_400.0 * 30.0).contains(&age), "{age}");
        assert!(usage.resident_bytes.unwrap() > 1 << 20, "{usage:?}");
        assert!(usage.open_files.unwrap() < usage.max_files.unwrap());
        assert!(usage.threads.unwrap() > 0 && usage.cpu_seconds.is_some());
    }
}
