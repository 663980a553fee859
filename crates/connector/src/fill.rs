//! A call with its values: the request as it is sent.
//!
//! The rule it keeps: a value cannot leave its place. In a path it is one part of one segment, in a query or form one
//! value, in JSON one text, number or list; and a value that would make the path another path is refused.

use base64::Engine as _;
use md5::Md5;
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use crate::matching::{Values, written};
use crate::model::{Auth, Body, Call, Converter, Http, Json, Method, Part, Template};

/// A request below the base address.
pub struct Filled {
    /// The method.
    pub method: Method,
    /// The path, percent-encoded; it begins with a slash.
    pub path: String,
    /// The query's pairs, not encoded.
    pub query: Vec<(String, String)>,
    /// The headers, without those of the credential.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: FilledBody,
}

/// A request's body.
pub enum FilledBody {
    /// None.
    None,
    /// JSON.
    Json(Value),
    /// A form's pairs, not encoded.
    Form(Vec<(String, String)>),
}

/// A request cannot be made from these values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unfilled {
    /// A slot has no value.
    #[error("a value that the call needs is missing")]
    Missing,
    /// A path would name another resource.
    #[error("a value that cannot stand in an address")]
    Path,
}

/// The call as it is sent.
///
/// # Errors
/// [`Unfilled`], without the value.
pub fn filled(call: &Call, http: &Http, values: &dyn Values) -> Result<Filled, Unfilled> {
    let text = |template: &Template| written(template, values).ok_or(Unfilled::Missing);
    let pairs = |pairs: &[(String, Template)]| -> Result<Vec<(String, String)>, Unfilled> {
        pairs.iter().map(|(name, value)| Ok((name.clone(), text(value)?))).collect()
    };
    let headers = http.headers.iter().chain(&call.headers);
    Ok(Filled {
        method: call.method,
        path: path(&call.path, values)?,
        query: pairs(&call.query)?,
        headers: headers.map(|(name, value)| Ok((name.clone(), text(value)?))).collect::<Result<_, _>>()?,
        body: match &call.body {
            Body::None => FilledBody::None,
            Body::Json(body) => FilledBody::Json(json(body, values)?),
            Body::Form(form) => FilledBody::Form(pairs(form)?),
        },
    })
}

/// The value of `Authorization`, if the credential is sent in it.
pub fn authorization(auth: &Auth, values: &dyn Values) -> Result<Option<String>, Unfilled> {
    let text = |template: &Template| written(template, values).ok_or(Unfilled::Missing);
    Ok(match auth {
        Auth::None => None,
        Auth::Bearer(token) => Some(format!("Bearer {}", text(token)?)),
        Auth::Basic(user, password) => {
            let pair = format!("{}:{}", text(user)?, text(password)?);
            Some(format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair)))
        }
    })
}

/// The path. Values are encoded; an empty value, and a segment `.` or `..`, would name another resource.
fn path(template: &Template, values: &dyn Values) -> Result<String, Unfilled> {
    let mut path = String::new();
    for part in &template.0 {
        match part {
            Part::Text(text) => path.push_str(text),
            Part::Slot(slot) => {
                let value = values.slot(slot).ok_or(Unfilled::Missing)?;
                if value.is_empty() {
                    return Err(Unfilled::Path);
                }
                path.extend(percent_encoding::utf8_percent_encode(&value, SEGMENT));
            }
        }
    }
    if path.split('/').any(|segment| matches!(segment, "." | "..")) { Err(Unfilled::Path) } else { Ok(path) }
}

/// RFC 3986 unreserved characters are not encoded; all others are, also `%` and `/`.
const SEGMENT: &percent_encoding::AsciiSet =
    &percent_encoding::NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

fn json(json: &Json, values: &dyn Values) -> Result<Value, Unfilled> {
    Ok(match json {
        Json::Value(value) => value.clone(),
        Json::Text(template) => match template.0.as_slice() {
            // A number that a vendor gave is a number when it is sent back.
            [Part::Slot(slot)] => values.typed(slot).ok_or(Unfilled::Missing)?,
            _ => Value::from(written(template, values).ok_or(Unfilled::Missing)?),
        },
        Json::List(members) => members.iter().map(|member| self::json(member, values)).collect::<Result<_, _>>()?,
        Json::Object(members) => {
            let members = members.iter().map(|(name, member)| Ok((name.clone(), self::json(member, values)?)));
            Value::Object(members.collect::<Result<Map<_, _>, _>>()?)
        }
    })
}

/// A value after its conversions.
pub fn converted(value: String, converters: &[Converter]) -> String {
    converters.iter().fold(value, |value, converter| match converter {
        Converter::Lower => value.to_ascii_lowercase(),
        Converter::Md5 => hex::encode(Md5::digest(value)),
        Converter::Sha256 => hex::encode(Sha256::digest(value)),
        Converter::Base64 => base64::engine::general_purpose::STANDARD.encode(value),
    })
}
