//! The receivers of the page, in Python and in Node: they verify our requests by the public keys alone.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::*;

/// A receiver's process; it ends with the test.
struct Receiver {
    process: Child,
    url: String,
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn start(program: &Path, script: &str, folder: &Path, system: &str) -> Receiver {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/receivers").join(script);
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]).arg(program).arg(script);
    command.args(["keys.json", "people.json", "answers.ndjson", system, "0"]).current_dir(folder);
    let mut process = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("starts");
    let mut port = String::new();
    BufReader::new(process.stdout.take().expect("stdout")).read_line(&mut port).expect("a port");
    Receiver { process, url: format!("http://127.0.0.1:{}", port.trim()) }
}

fn people(folder: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(folder.join("people.json")).expect("people")).expect("json")
}

async fn means(client: &Webhook, step: Step, facts: &Facts) -> Result<Means, (FailureKind, Reason)> {
    let said = ask(client, step, facts).await;
    said.map(|answer| answer.means().expect("a meaning")).map_err(|failure| (failure.kind, failure.reason))
}

async fn works(program: &Path, script: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/receivers").join(script);
    let lines = std::fs::read_to_string(path).expect("a script").lines().count();
    assert!(lines <= 60, "{script} has {lines} lines: nobody reads a long example before copying it");
    let folder = tempfile::tempdir().expect("folder");
    let folder = folder.path();
    std::fs::write(folder.join("keys.json"), keyring().all_public_keys().to_string()).expect("keys");
    let everybody = json!({ "123456789": "ann@example.com", "42": "bob@example.com" });
    std::fs::write(folder.join("people.json"), everybody.to_string()).expect("people");
    let receiver = start(program, script, folder, "crm");
    let client_of = |url: &str| with(settings(url, true)).expect("client");
    let client = client_of(&receiver.url);
    client.probe().await.expect("a signed probe is answered");
    assert_eq!(means(&client, one(StepName::Resolve), &facts(0)).await, Ok(Means::Found(Identity::Same)));
    assert_eq!(means(&client, ERASE, &facts(0)).await, Ok(Means::Done));
    assert_eq!(people(folder), json!({ "42": "bob@example.com" }));
    assert_eq!(means(&client, one(StepName::Resolve), &facts(0)).await, Ok(Means::Gone(Absence::vouched())));
    // A repeat gets the same answer; another run sees that nobody is there.
    assert_eq!(means(&client, ERASE, &facts(0)).await, Ok(Means::Done));
    assert_eq!(means(&client, ERASE, &facts(1)).await, Ok(Means::DoneBefore));
    drop(receiver);

    // The answers are kept over a restart, and can be asked for by the request's id.
    let receiver = start(program, script, folder, "crm");
    let client = client_of(&receiver.url);
    let Ok(Answer::Connector(reading)) = ask(&client, ERASE, &facts(0)).await else { panic!("no answer") };
    assert_eq!(reading.means, Means::Done);
    let of = |fact: Fact| Facts { of_connector: vec![(0, Arc::new(fact))], ..facts(0) };
    assert_eq!(means(&client, STATUS, &of(reading.facts[0].1.clone())).await, Ok(Means::Done));
    let unknown = of(Fact::Text("7a5c1a52-0d3e-4f7c-9d0e-7b9a3c1f2e4d".to_owned()));
    assert_eq!(means(&client, STATUS, &unknown).await, Err((FailureKind::Unreadable, Reason::UnreadableReply)));

    // Another person has this id now.
    std::fs::write(folder.join("people.json"), json!({ "123456789": "eve@example.com" }).to_string()).expect("people");
    assert_eq!(means(&client, one(StepName::Resolve), &facts(2)).await, Ok(Means::Found(Identity::Other)));
    assert_eq!(means(&client, ERASE, &facts(2)).await, Err((FailureKind::Refused, Reason::IdentityMismatch)));
    assert_eq!(people(folder), json!({ "123456789": "eve@example.com" }));

    // A wrong signature, a foreign key, and a request for another receiver change nothing.
    let ours = Err((FailureKind::UnauthorisedOurs, Reason::SystemUnavailable));
    let unsigned = Webhook::new("crm", settings(&receiver.url, true), &quick(), Arc::new(|_| String::new()));
    assert_eq!(means(&unsigned.expect("client"), ERASE, &facts(3)).await, ours);
    let backwards: String = NEW.chars().rev().collect();
    let foreign = Keyring::new(MasterKey::parse(&backwards).expect("a key"), Vec::new()).expect("a keyring");
    let foreign = Arc::new(move |content: &[u8]| foreign.sign_webhook(content));
    let foreign = Webhook::new("crm", settings(&receiver.url, true), &quick(), foreign).expect("client");
    assert_eq!(means(&foreign, ERASE, &facts(3)).await, ours);
    // A right signature over another time, or named as another scheme.
    erasure_worker::app::install_tls();
    let (id, now) = ("7a5c1a52-0d3e-4f7c-9d0e-7b9a3c1f2e4d", jiff::Timestamp::now().as_second());
    for (off, scheme, status) in
        [(0, "v1a,", 200), (-200, "v1a,", 200), (-400, "v1a,", 401), (400, "v1a,", 401), (0, "v1,", 401)]
    {
        let data = json!({ "id": id, "system": "crm", "subject": { "user_id": "1" } });
        let body = json!({ "type": "erasure.read", "data": data }).to_string();
        let signatures = keyring().sign_webhook(format!("{id}.{}.{body}", now + off).as_bytes());
        let request = reqwest::Client::new().post(format!("{}/read", receiver.url)).body(body);
        let request = request.header("webhook-id", id).header("webhook-timestamp", (now + off).to_string());
        let request = request.header("webhook-signature", signatures.replace("v1a,", scheme));
        assert_eq!(request.send().await.expect("an answer").status(), status, "{off} s, {scheme}");
    }
    drop(receiver);
    let other = start(program, script, folder, "shop");
    assert_eq!(means(&client_of(&other.url), ERASE, &facts(4)).await, ours);
    assert_eq!(people(folder), json!({ "123456789": "eve@example.com" }));
}

#[tokio::test]
async fn the_receiver_in_python_verifies_erases_and_recognises_a_repeat() {
    let python = tokio::task::spawn_blocking(testkit::python::python).await.expect("a Python");
    works(python, "webhook.py").await;
}

#[tokio::test]
async fn the_receiver_in_node_verifies_erases_and_recognises_a_repeat() {
    works(Path::new("node"), "webhook.mjs").await;
}
