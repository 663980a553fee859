//! Systems that refuse, fail, report a false success or never finish.
//!
//! The rule it keeps: no false erasure is reported. A failed target has the contract's reason, and its job a dead
//! letter.

use erasure_worker::sandbox::{
    Action, Code, Entitlement, Entry, FaultRule, Licence, Operation as Op, Output, Page, Person, WontRevoke,
};
use serde_json::{Value, json};
use testkit::amqp::Message;
use testkit::people::{self, job};

use crate::trial::{NOBODY, Trial};

/// Runs a job to its failure. Its only target must have this error.
async fn fails(trial: &Trial, target: Value, outcome: &str, reason: &str) -> (Message, Message) {
    let job = job(&[target]);
    let event = trial.runs_to(&job, "failed").await;
    let ended = &event.data("targets")[0];
    assert_eq!((&ended["outcome"], &ended["error"]["reason"]), (&json!(outcome), &json!(reason)), "{ended}");
    let letter = trial.dead_letter(&job, 1).await;
    assert_eq!(letter.header("x-erasure-code"), ended["error"]["code"].as_str().unwrap());
    assert_eq!(letter.header("x-erasure-step"), ended["error"]["step"].as_str().unwrap());
    (event, letter)
}

fn breaks(trial: &Trial, operation: Op, action: Action) {
    trial.sandbox().add_fault(FaultRule::on(operation, action));
}

fn status(status: u16) -> Action {
    Action::Status { status, body: "try again".into(), after_work: false }
}

#[tokio::test]
async fn a_customer_shared_with_another_broadcaster_is_refused_not_erased() {
    let trial = Trial::start(&[]).await;
    let person = trial.person();
    trial.sandbox().world(|world| {
        let mut customer = world.cleeng("cleeng").customer(&person.customer_id).unwrap().clone();
        customer.shared = true;
        world.cleeng("cleeng").add(customer);
    });
    let (event, _) = fails(&trial, people::backend(&person), "refused", "shared_customer").await;
    // The vendor reports it only after the entitlements ended.
    assert_eq!(event.data("partial"), true);
    trial.remains(&person, "cleeng", &["cleeng: customer"]);
    trial.end().await;
}

async fn customer_is_left(change: impl FnOnce(&mut Entitlement), reason: &str) {
    let trial = Trial::start(&[]).await;
    let person = trial.person();
    trial.sandbox().world(|world| {
        let mut customer = world.cleeng("cleeng").customer(&person.customer_id).unwrap().clone();
        change(&mut customer.entitlements[0]);
        world.cleeng("cleeng").add(customer);
    });
    fails(&trial, people::mediastore(&person), "refused", reason).await;
    assert!(!trial.calls("cleeng").contains(&Op::DeleteCustomer));
    trial.end().await;
}

#[tokio::test]
async fn a_subscription_of_an_app_store_is_refused_and_the_customer_is_kept() {
    customer_is_left(|entitlement| entitlement.externally_managed = true, "externally_managed").await;
}

#[tokio::test]
async fn an_entitlement_that_cannot_be_ended_is_refused_and_the_customer_is_kept() {
    customer_is_left(|entitlement| entitlement.wont_terminate = true, "active_entitlement").await;
}

#[tokio::test]
async fn a_wrong_shop_password_fails_and_requests_another() {
    let trial = Trial::start(&[]).await;
    let person = trial.person();
    let mut target = people::easycms(&person);
    target["customer_password"] = json!("not-the-password");
    let (event, _) = fails(&trial, target, "failed", "wrong_customer_password").await;
    assert_eq!(event.data("targets")[0]["error"]["retry"], "new_input");
    assert_eq!(event.data("partial"), false);
    assert_eq!(trial.calls("easycms"), [Op::CustomerExists, Op::DeleteAccount, Op::CustomerExists]);
    trial.end().await;
}

#[tokio::test]
async fn a_wrong_member_password_fails_at_once() {
    let trial = Trial::start(&[]).await;
    let person = trial.person();
    let mut target = people::member_api(&person);
    target["current_password"] = json!("not-the-password");
    fails(&trial, target, "failed", "wrong_password").await;
    assert_eq!(trial.calls("loyalty"), [Op::GetMember, Op::GetProfile, Op::DeleteProfile]);
    trial.end().await;
}

#[tokio::test]
async fn an_email_that_the_shop_cannot_check_fails_after_a_few_attempts() {
    let trial = Trial::start(&[]).await;
    let person = trial.person();
    trial.sandbox().world(|world| world.easycms("easycms").settings.mail_server_answers = false);
    fails(&trial, people::easycms(&person), "failed", "email_not_valid").await;
    trial.remains(&person, "easycms", &["easycms: account"]);
    trial.end().await;
}

fn wont_revoke(trial: &Trial, person: &erasure_worker::sandbox::Person, refusal: WontRevoke) {
    trial.sandbox().world(|world| {
        let code = world.vitalsource("vitalsource").code(&person.codes[1]).unwrap().clone();
        world.vitalsource("vitalsource").add_code(Code { wont_revoke: Some(refusal), ..code });
    });
}

#[tokio::test]
async fn a_code_that_stays_active_is_refused_and_the_user_is_not_overwritten() {
    let trial = Trial::start(&[]).await;
    let person = trial.person();
    wont_revoke(&trial, &person, WontRevoke { code: 1005, content_removed: false, times: None });
    let (event, _) = fails(&trial, people::redeemed(&person), "refused", "code_not_revoked").await;
    assert_eq!(event.data("partial"), true);
    assert!(!trial.calls("vitalsource").contains(&Op::UpdateUser));
    trial.remains(&person, "vitalsource", &["vitalsource: code", "vitalsource: user"]);
    trial.end().await;
}

#[tokio::test]
async fn a_refused_revoke_counts_as_revoked_if_the_content_is_gone() {
    let trial = Trial::start(&[]).await;
    let person = trial.person();
    wont_revoke(&trial, &person, WontRevoke { code: 1009, content_removed: true, times: None });
    trial.runs_to(&job(&[people::redeemed(&person)]), "completed").await;
    trial.remains(&person, "vitalsource", &[]);
    trial.end().await;
}

#[tokio::test]
async fn a_licence_without_its_code_in_the_job_stops_the_overwrite() {
    let trial = Trial::start(&[]).await;
    let person = trial.person();
    trial.sandbox().world(|world| {
        let licence = Licence { owner: person.guid.clone(), sku: "GIFT".into(), expiration: "never".into() };
        world.vitalsource("vitalsource").add_licence(licence);
    });
    fails(&trial, people::redeemed(&person), "refused", "unknown_content").await;
    assert!(!trial.calls("vitalsource").contains(&Op::UpdateUser));
    trial.end().await;
}

#[tokio::test]
async fn a_persons_permanent_failure_ends_after_the_configured_attempts_and_a_last_call() {
    let trial = Trial::start(&[("retry.max_attempts", "6")]).await;
    let person = trial.person();
    let never = FaultRule::on(Op::GetMember, status(503)).subject(&person.database_id);
    trial.sandbox().add_fault(never);
    let (_, letter) = fails(&trial, people::program(&person, "member_id"), "failed", "system_unavailable").await;
    assert_eq!(letter.header("x-erasure-attempts"), "6");
    assert_eq!(trial.calls("loyalty"), [Op::GetMember; 7]);
    trial.end().await;
}

#[tokio::test]
async fn the_refusal_of_one_person_fails_one_job_and_the_others_go_on() {
    for refusal in [Action::CredentialRefused, status(403), status(400)] {
        let trial = Trial::start(&[]).await;
        let refused = trial.person();
        let never = FaultRule::on(Op::DeleteMember, refusal).subject(&refused.database_id);
        trial.sandbox().add_fault(never);
        let bad = job(&[people::program(&refused, "member_id")]);
        trial.submit(&bad).await;
        let others: Vec<_> = (0..20).map(|_| job(&[people::program(&trial.person(), "member_id")])).collect();
        for other in &others {
            trial.submit(other).await;
        }
        for other in &others {
            trial.ended(other, "completed", 1).await;
        }
        trial.ended(&bad, "failed", 1).await;
        trial.dead_letter(&bad, 1).await;
        assert!(!trial.log().contains("system held"), "the refusal of one person holds the system");
        trial.end().await;
    }
}

/// Each system gives three of these replies in turn.
const PAGES: [(Page, u16); 6] = [
    (Page::Maintenance, 200),
    (Page::Proxy, 404),
    (Page::DefaultBackend, 404),
    (Page::Login, 200),
    (Page::Empty, 204),
    (Page::Route, 403),
];

#[tokio::test]
async fn a_page_in_place_of_all_answers_fails_no_job() {
    type Target = fn(&Person) -> Value;
    let systems: [(&str, Target); 4] = [
        ("cleeng", people::backend),
        ("loyalty", |person| people::program(person, "member_id")),
        ("easycms", people::easycms),
        ("vitalsource", people::redeemed),
    ];
    let trial = Trial::start(&[]).await;
    for round in 0..PAGES.len() / 2 {
        let before = trial.sandbox().entries(0).len();
        for (place, (system, _)) in systems.into_iter().enumerate() {
            let (page, status) = PAGES[(2 * round + place) % PAGES.len()];
            let any = FaultRule::on(Op::Unknown, Action::GatewayPage { status, page, after_work: false });
            trial.sandbox().add_fault(FaultRule { operation: None, system: Some(system.to_owned()), ..any });
        }
        let mut jobs = Vec::new();
        for person in [trial.person(), trial.person()] {
            jobs.extend(systems.map(|(_, target)| job(&[target(&person)])));
        }
        for job in &jobs {
            trial.submit(job).await;
        }
        // The jobs got the page, and then the harmless reads, which name no person.
        let is_read = |call: &Entry| call.subject.as_deref().is_some_and(|subject| NOBODY.contains(&subject));
        let is_long = |calls: &[Entry]| {
            let calls = calls.get(before..).unwrap_or_default();
            let reads = |of| calls.iter().filter(|call| call.system == of && is_read(call)).count();
            systems.iter().all(|(of, _)| reads(*of) >= 3)
        };
        trial.called("harmless reads of every system", is_long).await;
        trial.sandbox().clear_faults();
        for job in &jobs {
            trial.ended(job, "completed", 1).await;
        }
    }
    assert!(trial.log().contains("a system is in trouble"), "the trouble is not in the log");
    assert_eq!(trial.client.dead_letters.all().len(), 0);
    trial.end().await;
}

#[tokio::test]
async fn a_delete_with_server_errors_is_read_back_before_each_further_attempt() {
    let trial = Trial::start(&[("retry.max_attempts", "3")]).await;
    let person = trial.person();
    breaks(&trial, Op::DeleteCustomer, status(503));
    fails(&trial, people::backend(&person), "failed", "system_unavailable").await;
    let deletes = trial.calls("cleeng").iter().filter(|call| **call == Op::DeleteCustomer).count();
    assert_eq!(deletes, 4, "three attempts, and a last call");
    trial.end().await;
}

#[tokio::test]
async fn temporary_failures_of_all_calls_only_delay_the_job() {
    let trial = Trial::start(&[]).await;
    let person = trial.person();
    let all = [Op::GetCustomer, Op::ListEntitlements, Op::GetUser, Op::GetCode, Op::CustomerExists, Op::Licenses];
    for operation in all {
        trial.sandbox().add_fault(FaultRule::on(operation, status(503)).nth(1).times(2));
    }
    let targets = [people::backend(&person), people::easycms(&person), people::redeemed(&person)];
    trial.runs_to(&job(&targets), "completed").await;
    trial.end().await;
}

#[tokio::test]
async fn unreadable_replies_are_retried_a_few_times_and_never_count() {
    let trial = Trial::start(&[]).await;
    let person = trial.person();
    let garbage = FaultRule::on(Op::CustomerExists, Action::Garbage).subject(&person.email);
    trial.sandbox().add_fault(garbage);
    fails(&trial, people::easycms(&person), "failed", "unreadable_reply").await;
    assert_eq!(trial.calls("easycms"), [Op::CustomerExists; 4]);
    assert_eq!(trial.destructive_calls(), 0);
    trial.end().await;
}

#[tokio::test]
async fn a_destructive_call_without_an_answer_is_decided_by_a_read_back() {
    let destructive = [
        Op::UpdateSubscription,
        Op::DeleteCustomer,
        Op::DeleteMember,
        Op::DeleteAccount,
        Op::RevokeCode,
        Op::UpdateUser,
    ];
    let after_work = Action::Status { status: 502, body: "bad gateway".into(), after_work: true };
    for action in [Action::DropAfter, Action::Garbage, after_work] {
        let trial = Trial::start(&[]).await;
        let person = trial.person();
        for operation in destructive {
            trial.sandbox().add_fault(FaultRule::on(operation, action.clone()).nth(1));
        }
        let targets = [
            people::backend(&person),
            people::program(&person, "member_id"),
            people::easycms(&person),
            people::redeemed(&person),
        ];
        let event = trial.runs_to(&job(&targets), "completed").await;
        let found = |step: &Value| step["outcome"] == "already_erased";
        for target in event.data("targets").as_array().unwrap() {
            assert!(target["steps"].as_array().unwrap().iter().any(found) || target["system"] != "easycms", "{target}");
        }
        assert_eq!(trial.sandbox().remains(&person), Vec::<&str>::new());
        // Each first call took effect, and none was repeated. There are two codes and two entitlements.
        let calls = trial.sandbox().summary().by_operation;
        let counts: Vec<_> = destructive.iter().map(|operation| calls[operation].calls).collect();
        assert_eq!(counts, [2, 1, 1, 1, 2, 1]);
        trial.end().await;
    }
}

#[tokio::test]
async fn a_destructive_call_that_never_arrived_is_repeated_after_a_read_back() {
    let trial = Trial::start(&[]).await;
    let person = trial.person();
    let destructive = [Op::UpdateSubscription, Op::DeleteCustomer, Op::DeleteMember, Op::DeleteAccount, Op::RevokeCode];
    for operation in destructive {
        trial.sandbox().add_fault(FaultRule::on(operation, Action::DropBefore).nth(1));
    }
    let targets = [
        people::backend(&person),
        people::program(&person, "member_id"),
        people::easycms(&person),
        people::redeemed(&person),
    ];
    trial.runs_to(&job(&targets), "completed").await;
    assert_eq!(trial.sandbox().remains(&person), Vec::<&str>::new());
    trial.end().await;
}

#[tokio::test]
async fn a_success_without_the_shops_envelope_is_read_back() {
    let trial = Trial::start(&[]).await;
    let person = trial.person();
    trial.sandbox().world(|world| world.easycms("easycms").settings.output = Output::Missing);
    trial.runs_to(&job(&[people::easycms(&person)]), "completed").await;
    assert_eq!(trial.calls("easycms"), [Op::CustomerExists, Op::DeleteAccount, Op::CustomerExists]);
    trial.end().await;
}

#[tokio::test]
async fn a_delete_with_a_false_success_is_detected() {
    let trial = Trial::start(&[("waits.pending_max", "300ms")]).await;
    let person = trial.person();
    let lie = r#"{"data":[],"success":true,"message":"User deleted successfully"}"#;
    breaks(&trial, Op::DeleteCustomer, Action::Status { status: 200, body: lie.into(), after_work: false });
    fails(&trial, people::backend(&person), "failed", "not_gone").await;
    trial.end().await;
}

#[tokio::test]
async fn a_successful_write_without_effect_is_repeated_only_if_harmless() {
    let trial = Trial::start(&[("waits.pending_max", "1s")]).await;
    let person = trial.person();
    for operation in [Op::UpdateUser, Op::RevokeCode] {
        trial.sandbox().add_fault(FaultRule::on(operation, Action::NotTaken).nth(1).times(2));
    }
    trial.runs_to(&job(&[people::redeemed(&person)]), "completed").await;
    let left = trial.sandbox().remains(&person);
    assert!(left.iter().all(|what| !what.starts_with("vitalsource")), "{left:?}");
    let calls = |operation| trial.sandbox().summary().by_operation[&operation].calls;
    // The first call for each of the two codes had no effect.
    assert_eq!((calls(Op::UpdateUser), calls(Op::RevokeCode)), (3, 4));
    trial.sandbox().add_fault(FaultRule::on(Op::DeleteMember, Action::NotTaken));
    fails(&trial, people::program(&person, "member_id"), "failed", "not_gone").await;
    assert_eq!(calls(Op::DeleteMember), 1);
    trial.end().await;
}

#[tokio::test]
async fn a_deletion_that_stays_invisible_fails_after_its_longest_wait() {
    let trial = Trial::start(&[("waits.pending_max", "500ms")]).await;
    let person = trial.person();
    trial.sandbox().world(|world| world.loyalty("loyalty").settings.visible_reads = u32::MAX);
    let (event, _) = fails(&trial, people::program(&person, "member_id"), "failed", "not_gone").await;
    assert_eq!(event.data("partial"), true);
    trial.end().await;
}

#[tokio::test]
async fn an_input_that_never_arrives_ends_the_job() {
    let trial = Trial::start(&[("waits.input_max", "1s")]).await;
    let person = trial.person();
    let job = people::unconfirmed(&[people::redeemed(&person)]);
    let event = trial.runs_to(&job, "failed").await;
    assert_eq!(event.data("targets")[0]["error"]["reason"], "input_never_came");
    assert_eq!(trial.dead_letter(&job, 1).await.header("x-erasure-code"), "ERS-0016");
    assert_eq!(trial.destructive_calls(), 0);
    trial.end().await;
}
