//! The Loyalty platform: Program API, Member API with each kind of proof, and deletion by hand.
//!
//! The rule it keeps: a member is read, deleted, and read again by the job's id.

use erasure_worker::sandbox::{Entry, MemberKey, MemberProof, Operation as Op, Person};
use serde_json::json;
use testkit::people::{self, unconfirmed};

use super::target;
use crate::trial::Trial;

const PROGRAM_FLOW: [Op; 3] = [Op::GetMember, Op::DeleteMember, Op::GetMember];

async fn deleted_by_program_api(key: &str) {
    let trial = Trial::start(&[]).await;
    let person = trial.person();
    let event = trial.runs_to(&unconfirmed(&[people::program(&person, key)]), "completed").await;
    assert_eq!(trial.calls("loyalty"), PROGRAM_FLOW);
    let target = target(&event, 0);
    assert_eq!((&target["outcome"], &target["identity"]), (&json!("erased"), &json!("checked")));
    assert_eq!(target["preserved"], json!(["offer_responses"]));
    trial.remains(&person, "loyalty", &[]);
    trial.end().await;
}

#[tokio::test]
async fn a_member_is_deleted_by_member_id() {
    deleted_by_program_api("member_id").await;
}

#[tokio::test]
async fn a_member_is_deleted_by_integration_id() {
    deleted_by_program_api("integration_id").await;
}

#[tokio::test]
async fn a_member_is_deleted_by_card_id() {
    deleted_by_program_api("card_id").await;
}

#[tokio::test]
async fn a_member_is_deleted_by_database_id() {
    deleted_by_program_api("database_id").await;
}

#[tokio::test]
async fn an_id_with_special_characters_of_urls_finds_its_member() {
    let trial = Trial::start(&[]).await;
    let person = trial.person();
    let id = "INT/42?x=1#é %2F";
    trial.plant([id.to_owned()]);
    trial.sandbox().world(|world| {
        let mut member = world.loyalty("loyalty").member(&person.database_id).unwrap().clone();
        member.integration_id = Some(id.to_owned());
        world.loyalty("loyalty").add(member);
    });
    let target = json!({ "system": "loyalty", "method": "program_api", "member": { "integration_id": id } });
    trial.runs_to(&unconfirmed(&[target]), "completed").await;
    assert_eq!(trial.calls("loyalty"), PROGRAM_FLOW);
    trial.remains(&person, "loyalty", &[]);
    trial.end().await;
}

#[tokio::test]
async fn a_delayed_deletion_is_read_back_until_it_is_visible() {
    let trial = Trial::start(&[]).await;
    let person = trial.person();
    trial.sandbox().world(|world| world.loyalty("loyalty").settings.visible_reads = 3);
    trial.runs_to(&unconfirmed(&[people::program(&person, "member_id")]), "completed").await;
    let read = Op::GetMember;
    assert_eq!(trial.calls("loyalty"), [read, Op::DeleteMember, read, read, read, read]);
    trial.end().await;
}

fn set_proof(trial: &Trial, proof: MemberProof) {
    trial.sandbox().world(|world| world.loyalty("loyalty").settings.member_proof = proof);
}

#[tokio::test]
async fn a_member_is_deleted_with_the_members_password() {
    let trial = Trial::start(&[]).await;
    let person = trial.person();
    let mut target = people::member_api(&person);
    target["current_password"] = json!(person.current_password);
    trial.runs_to(&unconfirmed(&[target]), "completed").await;
    assert_eq!(trial.calls("loyalty"), [Op::GetMember, Op::GetProfile, Op::DeleteProfile, Op::GetMember]);
    trial.remains(&person, "loyalty", &[]);
    trial.end().await;
}

#[tokio::test]
async fn a_deletion_by_token_alone_counts_by_the_platforms_answer() {
    let trial = Trial::start(&[("systems.loyalty.member_proof", "token")]).await;
    set_proof(&trial, MemberProof::Token);
    let person = trial.person();
    let mut target = people::member_api(&person);
    target.as_object_mut().unwrap().remove("member");
    let event = trial.runs_to(&unconfirmed(&[target]), "completed").await;
    assert_eq!(trial.calls("loyalty"), [Op::DeleteProfile]);
    assert_eq!(super::target(&event, 0)["identity"], "unchecked");
    trial.remains(&person, "loyalty", &[]);
    trial.end().await;
}

#[tokio::test]
async fn a_member_is_deleted_with_the_token_alone_if_so_configured() {
    let trial = Trial::start(&[("systems.loyalty.member_proof", "token")]).await;
    set_proof(&trial, MemberProof::Token);
    let person = trial.person();
    trial.runs_to(&unconfirmed(&[people::member_api(&person)]), "completed").await;
    assert_eq!(trial.calls("loyalty"), [Op::GetMember, Op::GetProfile, Op::DeleteProfile, Op::GetMember]);
    trial.remains(&person, "loyalty", &[]);
    trial.end().await;
}

/// Waits for the code in the member's mailbox.
async fn mailed_code(trial: &Trial, person: &Person) -> String {
    let sandbox = trial.sandbox();
    let is_sent = |calls: &[Entry]| calls.iter().any(|call| call.operation == Op::RequestOtp && call.effect);
    trial.called("the code", is_sent).await;
    let mailbox = sandbox.world(|world| world.loyalty("loyalty").mailbox(&person.database_id).map(|m| m.0.to_owned()));
    let code = mailbox.unwrap();
    // With quotes, because timestamps contain six digits too.
    trial.plant([format!("\"{code}\"")]);
    code
}

#[tokio::test]
async fn a_one_time_password_is_sent_once_and_the_job_goes_on_by_a_continuation() {
    let trial = Trial::start(&[("systems.loyalty.member_proof", "otp")]).await;
    set_proof(&trial, MemberProof::Otp);
    let person = trial.person();
    let mut job = unconfirmed(&[people::member_api(&person)]);
    trial.submit(&job).await;
    let asked = trial.event(&job, "needs_input").await;
    let input = &asked.data("inputs")[0];
    assert_eq!(input["kind"], "otp");
    let expires: jiff::Timestamp = input["expires_at"].as_str().unwrap().parse().unwrap();
    let sent: jiff::Timestamp = asked.json["time"].as_str().unwrap().parse().unwrap();
    let minutes = (expires.as_second() - sent.as_second() + 30) / 60;
    assert_eq!(minutes, 5);

    job["targets"][0]["code"] = json!(mailed_code(&trial, &person).await);
    trial.runs_to(&job, "completed").await;
    let read = [Op::GetMember, Op::GetProfile];
    let flow = [&read[..], &[Op::RequestOtp], &read, &[Op::DeleteProfile, Op::GetMember]].concat();
    assert_eq!(trial.calls("loyalty"), flow);
    trial.remains(&person, "loyalty", &[]);
    trial.end().await;
}

#[tokio::test]
async fn a_wrong_one_time_password_is_requested_again_and_no_second_one_is_sent() {
    let trial = Trial::start(&[("systems.loyalty.member_proof", "otp")]).await;
    set_proof(&trial, MemberProof::Otp);
    let person = trial.person();
    let mut job = unconfirmed(&[people::member_api(&person)]);
    trial.submit(&job).await;
    trial.event(&job, "needs_input").await;
    let code = mailed_code(&trial, &person).await;

    job["targets"][0]["code"] = json!("wrong-one");
    trial.submit(&job).await;
    let asks = |event: &testkit::amqp::Message| event.data("outcome") == "needs_input";
    let asked = trial.client.events.count("a second question", 2, asks).await;
    assert_eq!(asked[1].data("inputs")[0]["kind"], "otp");

    job["targets"][0]["code"] = json!(code);
    trial.runs_to(&job, "completed").await;
    let (read, delete) = ([Op::GetMember, Op::GetProfile], [Op::DeleteProfile]);
    let flow = [&read[..], &[Op::RequestOtp], &read, &delete, &read, &delete, &[Op::GetMember]].concat();
    assert_eq!(trial.calls("loyalty"), flow);
    trial.end().await;
}

#[tokio::test]
async fn a_deletion_by_hand_is_requested_and_detected() {
    let trial = Trial::start(&[]).await;
    let person = trial.person();
    let job = unconfirmed(&[people::manual(&person)]);
    trial.submit(&job).await;
    let asked = trial.event(&job, "needs_input").await;
    assert_eq!(asked.data("inputs")[0]["kind"], "manual_deletion");
    let deleted = trial
        .sandbox()
        .world(|world| world.loyalty("loyalty").delete_by_hand(MemberKey::MemberId, &person.member_id, 0));
    assert!(deleted);
    let event = trial.ended(&job, "completed", 1).await;
    assert_eq!(target(&event, 0)["outcome"], "erased");
    assert_eq!(trial.destructive_calls(), 0);
    trial.end().await;
}
