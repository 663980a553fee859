//! A worker's deletion files: given to the ops API, closed by age, and forgotten long after they are settled.
//!
//! The rule it keeps: the ledger's calls block, so none runs on a thread that others wait for.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::job::JobKey;
use crate::ops::{DeskError, ExportedFile, ImportDesk, Settled};
use crate::store::{DurableStore, Store, Table};
use crate::systems::zeta::import::{ImportLedger, LedgerError};

/// A deletion ledger for the ops API.
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
                // Downloaded before, and without a result yet: the same file again.
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

/// The pause between checks of the ledgers.
const EVERY: Duration = Duration::from_secs(10);
/// The pause between searches for settled files that are old enough to be forgotten.
const FORGET_EVERY: Duration = Duration::from_secs(3_600);

/// Closes deletion files by age, even without new jobs, and forgets settled ones after the time of an ended job.
/// The record of a file is kept while a job of it is open in this worker's store.
pub(super) async fn sweep_imports(
    ledgers: Vec<Arc<ImportLedger>>,
    store: Arc<dyn DurableStore>,
    retain_settled: Duration,
) {
    let mut tick = tokio::time::interval(EVERY);
    let mut forgotten_at = None::<tokio::time::Instant>;
    loop {
        tick.tick().await;
        let forgets = forgotten_at.is_none_or(|at| at.elapsed() >= FORGET_EVERY);
        if forgets {
            forgotten_at = Some(tokio::time::Instant::now());
        }
        for ledger in &ledgers {
            let (ledger, store) = (Arc::clone(ledger), Arc::clone(&store));
            let sweep = move || {
                ledger.close_due(crate::clock::now())?;
                if forgets {
                    forget(&ledger, crate::clock::now(), retain_settled, |job| is_open(&*store, job))?;
                }
                Ok::<_, LedgerError>(())
            };
            let swept = tokio::task::spawn_blocking(sweep).await;
            if let Ok(Err(error)) = swept {
                tracing::error!(%error, "a deletion file could not be closed, or its record not forgotten");
            }
        }
    }
}

/// True for a job (`tenant/id`) with a record; also if the store cannot say.
fn is_open(store: &dyn Store, job: &str) -> bool {
    JobKey::of_text(job).is_none_or(|key| !matches!(store.get(Table::Job, &key.to_bytes()), Ok(None)))
}

fn forget(
    ledger: &ImportLedger,
    now: Timestamp,
    retain_settled: Duration,
    is_open: impl Fn(&str) -> bool,
) -> Result<(), LedgerError> {
    // A time before the clock's first is none.
    if let Ok(before) = now.checked_sub(retain_settled) {
        let forgotten = ledger.forget(before, is_open)?;
        if forgotten > 0 {
            tracing::info!(forgotten, "settled deletion files are forgotten");
        }
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::path::Path;
    use std::sync::Arc;
    use std::time::Duration;

    use jiff::{SignedDuration, Timestamp};

    use super::{forget, is_open};
    use crate::job::{JobKey, MemberKey, RowState};
    use crate::store::MemoryStore;
    use crate::systems::zeta::{ImportLedger, ImportSettings};

    const DAY: SignedDuration = SignedDuration::from_hours(24);

    fn ledger(dir: &Path) -> ImportLedger {
        let settings = ImportSettings {
            dir: dir.to_owned(),
            key: MemberKey::IntegrationId,
            max_rows: 10,
            max_age: Duration::from_secs(3_600),
        };
        ImportLedger::open(settings, Arc::new(|_: &[u8]| [7; 16])).unwrap()
    }

    #[test]
    fn a_settled_deletion_file_is_forgotten_as_an_ended_job_is_and_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let ledger = ledger(folder.path());
        let begin = Timestamp::from_second(1_700_000_000).unwrap();
        let key = JobKey { tenant: "acme".to_owned(), job_id: uuid::Uuid::from_u128(1) };
        let (value, kept) = ("INT-1".to_owned().into(), Duration::from_secs(800 * 86_400));
        let after = |days: i64| begin.checked_add(DAY * i32::try_from(days).unwrap()).unwrap();
        let state = || ledger.state(&key, 0, &value).unwrap();
        ledger.queue(&key, 0, &value, begin).unwrap();
        ledger.close_due(after(900)).unwrap();
        forget(&ledger, after(900), kept, |_| false).unwrap();
        assert_eq!(state(), RowState::Waiting, "closed by age, and not settled");
        ledger.export(None, after(900)).unwrap().unwrap();
        ledger.settle("Integration ID,Status\nINT-1,deleted\n".as_bytes(), after(900)).unwrap();
        forget(&ledger, after(1_699), kept, |_| false).unwrap();
        assert_eq!(state(), RowState::Deleted);
        forget(&ledger, after(1_701), kept, |_| true).unwrap();
        assert_eq!(state(), RowState::Deleted, "its job is open");
        let store = MemoryStore::new();
        let has_record = |job: &str| is_open(&store, job);
        assert!(has_record("no job"));
        forget(&ledger, after(1_701), kept, has_record).unwrap();
        assert_eq!(state(), RowState::Missing);
        let left = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
        assert_eq!(left.collect::<Vec<_>>(), ["lock"]);
    }
}
