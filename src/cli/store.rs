//! `store copy`: a worker's store moves from its folder into the database.
//!
//! The rule it keeps: all rows arrive, or none; the folder stays as it is.

use clap::{Subcommand, ValueEnum};

use super::{Context, Exit};
use crate::app;

/// `store`
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Copy the store in worker.state_dir into the empty schema of [store.postgres]: open jobs go on there.
    ///
    /// Stop the worker first, and set store.kind = "postgres". Afterwards start it with this configuration, and never
    /// again with the folder.
    #[command(after_help = "Example:\n  erasure-worker store copy --to postgres")]
    Copy {
        /// The kind of the new store.
        #[arg(long)]
        to: To,
    },
}

/// The kind of the new store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum To {
    /// The database of [store.postgres].
    Postgres,
}

impl Command {
    pub(super) async fn run(self, ctx: &mut Context<'_>) -> anyhow::Result<Exit> {
        let Command::Copy { to: To::Postgres } = self;
        let config = app::usable(ctx.load()?)?;
        let copied = app::copy_store(&config).await?;
        writeln!(
            ctx.out,
            "copied {} rows: {} open or failed jobs, {} ended ones. The folder {} is unchanged; do not start a worker \
             on it again.",
            copied.rows,
            copied.jobs,
            copied.ended,
            config.worker.state_dir.display()
        )?;
        Ok(Exit::Done)
    }
}
