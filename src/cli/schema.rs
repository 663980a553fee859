//! `schema`: prints the JSON Schema of a message.
//!
//! The rule it keeps: it prints the file that the tests compare with the code.

use clap::{Args, ValueEnum};

use super::{Context, Exit};
use crate::job::schema;

/// Which message a schema describes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Message {
    /// What publishers send.
    Job,
    /// What the worker publishes.
    Event,
}

/// `schema`
#[derive(Debug, Args)]
pub struct Options {
    /// The message.
    #[arg(value_name = "MESSAGE")]
    of: Message,
}

impl Options {
    pub(super) fn run(self, ctx: &mut Context<'_>) -> anyhow::Result<Exit> {
        let text = match self.of {
            Message::Job => schema::JOB,
            Message::Event => schema::EVENT,
        };
        ctx.out.write_all(text.as_bytes())?;
        Ok(Exit::Done)
    }
}
