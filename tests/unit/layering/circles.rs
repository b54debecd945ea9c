//! Which files name each other in a circle. What counts is every path of code that begins with `crate`, `self` or `super`; tests are
//! left out. A name that a file only re-exports is followed to the file that defines it; the file that re-exports it counts as well, so
//! that a room's face may name all of its files as long as it does nothing else: one with code of its own that names them is no face.

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::{TokenStream, TokenTree};

use super::Source;
use crate::support::sources::{end_of_item, is_punct, is_test_attribute};

/// The segments of a path, from the crate's root on.
type Segments = Vec<String>;

/// What one file names.
#[derive(Default)]
struct Paths {
    /// What its code names, but for what it re-exports.
    named: BTreeSet<Segments>,
    /// What its `use` bring into scope, private ones too: the modules below it may name them by `super`.
    imported: BTreeMap<String, Segments>,
}

/// The files that each file names.
pub(crate) struct FileGraph {
    edges: BTreeMap<String, BTreeSet<String>>,
}

impl FileGraph {
    /// Reads the paths out of the files' code.
    pub(crate) fn of(sources: &[Source]) -> Self {
        let read = |source: &Source| {
            let module: Segments = match source.module() {
                "lib" => Vec::new(),
                module => module.split('/').map(str::to_owned).collect(),
            };
            let tokens: TokenStream = source.text.parse().expect("the file is Rust");
            let mut paths = Paths::default();
            paths.read(tokens, &module);
            (module, paths)
        };
        let files: BTreeMap<Segments, Paths> = sources
            .iter()
            .filter(|source| source.path != "main.rs")
            .map(read)
            .collect();
        let edges = files.iter().map(|(module, paths)| {
            let named = paths.named.iter().flat_map(|path| find(&files, path));
            let others = named.filter(|file| *file != module);
            (
                file_name(module),
                others.map(|file| file_name(file)).collect(),
            )
        });
        Self {
            edges: edges.collect(),
        }
    }

    /// The circles: each with all of its files, in the order of their names.
    pub(crate) fn circles(&self) -> Vec<BTreeSet<&str>> {
        let reachable: BTreeMap<&str, BTreeSet<&str>> = self
            .edges
            .keys()
            .map(|file| (file.as_str(), self.reachable(file)))
            .collect();
        let circles: BTreeSet<BTreeSet<&str>> = reachable
            .iter()
            .filter(|(file, others)| others.contains(*file))
            .map(|(file, others)| {
                let back = |other: &&&str| reachable[**other].contains(file);
                others.iter().filter(back).copied().collect()
            })
            .collect();
        circles.into_iter().collect()
    }

    /// What can be reached from a file by one step or more.
    fn reachable(&self, file: &str) -> BTreeSet<&str> {
        let mut found = BTreeSet::new();
        let mut left: Vec<&str> = self.edges[file].iter().map(String::as_str).collect();
        while let Some(next) = left.pop() {
            if found.insert(next) {
                left.extend(self.edges[next].iter().map(String::as_str));
            }
        }
        found
    }

    /// Which of a circle's files each of them names.
    pub(crate) fn describe(&self, circle: &BTreeSet<&str>) -> String {
        let lines = circle.iter().map(|file| {
            let named = self.edges[*file].iter().map(String::as_str);
            let named: Vec<&str> = named.filter(|other| circle.contains(other)).collect();
            format!("{file} names {}", named.join(", "))
        });
        lines.collect::<Vec<_>>().join("; ")
    }
}

fn file_name(module: &[String]) -> String {
    if module.is_empty() {
        return "lib.rs".to_owned();
    }
    format!("{}.rs", module.join("/"))
}

/// The files by which a path leads to what it names: those that re-export it, and the one that defines it.
fn find<'f>(files: &'f BTreeMap<Segments, Paths>, path: &[String]) -> Vec<&'f Segments> {
    let mut path = path.to_vec();
    let mut found = Vec::new();
    // More hops than any re-export takes: two that name each other are no program.
    for _ in 0..16 {
        let longest = (0..=path.len())
            .rev()
            .find(|end| files.contains_key(&path[..*end]));
        let Some((longest, (module, paths))) =
            longest.and_then(|end| Some((end, files.get_key_value(&path[..end])?)))
        else {
            break;
        };
        found.push(module);
        match path.get(longest).and_then(|name| paths.imported.get(name)) {
            Some(imported) => path = [imported, &path[longest + 1..]].concat(),
            None => break,
        }
    }
    found
}

impl Paths {
    /// Reads code of a module, which may be an inline one of the file.
    fn read(&mut self, tokens: TokenStream, module: &[String]) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let mut at = 0;
        while at < tokens.len() {
            at = self.read_next(&tokens, at, module);
        }
    }

    /// Reads what begins at this token, and answers where the next begins.
    fn read_next(&mut self, tokens: &[TokenTree], at: usize, module: &[String]) -> usize {
        if is_test_attribute(tokens, at) {
            return end_of_item(tokens, at + 2);
        }
        match &tokens[at] {
            TokenTree::Ident(word) if word == "use" => {
                let end = (at..tokens.len()).find(|&end| is_punct(tokens.get(end), ';'));
                let end = end.unwrap_or(tokens.len());
                let is_public = at > 0 && is_visibility(&tokens[..at]);
                for (path, name) in tree(&tokens[at + 1..end]) {
                    let Some(path) = absolute(&path, module) else {
                        continue;
                    };
                    if !is_public {
                        self.named.insert(path.clone());
                    }
                    self.imported.insert(name, path);
                }
                end + 1
            }
            TokenTree::Ident(word) if word == "mod" => match tokens.get(at + 2) {
                Some(TokenTree::Group(body)) => {
                    let inner = [module, &[tokens[at + 1].to_string()]].concat();
                    self.read(body.stream(), &inner);
                    at + 3
                }
                _ => at + 2,
            },
            TokenTree::Ident(_) if begins_path(tokens, at) => {
                let (path, end) = straight(tokens, at);
                if let Some(path) = absolute(&path, module) {
                    self.named.insert(path);
                }
                end
            }
            TokenTree::Group(group) => {
                self.read(group.stream(), module);
                at + 1
            }
            _ => at + 1,
        }
    }
}

/// The path from the root on; `None`: it begins with another crate, or with something in scope.
fn absolute(path: &[String], module: &[String]) -> Option<Segments> {
    let mut base = module;
    let mut rest = path;
    match path.first()?.as_str() {
        "crate" => (base, rest) = (&[], &path[1..]),
        "self" => rest = &path[1..],
        "super" => {
            while rest.first().is_some_and(|first| first == "super") {
                base = base.split_last()?.1;
                rest = &rest[1..];
            }
        }
        _ => return None,
    }
    Some([base, rest].concat())
}

fn is_separator(tokens: &[TokenTree], at: usize) -> bool {
    is_punct(tokens.get(at), ':') && is_punct(tokens.get(at + 1), ':')
}

/// Whether code ends with `pub` or `pub(…)`.
fn is_visibility(before: &[TokenTree]) -> bool {
    match before {
        [.., TokenTree::Ident(word)] | [.., TokenTree::Ident(word), TokenTree::Group(_)] => {
            word == "pub"
        }
        _ => false,
    }
}

/// Whether a word is a path's first one: followed by `::`, and not within a path, a macro's `$crate` or `pub(in …)`.
fn begins_path(tokens: &[TokenTree], at: usize) -> bool {
    let before = at.checked_sub(1).and_then(|before| tokens.get(before));
    let is_within = is_punct(before, ':') && at >= 2 && is_punct(tokens.get(at - 2), ':');
    let is_other =
        is_punct(before, '$') || matches!(before, Some(TokenTree::Ident(word)) if word == "in");
    is_separator(tokens, at + 1) && !is_within && !is_other
}

/// The path without groups that begins here, and where it ends.
fn straight(tokens: &[TokenTree], begin: usize) -> (Segments, usize) {
    let mut path = vec![tokens[begin].to_string()];
    let mut at = begin + 1;
    while is_separator(tokens, at)
        && let Some(TokenTree::Ident(word)) = tokens.get(at + 2)
    {
        path.push(word.to_string());
        at += 3;
    }
    (path, at)
}

/// The paths of a `use`, and the name that each has in scope: `a::b` as `b` and `a::c` as `d` of `a::{b, c as d}`.
fn tree(tokens: &[TokenTree]) -> Vec<(Segments, String)> {
    let parts = tokens.split(|token| is_punct(Some(token), ','));
    let mut found = Vec::new();
    for part in parts.filter(|part| !part.is_empty()) {
        // A leading `::` is another crate's.
        if is_separator(part, 0) {
            continue;
        }
        let (prefix, mut at) = match &part[0] {
            TokenTree::Ident(_) => straight(part, 0),
            _ => (Vec::new(), 0),
        };
        if is_separator(part, at) {
            at += 2;
        }
        match part.get(at) {
            Some(TokenTree::Group(group)) => {
                let inner: Vec<TokenTree> = group.stream().into_iter().collect();
                for (path, name) in tree(&inner) {
                    found.push(([prefix.clone(), path].concat(), name));
                }
            }
            alias => {
                let mut path = prefix;
                let is_itself = path.len() > 1 && path.last().is_some_and(|last| last == "self");
                if is_itself {
                    path.pop();
                }
                let alias = matches!(alias, Some(TokenTree::Ident(word)) if word == "as")
                    .then(|| part.get(at + 1))
                    .flatten();
                let name = alias
                    .map(ToString::to_string)
                    .or_else(|| path.last().cloned());
                found.push((path, name.unwrap_or_default()));
            }
        }
    }
    // `self` in a group is the group's own path.
    for (path, name) in &mut found {
        if path.len() > 1 && path.last().is_some_and(|last| last == "self") {
            path.pop();
            if name == "self" {
                *name = path.last().cloned().unwrap_or_default();
            }
        }
    }
    found
}
