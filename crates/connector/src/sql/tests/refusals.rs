//! Each refusal, by the smallest edit of one good file.

use super::{SHOP, faults, load};
use crate::sql::show;

/// One edit, the place of a fault, and parts of its text.
type Case = (&'static str, &'static str, &'static str, [&'static str; 2]);

const USERS: &str = r#"{ sql = "delete from users where id = $user_id", exactly = 1 },"#;
const LOST: &str = r#"lost = { read = "rest" }"#;
const PERSON: &str = "select id as user_id, email from users where id = $user_id";
const NOTES: &str = "  { sql = \"delete from notes where order_id in (select orders.id from orders where orders.user_id = \
                     $user_id)\", most = 500 },\n";

const CASES: &[Case] = &[
    // The person is compared.
    (
        "id as user_id, email from",
        "id as user_id from",
        "read.person.select",
        ["without comparing email", "select COLUMN as email"],
    ),
    (
        "id as user_id, email from",
        "id, email from",
        "read.person.select",
        ["reads id, which is no identifier", "remove it"],
    ),
    (
        PERSON,
        "select id as user_id, email from users where id = $user_id and gone is null",
        "read.person.select",
        ["more than one condition", "alone"],
    ),
    (
        PERSON,
        "select id as user_id, email from people where id = $user_id",
        "read.person.select",
        ["which no act changes", "keep = "],
    ),
    (
        PERSON,
        "select count(*) from users where id = $user_id",
        "read.person.select",
        ["reads no person", "select COLUMN as NAME"],
    ),
    ("[read.person]\nselect", "[read.people]\nselect", "read", ["has no person", "write [read.person]"]),
    // A statement is about one person.
    (
        "user_id = $user_id and kind",
        "user_id <> $user_id and kind",
        "act.erase.statements[1].sql",
        ["bound to nobody", "COLUMN = $NAME"],
    ),
    (
        "user_id = $user_id and kind <> 'system'",
        "user_id = $user_id or kind = 'x'",
        "act.erase.statements[1].sql",
        ["bound to nobody", "COLUMN = $NAME"],
    ),
    (
        "user_id = $user_id and kind <> 'system'",
        "not user_id = $user_id",
        "act.erase.statements[1].sql",
        ["bound to nobody", "COLUMN = $NAME"],
    ),
    (
        "user_id = $user_id and kind <> 'system'",
        "user_id = '' and kind = 'x'",
        "act.erase.statements[1].sql",
        ["bound to nobody", "COLUMN = $NAME"],
    ),
    (
        "user_id = $user_id and kind <> 'system'",
        "user_id like '%'",
        "act.erase.statements[1].sql",
        ["bound to nobody", "COLUMN = $NAME"],
    ),
    (
        "user_id = $user_id and kind <> 'system'",
        "$user_id = $user_id",
        "act.erase.statements[1].sql",
        ["bound to nobody", "COLUMN = $NAME"],
    ),
    (
        "user_id = $user_id and kind",
        "user_id = $user_ids and kind",
        "act.erase.statements[1].sql",
        ["names $user_ids", "write $user_id instead"],
    ),
    (
        "email = { type = \"email\", required = true }",
        "email = { type = \"email\" }, more = { type = \"text\" }",
        "read.person.select",
        ["without comparing more", "select"],
    ),
    (
        "{ type = \"digits\", required = true }",
        "{ type = \"digits\" }",
        "act.erase.statements[0].sql",
        ["which a job may leave out", "required = true"],
    ),
    (
        "from sessions where user_id = $user_id\", most",
        "from sessions where user_id = $user_id and email = $email\", most",
        "act.erase.statements[2].sql",
        ["compares $email with its case", "write lower(COLUMN) = lower($email)"],
    ),
    // A ceiling.
    (
        USERS,
        r#"{ sql = "delete from users where id = $user_id" },"#,
        "act.erase.statements[4]",
        ["does not say how many rows", "most = N"],
    ),
    (
        USERS,
        r#"{ sql = "delete from users where id = $user_id", most = 1, exactly = 1 },"#,
        "act.erase.statements[4]",
        ["does not say how many rows", "most = N"],
    ),
    ("exactly = 1", "exactly = 0", "act.erase.statements[4].exactly", ["outside the permitted range", "from 1 to"]),
    // Proof.
    (
        "  \"select count(*) from users where id = $user_id\",\n",
        "",
        "act.erase.statements[4].sql",
        ["proven by no count", "select count(*) from public.users"],
    ),
    (
        "  \"select count(*) from sessions where user_id = $user_id\",\n",
        "  \"select count(*) from sessions where user_id = $user_id and kind = 'x'\",\n",
        "act.erase.statements[2].sql",
        ["proven by no count", "the same conditions or fewer"],
    ),
    (
        "(name is not null or phone <> ''",
        "(name is not null or phone <> 'x'",
        "act.erase.statements[3].sql",
        ["proven by no count", "for every column that is set"],
    ),
    (
        "(name is not null or ",
        "(",
        "act.erase.statements[3].sql",
        ["proven by no count", "for every column that is set"],
    ),
    (
        "not like 'erased-%'",
        "not like 'erased%'",
        "act.erase.statements[3].sql",
        ["proven by no count", "for every column that is set"],
    ),
    (
        "counts = [",
        "counts = [\n  \"select count(*) from others where user_id = $user_id\",",
        "read.rest.counts[0]",
        ["proves no statement", "the same table"],
    ),
    (
        "evidence = { read = \"rest\" }",
        "evidence = { read = \"rests\" }",
        "act.erase.evidence.read",
        ["names no read with counts", "write \"rest\" instead"],
    ),
    (
        "evidence = { read = \"rest\" }",
        "evidence = { read = \"person\" }",
        "act.erase.evidence.read",
        ["names no read with counts", "write"],
    ),
    ("evidence = { read = \"rest\" }", "", "act.erase", ["has no evidence", "must all be 0"]),
    // New values.
    (
        "email = concat('erased-', id)",
        "email = concat('erased-', name)",
        "act.erase.statements[3].sql",
        ["puts the old value of name into email", "names nobody"],
    ),
    ("concat('erased-', id)", "concat('', id)", "act.erase.statements[3].sql", ["no count can tell", "begin concat"]),
    (
        "set name = null,",
        "set user_id = null, name = null,",
        "act.erase.statements[3].sql",
        ["sets user_id, by which it finds the rows", "a column that stays"],
    ),
    ("set name = null,", "set name = null, name = 'x',", "act.erase.statements[3].sql", ["sets name twice", "once"]),
    // Lost answers.
    (LOST, "", "act.erase", ["has no lost", "counts decide"]),
    (LOST, "lost = { ledger = true }", "act.erase.lost", ["needs a ledger", "primary key"]),
    (LOST, "lost = { ledger = false }", "act.erase.lost.ledger", ["is false", "write true"]),
    (LOST, "lost = { read = \"rest\", ledger = true }", "act.erase.lost", ["exactly one thing", "ledger = true"]),
    (
        "preserved =",
        "ledger = \"erasure_done\"\npreserved =",
        "ledger",
        ["is used by no act", "lost = { ledger = true }"],
    ),
    // Tables.
    ("public.invoices", "public.users", "act.erase.statements[4].sql", ["which `keep` keeps", "remove"]),
    ("watch = [\"public.*\"]", "watch = []", "watch", ["watches nothing", "public.*"]),
    ("watch = [\"public.*\"]", "watch = [\"public\"]", "watch[0]", ["is not a schema", "SCHEMA.*"]),
    ("watch = [\"public.*\"]\n", "", "file", ["has no watch", "public.*"]),
    ("database = \"postgresql\"", "database = \"postgres\"", "database", ["is not a known word", "\"postgresql\""]),
    ("preserved =", "outcome =", "outcome", ["unknown key", "remove it"]),
];

#[test]
fn each_rule_has_its_fault() {
    let mut wrong = Vec::new();
    for (old, new, place, says) in CASES {
        assert_eq!(SHOP.matches(old).count(), 1, "{old:?} is not once in the file");
        let text = SHOP.replace(old, new);
        let found = faults(&text);
        let lines = text.lines().count();
        let fits = |one: &crate::Fault| {
            (1..=lines).contains(&one.line)
                && one.place == *place
                && says.iter().all(|part| one.to_string().contains(part))
        };
        if !found.iter().any(fits) {
            let found: Vec<_> = found.iter().map(ToString::to_string).collect();
            wrong.push(format!(
                "{old:?} -> {new:?}\n  wanted {place}: {says:?}\n  found  {}",
                found.join("\n         ")
            ));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), CASES.len(), wrong.join("\n"));
}

/// A statement that finds its rows through other rows comes before the statement that removes those rows.
#[test]
fn rows_that_others_lead_to_are_changed_first() {
    assert_eq!(faults(SHOP), []);
    let orders = "delete from orders where user_id = $user_id";
    let counts = "  \"select count(*) from orders where user_id = $user_id\",\n]\n";
    let before = SHOP.replace(NOTES, &format!("  {{ sql = \"{orders}\", most = 9 }},\n{NOTES}")).replacen(
        "]\n\n[[act]]",
        &format!("{counts}\n[[act]]"),
        1,
    );
    let found = faults(&before);
    assert!(
        matches!(&found[..], [one] if one.place == "act.erase.statements[1].sql" && one.problem.contains("it would find none")),
        "{found:?}"
    );
    let after = SHOP.replace(USERS, &format!("{{ sql = \"{orders}\", most = 9 }},\n  {USERS}")).replacen(
        "]\n\n[[act]]",
        &format!("{counts}\n[[act]]"),
        1,
    );
    assert_eq!(faults(&after), []);
}

#[test]
fn a_ledger_decides_about_a_lost_answer() {
    let text =
        SHOP.replace("preserved =", "ledger = \"erasure_done\"\npreserved =").replace(LOST, "lost = { ledger = true }");
    assert!(show(&load(&text)).contains("the ledger's row, written in the same transaction, decides"));
    let own = text.replace("\"erasure_done\"", "\"public.sessions\"");
    assert!(faults(&own).iter().any(|one| one.problem.contains("a table that an act changes")));
}

/// A file for a database is none for calls.
#[test]
fn both_forms_say_which_is_meant() {
    assert!(crate::load(SHOP.as_bytes()).is_err());
    assert!(
        faults(&SHOP.replace("database = \"postgresql\"\n", "")).iter().any(|one| one.problem.contains("has no http"))
    );
}
