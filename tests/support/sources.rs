//! The library's sources, as text and as tokens.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};

/// A source file: its path below `src`, and its text.
pub struct Source {
    pub path: String,
    pub text: String,
}

/// All files but those that hold tests alone.
pub fn sources() -> Vec<Source> {
    fn collect(root: &Path, folder: &Path, sources: &mut Vec<Source>) {
        for entry in fs::read_dir(folder).expect("the folder can be read") {
            let path: PathBuf = entry.expect("the folder can be read").path();
            if path.is_dir() {
                collect(root, &path, sources);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("the file can be read");
                let path = path
                    .strip_prefix(root)
                    .expect("it is below the root")
                    .to_string_lossy()
                    .into_owned();
                sources.push(Source { path, text });
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut sources = Vec::new();
    collect(&root, &root, &mut sources);
    // Tests that have a file of their own.
    sources
        .retain(|source| !source.path.ends_with("/tests.rs") && !source.path.contains("/tests/"));
    sources.sort_by(|one, other| one.path.cmp(&other.path));
    sources
}

impl Source {
    /// Its code as tokens: no tests, no attributes, no documentation.
    pub fn tokens(&self) -> Vec<TokenTree> {
        let tokens: TokenStream = self.text.parse().expect("the file is Rust");
        strip(tokens)
    }

    /// The texts in its code, as the program has them.
    pub fn texts(&self) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        walk(&self.tokens(), &mut |tokens, at| {
            found.extend(text_of(&tokens[at]));
        });
        found
    }
}

/// Tokens without tests and attributes.
fn strip(tokens: TokenStream) -> Vec<TokenTree> {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    let mut code = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        if is_test_attribute(&tokens, at) {
            at = end_of_item(&tokens, at + 2);
        } else if let Some(end) = end_of_attribute(&tokens, at) {
            at = end;
        } else {
            code.push(match &tokens[at] {
                TokenTree::Group(group) => {
                    let inner = strip(group.stream()).into_iter().collect();
                    TokenTree::Group(Group::new(group.delimiter(), inner))
                }
                token => token.clone(),
            });
            at += 1;
        }
    }
    code
}

fn end_of_attribute(tokens: &[TokenTree], at: usize) -> Option<usize> {
    if !is_punct(tokens.get(at), '#') {
        return None;
    }
    let group = at + 1 + usize::from(is_punct(tokens.get(at + 1), '!'));
    let is_bracket = |token: &TokenTree| matches!(token, TokenTree::Group(group) if group.delimiter() == Delimiter::Bracket);
    tokens
        .get(group)
        .is_some_and(is_bracket)
        .then_some(group + 1)
}

/// Shows every token, those in groups too: those beside it, and where among them it is.
pub fn walk(tokens: &[TokenTree], see: &mut impl FnMut(&[TokenTree], usize)) {
    for (at, token) in tokens.iter().enumerate() {
        see(tokens, at);
        if let TokenTree::Group(group) = token {
            walk(&inner(group), see);
        }
    }
}

/// What a group holds.
pub fn inner(group: &Group) -> Vec<TokenTree> {
    group.stream().into_iter().collect()
}

/// Whether a token is this word.
pub fn is_word(token: Option<&TokenTree>, word: &str) -> bool {
    matches!(token, Some(TokenTree::Ident(known)) if *known == word)
}

/// Whether a token is this character.
pub fn is_punct(token: Option<&TokenTree>, character: char) -> bool {
    matches!(token, Some(TokenTree::Punct(punct)) if punct.as_char() == character)
}

/// The text that a token is, as the program has it; `None`: it is something else.
pub fn text_of(token: &TokenTree) -> Option<String> {
    let TokenTree::Literal(literal) = token else {
        return None;
    };
    let written = literal.to_string();
    if let Some(raw) = written.strip_prefix('r') {
        let raw = raw.trim_matches('#');
        return Some(raw.strip_prefix('"')?.strip_suffix('"')?.to_owned());
    }
    let written = written.strip_prefix('"')?.strip_suffix('"')?;
    let mut text = String::new();
    let mut letters = written.chars().peekable();
    while let Some(letter) = letters.next() {
        match (letter, letters.peek()) {
            ('\\', Some('\n')) => while letters.next_if(|next| next.is_whitespace()).is_some() {},
            ('\\', Some('n')) => {
                letters.next();
                text.push('\n');
            }
            ('\\', Some(_)) => text.extend(letters.next()),
            _ => text.push(letter),
        }
    }
    Some(text)
}

/// `#[cfg(test)]`.
pub fn is_test_attribute(tokens: &[TokenTree], at: usize) -> bool {
    is_punct(tokens.get(at), '#')
        && matches!(tokens.get(at + 1), Some(TokenTree::Group(group))
            if group.stream().to_string().replace(' ', "") == "cfg(test)")
}

/// Where the item that begins here ends: after its body, or its semicolon.
pub fn end_of_item(tokens: &[TokenTree], begin: usize) -> usize {
    let is_use = is_word(tokens.get(begin), "use");
    let ends = |at: &usize| {
        is_punct(tokens.get(*at), ';')
            || !is_use
                && matches!(&tokens[*at], TokenTree::Group(group) if group.delimiter() == Delimiter::Brace)
    };
    (begin..tokens.len())
        .find(ends)
        .map_or(tokens.len(), |end| end + 1)
}
