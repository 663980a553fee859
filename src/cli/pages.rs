//! `completions` and `man`: generated from the definitions of the arguments.
//!
//! The rule it keeps: both are generated from the definitions that parse, so they cannot differ from them.

use std::path::PathBuf;

use clap::{Args, CommandFactory as _};

use super::{Cli, Context, Exit};

/// `completions`
#[derive(Debug, Args)]
pub struct Completions {
    /// The shell.
    #[arg(value_name = "SHELL")]
    pub(super) shell: clap_complete::Shell,
}

/// `man`
#[derive(Debug, Args)]
pub struct Man {
    /// Write all pages to this folder instead.
    #[arg(long, value_name = "DIR", conflicts_with = "command")]
    pub(super) out: Option<PathBuf>,
    /// The command whose page to print.
    #[arg(value_name = "COMMAND")]
    pub(super) command: Vec<String>,
}

impl Completions {
    /// Prints the completion script for a shell.
    pub(super) fn run(self, ctx: &mut Context<'_>) -> anyhow::Result<Exit> {
        // The generator panics if it cannot write, so it writes to memory.
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "erasure-worker", &mut script);
        ctx.out.write_all(&script)?;
        Ok(Exit::Done)
    }
}

impl Man {
    /// Prints a manual page, or writes all pages to a folder, which is created if necessary.
    pub(super) fn run(self, ctx: &mut Context<'_>) -> anyhow::Result<Exit> {
        let mut command = Cli::command();
        if let Some(dir) = &self.out {
            std::fs::create_dir_all(dir)?;
            clap_mangen::generate_to(command, dir)?;
            return Ok(Exit::Done);
        }
        command.build();
        let mut at = &command;
        for name in &self.command {
            let Some(below) = at.find_subcommand(name) else {
                writeln!(ctx.err, "erasure-worker has no command {}", self.command.join(" "))?;
                return Ok(Exit::Usage);
            };
            at = below;
        }
        let mut page = Vec::new();
        clap_mangen::Man::new(at.clone()).render(&mut page)?;
        ctx.out.write_all(&page)?;
        Ok(Exit::Done)
    }
}
