//! Every named point of the work on a job: the process ends there, and the job still ends as it must,
//! whatever the systems did at its calls.
//!
//! The rule it keeps: lost, falsely completed and repeated are counted by what the stand-ins and the
//! broker have seen.
//!
//! Without more each point is tried in every form, and each behaviour at every kind of call. With
//! `ERASURE_CRASH_POINTS=calls` each behaviour is tried at every call of every form, with the points around
//! that call; with `all`, with every point of the whole job.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use erasure_worker::crash::Point;
use erasure_worker::job::StepName;
use erasure_worker::sandbox::{Action, FaultRule, Operation};
use futures_util::StreamExt as _;
use testkit::forms::{Case, Form, bodies};
use testkit::rabbit::Rabbit;
use testkit::rig::Rig;

use crate::crash_plan::{Behaviour, Call, Told, Trial, each_fault_once, every_fault, rounds};
use crate::persons::{to_the_end, was_sent};
use crate::poison::header;

/// How many processes with a broker's names of their own work side by side.
const SIDE_BY_SIDE: usize = 3;
/// How many jobs have names on the broker in common.
const ROUND: usize = 320;
/// How many jobs end with one process.
const TOGETHER: &str = "24";
/// How often places that were not reached are gone to again.
const MORE_ROUNDS: usize = 4;

const FORMS: [Form; 15] = [
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
];

/// What all rounds came to.
#[derive(Default)]
struct Counts {
    jobs: usize,
    deaths: u32,
    /// Where processes ended, by form.
    ended: BTreeSet<(Form, String)>,
    /// What was met by jobs whose process ended.
    met: BTreeSet<(Operation, Behaviour)>,
    missed: Vec<String>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wherever_the_process_ends_and_whatever_a_system_does_the_job_ends_as_it_must() {
    let began = Instant::now();
    let extent = Extent::asked();
    let mut counts = Counts::default();
    let healthy = run(FORMS.map(Trial::left_alone).to_vec(), &mut counts).await;
    let faults = if extent == Extent::Suite { each_fault_once(&healthy) } else { every_fault(&healthy) };
    let faulted = run(faults, &mut counts).await;
    assert_eq!(counts.deaths, 0);
    let everywhere = |told: &Told| told.everywhere(if extent == Extent::Suite { 1 } else { 2 });
    let around = |told: &Told| if extent == Extent::All { everywhere(told) } else { told.around_the_fault() };
    let mut trials: Vec<Trial> = healthy.iter().flat_map(everywhere).chain(faulted.iter().flat_map(around)).collect();
    // And where a form comes only when something went wrong.
    let mut known: BTreeSet<(Form, String)> =
        trials.iter().map(|trial| (trial.form, trial.place.clone().unwrap_or_default())).collect();
    trials.extend(
        faulted
            .iter()
            .flat_map(|told| told.everywhere(1))
            .filter(|trial| known.insert((trial.form, trial.place.clone().unwrap_or_default()))),
    );
    let cases = trials.len();
    eprintln!("{} jobs left alone in {} s; {cases} cases", counts.jobs, began.elapsed().as_secs());
    let mut told = run(trials, &mut counts).await;
    // How often a waiting job is looked at depends on how long things take: the places that were not
    // passed this time are gone to again.
    for _ in 0..MORE_ROUNDS {
        let missed: Vec<Trial> = told.into_iter().filter(|told| !told.has_ended_there).map(|told| told.trial).collect();
        if missed.is_empty() {
            break;
        }
        counts.missed.clear();
        told = run(missed, &mut counts).await;
    }

    eprintln!(
        "{cases} cases, {} jobs, {} deaths of a process, {} places not reached, {} s: lost 0, falsely completed 0, \
         ambiguous calls repeated 0, copies left 0",
        counts.jobs,
        counts.deaths,
        counts.missed.len(),
        began.elapsed().as_secs()
    );
    is_covered(&healthy, &counts);
}

/// What was announced is sent under the number that was announced, also where a send before it came to
/// nothing: the job neither turns in circles nor asks for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_one_time_password_whose_sending_was_refused_is_announced_once_more_and_sent() {
    let rig = Rig::start(Rabbit::shared().url()).await;
    let sandbox = rig.sandbox();
    // The first shows that the token for read-backs is good.
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

/// How much is tried.
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

/// Nothing that the sources name is left out.
fn is_covered(healthy: &[Told], counts: &Counts) {
    let names: BTreeSet<&str> =
        counts.ended.iter().map(|(_, place)| place.split_once('#').map_or(place.as_str(), |(name, _)| name)).collect();
    for point in Point::ALL {
        let is_at = |name: &&str| name.split('.').next() == Some(point.as_str());
        assert!(names.iter().any(is_at), "no process ended at {point:?}");
    }
    for step in StepName::ALL {
        let mut around = vec![Point::AfterCheckpoint, Point::BeforeCall, Point::AfterCall, Point::AfterAnswer];
        // Several are intended at once: the first of them names them all.
        if step.needs_intent() {
            around.extend([Point::BeforeIntent, Point::AfterIntent]);
        }
        for point in around {
            let name = format!("{}.{}", point.as_str(), step.as_str());
            assert!(names.contains(name.as_str()), "no process ended at {name}");
        }
    }
    for told in healthy {
        for name in told.passed.iter().collect::<BTreeSet<_>>() {
            let place = (told.trial.form, format!("{name}#1"));
            assert!(counts.ended.contains(&place), "no process ended at {place:?}");
        }
    }
    // The look-up by e-mail is a read that is made only where the id finds nobody: tried with the other systems.
    let elsewhere = [Operation::Unknown, Operation::ListCustomers];
    for operation in Operation::ALL.into_iter().filter(|operation| !elsewhere.contains(operation)) {
        for behaviour in Behaviour::ALL {
            assert!(counts.met.contains(&(operation, behaviour)), "{operation:?} never met {behaviour:?}");
        }
    }
}

/// Tries all, in rounds.
async fn run(trials: Vec<Trial>, counts: &mut Counts) -> Vec<Told> {
    let mut working =
        futures_util::stream::iter(rounds(trials, ROUND).into_iter().map(round)).buffer_unordered(SIDE_BY_SIDE);
    let mut all = Vec::new();
    while let Some((told, deaths)) = working.next().await {
        counts.jobs += told.len();
        counts.deaths += deaths;
        if Extent::asked() != Extent::Suite {
            eprintln!(
                "{} jobs so far, {} deaths, {} places not reached",
                counts.jobs,
                counts.deaths,
                counts.missed.len()
            );
        }
        for told in told.iter().filter(|told| told.trial.place.is_some()) {
            let place = told.trial.place.clone().unwrap();
            if !told.has_ended_there {
                counts.missed.push(format!("{:?} {place} {:?}", told.trial.form, told.trial.fault));
                continue;
            }
            counts.ended.insert((told.trial.form, place));
            match &told.trial.fault {
                Some((call, behaviour)) => drop(counts.met.insert((call.operation, *behaviour))),
                None => counts.met.extend(told.calls.iter().map(|call| (call.operation, Behaviour::Answered))),
            }
        }
        all.extend(told);
    }
    // Rounds end in any order.
    all.sort_by_key(|told| told.number);
    all
}

/// Tries some with names on the broker and stand-ins of their own. Returns what became of each, and how
/// many processes ended.
async fn round(trials: Vec<(usize, Trial)>) -> (Vec<Told>, u32) {
    let rig = Rig::start(Rabbit::shared().url()).await;
    let sandbox = rig.sandbox();
    // Shows first that the token for read-backs of one-time-password members is good.
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
    let tell = |(place, (number, trial)): (usize, (usize, Trial))| {
        let case = &cases[place + 1];
        let outcome = outcomes[place + 1].clone();
        is_fair(&rig, &trial, case, &outcome);
        Told {
            number,
            trial,
            outcome,
            passed: points.remove(case.id.as_str()).unwrap_or_default(),
            calls: Call::of(case, &calls),
            has_ended_there: ended.contains(places[place].as_str()),
        }
    };
    (trials.into_iter().enumerate().map(tell).collect(), deaths)
}

/// How each job has ended: once, and with a dead letter where it failed.
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

/// The job may end so, by what the stand-ins hold.
fn is_fair(rig: &Rig, trial: &Trial, case: &Case, outcome: &str) {
    let sandbox = rig.sandbox();
    let what = || format!("{trial:?}: {outcome}: {:#?}", rig.events.heard().of(&case.id));
    if outcome == "completed" {
        assert_eq!(case.remains(sandbox), [""; 0], "{}", what());
    }
    // No code was sent, and none is sent a second time, so that nobody can answer.
    let unanswerable = case.form == Form::OneTimePassword && outcome == "cancelled" && !was_sent(sandbox, case);
    let is_known = trial.outcomes.is_empty() || trial.outcomes.contains(outcome);
    let is_refused = matches!(trial.fault, Some((_, Behaviour::Refused))) && outcome == "failed";
    assert!(is_known || is_refused || unanswerable, "{}", what());
}
