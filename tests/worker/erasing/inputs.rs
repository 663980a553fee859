//! Proofs that ran out or are missing, and persons who were erased before.
//!
//! The rule it keeps: what is asked for is named, once; a fresher proof is the same job going on.

use erasure_worker::sandbox::{MemberProof, Operation as Op, User, mint_jwt};
use serde_json::json;

use super::target;
use crate::people::{self, confirm, job, unconfirmed};
use crate::rig::Rig;

#[tokio::test]
async fn a_customer_token_that_ran_out_is_asked_for_and_the_job_goes_on_with_a_fresh_one() {
    let rig = Rig::start(&[]).await;
    let person = rig.person();
    let mut job = job(&[people::mediastore(&person)]);
    job["targets"][0]["customer_token"] = json!(mint_jwt(&person.customer_id, Some(1_000_000_000)));
    rig.submit(&job).await;
    let asked = rig.event(&job, "needs_input").await;
    assert_eq!(asked.data("inputs")[0]["kind"], "customer_token");
    job["targets"][0]["customer_token"] = json!(mint_jwt(&person.customer_id, Some(4_000_000_000)));
    rig.runs_to(&job, "completed").await;
    rig.remains(&person, "cleeng", &[]);
    rig.end().await;
}

#[tokio::test]
async fn an_access_token_that_is_refused_is_asked_for_and_another_one_goes_on() {
    let rig = Rig::start(&[]).await;
    let person = rig.person();
    let mut target = people::member_api(&person);
    target["current_password"] = json!(person.current_password);
    let good = std::mem::replace(&mut target["access_token"], json!("expired-token"));
    let mut job = unconfirmed(&[target]);
    rig.submit(&job).await;
    assert_eq!(rig.event(&job, "needs_input").await.data("inputs")[0]["kind"], "access_token");
    job["targets"][0]["access_token"] = good;
    rig.runs_to(&job, "completed").await;
    // A refused token of a member's is not our credential: the system was not held.
    let flow = [Op::GetMember, Op::GetProfile, Op::GetProfile, Op::GetMember, Op::DeleteProfile, Op::GetMember];
    assert_eq!(rig.calls("loyalty"), flow);
    rig.end().await;
}

#[tokio::test]
async fn inputs_of_two_targets_are_asked_for_together_and_may_come_one_by_one() {
    let rig = Rig::start(&[]).await;
    let person = rig.person();
    let mut shop = people::easycms(&person);
    let password = shop.as_object_mut().unwrap().remove("customer_password").unwrap();
    let mut job = unconfirmed(&[people::mediastore(&person), shop]);
    rig.submit(&job).await;
    let asked = rig.event(&job, "needs_input").await;
    let kinds = |event: &testkit::amqp::Message| {
        let inputs = event.data("inputs").as_array().unwrap();
        inputs.iter().map(|input| (input["target"].clone(), input["kind"].clone())).collect::<Vec<_>>()
    };
    let password_wanted = (json!(1), json!("customer_password"));
    assert_eq!(kinds(&asked), [(json!(0), json!("confirmation")), password_wanted.clone()]);

    confirm(&mut job);
    rig.submit(&job).await;
    let id = people::id(&job);
    let asks = |event: &testkit::amqp::Message| event.job_id() == id && event.data("outcome") == "needs_input";
    let asked = rig.client.events.count("the second question", 2, asks).await;
    assert_eq!(kinds(&asked[1]), [password_wanted]);
    assert_eq!(target(&asked[1], 0)["outcome"], "anonymised");
    assert_eq!(asked[1].data("partial"), true);

    job["targets"][1]["customer_password"] = password;
    let event = rig.runs_to(&job, "completed").await;
    assert_eq!((event.data("seq"), event.data("partial")), (&json!(3), &json!(false)));
    rig.remains(&person, "cleeng", &[]);
    rig.remains(&person, "easycms", &[]);
    rig.end().await;
}

#[tokio::test]
async fn an_input_is_asked_for_in_one_event_however_long_it_is_waited_for() {
    let rig = Rig::start(&[]).await;
    let person = rig.person();
    let job = unconfirmed(&[people::mediastore(&person)]);
    rig.submit(&job).await;
    let id = people::id(&job);
    rig.client.resumed.count("two looks", 2, |copy| copy.job_id() == id).await;
    rig.client.fence().await;
    let events = rig.client.events.all().iter().filter(|event| event.job_id() == id).count();
    assert_eq!(events, 1);
    assert_eq!(rig.calls("cleeng"), [Op::GetCustomer, Op::CustomerOffers]);
    rig.end().await;
}

#[tokio::test]
async fn somebody_erased_before_is_absent_under_a_new_job() {
    let rig = Rig::start(&[]).await;
    let person = rig.person();
    let mut targets = vec![people::backend(&person), people::program(&person, "member_id"), people::easycms(&person)];
    rig.runs_to(&job(&targets), "completed").await;
    let destroyed = rig.destructive_calls();
    let event = rig.runs_to(&job(&targets), "completed").await;
    for index in 0..3 {
        assert_eq!(target(&event, index)["outcome"], "absent");
    }
    assert_eq!(rig.destructive_calls(), destroyed);
    // Neither is anybody asked to confirm what is not there.
    targets[0] = people::mediastore(&person);
    rig.runs_to(&unconfirmed(&targets), "completed").await;
    rig.end().await;
}

#[tokio::test]
async fn the_case_of_an_e_mail_address_does_not_make_another_person() {
    let rig = Rig::start(&[]).await;
    let person = rig.person();
    let mut targets = [people::backend(&person), people::easycms(&person)];
    targets[0]["customer_email"] = json!(person.email.to_uppercase());
    targets[1]["email"] = json!(person.email.to_uppercase());
    rig.runs_to(&job(&targets), "completed").await;
    rig.remains(&person, "cleeng", &[]);
    rig.remains(&person, "easycms", &[]);
    rig.end().await;
}

#[tokio::test]
async fn a_user_whose_identifiers_are_all_empty_needs_no_overwrite() {
    let rig = Rig::start(&[]).await;
    let guid = "GUIDEMPTYUSER001".to_owned();
    rig.plant([guid.clone()]);
    rig.sandbox.sandbox().world(|world| {
        let reference = "bare-7301500".to_owned();
        world.vitalsource("vitalsource").add_user(User { guid: guid.clone(), reference, ..User::default() });
    });
    let empty = json!({ "system": "vitalsource", "guid": guid, "codes": [] });
    let event = rig.runs_to(&job(&[empty]), "completed").await;
    assert_eq!(target(&event, 0)["outcome"], "anonymised");
    assert!(!rig.calls("vitalsource").contains(&Op::UpdateUser));
    rig.end().await;
}

#[tokio::test]
async fn the_requesters_deaf_endpoint_does_not_undo_an_erasure() {
    let mut rig = Rig::without_worker(&[("retry.max_attempts", "2")]).await;
    rig.set("systems.vitalsource.abandon_url", &rig.sandbox.url("requester/nowhere"));
    rig.start_worker();
    let person = rig.person();
    let event = rig.runs_to(&job(&[people::vitalsource(&person)]), "completed").await;
    assert_eq!(*event.data("follow_up"), json!([{ "target": 0, "action": "abandon_account" }]));
    rig.remains(&person, "vitalsource", &[]);
    rig.end().await;
}

#[tokio::test]
async fn a_member_without_a_possible_read_back_is_unproven_when_the_answer_is_lost() {
    let rig = Rig::start(&[("systems.loyalty.member_proof", "token")]).await;
    rig.sandbox.sandbox().world(|world| world.loyalty("loyalty").settings.member_proof = MemberProof::Token);
    rig.sandbox.sandbox().add_fault(
        erasure_worker::sandbox::FaultRule::on(Op::DeleteProfile, erasure_worker::sandbox::Action::DropAfter).nth(1),
    );
    let person = rig.person();
    let mut token_only = people::member_api(&person);
    token_only.as_object_mut().unwrap().remove("member");
    let event = rig.runs_to(&unconfirmed(&[token_only]), "failed").await;
    assert_eq!(target(&event, 0)["error"]["reason"], "unproven");
    assert_eq!(rig.calls("loyalty"), [Op::DeleteProfile]);
    rig.end().await;
}
