//! Parts of documents that tests make: each stands between two comments that name it, and the rest is written by hand. `make reference`
//! writes them; without it a part that says something else than its source fails the test.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Tests run side by side, and some of them write the same file.
static WRITING: Mutex<()> = Mutex::new(());

/// One part of a document.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    /// The document, from the repository's root on.
    pub file: &'static str,
    /// The part's name in it.
    pub name: &'static str,
}

/// What a table holds for a row that is made: its cells, and those that people write.
pub type Row = Vec<String>;

fn is_writing() -> bool {
    std::env::var("PULLPASS_REFERENCE").is_ok_and(|text| text == "write")
}

/// The text of a document.
pub fn read(file: &str) -> String {
    let _none_writes = WRITING.lock().unwrap_or_else(PoisonError::into_inner);
    read_now(file)
}

fn read_now(file: &str) -> String {
    let path = path_of(file);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn path_of(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(file)
}

/// A text as a cell of a table.
pub fn cell(text: &str) -> String {
    let text: Vec<&str> = text.split_whitespace().collect();
    text.join(" ").replace('|', "\\|")
}

/// A text between back-ticks, as a cell of a table; empty where there is none.
pub fn code(text: &str) -> String {
    let text = cell(text);
    match &*text {
        "" => text,
        text if text.contains('`') => format!("`` {text} ``"),
        text => format!("`{text}`"),
    }
}

/// A table of these columns.
pub fn table(columns: &[&str], rows: &[Row]) -> String {
    let mut text = format!(
        "| {} |\n|{}\n",
        columns.join(" | "),
        "---|".repeat(columns.len())
    );
    for row in rows {
        let _ = writeln!(text, "| {} |", row.join(" | "));
    }
    text
}

/// The rows of all tables of a text, without their heads: the cells of each.
pub fn rows(text: &str) -> Vec<Row> {
    let mut found = Vec::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        if lines.peek().is_some_and(|next| next.starts_with("|---")) {
            lines.next();
        } else if let Some(line) = line.strip_prefix('|') {
            found.push(split_cells(line));
        }
    }
    found
}

fn split_cells(line: &str) -> Row {
    let mut cells = vec![String::new()];
    let mut previous = ' ';
    for letter in line.trim_end().trim_end_matches('|').chars() {
        match (letter, cells.last_mut()) {
            ('|', _) if previous != '\\' => cells.push(String::new()),
            (letter, Some(cell)) => cell.push(letter),
            (_, None) => {}
        }
        previous = letter;
    }
    cells.iter().map(|cell| cell.trim().to_owned()).collect()
}

/// What stands below a heading of a document, up to the next one of its level.
pub fn section<'t>(text: &'t str, heading: &str) -> &'t str {
    let begin = text
        .find(&format!("\n{heading}\n"))
        .unwrap_or_else(|| panic!("there is no {heading:?}"));
    let rest = &text[begin + heading.len() + 2..];
    let level = heading.split(' ').next().unwrap_or_default();
    let end = rest.find(&format!("\n{level} "));
    &rest[..end.unwrap_or(rest.len())]
}

impl Part {
    fn begin(self) -> String {
        format!("<!-- {}: made by `make reference` -->\n", self.name)
    }

    fn end(self) -> String {
        format!("\n<!-- end of {} -->", self.name)
    }

    /// The document before this part, the part, and what comes after it.
    fn split(self, text: &str) -> [String; 3] {
        let (file, begin, end) = (self.file, self.begin(), self.end());
        let (head, rest) = text
            .split_once(&begin)
            .unwrap_or_else(|| panic!("{file} lacks {begin:?}"));
        let (part, tail) = rest
            .split_once(&end)
            .unwrap_or_else(|| panic!("{file} lacks {end:?}"));
        [head, part, tail].map(str::to_owned)
    }

    /// Compares the part with what it is to be, or writes it.
    pub fn hold(self, made: &str) {
        let _one = WRITING.lock().unwrap_or_else(PoisonError::into_inner);
        let text = read_now(self.file);
        let [head, part, tail] = self.split(&text);
        let made = format!("\n{}\n", made.trim());
        if is_writing() {
            let text = [head, self.begin(), made, self.end(), tail].concat();
            fs::write(path_of(self.file), text).unwrap();
            return;
        }
        let (file, name) = (self.file, self.name);
        assert!(
            part == made,
            "{file}: the part {name:?} is stale: run `make reference`; it differs in {:#?}",
            differences(&part, &made)
        );
    }

    /// Compares or writes a table whose first cells are made (`made`: their columns), and whose last ones people write (`written`). A row
    /// that is new is written with empty cells, and fails until somebody has filled them.
    pub fn hold_table(self, made: &[&str], written: &[&str], rows_made: Vec<Row>) {
        let text = read(self.file);
        let [_, part, _] = self.split(&text);
        let mut known: BTreeMap<String, Row> = rows(&part)
            .into_iter()
            .filter(|cells| cells.len() == made.len() + written.len())
            .map(|mut cells| {
                let last = cells.split_off(made.len());
                (cells.swap_remove(0), last)
            })
            .collect();
        let mut unwritten = Vec::new();
        let mut all = Vec::new();
        for mut row in rows_made {
            let last = known.remove(&row[0]);
            let last = last.unwrap_or_else(|| vec![String::new(); written.len()]);
            if last.iter().any(String::is_empty) {
                unwritten.push(row[0].clone());
            }
            row.extend(last);
            all.push(row);
        }
        let columns = [made, written].concat();
        let are_there = known.is_empty() && rows(&part).len() == all.len();
        if is_writing() || (are_there && unwritten.is_empty()) {
            self.hold(&table(&columns, &all));
        }
        let (file, name) = (self.file, self.name);
        assert!(
            unwritten.is_empty(),
            "{file}: the table {name:?} has no words about {}: run `make reference`, and write into the empty cells ({})",
            unwritten.join(", "),
            written.join(", ")
        );
        assert!(
            is_writing() || are_there,
            "{file}: the table {name:?} has rows of what is no more ({}): run `make reference`",
            known.into_keys().collect::<Vec<_>>().join(", ")
        );
    }
}

/// The lines that only one of two texts has.
fn differences(before: &str, after: &str) -> Vec<String> {
    let has = |text: &str, line: &str| text.lines().any(|known| known == line);
    let gone = before.lines().filter(|line| !has(after, line));
    let new = after.lines().filter(|line| !has(before, line));
    let gone = gone.map(|line| format!("- {line}"));
    gone.chain(new.map(|line| format!("+ {line}"))).collect()
}
