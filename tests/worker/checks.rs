//! The promises for every job, checked at the end of every test.
//!
//! The rule it keeps: the contract's words and forms are written here by hand.

use std::collections::HashMap;
use std::path::Path;

use serde_json::Value;
use testkit::amqp::{Message, is_fence};

/// The correlation id of a test's job.
pub fn correlation_of(job_id: &str) -> String {
    format!("ticket-{job_id}")
}

/// Every event is a valid CloudEvent with the contract's properties and no personal data. A repeated event has the same
/// bytes.
pub fn events(events: &[Message], prefix: &str, planted: &[String]) {
    let mut by_id: HashMap<String, &Message> = HashMap::new();
    let mut ends: HashMap<(Value, String, u64), String> = HashMap::new();
    for event in events.iter().filter(|event| !is_fence(event)) {
        envelope(event, prefix);
        holds_none_of(planted, "an event", &event.body);
        let id = event.json["id"].as_str().unwrap().to_owned();
        if let Some(first) = by_id.insert(id.clone(), event) {
            assert_eq!(first.body, event.body, "an event repeated with other bytes");
        }
        if event.is_final() && event.data("outcome") != "rejected" {
            let run = event.data("run").as_u64().unwrap();
            let end = ends.entry((event.data("tenant").clone(), event.job_id(), run)).or_insert_with(|| id.clone());
            assert_eq!(*end, id, "a run with two final events");
        }
    }
}

fn envelope(event: &Message, prefix: &str) {
    let (json, properties) = (&event.json, &event.properties);
    let text = |value: &Value| value.as_str().unwrap_or_else(|| panic!("no text in {json}")).to_owned();
    let (id, kind, job_id, tenant) =
        (text(&json["id"]), text(&json["type"]), text(&json["subject"]), text(event.data("tenant")));
    let name = kind.strip_prefix("erasure.job.").and_then(|kind| kind.strip_suffix(".v1")).unwrap();
    assert_eq!(event.exchange, format!("{prefix}.events"));
    assert_eq!(event.routing_key, format!("job.{name}.{tenant}"));
    assert_eq!(json["specversion"], "1.0");
    assert_eq!(json["source"], format!("/erasure-worker/sandbox/{tenant}"));
    assert_eq!(json["datacontenttype"], "application/json");
    assert!(json["dataschema"].is_string());
    assert_eq!(uuid::Uuid::parse_str(&id).unwrap().get_version_num(), 5);
    let time: jiff::Timestamp = text(&json["time"]).parse().unwrap();
    assert_eq!(event.data("job_id"), &Value::from(job_id.as_str()));
    assert_eq!(event.data("outcome"), name);

    let text_of = |value: &Option<lapin::types::ShortString>| value.as_ref().map(ToString::to_string);
    assert_eq!(text_of(properties.content_type()).as_deref(), Some("application/cloudevents+json"));
    assert_eq!(*properties.delivery_mode(), Some(2));
    assert_eq!(text_of(properties.message_id()), Some(id));
    assert_eq!(text_of(properties.kind()), Some(kind.clone()));
    assert_eq!(text_of(properties.app_id()).as_deref(), Some("erasure-worker"));
    assert_eq!(*properties.timestamp(), u64::try_from(time.as_second()).ok());
    let correlation = text_of(properties.correlation_id()).unwrap();
    // An event about a cancellation has no job message with a correlation id.
    assert!(correlation == correlation_of(&job_id) || (name == "cancel_refused" && correlation == job_id));
}

/// Every dead letter has an error code, a time and a reason, and is sealed unless sealing is off.
pub fn dead_letters(letters: &[Message], planted: &[String], sealed: bool) {
    for letter in letters.iter().filter(|letter| !is_fence(letter)) {
        let code = letter.header("x-erasure-code");
        assert!(code.len() == 8 && code.starts_with("ERS-"), "{code}");
        assert!(letter.header("x-erasure-reason").len() > 10);
        assert!(letter.header("x-erasure-at").parse::<jiff::Timestamp>().is_ok());
        assert!(letter.header("x-erasure-run").parse::<u32>().is_ok());
        assert!(letter.header("x-erasure-attempts").parse::<u32>().is_ok());
        assert_eq!(*letter.properties.delivery_mode(), Some(2));
        holds_none_of(planted, "a dead letter's headers", format!("{:?}", letter.properties).as_bytes());
        if sealed {
            holds_none_of(planted, "a sealed dead letter", &letter.body);
            assert!(letter.json.is_null());
        }
    }
}

/// A parked copy shows no personal data.
pub fn parked(copies: &[Message], planted: &[String]) {
    for copy in copies.iter().filter(|copy| !copy.header("x-erasure-wait").is_empty()) {
        holds_none_of(planted, "a parked copy", &copy.body);
        holds_none_of(planted, "a parked copy's headers", format!("{:?}", copy.properties).as_bytes());
    }
}

pub fn holds_none_of(planted: &[String], what: &str, bytes: &[u8]) {
    let found = testkit::finds(planted, bytes);
    assert!(found.is_none(), "{what} holds {found:?}");
}

#[test]
fn a_planted_text_is_found_at_any_place_in_upper_or_lower_case() {
    let planted = ["Ann@example.com".to_owned(), "ÅSA-7".to_owned()];
    for held in ["ann@example.com", "\0\u{1}ANN@EXAMPLE.COM\u{1}", "xxÅsa-7"] {
        assert!(testkit::finds(&planted, held.as_bytes()).is_some(), "{held:?}");
    }
    assert_eq!(testkit::finds(&planted, "ann@example.co, åsa-7".as_bytes()), None);
}

pub fn folder_holds_none_of(planted: &[String], folder: &Path) {
    let mut files = 0;
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            folder_holds_none_of(planted, &path);
        } else {
            files += 1;
            holds_none_of(planted, &format!("{}", path.display()), &std::fs::read(&path).unwrap());
        }
    }
    assert!(files > 0 || folder.ancestors().nth(1).is_some());
}
