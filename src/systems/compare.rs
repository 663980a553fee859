//! How identifiers that a system shows are compared with those that a job names.
//!
//! The rule it keeps: a comparison leaves a verdict only, never either value.

use crate::job::Identity;

/// E-mail addresses are one where they differ in case or outer white space only.
pub fn same_email(left: &str, right: &str) -> bool {
    left.trim().to_lowercase() == right.trim().to_lowercase()
}

/// The verdict on an e-mail that a system shows: [`Identity::Blank`] where it is empty.
pub fn email_identity(shown: &str, named: &str) -> Identity {
    if shown.trim().is_empty() {
        Identity::Blank
    } else if same_email(shown, named) {
        Identity::Same
    } else {
        Identity::Other
    }
}

/// An id as JSON gives it: a string or a whole number. `None` for anything else.
pub fn id_text(value: &serde_json::Value) -> Option<String> {
    match value {
        serde_json::Value::String(text) => Some(text.trim().to_owned()),
        serde_json::Value::Number(number) if !number.is_f64() => Some(number.to_string()),
        _ => None,
    }
}
