//! A publisher's job, checked and typed, and its identity part in canonical bytes.
//!
//! The rule it keeps: everything that names or proves a person has a secret type, so that neither `Debug` nor an
//! error can show it.

use std::fmt;

use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::identifier::{email_flaw, flaw};
use super::kinds::{Kind, Spec};

/// The name of a job: a publisher's own id within its tenant.
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

    /// Decodes the bytes of [`JobKey::to_bytes`]; `None` if they are no key.
    pub fn from_bytes(bytes: &[u8]) -> Option<JobKey> {
        let zero = bytes.len().checked_sub(17)?;
        let (tenant, id) = bytes.split_at(zero);
        let job_id = Uuid::from_slice(id.get(1..)?).ok()?;
        (id.first() == Some(&0)).then_some(())?;
        Some(JobKey { tenant: std::str::from_utf8(tenant).ok()?.to_owned(), job_id })
    }
}

impl JobKey {
    /// The key from its text, `tenant/id`.
    pub fn of_text(text: &str) -> Option<JobKey> {
        let (tenant, id) = text.split_once('/')?;
        Some(JobKey { tenant: tenant.to_owned(), job_id: Uuid::try_parse(id).ok()? })
    }
}

impl fmt::Display for JobKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.tenant, self.job_id)
    }
}

/// The purpose of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Erase.
    Erase,
    /// Read everything, destroy nothing.
    Preview,
}

/// The confirmation that the person (or an agent) knows the losses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confirmation {
    /// The time.
    pub confirmed_at: Timestamp,
    /// `subject` or `agent`.
    pub by: String,
}

/// The request for an approval by another operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Approval {
    /// The requester.
    pub requested_by: String,
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
    fn put_identity(&self, out: &mut Vec<u8>) {
        put(out, "system", &self.system);
        self.spec.put_identity(out);
    }

    /// True if no person can have one of the identifiers. An earlier release accepted such jobs.
    pub fn names_nobody(&self) -> bool {
        let is_nobodys =
            |(text, is_email): (&str, bool)| if is_email { email_flaw(text) } else { flaw(text) }.is_some();
        let is_other_form = |(text, is_email): (&str, bool)| {
            !is_email && self.kind.about().id_form.is_some_and(|has_form| !has_form(text))
        };
        self.spec.identifiers().any(|identifier| is_nobodys(identifier) || is_other_form(identifier))
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
    /// The time of the person's request.
    pub requested_at: Timestamp,
    /// The law.
    pub regulation: Option<String>,
    /// The due time.
    pub due_at: Option<Timestamp>,
    /// A confirmation for all targets.
    pub confirmation: Option<Confirmation>,
    /// The erasure waits for an approval.
    pub approval: Option<Approval>,
    /// The salt of the receipt's commitment.
    pub receipt_salt: Option<SecretString>,
    /// True to begin a new run of a failed job.
    pub retry: bool,
    /// The targets, in order.
    pub targets: Vec<Target>,
}

impl Job {
    /// The confirmation for a target: its own, or else the job's.
    pub fn confirmation_for<'a>(&'a self, target: &'a Target) -> Option<&'a Confirmation> {
        target.confirmation.as_ref().or(self.confirmation.as_ref())
    }

    /// The identity part in canonical bytes. Only this part is compared for a conflict, and the key that seals the
    /// job's checkpoints is derived from it. Each field has its name and length before it, so that no two identities
    /// have the same bytes.
    pub fn identity_bytes(&self) -> Zeroizing<Vec<u8>> {
        let mut out = Zeroizing::new(Vec::with_capacity(256));
        for target in &self.targets {
            target.put_identity(&mut out);
        }
        out
    }

    /// Each identifier of the person by itself, as an operator may know it. No codes or proofs.
    pub fn identifiers(&self) -> impl Iterator<Item = &str> {
        self.targets.iter().flat_map(|target| target.spec.identifiers()).map(|(identifier, _)| identifier)
    }

    /// The identity part of one target.
    pub fn target_identity(&self, index: usize) -> Zeroizing<Vec<u8>> {
        let mut out = Zeroizing::new(Vec::new());
        self.targets[index].put_identity(&mut out);
        out
    }
}

/// Adds a name and a value, each with its length before it.
pub(crate) fn put(out: &mut Vec<u8>, name: &str, value: &str) {
    for part in [name, value] {
        out.extend_from_slice(&(part.len() as u64).to_be_bytes());
        out.extend_from_slice(part.as_bytes());
    }
}

/// As [`put`], of a secret.
pub(crate) fn put_secret(out: &mut Vec<u8>, name: &str, value: &SecretString) {
    put(out, name, value.expose_secret());
}
