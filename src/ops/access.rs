//! Access to the ops API: host names, origins, tokens, and the time limit of an answer.
//!
//! The rule it keeps: every request passes through here before its route. The comparison of a token takes the same
//! time for every token.

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

/// The time limit of most answers.
const ORDINARY: Duration = Duration::from_secs(30);
/// The time limit of dead letters, import files, approvals, ceilings and receipts: they may need thousands of confirms.
const LONG: Duration = Duration::from_secs(300);

/// The conditions of access.
pub(super) struct Access {
    /// The tokens as digests, so that a comparison does not show their lengths; each with its operator, if any.
    tokens: Vec<([u8; 32], Option<String>)>,
    /// True if operators have their own tokens.
    has_operators: bool,
    /// The accepted names in `Host`; `None` accepts any, on an address that is not loopback.
    hosts: Option<Vec<String>>,
}

impl Access {
    pub(super) fn new(
        listen: SocketAddr,
        token: Option<&SecretString>,
        operators: &BTreeMap<String, SecretString>,
    ) -> Access {
        let own = match listen.ip() {
            IpAddr::V4(ip) => ip.to_string(),
            IpAddr::V6(ip) => format!("[{ip}]"),
        };
        let hosts = ["localhost", "127.0.0.1", "[::1]", &own].map(str::to_owned).to_vec();
        Access {
            tokens: token
                .map(|token| (token, None))
                .into_iter()
                .chain(operators.iter().map(|(name, token)| (token, Some(name.clone()))))
                .map(|(token, name)| (Sha256::digest(token.expose_secret().as_bytes()).into(), name))
                .collect(),
            has_operators: !operators.is_empty(),
            hosts: listen.ip().is_loopback().then_some(hosts),
        }
    }

    fn check(&self, request: &Request) -> Result<Caller, Problem> {
        self.check_host(request)?;
        check_origin(request)?;
        let name = if is_open(request.uri().path()) { None } else { self.check_token(request.headers())? };
        Ok(Caller { name, must_be_named: self.has_operators })
    }

    /// Refuses DNS rebinding: a web page whose domain resolves to this machine still sends its own name in `Host`.
    fn check_host(&self, request: &Request) -> Result<(), Problem> {
        let Some(hosts) = &self.hosts else { return Ok(()) };
        match requested_host(request).map(|host| without_port(&host).to_owned()) {
            Some(host) if hosts.contains(&host) => Ok(()),
            _ => {
                let detail = "the host must be localhost, 127.0.0.1, [::1] or the configured address";
                Err(Problem::new(Kind::Misdirected, detail))
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
        // Every token is compared, so that the time does not show which one matched.
        let matches =
            |(known, name): &([u8; 32], Option<String>)| bool::from(digest.ct_eq(known)).then(|| name.clone());
        let found = self.tokens.iter().filter_map(matches).fold(None, |before, name| before.or(Some(name)));
        found.filter(|_| is_bearer).ok_or_else(|| Kind::Unauthorised.into())
    }
}

/// The sender of a request.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    name: Option<String>,
    must_be_named: bool,
}

impl Caller {
    /// The operator of the token; empty with a shared token, or without one.
    pub(super) fn name(&self) -> &str {
        self.name.as_deref().unwrap_or_default()
    }

    /// The recorded name of the operator: that of the token, else the name that the request claims.
    ///
    /// # Errors
    /// The claimed name is not that of the token.
    pub(super) fn acts_as(&self, claimed: &str) -> Result<String, Problem> {
        let claimed = request::name_of_operator(claimed)?;
        match &self.name {
            Some(name) if *name != claimed => {
                Err(Problem::new(Kind::WrongOperator, format!("this token belongs to {name}; `by` has another name")))
            }
            _ => Ok(claimed),
        }
    }

    /// As [`Caller::acts_as`], for decisions: if operators have their own tokens, a decision needs such a token.
    ///
    /// # Errors
    /// No name, a name that is not that of the token, or a shared token although operators have their own.
    pub(super) fn decides_as(&self, claimed: Option<&str>) -> Result<String, Problem> {
        match (&self.name, claimed) {
            (None, _) if self.must_be_named => {
                Err(Problem::new(Kind::WrongOperator, "a decision needs the token of an operator (ops.operators)"))
            }
            (Some(name), None) => Ok(name.clone()),
            (_, claimed) => self.acts_as(claimed.unwrap_or_default()),
        }
    }
}

/// True for the routes that need no token: the probes, the public keys, the console's files.
fn is_open(path: &str) -> bool {
    path == "/livez" || path == "/readyz" || path.starts_with("/.well-known/") || console::is_console(path)
}

fn requested_host(request: &Request) -> Option<String> {
    let named = request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).map(str::to_owned);
    named.or_else(|| request.uri().authority().map(ToString::to_string)).map(|host| host.to_ascii_lowercase())
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

/// Refuses changes from other web pages. A browser sends a plain form to any address, but it names the page's origin.
fn check_origin(request: &Request) -> Result<(), Problem> {
    if matches!(*request.method(), Method::GET | Method::HEAD) {
        return Ok(());
    }
    let site = request.headers().get("sec-fetch-site").map(HeaderValue::as_bytes);
    let is_foreign_site = site.is_some_and(|site| site != b"same-origin" && site != b"none");
    let origin = request.headers().get(header::ORIGIN).map(|origin| origin.to_str().unwrap_or("").to_ascii_lowercase());
    let is_foreign_origin = origin.is_some_and(|origin| {
        let origin_host = origin.split_once("://").map(|(_, host)| host.to_owned());
        origin_host.is_none() || origin_host != requested_host(request)
    });
    if is_foreign_site || is_foreign_origin { Err(Kind::ForeignOrigin.into()) } else { Ok(()) }
}

/// Checks access, limits the time, and adds the headers of every answer.
pub(super) async fn check(State(access): State<Arc<Access>>, mut request: Request, next: Next) -> Response {
    let checked = access.check(&request);
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
    // Only the console's files have another policy.
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
