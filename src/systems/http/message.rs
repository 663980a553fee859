//! A request to send, and its reply.
//!
//! The rule it keeps: no part of either is shown, except the reply's status.

use std::borrow::Cow;
use std::time::Duration;

use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use serde::de::DeserializeOwned;
use url::Url;
use zeroize::Zeroizing;

use super::address::Address;
use super::{
    ACCEPT, AUTHORIZATION, DATE, Effect, HeaderMap, HeaderName, HeaderValue, LIST_LIMIT, LOCATION, Method, REPLY_LIMIT,
    RETRY_AFTER, lost, unread,
};
use crate::job::{Failure, FailureKind, Note, Reason};

/// The longest `Retry-After` that is believed: a longer one most likely comes from a wrong clock.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(24 * 60 * 60);

pub(super) enum Body {
    Empty,
    Typed(&'static str, Zeroizing<Vec<u8>>),
    Multipart(Vec<(String, Zeroizing<String>)>),
}

/// A request to be sent once. Without `Debug`: every part of it can name or prove a person.
pub struct Request {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) template: Option<Cow<'static, str>>,
    pub(super) headers: HeaderMap,
    pub(super) body: Body,
    pub(super) limit: usize,
    pub(super) broken: bool,
}

impl Request {
    /// Any method.
    pub(crate) fn new(method: Method, address: Address) -> Request {
        let Address { url, template } = address;
        Request {
            method,
            url,
            template,
            headers: HeaderMap::new(),
            body: Body::Empty,
            limit: REPLY_LIMIT,
            broken: false,
        }
    }

    /// `GET`.
    pub fn get(address: Address) -> Request {
        Request::new(Method::GET, address)
    }

    /// `POST`.
    pub fn post(address: Address) -> Request {
        Request::new(Method::POST, address)
    }

    /// `PUT`.
    pub fn put(address: Address) -> Request {
        Request::new(Method::PUT, address)
    }

    /// `DELETE`.
    pub fn delete(address: Address) -> Request {
        Request::new(Method::DELETE, address)
    }

    /// Adds query parameters, form-encoded.
    pub fn query(mut self, pairs: &[(&str, &str)]) -> Request {
        self.url.query_pairs_mut().extend_pairs(pairs);
        self
    }

    /// `Accept`.
    pub fn accept(mut self, media_type: &'static str) -> Request {
        self.headers.insert(ACCEPT, HeaderValue::from_static(media_type));
        self
    }

    /// A header that is no secret.
    pub fn header(self, name: &'static str, value: &str) -> Request {
        self.set(HeaderName::from_bytes(name.as_bytes()).ok(), value, false)
    }

    /// A header that is a credential or a proof.
    pub(crate) fn secret_header(self, name: &'static str, value: &SecretString) -> Request {
        self.set(HeaderName::from_bytes(name.as_bytes()).ok(), value.expose_secret(), true)
    }

    /// A header whose name is data. Its value may be a credential or name a person.
    pub(crate) fn named_header(self, name: &str, value: &str) -> Request {
        self.set(HeaderName::from_bytes(name.as_bytes()).ok(), value, true)
    }

    /// `Authorization: Bearer …`.
    pub fn bearer(self, token: &SecretString) -> Request {
        let value = Zeroizing::new(format!("Bearer {}", token.expose_secret()));
        self.set(Some(AUTHORIZATION), &value, true)
    }

    fn set(mut self, name: Option<HeaderName>, value: &str, secret: bool) -> Request {
        match (name, HeaderValue::from_str(value)) {
            (Some(name), Ok(mut value)) => {
                value.set_sensitive(secret);
                self.headers.insert(name, value);
            }
            _ => self.broken = true,
        }
        self
    }

    /// An `application/x-www-form-urlencoded` body.
    pub fn form(self, pairs: &[(&str, &str)]) -> Request {
        let encoded = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
        self.body("application/x-www-form-urlencoded", encoded.into_bytes())
    }

    /// A `multipart/form-data` body of text fields.
    pub fn multipart(mut self, fields: &[(&str, &str)]) -> Request {
        self.body = Body::Multipart(
            fields.iter().map(|(name, value)| ((*name).to_owned(), Zeroizing::new((*value).to_owned()))).collect(),
        );
        self
    }

    /// An `application/json` body.
    pub fn json(self, value: &serde_json::Value) -> Request {
        self.body("application/json", value.to_string().into_bytes())
    }

    /// A body of any other type.
    pub fn body(mut self, content_type: &'static str, bytes: Vec<u8>) -> Request {
        self.body = Body::Typed(content_type, Zeroizing::new(bytes));
        self
    }

    /// Reads up to [`LIST_LIMIT`] of the reply.
    pub(crate) fn long_reply(mut self) -> Request {
        self.limit = LIST_LIMIT;
        self
    }
}

/// A whole reply. Its `Debug` form shows the status only.
pub struct Reply {
    pub(super) status: u16,
    pub(super) retry_after: Option<Duration>,
    pub(super) location: Option<&'static str>,
    pub(super) headers: HeaderMap,
    pub(super) body: Zeroizing<Vec<u8>>,
}

impl std::fmt::Debug for Reply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reply").field("status", &self.status).finish_non_exhaustive()
    }
}

impl Reply {
    /// The HTTP status.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// True for 200 to 299.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The headers that are texts.
    pub(crate) fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        self.headers.iter().filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)))
    }

    /// The body as received; never decompressed.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// True if the body is empty or white space.
    pub(crate) fn is_blank(&self) -> bool {
        self.body.trim_ascii().is_empty()
    }

    /// The body as JSON; `None` if it is anything else.
    pub fn json<T: DeserializeOwned>(&self) -> Option<T> {
        serde_json::from_slice(&self.body).ok()
    }

    /// A redirect's target, compared with the request's address. Path and host are not shown: either could name a
    /// person.
    pub fn location(&self) -> Option<&'static str> {
        self.location
    }

    /// The meaning of a status that the kind's own rules do not decide:
    ///
    /// | status | kind |
    /// |---|---|
    /// | 429 | `RateLimited`, with the reply's wait |
    /// | 5xx | `Unavailable` on a read; `Ambiguous` on a change; for a one-time password 502 and 504 `Ambiguous`, others `Unavailable` |
    /// | 408 | as a lost answer |
    /// | 3xx | `UnauthorisedOurs`: the configured address is not the system's |
    /// | 401, 403 | `UnauthorisedOurs`; a client whose call had a person's proof decides first |
    /// | other 4xx | `Rejected` |
    /// | 2xx | it could not be read: `Unreadable` on a read, `Ambiguous` on a change |
    pub fn failure(&self, effect: Effect) -> Failure {
        let (kind, reason) = match self.status {
            429 => (FailureKind::RateLimited, Reason::SystemUnavailable),
            408 | 502 | 504 => (lost(effect), Reason::SystemUnavailable),
            500..600 if effect == Effect::Change => (FailureKind::Ambiguous, Reason::SystemUnavailable),
            500..600 => (FailureKind::Unavailable, Reason::SystemUnavailable),
            300..400 | 401 | 403 => (FailureKind::UnauthorisedOurs, Reason::SystemUnavailable),
            400..500 => (FailureKind::Rejected, Reason::RequestRejected),
            _ => (unread(effect), Reason::UnreadableReply),
        };
        let mut failure = Failure::new(kind, reason).with_note(Note::http(self.status));
        failure.retry_after = self.retry_after;
        failure
    }

    /// The meaning of a reply that is not from the interface itself: it is from a gateway, or the address is wrong.
    /// It is never the person's fault, and after a change it decides nothing.
    pub(crate) fn not_from_interface(&self, effect: Effect) -> Failure {
        let failure = self.failure(effect);
        match self.status {
            300..=399 | 408 | 429 | 500.. => failure,
            // Usually our own address or credential is wrong.
            401 | 403 if effect == Effect::Read => {
                failure.with_note(Note::http(self.status).and(", not in the interface's own form"))
            }
            _ => self.unreadable(effect),
        }
    }

    /// The failure for a reply of an unknown form: `Unreadable` for a read; `Ambiguous` for a change, because it may
    /// have been made.
    pub fn unreadable(&self, effect: Effect) -> Failure {
        Failure::new(unread(effect), Reason::UnreadableReply)
            .with_note(Note::http(self.status).and(", a reply of unknown form"))
    }
}

/// Seconds, or a date. A date is compared with the reply's `Date`, or with our clock if there is none.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let date = |value: &str| jiff::fmt::rfc2822::parse(value).ok().map(|at| at.timestamp());
    let value = text(RETRY_AFTER)?;
    let wait = match value.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let from = text(DATE).and_then(date).unwrap_or_else(Timestamp::now);
            Duration::try_from(date(value)?.duration_since(from)).unwrap_or(Duration::ZERO)
        }
    };
    Some(wait.min(RETRY_AFTER_MAX))
}

/// The time of the reply, by its sender's clock.
pub(super) fn date(headers: &HeaderMap) -> Option<Timestamp> {
    let text = headers.get(DATE)?.to_str().ok()?;
    jiff::fmt::rfc2822::parse(text.trim()).ok().map(|at| at.timestamp())
}

pub(super) fn location(headers: &HeaderMap, from: &Url) -> Option<&'static str> {
    let target = from.join(headers.get(LOCATION)?.to_str().ok()?).ok()?;
    let (asked, redirected) = (from.path(), target.path());
    Some(if target.host() != from.host() {
        "another host"
    } else if redirected.strip_suffix('/') == Some(asked) {
        "the same path with a slash at its end"
    } else if asked.strip_suffix('/') == Some(redirected) {
        "the same path without the slash at its end"
    } else if asked == redirected && target.scheme() != from.scheme() {
        "the same path by https"
    } else {
        "another path"
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(HeaderName, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), HeaderValue::from_str(value).expect("value"))).collect()
    }

    #[test]
    fn a_wait_is_read_as_seconds_or_as_a_date_and_is_bounded() {
        let seconds = |pairs: &[(HeaderName, &str)]| retry_after(&headers(pairs)).map(|wait| wait.as_secs());
        assert_eq!(seconds(&[(RETRY_AFTER, "17")]), Some(17));
        assert_eq!(seconds(&[(RETRY_AFTER, "99999999999")]), Some(86_400));
        assert_eq!(seconds(&[(RETRY_AFTER, "soon")]), None);
        assert_eq!(seconds(&[]), None);
        let date = (DATE, "Sun, 22 Nov 2026 10:00:00 GMT");
        assert_eq!(seconds(&[(RETRY_AFTER, "Sun, 22 Nov 2026 10:01:30 GMT"), date.clone()]), Some(90));
        assert_eq!(seconds(&[(RETRY_AFTER, "Sun, 22 Nov 2026 09:59:00 GMT"), date]), Some(0));
    }

    #[test]
    fn a_redirect_is_reported_in_fixed_words_only() {
        let from = Url::parse("https://a.example.com/x/y").expect("url");
        let shown = |value: &str| location(&headers(&[(LOCATION, value)]), &from);
        assert_eq!(shown("/x/y/"), Some("the same path with a slash at its end"));
        assert_eq!(shown("z?email=ann@example.com"), Some("another path"));
        assert_eq!(shown("/login/Ann.Example"), Some("another path"));
        assert_eq!(shown("https://b.example.com/Ann.Example"), Some("another host"));
        assert_eq!(shown("https://ann:secret@b.example.com/?who=ann"), Some("another host"));
        let from = Url::parse("http://a.example.com/x/").expect("url");
        let shown = |value: &str| location(&headers(&[(LOCATION, value)]), &from);
        assert_eq!(shown("https://a.example.com/x/"), Some("the same path by https"));
        assert_eq!(shown("/x"), Some("the same path without the slash at its end"));
    }

    #[test]
    fn after_a_server_error_it_is_unknown_whether_a_change_was_made() {
        let kind = |status: u16, effect: Effect| {
            Reply { status, retry_after: None, location: None, headers: HeaderMap::new(), body: Zeroizing::default() }
                .failure(effect)
                .kind
        };
        assert_eq!(kind(503, Effect::Read), FailureKind::Unavailable);
        assert_eq!(kind(503, Effect::Change), FailureKind::Ambiguous);
        assert_eq!(kind(503, Effect::OneTimePassword), FailureKind::Unavailable);
        assert_eq!(kind(504, Effect::OneTimePassword), FailureKind::Ambiguous);
        assert_eq!(kind(200, Effect::Change), FailureKind::Ambiguous);
        assert_eq!(kind(200, Effect::Read), FailureKind::Unreadable);
        assert_eq!(kind(302, Effect::Change), FailureKind::UnauthorisedOurs);
        assert_eq!(kind(429, Effect::Change), FailureKind::RateLimited);
    }
}
