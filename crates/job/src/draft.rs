//! A message before it is a job: its claims are known, and none of them is checked yet.
//!
//! The rule it keeps: a message's sender can be checked before anything in it is opened. A sealed proof is opened
//! before the job is read, so that the job is the same as with the plain proof.

use uuid::Uuid;
use zeroize::Zeroizing;

use super::cursor::{Forms, Invalid, Node, shown};
use super::field::{is_name, uuid, uuid_of_property};
use super::model::{Job, JobKey};
use super::outcome::Reason;
use super::parse::{self, Accepts, Refusal, whole};

/// The fields of a target that prove something and may be sealed.
pub const PROOFS: [&str; 5] = ["customer_password", "current_password", "access_token", "customer_token", "code"];

/// A message that is JSON and not yet a job. The job that it claims to be is known but not checked, and sealed proofs
/// can still be opened in place.
pub struct Draft {
    node: Node,
    fallback: Option<Uuid>,
    key: Option<JobKey>,
}

impl Draft {
    /// Reads a body as JSON.
    pub fn read(body: &[u8], message_id: Option<&str>) -> Result<Draft, Refusal> {
        let fallback = message_id.and_then(uuid_of_property);
        let refuse = |invalid, key| Refusal { reason: Reason::Invalid, invalid, key };
        let node = parse::sized(body.len() as u64).and_then(|()| Node::parse_any(body));
        let node = node.map_err(|invalid| Draft::unread(invalid, message_id))?;
        let key = peek_key(&node, fallback);
        node.refuse_duplicates().map_err(|invalid| refuse(invalid, key.clone()))?;
        Ok(Draft { node, fallback, key })
    }

    /// The refusal of a message whose body was not read: at most its `message_id` is known.
    pub fn unread(invalid: Invalid, message_id: Option<&str>) -> Refusal {
        let key = message_id.and_then(uuid_of_property);
        let key = key.map(|job_id| JobKey { tenant: "default".to_owned(), job_id });
        Refusal { reason: Reason::Invalid, invalid, key }
    }

    /// The refusal of a body with this many bytes, of which not all are here.
    pub fn too_long(bytes: u64, message_id: Option<&str>) -> Option<Refusal> {
        parse::sized(bytes).err().map(|invalid| Draft::unread(invalid, message_id))
    }

    /// Tenant and id, as the message has them; `None` if it can be no job.
    pub fn key(&self) -> Option<&JobKey> {
        self.key.as_ref()
    }

    /// True if the body itself names the job; otherwise `message_id` did.
    pub fn names_itself(&self) -> bool {
        matches!(&self.node, Node::Object(fields) if fields.iter().any(|(name, _)| name == "job_id"))
    }

    /// Gives each proof's path and text to `open`, which may return another text to use instead.
    pub fn open_proofs<E>(
        &mut self,
        mut open: impl FnMut(&str, &str) -> Result<Option<Zeroizing<String>>, E>,
    ) -> Result<(), E> {
        let Node::Object(fields) = &mut self.node else { return Ok(()) };
        for (_, targets) in fields.iter_mut().filter(|(name, _)| name == "targets") {
            let Node::List(targets) = targets else { continue };
            for (index, target) in targets.iter_mut().enumerate() {
                let Node::Object(fields) = target else { continue };
                for (name, node) in fields.iter_mut() {
                    match node {
                        Node::Text(text) if PROOFS.contains(&name.as_str()) => {
                            if let Some(opened) = open(&format!("targets[{index}].{name}"), text)? {
                                *text = opened;
                            }
                        }
                        // A connector's.
                        Node::Object(proofs) if name == "proofs" => {
                            for (name, node) in proofs {
                                let Node::Text(text) = node else { continue };
                                if let Some(opened) = open(&format!("targets[{index}].proofs.{}", shown(name)), text)? {
                                    *text = opened;
                                }
                            }
                        }
                        _ => {}
                    }
                }
            }
        }
        Ok(())
    }

    /// The job, if the message is one.
    pub fn job(&self, accepts: &Accepts) -> Result<Job, Refusal> {
        self.job_of(accepts, Forms::Todays)
    }

    /// The job of a message that was accepted before, perhaps by an earlier release with fewer rules.
    pub fn accepted_job(&self, accepts: &Accepts) -> Result<Job, Refusal> {
        self.job_of(accepts, Forms::AnyReleases)
    }

    fn job_of(&self, accepts: &Accepts, forms: Forms) -> Result<Job, Refusal> {
        let refuse = |reason, invalid, key| Refusal { reason, invalid, key };
        let key = self.key.clone();
        let job = whole(&self.node, self.fallback, accepts, forms)
            .map_err(|invalid| refuse(Reason::Invalid, invalid, key))?;
        if job.environment != accepts.environment {
            let expected = format!("expected {}, this worker's environment", accepts.environment);
            let invalid = Invalid::at("environment", expected);
            return Err(refuse(Reason::WrongEnvironment, invalid, Some(job.key)));
        }
        Ok(job)
    }
}

/// Tenant and id of a body that may have faults elsewhere.
fn peek_key(node: &Node, fallback: Option<Uuid>) -> Option<JobKey> {
    let Node::Object(fields) = node else { return fallback.map(|job_id| JobKey { tenant: "default".into(), job_id }) };
    let text = |name: &str| {
        fields.iter().find(|(field, _)| field == name).and_then(|(_, node)| match node {
            Node::Text(text) => Some(text.as_str()),
            _ => None,
        })
    };
    let job_id = text("job_id").and_then(|id| uuid(id, "job_id").ok()).or(fallback)?;
    let tenant = text("tenant").filter(|tenant| is_name(tenant)).unwrap_or("default").to_owned();
    Some(JobKey { tenant, job_id })
}

/// Parses a message. `message_id` is the job id if the body has no `job_id`.
pub fn job(body: &[u8], message_id: Option<&str>, accepts: &Accepts) -> Result<Job, Refusal> {
    Draft::read(body, message_id)?.job(accepts)
}

/// As [`job`], for a message that was accepted before, perhaps by an earlier release with fewer rules.
///
/// # Errors
/// It is no job.
pub fn accepted_job(body: &[u8], message_id: Option<&str>, accepts: &Accepts) -> Result<Job, Refusal> {
    Draft::read(body, message_id)?.accepted_job(accepts)
}
