//! The deletion files of a worker: handed to the ops API, and closed when they are old enough.
//!
//! The rule it keeps: the ledger's calls block, so none is made on a thread that others wait for.

use std::sync::Arc;
use std::time::Duration;

use crate::ops::{DeskError, ExportedFile, ImportDesk, Settled};
use crate::systems::zeta::import::{ImportLedger, LedgerError};

/// A deletion ledger as the ops API sees it.
pub(super) struct Desk(pub(super) Arc<ImportLedger>);

impl Desk {
    /// The ledger's calls block.
    async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&ImportLedger) -> Result<T, DeskError> + Send + 'static,
    ) -> Result<T, DeskError> {
        let ledger = Arc::clone(&self.0);
        let done = tokio::task::spawn_blocking(move || work(&ledger)).await;
        done.unwrap_or_else(|_| Err(DeskError::Unavailable("the import folder could not be used".to_owned())))
    }
}

#[async_trait::async_trait]
impl ImportDesk for Desk {
    async fn export(&self) -> Result<Option<ExportedFile>, DeskError> {
        self.with(|ledger| {
            let failed = |error: LedgerError| DeskError::Unavailable(error.to_string());
            let mut file = ledger.export(None, crate::clock::now()).map_err(failed)?;
            if file.is_none() {
                // Handed out before, and no result yet: the same one again.
                let mut batches = ledger.batches().map_err(failed)?.into_iter();
                if let Some(open) = batches.find(|batch| batch.exported_at.is_some() && batch.settled_at.is_none()) {
                    file = ledger.export(Some(open.id), crate::clock::now()).map_err(failed)?;
                }
            }
            Ok(file.map(|file| ExportedFile { batch: file.id.to_string(), path: file.path, rows: file.rows }))
        })
        .await
    }

    async fn settle(&self, result: bytes::Bytes) -> Result<Settled, DeskError> {
        self.with(move |ledger| {
            let settled = ledger
                .settle(&result[..], crate::clock::now())
                .map_err(|error| DeskError::Refused(error.to_string()))?;
            Ok(Settled {
                batch: settled.batch.to_string(),
                deleted: settled.deleted,
                skipped: settled.skipped,
                missing: settled.missing,
                doubtful: settled.doubtful,
                unknown: settled.unknown,
            })
        })
        .await
    }
}

/// Deletion files are closed by age even while no job comes.
pub(super) async fn close_imports(ledgers: Vec<Arc<ImportLedger>>) {
    let mut tick = tokio::time::interval(Duration::from_secs(10));
    loop {
        tick.tick().await;
        for ledger in &ledgers {
            let ledger = Arc::clone(ledger);
            let closed = tokio::task::spawn_blocking(move || ledger.close_due(crate::clock::now())).await;
            if let Ok(Err(error)) = closed {
                tracing::error!(%error, "a deletion file could not be closed");
            }
        }
    }
}
