//! Outages of each system in each way, for seconds, a minute and a day; and one person whom a system refuses while it
//! works for all others. With a worker's default retries.
//!
//! The rule it keeps: a system's fault is not counted against a person, and one person's fault is not counted against
//! others.
//!
//! `cargo test --test simulation -- outage` runs these alone, `-- outage every` every combination.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use erasure_worker::engine::trouble::ImpairmentKind;
use erasure_worker::sandbox::{Action, FaultRule, Operation, Sandbox};
use erasure_worker::store::MemoryStore;
use erasure_worker::systems::Settings;
use serde_json::Value;
use testkit::connectors::{self, SHOP};
use testkit::forms::{Case, Form};
use tokio::time::Instant;

use crate::director::configuration;
use crate::hub::{Event, Hub};
use crate::life::{Away, Life, Surroundings, Weather};

const PAGE: &str =
    "<!DOCTYPE html>\n<html><head><title>Maintenance</title></head><body><h1>We are back soon</h1></body></html>";
const HTML: &str = "text/html; charset=utf-8";
const JSON: &str = "application/json";

/// Every kind of outage.
const WAYS: [(&str, Away); 27] = [
    ("connection refused", Away::Unreachable("connection refused")),
    ("no name", Away::Unreachable("the name cannot be resolved")),
    ("no trusted certificate", Away::Unreachable("TLS: the certificate is not trusted")),
    ("cut before the work", Away::Cut),
    ("cut after the work", Away::CutAfter),
    ("silence", Away::Silence),
    ("500", Away::Answer(500, JSON, r#"{"error":"internal"}"#, None)),
    ("502 page", Away::Answer(502, HTML, PAGE, None)),
    ("503", Away::Answer(503, "text/plain", "try again", None)),
    ("503 for an hour", Away::Answer(503, HTML, PAGE, Some(("retry-after", "3600")))),
    ("504 page", Away::Answer(504, HTML, PAGE, None)),
    ("429", Away::Answer(429, HTML, PAGE, None)),
    ("429 for ten minutes", Away::Answer(429, HTML, PAGE, Some(("retry-after", "600")))),
    ("302 to a login", Away::Answer(302, HTML, "", Some(("location", "/login?next=Ann.Example")))),
    ("307 elsewhere", Away::Answer(307, HTML, "", Some(("location", "https://away.example.com/Ann.Example")))),
    ("400 page", Away::Answer(400, HTML, PAGE, None)),
    ("401 page", Away::Answer(401, HTML, PAGE, None)),
    ("401", Away::Answer(401, JSON, r#"{"message":"Unauthorized"}"#, None)),
    ("403 page", Away::Answer(403, HTML, PAGE, None)),
    ("405 page", Away::Answer(405, HTML, PAGE, None)),
    ("410 page", Away::Answer(410, HTML, PAGE, None)),
    ("200 page", Away::Answer(200, HTML, PAGE, None)),
    ("200 text", Away::Answer(200, "text/plain", "try again later", None)),
    ("200 empty", Away::Answer(200, JSON, "", None)),
    ("204", Away::Answer(204, JSON, "", None)),
    ("404 page", Away::Answer(404, HTML, PAGE, None)),
    ("404 default backend", Away::Answer(404, "text/plain", "default backend - 404", None)),
];

/// A system with an outage, and the form of a job that needs it.
#[derive(Debug, Clone, Copy)]
struct Meets {
    system: &'static str,
    /// The first path segment of its stand-in.
    stand: &'static str,
    form: Form,
    /// True if a call with a lost answer can be read back. A member's deletion cannot without a program token: then the
    /// outage begins before the job, so that no call was made yet.
    reads_back: bool,
}

const fn meets(system: &'static str, form: Form) -> Meets {
    Meets { system, stand: system, form, reads_back: true }
}

const SYSTEMS: [Meets; 10] = [
    meets("cleeng", Form::CleengBackend),
    meets("cleeng", Form::CleengMediastore),
    meets("loyalty", Form::LoyaltyProgram),
    meets("loyalty", Form::LoyaltyMember),
    meets("easycms", Form::EasyCms),
    meets("vitalsource", Form::VitalSource),
    Meets { stand: SHOP, ..meets("shop", Form::Shop) },
    meets("club", Form::Club),
    meets("crm", Form::Crm),
    Meets { reads_back: false, ..meets("loyalty", Form::LoyaltyMember) },
];

/// The jobs that meet the outage.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Who {
    /// One job, without others to compare it with.
    Alone,
    /// Several jobs at once.
    Many,
    /// One job after this many answered calls.
    After(usize),
}

const LASTS: [Duration; 3] = [Duration::from_secs(12), Duration::from_secs(60), Duration::from_secs(86_400)];
/// Waiting jobs are redelivered within a quarter of an hour; a breaker and a hold are probed each half minute.
const BACK_WITHIN: Duration = Duration::from_secs(40 * 60);

/// Each outage meets a job alone, and one of the others in turn.
const WHO: [Who; 5] = [Who::Alone, Who::Many, Who::After(1), Who::After(2), Who::After(3)];

/// Fails if an outage makes a job fail, or one job's refusal holds a system. With `every` all combinations are tried;
/// otherwise an outage of a day is tried in each way at two systems.
pub fn judge(every: bool) {
    let mut cases = Vec::new();
    for (place, system) in SYSTEMS.into_iter().enumerate() {
        for (number, way) in WAYS.into_iter().enumerate() {
            // Both connector files have one client: each has every second way.
            if !every && system.system == ["shop", "club"][number % 2] {
                continue;
            }
            for lasts in LASTS {
                let is_day = lasts == LASTS[2];
                for (turn, who) in WHO.into_iter().enumerate() {
                    let mine = (place + number) % WHO.len() == turn;
                    let is_chosen = if is_day { mine && (place + number) % 3 == 0 } else { mine || turn == 0 };
                    let can_be = system.reads_back || !matches!(who, Who::After(_));
                    if can_be && (every || is_chosen) {
                        cases.push((system, way, lasts, who));
                    }
                }
            }
        }
    }
    let done: BTreeMap<&str, usize> =
        side_by_side(&cases, |(system, way, lasts, who)| in_virtual_time(outage(*system, *way, *lasts, *who)));
    println!("outage: {} outages, {done:?}", cases.len());
    let mut refusals = Vec::new();
    for meets in SYSTEMS.into_iter().filter(|meets| meets.reads_back) {
        for refusal in refusals_of_one() {
            for others in [0, 24] {
                refusals.push((meets, refusal.clone(), others));
            }
        }
    }
    let done =
        side_by_side(&refusals, |(meets, refusal, others)| in_virtual_time(refusal_of_one(*meets, refusal, *others)));
    println!("outage: {} persons refused alone, {done:?}", refusals.len());
}

/// Judges all cases on as many threads as there are processors, and adds up their counts.
fn side_by_side<T: Sync>(
    cases: &[T],
    judge: impl Fn(&T) -> Result<Vec<(&'static str, usize)>, String> + Sync,
) -> BTreeMap<&'static str, usize> {
    let next = AtomicUsize::new(0);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let play = || {
        let mut all = Vec::new();
        while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
            let result = judge(case);
            if let Err(breach) = &result {
                eprintln!("outage: {breach}");
            }
            all.push(result);
        }
        all
    };
    let all: Vec<_> = std::thread::scope(|scope| {
        let players: Vec<_> = (0..threads).map(|_| scope.spawn(play)).collect();
        players.into_iter().flat_map(|player| player.join().expect("a run panicked")).collect()
    });
    let broken = all.iter().filter(|result| result.is_err()).count();
    assert_eq!(broken, 0, "cases that break a promise, of {}", cases.len());
    let mut sums = BTreeMap::new();
    for (word, count) in all.into_iter().flatten().flatten() {
        *sums.entry(word).or_default() += count;
    }
    sums
}

fn in_virtual_time<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(future)
}

/// A worker with its default settings.
fn surroundings(reads_back: bool) -> Surroundings {
    let mut config = configuration();
    for system in config.systems.values_mut() {
        if let (false, Settings::ZetaLoyalty(loyalty)) = (reads_back, &mut system.settings) {
            loyalty.program_token = None;
        }
    }
    config.worker.concurrency = 64;
    config.worker.in_hand_max = Duration::from_secs(600);
    config.retry.initial_interval = Duration::from_millis(500);
    config.retry.max_interval = Duration::from_secs(900);
    config.retry.max_attempts = 8;
    for system in config.systems.values_mut() {
        system.common.hold_probe_interval = Duration::from_secs(30);
        system.common.verify_interval = Duration::from_secs(30);
        system.common.timeout = Duration::from_secs(30);
        system.common.max_in_flight = 8;
    }
    let sandbox = Sandbox::default();
    connectors::add(&sandbox);
    Surroundings::new(config, Hub::new(7), sandbox)
}

fn publish(around: &Surroundings, form: Form, count: u64) -> Vec<Case> {
    let cases = Case::mixed(&around.sandbox, &[form], 1..count + 1);
    cases.iter().for_each(|case| around.hub.publish_job(&case.body));
    cases
}

/// The outcome of a job's final event.
fn outcome(around: &Surroundings, case: &Case) -> Option<String> {
    let events = around.hub.events();
    let last = events
        .iter()
        .find(|event| event.value["subject"] == case.id.as_str() && event.value["data"]["final"] == true)?;
    let reason = &last.value["data"]["targets"][0]["error"]["reason"];
    let outcome = last.value["data"]["outcome"].as_str()?.to_owned();
    Some(if reason.is_string() { format!("{outcome} ({})", reason.as_str()?) } else { outcome })
}

/// The hours that the job had waited at each `waiting` event.
fn long_waits(around: &Surroundings, case: &Case) -> Vec<f32> {
    let is_word =
        |event: &&Event| event.value["subject"] == case.id.as_str() && event.value["type"] == "erasure.job.waiting.v1";
    let words: BTreeMap<_, _> = around
        .hub
        .events()
        .into_iter()
        .filter(|event| is_word(&event))
        .map(|event| {
            let time = |value: &Value| value.as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
            let (at, since) = (time(&event.value["time"]), time(&event.value["data"]["wait"]["since"]));
            (event.id, at.duration_since(since).as_secs_f32() / 3600.0)
        })
        .collect();
    let mut hours: Vec<f32> = words.into_values().collect();
    hours.sort_by(f32::total_cmp);
    hours
}

async fn outage(
    Meets { system, stand, form, reads_back }: Meets,
    (name, way): (&'static str, Away),
    lasts: Duration,
    who: Who,
) -> Result<Vec<(&'static str, usize)>, String> {
    let around = surroundings(reads_back);
    let weather = Weather::default();
    let breach = |what: String| format!("{form:?} (read back: {reads_back}), {name} for {lasts:?}, {who:?}: {what}");
    if !matches!(who, Who::After(_)) {
        weather.set(Some((stand, way)));
    }
    let life = Life::begin_in(&around, MemoryStore::new(), 7, weather.clone());
    let cases = publish(&around, form, if who == Who::Many { 12 } else { 1 });
    if let Who::After(calls) = who {
        let begun =
            around.sandbox.wait_for(|entries| entries.iter().filter(|entry| entry.status.is_some()).count() >= calls);
        if tokio::time::timeout(Duration::from_secs(60), begun).await.is_err() {
            return Err(breach("the job does not begin".to_owned()));
        }
        weather.set(Some((stand, way)));
    }
    let gate = Arc::clone(&life.engine.gates()[system]);
    let limited = matches!(way, Away::Answer(429, ..));
    tokio::time::sleep(lasts / 2).await;
    // If a job still waits for the system, its trouble is reported by now.
    let is_reported = gate.view().troubles.iter().any(|trouble| trouble.what != ImpairmentKind::StepFailing);
    let waits = cases.iter().any(|case| outcome(&around, case).is_none());
    if lasts > Duration::from_secs(3600) && waits && !is_reported && !limited && around.hub.letters().is_empty() {
        return Err(breach(format!("the trouble is not reported: {:?}", gate.view().troubles)));
    }
    if lasts > Duration::from_secs(3600) {
        for case in cases.iter().filter(|case| outcome(&around, case).is_none()) {
            let words = long_waits(&around, case);
            // Events after a quarter of an hour and after four hours, each an hour late at most.
            if !matches!(words[..], [first, second] if (0.25..1.25).contains(&first) && (4.0..5.0).contains(&second)) {
                return Err(breach(format!("the events of a wait of half a day come after these hours: {words:?}")));
            }
        }
    }
    tokio::time::sleep(lasts - lasts / 2).await;
    weather.set(None);
    let asked = around.hub.events().iter().filter(|event| event.value["data"]["outcome"] == "needs_input").count();
    let ended = Instant::now();
    let all = around.hub.until(|hub| {
        let over = |case: &Case| {
            hub.events()
                .iter()
                .any(|event| event.value["subject"] == case.id.as_str() && event.value["data"]["final"] == true)
        };
        cases.iter().all(over)
    });
    // A system's own `Retry-After` is obeyed.
    let retry_after = if name == "503 for an hour" { Duration::from_secs(3600) } else { Duration::ZERO };
    if tokio::time::timeout(BACK_WITHIN + retry_after, all).await.is_err() {
        return Err(breach(format!(
            "not done {:?} after its end: {:?}, {:?}",
            ended.elapsed(),
            gate.view(),
            around.hub.copies()
        )));
    }
    for case in &cases {
        let words = long_waits(&around, case);
        if lasts < Duration::from_secs(600) && retry_after.is_zero() && !words.is_empty() {
            return Err(breach(format!("a short wait has an event: {words:?}")));
        }
        let outcome = outcome(&around, case).unwrap();
        if outcome != "completed" {
            return Err(breach(format!("a job ends as {outcome}")));
        }
        let remains = case.remains(&around.sandbox);
        if !remains.is_empty() {
            return Err(breach(format!("falsely completed: {remains:?} is left")));
        }
    }
    if asked > 0 {
        return Err(breach(format!("{asked} persons were asked for something")));
    }
    let summary = around.sandbox.summary();
    let repeats = [&summary.ambiguous_repeats, &summary.effective_repeats];
    if let Some(repeat) = repeats.into_iter().flatten().next() {
        return Err(breach(format!("repeated: {repeat:?}")));
    }
    drop(life.kill());
    Ok(vec![("jobs", cases.len()), ("completed", cases.len()), ("failed", 0)])
}

/// The lasting refusals of one person.
fn refusals_of_one() -> Vec<Action> {
    let status = |status: u16| Action::Status { status, body: "no".into(), after_work: false };
    vec![
        status(400),
        status(403),
        status(500),
        status(503),
        Action::CredentialRefused,
        Action::Garbage,
        Action::DropBefore,
    ]
}

async fn refusal_of_one(
    Meets { system, stand, form, .. }: Meets,
    refusal: &Action,
    others: u64,
) -> Result<Vec<(&'static str, usize)>, String> {
    let around = surroundings(true);
    let breach = |what: String| format!("{form:?}, {refusal:?} for one of {}: {what}", others + 1);
    let life = Life::begin(&around, MemoryStore::new(), 7);
    let gate = Arc::clone(&life.engine.gates()[system]);
    let refused = Case::new(&around.sandbox, form, 1000);
    let person = &refused.person;
    let number = person.number.to_string();
    let keys = [&person.customer_id, &person.database_id, &person.email, &person.guid, &number];
    for key in keys.into_iter().chain(&person.codes) {
        let any = FaultRule::on(Operation::Unknown, refusal.clone()).subject(key.clone());
        around.sandbox.add_fault(FaultRule { operation: None, system: Some(stand.to_owned()), ..any });
    }
    around.hub.publish_job(&refused.body);
    let began = Instant::now();
    let good = publish(&around, form, others);
    let all = around.hub.until(|hub| {
        good.iter().all(|case| hub.events().iter().any(|event| event.value["subject"] == case.id.as_str()))
    });
    if tokio::time::timeout(Duration::from_secs(60), all).await.is_err() {
        return Err(breach(format!("the others wait: {:?}", gate.view())));
    }
    let undisturbed = began.elapsed();
    if let Some(bad) = good.iter().find(|case| outcome(&around, case).as_deref() != Some("completed")) {
        return Err(breach(format!("another job ends as {:?}", outcome(&around, bad))));
    }
    // The refused job's budget: eight attempts with their pauses, and the last call.
    let ends = around.hub.until(|hub| {
        !hub.letters().is_empty() || hub.events().iter().any(|event| event.value["data"]["outcome"] == "needs_input")
    });
    let mut is_held = false;
    let watched = async {
        loop {
            tokio::time::sleep(Duration::from_millis(500)).await;
            is_held |= gate.is_held();
        }
    };
    tokio::select! {
        () = watched => {}
        ended = tokio::time::timeout(Duration::from_secs(1200), ends) => {
            if ended.is_err() {
                return Err(breach(format!("the refused job does not end: {:?}", gate.view())));
            }
        }
    }
    if is_held {
        return Err(breach("the system is held".to_owned()));
    }
    let asked = outcome(&around, &refused).is_none();
    drop(life.kill());
    let word = if asked { "asked for another proof" } else { "failed" };
    Ok(vec![(word, 1), ("others", good.len()), ("milliseconds of the others", undisturbed.as_millis() as usize)])
}
