//! What the events say of each job: that it has ended, or that it asks a person for something.
//!
//! The rule it keeps: only `needs_input` is a question. What else is said of an open job (its term runs
//! out, a ceiling holds it) asks nobody, and takes back no question.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::Value;

/// What a subscriber knows of one job.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Said {
    /// It has ended.
    Ended,
    /// It waits for a person.
    Asks(Question),
}

/// A question that is open.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Question {
    /// The event's id.
    pub id: String,
    /// When the event was written: no sooner than whatever was sent to the person with it.
    pub at: Option<Timestamp>,
}

/// The jobs that have ended or ask for something, by their ids.
pub(super) fn said(events: &[Value]) -> BTreeMap<String, Said> {
    let mut jobs = BTreeMap::new();
    for event in events {
        let job = || event["subject"].as_str().unwrap_or_default().to_owned();
        if event["data"]["final"] == true {
            jobs.insert(job(), Said::Ended);
        } else if event["data"]["outcome"] == "needs_input" {
            let question = Question {
                id: event["id"].as_str().unwrap_or_default().to_owned(),
                at: event["time"].as_str().and_then(|time| time.parse().ok()),
            };
            // A question that was published once more after the ending is none.
            jobs.entry(job()).and_modify(|said| said.ask(&question)).or_insert(Said::Asks(question));
        }
    }
    jobs
}

impl Said {
    fn ask(&mut self, question: &Question) {
        if let Said::Asks(earlier) = self {
            earlier.clone_from(question);
        }
    }
}

/// How many have ended.
pub(super) fn ended(jobs: &BTreeMap<String, Said>) -> usize {
    jobs.values().filter(|said| **said == Said::Ended).count()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use serde_json::json;

    use super::*;

    /// Every word that an event may have for what became of its job.
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
    fn only_needs_input_is_a_question_whatever_was_said_before_and_after() {
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
                let open_question = said(&events).remove("job").map(|said| match said {
                    Said::Asks(question) => question.id,
                    Said::Ended => "ended".to_owned(),
                });
                assert_eq!(open_question, asked.map(|place| format!("event-{place}")), "{story:?}");
                events.insert(number % (events.len() + 1), event(9, "completed", true));
                let jobs = said(&events);
                assert_eq!((jobs.get("job"), ended(&jobs)), (Some(&Said::Ended), 1), "{story:?}");
                checked += 1;
            }
        }
        println!("{checked} stories of an open job");
    }
}
