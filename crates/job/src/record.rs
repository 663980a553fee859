//! The two records of a job in the store: of an open job, and of an ended one.
//!
//! The rule it keeps: no personal data; a version byte comes first, so that a later release can read the records of
//! an earlier one.

use serde::{Deserialize, Serialize, Serializer};

use super::journal::{At, Entry};
use super::lasting::{Carried, Lasting, Seen};
use super::outcome::{InputKind, JobOutcome, Reason};
use super::step::{Answer, StepName};
use super::wait::{Standstill, Waiting};

/// An event to publish: always the same id and the same bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Its id, a UUIDv5 of its subject and its whole content.
    pub id: String,
    /// `completed`, `failed`, `needs_input`…
    pub what: String,
    /// The CloudEvents JSON.
    #[serde(serialize_with = "at_once")]
    pub body: Vec<u8>,
    /// The time at which it was first written.
    pub at: At,
}

/// The bytes of a sequence of single bytes, written at once.
fn at_once<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_bytes(bytes)
}

/// An open job's record, besides its journal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobRecord {
    /// Keyed digest of the identity part.
    pub identity: Vec<u8>,
    /// The run, from 1. It rises with each replay.
    pub run: u32,
    /// The number of the job's last event.
    pub seq: u32,
    /// Keyed digest of the publisher's message that was accepted last.
    pub body: Vec<u8>,
    /// The park number that this message's copy counts as.
    pub copy: u64,
    /// The last park number written.
    pub park_written: u64,
    /// The last park number whose publish was confirmed.
    pub park_confirmed: u64,
    /// The time of the first acceptance.
    pub opened_at: At,
    /// The time of the person's request.
    pub requested_at: At,
    /// The due time.
    pub due_at: Option<At>,
    /// The law.
    pub regulation: Option<String>,
    /// The targets' systems, in order.
    pub systems: Vec<String>,
    /// Keyed pseudonym of the person.
    pub subject_ref: String,
    /// The reason and end of the wait, while it is parked.
    pub waiting: Option<(Waiting, At)>,
    /// The inputs that an event has already asked for.
    pub announced: Vec<(u16, InputKind)>,
    /// An event that is not confirmed yet.
    pub owed: Option<Event>,
    /// The parts that must not go back, from this worker and others.
    pub lasting: Lasting,
    /// The last delivery to this worker.
    pub seen: Seen,
    /// The standstill, and the reports about it.
    pub stands: Standstill,
    /// The target for which it is parked, if it is one.
    pub waits_at: Option<u16>,
}

/// The content of a dead letter's headers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetterNote {
    /// The reason.
    pub reason: Reason,
    /// The system of the failure, if there is one.
    pub system: Option<String>,
    /// The step of the failure, if there is one.
    pub step: Option<StepName>,
    /// Failed attempts at that step.
    pub attempts: u32,
}

/// An ended job's record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// Keyed digest of the identity part.
    pub identity: Vec<u8>,
    /// The outcome.
    pub outcome: JobOutcome,
    /// The run that ended.
    pub run: u32,
    /// The number of its final event.
    pub seq: u32,
    /// The last park number: copies with a lower one are stale.
    pub park: u64,
    /// Keyed digest of the publisher's message of the run.
    pub body: Vec<u8>,
    /// The time.
    pub at: At,
    /// The final event.
    pub event: Event,
    /// True after the final event's confirm; written only for a failed job, see [`Ended::is_published`].
    pub published: bool,
    /// For a failed job.
    pub dead_letter: Option<DeadLetterNote>,
    /// True after the dead letter's confirm.
    pub dead_lettered: bool,
    /// The targets' systems, in order.
    pub systems: Vec<String>,
    /// The receipt that is stored with the final event, and the person's pseudonym. If it is set, the stored record
    /// has it instead of the event.
    #[serde(skip)]
    pub certified: Option<Certified>,
}

/// The place of an ended job's final event: with its receipt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certified {
    /// The receipt's number.
    pub number: u64,
    /// Keyed pseudonym of the person; empty if the message could not be read.
    pub subject_ref: String,
}

/// The marker: never the first byte of a JSON document.
const CERTIFIED: u8 = 1;

impl Certified {
    fn to_bytes(&self) -> Vec<u8> {
        [&[CERTIFIED], &self.number.to_be_bytes()[..], self.subject_ref.as_bytes()].concat()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Certified> {
        let Some((&CERTIFIED, rest)) = bytes.split_first() else { return None };
        let (number, subject_ref) = rest.split_first_chunk()?;
        let subject_ref = String::from_utf8(subject_ref.to_vec()).ok()?;
        Some(Certified { number: u64::from_be_bytes(*number), subject_ref })
    }
}

impl Ended {
    /// The version byte and the record.
    pub fn to_bytes(&self) -> Vec<u8> {
        match &self.certified {
            Some(certified) => {
                let (id, what) = (String::new(), String::new());
                let event = Event { id, what, body: certified.to_bytes(), at: self.event.at };
                encode(&Ended { event, ..self.clone() })
            }
            None => encode(self),
        }
    }

    /// Decodes the bytes of [`Self::to_bytes`]. If the event is stored with its receipt, only its time is here.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Undecodable> {
        let mut ended: Ended = decode("ended job", bytes)?;
        ended.certified = Certified::from_bytes(&ended.event.body);
        if ended.certified.is_some() {
            ended.event.body.clear();
        }
        Ok(ended)
    }

    /// True if the final event was confirmed. For jobs that did not fail, the record is removed at that time: that
    /// costs less than another write of this row with its event.
    pub fn is_published(&self, has_record: bool) -> bool {
        self.published || (self.outcome != JobOutcome::Failed && !has_record)
    }
}

/// Entries of one row, and the sealed answers among them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Appended {
    /// The entries; a private answer is `None` here.
    pub entries: Vec<Entry>,
    /// An entry's position and its sealed answer.
    pub sealed: Vec<(u32, Vec<u8>)>,
}

/// A record that cannot be decoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a {what} record cannot be decoded (version byte {version:?})")]
pub struct Undecodable {
    /// The kind.
    pub what: &'static str,
    /// Its first byte.
    pub version: Option<u8>,
}

const VERSION: u8 = 1;
/// Records of open jobs, which end with [`Lasting`] and [`Seen`] since.
const VERSION_LASTING: u8 = 2;
/// The same, which end with the standstill since.
const VERSION_STANDS: u8 = 3;

impl Carried {
    /// The part of the record that a copy of the job carries.
    pub fn of(record: &JobRecord) -> Carried {
        Carried { seq: record.seq, lasting: record.lasting.clone(), stands: record.stands }
    }
}

impl JobRecord {
    /// The version byte and the record.
    pub fn to_bytes(&self) -> Vec<u8> {
        postcard::to_extend(self, vec![VERSION_STANDS]).unwrap_or_default()
    }

    /// Decodes the bytes of [`Self::to_bytes`], also those of earlier releases.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Undecodable> {
        let none = (Standstill::default(), None::<u16>);
        let with = |more: Vec<u8>| whole("job", bytes, &more);
        match bytes.split_first() {
            Some((&VERSION, rest)) => {
                let none = (Lasting::default(), Seen::default(), none);
                with(postcard::to_extend(&none, rest.to_vec()).unwrap_or_default())
            }
            Some((&VERSION_LASTING, rest)) => with(postcard::to_extend(&none, rest.to_vec()).unwrap_or_default()),
            Some((&VERSION_STANDS, rest)) => whole("job", bytes, rest),
            _ => Err(Undecodable { what: "job", version: bytes.first().copied() }),
        }
    }
}

fn encode(record: &impl Serialize) -> Vec<u8> {
    postcard::to_extend(record, vec![VERSION]).unwrap_or_default()
}

fn decode<T: for<'a> Deserialize<'a>>(what: &'static str, bytes: &[u8]) -> Result<T, Undecodable> {
    match bytes.split_first() {
        Some((&VERSION, rest)) => whole(what, bytes, rest),
        _ => Err(Undecodable { what, version: bytes.first().copied() }),
    }
}

fn whole<T: for<'a> Deserialize<'a>>(what: &'static str, bytes: &[u8], rest: &[u8]) -> Result<T, Undecodable> {
    // Remaining bytes belong to another kind of record.
    match postcard::take_from_bytes(rest) {
        Ok((record, [])) => Ok(record),
        _ => Err(Undecodable { what, version: bytes.first().copied() }),
    }
}

macro_rules! codec {
    ($($type:ty => $what:literal),+ $(,)?) => {$(
        impl $type {
            /// The version byte and the record.
            pub fn to_bytes(&self) -> Vec<u8> {
                encode(self)
            }
            /// Decodes the bytes of [`Self::to_bytes`].
            pub fn from_bytes(bytes: &[u8]) -> Result<Self, Undecodable> {
                decode($what, bytes)
            }
        }
    )+};
}

codec!(Appended => "journal", Event => "event", Answer => "answer");
