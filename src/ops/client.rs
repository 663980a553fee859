//! The other end of the ops API, for the command line.
//!
//! The rule it keeps: the token goes to the address that was given and nowhere else: no redirects,
//! no proxy; and what comes back is JSON of a bounded length, or an error that says so.

use std::time::Duration;

use reqwest::{Client, Method, StatusCode, redirect};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;
use url::Url;

const CONNECT: Duration = Duration::from_secs(5);
/// A little longer than the server's own limit, so that its answer is heard.
const WHOLE: Duration = Duration::from_secs(310);
const LONGEST_ANSWER: usize = 64 * 1024 * 1024;

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The address or the token cannot be used.
    #[error("{0}")]
    Setting(String),
    /// Nobody answers there.
    #[error("no answer from {url}: {why}; is the worker running, and is --url right?")]
    Unreachable {
        /// Where.
        url: String,
        /// What happened.
        why: &'static str,
    },
    /// The worker said no.
    #[error("{title}{} (HTTP {status})", detail.as_ref().map(|detail| format!(": {detail}")).unwrap_or_default())]
    Refused {
        /// The status.
        status: u16,
        /// The problem's title.
        title: String,
        /// The problem's detail.
        detail: Option<String>,
    },
    /// Something else answers there.
    #[error("{url} does not answer as an erasure-worker does (HTTP {status})")]
    Stranger {
        /// Where.
        url: String,
        /// The status.
        status: u16,
    },
}

/// What is sent along.
#[derive(Debug)]
pub enum Body {
    /// Nothing.
    Empty,
    /// JSON.
    Json(Value),
    /// A CSV file.
    Csv(Vec<u8>),
}

/// Asks one worker.
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
    /// Where the address is no http(s) one, or TLS cannot be set up.
    pub fn new(base: Url, token: Option<SecretString>) -> Result<OpsApi, ClientError> {
        if !matches!(base.scheme(), "http" | "https") || !base.has_host() {
            return Err(ClientError::Setting("the address of the ops API is http:// or https:// with a host".into()));
        }
        // An error says that a provider is installed already, which is all that is needed.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = Client::builder()
            .user_agent(concat!("erasure-worker/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            .no_proxy()
            .tcp_nodelay(true)
            .connect_timeout(CONNECT)
            .timeout(WHOLE);
        if base.scheme() == "http" {
            builder = builder.tls_certs_only([]);
        }
        let failed = |_| ClientError::Setting("TLS cannot be set up: does the host have CA certificates?".into());
        Ok(OpsApi { client: builder.build().map_err(failed)?, base, token })
    }

    /// Reads: `path` in its parts, and the parameters that are there.
    ///
    /// # Errors
    /// Where there is no answer, or it is no success.
    pub async fn get(&self, path: &[&str], query: &[(&str, Option<String>)]) -> Result<Value, ClientError> {
        self.ask(Method::GET, path, query, Body::Empty).await
    }

    /// Changes something.
    ///
    /// # Errors
    /// As [`OpsApi::get`].
    pub async fn post(&self, path: &[&str], body: Body) -> Result<Value, ClientError> {
        self.ask(Method::POST, path, &[], body).await
    }

    async fn ask(
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
            Err(()) => return Err(ClientError::Setting("the address of the ops API cannot be extended".into())),
        }
        for (name, value) in query {
            if let Some(value) = value {
                url.query_pairs_mut().append_pair(name, value);
            }
        }
        Ok(url)
    }

    /// The address as it may be shown.
    fn shown(&self) -> String {
        self.base.origin().ascii_serialization()
    }

    fn stranger(&self, status: StatusCode) -> ClientError {
        ClientError::Stranger { url: self.shown(), status: status.as_u16() }
    }

    fn unreachable(&self, error: &reqwest::Error) -> ClientError {
        let why = if error.is_connect() {
            "no connection"
        } else if error.is_timeout() {
            "timed out"
        } else {
            "the connection broke"
        };
        ClientError::Unreachable { url: self.shown(), why }
    }
}
