//! What systems answer with: somebody named in every place of a reply, for every call that the worker makes.

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

/// Jobs of each form: enough for each call to meet every reply.
const JOBS: usize = 27;
/// One-time passwords asked for: that call is made once a job.
const CODES: usize = 20;
/// Calls that no job here leads to.
const NEVER: [Operation; 1] = [Operation::Unknown];
/// What everybody's calls meet at once, so that the system is held or failing.
const EVERYBODYS: [u16; 4] = [302, 401, 503, 200];

/// Every reply that one call is to meet: the status and the body.
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

/// One job of each form, and one about a customer whom Cleeng knows by the e-mail address alone.
fn one_of_each(planter: &mut Planter<'_>) -> Vec<Case> {
    let others = [Form::CleengCore, Form::LoyaltyToken];
    let mut cases: Vec<Case> = FORMS.into_iter().chain(others).map(|form| planter.case(form)).collect();
    let mut stranger = planter.case(Form::CleengBackend);
    stranger.body["targets"][0]["customer_id"] = json!(format!("9{}", stranger.person.customer_id));
    cases.push(stranger);
    cases
}

/// Waits until each of these jobs has ended or asked for something.
async fn all_stop(stage: &Stage, what: &str, cases: &[Case]) -> Heard {
    let stops = |heard: &Heard, case: &Case| {
        heard
            .of(&case.id)
            .iter()
            .any(|event| event["data"]["final"] == true || event["data"]["outcome"] == "needs_input")
    };
    let open = |heard: &Heard| cases.iter().filter(|case| !stops(heard, case)).count();
    let waited = stage.rig.events.followed(|heard| open(heard) == 0);
    let Ok(heard) = tokio::time::timeout(PATIENCE, waited).await else {
        let heard = stage.rig.events.heard();
        let left: Vec<_> = cases.iter().filter(|case| !stops(&heard, case)).map(|case| (case.form, &case.id)).collect();
        panic!("{what}: {} of {} jobs neither end nor ask: {left:?}", left.len(), cases.len());
    };
    heard
}

/// Waits until each system is told to be in trouble.
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
        assert!(since.elapsed() < PATIENCE, "nobody is told of trouble with {working:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_text_of_a_systems_reply_is_written_or_said() {
    let stage = Stage::start().await;
    let mut kept = Kept::default();
    let texts = Texts::planted();
    let relay = Named::start(stage.rig.stand.addr, texts.clone()).await;
    stage.go_by(relay.address());
    let rig = &stage.rig;
    rig.keep_events("canary").await;

    // Each call that is made, met by each reply.
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
            // Every third call goes well, so that no breaker is open for long.
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
    assert!(few.is_empty(), "not met by all {} replies: {few:?}", replies.len());
    let ids: Vec<String> = ids(&all[all.len() - 40..]).map(str::to_owned).collect();
    stage.ask_everything(&mut kept, &ids).await;

    // Everybody's calls, until the trouble is told.
    for status in EVERYBODYS {
        let (_, body) = replies.iter().find(|reply| reply.0 == status).unwrap_or(&replies[2]);
        let action = Action::Status { status, body: body.clone(), after_work: false };
        rig.sandbox().add_fault(FaultRule { operation: None, ..FaultRule::on(Operation::Unknown, action) });
        let cases = one_of_each(&mut planter);
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
    let told = search.look(&sent);
    for (kind, _) in texts.all() {
        assert!(told.contains_key(format!("{kind}, plain").as_str()), "no reply held the {kind}");
    }
    eprintln!(
        "{} jobs; {} replies each of {} calls; {} bytes of replies with {} hits",
        all.len() + EVERYBODYS.len() * (cases.len() - CODES) / JOBS,
        replies.len(),
        met.len(),
        sent.len(),
        told.values().sum::<usize>(),
    );
    let found = kept.search(&search);
    assert!(found.is_empty(), "a system's text came out:\n{}", found.join("\n"));
}
