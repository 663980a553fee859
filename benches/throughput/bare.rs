//! The upper limit: consume, the calls that a job needs, one confirmed publish, ack, with the worker's libraries.
//!
//! The rule it keeps: no promise of the worker: no checkpoint, no comparison, no reading of the answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::StreamExt as _;
use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties};
use reqwest::{Client, Method};

use crate::Task;
use crate::load::{self, Kind};
use crate::meter::Meter;
use crate::stand_in::email;

/// Runs the jobs and returns their costs.
pub async fn run(task: &Task) -> Meter {
    let Task { url, prefix, systems, prefetch, jobs, others } = task;
    let (prefetch, jobs) = (*prefetch, *jobs);
    let connection = Connection::connect(url, ConnectionProperties::default()).await.unwrap();
    let consuming = connection.create_channel().await.unwrap();
    consuming.basic_qos(prefetch, BasicQosOptions::default()).await.unwrap();
    let publishing = connection.create_channel().await.unwrap();
    publishing.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    let http = Client::builder().no_proxy().tcp_nodelay(true).tls_certs_only([]).build().unwrap();
    let loop_ = Arc::new(Loop { publishing, http, prefix: prefix.clone(), systems: systems.clone() });

    let done = Arc::new(AtomicU64::new(0));
    let options = BasicConsumeOptions::default();
    let queue = format!("{prefix}.jobs");
    let mut deliveries =
        consuming.basic_consume(queue.into(), "".into(), options, FieldTable::default()).await.unwrap();
    let counted = Arc::clone(&done);
    let consumer = tokio::spawn(async move {
        while let Some(delivery) = deliveries.next().await {
            let (loop_, counted) = (Arc::clone(&loop_), Arc::clone(&counted));
            tokio::spawn(async move {
                loop_.job(delivery.unwrap()).await;
                counted.fetch_add(1, Ordering::Relaxed);
            });
        }
    });
    let meter = Meter::watch(jobs, *others, || done.load(Ordering::Relaxed), Default::default).await;
    // The broker answers this after all acks: a close without the answer could lose the last acks.
    consuming.basic_qos(prefetch, BasicQosOptions::default()).await.unwrap();
    consumer.abort();
    // The aborted task closes its channel at the same time, and lapin may then wait for ever.
    let _ = tokio::time::timeout(Duration::from_secs(2), connection.close(200, "done".into())).await;
    meter
}

struct Loop {
    publishing: Channel,
    http: Client,
    prefix: String,
    systems: String,
}

impl Loop {
    async fn job(&self, delivery: Delivery) {
        let number = delivery.properties.correlation_id().as_ref().unwrap().to_string();
        match load::kind_of(number.parse().unwrap()) {
            Kind::VitalSource => self.vitalsource(&number).await,
            Kind::Cleeng => self.cleeng(&number).await,
        }
        let properties = BasicProperties::default()
            .with_delivery_mode(2)
            .with_content_type("application/cloudevents+json".into())
            .with_correlation_id(number.as_str().into());
        let (exchange, options) =
            (format!("{}.events", self.prefix), BasicPublishOptions { mandatory: true, ..Default::default() });
        let confirmed = self
            .publishing
            .basic_publish(exchange.into(), "job.completed.default".into(), options, load::EVENT.as_bytes(), properties)
            .await
            .unwrap()
            .await
            .unwrap();
        assert!(matches!(confirmed, Confirmation::Ack(None)), "an event was returned");
        assert!(delivery.acker.ack(BasicAckOptions::default()).await.unwrap(), "an ack was not sent");
    }

    async fn vitalsource(&self, number: &str) {
        let user = format!("/vs/v3/users.xml/{}", load::guid(number));
        let code = |item| format!("/vs/v4/codes/{}", load::code(number, item));
        let key = ("X-VitalSource-API-Key", "KEY");
        self.call(Method::GET, &user, key, None).await;
        self.call(Method::GET, &code(0), key, None).await;
        self.call(Method::GET, &code(1), key, None).await;
        self.call(Method::DELETE, &code(0), key, None).await;
        self.call(Method::DELETE, &code(1), key, None).await;
        self.call(Method::GET, &code(0), key, None).await;
        self.call(Method::GET, &code(1), key, None).await;
        let document = "<?xml version=\"1.0\"?><user><first-name>AAAA</first-name><email>B@example.com</email></user>";
        self.call(Method::PUT, &user, key, Some(("text/xml", document.to_owned()))).await;
        self.call(Method::GET, &user, key, None).await;
    }

    async fn cleeng(&self, number: &str) {
        let id = load::customer(number);
        let customer = format!("/core/customers/{id}");
        let list = format!("/core/entitlements?customerId={id}&offset=0&limit=20&status=all&offerType=SPAR");
        let token = ("X-Publisher-Token", "TOKEN");
        let end = |offer| {
            let params = format!(
                r#"{{"publisherToken":"TOKEN","customerEmail":"{}","offerId":"{offer}","subscriptionData":{{"status":"terminated"}}}}"#,
                email(&id)
            );
            let body = format!(r#"{{"method":"updateCustomerSubscription","params":{params},"jsonrpc":"2.0","id":1}}"#);
            Some(("application/json", body))
        };
        self.call(Method::GET, &customer, token, None).await;
        self.call(Method::GET, &list, token, None).await;
        self.call(Method::POST, "/rpc", token, end("S1_XX")).await;
        self.call(Method::POST, "/rpc", token, end("S2_XX")).await;
        self.call(Method::GET, &list, token, None).await;
        self.call(Method::DELETE, &customer, token, None).await;
        self.call(Method::GET, &customer, token, None).await;
    }

    async fn call(&self, method: Method, path: &str, key: (&str, &str), body: Option<(&str, String)>) {
        let mut request = self.http.request(method, format!("http://{}{path}", self.systems)).header(key.0, key.1);
        if let Some((kind, body)) = body {
            request = request.header("content-type", kind).body(body);
        }
        let reply = request.send().await.unwrap();
        assert!(reply.status().is_success(), "{path}: {}", reply.status());
        reply.bytes().await.unwrap();
    }
}
