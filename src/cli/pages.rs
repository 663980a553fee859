//! `completions` and `man`: what the argument definitions say of themselves.
//!
//! The rule it keeps: both are made from the definitions that parse, so they can't disagree with them.

use std::io::{self, Write};

use clap::CommandFactory as _;

use super::Exit;
use super::args::{Cli, Completions, Man};

/// Prints the completion script for a shell.
///
/// # Errors
/// Where `out` can't be written.
pub fn completions(args: &Completions, out: &mut dyn Write) -> io::Result<Exit> {
    // The generator panics where it can't write, so it writes to memory.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "erasure-worker", &mut script);
    out.write_all(&script)?;
    Ok(Exit::Done)
}

/// Prints a manual page, or writes all of them to a folder (made where it is missing).
///
/// # Errors
/// Where `out` or the folder can't be written.
pub fn man(args: &Man, out: &mut dyn Write, err: &mut dyn Write) -> io::Result<Exit> {
    let mut command = Cli::command();
    if let Some(dir) = &args.out {
        std::fs::create_dir_all(dir)?;
        clap_mangen::generate_to(command, dir)?;
        return Ok(Exit::Done);
    }
    command.build();
    let mut at = &command;
    for name in &args.command {
        let Some(below) = at.find_subcommand(name) else {
            writeln!(err, "erasure-worker has no command {}", args.command.join(" "))?;
            return Ok(Exit::Usage);
        };
        at = below;
    }
    let mut page = Vec::new();
    clap_mangen::Man::new(at.clone()).render(&mut page)?;
    out.write_all(&page)?;
    Ok(Exit::Done)
}
