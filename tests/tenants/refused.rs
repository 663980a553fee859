//! Unauthorised messages: each kind is rejected, dead-lettered and counted, without a call to a system.

use erasure_worker::broker::Properties;
use erasure_worker::seal::jwe::seal_proof;
use serde_json::{Value, json};
use testkit::post::header;

use crate::bench::{Bench, id, job, sent, shop_job};
use crate::signing::{SECRET, ed25519, head, public, with_ed25519, with_hmac};

/// `acme` signs and seals. `umbrella` publishes as a user of the broker and may use only the shop.
pub fn tenants() -> String {
    format!(
        r#"
[tenants.acme]
require_signature = true
plain_proofs = false
[tenants.acme.signature_keys.first]
kind = "ed25519"
public = "{}"
[tenants.acme.signature_keys.shared]
kind = "hmac-sha256"
secret = "{SECRET}"

[tenants.umbrella]
systems = ["shop"]
amqp_users = ["umbrella-publisher"]
[tenants.umbrella.signature_keys.own]
kind = "ed25519"
public = "{}"
"#,
        public(&ed25519(1)),
        public(&ed25519(2)),
    )
}

/// The person of the attempts: long, so that no identifier is part of a signature by chance.
const NUMBER: u64 = 7_301_501;

struct Attempt {
    kind: &'static str,
    /// The word of the metric.
    word: &'static str,
    properties: Properties,
    body: String,
    job_id: String,
}

/// The only fault of the message.
fn attempts(bench: &Bench) -> Vec<Attempt> {
    let person = bench.person(NUMBER);
    let now = bench.now();
    let key = bench.keyring.sealing_key();
    let right = ed25519(1);
    let sealed = |job_id: &str| seal_proof(&key, &person.customer_password, Some(job_id)).unwrap();
    let acme = || {
        let mut job = shop_job("acme", &person);
        job["targets"][0]["customer_password"] = sealed(id(&job)).into();
        job
    };
    let umbrella = |targets: Value| job("umbrella", targets);
    let shop = || shop_job("umbrella", &person)["targets"].clone();
    let attempt = |kind, word, properties, job: &Value| Attempt {
        kind,
        word,
        properties,
        body: job.to_string(),
        job_id: id(job).to_owned(),
    };
    let signed = |job: &Value, head: &Value| Some(with_ed25519(head, job.to_string().as_bytes(), &right));
    let usual = head("EdDSA", "first", now);
    let mut all = Vec::new();
    let job = shop_job("nobody", &person);
    all.push(attempt("of an unknown tenant", "unknown_tenant", Properties::default(), &job));
    let mut job = shop_job("nobody", &person);
    job.as_object_mut().unwrap().remove("tenant");
    all.push(attempt("of no tenant, so of default", "unknown_tenant", Properties::default(), &job));
    let other = json!([{ "system": "loyalty", "method": "program_api", "member": { "member_id": person.member_id } }]);
    let by = |user: &str| sent(None, Some(user));
    all.push(attempt("for a system of others", "system", by("umbrella-publisher"), &umbrella(other)));
    all.push(attempt("by another user", "amqp_user", by("guest"), &umbrella(shop())));
    all.push(attempt("by no user", "amqp_user", Properties::default(), &umbrella(shop())));
    all.push(attempt("without a signature", "unsigned", Properties::default(), &acme()));
    let job = acme();
    let mut properties = sent(None, None);
    properties.headers.insert("x-signature".into(), erasure_worker::broker::HeaderValue::Int(1));
    all.push(attempt("with a number for a signature", "signature", properties, &job));
    let (job, another) = (acme(), acme());
    let signature = signed(&another, &usual);
    all.push(attempt("signed over another body", "signature", sent(signature.as_deref(), None), &job));
    let job = acme();
    let signature = with_ed25519(&usual, job.to_string().as_bytes(), &ed25519(2));
    all.push(attempt("signed with another's key", "signature", sent(Some(&signature), None), &job));
    let job = acme();
    let signature = with_ed25519(&head("EdDSA", "own", now), job.to_string().as_bytes(), &ed25519(2));
    all.push(attempt("signed with a key of another tenant", "signature", sent(Some(&signature), None), &job));
    let job = acme();
    let public = right.verifying_key();
    let signature = with_hmac(&head("HS256", "first", now), job.to_string().as_bytes(), public.as_bytes());
    all.push(attempt("signed with a public key as a secret", "signature", sent(Some(&signature), None), &job));
    let job = acme();
    let signature = with_hmac(&head("none", "shared", now), job.to_string().as_bytes(), SECRET.as_bytes());
    all.push(attempt("of an algorithm that is none", "signature", sent(Some(&signature), None), &job));
    let job = acme();
    let mut extended = usual.clone();
    extended["b64"] = false.into();
    extended["crit"] = json!(["b64"]);
    all.push(attempt("with an extension", "signature", sent(signed(&job, &extended).as_deref(), None), &job));
    let job = acme();
    let mut timeless = usual.clone();
    timeless.as_object_mut().unwrap().remove("iat");
    all.push(attempt("without a time", "signature", sent(signed(&job, &timeless).as_deref(), None), &job));
    let job = acme();
    let old = head("EdDSA", "first", now - 15 * 60 - 1);
    all.push(attempt("signed too long ago", "expired", sent(signed(&job, &old).as_deref(), None), &job));
    let job = acme();
    let early = head("EdDSA", "first", now + 61);
    all.push(attempt("signed in the future", "expired", sent(signed(&job, &early).as_deref(), None), &job));
    let job = acme();
    let mut bound = usual.clone();
    bound["job_id"] = uuid::Uuid::new_v4().to_string().into();
    all.push(attempt("signed for another job", "other_job", sent(signed(&job, &bound).as_deref(), None), &job));
    // The same signed bytes with another message id.
    let mut nameless = acme();
    let job_id = uuid::Uuid::new_v4().to_string();
    nameless.as_object_mut().unwrap().remove("job_id");
    nameless["targets"][0]["customer_password"] = sealed(&job_id).into();
    let mut properties = sent(signed(&nameless, &usual).as_deref(), None);
    properties.message_id = Some(job_id.clone());
    let body = nameless.to_string();
    all.push(Attempt { kind: "replayed under another message_id", word: "other_job", properties, body, job_id });
    let mut bound = usual.clone();
    bound["job_id"] = uuid::Uuid::new_v4().to_string().into();
    let job_id = uuid::Uuid::new_v4().to_string();
    let mut properties = sent(signed(&nameless, &bound).as_deref(), None);
    properties.message_id = Some(job_id.clone());
    let body = nameless.to_string();
    all.push(Attempt { kind: "bound to another message_id", word: "other_job", properties, body, job_id });
    let job = shop_job("acme", &person);
    all.push(attempt("with a plain password", "plain_proof", sent(signed(&job, &usual).as_deref(), None), &job));
    // An optional signature must be valid.
    let job = umbrella(shop());
    let wrong = with_ed25519(&head("EdDSA", "own", now), job.to_string().as_bytes(), &right);
    let properties = sent(Some(&wrong), Some("umbrella-publisher"));
    all.push(attempt("wrongly signed where nobody had to", "signature", properties, &job));
    all
}

#[tokio::test]
async fn no_system_is_called_for_an_unauthorised_message() {
    let bench = Bench::with(&tenants()).await;
    let attempts = attempts(&bench);
    for attempt in &attempts {
        bench.post.deliver(attempt.properties.clone(), attempt.body.clone(), false);
    }
    let seen = bench.post.until("every refusal", |seen| seen.acked == attempts.len()).await;
    for attempt in &attempts {
        let events = seen.of(&attempt.job_id);
        assert_eq!(events.len(), 1, "{}", attempt.kind);
        let event = events[0];
        assert_eq!(event["type"], "erasure.job.rejected.v1", "{}", attempt.kind);
        assert_eq!(event["data"]["error"]["reason"], "unauthorised", "{}: {event}", attempt.kind);
        let letter =
            seen.letters.iter().find(|letter| header(&letter.properties, "x-erasure-job-id") == attempt.job_id);
        let letter = letter.unwrap_or_else(|| panic!("no dead letter of a message {}", attempt.kind));
        assert_eq!(header(&letter.properties, "x-erasure-code"), "ERS-0022", "{}", attempt.kind);
        let expected = attempts.iter().filter(|other| other.word == attempt.word).count();
        assert_eq!(bench.counted("unauthorised", attempt.word), expected as u64, "{}", attempt.word);
    }
    assert_eq!(seen.letters.len(), attempts.len());
    assert_eq!(bench.engine.unauthorised(), attempts.len() as u64);
    assert!(attempts.len() >= 20);
    assert_eq!(bench.calls(), 0, "calls in the stand-ins' ledger");

    // The same worker carries out a valid job, so the missing calls above are due to the refusals.
    let person = bench.person(2);
    let mut job = shop_job("acme", &person);
    let password = seal_proof(&bench.keyring.sealing_key(), &person.customer_password, Some(id(&job))).unwrap();
    job["targets"][0]["customer_password"] = password.into();
    let signature = with_ed25519(&head("EdDSA", "first", bench.now()), job.to_string().as_bytes(), &ed25519(1));
    bench.post.deliver(sent(Some(&signature), None), job.to_string(), false);
    bench.post.event(id(&job), "completed").await;
    assert!(!bench.is_in_shop(&person) && bench.calls() > 0);
    bench.end().await;
}

#[tokio::test]
async fn the_reports_of_a_refused_message_show_none_of_its_content() {
    let bench = Bench::with(&tenants()).await;
    let attempts = attempts(&bench);
    for attempt in &attempts {
        bench.post.deliver(attempt.properties.clone(), attempt.body.clone(), false);
    }
    let seen = bench.post.until("every refusal", |seen| seen.acked == attempts.len()).await;
    let person = bench.person(NUMBER);
    let mut shown: Vec<u8> = seen.events.iter().flat_map(|event| event.to_string().into_bytes()).collect();
    for letter in &seen.letters {
        shown.extend_from_slice(&letter.body);
        shown.extend(format!("{:?}", letter.properties.headers.keys()).into_bytes());
    }
    let holds = |text: &str| shown.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(holds("erasure.job.rejected.v1"), "the search finds an existing text");
    for planted in [&person.email, &person.customer_password, &person.member_id] {
        assert!(!holds(planted), "{planted}");
    }
    bench.end().await;
}

#[tokio::test]
async fn a_strangers_message_makes_no_final_event_for_a_tenants_job() {
    let bench = Bench::with(&tenants()).await;
    let person = bench.person(3);
    let mut job = shop_job("umbrella", &person);
    // Without a password the job waits for one.
    job["targets"][0].as_object_mut().unwrap().remove("customer_password");
    bench.post.deliver(sent(None, Some("umbrella-publisher")), job.to_string(), false);
    bench.post.event(id(&job), "needs_input").await;
    job["targets"][0]["customer_password"] = "a guess".into();
    bench.post.deliver(sent(None, Some("guest")), job.to_string(), false);
    let event = bench.post.event(id(&job), "rejected").await;
    assert_eq!(event["data"]["final"], false, "the job goes on");
    job["targets"][0]["customer_password"] = person.customer_password.clone().into();
    bench.post.deliver(sent(None, Some("umbrella-publisher")), job.to_string(), false);
    let event = bench.post.event(id(&job), "completed").await;
    assert_eq!(event["data"]["final"], true);
    bench.end().await;
}
