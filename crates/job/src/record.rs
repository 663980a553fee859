//! The two summaries that the store keeps of a job: while it is open, and once it has ended.
//!
//! The rule it keeps: no personal data; a version byte first, so that a later release can read
//! what an earlier one wrote.

use serde::{Deserialize, Serialize, Serializer};

use super::journal::{At, Entry};
use super::lasting::{Carried, Lasting, Seen};
use super::outcome::{InputKind, JobOutcome, Reason};
use super::step::{Answer, StepName};
use super::wait::{Standstill, Waiting};

/// A publication that is owed: always the same id and the same bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Its id, a UUIDv5 of what it is about and of all that it says.
    pub id: String,
    /// `completed`, `failed`, `needs_input`…
    pub what: String,
    /// The CloudEvents JSON.
    #[serde(serialize_with = "at_once")]
    pub body: Vec<u8>,
    /// When it was first written.
    pub at: At,
}

/// The same bytes as a sequence of single ones gives, without going through them.
fn at_once<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_bytes(bytes)
}

/// What is kept of an open job beside its journal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobRecord {
    /// Keyed digest of the identity part.
    pub identity: Vec<u8>,
    /// Rises with each replay, from 1.
    pub run: u32,
    /// The number of the job's last event.
    pub seq: u32,
    /// Keyed digest of the publisher's message that was accepted last.
    pub body: Vec<u8>,
    /// The number that this message's copy counts as among the parked ones.
    pub copy: u64,
    /// The last park number written.
    pub park_written: u64,
    /// The last park number whose publish was confirmed.
    pub park_confirmed: u64,
    /// When it was first accepted.
    pub opened_at: At,
    /// When the person asked.
    pub requested_at: At,
    /// When it must be done.
    pub due_at: Option<At>,
    /// The law.
    pub regulation: Option<String>,
    /// The targets' systems, in order.
    pub systems: Vec<String>,
    /// Keyed pseudonym of the person.
    pub subject_ref: String,
    /// Why and until when it waits, while it is parked.
    pub waiting: Option<(Waiting, At)>,
    /// The inputs that were already asked for in an event.
    pub announced: Vec<(u16, InputKind)>,
    /// An event that is not yet confirmed.
    pub owed: Option<Event>,
    /// What must not go back, of this worker's making and of others'.
    pub lasting: Lasting,
    /// The last delivery to this worker.
    pub seen: Seen,
    /// How long it has stood still, and what was told of that.
    pub stands: Standstill,
    /// The target for which it is parked, where it is one.
    pub waits_at: Option<u16>,
}

/// What a dead letter's headers say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetterNote {
    /// Why.
    pub reason: Reason,
    /// The system, where one is to blame.
    pub system: Option<String>,
    /// The step, where one is to blame.
    pub step: Option<StepName>,
    /// Failed attempts at that step.
    pub attempts: u32,
}

/// What is remembered of an ended job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// Keyed digest of the identity part.
    pub identity: Vec<u8>,
    /// How.
    pub outcome: JobOutcome,
    /// The run that ended.
    pub run: u32,
    /// The number of its final event.
    pub seq: u32,
    /// The last park number: copies below it are stale.
    pub park: u64,
    /// Keyed digest of the publisher's message that the run was about.
    pub body: Vec<u8>,
    /// When.
    pub at: At,
    /// The final event.
    pub event: Event,
    /// True once the final event was confirmed; written so only where the job failed, see
    /// [`Ended::is_published`].
    pub published: bool,
    /// For a failed job.
    pub dead_letter: Option<DeadLetterNote>,
    /// True once the dead letter was confirmed.
    pub dead_lettered: bool,
    /// The targets' systems, in order.
    pub systems: Vec<String>,
    /// The receipt with which the final event is kept, and whom they are about. Where it is known, the
    /// stored record has it in place of the event.
    #[serde(skip)]
    pub certified: Option<Certified>,
}

/// Where an ended job's final event lies: with its receipt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certified {
    /// The receipt's number.
    pub number: u64,
    /// Keyed pseudonym of the person; empty where the message could not be read.
    pub subject_ref: String,
}

/// No JSON begins so.
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

    /// Reads [`Self::to_bytes`] back. Where the event is kept with its receipt, only its time is here.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Undecodable> {
        let mut ended: Ended = decode("ended job", bytes)?;
        ended.certified = Certified::from_bytes(&ended.event.body);
        if ended.certified.is_some() {
            ended.event.body.clear();
        }
        Ok(ended)
    }

    /// Whether the final event was confirmed. Of a job that did not fail its record stays until then:
    /// removing that costs less than writing this once more, event and all.
    pub fn is_published(&self, has_record: bool) -> bool {
        self.published || (self.outcome != JobOutcome::Failed && !has_record)
    }
}

/// Entries appended together, and the sealed answers among them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Appended {
    /// The entries; a private answer is `None` here.
    pub entries: Vec<Entry>,
    /// Position of an entry and its sealed answer.
    pub sealed: Vec<(u32, Vec<u8>)>,
}

/// A record that cannot be decoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a {what} record cannot be decoded (version byte {version:?})")]
pub struct Undecodable {
    /// Which kind.
    pub what: &'static str,
    /// Its first byte.
    pub version: Option<u8>,
}

const VERSION: u8 = 1;
/// Records of open jobs, which end with [`Lasting`] and [`Seen`] since.
const VERSION_LASTING: u8 = 2;
/// The same, which end with how long the job has stood still since.
const VERSION_STANDS: u8 = 3;

impl Carried {
    /// What a copy of the job carries, as its record knows it.
    pub fn of(record: &JobRecord) -> Carried {
        Carried { seq: record.seq, lasting: record.lasting.clone(), stands: record.stands }
    }
}

impl JobRecord {
    /// The version byte and the record.
    pub fn to_bytes(&self) -> Vec<u8> {
        postcard::to_extend(self, vec![VERSION_STANDS]).unwrap_or_default()
    }

    /// Reads [`Self::to_bytes`] back, and what earlier releases wrote.
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
    // Bytes left over are of some other record.
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
            /// Reads [`Self::to_bytes`] back.
            pub fn from_bytes(bytes: &[u8]) -> Result<Self, Undecodable> {
                decode($what, bytes)
            }
        }
    )+};
}

codec!(Appended => "journal", Event => "event", Answer => "answer");
