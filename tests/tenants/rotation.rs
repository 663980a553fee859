//! A new master key: sealed data of the previous key opens while that key is configured. Messages that do not open are
//! dead-lettered, never processed.

use erasure_worker::broker::{Destination, Properties, Publication};
use erasure_worker::engine::envelope;
use erasure_worker::seal::jwe::seal_proof;
use serde_json::Value;
use testkit::post::header;

use crate::bench::{Bench, KEY, NEXT_KEY, id, shop_job};

fn rotated() -> String {
    format!("master_key = \"{NEXT_KEY}\"\nmaster_key_previous = \"{KEY}\"")
}

fn retired() -> String {
    format!("master_key = \"{NEXT_KEY}\"")
}

/// A job that waits for a password, parked under the first key.
async fn parked(bench: &Bench, number: u64) -> Value {
    let mut job = shop_job("acme", &bench.person(number));
    job["targets"][0].as_object_mut().unwrap().remove("customer_password");
    bench.send(&job);
    bench.post.until("the park", |seen| seen.parked.len() == 1).await;
    job
}

#[tokio::test]
async fn a_parked_copy_goes_on_after_a_rotation_with_its_store_and_without() {
    for lost in [false, true] {
        let bench = Bench::with("").await;
        let mut job = parked(&bench, 1).await;
        let events = bench.post.seen().of(id(&job)).len();
        let bench = if lost { bench.moved(&rotated(), "").await } else { bench.restarted(&rotated(), "").await };
        assert_eq!(bench.post.waits_end(), 1);
        // Parked again under the new key. Only this key opens it from here on.
        bench.post.until("the next park", |seen| seen.parked.len() == 1).await;
        let count = bench.post.seen().of(id(&job)).len();
        assert_eq!(count, events + usize::from(lost), "only a lost store repeats the request, with the same id");
        let bench = bench.restarted(&retired(), "").await;
        assert_eq!(bench.post.waits_end(), 1);
        bench.post.until("the park after", |seen| seen.parked.len() == 1).await;
        assert!(bench.post.seen().letters.is_empty());
        let person = bench.person(1);
        job["targets"][0]["customer_password"] = person.customer_password.clone().into();
        bench.send(&job);
        bench.post.event(id(&job), "completed").await;
        assert!(!bench.is_in_shop(&person));
        bench.end().await;
    }
}

#[tokio::test]
async fn a_dead_letter_is_replayed_after_a_rotation() {
    let bench = Bench::with("").await;
    bench.let_time_pass();
    let person = bench.person(1);
    bench.set_shop_password(&person, "another");
    let job = shop_job("acme", &person);
    bench.send(&job);
    let event = bench.post.event(id(&job), "failed").await;
    assert_eq!(event["data"]["run"], 1);
    let letter = bench.post.until("the dead letter", |seen| seen.letters.len() == 1).await.letters.remove(0);
    bench.set_shop_password(&person, &person.customer_password);
    let bench = bench.restarted(&rotated(), "").await;
    let replay = envelope::replayed(&bench.keyring, &letter.properties, &letter.body).unwrap().unwrap();
    let publication = Publication { to: Destination::Resume, properties: replay.0, body: replay.1 };
    erasure_worker::broker::Broker::publish(&*bench.post, publication).await.unwrap();
    let event = bench.post.event(id(&job), "completed").await;
    assert_eq!(event["data"]["run"], 2);
    assert!(!bench.is_in_shop(&person));
    let retired = erasure_worker::seal::MasterKey::parse(NEXT_KEY).unwrap();
    let retired = erasure_worker::seal::Keyring::new(retired, vec![]).unwrap();
    assert!(envelope::open_dead_letter(&retired, &letter.body).is_err(), "the old key is needed for it");
    bench.end().await;
}

#[tokio::test]
async fn a_copy_parked_under_a_missing_key_is_dead_lettered_without_a_call() {
    let bench = Bench::with("").await;
    let job = parked(&bench, 1).await;
    let calls = bench.calls();
    let bench = bench.restarted(&retired(), "").await;
    assert_eq!(bench.post.waits_end(), 1);
    let seen = bench.post.until("the dead letter", |seen| seen.letters.len() == 1).await;
    assert!(seen.parked.is_empty());
    assert_eq!(bench.calls(), calls);
    assert!(bench.is_in_shop(&bench.person(1)));
    drop(job);
    bench.end().await;
}

#[tokio::test]
async fn a_parked_job_with_a_proof_under_a_missing_key_is_dead_lettered_and_its_replay_goes_on() {
    let bench = Bench::with("").await;
    bench.let_time_pass();
    // Our credential is refused, so that the job waits with its sealed password.
    bench.rig.sandbox().world(|world| world.easycms("easycms").settings.authorization = "another".into());
    let person = bench.person(1);
    let mut job = shop_job("acme", &person);
    let sealed = seal_proof(&bench.keyring.sealing_key(), &person.customer_password, None).unwrap();
    job["targets"][0]["customer_password"] = sealed.into();
    bench.send(&job);
    bench.post.until("the park", |seen| seen.parked.len() == 1).await;
    // A rotation: parked again under the next key, with the proof sealed for the old one.
    let bench = bench.restarted(&rotated(), "").await;
    bench.post.waits_end();
    bench.post.until("the next park", |seen| seen.parked.len() == 1).await;
    let bench = bench.restarted(&retired(), "").await;
    bench.post.waits_end();
    let seen = bench.post.until("the dead letter", |seen| seen.letters.len() == 1).await;
    let letter = &seen.letters[0];
    assert_eq!(header(&letter.properties, "x-erasure-code"), "ERS-0024");
    assert_eq!(bench.post.event(id(&job), "rejected").await["data"]["final"], false);
    assert!(bench.is_in_shop(&person));
    // With the key in the configuration again, an operator replays it.
    let letter = letter.clone();
    let bench = bench.restarted(&rotated(), "").await;
    bench.rig.sandbox().world(|world| world.easycms("easycms").settings.authorization = "easycms-token".into());
    for gate in bench.engine.gates().values() {
        gate.release();
    }
    let replay = envelope::replayed(&bench.keyring, &letter.properties, &letter.body).unwrap().unwrap();
    let publication = Publication { to: Destination::Resume, properties: replay.0, body: replay.1 };
    erasure_worker::broker::Broker::publish(&*bench.post, publication).await.unwrap();
    bench.post.event(id(&job), "completed").await;
    assert!(!bench.is_in_shop(&person));
    bench.end().await;
}

#[tokio::test]
async fn forged_headers_of_a_dead_letter_make_no_run_of_an_accepted_job() {
    let bench = Bench::with("[tenants.acme]\namqp_users = [\"acme-publisher\"]").await;
    let person = bench.person(1);
    bench.send(&shop_job("acme", &person));
    let refused = bench.post.until("the dead letter", |seen| seen.letters.len() == 1).await.letters.remove(0);
    // A genuine dead letter of a job: the shop refuses the person's password, and the job fails.
    bench.let_time_pass();
    let other = bench.person(2);
    bench.set_shop_password(&other, "another");
    let job = shop_job("acme", &other);
    bench.post.deliver(crate::bench::sent(None, Some("acme-publisher")), job.to_string(), false);
    let failed = bench.post.until("the dead letter", |seen| seen.letters.len() == 2).await.letters.remove(1);
    let replayed = |letter: &erasure_worker::broker::DeadLetter| {
        envelope::replayed(&bench.keyring, &letter.properties, &letter.body).unwrap()
    };
    assert!(replayed(&failed).is_some() && replayed(&refused).is_none());
    // A writer to the queue gives the refused message the other's headers, or forges headers.
    let mut dressed = refused.clone();
    dressed.properties.headers = failed.properties.headers.clone();
    let mut plain = failed.clone();
    plain.body = shop_job("acme", &person).to_string().into();
    let mut later = failed.clone();
    later.properties.headers.insert("x-erasure-run".into(), erasure_worker::broker::HeaderValue::Int(7));
    for forged in [dressed, plain, later] {
        assert!(replayed(&forged).is_none());
    }
    bench.end().await;
}

#[tokio::test]
async fn our_headers_on_a_publishers_message_have_no_effect() {
    let bench = Bench::with("[tenants.acme]\namqp_users = [\"acme-publisher\"]").await;
    let person = bench.person(1);
    let job = shop_job("acme", &person);
    // The headers of a real parked copy, with a MAC that was valid for that copy.
    let waiting = parked_of(&bench).await;
    let properties = Properties { headers: waiting.headers, ..Properties::default() };
    bench.post.deliver(properties, job.to_string(), false);
    bench.post.event(id(&job), "rejected").await;
    assert!(bench.is_in_shop(&person));
    bench.end().await;
}

async fn parked_of(bench: &Bench) -> Properties {
    let mut job = shop_job("acme", &bench.person(2));
    job["targets"][0].as_object_mut().unwrap().remove("customer_password");
    bench.post.deliver(crate::bench::sent(None, Some("acme-publisher")), job.to_string(), false);
    bench.post.until("the park", |seen| seen.parked.len() == 1).await.parked.remove(0).properties
}
