//! Policies and limits of a broker that could lose messages.
//!
//! The rule it keeps: `scripts/broker-check` reports each of them with its queues, and no harmless one.

use std::io::Write as _;
use std::process::{Command, Stdio};

use erasure_worker::broker::amqp::{AmqpBroker, AmqpError};
use erasure_worker::broker::topology::Topology;
use serde_json::{Value, json};
use testkit::rabbit::Rabbit;

use super::config;

/// The script's output for a broker's definitions, and whether it found something.
fn checked(definitions: &Value, prefix: &str) -> (Vec<String>, bool) {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/broker-check");
    let mut child = Command::new("python3")
        .args([script, "--definitions", "-", "--prefix", prefix])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3");
    child.stdin.take().unwrap().write_all(definitions.to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let lines = String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect();
    (lines, output.status.code() == Some(1))
}

fn policy(name: &str, pattern: &str, to: &str, priority: i64, definition: Value) -> Value {
    json!({ "vhost": "/", "name": name, "pattern": pattern, "apply-to": to, "priority": priority, "definition": definition })
}

fn operator(name: &str, pattern: &str, definition: Value) -> Value {
    let value = json!({ "pattern": pattern, "apply-to": "queues", "priority": 0, "definition": definition });
    json!({ "vhost": "/", "component": "operator_policy", "name": name, "value": value })
}

/// Every such setting, as a policy and as an operator policy, for all queues and for each.
#[test]
fn every_policy_that_could_lose_messages_is_reported_with_its_queues() {
    let of_quorum = json!({
        "message-ttl": 60000, "expires": 1_800_000, "max-length": 1000, "max-length-bytes": 1_000_000,
        "delivery-limit": 20, "consumer-timeout": 60000, "federation-upstream-set": "all",
    });
    let of_stream = json!({ "max-length-bytes": 1_000_000, "max-age": "7D", "federation-upstream": "a" });
    let mut count = 0;
    let names: Vec<String> = Topology::new("p").queues.into_iter().map(|queue| queue.name).collect();
    for name in &names {
        let settings = if name == "p.control.log" { &of_stream } else { &of_quorum };
        let one = format!("^{}$", name.replace('.', "\\."));
        for (pattern, touches_others) in [(".*", true), (one.as_str(), false)] {
            let people = json!({ "policies": [policy("odd", pattern, "queues", 0, settings.clone())] });
            let operators = json!({ "parameters": [operator("odd", pattern, settings.clone())] });
            for definitions in [people, operators] {
                let (lines, found) = checked(&definitions, "p");
                assert!(found);
                for (key, value) in settings.as_object().unwrap() {
                    let setting = format!("odd: {key} = {}:", value.as_str().map_or(value.to_string(), str::to_owned));
                    let is_reported = lines.iter().any(|line| line.contains(&setting) && line.contains(name));
                    assert!(is_reported, "{pattern} {key} {name}: {lines:?}");
                    count += 1;
                }
                let others = names.iter().filter(|other| *other != name);
                let touched = others.filter(|other| lines.iter().any(|line| line.contains(*other))).count();
                assert_eq!(touched > 0, touches_others, "{pattern}: {lines:?}");
            }
        }
    }
    let unseen = policy("ae", "^p\\.requests$", "exchanges", 0, json!({ "alternate-exchange": "x" }));
    assert!(checked(&json!({ "policies": [unseen] }), "p").1);
    println!("{} settings that could lose messages", count + 1);
}

#[test]
fn a_harmless_policy_is_not_reported() {
    let harmless = [
        policy("ha", ".*", "queues", 0, json!({ "ha-mode": "all", "queue-leader-locator": "balanced" })),
        policy("theirs", "^shop\\.", "all", 0, json!({ "message-ttl": 1000, "expires": 1000 })),
        policy("classic", ".*", "classic_queues", 0, json!({ "expires": 1000 })),
        policy("streams", "^p\\.", "streams", 0, json!({ "max-age": "1Y" })),
        policy("high", ".*", "all", 0, json!({ "delivery-limit": 1_000_000_000 })),
        policy("exchanges", ".*", "exchanges", 0, json!({ "message-ttl": 1000 })),
    ];
    for one in harmless {
        let (lines, found) = checked(&json!({ "policies": [one] }), "p");
        assert!(!found, "{lines:?}");
    }
    // The highest priority takes effect. Of policies with the same priority it is unknown which one does.
    let odd = |priority| policy("odd", ".*", "queues", priority, json!({ "expires": 1000 }));
    let guard = |priority| policy("guard", "^p\\.", "queues", priority, json!({ "queue-leader-locator": "balanced" }));
    assert!(!checked(&json!({ "policies": [odd(0), guard(1)] }), "p").1);
    assert!(checked(&json!({ "policies": [odd(1), guard(0)] }), "p").1);
    assert!(checked(&json!({ "policies": [odd(1), guard(1)] }), "p").1);
}

#[tokio::test]
async fn the_policies_and_limits_of_a_real_broker_are_reported_and_a_limit_has_its_own_error() {
    let rabbit = Rabbit::start();
    let config = config(&rabbit);
    AmqpBroker::declare_topology(&config).await.unwrap();
    rabbit.ctl(&["set_policy", "tidy", ".*", r#"{"expires":1800000}"#, "--apply-to", "queues"]);
    rabbit.ctl(&["set_operator_policy", "short", ".*", r#"{"message-ttl":60000}"#, "--apply-to", "queues"]);
    rabbit.ctl(&["set_vhost_limits", r#"{"max-queues":9}"#]);
    let file = tempfile::NamedTempFile::new().unwrap();
    rabbit.ctl(&["export_definitions", file.path().to_str().unwrap()]);
    let definitions: Value = serde_json::from_slice(&std::fs::read(file.path()).unwrap()).unwrap();
    let (lines, _) = checked(&definitions, &config.prefix);
    for (what, key) in [("policy tidy", "expires"), ("operator policy short", "message-ttl"), ("max-queues", "9")] {
        let is_reported = lines.iter().any(|line| line.contains(what) && line.contains(key));
        assert_eq!(is_reported, what != "max-queues", "{what}: {lines:?} {}", definitions["parameters"]);
    }
    // All nine permitted queues exist; another set of names is refused.
    let other = super::config(&rabbit);
    let (lines, _) = checked(&definitions, &other.prefix);
    assert!(lines.iter().any(|line| line.contains("max-queues")), "{lines:?}");
    let error = AmqpBroker::declare_topology(&other).await.unwrap_err();
    assert!(matches!(&error, AmqpError::Limit { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains("limit") && !text.contains("Drain and delete"), "{text}");
}
