//! Shared parts: jobs, a stand-in that records its requests, a ledger in a new folder.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::serve::ListenerExt;
use erasure_worker::job::flow::MemberProof;
use erasure_worker::job::{Answer, Failure, Job, JobKey, Kind, Member, MemberKey, Mode, Spec, Step, StepName, Target};
use erasure_worker::systems::http::HttpSettings;
use erasure_worker::systems::zeta::{ImportLedger, ImportSettings, KeyedDigest, ZetaClient, ZetaSettings};
use erasure_worker::systems::{Call, Facts, System};
use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use secrecy::SecretString;
use uuid::Uuid;

pub fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).expect("a time")
}

pub fn keyed_by(key: &'static [u8]) -> KeyedDigest {
    Arc::new(move |bytes: &[u8]| {
        let mut mac = Hmac::<sha2::Sha256>::new_from_slice(key).expect("any length");
        mac.update(bytes);
        let mut digest = [0; 16];
        digest.copy_from_slice(&mac.finalize().into_bytes()[..16]);
        digest
    })
}

pub fn keyed() -> KeyedDigest {
    keyed_by(b"a key for tests")
}

pub fn job_key(n: u128) -> JobKey {
    JobKey { tenant: "acme".to_owned(), job_id: Uuid::from_u128(n) }
}

pub fn secret(text: &str) -> SecretString {
    SecretString::from(text.to_owned())
}

pub fn settings(dir: &Path) -> ImportSettings {
    ImportSettings {
        dir: dir.to_owned(),
        key: MemberKey::IntegrationId,
        max_rows: 10_000,
        max_age: Duration::from_secs(3600),
    }
}

pub fn open(settings: ImportSettings) -> ImportLedger {
    ImportLedger::open(settings, keyed()).expect("a ledger")
}

pub fn member(key: MemberKey, value: &str) -> Member {
    Member { key, value: secret(value) }
}

/// A stand-in with one reply for every request. It records the requests.
pub struct Stub {
    pub url: String,
    seen: Arc<Mutex<Vec<Seen>>>,
    reply: Arc<Mutex<(u16, String)>>,
}

#[derive(Clone)]
pub struct Seen {
    /// Method, path and query, as sent.
    pub line: String,
    pub headers: HeaderMap,
    pub body: String,
}

impl Seen {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

type Shared = (Arc<Mutex<Vec<Seen>>>, Arc<Mutex<(u16, String)>>);

impl Stub {
    pub async fn start() -> Stub {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let reply = Arc::new(Mutex::new((500, String::new())));
        let app = axum::Router::new().fallback(answer).with_state((seen.clone(), reply.clone()));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let listener = listener.tap_io(|socket| socket.set_nodelay(true).expect("no delay"));
        tokio::spawn(async move { axum::serve(listener, app).await });
        Stub { url, seen, reply }
    }

    pub fn replies(&self, status: u16, body: &str) {
        *self.reply.lock().expect("lock") = (status, body.to_owned());
    }

    /// The requests since the last call.
    pub fn seen(&self) -> Vec<Seen> {
        std::mem::take(&mut *self.seen.lock().expect("lock"))
    }

    /// The only request since the last call.
    pub fn one(&self) -> Seen {
        let mut seen = self.seen();
        assert_eq!(seen.len(), 1, "not exactly one request");
        seen.remove(0)
    }
}

async fn answer(State((seen, reply)): State<Shared>, request: Request) -> (StatusCode, String) {
    let (parts, body) = request.into_parts();
    let body: Bytes = axum::body::to_bytes(body, 1 << 20).await.expect("a body");
    seen.lock().expect("lock").push(Seen {
        line: format!("{} {}", parts.method, parts.uri),
        headers: parts.headers,
        body: String::from_utf8_lossy(&body).into_owned(),
    });
    let (status, text) = reply.lock().expect("lock").clone();
    (StatusCode::from_u16(status).expect("a status"), text)
}

pub const TOKEN: &str = "program-token+&=";

pub fn zeta(base_url: &str, member_proof: MemberProof) -> ZetaSettings {
    ZetaSettings {
        base_url: base_url.to_owned(),
        program_token: Some(secret(TOKEN)),
        member_proof,
        otp_field: "code".to_owned(),
        otp_validity: Duration::from_secs(300),
        otp_resend_after: Duration::from_secs(60),
        preserved: Vec::new(),
        probe_member_id: None,
        import: None,
    }
}

pub fn client(settings: ZetaSettings) -> ZetaClient {
    ZetaClient::new("loyalty", settings, &HttpSettings::default(), keyed(), Arc::new(|| at(0))).expect("a client")
}

pub async fn step(client: &ZetaClient, spec: Spec, name: StepName) -> Result<Answer, Failure> {
    let target =
        Target { system: "loyalty".to_owned(), kind: Kind::ZetaLoyalty, confirmation: None, spec: spec.clone() };
    let job = Job {
        key: job_key(1),
        environment: "sandbox".to_owned(),
        mode: Mode::Erase,
        requested_at: at(0),
        regulation: None,
        due_at: None,
        confirmation: None,
        approval: None,
        receipt_salt: None,
        retry: false,
        targets: vec![target],
    };
    let facts = Facts::default();
    client.call(Call { job: &job, target: &job.targets[0], index: 0, step: Step::one(name), facts: &facts }).await
}
