//! `connector test`.
//!
//! The rule it keeps: no vendor is called.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use clap::Args;

use super::load_with_text;
use crate::cli::{Context, Exit};
use crate::kit;

/// `connector test`
#[derive(Debug, Args)]
pub struct Test {
    /// The files.
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// For the trials by chance.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Write the findings as one HTML file.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

impl Test {
    pub(super) async fn run(self, ctx: &mut Context<'_>) -> anyhow::Result<Exit> {
        let mut files = Vec::new();
        for path in &self.files {
            if let Some(file) = load_with_text(path, ctx)? {
                files.push(file);
            }
        }
        if files.len() < self.files.len() {
            return Ok(Exit::Usage);
        }
        let mut reports = Vec::new();
        for (file, text) in files {
            let began = Instant::now();
            let options = kit::Options { seed: self.seed, ..kit::Options::default() };
            let mut report = kit::test(&Arc::new(file), &text, options).await;
            report.took = began.elapsed();
            write!(ctx.out, "{report}")?;
            ctx.out.flush()?;
            writeln!(ctx.err, "{}: {:.1} s", report.name, report.took.as_secs_f64())?;
            reports.push(report);
        }
        if let Some(path) = &self.report
            && let Err(error) = std::fs::write(path, kit::page(&reports))
        {
            writeln!(ctx.err, "{}: cannot be written: {}", path.display(), error.kind())?;
            return Ok(Exit::Failed);
        }
        Ok(if reports.iter().all(kit::Report::holds) { Exit::Done } else { Exit::Failed })
    }
}
