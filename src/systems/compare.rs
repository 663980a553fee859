//! Compares a system's identifiers with those of a job.
//!
//! The rule it keeps: a comparison returns a verdict, never a value.

use crate::job::Identity;

/// True if two e-mail addresses differ at most in case or outer white space.
pub(crate) fn same_email(left: &str, right: &str) -> bool {
    left.trim().to_lowercase() == right.trim().to_lowercase()
}

/// The verdict on an e-mail address in a system; [`Identity::Blank`] if it is empty.
pub(crate) fn email_identity(shown: &str, named: &str) -> Identity {
    if shown.trim().is_empty() {
        Identity::Blank
    } else if same_email(shown, named) {
        Identity::Same
    } else {
        Identity::Other
    }
}

/// An id from JSON: a string or a whole number. `None` for anything else.
pub(crate) fn id_text(value: &serde_json::Value) -> Option<String> {
    match value {
        serde_json::Value::String(text) => Some(text.trim().to_owned()),
        serde_json::Value::Number(number) if !number.is_f64() => Some(number.to_string()),
        _ => None,
    }
}
