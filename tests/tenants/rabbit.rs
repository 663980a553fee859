//! On a real RabbitMQ: jobs and cancellations arrive with the broker's `user_id` and an unchanged signature.

use std::sync::Arc;

use erasure_worker::app;
use erasure_worker::broker::Broker;
use erasure_worker::broker::amqp::{AmqpBroker, AmqpConfig};
use erasure_worker::store::MemoryStore;
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};
use secrecy::SecretString;
use serde_json::{Value, json};
use testkit::amqp::{Client, Message};
use testkit::inside::Inside;
use testkit::rabbit::Rabbit;
use testkit::rig::Rig;

use crate::bench::{KEY, id, shop_job, text};
use crate::signing::{ed25519, head, public, with_ed25519};

async fn publish(client: &Client, key: &str, body: &str, user: Option<&str>, signature: Option<&str>) {
    let mut properties = BasicProperties::default();
    if let Some(user) = user {
        properties = properties.with_user_id(user.into());
    }
    if let Some(signature) = signature {
        let mut headers = FieldTable::default();
        headers.insert("x-signature".into(), AMQPValue::LongString(signature.into()));
        properties = properties.with_headers(headers);
    }
    client.publish("requests", key, body.as_bytes(), properties).await;
}

/// A job's event number `n` and its kind.
async fn event_of(client: &Client, job: &Value, n: usize) -> (String, Value) {
    let is_its = |event: &Message| event.json["subject"] == id(job);
    let event = client.events.count(&format!("event {n} of {}", id(job)), n, is_its).await.swap_remove(n - 1).json;
    (event["type"].as_str().unwrap().to_owned(), event)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_brokers_user_id_and_the_signature_decide_about_jobs_and_cancellations() {
    let tenants = format!(
        "[tenants.acme]\namqp_users = [\"guest\"]\nrequire_signature = true\n\
         [tenants.acme.signature_keys.k1]\nkind = \"ed25519\"\npublic = \"{}\"\n\
         [tenants.umbrella]\namqp_users = [\"umbrella-publisher\"]",
        public(&ed25519(1))
    );
    let key = format!("master_key = \"{KEY}\"");
    let rig = Rig::on(&Rabbit::shared().url(), |places| text(places.stand, &key, &tenants)).await;
    let people = rig.people(4);
    let settings = AmqpConfig { prefix: rig.prefix.clone(), ..AmqpConfig::new(SecretString::from(rig.url.clone())) };
    let broker = AmqpBroker::connect(settings).await.unwrap();
    let client = Client::connect(&rig.url, &rig.prefix).await;
    let on = Arc::clone(&broker) as Arc<dyn Broker>;
    let worker = Inside::start(&rig.config("state"), on, Arc::new(MemoryStore::new()), app::now);

    let now = app::now().0 / 1000;
    let signed = |body: &str| with_ed25519(&head("EdDSA", "k1", now), body.as_bytes(), &ed25519(1));

    // A broker's user of another tenant, and a message without a `user_id`.
    let job = shop_job("umbrella", &people[0]);
    publish(&client, "job", &job.to_string(), Some("guest"), None).await;
    let (kind, event) = event_of(&client, &job, 1).await;
    assert_eq!((kind.as_str(), &event["data"]["error"]["reason"]), ("erasure.job.rejected.v1", &"unauthorised".into()));
    let job = shop_job("acme", &people[1]);
    let body = job.to_string();
    publish(&client, "job", &body, None, Some(&signed(&body))).await;
    assert_eq!(event_of(&client, &job, 1).await.0, "erasure.job.rejected.v1");
    assert_eq!(rig.sandbox().entries(0).len(), 0);

    // An unsigned cancellation and a signed one, each before its job.
    let (kept, dropped) = (shop_job("acme", &people[2]), shop_job("acme", &people[3]));
    let cancel =
        |job: &Value| json!({ "schema": "erasure.cancel/v1", "tenant": "acme", "job_id": id(job) }).to_string();
    let body = cancel(&dropped);
    publish(&client, "cancel", &body, Some("guest"), Some(&signed(&body))).await;
    // The stream is in order: after this one's answer, the earlier one was read.
    publish(&client, "cancel", &cancel(&kept), Some("guest"), None).await;
    assert_eq!(event_of(&client, &kept, 1).await.0, "erasure.job.cancel_refused.v1");

    for (job, person, what, events) in [(&kept, &people[2], "completed", 2), (&dropped, &people[3], "cancelled", 1)] {
        let body = job.to_string();
        publish(&client, "job", &body, Some("guest"), Some(&signed(&body))).await;
        assert_eq!(event_of(&client, job, events).await.0, format!("erasure.job.{what}.v1"));
        assert_eq!(rig.left(person, "easycms").is_empty(), what == "completed");
    }
    assert_eq!(worker.engine.unauthorised(), 3);
    worker.end().await.unwrap();
    broker.close().await;
}
