//! The shop's account: by the built-in client, and by the connector file.
//!
//! The rule it keeps: the account's existence is read before the delete and after it. Both ways make the same calls and
//! end alike.

use erasure_worker::sandbox::{Operation as Op, Person};
use serde_json::{Value, json};
use testkit::people::{self, unconfirmed};

use super::{steps, target};
use crate::trial::Trial;

/// The two ways to the shop.
#[derive(Clone, Copy, Debug)]
enum Way {
    BuiltIn,
    File,
}

impl Way {
    const BOTH: [Way; 2] = [Way::BuiltIn, Way::File];

    fn target(self, person: &Person) -> Value {
        match self {
            Way::BuiltIn => people::easycms(person),
            Way::File => json!({
                "system": "shop", "subject": { "email": person.email },
                "proofs": { "customer_password": person.customer_password },
            }),
        }
    }

    /// The place of the password in a target.
    fn password(self) -> &'static str {
        match self {
            Way::BuiltIn => "/customer_password",
            Way::File => "/proofs/customer_password",
        }
    }

    /// The steps of an erased account, by name.
    fn steps(self) -> [&'static str; 2] {
        match self {
            Way::BuiltIn => ["delete_account: erased × 1", "read_back: erased × 1"],
            Way::File => ["connector_act: erased × 1", "connector_read_back: erased × 1"],
        }
    }
}

#[tokio::test]
async fn an_account_is_deleted_with_the_customers_password_and_read_back() {
    for way in Way::BOTH {
        let trial = Trial::with_shop(&[]).await;
        let person = trial.person();
        let event = trial.runs_to(&unconfirmed(&[way.target(&person)]), "completed").await;
        assert_eq!(trial.calls("easycms"), [Op::CustomerExists, Op::DeleteAccount, Op::CustomerExists]);
        assert_eq!(target(&event, 0)["outcome"], "erased");
        assert_eq!(target(&event, 0)["identity"], "checked");
        let mut steps = steps(&event, 0);
        steps.sort();
        assert_eq!(steps, way.steps());
        trial.remains(&person, "easycms", &[]);
        trial.end().await;
    }
}

#[tokio::test]
async fn a_missing_password_is_requested_and_the_job_goes_on_with_it() {
    for way in Way::BOTH {
        let trial = Trial::with_shop(&[]).await;
        let person = trial.person();
        let whole = unconfirmed(&[way.target(&person)]);
        let mut job = whole.clone();
        let (table, name) = way.password().rsplit_once('/').unwrap();
        job["targets"][0].pointer_mut(table).unwrap().as_object_mut().unwrap().remove(name).unwrap();
        trial.submit(&job).await;
        let asked = trial.event(&job, "needs_input").await;
        assert_eq!(asked.data("inputs")[0]["kind"], "customer_password");
        trial.runs_to(&whole, "completed").await;
        let read_again = [Op::CustomerExists, Op::CustomerExists, Op::DeleteAccount, Op::CustomerExists];
        assert_eq!(trial.calls("easycms"), read_again);
        trial.end().await;
    }
}

#[tokio::test]
async fn a_wrong_password_fails_the_target_and_nothing_is_deleted() {
    for way in Way::BOTH {
        let trial = Trial::with_shop(&[]).await;
        let person = trial.person();
        let mut job = unconfirmed(&[way.target(&person)]);
        *job["targets"][0].pointer_mut(way.password()).unwrap() = "wrong".into();
        let event = trial.runs_to(&job, "failed").await;
        assert_eq!(target(&event, 0)["error"]["reason"], "wrong_customer_password");
        assert_eq!(trial.calls("easycms"), [Op::CustomerExists, Op::DeleteAccount, Op::CustomerExists], "{way:?}");
        trial.remains(&person, "easycms", &["easycms: account"]);
        trial.end().await;
    }
}

#[tokio::test]
async fn a_missing_account_is_absent_and_no_password_is_sent() {
    let known = [
        ("systems.easycms.probe_email", "person1@example.com"),
        ("systems.shop.probe_subject.email", "person1@example.com"),
    ];
    for way in Way::BOTH {
        let trial = Trial::with_shop(&known).await;
        trial.sandbox().add_people(1..2);
        let nobody = match way {
            Way::BuiltIn => json!({ "system": "easycms", "email": "nobody@example.com", "customer_password": "x" }),
            Way::File => json!({
                "system": "shop", "subject": { "email": "nobody@example.com" }, "proofs": { "customer_password": "x" },
            }),
        };
        let event = trial.runs_to(&unconfirmed(&[nobody]), "completed").await;
        assert_eq!(target(&event, 0)["outcome"], "absent");
        // Absent; then the probe's account, which exists; then absent again, now proven.
        assert_eq!(trial.calls("easycms"), [Op::CustomerExists; 3]);
        trial.end().await;
    }
}
