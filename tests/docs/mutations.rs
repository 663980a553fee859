//! The table of what is broken on purpose, against the script that breaks it.

use std::collections::BTreeSet;

use crate::{files, page, read, root};

/// The rows of the table: name, and by which tests it is noticed.
fn rows() -> Vec<(String, String)> {
    let page = page("docs/reliability.md");
    let table = page.split("| `scripts/mutations` |").nth(1).and_then(|rest| rest.split("\n\n").next()).unwrap();
    let rows = table.lines().filter_map(|line| line.strip_prefix("| `")?.strip_suffix(" |"));
    rows.map(|row| {
        let (name, rest) = row.split_once("` | ").unwrap();
        (name.to_owned(), rest.split_once(" | ").unwrap().1.to_owned())
    })
    .collect()
}

/// The names of the mutations that the script can make.
pub fn made(script: &str) -> Vec<&str> {
    script.lines().filter_map(|line| line.strip_prefix("    \"")?.split_once("\": (")).map(|(name, _)| name).collect()
}

#[test]
fn every_mutation_has_a_row_with_tests_that_exist() {
    let script = page("scripts/mutations");
    let made = made(&script);
    let rows = rows();
    let told: Vec<&str> = rows.iter().map(|(name, _)| name.as_str()).collect();
    let once = |names: &[&str]| names.iter().copied().map(str::to_owned).collect::<BTreeSet<_>>();
    assert_eq!(once(&told), once(&made), "docs/reliability.md, and scripts/mutations");
    assert_eq!((told.len(), made.len()), (once(&told).len(), once(&made).len()), "one of them stands there twice");

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

/// True for `suite module::test`, with the test's name whole or cut off by `…`, and for `suite module`.
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
