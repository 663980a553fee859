//! The age of dead letters: a warning to the publisher, and then the removal.
//!
//! The rule it keeps: a known job's dead letter is removed only after the event about the removal was written and its
//! notice time is over.

use std::sync::Arc;
use std::time::Duration;

use super::dead_letter_head::LetterHead;
use super::journal::JournalError;
use super::{Engine, header, retention, rows};
use crate::broker::{DeadLetter, PublishError, Verdict};
use crate::job::event::{self, Expiring, Frame};
use crate::job::{At, JobKey, Reason};
use crate::seal::Keyring;
use crate::store::{Batch, StoreError, Table};

/// The longest notice time.
const NOTICE_MAX: Duration = Duration::from_secs(7 * 86_400);
/// Most letters in one look.
const LOOK_MAX: usize = 10_000;
const DAY: Duration = Duration::from_secs(86_400);

/// The result of a look at the dead letters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Aged {
    /// Letters whose coming removal was reported to the publisher.
    pub reported: usize,
    /// Letters removed.
    pub removed: usize,
}

/// The reason why a look failed.
#[derive(Debug, thiserror::Error)]
pub enum SweepError {
    /// The broker failed.
    #[error(transparent)]
    Broker(#[from] PublishError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The time between the event and the removal.
fn notice(max_age: Duration) -> Duration {
    (max_age / 4).min(NOTICE_MAX)
}

/// The parts of a letter that are read: only headers, and the job only under a valid MAC.
struct Dated {
    at: At,
    key: Option<JobKey>,
    run: u32,
    reason: Option<Reason>,
}

fn read(keyring: &Keyring, letter: &DeadLetter) -> Option<Dated> {
    let head = LetterHead::read(keyring, &letter.properties, &letter.body);
    // The letter gets its code and its event first.
    if head.is_bare() {
        return None;
    }
    let at = head.claimed(header::AT)?.parse::<jiff::Timestamp>().ok()?;
    let code = head.claimed(header::CODE);
    Some(Dated {
        at: at.into(),
        key: head.key(),
        run: u32::try_from(head.claimed_number(header::RUN)).unwrap_or(0),
        reason: Reason::ALL.iter().copied().find(|reason| Some(reason.code()) == code),
    })
}

impl Dated {
    fn row(&self, key: &JobKey) -> Vec<u8> {
        [rows::LETTER.prefix, &key.to_bytes()[..], &self.run.to_be_bytes(), &self.at.0.to_be_bytes()].concat()
    }
}

impl Engine {
    /// Looks at every dead letter once: warns about coming removals, and removes letters whose notice time is over. A
    /// letter of unknown age stays.
    ///
    /// # Errors
    /// Broker or store failed; the next look does the rest.
    pub async fn sweep_dead_letters(&self) -> Result<Aged, SweepError> {
        let Some(max_age) = self.policy.dead_letters_max_age else { return Ok(Aged::default()) };
        let (now, notice) = (self.now(), notice(max_age));
        let mut swept = Aged::default();
        let mut due: Vec<(JobKey, Dated)> = Vec::new();
        let mut failed: Option<StoreError> = None;
        let store = &*self.store;
        let mut decide = |letter: &DeadLetter| {
            let Some(dated) = read(&self.keyring, letter) else { return Verdict::Keep };
            if now < dated.at.plus(max_age - notice) {
                return Verdict::Keep;
            }
            let is_old = now >= dated.at.plus(max_age);
            let Some(key) = dated.key.clone() else {
                // The message never became a job: no publisher gets an event.
                swept.removed += usize::from(is_old);
                return if is_old { Verdict::Remove } else { Verdict::Keep };
            };
            match store.get(Table::Meta, &dated.row(&key)) {
                Ok(Some(reported)) => {
                    let reported = reported.try_into().map_or(now, |bytes| At(i64::from_be_bytes(bytes)));
                    let gone = is_old && now >= reported.plus(notice);
                    swept.removed += usize::from(gone);
                    if gone { Verdict::Remove } else { Verdict::Keep }
                }
                Ok(None) => {
                    due.push((key, dated));
                    Verdict::Keep
                }
                Err(error) => {
                    failed = Some(error);
                    Verdict::Keep
                }
            }
        };
        self.broker.dead_letters(LOOK_MAX, &mut decide).await?;
        let mut batch = Batch::new();
        for (key, dated) in &due {
            let row = dated.row(key);
            batch.put(Table::Meta, row.clone(), now.0.to_be_bytes());
            retention::expire_fact(&mut batch, now.plus(2 * notice + DAY), &row);
            // The event's time is the due time, so that every worker makes the same bytes.
            let frame = Frame {
                environment: &self.accepts.environment,
                traceparent: None,
                now: dated.at.plus(max_age - notice),
            };
            let letter = Expiring {
                run: dated.run,
                letter_at: dated.at,
                expires_at: dated.at.plus(max_age),
                reason: dated.reason,
            };
            self.owe(&mut batch, key, &event::dead_letter_expires(&frame, key, &letter));
        }
        if !batch.is_empty() {
            self.store.submit(batch).await?;
        }
        swept.reported = due.len();
        for (count, word) in [(swept.reported, "told"), (swept.removed, "removed")] {
            for _ in 0..count {
                self.figures.label("dead_letters_aged", "", word);
            }
        }
        if swept != Aged::default() {
            tracing::warn!(
                reported = swept.reported,
                removed = swept.removed,
                "dead letters reached their age limit, or will soon"
            );
        }
        failed.map_or(Ok(swept), |error| Err(error.into()))
    }

    /// Looks at the dead letters at intervals.
    pub(crate) async fn dead_letter_age_loop(self: Arc<Self>) {
        let Some(max_age) = self.policy.dead_letters_max_age else { return };
        let pause = (notice(max_age) / 8).clamp(Duration::from_secs(1), Duration::from_secs(3600));
        loop {
            tokio::select! {
                biased;
                () = tokio::time::sleep(pause) => {}
                () = self.draining.cancelled() => return,
            }
            match self.sweep_dead_letters().await {
                Ok(_) => {}
                Err(SweepError::Broker(error)) => tracing::warn!(
                    %error,
                    "the dead letters could not be read; they are read again later"
                ),
                Err(SweepError::Store(error)) => self.store_trouble(&JournalError::from(error).into()).await,
            }
        }
    }
}
