//! The one way out to the systems: a plain request in, a bounded reply or a [`Failure`] back.
//!
//! The rule it keeps: one request on the wire a call, never redirected, never repeated; and no
//! address, header, body or library error text ever leaves this file in a failure.

use std::time::Duration;

use jiff::Timestamp;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::header::{
    ACCEPT, AUTHORIZATION, CONTENT_TYPE, DATE, HeaderMap, HeaderName, HeaderValue, LOCATION, RETRY_AFTER,
};
use reqwest::{Client, Method, redirect};
use secrecy::{ExposeSecret, SecretString};
use serde::de::DeserializeOwned;
use url::Url;
use zeroize::Zeroizing;

use crate::job::{Failure, FailureKind, Reason, StepName};

/// How much of an ordinary reply is read: 1 MiB.
pub const REPLY_LIMIT: usize = 1 << 20;
/// How much of a reply that carries a list is read: 8 MiB.
pub const LIST_LIMIT: usize = 8 << 20;

/// A wait told by a system is believed up to a day; a longer one is most likely a clock gone wrong.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// Below the usual keep-alive of servers, so that an idle connection is rarely one just closed.
const IDLE_CONNECTION: Duration = Duration::from_secs(4);
/// RFC 3986 unreserved characters stay as they are; all others are encoded, `%` and `/` among them.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Why a client could not be built from its settings. Names the key, never the value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// Not an address to call: it must be `http` or `https` with a host, and carry no user name,
    /// password, query or fragment.
    #[error("{key}: not an address that can be called (http or https, without user, query or fragment)")]
    Address {
        /// The configuration key.
        key: &'static str,
    },
    /// A credential that is empty or cannot be sent in a header.
    #[error("{key}: empty, or with characters that cannot be sent")]
    Credential {
        /// The configuration key.
        key: &'static str,
    },
    /// Any other setting.
    #[error("{key}: {problem}")]
    Setting {
        /// The configuration key.
        key: &'static str,
        /// What is wrong with it, in fixed words.
        problem: &'static str,
    },
    /// TLS could not be set up: most often the host has no CA certificates.
    #[error("TLS could not be set up: does the host have CA certificates?")]
    Tls,
}

/// What every client's settings carry for its connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpSettings {
    /// From the start of a request to the end of its reply.
    pub timeout: Duration,
    /// For name lookup, TCP and TLS.
    pub connect_timeout: Duration,
}

impl Default for HttpSettings {
    fn default() -> Self {
        HttpSettings { timeout: Duration::from_secs(30), connect_timeout: Duration::from_secs(5) }
    }
}

/// What a lost answer or a server error to this request leaves open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Nothing: it may be asked again.
    Read,
    /// Whether the work was done.
    Change,
    /// Whether a one-time password was sent. A gateway that lost the answer leaves it open; a
    /// server that says 500 or 503 did not send one.
    OneTimePassword,
}

impl From<StepName> for Effect {
    fn from(step: StepName) -> Effect {
        if step == StepName::RequestOtp {
            Effect::OneTimePassword
        } else if step.needs_intent() {
            Effect::Change
        } else {
            Effect::Read
        }
    }
}

/// A configured address, checked once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Base {
    text: String,
    url: Url,
}

impl Base {
    /// Checks the value of a configuration key. A last slash makes no difference to [`Base::join`].
    ///
    /// # Errors
    /// [`BuildError::Address`] with the key.
    pub fn new(key: &'static str, value: &str) -> Result<Base, BuildError> {
        let wrong = BuildError::Address { key };
        let url = Url::parse(value).map_err(|_| wrong.clone())?;
        let plain = matches!(url.scheme(), "http" | "https")
            && url.has_host()
            && url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none();
        if !plain {
            return Err(wrong);
        }
        Ok(Base { text: url.as_str().trim_end_matches('/').to_owned(), url })
    }

    /// The address exactly as configured.
    pub fn itself(&self) -> Url {
        self.url.clone()
    }

    /// The address with further path segments, each percent-encoded as a whole, so that an id can
    /// neither add a segment nor a query.
    ///
    /// # Errors
    /// `Rejected` for an empty segment, `.` or `..`: an address written with one names something
    /// else than the id does.
    pub fn join(&self, segments: &[&str]) -> Result<Url, Failure> {
        let mut text = Zeroizing::new(self.text.clone());
        for segment in segments {
            if matches!(*segment, "" | "." | "..") {
                return Err(unsendable("an id that cannot stand in an address"));
            }
            text.push('/');
            text.extend(utf8_percent_encode(segment, SEGMENT));
        }
        Url::parse(&text).map_err(|_| unsendable("an id that cannot stand in an address"))
    }

    fn is_https(&self) -> bool {
        self.url.scheme() == "https"
    }
}

/// Checks that a configured credential is not empty and can be sent in a header.
///
/// # Errors
/// [`BuildError::Credential`] with the key.
pub fn check_credential(key: &'static str, secret: &SecretString) -> Result<(), BuildError> {
    let text = secret.expose_secret();
    if text.is_empty() || HeaderValue::from_str(text).is_err() {
        return Err(BuildError::Credential { key });
    }
    Ok(())
}

fn unsendable(note: &'static str) -> Failure {
    Failure::new(FailureKind::Rejected, Reason::RequestRejected).with_note(note)
}

enum Body {
    Empty,
    Typed(&'static str, Zeroizing<Vec<u8>>),
    Multipart(Vec<(String, Zeroizing<String>)>),
}

/// A request to be sent once. Without `Debug`: every part of it can name or prove a person.
pub struct Request {
    method: Method,
    url: Url,
    headers: HeaderMap,
    body: Body,
    limit: usize,
    broken: bool,
}

impl Request {
    fn new(method: Method, url: Url) -> Request {
        Request { method, url, headers: HeaderMap::new(), body: Body::Empty, limit: REPLY_LIMIT, broken: false }
    }

    /// `GET`.
    pub fn get(url: Url) -> Request {
        Request::new(Method::GET, url)
    }

    /// `POST`.
    pub fn post(url: Url) -> Request {
        Request::new(Method::POST, url)
    }

    /// `PUT`.
    pub fn put(url: Url) -> Request {
        Request::new(Method::PUT, url)
    }

    /// `DELETE`.
    pub fn delete(url: Url) -> Request {
        Request::new(Method::DELETE, url)
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
    pub fn secret_header(self, name: &'static str, value: &SecretString) -> Request {
        self.set(HeaderName::from_bytes(name.as_bytes()).ok(), value.expose_secret(), true)
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
    pub fn long_reply(mut self) -> Request {
        self.limit = LIST_LIMIT;
        self
    }
}

/// A whole reply. Its `Debug` form shows the status only.
pub struct Reply {
    status: u16,
    retry_after: Option<Duration>,
    location: Option<String>,
    body: Zeroizing<Vec<u8>>,
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

    /// True for 300 to 399.
    pub fn is_redirect(&self) -> bool {
        (300..400).contains(&self.status)
    }

    /// The body as it came; never decompressed.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// True where the body is empty or white space.
    pub fn is_blank(&self) -> bool {
        self.body.trim_ascii().is_empty()
    }

    /// The body read as JSON; `None` where it is anything else.
    pub fn json<T: DeserializeOwned>(&self) -> Option<T> {
        serde_json::from_slice(&self.body).ok()
    }

    /// The path that a redirect names, prefixed with `//other-host` where it leads to another
    /// host. Only where it is short and plain: a path with other characters could carry data.
    pub fn location(&self) -> Option<&str> {
        self.location.as_deref()
    }

    /// What a status means that the kind's own rules leave open:
    ///
    /// | status | kind |
    /// |---|---|
    /// | 429 | `RateLimited`, with the wait told |
    /// | 5xx | `Unavailable` on a read; `Ambiguous` on a change; for a one-time password 502 and 504 `Ambiguous`, others `Unavailable` |
    /// | 408 | as a lost answer |
    /// | 3xx | `UnauthorisedOurs`: the configured address is not the system's |
    /// | 401, 403 | `UnauthorisedOurs`; a client whose call carried a person's proof decides before |
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
        let mut failure = Failure::new(kind, reason).with_note(format!("HTTP {}", self.status));
        failure.retry_after = self.retry_after;
        failure
    }

    /// The reply's form is not one that the client knows: `Unreadable` on a read, `Ambiguous` on a
    /// change, because a change that cannot be read may have been done.
    pub fn unreadable(&self, effect: Effect) -> Failure {
        Failure::new(unread(effect), Reason::UnreadableReply)
            .with_note(format!("HTTP {}, a reply of unknown form", self.status))
    }
}

/// What a lost answer means.
fn lost(effect: Effect) -> FailureKind {
    match effect {
        Effect::Read => FailureKind::Unavailable,
        Effect::Change | Effect::OneTimePassword => FailureKind::Ambiguous,
    }
}

/// What an answer means that came and could not be understood.
fn unread(effect: Effect) -> FailureKind {
    match effect {
        Effect::Read => FailureKind::Unreadable,
        Effect::Change | Effect::OneTimePassword => FailureKind::Ambiguous,
    }
}

/// A pool of connections for one configured system.
#[derive(Clone)]
pub struct Http {
    client: Client,
}

impl std::fmt::Debug for Http {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Http").finish_non_exhaustive()
    }
}

impl Http {
    /// Builds the pool for the addresses of one system: TLS by rustls with ring and the host's CA
    /// certificates (not loaded where no address is `https`), no redirects, no proxy, no
    /// cookies, no repeated sending.
    ///
    /// # Errors
    /// [`BuildError::Tls`].
    pub fn new(settings: &HttpSettings, bases: &[&Base]) -> Result<Http, BuildError> {
        // An error says that a provider is installed already, which is all that is needed.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = Client::builder()
            .user_agent(concat!("erasure-worker/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .no_proxy()
            .tcp_nodelay(true)
            .pool_idle_timeout(IDLE_CONNECTION)
            .connect_timeout(settings.connect_timeout)
            .timeout(settings.timeout);
        if !bases.iter().any(|base| base.is_https()) {
            builder = builder.tls_certs_only([]);
        }
        Ok(Http { client: builder.build().map_err(|_| BuildError::Tls)? })
    }

    /// Sends once and reads the whole reply, whatever its status. For systems whose body must be
    /// read before the status: see [`Reply::failure`] for what remains.
    ///
    /// # Errors
    /// `Unavailable` where surely nothing was sent, or on a read; `Ambiguous` where a change may
    /// have been done; `RateLimited` on 429; `Rejected` where the request cannot be written;
    /// a reply over the limit is `Unreadable` on a read and `Ambiguous` on a change.
    pub async fn exchange(&self, request: Request, effect: Effect) -> Result<Reply, Failure> {
        if request.broken {
            return Err(unsendable("a value that cannot be sent in a header"));
        }
        let url = request.url.clone();
        let limit = request.limit;
        let mut builder = self.client.request(request.method, request.url).headers(request.headers);
        builder = match request.body {
            Body::Empty => builder,
            Body::Typed(content_type, bytes) => builder.header(CONTENT_TYPE, content_type).body(bytes.to_vec()),
            Body::Multipart(fields) => {
                builder.multipart(fields.iter().fold(reqwest::multipart::Form::new(), |form, (name, value)| {
                    form.text(name.clone(), value.to_string())
                }))
            }
        };
        let mut response = builder.send().await.map_err(|error| transport(&error, effect))?;
        let mut reply = Reply {
            status: response.status().as_u16(),
            retry_after: retry_after(response.headers()),
            location: location(response.headers(), &url),
            body: Zeroizing::new(Vec::new()),
        };
        let read = read_body(&mut response, &mut reply.body, limit, effect).await;
        if reply.status == 429 {
            return Err(reply.failure(effect));
        }
        read.map(|()| reply)
    }

    /// As [`Http::exchange`], for systems whose status can be trusted on 5xx: such a reply is the
    /// failure of [`Reply::failure`] already. Every other status (but 429) is a [`Reply`].
    ///
    /// # Errors
    /// As [`Http::exchange`], and 5xx.
    pub async fn send(&self, request: Request, effect: Effect) -> Result<Reply, Failure> {
        let reply = self.exchange(request, effect).await?;
        if reply.status >= 500 { Err(reply.failure(effect)) } else { Ok(reply) }
    }
}

/// Never shows the library's error: its text carries the address.
fn transport(error: &reqwest::Error, effect: Effect) -> Failure {
    let (kind, note) = if error.is_builder() {
        (FailureKind::Rejected, "a request that cannot be written")
    } else if error.is_connect() || error.is_dns() {
        (FailureKind::Unavailable, "no connection")
    } else if error.is_timeout() {
        (lost(effect), "timed out")
    } else {
        (lost(effect), "connection lost")
    };
    let reason = if kind == FailureKind::Rejected { Reason::RequestRejected } else { Reason::SystemUnavailable };
    Failure::new(kind, reason).with_note(note)
}

async fn read_body(
    response: &mut reqwest::Response,
    body: &mut Vec<u8>,
    limit: usize,
    effect: Effect,
) -> Result<(), Failure> {
    let too_long = || Failure::new(unread(effect), Reason::UnreadableReply).with_note("a reply over the size limit");
    if response.content_length().is_some_and(|length| length > limit as u64) {
        return Err(too_long());
    }
    loop {
        let chunk = response.chunk().await.map_err(|error| {
            // The head of a reply came, so this is never "surely nothing sent".
            let note = if error.is_timeout() { "timed out" } else { "connection lost" };
            Failure::new(lost(effect), Reason::SystemUnavailable).with_note(note)
        })?;
        match chunk {
            None => return Ok(()),
            Some(chunk) if body.len() + chunk.len() > limit => return Err(too_long()),
            Some(chunk) => body.extend_from_slice(&chunk),
        }
    }
}

/// Seconds, or a date compared with the reply's own `Date` (else with our clock).
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
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

fn location(headers: &HeaderMap, from: &Url) -> Option<String> {
    let target = from.join(headers.get(LOCATION)?.to_str().ok()?).ok()?;
    let path = target.path();
    let plain = path.len() <= 120 && path.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/._-".contains(&byte));
    let same_host = target.host() == from.host();
    plain.then(|| if same_host { path.to_owned() } else { format!("//other-host{path}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(HeaderName, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), HeaderValue::from_str(value).expect("value"))).collect()
    }

    #[test]
    fn an_id_is_one_segment_whatever_it_holds() {
        let base = Base::new("base_url", "http://127.0.0.1:1/3.1/").expect("base");
        let url = base.join(&["customers", "a/b?c#d%2e\\é\tf@g"]).expect("url");
        assert_eq!(url.path(), "/3.1/customers/a%2Fb%3Fc%23d%252e%5C%C3%A9%09f%40g");
        assert_eq!((url.query(), url.fragment()), (None, None));
    }

    #[test]
    fn an_id_that_would_name_another_resource_is_rejected() {
        let base = Base::new("base_url", "http://127.0.0.1:1").expect("base");
        for id in ["", ".", ".."] {
            assert_eq!(base.join(&["customers", id]).expect_err("rejected").kind, FailureKind::Rejected);
        }
    }

    #[test]
    fn an_address_with_a_user_a_query_or_another_scheme_is_refused_by_its_key() {
        for value in [
            "",
            "x",
            "ftp://example.com",
            "http://u@example.com",
            "http://u:p@example.com",
            "https://example.com/?a=1",
            "https://example.com/#a",
        ] {
            assert_eq!(Base::new("core_url", value), Err(BuildError::Address { key: "core_url" }));
        }
    }

    #[test]
    fn a_wait_is_read_as_seconds_or_as_a_date_and_never_runs_away() {
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
    fn a_redirect_shows_a_plain_path_only() {
        let from = Url::parse("https://a.example.com/x/y").expect("url");
        let shown = |value: &str| location(&headers(&[(LOCATION, value)]), &from);
        assert_eq!(shown("/x/y/").as_deref(), Some("/x/y/"));
        assert_eq!(shown("z?email=ann@example.com").as_deref(), Some("/x/z"));
        assert_eq!(shown("https://b.example.com/x").as_deref(), Some("//other-host/x"));
        assert_eq!(shown("/ann@example.com"), None);
    }

    #[test]
    fn a_server_error_leaves_open_what_was_changed() {
        let kind = |status: u16, effect: Effect| {
            Reply { status, retry_after: None, location: None, body: Zeroizing::default() }.failure(effect).kind
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
