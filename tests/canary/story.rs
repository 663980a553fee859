//! One run with every form of job and every kind of fault, and then the search.

use std::collections::BTreeSet;

use erasure_worker::app;
use erasure_worker::sandbox::FaultPlan;
use lapin::BasicProperties;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use serde_json::json;
use testkit::forms::{Case, Form, bodies, ids};
use testkit::rig::Rig;

use crate::kept::Kept;
use crate::persons::answer_everybody;
use crate::planted::{Planter, Raw};
use crate::search::Search;
use crate::stage::Stage;

/// The points at which processes end, each for another job.
const ENDS: [&str; 9] = [
    "after_parse",
    "panic:after_parse",
    "before_outcome",
    "after_outcome",
    "panic:before_outcome",
    "before_park",
    "after_park_publish",
    "before_dead_letter",
    "before_ack",
];

/// Publishes messages with these ids and headers.
async fn publish_raw(rig: &Rig, messages: &[Raw]) {
    let connection = rig.connect().await;
    let channel = connection.create_channel().await.unwrap();
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    for (id, headers, body) in messages {
        let mut table = FieldTable::default();
        for (name, value) in headers {
            table.insert(ShortString::from(*name), AMQPValue::LongString(value.as_str().into()));
        }
        let properties = BasicProperties::default().with_message_id(ShortString::from(id.as_str())).with_headers(table);
        let (exchange, key) = (ShortString::from(format!("{}.requests", rig.prefix)), ShortString::from("job"));
        let options = BasicPublishOptions::default();
        let sent = channel.basic_publish(exchange, key, options, body.as_bytes(), properties);
        sent.await.unwrap().await.unwrap();
    }
    let _ = connection.close(200, ShortString::from("")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn personal_data_appears_in_no_output_except_the_calls_to_the_systems() {
    let stage = Stage::start().await;
    let rig = &stage.rig;
    let mut kept = Kept::default();
    rig.keep_events("canary").await;

    let mut planter = Planter::new(rig.sandbox());
    let wrong_code = planter.plant("one-time password", "OTP-7301500-WRONG");
    let mut plain = planter.one_of_each();
    let sealing_key = app::keyring(&rig.config("state")).unwrap().sealing_key();
    plain.push(planter.sealed(&sealing_key));
    let shaken = planter.one_of_each();
    let betrayed = [
        planter.betrayed(Form::EasyCms, 400),
        planter.betrayed(Form::CleengBackend, 400),
        planter.betrayed(Form::LoyaltyProgram, 400),
        planter.betrayed(Form::VitalSource, 422),
    ];
    let left = planter.case(Form::Unconfirmed);
    let poison = planter.case(Form::EasyCms);
    let nonsense = planter.nonsense();

    // Everything at once, with systems that misbehave and processes that end.
    let log = rig.folder.path().join("ended-at");
    let ends: Vec<String> = ENDS.iter().zip(&shaken).map(|(place, case)| format!("{place}@{}", case.id)).collect();
    let ends = ends.join(",");
    let settings = [("ERASURE_CRASH_AT", ends.as_str()), ("ERASURE_CRASH_LOG", log.to_str().unwrap())];
    for rule in FaultPlan::misbehave(7301).rules {
        rig.sandbox().add_fault(rule);
    }
    let cases: Vec<Case> = [plain, shaken, betrayed.to_vec()].concat();
    let (imports, others): (Vec<Case>, Vec<Case>) = cases.iter().cloned().partition(|case| case.form == Form::Import);
    publish_raw(rig, &nonsense).await;
    rig.publish(&bodies(&cases)).await;
    rig.publish(std::slice::from_ref(&left.body)).await;
    let done = async {
        let ended = async {
            rig.events.all_end(ids(&others)).await;
            let waits = imports.iter().chain([&left]);
            let all_ask = |heard: &testkit::events::Heard| waits.clone().all(|case| !heard.of(&case.id).is_empty());
            rig.events.until("the requests of the waiting jobs", all_ask).await;
        };
        tokio::select! { () = answer_everybody(rig, &others, &wrong_code) => {}, () = ended => {} }
    };
    let (worker, deaths) = stage.until(&mut kept, &settings, done).await;
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", worker.id())).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(
        core.split_whitespace().skip(4).collect::<Vec<_>>(),
        ["0", "0", "bytes"],
        "a crash may write a core file"
    );
    worker.kill().await;
    kept.add_folder("state directory, at crashes", &rig.state_dir("state"));
    let ended = std::fs::read_to_string(&log).unwrap();
    let reached = ends.split(',').filter(|place| ended.lines().any(|line| line == *place)).count();
    // A crash at one job's place may come after another job's outcome became durable and before that job's own place:
    // the next process then has no reason to pass the place again.
    assert!(ended.contains("panic:") && reached >= 4, "{ended}");

    // A message that crashes every process that reads it.
    let place = format!("after_parse@{}", poison.id);
    let set_aside = async {
        rig.publish(std::slice::from_ref(&poison.body)).await;
        rig.events.until("the poison's rejection", |heard| !heard.of(&poison.id).is_empty()).await;
    };
    let (worker, poisoned) = stage.until(&mut kept, &[("ERASURE_CRASH_AT", &place)], set_aside).await;
    assert_eq!(poisoned, 4);
    worker.stop().await;

    // A healthy worker, and an operator who reads every page.
    let worker = stage.worker(&[]);
    worker.says("\"working\"").await;
    let everybody: Vec<String> = cases.iter().chain([&left, &poison]).map(|case| case.id.clone()).collect();
    stage.ask_everything(&mut kept, &everybody).await;
    stage.import(&mut kept).await;
    rig.publish(&bodies(&imports)).await;
    rig.events.all_end(ids(&imports)).await;
    rig.sandbox().clear_faults();
    let discard = json!({ "job_id": betrayed[0].id, "reason": "erased by hand", "by": "operations" });
    stage.post(&mut kept, "v1/dead-letters/discard", discard).await;
    let before = rig.events.heard().of(&betrayed[1].id).len();
    let again = json!({ "job_id": betrayed[1].id });
    assert_eq!(stage.post(&mut kept, "v1/dead-letters/replay", again).await["replayed"], 1);
    rig.events.until("the replay", |heard| heard.of(&betrayed[1].id).len() > before).await;
    stage.ask_everything(&mut kept, &everybody).await;
    worker.stop().await;

    // The workers' output.
    assert!(stage.collector.spans().len() > cases.len());
    let [events, letters, parked] = stage.keep_all(&mut kept).await;
    let heard = rig.events.heard();
    let outcomes: BTreeSet<String> = cases.iter().flat_map(|case| heard.finals(&case.id).into_values()).collect();
    for outcome in ["completed", "failed", "previewed"] {
        assert!(outcomes.contains(outcome), "no job {outcome}: {outcomes:?}");
    }
    assert!(events > cases.len() && letters >= nonsense.len() && parked > 0, "{events} {letters} {parked}");

    let search = Search::new(planter.texts());
    let (texts, size) = (planter.texts().len(), search.size());
    let found = kept.search(&search);
    let control = rig.folder.path().join("control");
    let hidden: Vec<u8> = search.all_forms().flat_map(|form| [b"\0 ", form].concat()).collect();
    std::fs::write(&control, hidden).unwrap();
    let seen = search.distinct(&std::fs::read(&control).unwrap());
    let sent: Vec<u8> = bodies(&cases).iter().flat_map(|body| body.to_string().into_bytes()).collect();
    let people: usize = search.find(&sent).values().sum();
    eprintln!(
        "{} jobs, {} invalid messages, {deaths} + {poisoned} crashes; {texts} texts in {size} forms\n\
         control file: {seen} of {size} forms found; published jobs: {people} hits",
        cases.len() + 2,
        nonsense.len(),
    );
    assert_eq!(seen, size, "the search missed a form in the control file");
    assert!(people > cases.len());
    assert!(found.is_empty(), "personal data was found:\n{}", found.join("\n"));
}
