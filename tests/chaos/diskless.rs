//! Workers without a disk: the store is in PostgreSQL, and every process begins with an empty folder.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use base64::Engine as _;
use erasure_worker::sandbox::{Action, Code, Entry, FaultRule, Operation};
use serde_json::{Value, json};
use testkit::forms::{Case, Form, bodies, ids};
use testkit::postgres::Postgres;
use testkit::rabbit::Rabbit;
use testkit::rig::Rig;
use testkit::soon;

use crate::persons::mailbox;

/// The lease of a dead process.
const LEASE: Duration = Duration::from_secs(60);

fn in_database(rig: &mut Rig, database: &Postgres) {
    rig.set("store.kind", "postgres");
    rig.set("store.postgres.url", &database.url("postgres", "postgres"));
    rig.set("store.postgres.schema", &format!("store_{}", database.port()));
}

fn count(entries: &[Entry], operation: Operation) -> usize {
    entries.iter().filter(|entry| entry.operation == operation).count()
}

/// The claims of all receipts.
fn receipts<'a>(events: impl Iterator<Item = &'a Value>) -> Vec<Value> {
    let receipts = events.filter_map(|event| event["data"]["receipt"].as_str());
    let claims = receipts.map(|receipt| receipt.split('.').nth(1).unwrap());
    let claims = claims.map(|text| base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(text).unwrap());
    claims.map(|text| serde_json::from_slice(&text).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_worker_goes_on_from_the_journal_of_a_killed_one_whose_folder_is_gone() {
    let database = Postgres::with(&["fsync=on"]);
    let mut rig = Rig::start(Rabbit::shared().url()).await;
    in_database(&mut rig, &database);
    let sandbox = rig.sandbox();
    let mut many = Case::new(sandbox, Form::VitalSource, 1);
    let codes: Vec<String> = (0..48).map(|number| format!("MORE{number}")).collect();
    sandbox.world(|world| {
        for code in &codes {
            let owner = Some(many.person.guid.clone());
            world.vitalsource("vitalsource").add_code(Code { code: code.clone(), owner, ..Code::default() });
        }
    });
    let given = many.body["targets"][0]["codes"].as_array_mut().unwrap();
    given.extend(codes.iter().map(|code| json!({ "code": code })));
    let shop = Case::new(sandbox, Form::EasyCms, 2);
    let code = Case::new(sandbox, Form::OneTimePassword, 3);
    let ended = Case::new(sandbox, Form::CleengBackend, 4);
    // On the wire when the worker is killed.
    sandbox.add_fault(FaultRule::on(Operation::DeleteAccount, Action::Delay { ms: 1_500, after_work: true }));
    sandbox.add_fault(FaultRule::on(Operation::RevokeCode, Action::Delay { ms: 40, after_work: true }));

    let first = rig.worker("first", &[]);
    first.says("working").await;
    rig.publish(&[ended.body.clone(), code.body.clone()]).await;
    rig.events.all_end([ended.id.as_str()]).await;
    rig.events.until("the question for the code", |heard| !heard.of(&code.id).is_empty()).await;
    rig.publish(&[many.body.clone(), shop.body.clone()]).await;
    let are_begun =
        |calls: &[Entry]| count(calls, Operation::RevokeCode) >= 20 && count(calls, Operation::DeleteAccount) == 1;
    soon("twenty revokes and a deletion", sandbox.wait_for(are_begun)).await;
    first.kill().await;
    let killed = Instant::now();
    std::fs::remove_dir_all(rig.state_dir("first")).unwrap_or_default();

    let second = rig.worker("second", &[]);
    second.says("leased to another process").await;
    second.says("working").await;
    let waited = killed.elapsed();
    println!("the lease ended after {:.1} s", waited.as_secs_f64());
    assert!(waited < LEASE + Duration::from_secs(30), "{waited:?}");
    rig.publish(std::slice::from_ref(&code.answered(mailbox(rig.sandbox(), &code).as_deref()))).await;
    let cases = [many.clone(), shop.clone(), code.clone(), ended.clone()];
    let heard = rig.events.all_end(ids(&cases)).await;
    second.stop().await;

    for case in &cases {
        assert_eq!(heard.finals(&case.id).values().collect::<Vec<_>>(), ["completed"], "{:?}", case.form);
        assert_eq!(case.remains(sandbox), [""; 0], "{:?}", case.form);
    }
    let calls = sandbox.entries(0);
    assert_eq!(count(&calls, Operation::DeleteAccount), 1, "the lost answer was read back");
    assert_eq!(count(&calls, Operation::RequestOtp), 1, "a second one-time password was sent");
    assert_eq!(calls.iter().filter(|call| call.operation == Operation::RevokeCode && call.effect).count(), 50);
    assert!(count(&calls, Operation::RevokeCode) <= 51, "recorded answers were not used");
    rig.nothing_repeated();
    let receipts = receipts(cases.iter().flat_map(|case| heard.of(&case.id)));
    let numbers: BTreeSet<u64> = receipts.iter().map(|claims| claims["number"].as_u64().unwrap()).collect();
    let chains: BTreeSet<&str> = receipts.iter().map(|claims| claims["chain"].as_str().unwrap()).collect();
    assert_eq!((numbers, chains.len()), ((1..=4).collect(), 1), "the chain of receipts is broken");
    rig.is_empty().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_rides_out_restarts_of_its_database_and_repeats_nothing() {
    let database = Postgres::with(&["fsync=on"]);
    let mut rig = Rig::start(Rabbit::shared().url()).await;
    in_database(&mut rig, &database);
    let sandbox = rig.sandbox();
    let slow = FaultRule::on(Operation::Unknown, Action::Delay { ms: 30, after_work: true });
    sandbox.add_fault(FaultRule { operation: None, ..slow });
    let worker = rig.worker("state", &[]);
    worker.says("working").await;
    let cases = Case::mixed(sandbox, &Form::PLAIN, 1..81);
    rig.publish(&bodies(&cases)).await;
    for enough in [60, 160, 260] {
        soon("more calls", sandbox.wait_for(|calls| calls.len() >= enough)).await;
        tokio::task::block_in_place(|| database.crash());
        worker.says("the store's database is away").await;
        tokio::time::sleep(Duration::from_millis(700)).await;
        tokio::task::block_in_place(|| database.boot(&["fsync=on"]));
    }
    let heard = rig.events.all_end(ids(&cases)).await;
    let log = worker.log();
    worker.stop().await;
    for case in &cases {
        assert_eq!(heard.finals(&case.id).values().collect::<Vec<_>>(), ["completed"], "{:?}", case.form);
        assert_eq!(case.remains(sandbox), [""; 0], "{:?}", case.form);
    }
    rig.nothing_repeated();
    rig.is_empty().await;
    assert!(log.contains("the store's database is back"), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_stops_although_its_database_is_away_and_the_next_one_goes_on() {
    let database = Postgres::with(&["fsync=on"]);
    let mut rig = Rig::start(Rabbit::shared().url()).await;
    in_database(&mut rig, &database);
    rig.set("worker.drain_timeout", "3s");
    let sandbox = rig.sandbox();
    sandbox.add_fault(FaultRule::on(Operation::DeleteAccount, Action::Delay { ms: 1_000, after_work: true }));
    let mut worker = rig.worker("first", &[]);
    worker.says("working").await;
    let cases = Case::mixed(sandbox, &[Form::EasyCms], 1..5);
    rig.publish(&bodies(&cases)).await;
    soon("the deletions", sandbox.wait_for(|calls| count(calls, Operation::DeleteAccount) == 4)).await;
    tokio::task::block_in_place(|| database.crash());
    let began = Instant::now();
    // On a loaded machine the process may end itself, with 1, before its last write has failed.
    worker.ask_to_stop();
    let status = worker.ended().await;
    println!("{status} after {:.1} s", began.elapsed().as_secs_f64());
    assert!(status.code().is_some(), "{status}");
    tokio::task::block_in_place(|| database.boot(&["fsync=on"]));
    let worker = rig.worker("second", &[]);
    let heard = rig.events.all_end(ids(&cases)).await;
    worker.stop().await;
    for case in &cases {
        assert_eq!(heard.finals(&case.id).values().collect::<Vec<_>>(), ["completed"]);
        assert_eq!(case.remains(sandbox), [""; 0]);
    }
    assert_eq!(count(&sandbox.entries(0), Operation::DeleteAccount), 4, "a deletion was repeated");
    rig.nothing_repeated();
    rig.is_empty().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn open_jobs_move_from_the_folder_into_the_database_and_go_on() {
    let database = Postgres::with(&["fsync=on"]);
    let mut rig = Rig::start(Rabbit::shared().url()).await;
    let code = Case::new(rig.sandbox(), Form::OneTimePassword, 1);
    let ended = Case::new(rig.sandbox(), Form::EasyCms, 2);
    let worker = rig.worker("state", &[]);
    rig.publish(&bodies(&[code.clone(), ended.clone()])).await;
    rig.events.all_end([ended.id.as_str()]).await;
    rig.events.until("the question for the code", |heard| !heard.of(&code.id).is_empty()).await;
    worker.stop().await;
    let copied = |rig: &Rig| rig.other_command(&["store", "copy", "--to", "postgres"]).output();
    let refused = copied(&rig).await.unwrap();
    assert_eq!(refused.status.code(), Some(2), "{}", String::from_utf8_lossy(&refused.stderr));
    in_database(&mut rig, &database);
    let moved = copied(&rig).await.unwrap();
    let text = String::from_utf8_lossy(&moved.stdout);
    assert!(moved.status.success(), "{}", String::from_utf8_lossy(&moved.stderr));
    assert!(text.contains("1 open or failed jobs, 1 ended ones"), "{text}");
    let again = copied(&rig).await.unwrap();
    assert_eq!(again.status.code(), Some(1), "a copy into rows");
    // The folder is never needed again.
    std::fs::remove_dir_all(rig.state_dir("state")).unwrap();
    let worker = rig.worker("elsewhere", &[]);
    rig.publish(std::slice::from_ref(&code.answered(mailbox(rig.sandbox(), &code).as_deref()))).await;
    let heard = rig.events.all_end([code.id.as_str()]).await;
    // A known, ended job is not done again.
    rig.publish(std::slice::from_ref(&ended.body)).await;
    rig.is_empty().await;
    worker.stop().await;
    assert_eq!(heard.finals(&code.id).values().collect::<Vec<_>>(), ["completed"]);
    assert_eq!(count(&rig.sandbox().entries(0), Operation::RequestOtp), 1);
    rig.nothing_repeated();
    no_person_in(&database, [&code, &ended]);
}

/// The database's files name no person.
fn no_person_in(database: &Postgres, cases: [&Case; 2]) {
    database.crash();
    let mut folders = vec![database.data()];
    let mut bytes = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
                continue;
            }
            let content = std::fs::read(entry.path()).unwrap();
            bytes += content.len();
            for case in cases {
                for name in [&case.person.email, &case.person.integration_id, &case.person.access_token] {
                    let is_there = content.windows(name.len()).any(|piece| piece == name.as_bytes());
                    assert!(!is_there, "{:?} of {:?} is in {}", name.len(), case.form, entry.path().display());
                }
            }
        }
    }
    assert!(bytes > 1 << 20);
}
