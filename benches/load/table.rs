//! The table: medians over the rounds, and what they mean beside each other.

use std::fmt;
use std::time::Duration;

use crate::contestant::Memory;
use crate::drive::Load;

/// One drive.
#[derive(Clone, Copy)]
pub(crate) struct Row {
    /// Processor time of the webhook's process for one review, in microseconds.
    cpu_us: f64,
    per_second: f64,
    p50_ms: f64,
    p99_ms: f64,
}

impl Row {
    /// What a drive came to, and the processor time that the webhook used meanwhile.
    pub(crate) fn new(cpu: Duration, load: &Load) -> Self {
        let answers = f64::from(load.answers().max(1));
        Self {
            cpu_us: cpu.as_secs_f64() * 1e6 / answers,
            per_second: answers / load.wall.as_secs_f64(),
            p50_ms: load.percentile(50).as_secs_f64() * 1e3,
            p99_ms: load.percentile(99).as_secs_f64() * 1e3,
        }
    }
}

struct Line {
    size: &'static str,
    connections: usize,
    name: &'static str,
    rounds: Vec<Row>,
    memory: Option<Memory>,
}

/// All drives, in the order in which they came first.
#[derive(Default)]
pub(crate) struct Table(Vec<Line>);

impl Table {
    /// Adds one round.
    pub(crate) fn add(
        &mut self,
        size: &'static str,
        connections: usize,
        name: &'static str,
        row: Row,
    ) {
        let known = self
            .0
            .iter_mut()
            .find(|line| (line.size, line.connections, line.name) == (size, connections, name));
        match known {
            Some(line) => line.rounds.push(row),
            None => self.0.push(Line {
                size,
                connections,
                name,
                rounds: vec![row],
                memory: None,
            }),
        }
    }

    /// Sets the memory after all rounds of a size.
    pub(crate) fn set_memory(&mut self, size: &str, name: &str, memory: Memory) {
        for line in self
            .0
            .iter_mut()
            .filter(|line| line.size == size && line.name == name)
        {
            line.memory = Some(memory);
        }
    }

    /// The median of something of the line beside this one that has another name.
    fn beside(&self, line: &Line, name: &str, what: fn(&Row) -> f64) -> f64 {
        self.0
            .iter()
            .find(|other| {
                (other.size, other.connections, other.name) == (line.size, line.connections, name)
            })
            .map_or(f64::NAN, |line| line.median(what))
    }
}

impl Line {
    fn median(&self, what: fn(&Row) -> f64) -> f64 {
        let mut values: Vec<f64> = self.rounds.iter().map(what).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
    }
}

impl fmt::Display for Table {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_medians(formatter)?;
        self.write_ratios(formatter)
    }
}

impl Table {
    fn write_medians(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            formatter,
            "\n{:<7} {:>5} {:<18} {:>12} {:>8} {:>8} {:>8} {:>8} {:>8} {:>9}",
            "review",
            "conns",
            "",
            "CPU us each",
            "x floor",
            "per sec",
            "p50 ms",
            "p99 ms",
            "RSS MiB",
            "peak MiB"
        )?;
        for line in &self.0 {
            let cpu = line.median(|row| row.cpu_us);
            let memory = line.memory.map_or([f64::NAN; 2], |memory| {
                [memory.resident_mib, memory.peak_mib]
            });
            writeln!(
                formatter,
                "{:<7} {:>5} {:<18} {cpu:>12.1} {:>8.2} {:>8.0} {:>8.3} {:>8.3} {:>8.1} {:>9.1}",
                line.size,
                line.connections,
                line.name,
                cpu / self.beside(line, "floor", |row| row.cpu_us),
                line.median(|row| row.per_second),
                line.median(|row| row.p50_ms),
                line.median(|row| row.p99_ms),
                memory[0],
                memory[1],
            )?;
        }
        Ok(())
    }

    /// What is aimed at, and what was measured.
    fn write_ratios(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [cpu, typed, p99] = [
            "CPU, pullpass / floor",
            "CPU, typed / pullpass",
            "p99, pullpass / floor",
        ];
        writeln!(
            formatter,
            "\n{:<7} {:>5} {cpu:>22} {typed:>22} {p99:>22}",
            "review", "conns"
        )?;
        writeln!(
            formatter,
            "{:<7} {:>5} {:>22} {:>22} {:>22}",
            "", "aim", "<= 1.3", ">= 2", "<= 1.5"
        )?;
        for line in self.0.iter().filter(|line| line.name == "pullpass") {
            let cpu = line.median(|row| row.cpu_us);
            writeln!(
                formatter,
                "{:<7} {:>5} {:>22.2} {:>22.2} {:>22.2}",
                line.size,
                line.connections,
                cpu / self.beside(line, "floor", |row| row.cpu_us),
                self.beside(line, "typed", |row| row.cpu_us) / cpu,
                line.median(|row| row.p99_ms) / self.beside(line, "floor", |row| row.p99_ms),
            )?;
        }
        Ok(())
    }
}
