//! The program accepts every command line in a document.

use clap::Parser as _;
use clap::error::ErrorKind;
use erasure_worker::cli::Cli;

use crate::{blocks, files, read, root};

/// Splits a line as a shell does, up to the first operator or comment.
fn words(line: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let (mut quote, mut inside) = (None, false);
    for c in line.chars() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (Some(_), c) => words.last_mut().unwrap().push(c),
            (None, '|' | '>' | '&' | ';' | '#') if !inside => break,
            (None, c) if c.is_whitespace() => inside = false,
            (None, c) => {
                if !inside {
                    words.push(String::new());
                    inside = true;
                }
                if c == '"' || c == '\'' {
                    quote = Some(c);
                } else {
                    words.last_mut().unwrap().push(c);
                }
            }
        }
    }
    words
}

/// The command lines in a document: in fenced blocks (`true`, complete) and in `code` (may lack arguments).
fn commands(text: &str) -> Vec<(bool, Vec<String>)> {
    let fenced = blocks(text).into_iter().flat_map(|(_, block)| block.lines().map(str::to_owned).collect::<Vec<_>>());
    let outside = text.split("```").step_by(2).flat_map(|part| part.split('`').skip(1).step_by(2));
    let lines = fenced.map(|line| (true, line)).chain(outside.map(|line| (false, line.to_owned())));
    lines
        .filter_map(|(whole, line)| {
            let line = line.trim();
            let ours = ["erasure-worker ", "cargo run --release -- "].iter().find_map(|start| line.strip_prefix(start));
            ours.map(|rest| (whole, words(rest)))
        })
        .collect()
}

/// Replaces the placeholder of a job id.
fn filled(word: String) -> String {
    if word == "ID" { "6c0b7b0e-6a4e-4a53-9a2e-0d8c6a0a7f11".to_owned() } else { word }
}

#[test]
fn every_command_in_a_document_is_accepted() {
    let mut checked = 0;
    for path in files(&root(), "md") {
        for (whole, command) in commands(&read(&path)) {
            let line = command.join(" ");
            let arguments = std::iter::once("erasure-worker".to_owned()).chain(command.into_iter().map(filled));
            match Cli::try_parse_from(arguments) {
                Ok(_) => checked += 1,
                Err(error) if error.kind() == ErrorKind::DisplayHelp => checked += 1,
                Err(error) if !whole && error.kind() == ErrorKind::MissingRequiredArgument => checked += 1,
                Err(error) => panic!("{}: erasure-worker {line}: {error}", path.display()),
            }
        }
    }
    assert!(checked > 20, "only {checked} commands were found");
}
