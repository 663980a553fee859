//! From a message body to a [`Job`]: every limit, every required field, every exact error.
//!
//! The rule it keeps: a misspelt or surplus field must never mean "erase less", so it is refused.

use std::collections::BTreeMap;

use uuid::Uuid;

pub use super::cursor::Invalid;
use super::cursor::{Forms, Node, Object};
use super::due::Term;
pub use super::field::is_name;
use super::field::{name, secret, time, time_and_offset, uuid};
use super::flow::Rules;
use super::identifier::MAX_IDENTIFIER;
pub use super::kinds::MAX_CODES;
use super::model::{Approval, Confirmation, Job, JobKey, Mode, Target};
use super::outcome::Reason;

/// The rules for jobs that this worker accepts.
#[derive(Debug, Clone, Default)]
pub struct Accepts {
    /// The worker's environment.
    pub environment: String,
    /// The configured systems by name.
    pub systems: BTreeMap<String, Rules>,
    /// Laws of the configuration: others than the built-in ones, or these with other holidays.
    pub regulations: BTreeMap<String, Term>,
}

impl Accepts {
    /// A law's term.
    pub fn term(&self, regulation: &str) -> Option<Term> {
        self.regulations.get(regulation).cloned().or_else(|| Term::built_in(regulation))
    }

    fn other_regulations(&self) -> impl Iterator<Item = &str> {
        self.regulations.keys().map(String::as_str).filter(|law| !REGULATIONS.contains(law))
    }
}

/// The laws that are always known.
pub const REGULATIONS: [&str; 3] = ["gdpr", "uk_gdpr", "ccpa"];
/// The schema's name.
pub const SCHEMA: &str = "erasure.job/v1";
/// The largest message in bytes.
pub const MAX_BODY: usize = 1024 * 1024;
/// The most targets in a job.
pub const MAX_TARGETS: usize = 64;
/// A body that is not a valid job, with its known parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// `invalid` or `wrong_environment`.
    pub reason: Reason,
    /// The fault.
    pub invalid: Invalid,
    /// Tenant and id, if both could be read.
    pub key: Option<JobKey>,
}

/// The JSON of a body that is not too large.
pub(super) fn read(body: &[u8]) -> Result<Node, Invalid> {
    sized(body.len() as u64)?;
    Node::parse(body)
}

pub(super) fn sized(bytes: u64) -> Result<(), Invalid> {
    if bytes > MAX_BODY as u64 {
        return Err(Invalid::at("body", format!("has {bytes} bytes; expected at most {MAX_BODY}")));
    }
    Ok(())
}

pub(super) fn whole(node: &Node, fallback: Option<Uuid>, accepts: &Accepts, forms: Forms) -> Result<Job, Invalid> {
    let mut object = Object::open_with(node, "", forms)?;
    if object.need_text("schema")? != SCHEMA {
        return Err(Invalid::at("schema", format!("expected {SCHEMA}")));
    }
    let job_id = match object.text("job_id")? {
        Some(id) => uuid(id, "job_id")?,
        None => fallback.ok_or_else(|| {
            Invalid::at("job_id", "is missing, and the AMQP message_id is no UUID; expected a UUID in either")
        })?,
    };
    let tenant = name(&mut object, "tenant")?.unwrap_or("default").to_owned();
    let environment = match object.text("environment")? {
        None => "production".to_owned(),
        Some(word @ ("sandbox" | "staging" | "production")) => word.to_owned(),
        Some(_) => return Err(Invalid::at("environment", "expected sandbox, staging or production")),
    };
    let mode = match object.text("mode")? {
        None | Some("erase") => Mode::Erase,
        Some("preview") => Mode::Preview,
        Some(_) => return Err(Invalid::at("mode", "expected erase or preview")),
    };
    let (requested_at, requested_offset) =
        time_and_offset(&mut object, "requested_at")?.ok_or_else(|| object.missing("requested_at"))?;
    let regulation = object.text("regulation")?.map(str::to_owned);
    if let Some(law) = &regulation
        && !REGULATIONS.contains(&law.as_str())
        && !accepts.regulations.contains_key(law)
    {
        let known: Vec<_> = REGULATIONS.into_iter().chain(accepts.other_regulations()).collect();
        return Err(Invalid::at("regulation", format!("expected one of {}", known.join(", "))));
    }
    let due_at = time(&mut object, "due_at")?.or_else(|| {
        let law = regulation.as_deref().filter(|_| mode == Mode::Erase)?;
        accepts.term(law)?.due(requested_at, requested_offset)
    });
    let confirmation = confirmation(&mut object)?;
    let approval = approval(&mut object)?;
    if approval.is_some() && mode == Mode::Preview {
        return Err(Invalid::at("approval", "is of no use with mode preview; expected mode erase"));
    }
    let receipt_salt = secret(&mut object, "receipt_salt", MAX_IDENTIFIER)?;
    let retry = object.boolean("retry")?.unwrap_or(false);
    if let Some(extensions) = object.take("extensions")
        && !matches!(extensions, Node::Object(_))
    {
        return Err(Invalid::at("extensions", "expected an object"));
    }
    let items = object.list("targets")?.ok_or_else(|| object.missing("targets"))?;
    object.finish()?;
    if items.is_empty() || items.len() > MAX_TARGETS {
        let expected = format!("has {} entries; expected 1 to {MAX_TARGETS}", items.len());
        return Err(Invalid::at("targets", expected));
    }
    let targets = items
        .iter()
        .enumerate()
        .map(|(index, node)| target(Object::open_with(node, format!("targets[{index}]"), forms)?, &accepts.systems))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(Job {
        key: JobKey { tenant, job_id },
        environment,
        mode,
        requested_at,
        regulation,
        due_at,
        confirmation,
        approval,
        receipt_salt,
        retry,
        targets,
    })
}

fn target(mut object: Object<'_>, systems: &BTreeMap<String, Rules>) -> Result<Target, Invalid> {
    let system = object.need_text("system")?.to_owned();
    let Some(rules) = systems.get(&system) else {
        let known: Vec<_> = systems.keys().map(String::as_str).collect();
        let expected = format!("is no configured system; expected one of {}", known.join(", "));
        return Err(Invalid::at(object.path_of("system"), expected));
    };
    let confirmation = confirmation(&mut object)?;
    let spec = (rules.kind.about().spec)(&mut object, rules)?;
    object.finish()?;
    Ok(Target { system, kind: rules.kind, confirmation, spec })
}

fn confirmation(object: &mut Object<'_>) -> Result<Option<Confirmation>, Invalid> {
    let path = object.path_of("confirmation");
    let Some(node) = object.take("confirmation") else { return Ok(None) };
    let mut inner = object.within(node, path)?;
    let confirmed_at = time(&mut inner, "confirmed_at")?.ok_or_else(|| inner.missing("confirmed_at"))?;
    let by = match inner.text("by")? {
        None | Some("subject") => "subject",
        Some("agent") => "agent",
        Some(_) => return Err(Invalid::at(inner.path_of("by"), "expected subject or agent")),
    };
    inner.finish()?;
    Ok(Some(Confirmation { confirmed_at, by: by.to_owned() }))
}

/// The longest name of an operator, in characters.
const LONGEST_OPERATOR: usize = 100;

fn approval(object: &mut Object<'_>) -> Result<Option<Approval>, Invalid> {
    let path = object.path_of("approval");
    let Some(node) = object.take("approval") else { return Ok(None) };
    let mut inner = object.within(node, path)?;
    let requested_by = inner.need_text("requested_by")?;
    let is_name = !requested_by.is_empty()
        && requested_by.trim() == requested_by
        && requested_by.chars().count() <= LONGEST_OPERATOR
        && !requested_by.chars().any(char::is_control);
    if !is_name {
        let expected = format!("expected a name of 1 to {LONGEST_OPERATOR} characters");
        return Err(Invalid::at(inner.path_of("requested_by"), expected));
    }
    inner.finish()?;
    Ok(Some(Approval { requested_by: requested_by.to_owned() }))
}
