//! What a transaction may change: all of it or nothing.

use erasure_worker::job::{FailureKind, Reason, StepName, TargetOutcome};
use erasure_worker::systems::System as _;

use crate::run::ann;
use crate::shop::{ERASED, FILE, Shop, WHOLE, port};

/// A database in which an act cannot keep its rules: what is done to it, a part of the note, and the end.
const REFUSED: &[(&str, &str)] = &[
    ("insert into sessions select 7 from generate_series(1, 3)", "statement 3 changed more rows than 5: rolled back"),
    // A trigger that skips rows without an error.
    (
        "create function skip() returns trigger language plpgsql as $$ begin return null; end $$; create trigger skip \
         before delete on sessions for each row execute function skip()",
        "statement 3 left rows that it should change (a trigger?): rolled back",
    ),
    // A trigger that keeps the old value.
    (
        "create function hold() returns trigger language plpgsql as $$ begin new.name = old.name; return new; end $$; \
         create trigger hold before update on orders for each row execute function hold()",
        "statement 2 left rows that it should change (a trigger?): rolled back",
    ),
    (
        "create function refuse() returns trigger language plpgsql as $$ begin raise exception 'keep %', old.email; end \
         $$; create trigger refuse before delete on users for each row execute function refuse()",
        "a rule or a trigger of the database refuses (P0001)",
    ),
    (
        "alter table invoices add foreign key (user_id) references users",
        "other rows refer to those of the person (23503)",
    ),
    // Checked at the COMMIT.
    (
        "alter table invoices add foreign key (user_id) references users deferrable initially deferred",
        "other rows refer to those of the person (23503)",
    ),
];

#[tokio::test]
async fn an_act_that_breaks_a_rule_is_rolled_back_and_refused() {
    for (statements, note) in REFUSED {
        let shop = Shop::open().await;
        shop.run(statements).await;
        let before = shop.rows().await;
        let mut run = ann(FILE);
        let end = run.end(&shop.system()).await.unwrap();
        assert_eq!((end.outcome, end.reason), (TargetOutcome::Refused, Some(Reason::Precondition)), "{note}");
        assert_eq!(shop.rows().await, before, "{note}");
        assert!(run.failures().contains(note), "{note} is not in {}", run.failures());
        assert!(!run.failures().to_lowercase().contains("ann@"), "{}", run.failures());
        assert_eq!(run.acts(), 1);
    }
}

/// Fewer rows than exactly so many: nothing is changed, and the counts decide.
#[tokio::test]
async fn fewer_rows_than_must_be_changed_are_read_back() {
    let shop = Shop::open().await;
    let mut run = ann(FILE);
    let end = run
        .finish(&shop.system(), async |step, earlier| {
            if (step, earlier) == (StepName::ConnectorAct, 0) {
                shop.run("delete from users where id = 7").await;
            }
        })
        .await
        .unwrap();
    assert_eq!((end.outcome, end.reason), (TargetOutcome::Failed, Some(Reason::Precondition)));
    assert!(shop.rows().await.contains("sessions 7, 7, 7, 8"));
}

/// Somebody else erases the person after the first read: nothing is left, which the counts show.
#[tokio::test]
async fn rows_that_another_removed_are_not_ours() {
    let shop = Shop::open().await;
    let mut run = ann(FILE);
    let end = run
        .finish(&shop.system(), async |step, earlier| {
            if (step, earlier) == (StepName::ConnectorAct, 0) {
                shop.run("delete from notes where order_id < 3; delete from orders where user_id = 7; delete from sessions where user_id = 7; delete from users where id = 7").await;
            }
        })
        .await
        .unwrap();
    assert_eq!(end.outcome, TargetOutcome::Absent, "{:?}", run.calls);
}

#[tokio::test]
async fn a_lock_of_another_session_is_waited_for_and_nothing_is_changed() {
    let shop = Shop::open().await;
    let other = shop.another().await;
    other.batch_execute("begin; select 1 from sessions where user_id = 7 for update").await.unwrap();
    let mut run = ann(FILE);
    let end = run
        .finish(&shop.system(), async |step, earlier| {
            if (step, earlier) == (StepName::ConnectorAct, 1) {
                assert_eq!(shop.rows().await, WHOLE);
                other.batch_execute("rollback").await.unwrap();
            }
        })
        .await
        .unwrap();
    assert_eq!((end.outcome, run.acts()), (TargetOutcome::Erased, 2));
    assert!(run.failures().contains("unavailable") && run.failures().contains("another session holds a lock (55P03)"));
    assert_eq!(shop.rows().await, ERASED);
}

/// Rows that appear after the COMMIT: no "erased" while one is there.
#[tokio::test]
async fn rows_that_come_back_are_no_erasure() {
    let shop = Shop::open().await;
    let mut run = ann(FILE);
    let end = run
        .finish(&shop.system(), async |step, earlier| match (step, earlier) {
            (StepName::ConnectorReadBack, 0) => shop.run("insert into sessions values (7)").await,
            (StepName::ConnectorReadBack, 2) => shop.run("delete from sessions where user_id = 7").await,
            _ => {}
        })
        .await
        .unwrap();
    assert_eq!((end.outcome, run.acts()), (TargetOutcome::Erased, 1));
    assert_eq!(run.calls.iter().filter(|(step, _)| *step == StepName::ConnectorReadBack).count(), 3);
    let shop = Shop::open().await;
    let mut run = ann(FILE);
    let end = run
        .finish(&shop.system(), async |step, earlier| {
            if (step, earlier) == (StepName::ConnectorReadBack, 0) {
                shop.run("insert into sessions values (7)").await;
            }
        })
        .await
        .unwrap();
    assert_eq!((end.outcome, end.reason), (TargetOutcome::Failed, Some(Reason::NotGone)));
}

/// A policy that hides rows would make every count 0. It is an error instead.
#[tokio::test]
async fn rows_that_a_policy_hides_are_no_absence() {
    let shop = Shop::open().await;
    let system = shop.system();
    shop.run("alter table sessions enable row level security; create policy own on sessions using (user_id = 8)").await;
    let mut run = ann(FILE);
    assert_eq!(run.end(&system).await, None, "the system is held");
    let (_, last) = run.calls.last().unwrap();
    let failure = last.as_ref().unwrap_err();
    assert_eq!(failure.kind, FailureKind::UnauthorisedOurs);
    assert!(failure.to_string().contains("row security hides rows"), "{failure}");
    assert_eq!(shop.rows().await, WHOLE);
}

/// A view may hide rows too: they would be neither found nor counted.
#[tokio::test]
async fn rows_that_a_view_hides_are_no_absence() {
    for table in ["users", "sessions"] {
        let shop = Shop::open().await;
        let before = shop.system();
        before.probe().await.unwrap();
        shop.run(&format!(
            "alter table {table} rename to behind; create view {table} as select * from behind where false; grant \
             select, delete, update on {table} to worker"
        ))
        .await;
        let mut run = ann(FILE);
        assert_eq!(run.end(&before).await, None, "the system is held");
        assert!(run.failures().contains("is a view or a foreign table"), "{}", run.failures());
        let failure = shop.system().probe().await.unwrap_err();
        assert!(failure.to_string().contains("is a view or a foreign table"), "{failure}");
    }
}

/// A temporary table or another schema in front never stands for the public one.
#[tokio::test]
async fn the_public_table_is_meant() {
    let shop = Shop::open().await;
    shop.run(&format!(
        "create schema other; create table other.users (like users); grant usage on schema other to worker; grant all on \
         other.users to worker; alter role worker in database {} set search_path = other, public",
        shop.name
    ))
    .await;
    let end = ann(FILE).end(&shop.system_with(FILE, "worker", port())).await.unwrap();
    assert_eq!((end.outcome, shop.rows().await.as_str()), (TargetOutcome::Erased, ERASED));
}
