//! Identifiers of different persons in one target.
//!
//! The rule it keeps: nothing is destroyed, and the job fails as `identity_mismatch` with a dead letter.

use erasure_worker::sandbox::{Member, MemberShape};
use serde_json::{Value, json};
use testkit::people::{self, job};

use crate::trial::Trial;

async fn refused(trial: Trial, targets: &[Value]) {
    let job = job(targets);
    let event = trial.runs_to(&job, "failed").await;
    let target = &event.data("targets")[0];
    assert_eq!((&target["outcome"], &target["error"]["reason"]), (&json!("refused"), &json!("identity_mismatch")));
    assert_eq!(target["error"]["code"], "ERS-0001");
    assert_eq!(event.data("partial"), false);
    let letter = trial.dead_letter(&job, 1).await;
    assert_eq!(letter.header("x-erasure-code"), "ERS-0001");
    assert_eq!(letter.header("x-erasure-system"), targets[0]["system"].as_str().unwrap());
    assert_eq!(trial.destructive_calls(), 0);
    trial.end().await;
}

#[tokio::test]
async fn a_customer_id_with_another_customers_e_mail_is_refused() {
    let trial = Trial::start(&[]).await;
    let (ann, bob) = (trial.person(), trial.person());
    let mut target = people::backend(&ann);
    target["customer_email"] = json!(bob.email);
    refused(trial, &[target]).await;
}

#[tokio::test]
async fn an_unknown_customer_id_with_a_customers_e_mail_is_refused() {
    let trial = Trial::start(&[]).await;
    let (ann, bob) = (trial.person(), trial.person());
    // A customer was found before, so that "not found" counts as proven.
    trial.runs_to(&job(&[people::backend(&bob)]), "completed").await;
    let mut target = people::backend(&ann);
    target["customer_id"] = json!("100000005000000000");
    let job = job(&[target]);
    let event = trial.runs_to(&job, "failed").await;
    assert_eq!(event.data("targets")[0]["error"]["reason"], "identity_mismatch");
    trial.dead_letter(&job, 1).await;
    trial.remains(&ann, "cleeng", &["cleeng: customer", "cleeng: entitlement"]);
    trial.end().await;
}

#[tokio::test]
async fn a_customer_token_with_another_customers_e_mail_is_refused() {
    let trial = Trial::start(&[]).await;
    let (ann, bob) = (trial.person(), trial.person());
    let mut target = people::mediastore(&ann);
    target["customer_email"] = json!(bob.email);
    refused(trial, &[target]).await;
}

#[tokio::test]
async fn a_code_of_another_user_is_refused_and_no_code_is_revoked() {
    let trial = Trial::start(&[]).await;
    let (ann, bob) = (trial.person(), trial.person());
    let mut target = people::redeemed(&ann);
    target["codes"][1]["code"] = json!(bob.codes[0]);
    refused(trial, &[target]).await;
}

#[tokio::test]
async fn guid_and_reference_of_two_users_are_refused() {
    let trial = Trial::start(&[]).await;
    let (ann, bob) = (trial.person(), trial.person());
    let mut target = people::redeemed(&ann);
    target["reference"] = json!(bob.reference);
    refused(trial, &[target]).await;
}

#[tokio::test]
async fn a_card_id_that_is_another_members_member_id_is_refused() {
    let trial = Trial::start(&[]).await;
    let ann = trial.person();
    trial.sandbox().world(|world| {
        let bob = Member {
            database_id: "db-bob".into(),
            member_id: Some(ann.card_id.clone()),
            email: Some("bob@example.com".into()),
            ..Member::default()
        };
        world.loyalty("loyalty").add(bob);
    });
    refused(trial, &[people::program(&ann, "card_id")]).await;
}

#[tokio::test]
async fn an_access_token_of_another_member_is_refused() {
    let trial = Trial::start(&[]).await;
    let (ann, bob) = (trial.person(), trial.person());
    let mut target = people::member_api(&ann);
    target["access_token"] = json!(bob.access_token);
    target["current_password"] = json!(bob.current_password);
    refused(trial, &[target]).await;
}

#[tokio::test]
async fn the_other_targets_of_the_job_are_erased() {
    let trial = Trial::start(&[]).await;
    let (ann, bob) = (trial.person(), trial.person());
    let mut wrong = people::backend(&ann);
    wrong["customer_email"] = json!(bob.email);
    let event = trial.runs_to(&job(&[wrong, people::easycms(&ann)]), "failed").await;
    assert_eq!(event.data("targets")[1]["outcome"], "erased");
    assert_eq!(event.data("partial"), true);
    trial.remains(&ann, "easycms", &[]);
    trial.remains(&ann, "cleeng", &["cleeng: customer", "cleeng: entitlement"]);
    trial.end().await;
}

#[tokio::test]
async fn a_reply_without_identifiers_is_unchecked_or_refused_as_configured() {
    for (setting, what) in [("when_readable", "completed"), ("strict", "failed")] {
        let trial = Trial::start(&[("systems.loyalty.identity_check", setting)]).await;
        let person = trial.person();
        trial.sandbox().world(|world| world.loyalty("loyalty").settings.member_shape = MemberShape::Opaque);
        let event = trial.runs_to(&job(&[people::program(&person, "member_id")]), what).await;
        let target = &event.data("targets")[0];
        assert_eq!(target["identity"], "unchecked");
        if setting == "strict" {
            assert_eq!(target["error"]["reason"], "identity_unreadable");
            assert_eq!(trial.destructive_calls(), 0);
        }
        trial.end().await;
    }
}
