//! The guide's programs run, if their language is installed, with stand-ins of their libraries that record the calls.

use std::path::Path;
use std::process::{Command, Stdio};

use erasure_worker::job::draft;
use serde_json::{Value, json};

use crate::schema::accepts;
use crate::{blocks, page};

/// Prints each publish as a line of JSON; delivers `$EVENTS` to a consumer.
const PIKA: &str = r#"
import json, os

class BasicProperties(dict):
    def __init__(self, **properties):
        super().__init__(properties)

def URLParameters(url):
    return url

class Method:
    delivery_tag = 7

class Channel:
    confirms = False
    acked = 0

    def confirm_delivery(self):
        self.confirms = True

    def basic_publish(self, exchange, key, body, properties, mandatory=False):
        publish = dict(exchange=exchange, key=key, body=body.decode(), mandatory=mandatory, confirms=self.confirms)
        print(json.dumps(dict(publish, **properties)))

    def queue_declare(self, queue, durable=False):
        assert durable

    def queue_bind(self, queue, exchange, key):
        assert exchange == "erasure.events"

    def basic_qos(self, prefetch_count):
        assert prefetch_count > 0

    def basic_consume(self, queue, take):
        self.take = take

    def basic_ack(self, tag):
        assert tag == 7
        self.acked += 1

    def start_consuming(self):
        events = json.loads(os.environ["EVENTS"])
        for event in events:
            self.take(self, Method(), None, json.dumps(event).encode())
        assert self.acked == len(events)

class BlockingConnection:
    def __init__(self, url):
        assert url.startswith("amqp://")

    def __enter__(self):
        return self

    def __exit__(self, *how):
        return False

    def channel(self):
        return Channel()
"#;

const AMQPLIB: &str = r#"
exports.connect = async (url) => ({
  createConfirmChannel: async () => ({
    on: () => {},
    publish: (exchange, key, body, { persistent, mandatory, contentType, messageId }) => console.log(JSON.stringify({
      exchange, key, body: body.toString(), mandatory, confirms: true, delivery_mode: persistent ? 2 : 1,
      content_type: contentType, message_id: messageId })),
    waitForConfirms: async () => {},
  }),
  close: async () => {},
});
"#;

fn program(language: &str, nth: usize) -> String {
    let of_language = blocks(&page("docs/guide.md")).into_iter().filter(|(found, _)| found == language);
    of_language.map(|(_, text)| text).nth(nth).unwrap_or_else(|| panic!("the guide has no such {language} program"))
}

fn is_there(tool: &str) -> bool {
    let found = Command::new(tool).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    found.is_ok_and(|status| status.success())
}

fn run(command: &mut Command, folder: &Path) -> String {
    let done = command.current_dir(folder).env("AMQP_URL", "amqp://127.0.0.1/%2f").output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap()
}

/// Checks a publisher's output: the publish, then the job's id.
fn assert_published(said: &str) {
    let (publish, id) = said.trim_end().split_once('\n').unwrap();
    let publish: Value = serde_json::from_str(publish).unwrap();
    assert_eq!((&publish["exchange"], &publish["key"]), (&json!("erasure.requests"), &json!("job")));
    assert_eq!((&publish["mandatory"], &publish["confirms"]), (&json!(true), &json!(true)));
    assert_eq!((&publish["delivery_mode"], &publish["message_id"]), (&json!(2), &json!(id)));
    assert_job(publish["body"].as_str().unwrap(), id);
}

fn assert_job(body: &str, id: &str) {
    let job = draft::job(body.as_bytes(), None, &accepts()).unwrap();
    assert_eq!(job.key.job_id.to_string(), id);
    assert!(job.due_at.is_some());
}

#[test]
fn the_guides_python_publisher_sends_a_valid_job() {
    if !is_there("python3") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("pika.py"), PIKA).unwrap();
    std::fs::write(folder.path().join("order.py"), program("python", 0)).unwrap();
    assert_published(&run(Command::new("python3").arg("order.py"), folder.path()));
}

#[test]
fn the_guides_javascript_publisher_sends_a_valid_job() {
    if !is_there("node") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let library = folder.path().join("node_modules/amqplib");
    std::fs::create_dir_all(&library).unwrap();
    std::fs::write(library.join("index.js"), AMQPLIB).unwrap();
    std::fs::write(folder.path().join("order.js"), program("javascript", 0)).unwrap();
    assert_published(&run(Command::new("node").arg("order.js"), folder.path()));
}

#[test]
fn the_guides_shell_publisher_submits_a_valid_job() {
    if !is_there("jq") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let submit = folder.path().join("erasure-worker");
    std::fs::write(&submit, "#!/bin/sh\ntest \"$*\" = 'submit -' && cat\n").unwrap();
    std::fs::set_permissions(&submit, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", folder.path().display(), std::env::var("PATH").unwrap());
    let said = run(Command::new("sh").args(["-c", &program("sh", 0)]).env("PATH", path), folder.path());
    let job: Value = serde_json::from_str(&said).unwrap();
    assert_job(&said, job["job_id"].as_str().unwrap());
}

#[test]
fn the_guides_python_subscriber_ignores_repeats_and_takes_only_completed_as_erased() {
    if !is_there("python3") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("pika.py"), PIKA).unwrap();
    let count = "\nfor row in db.execute('SELECT job_id, outcome FROM jobs ORDER BY job_id'):\n    print(*row)\n\
                print(*db.execute('SELECT count(*) FROM seen').fetchone())\n";
    std::fs::write(folder.path().join("take.py"), program("python", 1) + count).unwrap();
    let event = |id: &str, job: &str, outcome: &str, is_final: bool| json!({ "id": id, "data": { "tenant": "acme", "job_id": job, "outcome": outcome, "final": is_final, "more": 1 } });
    let events = json!([
        event("e1", "j1", "needs_input", false),
        event("e2", "j1", "completed", true),
        event("e2", "j1", "completed", true),
        event("e3", "j2", "half_done", true),
        event("e4", "j3", "overdue", false),
    ]);
    let said = run(Command::new("python3").arg("take.py").env("EVENTS", events.to_string()), folder.path());
    assert_eq!(said, "j1 erased\nj2 not erased: half_done\n4\n");
}
