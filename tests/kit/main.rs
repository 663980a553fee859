//! The kit over the files in `connectors/`: each passes, faults that are planted in them are noticed, and the report is
//! the same for the same seed.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in the functions it shares too")]

mod commands;
mod lies;
mod planted;
mod served;
mod shipped;

use std::path::PathBuf;
use std::sync::Arc;

use erasure_connector::Connector;
use erasure_worker::kit::{Extent, Options, Report, test};

/// A file in `connectors/`, and its text.
fn file(name: &str) -> (Arc<Connector>, String) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("connectors").join(format!("{name}.toml"));
    let text = std::fs::read_to_string(path).unwrap();
    let file = erasure_connector::load(text.as_bytes()).map_err(|faults| format!("{name}:\n{faults}"));
    (Arc::new(file.unwrap()), text)
}

fn names() -> Vec<String> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("connectors");
    let paths = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let files = paths.filter(|path| path.extension().is_some_and(|end| end == "toml"));
    let mut names: Vec<String> = files.map(|path| path.file_stem().unwrap().to_string_lossy().into_owned()).collect();
    names.sort();
    assert!(names.len() >= 14, "{names:?}");
    names
}

fn sample() -> Options {
    Options { extent: Extent::Sample(9), by_chance: 40, ..Options::default() }
}

async fn tried(name: &str, options: Options) -> Report {
    let (file, text) = file(name);
    test(&file, &text, options).await
}
