//! The settings of a Loyalty platform.
//!
//! The rule it keeps: credentials are secret types. The proof that the platform requires of members is a setting of the
//! platform, never of a job.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use secrecy::SecretString;

use super::import::ImportSettings;
use crate::config::{Choice, Cursor, POSITIVE};
use crate::job::flow::MemberProof;
use crate::job::{MemberKey, identifier};

/// The present time.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// Production hosts: no other environment may call them.
pub(in crate::systems) const PRODUCTION_HOSTS: [&str; 1] = [".cheetahedp.com"];

impl Choice for MemberProof {
    const WORDS: &'static [(&'static str, Self)] =
        &[("password", Self::Password), ("otp", Self::Otp), ("token", Self::Token)];
}

/// The possible keys of a deletion file.
impl Choice for MemberKey {
    const WORDS: &'static [(&'static str, Self)] =
        &[("integration_id", Self::IntegrationId), ("member_id", Self::MemberId), ("email", Self::Email)];
}

/// One configured Loyalty platform.
#[derive(Debug, Clone)]
pub struct ZetaSettings {
    /// The client's own address.
    pub base_url: String,
    /// For the Program API; without it the Program API can neither delete nor read back.
    pub program_token: Option<SecretString>,
    /// The proof that the platform requires of members.
    pub member_proof: MemberProof,
    /// The form field of the one-time password: `code`, on older platforms `otp_code`.
    pub otp_field: String,
    /// The validity of a one-time password.
    pub otp_validity: Duration,
    /// After this time a person can have another one-time password sent.
    pub otp_resend_after: Duration,
    /// The data that this platform keeps when it deletes a member; published in events.
    pub preserved: Vec<String>,
    /// A member that always exists, for the probe: only a found member proves the token.
    pub probe_member_id: Option<SecretString>,
    /// The deletion file, if `import` is used.
    pub import: Option<ImportSettings>,
}

/// Each password that is sent makes the one before useless, so not at once after it.
const RESEND_AFTER: RangeInclusive<Duration> = Duration::from_secs(5)..=Duration::from_secs(3600);

impl ZetaSettings {
    /// Reads the kind's own keys.
    pub(crate) fn read(at: &mut Cursor<'_>) -> Option<ZetaSettings> {
        let base_url = at.url("base_url");
        let program_token = at.secret("program_token");
        let member_proof = at.or("member_proof", MemberProof::Password);
        let otp_field = at.or("otp_field", "code".to_owned());
        let otp_validity = at.or_within("otp_validity", Duration::from_secs(300), POSITIVE);
        let otp_resend_after = at.or_within("otp_resend_after", Duration::from_secs(60), RESEND_AFTER);
        if otp_resend_after > otp_validity {
            at.fault(
                "otp_resend_after",
                "must not be longer than otp_validity: an expired password could not be replaced",
            );
        }
        let preserved = at.or("preserved", Vec::new());
        let probe_member_id = at.person("probe_member_id", identifier::flaw);
        let has_import = at.has("import");
        let section = at.section("import");
        let import = if has_import { import(section) } else { None };
        Some(ZetaSettings {
            base_url: base_url?.into(),
            program_token,
            member_proof,
            otp_field,
            otp_validity,
            otp_resend_after,
            preserved,
            probe_member_id,
            import,
        })
    }
}

fn import(mut at: Cursor<'_>) -> Option<ImportSettings> {
    let dir = at.required("dir");
    let key = at.or("key", MemberKey::IntegrationId);
    let max_rows = at.or_within("max_rows", 10_000, 1..=1_000_000);
    let max_age = at.or_within("max_age", Duration::from_secs(3600), POSITIVE);
    at.finish();
    Some(ImportSettings { dir: dir?, key, max_rows, max_age })
}
