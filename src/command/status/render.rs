//! The view for people. Pure.

use jiff::{SignedDuration, Timestamp};

use super::view::{Finding, Level, RegistryView, SecretRow, StatusView, WebhookView};
use crate::command::Output;

/// How wide a line is at most, in characters.
const WIDTH: usize = 100;

/// How narrow a column gets.
const NARROWEST: usize = 10;

/// How many findings, and how many Events, fit on a screen.
const FINDINGS: usize = 10;
const EVENTS: usize = 5;

/// Between two columns.
const GAP: usize = 2;

/// How it looks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    /// `None`: nothing is cut off or left out.
    width: Option<usize>,
    colour: bool,
}

/// What a cell says besides its words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tone {
    Plain,
    Good,
    Bad,
    Warning,
}

/// One cell of a table.
#[derive(Clone, Debug)]
struct Cell {
    text: String,
    tone: Tone,
}

impl Look {
    /// Colour is for terminals, and for people who did not say no: <https://no-color.org>.
    pub(super) fn find(
        output: Output,
        is_terminal: bool,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Self {
        let no_colour = variable("NO_COLOR").is_some_and(|value| !value.is_empty());
        let is_dumb = variable("TERM").is_some_and(|term| term == "dumb");
        Self {
            width: (output != Output::Wide).then_some(WIDTH),
            colour: is_terminal && !no_colour && !is_dumb,
        }
    }

    fn paint(self, text: &str, tone: Tone) -> String {
        let code = match tone {
            Tone::Good => "32",
            Tone::Bad => "31",
            Tone::Warning => "33",
            Tone::Plain => return text.to_owned(),
        };
        if self.colour && !text.trim().is_empty() {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}

impl Cell {
    fn new(text: impl Into<String>, tone: Tone) -> Self {
        let text = text.into();
        // What others wrote may move a terminal's cursor.
        let text = text.replace(char::is_control, " ");
        Self { text, tone }
    }

    fn plain(text: impl Into<String>) -> Self {
        Self::new(text, Tone::Plain)
    }

    fn width(&self) -> usize {
        self.text.chars().count()
    }
}

/// All of it, at `now`.
pub(super) fn render(view: &StatusView, look: &Look, now: Timestamp) -> String {
    let mut blocks = Vec::new();
    if let Some(webhook) = &view.webhook {
        blocks.push(render_webhook(webhook, view.namespaces_opted_in, look, now));
    }
    if let Some(namespace) = &view.namespace {
        blocks.push(format!("Namespace {namespace}\n"));
    }
    if !view.registries.is_empty() {
        blocks.push(render_registries(&view.registries, look, now));
    }
    if !view.secrets.is_empty() {
        blocks.push(render_secrets(&view.secrets, look, now));
    }
    if !view.events.is_empty() {
        blocks.push(render_events(view, look, now));
    }
    blocks.push(render_findings(view, look));
    if !view.unread.is_empty() {
        let rows = view.unread.iter();
        let rows = rows.map(|one| vec![Cell::plain(one.what), Cell::plain(&one.message)]);
        blocks.push(format!(
            "Not read\n{}",
            table(rows.collect(), &[1], 2, look)
        ));
    }
    blocks.join("\n")
}

fn render_webhook(
    webhook: &WebhookView,
    opted_in: Option<usize>,
    look: &Look,
    now: Timestamp,
) -> String {
    let called = match webhook.called {
        Some(true) => Cell::new("configured", Tone::Good),
        Some(false) => Cell::new("not called", Tone::Bad),
        None => Cell::plain("not known"),
    };
    let target = webhook.target.as_deref().unwrap_or_default();
    let replicas = webhook.replicas_ready.zip(webhook.replicas_wanted);
    let replicas = replicas.map_or_else(
        || Cell::plain("not known"),
        |(ready, wanted)| {
            let tone = if ready >= wanted {
                Tone::Good
            } else {
                Tone::Bad
            };
            Cell::new(format!("{ready}/{wanted} ready"), tone)
        },
    );
    let leader = match &webhook.leader {
        Some(leader) => format!("leader {leader}"),
        None => "no leader known".to_owned(),
    };
    let end = webhook.certificate_expiration_time;
    let mut rows = vec![
        vec![Cell::plain("Webhook"), called, Cell::plain(target)],
        vec![Cell::plain("Replicas"), replicas, Cell::plain(leader)],
        vec![
            Cell::plain("Certificate"),
            until(end, now, "not known"),
            Cell::plain(""),
        ],
    ];
    if let Some(number) = opted_in {
        let number = Cell::plain(format!("{number} opted in"));
        rows.push(vec![Cell::plain("Namespaces"), number, Cell::plain("")]);
    }
    table(rows, &[2], 0, look)
}

fn render_registries(registries: &[RegistryView], look: &Look, now: Timestamp) -> String {
    let head = [
        "REGISTRY",
        "IDENTITY",
        "ACCESS",
        "READY",
        "REASON",
        "NAMESPACES",
        "EXPIRES",
    ];
    let mut rows = vec![head.map(Cell::plain).to_vec()];
    rows.extend(registries.iter().map(|one| {
        let tone = match (&*one.ready, one.suspended) {
            ("True", false) => Tone::Good,
            (_, true) => Tone::Warning,
            _ => Tone::Bad,
        };
        let (ready, total) = (one.namespaces_ready, one.namespaces_total);
        vec![
            Cell::plain(&one.name),
            Cell::plain(&one.identity),
            Cell::plain(one.access),
            Cell::new(&one.ready, tone),
            Cell::new(&one.reason, tone),
            Cell::plain(format!("{ready}/{total}")),
            until(one.expiration_time, now, "-"),
        ]
    }));
    table(rows, &[0, 1, 4], 0, look)
}

fn render_secrets(secrets: &[SecretRow], look: &Look, now: Timestamp) -> String {
    let head = ["SECRET", "HOLDS", "OF", "AGE", "EXPIRES"];
    let mut rows = vec![head.map(Cell::plain).to_vec()];
    rows.extend(secrets.iter().map(|one| {
        let age = one.created.map(|created| span(now.duration_since(created)));
        vec![
            Cell::plain(&one.name),
            Cell::plain(one.holds),
            Cell::plain(one.registries.join(", ")),
            Cell::plain(age.unwrap_or_else(|| "-".to_owned())),
            until(one.expiration_time, now, "-"),
        ]
    }));
    table(rows, &[0, 2], 0, look)
}

fn render_events(view: &StatusView, look: &Look, now: Timestamp) -> String {
    let head = ["AGO", "EVENT", "ABOUT", "MESSAGE"];
    let mut rows = vec![head.map(Cell::plain).to_vec()];
    let most = look.width.map_or(usize::MAX, |_| EVENTS);
    rows.extend(view.events.iter().take(most).map(|event| {
        let tone = if event.warning {
            Tone::Warning
        } else {
            Tone::Plain
        };
        vec![
            Cell::plain(span(now.duration_since(event.time))),
            Cell::new(&event.reason, tone),
            Cell::plain(&event.object),
            Cell::plain(&event.message),
        ]
    }));
    let text = table(rows, &[2, 3], 0, look);
    text + &more(view.events.len(), most)
}

fn render_findings(view: &StatusView, look: &Look) -> String {
    if view.findings.is_empty() {
        let all = if view.unread.is_empty() {
            "Nothing fails."
        } else {
            "Nothing fails of what was read."
        };
        return format!("{}\n", look.paint(all, Tone::Good));
    }
    let most = look.width.map_or(usize::MAX, |_| FINDINGS);
    let shown = view.findings.iter().take(most);
    let text: String = shown.map(|finding| render_finding(finding, look)).collect();
    text + &more(view.findings.len(), most)
}

/// What it is, on as many lines as it takes, and what to type. Neither is ever cut: the point may be at the end, and a command is there to
/// be copied.
fn render_finding(finding: &Finding, look: &Look) -> String {
    let (mark, tone) = match finding.level {
        Level::Failed => ("✗", Tone::Bad),
        Level::Warning => ("!", Tone::Warning),
        Level::Info => ("·", Tone::Plain),
    };
    let (about, reason) = (&finding.about, &finding.reason);
    let line = format!("{about}: {reason}: {}", finding.message);
    let line = Cell::plain(line.trim_end_matches([':', ' ']));
    let width = look.width.map_or(usize::MAX, |width| width - GAP);
    let line = wrap(&line.text, width, GAP);
    let next = finding.next.as_ref();
    let next = next.map_or_else(String::new, |next| format!("    next: {next}\n"));
    format!("{} {line}\n{next}", look.paint(mark, tone))
}

fn more(all: usize, shown: usize) -> String {
    match all.saturating_sub(shown) {
        0 => String::new(),
        more => format!("  … and {more} more: -o wide\n"),
    }
}

/// Columns side by side. Where the lines are too long, these columns are cut, the widest first.
fn table(rows: Vec<Vec<Cell>>, shrinks: &[usize], indent: usize, look: &Look) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| rows.iter().map(|row| row[column].width()).max();
    let mut widths: Vec<usize> = (0..columns)
        .map(|column| width(column).unwrap_or_default())
        .collect();
    let most = look.width.unwrap_or(usize::MAX);
    let gaps = indent + GAP * columns.saturating_sub(1);
    while widths.iter().sum::<usize>() + gaps > most {
        let widest = shrinks.iter().max_by_key(|column| widths[**column]);
        let Some(widest) = widest.filter(|column| widths[**column] > NARROWEST) else {
            break;
        };
        widths[*widest] -= 1;
    }
    let line = |row: Vec<Cell>| {
        let cells = row.into_iter().zip(&widths).map(|(cell, width)| {
            let text = cut(&cell.text, *width);
            let padding = " ".repeat(width - text.chars().count());
            look.paint(&text, cell.tone) + &padding
        });
        let cells = cells.collect::<Vec<_>>().join(&" ".repeat(GAP));
        format!("{}{}\n", " ".repeat(indent), cells.trim_end())
    };
    rows.into_iter().map(line).collect()
}

/// A text on lines of so many characters at most, but for words that are longer; all but the first are indented.
fn wrap(text: &str, width: usize, indent: usize) -> String {
    let mut wrapped = String::new();
    let mut used = 0;
    for word in text.split(' ') {
        let length = word.chars().count();
        if used > 0 && used + 1 + length > width {
            wrapped.push('\n');
            wrapped.push_str(&" ".repeat(indent));
            used = 0;
        } else if used > 0 {
            wrapped.push(' ');
            used += 1;
        }
        wrapped.push_str(word);
        used += length;
    }
    wrapped
}

/// The first characters of a text that is too long.
fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let mut kept: String = text.chars().take(width.saturating_sub(1)).collect();
    kept.push('…');
    kept
}

/// How long until a moment, and the moment.
fn until(end: Option<Timestamp>, now: Timestamp, none: &str) -> Cell {
    let Some(end) = end else {
        return Cell::plain(none);
    };
    let at = end.strftime("%Y-%m-%d %H:%MZ");
    let left = end.duration_since(now);
    if left.is_positive() {
        Cell::plain(format!("in {} ({at})", span(left)))
    } else {
        Cell::new(format!("ended {} ago ({at})", span(-left)), Tone::Bad)
    }
}

/// A time in its largest unit, so that it is not off by more than half: `90m`, `36h`, `3d`.
fn span(time: SignedDuration) -> String {
    let seconds = time.as_secs().max(0);
    let units = [(86_400, 'd'), (3600, 'h'), (60, 'm')].into_iter();
    let mut fitting = units.filter(|(length, _)| seconds >= 2 * length);
    match fitting.next() {
        Some((length, letter)) => format!("{}{letter}", seconds / length),
        None => format!("{seconds}s"),
    }
}
