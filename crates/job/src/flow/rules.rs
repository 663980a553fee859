//! The settings of a configured system for its flow, and the limits of attempts and waits.
//!
//! The rule it keeps: only settings; the flows decide about their consequences.

use std::sync::Arc;
use std::time::Duration;

use crate::kinds::{Kind, MemberKey};
use crate::plan::Plan;

/// When a system requires the person's (or an agent's) confirmation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Confirm {
    /// Always.
    Always,
    /// If something active will be lost.
    WhenActive,
    /// Never.
    #[default]
    Never,
}

/// The proof that a loyalty platform requires from its members.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MemberProof {
    /// The current password.
    #[default]
    Password,
    /// A one-time password.
    Otp,
    /// The token alone.
    Token,
}

/// The settings of a configured system for its flow.
#[derive(Debug, Clone)]
pub struct Rules {
    /// Its kind.
    pub kind: Kind,
    /// When a confirmation is required.
    pub confirm: Confirm,
    /// True if a reply that cannot be compared is refused.
    pub strict_identity: bool,
    /// The first pause between read-backs of a deletion that is still visible.
    pub verify_interval: Duration,
    /// Zeta Loyalty: the members' proof.
    pub member_proof: MemberProof,
    /// Zeta Loyalty: the validity of a one-time password.
    pub otp_validity: Duration,
    /// Zeta Loyalty: another one-time password is sent only to a continuation that comes this long after the last send,
    /// without a password.
    pub otp_resend_after: Duration,
    /// Zeta Loyalty: true if the Program API can be read.
    pub program_reads: bool,
    /// Zeta Loyalty: the key column of the deletion file, if imports are configured.
    pub import_key: Option<MemberKey>,
    /// Data that the system keeps after an erasure; named in the event.
    pub preserved: Vec<String>,
    /// VitalSource: look for licences that no code explains.
    pub check_licenses: bool,
    /// VitalSource: at the end the requester's endpoint gets a notice.
    pub tell_requester: bool,
    /// A connector's steps.
    pub plan: Option<Arc<Plan>>,
}

impl Rules {
    /// The defaults of a kind.
    pub fn new(kind: Kind) -> Rules {
        Rules {
            kind,
            confirm: kind.about().confirm,
            strict_identity: false,
            verify_interval: Duration::from_secs(30),
            member_proof: MemberProof::Password,
            otp_validity: Duration::from_secs(300),
            otp_resend_after: Duration::from_secs(60),
            program_reads: true,
            import_key: None,
            preserved: Vec::new(),
            check_licenses: true,
            tell_requester: false,
            plan: None,
        }
    }
}

/// The limits of attempts and waits.
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    /// Attempts per step.
    pub max_attempts: u32,
    /// The longest time from a step's first to its latest failed attempt.
    pub max_elapsed: Duration,
    /// The longest pause.
    pub max_interval: Duration,
    /// The longest wait for a person.
    pub input_max: Duration,
    /// The longest time for which a deletion may stay visible.
    pub pending_max: Duration,
    /// The validity of an approval for an erasure that has not begun.
    pub approval_max: Duration,
}
