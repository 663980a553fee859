//! Who may ask: host names, origins, the token, and how long an answer may take.
//!
//! The rule it keeps: a route is reached only through here; the answer to a guess takes as long as
//! the answer to any other.

use std::collections::BTreeMap;
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
use super::request;

/// An ordinary answer.
const ORDINARY: Duration = Duration::from_secs(30);
/// Dead letters, import files, approvals, what ceilings hold, and the log of receipts: as long as thousands of confirms may take.
const LONG: Duration = Duration::from_secs(300);

/// What is checked before a route is reached.
pub struct Guard {
    /// Digests of the tokens, so that comparing tells nothing of their lengths, and whose they are.
    tokens: Vec<([u8; 32], Option<String>)>,
    /// Operators have tokens of their own.
    knows_operators: bool,
    /// The names that the worker is asked under; any name where the address is no loopback one.
    hosts: Option<Vec<String>>,
}

impl Guard {
    /// A guard for a listener.
    pub fn new(listen: SocketAddr, token: Option<&SecretString>, operators: &BTreeMap<String, SecretString>) -> Guard {
        let own = match listen.ip() {
            IpAddr::V4(ip) => ip.to_string(),
            IpAddr::V6(ip) => format!("[{ip}]"),
        };
        let hosts = ["localhost", "127.0.0.1", "[::1]", &own].map(str::to_owned).to_vec();
        Guard {
            tokens: token
                .map(|token| (token, None))
                .into_iter()
                .chain(operators.iter().map(|(name, token)| (token, Some(name.clone()))))
                .map(|(token, name)| (Sha256::digest(token.expose_secret().as_bytes()).into(), name))
                .collect(),
            knows_operators: !operators.is_empty(),
            hosts: listen.ip().is_loopback().then_some(hosts),
        }
    }

    fn check(&self, request: &Request) -> Result<Caller, Problem> {
        self.check_host(request)?;
        check_origin(request)?;
        let name = if is_open(request.uri().path()) { None } else { self.check_token(request.headers())? };
        Ok(Caller { name, must_be_named: self.knows_operators })
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

    fn check_token(&self, headers: &HeaderMap) -> Result<Option<String>, Problem> {
        if self.tokens.is_empty() {
            return Ok(None);
        }
        let given = headers.get(header::AUTHORIZATION).map(HeaderValue::as_bytes).unwrap_or_default();
        let is_bearer = given.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"bearer "));
        let token = if is_bearer { given[7..].trim_ascii() } else { b"".as_slice() };
        let digest: [u8; 32] = Sha256::digest(token).into();
        // All are compared, whichever it is.
        let matches =
            |(known, name): &([u8; 32], Option<String>)| bool::from(digest.ct_eq(known)).then(|| name.clone());
        let found = self.tokens.iter().filter_map(matches).fold(None, |before, name| before.or(Some(name)));
        found.filter(|_| is_bearer).ok_or_else(|| Kind::Unauthorised.into())
    }
}

/// Who asks, as far as the token tells.
#[derive(Debug, Clone)]
pub struct Caller {
    name: Option<String>,
    must_be_named: bool,
}

impl Caller {
    /// Whose token it is; empty where it is nobody's in particular.
    pub fn name(&self) -> &str {
        self.name.as_deref().unwrap_or_default()
    }

    /// Who is to be noted for what is done: the token's owner, else whom the caller claims to be.
    ///
    /// # Errors
    /// Where the caller claims to be somebody else than the token says.
    pub fn acts_as(&self, claimed: &str) -> Result<String, Problem> {
        let claimed = request::name_of_operator(claimed)?;
        match &self.name {
            Some(name) if *name != claimed => {
                Err(Problem::new(Kind::WrongOperator, format!("this token is {name}'s; by says another name")))
            }
            _ => Ok(claimed),
        }
    }

    /// As [`Caller::acts_as`], where who decides matters: operators that have tokens must use them.
    ///
    /// # Errors
    /// Where nobody is named, or it is somebody else than the token says.
    pub fn decides_as(&self, claimed: Option<&str>) -> Result<String, Problem> {
        match (&self.name, claimed) {
            (None, _) if self.must_be_named => {
                Err(Problem::new(Kind::WrongOperator, "decide with the token of an operator (ops.operators)"))
            }
            (Some(name), None) => Ok(name.clone()),
            (_, claimed) => self.acts_as(claimed.unwrap_or_default()),
        }
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
pub async fn watch(State(guard): State<Arc<Guard>>, mut request: Request, next: Next) -> Response {
    let checked = guard.check(&request);
    let path = request.uri().path();
    let is_long = ["/v1/dead-letters", "/v1/zeta-import", "/v1/receipts", "/v1/approvals", "/v1/guard"]
        .iter()
        .any(|long| path.starts_with(long));
    let limit = if is_long { LONG } else { ORDINARY };
    let mut response = match checked {
        Err(problem) => problem.into_response(),
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            match tokio::time::timeout(limit, next.run(request)).await {
                Ok(response) => response,
                Err(_) => Problem::from(Kind::TimedOut).into_response(),
            }
        }
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
