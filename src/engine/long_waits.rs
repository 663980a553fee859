//! Long waits of a job: an event to its publisher, a log line for the operator.
//!
//! The rule it keeps: only the write of a park decides about it; each long wait is reported once.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::Engine;
use super::in_hand::Run;
use crate::job::event::{self, Frame, Wait};
use crate::job::wait::Waiting;
use crate::job::{At, StepName};

/// Most lines in a minute: if a system is down, all of its jobs wait.
const LINES: u32 = 20;
const MINUTE: Duration = Duration::from_secs(60);

/// The lines of the present minute.
#[derive(Debug, Default)]
pub(crate) struct LongWaits(Mutex<Option<Lines>>);

#[derive(Debug)]
struct Lines {
    since: Instant,
    written: u32,
    left_out: u32,
}

impl LongWaits {
    /// `Some` if a line may be written, with the number of omitted lines before it.
    fn line(&self) -> Option<u32> {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let lines = lines.get_or_insert(Lines { since: now, written: 0, left_out: 0 });
        if now.duration_since(lines.since) >= MINUTE {
            (lines.since, lines.written) = (now, 0);
        }
        if lines.written == LINES {
            lines.left_out += 1;
            return None;
        }
        lines.written += 1;
        Some(std::mem::take(&mut lines.left_out))
    }
}

impl Engine {
    /// Stores the event about the long wait of a parked job.
    pub(super) fn owe_long_wait(&self, run: &Run<'_>, frame: &Frame<'_>, why: Waiting) {
        let key = &run.job.key;
        let event = run.journal.with(|state| {
            let wait = Wait::of(&state.record, &state.targets, &self.settings.limits)?;
            Some((event::waiting(frame, key, &state.record, &state.targets, &wait), wait))
        });
        let Some((event, wait)) = event else { return };
        run.journal.change_record(|record| record.owed = Some(event));
        self.figures.label("long_waits", "", why.as_str());
        let Some(left_out) = self.long_waits.line() else { return };
        let (since, next_at) = (wait.since.unwrap_or_default().to_rfc3339(), wait.next_at.to_rfc3339());
        let (system, step) = (wait.system.as_deref(), wait.step.map(StepName::as_str));
        let gives_up_at = wait.gives_up.map(|(at, _)| At::to_rfc3339(at));
        let reason = wait.reason;
        macro_rules! line {
            ($level:ident) => {
                tracing::$level!(
                    reason,
                    system,
                    step,
                    since,
                    next_at,
                    then = wait.then,
                    gives_up_at,
                    left_out,
                    "the job waits long"
                )
            };
        }
        // A person may take days: that is no fault.
        if why == Waiting::Input { line!(info) } else { line!(warn) }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_system_that_is_away_fills_no_log_and_what_was_left_out_is_counted() {
        let waits = LongWaits::default();
        for _ in 0..LINES {
            assert_eq!(waits.line(), Some(0));
        }
        for _ in 0..1000 {
            assert_eq!(waits.line(), None);
        }
        tokio::time::advance(MINUTE).await;
        assert_eq!((waits.line(), waits.line()), (Some(1000), Some(0)));
    }
}
