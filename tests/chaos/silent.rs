//! States without work: each is reported in the log and in `/readyz`, and none blocks the probes or the stop.

use std::io::Write as _;
use std::os::fd::AsFd;
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::fs::OFlags;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use testkit::forms::{Case, Form, bodies, ids};
use testkit::rabbit::{Rabbit, free_ports};
use testkit::rig::Rig;
use testkit::soon;
use tokio::net::{TcpListener, TcpStream, UnixDatagram};

/// The timeout of a probe.
const PROBE: Duration = Duration::from_secs(20);

/// A probe's answer, as soon as the port is open.
async fn probe(port: u16, path: &str) -> (u16, String) {
    let url = format!("http://127.0.0.1:{port}{path}");
    let client = reqwest::Client::builder().timeout(PROBE).build().unwrap();
    let answered = async {
        loop {
            match client.get(&url).send().await {
                Ok(answer) => return (answer.status().as_u16(), answer.text().await.unwrap()),
                Err(error) if error.is_connect() => tokio::time::sleep(Duration::from_millis(50)).await,
                Err(error) => panic!("{path}: {error}"),
            }
        }
    };
    tokio::time::timeout(PROBE, answered).await.unwrap_or_else(|_| panic!("no answer to {path}"))
}

/// The state of the log's reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reader {
    /// It does not read, and the pipe is full.
    Asleep,
    /// It has closed the pipe.
    Gone,
}

/// A full pipe.
fn full_pipe() -> (std::io::PipeReader, std::io::PipeWriter) {
    let (reader, mut writer) = std::io::pipe().unwrap();
    rustix::fs::fcntl_setfl(writer.as_fd(), OFlags::NONBLOCK).unwrap();
    for size in [4096, 1] {
        while writer.write(&[b'x'; 4096][..size]).is_ok() {}
    }
    // The worker shares the pipe's mode.
    rustix::fs::fcntl_setfl(writer.as_fd(), OFlags::empty()).unwrap();
    (reader, writer)
}

async fn works_unread(reader: Reader) {
    let rig = Rig::start(Rabbit::shared().url()).await;
    let cases = Case::mixed(rig.sandbox(), &Form::PLAIN, 1..21);
    rig.publish(&bodies(&cases)).await;
    let [port] = free_ports();
    let listen = format!("127.0.0.1:{port}");
    let mut command =
        rig.command("state", &[("ERASURE__OPS__LISTEN", &listen), ("ERASURE__WORKER__DRAIN_TIMEOUT", "3s")]);
    let (end, writer) = full_pipe();
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(writer).kill_on_drop(true);
    let mut child = command.spawn().unwrap();
    // The command holds a copy of the writing end.
    drop(command);
    let end = (reader == Reader::Asleep).then_some(end);
    assert_eq!(probe(port, "/livez").await.0, 200, "{reader:?}");
    let heard = rig.events.all_end(ids(&cases)).await;
    for case in &cases {
        assert_eq!(heard.finals(&case.id).values().collect::<Vec<_>>(), ["completed"], "{reader:?}");
    }
    for path in ["/livez", "/readyz", "/metrics"] {
        assert_eq!(probe(port, path).await.0, 200, "{reader:?}: {path}");
    }
    let asked = Instant::now();
    let id = Pid::from_raw(child.id().unwrap().cast_signed()).unwrap();
    kill_process(id, Signal::TERM).unwrap();
    let status = soon("the worker's end", child.wait()).await.unwrap();
    // The promised time, and some for a loaded machine.
    assert!(asked.elapsed() < Duration::from_secs(3 + 5 + 3), "{reader:?}: {:?}", asked.elapsed());
    assert_eq!(status.code(), Some(0), "{reader:?}");
    drop(end);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unread_log_blocks_neither_work_nor_probes_nor_the_stop() {
    works_unread(Reader::Asleep).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_without_a_reader_blocks_neither_work_nor_probes_nor_the_stop() {
    works_unread(Reader::Gone).await;
}

/// The cause of an absent broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Absent {
    /// Its port is closed.
    Closed,
    /// Its name cannot be resolved.
    Unnamed,
    /// It refuses the password.
    Password,
    /// It has no such virtual host.
    Vhost,
    /// Its port is open, but never answers.
    Mute,
    /// The URL says TLS, and the port has none.
    Tls,
}

impl Absent {
    const ALL: [Absent; 6] =
        [Absent::Closed, Absent::Unnamed, Absent::Password, Absent::Vhost, Absent::Mute, Absent::Tls];

    /// The reported cause, and the advice.
    fn words(self) -> [&'static str; 2] {
        match self {
            Absent::Closed => ["onnection refused", "whether the broker runs"],
            Absent::Unnamed => ["lookup address", "name service"],
            Absent::Password => ["Login was refused", "password"],
            Absent::Vhost => ["nowhere", "virtual host"],
            Absent::Mute => ["no connection within", "10s"],
            Absent::Tls => ["InvalidContentType", "without TLS"],
        }
    }
}

/// All notifications to the service manager, up to `last`.
async fn notifications(socket: &UnixDatagram, last: &str) -> Vec<String> {
    let mut lines = Vec::new();
    soon(&format!("the notification {last:?}"), async {
        while !lines.iter().any(|line: &String| line.contains(last)) {
            let mut buffer = [0; 4096];
            let length = socket.recv(&mut buffer).await.unwrap();
            lines.extend(String::from_utf8_lossy(&buffer[..length]).lines().map(str::to_owned));
        }
    })
    .await;
    lines
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_without_a_broker_reports_the_cause_at_once_is_not_ready_and_stops_on_request() {
    let rabbit = Rabbit::shared();
    let rig = Rig::start(rabbit.url()).await;
    let mute = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let ([closed], broker, mute_port) = (free_ports(), rabbit.port(), mute.local_addr().unwrap().port());
    for absent in Absent::ALL {
        let url = match absent {
            Absent::Closed => format!("amqp://guest:guest@127.0.0.1:{closed}/%2f"),
            Absent::Unnamed => format!("amqp://guest:guest@broker.invalid:{broker}/%2f"),
            Absent::Password => format!("amqp://guest:hunter2@127.0.0.1:{broker}/%2f"),
            Absent::Vhost => format!("amqp://guest:guest@127.0.0.1:{broker}/nowhere"),
            Absent::Mute => format!("amqp://guest:guest@127.0.0.1:{mute_port}/%2f"),
            Absent::Tls => format!("amqps://guest:guest@127.0.0.1:{broker}/%2f"),
        };
        let name = format!("{absent:?}");
        let socket = rig.state_dir(&format!("{name}.sock"));
        let manager = UnixDatagram::bind(&socket).unwrap();
        let settings = [("ERASURE__AMQP__URL", url.as_str()), ("NOTIFY_SOCKET", socket.to_str().unwrap())];
        let mut worker = rig.worker(&name, &settings);
        worker.says("the link to the broker is down").await;
        let address = worker.address().await;
        let port = address.rsplit_once(':').unwrap().1.parse().unwrap();
        let (status, body) = probe(port, "/readyz").await;
        let lines = notifications(&manager, "STATUS=no link to the broker").await;
        let log = worker.log();
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!((status, &body["unavailable"][0]["part"]), (503, &Value::from("broker")), "{absent:?}: {body}");
        let said = [body["unavailable"][0]["detail"].as_str().unwrap(), &log, &lines.concat()].map(str::to_owned);
        for (said, words) in said.iter().flat_map(|said| absent.words().map(|words| (said, words))) {
            assert!(said.contains(words), "{absent:?}: {words:?} is missing in {said}");
        }
        assert!(!log.contains("\"working\"") && !lines.contains(&"READY=1".to_owned()), "{absent:?}: {lines:?}: {log}");
        assert!(!log.contains("hunter2"), "{log}");
        assert_eq!(probe(port, "/livez").await.0, 200, "{absent:?}");
        worker.ask_to_stop();
        assert_eq!(worker.ended().await.code(), Some(0), "{absent:?}: {}", worker.log());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_becomes_ready_once_its_broker_answers() {
    let rabbit = Rabbit::shared();
    let rig = Rig::start(rabbit.url()).await;
    let ([port], socket) = (free_ports(), rig.state_dir("notify.sock"));
    let manager = UnixDatagram::bind(&socket).unwrap();
    let url = format!("amqp://guest:guest@127.0.0.1:{port}/%2f");
    let worker = rig.worker("state", &[("ERASURE__AMQP__URL", &url), ("NOTIFY_SOCKET", socket.to_str().unwrap())]);
    let before = notifications(&manager, "STATUS=no link to the broker").await;
    assert!(!before.contains(&"READY=1".to_owned()), "{before:?}");
    let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    let broker = rabbit.port();
    let relaying = tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let mut broker = TcpStream::connect(("127.0.0.1", broker)).await.unwrap();
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut client, &mut broker).await });
        }
    });
    let lines = notifications(&manager, "STATUS=working").await;
    assert!(lines.contains(&"READY=1".to_owned()), "{lines:?}");
    worker.stop().await;
    relaying.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_signal_but_sigkill_ends_a_worker_before_it_has_drained() {
    let rig = Rig::start(Rabbit::shared().url()).await;
    for (n, stops) in [Signal::TERM, Signal::INT, Signal::QUIT].into_iter().enumerate() {
        let mut worker = rig.worker(&format!("state{n}"), &[]);
        worker.says("\"working\"").await;
        let id = Pid::from_raw(worker.id().cast_signed()).unwrap();
        for (ignored, name) in [(Signal::HUP, "SIGHUP"), (Signal::USR1, "SIGUSR1"), (Signal::USR2, "SIGUSR2")] {
            kill_process(id, ignored).unwrap();
            let log = worker.log_path().to_owned();
            tokio::select! {
                () = soon(name, async {
                    while !std::fs::read_to_string(&log).unwrap().contains(name) {
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                }) => {}
                status = worker.ended_some_day() => panic!("{name} ended it: {status}"),
            }
        }
        kill_process(id, Signal::PIPE).unwrap();
        let port = worker.address().await.rsplit_once(':').unwrap().1.parse().unwrap();
        assert_eq!(probe(port, "/readyz").await.0, 200);
        kill_process(id, stops).unwrap();
        assert_eq!(worker.ended().await.code(), Some(0), "{stops:?}: {}", worker.log());
        assert!(worker.log().contains("drained"), "{stops:?}: {}", worker.log());
    }
}

/// `--events - | head`: the reader of the events closes the pipe.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_without_a_reader_of_its_events_begins_no_further_job_and_goes_on_when_run_again() {
    const JOBS: u64 = 400;
    let rig = Rig::start(Rabbit::shared().url()).await;
    let cases = Case::mixed(rig.sandbox(), &[Form::LoyaltyProgram], 1..JOBS + 1);
    let input = rig.state_dir("jobs.ndjson");
    std::fs::write(&input, bodies(&cases).iter().map(|body| format!("{body}\n")).collect::<String>()).unwrap();
    let batch = |events: &str| {
        let mut command = tokio::process::Command::new(&rig.program);
        command.arg("batch").arg("--config").arg(&rig.config).arg("--input").arg(&input).args(["--events", events]);
        command.env("ERASURE__WORKER__STATE_DIR", rig.state_dir("state")).stdin(Stdio::null()).kill_on_drop(true);
        command
    };
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = batch("-");
    let child = command.stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
    drop(command);
    let ended = soon("the batch's end", child.wait_with_output()).await.unwrap();
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert_eq!(ended.status.code(), Some(1), "{said}");
    assert!(said.contains("nobody reads stdout any more") && said.contains("Run the command again"), "{said}");
    let left = cases.iter().filter(|case| !case.remains(rig.sandbox()).is_empty()).count();
    // At most the jobs in hand at the first failed write were begun: 64.
    assert!(left >= 200, "{left} of {JOBS} jobs were not begun");

    let events = rig.state_dir("events.ndjson");
    let ended = soon("the second batch's end", batch(events.to_str().unwrap()).output()).await.unwrap();
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert_eq!(ended.status.code(), Some(0), "{said}");
    for case in &cases {
        assert_eq!(case.remains(rig.sandbox()), [""; 0]);
    }
    let events = std::fs::read_to_string(&events).unwrap();
    let completed = events.lines().filter(|line| line.contains("\"completed\"")).count() as u64;
    assert_eq!(completed, JOBS, "not one event for each job");
    rig.nothing_repeated();
}
