//! A plain AMQP client: publishes with confirms, and gets every event, dead letter and redelivered parked copy in its
//! own queues.
//!
//! The rule it keeps: nothing here uses the worker's broker code, so that a fault of that code is seen.

use std::time::Duration;

use futures_util::StreamExt as _;
use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, QueueBindOptions,
    QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties};
use serde_json::Value;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use crate::rig::WAITING;
use crate::soon;

/// The time limit of one attempt to connect.
const CONNECTING: Duration = Duration::from_secs(20);

/// Connects; tries until it succeeds.
pub async fn connect(url: &str) -> Connection {
    soon("the broker", async {
        loop {
            // A stopping broker may accept a connection and then not answer.
            let attempt = Connection::connect(url, ConnectionProperties::default());
            match tokio::time::timeout(CONNECTING, attempt).await {
                Ok(Ok(connection)) => return connection,
                Ok(Err(_)) | Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    })
    .await
}

/// Closes a connection that may be lost already.
pub async fn close(connection: Connection) {
    let _ = connection.close(200, "".into()).await;
}

/// A channel in confirm mode.
pub async fn confirming(connection: &Connection) -> lapin::Result<Channel> {
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    Ok(channel)
}

/// Publishes a durable message. True if the broker confirmed it and routed it to a queue.
pub async fn publish(
    channel: &Channel,
    exchange: &str,
    key: &str,
    body: &[u8],
    properties: BasicProperties,
) -> lapin::Result<bool> {
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let sent = channel.basic_publish(exchange.into(), key.into(), options, body, properties.with_delivery_mode(2));
    Ok(matches!(sent.await?.await?, Confirmation::Ack(None)))
}

/// The number of ready messages of a queue. The broker's count is slightly late.
pub async fn depth(channel: &Channel, queue: &str) -> u32 {
    let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(queue.into(), passive, FieldTable::default()).await.unwrap().message_count()
}

/// Takes all messages of a queue.
pub async fn take_all(channel: &Channel, queue: &str) -> Vec<Delivery> {
    let mut taken = Vec::new();
    while let Some(got) = channel.basic_get(queue.into(), BasicGetOptions { no_ack: true }).await.unwrap() {
        taken.push(got.delivery);
    }
    taken
}

/// As [`take_all`], from a queue with a single active consumer, which answers no `basic.get`.
pub async fn consume_all(channel: &Channel, queue: &str) -> Vec<Delivery> {
    let count = depth(channel, queue).await as usize;
    let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
    let consumer = channel.basic_consume(queue.into(), "".into(), options, FieldTable::default()).await.unwrap();
    consumer.take(count).map(Result::unwrap).collect().await
}

/// Declares a quorum queue for all messages of an exchange.
pub async fn keep(channel: &Channel, exchange: &str, queue: &str) {
    let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    channel.queue_declare(queue.into(), options, arguments).await.unwrap();
    let (bind, nothing) = (QueueBindOptions::default(), FieldTable::default());
    channel.queue_bind(queue.into(), exchange.into(), "#".into(), bind, nothing).await.unwrap();
}

/// Collects all events of a prefix in a queue and gives each to `note`, also after the broker was restarted. The queue
/// exists when this returns.
pub async fn follow(
    url: String,
    prefix: String,
    mut note: impl FnMut(&[u8]) + Send + 'static,
) -> AbortOnDropHandle<()> {
    let queue = format!("{prefix}.kept");
    let mut connection = connect(&url).await;
    keep(&connection.create_channel().await.unwrap(), &format!("{prefix}.events"), &queue).await;
    AbortOnDropHandle::new(tokio::spawn(async move {
        loop {
            let _ = read(&connection, &queue, &mut note).await;
            tokio::time::sleep(Duration::from_millis(100)).await;
            connection = connect(&url).await;
        }
    }))
}

async fn read(connection: &Connection, queue: &str, note: &mut (impl FnMut(&[u8]) + Send)) -> lapin::Result<()> {
    let channel = connection.create_channel().await?;
    let (options, nothing) = (BasicConsumeOptions::default(), FieldTable::default());
    let mut consumer = channel.basic_consume(queue.into(), "".into(), options, nothing).await?;
    while let Some(delivery) = consumer.next().await {
        let delivery = delivery?;
        note(&delivery.data);
        delivery.ack(BasicAckOptions::default()).await?;
    }
    Ok(())
}

/// A received message.
#[derive(Clone)]
pub struct Message {
    pub exchange: String,
    pub routing_key: String,
    pub properties: BasicProperties,
    pub body: Vec<u8>,
    /// The body as JSON, else null.
    pub json: Value,
}

impl Message {
    fn of(delivery: Delivery) -> Message {
        Message {
            exchange: delivery.exchange.to_string(),
            routing_key: delivery.routing_key.to_string(),
            properties: delivery.properties,
            json: serde_json::from_slice(&delivery.data).unwrap_or_default(),
            body: delivery.data,
        }
    }

    /// An event's `data.FIELD`.
    pub fn data(&self, field: &str) -> &Value {
        &self.json["data"][field]
    }

    /// The job of an event or a dead letter.
    pub fn job_id(&self) -> String {
        let id = self.header("x-erasure-job-id");
        if id.is_empty() { self.data("job_id").as_str().unwrap_or_default().to_owned() } else { id }
    }

    pub fn is_final(&self) -> bool {
        self.data("final") == true
    }

    /// A header as text; empty if there is none.
    pub fn header(&self, name: &str) -> String {
        let headers = self.properties.headers().as_ref();
        match headers.and_then(|headers| headers.inner().get(name)) {
            None => String::new(),
            Some(AMQPValue::LongString(text)) => text.to_string(),
            Some(AMQPValue::LongLongInt(number)) => number.to_string(),
            Some(other) => format!("{other:?}"),
        }
    }
}

/// All messages that an exchange has routed since the tap was opened.
pub struct Tap {
    seen: watch::Sender<Vec<Message>>,
}

impl Tap {
    /// Binds a new queue, which ends with the connection.
    async fn open(connection: &Connection, exchange: &str, key: &str) -> Tap {
        let channel = connection.create_channel().await.unwrap();
        let options = QueueDeclareOptions { exclusive: true, auto_delete: true, ..QueueDeclareOptions::default() };
        let queue = channel.queue_declare("".into(), options, FieldTable::default()).await.unwrap();
        let name = queue.name().clone();
        let nothing = FieldTable::default;
        channel.queue_bind(name.clone(), exchange.into(), key.into(), Default::default(), nothing()).await.unwrap();
        let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
        let mut consumer = channel.basic_consume(name, "".into(), options, nothing()).await.unwrap();
        let seen = watch::Sender::new(Vec::new());
        let tap = Tap { seen: seen.clone() };
        tokio::spawn(async move {
            let _open = channel;
            while let Some(Ok(delivery)) = consumer.next().await {
                seen.send_modify(|seen| seen.push(Message::of(delivery)));
            }
        });
        tap
    }

    /// All so far.
    pub fn all(&self) -> Vec<Message> {
        self.seen.borrow().clone()
    }

    /// Waits for the first matching message.
    pub async fn first(&self, what: &str, wanted: impl Fn(&Message) -> bool) -> Message {
        let mut seen = self.seen.subscribe();
        let found = soon(what, seen.wait_for(|seen| seen.iter().any(&wanted))).await.unwrap();
        found.iter().find(|message| wanted(message)).unwrap().clone()
    }

    /// Waits for `count` matching messages; returns all that match.
    pub async fn count(&self, what: &str, count: usize, wanted: impl Fn(&Message) -> bool) -> Vec<Message> {
        let mut seen = self.seen.subscribe();
        let enough = |seen: &Vec<Message>| seen.iter().filter(|message| wanted(message)).count() >= count;
        let found = soon(what, seen.wait_for(enough)).await.unwrap();
        found.iter().filter(|message| wanted(message)).cloned().collect()
    }
}

/// The client.
pub struct Client {
    pub events: Tap,
    pub dead_letters: Tap,
    /// Parked copies that are redelivered, and everything else published to this exchange.
    pub resumed: Tap,
    prefix: String,
    channel: Channel,
    connection: Connection,
}

impl Client {
    /// Connects; the topology must exist.
    pub async fn connect(url: &str, prefix: &str) -> Client {
        let connected = async {
            // Without heartbeats: the client shares one thread with the stand-ins, and a test may wait for minutes.
            let url = format!("{url}?heartbeat=0");
            let connection = Connection::connect(&url, ConnectionProperties::default()).await.unwrap();
            let channel = confirming(&connection).await.unwrap();
            Client {
                events: Tap::open(&connection, &format!("{prefix}.events"), "#").await,
                dead_letters: Tap::open(&connection, &format!("{prefix}.dead-letter"), "").await,
                resumed: Tap::open(&connection, &format!("{prefix}.resume"), "job").await,
                prefix: prefix.to_owned(),
                channel,
                connection,
            }
        };
        soon("the broker", connected).await
    }

    /// Publishes to `PREFIX.EXCHANGE` and waits for the confirm.
    pub async fn publish(&self, exchange: &str, key: &str, body: &[u8], properties: BasicProperties) {
        let exchange = format!("{}.{exchange}", self.prefix);
        let sent = publish(&self.channel, &exchange, key, body, properties);
        assert!(soon("a confirm", sent).await.unwrap(), "not confirmed, or no queue for {exchange} {key}");
    }

    /// Waits until the taps have all messages published before.
    pub async fn fence(&self) {
        for (exchange, tap) in [("events", &self.events), ("dead-letter", &self.dead_letters)] {
            let mark = uuid::Uuid::new_v4().to_string();
            let properties = BasicProperties::default().with_message_id(mark.as_str().into());
            self.publish(exchange, "fence", b"", properties).await;
            tap.first("a fence", |message| is_fence(message) && message_id(message) == mark).await;
        }
    }

    /// Takes the first message of the jobs queue and requeues it, like a worker that crashes before it begins. No worker
    /// may run.
    pub async fn take_and_give_back(&self) {
        let taken = async {
            let channel = self.connection.create_channel().await.unwrap();
            let queue = format!("{}.jobs", self.prefix);
            let nothing = FieldTable::default();
            let mut consumer =
                channel.basic_consume(queue.into(), "".into(), BasicConsumeOptions::default(), nothing).await.unwrap();
            let _ = consumer.next().await.unwrap().unwrap();
            channel.close(200, "".into()).await.unwrap();
        };
        soon("a job in the queue", taken).await;
    }

    /// The number of ready copies of jobs, in the queue and in the wait queues. The broker's count is slightly late.
    pub async fn copies(&self) -> u32 {
        let mut copies = 0;
        for queue in WAITING {
            copies += depth(&self.channel, &format!("{}.{queue}", self.prefix)).await;
        }
        copies
    }

    /// Waits until there are `count` copies of jobs.
    pub async fn holds_copies(&self, count: u32) {
        soon(&format!("{count} copies of jobs"), async {
            while self.copies().await != count {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        })
        .await;
    }

    /// Removes the test's names from the broker.
    pub async fn remove(&self, queues: &[String], exchanges: &[String]) {
        let removed = async {
            for queue in queues {
                self.channel.queue_delete(queue.as_str().into(), Default::default()).await.unwrap();
            }
            for exchange in exchanges {
                self.channel.exchange_delete(exchange.as_str().into(), Default::default()).await.unwrap();
            }
        };
        soon("the names' removal", removed).await;
    }
}

fn message_id(message: &Message) -> String {
    message.properties.message_id().as_ref().map(ToString::to_string).unwrap_or_default()
}

/// A mark of [`Client::fence`].
pub fn is_fence(message: &Message) -> bool {
    message.routing_key == "fence"
}
