//! All requests to the systems: takes a plain request, returns a bounded reply or a [`Failure`].
//!
//! The rule it keeps: one request on the wire for each call, never redirected, never repeated. No failure contains an
//! address, a header, a body, or the text of a library's error.

mod address;
mod message;
mod public;
mod transport;
mod wire;

use std::sync::Arc;
use std::time::Duration;

pub(crate) use reqwest::Method;
use reqwest::header::{
    ACCEPT, AUTHORIZATION, CONTENT_TYPE, DATE, HeaderMap, HeaderName, HeaderValue, LOCATION, RETRY_AFTER,
};
use reqwest::{Client, redirect};
use secrecy::{ExposeSecret, SecretString};
use tracing::Instrument as _;
use zeroize::Zeroizing;

pub use self::address::{Address, Base};
use self::message::Body;
pub use self::message::{Reply, Request};
use self::public::PublicOnly;
use self::public::is_public;
pub use self::wire::{Carried, Carry, Wire, body_of};
use crate::clock::steady::Steady;
use crate::job::{Failure, FailureKind, Reason, StepName};
use crate::trace;

/// The size limit of an ordinary reply: 1 MiB.
pub const REPLY_LIMIT: usize = 1 << 20;
/// The size limit of a reply with a list: 8 MiB.
pub const LIST_LIMIT: usize = 8 << 20;

/// Shorter than the usual keep-alive of servers: so the server has rarely closed an idle connection before its reuse.
const IDLE_CONNECTION: Duration = Duration::from_secs(4);

/// A client could not be built from its settings. Names the key, never the value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// Not an address to call. It must be `http` or `https` with a host, without user name, password, query or
    /// fragment.
    #[error("{key}: not an address that can be called (http or https, without user, query or fragment)")]
    Address {
        /// The configuration key.
        key: &'static str,
    },
    /// The credential is empty, or cannot be sent in a header.
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
        /// The problem, in fixed words.
        problem: &'static str,
    },
    /// TLS could not be set up: most often the host has no CA certificates.
    #[error("TLS could not be set up: does the host have CA certificates?")]
    Tls,
}

/// Every client's settings for its connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpSettings {
    /// From the start of a request to the end of its reply.
    pub timeout: Duration,
    /// For name lookup, TCP and TLS.
    pub connect_timeout: Duration,
    /// The carrier of the requests.
    pub wire: Wire,
}

impl Default for HttpSettings {
    fn default() -> Self {
        HttpSettings { timeout: Duration::from_secs(30), connect_timeout: Duration::from_secs(5), wire: Wire::Network }
    }
}

/// What is unknown after a lost answer or a server error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Nothing: a read may be repeated.
    Read,
    /// Whether the change was made.
    Change,
    /// Whether a one-time password was sent. That is unknown if a gateway lost the answer. A server that answers
    /// 500 or 503 did not send one.
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

/// Checks that a configured credential is not empty and can be sent in a header.
///
/// # Errors
/// [`BuildError::Credential`] with the key.
pub(crate) fn check_credential(key: &'static str, secret: &SecretString) -> Result<(), BuildError> {
    let text = secret.expose_secret();
    if text.is_empty() || HeaderValue::from_str(text).is_err() {
        return Err(BuildError::Credential { key });
    }
    Ok(())
}

fn unsendable(note: &'static str) -> Failure {
    Failure::new(FailureKind::Rejected, Reason::RequestRejected).with_note(note)
}

/// The failure after a lost answer.
fn lost(effect: Effect) -> FailureKind {
    match effect {
        Effect::Read => FailureKind::Unavailable,
        Effect::Change | Effect::OneTimePassword => FailureKind::Ambiguous,
    }
}

/// The failure after an answer that could not be understood.
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
    wire: Wire,
    timeout: Duration,
}

impl std::fmt::Debug for Http {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Http").finish_non_exhaustive()
    }
}

impl Http {
    /// Builds the pool for the addresses of one system: TLS by rustls with ring and the host's CA certificates (not
    /// loaded if no address is `https`), no redirects, no proxy, no cookies, no retries.
    ///
    /// # Errors
    /// [`BuildError::Tls`].
    pub fn new(settings: &HttpSettings, bases: &[&Base]) -> Result<Http, BuildError> {
        Http::build(settings, bases, false)
    }

    /// Like [`Http::new`], for addresses whose names must not resolve to a private network. The caller checks an
    /// address without a name, with [`Base::is_private`].
    ///
    /// # Errors
    /// [`BuildError::Tls`].
    pub(crate) fn public_only(settings: &HttpSettings, bases: &[&Base]) -> Result<Http, BuildError> {
        Http::build(settings, bases, true)
    }

    fn build(settings: &HttpSettings, bases: &[&Base], public_only: bool) -> Result<Http, BuildError> {
        // An error means that a provider is already installed; that is enough.
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
        if public_only {
            builder = builder.dns_resolver(Arc::new(PublicOnly));
        }
        Ok(Http {
            client: builder.build().map_err(|_| BuildError::Tls)?,
            wire: settings.wire.clone(),
            timeout: settings.timeout,
        })
    }

    /// Sends once and reads the whole reply, whatever its status. For systems whose body must be read before the
    /// status; [`Reply::failure`] then decides the statuses that the kind's own rules do not.
    ///
    /// # Errors
    /// `Unavailable` if certainly nothing was sent, or for a read; `Ambiguous` if a change may have been made;
    /// `RateLimited` on 429; `Rejected` if the request cannot be written. A reply over the limit is `Unreadable` for
    /// a read and `Ambiguous` for a change.
    pub async fn exchange(&self, request: Request, effect: Effect) -> Result<Reply, Failure> {
        let span = trace::request(request.method.as_str(), request.template.as_deref(), &request.url);
        let replied = self.once(request, effect).instrument(span.clone()).await;
        match &replied {
            Ok(reply) => {
                span.record("http.response.status_code", reply.status);
                if reply.status >= 400 {
                    trace::failed(&span, &reply.status.to_string());
                }
            }
            Err(failure) => trace::failed(&span, failure.kind.as_str()),
        }
        replied
    }

    async fn once(&self, request: Request, effect: Effect) -> Result<Reply, Failure> {
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
        let mut response = match &self.wire {
            Wire::Network => builder.send().await.map_err(|error| transport(&error, effect))?,
            Wire::InProcess(carrier) => {
                if let Some(note) = carrier.unreachable(&url) {
                    return Err(Failure::new(FailureKind::Unavailable, Reason::SystemUnavailable).with_note(note));
                }
                let request = builder.build().map_err(|error| transport(&error, effect))?;
                let carried = tokio::time::timeout(self.timeout, wire::carried(&**carrier, request)).await;
                let lost = Failure::new(lost(effect), Reason::SystemUnavailable);
                match carried {
                    Ok(response) => response.ok_or(lost.with_note("connection lost"))?,
                    Err(_) => return Err(lost.with_note("timed out")),
                }
            }
        };
        if let Some(date) = message::date(response.headers()) {
            Steady::of_process().witness(date);
        }
        let mut reply = Reply {
            status: response.status().as_u16(),
            retry_after: message::retry_after(response.headers()),
            location: message::location(response.headers(), &url),
            headers: std::mem::take(response.headers_mut()),
            body: Zeroizing::new(Vec::new()),
        };
        let read = read_body(&mut response, &mut reply.body, limit, effect).await;
        if reply.status == 429 {
            return Err(reply.failure(effect));
        }
        read.map(|()| reply)
    }

    /// Like [`Http::exchange`], for systems whose 5xx can be trusted: such a reply becomes the failure of
    /// [`Reply::failure`]. Every other status but 429 is a [`Reply`].
    ///
    /// # Errors
    /// Those of [`Http::exchange`], and 5xx.
    pub async fn send(&self, request: Request, effect: Effect) -> Result<Reply, Failure> {
        let reply = self.exchange(request, effect).await?;
        if reply.status >= 500 { Err(reply.failure(effect)) } else { Ok(reply) }
    }
}

/// Never shows the library's error: its text contains the address.
fn transport(error: &reqwest::Error, effect: Effect) -> Failure {
    let (kind, note) = if error.is_builder() {
        (FailureKind::Rejected, "a request that cannot be written")
    } else if error.is_connect() || error.is_dns() {
        (FailureKind::Unavailable, transport::no_connection(error))
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
            // The head of a reply arrived, so the request was certainly sent.
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
