//! Who may order an erasure: which tenant a message is from, by whom, for which systems, and in
//! which form its proofs come.
//!
//! The rule it keeps: a message is believed before anything in it is opened or done, and one that
//! is not believed reaches no system and changes no job.

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

/// How far a publisher's clock may be ahead of ours.
const CLOCK_AHEAD: Duration = Duration::from_secs(60);

/// Why messages are not believed, as metrics name it.
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

/// What the configuration says of publishers and of quantities. The default lets everybody order
/// everything, any number of times.
#[derive(Debug, Clone, Default)]
pub struct Policy {
    /// The tenants by name; `None` where none is configured, so that any may be named.
    pub tenants: Option<BTreeMap<String, Tenant>>,
    /// True where messages have a sender to be checked: a broker, not a file of the operator's own.
    pub has_senders: bool,
    /// Where no tenant is configured: every erasure waits for an approval.
    pub needs_approval: bool,
    /// Ceilings on newly accepted jobs.
    pub ceilings: BTreeMap<Scope, Ceiling>,
    /// How long a dead letter may lie; `None` for ever.
    pub dead_letters_max_age: Option<Duration>,
}

impl Policy {
    /// True where a tenant's erasures wait for an approval that they do not ask for.
    pub(crate) fn needs_approval(&self, tenant: &str) -> bool {
        match &self.tenants {
            Some(tenants) => tenants.get(tenant).is_some_and(|tenant| tenant.needs_approval),
            None => self.needs_approval,
        }
    }
}

/// What a tenant may, and how it shows that it is itself.
#[derive(Debug, Clone)]
pub struct Tenant {
    /// The systems it may have people erased from; `None` for all.
    pub systems: Option<BTreeSet<String>>,
    /// The broker's users that may publish for it; `None` for any.
    pub amqp_users: Option<BTreeSet<String>>,
    /// Its messages must be signed.
    pub require_signature: bool,
    /// Its keys by id. A signature that is given is checked wherever there is one.
    pub signature_keys: BTreeMap<String, VerifyKey>,
    /// How old a signature may be at first.
    pub signature_max_age: Duration,
    /// Proofs may come unsealed.
    pub plain_proofs: bool,
    /// Its erasures wait for an approval, whether they ask for it or not.
    pub needs_approval: bool,
}

/// Why a message is not believed: a word for the metric, and a sentence for its sender.
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

/// A message as far as its sender is concerned.
struct Sent<'a> {
    key: &'a JobKey,
    names_itself: bool,
    properties: &'a Properties,
    body: &'a [u8],
    /// The age of the signature counts.
    is_first: bool,
}

impl Engine {
    /// A publisher's message becomes a job, or one of ours becomes it again.
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
            // Nobody's job: the parser says what is missing.
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

    /// Opens the sealed proofs, reads the job, and compares its systems with the tenant's.
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
            // An earlier release refused less, and what it has accepted goes on.
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

    /// True where this very person's job was accepted under this id.
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
                // It opened when the job was accepted: a key is missing here, not at the publisher.
                Err(error) if !from_publisher => Err(refuse(Reason::Unopenable, path, error.to_string())),
                Err(error) => Err(refuse(Reason::Invalid, path, error.to_string())),
            }
        })
    }

    /// The open job that was made of these bytes here before, with its run and the number of this copy. The
    /// message itself is not read for it. Every job is looked at: it is asked of hardly any message.
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

    /// True where this very message was accepted before: it was checked then.
    fn is_known(&self, key: &JobKey, body: &[u8]) -> Result<bool, JournalError> {
        let same = |stored: &[u8]| self.keyring.matches_digest(BODY, body, stored) == Some(true);
        // A record that cannot be decoded is no reason to turn anybody away; opening deals with it.
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

    /// The tenant is known, and the message is from it.
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
            // The body is the same for every message_id, so that only the signature can tie them.
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

    /// A cancellation from somebody who may not send it: it is counted, and its sender is told.
    /// `true`: it may be carried out. The age of its signature is of no account: it can only be
    /// said again, and the stream is read from its beginning where a store was lost.
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
        tracing::warn!(job = %cancel.key, detail = %refusal.invalid, "a cancellation is not believed");
        let frame = Frame { environment: &self.accepts.environment, traceparent: None, now: self.now() };
        let sha256 = envelope::body_sha256(&control.body);
        let event = event::cancel_unauthorised(&frame, &cancel.key, &refusal.invalid.to_string(), &sha256);
        self.owe(batch, &cancel.key, &event);
        false
    }

    /// What is to be said of a message that was sent as a cancellation and is none; and the job that it cancels
    /// all the same.
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

    /// How many messages were not believed.
    pub fn unauthorised(&self) -> u64 {
        self.figures.unauthorised.load(Ordering::Relaxed)
    }
}

/// The type that RabbitMQ 4 gives to what a publisher of AMQP 1.0 sent as a value or a sequence: its
/// body is then that value with AMQP's own types in it.
const AMQP_VALUE: &str = "amqp-1.0";

/// Says what to do where a publisher's library put the body into the wrong section.
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
