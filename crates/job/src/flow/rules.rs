//! What the flows are told of a configured system, and how often and how long they try.
//!
//! The rule it keeps: settings only; what follows from them is decided by the flows.

use std::time::Duration;

use crate::kinds::{Kind, MemberKey};

/// When a system asks the person (or an agent) to confirm first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Confirm {
    /// Always.
    Always,
    /// Where something active will be lost.
    WhenActive,
    /// Never.
    #[default]
    Never,
}

/// How a loyalty platform lets members prove themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MemberProof {
    /// By the current password.
    #[default]
    Password,
    /// By a one-time password.
    Otp,
    /// By the token alone.
    Token,
}

/// What the flows need to know of a configured system.
#[derive(Debug, Clone)]
pub struct Rules {
    /// Its kind.
    pub kind: Kind,
    /// Whether to ask first.
    pub confirm: Confirm,
    /// Whether a reply that cannot be compared is refused.
    pub strict_identity: bool,
    /// The first pause before a deletion that is still visible is read back again.
    pub verify_interval: Duration,
    /// Zeta Loyalty: how members prove themselves.
    pub member_proof: MemberProof,
    /// Zeta Loyalty: how long a one-time password is valid.
    pub otp_validity: Duration,
    /// Zeta Loyalty: true where the Program API can be read.
    pub program_reads: bool,
    /// Zeta Loyalty: the key column of the deletion file, where imports are configured.
    pub import_key: Option<MemberKey>,
    /// What the system keeps after an erasure; told in the event.
    pub preserved: Vec<String>,
    /// VitalSource: look for licences that no code accounts for.
    pub check_licenses: bool,
    /// VitalSource: the requester's endpoint is told at the end.
    pub tell_requester: bool,
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
            program_reads: true,
            import_key: None,
            preserved: Vec::new(),
            check_licenses: true,
            tell_requester: false,
        }
    }
}

/// How often and how long to try.
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    /// Attempts per step.
    pub max_attempts: u32,
    /// From a step's first to its latest failed attempt.
    pub max_elapsed: Duration,
    /// The longest pause.
    pub max_interval: Duration,
    /// How long to wait for a person.
    pub input_max: Duration,
    /// How long a deletion may stay visible.
    pub pending_max: Duration,
    /// How long an approval holds for what was not begun.
    pub approval_max: Duration,
}
