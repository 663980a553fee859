//! What a file says in words, and which count proves which statement.

use super::{SHOP, load};
use crate::sql::show;

#[test]
fn everything_is_shown() {
    let file = load(SHOP);
    let text = show(&file);
    for part in [
        "DATABASE shop (PostgreSQL)",
        "select id as user_id, email from users where id = $user_id",
        "deletes exactly one row; with more, everything is rolled back",
        "overwrites 5000 rows at most",
        "update orders set name = null, phone = '', email = concat('erased-', id) where user_id = $user_id",
        "select count(*) from sessions where user_id = $user_id",
        "public.invoices: tax law, ten years",
        "backups, thirty days",
        "tables with a column email or user_id",
    ] {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
    for change in &file.acts[0].changes {
        assert!(text.contains(&change.statement.shown(file.database)));
    }
}

/// Within the transaction a count follows the last statement that it is about.
#[test]
fn a_count_follows_the_last_statement_that_it_proves() {
    let file = load(SHOP);
    let tables = |place| {
        let counts = file.proofs_after(&file.acts[0], place);
        counts.iter().map(|count| count.table.name.0.clone()).collect::<Vec<_>>()
    };
    assert_eq!([0, 1, 2, 3, 4].map(tables), [vec!["notes"], vec![], vec!["sessions"], vec!["orders"], vec!["users"]]);
}
