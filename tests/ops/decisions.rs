//! Every operator's decision at one worker is obeyed by all others.
//!
//! Two workers with a store each read one control stream; a third one begins with an empty store. Each kind of decision
//! is made at the worker with the job, at a worker without it, for a new store, after its opposite, in copies, forged,
//! and between invalid messages.

mod kinds;

use std::sync::Arc;

use serde_json::json;
use testkit::post::{Post, Stream};

use crate::bench::{Setup, bench_with, id, shop_job};
use crate::http::{get, post};
use kinds::{Kind, SHOP, Way, body, forgeries, give, has_read, newest, obeys, obeys_once_read, prepare, put, worker};

async fn tried(kind: Kind, way: Way) -> bool {
    let case = format!("{kind:?} {way:?}");
    let control = Stream::new(Vec::new());
    let active = worker(kind, &control).await;
    let standby = worker(kind, &control).await;
    let copy = prepare(kind, &active).await;
    let copy = copy.as_ref();
    let why = json!({ "reason": "the vendor asked", "by": "operations" });
    if kind.needs_opposite() || way == Way::AfterItsOpposite {
        let Some(opposite) = kind.paths().1 else { return false };
        assert_eq!(post(active.addr, &opposite, &why).await.status, 200, "{case}");
    }
    match way {
        Way::AtActive | Way::AfterItsOpposite => give(kind, &active).await,
        Way::AtStandby => {
            if matches!(kind, Kind::Approve | Kind::Reject) {
                // It has no preview, so no decision is possible there.
                let asked = post(standby.addr, &kind.paths().0, &json!({ "preview": "00", "by": "operations" })).await;
                assert_eq!(asked.problem(404), "unknown-approval");
                return true;
            }
            // Both have one queue of dead letters.
            let there = active.broker.seen().letters;
            standby.broker.with_letters(|letters| *letters = there);
            give(kind, &standby).await;
        }
        Way::ToANewStore => {
            give(kind, &active).await;
            has_read(&active, &[&standby]).await;
            let new = worker(kind, &control).await;
            // It takes no job before it has read the stream.
            return {
                obeys_once_read(kind, &new, copy, &case).await;
                true
            };
        }
        Way::InCopies => {
            give(kind, &active).await;
            let mut all = control.borrow().clone();
            all.reverse();
            for (_, body) in all {
                put(&control, body);
            }
        }
        Way::Forged => {
            // Made from a genuine decision for other workers.
            let elsewhere = Stream::new(Vec::new());
            let other = worker(kind, &elsewhere).await;
            prepare(kind, &other).await;
            give(kind, &other).await;
            for forged in forgeries(&newest(&elsewhere)) {
                put(&control, forged.to_string());
            }
        }
        Way::BetweenGarbage => {
            let garbage = || {
                for body in
                    [&b""[..], b"{}", b"\xff\xfe", b"null", br#"{"schema":"erasure.decision/v1"}"#, &[b'['; 5000]]
                {
                    put(&control, body.to_vec());
                }
            };
            garbage();
            give(kind, &active).await;
            garbage();
        }
    }
    let given = way != Way::Forged;
    let by_whom = if way == Way::AtStandby { &standby } else { &active };
    has_read(by_whom, &[&active, &standby]).await;
    for bench in [&active, &standby] {
        obeys(kind, bench, copy, given, &case).await;
    }
    if !given {
        let counted = active.engine.figures().labelled();
        let forged = counted.iter().find(|(family, _, word, _)| (*family, *word) == ("unauthorised", "decision"));
        assert!(forged.is_some_and(|(.., count)| *count >= 5), "{case}");
    }
    true
}

async fn all_ways(kinds: &[Kind], cases: usize) {
    let mut count = 0;
    for kind in kinds {
        for way in Way::ALL {
            count += usize::from(tried(*kind, way).await);
        }
    }
    assert_eq!(
        count,
        cases,
        "{} kinds in {} ways, but that not every kind has an opposite",
        kinds.len(),
        Way::ALL.len()
    );
}

#[tokio::test]
async fn pauses_and_resumes_reach_every_worker_by_every_way() {
    all_ways(&Kind::ALL[..4], 28).await;
}

#[tokio::test]
async fn cancellations_releases_and_discards_reach_every_worker_by_every_way() {
    all_ways(&Kind::ALL[4..7], 18).await;
}

#[tokio::test]
async fn releases_and_discards_of_held_jobs_reach_every_worker_by_every_way() {
    all_ways(&Kind::ALL[7..9], 12).await;
}

#[tokio::test]
async fn approvals_reach_every_worker_by_every_way() {
    all_ways(&Kind::ALL[9..], 12).await;
}

/// Without a broker: a decision that prevents an erasure takes effect here, and at the others after the broker's
/// return. A decision that permits an erasure is refused and changes nothing.
#[tokio::test]
async fn without_a_broker_a_decision_that_prevents_an_erasure_holds_and_others_are_refused() {
    for kind in Kind::ALL {
        let control = Stream::new(Vec::new());
        let active = worker(kind, &control).await;
        let standby = worker(kind, &control).await;
        // First it reads the stream to its end. For that the broker must accept its mark.
        active.send(&json!({}));
        active.broker.published(|publication| publication.to == erasure_worker::broker::Destination::DeadLetter).await;
        let copy = prepare(kind, &active).await;
        if kind.needs_opposite() {
            let why = json!({ "reason": "the vendor asked", "by": "operations" });
            post(active.addr, &kind.paths().1.unwrap(), &why).await;
        }
        has_read(&active, &[&active, &standby]).await;
        active.broker.refuses.lock().unwrap().control = true;
        let length = control.borrow().len();
        let answer = post(active.addr, &kind.paths().0, &body(kind, &active).await).await;
        let case = format!("{kind:?}: {}", answer.text);
        let holds = matches!(kind, Kind::PauseSystem | Kind::PauseTenant | Kind::Cancel | Kind::Discard);
        if !holds {
            assert_eq!(answer.problem(503), "unavailable", "{case}");
            assert!(answer.json()["detail"].as_str().unwrap().contains("nothing was changed here"), "{case}");
        }
        if kind == Kind::Cancel {
            assert_eq!(answer.json()["everywhere"], false, "{case}");
        }
        if matches!(kind, Kind::PauseSystem | Kind::PauseTenant) {
            assert_eq!(answer.json()["paused"]["everywhere"], false, "{case}");
        }
        if holds {
            assert_eq!(active.engine.decisions_unpublished().unwrap(), 1, "{case}");
        }
        assert_eq!(control.borrow().len(), length, "{case}");
        obeys(kind, &active, copy.as_ref(), holds, &case).await;
        active.broker.refuses.lock().unwrap().control = false;
        if holds {
            has_read(&active, &[&active, &standby]).await;
            assert_eq!(active.engine.decisions_unpublished().unwrap(), 0, "{case}");
            obeys(kind, &standby, copy.as_ref(), true, &case).await;
        }
    }
}

/// The process ends right after the answer, without a broker. Its store has the decision, obeys it from the first job
/// on, and publishes it after the broker's return.
#[tokio::test]
async fn a_pause_without_a_broker_outlives_the_process_and_is_published_by_the_next() {
    let control = Stream::new(Vec::new());
    let store = Arc::new(erasure_worker::store::MemoryStore::new());
    let broker = Post::with_control(&control);
    let first = bench_with(Setup { store: Arc::clone(&store) as _, broker, ..Setup::default() }).await;
    first.broker.refuses.lock().unwrap().control = true;
    give(Kind::PauseSystem, &first).await;
    drop(first);
    let broker = Post::with_control(&control);
    let second = bench_with(Setup { store, broker, ..Setup::default() }).await;
    let standby = worker(Kind::PauseSystem, &control).await;
    for bench in [&second, &standby] {
        bench.until("/v1/paused", |all| all["paused"][0]["everywhere"] == true).await;
        bench.send(&Kind::PauseSystem.job());
        bench.until(&format!("/v1/jobs/acme/{}", id(1)), |job| job["waiting"]["reason"] == "paused").await;
    }
}

/// More jobs than one message names. Some are known only to the other worker.
#[tokio::test]
async fn a_release_at_a_worker_without_held_jobs_reaches_the_other_workers_jobs() {
    let control = Stream::new(Vec::new());
    let active = worker(Kind::ReleaseGuard, &control).await;
    let standby = worker(Kind::ReleaseGuard, &control).await;
    let most = 600;
    for number in 1..=most {
        active.send(&shop_job(&id(number), "ann"));
    }
    active.until("/v1/guard", |all| all["scopes"][0]["held"] == json!(most)).await;
    let answer = post(standby.addr, "/v1/guard/tenant/acme/release", &json!({})).await;
    assert_eq!(answer.json(), json!({ "released": 0 }), "it holds no job");
    active.until("/v1/guard", |all| all["scopes"][0]["held"] == 0).await;
    has_read(&active, &[&standby]).await;
    // The worker without held jobs lets each one go on by its parked copy.
    for number in [1, most] {
        let copy = active.broker.parked(&id(number), 1).await;
        standby.broker.come_back(&copy);
        standby.broker.event(&id(number), "completed").await;
    }
}

/// A worker learns earlier decisions before it requests its first job.
#[tokio::test]
async fn no_job_is_requested_before_the_control_stream_was_read_to_its_end() {
    let control = Stream::new(Vec::new());
    let before = worker(Kind::PauseSystem, &control).await;
    give(Kind::PauseSystem, &before).await;
    has_read(&before, &[&before]).await;
    let broker = Post::with_control(&control);
    broker.keeps_control.send_replace(true);
    let length = control.borrow().len();
    let late = bench_with(Setup { broker, ..Setup::default() }).await;
    late.send(&Kind::PauseSystem.job());
    // It has published its mark, up to which it must read.
    late.broker.published(|publication| publication.to == erasure_worker::broker::Destination::Control).await;
    assert_eq!(control.borrow().len(), length + 1);
    assert_eq!(late.broker.asked.load(std::sync::atomic::Ordering::SeqCst), 0);
    late.broker.keeps_control.send_replace(false);
    late.until(&format!("/v1/jobs/acme/{}", id(1)), |job| job["waiting"]["reason"] == "paused").await;
    assert_eq!(get(late.addr, "/v1/systems").await.json()["systems"][SHOP]["calls"], 0);
}
