//! The end of a job: everything that must be durable and published before its message may be acked.
//!
//! The rule it keeps: outcome and event are one write; [`Done`] is returned after every required publish is
//! confirmed; a run that lost its delivery writes no outcome and publishes nothing.

use tokio_util::sync::CancellationToken;

use super::delivery::Done;
use super::envelope::{self, DeadLetterHead, Origin, Unsealed};
use super::in_hand::{Received, Run};
use super::interrupted::Interrupted;
use super::{Engine, named, retention};
use crate::broker::{Destination, Message, Properties, Publication};
use crate::crash::{self, Point};
use crate::job::event::{About, Frame};
use crate::job::parse::MAX_BODY;
use crate::job::record::DeadLetterNote;
use crate::job::{Carried, Ended, Entry, Job, JobKey, JobOutcome, Mode, Reason, TargetEnd, TargetOutcome};
use crate::seal::SealError;
use crate::store::{Batch, StoreError, Table};

impl Engine {
    /// After a refused write the ceilings and the approvals in memory are ahead of the disk. They are reloaded here,
    /// before the job is redelivered.
    pub(super) async fn fall_back(&self, run: &Run<'_>, interrupted: &Interrupted) {
        // The run's last writes may still be on their way.
        let refused = run.journal.durable().await;
        if refused.is_ok() && !matches!(interrupted, Interrupted::Store(_) | Interrupted::Journal(_)) {
            return;
        }
        let key = &run.job.key;
        let taken_back = run.journal.with(|state| state.counted_at).map_or(Ok(()), |counted_at| {
            if self.store.get(Table::Job, &key.to_bytes())?.is_none() {
                self.ceilings.lock(&*self.store)?.take_back(run.job, counted_at);
            }
            Ok(())
        });
        match taken_back.and_then(|()| self.read_again(key)) {
            // The worker stops, and reads everything at its next start.
            Err(error) if error.is_fatal() => {}
            Err(error) => tracing::error!(%error, "the ceilings and approvals of a job could not be reloaded"),
            Ok(()) => {}
        }
    }

    /// Removes the job's rows that are also kept in memory: it is neither held nor waits for an approval any more.
    pub(super) fn forget_mirrored(&self, key: &JobKey, batch: &mut Batch) -> Result<(), StoreError> {
        self.ceilings.lock(&*self.store)?.forget(key, batch);
        self.approvals.lock(&*self.store)?.forget(key, batch);
        Ok(())
    }

    pub(super) fn read_again(&self, key: &JobKey) -> Result<(), StoreError> {
        self.ceilings.lock(&*self.store)?.read_again(&*self.store, key)?;
        self.approvals.lock(&*self.store)?.read_again(&*self.store, key)
    }

    pub(super) fn frame<'a>(&'a self, received: &Received<'a>) -> Frame<'a> {
        Frame { environment: &self.accepts.environment, traceparent: received.traceparent, now: self.now() }
    }

    pub(super) fn about<T>(&self, run: &Run<'_>, say: impl FnOnce(About<'_>) -> T) -> T {
        run.journal.with(|state| {
            let rules: Vec<_> =
                run.job.targets.iter().filter_map(|target| self.accepts.systems.get(&target.system)).collect();
            say(About { job: run.job, record: &state.record, targets: &state.targets, rules: &rules })
        })
    }

    /// Publishes an event that an earlier stop left unconfirmed.
    pub(super) async fn publish_owed(&self, run: &Run<'_>, received: &Received<'_>) -> Result<(), Interrupted> {
        if let Some(owed) = run.journal.with(|state| state.record.owed.clone()) {
            self.publish_event(&owed, &run.job.key, received.properties, run.lost).await?;
            run.journal.change_record(|record| record.owed = None);
        }
        Ok(())
    }

    /// Records that the calls of some intents were not made, so that these are no doubts after the job leaves this
    /// worker.
    pub(super) fn note_unsent(&self, run: &Run<'_>) -> Result<(), Interrupted> {
        let entries = self.unsent(run);
        if !entries.is_empty() {
            run.journal.append(&*self.store, entries)?;
        }
        Ok(())
    }

    pub(super) fn unsent(&self, run: &Run<'_>) -> Vec<Entry> {
        let at = self.now();
        run.journal.with(|state| {
            let each = state.targets.iter().enumerate().flat_map(|(index, target)| {
                let target_number = u16::try_from(index).unwrap_or(u16::MAX);
                let settled = move |step| Entry::Settled { target: target_number, step, done: false, at };
                target.unsent().into_iter().map(settled)
            });
            each.collect()
        })
    }

    /// Before a cancellation takes effect: if another worker may have had the job, it may have changed data, and no
    /// copy names the change. After the time in which its last call can end, all that can be read is read; a target
    /// without a read counts as changed.
    pub(super) async fn look_before_cancelling(&self, run: &Run<'_>, open: &[u16]) -> Result<(), Interrupted> {
        if !run.journal.was_elsewhere() {
            return Ok(());
        }
        let job = Job { mode: Mode::Preview, ..run.job.clone() };
        let look = Run { job: &job, cancelled: &CancellationToken::new(), ..*run };
        let gates = run.job.targets.iter().filter_map(|target| self.gates.get(&target.system));
        let longest_call = gates.map(|gate| gate.timeout()).max().unwrap_or_default();
        let passed = run.arrived.at.elapsed();
        if passed < longest_call {
            self.pause(&look, longest_call - passed).await;
            // Reads from before may be older than the other worker's change.
            run.journal.distrust_reads();
            run.journal.forget_distrusted();
        }
        self.each_target(&look).await?;
        if run.lost.is_cancelled() {
            return Err(Interrupted::Lost);
        }
        let changed: Vec<u16> = run.journal.with(|state| {
            open.iter().copied().filter(|target| state.targets[usize::from(*target)].may_be_changed()).collect()
        });
        run.journal.change_record(|record| record.lasting.changed.extend(changed));
        Ok(())
    }

    pub(super) fn cancel_targets(&self, run: &Run<'_>, open: Vec<u16>) -> Result<(), Interrupted> {
        let at = self.now();
        let end = TargetEnd::well(TargetOutcome::Cancelled);
        let entries = open.into_iter().map(|target| Entry::Ended { target, end: end.clone(), at }).collect();
        Ok(run.journal.append(&*self.store, entries)?)
    }

    /// Writes outcome and event at once; then publishes event and dead letter; then the ack may follow.
    pub(super) async fn finish(
        &self,
        run: &Run<'_>,
        received: &Received<'_>,
        outcome: JobOutcome,
    ) -> Result<Done<'static>, Interrupted> {
        if run.lost.is_cancelled() {
            run.journal.durable().await?;
            return Err(Interrupted::Lost);
        }
        let key = &run.job.key;
        crash::point(Point::BeforeOutcome, "").await;
        let lasting = run.journal.with(|state| self.lasting(state));
        let carried = run.journal.change_record(|record| {
            record.seq += 1;
            record.lasting = lasting;
            Carried::of(record)
        });
        let frame = self.frame(received);
        let (last, note) = self.about(run, |about| (about.ended(&frame, outcome), blame(&about)));
        let mut ended = run.journal.with(|state| Ended {
            identity: state.record.identity.clone(),
            outcome,
            run: state.record.run,
            seq: state.record.seq,
            park: state.record.park_written,
            body: state.record.body.clone(),
            at: frame.now,
            event: last.event.clone(),
            published: false,
            dead_letter: (outcome == JobOutcome::Failed).then_some(note),
            dead_lettered: false,
            systems: state.record.systems.clone(),
            certified: None,
        });
        let mut batch = Batch::new();
        if outcome == JobOutcome::Cancelled {
            batch.remove(Table::Cancel, key.to_bytes());
        }
        self.forget_mirrored(key, &mut batch)?;
        if outcome == JobOutcome::Failed {
            self.put_names(run.job, &mut batch)?;
        } else if run.journal.with(|state| named::may_be_there(&state.record)) {
            named::forget(key, &mut batch);
        }
        retention::expire(&mut batch, key, frame.now, &self.settings, outcome);
        self.unwatch_deadline(&mut batch, key, run.journal.with(|state| state.record.due_at));
        run.journal.with(|state| self.will_report_ended(key, &state.record, &mut batch));
        self.end_with_receipt(run, &mut ended, &last.data, batch).await?;
        crash::point(Point::AfterOutcome, "").await;
        self.figures.label("jobs_finished", "", outcome.as_str());
        tracing::info!(outcome = outcome.as_str(), "job ended");
        self.settle_ended(key, &mut ended, received, &carried, run.lost).await
    }

    /// Publishes all that an ended job requires, and records the confirms.
    pub(super) async fn settle_ended(
        &self,
        key: &JobKey,
        ended: &mut Ended,
        received: &Received<'_>,
        carried: &Carried,
        lost: &CancellationToken,
    ) -> Result<Done<'static>, Interrupted> {
        for gate in self.gates.values() {
            gate.forget(key);
        }
        self.publish_event(&ended.event, key, received.properties, lost).await?;
        if let (Some(note), false) = (&ended.dead_letter, ended.dead_lettered) {
            let (run, park, at) = (ended.run, ended.park, ended.at);
            let head = DeadLetterHead { key: Some(key), run, park, carried, at, note, detail: None };
            self.dead_letter(received.properties, &head, received.body, lost).await?;
            ended.dead_lettered = true;
        }
        self.figures.label("jobs_settled", "", ended.outcome.as_str());
        let mut batch = Batch::new();
        if ended.outcome == JobOutcome::Failed {
            ended.published = true;
            batch.put(Table::Ended, key.to_bytes(), ended.to_bytes());
        } else {
            batch.remove(Table::Job, key.to_bytes());
        }
        if ended.outcome != JobOutcome::Cancelled && self.is_cancelled(key)? {
            ended.seq += 1;
            self.refuse_cancel(&mut batch, key, (ended.run, ended.seq), received.traceparent);
            batch.put(Table::Ended, key.to_bytes(), ended.to_bytes());
        }
        if self.report_ended(key, &mut batch)? {
            // After the ack nothing else would cause this publish again.
            self.store.submit(batch).await?;
            self.decisions_more();
            return Ok(Done::settled());
        }
        Ok(Done::Settled { lock: None, noted: vec![self.store.submit(batch).unhurried()] })
    }

    pub(super) async fn dead_letter(
        &self,
        properties: &Properties,
        head: &DeadLetterHead<'_>,
        body: &[u8],
        lost: &CancellationToken,
    ) -> Result<(), Interrupted> {
        let seal = self.settings.seal_dead_letters;
        let letter = |most| -> Result<Publication, SealError> {
            let (properties, body) = envelope::dead_letter(&self.keyring, properties, head, body, most, seal)?;
            Ok(Publication { to: Destination::DeadLetter, properties, body })
        };
        // For a message that never became a job the beginning is enough. A job is replayed from its dead letter, so
        // that is whole.
        let beginning = if head.run == 0 { Some(letter(0)?) } else { None };
        crash::point(Point::BeforeDeadLetter, "").await;
        self.publish_either(letter(MAX_BODY)?, beginning, lost).await?;
        crash::point(Point::AfterDeadLetter, "").await;
        self.figures.count(&self.figures.dead_letters);
        Ok(())
    }

    /// A copy of an ended job: the publisher gets its final event again, and no call is made.
    pub(crate) async fn ended_again(
        &self,
        message: &Message,
        key: &JobKey,
        mut ended: Ended,
        unsealed: &Unsealed,
    ) -> Result<Done<'static>, Interrupted> {
        let owes = !ended.published || (ended.dead_letter.is_some() && !ended.dead_lettered);
        if unsealed.origin != Origin::Publisher && !owes {
            self.figures.count(&self.figures.stale);
            return Ok(Done::settled());
        }
        self.figures.count(&self.figures.repeated);
        let received = Received { body: &unsealed.body, properties: &message.properties, traceparent: None };
        let carried = self.carried_of(key, unsealed)?;
        self.settle_ended(key, &mut ended, &received, &carried, &message.lost).await
    }
}

/// A target that ended well is logged at `debug` only: the job has its own line.
pub(super) fn log_end(index: usize, system: &str, end: &TargetEnd) {
    let (outcome, reason) = (end.outcome, end.reason.map(Reason::as_str));
    if end.outcome.is_erased() {
        tracing::debug!(index, system, %outcome, reason, "target ended");
    } else {
        tracing::info!(index, system, %outcome, reason, "target ended");
    }
}

pub(super) fn open_targets(run: &Run<'_>) -> Vec<u16> {
    run.journal.with(|state| {
        let open = state.targets.iter().enumerate().filter(|(_, target)| target.end.is_none());
        open.map(|(index, _)| u16::try_from(index).unwrap_or(u16::MAX)).collect()
    })
}

pub(super) fn outcome(run: &Run<'_>) -> JobOutcome {
    run.journal.with(|state| {
        let ends: Vec<_> =
            state.targets.iter().filter_map(|target| target.end.as_ref()).map(|end| end.outcome).collect();
        let all = |test: fn(&TargetOutcome) -> bool| ends.len() == state.targets.len() && ends.iter().all(test);
        if all(|outcome| outcome.is_erased()) {
            JobOutcome::Completed
        } else if all(|outcome| *outcome == TargetOutcome::Previewed) {
            JobOutcome::Previewed
        } else {
            JobOutcome::Failed
        }
    })
}

/// The first target that did not end well, for the dead letter.
fn blame(about: &About<'_>) -> DeadLetterNote {
    for (index, state) in about.targets.iter().enumerate() {
        let Some(end) = &state.end else { continue };
        if let Some(reason) = end.reason {
            let attempts =
                end.step.map_or(0, |step| state.all(step).iter().map(|item| item.attempts).max().unwrap_or(0));
            let system = about.job.targets.get(index).map(|target| target.system.clone());
            return DeadLetterNote { reason, system, step: end.step, attempts };
        }
    }
    envelope::note(Reason::Unproven)
}
