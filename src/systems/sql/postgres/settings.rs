//! The address of a PostgreSQL database.
//!
//! The rule it keeps: encrypted and checked against an authority, unless the address says `sslmode=disable` or the
//! database is reached through a socket file.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::super::super::http::BuildError;
use crate::store::postgres::Address;

const fn url(problem: &'static str) -> BuildError {
    BuildError::Setting { key: "url", problem }
}

/// Reads an address; with `ca_file` only that authority is trusted, otherwise the system's roots. `client`: the files of
/// our own certificate and its key.
///
/// # Errors
/// [`BuildError`] naming the key that is wrong.
pub(in super::super) fn read_url(
    text: &str,
    ca_file: Option<&Path>,
    client: Option<(&Path, &Path)>,
) -> Result<Address, BuildError> {
    if !["postgresql://", "postgres://"].iter().any(|scheme| text.starts_with(scheme)) {
        return Err(url("must begin with postgresql:// or mysql://"));
    }
    // The library knows three of the words only, and `prefer` would accept a connection without encryption.
    let (address, query) = text.split_once('?').unwrap_or((text, ""));
    let (modes, others): (Vec<&str>, Vec<&str>) =
        query.split('&').filter(|pair| !pair.is_empty()).partition(|pair| pair.starts_with("sslmode="));
    let is_plain = match modes[..] {
        [] | ["sslmode=require" | "sslmode=verify-ca" | "sslmode=verify-full"] => false,
        ["sslmode=disable"] => true,
        _ => return Err(url("sslmode must be verify-full or disable")),
    };
    let unreadable = |_| url("is not an address: postgresql://USER:PASSWORD@HOST:PORT/DATABASE");
    let mut config: Config = format!("{address}?{}", others.join("&")).parse().map_err(unreadable)?;
    if config.get_hosts().is_empty() || config.get_user().is_none() || config.get_dbname().is_none() {
        return Err(url("must name user, host and database: postgresql://USER:PASSWORD@HOST:PORT/DATABASE"));
    }
    if !config.get_hostaddrs().is_empty() {
        // The connection would go there, whatever the host is.
        return Err(url("must not have hostaddr: write the address as the host"));
    }
    if config.get_hosts().len() > 1 {
        config.target_session_attrs(TargetSessionAttrs::ReadWrite);
    }
    let is_socket = config.get_hosts().iter().all(|host| matches!(host, Host::Unix(_)));
    if is_plain || is_socket {
        config.ssl_mode(SslMode::Disable);
        return Ok(Address { config, tls: None });
    }
    config.ssl_mode(SslMode::Require);
    Ok(Address { config, tls: Some(MakeRustlsConnect::new(tls(ca_file, client)?)) })
}

fn tls(ca_file: Option<&Path>, client: Option<(&Path, &Path)>) -> Result<ClientConfig, BuildError> {
    let trusted: Vec<CertificateDer<'static>> = match ca_file {
        Some(path) => CertificateDer::pem_file_iter(path).and_then(Iterator::collect).map_err(|_| {
            BuildError::Setting { key: "ca_file", problem: "cannot be read as certificates in PEM form" }
        })?,
        None => rustls_native_certs::load_native_certs().certs,
    };
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(trusted);
    if roots.is_empty() {
        return Err(BuildError::Setting {
            key: "ca_file",
            problem: "has no certificate of an authority, and without it this machine has none",
        });
    }
    let tls = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|_| url("TLS cannot be set up"))?;
    let tls = tls.with_root_certificates(roots);
    let Some((certificate, key)) = client else { return Ok(tls.with_no_client_auth()) };
    let unreadable = |key| BuildError::Setting { key, problem: "cannot be read in PEM form" };
    let chain = CertificateDer::pem_file_iter(certificate).and_then(Iterator::collect);
    let chain: Vec<_> = chain.map_err(|_| unreadable("client_cert_file"))?;
    let key = PrivateKeyDer::from_pem_file(key).map_err(|_| unreadable("client_key_file"))?;
    tls.with_client_auth_cert(chain, key).map_err(|_| unreadable("client_cert_file"))
}
