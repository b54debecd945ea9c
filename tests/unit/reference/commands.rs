//! docs/reference/command-line.md: every command with its arguments, from clap; and the environment.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use clap::{Arg, ArgAction, Command};
use pullpass::command::build_cli;

use crate::support::generated::{Part, Row, cell, code, read, table};
use crate::support::sources::sources;

const FILE: &str = "docs/reference/command-line.md";

fn build() -> Command {
    let mut command = build_cli();
    command.build();
    command
}

/// The commands that do something, each with all words that call it.
fn find_commands(command: &Command) -> Vec<(String, &Command)> {
    let mut found = Vec::new();
    for inner in command.get_subcommands() {
        if inner.get_name() == "help" {
            continue;
        }
        let deeper = find_commands(inner).into_iter();
        let name = inner.get_name();
        found.push((name.to_owned(), inner));
        found.extend(deeper.map(|(rest, deepest)| (format!("{name} {rest}"), deepest)));
    }
    found
}

/// An argument as it is written: `-n, --namespace NAME`.
fn write_argument(argument: &Arg) -> String {
    let names = argument.get_value_names().unwrap_or_default();
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let values = match argument.get_action() {
        ArgAction::Set | ArgAction::Append => names.join(" "),
        _ => String::new(),
    };
    let short = argument.get_short().map(|letter| format!("-{letter}"));
    let long = argument.get_long().map(|name| format!("--{name}"));
    let flags: Vec<String> = short.into_iter().chain(long).collect();
    code(&format!("{} {values}", flags.join(", ")))
}

/// A text that goes on within a sentence.
fn uncapitalise(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|first| first.to_ascii_lowercase());
    first.into_iter().chain(letters).collect()
}

/// A text in which `<NAME>` is no HTML.
fn escape(text: &str) -> String {
    let parts = text.split('`').enumerate();
    let parts = parts.map(|(at, part)| match at % 2 {
        0 => part.replace('<', "\\<"),
        _ => part.to_owned(),
    });
    parts.collect::<Vec<_>>().join("`")
}

fn describe_values(argument: &Arg) -> String {
    let values = argument.get_possible_values();
    if values.is_empty() || !matches!(argument.get_action(), ArgAction::Set | ArgAction::Append) {
        return String::new();
    }
    let describe = |value: &clap::builder::PossibleValue| {
        let help = value.get_help().map(ToString::to_string);
        let help = help.map_or_else(String::new, |help| {
            format!(" ({})", uncapitalise(help.trim_end_matches('.')))
        });
        format!("{}{help}", code(value.get_name()))
    };
    let values: Vec<String> = values.iter().map(describe).collect();
    format!(" One of {}.", values.join(", "))
}

fn make_row(argument: &Arg) -> Row {
    let help = argument.get_long_help().or(argument.get_help());
    let help = help.map(ToString::to_string).unwrap_or_default();
    let help = help.trim_end_matches('.');
    let often = match argument.get_action() {
        ArgAction::Append if !help.contains("may be repeated") => " May be given several times.",
        _ => "",
    };
    let defaults = argument.get_default_values().iter();
    let defaults: Vec<String> = defaults
        .map(|value| value.to_string_lossy().into_owned())
        .filter(|value| !value.is_empty())
        .collect();
    let is_flag = !matches!(argument.get_action(), ArgAction::Set | ArgAction::Append);
    let default = if argument.is_required_set() {
        "required".to_owned()
    } else if is_flag {
        String::new()
    } else {
        code(&defaults.join(","))
    };
    let variable = argument.get_env().map(|name| name.to_string_lossy());
    vec![
        write_argument(argument),
        default,
        code(&variable.unwrap_or_default()),
        cell(&format!(
            "{}.{often}{}",
            escape(help),
            describe_values(argument)
        )),
    ]
}

fn is_shown(argument: &Arg) -> bool {
    !argument.is_hide_set() && !["help", "version"].contains(&argument.get_id().as_str())
}

/// The examples that a command's help shows, a line each.
fn find_examples(command: &Command) -> Vec<String> {
    let help = command.get_after_help().map(ToString::to_string);
    let lines: Vec<String> = help
        .iter()
        .flat_map(|text| text.lines())
        .map(str::to_owned)
        .collect();
    let mut lines = lines.into_iter().skip_while(|line| line != "Examples:");
    lines.next();
    lines
        .map(|line| line.trim().to_owned())
        .filter(|line| !line.is_empty())
        .collect()
}

fn describe_command(text: &mut String, name: &str, command: &Command) {
    let about = command.get_long_about().or(command.get_about());
    let about = about.map(ToString::to_string).unwrap_or_default();
    let usage = command.clone().render_usage().to_string();
    let usage = usage.trim_start_matches("Usage: ");
    let _ = writeln!(text, "### pullpass {name}\n");
    for paragraph in about.split("\n\n") {
        // The first line of some is a heading of its own, without a full stop.
        let paragraph = escape(&cell(paragraph)).replace("\\|", "|");
        let end = if paragraph.ends_with('.') { "" } else { "." };
        let _ = writeln!(text, "{paragraph}{end}\n");
    }
    let _ = writeln!(text, "```sh\n{usage}\n```\n");
    let rows: Vec<Row> = command
        .get_arguments()
        .filter(|argument| is_shown(argument))
        .map(make_row)
        .collect();
    if !rows.is_empty() {
        let columns = ["argument", "default", "environment variable", "what it is"];
        let _ = writeln!(text, "{}", table(&columns, &rows));
    }
    let examples = find_examples(command);
    if !examples.is_empty() {
        let _ = writeln!(text, "```sh\n{}\n```\n", examples.join("\n"));
    }
}

#[test]
fn describes_every_command_with_all_of_its_arguments() {
    let command = build();
    let commands = find_commands(&command);
    assert!(commands.len() > 8, "{}", commands.len());
    let mut text = String::new();
    let about = command.get_long_about().map(ToString::to_string);
    for paragraph in about.unwrap_or_default().split("\n\n") {
        let _ = writeln!(text, "{}\n", cell(paragraph));
    }
    let rows = commands.iter().map(|(name, inner)| {
        let about = inner
            .get_about()
            .map(ToString::to_string)
            .unwrap_or_default();
        let anchor = format!("pullpass-{}", name.replace(' ', "-"));
        vec![format!("[`pullpass {name}`](#{anchor})"), cell(&about)]
    });
    let rows: Vec<Row> = rows.collect();
    let _ = writeln!(text, "{}", table(&["command", "what it does"], &rows));
    for (name, inner) in &commands {
        describe_command(&mut text, name, inner);
    }
    Part {
        file: FILE,
        name: "commands",
    }
    .hold(&text);
}

/// The words of the calls of pullpass in a line of shell: what comes before and after a call belongs to other programs.
fn find_calls(line: &str) -> Vec<Vec<String>> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quote = None;
    let mut depth = 0;
    for letter in line.chars() {
        match (letter, quote) {
            ('\'' | '"', None) => quote = Some(letter),
            (letter, Some(open)) if letter == open => quote = None,
            ('(', None) => {
                depth += 1;
                word.push(letter);
            }
            (')', None) => {
                depth -= 1;
                word.push(letter);
            }
            (' ', None) if depth == 0 => words.push(std::mem::take(&mut word)),
            (letter, _) => word.push(letter),
        }
    }
    words.push(word);
    // `<(…)` is a call in itself.
    let inner = words
        .iter()
        .filter_map(|word| word.strip_prefix("<(")?.strip_suffix(')'));
    let mut calls: Vec<Vec<String>> = inner.flat_map(find_calls).collect();
    let is_end = |word: &String| ["|", ">", "<", "&&", ";"].contains(&word.as_str());
    for part in words.split(is_end) {
        let begin = part.iter().position(|word| word == "pullpass");
        // Elsewhere it is a name: `kubectl -n pullpass`.
        let begin = begin.filter(|at| *at == 0 || part[at - 1] == "--");
        let after = part.iter().position(|word| word == "--").map(|at| at + 1);
        let begin =
            begin.or(after.filter(|at| part.get(*at).is_some_and(|word| word == "pullpass")));
        calls.extend(begin.map(|begin| part[begin..].to_vec()));
    }
    calls
}

/// What `$(…)` stands for: an example asks a cluster for its issuer.
fn fill_in(word: &str) -> &str {
    if word.starts_with("$(") {
        "https://oidc.example.com"
    } else {
        word
    }
}

#[test]
fn shows_examples_that_it_understands() {
    let command = build();
    let mut count = 0;
    for (name, inner) in find_commands(&command) {
        for example in find_examples(inner) {
            for words in find_calls(&example) {
                count += 1;
                let parsed =
                    build_cli().try_get_matches_from(words.iter().map(|word| fill_in(word)));
                assert!(
                    parsed.is_ok(),
                    "pullpass {name}: {example}: {words:?}: {parsed:?}"
                );
            }
        }
    }
    assert!(count > 20, "{count}");
}

#[test]
fn finds_the_calls_of_a_line_of_shell() {
    for (line, calls) in [
        ("pullpass check", &["pullpass check"][..]),
        (
            "source <(pullpass completion bash)",
            &["pullpass completion bash"],
        ),
        (
            "kubectl exec -n pullpass deploy/pullpass -- pullpass check -n a",
            &["pullpass check -n a"],
        ),
        (
            "a 'x | y' | pullpass explain -f - | b",
            &["pullpass explain -f -"],
        ),
        (
            "pullpass policy --issuer $(a | b)",
            &["pullpass policy --issuer $(a | b)"],
        ),
        ("kubectl get ppr -n pullpass", &[]),
    ] {
        let found = find_calls(line);
        let found: Vec<String> = found.iter().map(|words| words.join(" ")).collect();
        assert_eq!(found, calls, "{line}");
    }
}

/// Variables that libraries read for pullpass, and which: people set them for a Go program as well, or Kubernetes does.
const OF_LIBRARIES: [(&str, &str); 3] = [
    ("KUBERNETES_SERVICE_PORT", "kube-client"),
    ("SSL_CERT_DIR", "rustls-native-certs"),
    ("SSL_CERT_FILE", "rustls-native-certs"),
];

/// Whether a text has the form of a variable's name.
fn is_variable(text: &str) -> bool {
    let is_part =
        |letter: char| letter.is_ascii_uppercase() || letter.is_ascii_digit() || letter == '_';
    text.contains('_')
        && text.starts_with(|letter: char| letter.is_ascii_uppercase())
        && text.chars().all(is_part)
        || ["KUBECONFIG", "HOSTNAME"].contains(&text)
}

/// Names that clouds and Kubernetes give, which are no variables of pullpass' own flags: variables, and keys of source Secrets.
#[test]
fn tells_of_every_variable_that_it_reads() {
    let command = build();
    let mut flags: BTreeSet<String> = BTreeSet::new();
    for (_, inner) in find_commands(&command) {
        let variables = inner.get_arguments().filter_map(Arg::get_env);
        flags.extend(variables.map(|name| name.to_string_lossy().into_owned()));
    }
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for source in sources() {
        for text in source.texts().into_iter().filter(|text| is_variable(text)) {
            let room = source.path.split('/').next().unwrap_or_default();
            found.entry(text).or_default().insert(room.to_owned());
        }
    }
    found.remove("CARGO_PKG_VERSION");
    let lock = read("Cargo.lock");
    for (name, library) in OF_LIBRARIES {
        let is_used = lock.contains(&format!("name = \"{library}\"\n"));
        assert!(
            is_used,
            "{library} is no dependency, so that nobody reads {name}"
        );
        found.entry(name.to_owned()).or_default();
    }
    let rows = found.keys().filter(|name| !flags.contains(*name));
    let rows: Vec<Row> = rows.map(|name| vec![code(name)]).collect();
    assert!(rows.len() > 10, "{rows:?}");
    Part {
        file: FILE,
        name: "variables",
    }
    .hold_table(&["name"], &["what it is"], rows);
}
