//! `/v1/codes/{code}`: the meaning of a code and its remedy, from the runbook of this release.
//!
//! The rule it keeps: every code has a section in the runbook; a test checks it.

use axum::Json;
use axum::extract::Path;
use serde_json::{Value, json};

use super::problem::{Kind, Problem};
use crate::job::Reason;

const RUNBOOK: &str = include_str!("../../docs/runbook.md");

/// The text below a code's heading.
fn section(reason: Reason) -> &'static str {
    let heading = format!("\n## {} {}\n", reason.code(), reason.as_str());
    let below = RUNBOOK.split_once(&heading).map_or("", |(_, below)| below);
    below.split_once("\n## ").map_or(below, |(text, _)| text).trim()
}

pub(super) async fn show(Path(code): Path<String>) -> Result<Json<Value>, Problem> {
    let reason =
        Reason::ALL.iter().find(|reason| reason.code().eq_ignore_ascii_case(&code)).ok_or(Kind::UnknownCode)?;
    Ok(Json(json!({
        "code": reason.code(), "reason": reason.as_str(), "sentence": reason.sentence(),
        "retry": reason.retry().as_str(), "runbook": reason.runbook(), "text": section(*reason),
    })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_exactly_one_section() {
        for reason in Reason::ALL {
            let text = section(*reason);
            assert!(text.starts_with("**Symptom.**") && text.contains("**Do.**"), "{reason}: {text}");
            assert_eq!(text.matches("**Symptom.**").count(), 1, "{reason}");
        }
    }
}
