//! A job that waits: published on a wait queue of the broker, under a number that orders its copies.
//!
//! The rule it keeps: the number is durable before the copy is published. The copy is confirmed before the delivered
//! message may be acked.

use super::Engine;
use super::delivery::Done;
use super::envelope::{self, CopyHead};
use super::in_hand::{Received, Run};
use super::interrupted::Interrupted;
use super::rests::Waits;
use crate::broker::{Destination, Publication, Tier};
use crate::crash::{self, Point};
use crate::job::wait::{Waiting, score};
use crate::job::{Carried, Entry};
use crate::store::Batch;

impl Engine {
    /// Writes the number of the next copy. The rows that an operator's decision changes too stay locked until they
    /// are submitted: the decision comes before them or after them.
    fn write_park(
        &self,
        run: &Run<'_>,
        unsent: Vec<Entry>,
        reports_ceiling: bool,
        asks_approval: bool,
    ) -> Result<(), Interrupted> {
        let mut batch = Batch::new();
        self.put_names(run.job, &mut batch)?;
        let mut approvals = asks_approval.then(|| self.approvals.lock(&*self.store)).transpose()?;
        if let Some(approvals) = &mut approvals {
            let losses = self.about(run, |about| about.losses(self.now()));
            self.put_approval(run, &losses, approvals, &mut batch)?;
        }
        let mut ceilings = reports_ceiling.then(|| self.ceilings.lock(&*self.store)).transpose()?;
        if let Some(ceilings) = &mut ceilings {
            ceilings.note_reported(&run.job.key, &mut batch);
        }
        Ok(run.journal.write(&*self.store, unsent, batch)?)
    }

    /// Parks the job under the next number.
    pub(super) async fn park(
        &self,
        run: &Run<'_>,
        received: &Received<'_>,
        waits: &Waits,
    ) -> Result<Done<'static>, Interrupted> {
        let Waits { until, why, target, ref asks } = *waits;
        let key = &run.job.key;
        let unsent = self.unsent(run);
        let guarded = if why == Waiting::Guard { self.ceilings.lock(&*self.store)?.unreported(key) } else { None };
        let new = guarded.is_some()
            || run
                .journal
                .with(|state| asks.iter().any(|(target, ask)| !state.record.announced.contains(&(*target, ask.kind))));
        let mut lasting = run.journal.with(|state| self.lasting(state));
        // A cancellation that arrived after the last check, while no step was begun, takes effect at the next
        // delivery.
        let refuses = run.cancelled.is_cancelled() && !self.can_cancel(run) && self.is_cancelled(key)?;
        if refuses {
            lasting.cancel_refused = Some(self.now());
        }
        let (now, score) = (self.now(), run.journal.with(|state| score(&state.targets)));
        let (number, job_run, reports) = run.journal.change_record(|record| {
            // The same number is used again if its publish was never confirmed.
            if record.park_written == record.park_confirmed {
                record.park_written += 1;
            }
            record.waiting = Some((why, until));
            record.lasting = lasting;
            record.waits_at = target;
            record.stands.begin(record.run, score, now);
            // One event a park: an event about a new question reports the wait as well.
            let reports = !new && record.stands.report_due(why, now);
            record.seq += u32::from(new || reports);
            if new {
                record.announced = asks.iter().map(|(target, ask)| (*target, ask.kind)).collect();
            }
            (record.park_written, record.run, reports)
        });
        if reports {
            self.owe_long_wait(run, &self.frame(received), why);
        }
        if new {
            let frame = self.frame(received);
            let event = self.about(run, |about| match &guarded {
                Some(scopes) => about.held_by_guard(&frame, scopes.iter().map(|scope| (scope.kind(), scope.name()))),
                None => about.needs_input(&frame, asks),
            });
            run.journal.change_record(|record| record.owed = Some(event));
        }
        crash::point(Point::BeforePark, "").await;
        let asks_approval = asks.iter().any(|(_, ask)| ask.kind == crate::job::InputKind::Approval);
        self.write_park(run, unsent, guarded.is_some(), asks_approval)?;
        run.journal.durable().await?;
        crash::point(Point::AfterParkNumber, "").await;
        if run.lost.is_cancelled() {
            return Err(Interrupted::Lost);
        }
        self.publish_owed(run, received).await?;
        let carried = run.journal.with(|state| Carried::of(&state.record));
        let head = CopyHead { key, run: job_run, park: number, wait: why.as_str(), carried: &carried };
        let (properties, body) = envelope::parked(&self.keyring, received.properties, &head, received.body)?;
        let tier = Tier::for_wait(until.since(self.now()));
        // Only the broker's confirm is waited for, so the copy may be delivered at once.
        let announces = run.journal.with(|state| !state.announces.is_empty());
        let to = if announces { Destination::Resume } else { Destination::Wait(tier) };
        crash::point(Point::BeforeParkPublish, "").await;
        self.publish(Publication { to, properties, body }, run.lost).await?;
        self.parked.parked(key, (job_run, number), tier);
        crash::point(Point::AfterParkPublish, "").await;
        run.journal.change_record(|record| {
            record.park_confirmed = number;
            record.owed = None;
            record.seq += u32::from(refuses);
        });
        let mut batch = Batch::new();
        if refuses {
            let place = run.journal.with(|state| (state.record.run, state.record.seq));
            self.refuse_cancel(&mut batch, key, place, received.traceparent);
        }
        run.journal.write(&*self.store, Vec::new(), batch)?;
        crash::point(Point::AfterParkNoted, "").await;
        self.figures.label("jobs_parked", "", why.as_str());
        tracing::debug!(why = why.as_str(), tier = tier.label(), number, "job parked");
        Ok(Done::Settled { lock: None, noted: run.journal.pending() })
    }
}

#[cfg(test)]
#[path = "parking/tests.rs"]
#[allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod tests;
