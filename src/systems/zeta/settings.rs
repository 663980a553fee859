//! What a configured Loyalty platform is told by the configuration.
//!
//! The rule it keeps: credentials are secret types; which proof the platform asks of members is a
//! setting of the platform, never of a job.

use std::sync::Arc;

use jiff::Timestamp;
use secrecy::SecretString;

use super::import::{ImportSettings, LedgerError};
use crate::systems::http::{BuildError, HttpSettings};

/// The present time.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// What the platform is set to ask of a member who deletes the own profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemberProof {
    /// Access token and current password (the platform's default).
    Password,
    /// Access token and a one-time password sent to the member.
    Otp,
    /// Access token alone.
    Token,
}

/// One configured Loyalty platform.
#[derive(Debug, Clone)]
pub struct ZetaSettings {
    /// The table's name in the configuration.
    pub name: String,
    /// The client's own address.
    pub base_url: String,
    /// For the Program API; without it nothing can be deleted or read back there.
    pub program_token: Option<SecretString>,
    /// What the platform asks of members.
    pub member_proof: MemberProof,
    /// The form field of the one-time password: `code`, on older platforms `otp_code`.
    pub otp_field: String,
    /// A member that is always there, for the probe: only a reply that succeeds proves the token.
    pub probe_member_id: Option<SecretString>,
    /// Timeouts.
    pub http: HttpSettings,
    /// The deletion file, where `import` is used.
    pub import: Option<ImportSettings>,
}

/// Why a client could not be built.
#[derive(Debug, thiserror::Error)]
pub enum ZetaError {
    /// A setting.
    #[error(transparent)]
    Setting(#[from] BuildError),
    /// The import folder.
    #[error(transparent)]
    Import(#[from] LedgerError),
}
