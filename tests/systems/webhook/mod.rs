//! Webhooks: the signed requests, and the results of every answer.

mod flow;
mod receivers;

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ed25519_dalek::{Signature, VerifyingKey};
use erasure_worker::job::plan::{Form, Identifier};
use erasure_worker::job::{
    Absence, Answer, At, Fact, Failure, FailureKind, Identity, Job, Kind, Means, Reading, Reason, Spec, Step, StepName,
};
use erasure_worker::seal::{Keyring, MasterKey};
use erasure_worker::systems::http::BuildError;
use erasure_worker::systems::webhook::{Webhook, WebhookSettings};
use erasure_worker::systems::{Call, Facts, System};
use serde_json::{Value, json};

use crate::stub::{self, Seen, Stub, assert_clean, one, quick, reply};

const NEW: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
const OLD: &str = "101112131415161718191a1b1c1d1e1f000102030405060708090a0b0c0d0e0f";

/// The first act, and the read of its status.
const ERASE: Step = Step::of_connector(StepName::ConnectorAct, 0, 0);
const STATUS: Step = Step::of_connector(StepName::ConnectorReadBack, 1, 0);

fn keyring() -> Arc<Keyring> {
    let key = |text| MasterKey::parse(text).expect("a key");
    Arc::new(Keyring::new(key(NEW), vec![key(OLD)]).expect("a keyring"))
}

fn settings(url: &str, can_read: bool) -> WebhookSettings {
    let identifier = |form, is_required| Identifier { form, is_required };
    let identifiers = [("user_id", identifier(Form::Digits, true)), ("email", identifier(Form::Email, false))];
    let identifiers = identifiers.map(|(name, identifier)| (name.to_owned(), identifier)).into();
    let (url, read_url) = (format!("{url}/erase/"), format!("{url}/read"));
    let settings = WebhookSettings::new(&url, can_read.then_some(read_url.as_str()), identifiers, Vec::new());
    WebhookSettings { private: true, ..settings }
}

fn with(settings: WebhookSettings) -> Result<Webhook, BuildError> {
    let keyring = keyring();
    Webhook::new("crm", settings, &quick(), Arc::new(move |content| keyring.sign_webhook(content)))
}

fn client(stub: &Stub, can_read: bool) -> Webhook {
    with(settings(&stub.url, can_read)).expect("client")
}

fn subject() -> BTreeMap<String, secrecy::SecretString> {
    [("user_id", "123456789"), ("email", "ann@example.com")].map(|(name, value)| (name.to_owned(), value.into())).into()
}

fn job() -> Job {
    let mut job = stub::job(Spec::Connector { identifiers: subject(), proofs: BTreeMap::new() });
    job.targets[0].kind = Kind::Webhook;
    job.targets[0].system = "crm".into();
    job
}

/// The facts of a call in the run that began then.
fn facts(run_began_at: i64) -> Facts {
    Facts { run_began_at: At(run_began_at), ..Facts::default() }
}

async fn ask(system: &dyn System, step: Step, facts: &Facts) -> Result<Answer, Failure> {
    let job = job();
    let said = system.call(Call { job: &job, target: &job.targets[0], index: 0, step, facts }).await;
    said.inspect_err(assert_clean)
}

/// Checks a request's signatures by the public keys, with no code of the worker. Returns the id.
fn verified(seen: &Seen) -> String {
    let header = |name: &str| seen.header(name).unwrap_or_else(|| panic!("no {name}")).to_owned();
    let (id, at) = (header("webhook-id"), header("webhook-timestamp"));
    let seconds: i64 = at.parse().expect("seconds");
    assert_eq!(seconds.to_string().len(), 10, "{at}: not seconds since 1970");
    let content = format!("{id}.{at}.{}", seen.body);
    let signatures = header("webhook-signature");
    let signatures: Vec<&str> = signatures.split(' ').collect();
    let keys = keyring().public_keys();
    let keys = keys["keys"].as_array().expect("keys").clone();
    assert_eq!(signatures.len(), keys.len(), "one signature for each key of the rotation");
    for (signature, key) in signatures.iter().zip(keys) {
        let signature = STANDARD.decode(signature.strip_prefix("v1a,").expect("v1a")).expect("base64");
        let x = URL_SAFE_NO_PAD.decode(key["x"].as_str().expect("x")).expect("base64");
        let key = VerifyingKey::from_bytes(&x.try_into().expect("32 bytes")).expect("a key");
        let signature = Signature::from_slice(&signature).expect("64 bytes");
        key.verify_strict(content.as_bytes(), &signature).expect("a valid signature");
        let changed = content.replacen('1', "2", 1);
        assert!(key.verify_strict(changed.as_bytes(), &signature).is_err(), "other bytes are signed too");
    }
    id
}

fn nobody_in_the_address(seen: &Seen) {
    for private in ["123456789", "ann", "%40"] {
        assert!(!seen.line.contains(private) && !seen.head.contains(private), "{} {}", seen.line, seen.head);
    }
}

#[tokio::test]
async fn every_request_is_signed_and_no_address_names_the_person() {
    let stub = Stub::start().await;
    let client = client(&stub, true);
    stub.play([reply(202, r#"{"status":"accepted"}"#)]);
    ask(&client, ERASE, &facts(0)).await.expect("an answer");
    let erase = stub.only();
    let id = verified(&erase);
    nobody_in_the_address(&erase);
    assert!(erase.line.starts_with("POST /erase/ "), "{}", erase.line);
    let body: Value = serde_json::from_str(&erase.body).expect("json");
    let data = json!({
        "id": id, "system": "crm", "tenant": "acme", "job_id": "6c0b7b0e-6a4e-4a53-9a2e-0d8c6a0a7f11",
        "subject": { "user_id": "123456789", "email": "ann@example.com" },
    });
    assert_eq!(body, json!({ "type": "erasure.requested", "timestamp": "2026-11-22T10:00:00Z", "data": data }));

    stub.play([reply(200, r#"{"status":"erased","same":true}"#)]);
    let of_connector = vec![(0, Arc::new(Fact::Text(id.clone())))];
    ask(&client, STATUS, &Facts { of_connector, ..facts(0) }).await.expect("an answer");
    let status = stub.only();
    assert_eq!((verified(&status), status.line.as_str()), (id.clone(), &*format!("GET /erase/{id} HTTP/1.1")));
    assert_eq!(status.body, "");

    stub.play([reply(200, r#"{"status":"found","same":true}"#), reply(200, r#"{"status":"found","same":true}"#)]);
    for _ in 0..2 {
        ask(&client, one(StepName::Resolve), &facts(0)).await.expect("an answer");
    }
    let reads = stub.seen();
    reads.iter().for_each(nobody_in_the_address);
    let ids: Vec<String> = reads.iter().map(verified).collect();
    assert!(ids[0] != ids[1] && !ids.contains(&id), "a read has an id of its own: its answer must be a new one");
    let body: Value = serde_json::from_str(&reads[0].body).expect("json");
    assert_eq!((&body["type"], &body["data"]["id"]), (&json!("erasure.read"), &json!(ids[0])));

    stub.play([reply(200, r#"{"status":"ready"}"#)]);
    client.probe().await.expect("works");
    let probe = stub.only();
    let id = verified(&probe);
    let body: Value = serde_json::from_str(&probe.body).expect("json");
    assert_eq!((&body["type"], &body["data"]), (&json!("erasure.probe"), &json!({ "id": id, "system": "crm" })));
}

#[tokio::test]
async fn a_repeat_has_the_same_id_and_body_and_another_run_target_or_tenant_has_another() {
    let stub = Stub::start().await;
    let client = client(&stub, false);
    let erased = || reply(200, r#"{"status":"erased","same":true}"#);
    let send = async |job: &Job, index: usize, run: i64| {
        stub.play([erased()]);
        let call = Call { job, target: &job.targets[index], index, step: ERASE, facts: &facts(run) };
        client.call(call).await.expect("an answer");
        let seen = stub.only();
        (verified(&seen), seen.body)
    };
    let mut two = job();
    two.targets.push(two.targets[0].clone());
    let first = send(&two, 0, 0).await;
    // The same from another worker.
    assert_eq!(send(&two, 0, 0).await, first);
    let mut other_tenant = two.clone();
    other_tenant.key.tenant = "other".into();
    let mut other_job = two.clone();
    other_job.key.job_id = uuid::uuid!("6c0b7b0e-6a4e-4a53-9a2e-0d8c6a0a7f12");
    let others = [
        send(&two, 0, 1_795_341_600_000).await,
        send(&two, 1, 0).await,
        send(&other_tenant, 0, 0).await,
        send(&other_job, 0, 0).await,
    ];
    let ids: std::collections::BTreeSet<String> = others.into_iter().map(|(id, _)| id).chain([first.0]).collect();
    assert_eq!(ids.len(), 5);
}

#[derive(Debug, PartialEq)]
enum Is {
    Means(Means),
    Unproven,
    Fails(FailureKind, Reason),
}

const AMBIGUOUS: Is = Is::Fails(FailureKind::Ambiguous, Reason::UnreadableReply);
const UNREADABLE: Is = Is::Fails(FailureKind::Unreadable, Reason::UnreadableReply);
const OURS: Is = Is::Fails(FailureKind::UnauthorisedOurs, Reason::SystemUnavailable);
const LOST: Is = Is::Fails(FailureKind::Ambiguous, Reason::SystemUnavailable);
const DOWN: Is = Is::Fails(FailureKind::Unavailable, Reason::SystemUnavailable);
const LATER: Is = Is::Fails(FailureKind::RateLimited, Reason::SystemUnavailable);
const REFUSED: Is = Is::Fails(FailureKind::Refused, Reason::Precondition);
const OTHER: Is = Is::Fails(FailureKind::Refused, Reason::IdentityMismatch);

async fn result(stub: &Stub, client: &Webhook, step: Step, status: u16, body: &str) -> Is {
    stub.play([reply(status, body)]);
    let of_connector = vec![(0, Arc::new(Fact::Text("some-id".to_owned())))];
    let said = ask(client, step, &Facts { of_connector, ..facts(0) }).await;
    assert_eq!(stub.seen().len(), 1, "not exactly one request on {status} {body}");
    match said {
        Ok(Answer::Connector(Reading { means, is_bare: false, .. })) => Is::Means(means),
        Ok(Answer::Unclear(Reason::Unproven)) => Is::Unproven,
        Ok(other) => panic!("{other:?} on {status} {body}"),
        Err(failure) => Is::Fails(failure.kind, failure.reason),
    }
}

/// Bodies on 200 that are no answer: to any request they decide nothing.
const NO_ANSWERS: [&str; 16] = [
    "",
    "<html><body>Log in</body></html>",
    "{}",
    "[]",
    "null",
    "\"erased\"",
    r#"{"status":null,"same":true}"#,
    r#"{"status":"ERASED","same":true}"#,
    r#"{"status":"ok","same":true}"#,
    r#"{"status":true,"same":true}"#,
    r#"{"status":["erased"],"same":true}"#,
    r#"{"same":true}"#,
    r#"{"status":"erased","same":"true"}"#,
    r#"{"status":"erased","same":1}"#,
    r#"{"status":"erased","same":true,"status":"accepted"}"#,
    r#"{"status":"erased","same":false,"same":true}"#,
];

#[tokio::test]
async fn only_a_documented_answer_to_an_erasure_decides() {
    let stub = Stub::start().await;
    let client = client(&stub, false);
    for body in NO_ANSWERS {
        assert_eq!(result(&stub, &client, ERASE, 200, body).await, AMBIGUOUS, "{body}");
    }
    let table = [
        (200, r#"{"status":"erased","same":true}"#, Is::Means(Means::Done)),
        (202, r#"{"status":"erased","same":true,"note":"x"}"#, Is::Means(Means::Done)),
        (200, r#"{"status":"absent"}"#, Is::Means(Means::DoneBefore)),
        (202, r#"{"status":"accepted"}"#, Is::Means(Means::Accepted)),
        (200, r#"{"status":"accepted","same":true}"#, Is::Means(Means::Accepted)),
        (200, r#"{"status":"refused"}"#, REFUSED),
        // A receiver that does not compare has erased somebody, perhaps another person.
        (200, r#"{"status":"erased"}"#, AMBIGUOUS),
        (200, r#"{"status":"erased","same":null}"#, AMBIGUOUS),
        (200, r#"{"status":"erased","same":false}"#, OTHER),
        (200, r#"{"status":"absent","same":false}"#, OTHER),
        (202, r#"{"status":"accepted","same":false}"#, OTHER),
        (200, r#"{"status":"refused","same":false}"#, OTHER),
        (200, r#"{"status":"found","same":true}"#, AMBIGUOUS),
        (201, r#"{"status":"erased","same":true}"#, AMBIGUOUS),
        (204, "", AMBIGUOUS),
        (301, r#"{"status":"erased","same":true}"#, OURS),
        (400, r#"{"status":"erased","same":true}"#, AMBIGUOUS),
        (401, "", OURS),
        (403, r#"{"status":"erased","same":true}"#, OURS),
        (404, r#"{"status":"absent"}"#, AMBIGUOUS),
        (410, "", AMBIGUOUS),
        (429, "", LATER),
        (500, r#"{"status":"erased","same":true}"#, LOST),
        (503, "", LOST),
    ];
    for (status, body, expected) in table {
        assert_eq!(result(&stub, &client, ERASE, status, body).await, expected, "{status} {body}");
    }
}

#[tokio::test]
async fn only_a_documented_answer_shows_the_status_and_an_unknown_id_is_no_success() {
    let stub = Stub::start().await;
    let client = client(&stub, false);
    for body in NO_ANSWERS {
        assert_eq!(result(&stub, &client, STATUS, 200, body).await, UNREADABLE, "{body}");
    }
    let table = [
        (200, r#"{"status":"erased","same":true}"#, Is::Means(Means::Done)),
        (200, r#"{"status":"absent"}"#, Is::Means(Means::Done)),
        (200, r#"{"status":"accepted"}"#, Is::Means(Means::Pending)),
        (202, r#"{"status":"accepted"}"#, Is::Means(Means::Pending)),
        (200, r#"{"status":"refused"}"#, REFUSED),
        (200, r#"{"status":"erased","same":false}"#, OTHER),
        (200, r#"{"status":"erased"}"#, UNREADABLE),
        (200, r#"{"status":"found","same":true}"#, UNREADABLE),
        (404, "", UNREADABLE),
        (404, r#"{"status":"erased","same":true}"#, UNREADABLE),
        (404, r#"{"status":"absent"}"#, UNREADABLE),
        (410, "", UNREADABLE),
        (401, "", OURS),
        (403, "", OURS),
        (500, "", DOWN),
    ];
    for (status, body, expected) in table {
        assert_eq!(result(&stub, &client, STATUS, status, body).await, expected, "{status} {body}");
    }
}

#[tokio::test]
async fn an_absence_is_believed_only_after_the_receiver_has_shown_a_person() {
    let stub = Stub::start().await;
    let client = client(&stub, true);
    let person = one(StepName::Resolve);
    let absent = r#"{"status":"absent"}"#;
    assert_eq!(result(&stub, &client, person, 200, absent).await, Is::Unproven);
    for body in NO_ANSWERS {
        assert_eq!(result(&stub, &client, person, 200, body).await, UNREADABLE, "{body}");
    }
    let found = |identity| Is::Means(Means::Found(identity));
    let table = [
        (200, r#"{"status":"found","same":true}"#, found(Identity::Same)),
        (200, r#"{"status":"found","same":false}"#, found(Identity::Other)),
        (200, r#"{"status":"found"}"#, found(Identity::Unreadable)),
        (200, absent, Is::Means(Means::Gone(Absence::vouched()))),
        (404, absent, UNREADABLE),
        (200, r#"{"status":"erased","same":true}"#, UNREADABLE),
        (200, r#"{"status":"accepted"}"#, UNREADABLE),
        (401, "", OURS),
    ];
    for (status, body, expected) in table {
        assert_eq!(result(&stub, &client, person, status, body).await, expected, "{status} {body}");
    }
}

#[tokio::test]
async fn a_probe_needs_the_answer_to_a_probe_and_finds_the_configured_person() {
    let stub = Stub::start().await;
    let client = client(&stub, true);
    let ready = r#"{"status":"ready"}"#;
    for (status, body, expected) in [
        (200, ready, None),
        (200, "", Some(FailureKind::UnauthorisedOurs)),
        (200, "<html>back soon</html>", Some(FailureKind::UnauthorisedOurs)),
        (200, "{}", Some(FailureKind::UnauthorisedOurs)),
        (200, r#"{"status":"accepted"}"#, Some(FailureKind::UnauthorisedOurs)),
        (204, "", Some(FailureKind::UnauthorisedOurs)),
        (202, ready, Some(FailureKind::UnauthorisedOurs)),
        (301, ready, Some(FailureKind::UnauthorisedOurs)),
        (401, ready, Some(FailureKind::UnauthorisedOurs)),
        (404, ready, Some(FailureKind::UnauthorisedOurs)),
        (429, ready, Some(FailureKind::RateLimited)),
        (503, ready, Some(FailureKind::Unavailable)),
    ] {
        stub.play([reply(status, body)]);
        assert_eq!(client.probe().await.err().map(|failure| failure.kind), expected, "{status} {body}");
    }
    let known = with(WebhookSettings { probe_subject: subject(), ..settings(&stub.url, true) }).expect("client");
    for (body, works) in [(r#"{"status":"absent"}"#, false), (r#"{"status":"found","same":true}"#, true)] {
        stub.play([reply(200, ready), reply(200, body)]);
        let said = known.probe().await;
        said.as_ref().err().into_iter().for_each(assert_clean);
        assert_eq!((said.is_ok(), known.credential().is_proven()), (works, works), "{body}");
    }
}

#[tokio::test]
async fn a_private_address_is_called_only_if_that_is_allowed() {
    let stub = Stub::start().await;
    let port = stub.url.rsplit(':').next().expect("port").to_owned();
    let with_private = |url: String, read_url: Option<String>, private| {
        with(WebhookSettings { url, read_url, private, ..settings(&stub.url, true) })
    };
    for host in ["127.0.0.1", "[::1]", "10.0.0.7", "169.254.169.254", "[::ffff:192.168.0.1]", "2130706433"] {
        let address = format!("http://{host}:{port}/erase");
        let error = with_private(address.clone(), None, false).err().expect(host);
        assert!(matches!(error, BuildError::Setting { key: "url", .. }), "{host}: {error}");
        let error = with_private("http://example.com".into(), Some(address), false).err().expect(host);
        assert!(matches!(error, BuildError::Setting { key: "read_url", .. }), "{host}: {error}");
    }
    // A name is judged by its address at the time of the call.
    for (private, calls) in [(false, 0), (true, 1)] {
        let client = with_private(format!("http://localhost:{port}/erase"), None, private).expect("client");
        stub.play([reply(200, r#"{"status":"absent"}"#)]);
        let said = ask(&client, ERASE, &facts(0)).await;
        assert_eq!((said.is_ok(), stub.seen().len()), (private, calls));
    }
}
