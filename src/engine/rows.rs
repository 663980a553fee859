//! Every kind of row on the worker's disk: its key, its form, its data about a person, and its end.
//!
//! The rule it keeps: every row is of a kind in this list. `docs/rows.md` is this list as a table.

use crate::job::JobKey;
use crate::store::{CREATED_KEY, Table, VERSION_KEY, Wanted};

/// A row's data about the person who is to be erased.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Personal {
    /// Nothing.
    Nothing,
    /// Pseudonyms or digests that only the master key can make; they name nobody.
    Keyed,
    /// The SHA-256 of a message: everyone who has the message, or guesses it whole, can make it too.
    Digest,
    /// An event: a pseudonym, or the SHA-256 of a refused message.
    Event,
    /// A system's answer, sealed with the job's own key, which is stored nowhere.
    SealedForJob,
    /// A message, sealed with the master key.
    SealedForMaster,
}

impl Personal {
    const fn as_str(self) -> &'static str {
        match self {
            Personal::Nothing => "nothing",
            Personal::Keyed => "keyed digests",
            Personal::Digest => "plain digest of a message",
            Personal::Event => "pseudonym; of a refused message a plain digest",
            Personal::SealedForJob => "answers, sealed with the job's own key",
            Personal::SealedForMaster => "a message, sealed with the master key",
        }
    }
}

/// A kind of row.
#[derive(Debug)]
pub struct Row {
    /// The table.
    pub table: Table,
    /// The beginning of the key. Empty if the table holds nothing else.
    pub prefix: &'static [u8],
    /// The rest of the key; empty if there is only one row.
    key: &'static str,
    /// The value, and its leading version.
    value: &'static str,
    /// The data about a person.
    pub personal: Personal,
    /// The time for which it is kept.
    kept: &'static str,
    /// The modules of the engine that forget it; empty if it is kept always.
    by: &'static str,
}

impl Row {
    /// True for a key of this kind.
    pub fn is_of(&self, table: Table, key: &[u8]) -> bool {
        table == self.table && if self.key.is_empty() { key == self.prefix } else { key.starts_with(self.prefix) }
    }

    fn name(&self) -> String {
        format!("{:?} {}", self.table, String::from_utf8_lossy(self.prefix)).trim_end().to_owned()
    }
}

macro_rules! rows {
    ($($name:ident = $table:ident $prefix:expr, $key:literal, $value:literal, $personal:ident, $kept:literal, $by:literal;)*) => {
        $(pub(crate) const $name: Row = Row {
            table: Table::$table, prefix: $prefix, key: $key, value: $value, personal: Personal::$personal, kept: $kept,
            by: $by,
        };)*

        /// All kinds.
        pub const ALL: &[&Row] = &[$(&$name,)*];
    };
}

rows! {
    JOB = Job b"", "tenant, job id", "postcard, 1 to 3: number of runs, copies and events, what is waited for",
        Keyed, "until the final event is confirmed; of a failed job `worker.retain_failed`", "journal, ending";
    JOURNAL = Journal b"", "tenant, job id, number", "postcard, 1: entries of the journal",
        SealedForJob, "as the job's record", "journal";
    START = Start b"", "digest of the message", "time, weight of deaths, stage",
        Keyed, "until the message is settled or requeued; after a crash a day at most; in a file of its own", "starts";
    OUTBOX = Outbox b"", "time, event id", "tenant, job id, event",
        Event, "until the event is confirmed", "outbox";
    CANCEL = Cancel b"", "tenant, job id", "time",
        Nothing, "until it is carried out, 90 days at most", "cancels, retention";
    ENDED = Ended b"", "tenant, job id", "postcard, 1: outcome, digests, number of the receipt or the event",
        Event, "`worker.retain_finished`, with its receipt", "retention";
    EXPIRY = Expiry b"", "time, kind, the row meant", "empty",
        Digest, "until then", "retention";
    RECEIPT = Receipt b"", "number", "time, then the receipt alone, or 1 and receipt, final event",
        Event, "`worker.retain_finished`", "receipts";
    RECEIPT_HEAD = Meta b"receipt-head", "", "chain, number, digest of the last receipt",
        Nothing, "always", "";
    RECEIPT_CHECKPOINT = Meta b"receipt-checkpoint", "", "a signed note of the receipts that were forgotten",
        Nothing, "always", "";
    RECEIPT_KEY = Meta b"receipt-key/", "key id", "MAC, public key",
        Nothing, "always", "";
    REFUSAL = Meta b"refusal/", "digest of the message", "postcard, 1: the event of a refused message",
        Event, "`worker.retain_failed`", "retention";
    REFUSED = Meta b"refused/", "digest of the message", "time",
        Keyed, "`worker.retain_failed`", "retention";
    NAMED = Meta b"named/", "tenant, job id", "1: digests of the identifiers",
        Keyed, "until the job ends well, or its checkpoints are forgotten", "named";
    APPROVAL_ASKED = Meta b"approval/asked/", "tenant, job id", "postcard, 1: senders who ask, time, digest of what was found, decision",
        Keyed, "until the decision takes effect, or the job ends", "approvals";
    APPROVAL_LOSSES = Meta b"approval/losses/", "tenant, job id", "JSON: what would be lost, in kinds and numbers",
        Nothing, "until the decision takes effect, or the job ends", "approvals";
    APPROVAL_DECIDED = Meta b"approval/decided/", "tenant, job id", "postcard, 1: a decision on what another worker showed, digest of that",
        Keyed, "until the job shows the same, 91 days at most", "approvals";
    CEILING_COUNT = Meta b"guard/count/", "scope", "postcard, 1: jobs in pieces of five minutes, of 25 hours",
        Nothing, "always", "";
    CEILING_HELD = Meta b"guard/held/", "tenant, job id", "postcard, 1: since when, by which ceilings",
        Nothing, "until the job is released or ends", "ceilings";
    CEILING_RELEASED = Meta b"guard/released/", "tenant, job id", "postcard, 1: ceilings",
        Nothing, "91 days", "retention";
    DECISION_KEPT = Meta b"decision/kept/", "time, id", "a decision that is not read back from the stream yet",
        Digest, "until it was read back", "decisions";
    DECISION_SEEN = Meta b"decision/seen/", "id", "empty",
        Nothing, "91 days", "retention";
    PAUSED = Meta b"paused/", "system or tenant", "JSON: since when, by which operator, why",
        Nothing, "until it is resumed", "pauses";
    RESUMED = Meta b"resumed/", "system or tenant", "time",
        Nothing, "always", "";
    ENDED_ELSEWHERE = Meta b"ended-elsewhere/", "tenant, job id", "run, number of the copy",
        Nothing, "30 days", "retention";
    ENDED_TO_REPORT = Meta b"ended-to-tell/", "tenant, job id", "a decision that reports the end",
        Nothing, "until the final event is confirmed, 30 days at most", "adoption";
    LETTER = Meta b"letter/", "tenant, job id, run, time", "time",
        Nothing, "at most eight days longer than the dead letter", "retention";
    DISCARDED = Meta b"discarded/", "tenant, job id", "JSON: when, by which operator, why",
        Nothing, "`worker.retain_finished`", "retention";
    UNREADABLE = Meta b"cancel/unreadable/", "digest of the message", "the message",
        SealedForMaster, "until its dead letter is confirmed, 91 days at most", "unreadable";
    CONTROL_OFFSET = Meta b"control-offset", "", "offset in the control stream",
        Nothing, "always", "";
    CONTROL_PLACE = Meta b"control-place", "", "offset, and digests of the last sixteen messages",
        Digest, "always", "";
    CONTROL_TAKEN = Meta b"control-taken/", "digest of the message", "time",
        Digest, "90 days", "retention";
    SHOWN = Meta b"shown/", "system", "digest of address and credential",
        Nothing, "always", "";
    RUNNING = Meta b"running", "", "time of the start",
        Nothing, "until a clean stop", "starts";
    CLOCK = Meta b"clock", "", "the last time that was read",
        Nothing, "always", "";
    VERSION = Meta VERSION_KEY, "", "version of the store",
        Nothing, "always", "";
    CREATED = Meta CREATED_KEY, "", "when the store was made",
        Nothing, "always", "";
}

/// All rows of a job that a delivery may read.
pub(crate) fn of_job(key: &JobKey) -> Wanted {
    let key = key.to_bytes();
    let single = ALL.iter().filter(|row| row.key == JOB.key);
    Wanted {
        rows: single.map(|row| (row.table, [row.prefix, &key].concat())).collect(),
        below: vec![(JOURNAL.table, [JOURNAL.prefix, &key].concat())],
    }
}

/// The list as a table in Markdown.
pub fn table() -> String {
    let mut text = "| row | key | value | of a person | kept (forgotten by) |\n|---|---|---|---|---|\n".to_owned();
    for row in ALL {
        let by = if row.by.is_empty() { String::new() } else { format!(" ({})", row.by) };
        let kept = [row.kept, &by].concat();
        let line = [&*format!("`{}`", row.name()), row.key, row.value, row.personal.as_str(), &kept].join(" | ");
        text.push_str(&format!("| {line} |\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_key_is_of_two_kinds() {
        for (index, row) in ALL.iter().enumerate() {
            let of = ALL.iter().filter(|other| other.is_of(row.table, row.prefix)).count();
            assert_eq!(of, 1, "{}, number {index}", row.name());
        }
    }

    #[test]
    fn a_row_is_forgotten_by_modules_that_exist_or_is_kept_always() {
        let engine = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/engine");
        for row in ALL {
            assert_eq!(row.by.is_empty(), row.kept == "always", "{}", row.name());
            for module in row.by.split(", ").filter(|module| !module.is_empty()) {
                let is_there = engine.join(format!("{module}.rs")).exists() || engine.join(module).is_dir();
                assert!(is_there, "{}: {module}", row.name());
            }
        }
    }
}
