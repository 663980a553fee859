//! From a message body to a [`Job`]: every limit, every required field, every exact error.
//!
//! The rule it keeps: a misspelt or surplus field must never mean "erase less", so it is refused.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::{ExposeSecret, SecretString};
use uuid::Uuid;

pub use super::cursor::Invalid;
use super::cursor::{Forms, Node, Object};
use super::draft::Draft;
use super::due::Term;
pub use super::field::is_name;
use super::field::{
    MAX_PROOF, customer_id, email, identifier, is_customer_id, name, need, secret, time, time_and_offset, token, uuid,
};
use super::flow::Rules;
use super::identifier::MAX_IDENTIFIER;
use super::model::{Approval, Code, Confirmation, Field, Job, JobKey, Kind, Member, MemberKey, Mode, Spec, Target};
use super::outcome::Reason;

/// What this worker accepts.
#[derive(Debug, Clone, Default)]
pub struct Accepts {
    /// The worker's environment.
    pub environment: String,
    /// The configured systems by name.
    pub systems: BTreeMap<String, Rules>,
    /// Laws configured beside those that are always known, or with other holidays than those.
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
/// The most codes in a target.
pub const MAX_CODES: usize = 10_000;

/// A body that is not a valid job, with what is known of it all the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// `invalid` or `wrong_environment`.
    pub reason: Reason,
    /// What is wrong.
    pub invalid: Invalid,
    /// Tenant and id, where both could be read.
    pub key: Option<JobKey>,
}

/// Parses a message. `message_id` serves where the body has no `job_id`.
pub fn job(body: &[u8], message_id: Option<&str>, accepts: &Accepts) -> Result<Job, Refusal> {
    Draft::read(body, message_id)?.job(accepts)
}

/// As [`job`], of a message that was accepted before, maybe by an earlier release: one that refused less.
///
/// # Errors
/// Where it is no job.
pub fn accepted_job(body: &[u8], message_id: Option<&str>, accepts: &Accepts) -> Result<Job, Refusal> {
    Draft::read(body, message_id)?.accepted_job(accepts)
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
    let spec = match rules.kind {
        Kind::Cleeng => cleeng(&mut object)?,
        Kind::ZetaLoyalty => loyalty(&mut object, rules)?,
        Kind::EasyCms => Spec::EasyCms {
            email: need(email(&mut object, "email")?, &object, "email")?,
            customer_password: secret(&mut object, "customer_password", MAX_PROOF)?,
        },
        Kind::VitalSource => vitalsource(&mut object)?,
    };
    object.finish()?;
    Ok(Target { system, kind: rules.kind, confirmation, spec })
}

fn cleeng(object: &mut Object<'_>) -> Result<Spec, Invalid> {
    match object.need_text("flow")? {
        "backend" => {
            let customer_id = need(customer_id(object, "customer_id")?, object, "customer_id")?;
            let customer_email = need(email(object, "customer_email")?, object, "customer_email")?;
            Ok(Spec::CleengBackend { customer_id, customer_email })
        }
        "mediastore" => {
            let token = object.need_text("customer_token")?;
            let customer_id = jwt_customer(token).ok_or_else(|| {
                Invalid::at(
                    object.path_of("customer_token"),
                    "expected a JWT whose customerId claim is a string of digits",
                )
            })?;
            let customer_email = need(email(object, "customer_email")?, object, "customer_email")?;
            Ok(Spec::CleengMediastore { customer_token: token.into(), customer_id, customer_email })
        }
        _ => Err(Invalid::at(object.path_of("flow"), "expected backend or mediastore")),
    }
}

/// The `customerId` claim of a JWT, unverified: MediaStore verifies the token, we only need to
/// know whom it names before the first destructive call.
fn jwt_customer(token: &str) -> Option<SecretString> {
    if token.len() > MAX_PROOF || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return None;
    }
    let mut parts = token.split('.');
    let (_, payload, _, None) = (parts.next()?, parts.next()?, parts.next()?, parts.next()) else { return None };
    let payload = zeroize::Zeroizing::new(URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).ok()?);
    let Node::Object(claims) = Node::parse(&payload).ok()? else { return None };
    let (_, claim) = claims.iter().find(|(name, _)| name == "customerId")?;
    let digits = match claim {
        Node::Text(text) => text.to_string(),
        Node::Number(number) => number.to_string(),
        _ => return None,
    };
    is_customer_id(&digits).then(|| digits.into())
}

fn loyalty(object: &mut Object<'_>, rules: &Rules) -> Result<Spec, Invalid> {
    const IDS: [MemberKey; 4] =
        [MemberKey::MemberId, MemberKey::IntegrationId, MemberKey::CardId, MemberKey::DatabaseId];
    match object.need_text("method")? {
        "program_api" => Ok(Spec::LoyaltyProgram { member: need_member(object, &IDS)? }),
        "manual" => Ok(Spec::LoyaltyManual { member: need_member(object, &IDS)? }),
        "import" => {
            let keys = [MemberKey::IntegrationId, MemberKey::MemberId, MemberKey::Email];
            let member = need_member(object, &keys)?;
            match rules.import_key {
                None => Err(Invalid::at(
                    object.path_of("method"),
                    "import is not configured for this system; expected program_api, member_api or manual",
                )),
                Some(key) if key != member.key => Err(Invalid::at(
                    object.path_of("member"),
                    format!("expected {}, the key of this system's import file", key.as_str()),
                )),
                Some(_) => Ok(Spec::LoyaltyImport { member }),
            }
        }
        "member_api" => {
            let access_token = token(object, "access_token")?;
            let member = member(object, &IDS)?;
            if access_token.is_none() && member.is_none() {
                return Err(Invalid::at(
                    object.path_of("access_token"),
                    "is missing; expected access_token, member or both",
                ));
            }
            let current_password = secret(object, "current_password", MAX_PROOF)?;
            let code = secret(object, "code", MAX_IDENTIFIER)?;
            Ok(Spec::LoyaltyMember { access_token, member, current_password, code })
        }
        _ => Err(Invalid::at(object.path_of("method"), "expected program_api, member_api, import or manual")),
    }
}

fn need_member(object: &mut Object<'_>, keys: &[MemberKey]) -> Result<Member, Invalid> {
    member(object, keys)?.ok_or_else(|| object.missing("member"))
}

fn member(object: &mut Object<'_>, keys: &[MemberKey]) -> Result<Option<Member>, Invalid> {
    let path = object.path_of("member");
    let Some(node) = object.take("member") else { return Ok(None) };
    let mut inner = object.within(node, path.clone())?;
    let mut found = Vec::new();
    for key in MemberKey::ALL.into_iter().filter(|key| keys.contains(key)) {
        let value =
            if key == MemberKey::Email { email(&mut inner, "email")? } else { identifier(&mut inner, key.as_str())? };
        if let Some(value) = value {
            found.push(Member { key, value });
        }
    }
    inner.finish()?;
    match (found.pop(), found.is_empty()) {
        (Some(member), true) => Ok(Some(member)),
        _ => {
            let names: Vec<_> = keys.iter().map(|key| key.as_str()).collect();
            Err(Invalid::at(path, format!("expected exactly one of {}", names.join(", "))))
        }
    }
}

fn vitalsource(object: &mut Object<'_>) -> Result<Spec, Invalid> {
    let guid = identifier(object, "guid")?;
    let reference = identifier(object, "reference")?;
    if guid.is_none() && reference.is_none() {
        return Err(Invalid::at(object.path_of("guid"), "is missing; expected guid, reference or both"));
    }
    let path = object.path_of("codes");
    let items = object.list("codes")?.unwrap_or_default();
    if items.len() > MAX_CODES {
        return Err(Invalid::at(path, format!("has {} entries; expected at most {MAX_CODES}", items.len())));
    }
    let mut codes: Vec<Code> = Vec::with_capacity(items.len());
    for (index, node) in items.iter().enumerate() {
        let path = format!("{path}[{index}]");
        let mut inner = object.within(node, path.clone())?;
        let code = need(identifier(&mut inner, "code")?, &inner, "code")?;
        let redeemed_at = time(&mut inner, "redeemed_at")?;
        let percent_read = inner.number("percent_read")?;
        if percent_read.is_some_and(|percent| !(0.0..=100.0).contains(&percent)) {
            return Err(Invalid::at(inner.path_of("percent_read"), "expected a number from 0 to 100"));
        }
        inner.finish()?;
        codes.push(Code { code, redeemed_at, percent_read });
    }
    let mut seen = HashSet::with_capacity(codes.len());
    if let Some(twice) = codes.iter().position(|code| !seen.insert(code.code.expose_secret())) {
        return Err(Invalid::at(format!("{path}[{twice}].code"), "appears twice; expected each code once"));
    }
    let mut overwrite = BTreeSet::new();
    let path = object.path_of("overwrite");
    for (index, node) in object.list("overwrite")?.unwrap_or_default().iter().enumerate() {
        let field = match node {
            Node::Text(text) => Field::ALL.into_iter().find(|field| field.as_str() == text.as_str()),
            _ => None,
        };
        let names: Vec<_> = Field::ALL.iter().map(|field| field.as_str()).collect();
        overwrite.insert(
            field.ok_or_else(|| {
                Invalid::at(format!("{path}[{index}]"), format!("expected one of {}", names.join(", ")))
            })?,
        );
    }
    Ok(Spec::VitalSource { guid, reference, codes, overwrite })
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
