//! Systems without calls for a time: the credential is refused, or a limit is reached.
//!
//! The rule it keeps: jobs wait without the loss of an attempt; the jobs of other systems go on.

use erasure_worker::sandbox::{Action, Entry, FaultRule, Operation as Op, RateLimit, Slash};
use testkit::people::{self, job};

use crate::trial::Trial;

#[tokio::test]
async fn a_refused_credential_holds_the_system_and_after_the_release_the_jobs_go_on() {
    let trial = Trial::start(&[]).await;
    let (ann, bob) = (trial.person(), trial.person());
    trial.sandbox().world(|world| world.cleeng("cleeng").settings.publisher_token = "rotated".into());
    let held = job(&[people::backend(&ann)]);
    trial.submit(&held).await;
    trial.called("the call", |calls| calls.iter().any(|call| call.operation == Op::GetCustomer)).await;

    let other = job(&[people::program(&bob, "member_id"), people::easycms(&bob)]);
    trial.runs_to(&other, "completed").await;
    // Only the probe calls the held system, not its second job.
    let waiting = job(&[people::backend(&bob)]);
    trial.submit(&waiting).await;
    let probed =
        |calls: &[erasure_worker::sandbox::Entry]| calls.iter().filter(|call| call.system == "cleeng").count() >= 4;
    trial.called("the call", probed).await;
    let concerned = [&ann, &bob].map(|person| &person.customer_id);
    let calls = trial.sandbox().entries(0);
    let of_jobs = calls.iter().filter(|call| call.subject.as_ref().is_some_and(|subject| concerned.contains(&subject)));
    assert_eq!(of_jobs.filter(|call| call.system == "cleeng").count(), 1);

    trial.sandbox().world(|world| world.cleeng("cleeng").settings.publisher_token = "publisher-token".into());
    trial.ended(&held, "completed", 1).await;
    trial.ended(&waiting, "completed", 1).await;
    trial.end().await;
}

/// A rotation as by a vault or a cluster: first the vendor changes the token, then the file.
#[tokio::test]
async fn a_credential_rotated_in_its_file_ends_the_hold_without_a_restart() {
    let mut trial = Trial::without_worker(&[]).await;
    let person = trial.person();
    let file = trial.rig.path("publisher-token");
    let write = |token: &str| {
        std::fs::write(&file, token).unwrap();
        std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    };
    write("publisher-token");
    trial.rig.set("systems.cleeng.publisher_token_file", file.to_str().unwrap());
    trial.start_worker();
    trial.sandbox().world(|world| world.cleeng("cleeng").settings.publisher_token = "rotated".into());
    let held = job(&[people::backend(&person)]);
    trial.submit(&held).await;
    let refused = |calls: &[Entry]| calls.iter().filter(|call| call.status == Some(401)).count() >= 3;
    trial.called("the hold", refused).await;
    assert_eq!(trial.destructive_calls(), 0);
    write("rotated");
    trial.ended(&held, "completed", 1).await;
    assert!(trial.log().contains("a credential was renewed from its file"));
    trial.end().await;
}

#[tokio::test]
async fn a_wrong_path_of_the_shop_holds_the_system_and_fails_no_job() {
    let trial = Trial::start(&[]).await;
    let person = trial.person();
    trial.sandbox().world(|world| world.easycms("easycms").settings.slash = Slash::With);
    let job = job(&[people::easycms(&person)]);
    trial.submit(&job).await;
    trial.called("the call", |calls| calls.len() >= 3).await;
    trial.sandbox().world(|world| world.easycms("easycms").settings.slash = Slash::Either);
    trial.ended(&job, "completed", 1).await;
    trial.end().await;
}

#[tokio::test]
async fn a_hold_in_the_middle_of_a_job_repeats_nothing() {
    let trial = Trial::start(&[]).await;
    let person = trial.person();
    trial.sandbox().add_fault(FaultRule::on(Op::RevokeCode, Action::CredentialRefused).nth(2));
    trial.runs_to(&job(&[people::redeemed(&person)]), "completed").await;
    let calls = trial.sandbox().summary().by_operation;
    assert_eq!((calls[&Op::RevokeCode].calls, calls[&Op::RevokeCode].effects), (3, 2));
    trial.end().await;
}

#[tokio::test]
async fn the_time_of_a_hold_does_not_count_as_retry_time() {
    let trial = Trial::start(&[("retry.max_elapsed", "1s"), ("retry.max_interval", "1s")]).await;
    let person = trial.person();
    let unavailable = Action::Status { status: 503, body: String::new(), after_work: false };
    // The harmless read is refused too: the job is parked for five seconds. Then its first two attempts fail: a
    // single failed attempt is repeated in any case.
    trial.sandbox().add_fault(FaultRule::on(Op::DeleteMember, Action::CredentialRefused).nth(1));
    trial.sandbox().add_fault(FaultRule::on(Op::GetMember, Action::CredentialRefused).nth(2));
    trial.sandbox().add_fault(FaultRule::on(Op::DeleteMember, unavailable).nth(2).times(2));
    trial.runs_to(&job(&[people::program(&person, "member_id")]), "completed").await;
    let calls = trial.sandbox().entries(0);
    let deletes: Vec<_> = calls.iter().filter(|call| call.operation == Op::DeleteMember).collect();
    assert_eq!(
        deletes.iter().map(|call| call.status).collect::<Vec<_>>(),
        [Some(401), Some(503), Some(503), Some(200)]
    );
    assert!(deletes[1].at_ms - deletes[0].at_ms > 1000, "the hold was shorter than the job's patience");
    trial.end().await;
}

#[tokio::test]
async fn a_rate_limit_with_a_time_is_obeyed_and_costs_no_attempt() {
    let trial = Trial::start(&[("retry.max_attempts", "1")]).await;
    let person = trial.person();
    let limited = Action::RateLimited { retry_after: 1 };
    trial.sandbox().add_fault(FaultRule::on(Op::GetMember, limited.clone()).nth(1).times(2));
    trial.sandbox().add_fault(FaultRule::on(Op::DeleteMember, limited).nth(1));
    trial.runs_to(&job(&[people::program(&person, "member_id")]), "completed").await;
    let calls = trial.sandbox().entries(0);
    for pair in calls.windows(2).filter(|pair| pair[0].status == Some(429)) {
        assert!(pair[1].at_ms - pair[0].at_ms >= 1000, "{pair:?}");
    }
    assert_eq!(calls.iter().filter(|call| call.status == Some(429)).count(), 3);
    trial.end().await;
}

#[tokio::test]
async fn a_blocked_system_is_never_called() {
    let trial = Trial::start(&[]).await;
    let limit = RateLimit { calls: 3, window_ms: 700, penalty_ms: 60_000 };
    trial.sandbox().world(|world| world.vitalsource("vitalsource").settings.rate_limit = Some(limit));
    let person = trial.person();
    // The final check reports a call during the block as misuse.
    trial.runs_to(&job(&[people::redeemed(&person)]), "completed").await;
    trial.remains(&person, "vitalsource", &[]);
    trial.end().await;
}

#[tokio::test]
async fn a_slow_system_does_not_delay_the_jobs_of_other_systems() {
    let trial = Trial::start(&[("worker.concurrency", "4")]).await;
    let people: Vec<_> = (0..4).map(|_| trial.person()).collect();
    let slow = Action::Delay { ms: 6000, after_work: false };
    trial.sandbox().add_fault(FaultRule::on(Op::GetMember, slow).times(2));
    let slow_jobs: Vec<_> = people.iter().map(|person| job(&[people::program(person, "member_id")])).collect();
    for job in &slow_jobs {
        trial.submit(job).await;
    }
    let quick = job(&[people::easycms(&people[0])]);
    trial.runs_to(&quick, "completed").await;
    let ended = trial.client.events.all().iter().filter(|event| event.is_final()).count();
    assert_eq!(ended, 1, "the slow jobs were first in the queue and have not ended");
    for job in &slow_jobs {
        trial.ended(job, "completed", 1).await;
    }
    trial.end().await;
}
