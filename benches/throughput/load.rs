//! The jobs, and the broker's side of a round: fill the queue, pace the publishes, check the events.
//!
//! The rule it keeps: a round counts only if every job is completed and no message is left.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use lapin::options::{
    BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions, QueueBindOptions, QueueDeclareOptions,
    QueuePurgeOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};

/// The bare loop's event, about as long as the worker's event with its receipt.
pub static EVENT: LazyLock<String> =
    LazyLock::new(|| WITHOUT_RECEIPT.replace(r#""receipt":null"#, &format!(r#""receipt":"{}""#, "A".repeat(1_300))));

const WITHOUT_RECEIPT: &str = concat!(
    r#"{"specversion":"1.0","type":"erasure.job.completed.v1","source":"/erasure-worker/sandbox/default","id":"#,
    r#""6c0b7b0e-6a4e-5a53-9a2e-0d8c6a0a7f11","time":"2026-11-22T10:00:00.000Z","subject":"6c0b7b0e-6a4e-4a53-9a2e-0d8c6a0a7f11","#,
    r#""datacontenttype":"application/json","dataschema":"https://example.com/schemas/erasure.event.v1.json","data":{"job_id":"#,
    r#""6c0b7b0e-6a4e-4a53-9a2e-0d8c6a0a7f11","tenant":"default","run":1,"seq":1,"final":true,"outcome":"completed","partial":false,"#,
    r#""subject_ref":"0123456789abcdef0123456789abcdef","regulation":"gdpr","requested_at":"2026-11-22T10:00:00Z","due_at":null,"#,
    r#""finished_at":"2026-11-22T10:00:01.000Z","targets":[{"target":0,"system":"vitalsource","kind":"vitalsource","outcome":"anonymised","#,
    r#""identity":"checked","steps":[{"step":"revoke_code","outcome":"erased","count":2,"at":"2026-11-22T10:00:00.500Z"},"#,
    r#"{"step":"overwrite_user","outcome":"anonymised","count":1,"at":"2026-11-22T10:00:00.700Z"},"#,
    r#"{"step":"read_back","outcome":"erased","count":1,"at":"2026-11-22T10:00:00.900Z"}],"preserved":[],"refunds":[],"error":null}],"#,
    r#""inputs":[],"follow_up":[{"target":0,"action":"abandon_account"}],"receipt":null}}"#,
);

/// The two kinds of job, in turn.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Resolve, read two codes, revoke both, read both back, overwrite, read back: nine calls.
    VitalSource,
    /// Compare, list, end two entitlements, list, delete, read back: seven calls.
    Cleeng,
}

/// The jobs of a round.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// Both kinds in turn.
    Mixed,
    /// A VitalSource user with this number of codes.
    Codes(usize),
    /// A VitalSource user with two codes, at this number of systems in turn.
    Systems(usize),
    /// As [`Kind::VitalSource`], at a system limited to fifty calls a minute.
    Limited,
    /// An EasyCMS account by the built-in client: read, delete, read back.
    Shop,
    /// The same by the connector file.
    ShopByFile,
}

impl std::fmt::Display for Work {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Work::Mixed => write!(f, "mixed"),
            Work::Codes(count) => write!(f, "codes:{count}"),
            Work::Systems(count) => write!(f, "systems:{count}"),
            Work::Limited => write!(f, "limited"),
            Work::Shop => write!(f, "shop"),
            Work::ShopByFile => write!(f, "shop-by-file"),
        }
    }
}

impl std::str::FromStr for Work {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Work, Self::Err> {
        let (name, count) = text.split_once(':').unwrap_or((text, "0"));
        Ok(match name {
            "codes" => Work::Codes(count.parse()?),
            "systems" => Work::Systems(count.parse()?),
            "limited" => Work::Limited,
            "shop" => Work::Shop,
            "shop-by-file" => Work::ShopByFile,
            _ => Work::Mixed,
        })
    }
}

/// What job `number` is.
pub fn kind_of(number: u64) -> Kind {
    if number.is_multiple_of(2) { Kind::VitalSource } else { Kind::Cleeng }
}

/// The GUID of a job's user.
pub fn guid(number: &str) -> String {
    format!("GUID{number}X")
}

/// A code of the user; the stand-in reads its owner from it.
pub fn code(number: &str, item: usize) -> String {
    format!("{}{item}", guid(number))
}

/// The id of a job's customer.
pub fn customer(number: &str) -> String {
    format!("7{number}")
}

/// The e-mail address of a job's account.
fn shopper(number: &str) -> String {
    format!("s{number}@example.com")
}

/// A VitalSource target of a job.
fn user(system: &str, number: &str, codes: usize) -> String {
    let codes: Vec<String> = (0..codes).map(|item| format!(r#"{{"code":"{}"}}"#, code(number, item))).collect();
    let guid = guid(number);
    format!(r#"{{"system":"{system}","guid":"{guid}","codes":[{}],"overwrite":[]}}"#, codes.join(","))
}

fn body(number: u64, work: Work) -> String {
    let text = number.to_string();
    let target = match (work, kind_of(number)) {
        (Work::Limited, _) => user("limited", &text, 2),
        (Work::Shop, _) => {
            format!(r#"{{"system":"shop","email":"{}","customer_password":"x"}}"#, shopper(&text))
        }
        (Work::ShopByFile, _) => format!(
            r#"{{"system":"shop","subject":{{"email":"{}"}},"proofs":{{"customer_password":"x"}}}}"#,
            shopper(&text)
        ),
        (Work::Codes(count), _) => user("vitalsource", &text, count),
        (Work::Systems(count), _) => user(&format!("s{}", number % count as u64), &text, 2),
        (Work::Mixed, Kind::VitalSource) => user("vitalsource", &text, 2),
        (Work::Mixed, Kind::Cleeng) => format!(
            r#"{{"system":"cleeng","flow":"backend","customer_id":"{0}","customer_email":"c{0}@example.com"}}"#,
            customer(&text)
        ),
    };
    let id = uuid::Uuid::new_v4();
    // A day ago: a job at risk would have additional events.
    let at = (jiff::Timestamp::now() - jiff::SignedDuration::from_hours(24)).strftime("%Y-%m-%dT%H:%M:%SZ");
    format!(
        r#"{{"schema":"erasure.job/v1","job_id":"{id}","environment":"sandbox","requested_at":"{at}","regulation":"gdpr","confirmation":{{"confirmed_at":"{at}","by":"subject"}},"targets":[{target}]}}"#
    )
}

/// A publisher and consumer beside the loops.
pub struct Load {
    channel: Channel,
    prefix: String,
    _connection: Connection,
}

impl Load {
    /// Connects, and binds a queue for the events of this prefix. The topology must exist.
    pub async fn connect(url: &str, prefix: &str) -> Load {
        let connection = Connection::connect(url, ConnectionProperties::default()).await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
        let mut quorum = FieldTable::default();
        quorum.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
        let durable = QueueDeclareOptions { durable: true, ..Default::default() };
        let load = Load { channel, prefix: prefix.to_owned(), _connection: connection };
        load.channel.queue_declare(load.events().into(), durable, quorum).await.unwrap();
        let (queue, exchange) = (load.events(), format!("{prefix}.events"));
        let (options, none) = (QueueBindOptions::default(), FieldTable::default());
        load.channel.queue_bind(queue.into(), exchange.into(), "job.#".into(), options, none).await.unwrap();
        load
    }

    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    fn events(&self) -> String {
        format!("{}.bench", self.prefix)
    }

    async fn publish(&self, number: u64, work: Work) -> lapin::Result<lapin::PublisherConfirm> {
        let properties = BasicProperties::default()
            .with_delivery_mode(2)
            .with_content_type("application/json".into())
            .with_correlation_id(number.to_string().into());
        let exchange = format!("{}.requests", self.prefix);
        let options = BasicPublishOptions::default();
        self.channel
            .basic_publish(exchange.into(), "job".into(), options, body(number, work).as_bytes(), properties)
            .await
    }

    /// Publishes jobs.
    pub async fn fill(&self, jobs: u64, work: Work) {
        let mut open = std::collections::VecDeque::new();
        for number in 0..jobs {
            open.push_back(self.publish(number, work).await.unwrap());
            if open.len() == 1000
                && let Some(confirm) = open.pop_front()
            {
                confirm.await.unwrap();
            }
        }
        for confirm in open {
            confirm.await.unwrap();
        }
    }

    /// Publishes mixed jobs at once; returns the time from the first publish to their last event. Events of other jobs
    /// are ignored.
    pub async fn burst(&self, jobs: u64) -> Duration {
        let mut events = self.consume("burst").await;
        let began = Instant::now();
        self.fill(jobs, Work::Mixed).await;
        let mut ended = 0;
        while ended < jobs {
            let event = events.next().await.unwrap().unwrap();
            let is_limited = event.data.windows(9).any(|nine| nine == b"\"limited\"");
            ended += u64::from(!is_limited);
        }
        let took = began.elapsed();
        self.channel.basic_cancel("burst".into(), Default::default()).await.unwrap();
        took
    }

    /// The number of ready messages in a queue of this prefix.
    pub async fn depth(&self, queue: &str) -> u64 {
        self.count(&format!("{}.{queue}", self.prefix)).await
    }

    async fn count(&self, queue: &str) -> u64 {
        let passive = QueueDeclareOptions { passive: true, ..Default::default() };
        let queue = self.channel.queue_declare(queue.into(), passive, FieldTable::default()).await.unwrap();
        queue.message_count().into()
    }

    /// Waits for the round's last event and checks the rule of this file.
    pub async fn check(&self, jobs: u64, completed_only: bool) {
        let began = Instant::now();
        while self.count(&self.events()).await < jobs {
            assert!(began.elapsed() < Duration::from_secs(30), "not every job has its event");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(self.count(&self.events()).await, jobs, "more events than jobs");
        for queue in ["jobs", "dead-letters", "wait.5s", "wait.30s"] {
            // A quorum queue's count changes a moment after its acks.
            while self.depth(queue).await > 0 {
                assert!(began.elapsed() < Duration::from_secs(30), "messages are left in {queue}");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        if completed_only {
            let mut events = self.consume("check").await;
            for _ in 0..jobs {
                let event = events.next().await.unwrap().unwrap();
                let kind = event.properties.kind().as_ref().map(ToString::to_string).unwrap_or_default();
                assert_eq!(kind, "erasure.job.completed.v1", "{}", String::from_utf8_lossy(&event.data));
            }
            self.channel.basic_cancel("check".into(), Default::default()).await.unwrap();
        }
        self.channel.queue_purge(self.events().into(), QueuePurgeOptions::default()).await.unwrap();
    }

    async fn consume(&self, tag: &str) -> lapin::Consumer {
        let options = BasicConsumeOptions { no_ack: true, ..Default::default() };
        self.channel.basic_consume(self.events().into(), tag.into(), options, FieldTable::default()).await.unwrap()
    }

    /// Publishes jobs at a constant rate; returns the times from publish to event, sorted. The first `warm_up` jobs open
    /// the connections, so they are left out.
    pub async fn pace(&self, jobs: u64, each: Duration, warm_up: usize) -> Vec<Duration> {
        let mut events = self.consume("pace").await;
        let received = tokio::spawn(async move {
            let mut at = Vec::new();
            for _ in 0..jobs {
                let event = events.next().await.unwrap().unwrap();
                let number: usize = event.properties.correlation_id().as_ref().unwrap().as_str().parse().unwrap();
                at.push((number, Instant::now()));
            }
            at
        });
        let mut sent = Vec::new();
        let mut tick = tokio::time::interval(each);
        for number in 0..jobs {
            tick.tick().await;
            sent.push(Instant::now());
            drop(self.publish(number, Work::Mixed).await.unwrap());
        }
        let received = tokio::time::timeout(Duration::from_secs(30), received).await.unwrap().unwrap();
        let counted = received.into_iter().filter(|(number, _)| *number >= warm_up);
        let mut took: Vec<Duration> = counted.map(|(number, at)| at - sent[number]).collect();
        took.sort();
        self.channel.basic_cancel("pace".into(), Default::default()).await.unwrap();
        took
    }
}
