//! Systems and tenants that an operator has paused.
//!
//! The rule it keeps: a pause outlives the process and holds at every worker. Paused jobs wait without failing, and
//! all other jobs continue. A pause made here holds here at once, even before the control stream has it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use uuid::Uuid;

use super::decisions::{Decided, DecisionError, Published, What};
use super::journal::JournalError;
use super::mirror::{Mirror, Mirrored, RowKey};
use super::{Engine, rows};
use crate::job::At;
use crate::store::{Batch, StoreError, Table, Ticket};

/// The time of the last resume of a system or tenant.
const RESUMED: &[u8] = rows::RESUMED.prefix;
/// The wait grows with the pause, so that the end of a short pause is noticed soon.
const SHORTEST: Duration = Duration::from_secs(5);
const LONGEST: Duration = Duration::from_secs(900);

/// The subject of a pause.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// A configured system: no call goes to it.
    System(String),
    /// A tenant: no call is made for its jobs.
    Tenant(String),
}

impl Subject {
    /// `system` or `tenant`.
    pub const fn kind(&self) -> &'static str {
        match self {
            Subject::System(_) => "system",
            Subject::Tenant(_) => "tenant",
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        match self {
            Subject::System(name) | Subject::Tenant(name) => name,
        }
    }

    fn resumed_row(&self) -> Vec<u8> {
        [RESUMED, self.to_string().as_bytes()].concat()
    }
}

impl RowKey for Subject {
    fn name(&self) -> Vec<u8> {
        self.to_string().into_bytes()
    }

    fn of_name(name: &[u8]) -> Option<Subject> {
        let (kind, name) = std::str::from_utf8(name).ok()?.split_once('/')?;
        match kind {
            "system" => Some(Subject::System(name.to_owned())),
            "tenant" => Some(Subject::Tenant(name.to_owned())),
            _ => None,
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind(), self.name())
    }
}

/// The operator, time and reason of a pause; without personal data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Paused {
    /// The time, in milliseconds since 1970.
    pub at: i64,
    /// The operator.
    pub by: String,
    /// The reason.
    pub reason: String,
    /// The time of its last publish in the control stream; 0 if there was none, as in a store of an earlier release.
    #[serde(default, rename = "told_at")]
    pub published_at: i64,
    /// True if other workers cannot know it yet.
    #[serde(skip)]
    pub is_here_only: bool,
}

/// JSON, as in earlier releases.
impl Mirrored for Paused {
    type Key = Subject;
    const PREFIX: &'static [u8] = rows::PAUSED.prefix;

    fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    fn decode(_subject: &Subject, value: &[u8]) -> Result<Option<Paused>, StoreError> {
        Ok(serde_json::from_slice(value).ok())
    }
}

/// The present pauses.
#[derive(Debug, Default)]
pub struct Pauses {
    state: RwLock<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// The pauses that were read from the stream.
    shared: Mirror<Paused>,
    /// The pauses made here, in order, and not read from the stream yet.
    made: Vec<(Uuid, Subject, Paused)>,
}

impl State {
    fn all(&self) -> BTreeMap<Subject, Paused> {
        let made = self.made.iter().map(|(_, subject, paused)| (subject.clone(), paused.clone()));
        BTreeMap::clone(&self.shared).into_iter().chain(made).collect()
    }
}

impl Pauses {
    /// All pauses.
    pub fn all(&self) -> BTreeMap<Subject, Paused> {
        self.state.read().unwrap_or_else(PoisonError::into_inner).all()
    }

    /// The pauses that every worker knows.
    pub(crate) fn shared(&self) -> BTreeMap<Subject, Paused> {
        BTreeMap::clone(&self.state.read().unwrap_or_else(PoisonError::into_inner).shared)
    }

    /// The wait of a job with this tenant and system; `None` if neither is paused.
    pub fn stay_away(&self, tenant: &str, system: &str, now: At) -> Option<Duration> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        let made = state.made.iter().map(|(_, subject, paused)| (subject, paused));
        let concerned = state.shared.iter().chain(made).filter(|(subject, _)| match subject {
            Subject::System(name) => name == system,
            Subject::Tenant(name) => name == tenant,
        });
        concerned.map(|(_, paused)| now.since(At(paused.at)).clamp(SHORTEST, LONGEST)).max()
    }

    /// True if this system is paused.
    pub(crate) fn has_system(&self, system: &str) -> bool {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        let mut subjects = state.shared.keys().chain(state.made.iter().map(|(_, subject, _)| subject));
        subjects.any(|subject| matches!(subject, Subject::System(name) if name == system))
    }

    /// Waits until this system is paused or, with `false`, until it is not.
    pub(crate) async fn until_system(&self, system: &str, is_paused: bool) {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            if self.has_system(system) == is_paused {
                return;
            }
            changed.await;
        }
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let changed = change(&mut self.state.write().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_waiters();
        changed
    }

    fn make(&self, decided: &Decided, subject: &Subject, since: At) {
        let (by, reason) = (decided.by.clone(), decided.reason.clone());
        let paused = Paused { at: since.0, by, reason, published_at: 0, is_here_only: true };
        self.change(|state| {
            if state.made.iter().all(|(id, _, _)| *id != decided.id) {
                state.made.push((decided.id, subject.clone(), paused));
            }
        });
    }

    /// Notes that the stream has the pause.
    fn note_published(&self, id: Uuid) {
        self.change(|state| {
            for (made, _, paused) in &mut state.made {
                paused.is_here_only &= *made != id;
            }
        });
    }
}

impl Engine {
    /// The operators' pauses.
    pub fn pauses(&self) -> &Pauses {
        &self.pauses
    }

    /// Pauses a system or a tenant; calls on the wire end. The pause holds here at once, and at every other worker as
    /// soon as the broker has it. A second pause replaces operator and reason.
    ///
    /// # Errors
    /// The store fails: nothing is paused.
    pub async fn pause_for_operator(
        &self,
        subject: &Subject,
        by: String,
        reason: String,
    ) -> Result<Published, JournalError> {
        let since = self.pauses.all().get(subject).map_or(self.now(), |paused| At(paused.at));
        let what = What::Pause { subject: subject.clone(), since, again: false };
        let decided = self.decided(&by, &reason, what);
        if !self.broker.has_control() {
            self.take_decision(&decided, Batch::new()).await?;
            return Ok(Published::Everywhere);
        }
        let mut batch = Batch::new();
        self.keep_decision(&decided, &mut batch);
        self.pauses.make(&decided, subject, since);
        if let Err(error) = self.store.submit(batch).await {
            self.pauses.change(|state| state.made.retain(|(id, _, _)| *id != decided.id));
            return Err(error.into());
        }
        tracing::warn!(%subject, by, reason, "an operator pauses");
        let published = self.publish_decisions().await;
        if published == Published::Everywhere {
            self.pauses.note_published(decided.id);
        }
        Ok(published)
    }

    /// Resumes a system or a tenant at every worker; its parked jobs are redelivered within a quarter of an hour.
    /// `false`: it was not paused.
    ///
    /// # Errors
    /// The broker does not confirm it, or the store fails: it stays paused.
    pub async fn resume_for_operator(&self, subject: &Subject, by: &str) -> Result<bool, DecisionError> {
        let decided = self.decided(by, "", What::Resume { subject: subject.clone() });
        Ok(self.carry_out(&decided).await?.done > 0)
    }

    /// Takes a pause that was read from the stream.
    pub(crate) async fn take_pause(
        &self,
        decided: &Decided,
        subject: &Subject,
        since: At,
        again: bool,
        mut batch: Batch,
    ) -> Result<(), JournalError> {
        let before = self.pauses.shared().remove(subject);
        let mut paused = match before {
            // A repetition: operator and reason stay.
            Some(before) if again => before,
            before => {
                let at = before.map_or(since.0, |before| before.at.min(since.0));
                let (by, reason) = (decided.by.clone(), decided.reason.clone());
                Paused { at, by, reason, published_at: 0, is_here_only: false }
            }
        };
        // A repetition by a worker that had not read the resume yet.
        if again && self.resumed_at(subject)?.is_some_and(|resumed| resumed >= since) {
            self.store.submit(batch).await?;
            return Ok(());
        }
        paused.published_at = decided.at.0;
        let noted = self.pauses.change(|state| {
            state.shared.put(subject.clone(), paused, &mut batch);
            self.store.submit(batch)
        });
        self.note_durable(decided, subject, noted).await
    }

    /// After the stream's row is durable, it replaces the decision made here. If the store refused it, memory is
    /// reloaded from the disk.
    async fn note_durable(&self, decided: &Decided, subject: &Subject, noted: Ticket) -> Result<(), JournalError> {
        let noted = noted.await;
        self.pauses.change(|state| {
            if noted.is_ok() {
                state.made.retain(|(id, _, _)| *id != decided.id);
            }
            state.shared.read_again(&*self.store, subject)
        })?;
        Ok(noted?)
    }

    /// Takes a resume that was read from the stream. `false`: there was no pause.
    pub(crate) async fn take_resume(
        &self,
        decided: &Decided,
        subject: &Subject,
        mut batch: Batch,
    ) -> Result<bool, JournalError> {
        let resumed = self.resumed_at(subject)?.map_or(decided.at, |before| before.max(decided.at));
        batch.put(Table::Meta, subject.resumed_row(), resumed.0.to_be_bytes());
        let was_paused = self.pauses.shared().contains_key(subject);
        batch.remove(Table::Meta, Mirror::<Paused>::row(subject));
        // In memory once it is durable: until then the subject stays paused.
        let noted = self.store.submit(batch);
        self.note_durable(decided, subject, noted).await?;
        Ok(was_paused)
    }

    /// A new control stream: the standing pauses must be published on it, for new stores.
    pub(crate) async fn publish_pauses_anew(&self) -> Result<(), StoreError> {
        let mut batch = Batch::new();
        let noted = self.pauses.change(|state| {
            for (subject, paused) in BTreeMap::clone(&state.shared) {
                state.shared.put(subject, Paused { published_at: 0, ..paused }, &mut batch);
            }
            (!batch.is_empty()).then(|| self.store.submit(batch))
        });
        if let Some(noted) = noted {
            noted.await?;
        }
        self.publish_decisions_anew();
        Ok(())
    }

    fn resumed_at(&self, subject: &Subject) -> Result<Option<At>, StoreError> {
        let row = self.store.get(Table::Meta, &subject.resumed_row())?;
        Ok(row.and_then(|row| Some(At(i64::from_be_bytes(row.try_into().ok()?)))))
    }

    /// Reads the pauses from before the restart.
    pub(crate) fn recall_pauses(&self) -> Result<(), StoreError> {
        let shared = Mirror::read(&*self.store)?;
        for subject in shared.keys() {
            tracing::warn!(%subject, "still paused by an operator");
        }
        self.pauses.change(|state| state.shared = shared);
        for decided in self.kept_decisions()? {
            if let What::Pause { subject, since, .. } = &decided.what {
                tracing::warn!(%subject, "still paused by an operator; other workers may not know it yet");
                self.pauses.make(&decided, subject, *since);
            }
        }
        Ok(())
    }
}
