//! The client of the ops API, for the command line.
//!
//! The rule it keeps: the token goes only to the given address: no redirects, no proxy. An answer is JSON of a
//! bounded length, or an error.

use std::time::Duration;

use reqwest::{Client, Method, StatusCode, redirect};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;
use url::Url;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Slightly longer than the server's own limit, so that its timeout answer arrives.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(310);
const LONGEST_ANSWER: usize = 64 * 1024 * 1024;

/// Why a request has no result.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The address or the token cannot be used.
    #[error("{0}")]
    Setting(String),
    /// No answer arrived.
    #[error("no answer from {url}: {why}; is the worker running, and is --url right?")]
    Unreachable { url: String, why: &'static str },
    /// The worker refused the request.
    #[error("{title}{} (HTTP {status})", detail.as_ref().map(|detail| format!(": {detail}")).unwrap_or_default())]
    Refused { status: u16, title: String, detail: Option<String> },
    /// Another program answers at this address.
    #[error("{url} does not answer as an erasure-worker does (HTTP {status})")]
    Stranger { url: String, status: u16 },
}

/// A request's body.
#[derive(Debug)]
pub enum Body {
    Empty,
    Json(Value),
    Csv(Vec<u8>),
}

/// The client of one worker.
pub struct OpsApi {
    client: Client,
    base: Url,
    token: Option<SecretString>,
}

impl std::fmt::Debug for OpsApi {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpsApi").finish_non_exhaustive()
    }
}

impl OpsApi {
    /// A client for the worker at `base`.
    ///
    /// # Errors
    /// The address is not http(s), or TLS cannot be set up.
    pub fn new(base: Url, token: Option<SecretString>) -> Result<OpsApi, ClientError> {
        if !matches!(base.scheme(), "http" | "https") || !base.has_host() {
            let text = "the address of the ops API must be http:// or https:// with a host";
            return Err(ClientError::Setting(text.into()));
        }
        // The only error is an installed provider, which is enough.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = Client::builder()
            .user_agent(concat!("erasure-worker/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            .no_proxy()
            .tcp_nodelay(true)
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(REQUEST_TIMEOUT);
        if base.scheme() == "http" {
            builder = builder.tls_certs_only([]);
        }
        let failed = |_| ClientError::Setting("TLS cannot be set up: does the host have CA certificates?".into());
        Ok(OpsApi { client: builder.build().map_err(failed)?, base, token })
    }

    /// A GET of `path`, given in its segments; parameters without a value are left out.
    ///
    /// # Errors
    /// No answer, or an answer that is not a success.
    pub async fn get(&self, path: &[&str], query: &[(&str, Option<String>)]) -> Result<Value, ClientError> {
        self.send(Method::GET, path, query, Body::Empty).await
    }

    /// A POST of `path`, given in its segments.
    ///
    /// # Errors
    /// As [`OpsApi::get`].
    pub async fn post(&self, path: &[&str], body: Body) -> Result<Value, ClientError> {
        self.send(Method::POST, path, &[], body).await
    }

    async fn send(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, Option<String>)],
        body: Body,
    ) -> Result<Value, ClientError> {
        let url = self.url(path, query)?;
        let mut request = self.client.request(method, url);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token.expose_secret());
        }
        request = match body {
            Body::Empty => request,
            Body::Json(value) => request.header("content-type", "application/json").body(value.to_string()),
            Body::Csv(bytes) => request.header("content-type", "text/csv").body(bytes),
        };
        let mut response = request.send().await.map_err(|error| self.unreachable(&error))?;
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.unreachable(&error))? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() > LONGEST_ANSWER {
                return Err(self.stranger(response.status()));
            }
        }
        let status = response.status();
        let Ok(answer) = serde_json::from_slice::<Value>(&bytes) else { return Err(self.stranger(status)) };
        if status.is_success() {
            return Ok(answer);
        }
        let text = |name: &str| answer.get(name).and_then(Value::as_str).map(str::to_owned);
        match text("title") {
            None => Err(self.stranger(status)),
            Some(title) => Err(ClientError::Refused { status: status.as_u16(), title, detail: text("detail") }),
        }
    }

    fn url(&self, path: &[&str], query: &[(&str, Option<String>)]) -> Result<Url, ClientError> {
        let mut url = self.base.clone();
        url.set_query(None);
        match url.path_segments_mut() {
            Ok(mut parts) => drop(parts.pop_if_empty().extend(path)),
            Err(()) => return Err(ClientError::Setting("a path cannot be added to the ops API's address".into())),
        }
        for (name, value) in query {
            if let Some(value) = value {
                url.query_pairs_mut().append_pair(name, value);
            }
        }
        Ok(url)
    }

    /// The address without its path and credentials.
    fn origin(&self) -> String {
        self.base.origin().ascii_serialization()
    }

    fn stranger(&self, status: StatusCode) -> ClientError {
        ClientError::Stranger { url: self.origin(), status: status.as_u16() }
    }

    fn unreachable(&self, error: &reqwest::Error) -> ClientError {
        let why = if error.is_connect() {
            "no connection"
        } else if error.is_timeout() {
            "timed out"
        } else {
            "the connection was lost"
        };
        ClientError::Unreachable { url: self.origin(), why }
    }
}
