//! The ledger: every received call, its fault and its effect.
//!
//! The rule it keeps: an entry is written before the call's work begins, so the ledger has unanswered calls too.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::call::Misuse;
use super::operation::Operation;

/// The worker's default for the time between two one-time passwords of a person.
pub const OTP_APART: Duration = Duration::from_secs(60);

/// The end of a call, as the client sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// The call has not ended.
    InHand,
    /// An HTTP reply was given to the connection.
    Answered,
    /// A fault closed the connection without a reply.
    Dropped,
    /// The client closed the connection before the reply.
    ClientGone,
}

/// One call. It has identifiers in the clear: the sandbox is test equipment, and its people are invented.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// From 1, in order of arrival; never used twice, even after a reset.
    pub seq: u64,
    /// The time of arrival, in milliseconds since 1970.
    pub at_ms: u64,
    /// The first path segment: `cleeng`, `loyalty@2`, …
    pub system: String,
    pub operation: Operation,
    pub method: String,
    /// The path with names in place of identifiers; empty for an unknown path.
    pub path: Cow<'static, str>,
    /// The customer id, member's database id, account's e-mail, user's GUID, or code.
    pub subject: Option<String>,
    /// The subject's offer, or entitlement's id.
    pub object: Option<String>,
    pub end: End,
    /// The HTTP status, if there was a reply.
    pub status: Option<u16>,
    /// The planned fault.
    pub fault: Option<Cow<'static, str>>,
    /// True if the system did the work (possibly without a change).
    pub worked: bool,
    /// True if the system's state changed.
    pub effect: bool,
    /// True if calls of this kind erase, end or overwrite.
    pub destructive: bool,
    pub credentials_ok: bool,
    /// The violation of the documented form, if any.
    pub misuse: Option<Misuse>,
}

impl Entry {
    /// True if the caller could not learn from this call whether the work was done.
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

    /// True if the caller got the system's own answer, with an accepted credential.
    fn readable(&self) -> bool {
        self.end == End::Answered && self.worked && self.credentials_ok && !self.ambiguous() && self.status != Some(429)
    }
}

/// Two calls of one kind for one subject, without a read between them that shows the effect of the first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repeat {
    pub system: String,
    pub operation: Operation,
    pub subject: Option<String>,
    pub object: Option<String>,
    pub first_seq: u64,
    pub repeat_seq: u64,
}

/// The counts of one kind of call.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperationCount {
    /// Calls received.
    pub calls: u64,
    /// Calls that changed something.
    pub effects: u64,
    /// Calls with a planned fault.
    pub faults: u64,
    /// Calls without a reply.
    pub unanswered: u64,
}

/// The counts of the whole ledger.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    pub calls: u64,
    /// Calls that changed something.
    pub effects: u64,
    pub by_operation: BTreeMap<Operation, OperationCount>,
    /// Ambiguous destructive calls, repeated without a read-back.
    pub ambiguous_repeats: Vec<Repeat>,
    /// Destructive calls that were answered and took effect, repeated without a read-back.
    pub effective_repeats: Vec<Repeat>,
    /// One-time passwords requested twice for the same person in too short a time.
    pub otp_repeats: Vec<Repeat>,
    /// Violations of the documented form.
    pub misuse: BTreeMap<Misuse, u64>,
}

/// System, kind of call, subject, object.
type Call<'a> = (&'a str, Operation, Option<&'a str>, Option<&'a str>);

/// Adds up `entries`, which are in order of arrival. A second one-time password for the same person within `otp_apart`
/// is a repeat.
pub fn summarise(entries: &[Entry], otp_apart: Duration) -> Summary {
    let mut summary = Summary::default();
    // The latest call by kind, subject and object, to compare a repeat with.
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
                if Duration::from_millis(entry.at_ms.saturating_sub(first.at_ms)) < otp_apart {
                    summary.otp_repeats.push(repeat);
                }
            } else if !entry.operation.settled_by().iter().any(settled) {
                let list =
                    if first.ambiguous() { &mut summary.ambiguous_repeats } else { &mut summary.effective_repeats };
                list.push(repeat);
            }
        }
        // After a certain failure a repeat is harmless, so the call is left out.
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
    /// Adds a call under the next number, and returns the number.
    pub(super) fn open(&mut self, entry: Entry) -> u64 {
        let seq = self.next_seq;
        self.next_seq += 1;
        self.entries.push(Entry { seq, ..entry });
        seq
    }

    /// The entry under `seq`, unless the ledger was cleared meanwhile.
    pub(super) fn get_mut(&mut self, seq: u64) -> Option<&mut Entry> {
        let first = self.entries.first()?.seq;
        let index = usize::try_from(seq.checked_sub(first)?).ok()?;
        self.entries.get_mut(index)
    }

    pub(super) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The entries with a number above `seq`.
    pub(super) fn after(&self, seq: u64) -> &[Entry] {
        let from = self.entries.partition_point(|entry| entry.seq <= seq);
        &self.entries[from..]
    }

    /// Deletes the entries; the numbers continue.
    pub(super) fn clear(&mut self) {
        self.entries.clear();
    }
}
