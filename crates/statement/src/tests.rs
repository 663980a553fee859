//! Which statements are read, what the database gets of them, and what is refused.

use crate::{Database, statement as read};

const BOTH: [Database; 2] = [Database::Postgresql, Database::Mysql];

#[test]
fn the_database_gets_the_data_with_placeholders() {
    let cases = [
        (
            "delete from sessions where user_id = $user_id",
            r#"delete from "sessions" where "user_id" = $1"#,
            "delete from `sessions` where (`user_id` = ? and cast(lower(convert(`user_id` using utf8mb4)) as binary) = cast(lower(convert(? using utf8mb4)) as binary))",
        ),
        (
            "DELETE FROM shop.Orders WHERE (user_id = $user_id AND NOT kind IN ('a', 'b')) OR lower(email) = lower($email)",
            r#"delete from "shop"."orders" where ("user_id" = $1 and not "kind" in ('a', 'b')) or lower("email") = lower($2)"#,
            "delete from `shop`.`Orders` where ((`user_id` = ? and cast(lower(convert(`user_id` using utf8mb4)) as binary) = cast(lower(convert(? using utf8mb4)) as binary)) and not `kind` in ('a', 'b')) or (lower(`email`) = lower(?) and cast(lower(convert(lower(`email`) using utf8mb4)) as binary) = cast(lower(convert(lower(?) using utf8mb4)) as binary))",
        ),
        (
            "update orders set name = null, active = false, email = concat('erased-', id), n = 0 where user_id = $user_id",
            r#"update "orders" set "name" = null, "active" = false, "email" = concat('erased-', "id"), "n" = 0 where "user_id" = $1"#,
            "update `orders` set `name` = null, `active` = false, `email` = concat('erased-', `id`), `n` = 0 where (`user_id` = ? and cast(lower(convert(`user_id` using utf8mb4)) as binary) = cast(lower(convert(? using utf8mb4)) as binary))",
        ),
        (
            "select count(*) from notes where at >= 'm-1' and a is not null and b like '%x' and \n\torder_id in (select \
             orders.id from orders where orders.user_id = $user_id)",
            r#"select count(*) from "notes" where "at" >= 'm-1' and "a" is not null and "b" like '%x' and "order_id" in (select "orders"."id" from "orders" where "orders"."user_id" = $1)"#,
            "select count(*) from `notes` where `at` >= 'm-1' and `a` is not null and `b` like '%x' and `order_id` in (select `orders`.`id` from `orders` where (`orders`.`user_id` = ? and cast(lower(convert(`orders`.`user_id` using utf8mb4)) as binary) = cast(lower(convert(? using utf8mb4)) as binary)))",
        ),
        (
            "select id as user_id, email from users where id = $user_id",
            r#"select "id" as "user_id", "email" from "users" where "id" = $1"#,
            "select `id` as `user_id`, `email` from `users` where (`id` = ? and cast(lower(convert(`id` using utf8mb4)) as binary) = cast(lower(convert(? using utf8mb4)) as binary))",
        ),
    ];
    for (text, postgresql, mysql) in cases {
        for (database, wanted) in BOTH.into_iter().zip([postgresql, mysql]) {
            let statement = read(text, database).unwrap_or_else(|flaw| panic!("{text}: {}", flaw.problem));
            let sql = statement.sql(database);
            assert_eq!(sql.text, wanted);
            assert_eq!(sql.binds.len(), wanted.matches(['$', '?']).count());
            // The text for people is read as the same statement.
            assert_eq!(read(&statement.shown(database), database).as_ref(), Ok(&statement));
        }
    }
}

#[test]
fn a_name_in_quotes_keeps_its_case() {
    let statement = read(r#"delete from "Users" where "userId" = $id"#, Database::Postgresql).unwrap();
    assert_eq!(statement.sql(Database::Postgresql).text, r#"delete from "Users" where "userId" = $1"#);
    assert!(read(r#"delete from "Users" where "userId" = $id"#, Database::Mysql).is_err(), "a text there");
}

/// Whatever else SQL can say is refused, with a reason.
#[test]
fn everything_else_is_refused() {
    let cases = [
        ("delete from users", "has no WHERE"),
        ("update users set a = null", "has no WHERE"),
        ("delete from users where id = $id; delete from orders where id = $id", "semicolon"),
        ("delete from users where id = $id -- and more", "comment"),
        ("delete from users where id = $id /* more */", "comment"),
        ("delete from users where id = $id # more", "comment"),
        ("delete from users where id = 'a\\' or 1=1'", "backslash"),
        ("drop table users", "is no DELETE, UPDATE or SELECT"),
        ("truncate users", "is no DELETE, UPDATE or SELECT"),
        ("alter table users add a int", "is no DELETE, UPDATE or SELECT"),
        ("insert into users values (1)", "is no DELETE, UPDATE or SELECT"),
        ("grant all on users to public", "is no DELETE, UPDATE or SELECT"),
        ("set lock_timeout = 0", "is no DELETE, UPDATE or SELECT"),
        ("delete from users where id = $id returning id", "no place in such a statement"),
        ("delete from users as u where id = $id", "no place in such a statement"),
        ("update users set a = null from b where id = $id", "no place in such a statement"),
        ("update users set a = b where id = $id", "something else than a value"),
        ("update users set a = random() where id = $id", "calls a function"),
        ("update users set a = $id where id = $id", "something else than a value"),
        ("update users set (a, b) = (1, 2) where id = $id", ""),
        ("update users set a = default where id = $id", "something else than a value"),
        ("delete from users where id = pg_sleep($id)", "calls a function"),
        ("delete from users where delete_all() = $id", "calls a function"),
        ("delete from users where id = any($ids)", ""),
        ("delete from users where id = $id + 0", "which such a statement does not need"),
        ("delete from users where id = $id::int", "which such a statement does not need"),
        ("delete from users where id = null", "compares with null"),
        ("delete from users where id between 1 and 2", "not understood"),
        ("delete from users where exists (select a.b from a where a.b = $id)", "not understood"),
        ("delete from users where id not in (select a.b from a where a.b = $id)", "not understood"),
        ("delete from users where id in (select user_id from a where a.b = $id)", "without its table"),
        ("delete from users where id in (select a.user_id from a where b = $id)", "without its table"),
        ("delete from users where id in (select a.user_id from a)", "without a WHERE"),
        (
            "delete from users where id in (select a.b from a where a.b = $id union select a.c from a where a.c = $id)",
            "combined",
        ),
        ("delete from users where id in ($id)", "something else than values"),
        ("delete from users where a like $id", "something else than a text"),
        ("with a as (select 1) delete from users where id = $id", ""),
        ("select * from users where id = $id", "more than named columns"),
        ("select id from users, orders where id = $id", "not about one table"),
        ("select id from users join orders on true where id = $id", "joins tables"),
        ("select id from users where id = $id limit 1", "no place in such a statement"),
        ("select id from users where id = $id for update", "no place in such a statement"),
        ("select distinct id from users where id = $id", "no place in such a statement"),
        ("select id from users where id = $id group by id", "no place in such a statement"),
        ("select max(id) from users where id = $id", "a value that is no column"),
        ("select count(id) from users where id = $id", "a value that is no column"),
        ("delete from users where id = E'a'", ""),
        ("delete from users where id = $$a$$", ""),
        ("delete from users where id = 'it''s'", "unusual characters"),
        ("delete from a.b.c where id = $id", "three parts"),
        ("", "empty"),
        ("delete from users where id = 'open", "no end"),
        ("delete from", "is not SQL that"),
    ];
    for (text, says) in cases {
        for database in BOTH {
            match read(text, database) {
                Ok(statement) => panic!("{text} is read as {}", statement.shown(database)),
                Err(flaw) => {
                    assert!(flaw.problem.contains(says) && !flaw.instead.is_empty(), "{text}: {}", flaw.problem)
                }
            }
        }
    }
    let deep = format!("delete from a where {}b = $id{}", "(".repeat(4000), ")".repeat(4000));
    let long = format!("delete from a where b = $id{}", " and b = 1".repeat(1000));
    for text in [deep, long] {
        assert!(read(&text, Database::Postgresql).is_err());
    }
}

/// Every way to write one thing inside another, as deep as a statement may be long.
#[test]
fn a_deep_statement_needs_no_deep_stack() {
    let ways = [
        ("not ", "a = $id", ""),
        ("a = case when 1 = 1 then ", "1", " end"),
        ("a = interval ", "'1'", ""),
        ("a = - ", "1", ""),
        ("a = ! ", "1", ""),
        ("a in (select b.a from b where b.", "a = $id", ")"),
        ("(", "a = $id", ")"),
        ("a = $id and ", "a = $id", ""),
        ("a = $id or ", "a = $id", ""),
        ("exists (select 1 from b where ", "true", ")"),
        ("a = array[", "1", "]"),
        ("a = f(", "1", ")"),
    ];
    let small = std::thread::Builder::new().stack_size(512 * 1024);
    let tried = small.spawn(move || {
        for (before, inner, after) in ways {
            for length in [1, 10, 16, 40, 60, 8000 / (before.len() + after.len())] {
                let (first, repeated) = before.split_once('=').map_or((String::new(), before), |(column, value)| {
                    if inner.contains("$id") { (String::new(), before) } else { (format!("{column}="), value) }
                });
                let condition = first + &repeated.repeat(length) + inner + &after.repeat(length);
                for database in BOTH {
                    if let Ok(statement) = read(&format!("delete from users where {condition}"), database) {
                        assert!(statement.shown(database).len() > length);
                    }
                }
            }
        }
    });
    tried.unwrap().join().unwrap();
}
