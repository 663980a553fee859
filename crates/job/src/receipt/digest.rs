//! The two digests in a receipt: of a target's evidence, and of the person's identities.
//!
//! The rule it keeps: everyone with the event, or with the salt and the job, can compute both again, in any language,
//! by `docs/receipts.md`.

use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

/// The name of the commitment's construction; part of the bytes.
const COMMITMENT: &str = "erasure.commitment/v1";
/// The name of the evidence's construction; part of the bytes.
const EVIDENCE: &str = "erasure.evidence/v1";

/// SHA-256 as 64 lower-case hexadecimal digits.
pub fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// The commitment to the canonical identity bytes of a job, under the publisher's salt.
///
/// SHA-256 over fields, each a name and a value, each of these behind its length in eight bytes,
/// big-endian: first the name of the construction with the salt, then the identity fields.
pub fn commitment(salt: &[u8], identity: &[u8]) -> String {
    let mut hash = Sha256::new();
    for part in [COMMITMENT.as_bytes(), salt] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.update(identity);
    hex::encode(hash.finalize())
}

/// The digest of an event's data about one target: SHA-256 over lines of cells separated by tabs, each line ended by
/// a line feed. The lines: the construction; target, system, kind, outcome, identity; then each step's name, outcome,
/// count and time, in the event's order.
pub fn evidence(target: &Map<String, Value>) -> String {
    let mut text = format!("{EVIDENCE}\n");
    let mut line = |of: &Map<String, Value>, names: &[&str]| {
        let cells: Vec<String> = names.iter().map(|name| cell(of.get(*name))).collect();
        text.push_str(&cells.join("\t"));
        text.push('\n');
    };
    line(target, &["target", "system", "kind", "outcome", "identity"]);
    for step in steps(target) {
        line(step, &["step", "outcome", "count", "at"]);
    }
    sha256(text.as_bytes())
}

/// The steps of a target in an event.
pub fn steps(target: &Map<String, Value>) -> impl Iterator<Item = &Map<String, Value>> {
    target.get("steps").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_object)
}

fn cell(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commitment_depends_on_salt_and_identity_and_on_where_one_ends() {
        let made = commitment(b"salt", b"identity");
        assert_eq!(made, commitment(b"salt", b"identity"));
        for (salt, identity) in [(&b"salu"[..], &b"identity"[..]), (b"salt", b"identitz"), (b"salti", b"dentity")] {
            assert_ne!(made, commitment(salt, identity));
        }
    }

    #[test]
    fn evidence_is_the_documented_text() {
        let target = serde_json::json!({
            "target": 0, "system": "cleeng", "kind": "cleeng", "outcome": "anonymised", "identity": "checked",
            "steps": [{ "step": "delete_customer", "outcome": "anonymised", "count": 1, "at": "2026-11-22T10:00:00.000Z" }],
            "error": null,
        });
        let text = "erasure.evidence/v1\n0\tcleeng\tcleeng\tanonymised\tchecked\n\
                    delete_customer\tanonymised\t1\t2026-11-22T10:00:00.000Z\n";
        assert_eq!(evidence(target.as_object().unwrap()), sha256(text.as_bytes()));
    }
}
