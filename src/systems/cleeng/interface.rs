//! Whether it is Cleeng itself that speaks: Core, JSON-RPC and the media store, each in its own form.
//!
//! The rule it keeps: whatever is not in a documented form was said by something else. It is neither "gone"
//! nor "done", and no fault of the person's.

use serde_json::{Map, Value};

use super::super::compare::id_text;
use super::super::evidence::Gone;
use super::super::form::{self, List, holds_only, says_something};
use super::super::http::Reply;

/// What one of the interfaces says.
pub(super) enum Spoken {
    /// HTTP 200: an object in which nothing speaks of an error.
    Well(Map<String, Value>),
    /// Any other status: the text that says why.
    Refused(String),
}

impl Spoken {
    /// The interface's word that there is no such customer.
    pub(super) fn gone(&self, status: u16) -> Option<Gone> {
        match self {
            Spoken::Refused(text) if status == 404 && says(text, "customer not found") => Some(Gone::told()),
            _ => None,
        }
    }

    /// True for a refusal that says this.
    pub(super) fn refuses(&self, words: &str) -> bool {
        matches!(self, Spoken::Refused(text) if text.to_lowercase().contains(words))
    }
}

fn says(text: &str, words: &str) -> bool {
    text.trim().trim_end_matches('.').eq_ignore_ascii_case(words)
}

/// Core's form: JSON objects; an error has a `message`, and `success` is never true in it.
pub(super) fn core(reply: &Reply) -> Option<Spoken> {
    let Value::Object(body) = reply.json()? else { return None };
    let success = body.get("success").filter(|success| !success.is_null());
    if reply.status() == 200 {
        let is_well = success.is_none_or(|success| success == &Value::Bool(true));
        return (is_well && !tells_an_error(&body)).then_some(Spoken::Well(body));
    }
    let text = body.get("message")?.as_str().filter(|text| !text.trim().is_empty())?.to_owned();
    let is_error = matches!(reply.status(), 400..500) && success.is_none_or(|success| success == &Value::Bool(false));
    (is_error && holds_only(&body, &["message", "success"])).then_some(Spoken::Refused(text))
}

/// What Core's list of customers says of an e-mail address.
pub(super) enum Listed {
    /// The list is empty, and nothing beside it says otherwise.
    Nobody(Gone),
    /// These records.
    Records(Vec<Value>),
}

/// Core's list of customers, in either of the shapes of its lists; `None` for anything else. The documentation
/// shows none, so that a list which says that it is longer than it is counts as nothing.
pub(super) fn customers(body: Map<String, Value>) -> Option<Listed> {
    let List { rows, total } = rows(body)?;
    match (rows.is_empty(), total) {
        (true, None | Some(0)) => Some(Listed::Nobody(Gone::told())),
        (false, None | Some(1..)) => Some(Listed::Records(rows)),
        _ => None,
    }
}

/// The rows of a Core list in either of the shapes known, `{"items"}` or `{"success": true, "data"}`;
/// `None` for anything else.
pub(super) fn rows(body: Map<String, Value>) -> Option<List> {
    let success = body.get("success") == Some(&Value::Bool(true));
    match (body.contains_key("items"), body.contains_key("data")) {
        (true, false) => form::list(body, "items", &["success"]),
        (false, true) if success => form::list(body, "data", &["success"]),
        _ => None,
    }
}

/// The media store's form: `responseData` and no `errors` on HTTP 200, else `errors`, a list of texts.
pub(super) fn media_store(reply: &Reply) -> Option<Spoken> {
    let Value::Object(mut body) = reply.json()? else { return None };
    if reply.status() == 200 {
        if !holds_only(&body, &["responseData"]) {
            return None;
        }
        let Some(Value::Object(data)) = body.remove("responseData") else { return None };
        return (!tells_an_error(&data)).then_some(Spoken::Well(data));
    }
    let errors = body.get("errors")?.as_array().filter(|errors| !errors.is_empty())?;
    let texts: Vec<&str> = errors.iter().map(Value::as_str).collect::<Option<_>>()?;
    let is_error = matches!(reply.status(), 400..500) && holds_only(&body, &["errors"]);
    is_error.then(|| Spoken::Refused(texts.join("; ")))
}

/// What JSON-RPC says.
pub(super) enum Rpc {
    /// The result of the call that was made.
    Result(Map<String, Value>),
    /// An error's code.
    Error(i64),
}

/// JSON-RPC's form, always on HTTP 200: either `result` or `error`, with the `id` of our call, as a number or
/// as text (null where the call was not read). Beside a result, `error` is left out, null or false.
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

fn tells_an_error(body: &Map<String, Value>) -> bool {
    body.iter().any(|(name, value)| name.to_lowercase().starts_with("error") && says_something(value))
}
