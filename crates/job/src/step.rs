//! The steps of targets, the answers of calls, and their failures.
//!
//! The rule it keeps: an [`Answer`] is the client's understanding of a reply; the raw reply goes no further.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::note::Note;
use super::outcome::{InputKind, Reason};
use super::reading::{Means, Reading};

/// A kind of step. The same word in journal, events, metrics and docs.
///
/// Stored: a variant's place is its form on the disk. A new one goes to the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepName {
    /// Read the person, and compare.
    Resolve,
    /// List what gives access.
    ListEntitlements,
    /// End one entitlement.
    TerminateEntitlement,
    /// Anonymise a customer.
    DeleteCustomer,
    /// Read whether the person is gone, or the new values are still there.
    ReadBack,
    /// Have a one-time password sent.
    RequestOtp,
    /// Delete a member.
    DeleteMember,
    /// Put the row into the deletion file.
    QueueImportRow,
    /// Read the import's result about the row.
    ImportResult,
    /// Delete a shop's account.
    DeleteAccount,
    /// Read one code's owner and state.
    ReadCode,
    /// Revoke one code.
    RevokeCode,
    /// Read one code again after an unclear revoke.
    ReadBackCode,
    /// Look for content that no code explains.
    CheckLicenses,
    /// Overwrite a user's identifiers.
    OverwriteUser,
    /// Send a notice to the requester's own endpoint.
    TellRequester,
    /// A connector's read before its first act; the person's is `resolve`.
    ConnectorRead,
    /// A connector's change.
    ConnectorAct,
    /// A connector's read after an act.
    ConnectorReadBack,
}

impl StepName {
    /// Every step.
    pub const ALL: [StepName; 19] = [
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
        StepName::ConnectorRead,
        StepName::ConnectorAct,
        StepName::ConnectorReadBack,
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
            StepName::ConnectorRead => "connector_read",
            StepName::ConnectorAct => "connector_act",
            StepName::ConnectorReadBack => "connector_read_back",
        }
    }

    /// True if the call takes something from the person that cannot be given back: from its checkpointed intent on a
    /// cancellation is refused.
    pub const fn is_destructive(self) -> bool {
        match self {
            StepName::TerminateEntitlement
            | StepName::DeleteCustomer
            | StepName::DeleteMember
            | StepName::QueueImportRow
            | StepName::DeleteAccount
            | StepName::RevokeCode
            | StepName::OverwriteUser
            | StepName::ConnectorAct => true,
            StepName::Resolve
            | StepName::ListEntitlements
            | StepName::ReadBack
            | StepName::RequestOtp
            | StepName::ImportResult
            | StepName::ReadCode
            | StepName::ReadBackCode
            | StepName::CheckLicenses
            | StepName::TellRequester
            | StepName::ConnectorRead
            | StepName::ConnectorReadBack => false,
        }
    }

    /// True for a connector's steps: their items are far apart, see [`Step::of_connector`].
    pub const fn is_connectors(self) -> bool {
        matches!(self, StepName::ConnectorRead | StepName::ConnectorAct | StepName::ConnectorReadBack)
    }

    /// True if a checkpointed intent must precede the call.
    pub const fn needs_intent(self) -> bool {
        self.is_destructive() || matches!(self, StepName::RequestOtp)
    }

    /// True if the call may be repeated although it was answered as done: it writes the same values, or the system
    /// recognises it. The effect of any other repeat is unknown.
    pub const fn repeat_is_harmless(self) -> bool {
        matches!(self, StepName::OverwriteUser | StepName::RevokeCode)
    }

    /// True where the system itself recognises a call that was made before: of its answers some may
    /// be lost in a crash, which costs a read-back each.
    pub const fn repeat_is_recognised(self) -> bool {
        matches!(self, StepName::RevokeCode)
    }
}

/// One step of one target: the kind, and the index within the kind (the code's or entitlement's).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Step {
    /// The kind.
    pub name: StepName,
    /// The index, from 0.
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

    /// A connector's step: its read or act by place, and the member of `each` (0 without `each`).
    pub const fn of_connector(name: StepName, place: usize, member: u32) -> Step {
        Step { name, item: (place as u32).saturating_mul(MOST_ITEMS).saturating_add(member) }
    }

    /// The place of a connector's read or act.
    pub const fn place(self) -> usize {
        (self.item / MOST_ITEMS) as usize
    }

    /// The member of `each` for which a connector's step is.
    pub const fn member(self) -> u32 {
        self.item % MOST_ITEMS
    }
}

/// The most members of a list for which a connector makes a call each.
pub const MOST_ITEMS: u32 = 10_000;

/// Whether the person that was read is the person of the job.
///
/// Stored: a variant's place is its form on the disk. A new one goes to the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Identity {
    /// All given identifiers name this person.
    Same,
    /// At least one names another person.
    Other,
    /// The reply has no field to compare.
    Unreadable,
    /// The reply is well formed and its identifying fields are empty: the person looks anonymised.
    Blank,
}

/// The longest offer id that is shown; the documented ones have about twelve characters.
const OFFER_LONGEST: usize = 32;

/// An entitlement in Cleeng's list. Only those that may give access are stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entitlement {
    /// The offer.
    pub offer_id: String,
    /// The status: `active`, `cancelled`, or `unknown` for any other word.
    pub status: String,
    /// True while it gives access (`active`, `cancelled`, or an unknown status).
    pub gives_access: bool,
    /// True if an app store manages it.
    pub externally_managed: bool,
    /// True for a pass, false for a subscription or an unknown type.
    pub is_pass: bool,
    /// The id for a termination through Core, if the row has one.
    pub id: Option<String>,
}

impl Entitlement {
    /// The offer's id for people, if it has the form of an id: the only text of a system that is shown.
    pub fn shown_offer_id(&self) -> &str {
        let is_id = self.offer_id.len() <= OFFER_LONGEST
            && self.offer_id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-');
        if is_id { &self.offer_id } else { "unknown" }
    }
}

/// The state of a code, from its read.
///
/// Stored: a variant's place is its form on the disk. A new one goes to the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum CodeState {
    /// It gives content, or can.
    Active,
    /// Cancelled.
    Cancelled,
    /// The system does not know the code.
    Unknown,
}

/// The state of a row of the deletion file.
///
/// Stored: a variant's place is its form on the disk. A new one goes to the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RowState {
    /// In a file without a result yet.
    Waiting,
    /// The result says deleted.
    Deleted,
    /// The result says skipped: most often unknown to the platform.
    Skipped,
    /// The result does not contain it.
    Missing,
}

/// The proof that nobody is there: the system's own interface said so, at an address and with a credential that have
/// found a person before. Only one place in the worker's `systems` makes it, and a flow sees no absence without it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Absence {
    /// False only in values of an earlier release, see [`Answer::believed`].
    is_vouched: bool,
}

impl Absence {
    /// The proof. Only for the place where it is known to hold, and for tests.
    pub const fn vouched() -> Absence {
        Absence { is_vouched: true }
    }
}

/// The understood meaning of a call's answer.
///
/// Stored: a variant's place is its form on the disk. A new one goes to the end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// The system says that it did it.
    Done,
    /// The system says that it was done before.
    AlreadyDone,
    /// An answer that decides nothing by itself (an ambiguous 404, a code's 1005…): read back. To a read, with
    /// [`Reason::Unproven`]: an unproven absence.
    Unclear(Reason),
    /// A read found a person.
    Found(Identity),
    /// A read found nobody.
    Missing(Absence),
    /// Cleeng's list.
    Entitlements(Vec<Entitlement>),
    /// A VitalSource user.
    User {
        /// Compared with all identifiers given.
        identity: Identity,
        /// Its GUID: later calls use it as the address.
        guid: String,
        /// Its e-mail address, to compare with the owners of codes.
        email: Option<String>,
        /// The identifier fields that are not empty.
        fields: Vec<Field>,
    },
    /// A VitalSource code.
    Code {
        /// Its state.
        state: CodeState,
        /// Whether its user is the person of the job.
        owner: Identity,
    },
    /// The number of unexpired licences that are left.
    Licenses {
        /// The count.
        unexpired: u32,
    },
    /// The state of the row of the deletion file.
    Row(RowState),
    /// Whether the new values are still there.
    Values {
        /// True if every overwritten field has the written value.
        stand: bool,
    },
    /// A read-back shows identifiers of the person that no overwrite has covered: they were empty before.
    Left {
        /// The fields.
        fields: Vec<Field>,
    },
    /// The answer to a connector's call.
    Connector(Reading),
}

impl Answer {
    /// True if it holds personal data: it is stored only sealed.
    pub const fn is_private(&self) -> bool {
        match self {
            Answer::User { .. } | Answer::Entitlements(_) | Answer::Connector(_) => true,
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

    /// The answer that may be used. An earlier release wrote absences without a proof: they decide nothing.
    pub fn believed(self) -> Answer {
        match self {
            Answer::Missing(Absence { is_vouched: false })
            | Answer::Connector(Reading { means: Means::Gone(Absence { is_vouched: false }), .. }) => {
                Answer::Unclear(Reason::Unproven)
            }
            answer => answer,
        }
    }
}

/// The kinds of failure. The flow alone decides about their consequences.
///
/// Stored: a variant's place is its form on the disk. A new one goes to the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum FailureKind {
    /// Certainly not done: no connection, or the system's own error on a read.
    Unavailable,
    /// The system asks for a pause: no attempt is spent.
    RateLimited,
    /// Perhaps done: the answer was lost, or a destructive call got a server error.
    Ambiguous,
    /// Our credential is refused, or our configuration is wrong: the system is held.
    UnauthorisedOurs,
    /// A person's proof is refused.
    UnauthorisedTheirs(InputKind),
    /// A precondition does not hold.
    Refused,
    /// The system calls the request malformed, or the person's proof wrong for ever.
    Rejected,
    /// A reply that could not be read, or that reports a passing doubt.
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

/// A call that did not end in an [`Answer`]. It carries no text of the system.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.summary())]
pub struct Failure {
    /// The kind.
    pub kind: FailureKind,
    /// The reason, if it stays so.
    pub reason: Reason,
    /// The pause, if the system named one.
    pub retry_after: Option<Duration>,
    /// A detail for the operator: `HTTP 503`, `redirected to another path`.
    pub note: Option<Note>,
}

impl Failure {
    /// A failure without a wait or a note.
    pub const fn new(kind: FailureKind, reason: Reason) -> Failure {
        Failure { kind, reason, retry_after: None, note: None }
    }

    /// Adds a note.
    pub fn with_note(mut self, note: impl Into<Note>) -> Failure {
        self.note = Some(note.into());
        self
    }

    /// Everything about it: the kind, the reason, the note.
    pub fn summary(&self) -> Note {
        let summary = Note::from(self.kind.as_str()).and(" (").and(self.reason.as_str()).and(")");
        self.note.iter().fold(summary, |summary, note| summary.and(": ").join(note))
    }
}

/// A VitalSource user's identifier field.
///
/// Stored: a variant's place is its form on the disk. A new one goes to the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Field {
    /// First name.
    FirstName,
    /// Last name.
    LastName,
    /// Affiliate.
    Affiliate,
    /// E-mail.
    Email,
    /// The requester's reference; overwritten only when asked for.
    Reference,
}

impl Field {
    /// All fields.
    pub const ALL: [Field; 5] = [Field::FirstName, Field::LastName, Field::Affiliate, Field::Email, Field::Reference];

    /// The word used in a job.
    pub const fn as_str(self) -> &'static str {
        match self {
            Field::FirstName => "first_name",
            Field::LastName => "last_name",
            Field::Affiliate => "affiliate",
            Field::Email => "email",
            Field::Reference => "reference",
        }
    }
}
