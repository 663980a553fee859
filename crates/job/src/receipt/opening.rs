//! A commitment and its job: everyone with the message can open it.
//!
//! The rule it keeps: no content of the job is shown, whether it opens the commitment or not.

use std::fmt;

use secrecy::ExposeSecret as _;
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use super::digest;
use crate::{Accepts, Draft, Invalid, JobKey, Kind, MemberKey, Rules, Term, draft};

/// A job's message, to check against its receipts.
pub struct Offered {
    /// The file and line.
    pub place: String,
    /// True if a receipt of the job was given.
    pub(super) met: bool,
    tenant: String,
    job_id: String,
    body: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for Offered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Offered").field("place", &self.place).finish_non_exhaustive()
    }
}

/// The reason why a job does not open a commitment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpeningError {
    /// The receipt was made without a salt.
    #[error("it carries no commitment: the job came without a receipt_salt")]
    NoCommitment,
    /// The given job has no salt.
    #[error("the job given has no receipt_salt")]
    NoSalt,
    /// The message is no job for the receipt's systems.
    #[error("the job given is not one for the systems of the receipt: {0}")]
    Invalid(Invalid),
    /// Another salt, or other identities.
    #[error("the salt and identities of the job given are not those that it commits to")]
    Other,
}

impl Offered {
    /// Takes a message. `None` if it names no job.
    pub fn new(place: String, body: &[u8]) -> Option<Offered> {
        let key = match Draft::read(body, None) {
            Ok(draft) => draft.key().cloned(),
            Err(refusal) => refusal.key,
        };
        let JobKey { tenant, job_id } = key?;
        Some(Offered { place, met: false, tenant, job_id: job_id.to_string(), body: Zeroizing::new(body.to_vec()) })
    }

    /// True if the receipt is of this job.
    pub(super) fn is_of(&self, receipt: &Map<String, Value>) -> bool {
        let text = |name: &str| receipt.get(name).and_then(Value::as_str);
        text("tenant") == Some(&self.tenant) && text("job_id") == Some(&self.job_id)
    }

    /// Computes the commitment again from the job, and compares.
    pub(super) fn open(&mut self, receipt: &Map<String, Value>) -> Result<(), OpeningError> {
        self.met = true;
        let commitment = receipt.get("commitment").and_then(Value::as_str).ok_or(OpeningError::NoCommitment)?;
        // The key column of a Loyalty import file is not in the receipt, and does not matter here.
        let read = |key| draft::accepted_job(&self.body, None, &accepts(receipt, key));
        let keys = [MemberKey::IntegrationId, MemberKey::MemberId, MemberKey::Email];
        let read = keys.into_iter().map(read).reduce(Result::or);
        let job = match read {
            Some(Ok(job)) => job,
            Some(Err(refusal)) => return Err(OpeningError::Invalid(refusal.invalid)),
            None => return Err(OpeningError::Other),
        };
        let salt = job.receipt_salt.as_ref().ok_or(OpeningError::NoSalt)?;
        let made = digest::commitment(salt.expose_secret().as_bytes(), &job.identity_bytes());
        if made == commitment { Ok(()) } else { Err(OpeningError::Other) }
    }
}

/// A worker that accepts the job of this receipt.
fn accepts(receipt: &Map<String, Value>, import_key: MemberKey) -> Accepts {
    let text = |of: &Value, name: &str| of.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let targets = receipt.get("targets").and_then(Value::as_array).into_iter().flatten();
    let system = |target: &Value| {
        let kind = Kind::of(&text(target, "kind"))?;
        Some((text(target, "system"), Rules { import_key: Some(import_key), ..Rules::new(kind) }))
    };
    Accepts {
        environment: receipt.get("environment").and_then(Value::as_str).unwrap_or_default().to_owned(),
        systems: targets.filter_map(system).collect(),
        regulations: receipt
            .get("regulation")
            .and_then(Value::as_str)
            .map(|law| (law.to_owned(), Term::days(0)))
            .into_iter()
            .collect(),
    }
}
