//! Copies on the broker's wait queues: whether the parked copies are redelivered, and whether an older copy may be
//! acked.
//!
//! The rule it keeps: the newest copy of a job counts as present only as long as a copy can be on a wait queue. After
//! that time it is reported as missing. An older copy is acked only if a newer one is known to exist, or was delivered.

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

/// The pause between looks at the wait queues.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// The time by which a copy may be late: the broker moves it from its wait queue to the job queue.
const SLACK: Duration = Duration::from_secs(45);
/// The broker's counts are a little behind.
const COUNTED_AFTER: Duration = Duration::from_secs(10);
/// Within this time every copy on every wait queue is delivered, from every worker.
const LONGEST: Duration = Tier::H1.wait();
/// The most by which the broker's clock and ours may differ over that time.
const DRIFT: Duration = Duration::from_secs(5);
/// Most copies that are watched: it bounds the memory.
const WATCHED_MAX: usize = 200_000;
/// Most missing copies with a log line each.
const LINES_MAX: usize = 100;
/// The beginning of the wait of an older copy that was set aside.
const ASIDE: &str = "aside";
const PAGE: usize = 256;

/// A parked copy that was confirmed to this worker, or to an earlier one on this store.
#[derive(Debug, Clone, Copy)]
struct ParkedCopy {
    run: u32,
    number: u64,
    tier: Tier,
    /// The link that confirmed it; 0 for a copy of an earlier process.
    link: u64,
    parked_at: Instant,
    due: Instant,
}

#[derive(Debug, Default)]
struct State {
    /// Rises with each link to the broker.
    link: u64,
    epoch: u64,
    /// The time since which this worker has surely been the active one, without a break.
    active_since: Option<Instant>,
    copies: HashMap<JobKey, ParkedCopy>,
    missing: BTreeSet<JobKey>,
    /// Wait queues with fewer copies at the last look than were parked there, and the difference.
    short: BTreeMap<Tier, u64>,
    /// The same, after two looks agree.
    reported_short: BTreeMap<Tier, u64>,
}

impl State {
    /// Copies parked before may meanwhile have been delivered to another worker.
    fn begin_link(&mut self) {
        self.link += 1;
        self.active_since = None;
        self.short.clear();
        self.reported_short.clear();
    }

    fn activate(&mut self, now: Instant) {
        if self.active_since.is_some() {
            return;
        }
        self.active_since = Some(now);
        let link = self.link;
        // Another worker may have parked it again, for the longest wait at most.
        for copy in self.copies.values_mut().filter(|copy| copy.link != link) {
            copy.due = now + LONGEST;
        }
    }
}

/// The copies that were parked here and not redelivered yet.
#[derive(Debug)]
pub struct Parked(Mutex<State>);

impl Default for Parked {
    fn default() -> Self {
        // No copy of this process may have link 0, the link of earlier processes.
        Parked(Mutex::new(State { link: 1, ..State::default() }))
    }
}

/// The known state of the parked copies.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ParkedView {
    /// Jobs whose copy was not redelivered in time.
    pub missing: Vec<JobKey>,
    /// Wait queues with fewer copies than were parked there, and the difference.
    pub short: Vec<(Tier, u64)>,
}

/// The action for a copy that is older than a confirmed one.
enum Older {
    /// The newer copy is known to exist, or was delivered.
    Passed,
    /// The newer copy must be waited for.
    Waits { marker: String, tier: Tier },
    /// The newer copy is gone: this one is the best there is.
    Best,
}

impl Parked {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a delivery: this worker is active, and the delivered copy is no longer parked.
    pub(crate) fn delivered(&self, message: &Message) {
        let mut state = self.state();
        if state.epoch != message.epoch {
            state.epoch = message.epoch;
            state.begin_link();
        }
        state.activate(Instant::now());
        // Only the worker writes to the exchange of this message.
        if message.via == Via::Resume
            && let Some((key, number)) = claimed_place(&message.properties)
            && state.copies.get(&key).is_some_and(|copy| number >= copy.number)
        {
            state.copies.remove(&key);
            if state.missing.remove(&key) {
                tracing::info!(job = %key, number, "a missing parked copy was redelivered");
            }
        }
    }

    /// The job's newest copy is in hand: it is no longer watched.
    pub(crate) fn taken(&self, key: &JobKey) {
        let mut state = self.state();
        state.copies.remove(key);
        state.missing.remove(key);
    }

    /// Watches a copy after its confirm on a wait queue.
    pub(crate) fn parked(&self, key: &JobKey, (run, number): (u32, u64), tier: Tier) {
        let mut state = self.state();
        if state.copies.len() < WATCHED_MAX {
            let (link, now) = (state.link, Instant::now());
            let copy = ParkedCopy { run, number, tier, link, parked_at: now, due: now + tier.wait() };
            state.copies.insert(key.clone(), copy);
        }
    }

    /// Notes that the link to the broker changed.
    fn link_changed(&self) {
        self.state().begin_link();
    }

    /// The present state.
    pub fn view(&self) -> ParkedView {
        let state = self.state();
        let short = state.reported_short.iter().map(|(tier, count)| (*tier, *count)).collect();
        ParkedView { missing: state.missing.iter().cloned().collect(), short }
    }

    fn judge(&self, key: &JobKey, record: &JobRecord, wait: Option<&str>, now: At) -> Older {
        let state = self.state();
        let newest = (record.run, record.park_confirmed);
        let is_there = state.copies.get(key).is_some_and(|copy| {
            (copy.run, copy.number) == newest && copy.link == state.link && Instant::now() < copy.due + SLACK
        });
        // A copy that this link confirmed still exists: a restored broker would have meant another link.
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
        // Long enough for the newest copy to be delivered first.
        let back = record.waiting.map(|(_, until)| until.since(now)).unwrap_or_default();
        let tier = Tier::ALL.into_iter().find(|tier| tier.wait() > back + DRIFT).unwrap_or(Tier::H1);
        Older::Waits { marker, tier }
    }
}

/// The end of the wait of an older copy: a copy with a higher number than the newest of that moment.
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

/// The result for an older copy.
pub(crate) enum Settling {
    /// It may be acked.
    Ack,
    /// It must be worked on.
    Work(Box<super::journal::Journal>),
}

impl Engine {
    /// The known parked copies.
    pub fn parked(&self) -> &Parked {
        &self.parked
    }

    /// Settles a copy that is older than a confirmed one. It is acked if the newer copy is known to exist, else after it
    /// was published again to wait for the newer copy: a broker restored from a copy of its disk has only the older
    /// one.
    pub(crate) async fn settle_older(
        &self,
        job: &Job,
        unsealed: &Unsealed,
        properties: &Properties,
        lost: &CancellationToken,
    ) -> Result<Settling, Interrupted> {
        // A file of jobs has no other copies.
        let Some(record) = record_of(&*self.store, &job.key)?.filter(|_| self.policy.has_senders) else {
            return Ok(Settling::Ack);
        };
        match self.parked.judge(&job.key, &record, unsealed.wait.as_deref(), self.now()) {
            Older::Passed => Ok(Settling::Ack),
            Older::Best => {
                self.figures.count(&self.figures.older_used);
                tracing::error!(
                    number = record.park_confirmed,
                    "the newest copy of a job was not redelivered within the longest wait: an older copy is worked \
                     on. Was the broker restored from a copy of its disk, or a wait queue purged?"
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
                    "an older copy waits until a newer one is delivered"
                );
                Ok(Settling::Ack)
            }
        }
    }

    /// Reads the jobs that wait on the broker from the store.
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

    /// Looks at the wait queues at intervals.
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

    /// Compares the parked copies with the broker's counts. Before the first delivery on a link this worker may be a
    /// standby, and another worker may have parked the copies.
    pub(crate) async fn look_for_parked(&self) -> Result<(), JournalError> {
        if self.parked.state().active_since.is_none() {
            return Ok(());
        }
        for tier in Tier::ALL {
            let depth = self.broker.depth(&format!("wait.{}", tier.label())).await;
            self.compare_depth(tier, depth);
        }
        // While the job queue holds messages, the copy may be among them.
        if self.broker.depth("jobs").await == Some(0) {
            self.report_missing()?;
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
            None => drop(state.reported_short.remove(&tier)),
            // Two looks in a row: it is not only a moment.
            Some(before) => {
                let missing = missing.min(before);
                if state.reported_short.insert(tier, missing).is_none() {
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

    fn report_missing(&self) -> Result<(), JournalError> {
        let now = Instant::now();
        let mut due: Vec<_> = {
            let state = self.parked.state();
            let is_late =
                |(key, copy): &(&JobKey, &ParkedCopy)| copy.due + SLACK <= now && !state.missing.contains(*key);
            state.copies.iter().filter(is_late).map(|(key, copy)| (key.clone(), *copy)).collect()
        };
        due.sort_by(|(one, _), (other, _)| one.cmp(other));
        let mut count = 0;
        for (key, copy) in due {
            let record = record_of(&*self.store, &key).unwrap_or_default();
            let still = record.is_some_and(|record| (record.run, record.park_confirmed) == (copy.run, copy.number));
            if !still || ended_of(&*self.store, &key)?.is_some() || self.job_locks.holds(&key) {
                self.parked.taken(&key);
                continue;
            }
            self.parked.state().missing.insert(key.clone());
            count += 1;
            if count <= LINES_MAX {
                tracing::error!(
                    job = %key, number = copy.number,
                    "a parked copy was not redelivered: its job does not continue. Its publisher must send the \
                     whole job again, with the same id; done steps are not repeated"
                );
            }
        }
        if count > LINES_MAX {
            tracing::error!(count = count, "parked copies were not redelivered; /v1/jobs lists all waiting jobs");
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "parked/tests.rs"]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests;
