//! The effects of the broker's settings, and their reports.

use std::sync::Arc;

use erasure_worker::broker::amqp::{AmqpBroker, AmqpConfig};
use erasure_worker::broker::{Broker as _, Destination, Link};
use secrecy::SecretString;
use testkit::rabbit::Rabbit;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use super::{config, next, send, soon, up};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_broker_without_a_frame_limit_the_worker_negotiates_one() {
    let rabbit = tokio::task::block_in_place(|| Rabbit::start_with("frame_max = 0", ""));
    let broker = AmqpBroker::connect(config(&rabbit)).await.unwrap();
    up(&broker).await;
    send(&broker, Destination::Requests, "a").await;
    next(&broker).await.settle.ack().await.unwrap();
    let agreed = tokio::task::block_in_place(|| rabbit.ctl(&["-q", "list_connections", "frame_max"]));
    let agreed: Vec<&str> = agreed.lines().filter(|line| line.bytes().all(|byte| byte.is_ascii_digit())).collect();
    assert!(!agreed.is_empty() && agreed.iter().all(|frame_max| *frame_max == "131072"), "{agreed:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_refuses_messages_of_a_parked_copys_size_is_reported() {
    let needed = erasure_worker::job::parse::MAX_BODY + 48;
    for (limit, is_named) in [(needed, false), (needed - 1, true)] {
        let conf = format!("max_message_size = {limit}");
        let rabbit = tokio::task::block_in_place(|| Rabbit::start_with(&conf, ""));
        let broker = AmqpBroker::connect(config(&rabbit)).await.unwrap();
        up(&broker).await;
        let checked = soon("the check", async {
            loop {
                if let Some(takes) = broker.takes_every_copy() {
                    return takes;
                }
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        });
        assert_eq!(checked.await, !is_named, "{limit}");
        let ailments = broker.ailments();
        let named = ailments.iter().find(|ailment| ailment.what == "max_message_size");
        assert_eq!(named.is_some(), is_named, "{limit}: {ailments:?}");
        assert!(named.is_none_or(|ailment| ailment.detail.contains(&needed.to_string())), "{ailments:?}");
    }
}

/// From 4.3 on RabbitMQ cancels a consumer in this form after its timeout.
const CANCEL: [u8; 4] = [0, 60, 0, 30];
const CONSUME_OK: [u8; 4] = [0, 60, 0, 21];

/// A relay to the broker that can insert a cancellation of the last consumer between two frames.
async fn cancelling(to: u16, now: Arc<Notify>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let broker = TcpStream::connect(("127.0.0.1", to)).await.unwrap();
            let (mut from_client, mut to_client) = client.into_split();
            let (mut from_broker, mut to_broker) = broker.into_split();
            tokio::spawn(async move { tokio::io::copy(&mut from_client, &mut to_broker).await });
            let now = Arc::clone(&now);
            tokio::spawn(async move {
                let mut consumer = None;
                loop {
                    let mut head = [0; 7];
                    tokio::select! {
                        biased;
                        read = from_broker.read_exact(&mut head[..1]) => drop(read?),
                        () = now.notified(), if consumer.is_some() => {
                            let (channel, tag): ([u8; 2], Vec<u8>) = consumer.take().unwrap();
                            // The last bit: no answer is requested.
                            let payload = [&CANCEL[..], &tag, &[1]].concat();
                            let size = u32::try_from(payload.len()).unwrap().to_be_bytes();
                            to_client.write_all(&[&[1], &channel[..], &size, &payload, &[206]].concat()).await?;
                            continue;
                        }
                    }
                    from_broker.read_exact(&mut head[1..]).await?;
                    let size = u32::from_be_bytes(head[3..7].try_into().unwrap()) as usize;
                    let mut payload = vec![0; size + 1];
                    from_broker.read_exact(&mut payload).await?;
                    if head[0] == 1 && payload.starts_with(&CONSUME_OK) {
                        consumer = Some(([head[1], head[2]], payload[4..size].to_vec()));
                    }
                    to_client.write_all(&[&head[..], &payload].concat()).await?;
                }
                #[allow(unreachable_code, reason = "says what the error is")]
                std::io::Result::Ok(())
            });
        }
    });
    format!("amqp://guest:guest@127.0.0.1:{port}/%2f")
}

#[tokio::test]
async fn a_consumer_cancelled_for_its_timeout_is_reported_as_such_and_starts_again() {
    let rabbit = Rabbit::shared();
    let now = Arc::new(Notify::new());
    let url = SecretString::from(cancelling(rabbit.port(), Arc::clone(&now)).await);
    let mut config = AmqpConfig { url, want_control: false, ..config(rabbit) };
    config.backoff_min = std::time::Duration::from_secs(1);
    let broker = AmqpBroker::connect(config).await.unwrap();
    up(&broker).await;
    send(&broker, Destination::Requests, "a").await;
    let held = next(&broker).await;
    let mut link = broker.link();
    now.notify_one();
    let down = soon("the link's end", link.wait_for(|link| *link != Link::Up)).await.unwrap().clone();
    let Link::Down(why) = down else { panic!("{down:?}") };
    assert!(why.contains("its queue is there") && why.contains("consumer_timeout"), "{why}");
    assert!(held.message.lost.is_cancelled());
    let again = next(&broker).await;
    assert!(again.message.redelivered && again.message.epoch > held.message.epoch);
    again.settle.ack().await.unwrap();
}
