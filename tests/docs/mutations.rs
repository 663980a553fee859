//! The table of mutations against the script that makes them.

use std::collections::BTreeSet;
use std::path::PathBuf;

use crate::{files, page, read, root};

/// The rows of the table: name, and the tests that notice the mutation.
fn rows() -> Vec<(String, String)> {
    let page = page("docs/reliability.md");
    let table = page.split("| `scripts/mutations` |").nth(1).and_then(|rest| rest.split("\n\n").next()).unwrap();
    let rows = table.lines().filter_map(|line| line.strip_prefix("| `")?.strip_suffix(" |"));
    rows.map(|row| {
        let (name, rest) = row.split_once("` | ").unwrap();
        (name.to_owned(), rest.to_owned())
    })
    .collect()
}

/// The names of the script's mutations.
pub fn made(script: &str) -> Vec<&str> {
    script.lines().filter_map(|line| line.strip_prefix("    \"")?.split_once("\": (")).map(|(name, _)| name).collect()
}

#[test]
fn every_mutation_has_a_row_with_existing_tests() {
    let script = page("scripts/mutations");
    let made = made(&script);
    let rows = rows();
    let listed: Vec<&str> = rows.iter().map(|(name, _)| name.as_str()).collect();
    let once = |names: &[&str]| names.iter().copied().map(str::to_owned).collect::<BTreeSet<_>>();
    assert_eq!(once(&listed), once(&made), "docs/reliability.md against scripts/mutations");
    assert_eq!((listed.len(), made.len()), (once(&listed).len(), once(&made).len()), "a mutation is listed twice");

    let sources: Vec<_> =
        ["src", "crates", "tests"].iter().flat_map(|folder| files(&root().join(folder), "rs")).collect();
    let tests: String = sources.iter().map(|path| read(path)).collect();
    let (mut unnamed, mut unknown) = (Vec::new(), Vec::new());
    for (name, noticed) in &rows {
        let cited: Vec<&str> = noticed.split('`').skip(1).step_by(2).collect();
        if cited.is_empty() && !noticed.contains("the simulation") {
            unnamed.push(name);
        }
        unknown.extend(cited.into_iter().filter(|cited| !is_a_test(cited, &tests)));
    }
    assert!(unnamed.is_empty(), "no test is named: {unnamed:?}");
    assert!(unknown.is_empty(), "no such test: {unknown:?}");
}

/// True for `suite module::test`, with the test's name whole or shortened by `…`, and for `suite module`.
fn is_a_test(cited: &str, sources: &str) -> bool {
    match cited.rsplit_once("::").map(|(_, test)| (test, test.strip_suffix('…'))) {
        Some((_, Some(begins))) => sources.contains(&format!("fn {begins}")),
        Some((test, None)) => sources.contains(&format!("fn {test}(")) || sources.contains(&format!("mod {test};")),
        None => {
            let path = format!("tests/{}", cited.replace(' ', "/"));
            [format!("{path}.rs"), format!("{path}/mod.rs"), format!("{path}/main.rs")]
                .iter()
                .any(|path| root().join(path).exists())
        }
    }
}

/// The paths of these sources, and the names of their functions.
fn names(sources: &[PathBuf]) -> Vec<String> {
    let mut names = Vec::new();
    for path in sources.iter().filter(|path| path.exists()) {
        names.push(path.strip_prefix(root()).unwrap().display().to_string());
        let text = read(path);
        let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
        names
            .extend(text.split("fn ").skip(1).map(|rest| rest.chars().take_while(|c| is_part(*c)).collect::<String>()));
    }
    names
}

/// A filter that matches no test would let its mutation pass unnoticed.
#[test]
fn every_filter_of_a_mutation_matches_a_test() {
    let script = page("scripts/mutations");
    let mut checked = 0;
    for line in script.lines() {
        let Some((name, rest)) = line.strip_prefix("    \"").and_then(|line| line.split_once("\": ([")) else {
            continue;
        };
        let words: Vec<&str> = rest.split(']').next().unwrap().split('"').skip(1).step_by(2).collect();
        let (sources, filter) = match words[..] {
            ["--lib", filter] => (files(&root().join("src"), "rs"), filter),
            ["--test", suite, filter] => {
                let folder = root().join("tests").join(suite);
                let inner = if folder.is_dir() { files(&folder, "rs") } else { Vec::new() };
                ([vec![root().join(format!("tests/{suite}.rs"))], inner].concat(), filter)
            }
            _ => continue,
        };
        let names = names(&sources);
        for part in filter.split("::").filter(|part| !part.is_empty()) {
            assert!(names.iter().any(|name| name.contains(part)), "{name}: {filter} matches no test");
        }
        checked += 1;
    }
    assert!(checked > 60, "only {checked} filters were found");
}
