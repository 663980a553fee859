//! One job of every form that a target can have, from its message to its final event.
//!
//! The rule it keeps: the calls come in the order of the vendors' own instructions, and nothing of
//! the person is left.

mod cleeng;
mod easycms;
mod import;
mod inputs;
mod loyalty;
mod together;
mod vitalsource;

use serde_json::Value;
use testkit::amqp::Message;

/// The event's target at an index.
pub fn target(event: &Message, index: usize) -> Value {
    event.data("targets")[index].clone()
}

/// The event's steps of a target as `step: outcome × count`.
pub fn steps(event: &Message, index: usize) -> Vec<String> {
    let target = target(event, index);
    let steps = target["steps"].as_array().unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    steps
        .iter()
        .map(|step| format!("{}: {} × {}", text(&step["step"]), text(&step["outcome"]), step["count"]))
        .collect()
}
