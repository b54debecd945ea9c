//! What was tried, and how it went.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::ids;
use super::step_result::StepStatus;
pub(super) use super::step_result::{Fix, StepResult};
use crate::command::{Output, print};
use crate::quantity;

/// One step. The names and forms of its fields are stable.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct StepReport {
    /// What it is about.
    kind: SubjectKind,
    name: String,
    step: &'static str,
    status: StepStatus,
    /// What was found, in a word of a closed set (docs/CHECK.md).
    id: &'static str,
    /// The same for people.
    message: String,
    /// What to do.
    fix: Option<String>,
    /// The command that does it, where one does.
    command: Option<String>,
    /// How long it took; `null` where nothing was asked.
    millis: Option<u64>,
}

/// What a step is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) enum SubjectKind {
    Cluster,
    Registry,
    Image,
    Namespace,
    Node,
}

/// All steps so far. Text is printed as it comes.
pub(super) struct CheckReport {
    output: Output,
    subject: Option<(SubjectKind, String)>,
    /// What of the subject, where there are several of it.
    part: Option<String>,
    is_announced: bool,
    checks: Vec<StepReport>,
    since: Instant,
    /// The text so far, where it is not printed as it comes.
    held_back: Option<String>,
}

impl CheckReport {
    /// One that is printed as it comes, or with `holds_back` at its end.
    pub(super) fn new(output: Output, holds_back: bool) -> Self {
        Self {
            output,
            subject: None,
            part: None,
            is_announced: false,
            checks: Vec::new(),
            since: Instant::now(),
            held_back: holds_back.then(String::new),
        }
    }

    /// What is not as it should be, or not yet: step, finding, and what it is about.
    pub(super) fn pending(&self) -> Vec<String> {
        let pending = self.checks.iter().filter(|check| {
            check.status == StepStatus::Failed || check.id == ids::SECRET_NOT_WRITTEN
        });
        let mut pending: Vec<String> = pending
            .map(|check| {
                format!(
                    "{} of {:?} {} ({})",
                    check.step, check.kind, check.name, check.id
                )
            })
            .collect();
        pending.dedup();
        pending
    }

    /// Whether a step so far found this.
    pub(super) fn has_found(&self, id: &str) -> bool {
        self.checks.iter().any(|check| check.id == id)
    }

    /// What the next steps are about.
    pub(super) fn begin(&mut self, kind: SubjectKind, name: &str) {
        self.subject = Some((kind, name.to_owned()));
        self.part = None;
        self.is_announced = false;
        self.start();
    }

    /// Which part of it the next steps are about, for their messages.
    pub(super) fn narrow(&mut self, part: &str) {
        self.part = Some(part.to_owned());
    }

    /// The next steps are about all of it again.
    pub(super) fn widen(&mut self) {
        self.part = None;
    }

    /// The next step begins now.
    pub(super) fn start(&mut self) {
        self.since = Instant::now();
    }

    /// A step ended; the next one begins.
    pub(super) fn add(&mut self, step: &'static str, result: StepResult) -> anyhow::Result<()> {
        let took = self.since.elapsed();
        self.push(step, result, Some(took))
    }

    /// A step for which nothing was asked.
    pub(super) fn note(&mut self, step: &'static str, result: StepResult) -> anyhow::Result<()> {
        self.push(step, result, None)
    }

    /// Steps that cannot be tried because an earlier one failed; for people they are one line.
    pub(super) fn skip(&mut self, steps: &[&'static str], because: &str) -> anyhow::Result<()> {
        let message = format!("{}: {because}", steps.join(", "));
        let line = self.of_part(StepResult::skipped(message));
        self.print_line("not tried", &line, None)?;
        let result = self.of_part(StepResult::skipped(format!("not tried: {because}")));
        let checks = steps
            .iter()
            .map(|step| self.check(step, result.clone(), None));
        let checks: Vec<StepReport> = checks.collect();
        self.checks.extend(checks);
        self.start();
        Ok(())
    }

    fn push(
        &mut self,
        step: &'static str,
        result: StepResult,
        took: Option<Duration>,
    ) -> anyhow::Result<()> {
        let result = self.of_part(result);
        self.print_line(step, &result, took)?;
        let check = self.check(step, result, took);
        self.checks.push(check);
        self.start();
        Ok(())
    }

    fn check(&self, step: &'static str, result: StepResult, took: Option<Duration>) -> StepReport {
        let (kind, name) = self.subject();
        StepReport {
            kind,
            name: name.to_owned(),
            step,
            status: result.status,
            id: result.id,
            message: result.message,
            command: result.fix.as_ref().and_then(|fix| fix.command.clone()),
            fix: result.fix.map(|fix| fix.to_string()),
            millis: took.map(millis),
        }
    }

    fn of_part(&self, result: StepResult) -> StepResult {
        match &self.part {
            Some(part) => result.about(part),
            None => result,
        }
    }

    fn subject(&self) -> (SubjectKind, &str) {
        let subject = self.subject.as_ref();
        subject.map_or((SubjectKind::Cluster, ""), |(kind, name)| (*kind, name))
    }

    /// Prints a line for people.
    fn print_line(
        &mut self,
        label: &str,
        result: &StepResult,
        took: Option<Duration>,
    ) -> anyhow::Result<()> {
        if !self.output.is_text() {
            return Ok(());
        }
        let line = self.render(label, result, took);
        self.is_announced = true;
        match &mut self.held_back {
            Some(text) => text.push_str(&line),
            None => print(&line)?,
        }
        Ok(())
    }

    fn render(&self, label: &str, result: &StepResult, took: Option<Duration>) -> String {
        let gap = if self.checks.is_empty() { "" } else { "\n" };
        let (kind, name) = self.subject();
        let head = if self.is_announced {
            String::new()
        } else {
            format!("{gap}{kind:?} {name}\n")
        };
        let mark = result.status.mark();
        let is_wide = self.output == Output::Wide;
        // What took no time asked nobody.
        let took = took.map(millis).filter(|took| is_wide || *took > 0);
        let took = took.map(|took| format!(" ({took} ms)"));
        let wants_id = matches!(result.status, StepStatus::Failed | StepStatus::Warning);
        let id = (is_wide || wants_id).then(|| format!(" [{}]", result.id));
        let fix = result
            .fix
            .as_ref()
            .map(|fix| format!("    fix        {fix}\n"));
        format!(
            "{head}  {mark} {label:<10} {}{}{}\n{}",
            result.message,
            id.unwrap_or_default(),
            took.unwrap_or_default(),
            fix.unwrap_or_default()
        )
    }

    /// Prints what is left to print, and gives the exit code.
    pub(super) fn finish(self) -> anyhow::Result<ExitCode> {
        #[derive(Serialize)]
        struct All<'a> {
            ok: bool,
            checks: &'a [StepReport],
        }
        let count = |status| {
            self.checks
                .iter()
                .filter(|check| check.status == status)
                .count()
        };
        let (ok, failed, skipped) = (
            count(StepStatus::Ok),
            count(StepStatus::Failed),
            count(StepStatus::Skipped),
        );
        let hidden = match count(StepStatus::Hidden) {
            0 => String::new(),
            number => format!(", {number} not for this account"),
        };
        let warnings = match count(StepStatus::Warning) {
            0 => String::new(),
            number => format!(", {}", quantity::count(number, "warning")),
        };
        let all = All {
            ok: failed == 0,
            checks: &self.checks,
        };
        let report = self.output.format(&all)?;
        let held_back = self.held_back.unwrap_or_default();
        let summary = || {
            format!(
                "{held_back}\n{ok} fine, {failed} failed, {skipped} not tried{hidden}{warnings}\n"
            )
        };
        print(&report.unwrap_or_else(summary))?;
        Ok(if failed == 0 {
            ExitCode::SUCCESS
        } else {
            crate::command::FAILED
        })
    }
}

fn millis(took: Duration) -> u64 {
    u64::try_from(took.as_millis()).unwrap_or(u64::MAX)
}
