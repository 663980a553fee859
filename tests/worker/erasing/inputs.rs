//! Expired or missing proofs, and persons who were erased before.
//!
//! The rule it keeps: each requested input is named once. With a new proof the same job goes on.

use erasure_worker::sandbox::{MemberProof, Operation as Op, User, mint_jwt};
use serde_json::json;
use testkit::people::{self, confirm, job, unconfirmed};

use super::target;
use crate::trial::Trial;

#[tokio::test]
async fn an_expired_customer_token_is_requested_and_the_job_goes_on_with_a_new_one() {
    let trial = Trial::start(&[]).await;
    let person = trial.person();
    let mut job = job(&[people::mediastore(&person)]);
    job["targets"][0]["customer_token"] = json!(mint_jwt(&person.customer_id, Some(1_000_000_000)));
    trial.submit(&job).await;
    let asked = trial.event(&job, "needs_input").await;
    assert_eq!(asked.data("inputs")[0]["kind"], "customer_token");
    job["targets"][0]["customer_token"] = json!(mint_jwt(&person.customer_id, Some(4_000_000_000)));
    trial.runs_to(&job, "completed").await;
    trial.remains(&person, "cleeng", &[]);
    trial.end().await;
}

#[tokio::test]
async fn a_refused_access_token_is_requested_and_the_job_goes_on_with_another() {
    let trial = Trial::start(&[]).await;
    let person = trial.person();
    let mut target = people::member_api(&person);
    target["current_password"] = json!(person.current_password);
    let good = std::mem::replace(&mut target["access_token"], json!("expired-token"));
    let mut job = unconfirmed(&[target]);
    trial.submit(&job).await;
    assert_eq!(trial.event(&job, "needs_input").await.data("inputs")[0]["kind"], "access_token");
    job["targets"][0]["access_token"] = good;
    trial.runs_to(&job, "completed").await;
    // A member's refused token is not our credential: the system is not held.
    let flow = [Op::GetMember, Op::GetProfile, Op::GetProfile, Op::GetMember, Op::DeleteProfile, Op::GetMember];
    assert_eq!(trial.calls("loyalty"), flow);
    trial.end().await;
}

#[tokio::test]
async fn inputs_of_two_targets_are_requested_together_and_may_arrive_separately() {
    let trial = Trial::start(&[]).await;
    let person = trial.person();
    let mut shop = people::easycms(&person);
    let password = shop.as_object_mut().unwrap().remove("customer_password").unwrap();
    let mut job = unconfirmed(&[people::mediastore(&person), shop]);
    trial.submit(&job).await;
    let asked = trial.event(&job, "needs_input").await;
    let kinds = |event: &testkit::amqp::Message| {
        let inputs = event.data("inputs").as_array().unwrap();
        inputs.iter().map(|input| (input["target"].clone(), input["kind"].clone())).collect::<Vec<_>>()
    };
    let password_wanted = (json!(1), json!("customer_password"));
    assert_eq!(kinds(&asked), [(json!(0), json!("confirmation")), password_wanted.clone()]);

    confirm(&mut job);
    trial.submit(&job).await;
    let id = people::id(&job);
    let asks = |event: &testkit::amqp::Message| event.job_id() == id && event.data("outcome") == "needs_input";
    let asked = trial.client.events.count("the second question", 2, asks).await;
    assert_eq!(kinds(&asked[1]), [password_wanted]);
    assert_eq!(target(&asked[1], 0)["outcome"], "anonymised");
    assert_eq!(asked[1].data("partial"), true);

    job["targets"][1]["customer_password"] = password;
    let event = trial.runs_to(&job, "completed").await;
    assert_eq!((event.data("seq"), event.data("partial")), (&json!(3), &json!(false)));
    trial.remains(&person, "cleeng", &[]);
    trial.remains(&person, "easycms", &[]);
    trial.end().await;
}

#[tokio::test]
async fn an_input_is_requested_in_one_event_for_any_length_of_the_wait() {
    let trial = Trial::start(&[]).await;
    let person = trial.person();
    let job = unconfirmed(&[people::mediastore(&person)]);
    trial.submit(&job).await;
    let id = people::id(&job);
    trial.client.resumed.count("two looks", 2, |copy| copy.job_id() == id).await;
    trial.client.fence().await;
    let events = trial.client.events.all().iter().filter(|event| event.job_id() == id).count();
    assert_eq!(events, 1);
    assert_eq!(trial.calls("cleeng"), [Op::GetCustomer, Op::CustomerOffers]);
    trial.end().await;
}

#[tokio::test]
async fn a_person_erased_before_is_absent_in_a_new_job() {
    let trial = Trial::start(&[]).await;
    let person = trial.person();
    let mut targets = vec![people::backend(&person), people::program(&person, "member_id"), people::easycms(&person)];
    trial.runs_to(&job(&targets), "completed").await;
    let destroyed = trial.destructive_calls();
    let event = trial.runs_to(&job(&targets), "completed").await;
    for index in 0..3 {
        assert_eq!(target(&event, index)["outcome"], "absent");
    }
    assert_eq!(trial.destructive_calls(), destroyed);
    // Absent data needs no confirmation either.
    targets[0] = people::mediastore(&person);
    trial.runs_to(&unconfirmed(&targets), "completed").await;
    trial.end().await;
}

#[tokio::test]
async fn an_e_mail_address_in_another_case_is_the_same_person() {
    let trial = Trial::start(&[]).await;
    let person = trial.person();
    let mut targets = [people::backend(&person), people::easycms(&person)];
    targets[0]["customer_email"] = json!(person.email.to_uppercase());
    targets[1]["email"] = json!(person.email.to_uppercase());
    trial.runs_to(&job(&targets), "completed").await;
    trial.remains(&person, "cleeng", &[]);
    trial.remains(&person, "easycms", &[]);
    trial.end().await;
}

#[tokio::test]
async fn a_user_with_only_empty_identifiers_needs_no_overwrite() {
    let trial = Trial::start(&[]).await;
    let guid = "GUIDEMPTYUSER001".to_owned();
    trial.plant([guid.clone()]);
    trial.sandbox().world(|world| {
        let reference = "bare-7301500".to_owned();
        world.vitalsource("vitalsource").add_user(User { guid: guid.clone(), reference, ..User::default() });
    });
    let empty = json!({ "system": "vitalsource", "guid": guid, "codes": [] });
    let event = trial.runs_to(&job(&[empty]), "completed").await;
    assert_eq!(target(&event, 0)["outcome"], "anonymised");
    assert!(!trial.calls("vitalsource").contains(&Op::UpdateUser));
    trial.end().await;
}

#[tokio::test]
async fn an_unreachable_endpoint_of_the_requester_does_not_change_an_erasures_outcome() {
    let mut trial = Trial::without_worker(&[("retry.max_attempts", "2")]).await;
    trial.rig.set("systems.vitalsource.abandon_url", &trial.rig.stand.url("requester/nowhere"));
    trial.start_worker();
    let person = trial.person();
    let event = trial.runs_to(&job(&[people::redeemed(&person)]), "completed").await;
    assert_eq!(*event.data("follow_up"), json!([{ "target": 0, "action": "abandon_account" }]));
    trial.remains(&person, "vitalsource", &[]);
    trial.end().await;
}

#[tokio::test]
async fn a_lost_answer_without_a_possible_read_back_leaves_a_deletion_unproven() {
    let trial = Trial::start(&[("systems.loyalty.member_proof", "token")]).await;
    trial.sandbox().world(|world| world.loyalty("loyalty").settings.member_proof = MemberProof::Token);
    trial.sandbox().add_fault(
        erasure_worker::sandbox::FaultRule::on(Op::DeleteProfile, erasure_worker::sandbox::Action::DropAfter).nth(1),
    );
    let person = trial.person();
    let mut token_only = people::member_api(&person);
    token_only.as_object_mut().unwrap().remove("member");
    let event = trial.runs_to(&unconfirmed(&[token_only]), "failed").await;
    assert_eq!(target(&event, 0)["error"]["reason"], "unproven");
    assert_eq!(trial.calls("loyalty"), [Op::DeleteProfile]);
    trial.end().await;
}
