//! Messages that become no job, or no longer one: each is a dead letter before it may be acked.
//!
//! The rule it keeps: a refused message is published as a dead letter, with an event if its job is known. An open job
//! with the same id continues untouched.

use zeroize::Zeroizing;

use super::delivery::Done;
use super::envelope::{self, DeadLetterHead, Origin, Unsealed};
use super::in_hand::Received;
use super::interrupted::Interrupted;
use super::journal::{ended_of, record_of};
use super::{Engine, retention};
use crate::broker::{Destination, Message, Properties, Publication, Via};
use crate::job::event::{self, Frame};
use crate::job::parse::Refusal;
use crate::job::record::Event;
use crate::job::{Carried, Ended, Job, JobKey, JobOutcome, Reason};
use crate::store::Batch;

impl Engine {
    /// Refuses a message that cannot become a job.
    pub(crate) async fn reject(
        &self,
        message: &Message,
        unsealed: &Unsealed,
        refusal: &Refusal,
    ) -> Result<Done<'static>, Interrupted> {
        let line = message.properties.line;
        let detail = match line {
            Some(line) => format!("line {line}: {}", refusal.invalid),
            None => refusal.invalid.to_string(),
        };
        tracing::warn!(reason = refusal.reason.as_str(), %detail, "message rejected");
        if refusal.reason == Reason::Unauthorised {
            self.figures.count(&self.figures.unauthorised);
        }
        // One of our copies keeps its run and number, so that its dead letter can be replayed.
        let place = match &unsealed.origin {
            Origin::Publisher => (0, 0, Carried::default()),
            Origin::Ours { run, park, carried, .. } => (*run, *park, (**carried).clone()),
        };
        // A line of a file has no message id. Its event then names an id made from the line's bytes.
        let of_its_bytes = || JobKey {
            tenant: "default".to_owned(),
            job_id: uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_OID, &unsealed.body),
        };
        let key = refusal.key.clone().or_else(|| line.map(|_| of_its_bytes()));
        self.refuse(message, &unsealed.body, key.as_ref(), refusal.reason, Some(&detail), place).await
    }

    /// Refuses a message whose job id belongs to another identity. The first job continues untouched.
    pub(crate) async fn conflict(
        &self,
        message: &Message,
        job: &Job,
        body: &Zeroizing<Vec<u8>>,
    ) -> Result<Done<'static>, Interrupted> {
        tracing::warn!("message rejected: its job id is in use for another identity");
        self.refuse(message, body, Some(&job.key), Reason::Conflict, None, (0, 0, Carried::default())).await
    }

    /// A sealed message that cannot be opened, or one on a queue where it does not belong: it becomes a dead letter
    /// unchanged. Its job does not change.
    pub(crate) async fn dead_letter_unopened(&self, message: &Message) -> Result<Done<'static>, Interrupted> {
        let (properties, body) =
            envelope::dead_letter_as_it_came(&self.keyring, &message.properties, &message.body, self.now());
        if message.via != Via::Resume {
            // This is no job. Without the count, a run over a file would wait for it.
            self.figures.label("jobs_settled", "", "rejected");
        }
        self.publish(Publication { to: Destination::DeadLetter, properties, body }, &message.lost).await?;
        self.figures.count(&self.figures.dead_letters);
        Ok(Done::settled())
    }

    /// A poison message: it stopped the worker repeatedly. It is a dead letter from now on and is never parsed again.
    /// If it is a copy of an open job, the job ends.
    pub(crate) async fn dead_letter_poison(&self, message: &Message) -> Result<Done<'static>, Interrupted> {
        let Ok(unsealed) = envelope::open(message, &self.keyring) else {
            return self.dead_letter_unopened(message).await;
        };
        let properties = &message.properties;
        let reason = Reason::Poison;
        let opened = match &unsealed.origin {
            Origin::Ours { key, run, park, .. } => Some((key.clone(), *run, *park)),
            Origin::Publisher => self.opened_by(&unsealed.body)?,
        };
        let Some((key, run, park)) = opened else {
            let id = properties.message_id.as_deref().and_then(|id| uuid::Uuid::try_parse(id).ok());
            let key = id.map(|job_id| JobKey { tenant: "default".to_owned(), job_id });
            return self.refuse(message, &unsealed.body, key.as_ref(), reason, None, (0, 0, Carried::default())).await;
        };
        let key = &key;
        let record = record_of(&*self.store, key)?;
        let carried = self.carried_of(key, &unsealed)?;
        let at = self.first_refused_at(key, &unsealed.body).await?;
        let frame = Frame { environment: &self.accepts.environment, traceparent: None, now: at };
        let last =
            event::rejected(&frame, key, reason, reason.sentence(), &envelope::body_sha256(&unsealed.body), true);
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
        self.forget_mirrored(key, &mut batch)?;
        retention::expire(&mut batch, key, at, &self.settings, JobOutcome::Failed);
        if let Err(interrupted) = self.end_unread(key, &mut ended, &last.data, batch).await {
            self.read_again(key)?;
            return Err(interrupted);
        }
        let received = Received { body: &unsealed.body, properties, traceparent: None };
        self.settle_ended(key, &mut ended, &received, &carried, &message.lost).await
    }

    async fn refuse(
        &self,
        message: &Message,
        body: &[u8],
        key: Option<&JobKey>,
        reason: Reason,
        detail: Option<&str>,
        (run, park, carried): (u32, u64, Carried),
    ) -> Result<Done<'static>, Interrupted> {
        let Message { properties, lost, .. } = message;
        if let Some(key) = key {
            let event = self.refusal_event(key, properties, body, reason, detail).await?;
            self.publish_event(&event, key, properties, lost).await?;
        }
        let note = envelope::note(reason);
        let head = DeadLetterHead { key, run, park, carried: &carried, at: self.now(), note: &note, detail };
        self.dead_letter(properties, &head, body, lost).await?;
        self.figures.count(&self.figures.rejected);
        self.figures.label("jobs_finished", "", "rejected");
        self.figures.label("jobs_settled", "", "rejected");
        Ok(Done::settled())
    }

    /// The event about a message that never became a job: each repeat has the same bytes.
    pub(crate) async fn refusal_event(
        &self,
        key: &JobKey,
        properties: &Properties,
        body: &[u8],
        reason: Reason,
        detail: Option<&str>,
    ) -> Result<Event, Interrupted> {
        // The message's own time, if it has one.
        let now = match envelope::own_time(properties) {
            Some(own) => own,
            None => self.first_refused_at(key, body).await?,
        };
        let frame = Frame { environment: &self.accepts.environment, traceparent: None, now };
        let known = record_of(&*self.store, key)?.is_some() || ended_of(&*self.store, key)?.is_some();
        let sentence = detail.unwrap_or_else(|| reason.sentence());
        let last = event::rejected(&frame, key, reason, sentence, &envelope::whole_sha256(properties, body), !known);
        if known { Ok(last.event) } else { self.refusal(key, body, last).await }
    }
}
