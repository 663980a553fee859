//! Faults of form: each is reported with its line.

use super::edits::{BASE, case, each_is_the_only_fault, each_is_told, edited, faults};
use crate::load;
use crate::read::LARGEST;

const GET_ME: &str = "get = \"/me\"";

#[test]
fn keys_words_and_types_are_known() {
    each_is_the_only_fault(&[
        case("preserved = ", "preserve = ", "preserve = ", "preserve", ["unknown key", "write preserved instead"]),
        case(
            "proof = \"password\"",
            "proof = \"password\"\nsleep = 1",
            "sleep",
            "act.erase.sleep",
            ["unknown key", "remove it (known here: "],
        ),
        case(
            "status = 409, at",
            "stauts = 409, at",
            "  { when = { stauts",
            "act.erase.answers[1].when.stauts",
            ["unknown key", "write status instead"],
        ),
    ]);
    each_is_the_only_fault(&[
        case("outcome = \"erased\"", "outcome = \"erase\"", "outcome", "outcome", ["not a known word", "\"erased\""]),
        case("format = 1", "format = 2", "format", "format", ["this release does not read", "write format = 1"]),
        case("format = 1", "format = \"1\"", "format", "format", ["this release does not read", "write format = 1"]),
        case(
            "deletes = 10",
            "deletes = \"10\"",
            "limits = ",
            "limits.deletes",
            ["is a text, not a whole number", "1 to"],
        ),
        case("name = \"helpdesk\"", "name = 7", "name = 7", "name", ["is a whole number, not a text", "write a text"]),
        case("name = \"helpdesk\"", "name = \" \"", "name = ", "name", ["is empty", "write a text"]),
        case("name = \"helpdesk\"", "name = \"Help Desk\"", "name = ", "name", ["is not a name", "small letters"]),
        case(
            "email = { type = \"email\" }",
            "email = \"email\"",
            "identifiers",
            "identifiers.email",
            ["is a text, not a table", "write a table"],
        ),
        case(
            "is = \"erased_before\"",
            "is = \"null\"",
            "  { when = { status = 409",
            "act.erase.answers[1].when.is",
            ["which no vendor means", "write type = \"null\" instead"],
        ),
        case(
            "is = \"erased_before\"",
            "is = 9007199254740993",
            "  { when = { status = 409",
            "act.erase.answers[1].when.is",
            ["beyond 2^53", "cannot be compared"],
        ),
        case(
            "is = \"erased_before\"",
            "is = 1.5",
            "  { when = { status = 409",
            "act.erase.answers[1].when.is",
            ["cannot be compared exactly", "write a text, a whole number"],
        ),
        case(
            "status = 409, ",
            "status = 503, ",
            "  { when = { status = 503",
            "act.erase.answers[1].when.status",
            ["503 always means the same", "remove it"],
        ),
        case(
            "status = 409, ",
            "status = 429, ",
            "  { when = { status = 429",
            "act.erase.answers[1].when.status",
            ["429 always means the same", "remove it"],
        ),
        case(
            "status = 409, at",
            "status = 409, in = [2], at",
            "  { when = { status = 409",
            "act.erase.answers[1].when.at",
            ["has two tests", "one test for each place"],
        ),
        case(
            "at = \"/error\", is = \"erased_before\"",
            "at = \"error\", is = \"x\"",
            "  { when = { status = 409",
            "act.erase.answers[1].when.at",
            ["is not a JSON pointer", "write a place such as /user/id"],
        ),
        case(
            ", reason = \"precondition\"",
            "",
            "  { when = { status = 422, at = \"/error\", is = \"open",
            "act.erase.answers[3]",
            ["refuses without a reason", "precondition, permission, rejected"],
        ),
    ]);
}

#[test]
fn slots_name_something() {
    each_is_the_only_fault(&[
        case(
            "get = \"/users/${id.user_id}\"",
            "get = \"/users/${id.user_ld}\"",
            "get = \"/users",
            "read.person.get",
            ["names the identifier user_ld", "write user_id instead"],
        ),
        case(
            GET_ME,
            "get = \"/me/${fact.tickets}\"",
            "get = \"/me",
            "probe.get",
            ["uses ${fact.tickets}, which is not there: it is used without a job", "write a slot of setting, secret"],
        ),
        case(
            GET_ME,
            "get = \"/me/${ids.user_id}\"",
            "get = \"/me",
            "probe.get",
            ["\"ids\" is not a source of values", "write id instead"],
        ),
        case(GET_ME, "get = \"/me/${setting.tenant\"", "get = \"/me", "probe.get", ["slot without an end", "write }"]),
        case(
            GET_ME,
            "get = \"/me/${setting.tenant|upper}\"",
            "get = \"/me",
            "probe.get",
            ["\"upper\" is not a conversion", "write one of lower, md5"],
        ),
    ]);
    each_is_told(&[
        case(
            "user_id = { type = \"digits\", required = true }",
            "user_id = { type = \"digits\" }",
            "identifiers",
            "identifiers",
            ["a job could name nobody", "required = true"],
        ),
        case(
            "each = \"fact.tickets\"",
            "each = \"fact.ticket\"",
            "each = ",
            "act.tickets.each",
            ["names the fact ticket", "write tickets instead"],
        ),
        case(
            "each = \"fact.tickets\"\n",
            "",
            "delete = ",
            "act.tickets.delete",
            ["an item needs each = \"fact.NAME\"", "write a slot of"],
        ),
        case(
            "secrets = [\"token\"]",
            "secrets = [\"token\", \"other\"]",
            "secrets = ",
            "secrets.other",
            ["is used by no call", "use it, or remove it"],
        ),
        case(
            "proof = \"password\"\n",
            "",
            "[[act]]\nname = \"erase\"",
            "act.erase",
            ["sends ${proof.password}, but does not wait for it", "write proof = \"password\""],
        ),
    ]);
}

#[test]
fn calls_are_structures_and_reads_only_read() {
    each_is_the_only_fault(&[
        case(
            GET_ME,
            "post = \"/me\"",
            "post = \"/me\"",
            "probe.post",
            ["reads with a POST, which may change something", "write reads_only = true"],
        ),
        case(GET_ME, "get = \"me\"", "get = \"me\"", "probe.get", ["not a path below the base", "begins with one /"]),
        case(
            GET_ME,
            "get = \"//evil.example.net/me\"",
            "get = \"//",
            "probe.get",
            ["not a path below the base", "one /"],
        ),
        case(GET_ME, "get = \"/a/../me\"", "get = \"/a", "probe.get", ["leads elsewhere", "write the path itself"]),
        case(
            GET_ME,
            "post = \"/me\"\nreads_only = true\njson = \"{}\"",
            "json = \"{}\"",
            "probe.json",
            ["not a structure", "json = { … }"],
        ),
        case(
            GET_ME,
            "get = \"/me\"\nform = { a = \"b\" }",
            "form = { a",
            "probe.form",
            ["body of a GET", "write query"],
        ),
        case(
            GET_ME,
            "get = \"/me\"\nheaders = { Host = \"x\" }",
            "headers = { Host",
            "probe.headers.Host",
            ["a header that the worker writes itself", "remove it"],
        ),
    ]);
    each_is_told(&[case(
        "endpoint = \"deletes\"",
        "endpoint = \"delete\"",
        "endpoint = ",
        "act.tickets.endpoint",
        ["names delete, which has no limit", "write delete in `limits`"],
    )]);
    each_is_told(&[case(
        "delete = \"/tickets/${item}\"",
        "get = \"/tickets/${item}\"",
        "get = \"/tickets/${item}\"\nendpoint",
        "act.tickets.get",
        ["is a GET, which changes nothing", "write post"],
    )]);
    each_is_told(&[case(
        "endpoint = \"deletes\"\n",
        "",
        "limits = ",
        "limits.deletes",
        ["limits no call", "endpoint = \"deletes\""],
    )]);
}

#[test]
fn a_reviewer_sees_what_is_there() {
    each_is_the_only_fault(&[
        case(
            "\"invoices\"",
            "\"in\u{202e}voices\"",
            "preserved",
            "preserved[0]",
            ["an invisible one", "visible characters"],
        ),
        case("\"invoices\"", "\"a\\nb\"", "preserved", "preserved[0]", ["a control character", "on one line"]),
    ]);
}

#[test]
fn names_are_there_once() {
    each_is_told(&[
        case(
            "name = \"erase\"",
            "name = \"tickets\"",
            "[[act]]\nname = \"tickets\"\npost",
            "act.tickets",
            ["is there twice", "a name of its own"],
        ),
        case(
            "secrets = [\"token\"]",
            "secrets = [\"token\", \"token\"]",
            "secrets",
            "secrets[1]",
            ["is there twice", "each name once"],
        ),
        case(
            "name = \"helpdesk\"",
            "name = \"helpdesk\"\nname = \"other\"",
            "name = \"other\"",
            "file",
            ["is not TOML here: duplicate key", "mend this line"],
        ),
    ]);
}

#[test]
fn every_fault_is_listed_in_the_files_order() {
    let text = edited("outcome = ", "outcom = ")
        .replace("type = \"digits\"", "type = \"digit\"")
        .replace("deletes = 10", "deletes = \"10\"")
        .replace("{ at = \"/id\", type = \"number\" }", "{ status = 200 }")
        .replace("is = \"completed\" }", "is = \"null\" }");
    let found = faults(&text);
    let places: Vec<&str> = found.iter().map(|one| one.place.as_str()).collect();
    for place in ["file", "outcom", "identifiers.user_id.type", "limits.deletes", "read.progress.answers[0].when.is"] {
        assert!(places.contains(&place), "{place} is not in {found:?}");
    }
    assert!(found.is_sorted(), "{found:?}");
}

/// A fault of form in one part does not hide a refusal in another.
#[test]
fn a_slip_hides_no_refusal_of_another_part() {
    let text = edited("preserved = ", "preserve = ").replace("{ at = \"/id\", type = \"number\" }", "{ status = 200 }");
    let places: Vec<String> = faults(&text).into_iter().map(|one| one.place).collect();
    assert_eq!(places, ["preserve", "probe.ok"]);
    // All of these in one file, some of them in parts that cannot be read.
    let text = edited("settings = { tenant = \"[a-z0-9][a-z0-9-]{0,62}\" }", "settings = { tenant = \".*\" }")
        .replace("bearer = \"${secret.token}\"", "bearer = \"hunter2\"")
        .replace("deletes = 10", "deletes = true")
        .replace("{ at = \"/id\", type = \"number\" }", "{ status = 200 }")
        .replace("[read.ticket]\nget", "[read.ticket]\ngte")
        .replace(
            "{ when = { at = \"/state\", is = \"completed\" }, is = \"done\" }",
            "{ when = { empty = true }, is = \"done\" }",
        )
        .replace("\"erased_before\"", "\"wrong_password\"")
        .replace("is = \"ask\"", "is = \"asks\"");
    let found = faults(&text);
    for place in [
        "settings.tenant",
        "http.bearer",
        "limits.deletes",
        "probe.ok",
        "read.ticket",
        "read.ticket.gte",
        "read.progress.answers[0].when",
        "act.erase.answers[2].is",
    ] {
        assert!(found.iter().any(|one| one.place == place), "{place} is not in {found:?}");
    }
}

#[test]
fn inline_tables_may_have_several_lines() {
    let text = edited("limits = { default = 60, deletes = 10 }", "limits = {\n  default = 60,\n  deletes = 10,\n}");
    assert_eq!(faults(&text), []);
}

#[test]
fn hostile_files_are_refused_at_once() {
    let told = |bytes: &[u8]| load(bytes).unwrap_err().to_string();
    assert_eq!(told(&vec![b'#'; 10 << 20]), "1: file: is longer than 256 KiB; write a file for each system");
    assert_eq!(told(b"format = 1\nname = \"\xff\"\n"), "2: file: is not UTF-8; save the file as UTF-8");
    assert_eq!(LARGEST, 256 * 1024);
    for deep in [
        format!("a = {}1{}", "[".repeat(100_000), "]".repeat(100_000)),
        format!("a = {}b = 1{}", "{ a = ".repeat(30_000), "}".repeat(30_000)),
        format!("{} = 1", vec!["a"; 100_000].join(".")),
        format!("[{}]", vec!["a"; 100_000].join(".")),
        edited(
            "{ at = \"/id\", type = \"number\" }",
            &format!("{}{{ status = 200 }}{}", "{ all = [".repeat(30), "] }".repeat(30)),
        ),
        edited("json = { password", &format!("json = {{ deep = {}1{}, password", "[".repeat(60), "]".repeat(60))),
    ] {
        assert!(load(deep.as_bytes()).is_err());
    }
    // Many alternatives: two to the power of 40.
    let any = "{ any = [{ at = \"/a\", is = 1 }, { at = \"/b\", is = 1 }] }, ".repeat(40);
    let found = faults(&edited("{ at = \"/id\", type = \"number\" }", &format!("{{ all = [{any}] }}")));
    assert!(found.iter().any(|one| one.problem.contains("too many alternatives")), "{found:?}");
    // Many answers, each with many alternatives: each is compared with each.
    let any = |n: usize| {
        let all: Vec<_> = (0..8).map(|m| format!("{{ at = \"/{n}{m}\", is = {m} }}")).collect();
        format!("{{ any = [{}] }}", all.join(", "))
    };
    let answer = |n: usize| format!("{{ when = {{ all = [{}, {}] }}, is = \"pending\" }}, ", any(n), any(n + 1));
    let many: String = (0..200).map(answer).collect();
    let old = "{ when = { at = \"/state\", in";
    let found = faults(&edited(old, &format!("{many}{old}")));
    assert!(found.iter().any(|one| one.problem.contains("more than 32")), "{found:?}");
    assert_eq!(faults(""), faults("\n"));
    assert!(BASE.len() < LARGEST);
}
