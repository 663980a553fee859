//! Conditions from a grammar: whichever of them loads never changes another person's row, and its count finds every row
//! that it should change.

use erasure_connector::sql::SqlFile;
use erasure_connector::{File, load_file};
use tokio_postgres::Client;

use crate::shop::{FILE, Shop};

/// A repeatable choice.
struct Choice(u64);

impl Choice {
    fn of(&mut self, many: u64) -> u64 {
        // The constants of Knuth's MMIX.
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % many
    }

    fn condition(&mut self, depth: u32) -> String {
        const ATOMS: [&str; 16] = [
            "user_id = $user_id",
            "user_id = $user_id",
            "$user_id = user_id",
            "orders.user_id = $user_id",
            "lower(email) = lower($email)",
            "$user_id = $user_id",
            "user_id <> $user_id",
            "user_id >= $user_id",
            "name is not null",
            "name is null",
            "name like 'B%'",
            "email not like 'ann%'",
            "id in (1, 2, 3)",
            "id <> 2",
            "id in (select orders.id from orders where orders.user_id = $user_id)",
            "id in (select orders.id from orders where orders.user_id = $user_id or orders.id = 3)",
        ];
        if depth == 0 || self.of(3) == 0 {
            return ATOMS[self.of(ATOMS.len() as u64) as usize].to_owned();
        }
        let one = self.condition(depth - 1);
        match self.of(5) {
            0 | 1 => format!("{one} and {}", self.condition(depth - 1)),
            2 => format!("{one} or {}", self.condition(depth - 1)),
            3 => format!("({one})"),
            _ => format!("not ({one})"),
        }
    }
}

/// The file with one statement and one count in place of those about orders. `None` if it does not load.
fn file(statement: &str, count: &str) -> Option<SqlFile> {
    let mut file = String::new();
    for line in FILE.lines().filter(|line| !line.contains("notes")) {
        if line.contains("update orders") {
            file += &format!("  {{ sql = \"{statement}\", most = 100 }},\n");
        } else if line.contains("from orders") {
            file += &format!("  \"{count}\",\n");
        } else {
            file += &format!("{line}\n");
        }
    }
    match load_file(file.as_bytes()) {
        Ok(File::Sql(file)) => Some(*file),
        Ok(File::Calls(_)) => panic!("a file of calls"),
        Err(_) => None,
    }
}

/// A statement of the file with Ann's values.
fn anns(sql: &erasure_connector::sql::statement::Sql) -> String {
    let mut text = sql.text.clone();
    for (place, name) in sql.binds.iter().enumerate().rev() {
        let value = if name == "user_id" { "'7'" } else { "'ann@example.com'" };
        text = text.replace(&format!("${}", place + 1), value);
    }
    text
}

async fn number(admin: &Client, text: &str) -> i64 {
    admin.query_one(text, &[]).await.unwrap_or_else(|error| panic!("{text}: {error}")).get(0)
}

#[tokio::test]
async fn no_condition_that_loads_reaches_another_person() {
    let shop = Shop::open().await;
    let admin = &shop.admin;
    admin.batch_execute("alter table notes drop constraint notes_order_id_fkey").await.unwrap();
    admin.batch_execute("insert into orders values (4, 7, null, 'ann@example.com'), (5, 8, null, null)").await.unwrap();
    let database = erasure_connector::sql::Database::Postgresql;
    let (mut choice, mut loaded, mut refused, mut proven) = (Choice(17), 0, 0, 0);
    for _ in 0..4000 {
        let condition = choice.condition(3);
        let is_update = choice.of(2) == 0;
        // A count of the same rows, or of other ones.
        let counted = if choice.of(3) == 0 { choice.condition(2) } else { condition.clone() };
        let statement = match is_update {
            true => format!("update orders set name = null where {condition}"),
            false => format!("delete from orders where {condition}"),
        };
        let old = if is_update { " and name is not null" } else { "" };
        let Some(file) = file(&statement, &format!("select count(*) from orders where ({counted}){old}")) else {
            refused += 1;
            continue;
        };
        loaded += 1;
        let change = &file.acts[0].changes[0].statement;
        let count = &file.reads[0].counts[0];
        let (sql, counts) = (anns(&change.sql(database)), anns(&count.sql(database)));
        admin.batch_execute("begin").await.unwrap();
        // Rows that the statement should change, if a trigger keeps them, are found by the count.
        let rows = format!("select count(*) from orders where {}{old}", sql.split_once(" where ").unwrap().1);
        let (should, found) = (number(admin, &rows).await, number(admin, &counts).await);
        assert!(found >= should, "{should} rows of {sql}, but {found} by {counts}");
        proven += usize::from(should > 0);
        admin.batch_execute(&sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
        let others = "select count(*) from orders where user_id = 8 and (id = 5 or name = 'Bea')";
        assert_eq!(number(admin, others).await, 2, "{sql}");
        admin.batch_execute("rollback").await.unwrap();
    }
    assert!(loaded > 300 && refused > 300 && proven > 100, "{loaded} loaded, {refused} refused, {proven} with rows");
}
