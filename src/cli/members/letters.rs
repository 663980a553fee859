//! The dead letters of a tenant, for rows whose job the worker does not know.
//!
//! The rule it keeps: the queue is read once for all rows. Only a dead letter with a valid MAC of the worker
//! (`vouched`) decides about a row.

use std::collections::HashMap;

use serde_json::Value;
use uuid::Uuid;

use super::results::Outcome;
use crate::cli::print::list;
use crate::engine::operators::MAX_LETTERS;
use crate::ops::client::{ClientError, OpsApi};

/// A dead letter's outcome for its job.
#[derive(Debug, PartialEq, Eq)]
struct Letter {
    is_refused: bool,
    code: String,
    sentence: String,
}

/// The dead letters by job.
#[derive(Debug, Default)]
pub struct Letters {
    jobs: HashMap<Uuid, Letter>,
    /// True if the queue has more.
    pub has_more: bool,
}

impl Letters {
    /// Reads the queue through the worker.
    ///
    /// # Errors
    /// The worker does not answer, or cannot read the queue.
    pub async fn ask(api: &OpsApi, tenant: &str) -> Result<Letters, ClientError> {
        let query = [("tenant", Some(tenant.to_owned())), ("limit", Some(MAX_LETTERS.to_string()))];
        Ok(Letters::of(&api.get(&["v1", "dead-letters"], &query).await?))
    }

    fn of(answer: &Value) -> Letters {
        let letter = |letter: &Value| {
            let text = |name: &str| letter.get(name).and_then(Value::as_str).unwrap_or_default();
            // Without a valid MAC, any program that may write to the queue could have written the headers.
            if letter.get("vouched") != Some(&Value::Bool(true)) {
                return None;
            }
            let is_refused = letter.get("run").and_then(Value::as_u64) == Some(0);
            let (code, sentence) = (text("code").to_owned(), text("sentence").to_owned());
            Some((Uuid::try_parse(text("job_id")).ok()?, Letter { is_refused, code, sentence }))
        };
        // Of several dead letters of one job the latest counts.
        let jobs = list(answer, "dead_letters").iter().filter_map(letter).collect();
        Letters { jobs, has_more: answer.get("more") != Some(&Value::Bool(false)) }
    }

    /// Writes a dead letter's outcome into its row, if there is one.
    pub(crate) fn apply_to(&self, outcome: &mut Outcome) {
        let Some(letter) = outcome.job_id.and_then(|id| self.jobs.get(&id)) else { return };
        outcome.code.clone_from(&letter.code);
        if letter.is_refused {
            outcome.state = "rejected".to_owned();
            outcome.note = format!("refused: {}", letter.sentence);
        } else {
            // This worker has lost its store, or another worker had the job.
            outcome.state = "failed".to_owned();
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_vouched_letters_count_and_of_these_the_latest() {
        let id = |number: u128| Uuid::from_u128(number);
        let letter = |number, run: u64, vouched, sentence: &str| json!({ "job_id": id(number), "run": run, "vouched": vouched, "code": "ERS-0001", "sentence": sentence });
        let answer = json!({ "more": false, "dead_letters": [
            letter(1, 0, true, "an earlier one"), letter(2, 0, false, "anybody's"), letter(3, 2, true, "it failed"),
            letter(1, 0, true, "the latest one"), { "job_id": null, "vouched": true, "run": 0 },
        ] });
        let letters = Letters::of(&answer);
        let applied = |number| {
            let mut outcome = Outcome::queued(2, id(number));
            letters.apply_to(&mut outcome);
            (outcome.state, outcome.code, outcome.note)
        };
        let of = |state: &str, code: &str, note: &str| (state.to_owned(), code.to_owned(), note.to_owned());
        assert_eq!(applied(1), of("rejected", "ERS-0001", "refused: the latest one"));
        assert_eq!(applied(2), of("queued", "", ""));
        assert_eq!(applied(3), of("failed", "ERS-0001", ""));
        assert_eq!(applied(4), of("queued", "", ""));
        assert!(!letters.has_more && Letters::of(&json!({ "dead_letters": [] })).has_more);
    }
}
