//! The keys of each table of a connector file.
//!
//! The rule it keeps: the reader and the JSON Schema have the same keys.

pub(crate) const FILE: &[&str] = &[
    "format",
    "name",
    "outcome",
    "sources",
    "settings",
    "secrets",
    "identifiers",
    "proofs",
    "http",
    "limits",
    "preserved",
    "probe",
    "read",
    "act",
    "example",
];
pub(crate) const HTTP: &[&str] =
    &["base", "basic", "bearer", "headers", "secrets_in_address", "identifiers_in_address"];
pub(crate) const IDENTIFIER: &[&str] = &["type", "required"];
pub(crate) const PROBE: &[&str] = &["get", "post", "query", "headers", "json", "form", "endpoint", "reads_only", "ok"];
pub(crate) const READ: &[&str] = &[
    "get",
    "post",
    "query",
    "headers",
    "json",
    "form",
    "endpoint",
    "reads_only",
    "unchecked",
    "same_as_asked",
    "answers",
];
pub(crate) const READ_ANSWER: &[&str] = &["when", "is", "reason", "same", "take", "complete"];
pub(crate) const ACT: &[&str] = &[
    "name", "post", "put", "patch", "delete", "query", "headers", "json", "form", "endpoint", "each", "proof",
    "answers", "lost", "evidence",
];
pub(crate) const ACT_ANSWER: &[&str] = &["when", "is", "reason", "take"];
pub(crate) const MATCHER: &[&str] =
    &["status", "header", "empty", "at", "is", "in", "type", "count", "has", "begins", "exists", "all", "any"];
pub(crate) const LOST: &[&str] = &["read", "expect", "recognised", "harmless", "unproven", "because"];
pub(crate) const EVIDENCE: &[&str] =
    &["read", "expect", "first", "longest", "for", "answer", "declared", "unproven", "because"];
pub(crate) const EXAMPLE: &[&str] = &["of", "is", "status", "headers", "identifiers", "body"];

/// Every table with its name in the JSON Schema.
#[cfg(test)]
pub(crate) const TABLES: [(&str, &[&str]); 12] = [
    ("file", FILE),
    ("http", HTTP),
    ("identifier", IDENTIFIER),
    ("probe", PROBE),
    ("read", READ),
    ("read_answer", READ_ANSWER),
    ("act", ACT),
    ("act_answer", ACT_ANSWER),
    ("matcher", MATCHER),
    ("lost", LOST),
    ("evidence", EVIDENCE),
    ("example", EXAMPLE),
];
