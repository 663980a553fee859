//! The kinds of decisions, and their effects at a worker.

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
pub(super) enum Kind {
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
    pub(super) const ALL: [Kind; 11] = [
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

    /// The path of the decision, and of its opposite, if any.
    pub(super) fn paths(self) -> (String, Option<String>) {
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

    pub(super) fn policy(self) -> Policy {
        let ceiling = Ceiling { max_jobs_per_hour: Some(0), spike_factor: None };
        match self {
            Kind::ReleaseGuard | Kind::DiscardGuarded => {
                Policy { ceilings: [(Scope::Tenant("acme".to_owned()), ceiling)].into(), ..Policy::default() }
            }
            _ => Policy::default(),
        }
    }

    pub(super) fn job(self) -> Value {
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
    pub(super) fn needs_opposite(self) -> bool {
        matches!(self, Kind::ResumeSystem | Kind::ResumeTenant)
    }
}

/// The way of a decision to the other workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    AtActive,
    AtStandby,
    ToANewStore,
    AfterItsOpposite,
    InCopies,
    Forged,
    BetweenGarbage,
}

impl Way {
    pub(super) const ALL: [Way; 7] = [
        Way::AtActive,
        Way::AtStandby,
        Way::ToANewStore,
        Way::AfterItsOpposite,
        Way::InCopies,
        Way::Forged,
        Way::BetweenGarbage,
    ];
}

pub(super) async fn worker(kind: Kind, control: &Stream) -> Bench {
    let broker = Post::with_control(control);
    bench_with(Setup { policy: kind.policy(), broker, ..Setup::default() }).await
}

pub(super) const SHOP: usize = 1;

/// Brings the job at its worker to the state before the decision. Returns its parked copy, if any.
pub(super) async fn prepare(kind: Kind, bench: &Bench) -> Option<Publication> {
    let path = format!("/v1/jobs/acme/{}", id(1));
    match kind {
        Kind::PauseSystem | Kind::PauseTenant | Kind::ResumeSystem | Kind::ResumeTenant | Kind::Cancel => return None,
        Kind::ReleaseSystem => {
            bench.send(&kind.job());
            bench.until("/v1/systems", |all| all["systems"][SHOP]["held"] == true).await;
            // A waiting job makes no further call, which would hold the system again.
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

pub(super) async fn body(kind: Kind, bench: &Bench) -> Value {
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

pub(super) async fn give(kind: Kind, bench: &Bench) {
    let answer = post(bench.addr, &kind.paths().0, &body(kind, bench).await).await;
    assert!([200, 202].contains(&answer.status), "{kind:?}: {}", answer.text);
}

/// Waits until the others have read the whole stream, with the messages that this worker forwards.
pub(super) async fn has_read(bench: &Bench, others: &[&Bench]) {
    static ROUND: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    // Twice: forwarded messages after the first mark precede the second.
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

/// The decision's effect at a worker that gets the job now, or, if it does not know the job, its parked copy. `given`
/// is false for a forged decision.
pub(super) async fn obeys(kind: Kind, bench: &Bench, copy: Option<&Publication>, given: bool, case: &str) {
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
            // A forged decision does not end the pause.
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
                let discarded = &job.json()["discarded"];
                let expected = if given { json!("operations") } else { Value::Null };
                assert_eq!(discarded["by"], expected, "{case}: {discarded}");
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
                // A worker that does not know the job first makes its own preview.
                let parked = bench.broker.parked(&id(1), 1).await;
                bench.broker.come_back(&parked);
            }
            bench.broker.event(&id(1), what).await;
        }
    }
}

/// The newest decision in the stream that is no mark.
pub(super) fn newest(control: &Stream) -> Value {
    let all = control.borrow();
    let decisions = all.iter().rev().filter_map(|(_, body)| serde_json::from_slice::<Value>(body).ok());
    decisions.into_iter().find(|one| !one["decision"].as_str().unwrap_or("\"mark\"").contains("\"mark\"")).unwrap()
}

pub(super) fn put(control: &Stream, body: impl Into<bytes::Bytes>) {
    let body = body.into();
    control.send_modify(|all| all.push((Properties::default(), body)));
}

/// Forgeries of a decision. The id differs, so that they are not skipped as repeats.
pub(super) fn forgeries(genuine: &Value) -> Vec<Value> {
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

/// As [`obeys`], at a worker just after its start.
pub(super) async fn obeys_once_read(kind: Kind, new: &Bench, copy: Option<&Publication>, case: &str) {
    match kind {
        // Its first job is taken only after the stream was read.
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
