//! Every named point of the engine, in every form of job: the process ends there once, and the job
//! still ends as if nothing had been.

use std::collections::{BTreeMap, BTreeSet};

use erasure_worker::app;
use erasure_worker::sandbox::{Entry, MemberKey, Operation};
use serde_json::Value;

use crate::events::Heard;
use crate::forms::{Case, Form, bodies, ids};
use crate::poison::{header, keep_alive};
use crate::rig::Rig;
use crate::support::rabbit::Rabbit;

/// How often one job comes by a point, at most, for each time to be a case of its own.
const MOST_TIMES: usize = 4;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_waits_for_nobody_ends_the_same_wherever_the_process_ends() {
    every_point(&[Form::CleengBackend, Form::LoyaltyProgram, Form::LoyaltyMember, Form::EasyCms, Form::VitalSource])
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_waits_or_fails_ends_the_same_wherever_the_process_ends() {
    // The proof first: without it a lost answer to a member's own deletion ends as unproven.
    let forms = [
        Form::Proof,
        Form::Unconfirmed,
        Form::OneTimePassword,
        Form::ByHand,
        Form::Import,
        Form::WrongPassword,
        Form::Preview,
    ];
    every_point(&forms).await;
}

async fn every_point(forms: &[Form]) {
    let rig = Rig::start(Rabbit::shared().url()).await;
    let began = std::time::Instant::now();
    let passed = points_of(&rig, forms).await;
    rig.sandbox().clear_ledger();

    let mut cases = Vec::new();
    let mut places = Vec::new();
    for (form, points) in &passed {
        for (point, times) in points {
            for nth in 1..=(*times).min(MOST_TIMES) {
                let case = Case::new(rig.sandbox(), *form, 1000 + cases.len() as u64);
                places.push(format!("{point}@{}#{nth}", case.id));
                cases.push(case);
            }
        }
    }
    rig.publish(&bodies(&cases)).await;
    let log = rig.folder.path().join("ended-at");
    let places = places.join(",");
    let settings = [
        ("ERASURE_CRASH_AT", places.as_str()),
        ("ERASURE_CRASH_LOG", log.to_str().unwrap()),
        // One after the other: each end is that of one job.
        ("ERASURE__WORKER__CONCURRENCY", "1"),
    ];
    let deaths = to_the_end(&rig, &cases, &settings).await;

    let heard = rig.events.heard();
    let letters: BTreeSet<String> =
        rig.dead_letters().await.iter().filter_map(|(letter, _)| header(letter, "x-erasure-job-id")).collect();
    for case in &cases {
        let finals = heard.finals(&case.id);
        let outcomes: Vec<&str> = finals.values().map(String::as_str).collect();
        let place = places.split(',').find(|place| place.contains(&case.id)).unwrap();
        let wanted = match case.form {
            Form::WrongPassword => "failed",
            Form::Preview => "previewed",
            // The process ended between the intent and the call: no code was sent, and none is sent
            // a second time, so that nobody can answer.
            Form::OneTimePassword if !was_sent(&rig, case) => "cancelled",
            _ => "completed",
        };
        assert_eq!(outcomes, [wanted], "{:?} {place}: {:#?}", case.form, heard.of(&case.id));
        assert_eq!(letters.contains(&case.id), case.form == Form::WrongPassword, "{:?} {place}", case.form);
        if wanted == "completed" {
            assert_eq!(case.remains(rig.sandbox()), [""; 0], "{:?} {place}", case.form);
        }
    }
    rig.nothing_repeated();
    rig.is_empty().await;
    let ended = std::fs::read_to_string(&log).unwrap();
    let missed: Vec<&str> = places.split(',').filter(|place| !ended.lines().any(|line| line == *place)).collect();
    let took = began.elapsed().as_secs();
    eprintln!("{} cases, {deaths} deaths, {} places not reached, {took} s", cases.len(), missed.len());
    // How often a waiting job is looked at depends on how long things take; once, every place is passed.
    let first: Vec<&&str> = missed.iter().filter(|place| place.ends_with("#1")).collect();
    assert!(first.is_empty(), "{first:?}");
}

fn was_sent(rig: &Rig, case: &Case) -> bool {
    let is_send = |call: &Entry| call.operation == Operation::RequestOtp;
    let calls = rig.sandbox().entries(0);
    calls.iter().any(|call| is_send(call) && call.subject.as_ref() == Some(&case.person.database_id))
}

fn mailbox(rig: &Rig, case: &Case) -> Option<String> {
    let id = &case.person.database_id;
    rig.sandbox().world(|world| world.loyalty("loyalty@codes").mailbox(id).map(|(code, _)| code.to_owned()))
}

/// The points that a job of each form comes by when nothing goes wrong, and how often.
async fn points_of(rig: &Rig, forms: &[Form]) -> BTreeMap<Form, BTreeMap<String, usize>> {
    let trace = rig.folder.path().join("trace");
    let cases: Vec<Case> =
        forms.iter().enumerate().map(|(number, form)| Case::new(rig.sandbox(), *form, number as u64)).collect();
    rig.publish(&bodies(&cases)).await;
    let deaths = to_the_end(rig, &cases, &[("ERASURE_CRASH_TRACE", trace.to_str().unwrap())]).await;
    assert_eq!(deaths, 0);
    let text = std::fs::read_to_string(trace).unwrap();
    let mut passed: BTreeMap<Form, BTreeMap<String, usize>> = BTreeMap::new();
    for line in text.lines() {
        let (point, message) = line.split_once('@').unwrap();
        if let Some(case) = cases.iter().find(|case| case.id == message) {
            *passed.entry(case.form).or_default().entry(point.to_owned()).or_default() += 1;
        }
    }
    passed
}

/// Runs the worker, as often as it ends, until all jobs have ended; plays all persons meanwhile.
async fn to_the_end(rig: &Rig, cases: &[Case], settings: &[(&str, &str)]) -> u32 {
    let start = || rig.worker("state", settings);
    let imports: Vec<Case> = cases.iter().filter(|case| case.form == Form::Import).cloned().collect();
    let others = async {
        let persons = answer_everybody(rig, cases);
        let ended = async {
            rig.events.all_end(ids(cases).filter(|id| imports.iter().all(|case| case.id != *id))).await;
            let asked = |heard: &Heard| imports.iter().all(|case| !heard.of(&case.id).is_empty());
            rig.events.until("the import to be asked for", asked).await;
        };
        tokio::select! { () = persons => {}, () = ended => {} }
    };
    let (worker, mut deaths) = keep_alive(start, others).await;
    if imports.is_empty() {
        worker.stop().await;
        return deaths;
    }
    worker.kill().await;
    tokio::task::block_in_place(|| import(rig));
    // The whole jobs again, so that they need not wait for their parked copies.
    rig.publish(&bodies(&imports)).await;
    let rest = async {
        rig.events.all_end(ids(cases)).await;
        // Copies that are still parked come back once more, to be thrown away.
        rig.is_empty().await;
    };
    let (worker, more) = keep_alive(start, rest).await;
    deaths += more;
    worker.stop().await;
    deaths
}

/// Hands the deletion file to the platform, and its result back.
fn import(rig: &Rig) {
    let config = rig.config("state");
    let keyring = std::sync::Arc::new(app::keyring(&config).unwrap());
    let ledger = &app::systems(&config, &keyring).unwrap().imports["loyalty"];
    while let Some(batch) = ledger.export(None, jiff::Timestamp::now()).unwrap() {
        let file = String::from_utf8(batch.csv.to_vec()).unwrap();
        let result = rig.sandbox().world(|world| world.loyalty("loyalty").import(&file, 0, 0)).unwrap();
        ledger.settle(result.as_bytes(), jiff::Timestamp::now()).unwrap();
    }
}

/// Gives everybody what they are asked for, once. Never ends by itself.
async fn answer_everybody(rig: &Rig, cases: &[Case]) {
    let mut answered = BTreeSet::new();
    loop {
        let open = |heard: &Heard| {
            let asks = |case: &&Case| !answered.contains(&case.id) && !inputs(heard, case).is_empty();
            cases.iter().filter(asks).map(|case| case.id.clone()).collect::<Vec<_>>()
        };
        let heard = rig.events.followed(|heard| !open(heard).is_empty()).await;
        for case in cases.iter().filter(|case| open(&heard).contains(&case.id)).collect::<Vec<_>>() {
            match inputs(&heard, case).as_str() {
                "confirmation" => rig.publish(&[case.answered(None)]).await,
                "otp" => match mailbox(rig, case) {
                    Some(code) => rig.publish(&[case.answered(Some(&code))]).await,
                    None => rig.cancel(&case.id).await,
                },
                "manual_deletion" => {
                    let id = &case.person.integration_id;
                    let delete = |world: &mut erasure_worker::sandbox::World| {
                        world.loyalty("loyalty").delete_by_hand(MemberKey::IntegrationId, id, 0)
                    };
                    assert!(rig.sandbox().world(delete));
                    rig.publish(std::slice::from_ref(&case.body)).await;
                }
                _ => {}
            }
            answered.insert(case.id.clone());
        }
    }
}

/// What the job's first question asks for; empty where it asked nothing.
fn inputs(heard: &Heard, case: &Case) -> String {
    let asked = heard.of(&case.id).iter().find(|event| event["data"]["outcome"] == "needs_input");
    asked.map_or_else(String::new, |event: &Value| event["data"]["inputs"][0]["kind"].as_str().unwrap().to_owned())
}
