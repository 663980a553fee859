//! `/v1/zeta-import`: the Loyalty platform's deletion files.
//!
//! The rule it keeps: a file is handed out by its path, never by its content, which names people.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use serde::Serialize;

use super::problem::{Kind, Problem};
use super::request;
use super::shared::Shared;

/// A deletion file that takes no more members.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ExportedFile {
    /// Its number.
    pub batch: String,
    /// Where it lies on the worker's machine.
    pub path: PathBuf,
    /// How many members it names.
    pub rows: usize,
}

/// What a result file said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Settled {
    /// The file's number.
    pub batch: String,
    /// Members that it names as deleted.
    pub deleted: usize,
    /// Members that it names as skipped, unknown or failed.
    pub skipped: usize,
    /// Members that it does not name, or says nothing readable of.
    pub missing: usize,
    /// Of the missing, those that it names with a status unknown to us.
    pub doubtful: usize,
    /// Rows that are none of ours.
    pub unknown: usize,
}

/// Why a desk did not do what was asked. Texts name no member.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeskError {
    /// The result file is not taken; nothing is settled.
    #[error("{0}")]
    Refused(String),
    /// The folder cannot be used now.
    #[error("{0}")]
    Unavailable(String),
}

impl From<DeskError> for Problem {
    fn from(error: DeskError) -> Self {
        let kind = match error {
            DeskError::Refused(_) => Kind::FileRefused,
            DeskError::Unavailable(_) => Kind::Unavailable,
        };
        Problem::new(kind, error.to_string())
    }
}

/// The deletion files of one Loyalty system.
#[async_trait]
pub trait ImportDesk: Send + Sync + 'static {
    /// Closes the open file; the same file again until its result came. `None` where no member waits.
    ///
    /// # Errors
    /// Where the folder cannot be used.
    async fn export(&self) -> Result<Option<ExportedFile>, DeskError>;

    /// Reads the platform's result: each member's job goes on by what it says.
    ///
    /// # Errors
    /// Where the file is not taken, or the folder cannot be used.
    async fn settle(&self, csv: Bytes) -> Result<Settled, DeskError>;
}

fn desk<'a>(shared: &'a Shared, system: &str) -> Result<&'a Arc<dyn ImportDesk>, Problem> {
    let unknown = || Problem::new(Kind::UnknownSystem, "no such system works by import");
    shared.ops.imports.get(system).ok_or_else(unknown)
}

/// Closes the open deletion file.
pub async fn export(
    State(shared): State<Arc<Shared>>,
    Path(system): Path<String>,
) -> Result<Json<ExportedFile>, Problem> {
    let desk = Arc::clone(desk(&shared, &system)?);
    // A task of its own: it goes on although the caller hangs up.
    let file = tokio::spawn(async move { desk.export().await }).await??;
    let file = file.ok_or(Kind::NothingToExport)?;
    tracing::info!(system, batch = file.batch, rows = file.rows, "an operator exports a deletion file");
    Ok(Json(file))
}

/// Takes the platform's result file.
pub async fn settle(
    State(shared): State<Arc<Shared>>,
    Path(system): Path<String>,
    read: Result<Bytes, BytesRejection>,
) -> Result<Json<Settled>, Problem> {
    let desk = Arc::clone(desk(&shared, &system)?);
    let csv = request::bytes(read)?;
    let settled = tokio::spawn(async move { desk.settle(csv).await }).await??;
    tracing::info!(
        system,
        batch = settled.batch,
        deleted = settled.deleted,
        skipped = settled.skipped,
        missing = settled.missing,
        "an operator settles a deletion file"
    );
    Ok(Json(settled))
}
