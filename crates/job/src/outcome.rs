//! The ends of steps, targets and jobs, and the closed list of reasons with their codes.
//!
//! The rule it keeps: a reason is a word of this list, never a system's own text.

use serde::{Deserialize, Serialize};

/// Closed lists of words. They are stored: a variant's place is its form on the disk. A new one goes to the end.
macro_rules! words {
    ($(#[$outer:meta])* $name:ident { $($(#[$inner:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$outer])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum $name { $($(#[$inner])* $variant,)+ }
        impl $name {
            /// Every value.
            pub const ALL: &'static [$name] = &[$($name::$variant,)+];
            /// The word used in events, metrics, the ops API and docs.
            pub const fn as_str(self) -> &'static str {
                match self { $($name::$variant => $word,)+ }
            }
        }
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { f.write_str(self.as_str()) }
        }
    };
}

words! {
    /// The end of a step.
    StepOutcome {
        /// The system said that it erased.
        Erased = "erased",
        /// The system said that it overwrote or anonymised.
        Anonymised = "anonymised",
        /// Our own call, found done by a read-back or by a repeat that says so.
        AlreadyErased = "already_erased",
        /// It was not there, and no call of ours had removed it.
        Absent = "absent",
        /// Accepted, but still visible.
        Pending = "pending",
        /// A person must give an input.
        NeedsInput = "needs_input",
        /// A precondition does not hold.
        Refused = "refused",
        /// It did not work.
        Failed = "failed",
    }
}

words! {
    /// The end of a target.
    TargetOutcome {
        /// Deleted.
        Erased = "erased",
        /// Overwritten or anonymised.
        Anonymised = "anonymised",
        /// Proven not to be there.
        Absent = "absent",
        /// Waits for a person (not an end).
        NeedsInput = "needs_input",
        /// A precondition does not hold.
        Refused = "refused",
        /// It did not work.
        Failed = "failed",
        /// Only read, as requested.
        Previewed = "previewed",
        /// Not begun or not finished when the job was cancelled.
        Cancelled = "cancelled",
    }
}

impl TargetOutcome {
    /// True if the person's data is proven to be gone from this system.
    pub const fn is_erased(self) -> bool {
        matches!(self, TargetOutcome::Erased | TargetOutcome::Anonymised | TargetOutcome::Absent)
    }
}

words! {
    /// The end of a job.
    JobOutcome {
        /// Every target is erased, anonymised or absent.
        Completed = "completed",
        /// At least one target is not.
        Failed = "failed",
        /// Cancelled before anything irreversible.
        Cancelled = "cancelled",
        /// Only read, as requested.
        Previewed = "previewed",
    }
}

words! {
    /// The inputs that a person can be asked for.
    InputKind {
        /// That they know the losses.
        Confirmation = "confirmation",
        /// The one-time password that was sent to them.
        Otp = "otp",
        /// A fresh Cleeng customer token.
        CustomerToken = "customer_token",
        /// A fresh loyalty access token.
        AccessToken = "access_token",
        /// The loyalty password.
        CurrentPassword = "current_password",
        /// The shop password.
        CustomerPassword = "customer_password",
        /// The result file of a loyalty import.
        ImportResult = "import_result",
        /// That an operator deletes the member on the platform's screens.
        ManualDeletion = "manual_deletion",
        /// That another operator approves the findings.
        Approval = "approval",
    }
}

words! {
    /// Who can let a failed job continue.
    Retry {
        /// The publisher, with another input.
        NewInput = "new_input",
        /// An operator, after the cause is repaired.
        Operator = "operator",
        /// Nobody.
        Never = "never",
    }
}

words! {
    /// The reason of a bad end. Each has a code and a heading in the runbook.
    Reason {
        /// The identifiers do not name one person.
        IdentityMismatch = "identity_mismatch",
        /// `identity_check = "strict"` and the reply could not be compared.
        IdentityUnreadable = "identity_unreadable",
        /// The customer is shared with another broadcaster.
        SharedCustomer = "shared_customer",
        /// An entitlement still gives access.
        ActiveEntitlement = "active_entitlement",
        /// An app store manages the subscription.
        ExternallyManaged = "externally_managed",
        /// The shop account's password is wrong.
        WrongCustomerPassword = "wrong_customer_password",
        /// The member's password is wrong.
        WrongPassword = "wrong_password",
        /// A code is still active after the revoke was refused.
        CodeNotRevoked = "code_not_revoked",
        /// A licence is left that no given code explains.
        UnknownContent = "unknown_content",
        /// Still visible after `waits.pending_max`.
        NotGone = "not_gone",
        /// Perhaps gone, but nothing proves it.
        Unproven = "unproven",
        /// Replies that could not be read.
        UnreadableReply = "unreadable_reply",
        /// The system did not answer, or only with server errors.
        SystemUnavailable = "system_unavailable",
        /// The shop says that the e-mail is not valid.
        EmailNotValid = "email_not_valid",
        /// The system calls the request malformed.
        RequestRejected = "request_rejected",
        /// Nobody gave the input within `waits.input_max`.
        InputNeverCame = "input_never_came",
        /// The input was refused too often.
        InputRefused = "input_refused",
        /// The member's row is not in the import's result.
        ImportRowMissing = "import_row_missing",
        /// The job id is in use for another identity.
        Conflict = "conflict",
        /// The message is not a valid job.
        Invalid = "invalid",
        /// Meant for another environment.
        WrongEnvironment = "wrong_environment",
        /// The publisher has no right to this erasure.
        Unauthorised = "unauthorised",
        /// The message stopped the worker repeatedly.
        Poison = "poison",
        /// A sealed message could not be opened with the present keys.
        Unopenable = "unopenable",
        /// A cancellation came too late or for an unknown job.
        CancelRefused = "cancel_refused",
        /// The broker dropped the message before the worker got it.
        Undelivered = "undelivered",
        /// The system demands that something else happens first.
        Precondition = "precondition",
    }
}

impl Reason {
    /// The stable code, a heading in the runbook. Numbers are never reused.
    pub const fn code(self) -> &'static str {
        match self {
            Reason::IdentityMismatch => "ERS-0001",
            Reason::IdentityUnreadable => "ERS-0002",
            Reason::SharedCustomer => "ERS-0003",
            Reason::ActiveEntitlement => "ERS-0004",
            Reason::ExternallyManaged => "ERS-0005",
            Reason::WrongCustomerPassword => "ERS-0006",
            Reason::WrongPassword => "ERS-0007",
            Reason::CodeNotRevoked => "ERS-0008",
            Reason::UnknownContent => "ERS-0009",
            Reason::NotGone => "ERS-0010",
            Reason::Unproven => "ERS-0011",
            Reason::UnreadableReply => "ERS-0012",
            Reason::SystemUnavailable => "ERS-0013",
            Reason::EmailNotValid => "ERS-0014",
            Reason::RequestRejected => "ERS-0015",
            Reason::InputNeverCame => "ERS-0016",
            Reason::InputRefused => "ERS-0017",
            Reason::ImportRowMissing => "ERS-0018",
            Reason::Conflict => "ERS-0019",
            Reason::Invalid => "ERS-0020",
            Reason::WrongEnvironment => "ERS-0021",
            Reason::Unauthorised => "ERS-0022",
            Reason::Poison => "ERS-0023",
            Reason::Unopenable => "ERS-0024",
            Reason::CancelRefused => "ERS-0025",
            Reason::Undelivered => "ERS-0026",
            Reason::Precondition => "ERS-0027",
        }
    }

    /// The place in the runbook: a path in the repository, with the heading.
    pub fn runbook(self) -> String {
        format!("docs/runbook.md#{}-{}", self.code().to_ascii_lowercase(), self.as_str())
    }

    /// Who can let the job continue.
    pub const fn retry(self) -> Retry {
        match self {
            Reason::WrongCustomerPassword
            | Reason::WrongPassword
            | Reason::InputNeverCame
            | Reason::InputRefused
            | Reason::UnknownContent
            | Reason::Conflict
            | Reason::Invalid
            | Reason::WrongEnvironment
            | Reason::EmailNotValid
            | Reason::IdentityMismatch => Retry::NewInput,
            Reason::CancelRefused => Retry::Never,
            Reason::IdentityUnreadable
            | Reason::SharedCustomer
            | Reason::ActiveEntitlement
            | Reason::ExternallyManaged
            | Reason::CodeNotRevoked
            | Reason::NotGone
            | Reason::Unproven
            | Reason::UnreadableReply
            | Reason::SystemUnavailable
            | Reason::RequestRejected
            | Reason::ImportRowMissing
            | Reason::Unauthorised
            | Reason::Poison
            | Reason::Unopenable
            | Reason::Undelivered
            | Reason::Precondition => Retry::Operator,
        }
    }

    /// One sentence for a person, without personal data.
    pub const fn sentence(self) -> &'static str {
        match self {
            Reason::IdentityMismatch => {
                "The identifiers given do not name one and the same person; nothing was called."
            }
            Reason::IdentityUnreadable => {
                "The system's reply could not be compared with the identifiers, and identity_check is strict."
            }
            Reason::SharedCustomer => "The customer is shared with another broadcaster and was not anonymised.",
            Reason::ActiveEntitlement => "An entitlement still gives access, so the customer cannot be anonymised.",
            Reason::ExternallyManaged => "A subscription is managed by an app store and must be ended there.",
            Reason::WrongCustomerPassword => "The account exists and the customer password does not match it.",
            Reason::WrongPassword => "The member's password is wrong.",
            Reason::CodeNotRevoked => "A code is still active after its revoke was refused.",
            Reason::UnknownContent => "An unexpired licence is left that none of the given codes accounts for.",
            Reason::NotGone => "The system accepted the deletion but still shows the person.",
            Reason::Unproven => "The person may be gone, but no reply or read-back proves it.",
            Reason::UnreadableReply => "The system's replies could not be read.",
            Reason::SystemUnavailable => "The system did not answer, or only with errors of its own.",
            Reason::EmailNotValid => "The shop says that the e-mail is not valid, is unknown, or could not be checked.",
            Reason::RequestRejected => "The system calls the request malformed.",
            Reason::InputNeverCame => "The input asked for did not come in time.",
            Reason::InputRefused => "The input given was refused too often.",
            Reason::ImportRowMissing => "The member's row is missing from the import's result.",
            Reason::Conflict => "The job id is already in use for another identity.",
            Reason::Invalid => "The message is not a valid job.",
            Reason::WrongEnvironment => "The job is meant for another environment.",
            Reason::Unauthorised => "The publisher may not order this erasure.",
            Reason::Poison => "The message stopped the worker again and again.",
            Reason::Unopenable => {
                "The sealed message cannot be opened with the keys at hand, or came by a way on which it is not taken."
            }
            Reason::CancelRefused => "The job can no longer be cancelled.",
            Reason::Undelivered => "The broker gave the message up before it was worked on.",
            Reason::Precondition => "The system demands that something else happens first.",
        }
    }
}

/// The end of a target, and its cause.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetEnd {
    /// The outcome.
    pub outcome: TargetOutcome,
    /// The reason, unless it ended well.
    pub reason: Option<Reason>,
    /// The step that decided it, unless it ended well.
    pub step: Option<super::step::StepName>,
}

impl TargetEnd {
    /// Ended well.
    pub const fn well(outcome: TargetOutcome) -> Self {
        TargetEnd { outcome, reason: None, step: None }
    }

    /// Failed at a step.
    pub const fn failed(reason: Reason, step: super::step::StepName) -> Self {
        TargetEnd { outcome: TargetOutcome::Failed, reason: Some(reason), step: Some(step) }
    }

    /// A precondition does not hold.
    pub const fn refused(reason: Reason, step: super::step::StepName) -> Self {
        TargetEnd { outcome: TargetOutcome::Refused, reason: Some(reason), step: Some(step) }
    }
}
