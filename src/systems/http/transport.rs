//! The cause of a failed connection, in fixed words.
//!
//! The rule it keeps: no text of a library or of the peer is passed on, because it contains the address.

use std::error::Error;
use std::io;

use rustls::{CertificateError, Error as Tls};

/// The cause of a connection that was not made.
pub(super) fn no_connection(error: &reqwest::Error) -> &'static str {
    if error.is_dns() {
        return "the name cannot be resolved";
    }
    let mut next: Option<&(dyn Error + 'static)> = error.source();
    while let Some(cause) = next {
        if let Some(tls) = cause.downcast_ref::<Tls>() {
            return tls_note(tls);
        }
        if let Some(io) = cause.downcast_ref::<io::Error>() {
            if let Some(tls) = inner_tls(io) {
                return tls_note(tls);
            }
            if let Some(note) = io_note(io.kind()) {
                return note;
            }
        }
        next = cause.source();
    }
    if error.is_timeout() { "timed out before the connection was made" } else { "no connection" }
}

/// A TLS error inside an I/O error. It may be wrapped more than once.
fn inner_tls(io: &io::Error) -> Option<&Tls> {
    let inner = io.get_ref()?;
    inner.downcast_ref::<Tls>().or_else(|| inner.downcast_ref::<io::Error>().and_then(inner_tls))
}

const fn io_note(kind: io::ErrorKind) -> Option<&'static str> {
    Some(match kind {
        io::ErrorKind::ConnectionRefused => "connection refused",
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => "no route to the address",
        io::ErrorKind::TimedOut => "timed out before the connection was made",
        io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof => "the connection was closed during its setup",
        _ => return None,
    })
}

fn tls_note(error: &Tls) -> &'static str {
    use CertificateError as C;
    match error {
        Tls::InvalidCertificate(C::Expired | C::ExpiredContext { .. }) => "TLS: the certificate has expired",
        Tls::InvalidCertificate(C::NotValidYet | C::NotValidYetContext { .. }) => {
            "TLS: the certificate is not valid yet; is the clock right?"
        }
        Tls::InvalidCertificate(C::NotValidForName | C::NotValidForNameContext { .. }) => {
            "TLS: the certificate is for another name"
        }
        Tls::InvalidCertificate(C::UnknownIssuer) => "TLS: the certificate is not trusted",
        Tls::InvalidCertificate(C::Revoked) => "TLS: the certificate is revoked",
        Tls::InvalidCertificate(_) => "TLS: the certificate cannot be accepted",
        Tls::InvalidMessage(_) => "TLS: the peer does not use TLS",
        Tls::AlertReceived(_) => "TLS: the peer refused the handshake",
        _ => "TLS: the handshake failed",
    }
}
