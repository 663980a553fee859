//! Who may ask: host names, origins, the token, and how long an answer may take.
//!
//! The rule it keeps: a route is reached only through here; the answer to a guess takes as long as
//! the answer to any other.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::console;
use super::problem::{Kind, Problem};

/// An ordinary answer.
const ORDINARY: Duration = Duration::from_secs(30);
/// Dead letters, import files and the log of receipts: as long as thousands of confirms may take.
const LONG: Duration = Duration::from_secs(300);

/// What is checked before a route is reached.
pub struct Guard {
    /// Digest of the token, so that comparing tells nothing of its length.
    token: Option<[u8; 32]>,
    /// The names that the worker is asked under; any name where the address is no loopback one.
    hosts: Option<Vec<String>>,
}

impl Guard {
    /// A guard for a listener.
    pub fn new(listen: SocketAddr, token: Option<&SecretString>) -> Guard {
        let own = match listen.ip() {
            IpAddr::V4(ip) => ip.to_string(),
            IpAddr::V6(ip) => format!("[{ip}]"),
        };
        let hosts = ["localhost", "127.0.0.1", "[::1]", &own].map(str::to_owned).to_vec();
        Guard {
            token: token.map(|token| Sha256::digest(token.expose_secret().as_bytes()).into()),
            hosts: listen.ip().is_loopback().then_some(hosts),
        }
    }

    fn check(&self, request: &Request) -> Result<(), Problem> {
        self.check_host(request)?;
        check_origin(request)?;
        if is_open(request.uri().path()) { Ok(()) } else { self.check_token(request.headers()) }
    }

    /// A page whose name was made to lead to this machine still asks under its own name.
    fn check_host(&self, request: &Request) -> Result<(), Problem> {
        let Some(hosts) = &self.hosts else { return Ok(()) };
        match asked_host(request).map(|host| without_port(&host).to_owned()) {
            Some(host) if hosts.contains(&host) => Ok(()),
            _ => {
                Err(Problem::new(Kind::Misdirected, "ask under localhost, 127.0.0.1, [::1] or the configured address"))
            }
        }
    }

    fn check_token(&self, headers: &HeaderMap) -> Result<(), Problem> {
        let Some(expected) = &self.token else { return Ok(()) };
        let given = headers.get(header::AUTHORIZATION).map(HeaderValue::as_bytes).unwrap_or_default();
        let is_bearer = given.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"bearer "));
        let token = if is_bearer { given[7..].trim_ascii() } else { b"".as_slice() };
        let digest: [u8; 32] = Sha256::digest(token).into();
        if is_bearer && bool::from(digest.ct_eq(expected)) { Ok(()) } else { Err(Kind::Unauthorised.into()) }
    }
}

/// Open to all: the probes and the public keys.
fn is_open(path: &str) -> bool {
    path == "/livez" || path == "/readyz" || path.starts_with("/.well-known/") || console::is_console(path)
}

fn asked_host(request: &Request) -> Option<String> {
    let named = request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).map(str::to_owned);
    named.or_else(|| request.uri().authority().map(ToString::to_string)).map(|host| host.to_ascii_lowercase())
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

/// A browser sends a plain form anywhere, without asking; but it says whose page it is.
fn check_origin(request: &Request) -> Result<(), Problem> {
    if matches!(*request.method(), Method::GET | Method::HEAD) {
        return Ok(());
    }
    let site = request.headers().get("sec-fetch-site").map(HeaderValue::as_bytes);
    let is_foreign_site = site.is_some_and(|site| site != b"same-origin" && site != b"none");
    let origin = request.headers().get(header::ORIGIN).map(|origin| origin.to_str().unwrap_or("").to_ascii_lowercase());
    let is_foreign_origin = origin.is_some_and(|origin| {
        let origin_host = origin.split_once("://").map(|(_, host)| host.to_owned());
        origin_host.is_none() || origin_host != asked_host(request)
    });
    if is_foreign_site || is_foreign_origin { Err(Kind::ForeignOrigin.into()) } else { Ok(()) }
}

/// Checks, limits the time, and adds the headers that every answer has.
pub async fn watch(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let is_long = ["/v1/dead-letters", "/v1/zeta-import", "/v1/receipts"].iter().any(|long| path.starts_with(long));
    let limit = if is_long { LONG } else { ORDINARY };
    let mut response = match guard.check(&request) {
        Err(problem) => problem.into_response(),
        Ok(()) => match tokio::time::timeout(limit, next.run(request)).await {
            Ok(response) => response,
            Err(_) => Problem::from(Kind::TimedOut).into_response(),
        },
    };
    let headers = response.headers_mut();
    // The console's own is the only other one.
    let policy = HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'; base-uri 'none'");
    headers.entry(header::CONTENT_SECURITY_POLICY).or_insert(policy);
    for (name, value) in [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}
