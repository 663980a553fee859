//! The audit pack of a privacy officer: files with one signature over all of them.
//!
//! The rule it keeps: its tables are made from its receipts alone, so that everyone who checks the receipts can make
//! the tables again and compare.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::chain::{Checker, FaultKind};
use super::claims::{Head, Origin};
use super::{CHECKPOINT, PACK, digest, keys};

/// The name of the format.
pub const FORMAT: &str = "erasure.audit-pack/v1";
/// The signed file.
pub const MANIFEST: &str = "manifest.json";
/// The detached signature.
pub const SIGNATURE: &str = "manifest.jws";
/// One line for each request: its time and due time, the pseudonym, the end and its time.
pub const LOG: &str = "log.csv";
/// One line for each target: outcome and reason, and the data that the platform keeps, with the reason.
pub const TARGETS: &str = "targets.csv";
/// The receipts in chain order, one a line, after the checkpoint if there is one.
pub const RECEIPTS: &str = "receipts.jws";
/// The public keys as a JWK set.
pub const KEYS: &str = "keys.json";

/// All the files of a pack.
pub const FILES: [&str; 6] = [MANIFEST, SIGNATURE, LOG, TARGETS, RECEIPTS, KEYS];

/// A pack: names of files and their text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pack(pub BTreeMap<String, String>);

/// The content of a pack.
#[derive(Debug)]
pub struct Content<'a> {
    /// The issuer.
    pub origin: &'a Origin,
    /// The time, RFC 3339.
    pub made_at: String,
    /// The requested span, RFC 3339.
    pub span: (Option<String>, Option<String>),
    /// The public keys as a JWK set.
    pub keys: &'a Value,
    /// The checkpoint, if retention removed links.
    pub checkpoint: Option<&'a str>,
    /// The receipts by number, without a gap.
    pub receipts: &'a [(u64, String)],
    /// The chain's last link at that time.
    pub head: Option<&'a Head>,
}

impl Pack {
    /// Makes a pack; `sign` makes the detached signature.
    pub fn make(content: &Content<'_>, sign: impl FnOnce(&str, &[u8]) -> String) -> Pack {
        let mut files = BTreeMap::new();
        let said: Vec<Map<String, Value>> =
            content.receipts.iter().filter_map(|(_, token)| keys::claimed(token)).collect();
        files.insert(LOG.to_owned(), log(&said));
        files.insert(TARGETS.to_owned(), targets(&said));
        files.insert(KEYS.to_owned(), format!("{:#}\n", content.keys));
        let tokens = content.checkpoint.into_iter().chain(content.receipts.iter().map(|(_, token)| token.as_str()));
        files.insert(RECEIPTS.to_owned(), tokens.flat_map(|token| [token, "\n"]).collect());
        let digests: Map<String, Value> =
            files.iter().map(|(name, text)| (name.clone(), digest::sha256(text.as_bytes()).into())).collect();
        let manifest = json!({
            "format": FORMAT, "worker": content.origin.worker, "worker_version": content.origin.worker_version,
            "environment": content.origin.environment, "made_at": content.made_at,
            "from": content.span.0, "to": content.span.1,
            "chain": content.head.map(|head| head.chain.to_string()),
            "first": content.receipts.first().map(|(number, _)| number),
            "last": content.receipts.last().map(|(number, _)| number),
            "receipts": content.receipts.len(),
            "head": content.head.map(|head| json!({ "number": head.number, "sha256": head.sha256 })),
            "sha256": digests,
        });
        let manifest = format!("{manifest:#}\n");
        files.insert(SIGNATURE.to_owned(), sign(PACK, manifest.as_bytes()) + "\n");
        files.insert(MANIFEST.to_owned(), manifest);
        Pack(files)
    }

    /// The pack as one JSON document.
    pub fn to_json(&self) -> Value {
        json!({ "format": FORMAT, "files": self.0 })
    }

    /// Decodes the JSON of [`Pack::to_json`]; `None` for anything else.
    pub fn from_json(value: &Value) -> Option<Pack> {
        (value.get("format")?.as_str()? == FORMAT).then_some(())?;
        let files = value.get("files")?.as_object()?;
        let text = |(name, text): (&String, &Value)| Some((name.clone(), text.as_str()?.to_owned()));
        files.iter().map(text).collect::<Option<_>>().map(Pack)
    }

    /// Checks the signature, each file's digest, the receipts and their order, and that the tables match the
    /// receipts.
    pub fn check(&self, place: &str, checker: &mut Checker<'_>) {
        let named = |name: &str| format!("{place}:{name}");
        let file = |name: &str| self.0.get(name).map_or("", String::as_str);
        let signature = checker.keys().check_detached(PACK, file(SIGNATURE).trim_end(), file(MANIFEST).as_bytes());
        if let Err(error) = signature {
            checker.fault(FaultKind::Altered, &named(MANIFEST), format!("the manifest is not believed: {error}"));
        }
        let manifest: Value = serde_json::from_str(file(MANIFEST)).unwrap_or_default();
        let none = Map::new();
        let digests = manifest.get("sha256").and_then(Value::as_object).unwrap_or(&none);
        for name in [LOG, TARGETS, RECEIPTS, KEYS] {
            let stated = digests.get(name).and_then(Value::as_str);
            if stated != Some(&digest::sha256(file(name).as_bytes())) {
                checker.fault(FaultKind::Altered, &named(name), format!("{name} is not the file that was signed"));
            }
        }
        let number = |name: &str| manifest.get(name).and_then(Value::as_u64);
        let chain = manifest.get("chain").and_then(Value::as_str).and_then(|chain| Uuid::try_parse(chain).ok());
        if let (Some(chain), Some(first), Some(last)) = (chain, number("first"), number("last")) {
            checker.span(chain, first..=last);
        }
        let mut before = 0;
        let mut said = Vec::new();
        for (line, token) in file(RECEIPTS).lines().enumerate() {
            let place = format!("{}:{}", named(RECEIPTS), line + 1);
            if keys::typ(token).as_deref() == Some(CHECKPOINT) {
                checker.checkpoint(&place, token);
                continue;
            }
            let Some((chain, number, claims)) = checker.packed(&place, token) else { continue };
            if number <= before {
                checker.out_of_order(&place, (chain, number));
            }
            before = number;
            said.push(claims);
        }
        for (name, made) in [(LOG, log(&said)), (TARGETS, targets(&said))] {
            if file(name) != made {
                let detail = format!("{name} does not say what the receipts of the pack say");
                checker.fault(FaultKind::Contradicted, &named(name), detail);
            }
        }
    }
}

/// The log of requests and their ends.
pub fn log(receipts: &[Map<String, Value>]) -> String {
    const COLUMNS: [&str; 15] = [
        "number",
        "tenant",
        "job_id",
        "run",
        "subject_ref",
        "regulation",
        "requested_at",
        "due_at",
        "finished_at",
        "outcome",
        "reason",
        "partial",
        "targets",
        "commitment",
        "worker_version",
    ];
    let row = |receipt: &Map<String, Value>| {
        let targets = receipt.get("targets").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let ends: Vec<String> =
            targets.iter().map(|target| format!("{}={}", text(&target["system"]), text(&target["outcome"]))).collect();
        COLUMNS.map(|column| match column {
            "targets" => ends.join(" "),
            column => receipt.get(column).map_or_else(String::new, text),
        })
    };
    table(&COLUMNS, receipts.iter().map(row))
}

/// The targets of each request: outcome and reason, and the data that was kept, with the reason.
pub fn targets(receipts: &[Map<String, Value>]) -> String {
    const COLUMNS: [&str; 13] = [
        "number",
        "tenant",
        "job_id",
        "target",
        "system",
        "kind",
        "outcome",
        "reason",
        "code",
        "identity",
        "evidence_at",
        "evidence",
        "preserved",
    ];
    let rows = receipts.iter().flat_map(|receipt| {
        let targets = receipt.get("targets").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        targets.iter().map(move |target| {
            COLUMNS.map(|column| match column {
                "number" | "tenant" | "job_id" => receipt.get(column).map_or_else(String::new, text),
                "preserved" => {
                    let kept = target[column].as_array().map_or(&[][..], Vec::as_slice);
                    let kept: Vec<String> =
                        kept.iter().map(|kept| format!("{}={}", text(&kept["what"]), text(&kept["why"]))).collect();
                    kept.join(" ")
                }
                column => text(&target[column]),
            })
        })
    });
    table(&COLUMNS, rows)
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn table<const N: usize>(columns: &[&str; N], rows: impl Iterator<Item = [String; N]>) -> String {
    let mut writer = csv::Writer::from_writer(Vec::new());
    // Writing to memory cannot fail.
    let _ = writer.write_record(columns);
    for row in rows {
        let _ = writer.write_record(&row);
    }
    String::from_utf8(writer.into_inner().unwrap_or_default()).unwrap_or_default()
}
