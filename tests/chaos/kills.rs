//! The worker killed by SIGKILL.

use erasure_worker::sandbox::{Action, Code, Entry, FaultPlan, FaultRule, Operation};
use rand::{RngExt as _, SeedableRng as _};
use serde_json::json;
use testkit::forms::{Case, Form, bodies, ids};
use testkit::rabbit::Rabbit;
use testkit::rig::Rig;
use testkit::soon;

fn count(entries: &[Entry], operation: Operation) -> usize {
    entries.iter().filter(|entry| entry.operation == operation).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_of_fifty_codes_killed_twice_revokes_each_code_once_and_overwrites_once() {
    let rig = Rig::start(Rabbit::shared().url()).await;
    let sandbox = rig.sandbox();
    let mut case = Case::new(sandbox, Form::VitalSource, 1);
    let codes: Vec<String> = (0..48).map(|number| format!("MORE{number}")).collect();
    sandbox.world(|world| {
        for code in &codes {
            let owner = Some(case.person.guid.clone());
            world.vitalsource("vitalsource").add_code(Code { code: code.clone(), owner, ..Code::default() });
        }
    });
    let given = case.body["targets"][0]["codes"].as_array_mut().unwrap();
    given.extend(codes.iter().map(|code| json!({ "code": code })));
    // Long enough on the wire for a kill during the call.
    sandbox.add_fault(FaultRule::on(Operation::UpdateUser, Action::Delay { ms: 1500, after_work: true }));
    rig.publish(std::slice::from_ref(&case.body)).await;

    let worker = rig.worker("state", &[]);
    soon("twenty revokes", sandbox.wait_for(|calls| count(calls, Operation::RevokeCode) >= 20)).await;
    worker.kill().await;

    let worker = rig.worker("state", &[]);
    soon("the overwrite", sandbox.wait_for(|calls| count(calls, Operation::UpdateUser) >= 1)).await;
    worker.kill().await;
    let user = |sandbox: &erasure_worker::sandbox::Sandbox| {
        let user = sandbox.world(|world| world.vitalsource("vitalsource").user(&case.person.guid).cloned()).unwrap();
        (user.first_name, user.last_name, user.email, user.affiliate)
    };
    let written = user(sandbox);
    assert_ne!(written.2, case.person.email, "the stand-in had not done its work");

    let worker = rig.worker("state", &[]);
    let heard = rig.events.all_end(ids(std::slice::from_ref(&case))).await;
    worker.stop().await;

    let finals = heard.finals(&case.id);
    assert_eq!(finals.values().collect::<Vec<_>>(), ["completed"]);
    assert_eq!(case.remains(sandbox), [""; 0]);
    assert!(
        sandbox.world(|world| codes.iter().all(|code| world.vitalsource("vitalsource").code(code).unwrap().cancelled))
    );
    assert_eq!(user(sandbox), written, "the second overwrite wrote other values");
    rig.nothing_repeated();
    let calls = sandbox.entries(0);
    assert_eq!(count(&calls, Operation::UpdateUser), 1, "the overwrite was repeated");
    assert_eq!(calls.iter().filter(|call| call.operation == Operation::RevokeCode && call.effect).count(), 50);
    rig.is_empty().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixty_mixed_jobs_complete_despite_random_kills_and_misbehaving_systems() {
    let rig = Rig::start(Rabbit::shared().url()).await;
    let sandbox = rig.sandbox();
    let cases = Case::mixed(sandbox, &Form::PLAIN, 1..61);
    sandbox.set_faults(FaultPlan::misbehave(11));
    rig.publish(&bodies(&cases)).await;

    let mut random = rand::rngs::StdRng::seed_from_u64(2026);
    let mut kills = 0;
    let worker = loop {
        let worker = rig.worker("state", &[]);
        let calls = sandbox.entries(0).len() + random.random_range(10..60);
        tokio::select! {
            () = sandbox.wait_for(|entries| entries.len() >= calls) => {}
            _ = rig.events.all_end(ids(&cases)) => break worker,
        }
        worker.kill().await;
        kills += 1;
    };
    worker.stop().await;
    eprintln!("{kills} kills, {} calls", sandbox.entries(0).len());
    assert!(kills >= 5, "too few kills");

    let heard = rig.events.heard();
    for case in &cases {
        let finals = heard.finals(&case.id);
        assert_eq!(finals.len(), 1, "{:?}: {finals:?}", case.form);
        assert_eq!(finals.values().next().unwrap(), "completed", "{:?}: {:?}", case.form, heard.of(&case.id));
        assert_eq!(case.remains(sandbox), [""; 0], "{:?}", case.form);
    }
    rig.nothing_repeated();
    rig.is_empty().await;
    assert!(rig.dead_letters().await.is_empty());
}
