//! `/v1/zeta-import`: the Loyalty platform's deletion files.
//!
//! The rule it keeps: an answer holds a file's path, never its content: the content names people.

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

/// A closed deletion file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ExportedFile {
    /// The file's number.
    pub batch: String,
    /// The path on the worker's machine.
    pub path: PathBuf,
    /// The number of members.
    pub rows: usize,
}

/// The counts of a result file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Settled {
    /// The file's number.
    pub batch: String,
    /// Members with the result "deleted".
    pub deleted: usize,
    /// Members with the result "skipped", "unknown" or "failed".
    pub skipped: usize,
    /// Members without a row, or without a readable result.
    pub missing: usize,
    /// The missing members whose row has an unknown status.
    pub doubtful: usize,
    /// Rows of members that are not in the deletion file.
    pub unknown: usize,
}

/// Why an export or a settlement failed. The texts name no member.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeskError {
    /// The result file is refused; nothing is settled.
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
    /// Closes the open file. Returns the same file until its result was settled; `None` if no member waits.
    ///
    /// # Errors
    /// The folder cannot be used.
    async fn export(&self) -> Result<Option<ExportedFile>, DeskError>;

    /// Settles the platform's result file: each member's job continues by its result.
    ///
    /// # Errors
    /// The file is refused, or the folder cannot be used.
    async fn settle(&self, csv: Bytes) -> Result<Settled, DeskError>;
}

fn desk<'a>(shared: &'a Shared, system: &str) -> Result<&'a Arc<dyn ImportDesk>, Problem> {
    let unknown = || Problem::new(Kind::UnknownSystem, "no system of that name has deletion files");
    shared.ops.imports.get(system).ok_or_else(unknown)
}

/// Closes the open deletion file.
pub(super) async fn export(
    State(shared): State<Arc<Shared>>,
    Path(system): Path<String>,
) -> Result<Json<ExportedFile>, Problem> {
    let desk = Arc::clone(desk(&shared, &system)?);
    // A separate task: it continues if the caller disconnects.
    let file = tokio::spawn(async move { desk.export().await }).await??;
    let file = file.ok_or(Kind::NothingToExport)?;
    tracing::info!(system, batch = file.batch, rows = file.rows, "an operator exported a deletion file");
    Ok(Json(file))
}

/// Settles the platform's result file.
pub(super) async fn settle(
    State(shared): State<Arc<Shared>>,
    Path(system): Path<String>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Settled>, Problem> {
    let desk = Arc::clone(desk(&shared, &system)?);
    let csv = request::bytes(body)?;
    let settled = tokio::spawn(async move { desk.settle(csv).await }).await??;
    tracing::info!(
        system,
        batch = settled.batch,
        deleted = settled.deleted,
        skipped = settled.skipped,
        missing = settled.missing,
        "an operator settled a deletion file"
    );
    Ok(Json(settled))
}
