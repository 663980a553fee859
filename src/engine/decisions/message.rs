//! An operator's decision, as a message of the control stream.
//!
//! The rule it keeps: a message without a valid MAC of the master key, or from another environment, is no decision. A
//! decision names jobs, tenants, systems and operators, but no person whose data is erased.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::engine::ceilings::Scope;
use crate::engine::pauses::Subject;
use crate::job::{At, JobKey};
use crate::seal::Keyring;

/// The schema's name.
pub const SCHEMA: &str = "erasure.decision/v1";
const PURPOSE: &str = "decision";

/// The decision's content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// A system or a tenant is paused.
    Pause {
        /// The system or tenant.
        subject: Subject,
        /// The time since which it is paused.
        since: At,
        /// True for a repetition, because the stream will soon lose the first message.
        again: bool,
    },
    /// A system or a tenant is resumed.
    Resume {
        /// The system or tenant.
        subject: Subject,
    },
    /// These jobs are cancelled.
    Cancel {
        /// The jobs.
        #[serde(with = "keys")]
        jobs: Vec<JobKey>,
    },
    /// A held system is called again.
    ReleaseSystem {
        /// The system.
        system: String,
    },
    /// Failed runs are discarded: their dead letters are removed.
    Discard {
        /// Jobs and runs.
        #[serde(with = "keys")]
        jobs: Vec<JobKey>,
        /// The failed run of each job.
        runs: Vec<u32>,
    },
    /// The jobs that a ceiling held at that time continue.
    ReleaseGuard {
        /// The scope of the ceiling.
        scope: Scope,
        /// All jobs held at that time; `None`: only the named ones.
        until: Option<At>,
        /// The jobs that the deciding worker knows: another worker may hold them only later.
        #[serde(with = "keys")]
        jobs: Vec<JobKey>,
    },
    /// The jobs that a ceiling held at that time end as cancelled.
    DiscardGuarded {
        /// The scope of the ceiling.
        scope: Scope,
        /// All jobs held at that time; `None`: only the named ones.
        until: Option<At>,
        /// The jobs that the deciding worker knows.
        #[serde(with = "keys")]
        jobs: Vec<JobKey>,
    },
    /// Previews are approved or rejected.
    Approval {
        /// False: nothing is to be erased.
        is_approved: bool,
        /// The jobs.
        #[serde(with = "keys")]
        jobs: Vec<JobKey>,
        /// The keyed digest of each job's findings, in hex.
        findings: Vec<String>,
    },
    /// No decision: a worker reads up to its own mark before it takes jobs.
    Mark,
    /// No operator's decision: a job ended while older copies of it may be on the broker. A worker that knows nothing
    /// of the end must not work on such a copy.
    Ended {
        /// The job, as a list of one.
        #[serde(with = "keys")]
        jobs: Vec<JobKey>,
        /// The run that ended.
        run: u32,
        /// Copies with a lower park number are stale.
        park: u64,
    },
    /// No operator's decision: a message of this stream that cannot be read as a cancellation is among the dead
    /// letters. Another worker that read it must not publish it again.
    SetAside {
        /// The message's digest.
        print: String,
    },
}

impl What {
    /// The words of all kinds that change something.
    pub const WORDS: [&str; 8] =
        ["pause", "resume", "cancel", "release_system", "discard", "release_guard", "discard_guarded", "approval"];

    /// The kind's word, for logs.
    pub const fn word(&self) -> &'static str {
        match self {
            What::Pause { .. } => "pause",
            What::Resume { .. } => "resume",
            What::Cancel { .. } => "cancel",
            What::ReleaseSystem { .. } => "release_system",
            What::Discard { .. } => "discard",
            What::ReleaseGuard { .. } => "release_guard",
            What::DiscardGuarded { .. } => "discard_guarded",
            What::Approval { .. } => "approval",
            What::Mark => "mark",
            What::Ended { .. } => "ended",
            What::SetAside { .. } => "set_aside",
        }
    }
}

/// A decision, with its time, its operator and the reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decided {
    /// The id: one decision, however often its message is published.
    pub id: Uuid,
    /// The environment for which it is meant.
    pub environment: String,
    /// The time.
    pub at: At,
    /// The worker that received the request.
    pub worker: String,
    /// The operator; empty if no name was given.
    pub by: String,
    /// The reason; empty if none was given.
    pub reason: String,
    /// The content.
    pub what: What,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope {
    schema: String,
    /// The decision's own bytes. The MAC covers these bytes, so that every release can check it.
    decision: String,
    mac: String,
}

/// The meaning of a message of the control stream.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Authenticity {
    /// No decision, by its schema.
    Other,
    /// A decision by its schema, but without a valid MAC.
    Forged,
    /// A decision with a valid MAC, of a kind that this release does not know.
    Unknown,
    /// A decision.
    Ours(Box<Decided>),
}

impl Decided {
    /// The message.
    pub(crate) fn to_body(&self, keyring: &Keyring) -> Vec<u8> {
        let decision = serde_json::to_string(self).unwrap_or_default();
        let mac = hex::encode(keyring.mac(PURPOSE, &[decision.as_bytes()]));
        serde_json::to_vec(&Envelope { schema: SCHEMA.to_owned(), decision, mac }).unwrap_or_default()
    }

    /// Reads a message of the control stream.
    pub(crate) fn read(body: &[u8], keyring: &Keyring) -> Authenticity {
        let Ok(serde_json::Value::Object(fields)) = serde_json::from_slice(body) else { return Authenticity::Other };
        if fields.get("schema").and_then(serde_json::Value::as_str) != Some(SCHEMA) {
            return Authenticity::Other;
        }
        let Ok(envelope) = serde_json::from_slice::<Envelope>(body) else { return Authenticity::Forged };
        let mac = hex::decode(&envelope.mac).unwrap_or_default();
        if !keyring.verify_mac(PURPOSE, &[envelope.decision.as_bytes()], &mac) {
            return Authenticity::Forged;
        }
        serde_json::from_str(&envelope.decision)
            .map_or(Authenticity::Unknown, |decided| Authenticity::Ours(Box::new(decided)))
    }
}

/// Jobs as `tenant/id`.
mod keys {
    use serde::{Deserialize as _, Deserializer, Serializer, de};

    use crate::job::JobKey;

    pub fn serialize<S: Serializer>(keys: &[JobKey], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(keys.iter().map(ToString::to_string))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<JobKey>, D::Error> {
        let all = Vec::<String>::deserialize(deserializer)?;
        all.iter().map(|text| JobKey::of_text(text).ok_or_else(|| de::Error::custom("no job"))).collect()
    }
}

#[cfg(test)]
#[path = "message_tests.rs"]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests;
