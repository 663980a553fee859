//! How a delivery is settled: outcome, event and dead letter, or a park, and only then the ack.
//!
//! The rule it keeps: outcome and event are one write; nothing is acked before what it owes was
//! confirmed; a run that lost its delivery writes no outcome and publishes nothing.

use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use super::envelope::{self, CopyHead, DeadLetterHead, Letter, Origin};
use super::intake::{Arrived, Hand, Interrupted};
use super::journal::{Journal, ended_of, record_of};
use super::run::{Rests, Run, Waits};
use super::{Engine, named, retention};
use crate::broker::{Delivery, Destination, Properties, Publication, Tier, Via};
use crate::crash::{self, Point};
use crate::job::event::{self, About, Frame};
use crate::job::parse::{MAX_BODY, Refusal};
use crate::job::record::{DeadLetterNote, Event, Waiting};
use crate::job::wait::score;
use crate::job::{Carried, Ended, Entry, Job, JobKey, JobOutcome, Mode, Reason, TargetOutcome};
use crate::seal::SealError;
use crate::store::{Batch, StoreError, Table};

/// How a delivery was settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Settled {
    /// Acked.
    Acked,
    /// Given back to the queue.
    Requeued,
}

impl Engine {
    #[allow(clippy::too_many_arguments, reason = "one call site; each is a part of the delivery in hand")]
    pub(crate) async fn work(
        &self,
        held: &mut Option<Delivery>,
        job: Job,
        journal: Journal,
        body: &[u8],
        hand: &Hand<'_>,
        traceparent: Option<String>,
        arrived: &Arrived,
    ) -> Result<Settled, Interrupted> {
        crash::point(Point::AfterOpen, "").await;
        let Some(delivery) = held.as_ref() else { return Ok(Settled::Acked) };
        let (lost, properties) = (delivery.lost.clone(), delivery.properties.clone());
        let run = Run { job: &job, journal: &journal, lost: &lost, cancelled: &hand.cancelled, arrived };
        let copy = Copy { body, properties: &properties, traceparent: traceparent.as_deref() };
        let worked = self.carry(held, &run, &copy).await;
        if let Err(interrupted) = &worked {
            self.fall_back(&run, interrupted).await;
        }
        worked
    }

    /// Carries a job as far as it goes now, and settles its delivery.
    async fn carry(&self, held: &mut Option<Delivery>, run: &Run<'_>, copy: &Copy<'_>) -> Result<Settled, Interrupted> {
        self.publish_owed(run, copy).await?;
        if self.is_cancelled(&run.job.key)? {
            run.cancelled.cancel();
        }
        let rests = match self.held_by_guard(run)? {
            // Nothing else is written of it: the park's write holds it also where the one that accepted it
            // was refused.
            Some(until) if !run.cancelled.is_cancelled() => {
                Rests::Waits(Waits { until, why: Waiting::Guard, target: None, asks: Vec::new() })
            }
            _ => {
                self.heed_approval(run)?;
                // After the decision, which speaks of what was read before it.
                run.journal.forget_distrusted();
                self.targets(run).await?
            }
        };
        let rests = self.ask_when_complete(run, rests);
        match rests {
            Rests::Ended => self.finish(held, run, copy, outcome(run)).await,
            Rests::Cancelled => {
                let open = open_targets(run);
                self.look_before_cancelling(run, &open).await?;
                self.cancel_targets(run, open)?;
                self.finish(held, run, copy, JobOutcome::Cancelled).await
            }
            Rests::Waits(waits) => self.park(held, run, copy, &waits).await,
            Rests::Lost => {
                self.note_unsent(run)?;
                run.journal.durable().await?;
                Err(Interrupted::Lost)
            }
            Rests::Drained => {
                self.note_unsent(run)?;
                run.journal.durable().await?;
                tracing::info!("the worker drains; the job goes back to the queue");
                let Some(delivery) = held.take() else { return Ok(Settled::Requeued) };
                delivery.settle.requeue().await.map_err(|_| Interrupted::Lost)?;
                Ok(Settled::Requeued)
            }
        }
    }

    /// The job comes back, and is to find in memory what the disk has of it: where it refused a write,
    /// the guard and the approvals are ahead of it.
    async fn fall_back(&self, run: &Run<'_>, interrupted: &Interrupted) {
        // The last of its writes may be on their way still.
        let refused = run.journal.durable().await;
        if refused.is_ok() && !matches!(interrupted, Interrupted::Store(_) | Interrupted::Journal(_)) {
            return;
        }
        let key = &run.job.key;
        let taken_back = run.journal.with(|state| state.counted_at).map_or(Ok(()), |counted_at| {
            if self.store.get(Table::Job, &key.to_bytes())?.is_none() {
                self.guard.turn(&*self.store)?.take_back(run.job, counted_at);
            }
            Ok(())
        });
        match taken_back.and_then(|()| self.read_again(key)) {
            // The worker stops, and reads everything when it starts again.
            Err(error) if error.is_fatal() => {}
            Err(error) => tracing::error!(%error, "what a job waits for could not be read again"),
            Ok(()) => {}
        }
    }

    fn read_again(&self, key: &JobKey) -> Result<(), StoreError> {
        self.guard.turn(&*self.store)?.read_again(&*self.store, key)?;
        self.approvals.turn(&*self.store)?.read_again(&*self.store, key)
    }

    fn frame<'a>(&'a self, copy: &Copy<'a>) -> Frame<'a> {
        Frame { environment: &self.accepts.environment, traceparent: copy.traceparent, now: self.now() }
    }

    fn about<T>(&self, run: &Run<'_>, say: impl FnOnce(About<'_>) -> T) -> T {
        run.journal.with(|state| {
            let rules: Vec<_> =
                run.job.targets.iter().filter_map(|target| self.accepts.systems.get(&target.system)).collect();
            say(About { job: run.job, record: &state.record, targets: &state.targets, rules: &rules })
        })
    }

    /// An event that an earlier stop left unconfirmed.
    async fn publish_owed(&self, run: &Run<'_>, copy: &Copy<'_>) -> Result<(), Interrupted> {
        if let Some(owed) = run.journal.with(|state| state.record.owed.clone()) {
            self.publish_event(&owed, &run.job.key, copy.properties, run.lost).await?;
            run.journal.change_record(|record| record.owed = None);
        }
        Ok(())
    }

    /// Intents whose call was not made are no doubts: said so before the job is let go.
    fn note_unsent(&self, run: &Run<'_>) -> Result<(), Interrupted> {
        let entries = self.unsent(run);
        if !entries.is_empty() {
            run.journal.append(&*self.store, entries)?;
        }
        Ok(())
    }

    fn unsent(&self, run: &Run<'_>) -> Vec<Entry> {
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

    /// A cancellation is carried out. Where another worker may have had the job in hand, it may have changed
    /// something of which no copy tells: what can be read is read, and what cannot counts as changed.
    async fn look_before_cancelling(&self, run: &Run<'_>, open: &[u16]) -> Result<(), Interrupted> {
        if !run.journal.was_elsewhere() {
            return Ok(());
        }
        let job = Job { mode: Mode::Preview, ..run.job.clone() };
        let look = Run { job: &job, cancelled: &CancellationToken::new(), ..*run };
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

    fn cancel_targets(&self, run: &Run<'_>, open: Vec<u16>) -> Result<(), Interrupted> {
        let at = self.now();
        let end = crate::job::TargetEnd::well(TargetOutcome::Cancelled);
        let entries = open.into_iter().map(|target| Entry::Ended { target, end: end.clone(), at }).collect();
        Ok(run.journal.append(&*self.store, entries)?)
    }

    /// Outcome and event in one write; then event, dead letter, ack.
    async fn finish(
        &self,
        held: &mut Option<Delivery>,
        run: &Run<'_>,
        copy: &Copy<'_>,
        outcome: JobOutcome,
    ) -> Result<Settled, Interrupted> {
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
        let frame = self.frame(copy);
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
        self.guard.turn(&*self.store)?.forget(key, &mut batch);
        self.approvals.turn(&*self.store)?.forget(key, &mut batch);
        if outcome == JobOutcome::Failed {
            self.put_names(run.job, &mut batch)?;
        } else if run.journal.with(|state| named::may_be_there(&state.record)) {
            named::forget(key, &mut batch);
        }
        retention::expire(&mut batch, key, frame.now, &self.settings, outcome);
        self.unwatch_deadline(&mut batch, key, run.journal.with(|state| state.record.due_at));
        run.journal.with(|state| self.will_tell_ended(key, &state.record, &mut batch));
        self.end_with_receipt(run, &mut ended, &last.data, batch).await?;
        crash::point(Point::AfterOutcome, "").await;
        self.figures.label("jobs_finished", "", outcome.as_str());
        tracing::info!(outcome = outcome.as_str(), "job ended");
        self.settle_ended(held, key, &mut ended, copy, &carried).await
    }

    /// Publishes what an ended job owes, notes it, and acks.
    async fn settle_ended(
        &self,
        held: &mut Option<Delivery>,
        key: &JobKey,
        ended: &mut Ended,
        copy: &Copy<'_>,
        carried: &Carried,
    ) -> Result<Settled, Interrupted> {
        for gate in self.gates.values() {
            gate.forget(key);
        }
        let Some(lost) = held.as_ref().map(|delivery| delivery.lost.clone()) else { return Ok(Settled::Acked) };
        self.publish_event(&ended.event, key, copy.properties, &lost).await?;
        if let (Some(note), false) = (&ended.dead_letter, ended.dead_lettered) {
            let (run, park, at) = (ended.run, ended.park, ended.at);
            let head = DeadLetterHead { key: Some(key), run, park, carried, at, note, detail: None };
            self.dead_letter(copy.properties, &head, copy.body, &lost).await?;
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
            self.refuse_cancel(&mut batch, key, (ended.run, ended.seq), copy.traceparent);
            batch.put(Table::Ended, key.to_bytes(), ended.to_bytes());
        }
        if self.tell_ended(key, &mut batch)? {
            // Acked, nothing would remind of it.
            self.store.submit(batch).await?;
            self.decisions_more();
            return self.ack(held).await;
        }
        let noted = self.store.submit(batch);
        let settled = self.ack(held).await;
        noted.unhurried().await?;
        settled
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
        // Of what never became a job the beginning is enough; a job is replayed from its letter.
        let beginning = if head.run == 0 { Some(letter(0)?) } else { None };
        crash::point(Point::BeforeDeadLetter, "").await;
        self.publish_either(letter(MAX_BODY)?, beginning, lost).await?;
        crash::point(Point::AfterDeadLetter, "").await;
        self.figures.count(&self.figures.dead_letters);
        Ok(())
    }

    pub(crate) async fn ack(&self, held: &mut Option<Delivery>) -> Result<Settled, Interrupted> {
        if let Some(delivery) = held.take() {
            crash::point(Point::BeforeAck, "").await;
            delivery.settle.ack().await.map_err(|_| Interrupted::Lost)?;
            crash::point(Point::AfterAck, "").await;
        }
        Ok(Settled::Acked)
    }

    /// Puts the job on a wait queue under the next number, then acks this copy.
    async fn park(
        &self,
        held: &mut Option<Delivery>,
        run: &Run<'_>,
        copy: &Copy<'_>,
        waits: &Waits,
    ) -> Result<Settled, Interrupted> {
        let Waits { until, why, target, ref asks } = *waits;
        let key = &run.job.key;
        let unsent = self.unsent(run);
        let mut batch = Batch::new();
        let guarded = if why == Waiting::Guard { self.guard.turn(&*self.store)?.tell(key, &mut batch) } else { None };
        let new = guarded.is_some()
            || run
                .journal
                .with(|state| asks.iter().any(|(target, ask)| !state.record.announced.contains(&(*target, ask.kind))));
        let mut lasting = run.journal.with(|state| self.lasting(state));
        // One that came after the last look at it, while nothing was begun, is carried out at the next delivery.
        let refuses = run.cancelled.is_cancelled() && !self.can_cancel(run) && self.is_cancelled(key)?;
        if refuses {
            lasting.cancel_refused = Some(self.now());
        }
        let (now, score) = (self.now(), run.journal.with(|state| score(&state.targets)));
        let (number, job_run, tells) = run.journal.change_record(|record| {
            // Written but never confirmed: the same number once more.
            if record.park_written == record.park_confirmed {
                record.park_written += 1;
            }
            record.waiting = Some((why, until));
            record.lasting = lasting;
            record.waits_at = target;
            record.stands.begin(record.run, score, now);
            // One event a park: what is new tells of the wait as well.
            let tells = !new && record.stands.tell(why, now);
            record.seq += u32::from(new || tells);
            if new {
                record.announced = asks.iter().map(|(target, ask)| (*target, ask.kind)).collect();
            }
            (record.park_written, record.run, tells)
        });
        if tells {
            self.owe_long_wait(run, &self.frame(copy), why);
        }
        if new {
            let frame = self.frame(copy);
            let event = self.about(run, |about| match &guarded {
                Some(scopes) => about.held_by_guard(&frame, scopes.iter().map(|scope| (scope.kind(), scope.name()))),
                None => about.needs_input(&frame, asks),
            });
            run.journal.change_record(|record| record.owed = Some(event));
        }
        if asks.iter().any(|(_, ask)| ask.kind == crate::job::InputKind::Approval) {
            let losses = self.about(run, |about| about.losses(self.now()));
            self.put_approval(run, &losses, &mut batch)?;
        }
        self.put_names(run.job, &mut batch)?;
        crash::point(Point::BeforePark, "").await;
        run.journal.write(&*self.store, unsent, batch)?;
        run.journal.durable().await?;
        crash::point(Point::AfterParkNumber, "").await;
        if run.lost.is_cancelled() {
            return Err(Interrupted::Lost);
        }
        self.publish_owed(run, copy).await?;
        let carried = run.journal.with(|state| Carried::of(&state.record));
        let head = CopyHead { key, run: job_run, park: number, wait: why.as_str(), carried: &carried };
        let (properties, body) = envelope::parked(&self.keyring, copy.properties, &head, copy.body)?;
        let tier = Tier::for_wait(until.since(self.now()));
        // Nothing is waited for but that the broker has it.
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
            self.refuse_cancel(&mut batch, key, place, copy.traceparent);
        }
        run.journal.write(&*self.store, Vec::new(), batch)?;
        crash::point(Point::AfterParkNoted, "").await;
        self.figures.count(&self.figures.parked);
        self.figures.label("jobs_parked", "", why.as_str());
        tracing::debug!(why = why.as_str(), tier = tier.label(), number, "job parked");
        let settled = self.ack(held).await;
        run.journal.durable().await?;
        settled
    }

    /// A copy of a job that ended: a publisher gets its final event again, and nothing is called.
    pub(crate) async fn ended_again(
        &self,
        held: &mut Option<Delivery>,
        key: &JobKey,
        mut ended: Ended,
        letter: &Letter,
    ) -> Result<Settled, Interrupted> {
        let owes = !ended.published || (ended.dead_letter.is_some() && !ended.dead_lettered);
        if letter.origin != Origin::Publisher && !owes {
            self.figures.count(&self.figures.stale);
            return self.ack(held).await;
        }
        self.figures.count(&self.figures.repeated);
        let Some(properties) = held.as_ref().map(|delivery| delivery.properties.clone()) else {
            return Ok(Settled::Acked);
        };
        let copy = Copy { body: &letter.body, properties: &properties, traceparent: None };
        let carried = self.carried_of(key, letter)?;
        self.settle_ended(held, key, &mut ended, &copy, &carried).await
    }

    /// A message that cannot become a job.
    pub(crate) async fn reject(
        &self,
        held: &mut Option<Delivery>,
        letter: &Letter,
        refusal: &Refusal,
    ) -> Result<Settled, Interrupted> {
        let line = held.as_ref().and_then(|delivery| delivery.properties.line);
        let detail = match line {
            Some(line) => format!("line {line}: {}", refusal.invalid),
            None => refusal.invalid.to_string(),
        };
        tracing::warn!(reason = refusal.reason.as_str(), %detail, "message rejected");
        if refusal.reason == Reason::Unauthorised {
            self.figures.count(&self.figures.unauthorised);
        }
        // A copy of ours keeps its place, so that its dead letter can be replayed as what it was.
        let place = match &letter.origin {
            Origin::Publisher => (0, 0, Carried::default()),
            Origin::Ours { run, park, carried, .. } => (*run, *park, (**carried).clone()),
        };
        // What a file holds has no message id; an event is made of it all the same, about an id of its bytes.
        let of_its_bytes = || JobKey {
            tenant: "default".to_owned(),
            job_id: uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_OID, &letter.body),
        };
        let key = refusal.key.clone().or_else(|| line.map(|_| of_its_bytes()));
        self.refuse(held, &letter.body, key.as_ref(), refusal.reason, Some(&detail), place).await
    }

    /// A job id that is in use for another identity. The first job goes on untouched.
    pub(crate) async fn conflict(
        &self,
        held: &mut Option<Delivery>,
        job: &Job,
        body: &Zeroizing<Vec<u8>>,
    ) -> Result<Settled, Interrupted> {
        tracing::warn!("message rejected: its job id is in use for another identity");
        self.refuse(held, body, Some(&job.key), Reason::Conflict, None, (0, 0, Carried::default())).await
    }

    /// A sealed message that does not open, or that came where none belongs: it goes to the dead letters as it
    /// came. Its job stays as it is.
    pub(crate) async fn set_aside_unopened(&self, held: &mut Option<Delivery>) -> Result<Settled, Interrupted> {
        let Some(delivery) = held.as_ref() else { return Ok(Settled::Acked) };
        let lost = delivery.lost.clone();
        let (properties, body) = envelope::set_aside(&self.keyring, &delivery.properties, &delivery.body, self.now());
        if delivery.via != Via::Resume {
            // Not a job, whatever it is: a run over a file must not call that done.
            self.figures.label("jobs_settled", "", "rejected");
        }
        self.publish(Publication { to: Destination::DeadLetter, properties, body }, &lost).await?;
        self.figures.count(&self.figures.dead_letters);
        self.ack(held).await
    }

    /// A message that stopped the worker again and again: never parsed again, it goes to the dead
    /// letters. Where it is a copy of a job that is open here, that job ends with it.
    pub(crate) async fn set_aside_poison(&self, held: &mut Option<Delivery>) -> Result<Settled, Interrupted> {
        let Some(delivery) = held.as_ref() else { return Ok(Settled::Acked) };
        let Ok(letter) = envelope::open(delivery, &self.keyring) else { return self.set_aside_unopened(held).await };
        let properties = delivery.properties.clone();
        let reason = Reason::Poison;
        let opened = match &letter.origin {
            Origin::Ours { key, run, park, .. } => Some((key.clone(), *run, *park)),
            Origin::Publisher => self.opened_by(&letter.body)?,
        };
        let Some((key, run, park)) = opened else {
            let id = properties.message_id.as_deref().and_then(|id| uuid::Uuid::try_parse(id).ok());
            let key = id.map(|job_id| JobKey { tenant: "default".to_owned(), job_id });
            return self.refuse(held, &letter.body, key.as_ref(), reason, None, (0, 0, Carried::default())).await;
        };
        let key = &key;
        let record = record_of(&*self.store, key)?;
        let carried = self.carried_of(key, &letter)?;
        let at = self.first_refused_at(key, &letter.body).await?;
        let frame = Frame { environment: &self.accepts.environment, traceparent: None, now: at };
        let last = event::rejected(&frame, key, reason, reason.sentence(), &envelope::body_sha256(&letter.body), true);
        let mut ended = Ended {
            identity: record.as_ref().map(|record| record.identity.clone()).unwrap_or_default(),
            outcome: JobOutcome::Failed,
            run,
            seq: carried.seq,
            park,
            body: record.as_ref().map(|record| record.body.clone()).unwrap_or_default(),
            at,
            event: last.event,
            published: false,
            dead_letter: Some(envelope::note(reason)),
            dead_lettered: false,
            systems: record.map(|record| record.systems).unwrap_or_default(),
            certified: None,
        };
        let mut batch = Batch::new();
        self.guard.turn(&*self.store)?.forget(key, &mut batch);
        self.approvals.turn(&*self.store)?.forget(key, &mut batch);
        retention::expire(&mut batch, key, at, &self.settings, JobOutcome::Failed);
        if let Err(interrupted) = self.end_unread(key, &mut ended, &last.data, batch).await {
            self.read_again(key)?;
            return Err(interrupted);
        }
        let copy = Copy { body: &letter.body, properties: &properties, traceparent: None };
        self.settle_ended(held, key, &mut ended, &copy, &carried).await
    }

    async fn refuse(
        &self,
        held: &mut Option<Delivery>,
        body: &[u8],
        key: Option<&JobKey>,
        reason: Reason,
        detail: Option<&str>,
        (run, park, carried): (u32, u64, Carried),
    ) -> Result<Settled, Interrupted> {
        let Some(delivery) = held.as_ref() else { return Ok(Settled::Acked) };
        let (lost, properties) = (delivery.lost.clone(), delivery.properties.clone());
        if let Some(key) = key {
            let event = self.refusal_event(key, &properties, body, reason, detail).await?;
            self.publish_event(&event, key, &properties, &lost).await?;
        }
        let note = envelope::note(reason);
        let head = DeadLetterHead { key, run, park, carried: &carried, at: self.now(), note: &note, detail };
        self.dead_letter(&properties, &head, body, &lost).await?;
        self.figures.count(&self.figures.rejected);
        self.figures.label("jobs_finished", "", "rejected");
        self.figures.label("jobs_settled", "", "rejected");
        self.ack(held).await
    }

    /// The event of a message that never became a job: the same bytes on every repeat.
    pub(crate) async fn refusal_event(
        &self,
        key: &JobKey,
        properties: &Properties,
        body: &[u8],
        reason: Reason,
        detail: Option<&str>,
    ) -> Result<Event, Interrupted> {
        // The time is the message's own where it has one.
        let now = match envelope::own_time(properties) {
            Some(own) => own,
            None => self.first_refused_at(key, body).await?,
        };
        let frame = Frame { environment: &self.accepts.environment, traceparent: None, now };
        let known = record_of(&*self.store, key)?.is_some() || ended_of(&*self.store, key)?.is_some();
        let told = detail.unwrap_or_else(|| reason.sentence());
        let last = event::rejected(&frame, key, reason, told, &envelope::whole_sha256(properties, body), !known);
        if known { Ok(last.event) } else { self.refusal(key, body, last).await }
    }
}

/// The copy of the job in hand, as its messages are made from it.
struct Copy<'a> {
    body: &'a [u8],
    properties: &'a Properties,
    traceparent: Option<&'a str>,
}

fn open_targets(run: &Run<'_>) -> Vec<u16> {
    run.journal.with(|state| {
        let open = state.targets.iter().enumerate().filter(|(_, target)| target.end.is_none());
        open.map(|(index, _)| u16::try_from(index).unwrap_or(u16::MAX)).collect()
    })
}

fn outcome(run: &Run<'_>) -> JobOutcome {
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

/// The first target that did not end well, as the dead letter names it.
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

#[cfg(test)]
#[path = "ending/tests.rs"]
#[allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod tests;
