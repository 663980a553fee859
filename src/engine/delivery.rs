//! One delivery, from the note of its start to its ack: the only place that settles a message after its start was
//! noted. Before that `src/broker/amqp` requeues what a worker on standby, paused or stopping got.
//!
//! The rule it keeps: a message is acked only after [`Done::Settled`]. That is returned after every publish that the
//! message requires is confirmed. The right to settle is moved, so the compiler refuses a second settlement.

use std::sync::Arc;
use std::time::Duration;

use tracing::Instrument as _;

use super::envelope::{self, Unsealed};
use super::in_hand::{JobLock, Received, Run};
use super::interrupted::Interrupted;
use super::journal::{BODY, Journal};
use super::opening::Opened;
use super::parked::Settling;
use super::starts::{Arrived, Trial, Turn};
use super::{Engine, header};
use crate::broker::{Delivery, HeaderValue, Lost, Message, Settle};
use crate::crash::{self, Point};
use crate::job::Job;
use crate::store::{StoreError, Ticket};
use crate::trace;

/// Pause before a job is requeued whose records or seals cannot be used: the broker redelivers at once.
const UNUSABLE_PAUSE: Duration = Duration::from_secs(5);

/// The settlement that a message still needs. Its job stays locked until then.
pub(crate) enum Done<'a> {
    /// Everything is confirmed: ack. `noted`: the last writes, perhaps not durable yet.
    Settled { lock: Option<JobLock<'a>>, noted: Vec<Ticket> },
    /// The worker drains: requeue.
    Drained { lock: Option<JobLock<'a>> },
}

impl<'a> Done<'a> {
    /// An ack, with no write outstanding.
    pub(crate) fn settled() -> Done<'a> {
        Done::Settled { lock: None, noted: Vec::new() }
    }

    fn holding(self, lock: JobLock<'a>) -> Done<'a> {
        match self {
            Done::Settled { noted, .. } => Done::Settled { lock: Some(lock), noted },
            Done::Drained { .. } => Done::Drained { lock: Some(lock) },
        }
    }
}

/// What happened to the right to settle a message.
enum Fate<'a> {
    /// The message was acked: the result of the ack and of the last writes.
    Acked(Result<(), Interrupted>),
    /// The worker drains: the message must be requeued.
    Drained(Box<dyn Settle>, Option<JobLock<'a>>),
    /// The work was interrupted: the message is not settled.
    Interrupted(Box<dyn Settle>, Interrupted),
}

impl<'a> Fate<'a> {
    /// Acks a message that owes nothing; a message of any other end keeps its right to be settled.
    async fn of(settle: Box<dyn Settle>, done: Result<Done<'a>, Interrupted>) -> Fate<'a> {
        match done {
            Ok(Done::Settled { lock, noted }) => {
                let acked = ack(settle).await.map_err(|Lost| Interrupted::Lost);
                let noted = Ticket::all(noted).await.map_err(Interrupted::from);
                drop(lock);
                Fate::Acked(noted.and(acked))
            }
            Ok(Done::Drained { lock }) => {
                tracing::info!("the worker drains; the job is requeued");
                Fate::Drained(settle, lock)
            }
            Err(interrupted) => Fate::Interrupted(settle, interrupted),
        }
    }

    fn interrupted(&self) -> Option<&Interrupted> {
        match self {
            Fate::Acked(Err(interrupted)) | Fate::Interrupted(_, interrupted) => Some(interrupted),
            Fate::Acked(Ok(())) | Fate::Drained(..) => None,
        }
    }
}

impl Engine {
    pub(super) async fn deliver(self: Arc<Self>, Delivery { message, settle }: Delivery) {
        let arrived = Arrived::new(self.keyring.digest(BODY, &message.body).to_vec());
        self.note_mended("jobs", &message.properties);
        crash::point(Point::BeforeStart, "").await;
        let turn = match self.starts.open(&*self.store, &arrived.digest, self.now()).await {
            Ok(turn) => turn,
            Err(error) => return self.requeue(&message, settle, error.into()).await,
        };
        crash::point(Point::AfterStart, "").await;
        let work = self.process(&message, settle, Trial::of(&turn), &arrived);
        let (fate, turn) = self.starts.watch(&*self.store, turn, &arrived, || self.now(), work).await;
        // The start is closed before the requeue: the broker may redeliver at once, and the redelivery notes its own
        // start.
        let closed = self.close_start(&arrived, turn, fate.interrupted().is_none()).await;
        match fate {
            Fate::Acked(Ok(())) => {}
            Fate::Drained(settle, lock) => {
                if settle.requeue().await.is_err() {
                    self.count_lost();
                }
                drop(lock);
            }
            Fate::Acked(Err(Interrupted::Lost)) | Fate::Interrupted(_, Interrupted::Lost) => self.count_lost(),
            Fate::Acked(Err(error)) => self.store_trouble(&error).await,
            Fate::Interrupted(settle, error) => self.requeue(&message, settle, error).await,
        }
        if let Err(error) = closed {
            self.store_trouble(&error.into()).await;
        }
    }

    /// From the bytes to the ack, or to the reason why there is none.
    async fn process(&self, message: &Message, settle: Box<dyn Settle>, trial: Trial, arrived: &Arrived) -> Fate<'_> {
        if trial == Trial::Condemned {
            tracing::error!("poison message: it stopped the worker repeatedly; it goes to the dead letters");
            return Fate::of(settle, self.dead_letter_poison(message).await).await;
        }
        let unsealed = match envelope::open(message, &self.keyring) {
            Ok(unsealed) => unsealed,
            Err(error) => {
                tracing::error!(%error, "a sealed message cannot be opened; it goes to the dead letters unchanged");
                return Fate::of(settle, self.dead_letter_unopened(message).await).await;
            }
        };
        crash::point(Point::BeforeParse, "").await;
        let job = match self.admit(&message.properties, message.redelivered, &unsealed) {
            Ok(Ok(job)) => job,
            Ok(Err(refusal)) => return Fate::of(settle, self.reject(message, &unsealed, &refusal).await).await,
            Err(error) => return Fate::Interrupted(settle, error.into()),
        };
        crash::point(Point::AfterParse, "").await;
        let traceparent = message.properties.headers.get(header::TRACEPARENT).and_then(HeaderValue::as_text);
        let traceparent = traceparent.filter(|text| envelope::is_traceparent(text));
        let (tenant, job_id) = (&job.key.tenant, job.key.job_id);
        let span = tracing::info_span!("job", %job_id, %tenant, run = tracing::field::Empty);
        let traced = trace::process(&self.broker.jobs_queue(), tenant, job_id, traceparent);
        let note_run = |run: u32| {
            span.record("run", run);
            traced.record("erasure.run", run);
        };
        let received = Received { body: &unsealed.body, properties: &message.properties, traceparent };
        let work = async {
            let done = self.process_job(message, &job, &unsealed, &received, trial, arrived, note_run).await;
            Fate::of(settle, done).await
        };
        let fate = work.instrument(span.clone()).instrument(traced.clone()).await;
        if let Some(interrupted) = fate.interrupted() {
            trace::failed(&traced, if matches!(interrupted, Interrupted::Lost) { "lost" } else { "store" });
        }
        fate
    }

    /// Locks the job, decides the meaning of this copy, and acts on it.
    #[allow(clippy::too_many_arguments, reason = "one call site; each is a part of the delivery in hand")]
    async fn process_job(
        &self,
        message: &Message,
        job: &Job,
        unsealed: &Unsealed,
        received: &Received<'_>,
        trial: Trial,
        arrived: &Arrived,
        note_run: impl Fn(u32),
    ) -> Result<Done<'_>, Interrupted> {
        let lost = &message.lost;
        let lock = self.job_locks.take_unless_lost(&job.key, lost).await.ok_or(Interrupted::Lost)?;
        if let Some(warm) = self.store.warm(&|| super::rows::of_job(&job.key)) {
            warm.await?;
        }
        let carry = async |journal: &Journal| {
            let run = Run { job, journal, lost, cancelled: &lock.cancelled, arrived };
            self.carry(&run, received).await
        };
        let done = match self.open(job, unsealed, message.redelivered)? {
            Opened::Work(journal) => {
                self.parked.taken(&job.key);
                if trial == Trial::Alone {
                    // If the message stops the worker again, the store then knows its job.
                    journal.durable().await?;
                }
                note_run(journal.with(|state| state.record.run));
                carry(&journal).await?
            }
            Opened::Stale(news) => {
                if let Some(journal) = news {
                    journal.durable().await?;
                }
                match self.settle_older(job, unsealed, &message.properties, lost).await? {
                    Settling::Ack => {
                        self.figures.count(&self.figures.stale);
                        tracing::debug!("a stale copy is acked without a call");
                        Done::settled()
                    }
                    Settling::Work(journal) => carry(&journal).await?,
                }
            }
            Opened::EndedElsewhere => {
                self.figures.count(&self.figures.stale);
                tracing::debug!("a copy of a job that another worker ended is acked without a call");
                Done::settled()
            }
            Opened::Ended(ended) => self.ended_again(message, &job.key, *ended, unsealed).await?,
            Opened::Conflict => self.conflict(message, job, &unsealed.body).await?,
        };
        Ok(done.holding(lock))
    }

    /// Removes the note of the start: the message did not stop the worker. A condemned message stays condemned until
    /// it is among the dead letters.
    async fn close_start(&self, arrived: &Arrived, turn: Turn, is_settled: bool) -> Result<(), StoreError> {
        if matches!(turn, Turn::Condemned) && !is_settled {
            return Ok(());
        }
        drop(turn);
        self.starts.close(&*self.store, &arrived.digest).await
    }

    fn count_lost(&self) {
        self.figures.count(&self.figures.lost);
        tracing::info!("a delivery's channel was lost; the broker redelivers the job");
    }

    /// The job cannot be worked on now: requeue.
    async fn requeue(&self, message: &Message, settle: Box<dyn Settle>, error: Interrupted) {
        // Intake stops before the requeue, so that the broker does not redeliver to this worker at once.
        let must_wait = self.stop_for_room(&error).await;
        if error.store().is_none() {
            // An immediate redelivery would find the same fault.
            tokio::select! {
                biased;
                () = tokio::time::sleep(UNUSABLE_PAUSE) => {}
                () = message.lost.cancelled() => {}
                () = self.draining.cancelled() => {}
            }
        }
        let back = async {
            if settle.requeue().await.is_err() {
                tracing::debug!("the delivery's channel was lost too; the broker redelivers the job");
            }
        };
        if must_wait {
            tokio::join!(back, self.wait_for_room());
        } else {
            back.await;
            self.store_trouble(&error).await;
        }
    }
}

async fn ack(settle: Box<dyn Settle>) -> Result<(), Lost> {
    crash::point(Point::BeforeAck, "").await;
    settle.ack().await?;
    crash::point(Point::AfterAck, "").await;
    Ok(())
}

#[cfg(test)]
#[path = "delivery/tests.rs"]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests;
