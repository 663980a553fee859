//! Two workers, each with its own store, take turns on the same jobs. One store is lost, and one is restored from a
//! copy.
//!
//! The rule it keeps: all events and calls are judged together, whichever worker made them.

use std::collections::BTreeMap;
use std::path::Path;

use erasure_worker::sandbox::{Action, Entry, FaultRule, Operation};
use serde_json::Value;
use testkit::forms::{Case, Form, bodies, ids};
use testkit::rabbit::Rabbit;
use testkit::rig::Rig;

use crate::handover::parks;
use crate::persons::answer_everybody;

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to)
        } else {
            drop(std::fs::copy(entry.path(), to))
        }
    }
}

/// Answers for the persons of these jobs until the jobs have ended.
async fn to_the_end(rig: &Rig, cases: &[Case]) {
    tokio::select! {
        () = answer_everybody(rig, cases) => {}
        _ = rig.events.all_end(ids(cases)) => {}
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_that_take_turns_never_reuse_an_event_id_or_send_a_second_one_time_password() {
    let rig = Rig::start(Rabbit::shared().url()).await;
    let sandbox = rig.sandbox();
    // A worker with an empty store believes an absence only after a read that shows an existing person.
    let known = Case::new(sandbox, Form::Unconfirmed, 50).person;
    let at_codes = Case::new(sandbox, Form::Proof, 52).person;
    let settings = [
        ("ERASURE__SYSTEMS__EASYCMS__PROBE_EMAIL", known.email.as_str()),
        ("ERASURE__SYSTEMS__CLEENG__PROBE_CUSTOMER_ID", known.customer_id.as_str()),
        ("ERASURE__SYSTEMS__LOYALTY__PROBE_MEMBER_ID", known.database_id.as_str()),
        ("ERASURE__SYSTEMS__CODES__PROBE_MEMBER_ID", at_codes.database_id.as_str()),
    ];
    let proof = Case::new(sandbox, Form::Proof, 51);
    let forms = [Form::OneTimePassword, Form::Unconfirmed, Form::ByHand, Form::EasyCms];
    let cases = Case::mixed(sandbox, &forms, 1..9);
    let (early, late) = cases.split_at(forms.len());
    let refused = FaultRule::on(Operation::Unknown, Action::CredentialRefused);
    sandbox.add_fault(FaultRule { operation: None, system: Some("easycms".to_owned()), ..refused });

    let first = rig.worker("first", &settings);
    rig.publish(std::slice::from_ref(&proof.body)).await;
    rig.events.all_end([proof.id.as_str()]).await;
    rig.publish(&bodies(&cases)).await;
    parks(&first, cases.len()).await;
    first.stop().await;
    copy(&rig.state_dir("first"), &rig.state_dir("copy"));

    let second = rig.worker("second", &settings);
    parks(&second, cases.len()).await;
    second.kill().await;
    std::fs::remove_dir_all(rig.state_dir("second")).unwrap();

    sandbox.clear_faults();
    let first = rig.worker("first", &settings);
    to_the_end(&rig, early).await;
    first.kill().await;

    let second = rig.worker("second", &settings);
    parks(&second, 1).await;
    second.kill().await;

    std::fs::remove_dir_all(rig.state_dir("first")).unwrap();
    std::fs::rename(rig.state_dir("copy"), rig.state_dir("first")).unwrap();
    let first = rig.worker("first", &settings);
    to_the_end(&rig, late).await;
    first.stop().await;

    let heard = rig.events.heard();
    let mut contents = BTreeMap::<&str, &Value>::new();
    for event in heard.0.values().flatten() {
        let before = contents.insert(event["id"].as_str().unwrap(), event);
        assert!(before.is_none_or(|before| before == event), "two events with one id: {before:#?}, {event:#?}");
    }
    for case in &cases {
        let finals = heard.finals(&case.id);
        assert!(finals.values().all(|outcome| outcome == "completed"), "{:?}: {:#?}", case.form, heard.of(&case.id));
        assert_eq!(case.remains(sandbox), [""; 0], "{:?}", case.form);
        if case.form == Form::OneTimePassword {
            // The mailbox is deleted with its member, so the ledger's sends are counted.
            let is_sent = |call: &&Entry| {
                let is_theirs = call.subject.as_ref() == Some(&case.person.database_id);
                call.operation == Operation::RequestOtp && call.effect && is_theirs
            };
            assert_eq!(sandbox.entries(0).iter().filter(is_sent).count(), 1, "sent one-time passwords");
        }
    }
    rig.nothing_repeated();
}
