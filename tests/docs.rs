//! The documents against the code: their lists are complete, their examples work, their links lead somewhere.
//!
//! The rule it keeps: it only reads sources and documents.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot read its documents has failed"
)]

#[path = "docs/asyncapi.rs"]
mod asyncapi;
#[path = "docs/commands.rs"]
mod commands;
#[path = "docs/dates.rs"]
mod dates;
#[path = "docs/deploy.rs"]
mod deploy;
#[path = "docs/guide.rs"]
mod guide;
#[path = "docs/identifiers.rs"]
mod identifiers;
#[path = "docs/layers.rs"]
mod layers;
#[path = "docs/mutations.rs"]
mod mutations;
#[path = "docs/pages.rs"]
mod pages;
#[path = "docs/rows.rs"]
mod rows;
#[path = "docs/schema.rs"]
mod schema;
#[path = "docs/scripts.rs"]
mod scripts;
#[path = "docs/settings.rs"]
mod settings;
#[path = "docs/states.rs"]
mod states;
#[path = "docs/validator.rs"]
mod validator;

use std::path::{Path, PathBuf};

/// The repository's root, from cargo's environment variable.
fn root() -> PathBuf {
    PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo test sets CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A document, by its path from the root.
fn page(name: &str) -> String {
    read(&root().join(name))
}

/// All files below a folder with this extension, without built and hidden ones.
fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            found.extend(files(&path, extension));
        } else if path.is_file() && path.extension().is_some_and(|found| found == extension) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// A document's fenced blocks: language and text.
fn blocks(text: &str) -> Vec<(String, String)> {
    let mut blocks = Vec::new();
    let mut open: Option<(String, String)> = None;
    for line in text.lines() {
        match (line.strip_prefix("```"), &mut open) {
            (Some(language), None) => open = Some((language.trim().to_owned(), String::new())),
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (None, Some((_, text))) => {
                text.push_str(line);
                text.push('\n');
            }
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a fenced block is not closed");
    blocks
}
