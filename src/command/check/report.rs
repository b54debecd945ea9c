//! What was tried, and how it went.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::command::{Output, print};

/// One hop. The names and forms of its fields are stable.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Check {
    /// What it is about.
    kind: Kind,
    name: String,
    hop: &'static str,
    status: Status,
    /// What was found.
    message: String,
    /// What to do.
    fix: Option<String>,
    /// How long it took; `null` where nothing was asked.
    millis: Option<u64>,
}

/// What a hop is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) enum Kind {
    Cluster,
    Registry,
    Image,
    Namespace,
}

/// How a hop went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Status {
    Ok,
    Failed,
    /// Not tried, or of no consequence.
    Skipped,
}

/// How a hop went, and what to say of it.
#[derive(Clone, Debug)]
pub(super) struct Verdict {
    status: Status,
    message: String,
    fix: Option<String>,
}

impl Verdict {
    pub(super) fn ok(message: impl Into<String>) -> Self {
        Self::new(Status::Ok, message, None)
    }

    pub(super) fn failed(message: impl Into<String>, fix: impl Into<String>) -> Self {
        Self::new(Status::Failed, message, Some(fix.into()))
    }

    pub(super) fn skipped(message: impl Into<String>) -> Self {
        Self::new(Status::Skipped, message, None)
    }

    /// The same, with what it is about in front.
    pub(super) fn about(self, what: &str) -> Self {
        let message = format!("{what}: {}", self.message);
        Self { message, ..self }
    }

    /// The same where it failed already, else that this failed.
    pub(super) fn or_failed(self, message: impl Into<String>, fix: impl Into<String>) -> Self {
        match self.status {
            Status::Failed => self,
            Status::Ok | Status::Skipped => Self::failed(message, fix),
        }
    }

    /// The same as nothing that counts.
    pub(super) fn without_consequence(self) -> Self {
        Self {
            status: Status::Skipped,
            ..self
        }
    }

    fn new(status: Status, message: impl Into<String>, fix: Option<String>) -> Self {
        Self {
            status,
            message: message.into(),
            fix,
        }
    }
}

/// All hops so far. Text is printed as it comes.
pub(super) struct Report {
    output: Output,
    subject: Option<(Kind, String)>,
    /// What of the subject, where there are several of it.
    part: Option<String>,
    is_announced: bool,
    checks: Vec<Check>,
    since: Instant,
}

impl Report {
    pub(super) fn new(output: Output) -> Self {
        Self {
            output,
            subject: None,
            part: None,
            is_announced: false,
            checks: Vec::new(),
            since: Instant::now(),
        }
    }

    /// What the next hops are about.
    pub(super) fn begin(&mut self, kind: Kind, name: &str) {
        self.subject = Some((kind, name.to_owned()));
        self.part = None;
        self.is_announced = false;
        self.start();
    }

    /// Which part of it the next hops are about, for their messages.
    pub(super) fn narrow(&mut self, part: &str) {
        self.part = Some(part.to_owned());
    }

    /// The next hop begins now.
    pub(super) fn start(&mut self) {
        self.since = Instant::now();
    }

    /// A hop ended; the next one begins.
    pub(super) fn add(&mut self, hop: &'static str, verdict: Verdict) -> anyhow::Result<()> {
        let took = self.since.elapsed();
        self.push(hop, verdict, Some(took))
    }

    /// A hop for which nothing was asked.
    pub(super) fn note(&mut self, hop: &'static str, verdict: Verdict) -> anyhow::Result<()> {
        self.push(hop, verdict, None)
    }

    /// Hops that cannot be tried because an earlier one failed; for people they are one line.
    pub(super) fn skip(&mut self, hops: &[&'static str], because: &str) -> anyhow::Result<()> {
        let message = format!("{}: {because}", hops.join(", "));
        let line = self.of_part(Verdict::skipped(message));
        self.tell("not tried", &line, None)?;
        let verdict = self.of_part(Verdict::skipped(format!("not tried: {because}")));
        let checks = hops
            .iter()
            .map(|hop| self.check(hop, verdict.clone(), None));
        let checks: Vec<Check> = checks.collect();
        self.checks.extend(checks);
        self.start();
        Ok(())
    }

    fn push(
        &mut self,
        hop: &'static str,
        verdict: Verdict,
        took: Option<Duration>,
    ) -> anyhow::Result<()> {
        let verdict = self.of_part(verdict);
        self.tell(hop, &verdict, took)?;
        let check = self.check(hop, verdict, took);
        self.checks.push(check);
        self.start();
        Ok(())
    }

    fn check(&self, hop: &'static str, verdict: Verdict, took: Option<Duration>) -> Check {
        let (kind, name) = self.subject();
        Check {
            kind,
            name: name.to_owned(),
            hop,
            status: verdict.status,
            message: verdict.message,
            fix: verdict.fix,
            millis: took.map(millis),
        }
    }

    fn of_part(&self, verdict: Verdict) -> Verdict {
        match &self.part {
            Some(part) => verdict.about(part),
            None => verdict,
        }
    }

    fn subject(&self) -> (Kind, &str) {
        let subject = self.subject.as_ref();
        subject.map_or((Kind::Cluster, ""), |(kind, name)| (*kind, name))
    }

    /// Prints a line for people.
    fn tell(
        &mut self,
        label: &str,
        verdict: &Verdict,
        took: Option<Duration>,
    ) -> anyhow::Result<()> {
        if self.output == Output::Text {
            print(&self.render(label, verdict, took))?;
            self.is_announced = true;
        }
        Ok(())
    }

    fn render(&self, label: &str, verdict: &Verdict, took: Option<Duration>) -> String {
        let gap = if self.checks.is_empty() { "" } else { "\n" };
        let (kind, name) = self.subject();
        let head = if self.is_announced {
            String::new()
        } else {
            format!("{gap}{kind:?} {name}\n")
        };
        let mark = match verdict.status {
            Status::Ok => '✓',
            Status::Failed => '✗',
            Status::Skipped => '–',
        };
        // What took no time asked nobody.
        let took = took.map(millis).filter(|took| *took > 0);
        let took = took.map(|took| format!(" ({took} ms)"));
        let fix = verdict
            .fix
            .as_ref()
            .map(|fix| format!("    fix        {fix}\n"));
        format!(
            "{head}  {mark} {label:<11}{}{}\n{}",
            verdict.message,
            took.unwrap_or_default(),
            fix.unwrap_or_default()
        )
    }

    /// Prints what is left to print, and gives the exit code.
    pub(super) fn finish(self) -> anyhow::Result<ExitCode> {
        #[derive(Serialize)]
        struct All<'a> {
            ok: bool,
            checks: &'a [Check],
        }
        let count = |status| {
            self.checks
                .iter()
                .filter(|check| check.status == status)
                .count()
        };
        let (ok, failed, skipped) = (
            count(Status::Ok),
            count(Status::Failed),
            count(Status::Skipped),
        );
        print(&match self.output {
            Output::Json => {
                let all = All {
                    ok: failed == 0,
                    checks: &self.checks,
                };
                serde_json::to_string_pretty(&all)? + "\n"
            }
            Output::Text => format!("\n{ok} fine, {failed} failed, {skipped} not tried\n"),
        })?;
        Ok(if failed == 0 {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }
}

fn millis(took: Duration) -> u64 {
    u64::try_from(took.as_millis()).unwrap_or(u64::MAX)
}
