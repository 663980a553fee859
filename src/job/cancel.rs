//! A cancellation as a publisher sends it.
//!
//! The rule it keeps: it names one job of one tenant, nothing more.

use uuid::Uuid;

use super::cursor::{Invalid, Object};
use super::model::JobKey;
use super::{field, parse};

/// The job to be cancelled.
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
}
