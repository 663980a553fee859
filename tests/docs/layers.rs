//! The permitted imports, checked in the sources: every path, not only `use` lines.

use std::collections::BTreeSet;
use std::path::Path;

use crate::{files, read, root};

/// The source without comments, strings and characters.
fn code(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let bytes: Vec<char> = source.chars().collect();
    let at = |index: usize| bytes.get(index).copied().unwrap_or('\0');
    let mut i = 0;
    while i < bytes.len() {
        match (at(i), at(i + 1)) {
            ('/', '/') => {
                while i < bytes.len() && at(i) != '\n' {
                    i += 1;
                }
            }
            ('/', '*') => {
                while i < bytes.len() && (at(i), at(i + 1)) != ('*', '/') {
                    i += 1;
                }
                i += 2;
            }
            ('r', '"' | '#') if !is_word(at(i.wrapping_sub(1))) && raw(&bytes, i).is_some() => {
                i = raw(&bytes, i).unwrap_or(i + 1);
            }
            ('"', _) => {
                i += 1;
                while i < bytes.len() && at(i) != '"' {
                    i += if at(i) == '\\' { 2 } else { 1 };
                }
                i += 1;
            }
            // A character, not a lifetime.
            ('\'', '\\') => {
                i += 3;
                while i < bytes.len() && at(i) != '\'' {
                    i += 1;
                }
                i += 1;
            }
            ('\'', _) if at(i + 2) == '\'' => i += 3,
            (c, _) => {
                out.push(c);
                i += 1;
            }
        }
    }
    out
}

/// The end of a raw string that begins here.
fn raw(bytes: &[char], start: usize) -> Option<usize> {
    let hashes = bytes[start + 1..].iter().take_while(|c| **c == '#').count();
    let open = start + 1 + hashes;
    (bytes.get(open) == Some(&'"')).then_some(())?;
    let close =
        |at: &usize| bytes[*at] == '"' && bytes[at + 1..].iter().take(hashes).filter(|c| **c == '#').count() == hashes;
    (open + 1..bytes.len()).find(close).map(|at| at + 1 + hashes)
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The first names after each `before`: one, or those of a group in braces.
fn heads(code: &str, before: &str) -> Vec<String> {
    let mut heads = Vec::new();
    for (at, _) in code.match_indices(before) {
        if code[..at].chars().next_back().is_some_and(|c| is_word(c) || c == ':') {
            continue;
        }
        let rest = code[at + before.len()..].trim_start();
        match rest.strip_prefix('{') {
            None => heads.push(rest.chars().take_while(|c| is_word(*c)).collect()),
            Some(group) => {
                let mut depth = 1;
                let mut head = String::new();
                for c in group.chars() {
                    match c {
                        '{' => depth += 1,
                        '}' => depth -= 1,
                        _ => {}
                    }
                    if depth == 1 && c == ',' || depth == 0 {
                        heads.push(head.trim().chars().take_while(|c| is_word(*c)).collect());
                        head.clear();
                    } else if depth == 1 {
                        head.push(c);
                    }
                    if depth == 0 {
                        break;
                    }
                }
            }
        }
    }
    heads
}

/// The root modules that a file of the worker names.
fn imports(path: &Path, code: &str, modules: &BTreeSet<String>) -> BTreeSet<String> {
    let Ok(inside) = path.strip_prefix(root().join("src")) else { return BTreeSet::new() };
    let is_mod = inside.file_name().is_some_and(|name| name == "mod.rs");
    let depth = inside.components().count() - usize::from(is_mod);
    let mut found: BTreeSet<String> = heads(code, "crate::").into_iter().collect();
    found.extend(heads(code, "erasure_worker::"));
    // This many steps up lead to the root; one more from an inline module.
    for steps in depth..=depth + 1 {
        found.extend(heads(code, &"super::".repeat(steps)));
    }
    found.intersection(modules).cloned().collect()
}

fn modules() -> BTreeSet<String> {
    let entries = std::fs::read_dir(root().join("src")).unwrap();
    let own = entries.map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned());
    own.chain(crates()).chain(["receipt".to_owned()]).collect()
}

/// The folders below `crates/`, without the testkit.
fn crates() -> Vec<String> {
    let entries = std::fs::read_dir(root().join("crates")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
    names.filter(|name| name != "testkit").collect()
}

#[test]
fn the_testkit_is_no_part_of_the_program() {
    let manifest = read(&root().join("Cargo.toml"));
    let (program, tests) = manifest.split_once("[dev-dependencies]").unwrap();
    assert!(tests.contains("erasure-testkit") && !program.contains("testkit"), "the testkit is not for tests alone");
    for name in crates() {
        assert!(!read(&root().join("crates").join(&name).join("Cargo.toml")).contains("testkit"), "crates/{name}");
    }
}

/// The sources of the worker and its crates: name, path and code. A name begins with the folder in `src/`, or with the
/// crate.
fn sources() -> Vec<(String, std::path::PathBuf, String)> {
    let mut all = Vec::new();
    let folders = crates().into_iter().map(|name| (root().join("crates").join(&name).join("src"), format!("{name}/")));
    for (folder, prefix) in std::iter::once((root().join("src"), String::new())).chain(folders) {
        for path in files(&folder, "rs") {
            let name = format!("{prefix}{}", path.strip_prefix(&folder).unwrap().display());
            let code = code(&read(&path));
            all.push((name, path, code));
        }
    }
    all
}

#[test]
fn each_part_imports_only_its_permitted_parts() {
    let rules: [(&str, &[&str]); 5] = [
        ("trace.rs", &[]),
        ("csv.rs", &[]),
        ("broker/", &["broker", "job", "crash", "trace"]),
        ("systems/", &["systems", "job", "config", "clock", "trace", "csv", "store"]),
        ("engine/", &["engine", "job", "store", "broker", "systems", "seal", "receipt", "clock", "crash", "trace"]),
    ];
    let modules = modules();
    let sources = sources();
    for (folder, allowed) in rules {
        let mut read = 0;
        for (name, path, code) in sources.iter().filter(|(name, ..)| name.starts_with(folder)) {
            let found = imports(path, code, &modules);
            let foreign: Vec<_> = found.iter().filter(|module| !allowed.contains(&module.as_str())).collect();
            assert!(foreign.is_empty(), "src/{name} imports {foreign:?}");
            read += 1;
        }
        assert!(read > 0, "src/{folder} holds no source");
    }
}

/// A system reads its own settings; it knows no other part of the configuration.
#[test]
fn systems_use_only_the_table_reader_of_the_configuration() {
    let tools = ["Choice", "Cursor", "POSITIVE"];
    for (name, _, code) in sources().into_iter().filter(|(name, ..)| name.starts_with("systems/")) {
        let named = heads(&code, "crate::config::");
        let foreign: Vec<_> = named.iter().filter(|item| !tools.contains(&item.as_str())).collect();
        assert!(foreign.is_empty(), "src/{name} names {foreign:?}");
        let ways = heads(&code, "crate::").into_iter().filter(|module| module == "config").count();
        assert_eq!(
            ways,
            code.matches("crate::config::").count(),
            "src/{name} imports the configuration in another form"
        );
    }
}

#[test]
fn no_crate_of_ours_imports_another_and_jobs_do_not_import_receipts() {
    // A file for a database is a connector file with statements.
    let permitted = |name: &str, line: &str| name == "connector" && line.starts_with("erasure-statement.");
    for name in crates() {
        let manifest = read(&root().join("crates").join(&name).join("Cargo.toml"));
        let dependencies = manifest.split("[dependencies]").nth(1).unwrap().split("[dev-dependencies]").next().unwrap();
        let ours: Vec<_> =
            dependencies.lines().filter(|line| line.starts_with("erasure-") && !permitted(&name, line)).collect();
        assert!(ours.is_empty(), "crates/{name} imports {ours:?}");
    }
    let job = |name: &str| name.starts_with("job/") && !name.starts_with("job/receipt/");
    for (name, _, code) in sources().into_iter().filter(|(name, ..)| job(name)) {
        assert!(!heads(&code, "crate::").contains(&"receipt".to_owned()), "{name} imports receipts");
    }
}

#[test]
fn the_engine_names_no_concrete_broker_store_or_system() {
    // The engine's tests use parts that are made for tests.
    let engine = |name: &str| name.starts_with("engine/") && !name.ends_with("/tests.rs");
    for (name, _, code) in sources().into_iter().filter(|(name, ..)| engine(name)) {
        let code = code.split("#[cfg(test)]").next().unwrap_or_default();
        for concrete in [
            "broker::amqp",
            "broker::spool",
            "store::SledStore",
            "store::MemoryStore",
            "store::postgres",
            "systems::cleeng",
            "systems::zeta",
            "systems::easycms",
            "systems::vitalsource",
            "systems::sql",
            "systems::webhook",
            "systems::http",
        ] {
            assert!(!code.contains(concrete), "src/{name} names {concrete}");
        }
    }
}

#[test]
fn an_absence_is_made_in_one_place_from_the_known_interfaces() {
    let homes: [(&str, &[&str]); 2] = [
        ("Absence::vouched", &["systems/evidence.rs"]),
        (
            "NotFound::reported",
            &[
                "systems/cleeng/interface.rs",
                "systems/zeta/interface.rs",
                "systems/vitalsource/interface.rs",
                "systems/easycms.rs",
                "systems/sql/mod.rs",
                "systems/connector/client.rs",
                "systems/webhook/client.rs",
            ],
        ),
    ];
    for (name, homes) in homes {
        let users: Vec<String> =
            sources().into_iter().filter(|(_, _, code)| code.contains(name)).map(|(file, ..)| file).collect();
        let stray: Vec<_> = users.iter().filter(|file| !homes.contains(&file.as_str())).collect();
        assert!(stray.is_empty(), "{name} in {stray:?}");
        assert_eq!(users.len(), homes.len(), "{name}");
    }
}

#[test]
fn each_large_library_is_used_in_one_place() {
    let homes: [(&str, &[&str]); 8] = [
        ("mysql_async", &["systems/sql/mysql/"]),
        ("tokio_postgres", &["systems/sql/postgres/", "store/postgres/"]),
        ("sqlparser", &["statement/"]),
        ("opentelemetry", &["trace.rs", "telemetry.rs"]),
        ("lapin", &["broker/amqp/"]),
        ("sled", &["store/"]),
        ("reqwest", &["systems/http.rs", "systems/http/", "ops/client.rs"]),
        ("axum", &["ops/", "sandbox/"]),
    ];
    for (name, _, code) in sources() {
        for (library, homes) in homes {
            let is_home = homes.iter().any(|home| name.starts_with(home));
            let is_named = code
                .match_indices(&format!("{library}::"))
                .any(|(at, _)| !code[..at].chars().next_back().is_some_and(is_word))
                || code.contains(&format!("use {library};"));
            assert!(is_home || !is_named, "src/{name} uses {library}");
        }
    }
}

#[test]
fn our_headers_are_read_only_where_their_macs_are_checked() {
    const OURS: [&str; 14] = [
        "JOB_ID",
        "TENANT",
        "RUN",
        "PARK",
        "WAIT",
        "MAC",
        "CARRIED",
        "CODE",
        "REASON",
        "SYSTEM",
        "STEP",
        "ATTEMPTS",
        "AT",
        "LETTER_MAC",
    ];
    // `parked.rs` reads a parked copy's number for a notice to operators only.
    let readers = ["engine/envelope.rs", "engine/dead_letter_head.rs", "engine/parked.rs", "engine/parked/tests.rs"];
    let elsewhere = sources().into_iter().filter(|(name, ..)| !readers.contains(&name.as_str()));
    for (name, _, code) in elsewhere {
        let code = code.replace("claimed(header::", "").replace("claimed_number(header::", "");
        let words: Vec<&str> = code.split(|c: char| !c.is_alphanumeric() && c != '_' && c != ':').collect();
        for ours in OURS {
            assert!(!words.contains(&format!("header::{ours}").as_str()), "src/{name} reads {ours}");
        }
    }
}

#[test]
fn the_reader_of_sources_sees_only_code() {
    let source = "// crate::a\nuse crate::b; /* crate::c */ let s = \"crate::d\\\" crate::e\"; let r = r#\"crate::f\"#;\n\
                  let q = '\"'; fn g<'x>() {} use crate::{h, i::{j, k}, l as m}; other_crate::n; crate::o::p()";
    let found: BTreeSet<String> = heads(&code(source), "crate::").into_iter().collect();
    assert_eq!(found, ["b", "h", "i", "l", "o"].map(str::to_owned).into());
    let modules = ["store", "job"].map(str::to_owned).into();
    let inner = root().join("src/job/flow/mod.rs");
    assert_eq!(imports(&inner, "use super::super::store::Store;", &modules), ["store".to_owned()].into());
    assert_eq!(imports(&inner, "use super::job;", &modules), BTreeSet::new());
}
