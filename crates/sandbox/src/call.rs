//! One received call, and a stand-in's reply.
//!
//! The rule it keeps: the whole call is read before any decision about it.

use std::borrow::Cow;

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::Response;
use bytes::Bytes;
use percent_encoding::percent_decode_str;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::operation::Operation;

/// Longer bodies are refused; every valid call is far shorter.
const BODY_MAX: usize = 4 << 20;

/// One received call.
pub(super) struct Call {
    pub(super) method: Method,
    /// The first path segment: the kind, or `kind@instance`.
    pub(super) system: String,
    /// The other path segments, percent-decoded; a final slash gives a last, empty one.
    pub(super) segments: Vec<String>,
    pub(super) query: Vec<(String, String)>,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Call {
    /// Reads the whole request; `None` if the connection was lost or the body is too long.
    pub(super) async fn read(request: Request) -> Option<Call> {
        let (head, body) = request.into_parts();
        let body = to_bytes(body, BODY_MAX).await.ok()?;
        let mut segments = head
            .uri
            .path()
            .trim_start_matches('/')
            .split('/')
            .map(|segment| percent_decode_str(segment).decode_utf8_lossy().into_owned());
        let system = segments.next().unwrap_or_default();
        let query = pairs(head.uri.query().unwrap_or_default().as_bytes());
        Some(Call { method: head.method, system, segments: segments.collect(), query, headers: head.headers, body })
    }

    /// Path segments as string slices, for matching.
    pub(super) fn path(&self) -> Vec<&str> {
        self.segments.iter().map(String::as_str).collect()
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    pub(super) fn bearer(&self) -> Option<&str> {
        self.header("authorization")?.strip_prefix("Bearer ")
    }

    /// The first value of a query parameter.
    pub(super) fn query(&self, name: &str) -> Option<&str> {
        first(&self.query, name)
    }

    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// The fields of an `application/x-www-form-urlencoded` body; `None` for any other body.
    pub(super) fn form(&self) -> Option<Vec<(String, String)>> {
        let kind = self.header("content-type")?;
        kind.starts_with("application/x-www-form-urlencoded").then(|| pairs(&self.body))
    }

    /// The text fields of a `multipart/form-data` body; `None` for any other body.
    pub(super) fn multipart(&self) -> Option<Vec<(String, String)>> {
        let kind = self.header("content-type")?.strip_prefix("multipart/form-data")?;
        let (_, boundary) = kind.split_once("boundary=")?;
        let boundary = format!("--{}", boundary.split(';').next()?.trim().trim_matches('"'));
        let body = std::str::from_utf8(&self.body).ok()?;
        // A part between two boundaries has header lines, an empty line and the value.
        Some(body.split(boundary.as_str()).filter_map(part).collect())
    }
}

fn part(text: &str) -> Option<(String, String)> {
    let (head, value) = text.split_once("\r\n\r\n")?;
    let (_, name) = head.split_once(" name=\"")?;
    let (name, _) = name.split_once('"')?;
    Some((name.to_owned(), value.strip_suffix("\r\n")?.to_owned()))
}

fn pairs(encoded: &[u8]) -> Vec<(String, String)> {
    url::form_urlencoded::parse(encoded).into_owned().collect()
}

/// The first value under `name`.
pub(super) fn first<'a>(fields: &'a [(String, String)], name: &str) -> Option<&'a str> {
    fields.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
}

/// The operation, subject and object of a call.
pub(super) struct Route {
    pub(super) operation: Operation,
    /// The path with names in place of identifiers.
    pub(super) template: Cow<'static, str>,
    /// The person, account or code, by a key that all calls for it share.
    pub(super) subject: Option<String>,
    /// The subject's offer or entitlement, if the call concerns one.
    pub(super) object: Option<String>,
}

impl Route {
    pub(super) fn new(operation: Operation, template: &'static str, subject: Option<String>) -> Route {
        Route { operation, template: Cow::Borrowed(template), subject, object: None }
    }

    pub(super) fn unknown() -> Route {
        Route::new(Operation::Unknown, "", None)
    }
}

/// A violation of the documented form of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Misuse {
    /// Credentials or a customer's password in the query string.
    CredentialsInQuery,
    /// The body must be `multipart/form-data`.
    NotMultipart,
    /// The body must be form-encoded.
    NotForm,
    /// The vendor's `Accept` header is missing.
    WrongAccept,
    /// A required parameter is missing or given twice.
    WrongParameters,
    /// An `Authorization` header that the vendor does not use.
    NeedlessAuthorization,
    /// A call during a rate limit's block, which extends the block.
    CalledWhileBlocked,
}

/// A stand-in's answer, and its effect.
pub(super) struct Reply {
    pub(super) status: u16,
    content_type: &'static str,
    headers: Vec<(header::HeaderName, String)>,
    body: Vec<u8>,
    /// True if the stand-in's state changed.
    pub(super) effect: bool,
    pub(super) credentials_ok: bool,
    pub(super) misuse: Option<Misuse>,
}

impl Reply {
    fn new(status: u16, content_type: &'static str, body: Vec<u8>) -> Reply {
        Reply { status, content_type, headers: Vec::new(), body, effect: false, credentials_ok: true, misuse: None }
    }

    pub(super) fn json(status: u16, body: &Value) -> Reply {
        Reply::new(status, "application/json", body.to_string().into_bytes())
    }

    pub(super) fn text(status: u16, body: impl Into<String>) -> Reply {
        Reply::new(status, "text/plain; charset=utf-8", body.into().into_bytes())
    }

    pub(super) fn xml(status: u16, body: impl Into<String>) -> Reply {
        Reply::new(status, "text/xml; charset=utf-8", body.into().into_bytes())
    }

    pub(super) fn of(status: u16, content_type: &'static str, body: Vec<u8>) -> Reply {
        Reply::new(status, content_type, body)
    }

    pub(super) fn typed(status: u16, content_type: &'static str, body: String) -> Reply {
        Reply::new(status, content_type, body.into_bytes())
    }

    /// 200 with bytes that are no valid text.
    pub(super) fn garbage() -> Reply {
        Reply::new(200, "application/octet-stream", vec![0xff, 0xfe, 0x00, 0x7b, 0x3c, 0xc3, 0x28])
    }

    pub(super) fn with_header(mut self, name: header::HeaderName, value: String) -> Reply {
        self.headers.push((name, value));
        self
    }

    pub(super) fn effected(mut self) -> Reply {
        self.effect = true;
        self
    }

    pub(super) fn unauthorised(mut self) -> Reply {
        self.credentials_ok = false;
        self
    }

    pub(super) fn misused(mut self, misuse: Misuse) -> Reply {
        self.misuse = Some(misuse);
        self
    }

    pub(super) fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(self.body));
        *response.status_mut() = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(self.content_type));
        for (name, value) in self.headers {
            if let Ok(value) = HeaderValue::from_str(&value) {
                response.headers_mut().insert(name, value);
            }
        }
        response
    }
}

/// One system's stand-in.
pub(super) trait StandIn {
    /// Reads the call's operation and subject; changes nothing.
    fn route(&self, call: &Call) -> Route;
    /// Does the work and answers. `now_ms` counts from 1970.
    fn answer(&mut self, route: &Route, call: &Call, now_ms: u64) -> Reply;
    /// The answer of [`StandIn::answer`], without the work.
    fn pretend(&mut self, route: &Route, call: &Call, now_ms: u64) -> Reply;
    /// This system's answer to a wrong credential.
    fn refuse(&self, operation: Operation) -> Reply;
}
