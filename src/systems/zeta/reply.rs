//! What a reply of the Loyalty platform says: whose record it is, and what an error is about.
//!
//! The rule it keeps: the shape of replies is not documented, so an id is looked for in several
//! places, but only under a name of the kind that was asked for; an error's text is read for the
//! words that decide, and goes no further.

use serde_json::Value;

use crate::job::{Identity, Member, MemberKey};
use crate::systems::http::Reply;
use secrecy::ExposeSecret;

/// Objects that a record may be wrapped in.
const WRAPPERS: [&str; 8] = ["data", "response", "result", "member", "profile", "person", "user", "attributes"];
/// Deeper wrapping than this is not looked into.
const DEPTH: usize = 4;

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

/// What the body of a 2xx reply says. Without `Debug`: it holds a record.
pub(super) enum Body {
    /// Nothing: it is empty or `null`.
    Blank,
    /// An object without a word of failure.
    Object(Value),
    /// `success: false`, or an error.
    Denied(About),
    /// Neither empty nor a JSON object.
    Unreadable,
}

/// Reads the body of a 2xx reply.
pub(super) fn body(reply: &Reply) -> Body {
    if reply.is_blank() {
        return Body::Blank;
    }
    match reply.json::<Value>() {
        Some(Value::Null) => Body::Blank,
        Some(value) if denies(&value, DEPTH) => Body::Denied(about(reply)),
        Some(value @ Value::Object(_)) => Body::Object(value),
        Some(Value::Array(mut items)) if items.len() == 1 && items[0].is_object() => Body::Object(items.remove(0)),
        _ => Body::Unreadable,
    }
}

fn denies(value: &Value, depth: usize) -> bool {
    let Some(object) = value.as_object().filter(|_| depth > 0) else { return false };
    object.iter().any(|(name, value)| match plain(name).as_str() {
        "success" => !matches!(value, Value::Bool(true)) && !matches!(as_text(value).as_deref(), Some("true" | "1")),
        "error" | "errors" => says_something(value),
        "status" => matches!(as_text(value).as_deref(), Some("error" | "fail" | "failed" | "failure")),
        // Also a member's own name, so only codes that are known.
        "name" => matches!(as_text(value).as_deref(), Some("expired_token" | "invalid_token" | "invalid_request")),
        wrapper if WRAPPERS.contains(&wrapper) => denies(value, depth - 1),
        _ => false,
    })
}

fn says_something(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::Bool(true) | Value::Number(_) => true,
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
    }
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

/// The names under which a kind of id is shown.
const fn names(key: MemberKey) -> &'static [&'static str] {
    match key {
        MemberKey::MemberId => &["memberid"],
        MemberKey::IntegrationId => &["integrationid"],
        MemberKey::CardId => &["cardid", "cardnumber", "cardno"],
        // `id` only where the record does not say it more plainly.
        MemberKey::DatabaseId => &["databaseid"],
        MemberKey::Email => &["email", "emailaddress"],
    }
}

/// Compares the named kind of id. The innermost object that carries the kind decides: an outer `id`
/// may be the envelope's. A record that shows the value under another kind alone was found by that
/// one: it is somebody else's, also where it says nothing of the kind that was named.
pub(super) fn identity(record: &Value, member: &Member) -> Identity {
    let values = find(record, names(member.key), DEPTH).or_else(|| {
        let database = member.key == MemberKey::DatabaseId;
        database.then(|| find(record, &["id"], DEPTH)).flatten()
    });
    let wanted = member.value.expose_secret().trim();
    let same = |value: &String| match member.key {
        MemberKey::Email => value.to_lowercase() == wanted.to_lowercase(),
        _ => value == wanted,
    };
    let others = || MemberKey::ALL.into_iter().filter(|key| *key != member.key);
    let shown_as = |key: MemberKey| find(record, names(key), DEPTH).is_some_and(|values| values.iter().any(same));
    match values {
        Some(values) if values.iter().any(same) => Identity::Same,
        Some(_) => Identity::Other,
        None if others().any(shown_as) => Identity::Other,
        None => Identity::Unreadable,
    }
}

/// The values under one of the names; `None` where there is none that can be compared.
fn find(value: &Value, names: &[&str], depth: usize) -> Option<Vec<String>> {
    if depth == 0 {
        return None;
    }
    match value {
        Value::Array(items) if items.len() == 1 => find(&items[0], names, depth),
        Value::Object(fields) => {
            let within = |(name, value): (&String, &Value)| {
                WRAPPERS.contains(&plain(name).as_str()).then(|| find(value, names, depth - 1)).flatten()
            };
            fields.iter().find_map(within).or_else(|| {
                let here = fields.iter().filter(|(name, _)| names.contains(&plain(name).as_str()));
                let values: Vec<String> = here.flat_map(|(_, value)| scalars(value)).collect();
                (!values.is_empty()).then_some(values)
            })
        }
        _ => None,
    }
}

fn scalars(value: &Value) -> Vec<String> {
    match value {
        Value::Array(items) => items.iter().filter_map(as_id).collect(),
        value => as_id(value).into_iter().collect(),
    }
}

fn as_id(value: &Value) -> Option<String> {
    let text = match value {
        Value::String(text) => text.trim().to_owned(),
        Value::Number(number) => number.to_string(),
        _ => return None,
    };
    (!text.is_empty()).then_some(text)
}

fn as_text(value: &Value) -> Option<String> {
    as_id(value).map(|text| text.to_lowercase())
}

/// A name by its letters and digits alone, in lower case: `memberId`, `member_id` and `Member ID`
/// are one.
fn plain(name: &str) -> String {
    name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect()
}
