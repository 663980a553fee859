//! Every change of a reply: what proxies, other versions and other accounts of a vendor make of it.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{Content, Given};

/// A changed reply.
#[derive(Debug, Clone)]
pub struct Changed {
    /// The change, in words; a place is a JSON pointer.
    pub what: String,
    /// The status.
    pub status: u16,
    /// The content type.
    pub content_type: &'static str,
    /// The body.
    pub body: Vec<u8>,
}

/// The statuses that a reply is tried with.
const STATUSES: [u16; 20] =
    [200, 201, 202, 204, 206, 207, 302, 400, 401, 403, 404, 405, 409, 410, 418, 422, 429, 500, 502, 503];
/// The most places of a body that are changed.
const MOST_PLACES: usize = 60;
/// Deeper than any reader goes.
const DEEP: usize = 100_000;

const LOGIN: &str = "<!DOCTYPE html><html><head><title>Sign in</title></head><body><form method=\"post\"><input \
                     name=\"user\"><input name=\"password\"></form></body></html>";
const PROXY: &str =
    "<html><head><title>404 Not Found</title></head><body><center><h1>404 Not Found</h1></center></body></html>";

impl Changed {
    fn new(what: impl Into<String>, status: u16, body: impl Into<Vec<u8>>) -> Self {
        Changed { what: what.into(), status, content_type: "application/json", body: body.into() }
    }

    fn page(what: &str, status: u16, body: &str) -> Self {
        Changed { content_type: "text/html; charset=utf-8", ..Changed::new(what, status, body) }
    }

    /// As the client reads it.
    pub fn reply(&self) -> crate::Reply {
        let headers = vec![("content-type".to_owned(), self.content_type.to_owned())];
        crate::Reply::new(self.status, headers, &self.body)
    }
}

/// Replies that have nothing to do with the due reply.
pub fn strange() -> Vec<Changed> {
    vec![
        Changed::page("a login page with 200", 200, LOGIN),
        Changed::page("a proxy's page with 404", 404, PROXY),
        Changed::new("an empty body with 200", 200, ""),
        Changed::new("an empty body with 204", 204, ""),
        Changed::new("an empty body with 404", 404, ""),
        Changed::new("an empty body with 410", 410, ""),
        Changed::new("an empty object with 200", 200, "{}"),
        Changed::new("an empty list with 200", 200, "[]"),
        Changed::new("an empty object with 404", 404, "{}"),
        Changed::new("null with 200", 200, "null"),
        Changed::new("a gateway's unknown route with 404", 404, r#"{"message":"no Route matched with those values"}"#),
        Changed::new("deep JSON", 200, "[".repeat(DEEP)),
    ]
}

/// This reply with a text in it that the vendor should no longer have.
pub fn marked(given: &Given, text: &str) -> Changed {
    let what = "with the person's address";
    match &given.body {
        Content::Json(Value::Object(members)) => {
            let mut members = members.clone();
            members.insert("another".to_owned(), json!({ "contact": format!("<{text}>") }));
            Changed::new(what, given.status, Value::Object(members).to_string())
        }
        Content::Json(other) => Changed::new(what, given.status, json!([other, text]).to_string()),
        Content::Empty | Content::Text(_) => Changed::page(what, given.status, &format!("<p>{text}</p>")),
    }
}

/// Every change of this reply: each place of its body removed, null, of another type, empty, and rounded; each status;
/// cut; with a key twice; with more around it.
pub fn changes(given: &Given) -> Vec<Changed> {
    let mut met = BTreeSet::from([(given.status, given.bytes())]);
    let mut all = every(given);
    all.retain(|change| met.insert((change.status, change.body.clone())));
    all
}

fn every(given: &Given) -> Vec<Changed> {
    let whole = given.bytes();
    let mut all = Vec::new();
    for status in STATUSES.into_iter().filter(|status| *status != given.status) {
        all.push(Changed::new(format!("status {status}"), status, whole.clone()));
    }
    for cut in [whole.len() / 2, whole.len().saturating_sub(1)] {
        if cut > 0 {
            all.push(Changed::new(format!("cut after {cut} bytes"), given.status, &whole[..cut]));
        }
    }
    let Content::Json(tree) = &given.body else { return all };
    let mut places = Vec::new();
    walk(tree, &mut Vec::new(), &mut places);
    for place in places.iter().take(MOST_PLACES) {
        let name: String = place.iter().map(|part| format!("/{part}")).collect();
        for (what, value) in others(at(tree, place)) {
            let mut changed = tree.clone();
            match value {
                Some(value) => {
                    if let Some(old) = at_mut(&mut changed, place) {
                        *old = value;
                    }
                }
                None => remove(&mut changed, place),
            }
            all.push(Changed::new(format!("{name} {what}"), given.status, changed.to_string()));
        }
    }
    for place in std::iter::once(&Vec::new()).chain(places.iter().take(MOST_PLACES)) {
        if at(tree, place).is_object() {
            let mut changed = tree.clone();
            if let Some(Value::Object(members)) = at_mut(&mut changed, place) {
                members.insert("another".to_owned(), json!("member"));
            }
            let name: String = place.iter().map(|part| format!("/{part}")).collect();
            all.push(Changed::new(format!("{name} with another member"), given.status, changed.to_string()));
        }
    }
    if let Value::Object(members) = tree
        && let Some((name, value)) = members.iter().next()
    {
        let rest: Vec<String> = members.iter().map(|(name, value)| format!("{}:{value}", json!(name))).collect();
        let body = format!("{{{},{}:{value}}}", rest.join(","), json!(name));
        all.push(Changed::new(format!("/{name} twice"), given.status, body));
    }
    all.push(Changed::new("inside a list", given.status, json!([tree]).to_string()));
    all.push(Changed::new("inside an object", given.status, json!({ "data": tree }).to_string()));
    all.push(Changed::new("as a text", given.status, json!(tree.to_string()).to_string()));
    all
}

fn walk(tree: &Value, place: &mut Vec<String>, places: &mut Vec<Vec<String>>) {
    let members: Vec<(String, &Value)> = match tree {
        Value::Object(members) => members.iter().map(|(name, value)| (name.clone(), value)).collect(),
        Value::Array(members) => members.iter().enumerate().map(|(index, value)| (index.to_string(), value)).collect(),
        _ => Vec::new(),
    };
    for (name, value) in members {
        place.push(name);
        places.push(place.clone());
        walk(value, place, places);
        place.pop();
    }
}

fn at<'v>(tree: &'v Value, place: &[String]) -> &'v Value {
    crate::document::at(tree, place).unwrap_or(&Value::Null)
}

fn at_mut<'v>(tree: &'v mut Value, place: &[String]) -> Option<&'v mut Value> {
    place.iter().try_fold(tree, |tree, name| match tree {
        Value::Object(members) => members.get_mut(name),
        Value::Array(members) => name.parse::<usize>().ok().and_then(|index| members.get_mut(index)),
        _ => None,
    })
}

fn remove(tree: &mut Value, place: &[String]) {
    let Some((name, parent)) = place.split_last() else { return };
    match at_mut(tree, parent) {
        Some(Value::Object(members)) => drop(members.remove(name)),
        Some(Value::Array(members)) => {
            if let Some(index) = name.parse::<usize>().ok().filter(|index| *index < members.len()) {
                members.remove(index);
            }
        }
        _ => {}
    }
}

/// The other values of a place. `None`: it is missing.
fn others(value: &Value) -> Vec<(&'static str, Option<Value>)> {
    let mut all = vec![("missing", None)];
    let mut add = |what, other: Value| {
        if other != *value {
            all.push((what, Some(other)));
        }
    };
    add("null", Value::Null);
    match value {
        Value::String(text) => {
            add("empty", json!(""));
            add("as a number", text.parse::<i64>().map_or(json!(1), |number| json!(number)));
            add("in a list", json!([text]));
            add("with more text", json!(format!("{text} or so")));
        }
        Value::Number(number) => {
            add("as a text", json!(number.to_string()));
            add("beyond 2^53", json!(9_007_199_254_740_993_u64));
        }
        Value::Bool(value) => {
            add("as a text", json!(value.to_string()));
            add("as a number", json!(i32::from(*value)));
        }
        Value::Array(members) => {
            add("empty", json!([]));
            add("as an object", json!({}));
            add("with a member twice", json!([members.as_slice(), members.as_slice()].concat()));
        }
        Value::Object(_) => {
            add("empty", json!({}));
            add("in a list", json!([value]));
            add("as a text", json!("text"));
        }
        Value::Null => add("a text", json!("text")),
    }
    all
}
