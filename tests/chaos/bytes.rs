//! Messages that no client library can read, published as raw frames among good ones. Each hostile message becomes a
//! dead letter with a code, each good job completes, and the link stays up.
//!
//! The seed is printed. `ERASURE_TEST_SEED` repeats a seed; `ERASURE_TEST_MESSAGES` sets the number of messages.

use std::collections::{BTreeMap, BTreeSet};

use lapin::types::AMQPValue;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use testkit::forms::{Case, Form, ids};
use testkit::rabbit::Rabbit;
use testkit::raw::{RawMessage, RawPublisher, long, short};
use testkit::rig::Rig;
use testkit::soon;

/// The places of properties that are short strings and that the broker does not interpret.
const TEXTS: [u16; 8] = [0, 1, 5, 6, 8, 10, 12, 13];
const TABLE: u16 = 2;
/// The number of messages that are sent at once.
const BATCH: usize = 40;

/// Properties by their place.
#[derive(Default)]
struct Properties(BTreeMap<u16, Vec<u8>>);

impl Properties {
    fn put(&mut self, place: u16, bytes: Vec<u8>) {
        self.0.insert(place, bytes);
    }

    fn message(self, key: &[u8], body: &[u8]) -> RawMessage {
        let flags = self.0.keys().fold(0, |flags, place| flags | 1 << (15 - place));
        let properties = self.0.into_values().collect::<Vec<_>>().concat();
        RawMessage { key: key.to_vec(), flags, properties, body: body.to_vec() }
    }
}

struct Maker(StdRng);

impl Maker {
    fn bytes(&mut self, most: usize) -> Vec<u8> {
        (0..self.0.random_range(0..=most)).map(|_| self.0.random()).collect()
    }

    fn good_text(&mut self) -> Vec<u8> {
        let letters = ["a", "Z", "7", "-", "ä", "漢", "\u{1f642}", " "];
        (0..self.0.random_range(0..30)).map(|_| *letters.choose(&mut self.0).unwrap()).collect::<String>().into()
    }

    /// A text that is not UTF-8.
    fn bad_text(&mut self) -> Vec<u8> {
        let byte = *[0xff, 0xfe, 0xc0, 0x80, 0xe4, 0xf5].choose(&mut self.0).unwrap();
        let mut text = [self.good_text(), vec![byte, b'x'], self.bytes(100)].concat();
        text.truncate(255);
        text
    }

    fn name(&mut self) -> Vec<u8> {
        format!("x-{}", self.0.random_range(0..1000)).into()
    }

    /// A value of any type that RabbitMQ accepts, nested to this depth.
    fn value(&mut self, depth: usize) -> Vec<u8> {
        let plain = [
            (b't', 1),
            (b'b', 1),
            (b'B', 1),
            (b's', 2),
            (b'u', 2),
            (b'I', 4),
            (b'i', 4),
            (b'f', 4),
            (b'l', 8),
            (b'd', 8),
            (b'T', 8),
            (b'D', 5),
            (b'V', 0),
        ];
        match self.0.random_range(0..if depth == 0 { 8 } else { 12 }) {
            0..6 => {
                let (kind, length) = *plain.choose(&mut self.0).unwrap();
                let bytes = (0..length).map(|_| self.0.random::<u8>() & 0x3f);
                [vec![kind], bytes.collect()].concat()
            }
            6 => long(b'S', &self.bytes(50)),
            7 => long(b'x', &self.bytes(50)),
            8..10 => {
                long(b'A', &(0..self.0.random_range(0..4)).flat_map(|_| self.value(depth - 1)).collect::<Vec<_>>())
            }
            _ => long(b'F', &self.entries(depth - 1)),
        }
    }

    fn entries(&mut self, depth: usize) -> Vec<u8> {
        (0..self.0.random_range(0..4)).flat_map(|_| [short(&self.name()), self.value(depth)].concat()).collect()
    }

    fn table(&mut self) -> Vec<u8> {
        let entries = self.entries(6);
        long(b'F', &entries)[1..].to_vec()
    }

    /// Properties that any library can read.
    fn good(&mut self) -> Properties {
        let mut properties = Properties::default();
        for place in TEXTS {
            // Place 8, the `message-id`, stays free.
            if place != 8 && self.0.random_bool(0.4) {
                properties.put(place, short(&self.good_text()));
            }
        }
        if self.0.random_bool(0.6) {
            properties.put(TABLE, self.table());
        }
        properties.put(3, vec![2]);
        properties
    }

    /// Nested tables and arrays, deeper than the limit.
    fn deep(&mut self, room: usize) -> Vec<u8> {
        let depth =
            if self.0.random_bool(0.3) { self.0.random_range(33..room / 6) } else { self.0.random_range(33..400) };
        let kinds: Vec<bool> = (0..depth).map(|_| self.0.random()).collect();
        // The length of each, from the innermost, which is empty. A table's entry has an empty name.
        let mut inside = vec![0];
        for is_table in kinds.iter().rev().skip(1) {
            inside.push(inside[inside.len() - 1] + 5 + u32::from(*is_table));
        }
        let mut bytes = Vec::new();
        for (place, (is_table, inside)) in kinds.iter().zip(inside.iter().rev()).enumerate() {
            bytes.push(if *is_table { b'F' } else { b'A' });
            bytes.extend_from_slice(&inside.to_be_bytes());
            if *is_table && place + 1 < depth {
                bytes.push(0);
            }
        }
        bytes
    }

    /// Properties that no library can read, and their sort.
    fn hostile(&mut self, room: usize) -> (&'static str, Properties, Vec<u8>) {
        let mut properties = self.good();
        let mut key = b"job".to_vec();
        let what = match self.0.random_range(0..10) {
            0..4 => {
                for _ in 0..self.0.random_range(1..4) {
                    let place = *TEXTS.choose(&mut self.0).unwrap();
                    properties.put(place, short(&self.bad_text()));
                }
                "text"
            }
            4..6 => {
                let name = self.bad_text();
                let mut entry = [short(&name), self.value(2)].concat();
                // A unique name: of two headers with one name RabbitMQ 4 delivers only the first.
                for _ in 0..self.0.random_range(0..20) {
                    entry = [short(b"inner"), long(b'F', &entry)].concat();
                }
                properties.put(TABLE, long(b'F', &[self.entries(2), entry].concat())[1..].to_vec());
                "name"
            }
            6..8 => {
                let entry = [short(b"deep"), self.deep(room - 3000)].concat();
                properties.put(TABLE, long(b'F', &entry)[1..].to_vec());
                "depth"
            }
            8 => {
                let used: usize =
                    properties.0.iter().filter(|(place, _)| **place != TABLE).map(|(_, one)| one.len()).sum();
                let size = room - used - 14 - 4 - 11 - self.0.random_range(0..900);
                let entry = [short(b"large"), long(b'S', &vec![b'v'; size])].concat();
                properties.put(TABLE, long(b'F', &entry)[1..].to_vec());
                "size"
            }
            _ => {
                let copies = long(b'A', &long(b'S', b"job"));
                properties.put(TABLE, long(b'F', &[short(b"CC"), copies].concat())[1..].to_vec());
                key = self.bad_text();
                "key"
            }
        };
        (what, properties, key)
    }
}

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_that_no_library_can_read_become_dead_letters_and_the_jobs_among_them_complete() {
    let seed = number("ERASURE_TEST_SEED", rand::random());
    let count = number("ERASURE_TEST_MESSAGES", 1_500);
    eprintln!("seed {seed}");
    // RabbitMQ 4 logs megabytes of its state for each message that it cannot read itself.
    let rabbit = tokio::task::block_in_place(|| {
        Rabbit::start_with("log.file.level = critical", "-kernel logger_level critical")
    });
    let rig = Rig::start(rabbit.url()).await;
    let worker = rig.worker("state", &[]);
    worker.says("connected to the broker").await;
    let cases = Case::mixed(rig.sandbox(), &[Form::EasyCms, Form::LoyaltyProgram], 1..count / 10 + 2);
    let (kept, good) = cases.split_first().unwrap();
    let sent = tokio::task::block_in_place(|| publish(&rabbit, &rig.prefix, seed, count, kept, good));
    let Sent { hostile, refused, what, cancels } = sent;
    let waiting = Case::new(rig.sandbox(), Form::Unconfirmed, count / 10 + 2);
    rig.publish(std::slice::from_ref(&waiting.body)).await;

    let heard = rig.events.all_end(ids(good)).await;
    for case in good {
        assert_eq!(heard.finals(&case.id).values().collect::<Vec<_>>(), ["completed"], "{:?}", heard.of(&case.id));
    }
    let all = hostile.len();
    rig.events
        .until("every hostile message to be refused", |heard| hostile.iter().all(|id| !heard.of(id).is_empty()))
        .await;
    // The last message of the stream: when it is obeyed, all hostile ones before it are read.
    rig.cancel(&waiting.id).await;
    let heard = rig.events.all_end([waiting.id.as_str()]).await;
    assert_eq!(heard.finals(&waiting.id).values().collect::<Vec<_>>(), ["cancelled"], "{:?}", heard.of(&waiting.id));
    let mended = worker.metric("erasure_messages_mended_total{queue=\"control\"}").await;
    assert!(mended > 0.0, "no hostile cancellation was repaired");
    let log = worker.log();
    assert_eq!(log.matches("connected to the broker").count(), 1, "the link was lost");
    for trouble in ["the link to the broker is down", "the control stream ended"] {
        assert!(!log.contains(trouble), "{trouble}: {log}");
    }
    worker.stop().await;
    rig.is_empty().await;
    for id in &hostile {
        let types = heard.of(id).iter().map(|event| event["type"].as_str().unwrap());
        assert!(types.clone().all(|what| what.contains("rejected")), "{id}: {:?}", types.collect::<Vec<_>>());
    }
    let code = AMQPValue::LongString("ERS-0020".into());
    let mut named = BTreeSet::new();
    // Dead letters that the stopping worker was reading are in the queue again a moment later.
    soon("every letter", async {
        while named.len() < hostile.len() {
            for (properties, _) in rig.dead_letters().await {
                let headers = properties.headers().as_ref().unwrap().inner();
                assert_eq!(headers.get("x-erasure-code"), Some(&code));
                let Some(AMQPValue::LongString(id)) = headers.get("x-erasure-job-id") else { panic!("{headers:?}") };
                named.insert(id.to_string());
            }
        }
    })
    .await;
    assert_eq!(named, hostile);
    assert_eq!(kept.remains(rig.sandbox()).len(), 1, "a refused job was carried out");
    rig.nothing_repeated();
    eprintln!(
        "seed {seed}: {all} hostile messages set aside ({what:?}), {cancels} in the control stream ({mended} mended), {} \
         good ones completed, {refused} refused by the broker itself",
        good.len()
    );
}

/// Sizes over a job's limit, and one over the memory limit.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_dead_letter_of_an_oversized_message_has_its_beginning_length_and_hash() {
    use sha2::{Digest as _, Sha256};
    let rabbit = Rabbit::shared();
    let rig = Rig::start(rabbit.url()).await;
    let worker = rig.worker("state", &[]);
    worker.says("connected to the broker").await;
    // The last size is within the limit: its dead letter has the whole body.
    let sizes = [16 * 1024 * 1024 - 47, 2 * 1024 * 1024 + 1, 1024 * 1024 + 1, 1024 * 1024];
    let body = |size: usize| (0..size).map(|place| (place % 251) as u8).collect::<Vec<u8>>();
    let exchange = format!("{}.requests", rig.prefix);
    let mut ids = Vec::new();
    for size in sizes {
        let id = uuid::Uuid::new_v4().to_string();
        let mut properties = Properties::default();
        properties.put(8, short(id.as_bytes()));
        let message = properties.message(b"job", &body(size));
        tokio::task::block_in_place(|| RawPublisher::connect(rabbit.port()).publish(&exchange, &[message])).unwrap();
        ids.push(id);
    }
    let all = |heard: &testkit::events::Heard| ids.iter().all(|id| !heard.of(id).is_empty());
    let heard = rig.events.until("each of them to be refused", all).await;
    rig.holds("dead-letters", 4).await;
    worker.stop().await;
    for (properties, letter) in rig.dead_letters().await {
        let headers = properties.headers().as_ref().unwrap().inner();
        let Some(AMQPValue::LongString(id)) = headers.get("x-erasure-job-id") else { panic!("{headers:?}") };
        let size = sizes[ids.iter().position(|known| *known == id.to_string()).unwrap()];
        let hash = hex::encode(Sha256::digest(body(size)));
        assert!(heard.of(&id.to_string())[0].to_string().contains(&hash), "the event has another hash");
        if size > 1024 * 1024 {
            assert!(letter.len() < 4096, "{size}: {}", letter.len());
            assert_eq!(headers.get("x-erasure-body-bytes"), Some(&AMQPValue::LongLongInt(size as i64)));
            assert_eq!(headers.get("x-erasure-body-sha256"), Some(&AMQPValue::LongString(hash.as_str().into())));
        } else {
            assert!(letter.len() > size && !headers.contains_key("x-erasure-body-sha256"));
        }
    }
}

struct Sent {
    hostile: BTreeSet<String>,
    refused: usize,
    what: BTreeMap<&'static str, usize>,
    cancels: usize,
}

fn publish(rabbit: &Rabbit, prefix: &str, seed: u64, count: u64, kept: &Case, good: &[Case]) -> Sent {
    let mut maker = Maker(StdRng::seed_from_u64(seed));
    let mut raw = RawPublisher::connect(rabbit.port());
    let exchange = format!("{prefix}.requests");
    let mut sent = Sent { hostile: BTreeSet::new(), refused: 0, what: BTreeMap::new(), cancels: 0 };
    let mut good = good.iter();
    let (mut batch, mut ids) = (Vec::new(), Vec::new());
    for turn in 0..count {
        if turn % 10 == 0
            && let Some(case) = good.next()
        {
            batch.push(maker.good().message(b"job", case.body.to_string().as_bytes()));
        }
        let (what, properties, key) = maker.hostile(raw.room());
        let id = uuid::Uuid::from_u128(maker.0.random()).to_string();
        if what != "key" && turn % 6 == 5 {
            let cancel = serde_json::json!({ "schema": "erasure.cancel/v1", "tenant": "acme", "job_id": id });
            batch.push(properties.message(b"cancel", cancel.to_string().as_bytes()));
            sent.cancels += 1;
        } else {
            let mut body = kept.body.clone();
            body["job_id"] = id.as_str().into();
            batch.push(properties.message(&key, body.to_string().as_bytes()));
            *sent.what.entry(what).or_default() += 1;
            sent.hostile.insert(id.clone());
        }
        ids.push(id);
        if batch.len() >= BATCH || turn + 1 == count {
            if raw.publish(&exchange, &batch).is_err() {
                // The broker itself could not read one of them, and ended the connection. Each is sent again
                // alone, so that the others arrive. A message that arrives twice is refused twice.
                for message in &batch {
                    raw = RawPublisher::connect(rabbit.port());
                    if raw.publish(&exchange, std::slice::from_ref(message)).is_err() {
                        let body = String::from_utf8_lossy(&message.body);
                        let id = ids.iter().find(|id| body.contains(*id)).expect("only hostile messages are refused");
                        sent.refused += 1;
                        sent.hostile.remove(id);
                    }
                }
                raw = RawPublisher::connect(rabbit.port());
            }
            (batch, ids) = (Vec::new(), Vec::new());
        }
    }
    assert!(sent.refused * 20 < sent.hostile.len(), "the broker itself refused {} messages", sent.refused);
    sent
}
