//! Who may send a job: a message's tenant and publisher, the systems that it may name, and the form of its proofs.
//!
//! The rule it keeps: a message is checked before anything in it is opened or done. A message that fails the check
//! reaches no system and changes no job.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::time::Duration;

use jiff::Timestamp;

use super::ceilings::{Ceiling, Scope};
use super::envelope::{Origin, Unsealed};
use super::header;
use super::journal::{BODY, IDENTITY, JournalError, ended_of, record_of};
use super::{Engine, envelope};
use crate::broker::{Control, Properties};
use crate::job::event::{self, Frame};
use crate::job::parse::Refusal;
use crate::job::{Cancel, Draft, Invalid, Job, JobKey, JobRecord, Reason};
use crate::seal::jwe::is_sealed_proof;
use crate::seal::verify::{VerifyKey, verify_detached};
use crate::store::{Batch, Table};

/// The most by which a publisher's clock may be ahead of ours.
const CLOCK_AHEAD: Duration = Duration::from_secs(60);

/// The causes of a failed check, as metrics name them.
pub const CAUSES: [&str; 9] = [
    "unknown_tenant",
    "amqp_user",
    "unsigned",
    "signature",
    "expired",
    "other_job",
    "plain_proof",
    "system",
    "decision",
];

/// The configuration's rules for publishers and quantities. By default every publisher may send every job, any number
/// of times.
#[derive(Debug, Clone, Default)]
pub struct Policy {
    /// The tenants by name; `None` if none is configured: then every name is valid.
    pub tenants: Option<BTreeMap<String, Tenant>>,
    /// True if messages have a sender that can be checked: those of a broker do, those of an operator's file do not.
    pub has_senders: bool,
    /// True if every erasure waits for an approval. It counts only without configured tenants.
    pub needs_approval: bool,
    /// Ceilings on newly accepted jobs.
    pub ceilings: BTreeMap<Scope, Ceiling>,
    /// The longest age of a dead letter; `None`: no limit.
    pub dead_letters_max_age: Option<Duration>,
}

impl Policy {
    /// True if a tenant's erasures wait for an approval even without a request for one.
    pub(crate) fn needs_approval(&self, tenant: &str) -> bool {
        match &self.tenants {
            Some(tenants) => tenants.get(tenant).is_some_and(|tenant| tenant.needs_approval),
            None => self.needs_approval,
        }
    }
}

/// A tenant's rights, and the proofs of its messages' origin.
#[derive(Debug, Clone)]
pub struct Tenant {
    /// The systems from which it may erase people; `None` for all.
    pub systems: Option<BTreeSet<String>>,
    /// The broker's users that may publish for it; `None` for any.
    pub amqp_users: Option<BTreeSet<String>>,
    /// Its messages must be signed.
    pub require_signature: bool,
    /// Its keys by id. If there is a key, every given signature is checked.
    pub signature_keys: BTreeMap<String, VerifyKey>,
    /// The longest age of a signature on a message that is new here.
    pub signature_max_age: Duration,
    /// True if proofs may be unsealed.
    pub plain_proofs: bool,
    /// True if its erasures wait for an approval even without a request for one.
    pub needs_approval: bool,
}

/// The reason why a message fails the check: a word for the metric, a sentence for the sender.
struct Denied {
    word: &'static str,
    at: &'static str,
    expected: String,
}

impl Denied {
    fn new(word: &'static str, at: &'static str, expected: impl Into<String>) -> Denied {
        Denied { word, at, expected: expected.into() }
    }
}

/// The parts of a message that are needed to check its sender.
struct Sent<'a> {
    key: &'a JobKey,
    names_itself: bool,
    properties: &'a Properties,
    body: &'a [u8],
    /// True if the signature's age is checked.
    is_first: bool,
}

impl Engine {
    /// Reads a job from a publisher's message, or from one of our copies.
    pub(crate) fn admit(
        &self,
        properties: &Properties,
        redelivered: bool,
        unsealed: &Unsealed,
    ) -> Result<Result<Job, Refusal>, JournalError> {
        let message_id = match &unsealed.origin {
            Origin::Publisher => properties.message_id.clone(),
            Origin::Ours { key, .. } => Some(key.job_id.to_string()),
        };
        let mended = properties.mended.as_ref();
        let cut = mended.and_then(|mended| mended.cut.as_ref());
        if let Some(refusal) = cut.and_then(|cut| Draft::too_long(cut.bytes, message_id.as_deref())) {
            return Ok(Err(refusal));
        }
        let draft = match Draft::read(&unsealed.body, message_id.as_deref()) {
            Ok(draft) => draft,
            Err(refusal) => return Ok(Err(as_amqp_value(refusal, properties))),
        };
        let from_publisher = unsealed.origin == Origin::Publisher;
        let Some(key) = draft.key().cloned() else {
            // No job key: the parser names the missing field.
            return Ok(draft.job(&self.accepts).and_then(|_| Err(nobodys())));
        };
        let accepted_before = from_publisher && redelivered && self.is_known(&key, &unsealed.body)?;
        let checked = from_publisher && !accepted_before;
        if checked {
            let sent = Sent {
                key: &key,
                names_itself: draft.names_itself(),
                properties,
                body: &unsealed.body,
                is_first: true,
            };
            if let Err(denied) = self.believe(&sent) {
                return Ok(Err(self.deny(denied, &key)));
            }
            if let Some(fault) = mended.and_then(|mended| mended.fault) {
                let invalid = Invalid::at("properties", fault.to_string());
                return Ok(Err(Refusal { reason: Reason::Invalid, invalid, key: Some(key) }));
            }
        }
        self.opened(draft, &key, checked, from_publisher)
    }

    /// Opens the sealed proofs, reads the job, and compares its systems with its tenant's.
    fn opened(
        &self,
        mut draft: Draft,
        key: &JobKey,
        checked: bool,
        from_publisher: bool,
    ) -> Result<Result<Job, Refusal>, JournalError> {
        if let Err(refusal) = self.open_proofs(&mut draft, key, checked, from_publisher) {
            return Ok(Err(refusal));
        }
        let refuse = |reason, invalid| Ok(Err(Refusal { reason, invalid, key: Some(key.clone()) }));
        let tenant = if checked { self.tenant(&key.tenant) } else { None };
        let time = Timestamp::from_millisecond(self.now().0).ok().filter(|_| checked);
        let todays = draft.job(&self.accepts).and_then(|job| {
            let times = time.map_or(Ok(()), |now| job.check_times(now));
            times.map(|()| job).map_err(|invalid| Refusal { reason: Reason::Invalid, invalid, key: Some(key.clone()) })
        });
        let job = match todays {
            Ok(job) => job,
            Err(refusal) if refusal.reason != Reason::Invalid => return Ok(Err(refusal)),
            // An earlier release had fewer rules: a job that it accepted continues.
            Err(refusal) => match draft.accepted_job(&self.accepts) {
                Ok(job) if !from_publisher || self.was_accepted(&job)? => job,
                _ => return Ok(Err(refusal)),
            },
        };
        if job.key != *key {
            return Ok(Err(nobodys()));
        }
        if let Some(systems) = tenant.and_then(|tenant| tenant.systems.as_ref())
            && let Some(index) = job.targets.iter().position(|target| !systems.contains(&target.system))
        {
            self.figures.label("unauthorised", "", "system");
            let expected = format!("is no system of tenant {}", key.tenant);
            return refuse(Reason::Unauthorised, Invalid::at(format!("targets[{index}].system"), expected));
        }
        Ok(Ok(job))
    }

    /// True if a job with this id was accepted for the same person.
    fn was_accepted(&self, job: &Job) -> Result<bool, JournalError> {
        let identity = job.identity_bytes();
        let same = |stored: &[u8]| self.keyring.matches_digest(IDENTITY, &identity, stored) == Some(true);
        let open = record_of(&*self.store, &job.key).ok().flatten().is_some_and(|record| same(&record.identity));
        Ok(open || ended_of(&*self.store, &job.key)?.is_some_and(|ended| same(&ended.identity)))
    }

    /// Opens the sealed proofs in place.
    fn open_proofs(&self, draft: &mut Draft, key: &JobKey, checked: bool, from_publisher: bool) -> Result<(), Refusal> {
        let tenant = if checked { self.tenant(&key.tenant) } else { None };
        let id = key.job_id.to_string();
        let refuse = |reason, at: &str, expected: String| Refusal {
            reason,
            invalid: Invalid::at(at, expected),
            key: Some(key.clone()),
        };
        draft.open_proofs(|path, text| {
            if !is_sealed_proof(text) {
                if tenant.is_some_and(|tenant| !tenant.plain_proofs) {
                    self.figures.label("unauthorised", "", "plain_proof");
                    let expected = format!("must be sealed: tenant {} sends no plain proofs", key.tenant);
                    return Err(refuse(Reason::Unauthorised, path, expected));
                }
                return Ok(None);
            }
            match self.keyring.open_proof(text, &id) {
                Ok(plain) => Ok(Some(plain)),
                // The proof was readable when the job was accepted, so a key is missing here. The publisher made no
                // mistake.
                Err(error) if !from_publisher => Err(refuse(Reason::Unopenable, path, error.to_string())),
                Err(error) => Err(refuse(Reason::Invalid, path, error.to_string())),
            }
        })
    }

    /// The open job that these bytes once became here, with its run and this copy's number. The message itself is not
    /// parsed. All jobs are searched, but hardly any message needs the search.
    pub(super) fn opened_by(&self, body: &[u8]) -> Result<Option<(JobKey, u32, u64)>, JournalError> {
        let mut after: Option<Vec<u8>> = None;
        loop {
            let page = self.store.scan(Table::Job, b"", after.as_deref(), 256)?;
            let Some((last, _)) = page.last() else { return Ok(None) };
            after = Some(last.clone());
            for (row, value) in page {
                let (Some(key), Ok(record)) = (JobKey::from_bytes(&row), JobRecord::from_bytes(&value)) else {
                    continue;
                };
                if self.keyring.matches_digest(BODY, body, &record.body) == Some(true)
                    && self.store.get(Table::Ended, &row)?.is_none()
                {
                    return Ok(Some((key, record.run, record.copy)));
                }
            }
        }
    }

    /// True if the same message was accepted before: it was checked then.
    fn is_known(&self, key: &JobKey, body: &[u8]) -> Result<bool, JournalError> {
        let same = |stored: &[u8]| self.keyring.matches_digest(BODY, body, stored) == Some(true);
        // An undecodable record is no reason for a refusal; `open` handles it.
        let open = record_of(&*self.store, key).ok().flatten().is_some_and(|record| same(&record.body));
        Ok(open || ended_of(&*self.store, key)?.is_some_and(|ended| same(&ended.body)))
    }

    fn tenant(&self, name: &str) -> Option<&Tenant> {
        self.policy.tenants.as_ref().and_then(|tenants| tenants.get(name))
    }

    fn deny(&self, denied: Denied, key: &JobKey) -> Refusal {
        self.figures.label("unauthorised", "", denied.word);
        Refusal {
            reason: Reason::Unauthorised,
            invalid: Invalid::at(denied.at, denied.expected),
            key: Some(key.clone()),
        }
    }

    /// Checks that the tenant is known and sent the message.
    fn believe(&self, sent: &Sent<'_>) -> Result<(), Denied> {
        let Some(tenants) = &self.policy.tenants else { return Ok(()) };
        let name = &sent.key.tenant;
        let Some(tenant) = tenants.get(name) else {
            return Err(Denied::new("unknown_tenant", "tenant", "is no configured tenant"));
        };
        if !self.policy.has_senders {
            return Ok(());
        }
        if let Some(users) = &tenant.amqp_users {
            let named = sent.properties.user_id.as_ref();
            let problem = match named {
                None => format!("is missing; the message's user-id must name a user of tenant {name}"),
                Some(user) if users.contains(user) => String::new(),
                Some(_) => format!("is no user of tenant {name}"),
            };
            if !problem.is_empty() {
                return Err(Denied::new("amqp_user", "user_id", problem));
            }
        }
        self.believe_signature(sent, tenant)
    }

    fn believe_signature(&self, sent: &Sent<'_>, tenant: &Tenant) -> Result<(), Denied> {
        const AT: &str = header::SIGNATURE;
        let given = sent.properties.headers.get(AT);
        if given.is_none() && tenant.require_signature {
            let expected = format!("is missing; tenant {} signs its messages", sent.key.tenant);
            return Err(Denied::new("unsigned", AT, expected));
        }
        let Some(given) = given.filter(|_| !tenant.signature_keys.is_empty()) else { return Ok(()) };
        let given = given.as_text().unwrap_or_default();
        let signed = verify_detached(given, sent.body, &tenant.signature_keys)
            .map_err(|error| Denied::new("signature", AT, error.to_string()))?;
        let id = sent.key.job_id.to_string();
        match &signed.job_id {
            Some(named) if !named.eq_ignore_ascii_case(&id) => {
                return Err(Denied::new("other_job", AT, "was made for another job"));
            }
            // The body may be used with any message_id, so only the signature can tie the two.
            None if !sent.names_itself => {
                let expected = "must name the job_id in its header, as the body does not";
                return Err(Denied::new("other_job", AT, expected));
            }
            Some(_) | None => {}
        }
        if sent.is_first {
            let now = self.now().0;
            let made = signed.issued_at.saturating_mul(1000);
            let limit = |time: Duration| i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
            if made > now.saturating_add(limit(CLOCK_AHEAD)) {
                return Err(Denied::new("expired", AT, "was made in the future"));
            }
            if now.saturating_sub(made) > limit(tenant.signature_max_age) {
                let expected = format!("is older than tenant {}'s signature_max_age", sent.key.tenant);
                return Err(Denied::new("expired", AT, expected));
            }
        }
        Ok(())
    }

    /// Checks a cancellation's sender. `true`: it may take effect. Otherwise it is counted, and an event reports the
    /// refusal. The signature's age is not checked: a repeated cancellation is harmless, and after a lost store the
    /// stream is read from its beginning.
    pub(crate) fn admit_cancel(&self, control: &Control, cancel: &Cancel, batch: &mut Batch) -> bool {
        let sent = Sent {
            key: &cancel.key,
            names_itself: true,
            properties: &control.properties,
            body: &control.body,
            is_first: false,
        };
        let Err(denied) = self.believe(&sent) else { return true };
        let refusal = self.deny(denied, &cancel.key);
        self.figures.count(&self.figures.unauthorised);
        tracing::warn!(job = %cancel.key, detail = %refusal.invalid, "a cancellation was rejected");
        let frame = Frame { environment: &self.accepts.environment, traceparent: None, now: self.now() };
        let sha256 = envelope::body_sha256(&control.body);
        let event = event::cancel_unauthorised(&frame, &cancel.key, &refusal.invalid.to_string(), &sha256);
        self.owe(batch, &cancel.key, &event);
        false
    }

    /// Prepares the refusal of a message that was sent as a cancellation and cannot be read as one; and the job that
    /// it certainly cancels, if there is one.
    pub(crate) fn no_cancel(&self, control: &Control, invalid: Invalid) -> (Refusal, Option<JobKey>) {
        let Control { properties, body, .. } = control;
        let certain = Cancel::certain(body).map(|cancel| cancel.key);
        let (mut refusal, mut names_itself) = match Draft::read(body, properties.message_id.as_deref()) {
            Ok(draft) => {
                (Refusal { reason: Reason::Invalid, invalid, key: draft.key().cloned() }, Some(draft.names_itself()))
            }
            Err(refusal) => (as_amqp_value(Refusal { invalid, ..refusal }, properties), None),
        };
        if certain.is_some() {
            refusal.key.clone_from(&certain);
            names_itself = Some(true);
        }
        if let (Some(key), Some(names_itself)) = (&refusal.key, names_itself) {
            let sent = Sent { key, names_itself, properties, body, is_first: false };
            if let Err(denied) = self.believe(&sent) {
                return (self.deny(denied, key), None);
            }
        }
        if certain.is_some() {
            refusal.invalid.expected.push_str("; the job that it names is cancelled all the same");
        }
        (refusal, certain)
    }

    /// The number of messages that failed the check.
    pub fn unauthorised(&self) -> u64 {
        self.figures.unauthorised.load(Ordering::Relaxed)
    }
}

/// The type that RabbitMQ 4 gives to a value or sequence section of an AMQP 1.0 publisher: the body is then that
/// value with AMQP's own types in it.
const AMQP_VALUE: &str = "amqp-1.0";

/// Names the correct section if a publisher's library used the wrong one.
fn as_amqp_value(refusal: Refusal, properties: &Properties) -> Refusal {
    if properties.kind.as_deref() != Some(AMQP_VALUE) {
        return refusal;
    }
    let expected = "is an AMQP 1.0 value; expected a data section: publish the JSON as bytes in one";
    Refusal { invalid: Invalid::at("body", expected), ..refusal }
}

fn nobodys() -> Refusal {
    Refusal { reason: Reason::Invalid, invalid: Invalid::at("job_id", "is not to be made out"), key: None }
}
