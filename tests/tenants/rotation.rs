//! A new master key: what was sealed under the one before still opens while that is configured, and
//! what cannot be opened any more is set aside, never worked on.

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
        // Parked again under the new key, which alone opens it from here on.
        bench.post.until("the next park", |seen| seen.parked.len() == 1).await;
        let told = bench.post.seen().of(id(&job)).len();
        assert_eq!(told, events + usize::from(lost), "only a lost store asks again, under the same id");
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
async fn a_copy_parked_under_a_key_that_is_gone_is_set_aside_without_a_call() {
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
async fn a_sealed_proof_whose_key_is_gone_sets_the_parked_job_aside_and_its_replay_goes_on() {
    let bench = Bench::with("").await;
    bench.let_time_pass();
    // Our own credential is refused, so that the job waits with its sealed password.
    bench.rig.sandbox().world(|world| world.easycms("easycms").settings.authorization = "another".into());
    let person = bench.person(1);
    let mut job = shop_job("acme", &person);
    let sealed = seal_proof(&bench.keyring.sealing_key(), &person.customer_password, None).unwrap();
    job["targets"][0]["customer_password"] = sealed.into();
    bench.send(&job);
    bench.post.until("the park", |seen| seen.parked.len() == 1).await;
    // Through a rotation: parked anew under the next key, with the proof sealed for the old one.
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
    // With the key back in place an operator replays it.
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
async fn a_refused_message_cannot_be_made_a_run_of_an_accepted_job_in_the_dead_letters() {
    let bench = Bench::with("[tenants.acme]\namqp_users = [\"acme-publisher\"]").await;
    let person = bench.person(1);
    bench.send(&shop_job("acme", &person));
    let refused = bench.post.until("the dead letter", |seen| seen.letters.len() == 1).await.letters.remove(0);
    // A letter that may say so: the shop refuses the person's password, and the job fails.
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
    // Whoever can write to the queue gives the refused one the other's headers, or makes one up.
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
async fn headers_of_ours_on_a_publishers_message_change_nothing() {
    let bench = Bench::with("[tenants.acme]\namqp_users = [\"acme-publisher\"]").await;
    let person = bench.person(1);
    let job = shop_job("acme", &person);
    // Taken from a real parked copy, so that even the MAC is one that was right for something.
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
