//! A publisher's cancellation.
//!
//! The rule it keeps: it names one job of one tenant, and nothing more. If it has more or another form, the fault is
//! reported, but the job is still cancelled: to stop is the harmless direction.

use uuid::Uuid;

use super::cursor::{Invalid, Node, Object};
use super::model::JobKey;
use super::{field, parse};

/// The job to cancel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cancel {
    /// Tenant and id.
    pub key: JobKey,
}

impl Cancel {
    /// The schema's name.
    pub const SCHEMA: &'static str = "erasure.cancel/v1";

    /// Parses a message body: `schema`, `job_id`, and `tenant` (default `default`).
    pub fn parse(body: &[u8]) -> Result<Cancel, Invalid> {
        let node = parse::read(body)?;
        let mut object = Object::open(&node, "")?;
        let schema = object.need_text("schema")?;
        if schema != Self::SCHEMA {
            return Err(Invalid::at("schema", format!("expected {}", Self::SCHEMA)));
        }
        let tenant = field::name(&mut object, "tenant")?.unwrap_or("default").to_owned();
        let job_id: Uuid = field::uuid(object.need_text("job_id")?, "job_id")?;
        object.finish()?;
        Ok(Cancel { key: JobKey { tenant, job_id } })
    }

    /// The job that an invalid cancellation certainly names: the message says that it is a cancellation, and has a
    /// UUID in any form and a tenant's name or none. All other fields are ignored.
    pub fn certain(body: &[u8]) -> Option<Cancel> {
        let body = amqp_value(body).unwrap_or(body);
        parse::sized(body.len() as u64).ok()?;
        let Node::Object(fields) = Node::parse_any(body).ok()? else { return None };
        // A field that appears twice must have one value.
        let said = |name: &str| -> Option<Option<&str>> {
            let mut said = None;
            for (_, node) in fields.iter().filter(|(field, _)| field == name) {
                let Node::Text(text) = node else { return None };
                if said.is_some_and(|before| before != text.as_str()) {
                    return None;
                }
                said = Some(text.as_str());
            }
            Some(said)
        };
        let job_id = Uuid::try_parse(said("job_id")??.trim()).ok()?;
        let tenant = said("tenant")?.unwrap_or("default");
        let is_cancel = said("schema")?? == Self::SCHEMA;
        let key = JobKey { tenant: tenant.to_owned(), job_id };
        (is_cancel && field::is_name(tenant)).then_some(Cancel { key })
    }
}

/// The text or bytes in an AMQP 1.0 value, as RabbitMQ gives it to an AMQP 0-9-1 consumer, if a publisher's library
/// put the body into a value section.
fn amqp_value(body: &[u8]) -> Option<&[u8]> {
    let (kind, rest) = body.strip_prefix(&[0x00, 0x53, 0x77])?.split_first()?;
    let (length, value) = match kind {
        // Up to 255 bytes; longer ones below.
        0xa0 | 0xa1 => rest.split_first().map(|(length, value)| (usize::from(*length), value))?,
        0xb0 | 0xb1 => {
            let (length, value) = rest.split_first_chunk()?;
            (usize::try_from(u32::from_be_bytes(*length)).ok()?, value)
        }
        _ => return None,
    };
    (value.len() == length).then_some(value)
}
