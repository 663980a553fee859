//! Whether it is the Loyalty platform itself that speaks, and what it says.
//!
//! The rule it keeps: the documented word of success and the observed forms of errors are all that is known.
//! Whatever else comes was said by something else: neither "done" nor "gone", and no fault of the member's.

use serde_json::{Map, Value};

use crate::systems::evidence::Gone;
use crate::systems::form::{holds_only, plain, says_something};
use crate::systems::http::Reply;

/// Objects that a record or an error may be wrapped in.
pub(super) const WRAPPERS: [&str; 8] =
    ["data", "response", "result", "member", "profile", "person", "user", "attributes"];
/// Deeper wrapping than this is not looked into.
pub(super) const DEPTH: usize = 4;

/// What an error is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum About {
    /// The one-time password.
    Otp,
    /// The member's password.
    Password,
    /// The access token.
    Token,
    /// There is no such member.
    NotFound,
    /// None of these.
    Other,
}

/// What the platform says. Without `Debug`: it holds a record.
pub(super) enum Spoken {
    /// 2xx: `{"success": true}`, the only word of success that is known.
    Success,
    /// 2xx: an object without a word of failure.
    Record(Value),
    /// An error, on any status.
    Denied(About),
    /// 404 with the platform's word that there is no such member.
    Gone(Gone),
}

/// The one place that knows whether it is the platform that speaks; `None` where it is something else.
pub(super) fn spoken(reply: &Reply) -> Option<Spoken> {
    let body: Option<Value> = reply.json();
    match (reply.status(), body) {
        (200..300, Some(value)) if denies(&value, DEPTH) => Some(Spoken::Denied(about(reply))),
        (200..300, Some(Value::Object(body))) if is_success(&body) => Some(Spoken::Success),
        (200..300, Some(value @ Value::Object(_))) => Some(Spoken::Record(value)),
        (200..300, Some(Value::Array(mut items))) if items.len() == 1 && items[0].is_object() => {
            Some(Spoken::Record(items.remove(0)))
        }
        (404, body) if says_gone(body.as_ref(), reply) => Some(Spoken::Gone(Gone::told())),
        (400..500, Some(Value::Object(body))) if has_error(&body) => Some(Spoken::Denied(about(reply))),
        // Plain text was seen too. Of any gateway's, it is known by its words.
        (400..500, None) if is_a_line(reply) => match about(reply) {
            About::Other => None,
            about => Some(Spoken::Denied(about)),
        },
        _ => None,
    }
}

fn is_success(body: &Map<String, Value>) -> bool {
    body.get("success") == Some(&Value::Bool(true)) && holds_only(body, &["success", "message"])
}

fn denies(value: &Value, depth: usize) -> bool {
    let Some(object) = value.as_object().filter(|_| depth > 0) else { return false };
    object.iter().any(|(name, value)| match plain(name).as_str() {
        "success" => !matches!(value, Value::Bool(true)) && !matches!(as_word(value).as_deref(), Some("true" | "1")),
        "status" | "result" if value.is_string() => {
            matches!(as_word(value).as_deref(), Some("error" | "fail" | "failed" | "failure" | "denied" | "rejected"))
        }
        "code" => is_error_code(value),
        // Also a member's own name, so only codes that are known.
        "name" => matches!(as_word(value).as_deref(), Some("expired_token" | "invalid_token" | "invalid_request")),
        wrapper if WRAPPERS.contains(&wrapper) => denies(value, depth - 1),
        name => name.starts_with("error") && says_something(value),
    })
}

/// A word in snake case, as the platform's codes are; a member's own code has none.
fn is_error_code(value: &Value) -> bool {
    value.as_str().is_some_and(|code| {
        let about = ["invalid", "expired", "error", "denied", "failed", "missing", "required", "wrong", "not_found"];
        let code = code.to_ascii_lowercase();
        about.iter().any(|word| code.contains(word))
    })
}

/// The observed forms of an error in JSON: `error`, `errors`, `errorCode`, `name` or `code` with a text.
fn has_error(body: &Map<String, Value>) -> bool {
    let speaks = |(name, value): (&String, &Value)| match plain(name).as_str() {
        "name" | "code" => value.is_string() && says_something(value),
        "success" => value == &Value::Bool(false),
        name => name.starts_with("error") && says_something(value),
    };
    body.iter().any(speaks)
}

fn is_a_line(reply: &Reply) -> bool {
    let body = reply.body().trim_ascii();
    !body.is_empty() && body.len() <= 200 && !body.iter().any(|byte| b"<>\r\n".contains(byte))
}

/// `not_found` in an error's own place, or a sentence that names a member; and nothing that is not understood
/// beside it. "Not Found" alone is HTTP's own phrase, which every server says of every path.
fn says_gone(body: Option<&Value>, reply: &Reply) -> bool {
    const KNOWN: [&str; 6] = ["error", "name", "code", "errorCode", "message", "success"];
    let texts: Vec<&str> = match body {
        Some(Value::Object(body)) if holds_only(body, &KNOWN) => {
            if body.get("success").is_some_and(|success| !matches!(success, Value::Bool(false) | Value::Null)) {
                return false;
            }
            let texts = |names: &[&str]| -> Option<Vec<&str>> {
                let told = names.iter().filter_map(|name| body.get(*name)).filter(|text| says_something(text));
                told.map(Value::as_str).collect()
            };
            // The codes decide; a message does where there is none.
            match (texts(&["error", "name", "code", "errorCode"]), texts(&["message"])) {
                (Some(codes), Some(message)) => {
                    if codes.is_empty() {
                        message
                    } else {
                        codes
                    }
                }
                _ => return false,
            }
        }
        None if is_a_line(reply) => std::str::from_utf8(reply.body()).into_iter().collect(),
        _ => return false,
    };
    !texts.is_empty() && texts.iter().all(|text| is_word_for_gone(text.trim()))
}

fn is_word_for_gone(text: &str) -> bool {
    const MEMBERS: [&str; 6] = ["member", "profile", "person", "user", "customer", "record"];
    if text == "not_found" || MEMBERS.iter().any(|member| text == format!("{member}_not_found")) {
        return true;
    }
    let words = words(text);
    let names_one = words.iter().any(|word| MEMBERS.contains(&word.as_str()));
    let says = |phrase: &[&str]| words.windows(phrase.len()).any(|window| window == phrase);
    names_one && text.contains(' ') && (says(&["not", "found"]) || says(&["does", "not", "exist"]))
}

/// What the error that a reply carries is about, by its words: JSON or plain text.
pub(super) fn about(reply: &Reply) -> About {
    let mut text = String::new();
    match reply.json::<Value>() {
        Some(value) => gather(&value, DEPTH, &mut text),
        None => text.push_str(&String::from_utf8_lossy(&reply.body()[..reply.body().len().min(4096)])),
    }
    let words = words(&text);
    let has = |any: &[&str]| any.iter().any(|word| words.iter().any(|found| found == word));
    if has(&["otp", "mfa", "passcode"]) || (has(&["one"]) && has(&["time"])) {
        About::Otp
    } else if has(&["password"]) {
        About::Password
    } else if has(&["token", "jwt", "bearer"]) {
        About::Token
    } else if has(&["code"]) {
        About::Otp
    } else if has(&["not"]) && has(&["found"]) {
        About::NotFound
    } else {
        About::Other
    }
}

/// The texts under names that errors use.
fn gather(value: &Value, depth: usize, text: &mut String) {
    match value {
        Value::String(part) => {
            text.push(' ');
            text.push_str(part);
        }
        Value::Array(items) if depth > 0 => items.iter().for_each(|item| gather(item, depth - 1, text)),
        Value::Object(fields) if depth > 0 => {
            const NAMES: [&str; 9] =
                ["error", "errors", "name", "code", "type", "message", "errorcode", "errordescription", "description"];
            for (name, value) in fields {
                let name = plain(name);
                if NAMES.contains(&name.as_str()) || WRAPPERS.contains(&name.as_str()) {
                    gather(value, depth - 1, text);
                }
            }
        }
        _ => {}
    }
}

/// `expiredToken: the_code` → `expired token the code`.
fn words(text: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut after_lower = false;
    for c in text.chars() {
        if (!c.is_alphanumeric() || (after_lower && c.is_uppercase())) && words.last().is_some_and(|w| !w.is_empty()) {
            words.push(String::new());
        }
        after_lower = c.is_lowercase();
        if let Some(word) = words.last_mut().filter(|_| c.is_alphanumeric()) {
            word.extend(c.to_lowercase());
        }
    }
    words
}

fn as_word(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.trim().to_lowercase()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}
