//! An interrupted walk of the dead letters loses no dead letter.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use erasure_worker::broker::amqp::{AmqpBroker, AmqpConfig};
use erasure_worker::broker::{Broker as _, DeadLetter, Destination, Verdict};
use secrecy::SecretString;
use testkit::rabbit::Rabbit;
use testkit::relay::Relay;
use tokio::sync::Notify;

use super::{config, holds, listed, message, send, soon, up};

/// The end of a walk.
#[derive(Debug, Clone, Copy)]
enum End {
    /// The caller drops the walk.
    Dropped,
    /// The connection is cut.
    Cut,
    /// The worker stops.
    Closed,
}

/// The walk's decision about each dead letter.
#[derive(Debug, Clone, Copy)]
enum Does {
    Keeps,
    /// A dead letter with the same text replaces it.
    Replaces,
}

/// Begins a walk and ends it at the dead letter with this number.
async fn broken_off(direct: &AmqpConfig, rabbit: &Rabbit, end: End, does: Does, at: usize) {
    let relay = Relay::start(rabbit.port(), b"").await;
    let by_relay = AmqpConfig { url: SecretString::from(relay.url()), ..direct.clone() };
    let broker = AmqpBroker::connect(by_relay).await.unwrap();
    up(&broker).await;
    let (reached, seen) = (Arc::new(Notify::new()), AtomicUsize::new(0));
    let notifier = Arc::clone(&reached);
    let mut decide = move |letter: &DeadLetter| {
        if seen.fetch_add(1, Ordering::Relaxed) + 1 == at {
            notifier.notify_one();
        }
        match does {
            Does::Keeps => Verdict::Keep,
            Does::Replaces => {
                let text = std::str::from_utf8(&letter.body).unwrap();
                Verdict::Replace(Box::new(message(Destination::DeadLetter, text)))
            }
        }
    };
    let walk = broker.dead_letters(10_000, &mut decide);
    let ended = async {
        reached.notified().await;
        match end {
            End::Dropped => {}
            End::Cut => {
                relay.cut();
                std::future::pending::<()>().await;
            }
            End::Closed => broker.close().await,
        }
    };
    tokio::select! {
        _ = walk => {}
        () = ended => {}
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_walk_of_the_dead_letters_interrupted_at_any_point_loses_none() {
    let rabbit = Rabbit::shared();
    let direct = config(rabbit).publish_only();
    let other = AmqpBroker::connect(direct.clone()).await.unwrap();
    up(&other).await;
    let all: BTreeSet<String> = (0..40).map(|n| n.to_string()).collect();
    for text in &all {
        send(&other, Destination::DeadLetter, text).await;
    }
    holds(&other, "dead-letters", 40).await;
    for does in [Does::Keeps, Does::Replaces] {
        for end in [End::Dropped, End::Cut, End::Closed] {
            for at in [1, 2, 20, 39, 40] {
                broken_off(&direct, rabbit, end, does, at).await;
                let what = format!("{does:?} {end:?} at {at}");
                // Requeued dead letters are visible a moment later. A replaced one may exist twice.
                let letters = soon(&what, async {
                    loop {
                        let letters = listed(&other, 10_000).await;
                        if letters.iter().cloned().collect::<BTreeSet<_>>() == all {
                            return letters;
                        }
                    }
                })
                .await;
                let most = if matches!(does, Does::Keeps) { 40 } else { usize::MAX };
                assert!(letters.len() <= most, "{what}: {} letters of 40", letters.len());
            }
        }
    }
}

/// A number that a broker requeues in several steps.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_dead_letters_survive_a_walk_whose_connection_breaks() {
    let rabbit = Rabbit::shared();
    let direct = config(rabbit).publish_only();
    let other = AmqpBroker::connect(direct.clone()).await.unwrap();
    up(&other).await;
    let count = 2_500;
    let texts: Vec<String> = (0..count).map(|n| n.to_string()).collect();
    let sends = texts.iter().map(|text| send(&other, Destination::DeadLetter, text));
    futures_util::future::join_all(sends).await;
    holds(&other, "dead-letters", count).await;
    for at in [count as usize, 1_300] {
        for end in [End::Dropped, End::Cut, End::Closed] {
            broken_off(&direct, rabbit, end, Does::Keeps, at).await;
            holds(&other, "dead-letters", count).await;
        }
    }
    let letters: BTreeSet<String> = listed(&other, 10_000).await.into_iter().collect();
    assert_eq!(letters.len(), texts.len());
}
