//! A job as a publisher sends it, checked and typed; its identity part in canonical bytes.
//!
//! The rule it keeps: whatever names or proves a person is a secret type, so that neither `Debug`
//! nor an error can show it.

use std::collections::BTreeSet;
use std::fmt;

use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::field::is_customer_id;
use super::identifier::{email_flaw, flaw};

/// What a job is known by: a publisher's own id within its tenant.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JobKey {
    /// The tenant.
    pub tenant: String,
    /// The publisher's idempotency key.
    pub job_id: Uuid,
}

impl JobKey {
    /// The key in the store: tenant, a zero byte, the id. Ordered by tenant.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.tenant.len() + 17);
        bytes.extend_from_slice(self.tenant.as_bytes());
        bytes.push(0);
        bytes.extend_from_slice(self.job_id.as_bytes());
        bytes
    }

    /// Reads [`JobKey::to_bytes`] back; `None` where the bytes are no key.
    pub fn from_bytes(bytes: &[u8]) -> Option<JobKey> {
        let zero = bytes.len().checked_sub(17)?;
        let (tenant, id) = bytes.split_at(zero);
        let job_id = Uuid::from_slice(id.get(1..)?).ok()?;
        (id.first() == Some(&0)).then_some(())?;
        Some(JobKey { tenant: std::str::from_utf8(tenant).ok()?.to_owned(), job_id })
    }
}

impl fmt::Display for JobKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.tenant, self.job_id)
    }
}

/// What the job asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Erase.
    Erase,
    /// Read everything, destroy nothing.
    Preview,
}

/// That the person (or an agent) confirmed what will be lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confirmation {
    /// When.
    pub confirmed_at: Timestamp,
    /// Who: `subject` or `agent`.
    pub by: String,
}

/// That the erasure waits for the approval of somebody else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Approval {
    /// The operator who asks for it.
    pub requested_by: String,
}

/// The kinds of system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Cleeng.
    Cleeng,
    /// Zeta Loyalty.
    ZetaLoyalty,
    /// EasyCMS / ProLasku.
    EasyCms,
    /// VitalSource.
    VitalSource,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Kind; 4] = [Kind::Cleeng, Kind::ZetaLoyalty, Kind::EasyCms, Kind::VitalSource];

    /// The word used in configuration and events.
    pub const fn as_str(self) -> &'static str {
        match self {
            Kind::Cleeng => "cleeng",
            Kind::ZetaLoyalty => "zeta_loyalty",
            Kind::EasyCms => "easycms",
            Kind::VitalSource => "vitalsource",
        }
    }
}

/// Which kind of id names a loyalty member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum MemberKey {
    /// Member ID.
    MemberId,
    /// Integration ID.
    IntegrationId,
    /// Card ID.
    CardId,
    /// Database ID.
    DatabaseId,
    /// E-mail address; for `import` only.
    Email,
}

impl MemberKey {
    /// All keys, in the order in which errors list them.
    pub const ALL: [MemberKey; 5] =
        [MemberKey::MemberId, MemberKey::IntegrationId, MemberKey::CardId, MemberKey::DatabaseId, MemberKey::Email];

    /// The field's name in a job.
    pub const fn as_str(self) -> &'static str {
        match self {
            MemberKey::MemberId => "member_id",
            MemberKey::IntegrationId => "integration_id",
            MemberKey::CardId => "card_id",
            MemberKey::DatabaseId => "database_id",
            MemberKey::Email => "email",
        }
    }
}

/// A loyalty member by one kind of id.
#[derive(Debug, Clone)]
pub struct Member {
    /// The kind of id.
    pub key: MemberKey,
    /// Its value.
    pub value: SecretString,
}

/// A VitalSource user's identifier field.
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

/// A VitalSource code and what the requester's records say of it.
#[derive(Debug, Clone)]
pub struct Code {
    /// The code.
    pub code: SecretString,
    /// When it was redeemed.
    pub redeemed_at: Option<Timestamp>,
    /// How much was read, 0 to 100.
    pub percent_read: Option<f64>,
}

/// The system-specific part of a target.
#[derive(Debug, Clone)]
pub enum Spec {
    /// Cleeng with the publisher token only.
    CleengBackend {
        /// 1 to 20 digits.
        customer_id: SecretString,
        /// The customer's e-mail.
        customer_email: SecretString,
    },
    /// Cleeng with the customer's own token for the reads.
    CleengMediastore {
        /// The customer's JWT.
        customer_token: SecretString,
        /// Its `customerId` claim.
        customer_id: SecretString,
        /// The customer's e-mail.
        customer_email: SecretString,
    },
    /// Zeta Loyalty by Program API.
    LoyaltyProgram {
        /// Who.
        member: Member,
    },
    /// Zeta Loyalty by Member API. At least one of `access_token` and `member` is there.
    LoyaltyMember {
        /// The member's token.
        access_token: Option<SecretString>,
        /// Who, where the publisher knows.
        member: Option<Member>,
        /// Proof, where the platform asks for the password.
        current_password: Option<SecretString>,
        /// Proof, where the platform asks for a one-time password.
        code: Option<SecretString>,
    },
    /// Zeta Loyalty by a deletion file.
    LoyaltyImport {
        /// Who.
        member: Member,
    },
    /// Zeta Loyalty by a person in the platform's own screens.
    LoyaltyManual {
        /// Who.
        member: Member,
    },
    /// EasyCMS.
    EasyCms {
        /// The account's e-mail.
        email: SecretString,
        /// The customer's password.
        customer_password: Option<SecretString>,
    },
    /// VitalSource. At least one of `guid` and `reference` is there.
    VitalSource {
        /// The user's GUID.
        guid: Option<SecretString>,
        /// The requester's reference.
        reference: Option<SecretString>,
        /// 0 to 10,000 codes.
        codes: Vec<Code>,
        /// Fields to overwrite beside those that read non-empty.
        overwrite: BTreeSet<Field>,
    },
}

/// One system within a job.
#[derive(Debug, Clone)]
pub struct Target {
    /// The configured system's name.
    pub system: String,
    /// Its kind.
    pub kind: Kind,
    /// A confirmation for this target alone.
    pub confirmation: Option<Confirmation>,
    /// The rest.
    pub spec: Spec,
}

impl Target {
    /// Each identifier of the person, and whether it is an e-mail address.
    fn identifiers(&self) -> impl Iterator<Item = (&str, bool)> {
        let each = match &self.spec {
            Spec::CleengBackend { customer_id, customer_email }
            | Spec::CleengMediastore { customer_id, customer_email, .. } => {
                [Some((customer_id, false)), Some((customer_email, true))]
            }
            Spec::LoyaltyProgram { member } | Spec::LoyaltyImport { member } | Spec::LoyaltyManual { member } => {
                [Some((&member.value, member.key == MemberKey::Email)), None]
            }
            Spec::LoyaltyMember { member, .. } => [member.as_ref().map(|member| (&member.value, false)), None],
            Spec::EasyCms { email, .. } => [Some((email, true)), None],
            Spec::VitalSource { guid, reference, .. } => {
                [guid.as_ref().map(|guid| (guid, false)), reference.as_ref().map(|reference| (reference, false))]
            }
        };
        each.into_iter().flatten().map(|(identifier, is_email)| (identifier.expose_secret(), is_email))
    }

    /// True where an identifier is one that no person can have. An earlier release accepted such jobs.
    pub fn names_nobody(&self) -> bool {
        let is_nobodys =
            |(text, is_email): (&str, bool)| if is_email { email_flaw(text) } else { flaw(text) }.is_some();
        let is_numbered = matches!(self.kind, Kind::Cleeng);
        let is_no_number = |(text, is_email): (&str, bool)| is_numbered && !is_email && !is_customer_id(text);
        self.identifiers().any(|identifier| is_nobodys(identifier) || is_no_number(identifier))
    }
}

/// A whole erasure job.
#[derive(Debug, Clone)]
pub struct Job {
    /// Tenant and id.
    pub key: JobKey,
    /// `sandbox`, `staging` or `production`.
    pub environment: String,
    /// Erase or preview.
    pub mode: Mode,
    /// When the person asked.
    pub requested_at: Timestamp,
    /// The law.
    pub regulation: Option<String>,
    /// When it must be done.
    pub due_at: Option<Timestamp>,
    /// A confirmation for all targets.
    pub confirmation: Option<Confirmation>,
    /// The erasure waits for an approval.
    pub approval: Option<Approval>,
    /// For the receipt's commitment.
    pub receipt_salt: Option<SecretString>,
    /// Open a new run of a failed job.
    pub retry: bool,
    /// What to erase, in order.
    pub targets: Vec<Target>,
}

impl Job {
    /// The confirmation that holds for a target: its own, else the job's.
    pub fn confirmation_for<'a>(&'a self, target: &'a Target) -> Option<&'a Confirmation> {
        target.confirmation.as_ref().or(self.confirmation.as_ref())
    }

    /// The identity part in canonical bytes: what alone is compared for a conflict, and what the
    /// key that seals this job's checkpoints is derived from. Each field is preceded by its name
    /// and length, so that no two identities share their bytes.
    pub fn identity_bytes(&self) -> Zeroizing<Vec<u8>> {
        let mut out = Zeroizing::new(Vec::with_capacity(256));
        for target in &self.targets {
            put_target(&mut out, target);
        }
        out
    }

    /// Each identifier of the person by itself: what an operator may know of them. Neither codes nor proofs.
    pub fn identifiers(&self) -> impl Iterator<Item = &str> {
        self.targets.iter().flat_map(Target::identifiers).map(|(identifier, _)| identifier)
    }

    /// The identity part of one target.
    pub fn target_identity(&self, index: usize) -> Zeroizing<Vec<u8>> {
        let mut out = Zeroizing::new(Vec::new());
        put_target(&mut out, &self.targets[index]);
        out
    }
}

fn put_target(out: &mut Vec<u8>, target: &Target) {
    put(out, "system", &target.system);
    match &target.spec {
        Spec::CleengBackend { customer_id, customer_email } => {
            put(out, "flow", "backend");
            put_secret(out, "customer_id", customer_id);
            put_secret(out, "customer_email", customer_email);
        }
        Spec::CleengMediastore { customer_id, customer_email, .. } => {
            put(out, "flow", "mediastore");
            put_secret(out, "customerId", customer_id);
            put_secret(out, "customer_email", customer_email);
        }
        Spec::LoyaltyProgram { member } => put_member(out, "program_api", member),
        Spec::LoyaltyMember { access_token, member, .. } => match (member, access_token) {
            (Some(member), _) => put_member(out, "member_api", member),
            (None, token) => {
                put(out, "method", "member_api");
                if let Some(token) = token {
                    put_secret(out, "access_token", token);
                }
            }
        },
        Spec::LoyaltyImport { member } => put_member(out, "import", member),
        Spec::LoyaltyManual { member } => put_member(out, "manual", member),
        Spec::EasyCms { email, .. } => put_secret(out, "email", email),
        Spec::VitalSource { guid, reference, codes, overwrite } => {
            if let Some(guid) = guid {
                put_secret(out, "guid", guid);
            }
            if let Some(reference) = reference {
                put_secret(out, "reference", reference);
            }
            for code in codes {
                put_secret(out, "code", &code.code);
            }
            for field in overwrite {
                put(out, "overwrite", field.as_str());
            }
        }
    }
}

fn put(out: &mut Vec<u8>, name: &str, value: &str) {
    for part in [name, value] {
        out.extend_from_slice(&(part.len() as u64).to_be_bytes());
        out.extend_from_slice(part.as_bytes());
    }
}

fn put_secret(out: &mut Vec<u8>, name: &str, value: &SecretString) {
    put(out, name, value.expose_secret());
}

fn put_member(out: &mut Vec<u8>, method: &str, member: &Member) {
    put(out, "method", method);
    put_secret(out, member.key.as_str(), &member.value);
}
