//! The part of JSON Schema 2020-12 that our two schemas use.
//!
//! The rule it keeps: an unknown keyword or pattern is a failure, never skipped.

use erasure_worker::job::parse::is_name;
use serde_json::Value;

/// Annotations, which do not change validity.
const ANNOTATIONS: [&str; 6] = ["$schema", "$id", "$defs", "title", "description", "default"];

/// The first fault of a value, as `path: keyword`.
pub fn fault(schema: &Value, value: &Value) -> Option<String> {
    check(schema, schema, value, "").err()
}

fn check(root: &Value, schema: &Value, value: &Value, path: &str) -> Result<(), String> {
    let keywords = schema.as_object().unwrap_or_else(|| panic!("{path}: a schema that is no object"));
    for (keyword, wanted) in keywords {
        if !ANNOTATIONS.contains(&keyword.as_str()) && !holds(root, schema, keyword, wanted, value, path)? {
            return Err(format!("{path}: {keyword}"));
        }
    }
    Ok(())
}

/// True if one keyword holds; a fault further inside is returned as the error.
fn holds(
    root: &Value,
    schema: &Value,
    keyword: &str,
    wanted: &Value,
    value: &Value,
    path: &str,
) -> Result<bool, String> {
    let limit = || usize::try_from(wanted.as_u64().unwrap()).unwrap();
    let list = || wanted.as_array().unwrap().iter();
    let valid = |schema: &Value| check(root, schema, value, path).is_ok();
    Ok(match (keyword, value) {
        ("$ref", _) => {
            let target = root.pointer(wanted.as_str().unwrap().strip_prefix('#').unwrap());
            return check(root, target.unwrap_or_else(|| panic!("{wanted} leads nowhere")), value, path).map(|()| true);
        }
        ("const", _) => value == wanted,
        ("enum", _) => list().any(|allowed| allowed == value),
        ("anyOf", _) => list().any(valid),
        ("oneOf", _) => list().filter(|schema| valid(schema)).count() == 1,
        ("type", _) => match wanted.as_str().unwrap() {
            "object" => value.is_object(),
            "array" => value.is_array(),
            "string" => value.is_string(),
            "boolean" => value.is_boolean(),
            "null" => value.is_null(),
            "number" => value.is_number(),
            "integer" => value.is_i64() || value.is_u64(),
            other => panic!("{path}: type {other}"),
        },
        ("required", Value::Object(object)) => list().all(|name| object.contains_key(name.as_str().unwrap())),
        ("minProperties", Value::Object(object)) => object.len() >= limit(),
        ("maxProperties", Value::Object(object)) => object.len() <= limit(),
        ("additionalProperties", Value::Object(object)) => {
            let known = schema.get("properties").and_then(Value::as_object);
            let mut others = object.iter().filter(|(name, _)| known.is_none_or(|known| !known.contains_key(*name)));
            match wanted {
                Value::Bool(allowed) => *allowed || others.next().is_none(),
                schema => {
                    for (name, value) in others {
                        check(root, schema, value, &format!("{path}/{name}"))?;
                    }
                    true
                }
            }
        }
        ("properties", Value::Object(object)) => {
            for (name, schema) in wanted.as_object().unwrap() {
                if let Some(value) = object.get(name) {
                    check(root, schema, value, &format!("{path}/{name}"))?;
                }
            }
            true
        }
        ("items", Value::Array(items)) => {
            for (index, item) in items.iter().enumerate() {
                check(root, wanted, item, &format!("{path}/{index}"))?;
            }
            true
        }
        ("minItems", Value::Array(items)) => items.len() >= limit(),
        ("maxItems", Value::Array(items)) => items.len() <= limit(),
        ("minLength", Value::String(text)) => text.chars().count() >= limit(),
        ("maxLength", Value::String(text)) => text.chars().count() <= limit(),
        ("minimum", Value::Number(number)) => number.as_f64() >= wanted.as_f64(),
        ("maximum", Value::Number(number)) => number.as_f64() <= wanted.as_f64(),
        ("pattern", Value::String(text)) => matches(wanted.as_str().unwrap(), text),
        ("format", Value::String(text)) => match wanted.as_str().unwrap() {
            "date-time" => text.parse::<jiff::Timestamp>().is_ok(),
            "uri" => url::Url::parse(text).is_ok(),
            other => panic!("{path}: format {other}"),
        },
        (
            "required"
            | "minProperties"
            | "maxProperties"
            | "additionalProperties"
            | "properties"
            | "items"
            | "minItems"
            | "maxItems"
            | "minLength"
            | "maxLength"
            | "minimum"
            | "maximum"
            | "pattern"
            | "format",
            _,
        ) => true,
        (other, _) => panic!("{path}: unknown keyword {other}"),
    })
}

/// The patterns of our schemas, each checked by code.
fn matches(pattern: &str, text: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match pattern {
        "^[a-z0-9][a-z0-9_-]{0,62}$" => is_name(text),
        "^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$" => {
            text.len() == 36 && uuid::Uuid::try_parse(text).is_ok()
        }
        "^0*[1-9][0-9]*$" => digits(text) && text.bytes().any(|byte| byte != b'0'),
        "^\\S(.*\\S)?$" => !text.is_empty() && text.trim() == text && !text.contains('\n'),
        "^[!-~]+$" => !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic()),
        "^[^@\\s]+@[^@\\s]+\\.[^@\\s]+$" => {
            let whole = !text.contains(char::is_whitespace) && text.matches('@').count() == 1;
            let parts = |domain: &str| domain.char_indices().any(|(at, c)| c == '.' && at > 0 && at + 1 < domain.len());
            whole && text.split_once('@').is_some_and(|(local, domain)| !local.is_empty() && parts(domain))
        }
        "^erasure\\.job\\.[a-z_]+\\.v1$" => text
            .strip_prefix("erasure.job.")
            .and_then(|rest| rest.strip_suffix(".v1"))
            .is_some_and(|what| !what.is_empty() && what.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')),
        "^ERS-[0-9]{4}$" => text.strip_prefix("ERS-").is_some_and(|number| number.len() == 4 && digits(number)),
        "^[0-9a-f]{64}$" => {
            text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
        }
        other => panic!("unknown pattern {other}"),
    }
}
