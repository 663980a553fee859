//! Systems' replies with personal data in every place, to every call that the worker makes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use erasure_worker::sandbox::{Action, FaultRule, Operation};
use serde_json::{Value, json};
use testkit::PATIENCE;
use testkit::events::Heard;
use testkit::forms::{Case, Form, bodies, ids};

use crate::kept::Kept;
use crate::named::{self, BROKEN, CUT, Named, Texts};
use crate::planted::{FORMS, Planter};
use crate::search::Search;
use crate::stage::Stage;

/// Jobs of each form: enough for each call to get every reply.
const JOBS: usize = 27;
/// Jobs with a one-time password: its call is made once a job.
const CODES: usize = 20;
/// Calls that no job here makes.
const NEVER: [Operation; 5] = [
    Operation::Unknown,
    // The kit searches connectors' calls.
    Operation::ConnectorProbe,
    Operation::ConnectorRead,
    Operation::ConnectorAct,
    Operation::ConnectorRepeatableAct,
];
/// The statuses that all calls get at once, so that the systems are held or fail.
const EVERYBODYS: [u16; 4] = [302, 401, 503, 200];

/// Every reply that each call gets: status and body.
fn replies(texts: &Texts) -> Vec<(u16, String)> {
    let bodies = named::bodies(texts);
    let [json, xml, line] = [&bodies[0], &bodies[1], &bodies[2]];
    let mut replies: Vec<(u16, String)> = bodies.iter().map(|body| (200, body.clone())).collect();
    for status in [301, 302, 307, 400, 401, 403, 404, 422, 429, 469, 500, 503] {
        let body = [json, xml, line][usize::from(status) % 3];
        replies.push((status, body.clone()));
    }
    replies.extend([(BROKEN, String::new()), (CUT, json.clone())]);
    replies
}

/// One job of each form, and one whose customer id is unknown to Cleeng, but not the e-mail address.
fn one_of_each(planter: &mut Planter<'_>) -> Vec<Case> {
    let others = [Form::CleengCore, Form::LoyaltyToken];
    let mut cases: Vec<Case> = FORMS.into_iter().chain(others).map(|form| planter.case(form)).collect();
    let mut stranger = planter.case(Form::CleengBackend);
    stranger.body["targets"][0]["customer_id"] = json!(format!("9{}", stranger.person.customer_id));
    cases.push(stranger);
    cases
}

/// Waits until each of these jobs has ended or requested an input.
async fn all_stop(stage: &Stage, what: &str, cases: &[Case]) -> Heard {
    let has_stopped = |heard: &Heard, case: &Case| {
        heard
            .of(&case.id)
            .iter()
            .any(|event| event["data"]["final"] == true || event["data"]["outcome"] == "needs_input")
    };
    let open = |heard: &Heard| cases.iter().filter(|case| !has_stopped(heard, case)).count();
    let waited = stage.rig.events.followed(|heard| open(heard) == 0);
    let Ok(heard) = tokio::time::timeout(PATIENCE, waited).await else {
        let heard = stage.rig.events.heard();
        let left: Vec<_> =
            cases.iter().filter(|case| !has_stopped(&heard, case)).map(|case| (case.form, &case.id)).collect();
        panic!("{what}: {} of {} jobs neither end nor request an input: {left:?}", left.len(), cases.len());
    };
    heard
}

/// Waits until each system is reported as in trouble.
async fn all_are_in_trouble(stage: &Stage) {
    let since = Instant::now();
    loop {
        let answer: Value = reqwest::get(format!("{}/v1/systems", stage.ops)).await.unwrap().json().await.unwrap();
        let systems = answer["systems"].as_array().unwrap();
        let works = |system: &&Value| system["troubles"].as_array().unwrap().is_empty();
        let working: Vec<&Value> = systems.iter().filter(works).map(|system| &system["name"]).collect();
        if working.is_empty() {
            return;
        }
        assert!(since.elapsed() < PATIENCE, "no trouble is reported for {working:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_text_of_a_systems_reply_appears_in_any_output() {
    let stage = Stage::start().await;
    let mut kept = Kept::default();
    let texts = Texts::planted();
    let relay = Named::start(stage.rig.stand.addr, texts.clone()).await;
    stage.call_through(relay.address());
    let rig = &stage.rig;
    rig.keep_events("canary").await;

    // Each kind of call gets each reply.
    let mut planter = Planter::new(rig.sandbox());
    let offered = planter.case(Form::Unconfirmed);
    let list = json!({ "items": [{ "offerId": texts.of("offer"), "status": texts.of("status"),
        "subscriptionId": texts.of("subscription") }] });
    let list = Action::Status { status: 200, body: list.to_string(), after_work: false };
    rig.sandbox().add_fault(FaultRule::on(Operation::ListEntitlements, list).subject(&offered.person.customer_id));
    let replies = replies(&texts);
    for operation in Operation::ALL.into_iter().filter(|operation| !NEVER.contains(operation)) {
        for (number, (status, body)) in replies.iter().enumerate() {
            let action = Action::Status { status: *status, body: body.clone(), after_work: false };
            // Every third call succeeds, so that no breaker is open for long.
            let nth = number + number / 2 + 1;
            rig.sandbox().add_fault(FaultRule::on(operation, action).nth(nth as u64));
        }
    }
    let mut cases: Vec<Case> = (0..JOBS).flat_map(|_| one_of_each(&mut planter)).collect();
    cases.extend((0..CODES).map(|_| planter.case(Form::OneTimePassword)));
    let worker = stage.worker(&[]);
    rig.publish(std::slice::from_ref(&offered.body)).await;
    rig.publish(&bodies(&cases)).await;
    let all: Vec<Case> = cases.iter().chain([&offered]).cloned().collect();
    let heard = all_stop(&stage, "each reply", &all).await;
    let asked = &heard.of(&offered.id)[0]["data"]["inputs"][0]["entitlements"][0];
    assert_eq!((asked["offer_id"].as_str(), asked["status"].as_str()), (Some("unknown"), Some("unknown")));
    let mut met: BTreeMap<Operation, BTreeSet<(Option<u16>, u64)>> = BTreeMap::new();
    for entry in rig.sandbox().entries(0).iter().filter(|entry| entry.fault.is_some()) {
        met.entry(entry.operation).or_default().insert((entry.status, entry.seq));
    }
    let counted = |operation: Operation| met.get(&operation).map_or(0, BTreeSet::len);
    let calls = || Operation::ALL.into_iter().filter(|operation| !NEVER.contains(operation));
    let few: Vec<_> = calls().map(|call| (call, counted(call))).filter(|(_, met)| *met < replies.len()).collect();
    assert!(few.is_empty(), "calls that did not get all {} replies: {few:?}", replies.len());
    let ids: Vec<String> = ids(&all[all.len() - 40..]).map(str::to_owned).collect();
    stage.ask_everything(&mut kept, &ids).await;

    // All calls get the same reply until the trouble is reported.
    for status in EVERYBODYS {
        let (_, body) = replies.iter().find(|reply| reply.0 == status).unwrap_or(&replies[2]);
        let action = Action::Status { status, body: body.clone(), after_work: false };
        rig.sandbox().add_fault(FaultRule { operation: None, ..FaultRule::on(Operation::Unknown, action) });
        let mut cases = one_of_each(&mut planter);
        // Every configured system must get into trouble.
        cases.extend([Form::Shop, Form::Club, Form::Crm].map(|form| planter.case(form)));
        rig.publish(&bodies(&cases)).await;
        all_are_in_trouble(&stage).await;
        stage.ask_everything(&mut kept, &[]).await;
        rig.sandbox().clear_faults();
        all_stop(&stage, &format!("after HTTP {status}"), &cases).await;
    }
    worker.stop().await;

    stage.keep_all(&mut kept).await;
    let search = Search::new(texts.all());
    let sent = relay.sent();
    let hits = search.find(&sent);
    for (kind, _) in texts.all() {
        assert!(hits.contains_key(format!("{kind}, plain").as_str()), "no reply held the {kind}");
    }
    eprintln!(
        "{} jobs; {} replies each of {} calls; {} bytes of replies with {} hits",
        all.len() + EVERYBODYS.len() * (cases.len() - CODES) / JOBS,
        replies.len(),
        met.len(),
        sent.len(),
        hits.values().sum::<usize>(),
    );
    let found = kept.search(&search);
    assert!(found.is_empty(), "a system's text was found:\n{}", found.join("\n"));
}
