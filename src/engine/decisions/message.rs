//! An operator's decision as it lies in the control stream.
//!
//! The rule it keeps: what is not under a MAC of the master key, or is of another environment, is
//! nobody's decision. It names jobs, tenants, systems and operators, and no person whose data is erased.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::engine::ceilings::Scope;
use crate::engine::pauses::Subject;
use crate::job::{At, JobKey};
use crate::seal::Keyring;

/// The schema's name.
pub const SCHEMA: &str = "erasure.decision/v1";
const PURPOSE: &str = "decision";

/// What was decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// A system or a tenant is paused.
    Pause {
        /// Which.
        subject: Subject,
        /// Since when.
        since: At,
        /// Told once more, because the stream will soon have forgotten it.
        again: bool,
    },
    /// A system or a tenant goes on.
    Resume {
        /// Which.
        subject: Subject,
    },
    /// These jobs are cancelled.
    Cancel {
        /// Which.
        #[serde(with = "keys")]
        jobs: Vec<JobKey>,
    },
    /// A held system is called again.
    ReleaseSystem {
        /// Which.
        system: String,
    },
    /// Failed runs are given up; their dead letters are removed.
    Discard {
        /// Jobs and runs.
        #[serde(with = "keys")]
        jobs: Vec<JobKey>,
        /// The failed run of each.
        runs: Vec<u32>,
    },
    /// The jobs that a ceiling held until then go on.
    ReleaseGuard {
        /// Whose ceiling.
        scope: Scope,
        /// All that were held until then; where it is not given, those that are named.
        until: Option<At>,
        /// Those that the deciding worker knows: another one may see them held only later.
        #[serde(with = "keys")]
        jobs: Vec<JobKey>,
    },
    /// The jobs that a ceiling held until then end as cancelled.
    DiscardGuarded {
        /// Whose ceiling.
        scope: Scope,
        /// All that were held until then; where it is not given, those that are named.
        until: Option<At>,
        /// Those that the deciding worker knows.
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
        /// The keyed digest of what was shown of each, in hex.
        findings: Vec<String>,
    },
    /// Nothing: where a worker's reading had to come to before it took jobs.
    Mark,
    /// No operator's: a job ended while older copies of it may lie on the broker. Another worker, which
    /// knows nothing of the end, is not to begin anew with one of them.
    Ended {
        /// The job, as a list of one.
        #[serde(with = "keys")]
        jobs: Vec<JobKey>,
        /// The run that ended.
        run: u32,
        /// Copies with a lower park number are of no use any more.
        park: u64,
    },
    /// No operator's: a message of this stream that cannot be read as a cancellation lies among the dead
    /// letters. Another worker, which has read it too, is not to put it there again.
    SetAside {
        /// What tells the message from others.
        print: String,
    },
}

impl What {
    /// The words of all kinds that change anything.
    pub const WORDS: [&str; 8] =
        ["pause", "resume", "cancel", "release_system", "discard", "release_guard", "discard_guarded", "approval"];

    /// Its kind in a word, for logs.
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

/// A decision: what, when, by whom and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decided {
    /// Its id: one decision, however often its message is published.
    pub id: Uuid,
    /// The environment that it is meant for.
    pub environment: String,
    /// When.
    pub at: At,
    /// The worker that was asked.
    pub worker: String,
    /// Who; empty where nobody was named.
    pub by: String,
    /// Why; empty where nothing was said.
    pub reason: String,
    /// What.
    pub what: What,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope {
    schema: String,
    /// The decision's own bytes: the MAC is over these, whatever a release makes of them.
    decision: String,
    mac: String,
}

/// What a message of the control stream is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Authenticity {
    /// No decision, nor does it claim to be one.
    Other,
    /// It claims to be one, and nothing vouches for it.
    Forged,
    /// Ours, and of a kind that this release does not know.
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
    use uuid::Uuid;

    use crate::job::JobKey;

    pub fn serialize<S: Serializer>(keys: &[JobKey], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(keys.iter().map(ToString::to_string))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<JobKey>, D::Error> {
        let read = |text: &String| {
            let (tenant, id) = text.split_once('/')?;
            Some(JobKey { tenant: tenant.to_owned(), job_id: Uuid::try_parse(id).ok()? })
        };
        let all = Vec::<String>::deserialize(deserializer)?;
        all.iter().map(|text| read(text).ok_or_else(|| de::Error::custom("no job"))).collect()
    }
}

#[cfg(test)]
#[path = "message_tests.rs"]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests;
