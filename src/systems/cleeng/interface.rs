//! Recognises Cleeng's own replies: Core, JSON-RPC and the media store, each in its own form.
//!
//! The rule it keeps: a reply that has no documented form is not Cleeng's. It means neither "not found" nor "done",
//! and is not the person's fault.

use serde_json::{Map, Value};

use super::super::compare::id_text;
use super::super::evidence::NotFound;
use super::super::form::{self, List, has_content, holds_only};
use super::super::http::Reply;

/// A reply of one of the interfaces.
pub(super) enum Parsed {
    /// HTTP 200: an object without an error.
    Success(Map<String, Value>),
    /// Any other status: the error's text.
    Error(String),
}

impl Parsed {
    /// The interface's report that there is no such customer.
    pub(super) fn not_found(&self, status: u16) -> Option<NotFound> {
        match self {
            Parsed::Error(text) if status == 404 && says(text, "customer not found") => Some(NotFound::reported()),
            _ => None,
        }
    }

    /// True for an error whose text contains these words.
    pub(super) fn refuses(&self, words: &str) -> bool {
        matches!(self, Parsed::Error(text) if text.to_lowercase().contains(words))
    }
}

fn says(text: &str, words: &str) -> bool {
    text.trim().trim_end_matches('.').eq_ignore_ascii_case(words)
}

/// Core's form: JSON objects. An error has a `message`, and its `success` is never true.
pub(super) fn core(reply: &Reply) -> Option<Parsed> {
    let Value::Object(body) = reply.json()? else { return None };
    let success = body.get("success").filter(|success| !success.is_null());
    if reply.status() == 200 {
        let is_well = success.is_none_or(|success| success == &Value::Bool(true));
        return (is_well && !reports_an_error(&body)).then_some(Parsed::Success(body));
    }
    let text = body.get("message")?.as_str().filter(|text| !text.trim().is_empty())?.to_owned();
    let is_error = matches!(reply.status(), 400..500) && success.is_none_or(|success| success == &Value::Bool(false));
    (is_error && holds_only(&body, &["message", "success"])).then_some(Parsed::Error(text))
}

/// Core's list of the customers with an e-mail address.
pub(super) enum Listed {
    /// The list is empty, and no other field contradicts that.
    Nobody(NotFound),
    /// These records.
    Records(Vec<Value>),
}

/// Core's list of customers, in either form of its lists; `None` for anything else. The form is not documented, so a
/// list whose stated length contradicts its rows is not accepted.
pub(super) fn customers(body: Map<String, Value>) -> Option<Listed> {
    let List { rows, total } = rows(body)?;
    match (rows.is_empty(), total) {
        (true, None | Some(0)) => Some(Listed::Nobody(NotFound::reported())),
        (false, None | Some(1..)) => Some(Listed::Records(rows)),
        _ => None,
    }
}

/// The rows of a Core list in either known form, `{"items"}` or `{"success": true, "data"}`; `None` for anything else.
pub(super) fn rows(body: Map<String, Value>) -> Option<List> {
    let success = body.get("success") == Some(&Value::Bool(true));
    match (body.contains_key("items"), body.contains_key("data")) {
        (true, false) => form::list(body, "items", &["success"]),
        (false, true) if success => form::list(body, "data", &["success"]),
        _ => None,
    }
}

/// The media store's form: on HTTP 200 `responseData` without `errors`, else `errors`, a list of texts.
pub(super) fn media_store(reply: &Reply) -> Option<Parsed> {
    let Value::Object(mut body) = reply.json()? else { return None };
    if reply.status() == 200 {
        if !holds_only(&body, &["responseData"]) {
            return None;
        }
        let Some(Value::Object(data)) = body.remove("responseData") else { return None };
        return (!reports_an_error(&data)).then_some(Parsed::Success(data));
    }
    let errors = body.get("errors")?.as_array().filter(|errors| !errors.is_empty())?;
    let texts: Vec<&str> = errors.iter().map(Value::as_str).collect::<Option<_>>()?;
    let is_error = matches!(reply.status(), 400..500) && holds_only(&body, &["errors"]);
    is_error.then(|| Parsed::Error(texts.join("; ")))
}

/// A JSON-RPC reply.
pub(super) enum Rpc {
    /// The result of our call.
    Result(Map<String, Value>),
    /// An error's code.
    Error(i64),
}

/// JSON-RPC's form, always on HTTP 200: `result` or `error`, with our call's `id` as a number or as text (null if the
/// server could not read the call). With a result, `error` is absent, null or false.
pub(super) fn rpc(reply: &Reply) -> Option<Rpc> {
    let Value::Object(mut body) = reply.json()? else { return None };
    if reply.status() != 200 || !holds_only(&body, &["jsonrpc", "id", "result", "error"]) {
        return None;
    }
    if body.get("jsonrpc").is_some_and(|version| version != "2.0") {
        return None;
    }
    let is_ours = body.get("id").and_then(id_text).as_deref() == Some("1");
    match (body.remove("error"), body.remove("result")) {
        (Some(Value::Object(error)), None | Some(Value::Null)) => {
            let is_of_a_call = is_ours || body.get("id").is_none_or(Value::is_null);
            let code = error.get("code").and_then(id_text)?.parse().ok()?;
            is_of_a_call.then_some(Rpc::Error(code))
        }
        (None | Some(Value::Null | Value::Bool(false)), Some(Value::Object(result))) if is_ours => {
            Some(Rpc::Result(result))
        }
        _ => None,
    }
}

fn reports_an_error(body: &Map<String, Value>) -> bool {
    body.iter().any(|(name, value)| name.to_lowercase().starts_with("error") && has_content(value))
}
