//! The shop's account.
//!
//! The rule it keeps: the account's existence is read before the delete and after it.

use erasure_worker::sandbox::Operation as Op;
use testkit::people::{self, unconfirmed};

use super::target;
use crate::trial::Trial;

#[tokio::test]
async fn an_account_is_deleted_with_the_customers_password_and_read_back() {
    let trial = Trial::start(&[]).await;
    let person = trial.person();
    let event = trial.runs_to(&unconfirmed(&[people::easycms(&person)]), "completed").await;
    assert_eq!(trial.calls("easycms"), [Op::CustomerExists, Op::DeleteAccount, Op::CustomerExists]);
    assert_eq!(target(&event, 0)["outcome"], "erased");
    trial.remains(&person, "easycms", &[]);
    trial.end().await;
}

#[tokio::test]
async fn a_missing_password_is_requested_and_the_job_goes_on_with_it() {
    let trial = Trial::start(&[]).await;
    let person = trial.person();
    let mut job = unconfirmed(&[people::easycms(&person)]);
    let password = job["targets"][0].as_object_mut().unwrap().remove("customer_password").unwrap();
    trial.submit(&job).await;
    let asked = trial.event(&job, "needs_input").await;
    assert_eq!(asked.data("inputs")[0]["kind"], "customer_password");
    job["targets"][0]["customer_password"] = password;
    trial.runs_to(&job, "completed").await;
    let read_again = [Op::CustomerExists, Op::CustomerExists, Op::DeleteAccount, Op::CustomerExists];
    assert_eq!(trial.calls("easycms"), read_again);
    trial.end().await;
}

#[tokio::test]
async fn a_missing_account_is_absent_and_no_password_is_sent() {
    let trial = Trial::start(&[("systems.easycms.probe_email", "person1@example.com")]).await;
    trial.sandbox().add_people(1..2);
    let nobody = serde_json::json!({ "system": "easycms", "email": "nobody@example.com", "customer_password": "x" });
    let event = trial.runs_to(&unconfirmed(&[nobody]), "completed").await;
    assert_eq!(target(&event, 0)["outcome"], "absent");
    // Absent; then the probe's account, which exists; then absent again, now proven.
    assert_eq!(trial.calls("easycms"), [Op::CustomerExists; 3]);
    trial.end().await;
}
