//! Dead letters that the broker made: a job that expired in the queue, or was requeued too often. They get their code
//! and their event, like the worker's own dead letters.
//!
//! The rule it keeps: the event is confirmed before the letter gets its code. A stop between the two only repeats the
//! event, with the same id.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use zeroize::Zeroizing;

use super::Engine;
use super::dead_letter_head::{BROKERS_WORD, LetterHead};
use super::envelope::{self, DeadLetterHead, Origin};
use super::interrupted::Interrupted;
use super::journal::JournalError;
use crate::broker::{DeadLetter, Destination, HeaderValue, Properties, Publication, PublishError, Verdict, Via};
use crate::job::parse::MAX_BODY;
use crate::job::{Carried, JobKey, Reason};

/// The pause between looks at the number of dead letters.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// After this many looks at the number the letters themselves are read.
const LOOKS: u32 = 60;
/// Most letters in one look.
const MOST: usize = 10_000;

impl Engine {
    /// Looks for such letters whenever there are more than the worker has made, and every hour.
    pub(crate) async fn undelivered_loop(self: Arc<Self>) {
        let mut expected = None;
        let mut looks = 0;
        while !self.draining.is_cancelled() {
            let made = self.figures.dead_letters.load(std::sync::atomic::Ordering::Relaxed);
            let depth = self.broker.depth("dead-letters").await;
            // This difference is the number of letters that the worker did not make.
            let foreign = depth.map(|depth| depth.saturating_sub(made));
            if foreign.is_some_and(|foreign| foreign > 0) && (foreign > expected || looks >= LOOKS) {
                looks = 0;
                match self.code_undelivered().await {
                    Ok(0) => {}
                    Ok(count) => tracing::warn!(count, "dead letters of the broker were given their code and event"),
                    Err(Trouble::Broker(error)) => tracing::debug!(
                        %error,
                        "the dead letters cannot be read; they are read again later"
                    ),
                    Err(Trouble::Engine(error)) => self.store_trouble(&error).await,
                }
            }
            expected = foreign;
            looks += 1;
            tokio::select! {
                biased;
                () = tokio::time::sleep(LOOK_EVERY) => {}
                () = self.draining.cancelled() => {}
            }
        }
    }

    fn is_bare(&self, letter: &DeadLetter) -> bool {
        LetterHead::read(&self.keyring, &letter.properties, &letter.body).is_bare()
    }

    /// Gives such letters their code and their event; returns their number.
    async fn code_undelivered(&self) -> Result<usize, Trouble> {
        let mut found = Vec::new();
        let mut note = |letter: &DeadLetter| {
            if self.is_bare(letter) {
                found.push(letter.clone());
            }
            Verdict::Keep
        };
        self.broker.dead_letters(MOST, &mut note).await?;
        let mut reported = HashMap::new();
        for letter in found {
            let Some(it) = self.identified(&letter)? else { continue };
            if let Some(key) = &it.key {
                let original = &letter.properties;
                let event = self.refusal_event(key, original, &it.body, it.reason, Some(&it.detail)).await?;
                self.publish_event(&event, key, original, &self.draining).await.map_err(Interrupted::from)?;
            }
            reported.insert(letter.body, it);
        }
        let mut count = 0;
        let mut code = |letter: &DeadLetter| {
            let it = reported.get(&letter.body).filter(|_| self.is_bare(letter));
            let coded = it.and_then(|it| self.coded(letter, it));
            coded.map_or(Verdict::Keep, |(properties, body)| {
                count += 1;
                Verdict::Replace(Box::new(Publication { to: Destination::DeadLetter, properties, body }))
            })
        };
        if !reported.is_empty() {
            self.broker.dead_letters(MOST, &mut code).await?;
        }
        Ok(count)
    }

    /// The letter's job and the reason why it is there; `None` if it cannot be opened. A message that the worker
    /// would have refused has that reason: only senders with the right to send jobs get an event.
    fn identified(&self, letter: &DeadLetter) -> Result<Option<Identified>, JournalError> {
        let Ok(opened) = envelope::open_as(Via::Resume, &letter.properties, &letter.body, &self.keyring) else {
            return Ok(None);
        };
        let admitted = self.admit(&letter.properties, true, &opened)?;
        let (key, reason, detail) = match (admitted, &opened.origin) {
            (_, Origin::Ours { key, .. }) => (Some(key.clone()), Reason::Undelivered, detail(&letter.properties)),
            (Ok(job), _) => (Some(job.key), Reason::Undelivered, detail(&letter.properties)),
            (Err(refusal), _) => (refusal.key, refusal.reason, refusal.invalid.to_string()),
        };
        let is_parked = opened.origin != Origin::Publisher;
        Ok(Some(Identified { key, body: opened.body, reason, detail, is_parked }))
    }

    /// The letter with its code. A parked copy keeps its seal and headers, and can be replayed.
    fn coded(&self, letter: &DeadLetter, it: &Identified) -> Option<(Properties, Bytes)> {
        let note = envelope::note(it.reason);
        if it.is_parked {
            return Some(envelope::unopened(&self.keyring, &letter.properties, &letter.body, &note, self.now()));
        }
        let (key, detail) = (it.key.as_ref(), Some(it.detail.as_str()));
        let head =
            DeadLetterHead { key, run: 0, park: 0, carried: &Carried::default(), at: self.now(), note: &note, detail };
        let seal = self.settings.seal_dead_letters;
        envelope::dead_letter(&self.keyring, &letter.properties, &head, &letter.body, MAX_BODY, seal).ok()
    }
}

/// A letter's job and reason.
struct Identified {
    key: Option<JobKey>,
    body: Zeroizing<Vec<u8>>,
    reason: Reason,
    detail: String,
    /// It is a parked copy, with a valid MAC.
    is_parked: bool,
}

/// The reason why no code was given; the letters stay unchanged.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error(transparent)]
    Broker(#[from] PublishError),
    #[error(transparent)]
    Engine(#[from] Interrupted),
}

impl From<JournalError> for Trouble {
    fn from(error: JournalError) -> Self {
        Trouble::Engine(error.into())
    }
}

/// The broker's reason is one of a few words; any other word is not repeated.
fn detail(properties: &Properties) -> String {
    let word = properties.headers.get(BROKERS_WORD).and_then(HeaderValue::as_text);
    let why = match word {
        Some("expired") => "it expired",
        Some("delivery_limit") => "it was returned too often",
        Some("maxlen") => "the queue was full",
        Some("rejected") => "it was refused by somebody else's consumer",
        _ => "it does not say why",
    };
    format!("{} ({why})", Reason::Undelivered.sentence().trim_end_matches('.'))
}
