//! Refusals about the person's own row, and about rows of other people. Each by edits of one good file.

use super::{SHOP, faults};

const USERS: &str = r#"{ sql = "delete from users where id = $user_id", exactly = 1 },"#;
const COUNT: &str = "select count(*) from users where id = $user_id";
const SESSIONS: &str = "delete from sessions where user_id = $user_id\"";
const SESSIONS_COUNT: &str = "select count(*) from sessions where user_id = $user_id\"";
const TENANT: [(&str, &str); 2] = [
    ("identifiers = { ", "identifiers = { tenant_id = { type = \"digits\", required = true }, "),
    ("id as user_id, email", "tenant_id, id as user_id, email"),
];

/// Edits, a place, and parts of the fault's text. Without a place the file loads.
type Case<'a> = (&'a [(&'a str, &'a str)], &'a str, [&'a str; 2]);

fn update(set: &str) -> String {
    format!("{{ sql = \"update users set {set} where id = $user_id\", exactly = 1 }},")
}

fn edited(edits: &[(&str, &str)]) -> String {
    edits.iter().fold(SHOP.to_owned(), |text, (old, new)| {
        assert_eq!(text.matches(old).count(), 1, "{old:?} is not once in the file");
        text.replace(old, new)
    })
}

fn wrong(cases: &[Case<'_>]) -> Vec<String> {
    let mut wrong = Vec::new();
    for (edits, place, says) in cases {
        let found = faults(&edited(edits));
        let fits = |one: &crate::Fault| one.place == *place && says.iter().all(|part| one.to_string().contains(part));
        if !(found.iter().any(fits) || place.is_empty() && found.is_empty()) {
            let found: Vec<_> = found.iter().map(ToString::to_string).collect();
            wrong.push(format!("{edits:?}\n  wanted {place}: {says:?}\n  found  {}", found.join("\n         ")));
        }
    }
    wrong
}

#[test]
fn the_persons_row_is_changed_as_it_was_found() {
    let last = "act.erase.statements[4].sql";
    let another = ["by another condition than read.person", "alone"];
    let narrowed: Vec<(String, String)> = [
        "id = $user_id and active = true",
        "id = $user_id and lower(email) = lower($email)",
        "lower(email) = lower($email)",
        "id = $user_id and id = 0",
        "id = $user_id and email is not null",
        "id in (select users.id from users where users.id = $user_id)",
    ]
    .map(|rows| (USERS.replace("id = $user_id", rows), COUNT.replace("id = $user_id", rows)))
    .into();
    for (statement, count) in &narrowed {
        let edits = [(USERS, &statement[..]), (COUNT, count)];
        let cases = [(&edits[..], last, another), (&edits[..], "read.rest.counts[3]", another)];
        assert_eq!(wrong(&cases), Vec::<String>::new());
    }
    let through = "user_id in (select users.id from users where users.id = $user_id and users.active = true)";
    let (statement, count) =
        (SESSIONS.replace("user_id = $user_id", through), SESSIONS_COUNT.replace("user_id = $user_id", through));
    let edits = [(SESSIONS, &statement[..]), (SESSIONS_COUNT, &count)];
    let cases = [(&edits[..], "act.erase.statements[2].sql", another)];
    assert_eq!(wrong(&cases), Vec::<String>::new());
}

#[test]
fn nothing_of_the_persons_row_stays_by_which_it_was_compared() {
    let counted = |old: &str| format!("select count(*) from users where id = $user_id and ({old})");
    let (phone, phone_count) = (update("phone = null"), counted("phone is not null"));
    let (email, email_count) = (update("email = null"), counted("email is not null"));
    let stays = ["compares email, which stays in the person's row", "delete the row, or set email"];
    let alone = ("id as user_id, email from", "id as user_id from");
    let one_identifier = (", email = { type = \"email\", required = true }", "");
    let kept = ("keep = { ", "keep = { \"public.users\" = \"a contract\", ");
    let cases: [Case<'_>; 4] = [
        (&[(USERS, &phone), (COUNT, &phone_count)], "read.person.select", stays),
        (&[(USERS, &email), (COUNT, &email_count)], "", ["", ""]),
        (
            &[(USERS, &phone), (COUNT, &phone_count), alone, one_identifier],
            "read.person.select",
            ["compares id, which stays in the person's row", "delete the row"],
        ),
        (&[(USERS, &phone), (COUNT, &phone_count), kept], "", ["", ""]),
    ];
    assert_eq!(wrong(&cases), Vec::<String>::new());
}

#[test]
fn the_persons_row_is_the_last_to_be_changed() {
    let notes = "  { sql = \"delete from notes";
    let first = format!("  {USERS}\n{notes}");
    let cases: [Case<'_>; 1] = [(
        &[(USERS, ""), (notes, &first)],
        "act.erase.statements[0].sql",
        ["before other rows", "last statement of the last act"],
    )];
    assert_eq!(wrong(&cases), Vec::<String>::new());
}

#[test]
fn rows_that_an_earlier_statement_hides_are_changed_first() {
    let orders = "{ sql = \"update orders set name = null, phone";
    let hides =
        format!("{{ sql = \"update sessions set kind = null where user_id = $user_id\", most = 9 }},\n  {orders}");
    let narrowed = "delete from sessions where user_id = $user_id and kind <> 'system'\", most = 10000 },\n";
    let swapped =
        format!("update sessions set kind = null where user_id = $user_id\", most = 9 }},\n  {{ sql = \"{narrowed}");
    let counted =
        format!("{SESSIONS_COUNT},\n  \"select count(*) from sessions where user_id = $user_id and kind is not null\"");
    let counts = (SESSIONS_COUNT, &counted[..]);
    let cases: [Case<'_>; 2] = [
        (
            &[(narrowed, &swapped), counts],
            "act.erase.statements[2].sql",
            ["by kind, which an earlier statement has overwritten", "before that one"],
        ),
        (&[(orders, &hides), counts], "", ["", ""]),
    ];
    assert_eq!(wrong(&cases), Vec::<String>::new());
}

#[test]
fn rows_of_other_people_do_not_fit() {
    let place = "act.erase.statements[2].sql";
    for (rows, says) in [
        ("id = $user_id", ["takes id of sessions for the person's", "refers to the person"]),
        ("user_id = $user_id and (id = $user_id or kind = 'x')", ["takes id of sessions for the person's", "refers"]),
        (
            "order_id in (select orders.id from orders where orders.id = $user_id)",
            ["takes id of orders for the person's", "refers to the person"],
        ),
        (
            "id in (select orders.id from orders where orders.user_id = $user_id)",
            ["takes id of sessions for another table's", "refers to that table"],
        ),
        (
            "thread_id in (select sessions.thread_id from sessions where sessions.user_id = $user_id)",
            ["the same thread_id as a row of the person", "inner select's condition"],
        ),
        ("tenant_id = $tenant_id", ["bound to $tenant_id alone", "COLUMN = $user_id"]),
        (
            "order_id in (select orders.id from orders where orders.tenant_id = $tenant_id)",
            ["bound to $tenant_id alone", "COLUMN = $user_id"],
        ),
        (
            "email in (select users.email from users where users.id = $user_id)",
            ["an address with its case", "lower(email)"],
        ),
    ] {
        let (statement, count) =
            (SESSIONS.replace("user_id = $user_id", rows), SESSIONS_COUNT.replace("user_id = $user_id", rows));
        let edits = [TENANT[0], TENANT[1], (SESSIONS, &statement[..]), (SESSIONS_COUNT, &count)];
        let cases: [Case<'_>; 2] = [(&edits, place, says), (&edits, "read.rest.counts[1]", says)];
        assert_eq!(wrong(&cases), Vec::<String>::new());
    }
    for rows in ["user_id = $user_id and tenant_id = $tenant_id", "lower(email) = lower($email)"] {
        let (statement, count) =
            (SESSIONS.replace("user_id = $user_id", rows), SESSIONS_COUNT.replace("user_id = $user_id", rows));
        let narrower =
            ("  { sql = \"delete from sessions where user_id = $user_id and kind <> 'system'\", most = 10000 },\n", "");
        let edits = [TENANT[0], TENANT[1], narrower, (SESSIONS, &statement[..]), (SESSIONS_COUNT, &count)];
        assert_eq!(wrong(&[(&edits, "", ["", ""])]), Vec::<String>::new());
    }
}

/// What MySQL compares in another way.
#[test]
fn mysql_has_refusals_of_its_own() {
    let mysql = ("database = \"postgresql\"", "database = \"mysql\"");
    let place = "act.erase.statements[3].sql";
    let number = ["sets phone to a number", "'0'"];
    let set = "phone = ''";
    let old = "phone <> ''";
    let with_case = (SESSIONS, "delete from sessions where user_id = $user_id and email = $email\"");
    let schema = (USERS, r#"{ sql = "delete from shop.USERS where id = $user_id and active = true", exactly = 1 },"#);
    let cases: [Case<'_>; 5] = [
        (&[mysql], "", ["", ""]),
        (&[mysql, (set, "phone = 0"), (old, "phone <> 0")], place, number),
        (&[mysql, (set, "phone = false"), (old, "phone <> false")], place, number),
        (&[mysql, with_case], "act.erase.statements[2].sql", ["compares $email with its case", "lower(COLUMN)"]),
        (&[mysql, schema], "act.erase.statements[4].sql", ["by another condition than read.person", "alone"]),
    ];
    assert_eq!(wrong(&cases), Vec::<String>::new());
}

/// A uuid has no case: its column has PostgreSQL's type, or `lower` stands on both sides.
#[test]
fn a_uuid_is_compared_without_case() {
    let uuid = ("{ type = \"digits\"", "{ type = \"uuid\"");
    let file = super::load(&edited(&[uuid]));
    let tables = |text: &str| text.contains("\"user_id\" = $1::uuid") || text.contains("\"id\" = $1::uuid");
    let changes = file.acts.iter().flat_map(|act| &act.changes).map(|change| change.statement.sql(file.database).text);
    let counts =
        file.reads.iter().flat_map(|read| &read.counts).chain([&file.person]).map(|of| of.sql(file.database).text);
    for text in changes.chain(counts) {
        assert!(tables(&text), "{text}");
    }
    let [half, whole] = ["lower(user_id) = $user_id", "lower(user_id) = lower($user_id)"]
        .map(|rows| (SESSIONS.replace("user_id = $user_id", rows), SESSIONS_COUNT.replace("user_id = $user_id", rows)));
    let narrower =
        ("  { sql = \"delete from sessions where user_id = $user_id and kind <> 'system'\", most = 10000 },\n", "");
    let mysql = ("database = \"postgresql\"", "database = \"mysql\"");
    let place = "act.erase.statements[1].sql";
    let says = ["compares $user_id with its case", "write lower(COLUMN) = lower($user_id)"];
    let cases: [Case<'_>; 3] = [
        (&[uuid, narrower, (SESSIONS, &half.0), (SESSIONS_COUNT, &half.1)], place, says),
        (&[uuid, narrower, (SESSIONS, &whole.0), (SESSIONS_COUNT, &whole.1)], "", ["", ""]),
        (&[uuid, mysql], place, says),
    ];
    assert_eq!(wrong(&cases), Vec::<String>::new());
}

/// An update through an inner select of its own table: it overwrites what a count would need.
#[test]
fn an_update_keeps_what_its_inner_select_reads() {
    let rows = "id in (select sessions.id from sessions where sessions.user_id = $user_id)";
    let statement = format!("update sessions set user_id = null where {rows}\"");
    let count = format!("select count(*) from sessions where {rows} and user_id is not null\"");
    let edits = [(SESSIONS, &statement[..]), (SESSIONS_COUNT, &count)];
    let says = ["sets user_id, by which it finds the rows", "a column that stays"];
    assert_eq!(wrong(&[(&edits, "act.erase.statements[2].sql", says)]), Vec::<String>::new());
}
