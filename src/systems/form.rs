//! Strict reading of JSON: checks for unknown fields in a reply.
//!
//! The rule it keeps: a conclusion from an *absent* field is drawn only from a reply in which every field with
//! content is understood.

use serde_json::{Map, Value};

use super::compare::id_text;

/// True for a value with content: not `null`, not `false`, not empty.
pub(super) fn has_content(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::Bool(true) | Value::Number(_) => true,
        Value::String(text) => !text.trim().is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
    }
}

/// True if no field but the known ones has content.
pub(super) fn holds_only(body: &Map<String, Value>, known: &[&str]) -> bool {
    body.iter().all(|(name, value)| known.contains(&name.as_str()) || !has_content(value))
}

/// A name's letters and digits, in lower case: `memberId`, `member_id` and `Member ID` are the same name.
pub(super) fn plain(name: &str) -> String {
    name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect()
}

/// True for a name of a list's length.
pub(super) fn is_total(name: &str) -> bool {
    let name = plain(name);
    name.starts_with("total") || name.ends_with("count")
}

/// A list, and its length according to the reply.
pub(super) struct List {
    pub(super) rows: Vec<Value>,
    pub(super) total: Option<usize>,
}

/// The list under `key`; `None` if the reply has an unknown field with content. Names of paging are known.
pub(super) fn list(mut body: Map<String, Value>, key: &str, known: &[&str]) -> Option<List> {
    const PAGING: [&str; 3] = ["offset", "limit", "page"];
    let Some(Value::Array(rows)) = body.remove(key) else { return None };
    let mut total = None;
    for (name, value) in body.iter().filter(|(name, value)| !known.contains(&name.as_str()) && !value.is_null()) {
        if is_total(name) {
            let stated = id_text(value).and_then(|text| text.parse().ok())?;
            if total.replace(stated).is_some_and(|before| before != stated) {
                return None;
            }
        } else if has_content(value) && !(PAGING.contains(&plain(name).as_str()) && value.is_u64()) {
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
    fn a_list_is_read_only_if_every_other_field_is_understood() {
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
