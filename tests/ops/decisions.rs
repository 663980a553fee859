//! Every decision of an operator, given at one worker, is obeyed by every other.
//!
//! Two workers with a store each read one control stream; a third one begins with an empty store. Each
//! kind of decision is given at the worker that has the job and at the one that has never seen it, to a
//! store that is new, after its opposite, in copies, forged, and between messages that are none.

use std::sync::Arc;

use erasure_worker::broker::{Properties, Publication};
use erasure_worker::engine::{Ceiling, Policy, Scope};
use erasure_worker::job::JobKey;
use erasure_worker::store::Table;
use serde_json::{Value, json};
use testkit::post::{Post, Stream};
use uuid::Uuid;

use crate::bench::{Bench, Setup, bench_with, id, shop_job};
use crate::http::{get, post};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    PauseSystem,
    PauseTenant,
    ResumeSystem,
    ResumeTenant,
    Cancel,
    ReleaseSystem,
    Discard,
    ReleaseGuard,
    DiscardGuarded,
    Approve,
    Reject,
}

impl Kind {
    const ALL: [Kind; 11] = [
        Kind::PauseSystem,
        Kind::PauseTenant,
        Kind::ResumeSystem,
        Kind::ResumeTenant,
        Kind::Cancel,
        Kind::ReleaseSystem,
        Kind::Discard,
        Kind::ReleaseGuard,
        Kind::DiscardGuarded,
        Kind::Approve,
        Kind::Reject,
    ];

    /// The path of the decision, and of its opposite where there is one.
    fn paths(self) -> (String, Option<String>) {
        let job = id(1);
        let pause = |subject: &str, word: &str| format!("/v1/{subject}/{word}");
        match self {
            Kind::PauseSystem => (pause("systems/shop", "pause"), Some(pause("systems/shop", "resume"))),
            Kind::PauseTenant => (pause("tenants/acme", "pause"), Some(pause("tenants/acme", "resume"))),
            Kind::ResumeSystem => (pause("systems/shop", "resume"), Some(pause("systems/shop", "pause"))),
            Kind::ResumeTenant => (pause("tenants/acme", "resume"), Some(pause("tenants/acme", "pause"))),
            Kind::Cancel => (format!("/v1/jobs/acme/{job}/cancel"), None),
            Kind::ReleaseSystem => ("/v1/systems/shop/release".to_owned(), None),
            Kind::Discard => ("/v1/dead-letters/discard".to_owned(), None),
            Kind::ReleaseGuard => ("/v1/guard/tenant/acme/release".to_owned(), None),
            Kind::DiscardGuarded => ("/v1/guard/tenant/acme/discard".to_owned(), None),
            Kind::Approve => (format!("/v1/approvals/acme/{job}/approve"), None),
            Kind::Reject => (format!("/v1/approvals/acme/{job}/reject"), None),
        }
    }

    fn policy(self) -> Policy {
        let ceiling = Ceiling { max_jobs_per_hour: Some(0), spike_factor: None };
        match self {
            Kind::ReleaseGuard | Kind::DiscardGuarded => {
                Policy { ceilings: [(Scope::Tenant("acme".to_owned()), ceiling)].into(), ..Policy::default() }
            }
            _ => Policy::default(),
        }
    }

    fn job(self) -> Value {
        let word = match self {
            Kind::ReleaseSystem => "held",
            Kind::Discard => "rejected",
            _ => "ann",
        };
        let mut job = shop_job(&id(1), word);
        if matches!(self, Kind::Approve | Kind::Reject) {
            job["approval"] = json!({ "requested_by": "ann" });
        }
        job
    }

    /// Its opposite was given before.
    fn needs_opposite(self) -> bool {
        matches!(self, Kind::ResumeSystem | Kind::ResumeTenant)
    }
}

/// How a decision comes to the other workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    AtActive,
    AtStandby,
    ToANewStore,
    AfterItsOpposite,
    InCopies,
    Forged,
    BetweenGarbage,
}

impl Way {
    const ALL: [Way; 7] = [
        Way::AtActive,
        Way::AtStandby,
        Way::ToANewStore,
        Way::AfterItsOpposite,
        Way::InCopies,
        Way::Forged,
        Way::BetweenGarbage,
    ];
}

async fn worker(kind: Kind, control: &Stream) -> Bench {
    let broker = Post::with_control(control);
    bench_with(Setup { policy: kind.policy(), broker, ..Setup::default() }).await
}

const SHOP: usize = 1;

/// The worker that has the job gets it as far as the decision finds it. A copy that waits is returned.
async fn prepare(kind: Kind, bench: &Bench) -> Option<Publication> {
    let path = format!("/v1/jobs/acme/{}", id(1));
    match kind {
        Kind::PauseSystem | Kind::PauseTenant | Kind::ResumeSystem | Kind::ResumeTenant | Kind::Cancel => return None,
        Kind::ReleaseSystem => {
            bench.send(&kind.job());
            bench.until("/v1/systems", |all| all["systems"][SHOP]["held"] == true).await;
            // Once it waits it makes no further look at the system, which would hold it again.
            bench.until(&path, |job| job["waiting"]["reason"] == "held").await;
            return None;
        }
        Kind::Discard => {
            bench.send(&kind.job());
            bench.broker.event(&id(1), "failed").await;
            bench.until(&path, |job| job["event_published"] == true).await;
            return None;
        }
        Kind::ReleaseGuard | Kind::DiscardGuarded => {
            bench.send(&kind.job());
            bench.until("/v1/guard", |all| all["scopes"][0]["held"] == 1).await;
        }
        Kind::Approve | Kind::Reject => {
            bench.send(&kind.job());
            bench.until(&format!("/v1/approvals/acme/{}", id(1)), |one| one["preview"].is_string()).await;
        }
    }
    Some(bench.broker.parked(&id(1), 1).await)
}

async fn body(kind: Kind, bench: &Bench) -> Value {
    let why = json!({ "reason": "the vendor asked", "by": "operations" });
    match kind {
        Kind::Discard => json!({ "job_id": id(1), "reason": "the vendor asked", "by": "operations" }),
        Kind::Approve | Kind::Reject => {
            let one = get(bench.addr, &format!("/v1/approvals/acme/{}", id(1))).await.json();
            json!({ "preview": one["preview"], "by": "operations" })
        }
        _ => why,
    }
}

async fn give(kind: Kind, bench: &Bench) {
    let answer = post(bench.addr, &kind.paths().0, &body(kind, bench).await).await;
    assert!([200, 202].contains(&answer.status), "{kind:?}: {}", answer.text);
}

/// All that is in the stream now has been read by this worker, with what it told on.
async fn has_read(bench: &Bench, others: &[&Bench]) {
    static ROUND: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    // Twice: what was told on after the first is before the second.
    for _ in 0..2 {
        let name = format!("mark-{}", ROUND.fetch_add(1, std::sync::atomic::Ordering::SeqCst));
        let why = json!({ "reason": "a mark", "by": "nobody" });
        assert_eq!(post(bench.addr, &format!("/v1/tenants/{name}/pause"), &why).await.status, 200);
        for one in others {
            one.until("/v1/paused", |all| all["paused"].as_array().unwrap().iter().any(|one| one["tenant"] == *name))
                .await;
        }
    }
}

/// What the decision means for a worker that gets the job now: where it has not seen it, with the copy that
/// waited. `given` is false where it was forged.
async fn obeys(kind: Kind, bench: &Bench, copy: Option<&Publication>, given: bool, case: &str) {
    let path = format!("/v1/jobs/acme/{}", id(1));
    let paused = || async {
        let all = get(bench.addr, "/v1/paused").await.json();
        let mut all = all["paused"].as_array().unwrap().clone();
        all.retain(|one| one["tenant"] == "acme" || !one["system"].is_null());
        all
    };
    match kind {
        Kind::PauseSystem | Kind::PauseTenant => {
            let known = paused().await;
            assert_eq!(known.len(), usize::from(given), "{case}: {known:?}");
            bench.send(&kind.job());
            if given {
                assert_eq!((&known[0]["by"], &known[0]["reason"]), (&json!("operations"), &json!("the vendor asked")));
                bench.until(&path, |job| job["waiting"]["reason"] == "paused").await;
                assert_eq!(get(bench.addr, "/v1/systems").await.json()["systems"][SHOP]["calls"], 0, "{case}");
            } else {
                bench.broker.event(&id(1), "completed").await;
            }
        }
        Kind::ResumeSystem | Kind::ResumeTenant => {
            // A forged one does not end the pause.
            assert_eq!(paused().await.len(), usize::from(!given), "{case}");
            bench.send(&kind.job());
            match given {
                true => drop(bench.broker.event(&id(1), "completed").await),
                false => drop(bench.until(&path, |job| job["waiting"]["reason"] == "paused").await),
            }
        }
        Kind::Cancel => {
            let key = JobKey { tenant: "acme".to_owned(), job_id: Uuid::from_u128(1) };
            let row = bench.engine.store().get(Table::Cancel, &key.to_bytes()).unwrap();
            assert_eq!(row.is_some(), given, "{case}");
            bench.send(&kind.job());
            bench.broker.event(&id(1), if given { "cancelled" } else { "completed" }).await;
        }
        Kind::ReleaseSystem => {
            let held = get(bench.addr, "/v1/systems").await.json()["systems"][SHOP]["held"].clone();
            let job = get(bench.addr, &path).await;
            assert_eq!(held, json!(!given && job.status == 200), "{case}");
        }
        Kind::Discard => {
            let job = get(bench.addr, &path).await;
            if job.status == 200 {
                let told = &job.json()["discarded"];
                let expected = if given { json!("operations") } else { Value::Null };
                assert_eq!(told["by"], expected, "{case}: {told}");
            }
        }
        Kind::ReleaseGuard | Kind::DiscardGuarded | Kind::Approve | Kind::Reject => {
            let is_seen = get(bench.addr, &path).await.status == 200;
            bench.broker.come_back(copy.unwrap());
            let what = match (kind, given) {
                (Kind::ReleaseGuard, true) => "completed",
                (Kind::DiscardGuarded, true) => "cancelled",
                (Kind::Approve, true) => "completed",
                (Kind::Reject, true) => "cancelled",
                (Kind::ReleaseGuard | Kind::DiscardGuarded, false) => {
                    bench.until("/v1/guard", |all| all["scopes"][0]["held"] == 1).await;
                    return;
                }
                (_, _) => {
                    let asked = format!("/v1/approvals/acme/{}", id(1));
                    let one = bench.until(&asked, |one| one["preview"].is_string()).await;
                    assert_eq!(one["decided"], Value::Null, "{case}");
                    return;
                }
            };
            if matches!(kind, Kind::Approve | Kind::Reject) && !is_seen {
                // A worker that has not seen the job finds first what was decided about.
                let parked = bench.broker.parked(&id(1), 1).await;
                bench.broker.come_back(&parked);
            }
            bench.broker.event(&id(1), what).await;
        }
    }
}

/// The newest message of the stream that is a decision of a kind other than a mark.
fn newest(control: &Stream) -> Value {
    let all = control.borrow();
    let decisions = all.iter().rev().filter_map(|(_, body)| serde_json::from_slice::<Value>(body).ok());
    decisions.into_iter().find(|one| !one["decision"].as_str().unwrap_or("\"mark\"").contains("\"mark\"")).unwrap()
}

fn put(control: &Stream, body: impl Into<bytes::Bytes>) {
    let body = body.into();
    control.send_modify(|all| all.push((Properties::default(), body)));
}

/// Forgeries of a decision: its id is another one, so that it is none that was carried out already.
fn forgeries(genuine: &Value) -> Vec<Value> {
    let text = genuine["decision"].as_str().unwrap();
    let other = text.replacen(&text[7..15], "00000000", 1);
    let bare = json!({ "schema": genuine["schema"], "decision": other });
    let with = |mac: Value| {
        let mut forged = bare.clone();
        forged["mac"] = mac;
        forged
    };
    vec![bare.clone(), with(genuine["mac"].clone()), with(json!("0".repeat(64))), with(json!("")), with(Value::Null)]
}

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
                // It has shown nothing, so that nobody can decide about it there.
                let asked = post(standby.addr, &kind.paths().0, &json!({ "preview": "00", "by": "operations" })).await;
                assert_eq!(asked.problem(404), "unknown-approval");
                return true;
            }
            // One queue of dead letters serves both.
            let there = active.broker.seen().letters;
            standby.broker.with_letters(|letters| *letters = there);
            give(kind, &standby).await;
        }
        Way::ToANewStore => {
            give(kind, &active).await;
            has_read(&active, &[&standby]).await;
            let new = worker(kind, &control).await;
            // It takes no job before it has read all there is.
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
            // Made of a genuine one, which other workers were given.
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

/// A worker that has only just begun: what waits for its first look must not look too early.
async fn obeys_once_read(kind: Kind, new: &Bench, copy: Option<&Publication>, case: &str) {
    match kind {
        // Its first job is taken after the reading, so these need no look before it.
        Kind::PauseSystem | Kind::PauseTenant => {
            new.send(&kind.job());
            new.until(&format!("/v1/jobs/acme/{}", id(1)), |job| job["waiting"]["reason"] == "paused").await;
            assert_eq!(get(new.addr, "/v1/systems").await.json()["systems"][SHOP]["calls"], 0, "{case}");
        }
        Kind::Cancel => {
            new.send(&kind.job());
            new.broker.event(&id(1), "cancelled").await;
        }
        Kind::ResumeSystem | Kind::ResumeTenant => {
            new.send(&kind.job());
            new.broker.event(&id(1), "completed").await;
        }
        _ => obeys(kind, new, copy, true, case).await,
    }
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
async fn pauses_and_resumes_are_known_to_every_worker_however_they_come() {
    all_ways(&Kind::ALL[..4], 28).await;
}

#[tokio::test]
async fn cancellations_releases_and_discards_are_known_to_every_worker_however_they_come() {
    all_ways(&Kind::ALL[4..7], 18).await;
}

#[tokio::test]
async fn what_a_ceiling_holds_is_released_and_discarded_at_every_worker_however_it_comes() {
    all_ways(&Kind::ALL[7..9], 12).await;
}

#[tokio::test]
async fn approvals_are_known_to_every_worker_however_they_come() {
    all_ways(&Kind::ALL[9..], 12).await;
}

/// The broker takes nothing: what prevents an erasure holds here all the same, and the others get it once
/// the broker is back; what lets something go on is refused, and nothing has changed.
#[tokio::test]
async fn without_the_broker_what_prevents_an_erasure_holds_here_and_what_lets_it_go_on_is_refused() {
    for kind in Kind::ALL {
        let control = Stream::new(Vec::new());
        let active = worker(kind, &control).await;
        let standby = worker(kind, &control).await;
        // Before the first message it reads the stream to its end, which needs a broker that takes its mark.
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
            assert_eq!(active.engine.decisions_untold().unwrap(), 1, "{case}");
        }
        assert_eq!(control.borrow().len(), length, "{case}");
        obeys(kind, &active, copy.as_ref(), holds, &case).await;
        active.broker.refuses.lock().unwrap().control = false;
        if holds {
            has_read(&active, &[&active, &standby]).await;
            assert_eq!(active.engine.decisions_untold().unwrap(), 0, "{case}");
            obeys(kind, &standby, copy.as_ref(), true, &case).await;
        }
    }
}

/// The process ends right after the answer, with the broker away: its store has the decision, holds it from
/// the first job on, and tells it as soon as the broker is back.
#[tokio::test]
async fn a_pause_that_no_broker_took_outlives_the_process_and_is_told_by_the_next() {
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

/// More jobs than one message names, some of which only the other worker knows.
#[tokio::test]
async fn a_release_at_a_worker_that_holds_nothing_reaches_what_the_other_one_holds_and_those_after_it() {
    let control = Stream::new(Vec::new());
    let active = worker(Kind::ReleaseGuard, &control).await;
    let standby = worker(Kind::ReleaseGuard, &control).await;
    let most = 600;
    for number in 1..=most {
        active.send(&shop_job(&id(number), "ann"));
    }
    active.until("/v1/guard", |all| all["scopes"][0]["held"] == json!(most)).await;
    let answer = post(standby.addr, "/v1/guard/tenant/acme/release", &json!({})).await;
    assert_eq!(answer.json(), json!({ "released": 0 }), "it knows of none");
    active.until("/v1/guard", |all| all["scopes"][0]["held"] == 0).await;
    has_read(&active, &[&standby]).await;
    // The one that knew of none lets each of them go on, with the copy that says that it is held.
    for number in [1, most] {
        let copy = active.broker.parked(&id(number), 1).await;
        standby.broker.come_back(&copy);
        standby.broker.event(&id(number), "completed").await;
    }
}

/// What was decided while a worker was not there is known before it asks for its first job.
#[tokio::test]
async fn no_job_is_asked_for_before_the_control_stream_was_read_to_its_end() {
    let control = Stream::new(Vec::new());
    let before = worker(Kind::PauseSystem, &control).await;
    give(Kind::PauseSystem, &before).await;
    has_read(&before, &[&before]).await;
    let broker = Post::with_control(&control);
    broker.keeps_control.send_replace(true);
    let length = control.borrow().len();
    let late = bench_with(Setup { broker, ..Setup::default() }).await;
    late.send(&Kind::PauseSystem.job());
    // It has written how far it must read.
    late.broker.published(|publication| publication.to == erasure_worker::broker::Destination::Control).await;
    assert_eq!(control.borrow().len(), length + 1);
    assert_eq!(late.broker.asked.load(std::sync::atomic::Ordering::SeqCst), 0);
    late.broker.keeps_control.send_replace(false);
    late.until(&format!("/v1/jobs/acme/{}", id(1)), |job| job["waiting"]["reason"] == "paused").await;
    assert_eq!(get(late.addr, "/v1/systems").await.json()["systems"][SHOP]["calls"], 0);
}
