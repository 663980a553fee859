//! Outgoing connections: trusted certificates, permitted callback addresses, and no decompression.

use std::io::Write as _;
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;

use erasure_worker::job::{FailureKind, Reason, StepName};
use erasure_worker::systems::Facts;
use erasure_worker::systems::cleeng::Cleeng;
use erasure_worker::systems::http::BuildError;
use erasure_worker::systems::vitalsource::{VitalSource, VitalSourceSettings};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use testkit::certificates;

use crate::stub::{Play, Stub, ask, one, quick, reply};
use crate::{cleeng, vitalsource};

/// A server whose certificate has no trusted authority. The thread returns the end of the first connection.
fn untrusted() -> (String, thread::JoinHandle<String>) {
    let folder = tempfile::tempdir().expect("folder");
    certificates::make(folder.path());
    let certificate = CertificateDer::from_pem_file(folder.path().join("server.crt")).expect("certificate");
    let key = PrivateKeyDer::from_pem_file(folder.path().join("server.key")).expect("key");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .expect("a certificate for its key");
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let port = listener.local_addr().expect("address").port();
    let server = thread::spawn(move || {
        let (mut socket, _) = listener.accept().expect("accept");
        let mut tls = rustls::ServerConnection::new(Arc::new(config)).expect("connection");
        while tls.is_handshaking() {
            if let Err(error) = tls.complete_io(&mut socket) {
                return error.to_string();
            }
        }
        "trusted".to_owned()
    });
    (format!("https://localhost:{port}"), server)
}

#[tokio::test]
async fn a_certificate_without_a_trusted_authority_is_refused_and_nothing_is_sent() {
    let (url, server) = untrusted();
    let client = Cleeng::new("cleeng", cleeng::settings(&url), &quick()).expect("client");
    let delete = one(StepName::DeleteCustomer);
    let failure = ask(&client, &cleeng::backend(), delete, &Facts::default()).await.expect_err("not trusted");
    assert_eq!(
        (failure.kind, failure.note.map(|note| note.to_string()).as_deref()),
        (FailureKind::Unavailable, Some("TLS: the certificate is not trusted"))
    );
    let end = server.join().expect("server");
    assert!(end.contains("alert"), "the client sent no TLS alert: {end}");
}

fn with_callback(stub: &Stub, url: String, may_be_private: bool) -> Result<VitalSource, BuildError> {
    let settings = VitalSourceSettings {
        abandon_url: Some(url),
        abandon_private: may_be_private,
        ..vitalsource::settings(&stub.url)
    };
    VitalSource::new("vitalsource", settings, &quick(), Arc::new(|_| "signed..bytes".to_owned()))
}

#[tokio::test]
async fn a_callback_goes_to_a_private_address_only_if_that_is_allowed() {
    let stub = Stub::start().await;
    let port = stub.url.rsplit(':').next().expect("port").to_owned();
    for host in ["127.0.0.1", "[::1]", "10.0.0.7", "169.254.169.254", "[::ffff:192.168.0.1]", "2130706433", "0x7f.1"] {
        let error = with_callback(&stub, format!("http://{host}:{port}/drop"), false).err().expect(host);
        assert!(matches!(error, BuildError::Setting { key: "abandon_url", .. }), "{host}: {error}");
    }
    // A name is judged by its address at the time of the call.
    let account = vitalsource::account(Some("GUID-1"), Some("REF 1"));
    for (may_be_private, calls) in [(false, 0), (true, 1)] {
        let client = with_callback(&stub, format!("http://localhost:{port}/drop"), may_be_private).expect("client");
        stub.play([reply(202, "")]);
        let result = ask(&client, &account, one(StepName::TellRequester), &vitalsource::facts()).await;
        assert_eq!((result.is_ok(), stub.seen().len()), (may_be_private, calls));
    }
}

#[tokio::test]
async fn a_compressed_reply_is_neither_requested_nor_decompressed() {
    let packed = pack(&format!(r#"{{"items":[]{}}}"#, " ".repeat(64 << 20)));
    assert!(packed.len() < 1 << 20, "the compressed body is not small");
    let stub = Stub::start().await;
    let client = cleeng::client(&stub);
    let headers = "Content-Encoding: gzip\r\nContent-Type: application/json\r\n".to_owned();
    stub.play([Play::Reply { status: 200, headers, body: packed }]);
    let list = one(StepName::ListEntitlements);
    let failure = ask(&client, &cleeng::backend(), list, &Facts::default()).await.expect_err("unreadable");
    assert_eq!((failure.kind, failure.reason), (FailureKind::Unreadable, Reason::UnreadableReply));
    assert_eq!(stub.only().header("accept-encoding"), None);
}

fn pack(text: &str) -> Vec<u8> {
    let mut gzip = Command::new("gzip").arg("-c").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("gzip");
    let mut input = gzip.stdin.take().expect("stdin");
    let text = text.as_bytes().to_vec();
    let writer = thread::spawn(move || input.write_all(&text).expect("written"));
    let packed = gzip.wait_with_output().expect("gzip").stdout;
    writer.join().expect("writer");
    packed
}
