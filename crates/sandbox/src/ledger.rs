//! The ledger: every call that came, what it met and what it changed.
//!
//! The rule it keeps: an entry is written before the call's work begins, so a call that never got an
//! answer is there too.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

use super::call::Misuse;
use super::operation::Operation;

/// A one-time password asked for again for the same person within this time counts as a repeat.
const OTP_APART_MS: u64 = 60_000;

/// How a call ended for the one who made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// Not yet.
    InHand,
    /// An HTTP reply was handed to the connection.
    Answered,
    /// A fault closed the connection without a reply.
    Dropped,
    /// The client closed the connection before there was a reply.
    ClientGone,
}

/// One call. It holds identifiers: the sandbox is test equipment and its people are invented.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// From 1, in order of arrival; never used twice, not even after a reset.
    pub seq: u64,
    /// When it came, in milliseconds since 1970.
    pub at_ms: u64,
    /// The first path segment: `cleeng`, `loyalty@2`, …
    pub system: String,
    /// What was called.
    pub operation: Operation,
    /// The HTTP method.
    pub method: String,
    /// The path with names in place of identifiers; empty for an unknown one.
    pub path: Cow<'static, str>,
    /// Whom it concerned: customer id, member's database id, account's e-mail, user's GUID, or code.
    pub subject: Option<String>,
    /// Which of the subject's things: an offer, an entitlement's id.
    pub object: Option<String>,
    /// How it ended.
    pub end: End,
    /// The HTTP status, where there was a reply.
    pub status: Option<u16>,
    /// The planned fault that it met.
    pub fault: Option<Cow<'static, str>>,
    /// Whether the system did its work (which may have changed nothing).
    pub worked: bool,
    /// Whether something changed.
    pub effect: bool,
    /// Whether a call of this kind erases, ends or overwrites.
    pub destructive: bool,
    /// Whether the credential was accepted.
    pub credentials_ok: bool,
    /// How the caller broke the documented form, if it did.
    pub misuse: Option<Misuse>,
}

impl Entry {
    /// The caller could not learn from this call whether its work was done.
    pub fn ambiguous(&self) -> bool {
        match self.end {
            End::InHand | End::Dropped | End::ClientGone => true,
            End::Answered => {
                self.fault.as_deref() == Some("garbage")
                    || (self.worked && self.fault.as_deref() == Some("gateway_page"))
                    || (self.worked && self.fault.is_some() && self.status >= Some(500))
            }
        }
    }

    /// The caller got the system's own answer, with a credential that works.
    fn readable(&self) -> bool {
        self.end == End::Answered && self.worked && self.credentials_ok && !self.ambiguous() && self.status != Some(429)
    }
}

/// Two calls of one kind for one subject, with no read between them that would have settled the first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repeat {
    /// The system.
    pub system: String,
    /// What was called twice.
    pub operation: Operation,
    /// For whom.
    pub subject: Option<String>,
    /// On which of the subject's things.
    pub object: Option<String>,
    /// The first call.
    pub first_seq: u64,
    /// The call that repeated it.
    pub repeat_seq: u64,
}

/// What one kind of call came to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperationCount {
    /// Calls received.
    pub calls: u64,
    /// Calls that changed something.
    pub effects: u64,
    /// Calls that met a planned fault.
    pub faults: u64,
    /// Calls that got no reply.
    pub unanswered: u64,
}

/// What the ledger comes to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// All calls.
    pub calls: u64,
    /// Calls that changed something.
    pub effects: u64,
    /// By kind of call.
    pub by_operation: BTreeMap<Operation, OperationCount>,
    /// An ambiguous destructive call, repeated without a read-back.
    pub ambiguous_repeats: Vec<Repeat>,
    /// A destructive call that was answered and took effect, repeated without a read-back.
    pub effective_repeats: Vec<Repeat>,
    /// A one-time password asked for again for the same person within a minute.
    pub otp_repeats: Vec<Repeat>,
    /// Breaches of the documented form.
    pub misuse: BTreeMap<Misuse, u64>,
}

/// System, kind of call, subject, object.
type Call<'a> = (&'a str, Operation, Option<&'a str>, Option<&'a str>);

/// Adds up `entries`, which are in order of arrival.
pub fn summarise(entries: &[Entry]) -> Summary {
    let mut summary = Summary::default();
    // Per kind, subject and object: the latest call that a repeat would have to be measured against.
    let mut open: HashMap<Call<'_>, &Entry> = HashMap::new();
    let mut reads: HashMap<(&str, Operation, Option<&str>), u64> = HashMap::new();
    for entry in entries {
        summary.calls += 1;
        summary.effects += u64::from(entry.effect);
        let count = summary.by_operation.entry(entry.operation).or_default();
        count.calls += 1;
        count.effects += u64::from(entry.effect);
        count.faults += u64::from(entry.fault.is_some());
        count.unanswered += u64::from(entry.status.is_none());
        if let Some(misuse) = entry.misuse {
            *summary.misuse.entry(misuse).or_default() += 1;
        }

        let subject = entry.subject.as_deref();
        if entry.readable() {
            reads.insert((&entry.system, entry.operation, subject), entry.seq);
        }
        if !entry.destructive && entry.operation != Operation::RequestOtp {
            continue;
        }
        let key = (entry.system.as_str(), entry.operation, subject, entry.object.as_deref());
        if let Some(first) = open.get(&key) {
            let repeat = Repeat {
                system: entry.system.clone(),
                operation: entry.operation,
                subject: entry.subject.clone(),
                object: entry.object.clone(),
                first_seq: first.seq,
                repeat_seq: entry.seq,
            };
            let settled = |read: &Operation| {
                reads.get(&(entry.system.as_str(), *read, subject)).is_some_and(|seq| *seq > first.seq)
            };
            if entry.operation == Operation::RequestOtp {
                if entry.at_ms.saturating_sub(first.at_ms) < OTP_APART_MS {
                    summary.otp_repeats.push(repeat);
                }
            } else if !entry.operation.settled_by().iter().any(settled) {
                let list =
                    if first.ambiguous() { &mut summary.ambiguous_repeats } else { &mut summary.effective_repeats };
                list.push(repeat);
            }
        }
        // A call that plainly failed settles nothing and leaves nothing to settle.
        if entry.ambiguous() || entry.effect {
            open.insert(key, entry);
        }
    }
    summary
}

/// The entries, in order of arrival.
pub(super) struct Ledger {
    entries: Vec<Entry>,
    next_seq: u64,
}

impl Default for Ledger {
    fn default() -> Self {
        Ledger { entries: Vec::new(), next_seq: 1 }
    }
}

impl Ledger {
    /// Writes a call that begins, under the next number, and returns that number.
    pub(super) fn open(&mut self, entry: Entry) -> u64 {
        let seq = self.next_seq;
        self.next_seq += 1;
        self.entries.push(Entry { seq, ..entry });
        seq
    }

    /// The entry under `seq`, unless the ledger was cleared since.
    pub(super) fn get_mut(&mut self, seq: u64) -> Option<&mut Entry> {
        let first = self.entries.first()?.seq;
        let index = usize::try_from(seq.checked_sub(first)?).ok()?;
        self.entries.get_mut(index)
    }

    pub(super) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The entries whose number is above `seq`.
    pub(super) fn after(&self, seq: u64) -> &[Entry] {
        let from = self.entries.partition_point(|entry| entry.seq <= seq);
        &self.entries[from..]
    }

    /// Forgets the entries; the numbers go on.
    pub(super) fn clear(&mut self) {
        self.entries.clear();
    }
}
