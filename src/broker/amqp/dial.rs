//! Opening a connection: the URL, TLS, heartbeats and a limit on how long it may take.
//!
//! The rule it keeps: certificates and keys are read and checked before the first connection, so that a mistake in
//! them is a configuration error and not an endless reconnect.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use lapin::uri::{AMQPScheme, AMQPUri};
use lapin::{AsyncTcpStream, Connection, ConnectionProperties};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, InvalidDnsNameError, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use secrecy::{ExposeSecret, SecretString};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_util::compat::TokioAsyncReadCompatExt as _;
use tokio_util::either::Either;
use zeroize::Zeroizing;

use super::filter::{self, Filtered, Marks, Socket};
use super::{AmqpConfig, AmqpError};

/// The largest frame to request, as in most clients. A broker without a limit would accept any, and the client
/// library makes its buffers as large as the limit.
const FRAME_MAX: u32 = 128 * 1024;

/// A connection, with the changes to its deliveries on their way in.
pub(super) struct Wire {
    connection: Connection,
    /// The changed deliveries.
    pub marks: Arc<Marks>,
}

impl std::ops::Deref for Wire {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.connection
    }
}

/// Everything needed to connect, from the last usable files.
pub(super) struct Dial(Mutex<Checked>);

/// Everything needed to connect, checked.
#[derive(Clone)]
struct Checked {
    uri: AMQPUri,
    tls: Option<TlsConnector>,
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

    /// Connects once, with the files' present content; `what` is added to the connection's name.
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
        let marks = Arc::new(Marks::default());
        let marked = Arc::clone(&marks);
        let connecting = Connection::connector(
            uri,
            filter::runtime(),
            async move |uri, _| {
                let socket = socket(&uri, tls.as_ref()).await?;
                Ok(AsyncTcpStream::Plain(Filtered::new(socket, Arc::clone(&marked), frame_max)))
            },
            options,
        );
        match tokio::time::timeout(config.connect_timeout, connecting).await {
            Ok(connected) => Ok(Wire { connection: connected?, marks }),
            Err(_) => Err(AmqpError::Link(format!("no connection within {:?}", config.connect_timeout))),
        }
    }

    /// The files' present content; `None` if there are no files, or they cannot be used.
    fn renewed(config: &AmqpConfig) -> Option<Checked> {
        if config.url_file.is_none() && config.ca_file.is_none() && config.client_cert_file.is_none() {
            return None;
        }
        let mut config = config.clone();
        if let Some(path) = &config.url_file {
            match std::fs::read_to_string(path).map(Zeroizing::new) {
                Ok(text) => config.url = SecretString::from(text.trim()),
                Err(error) => {
                    tracing::warn!(%error, "the file of amqp.url cannot be read; the former URL is used");
                    return None;
                }
            }
        }
        let renewed = Checked::new(&config);
        renewed
            .inspect_err(|error| {
                tracing::warn!(
                    %error,
                    "a changed certificate, key or URL file cannot be used; the former one is used"
                )
            })
            .ok()
    }
}

/// A socket to the broker, with TLS if the URL requires it.
async fn socket(uri: &AMQPUri, tls: Option<&TlsConnector>) -> std::io::Result<Socket> {
    let host = uri.authority.host.as_str();
    let stream = TcpStream::connect((host, uri.authority.port)).await?;
    stream.set_nodelay(true)?;
    let Some(tls) = tls else { return Ok(Either::Left(stream).compat()) };
    let name = ServerName::try_from(host.to_owned())
        .map_err(|error: InvalidDnsNameError| std::io::Error::new(std::io::ErrorKind::InvalidData, error))?;
    Ok(Either::Right(tls.connect(name, stream).await?).compat())
}

/// The TLS side: with `ca_file` only that authority is trusted, otherwise the system's roots.
fn connector(config: &AmqpConfig) -> Result<TlsConnector, AmqpError> {
    let of_system = PathBuf::new();
    let path = config.ca_file.as_ref().unwrap_or(&of_system);
    let unusable = |why: String| AmqpError::File { key: "amqp.ca_file", path: path.clone(), why };
    let trusted = match &config.ca_file {
        Some(path) => certificates("amqp.ca_file", path)?,
        None => roots_of_system().map_err(unusable)?,
    };
    let mut roots = RootCertStore::empty();
    let (_, ignored) = roots.add_parsable_certificates(trusted);
    if ignored > 0 {
        tracing::warn!(ignored, "unreadable certificates of authorities are ignored");
    }
    if roots.is_empty() {
        return Err(unusable("no certificate in it can be used".to_owned()));
    }
    let tls = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| AmqpError::Link(error.to_string()))?
        .with_root_certificates(roots);
    let (certificate, key) = match (&config.client_cert_file, &config.client_key_file) {
        (None, None) => return Ok(Arc::new(tls.with_no_client_auth()).into()),
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
    let tls = tls.with_client_auth_cert(chain, private).map_err(|error| unusable(error.to_string()))?;
    Ok(Arc::new(tls).into())
}

/// The authorities that this machine trusts. Some may be unreadable, but not all.
fn roots_of_system() -> Result<Vec<CertificateDer<'static>>, String> {
    let found = rustls_native_certs::load_native_certs();
    match found.errors.first() {
        Some(error) if found.certs.is_empty() => Err(error.to_string()),
        None if found.certs.is_empty() => Err("this machine has no certificates of authorities".to_owned()),
        _ => {
            found.errors.iter().for_each(|error| tracing::warn!(%error, "certificates of this machine cannot be read"));
            Ok(found.certs)
        }
    }
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
