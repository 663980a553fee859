//! Each job's status, from the events: ended, or input is needed.
//!
//! The rule it keeps: only a `needs_input` event is a question. Other events of an open job (it is at risk, a ceiling
//! holds it) are not questions, and do not close one.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::Value;

/// A job's status for a subscriber.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Status {
    /// It has ended.
    Ended,
    /// It waits for a person.
    NeedsInput(Question),
}

/// A question that is open.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Question {
    /// The event's id.
    pub id: String,
    /// The event's time. A one-time password for this question was sent no later.
    pub at: Option<Timestamp>,
}

/// The status of every job that has ended or needs input, by job id.
pub(super) fn statuses(events: &[Value]) -> BTreeMap<String, Status> {
    let mut jobs = BTreeMap::new();
    for event in events {
        let job = || event["subject"].as_str().unwrap_or_default().to_owned();
        if event["data"]["final"] == true {
            jobs.insert(job(), Status::Ended);
        } else if event["data"]["outcome"] == "needs_input" {
            let question = Question {
                id: event["id"].as_str().unwrap_or_default().to_owned(),
                at: event["time"].as_str().and_then(|time| time.parse().ok()),
            };
            // A question that is published again after the end does not count.
            jobs.entry(job()).and_modify(|status| status.ask(&question)).or_insert(Status::NeedsInput(question));
        }
    }
    jobs
}

impl Status {
    fn ask(&mut self, question: &Question) {
        if let Status::NeedsInput(earlier) = self {
            earlier.clone_from(question);
        }
    }
}

/// The number of ended jobs.
pub(super) fn ended(jobs: &BTreeMap<String, Status>) -> usize {
    jobs.values().filter(|status| **status == Status::Ended).count()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use serde_json::json;

    use super::*;

    /// Every outcome that an event may have.
    fn outcomes() -> Vec<String> {
        let schema: Value = serde_json::from_str(crate::job::schema::EVENT).unwrap();
        let words = schema["$defs"]["job_outcome"]["enum"].as_array().unwrap();
        words.iter().map(|word| word.as_str().unwrap().to_owned()).collect()
    }

    fn event(number: usize, outcome: &str, is_final: bool) -> Value {
        json!({ "id": format!("event-{number}"), "subject": "job", "time": "2026-11-22T10:00:00.000Z",
            "type": format!("erasure.job.{outcome}.v1"), "data": { "outcome": outcome, "final": is_final } })
    }

    #[test]
    fn only_needs_input_is_a_question_whatever_events_come_before_and_after() {
        let words = outcomes();
        assert!(words.len() >= 10 && words.iter().any(|word| word == "at_risk"), "{words:?}");
        let open: Vec<&String> = words.iter().collect();
        let mut checked = 0;
        // Up to three events of an open job, every order of every word; then its ending.
        for length in 1..=3_u32 {
            for number in 0..open.len().pow(length) {
                let story: Vec<&str> =
                    (0..length).map(|place| open[number / open.len().pow(place) % open.len()].as_str()).collect();
                let mut events: Vec<Value> =
                    story.iter().enumerate().map(|(place, word)| event(place, word, false)).collect();
                let asked = story.iter().rposition(|word| *word == "needs_input");
                let open_question = statuses(&events).remove("job").map(|status| match status {
                    Status::NeedsInput(question) => question.id,
                    Status::Ended => "ended".to_owned(),
                });
                assert_eq!(open_question, asked.map(|place| format!("event-{place}")), "{story:?}");
                events.insert(number % (events.len() + 1), event(9, "completed", true));
                let jobs = statuses(&events);
                assert_eq!((jobs.get("job"), ended(&jobs)), (Some(&Status::Ended), 1), "{story:?}");
                checked += 1;
            }
        }
        println!("{checked} stories of an open job");
    }
}
