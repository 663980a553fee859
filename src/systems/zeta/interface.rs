//! Recognises the Loyalty platform's own replies, and reads their meaning.
//!
//! The rule it keeps: only the documented word of success and the observed forms of errors are known. Any other reply is
//! not the platform's: it means neither "done" nor "not found", and is not the member's fault.

use serde_json::{Map, Value};

use crate::systems::evidence::NotFound;
use crate::systems::form::{has_content, holds_only, plain};
use crate::systems::http::Reply;

/// Objects in which a record or an error may be wrapped.
pub(super) const WRAPPERS: [&str; 8] =
    ["data", "response", "result", "member", "profile", "person", "user", "attributes"];
/// Deeper levels are not read.
pub(super) const DEPTH: usize = 4;

/// The subject of an error.
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

/// A reply of the platform. Without `Debug`: it may contain a record.
pub(super) enum Parsed {
    /// 2xx: `{"success": true}`, the only known form of success.
    Success,
    /// 2xx: an object without an error.
    Record(Value),
    /// An error, on any status.
    Error(About),
    /// 404 with the platform's report that there is no such member.
    NotFound(NotFound),
}

/// The only place that recognises the platform's own replies; `None` for any other.
pub(super) fn parse(reply: &Reply) -> Option<Parsed> {
    let body: Option<Value> = reply.json();
    match (reply.status(), body) {
        (200..300, Some(value)) if is_denial(&value, DEPTH) => Some(Parsed::Error(about(reply))),
        (200..300, Some(Value::Object(body))) if is_success(&body) => Some(Parsed::Success),
        (200..300, Some(value @ Value::Object(_))) => Some(Parsed::Record(value)),
        (200..300, Some(Value::Array(mut items))) if items.len() == 1 && items[0].is_object() => {
            Some(Parsed::Record(items.remove(0)))
        }
        (404, body) if says_not_found(body.as_ref(), reply) => Some(Parsed::NotFound(NotFound::reported())),
        (400..500, Some(Value::Object(body))) if has_error(&body) => Some(Parsed::Error(about(reply))),
        // Errors in plain text were observed too. Their words distinguish them from a gateway's.
        (400..500, None) if is_a_line(reply) => match about(reply) {
            About::Other => None,
            about => Some(Parsed::Error(about)),
        },
        _ => None,
    }
}

fn is_success(body: &Map<String, Value>) -> bool {
    body.get("success") == Some(&Value::Bool(true)) && holds_only(body, &["success", "message"])
}

fn is_denial(value: &Value, depth: usize) -> bool {
    let Some(object) = value.as_object().filter(|_| depth > 0) else { return false };
    object.iter().any(|(name, value)| match plain(name).as_str() {
        "success" => !matches!(value, Value::Bool(true)) && !matches!(as_word(value).as_deref(), Some("true" | "1")),
        "status" | "result" if value.is_string() => {
            matches!(as_word(value).as_deref(), Some("error" | "fail" | "failed" | "failure" | "denied" | "rejected"))
        }
        "code" => is_error_code(value),
        // A member's name is possible here, so only known codes count.
        "name" => matches!(as_word(value).as_deref(), Some("expired_token" | "invalid_token" | "invalid_request")),
        wrapper if WRAPPERS.contains(&wrapper) => is_denial(value, depth - 1),
        name => name.starts_with("error") && has_content(value),
    })
}

/// True for a text with a word of the platform's error codes; a member's own code contains none of them.
fn is_error_code(value: &Value) -> bool {
    value.as_str().is_some_and(|code| {
        let about = ["invalid", "expired", "error", "denied", "failed", "missing", "required", "wrong", "not_found"];
        let code = code.to_ascii_lowercase();
        about.iter().any(|word| code.contains(word))
    })
}

/// The observed forms of an error in JSON: `error`, `errors`, `errorCode`, `name` or `code` with a text.
fn has_error(body: &Map<String, Value>) -> bool {
    let is_error = |(name, value): (&String, &Value)| match plain(name).as_str() {
        "name" | "code" => value.is_string() && has_content(value),
        "success" => value == &Value::Bool(false),
        name => name.starts_with("error") && has_content(value),
    };
    body.iter().any(is_error)
}

fn is_a_line(reply: &Reply) -> bool {
    let body = reply.body().trim_ascii();
    !body.is_empty() && body.len() <= 200 && !body.iter().any(|byte| b"<>\r\n".contains(byte))
}

/// True for `not_found` as the error's code, or for a sentence about a member, without unknown fields. "Not Found" alone
/// is HTTP's own phrase: every server sends it for every path.
fn says_not_found(body: Option<&Value>, reply: &Reply) -> bool {
    const KNOWN: [&str; 6] = ["error", "name", "code", "errorCode", "message", "success"];
    let texts: Vec<&str> = match body {
        Some(Value::Object(body)) if holds_only(body, &KNOWN) => {
            if body.get("success").is_some_and(|success| !matches!(success, Value::Bool(false) | Value::Null)) {
                return false;
            }
            let texts = |names: &[&str]| -> Option<Vec<&str>> {
                let present = names.iter().filter_map(|name| body.get(*name)).filter(|text| has_content(text));
                present.map(Value::as_str).collect()
            };
            // The codes decide; without codes the message does.
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
    !texts.is_empty() && texts.iter().all(|text| means_not_found(text.trim()))
}

fn means_not_found(text: &str) -> bool {
    const MEMBERS: [&str; 6] = ["member", "profile", "person", "user", "customer", "record"];
    if text == "not_found" || MEMBERS.iter().any(|member| text == format!("{member}_not_found")) {
        return true;
    }
    let words = words(text);
    let names_one = words.iter().any(|word| MEMBERS.contains(&word.as_str()));
    let says = |phrase: &[&str]| words.windows(phrase.len()).any(|window| window == phrase);
    names_one && text.contains(' ') && (says(&["not", "found"]) || says(&["does", "not", "exist"]))
}

/// The subject of a reply's error, by its words, in JSON or plain text.
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

/// Collects the texts under the names that errors use.
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
