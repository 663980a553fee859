//! One job for each form of a target, from its message to its final event.
//!
//! The rule it keeps: the calls have the order of the vendors' instructions, and no personal data remains.

mod cleeng;
mod easycms;
mod import;
mod inputs;
mod loyalty;
mod together;
mod vitalsource;
mod webhook;

use serde_json::Value;
use testkit::amqp::Message;

/// A target in the event.
pub fn target(event: &Message, index: usize) -> Value {
    event.data("targets")[index].clone()
}

/// A target's steps in the event, as `step: outcome × count`.
pub fn steps(event: &Message, index: usize) -> Vec<String> {
    let target = target(event, index);
    let steps = target["steps"].as_array().unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    steps
        .iter()
        .map(|step| format!("{}: {} × {}", text(&step["step"]), text(&step["outcome"]), step["count"]))
        .collect()
}
