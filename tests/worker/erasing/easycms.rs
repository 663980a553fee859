//! The shop's account: by the built-in client, and by the connector file.
//!
//! The rule it keeps: the account's existence is read before the delete and after it. Both ways make the same calls and
//! end alike.

use erasure_worker::sandbox::{Action, FaultRule, Operation as Op, Page, Person};
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
            Way::File => people::shop(person),
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

/// The faults of the stand-in. Without an answer, with another system's, late, false.
fn faults() -> Vec<Action> {
    let status = |status, after_work| Action::Status { status, body: "try again".into(), after_work };
    let page = |status, page, after_work| Action::GatewayPage { status, page, after_work };
    vec![
        Action::DropBefore,
        Action::DropAfter,
        Action::Garbage,
        Action::NotTaken,
        Action::RateLimited { retry_after: 1 },
        Action::Delay { ms: 50, after_work: true },
        status(503, false),
        status(502, true),
        status(400, false),
        status(404, false),
        status(410, true),
        page(200, Page::Login, false),
        page(200, Page::Login, true),
        page(403, Page::Route, false),
    ]
}

/// The calls about a person, and the end of the person's job.
async fn life(trial: &Trial, way: Way, person: &Person) -> (Vec<Op>, Value, Value, Value) {
    let job = unconfirmed(&[way.target(person)]);
    trial.submit(&job).await;
    let event = trial.ended_somehow(&job, 1).await;
    let ended = &event.data("targets")[0];
    let entries = trial.sandbox().entries(0);
    let about = entries.iter().filter(|entry| entry.subject.as_deref() == Some(&*person.email));
    let mut calls: Vec<_> = about.map(|entry| entry.operation).collect();
    // The file's flow looks twice before it repeats a lost call.
    calls.dedup_by(|one, two| one == two && *one == Op::CustomerExists);
    (calls, event.data("outcome").clone(), ended["outcome"].clone(), ended["error"]["reason"].clone())
}

/// Each fault at one of the calls, and some faults for ever: both ways make the same calls and end alike.
async fn both_ways_bear(operation: Op, nth: u64) {
    let trial = Trial::with_shop(&[("retry.max_attempts", "3"), ("waits.pending_max", "300ms")]).await;
    let lasting = [Action::DropAfter, Action::Garbage, Action::NotTaken];
    let once = faults().into_iter().map(|action| (action, 1));
    for (action, times) in once.chain(lasting.map(|action| (action, 100))) {
        let persons = [trial.person(), trial.person()];
        for person in &persons {
            let rule = FaultRule::on(operation, action.clone()).nth(nth).times(times);
            trial.sandbox().add_fault(rule.subject(&person.email));
        }
        let (built_in, file) =
            tokio::join!(life(&trial, Way::BuiltIn, &persons[0]), life(&trial, Way::File, &persons[1]));
        assert_eq!(built_in, file, "{action:?} × {times}");
    }
    trial.end().await;
}

#[tokio::test]
async fn both_ways_bear_every_fault_of_every_call() {
    // At the same time: they mostly wait.
    tokio::join!(
        both_ways_bear(Op::CustomerExists, 1),
        both_ways_bear(Op::DeleteAccount, 1),
        both_ways_bear(Op::CustomerExists, 2),
    );
}
