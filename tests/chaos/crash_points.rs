//! The process ends at every named point of the work on a job, and the job still ends as promised, with any behaviour
//! of the systems.
//!
//! The rule it keeps: losses, false completions and repeats are counted by the stand-ins and the broker.
//!
//! By default each point is tried in every form, and each behaviour at every kind of call. With
//! `ERASURE_CRASH_POINTS=calls` each behaviour is tried at every call of every form, with the points around that call;
//! with `all`, with every point of the whole job.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use erasure_worker::crash::Point;
use erasure_worker::job::StepName;
use erasure_worker::sandbox::{Action, FaultRule, Operation};
use futures_util::StreamExt as _;
use testkit::connectors::SHOP;
use testkit::forms::{Case, Form, bodies};
use testkit::rabbit::Rabbit;
use testkit::rig::Rig;

use crate::crash_plan::{Behaviour, Call, Kind, Trial, Tried, each_fault_once, every_fault, kind, rounds};
use crate::persons::{to_the_end, was_sent};
use crate::poison::header;

/// The number of rounds side by side, each with its own process and broker names.
const SIDE_BY_SIDE: usize = 3;
/// The number of jobs in a round.
const ROUND: usize = 320;
/// The number of jobs that one crash ends.
const TOGETHER: &str = "24";
/// The number of further rounds for places that were not reached.
const MORE_ROUNDS: usize = 4;

const FORMS: [Form; 18] = [
    Form::CleengBackend,
    Form::CleengCore,
    Form::CleengMediastore,
    Form::LoyaltyProgram,
    Form::LoyaltyMember,
    Form::LoyaltyToken,
    Form::EasyCms,
    Form::VitalSource,
    Form::Proof,
    Form::Unconfirmed,
    Form::OneTimePassword,
    Form::ByHand,
    Form::Import,
    Form::WrongPassword,
    Form::Preview,
    Form::Shop,
    Form::Club,
    Form::Crm,
];

/// The counts of all rounds.
#[derive(Default)]
struct Counts {
    jobs: usize,
    deaths: u32,
    /// The places at which processes ended, by form.
    ended: BTreeSet<(Form, String)>,
    /// The calls and behaviours in trials whose process ended.
    met: BTreeSet<(Kind, Behaviour)>,
    missed: Vec<String>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_crash_at_any_point_and_any_behaviour_of_a_system_the_job_ends_as_promised() {
    let began = Instant::now();
    let extent = Extent::asked();
    let mut counts = Counts::default();
    let healthy = run(FORMS.map(Trial::left_alone).to_vec(), &mut counts).await;
    let faults = if extent == Extent::Suite { each_fault_once(&healthy) } else { every_fault(&healthy) };
    let faulted = run(faults, &mut counts).await;
    assert_eq!(counts.deaths, 0);
    let everywhere = |tried: &Tried| tried.everywhere(if extent == Extent::Suite { 1 } else { 2 });
    let around = |tried: &Tried| if extent == Extent::All { everywhere(tried) } else { tried.around_the_fault() };
    let mut trials: Vec<Trial> = healthy.iter().flat_map(everywhere).chain(faulted.iter().flat_map(around)).collect();
    // And the places that a form passes only after a fault.
    let mut known: BTreeSet<(Form, String)> =
        trials.iter().map(|trial| (trial.form, trial.place.clone().unwrap_or_default())).collect();
    trials.extend(
        faulted
            .iter()
            .flat_map(|tried| tried.everywhere(1))
            .filter(|trial| known.insert((trial.form, trial.place.clone().unwrap_or_default()))),
    );
    let cases = trials.len();
    eprintln!("{} jobs left alone in {} s; {cases} cases", counts.jobs, began.elapsed().as_secs());
    let mut tried = run(trials, &mut counts).await;
    // The number of redeliveries of a waiting job depends on timing: places that were not reached are tried again.
    for _ in 0..MORE_ROUNDS {
        let missed: Vec<Trial> =
            tried.into_iter().filter(|tried| !tried.has_ended_there).map(|tried| tried.trial).collect();
        if missed.is_empty() {
            break;
        }
        counts.missed.clear();
        tried = run(missed, &mut counts).await;
    }

    eprintln!(
        "{cases} cases, {} jobs, {} deaths of a process, {} places not reached, {} s: lost 0, falsely completed 0, \
         ambiguous calls repeated 0, copies left 0",
        counts.jobs,
        counts.deaths,
        counts.missed.len(),
        began.elapsed().as_secs()
    );
    assert_covered(&healthy, &counts);
}

/// A one-time password is sent under its announced number, also after a refused send: the job neither loops nor asks
/// for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_one_time_password_is_announced_again_and_sent() {
    let rig = Rig::start(Rabbit::shared().url()).await;
    let sandbox = rig.sandbox();
    // The first job proves the token for read-backs.
    let cases = [Case::new(sandbox, Form::Proof, 0), Case::new(sandbox, Form::OneTimePassword, 1)];
    let refused = FaultRule::on(Operation::RequestOtp, Action::CredentialRefused);
    sandbox.add_fault(refused.subject(&cases[1].person.database_id).nth(1).times(1));
    rig.publish(&bodies(&cases)).await;
    assert_eq!(to_the_end(&rig, &cases, &[]).await, 0);

    assert_eq!(outcomes(&rig, &cases).await, ["completed", "completed"]);
    assert_eq!(cases[1].remains(sandbox), [""; 0]);
    let sends = sandbox.entries(0).into_iter().filter(|call| call.operation == Operation::RequestOtp);
    assert_eq!(sends.map(|call| call.effect).collect::<Vec<_>>(), [false, true]);
    let log = std::fs::read_to_string(rig.folder.path().join("state.log")).unwrap();
    let is_announced = |line: &&str| line.contains("job parked") && line.contains(r#""why":"renewal""#);
    assert_eq!(log.lines().filter(is_announced).count(), 2, "once before each send");
    rig.nothing_repeated();
}

/// The extent of the trials.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Extent {
    Suite,
    Calls,
    All,
}

impl Extent {
    fn asked() -> Extent {
        match std::env::var("ERASURE_CRASH_POINTS").as_deref() {
            Err(_) => Extent::Suite,
            Ok("calls") => Extent::Calls,
            Ok("all") => Extent::All,
            Ok(other) => panic!("ERASURE_CRASH_POINTS is {other:?}: calls, all, or not set"),
        }
    }
}

/// Every point, step, place and behaviour was tried.
fn assert_covered(healthy: &[Tried], counts: &Counts) {
    let names: BTreeSet<&str> =
        counts.ended.iter().map(|(_, place)| place.split_once('#').map_or(place.as_str(), |(name, _)| name)).collect();
    for point in Point::ALL {
        let is_at = |name: &&str| name.split('.').next() == Some(point.as_str());
        assert!(names.iter().any(is_at), "no process ended at {point:?}");
    }
    for step in StepName::ALL {
        let mut around = vec![Point::AfterCheckpoint, Point::BeforeCall, Point::AfterCall, Point::AfterAnswer];
        // One write may hold several intents; the first one names the point.
        if step.needs_intent() {
            around.extend([Point::BeforeIntent, Point::AfterIntent]);
        }
        for point in around {
            let name = format!("{}.{}", point.as_str(), step.as_str());
            assert!(names.contains(name.as_str()), "no process ended at {name}");
        }
    }
    for tried in healthy {
        for name in tried.passed.iter().collect::<BTreeSet<_>>() {
            let place = (tried.trial.form, format!("{name}#1"));
            assert!(counts.ended.contains(&place), "no process ended at {place:?}");
        }
    }
    // The look-up by e-mail happens only if the id finds nobody; other tests try it. A probe is no job's call.
    let elsewhere = [Operation::Unknown, Operation::ListCustomers, Operation::ConnectorProbe];
    let all = Operation::ALL.into_iter().filter(|operation| !elsewhere.contains(operation));
    let shops = [Operation::CustomerExists, Operation::DeleteAccount].map(|operation| kind(SHOP, operation));
    for call in all.map(|operation| kind("", operation)).chain(shops) {
        for behaviour in Behaviour::ALL {
            assert!(counts.met.contains(&(call, behaviour)), "{call:?} never met {behaviour:?}");
        }
    }
}

/// Runs all trials, in rounds.
async fn run(trials: Vec<Trial>, counts: &mut Counts) -> Vec<Tried> {
    let mut working =
        futures_util::stream::iter(rounds(trials, ROUND).into_iter().map(round)).buffer_unordered(SIDE_BY_SIDE);
    let mut all = Vec::new();
    while let Some((tried, deaths)) = working.next().await {
        counts.jobs += tried.len();
        counts.deaths += deaths;
        if Extent::asked() != Extent::Suite {
            eprintln!(
                "{} jobs so far, {} deaths, {} places not reached",
                counts.jobs,
                counts.deaths,
                counts.missed.len()
            );
        }
        for tried in tried.iter().filter(|tried| tried.trial.place.is_some()) {
            let place = tried.trial.place.clone().unwrap();
            if !tried.has_ended_there {
                counts.missed.push(format!("{:?} {place} {:?}", tried.trial.form, tried.trial.fault));
                continue;
            }
            counts.ended.insert((tried.trial.form, place));
            match &tried.trial.fault {
                Some((call, behaviour)) => drop(counts.met.insert((call.kind(), *behaviour))),
                None => counts.met.extend(tried.calls.iter().map(|call| (call.kind(), Behaviour::Answered))),
            }
        }
        all.extend(tried);
    }
    // Rounds end in any order.
    all.sort_by_key(|tried| tried.number);
    all
}

/// Runs one round with its own broker names and stand-ins. Returns the results, and the number of crashes.
async fn round(trials: Vec<(usize, Trial)>) -> (Vec<Tried>, u32) {
    let rig = Rig::start(Rabbit::shared().url()).await;
    let sandbox = rig.sandbox();
    // The first job proves the token for read-backs of one-time-password members.
    let mut cases = vec![Case::new(sandbox, Form::Proof, 0)];
    let (mut places, mut is_traced) = (Vec::new(), false);
    for (number, (_, trial)) in trials.iter().enumerate() {
        let case = Case::new(sandbox, trial.form, 1000 + number as u64);
        trial.rule(&case).into_iter().for_each(|rule| sandbox.add_fault(rule));
        match trial.place.as_ref().and_then(|place| place.split_once('#')) {
            Some((name, nth)) => places.push(format!("{name}@{}#{nth}", case.id)),
            None => {
                is_traced = true;
                places.push(String::new());
            }
        }
        cases.push(case);
    }
    rig.publish(&bodies(&cases)).await;
    let file = |name: &str| rig.folder.path().join(name).display().to_string();
    let (list, log, trace) = (file("places"), file("ended-at"), file("trace"));
    std::fs::write(&list, places.join("\n")).unwrap();
    let mut settings = vec![
        ("ERASURE_CRASH_LIST", list.as_str()),
        ("ERASURE_CRASH_LOG", log.as_str()),
        ("ERASURE_CRASH_TOGETHER", TOGETHER),
    ];
    if is_traced {
        settings.push(("ERASURE_CRASH_TRACE", trace.as_str()));
    } else {
        settings.push(("ERASURE__WORKER__CONCURRENCY", TOGETHER));
    }
    let deaths = to_the_end(&rig, &cases, &settings).await;
    rig.is_empty().await;
    rig.nothing_repeated();

    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let (ended, passed) = (read(&log), read(&trace));
    let ended: BTreeSet<&str> = ended.lines().collect();
    let mut points: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (point, message) in passed.lines().filter_map(|line| line.split_once('@')) {
        points.entry(message).or_default().push(point.to_owned());
    }
    let outcomes = outcomes(&rig, &cases).await;
    let calls = sandbox.entries(0);
    let judge = |(place, (number, trial)): (usize, (usize, Trial))| {
        let case = &cases[place + 1];
        let outcome = outcomes[place + 1].clone();
        assert_fair(&rig, &trial, case, &outcome);
        Tried {
            number,
            trial,
            outcome,
            passed: points.remove(case.id.as_str()).unwrap_or_default(),
            calls: Call::of(case, &calls),
            has_ended_there: ended.contains(places[place].as_str()),
        }
    };
    (trials.into_iter().enumerate().map(judge).collect(), deaths)
}

/// The outcome of each job: one final event, and a dead letter exactly if it failed.
async fn outcomes(rig: &Rig, cases: &[Case]) -> Vec<String> {
    let heard = rig.events.heard();
    let letters: BTreeSet<String> =
        rig.dead_letters().await.iter().filter_map(|(letter, _)| header(letter, "x-erasure-job-id")).collect();
    let ending = |case: &Case| {
        let finals = heard.finals(&case.id);
        assert_eq!(finals.len(), 1, "{:?}: {:#?}", case.form, heard.of(&case.id));
        let outcome = finals.into_values().next().unwrap();
        assert_eq!(letters.contains(&case.id), outcome == "failed", "{:?}: {:#?}", case.form, heard.of(&case.id));
        outcome
    };
    cases.iter().map(ending).collect()
}

/// The outcome is permitted, and `completed` agrees with the stand-ins.
fn assert_fair(rig: &Rig, trial: &Trial, case: &Case, outcome: &str) {
    let sandbox = rig.sandbox();
    let what = || format!("{trial:?}: {outcome}: {:#?}", rig.events.heard().of(&case.id));
    if outcome == "completed" {
        assert_eq!(case.remains(sandbox), [""; 0], "{}", what());
    }
    // A code that counts as sent but was not: nobody can answer, and the test cancels the job.
    let unanswerable = case.form == Form::OneTimePassword && outcome == "cancelled" && !was_sent(sandbox, case);
    let is_known = trial.outcomes.is_empty() || trial.outcomes.contains(outcome);
    let is_refused = matches!(trial.fault, Some((_, Behaviour::Refused))) && outcome == "failed";
    assert!(is_known || is_refused || unanswerable, "{}", what());
}
