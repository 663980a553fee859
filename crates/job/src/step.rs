//! The steps that targets are made of, what a call can answer, and how it can fail.
//!
//! The rule it keeps: an [`Answer`] is what the kind's client understood; no raw reply goes further.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::kinds::Field;
use super::note::Note;
use super::outcome::{InputKind, Reason};

/// A kind of step. The same word in journal, events, metrics and docs.
///
/// Stored: a variant's place is its form on the disk. A new one goes to the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepName {
    /// Read who it is, and compare.
    Resolve,
    /// List what gives access.
    ListEntitlements,
    /// End one entitlement.
    TerminateEntitlement,
    /// Anonymise a customer.
    DeleteCustomer,
    /// Read whether the person is gone, or the new values stand.
    ReadBack,
    /// Have a one-time password sent.
    RequestOtp,
    /// Delete a member.
    DeleteMember,
    /// Put the row into the deletion file.
    QueueImportRow,
    /// What the import's result says of the row.
    ImportResult,
    /// Delete a shop's account.
    DeleteAccount,
    /// Read one code's owner and state.
    ReadCode,
    /// Revoke one code.
    RevokeCode,
    /// Read one code again after an unclear revoke.
    ReadBackCode,
    /// Look for content that no code accounts for.
    CheckLicenses,
    /// Overwrite a user's identifiers.
    OverwriteUser,
    /// Tell the requester's own endpoint to drop the account.
    TellRequester,
}

impl StepName {
    /// Every step.
    pub const ALL: [StepName; 16] = [
        StepName::Resolve,
        StepName::ListEntitlements,
        StepName::TerminateEntitlement,
        StepName::DeleteCustomer,
        StepName::ReadBack,
        StepName::RequestOtp,
        StepName::DeleteMember,
        StepName::QueueImportRow,
        StepName::ImportResult,
        StepName::DeleteAccount,
        StepName::ReadCode,
        StepName::RevokeCode,
        StepName::ReadBackCode,
        StepName::CheckLicenses,
        StepName::OverwriteUser,
        StepName::TellRequester,
    ];

    /// The word.
    pub const fn as_str(self) -> &'static str {
        match self {
            StepName::Resolve => "resolve",
            StepName::ListEntitlements => "list_entitlements",
            StepName::TerminateEntitlement => "terminate_entitlement",
            StepName::DeleteCustomer => "delete_customer",
            StepName::ReadBack => "read_back",
            StepName::RequestOtp => "request_otp",
            StepName::DeleteMember => "delete_member",
            StepName::QueueImportRow => "queue_import_row",
            StepName::ImportResult => "import_result",
            StepName::DeleteAccount => "delete_account",
            StepName::ReadCode => "read_code",
            StepName::RevokeCode => "revoke_code",
            StepName::ReadBackCode => "read_back_code",
            StepName::CheckLicenses => "check_licenses",
            StepName::OverwriteUser => "overwrite_user",
            StepName::TellRequester => "tell_requester",
        }
    }

    /// True where the call takes something from the person that cannot be given back: a
    /// cancellation is refused from its checkpointed intent on.
    pub const fn is_destructive(self) -> bool {
        match self {
            StepName::TerminateEntitlement
            | StepName::DeleteCustomer
            | StepName::DeleteMember
            | StepName::QueueImportRow
            | StepName::DeleteAccount
            | StepName::RevokeCode
            | StepName::OverwriteUser => true,
            StepName::Resolve
            | StepName::ListEntitlements
            | StepName::ReadBack
            | StepName::RequestOtp
            | StepName::ImportResult
            | StepName::ReadCode
            | StepName::ReadBackCode
            | StepName::CheckLicenses
            | StepName::TellRequester => false,
        }
    }

    /// True where a checkpointed intent must precede the call.
    pub const fn needs_intent(self) -> bool {
        self.is_destructive() || matches!(self, StepName::RequestOtp)
    }

    /// True where the call may be made again though it was answered as done: it writes the same values, or is
    /// recognised. Of any other, what a repeat would do is not known.
    pub const fn repeat_is_harmless(self) -> bool {
        matches!(self, StepName::OverwriteUser | StepName::RevokeCode)
    }

    /// True where the system itself recognises a call that was made before: of its answers some may
    /// be lost in a crash, which costs a read-back each.
    pub const fn repeat_is_recognised(self) -> bool {
        matches!(self, StepName::RevokeCode)
    }
}

/// One step of one target: the kind, and which one of its kind (the code's or entitlement's index).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Step {
    /// The kind.
    pub name: StepName,
    /// Which one, from 0.
    pub item: u32,
}

impl Step {
    /// The only one of its kind.
    pub const fn one(name: StepName) -> Step {
        Step { name, item: 0 }
    }

    /// One of several.
    pub const fn item(name: StepName, item: u32) -> Step {
        Step { name, item }
    }
}

/// Whether what was read is the person named.
///
/// Stored: a variant's place is its form on the disk. A new one goes to the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Identity {
    /// All identifiers given name this person.
    Same,
    /// At least one names somebody else.
    Other,
    /// The reply carries nothing to compare with.
    Unreadable,
    /// The reply is well formed and its identifying fields are empty: it reads as anonymised.
    Blank,
}

/// An offer's id is told up to this length; the documented ones have some twelve characters.
const OFFER_LONGEST: usize = 32;

/// An entitlement as Cleeng lists it. Only those that may give access are kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entitlement {
    /// The offer.
    pub offer_id: String,
    /// The status: `active`, `cancelled`, or `unknown` for any other word.
    pub status: String,
    /// True while it gives access (`active`, `cancelled`, or a status unknown to us).
    pub gives_access: bool,
    /// True where an app store manages it.
    pub externally_managed: bool,
    /// True for a pass, false for a subscription or an unknown type.
    pub is_pass: bool,
    /// The id for termination through Core, where the row carries one.
    pub id: Option<String>,
}

impl Entitlement {
    /// The offer as it is told to people, the only text of a system's that is: where it has the form of an id.
    pub fn told_offer(&self) -> &str {
        let is_id = self.offer_id.len() <= OFFER_LONGEST
            && self.offer_id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-');
        if is_id { &self.offer_id } else { "unknown" }
    }
}

/// What a code's read says of it.
///
/// Stored: a variant's place is its form on the disk. A new one goes to the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum CodeState {
    /// Still gives content, or can.
    Active,
    /// Cancelled.
    Cancelled,
    /// The system does not know the code.
    Unknown,
}

/// Where a row of the deletion file stands.
///
/// Stored: a variant's place is its form on the disk. A new one goes to the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RowState {
    /// In a file that has no result yet.
    Waiting,
    /// The result says deleted.
    Deleted,
    /// The result says skipped: most often unknown to the platform.
    Skipped,
    /// The result does not name it.
    Missing,
}

/// Proof that nobody is there: the system's own interface said so, at an address and with a credential that
/// have shown somebody. Only `systems` of the worker makes one, in one place; a flow cannot see an absence without.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Absence {
    /// False only in what an earlier release wrote: see [`Answer::believed`].
    is_vouched: bool,
}

impl Absence {
    /// The proof. For the one place where it is known to hold, and for tests.
    pub const fn vouched() -> Absence {
        Absence { is_vouched: true }
    }
}

/// What a call was understood to say.
///
/// Stored: a variant's place is its form on the disk. A new one goes to the end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// The system says that it did it.
    Done,
    /// The system says that it had been done before.
    AlreadyDone,
    /// An answer that settles nothing by itself (an ambiguous 404, a code's 1005…): read back. To a read,
    /// with [`Reason::Unproven`]: an absence for which nothing vouches.
    Unclear(Reason),
    /// A read found somebody.
    Found(Identity),
    /// A read found nobody.
    Missing(Absence),
    /// Cleeng's list.
    Entitlements(Vec<Entitlement>),
    /// A VitalSource user.
    User {
        /// Compared with all identifiers given.
        identity: Identity,
        /// Its GUID: later calls are addressed by it.
        guid: String,
        /// Its e-mail, to compare code owners with.
        email: Option<String>,
        /// The identifier fields that read non-empty.
        fields: Vec<Field>,
    },
    /// A VitalSource code.
    Code {
        /// Its state.
        state: CodeState,
        /// Whether its user is the person named.
        owner: Identity,
    },
    /// How many unexpired licences are left.
    Licenses {
        /// The count.
        unexpired: u32,
    },
    /// Where the row of the deletion file stands.
    Row(RowState),
    /// Whether the replacement values stand.
    Values {
        /// True where every overwritten field reads as written.
        stand: bool,
    },
    /// A read-back shows identifiers of the person that no overwrite has covered: they were empty before.
    Left {
        /// Which.
        fields: Vec<Field>,
    },
}

impl Answer {
    /// True where it carries something of the person: it is kept only sealed.
    pub const fn is_private(&self) -> bool {
        match self {
            Answer::User { .. } | Answer::Entitlements(_) => true,
            Answer::Done
            | Answer::AlreadyDone
            | Answer::Unclear(_)
            | Answer::Found(_)
            | Answer::Missing(_)
            | Answer::Code { .. }
            | Answer::Licenses { .. }
            | Answer::Row(_)
            | Answer::Values { .. }
            | Answer::Left { .. } => false,
        }
    }

    /// The answer as it may be acted on. An earlier release wrote absences without a proof: they settle nothing.
    pub fn believed(self) -> Answer {
        match self {
            Answer::Missing(Absence { is_vouched: false }) => Answer::Unclear(Reason::Unproven),
            answer => answer,
        }
    }
}

/// The failure kinds. What follows from each is decided in one place, by the flow.
///
/// Stored: a variant's place is its form on the disk. A new one goes to the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum FailureKind {
    /// Surely not done: no connection, or an error of the system's own on a read.
    Unavailable,
    /// Told to wait: no attempt is spent.
    RateLimited,
    /// It may have been done: the answer was lost, or a server error came to a destructive call.
    Ambiguous,
    /// Our credential is refused, or our configuration is wrong: the system is held.
    UnauthorisedOurs,
    /// A person's proof is refused.
    UnauthorisedTheirs(InputKind),
    /// A precondition does not hold.
    Refused,
    /// The system calls the request malformed, or the person's proof wrong for good.
    Rejected,
    /// A reply that could not be read, or one that tells of a passing doubt.
    Unreadable,
}

impl FailureKind {
    /// The word used in logs, metrics and the ops API.
    pub const fn as_str(self) -> &'static str {
        match self {
            FailureKind::Unavailable => "unavailable",
            FailureKind::RateLimited => "rate_limited",
            FailureKind::Ambiguous => "ambiguous",
            FailureKind::UnauthorisedOurs => "unauthorised_ours",
            FailureKind::UnauthorisedTheirs(_) => "unauthorised_theirs",
            FailureKind::Refused => "refused",
            FailureKind::Rejected => "rejected",
            FailureKind::Unreadable => "unreadable",
        }
    }
}

/// A call that did not end in an [`Answer`]. Carries no text of the system's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.told())]
pub struct Failure {
    /// The kind.
    pub kind: FailureKind,
    /// The reason told if it stays so.
    pub reason: Reason,
    /// How long to wait, where the system said so.
    pub retry_after: Option<Duration>,
    /// A detail for the operator: `HTTP 503`, `redirected to another path`.
    pub note: Option<Note>,
}

impl Failure {
    /// A failure without a wait or a note.
    pub const fn new(kind: FailureKind, reason: Reason) -> Failure {
        Failure { kind, reason, retry_after: None, note: None }
    }

    /// Puts a note to it.
    pub fn with_note(mut self, note: impl Into<Note>) -> Failure {
        self.note = Some(note.into());
        self
    }

    /// All that is told of it: the kind, the reason, the note.
    pub fn told(&self) -> Note {
        let told = Note::from(self.kind.as_str()).and(" (").and(self.reason.as_str()).and(")");
        self.note.iter().fold(told, |told, note| told.and(": ").join(note))
    }
}
