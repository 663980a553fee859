//! Reading JSON strictly: what is in a reply beside that which is known.
//!
//! The rule it keeps: where something is to be believed because of what is *not* in a reply, nothing in it may
//! be left that is not understood.

use serde_json::{Map, Value};

use super::compare::id_text;

/// True for a value that carries anything: `null`, `false`, and what is empty do not.
pub(super) fn says_something(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::Bool(true) | Value::Number(_) => true,
        Value::String(text) => !text.trim().is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
    }
}

/// True where every name but the known ones says nothing.
pub(super) fn holds_only(body: &Map<String, Value>, known: &[&str]) -> bool {
    body.iter().all(|(name, value)| known.contains(&name.as_str()) || !says_something(value))
}

/// A name by its letters and digits alone, in lower case: `memberId`, `member_id` and `Member ID` are one.
pub(super) fn plain(name: &str) -> String {
    name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect()
}

/// True for a name under which a list tells how long it is.
pub(super) fn is_total(name: &str) -> bool {
    let name = plain(name);
    name.starts_with("total") || name.ends_with("count")
}

/// A list, and how long it says that it is.
pub(super) struct List {
    pub(super) rows: Vec<Value>,
    pub(super) total: Option<usize>,
}

/// The list under `key`; `None` where anything beside it is not understood. Names of paging are.
pub(super) fn list(mut body: Map<String, Value>, key: &str, known: &[&str]) -> Option<List> {
    const PAGING: [&str; 3] = ["offset", "limit", "page"];
    let Some(Value::Array(rows)) = body.remove(key) else { return None };
    let mut total = None;
    for (name, value) in body.iter().filter(|(name, value)| !known.contains(&name.as_str()) && !value.is_null()) {
        if is_total(name) {
            let told = id_text(value).and_then(|text| text.parse().ok())?;
            if total.replace(told).is_some_and(|before| before != told) {
                return None;
            }
        } else if says_something(value) && !(PAGING.contains(&plain(name).as_str()) && value.is_u64()) {
            return None;
        }
    }
    Some(List { rows, total })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(body: Value) -> Option<(usize, Option<usize>)> {
        let Value::Object(body) = body else { return None };
        list(body, "items", &["success"]).map(|list| (list.rows.len(), list.total))
    }

    #[test]
    fn a_list_is_one_only_where_all_that_is_beside_it_is_understood() {
        assert_eq!(read(json!({ "items": [] })), Some((0, None)));
        assert_eq!(
            read(json!({ "items": [1], "total": 1, "offset": 0, "next": null, "success": true })),
            Some((1, Some(1)))
        );
        assert_eq!(read(json!({ "items": [], "totalItems": "2", "errors": [] })), Some((0, Some(2))));
        for body in [
            json!({ "items": {} }),
            json!({ "items": [], "rows": [1] }),
            json!({ "items": [], "message": "busy" }),
            json!({ "items": [], "total": "many" }),
            json!({ "items": [], "total": 1, "count": 2 }),
            json!({ "items": [], "hasMore": true }),
            json!({ "items": [], "page": "last" }),
        ] {
            assert_eq!(read(body.clone()), None, "{body}");
        }
    }
}
