//! A COMMIT without an answer: the connection is cut, or the server ends in the middle.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use erasure_worker::job::{FailureKind, StepName, TargetOutcome};
use testkit::postgres::Postgres;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::OwnedWriteHalf;
use tokio::net::{TcpListener, TcpStream};

use crate::run::ann;
use crate::shop::{ERASED, FILE, Shop, WHOLE, connect, port, rows};

/// With these a COMMIT that has deleted a person waits for an advisory lock.
const WAITS_AT_COMMIT: [&str; 2] = [
    "create function wait() returns trigger language plpgsql set lock_timeout = 0 as $$ begin perform pg_advisory_xact_lock(1); return null; \
     end $$",
    "create constraint trigger wait after delete on users deferrable initially deferred for each row execute function \
     wait()",
];

/// What becomes of the first COMMITs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// It never reaches the server.
    Unsent,
    /// It is made; its answer is lost.
    Unanswered,
    /// It is still under way when the connection is cut.
    Late,
}

/// A relay to the server that cuts the connection at the first `cuts` COMMITs.
async fn relay(to: u16, fate: Fate, cuts: usize) -> u16 {
    relay_for(to, b"commit\0", fate, cuts, || {}).await
}

/// The same, for a COMMIT of these bytes; what is done to the server before the cut may block.
pub async fn relay_for(
    to: u16,
    commit: &'static [u8],
    fate: Fate,
    cuts: usize,
    then: impl Fn() + Send + Sync + 'static,
) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (met, then) = (Arc::new(AtomicUsize::new(0)), Arc::new(then));
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = TcpStream::connect(("127.0.0.1", to)).await.unwrap();
            let (met, then) = (Arc::clone(&met), Arc::clone(&then));
            tokio::spawn(async move {
                let ends = |bytes: &[u8]| {
                    let is_commit = bytes.windows(commit.len()).any(|part| part == commit);
                    is_commit && met.fetch_add(1, Ordering::Relaxed) < cuts
                };
                let cut = pass(client, server, fate, ends).await;
                if let Some(_client) = cut {
                    tokio::task::spawn_blocking(move || then()).await.unwrap();
                }
            });
        }
    });
    port
}

/// Returns the client's side, still open, if the connection is to be cut.
async fn pass(
    client: TcpStream,
    server: TcpStream,
    fate: Fate,
    ends: impl Fn(&[u8]) -> bool,
) -> Option<OwnedWriteHalf> {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let (mut up, mut down) = ([0; 8192], [0; 8192]);
    loop {
        tokio::select! {
            read = from_client.read(&mut up) => {
                let Ok(count @ 1..) = read else { return None };
                if ends(&up[..count]) {
                    if fate != Fate::Unsent {
                        to_server.write_all(&up[..count]).await.unwrap();
                    }
                    if fate == Fate::Unanswered {
                        // The answer ends with "ready for query".
                        let _ = from_server.read(&mut down).await;
                    }
                    return Some(to_client);
                }
                if to_server.write_all(&up[..count]).await.is_err() { return None }
            }
            read = from_server.read(&mut down) => {
                let Ok(count @ 1..) = read else { return None };
                if to_client.write_all(&down[..count]).await.is_err() { return None }
            }
        }
    }
}

pub fn by_ledger(file: &str) -> String {
    file.replace("watch =", "ledger = \"erasure_done\"\nwatch =")
        .replace("lost = { read = \"rest\" }", "lost = { ledger = true }")
}

#[tokio::test]
async fn a_lost_answer_is_settled_by_the_counts_or_by_the_ledger() {
    for file in [FILE.to_owned(), by_ledger(FILE)] {
        for (fate, cuts, acts) in [(Fate::Unanswered, 1, 1), (Fate::Unsent, 1, 2), (Fate::Unsent, 2, 3)] {
            let shop = Shop::open().await;
            let through = relay(port(), fate, cuts).await;
            let mut run = ann(&file);
            let end = run
                .finish(&shop.system_with(&file, "worker", through), async |step, earlier| {
                    // Nothing is half done.
                    if step == StepName::ConnectorReadBack && earlier == 0 {
                        let is_made = fate == Fate::Unanswered;
                        assert_eq!(shop.rows().await, if is_made { ERASED } else { WHOLE });
                    }
                })
                .await
                .unwrap();
            assert_eq!((end.outcome, run.acts()), (TargetOutcome::Erased, acts), "{fate:?}: {:?}", run.calls);
            assert_eq!(shop.rows().await, ERASED);
            let lost = run.calls.iter().filter_map(|(_, said)| said.as_ref().err());
            assert!(lost.clone().count() == cuts && lost.clone().all(|failure| failure.kind == FailureKind::Ambiguous));
        }
    }
}

/// Another delivery of the same job commits between the first read and the act: nothing is left to do.
#[tokio::test]
async fn another_deliverys_commit_is_found_done() {
    for file in [FILE.to_owned(), by_ledger(FILE)] {
        let shop = Shop::open().await;
        let (mut run, mut other) = (ann(&file), ann(&file));
        let (system, others) = (shop.system_with(&file, "worker", port()), shop.system_with(&file, "worker", port()));
        let end = run
            .finish(&system, async |step, earlier| {
                if (step, earlier) == (StepName::ConnectorAct, 0) {
                    other.end(&others).await.unwrap();
                }
            })
            .await
            .unwrap();
        assert!(end.outcome.is_erased(), "{:?}", run.calls);
        assert_eq!((shop.rows().await.as_str(), run.acts(), other.acts()), (ERASED, 1, 1));
    }
}

/// A COMMIT that is still under way when its rows are looked for: the repeat waits at its locks, and changes nothing.
#[tokio::test]
async fn a_commit_that_ends_late_is_not_made_twice() {
    for file in [FILE.to_owned(), by_ledger(FILE)] {
        let shop = Shop::open().await;
        for statement in WAITS_AT_COMMIT {
            shop.run(statement).await;
        }
        let holder = shop.another().await;
        holder.batch_execute("begin; select pg_advisory_xact_lock(1)").await.unwrap();
        let through = relay(port(), Fate::Late, 1).await;
        let mut run = ann(&file);
        let end = run
            .finish(&shop.system_with(&file, "worker", through), async |step, earlier| {
                if (step, earlier) == (StepName::ConnectorAct, 2) {
                    assert_eq!(shop.rows().await, WHOLE);
                    holder.batch_execute("rollback").await.unwrap();
                    // The lock is free again when the COMMIT has ended.
                    holder.batch_execute("select 1 from users where id = 7 for update").await.unwrap();
                }
            })
            .await
            .unwrap();
        assert!(end.outcome.is_erased(), "{:?}", run.calls);
        assert!(run.failures().contains("another session holds a lock"), "{}", run.failures());
        assert_eq!((shop.rows().await.as_str(), run.acts()), (ERASED, 3), "{:?}", run.calls);
    }
}

/// The process ends after each entry and after each call, with and without the entries that were not durable yet.
#[tokio::test]
async fn the_process_may_end_at_every_entry() {
    for file in [FILE.to_owned(), by_ledger(FILE)] {
        let mut whole = ann(&file);
        let shop = Shop::open().await;
        whole.end(&shop.system_with(&file, "worker", port())).await.unwrap();
        for point in 1..=whole.points {
            for all in [false, true] {
                let shop = Shop::open().await;
                let mut run = ann(&file);
                run.crash = Some((point, all));
                let end = run.end(&shop.system_with(&file, "worker", port())).await.unwrap();
                assert_eq!(end.outcome, TargetOutcome::Erased, "{point}, {all}: {:?}", run.calls);
                assert_eq!(shop.rows().await, ERASED, "{point}, {all}");
                // The lost answer of a made act is read back, and the act is not made again.
                assert_eq!(run.acts(), 1, "{point}, {all}: {:?}", run.calls);
            }
        }
        assert!(whole.points > 6, "{}", whole.points);
    }
}

/// The server ends in the middle of a COMMIT: before it is made, or after it.
#[tokio::test]
async fn the_server_may_end_in_the_middle_of_a_commit() {
    for file in [FILE.to_owned(), by_ledger(FILE)] {
        for is_made in [false, true] {
            let server = Arc::new(tokio::task::spawn_blocking(Postgres::start).await.unwrap());
            let shop = Shop::open_on(&server).await;
            // The COMMIT waits: for a lock in a check at its end, or for a standby that is not there.
            let statements = if is_made {
                ["alter system set synchronous_standby_names = 'nobody'", "select pg_reload_conf()"]
            } else {
                WAITS_AT_COMMIT
            };
            for statement in statements {
                shop.run(statement).await;
            }
            let holder = shop.another().await;
            if !is_made {
                holder.batch_execute("begin; select pg_advisory_xact_lock(1)").await.unwrap();
            }
            let mut run = ann(&file);
            let system = shop.system_with(&file, "worker", server.port());
            let reading = shop.another().await;
            let mut is_down = false;
            let end = {
                let mut ended = std::pin::pin!(run.end(&system));
                loop {
                    tokio::select! {
                        end = &mut ended => break end,
                        () = waiting(&reading), if !is_down => {
                            is_down = true;
                            let server = Arc::clone(&server);
                            let again = move || {
                                server.crash();
                                server.boot(&["synchronous_standby_names="]);
                            };
                            tokio::task::spawn_blocking(again).await.unwrap();
                        }
                    }
                }
            };
            assert_eq!(end.unwrap().outcome, TargetOutcome::Erased, "{:?}", run.calls);
            assert!(is_down && run.failures().contains("ambiguous"), "{}", run.failures());
            assert_eq!(run.acts(), if is_made { 1 } else { 2 }, "{:?}", run.calls);
            assert_eq!(rows(&connect(&shop.url("postgres", server.port())).await).await, ERASED);
        }
    }
}

/// Returns when a session waits at the end of its transaction.
async fn waiting(admin: &tokio_postgres::Client) {
    let waits =
        "select count(*) from pg_stat_activity where query = 'commit' and (wait_event in ('SyncRep', 'advisory'))";
    loop {
        match admin.query_one(waits, &[]).await {
            Ok(row) if row.get::<_, i64>(0) > 0 => return,
            Ok(_) => tokio::task::yield_now().await,
            Err(_) => std::future::pending().await,
        }
    }
}
