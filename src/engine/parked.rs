//! Copies that lie on the broker's wait queues: whether those that were parked here come back, and what an
//! older copy is worth.
//!
//! The rule it keeps: that the newest copy of a job lies on the broker is believed for as long as a copy can
//! lie there. One that has not come back by then is said to be missing, and an older copy is not acked before
//! a newer one has been by.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Engine;
use super::dead_letter_head::claimed_place;
use super::envelope::{self, CopyHead, Origin, Unsealed};
use super::interrupted::Interrupted;
use super::journal::{JournalError, ended_of, record_of};
use crate::broker::{Destination, Message, Properties, Publication, Tier, Via};
use crate::job::{At, Carried, Job, JobKey, JobRecord};
use crate::store::{StoreError, Table};

/// How often the wait queues are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// What a copy may be late by: the broker moves it from its wait queue to the job queue.
const SLACK: Duration = Duration::from_secs(45);
/// The broker counts a little later than it acts.
const COUNTED_AFTER: Duration = Duration::from_secs(10);
/// Within this time every copy on every wait queue has been by, wherever it was parked.
const LONGEST: Duration = Tier::H1.wait();
/// The broker's clock and ours may differ by as much over that time.
const DRIFT: Duration = Duration::from_secs(5);
/// So many copies are watched, which bounds the memory.
const WATCHED_MAX: usize = 200_000;
/// So many missing ones have a line each in the log.
const LINES_MAX: usize = 100;
/// What begins the wait of an older copy that was set aside.
const ASIDE: &str = "aside";
const PAGE: usize = 256;

/// A parked copy that was confirmed to this worker, or to an earlier one on this store.
#[derive(Debug, Clone, Copy)]
struct ParkedCopy {
    run: u32,
    number: u64,
    tier: Tier,
    /// The link that it was confirmed on; 0 for one of an earlier process.
    link: u64,
    parked_at: Instant,
    due: Instant,
}

#[derive(Debug, Default)]
struct State {
    /// Rises with each link to the broker.
    link: u64,
    epoch: u64,
    /// Since when this worker is surely the one that gets the deliveries, without a break.
    active_since: Option<Instant>,
    copies: HashMap<JobKey, ParkedCopy>,
    missing: BTreeSet<JobKey>,
    /// Wait queues that held fewer copies than were parked there at the last look, and by how many.
    short: BTreeMap<Tier, u64>,
    /// The same, once two looks agree.
    told_short: BTreeMap<Tier, u64>,
}

impl State {
    /// What was parked before may have gone through another worker's hands meanwhile.
    fn begin_link(&mut self) {
        self.link += 1;
        self.active_since = None;
        self.short.clear();
        self.told_short.clear();
    }

    fn activate(&mut self, now: Instant) {
        if self.active_since.is_some() {
            return;
        }
        self.active_since = Some(now);
        let link = self.link;
        // Another worker may have had it and parked it anew, for the longest wait at most.
        for copy in self.copies.values_mut().filter(|copy| copy.link != link) {
            copy.due = now + LONGEST;
        }
    }
}

/// The copies that were parked here and have not come back yet.
#[derive(Debug)]
pub struct Parked(Mutex<State>);

impl Default for Parked {
    fn default() -> Self {
        // No copy of this process has the link of an earlier one.
        Parked(Mutex::new(State { link: 1, ..State::default() }))
    }
}

/// What became of the parked copies, as far as it is known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ParkedView {
    /// Jobs whose copy has not come back by its time.
    pub missing: Vec<JobKey>,
    /// Wait queues that hold fewer copies than were parked there, and by how many.
    pub short: Vec<(Tier, u64)>,
}

/// What is to be done with a copy that is older than a confirmed one.
enum Older {
    /// The newer one is known to be there, or has been by.
    Passed,
    /// The newer one is to be waited for.
    Waits { marker: String, tier: Tier },
    /// The newer one is gone: this one is the best there is.
    Best,
}

impl Parked {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A delivery came: this worker is the active one, and a copy is back.
    pub(crate) fn delivered(&self, message: &Message) {
        let mut state = self.state();
        if state.epoch != message.epoch {
            state.epoch = message.epoch;
            state.begin_link();
        }
        state.activate(Instant::now());
        // Only the worker writes to the exchange that this came through.
        if message.via == Via::Resume
            && let Some((key, number)) = claimed_place(&message.properties)
            && state.copies.get(&key).is_some_and(|copy| number >= copy.number)
        {
            state.copies.remove(&key);
            if state.missing.remove(&key) {
                tracing::info!(job = %key, number, "a parked copy that was missing has come back");
            }
        }
    }

    /// The job's newest copy is in hand.
    pub(crate) fn taken(&self, key: &JobKey) {
        let mut state = self.state();
        state.copies.remove(key);
        state.missing.remove(key);
    }

    /// A copy was confirmed on a wait queue.
    pub(crate) fn parked(&self, key: &JobKey, (run, number): (u32, u64), tier: Tier) {
        let mut state = self.state();
        if state.copies.len() < WATCHED_MAX {
            let (link, now) = (state.link, Instant::now());
            let copy = ParkedCopy { run, number, tier, link, parked_at: now, due: now + tier.wait() };
            state.copies.insert(key.clone(), copy);
        }
    }

    /// The link to the broker went or came.
    fn link_changed(&self) {
        self.state().begin_link();
    }

    /// As it is now.
    pub fn view(&self) -> ParkedView {
        let state = self.state();
        let short = state.told_short.iter().map(|(tier, count)| (*tier, *count)).collect();
        ParkedView { missing: state.missing.iter().cloned().collect(), short }
    }

    fn judge(&self, key: &JobKey, record: &JobRecord, wait: Option<&str>, now: At) -> Older {
        let state = self.state();
        let newest = (record.run, record.park_confirmed);
        let is_there = state.copies.get(key).is_some_and(|copy| {
            (copy.run, copy.number) == newest && copy.link == state.link && Instant::now() < copy.due + SLACK
        });
        // What this link confirmed cannot have been undone by a broker that was restored before it.
        if is_there {
            return Older::Passed;
        }
        let aside = wait.and_then(Aside::read);
        if aside.as_ref().is_some_and(|aside| newest > (aside.run, aside.number)) {
            return Older::Passed;
        }
        let since = aside.map_or(now, |aside| aside.since);
        let active = state.active_since.map(|since| since.elapsed()).unwrap_or_default();
        if now.since(since) >= LONGEST - DRIFT && active >= LONGEST - DRIFT {
            return Older::Best;
        }
        let marker = Aside { run: newest.0, number: newest.1, since }.to_text();
        // Long enough for the newest copy to come first.
        let back = record.waiting.map(|(_, until)| until.since(now)).unwrap_or_default();
        let tier = Tier::ALL.into_iter().find(|tier| tier.wait() > back + DRIFT).unwrap_or(Tier::H1);
        Older::Waits { marker, tier }
    }
}

/// What an older copy waits for that was set aside: one that is newer than the newest of that moment.
struct Aside {
    run: u32,
    number: u64,
    since: At,
}

impl Aside {
    fn to_text(&self) -> String {
        let mut text = ASIDE.to_owned();
        let _ = write!(text, "/{}/{}/{}", self.run, self.number, self.since.0);
        text
    }

    fn read(text: &str) -> Option<Aside> {
        let mut parts = text.strip_prefix(ASIDE)?.strip_prefix('/')?.split('/');
        let (run, number, since) = (parts.next()?, parts.next()?, parts.next()?);
        Some(Aside { run: run.parse().ok()?, number: number.parse().ok()?, since: At(since.parse().ok()?) })
    }
}

/// What an older copy of a job comes to.
pub(crate) enum Settling {
    /// It is acked.
    Ack,
    /// It is to be worked on.
    Work(Box<super::journal::Journal>),
}

impl Engine {
    /// What is known of the parked copies.
    pub fn parked(&self) -> &Parked {
        &self.parked
    }

    /// A copy that is older than a confirmed one. Before it is acked, the newer one must have been seen: a
    /// broker that was restored from a copy of its disk has the older one alone.
    pub(crate) async fn settle_older(
        &self,
        job: &Job,
        unsealed: &Unsealed,
        properties: &Properties,
        lost: &CancellationToken,
    ) -> Result<Settling, Interrupted> {
        // A file of jobs has no other copies than its own.
        let Some(record) = record_of(&*self.store, &job.key)?.filter(|_| self.policy.has_senders) else {
            return Ok(Settling::Ack);
        };
        match self.parked.judge(&job.key, &record, unsealed.wait.as_deref(), self.now()) {
            Older::Passed => Ok(Settling::Ack),
            Older::Best => {
                self.figures.count(&self.figures.older_used);
                tracing::error!(
                    number = record.park_confirmed,
                    "the newest copy of a job has not come back within the longest wait: an older one is worked on. \
                     Was the broker restored from a copy of its disk, or a wait queue purged?"
                );
                Ok(Settling::Work(Box::new(self.open_older(job, unsealed, record)?)))
            }
            Older::Waits { marker, tier } => {
                let nothing = Carried::default();
                let (run, park, carried) = match &unsealed.origin {
                    Origin::Ours { run, park, carried, .. } => (*run, *park, &**carried),
                    Origin::Publisher => (record.run, record.copy, &nothing),
                };
                let head = CopyHead { key: &job.key, run, park, wait: &marker, carried };
                let (properties, body) = envelope::parked(&self.keyring, properties, &head, &unsealed.body)?;
                self.publish(Publication { to: Destination::Wait(tier), properties, body }, lost).await?;
                tracing::debug!(
                    number = park,
                    tier = tier.label(),
                    "an older copy is set aside until a newer one has been by"
                );
                Ok(Settling::Ack)
            }
        }
    }

    /// The jobs that wait on the broker as far as this store knows.
    pub(crate) fn recall_parked(&self) -> Result<(), StoreError> {
        let now = Instant::now();
        let mut after: Option<Vec<u8>> = None;
        loop {
            let page = self.store.scan(Table::Job, b"", after.as_deref(), PAGE)?;
            let Some((last, _)) = page.last() else { return Ok(()) };
            after = Some(last.clone());
            let mut state = self.parked.state();
            for (row, value) in page {
                let (Some(key), Ok(record)) = (JobKey::from_bytes(&row), JobRecord::from_bytes(&value)) else {
                    continue;
                };
                if record.waiting.is_none() || state.copies.len() >= WATCHED_MAX {
                    continue;
                }
                let (run, number) = (record.run, record.park_confirmed);
                let copy = ParkedCopy { run, number, tier: Tier::H1, link: 0, parked_at: now, due: now + LONGEST };
                state.copies.insert(key, copy);
            }
        }
    }

    /// Looks at the wait queues now and then.
    pub(crate) async fn parked_loop(self: Arc<Self>) {
        if !self.policy.has_senders {
            return;
        }
        let mut link = self.broker.link();
        let mut next = Instant::now() + LOOK_EVERY;
        loop {
            tokio::select! {
                biased;
                () = self.draining.cancelled() => return,
                changed = link.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    self.parked.link_changed();
                    continue;
                }
                () = tokio::time::sleep_until(next) => {}
            }
            next = Instant::now() + LOOK_EVERY;
            if let Err(error) = self.look_for_parked().await {
                self.store_trouble(&error.into()).await;
            }
        }
    }

    /// Compares what was parked with what lies on the broker. Before the first delivery on a link this worker
    /// may be one that stands by: the copies may be another's by now.
    pub(crate) async fn look_for_parked(&self) -> Result<(), JournalError> {
        if self.parked.state().active_since.is_none() {
            return Ok(());
        }
        for tier in Tier::ALL {
            let depth = self.broker.depth(&format!("wait.{}", tier.label())).await;
            self.compare_depth(tier, depth);
        }
        // Where a message still lies in the job queue, it may be the one that is looked for.
        if self.broker.depth("jobs").await == Some(0) {
            self.tell_missing()?;
        }
        Ok(())
    }

    fn compare_depth(&self, tier: Tier, depth: Option<u64>) {
        let mut state = self.parked.state();
        let (now, link) = (Instant::now(), state.link);
        let lies = |copy: &&ParkedCopy| {
            copy.tier == tier && copy.link == link && copy.parked_at + COUNTED_AFTER < now && now + DRIFT < copy.due
        };
        let parked = state.copies.values().filter(lies).count() as u64;
        let missing = depth.map_or(0, |depth| parked.saturating_sub(depth));
        let before = if missing > 0 { state.short.insert(tier, missing) } else { state.short.remove(&tier) };
        match before.filter(|_| missing > 0) {
            None => drop(state.told_short.remove(&tier)),
            // Two looks in a row: it is no matter of a moment.
            Some(before) => {
                let missing = missing.min(before);
                if state.told_short.insert(tier, missing).is_none() {
                    tracing::error!(
                        queue = format!("wait.{}", tier.label()),
                        missing,
                        "a wait queue holds fewer copies of jobs than were parked there: a policy, a purge or a \
                         person has removed them. The jobs are named when their time is over"
                    );
                }
            }
        }
    }

    fn tell_missing(&self) -> Result<(), JournalError> {
        let now = Instant::now();
        let mut due: Vec<_> = {
            let state = self.parked.state();
            let is_late =
                |(key, copy): &(&JobKey, &ParkedCopy)| copy.due + SLACK <= now && !state.missing.contains(*key);
            state.copies.iter().filter(is_late).map(|(key, copy)| (key.clone(), *copy)).collect()
        };
        due.sort_by(|(one, _), (other, _)| one.cmp(other));
        let mut told = 0;
        for (key, copy) in due {
            let record = record_of(&*self.store, &key).unwrap_or_default();
            let still = record.is_some_and(|record| (record.run, record.park_confirmed) == (copy.run, copy.number));
            if !still || ended_of(&*self.store, &key)?.is_some() || self.hands.holds(&key) {
                self.parked.taken(&key);
                continue;
            }
            self.parked.state().missing.insert(key.clone());
            told += 1;
            if told <= LINES_MAX {
                tracing::error!(
                    job = %key, number = copy.number,
                    "a parked copy has not come back: its job stands still. Its publisher must send the whole job \
                     again, with the same id; it then goes on from what is done"
                );
            }
        }
        if told > LINES_MAX {
            tracing::error!(count = told, "parked copies have not come back; /v1/jobs has all that wait");
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "parked/tests.rs"]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests;
