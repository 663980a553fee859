//! Who is compared, and who counts as absent.

use erasure_worker::job::{Answer, FailureKind, Identity, Means, Reason, Step, StepName, TargetOutcome};
use erasure_worker::systems::System as _;

use crate::run::{ann, run};
use crate::shop::{ERASED, FILE, Shop, WHOLE, port, with};

const RESOLVE: Step = Step::one(StepName::Resolve);

fn means(answer: &Answer) -> Means {
    answer.means().unwrap_or_else(|| panic!("{answer:?}"))
}

#[tokio::test]
async fn a_person_is_erased_and_nobody_else() {
    let shop = Shop::open().await;
    let mut run = ann(FILE);
    let end = run.end(&shop.system()).await.unwrap();
    assert_eq!(end.outcome, TargetOutcome::Erased, "{:?}", run.calls);
    assert_eq!(shop.rows().await, ERASED);
    assert_eq!(run.acts(), 1);
}

#[tokio::test]
async fn another_persons_row_is_not_touched() {
    let shop = Shop::open().await;
    let mut run = run(FILE, "7", "somebody@example.com");
    let end = run.end(&shop.system()).await.unwrap();
    assert_eq!((end.outcome, end.reason), (TargetOutcome::Refused, Some(Reason::IdentityMismatch)));
    assert_eq!((shop.rows().await.as_str(), run.acts()), (WHOLE, 0));
}

#[tokio::test]
async fn two_rows_are_refused() {
    let shop = Shop::open().await;
    shop.run("alter table users drop constraint users_pkey; insert into users values (7, 'ann@example.com')").await;
    let mut run = ann(FILE);
    let end = run.end(&shop.system()).await.unwrap();
    assert_eq!((end.outcome, end.reason), (TargetOutcome::Refused, Some(Reason::IdentityMismatch)));
    assert_eq!(run.acts(), 0);
}

/// A column without a value shows nothing; white space, case and leading zeros make no other person.
#[tokio::test]
async fn values_are_compared_by_their_forms() {
    let shop = Shop::open().await;
    let system = shop.system();
    for (email, wanted) in [
        ("'ann@example.com'", Identity::Same),
        ("' ANN@example.com '", Identity::Same),
        ("null", Identity::Unreadable),
        ("''", Identity::Unreadable),
        ("'ann@example.co'", Identity::Other),
    ] {
        shop.run(&format!("update users set email = {email} where id = 7")).await;
        let answer = run(FILE, "007", "ann@example.com").ask(&system, RESOLVE).await.unwrap();
        assert_eq!(means(&answer), Means::Found(wanted), "{email}");
    }
}

/// Nobody there is an absence only in a database in which somebody was found.
#[tokio::test]
async fn an_absence_needs_a_database_with_persons() {
    let shop = Shop::open().await;
    let system = shop.system();
    let nobody = run(FILE, "9", "ann@example.com");
    assert_eq!(nobody.ask(&system, RESOLVE).await, Ok(Answer::Unclear(Reason::Unproven)));
    system.probe().await.unwrap();
    assert!(matches!(means(&nobody.ask(&system, RESOLVE).await.unwrap()), Means::Gone(_)));
    let mut nobody = nobody;
    assert_eq!(nobody.end(&system).await.unwrap().outcome, TargetOutcome::Absent);
    shop.run("delete from users").await;
    let empty = shop.system();
    assert_eq!(empty.probe().await.unwrap_err().kind, FailureKind::UnauthorisedOurs);
    assert_eq!(nobody.ask(&empty, RESOLVE).await, Ok(Answer::Unclear(Reason::Unproven)));
}

/// Rows of the person without the person's own row are no absence.
#[tokio::test]
async fn rows_that_are_left_over_are_no_absence() {
    let shop = Shop::open().await;
    shop.run("delete from users where id = 7").await;
    let system = shop.system();
    system.probe().await.unwrap();
    let answer = ann(FILE).ask(&system, RESOLVE).await.unwrap();
    assert_eq!(means(&answer), Means::Found(Identity::Unreadable));
    // `exactly = 1` cannot be kept: everything is rolled back, and the counts decide.
    let mut run = ann(FILE);
    let end = run.end(&system).await.unwrap();
    assert_eq!((end.outcome, end.reason), (TargetOutcome::Failed, Some(Reason::Precondition)));
    assert!(shop.rows().await.contains("sessions 7, 7, 7, 8"));
    let most = FILE.replace("exactly = 1", "most = 1");
    let end = ann(&most).end(&shop.system_with(&most, "worker", crate::shop::port())).await.unwrap();
    assert_eq!((end.outcome, shop.rows().await.as_str()), (TargetOutcome::Erased, ERASED));
}

/// Rows by an identifier that the person's row does not confirm may be another person's.
#[tokio::test]
async fn rows_by_an_identifier_that_nobody_confirms_are_not_touched() {
    let file = with(FILE, "lower(email) = lower($email)");
    for (statement, user_id) in [
        ("", "999"),
        ("update users set email = null where id = 7", "7"),
        ("update users set email = ' ' where id = 7", "7"),
    ] {
        let shop = Shop::open().await;
        shop.run("create table letters (email text); insert into letters values ('bea@example.com')").await;
        shop.run("grant select, delete, update on letters to worker").await;
        shop.run(statement).await;
        let mut run = run(&file, user_id, "bea@example.com");
        let end = run.end(&shop.system_with(&file, "worker", port())).await.unwrap();
        assert_eq!((end.outcome, end.reason), (TargetOutcome::Refused, Some(Reason::IdentityMismatch)), "{statement}");
        assert_eq!((shop.rows().await.as_str(), run.acts()), (WHOLE, 0), "{statement}");
        assert!(run.failures().contains("does not confirm"), "{}", run.failures());
    }
}

/// A text would be compared with its case: such a column is refused. The type uuid has no case.
#[tokio::test]
async fn a_uuid_is_found_in_any_case() {
    let shop = Shop::open().await;
    let file = FILE.replace("user_id = { type = \"digits\"", "user_id = { type = \"uuid\"");
    let system = shop.system_with(&file, "worker", port());
    for form in ["text", "uuid"] {
        for (table, column) in [("users", "id"), ("orders", "user_id"), ("sessions", "user_id")] {
            let uuid = if form == "text" { format!("'a' || lpad({column}::text, 31, '0')") } else { column.to_owned() };
            shop.run(&format!("alter table {table} alter {column} type {form} using ({uuid})::{form}")).await;
        }
        let mut run = run(&file, "A0000000-0000-0000-0000-000000000007", "ann@example.com");
        let end = run.end(&system).await;
        if form == "text" {
            assert_eq!(end, None, "the system is held");
            assert!(run.failures().contains("column is wrong (42883)"), "{}", run.failures());
        } else {
            assert_eq!(end.unwrap().outcome, TargetOutcome::Erased, "{}", run.failures());
            let left = shop.admin.query_one("select count(*) from users", &[]).await.unwrap();
            assert_eq!(left.get::<_, i64>(0), 1);
        }
    }
}

#[tokio::test]
async fn a_value_of_another_form_is_rejected() {
    let shop = Shop::open().await;
    let file = FILE.replace("user_id = { type = \"digits\"", "user_id = { type = \"text\"");
    let mut run = run(&file, "seven", "ann@example.com");
    let system = shop.system_with(&file, "worker", crate::shop::port());
    let end = run.end(&system).await.unwrap();
    assert_eq!((end.outcome, end.reason), (TargetOutcome::Failed, Some(Reason::RequestRejected)));
    assert!(!run.failures().contains("seven"), "{}", run.failures());
}
