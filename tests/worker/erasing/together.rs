//! Jobs for several systems.
//!
//! The rule it keeps: each job has one final event, with every target's outcome.

use serde_json::json;
use testkit::people::{self, job, unconfirmed};

use super::target;
use crate::trial::Trial;

#[tokio::test]
async fn one_job_erases_a_person_from_all_four_systems() {
    let trial = Trial::start(&[]).await;
    let person = trial.person();
    let targets = [
        people::backend(&person),
        people::program(&person, "integration_id"),
        people::easycms(&person),
        people::redeemed(&person),
    ];
    let event = trial.runs_to(&job(&targets), "completed").await;
    let outcomes: Vec<_> = (0..4).map(|index| target(&event, index)["outcome"].clone()).collect();
    assert_eq!(outcomes, [json!("anonymised"), json!("erased"), json!("erased"), json!("anonymised")]);
    assert_eq!(trial.sandbox().remains(&person), Vec::<&str>::new());
    trial.end().await;
}

#[tokio::test]
async fn a_failed_target_does_not_stop_the_others_and_the_outcome_is_partial() {
    let trial = Trial::start(&[]).await;
    let person = trial.person();
    let mut shop = people::easycms(&person);
    shop["customer_password"] = json!("not-the-password");
    let event = trial.runs_to(&unconfirmed(&[shop, people::program(&person, "card_id")]), "failed").await;
    assert_eq!(event.data("partial"), true);
    assert_eq!(target(&event, 0)["error"]["reason"], "wrong_customer_password");
    assert_eq!(target(&event, 1)["outcome"], "erased");
    trial.remains(&person, "easycms", &["easycms: account"]);
    trial.remains(&person, "loyalty", &[]);
    trial.end().await;
}

#[tokio::test]
async fn a_duplicate_target_is_erased_once_and_then_absent() {
    let trial = Trial::start(&[]).await;
    let person = trial.person();
    let twin = people::program(&person, "member_id");
    let event = trial.runs_to(&unconfirmed(&[twin.clone(), twin]), "completed").await;
    let outcomes = [&target(&event, 0)["outcome"], &target(&event, 1)["outcome"]].map(Clone::clone);
    assert_eq!(outcomes, [json!("erased"), json!("absent")]);
    assert_eq!(trial.destructive_calls(), 1);
    trial.end().await;
}

#[tokio::test]
async fn a_duplicate_target_requests_its_input_and_makes_no_call_until_it_arrives() {
    let trial = Trial::start(&[]).await;
    let person = trial.person();
    let twin = people::redeemed(&person);
    let mut job = unconfirmed(&[twin.clone(), twin]);
    trial.submit(&job).await;
    let asks = trial.event(&job, "needs_input").await;
    assert_eq!(asks.data("inputs")[0]["kind"], "confirmation", "{}", asks.json);
    people::confirm(&mut job);
    let event = trial.runs_to(&job, "completed").await;
    let outcomes = [&target(&event, 0)["outcome"], &target(&event, 1)["outcome"]].map(Clone::clone);
    assert_eq!(outcomes, [json!("anonymised"), json!("anonymised")]);
    trial.end().await;
}
