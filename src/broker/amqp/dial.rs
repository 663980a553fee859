//! Opening a connection: the URL, TLS, heartbeats and a limit on how long it may take.
//!
//! The rule it keeps: certificates and keys are read and checked before the first connection, so
//! that a mistake in them is a configuration error and not an endless reconnect.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use lapin::tcp::{AMQPUriTcpExt, RustlsConnector, RustlsConnectorConfig};
use lapin::uri::{AMQPScheme, AMQPUri};
use lapin::{AsyncTcpStream, Connection, ConnectionProperties};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use super::filter::{self, Filtered, Marks};
use super::{AmqpConfig, AmqpError};

/// The largest frame to ask for, as most clients do. A broker without a limit would take any, and the
/// client library makes its buffers as large as the limit demands.
const FRAME_MAX: u32 = 128 * 1024;

/// A connection, and which deliveries were mended on their way in.
pub(super) struct Wire {
    connection: Connection,
    /// The deliveries that were mended.
    pub marks: Arc<Marks>,
}

impl std::ops::Deref for Wire {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.connection
    }
}

/// Everything needed to connect, as it could be used last.
pub(super) struct Dial(Mutex<Checked>);

/// Everything needed to connect, checked.
#[derive(Clone)]
struct Checked {
    uri: AMQPUri,
    tls: Option<RustlsConnector>,
    frame_max: u32,
}

impl Checked {
    fn new(config: &AmqpConfig) -> Result<Self, AmqpError> {
        let mut uri: AMQPUri = config.url.expose_secret().parse().map_err(|_| AmqpError::Url)?;
        if uri.query.heartbeat.is_none() {
            uri.query.heartbeat = Some(config.heartbeat.as_secs().clamp(1, 3600) as u16);
        }
        let frame_max = uri.query.frame_max.filter(|frame_max| *frame_max > 0).unwrap_or(FRAME_MAX);
        uri.query.frame_max = Some(frame_max);
        let tls = match uri.scheme {
            AMQPScheme::AMQP => None,
            AMQPScheme::AMQPS => Some(connector(config)?),
        };
        Ok(Self { uri, tls, frame_max })
    }
}

impl Dial {
    /// Checks URL, certificates and key.
    pub(super) fn new(config: &AmqpConfig) -> Result<Self, AmqpError> {
        Ok(Self(Mutex::new(Checked::new(config)?)))
    }

    /// Connects once, with what the files say now; `what` is added to the connection's name.
    pub(super) async fn connect(&self, config: &AmqpConfig, what: &str) -> Result<Wire, AmqpError> {
        let Checked { uri, tls, frame_max } = {
            let mut checked = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(renewed) = Self::renewed(config) {
                *checked = renewed;
            }
            checked.clone()
        };
        let name = format!("{}{what}", config.connection_name);
        let options = ConnectionProperties::default().with_connection_name(name.into());
        let tokio = lapin::runtime::default_runtime()?;
        let marks = Arc::new(Marks::default());
        let marked = Arc::clone(&marks);
        let connecting = Connection::connector(
            uri,
            filter::runtime(),
            async move |uri, _| {
                let host = uri.authority.host.clone();
                // lapin's own way to TLS would load the system's roots even where a CA is given.
                let plain = AMQPUri { scheme: AMQPScheme::AMQP, ..uri };
                let stream = plain.connect_async(&tokio).await?;
                let stream = match &tls {
                    None => stream,
                    Some(connector) => stream.into_rustls(connector, &host).await?,
                };
                Ok(AsyncTcpStream::Plain(Filtered::new(stream, Arc::clone(&marked), frame_max)))
            },
            options,
        );
        match tokio::time::timeout(config.connect_timeout, connecting).await {
            Ok(connected) => Ok(Wire { connection: connected?, marks }),
            Err(_) => Err(AmqpError::Link(format!("no connection within {:?}", config.connect_timeout))),
        }
    }

    /// What the files say now; `None` where there are none, or they cannot be used.
    fn renewed(config: &AmqpConfig) -> Option<Checked> {
        if config.url_file.is_none() && config.ca_file.is_none() && config.client_cert_file.is_none() {
            return None;
        }
        let mut config = config.clone();
        if let Some(path) = &config.url_file {
            match std::fs::read_to_string(path).map(Zeroizing::new) {
                Ok(text) => config.url = SecretString::from(text.trim()),
                Err(error) => {
                    tracing::warn!(%error, "the file of amqp.url cannot be read; the URL as it was is used");
                    return None;
                }
            }
        }
        let renewed = Checked::new(&config);
        renewed
            .inspect_err(|error| tracing::warn!(%error, "what a file says now cannot be used; it is used as it was"))
            .ok()
    }
}

/// The TLS side: with `ca_file` that authority alone is trusted, without it the system's roots.
fn connector(config: &AmqpConfig) -> Result<RustlsConnector, AmqpError> {
    let system = || RustlsConnectorConfig::new_with_native_certs().map_err(|error| error.to_string());
    let tls = match &config.ca_file {
        Some(path) => {
            let roots = certificates("amqp.ca_file", path)?;
            RustlsConnectorConfig::default().with_parsable_certificates(roots)
        }
        None => system().map_err(|why| AmqpError::File { key: "amqp.ca_file", path: PathBuf::new(), why })?,
    };
    let (certificate, key) = match (&config.client_cert_file, &config.client_key_file) {
        (None, None) => {
            return tls.connector_with_no_client_auth().map_err(|error| AmqpError::Link(error.to_string()));
        }
        (Some(certificate), Some(key)) => (certificate, key),
        (Some(path), None) | (None, Some(path)) => {
            return Err(AmqpError::File {
                key: "amqp.client_cert_file",
                path: path.clone(),
                why: "client_cert_file and client_key_file belong together".to_owned(),
            });
        }
    };
    let chain = certificates("amqp.client_cert_file", certificate)?;
    let unusable = |why: String| AmqpError::File { key: "amqp.client_key_file", path: key.clone(), why };
    let private = PrivateKeyDer::from_pem_file(key).map_err(|error| unusable(error.to_string()))?;
    tls.connector_with_single_cert(chain, private).map_err(|error| unusable(error.to_string()))
}

fn certificates(key: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, AmqpError> {
    let unusable = |why: String| AmqpError::File { key, path: path.to_owned(), why };
    let found: Vec<_> =
        CertificateDer::pem_file_iter(path).and_then(Iterator::collect).map_err(|error| unusable(error.to_string()))?;
    if found.is_empty() {
        return Err(unusable("no certificate in PEM format in it".to_owned()));
    }
    Ok(found)
}
