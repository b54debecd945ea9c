//! The test programs: few, since each is linked with everything; every file is a module of one, and every module is run by make.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot be set up has failed"
)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// How many programs there are at most.
const MOST: usize = 6;

fn tests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests")
}

fn list(folder: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    entries.map(|entry| entry.unwrap().path())
}

fn stem(path: &Path) -> String {
    path.file_stem().unwrap().to_string_lossy().into_owned()
}

/// The modules that a file's text declares by a file of their own.
fn declared(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter_map(|line| {
        let line = line.strip_prefix("pub(crate) ").unwrap_or(line);
        line.strip_prefix("mod ")?.strip_suffix(';')
    })
}

/// The files of a folder and of those below it, by the paths of their modules below `parent`, whose own file is `declaring`; what
/// nobody declares is noted.
fn read_modules(
    folder: &Path,
    declaring: &Path,
    parent: &str,
    found: &mut Vec<String>,
    undeclared: &mut Vec<PathBuf>,
) {
    let text = fs::read_to_string(declaring).unwrap_or_default();
    for path in list(folder) {
        let name = stem(&path);
        let module = format!("{parent}{name}::");
        if path.is_dir() {
            let own = folder.join(format!("{name}.rs"));
            read_modules(&path, &own, &module, found, undeclared);
        } else if path != declaring && path.extension().is_some_and(|known| known == "rs") {
            if !declared(&text).any(|known| known == name) {
                undeclared.push(path);
            }
            found.push(module);
        }
    }
}

/// The modules of each program, as `module::` or `module::inner::`, and the files that are in none.
fn read_programs() -> (BTreeMap<String, Vec<String>>, Vec<PathBuf>) {
    let mut programs = BTreeMap::new();
    let mut undeclared = Vec::new();
    for folder in list(&tests()) {
        let main = folder.join("main.rs");
        if main.exists() {
            let mut modules = Vec::new();
            read_modules(&folder, &main, "", &mut modules, &mut undeclared);
            programs.insert(stem(&folder), modules);
        }
    }
    (programs, undeclared)
}

/// The parts of a module's path, tests' filters are found anywhere in it.
fn is_run_with(module: &str, filter: &str) -> bool {
    !module.starts_with(filter) && module.contains(filter)
}

fn top(modules: &[String]) -> impl Iterator<Item = &String> {
    modules
        .iter()
        .filter(|module| module.matches("::").count() == 1)
}

#[test]
fn are_few_and_have_every_file_as_a_module() {
    let (programs, undeclared) = read_programs();
    let alone: Vec<_> = list(&tests())
        .filter(|path| path.extension().is_some_and(|known| known == "rs"))
        .collect();
    assert!(
        alone.is_empty(),
        "these would be programs of their own: {alone:#?}"
    );
    assert!(programs.len() <= MOST, "{:?}", programs.keys());
    assert!(
        programs["api"].len() > 40 && programs["unit"].len() > 40,
        "{programs:#?}"
    );
    assert!(undeclared.is_empty(), "in no program: {undeclared:#?}");
}

/// The filter of one module, `module::`, is in no other module's path.
#[test]
fn run_no_module_with_another() {
    assert!(is_run_with("fixed_keyring::", "keyring::"));
    assert!(is_run_with("chart::values::", "values::"));
    assert!(!is_run_with("keyring::fixed::", "keyring::"));
    let (programs, _) = read_programs();
    for (program, modules) in programs {
        for filter in top(&modules) {
            let also: Vec<_> = modules
                .iter()
                .filter(|module| is_run_with(module, filter))
                .collect();
            assert!(also.is_empty(), "{program}: {filter} runs also {also:?}");
        }
    }
}

/// All of `unit` at once, those of `api` and `clouds` by the names of their files, those of `cluster` by their names: `--test cluster -- NAME::`,
/// or `$(call clusters,NAME …)`, each in a process of its own.
#[test]
fn are_run_by_make_with_all_of_their_modules() {
    let makefile = fs::read_to_string(tests().join("../Makefile")).unwrap();
    let runs = |text: &str| assert!(makefile.contains(text), "the Makefile has no `{text}`");
    let (programs, _) = read_programs();
    for (program, modules) in &programs {
        match program.as_str() {
            "unit" => runs("--lib --bins --test unit\n"),
            "api" | "clouds" => runs(&format!("$(call modules,{program})")),
            "scale" => runs("--test scale --"),
            _ => {
                let (direct, by_name) = (
                    format!("--test {program} -- "),
                    format!("$(call {program}s,"),
                );
                for module in top(modules) {
                    let names = |line: &str, start: &str, word: &str| {
                        let after = line.split_once(start).map(|(_, words)| words);
                        let mut words = after.into_iter().flat_map(|words| words.split([' ', ')']));
                        words.any(|one| one == word)
                    };
                    let is_run = makefile.lines().any(|line| {
                        names(line, &direct, module)
                            || names(line, &by_name, module.trim_end_matches("::"))
                    });
                    assert!(is_run, "the Makefile does not run {module} of {program}");
                }
            }
        }
    }
}
