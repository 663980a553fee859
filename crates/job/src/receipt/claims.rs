//! A receipt's content: its place in the chain, and the final event's data, field by field.
//!
//! The rule it keeps: every claim about the job is copied from the event's data, so that the two cannot differ, and
//! no identifier can enter.

use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::{NEW_STORE, VERSION, digest};

/// The fields that are copied unchanged from the event's data.
const COPIED: [&str; 10] = [
    "tenant",
    "job_id",
    "run",
    "subject_ref",
    "regulation",
    "outcome",
    "partial",
    "requested_at",
    "due_at",
    "finished_at",
];
/// The fields about a refused message.
const REFUSED: [&str; 3] = ["reason", "code", "body_sha256"];
/// The fields about each target.
const TARGET: [&str; 10] =
    ["target", "system", "kind", "outcome", "identity", "reason", "code", "evidence", "evidence_at", "preserved"];

/// The issuer of receipts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The worker's stable name: it names the chain for people.
    pub worker: String,
    /// `sandbox`, `staging` or `production`.
    pub environment: String,
    /// The release that wrote the receipt.
    pub worker_version: String,
}

/// The last link of a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The chain: one for each store, random.
    pub chain: Uuid,
    /// The link's number, from 1.
    pub number: u64,
    /// SHA-256 of the receipt as it was signed, in hexadecimal digits.
    pub sha256: String,
}

impl Head {
    /// The head's bytes in the store.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = self.chain.as_bytes().to_vec();
        bytes.extend_from_slice(&self.number.to_be_bytes());
        bytes.extend_from_slice(self.sha256.as_bytes());
        bytes
    }

    /// Decodes the bytes of [`Head::to_bytes`]; `None` if they are no head.
    pub fn from_bytes(bytes: &[u8]) -> Option<Head> {
        let chain = Uuid::from_slice(bytes.get(..16)?).ok()?;
        let number = u64::from_be_bytes(bytes.get(16..24)?.try_into().ok()?);
        let sha256 = std::str::from_utf8(bytes.get(24..)?).ok()?;
        (sha256.len() == 64).then(|| Head { chain, number, sha256: sha256.to_owned() })
    }
}

/// The place of the next receipt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// The chain.
    pub chain: Uuid,
    /// The number.
    pub number: u64,
    /// SHA-256 of the previous receipt; `None` for the first.
    pub previous: Option<String>,
}

impl Link {
    /// The place after a head, or the beginning of a new chain.
    pub fn after(head: Option<&Head>, new_chain: impl FnOnce() -> Uuid) -> Link {
        match head {
            Some(head) => Link { chain: head.chain, number: head.number + 1, previous: Some(head.sha256.clone()) },
            None => Link { chain: new_chain(), number: 1, previous: None },
        }
    }

    /// The head after the signing of the receipt at this place.
    pub fn head(&self, receipt: &str) -> Head {
        Head { chain: self.chain, number: self.number, sha256: digest::sha256(receipt.as_bytes()) }
    }
}

/// The bytes to sign: the place in the chain, then the claims from the event's data.
pub fn payload(origin: &Origin, link: &Link, data: &Map<String, Value>, commitment: Option<String>) -> Vec<u8> {
    let mut receipt = Map::new();
    receipt.insert("version".into(), VERSION.into());
    receipt.insert("worker".into(), origin.worker.clone().into());
    receipt.insert("worker_version".into(), origin.worker_version.clone().into());
    receipt.insert("environment".into(), origin.environment.clone().into());
    receipt.insert("chain".into(), link.chain.to_string().into());
    receipt.insert("number".into(), link.number.into());
    receipt.insert("previous".into(), link.previous.clone().into());
    if link.previous.is_none() {
        receipt.insert("started".into(), NEW_STORE.into());
    }
    if let Some(commitment) = commitment {
        receipt.insert("commitment".into(), commitment.into());
    }
    receipt.extend(of(data));
    Value::Object(receipt).to_string().into_bytes()
}

/// A checkpoint: the last link that retention removed.
pub fn checkpoint(origin: &Origin, removed: &Head, at: &str) -> Vec<u8> {
    json!({
        "version": VERSION, "worker": origin.worker, "worker_version": origin.worker_version,
        "environment": origin.environment, "chain": removed.chain.to_string(),
        "through": removed.number, "sha256": removed.sha256, "at": at, "why": "retention",
    })
    .to_string()
    .into_bytes()
}

/// The claims from a final event's data.
pub fn of(data: &Map<String, Value>) -> Map<String, Value> {
    let copy = |name: &str| (name.to_owned(), data.get(name).cloned().unwrap_or(Value::Null));
    let mut claims: Map<String, Value> = COPIED.into_iter().map(copy).collect();
    let targets = data.get("targets").and_then(Value::as_array).into_iter().flatten();
    let error = |name: &str| data.get("error").and_then(|error| error.get(name));
    for (name, value) in REFUSED.into_iter().map(|name| (name, error(name).or_else(|| data.get(name)))) {
        if let Some(value) = value {
            claims.insert(name.into(), value.clone());
        }
    }
    // Only if one was needed, so that all other receipts keep their bytes.
    if let Some(approval) = data.get("approval") {
        claims.insert("approval".into(), approval.clone());
    }
    claims.insert("targets".into(), targets.filter_map(Value::as_object).map(target).collect());
    claims
}

fn target(target: &Map<String, Value>) -> Value {
    let copy = |name: &str| target.get(name).cloned().unwrap_or(Value::Null);
    let error = |name: &str| target.get("error").and_then(|error| error.get(name)).cloned().unwrap_or(Value::Null);
    let last = digest::steps(target).filter_map(|step| step.get("at").and_then(Value::as_str)).max();
    let kept = target.get("preserved").and_then(Value::as_array).into_iter().flatten();
    let preserved: Vec<Value> = kept.map(|what| json!({ "what": what, "why": KEPT_BY_PLATFORM })).collect();
    let mut claims = json!({
        "target": copy("target"), "system": copy("system"), "kind": copy("kind"), "outcome": copy("outcome"),
        "identity": copy("identity"), "reason": error("reason"), "code": error("code"),
        "evidence": digest::evidence(target), "evidence_at": last, "preserved": preserved,
    });
    // Only for a connector, so that all other receipts keep their bytes.
    if let (Some(claims), Some(connector)) = (claims.as_object_mut(), target.get("connector")) {
        claims.insert("connector".into(), connector.clone());
        claims.insert("declared".into(), (target.get("evidence") == Some(&"declared".into())).into());
    }
    claims
}

/// The claims about a target that only a connector's has: its file, and whether the vendor's word is all evidence.
const OF_CONNECTORS: [&str; 2] = ["connector", "declared"];

/// The reason why data was preserved: the platform keeps it when it deletes the person, by its operator's
/// configuration (`preserved`).
const KEPT_BY_PLATFORM: &str = "kept_by_platform";

/// The first claim about the job in which receipt and event differ; `None` if they agree.
pub fn contradiction(receipt: &Map<String, Value>, event: &Map<String, Value>) -> Option<&'static str> {
    let data = match event.get("data") {
        Some(Value::Object(data)) => data,
        _ => return Some("data"),
    };
    let said = |name: &str| receipt.get(name).and_then(Value::as_str).unwrap_or_default();
    let envelope = [
        ("type", format!("erasure.job.{}.v1", said("outcome"))),
        ("source", format!("/erasure-worker/{}/{}", said("environment"), said("tenant"))),
        ("subject", said("job_id").to_owned()),
    ];
    for (name, expected) in envelope {
        if event.get(name).and_then(Value::as_str) != Some(&expected) {
            return Some(name);
        }
    }
    let claims = of(data);
    if let Some(name) = COPIED.into_iter().chain(REFUSED).find(|name| receipt.get(*name) != claims.get(*name)) {
        return Some(name);
    }
    let targets = |of: &Map<String, Value>| of.get("targets").and_then(Value::as_array).cloned().unwrap_or_default();
    let (signed, stated) = (targets(receipt), targets(&claims));
    if signed.len() != stated.len() {
        return Some("targets");
    }
    let differing = |(signed, stated): (&Value, &Value)| {
        TARGET.into_iter().chain(OF_CONNECTORS).find(|name| signed.get(*name) != stated.get(*name))
    };
    signed.iter().zip(&stated).find_map(differing)
}
