//! Events that are built from runs: their frame, their words, and no personal data.

use std::collections::BTreeSet;

use erasure_worker::job::event::{self, Frame};
use erasure_worker::job::flow::MemberProof;
use erasure_worker::job::state::TargetState;
use erasure_worker::job::wait::Waiting;
use erasure_worker::job::{
    Answer, At, CodeState, Entry, Identity, JobKey, JobOutcome, JobRecord, Reason, Standstill, Step, StepName,
};
use serde_json::{Value, json};

use crate::catalogue;
use crate::executor::Run;
use crate::jobs;
use crate::plan::{Fault, Plan};
use crate::published::{about, asking, confirmed, ended, finished, frame, parsed, record, shop};
use crate::scenario::Scenario;
use crate::world::cleeng::{Cleeng, Ends};
use crate::world::easycms::EasyCms;
use crate::world::vitalsource::VitalSource;
use crate::world::zeta::Zeta;

/// The personal data of the examples.
const PERSONAL: [&str; 15] = [
    "ann@",
    "example.com\"",
    "123456789",
    "INT-42",
    "9DDB",
    "shop-77",
    "ABC123",
    "DEF456",
    "token-1",
    "pass 1",
    "G-1",
    "right",
    "code-1",
    "customer_token",
    "C0",
];

#[test]
fn every_event_has_the_fields_of_cloudevents_and_of_the_contract() {
    let scenario = Scenario::new("an account", shop(), EasyCms::account());
    let event = ended(&finished(&scenario, Plan::none()), &scenario);
    assert_eq!(
        event.as_object().unwrap().keys().map(String::as_str).collect::<Vec<_>>(),
        [
            "specversion",
            "type",
            "source",
            "id",
            "time",
            "subject",
            "datacontenttype",
            "dataschema",
            "traceparent",
            "data"
        ]
    );
    assert_eq!(event["specversion"], "1.0");
    assert_eq!(event["type"], "erasure.job.completed.v1");
    assert_eq!(event["source"], "/erasure-worker/production/default");
    assert_eq!(event["subject"], jobs::JOB_ID);
    assert_eq!(event["time"], "2026-11-22T11:00:00.000Z");
    let data = &event["data"];
    let expected = json!({
        "job_id": jobs::JOB_ID, "tenant": "default", "run": 1, "seq": 1, "final": true, "outcome": "completed",
        "partial": false, "subject_ref": "s-0123", "regulation": null, "requested_at": "2026-11-22T10:00:00.000Z",
        "due_at": null, "finished_at": "2026-11-22T11:00:00.000Z", "inputs": [], "follow_up": [], "receipt": null,
    });
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(&data[name], value, "{name}");
    }
    let target = &data["targets"][0];
    for (name, value) in [
        ("target", json!(0)),
        ("system", json!("easycms")),
        ("kind", json!("easycms")),
        ("outcome", json!("erased")),
        ("identity", json!("checked")),
        ("preserved", json!([])),
        ("refunds", json!([])),
        ("error", Value::Null),
    ] {
        assert_eq!(target[name], value, "{name}");
    }
    let steps: Vec<_> = target["steps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|step| (&step["step"], &step["outcome"], &step["count"]))
        .collect();
    assert_eq!(
        steps,
        [(&json!("delete_account"), &json!("erased"), &json!(1)), (&json!("read_back"), &json!("erased"), &json!(1))]
    );
}

#[test]
fn no_event_contains_personal_data_and_every_outcome_is_a_documented_word() {
    let mut seen = BTreeSet::new();
    let mut count = 0;
    for (scenario, _) in catalogue::all() {
        for (call, fault) in (0..8).flat_map(|call| [Fault::Lost, Fault::Rejected].map(|fault| (call, fault))) {
            let run = finished(&scenario, Plan::none().fault(call, fault));
            let event = ended(&run, &scenario);
            let text = event.to_string();
            for personal in PERSONAL {
                assert!(!text.contains(personal), "{}: {personal} in {text}", scenario.name);
            }
            let data = &event["data"];
            assert_eq!(data["final"], true);
            let target = &data["targets"][0];
            seen.insert(target["outcome"].as_str().unwrap().to_owned());
            let error = &target["error"];
            assert_eq!(
                error.is_null(),
                ["erased", "anonymised", "absent", "previewed"].contains(&target["outcome"].as_str().unwrap())
            );
            if !error.is_null() {
                let reason = Reason::ALL.iter().find(|reason| error["reason"] == reason.as_str()).unwrap();
                assert_eq!((&error["code"], &error["retry"]), (&json!(reason.code()), &json!(reason.retry().as_str())));
                assert!(error["step"].is_string());
            }
            count += 1;
        }
    }
    eprintln!("{count} events");
    assert_eq!(
        seen.into_iter().collect::<Vec<_>>(),
        ["absent", "anonymised", "erased", "failed", "previewed", "refused"]
    );
}

#[test]
fn an_event_says_partial_if_a_job_that_did_not_complete_changed_or_may_have_changed_something() {
    let two = Scenario::new("two entitlements", confirmed(jobs::cleeng()), Cleeng::with(2));
    // Resolve, list, terminate, terminate, list, delete, read back.
    for (call, fault, partial) in [
        (0, Fault::Rejected, false),
        (2, Fault::Rejected, false),
        (3, Fault::Rejected, true),
        (5, Fault::Rejected, true),
    ] {
        let event = ended(&finished(&two, Plan::none().fault(call, fault)), &two);
        assert_eq!(event["data"]["partial"], partial, "{call}");
        assert_eq!(event["data"]["outcome"], "failed");
    }
    let done = ended(&finished(&two, Plan::none()), &two);
    assert_eq!((&done["data"]["partial"], &done["data"]["outcome"]), (&json!(false), &json!("completed")));

    // The member may have been deleted.
    let token =
        json!({ "system": "loyalty", "method": "member_api", "access_token": "good", "current_password": "right" });
    let member = Scenario::new("a lost answer and no read-back", token, Zeta::member());
    let event = ended(&finished(&member, Plan::none().fault(0, Fault::Lost)), &member);
    assert_eq!(event["data"]["targets"][0]["error"]["reason"], "unproven");
    assert_eq!(event["data"]["partial"], true);

    // The code was cancelled before: we changed nothing.
    let mut world = VitalSource::with(1);
    world.codes[0].state = CodeState::Cancelled;
    world.unknown_licence = true;
    let cancelled = Scenario::new("a code cancelled before", catalogue::reader(1), world);
    let event = ended(&finished(&cancelled, Plan::none()), &cancelled);
    assert_eq!(event["data"]["targets"][0]["error"]["reason"], "unknown_content");
    assert_eq!(event["data"]["partial"], false);
}

#[test]
fn two_events_have_the_same_id_only_if_their_bytes_are_equal() {
    let key = |tenant: &str| JobKey { tenant: tenant.to_owned(), job_id: jobs::JOB_ID.parse().unwrap() };
    let later = Frame { now: At(frame().now.0 + 1), ..frame() };
    let elsewhere = Frame { environment: "staging", ..frame() };
    let events = [
        event::cancel_refused(&frame(), &key("a"), 1, 1),
        event::cancel_refused(&frame(), &key("b"), 1, 1),
        event::cancel_refused(&frame(), &key("a"), 2, 1),
        event::cancel_refused(&frame(), &key("a"), 1, 2),
        event::cancel_refused(&frame(), &key("a"), 1, 11),
        event::cancel_refused(&frame(), &key("a"), 11, 1),
        // Two stores that both reached this number.
        event::cancel_refused(&later, &key("a"), 1, 1),
        event::cancel_refused(&elsewhere, &key("a"), 1, 1),
    ];
    assert_eq!(events.iter().map(|event| &event.id).collect::<BTreeSet<_>>().len(), events.len());
    assert_eq!(event::cancel_refused(&frame(), &key("a"), 1, 1), events[0]);
    for event in &events {
        assert_eq!(parsed(event)["id"], event.id.as_str());
        assert_eq!(uuid::Uuid::try_parse(&event.id).unwrap().get_version_num(), 5);
    }
    // The same on every worker of every release.
    assert_eq!(events[0].id, "9a5e73dc-ce8f-59f6-99b2-3b6534f01ab3");
    assert_eq!(event::routing_key("completed", "acme"), "job.completed.acme");
}

#[test]
fn each_receipt_gives_an_event_a_different_id() {
    let key = JobKey { tenant: "acme".to_owned(), job_id: jobs::JOB_ID.parse().unwrap() };
    let bare = event::rejected(&frame(), &key, Reason::Invalid, "a field is unknown", "aa", true).event;
    let [one, other] = ["e.y.A", "e.y.B"].map(|receipt| event::with_receipt(&bare, receipt).unwrap());
    assert_eq!(BTreeSet::from([&bare.id, &one.id, &other.id]).len(), 3);
    assert_eq!(event::with_receipt(&bare, "e.y.A").unwrap(), one);
    let event = parsed(&one);
    assert_eq!((&event["id"], &event["data"]["receipt"]), (&json!(one.id), &json!("e.y.A")));
}

#[test]
fn a_refund_is_expected_below_a_fifth_read_and_within_fourteen_days() {
    let day = |days: i64, seconds: i64| {
        let time = jiff::Timestamp::from_millisecond(1_795_341_600_000 - days * 86_400_000 - seconds * 1000).unwrap();
        json!(time.to_string())
    };
    let cases = [
        (json!({ "redeemed_at": day(1, 0), "percent_read": 19.99 }), json!(true)),
        (json!({ "redeemed_at": day(1, 0), "percent_read": 20 }), json!(false)),
        (json!({ "redeemed_at": day(13, 86_000), "percent_read": 0 }), json!(true)),
        (json!({ "redeemed_at": day(14, 1), "percent_read": 0 }), json!(false)),
        (json!({ "redeemed_at": day(40, 0) }), json!(false)),
        (json!({ "percent_read": 50 }), json!(false)),
        (json!({ "redeemed_at": day(1, 0) }), json!("unknown")),
        (json!({ "percent_read": 3 }), json!("unknown")),
        (json!({}), json!("unknown")),
    ];
    let codes: Vec<_> = cases
        .iter()
        .enumerate()
        .map(|(n, (code, _))| jobs::with(code, "/code", Some(format!("C{n}").into())))
        .collect();
    let target = confirmed(json!({ "system": "vitalsource", "guid": "G-1", "codes": codes }));
    let scenario = Scenario::new("codes of every age", target, VitalSource::with(cases.len()));
    let event = ended(&finished(&scenario, Plan::none()), &scenario);
    let refunds = event["data"]["targets"][0]["refunds"].as_array().unwrap();
    for (index, (_, expected)) in cases.iter().enumerate() {
        assert_eq!(refunds[index], json!({ "code": index, "refund_expected": expected }), "{index}");
    }
}

#[test]
fn only_an_overwritten_user_gives_a_follow_up_and_only_an_erasure_names_preserved_data() {
    let user = Scenario::new("a user", catalogue::reader(1), VitalSource::with(1));
    let event = ended(&finished(&user, Plan::none()), &user);
    assert_eq!(event["data"]["follow_up"], json!([{ "target": 0, "action": "abandon_account" }]));
    let failed = ended(&finished(&user, Plan::none().fault(0, Fault::Rejected)), &user);
    assert_eq!(failed["data"]["follow_up"], json!([]));

    let member = Scenario::new("a member", jobs::program(), Zeta::member())
        .rules(|rules| rules.preserved = vec!["offer_responses".into()]);
    let event = ended(&finished(&member, Plan::none()), &member);
    assert_eq!(event["data"]["targets"][0]["preserved"], json!(["offer_responses"]));
    assert_eq!(event["data"]["follow_up"], json!([]));
    let failed = ended(&finished(&member, Plan::none().fault(0, Fault::Rejected)), &member);
    assert_eq!(failed["data"]["targets"][0]["preserved"], json!([]));
}

#[test]
fn identity_is_reported_as_checked_only_if_a_read_compared_it() {
    let identity = |scenario: Scenario| {
        ended(&finished(&scenario, Plan::none()), &scenario)["data"]["targets"][0]["identity"].clone()
    };
    let customer = |email| {
        Scenario::new("a customer", confirmed(jobs::cleeng()), Cleeng::with(0).but(|world| world.email = email))
    };
    assert_eq!(identity(customer(Identity::Same)), "checked");
    assert_eq!(identity(customer(Identity::Unreadable)), "unchecked");
    assert_eq!(identity(customer(Identity::Other)), "unchecked");
    let token =
        json!({ "system": "loyalty", "method": "member_api", "access_token": "good", "current_password": "right" });
    assert_eq!(identity(Scenario::new("a token alone", token, Zeta::member())), "unchecked");
    let mut world = VitalSource::with(2);
    world.codes[1].owner = Identity::Unreadable;
    assert_eq!(identity(Scenario::new("a code without a readable owner", catalogue::reader(2), world)), "unchecked");
    assert_eq!(identity(Scenario::new("a user", catalogue::reader(2), VitalSource::with(2))), "checked");
}

#[test]
fn a_needs_input_event_names_the_kind_the_expiry_and_the_entitlements_that_will_be_lost() {
    let customer = Scenario::new("a customer", jobs::cleeng(), Cleeng::with(2));
    let (_, event) = asking(&customer);
    assert_eq!((&event["type"], &event["data"]["final"]), (&json!("erasure.job.needs_input.v1"), &json!(false)));
    assert_eq!((&event["data"]["outcome"], &event["data"]["finished_at"]), (&json!("needs_input"), &Value::Null));
    assert_eq!(event["data"]["targets"][0]["outcome"], "needs_input");
    let row = |offer| json!({ "offer_id": offer, "status": "active", "externally_managed": false });
    assert_eq!(
        event["data"]["inputs"],
        json!([{ "target": 0, "kind": "confirmation", "expires_at": null, "entitlements": [row("S0_offer"), row("S1_offer")] }])
    );

    let otp = json!({ "system": "loyalty", "method": "member_api", "access_token": "good" });
    let member = Scenario::new("a member", otp, Zeta::member()).rules(|rules| rules.member_proof = MemberProof::Otp);
    let (_, event) = asking(&member);
    assert_eq!(event["data"]["partial"], false);
    assert_eq!(
        event["data"]["inputs"],
        json!([{ "target": 0, "kind": "otp", "expires_at": "2026-11-22T11:05:00.000Z", "entitlements": [] }])
    );
}

#[test]
fn a_refusal_for_an_entitlement_names_the_offers_that_still_give_access() {
    let mut world = Cleeng::with(2);
    world.rows[1].ends = Ends::Refused;
    let scenario = Scenario::new("an app store's subscription", confirmed(jobs::cleeng()), world);
    let event = ended(&finished(&scenario, Plan::none()), &scenario);
    let error = &event["data"]["targets"][0]["error"];
    assert_eq!(error["reason"], "externally_managed");
    assert_eq!(
        error["entitlements"],
        json!([{ "offer_id": "S1_offer", "status": "active", "externally_managed": true }])
    );
    let other = ended(&finished(&scenario, Plan::none().fault(0, Fault::Rejected)), &scenario);
    assert!(other["data"]["targets"][0]["error"].get("entitlements").is_none());
}

#[test]
fn a_preview_counts_its_findings_and_leaves_unread_facts_empty() {
    let preview = |scenario: Scenario| {
        let scenario = scenario.preview();
        let event = ended(&finished(&scenario, Plan::none()), &scenario);
        assert_eq!((&event["type"], &event["data"]["partial"]), (&json!("erasure.job.previewed.v1"), &json!(false)));
        event["data"]["targets"][0].clone()
    };
    let customer = preview(Scenario::new("a customer", jobs::cleeng(), Cleeng::with(2)));
    assert_eq!(
        (&customer["preview"]["found"], &customer["preview"]["entitlements_with_access"]),
        (&json!(true), &json!(2))
    );
    assert_eq!(customer["preview"]["entitlements"][1]["offer_id"], "S1_offer");
    let mut world = VitalSource::with(3);
    world.codes[0].state = CodeState::Cancelled;
    let user = preview(Scenario::new("a user", catalogue::reader(3), world));
    assert_eq!((&user["preview"]["codes"], &user["preview"]["codes_active"]), (&json!(3), &json!(2)));
    assert_eq!(user["refunds"].as_array().unwrap().len(), 3);
    let nobody = preview(Scenario::new("no account", shop(), EasyCms::account().but(|world| world.exists = false)));
    assert_eq!(nobody["preview"]["found"], false);
    let token = json!({ "system": "loyalty", "method": "member_api", "access_token": "good" });
    assert_eq!(preview(Scenario::new("a token", token, Zeta::member()))["preview"]["found"], Value::Null);
}

#[test]
fn a_rejection_names_its_cause_and_is_final_unless_a_job_with_that_id_was_accepted() {
    let key = JobKey { tenant: "acme".to_owned(), job_id: jobs::JOB_ID.parse().unwrap() };
    let refusal =
        jobs::parse(&jobs::with(&jobs::one(jobs::easycms()), "/targets/0/email", Some("ann".into()))).unwrap_err();
    let rejected = |reason, digest: &str, is_final| {
        parsed(&event::rejected(&frame(), &key, reason, &refusal.invalid.to_string(), digest, is_final).event)
    };
    let invalid = rejected(Reason::Invalid, "aa", true);
    assert_eq!((&invalid["type"], &invalid["subject"]), (&json!("erasure.job.rejected.v1"), &json!(jobs::JOB_ID)));
    assert_eq!((&invalid["data"]["final"], &invalid["data"]["body_sha256"]), (&json!(true), &json!("aa")));
    assert_eq!((&invalid["data"]["outcome"], &invalid["data"]["partial"]), (&json!("rejected"), &json!(false)));
    assert_eq!(
        invalid["data"]["error"],
        json!({
            "code": "ERS-0020", "reason": "invalid", "detail": "targets[0].email: expected exactly one e-mail address, such as ann@example.com",
            "step": null, "retry": "new_input",
        })
    );
    assert_eq!(rejected(Reason::Invalid, "aa", true)["id"], invalid["id"]);
    assert_ne!(rejected(Reason::Invalid, "bb", true)["id"], invalid["id"]);
    assert_eq!(rejected(Reason::Conflict, "aa", false)["data"]["final"], false);
    assert_eq!(rejected(Reason::WrongEnvironment, "aa", true)["data"]["error"]["code"], "ERS-0021");
}

#[test]
fn a_refused_cancellation_is_reported_without_ending_the_job() {
    let key = JobKey { tenant: "acme".to_owned(), job_id: jobs::JOB_ID.parse().unwrap() };
    let event = event::cancel_refused(&frame(), &key, 2, 5);
    assert_eq!(event.what, "cancel_refused");
    let event = parsed(&event::cancel_refused(&frame(), &key, 2, 5));
    assert_eq!(
        (&event["data"]["final"], &event["data"]["run"], &event["data"]["seq"]),
        (&json!(false), &json!(2), &json!(5))
    );
    assert_eq!(event["data"]["error"]["reason"], "cancel_refused");
}

#[test]
fn codes_of_reasons_are_unique_and_every_reason_has_a_sentence() {
    let codes: BTreeSet<_> = Reason::ALL.iter().map(|reason| reason.code()).collect();
    let words: BTreeSet<_> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
    assert_eq!((codes.len(), words.len()), (Reason::ALL.len(), Reason::ALL.len()));
    assert!(codes.iter().all(|code| code.len() == 8 && code.starts_with("ERS-")));
    assert!(Reason::ALL.iter().all(|reason| reason.sentence().ends_with('.')));
}

#[test]
fn an_event_without_a_trace_has_no_traceparent() {
    let scenario = Scenario::new("an account", shop(), EasyCms::account());
    let run = finished(&scenario, Plan::none());
    let plain = Frame { traceparent: None, ..frame() };
    let event = about(&run, &scenario, |about| about.ended(&plain, JobOutcome::Completed));
    assert!(parsed(&event.event).get("traceparent").is_none());
}

#[test]
fn a_list_at_cleeng_never_proves_that_another_worker_ended_nothing() {
    let answered = |steps: &[(StepName, Answer)]| {
        let mut target = TargetState::default();
        for (name, answer) in steps {
            let (step, answer) = (Step::one(*name), Some(answer.clone()));
            target.apply(&Entry::Answered { target: 0, step, answer, at: At(1) }, 1);
        }
        target.may_be_changed()
    };
    let found = (StepName::Resolve, Answer::Found(Identity::Same));
    assert!(answered(&[]));
    assert!(!answered(std::slice::from_ref(&found)));
    // A list leaves out a terminated entitlement, or shows it like an expired one.
    assert!(answered(&[found, (StepName::ListEntitlements, Answer::Entitlements(Vec::new()))]));
}

/// A member whose deletion was accepted, and who is still visible: parked for the next read-back.
fn parked_for_a_read_back() -> (JobRecord, TargetState) {
    let mut state = TargetState::default();
    let (step, at) = (Step::one(StepName::DeleteMember), At(1_795_341_600_000));
    state.apply(&Entry::Intent { target: 0, step, at }, 1);
    state.apply(&Entry::Answered { target: 0, step, answer: Some(Answer::Done), at }, 2);
    let scenario = Scenario::new("a member", jobs::program(), Zeta::member());
    let record = JobRecord {
        waiting: Some((Waiting::Pending, At(1_795_346_100_000))),
        stands: Standstill { run: 1, turn: 2, score: 1, since: at, reported: 1 },
        waits_at: Some(0),
        ..record(&Run::new(&scenario, Plan::none()), (1, 3))
    };
    (record, state)
}

#[test]
fn the_bytes_of_a_long_wait_event_are_pinned() {
    let (record, state) = parked_for_a_read_back();
    let limits = Scenario::new("a member", jobs::program(), Zeta::member()).limits;
    let key = JobKey { tenant: "acme".to_owned(), job_id: jobs::JOB_ID.parse().unwrap() };
    let wait = event::Wait::of(&record, std::slice::from_ref(&state), &limits).unwrap();
    let event = event::waiting(&frame(), &key, &record, &[state], &wait);
    assert_eq!(std::str::from_utf8(&event.body).unwrap(), GOLDEN);
    assert_eq!(event::routing_key(&event.what, &key.tenant), "job.waiting.acme");
}

const GOLDEN: &str = concat!(
    r#"{"specversion":"1.0""#,
    r#","type":"erasure.job.waiting.v1","source":"/erasure-worker/production/acme""#,
    r#","id":"bd5eb3a8-ce15-51c0-9e42-c50f5db290e3","time":"2026-11-22T11:00:00.000Z""#,
    r#","subject":"6c0b7b0e-6a4e-4a53-9a2e-0d8c6a0a7f11","datacontenttype":"application/json""#,
    r#","dataschema":"https://erasure-worker.example.com/schema/event/v1""#,
    r#","traceparent":"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01""#,
    r#","data":{"job_id":"6c0b7b0e-6a4e-4a53-9a2e-0d8c6a0a7f11","tenant":"acme","run":1,"seq":3"#,
    r#","final":false,"outcome":"waiting""#,
    r#","wait":{"since":"2026-11-22T10:00:00.000Z","next_at":"2026-11-22T11:15:00.000Z","then":"read_back""#,
    r#","gives_up_at":"2026-11-22T12:00:00.000Z","gives_up_as":"not_gone","target":0,"system":"loyalty","step":"delete_member"}"#,
    r#","partial":true,"subject_ref":"s-0123","regulation":null"#,
    r#","requested_at":"2026-11-22T10:00:00.000Z","due_at":null,"finished_at":null"#,
    r#","waiting":"pending","targets":[],"inputs":[],"follow_up":[],"receipt":null}}"#,
);
