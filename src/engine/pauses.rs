//! Systems and tenants that an operator has paused.
//!
//! The rule it keeps: a pause outlives the process; paused jobs wait and fail by nothing, and
//! everyone else's go on.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Engine;
use crate::job::At;
use crate::store::{Batch, StoreError, Table};

const ROWS: &[u8] = b"paused/";
/// The longer a pause has lasted, the longer a job stays away: one that ends soon is noticed soon.
const SHORTEST: Duration = Duration::from_secs(5);
const LONGEST: Duration = Duration::from_secs(900);

/// What is paused.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// A configured system: it is not called.
    System(String),
    /// A tenant: nothing is called for its jobs.
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

    fn row(&self) -> Vec<u8> {
        [ROWS, self.to_string().as_bytes()].concat()
    }

    fn of_row(row: &[u8]) -> Option<Subject> {
        let (kind, name) = std::str::from_utf8(row.strip_prefix(ROWS)?).ok()?.split_once('/')?;
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

/// Who paused it, when and why; without personal data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Paused {
    /// When, in milliseconds since 1970.
    pub at: i64,
    /// Who.
    pub by: String,
    /// Why.
    pub reason: String,
}

/// What is paused now.
#[derive(Debug, Default)]
pub struct Pauses(RwLock<BTreeMap<Subject, Paused>>);

impl Pauses {
    /// Everything that is paused.
    pub fn all(&self) -> BTreeMap<Subject, Paused> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How long a job of the tenant that needs the system stays away; `None` where neither is paused.
    pub fn stay_away(&self, tenant: &str, system: &str, now: At) -> Option<Duration> {
        let paused = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let concerned = paused.iter().filter(|(subject, _)| match subject {
            Subject::System(name) => name == system,
            Subject::Tenant(name) => name == tenant,
        });
        concerned.map(|(_, paused)| now.since(At(paused.at)).clamp(SHORTEST, LONGEST)).max()
    }

    fn set(&self, subject: &Subject, paused: Option<Paused>) {
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        match paused {
            Some(paused) => all.insert(subject.clone(), paused),
            None => all.remove(subject),
        };
    }
}

impl Engine {
    /// What operators have paused.
    pub fn pauses(&self) -> &Pauses {
        &self.pauses
    }

    /// Pauses a system or a tenant; calls on the wire end. A second pause changes who and why.
    ///
    /// # Errors
    /// Where the store fails; then nothing is paused.
    pub async fn pause_for_operator(&self, subject: &Subject, by: String, reason: String) -> Result<(), StoreError> {
        let since = self.pauses.all().get(subject).map_or(self.now().0, |paused| paused.at);
        let paused = Paused { at: since, by, reason };
        let mut batch = Batch::new();
        batch.put(Table::Meta, subject.row(), serde_json::to_vec(&paused).unwrap_or_default());
        self.store.submit(batch).await?;
        tracing::warn!(%subject, by = %paused.by, reason = %paused.reason, "an operator pauses");
        self.pauses.set(subject, Some(paused));
        Ok(())
    }

    /// Lets a system or a tenant go on; its parked jobs come back within a quarter of an hour.
    /// `false` where it was not paused.
    ///
    /// # Errors
    /// Where the store fails; then it stays paused.
    pub async fn resume_for_operator(&self, subject: &Subject) -> Result<bool, StoreError> {
        let was_paused = self.pauses.all().contains_key(subject);
        let mut batch = Batch::new();
        batch.remove(Table::Meta, subject.row());
        self.store.submit(batch).await?;
        tracing::warn!(%subject, "an operator resumes");
        self.pauses.set(subject, None);
        Ok(was_paused)
    }

    /// What was paused before the restart still is.
    pub(crate) fn recall_pauses(&self) -> Result<(), StoreError> {
        for (row, note) in self.store.scan(Table::Meta, ROWS, None, usize::MAX)? {
            if let (Some(subject), Ok(paused)) = (Subject::of_row(&row), serde_json::from_slice(&note)) {
                tracing::warn!(%subject, "still paused by an operator");
                self.pauses.set(&subject, Some(paused));
            }
        }
        Ok(())
    }
}
