//! The input of `receipt verify`: one event a line, one receipt a line, or an audit pack.
//!
//! The rule it keeps: nothing is ignored: a line in any other form is a fault.

use serde_json::{Map, Value};

use super::chain::{Checker, FaultKind};
use super::pack::Pack;
use super::{CHECKPOINT, keys};

/// Reads one file's text. `place` names it in faults.
pub fn read(place: &str, text: &str, checker: &mut Checker<'_>) {
    // A pack is one JSON document; so is a single event, which its fields show.
    if let Ok(whole) = serde_json::from_str::<Value>(text) {
        if let Some(pack) = Pack::from_json(&whole) {
            return pack.check(place, checker);
        }
        if whole.is_object() {
            return document(place, whole, checker);
        }
    }
    let mut before = None;
    for (number, line) in text.lines().enumerate() {
        let place = format!("{place}:{}", number + 1);
        let line = line.trim();
        if line.is_empty() {
            continue;
        }
        if line.starts_with('{') {
            match serde_json::from_str(line) {
                Ok(value) => document(&place, value, checker),
                Err(_) => checker.fault(FaultKind::Unreadable, &place, "the line is neither JSON nor a receipt"),
            }
        } else if keys::typ(line).as_deref() == Some(CHECKPOINT) {
            checker.checkpoint(&place, line);
        } else if let Some(link) = checker.receipt(&place, line, None) {
            // A bare list of receipts is in chain order; events are in the order of their delivery.
            if before.is_some_and(|(chain, number)| chain == link.0 && number > link.1) {
                checker.out_of_order(&place, link);
            }
            before = Some(link);
        }
    }
}

/// An event, or an object with a receipt or a checkpoint.
fn document(place: &str, value: Value, checker: &mut Checker<'_>) {
    let Value::Object(object) = value else {
        return checker.fault(FaultKind::Unreadable, place, "the line is neither an event nor a receipt");
    };
    let text = |of: &Map<String, Value>, name: &str| of.get(name).and_then(Value::as_str).map(str::to_owned);
    if let Some(data) = object.get("data").and_then(Value::as_object) {
        match text(data, "receipt") {
            Some(receipt) => {
                checker.receipt(place, &receipt, Some(&object));
            }
            None if data.get("final") == Some(&Value::Bool(true)) => {
                checker.fault(FaultKind::NoReceipt, place, "a final event carries no receipt");
            }
            None => {}
        }
    } else if let Some(receipt) = text(&object, "receipt") {
        checker.receipt(place, &receipt, None);
    } else if let Some(checkpoint) = text(&object, "checkpoint") {
        checker.checkpoint(place, &checkpoint);
    } else {
        checker.fault(FaultKind::Unreadable, place, "the document is neither an event, a receipt nor an audit pack");
    }
}
