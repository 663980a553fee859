//! The command line, run in the test's own process.

use std::path::PathBuf;

use clap::Parser as _;
use erasure_worker::cli::{Cli, Context, Exit};
use erasure_worker::config::Surroundings;

/// A command's exit and output.
pub struct Said {
    pub exit: Exit,
    pub out: String,
    pub err: String,
}

/// A command's surroundings: its configuration file, its environment and its standard input.
#[derive(Default)]
pub struct At<'a> {
    pub config: Option<PathBuf>,
    pub surroundings: Surroundings,
    pub typed: &'a str,
}

/// The arguments in a line. A tilde stands for a blank within an argument.
pub fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(|word| word.replace('~', " ")).collect()
}

/// Runs the command with these arguments.
pub async fn run(words: impl IntoIterator<Item = String>, at: At<'_>) -> Said {
    let cli = Cli::try_parse_from(["erasure-worker".to_owned()].into_iter().chain(words)).unwrap();
    let At { config, surroundings, typed } = at;
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut ctx = Context { config, surroundings, input: &mut typed.as_bytes(), out: &mut out, err: &mut err };
    let exit = cli.command.run(&mut ctx).await.unwrap();
    Said { exit, out: String::from_utf8(out).unwrap(), err: String::from_utf8(err).unwrap() }
}
