//! A server that plays a script over TCP, and the jobs of the tests.
//!
//! The rule it keeps: one request a connection, recorded unchanged. So a test sees every byte, and can cut, stall or
//! overfill a reply.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use erasure_worker::job::{
    Absence, Answer, Failure, FailureKind, Job, JobKey, Kind, Mode, Reason, Spec, Step, StepName, Target,
};
use erasure_worker::systems::http::HttpSettings;
use erasure_worker::systems::{Call, Facts, System};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Texts that no failure may contain.
pub const PRIVATE: &[&str] = &[
    "123456789",
    "ann@",
    "Ann@",
    "example.com",
    "tok-",
    "pa$$",
    "GUID-1",
    "REF 1",
    "CODE/1",
    "127.0.0.1",
    "http://",
    "secret text",
];

/// One scripted behaviour.
#[derive(Clone)]
pub enum Play {
    /// A whole reply.
    Reply { status: u16, headers: String, body: Vec<u8> },
    /// Reads the request and closes.
    Cut,
    /// Sends the head and a part of the body, and closes.
    Half,
    /// Reads the request and never answers.
    Stall,
    /// Sends a body of this many bytes, without a length.
    Flood(usize),
}

pub fn reply(status: u16, body: impl Into<Vec<u8>>) -> Play {
    Play::Reply { status, headers: String::new(), body: body.into() }
}

pub fn reply_with(status: u16, headers: &str, body: &str) -> Play {
    Play::Reply { status, headers: headers.to_owned(), body: body.into() }
}

/// A received request.
#[derive(Clone, Debug)]
pub struct Seen {
    pub line: String,
    pub head: String,
    pub body: String,
}

impl Seen {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

#[derive(Clone)]
pub struct Stub {
    pub url: String,
    script: Arc<Mutex<VecDeque<Play>>>,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Stub {
    pub async fn start() -> Stub {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let url = format!("http://{}", listener.local_addr().expect("address"));
        let stub = Stub { url, script: Arc::default(), seen: Arc::default() };
        let server = stub.clone();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(serve(socket, server.clone()));
            }
        });
        stub
    }

    pub fn play(&self, script: impl IntoIterator<Item = Play>) {
        let mut plays = self.script.lock().expect("script");
        plays.clear();
        plays.extend(script);
    }

    pub fn seen(&self) -> Vec<Seen> {
        std::mem::take(&mut self.seen.lock().expect("seen"))
    }

    pub fn only(&self) -> Seen {
        let mut seen = self.seen();
        assert_eq!(seen.len(), 1, "not exactly one request");
        seen.remove(0)
    }
}

async fn serve(mut socket: TcpStream, stub: Stub) {
    let _ = socket.set_nodelay(true);
    let Some(request) = read_request(&mut socket).await else { return };
    stub.seen.lock().expect("seen").push(request);
    let play = stub.script.lock().expect("script").pop_front();
    match play.unwrap_or_else(|| reply(599, "nothing scripted")) {
        Play::Reply { status, headers, body } => {
            let head =
                format!("HTTP/1.1 {status} X\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n", body.len());
            let _ = socket.write_all(head.as_bytes()).await;
            let _ = socket.write_all(&body).await;
        }
        Play::Cut => {}
        Play::Half => {
            let _ = socket.write_all(b"HTTP/1.1 200 X\r\nContent-Length: 100\r\n\r\n{\"succ").await;
        }
        Play::Stall => std::future::pending::<()>().await,
        Play::Flood(length) => {
            let _ = socket.write_all(b"HTTP/1.1 200 X\r\nConnection: close\r\n\r\n").await;
            let chunk = vec![b' '; 64 * 1024];
            for _ in 0..length.div_ceil(chunk.len()) {
                if socket.write_all(&chunk).await.is_err() {
                    return;
                }
            }
        }
    }
    let _ = socket.shutdown().await;
}

async fn read_request(socket: &mut TcpStream) -> Option<Seen> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
        if socket.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let text = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let (line, head) = text.split_once("\r\n").unwrap_or((&text, ""));
    let mut seen = Seen { line: line.to_owned(), head: head.to_owned(), body: String::new() };
    let length: usize = seen.header("content-length").map_or(0, |length| length.parse().expect("length"));
    while bytes.len() < end + 4 + length {
        if socket.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
    seen.body = String::from_utf8_lossy(&bytes[end + 4..]).into_owned();
    Some(seen)
}

/// Timeouts that no usual test reaches.
pub fn quick() -> HttpSettings {
    HttpSettings {
        timeout: Duration::from_secs(10),
        connect_timeout: Duration::from_secs(5),
        ..HttpSettings::default()
    }
}

pub fn job(spec: Spec) -> Job {
    let (kind, system) = match &spec {
        Spec::CleengBackend { .. } | Spec::CleengMediastore { .. } => (Kind::Cleeng, "cleeng"),
        Spec::EasyCms { .. } => (Kind::EasyCms, "easycms"),
        Spec::VitalSource { .. } => (Kind::VitalSource, "vitalsource"),
        _ => (Kind::ZetaLoyalty, "loyalty"),
    };
    Job {
        key: JobKey { tenant: "acme".into(), job_id: uuid::uuid!("6c0b7b0e-6a4e-4a53-9a2e-0d8c6a0a7f11") },
        environment: "sandbox".into(),
        mode: Mode::Erase,
        requested_at: "2026-11-22T10:00:00Z".parse().expect("time"),
        regulation: None,
        due_at: None,
        confirmation: None,
        approval: None,
        receipt_salt: None,
        retry: false,
        targets: vec![Target { system: system.into(), kind, confirmation: None, spec }],
    }
}

/// Makes one call, and checks that a failure contains no personal data.
pub async fn ask(system: &dyn System, spec: &Spec, step: Step, facts: &Facts) -> Result<Answer, Failure> {
    let job = job(spec.clone());
    let call = Call { job: &job, target: &job.targets[0], index: 0, step, facts };
    let result = system.call(call).await;
    if let Err(failure) = &result {
        assert_clean(failure);
    }
    result
}

pub fn assert_clean(failure: &Failure) {
    for shown in [format!("{failure}"), format!("{failure:?}")] {
        for private in PRIVATE {
            assert!(!shown.contains(private), "{shown:?} shows {private:?}");
        }
    }
}

/// The expected result of a reply.
#[derive(Debug, Clone, PartialEq)]
pub enum Expect {
    Is(Answer),
    Fails(FailureKind, Reason),
}

pub fn fails(kind: FailureKind, reason: Reason) -> Expect {
    Expect::Fails(kind, reason)
}

/// The interface's documented absence: believed, or not.
pub fn missing(is_vouched: bool) -> Expect {
    Expect::Is(if is_vouched { Answer::Missing(Absence::vouched()) } else { Answer::Unclear(Reason::Unproven) })
}

/// Plays each row's reply and compares the result.
pub async fn rows(
    stub: &Stub,
    system: &dyn System,
    spec: &Spec,
    step: Step,
    facts: &Facts,
    table: &[(u16, &str, Expect)],
) {
    for (status, body, expected) in table {
        stub.play([reply(*status, *body)]);
        let got = match ask(system, spec, step, facts).await {
            Ok(answer) => Expect::Is(answer),
            Err(failure) => Expect::Fails(failure.kind, failure.reason),
        };
        assert_eq!(&got, expected, "{} on {status} {body}", step.name.as_str());
        assert_eq!(stub.seen().len(), 1, "not exactly one request on {status} {body}");
    }
}

pub fn one(name: StepName) -> Step {
    Step::one(name)
}
