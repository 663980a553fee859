//! Each refusal of the loader, by the smallest edit of one good file.

use super::edits::{BASE, Case, case, each_is_the_only_fault, each_is_told, edited, faults};

const SAME: &str = r#", same = { "/user/id" = "user_id", "/user/email" = "email" }"#;
const DONE: &str = r#"{ when = { at = "/state", is = "completed" }, is = "done" }"#;
const GONE: &str = r#"{ when = { status = 404 }, is = "gone" }"#;
const ERASE_LOST: &str = "lost = { recognised = true }";
const TICKET_LOST: &str = r#"lost = { read = "ticket" }"#;
const TICKET_EVIDENCE: &str = r#"evidence = { read = "ticket" }"#;

#[test]
fn somebody_is_compared_before_anything_is_destroyed() {
    each_is_told(&[
        case(
            SAME,
            r#", same = { "/user/id" = "user_id" }"#,
            "  { when = { at = \"/user/id\"",
            "read.person.answers[0]",
            ["without comparing email", "write same = "],
        ),
        case(
            r#""/user/email" = "email" }"#,
            r#""/user/email" = "mail" }"#,
            "  { when = { at = \"/user/id\"",
            "read.person.answers[0].same",
            ["names the identifier mail", "write email instead"],
        ),
        case(
            r#"is = "found", same = { "/user/id" = "user_id", "/user/email" = "email" }"#,
            r#"is = "pending""#,
            "[read.person]",
            "read.person",
            ["never finds anybody", "is = \"found\""],
        ),
    ]);
    each_is_the_only_fault(&[
        case(
            "[read.person]\nget",
            "[read.person]\nunchecked = \"nobody can be read\"\nget",
            "  { when = { at = \"/user/id\"",
            "read.person.answers[0]",
            ["`unchecked` says that nobody can be compared", "remove unchecked, or same"],
        ),
        case(
            GONE,
            r#"{ when = { at = "/user/state", is = "x" }, is = "not_done" }, { when = { status = 404 }, is = "gone" }"#,
            "  { when = { at = \"/user/state\"",
            "read.person.answers[1].is",
            ["says not_done of a person", "write found or gone"],
        ),
    ]);
}

#[test]
fn a_lost_answer_has_a_consequence() {
    each_is_the_only_fault(&[
        case(
            ERASE_LOST,
            "",
            "[[act]]\nname = \"erase\"",
            "act.erase",
            ["does not say what follows if the call is sent and its answer is lost", "write lost = "],
        ),
        case(
            TICKET_LOST,
            "lost = { recognised = true }",
            "lost = { recognised = true }",
            "act.tickets.lost",
            ["no answer of this act says so", "is = \"done_before\""],
        ),
        case(
            TICKET_LOST,
            "lost = { harmless = true }",
            "lost = { harmless = true }",
            "act.tickets.lost",
            ["has no because", "why a repeat does no harm"],
        ),
        case(
            TICKET_LOST,
            "lost = { harmless = true, unproven = true }",
            "lost = { harmless",
            "act.tickets.lost",
            ["exactly one thing", "write read = "],
        ),
        case(
            TICKET_LOST,
            "lost = { read = \"tickets\" }",
            "lost = { read = \"tickets\" }",
            "act.tickets.lost.read",
            ["names no read", "write \"ticket\" instead"],
        ),
        case(
            TICKET_LOST,
            "lost = { read = \"ticket\", expect = \"gone\" }",
            "lost = { read = \"ticket\", expect",
            "act.tickets.lost",
            ["expects gone of read.ticket, which never shows it", "write an answer with that meaning"],
        ),
    ]);
}

#[test]
fn every_act_has_evidence() {
    each_is_the_only_fault(&[
        case(
            TICKET_EVIDENCE,
            "",
            "[[act]]\nname = \"tickets\"",
            "act.tickets",
            ["has no evidence: an accepted request is no proof", "write evidence = "],
        ),
        case(
            TICKET_EVIDENCE,
            "evidence = { answer = true, because = \"documented\" }",
            "evidence = { answer",
            "act.tickets.evidence",
            ["no answer means done; accepted is a promise, never a proof", "is = \"done\""],
        ),
        case(
            TICKET_EVIDENCE,
            "evidence = { answer = true }",
            "evidence = { answer",
            "act.tickets.evidence",
            ["has no because", "why the vendor's answer means completed"],
        ),
        case(
            TICKET_EVIDENCE,
            "evidence = { declared = true, because = \"a promise\" }",
            "evidence = { declared",
            "act.tickets.evidence",
            ["is the vendor's promise alone, but the file ends as erased", "write outcome = \"declared\""],
        ),
        case(
            TICKET_EVIDENCE,
            "evidence = { unproven = true }",
            "evidence = { unproven",
            "act.tickets.evidence",
            ["is no evidence, but the file ends as erased", "write outcome = \"unproven\""],
        ),
        case(
            "expect = [\"done\", \"gone\"]",
            "expect = [\"done\"]",
            "expect = [\"done\"]",
            "act.erase.evidence.expect",
            ["has 1 words for 2 reads", "one word for each read"],
        ),
        case(
            "expect = [\"done\", \"gone\"]",
            "expect = [\"done\", \"pending\"]",
            "expect = [\"done\", \"pending\"]",
            "act.erase.evidence.expect[1]",
            ["\"pending\" is not a known word", "write one of gone, done, found"],
        ),
    ]);
    each_is_told(&[case(
        "proof = \"password\"\njson = { password = \"${proof.password}\" }",
        "json = { a = 1 }",
        "is = \"ask\"",
        "act.erase.answers[2].is",
        ["asks for a proof that the act does not have", "write proof = "],
    )]);
}

#[test]
fn to_find_the_person_is_no_evidence() {
    each_is_told(&[case(
        "expect = [\"done\", \"gone\"]",
        "expect = [\"done\", \"found\"]",
        "expect = [\"done\", \"found\"]",
        "act.erase.evidence",
        ["whoever is found is not erased", "write expect = \"gone\""],
    )]);
}

#[test]
fn success_rests_on_something_that_the_reply_says() {
    let says = ["says nothing of its own", "write a place whose value only the vendor's success has"];
    let edit = |new: &'static str| case(DONE, new, "is = \"done\" },\n", "read.progress.answers[0].when", says);
    let cases: Vec<Case> = [
        r#"{ when = { status = 200 }, is = "done" }"#,
        r#"{ when = { status = [200, 404] }, is = "done" }"#,
        r#"{ when = { empty = true }, is = "done" }"#,
        r#"{ when = { at = "/error", type = "null" }, is = "done" }"#,
        r#"{ when = { at = "/error", exists = false }, is = "done" }"#,
        r#"{ when = { at = "/deleted_at", exists = true }, is = "done" }"#,
        r#"{ when = { at = "/rows", count = 0 }, is = "done" }"#,
        r#"{ when = { at = "/error", is = "" }, is = "done" }"#,
        // What the vendor's error has, too.
        r#"{ when = { at = "", type = "object" }, is = "done" }"#,
        r#"{ when = { at = "/success", type = "bool" }, is = "done" }"#,
        r#"{ when = { at = "/success", in = [true, false] }, is = "done" }"#,
        r#"{ when = { at = "/deleted_at", type = "text" }, is = "done" }"#,
        r#"{ when = { at = "/hits", type = "number" }, is = "done" }"#,
        r#"{ when = { at = "/rows", type = "list" }, is = "done" }"#,
        r#"{ when = { status = 200, header = { content-type = "application/json" } }, is = "done" }"#,
        r#"{ when = { status = [403, 404], at = "/error", type = "text" }, is = "done" }"#,
        r#"{ when = { status = 400, at = "/error", type = "text" }, is = "done" }"#,
        r#"{ when = { all = [{ at = "/ok", type = "bool" }, { at = "/user", exists = false }] }, is = "done" }"#,
        r#"{ when = { any = [{ at = "/state", is = "completed" }, { status = 200 }] }, is = "done" }"#,
    ]
    .map(edit)
    .into();
    for Case { old, new, place, says, .. } in cases {
        let found = faults(&edited(old, new));
        let line = BASE.lines().position(|line| line.contains(DONE)).unwrap() + 1;
        let told = found.iter().any(|one| {
            one.line == line && one.place == place && says.iter().all(|part| one.to_string().contains(part))
        });
        assert!(told, "{new}: {found:?}");
    }
    each_is_the_only_fault(&[case(
        "ok = { at = \"/id\", type = \"number\" }",
        "ok = { status = 200 }",
        "ok = { status",
        "probe.ok",
        ["a login page on 200 would show a working credential", "write a place and its value"],
    )]);
}

/// Of two hits only the first would be compared and deleted.
#[test]
fn a_member_of_a_list_is_its_only_one() {
    let user = r#"{ when = { at = "/user/id", type = "number" }, is = "found", same = { "/user/id" = "user_id", "/user/email" = "email" }, take = { tickets = "/user/tickets" }, complete = "an account has ten tickets at most" }"#;
    let hits = |when: &str| {
        let same = r#"same = { "/hits/0/id" = "user_id", "/hits/0/email" = "email" }, take = { tickets = "/hits/0/tickets" }, complete = "documented""#;
        faults(&edited(user, &format!("{{ when = {when}, is = \"found\", {same} }}")))
    };
    for weak in [
        r#"{ at = "/hits/0/id", type = "number" }"#,
        r#"{ at = "/hits", type = "list" }"#,
        r#"{ at = "/hits", count = 2 }"#,
        r#"{ at = "/total", is = 1 }"#,
        r#"{ any = [{ at = "/hits", count = 1 }, { at = "/total", is = 1 }] }"#,
    ] {
        let found = hits(weak);
        let told = |one: &crate::Fault| {
            one.place == "read.person.answers[0]"
                && one.problem.contains("does not ask that it is the only one")
                && one.instead.contains(r#"{ at = "/hits", count = 1 }"#)
        };
        assert_eq!(found.iter().filter(|one| told(one)).count(), 3, "{weak}: {found:?}");
        assert_eq!(found.len(), 3, "{weak}: {found:?}");
    }
    assert_eq!(hits(r#"{ status = 200, at = "/hits", count = 1 }"#), []);
    // An act's fact, and a list in a list.
    each_is_told(&[case(
        r#"take = { task = "/task" }"#,
        r#"take = { task = "/tasks/0/steps/0/id" }"#,
        r#"  { when = { status = 202, at = "/task""#,
        "act.erase.answers[0]",
        ["/tasks/0/steps/0/id (take)", r#"{ at = "/tasks/0/steps", count = 1 }"#],
    )]);
}

/// A proxy's error has a text, too.
#[test]
fn an_absence_with_conditions_has_a_word_of_the_vendor() {
    let says = ["by a place that every error has", "write the vendor's own word"];
    let at = |new: &'static str| case(GONE, new, new, "read.person.answers[1].when", says);
    each_is_told(&[
        at(r#"{ when = { status = 404, at = "/error", type = "text" }, is = "gone" }"#),
        at(r#"{ when = { status = [404, 410], at = "/user", exists = false }, is = "gone" }"#),
        at(r#"{ when = { status = 404, header = { server = "vendor" } }, is = "gone" }"#),
        at(r#"{ when = { status = 404, at = "/users", count = 0 }, is = "gone" }"#),
    ]);
    for good in [
        r#"{ when = { status = 404, at = "/error", is = "not_found" }, is = "gone" }"#,
        r#"{ when = { status = 404, at = "/error", begins = "not_" }, is = "gone" }"#,
        r#"{ when = { status = 404, at = "/error", in = ["not_found"] }, is = "gone" }"#,
    ] {
        assert_eq!(faults(&edited(GONE, good)), [], "{good}");
    }
}

/// By the standard of HTTP a 202 says that the work is not done.
#[test]
fn an_answer_that_is_the_proof_is_no_202() {
    let of = |answers: &str| {
        let text =
            edited(r#"  { when = { at = "/ticket/deleted", is = true }, is = "accepted" },"#, &format!("  {answers},"));
        let text = text.replace(TICKET_EVIDENCE, "evidence = { answer = true, because = \"documented\" }");
        let example =
            "[[example]]\nof = \"act.tickets\"\nis = \"done\"\nstatus = 200\nbody = '{\"state\":\"erased\"}'\n\n";
        faults(&text.replacen("[[example]]", &format!("{example}[[example]]"), 1))
    };
    for answer in [
        r#"{ when = { at = "/state", is = "erased" }, is = "done" }"#,
        r#"{ when = { status = [200, 202], at = "/state", is = "erased" }, is = "done" }"#,
        r#"{ when = { any = [{ status = 200, at = "/state", is = "erased" }, { at = "/state", is = "x" }] }, is = "done" }"#,
    ] {
        let found = of(answer);
        let told = |one: &crate::Fault| {
            one.place == "act.tickets.answers[0].when" && one.problem.contains("202 says that the work is accepted")
        };
        assert!(matches!(&found[..], [one] if told(one)), "{answer}: {found:?}");
    }
    assert_eq!(of(r#"{ when = { status = 200, at = "/state", is = "erased" }, is = "done" }"#), []);
}

/// A "duplicate request" can still be in the queue.
#[test]
fn an_earlier_success_that_is_the_proof_has_an_example() {
    let example = |of: &str, is: &str, status: u16, body: &str| {
        format!("[[example]]\nof = \"{of}\"\nis = \"{is}\"\nstatus = {status}\nbody = '{body}'\n\n")
    };
    let answers = edited(
        r#"  { when = { at = "/ticket/deleted", is = true }, is = "accepted" },"#,
        r#"  { when = { status = 200, at = "/state", is = "erased" }, is = "done" },
  { when = { status = 409, at = "/error", is = "duplicate" }, is = "done_before" },"#,
    )
    .replace(TICKET_EVIDENCE, "evidence = { answer = true, because = \"documented\" }");
    let done = example("act.tickets", "done", 200, r#"{"state":"erased"}"#);
    let before = example("act.tickets", "done_before", 409, r#"{"error":"duplicate"}"#);
    let with = |examples: &str| faults(&answers.replacen("[[example]]", &format!("{examples}[[example]]"), 1));
    let found = with(&done);
    assert!(
        matches!(&found[..], [one] if one.place == "act.tickets.answers[1]"
            && one.problem.contains("counts as evidence (done_before), but no recorded reply shows")),
        "{found:?}"
    );
    assert_eq!(with(&(done + &before)), []);
}

/// An end is no success: `failed` in the list would count.
#[test]
fn each_value_that_counts_has_an_example() {
    each_is_told(&[case(
        DONE,
        r#"{ when = { at = "/state", in = ["completed", "failed"] }, is = "done" }"#,
        r#"  { when = { at = "/state", in = ["completed", "failed"]"#,
        "read.progress.answers[0]",
        [r#"counts "failed" at /state as evidence (done)"#, "remove the value from in"],
    )]);
    let one = r#"{ when = { at = "/state", in = ["completed"] }, is = "done" }"#;
    assert_eq!(faults(&edited(DONE, one)), []);
}

/// Archived, or marked as deleted, with the address still in the reply.
#[test]
fn a_reply_that_counts_as_erased_has_no_identifier() {
    let archiving = |gone: &str| {
        edited(GONE, gone)
            .replace(r#"{ when = { at = "/user/id", type = "number" }"#, r#"{ when = { at = "/state", is = "active" }"#)
    };
    let with = |gone: &str, example: &str| {
        let text = archiving(gone).replace("status = 404\nbody = '{\"error\":\"not_found\"}'", example);
        faults(&text)
    };
    let gone = r#"{ when = { status = 200, at = "/state", is = "archived" }, is = "gone" }"#;
    let same = r#"status = 200
body = '{"state":"archived","user":{"email":"person@example.com"}}'"#;
    let elsewhere = r#"identifiers = { email = "Person@example.com" }
status = 200
body = '{"state":"archived","log":["created for person@example.com"]}'"#;
    for example in [same, elsewhere] {
        let found = with(gone, example);
        let told =
            |one: &crate::Fault| one.place == "example[2]" && one.problem.contains("still has the person's email");
        assert!(matches!(&found[..], [one] if told(one)), "{example}: {found:?}");
    }
    // The person of another example, and an identifier that the vendor repeats.
    let found = "[[example]]\nof = \"read.person\"\nis = \"found\"\nstatus = 200\nbody = \
                 '{\"state\":\"active\",\"user\":{\"id\":7,\"email\":\"person@example.com\",\"tickets\":[]}}'\n";
    let text = archiving(gone).replace(
        "status = 404\nbody = '{\"error\":\"not_found\"}'",
        &format!(
            "status = 200\nbody = '{{\"state\":\"archived\",\"mail\":\"person@example.com\",\"id\":7}}'\n\n{found}"
        ),
    );
    let found = faults(&text);
    assert!(matches!(&found[..], [one] if one.place == "example[2]" && one.problem.contains("email")), "{found:?}");
    for good in [
        "status = 200\nbody = '{\"state\":\"archived\",\"user\":{\"id\":7,\"email\":null}}'",
        "identifiers = { email = \"person@example.com\" }\nstatus = 200\nbody = \
         '{\"state\":\"archived\",\"user\":{\"id\":7,\"email\":\"nobody@example.com\"}}'",
    ] {
        assert_eq!(with(gone, good), [], "{good}");
    }
}

/// The objects of page 2 would stay.
#[test]
fn a_list_of_objects_to_erase_is_complete() {
    const COMPLETE: &str = r#", complete = "an account has ten tickets at most""#;
    let says = ["does not show that the list is complete", "/next_page"];
    each_is_the_only_fault(&[
        case(COMPLETE, "", r#"  { when = { at = "/user/id""#, "read.person.answers[0]", says),
        case(
            GONE,
            r#"{ when = { status = 404 }, is = "gone", complete = "documented" }"#,
            GONE.split_at(25).0,
            "read.person.answers[1]",
            ["takes no list", "remove complete"],
        ),
    ]);
    let without = edited(COMPLETE, "");
    let with = |more: &str| {
        let all = format!(r#"{{ when = {{ all = [{{ at = "/user/id", type = "number" }}, {more}] }}"#);
        faults(&without.replace(r#"{ when = { at = "/user/id", type = "number" }"#, &all))
    };
    for end in [
        r#"{ at = "/next_page", type = "null" }"#,
        r#"{ at = "/next_page", exists = false }"#,
        r#"{ at = "/links/next", is = "" }"#,
        r#"{ at = "/has_more", is = false }"#,
    ] {
        assert_eq!(with(end), [], "{end}");
    }
    for no_end in [
        r#"{ at = "/user/tickets", type = "list" }"#,
        r#"{ at = "/user/tickets/1", exists = false }"#,
        r#"{ at = "/has_more", is = true }"#,
        r#"{ at = "/next_page", type = "text" }"#,
        r#"{ any = [{ at = "/has_more", is = false }, { at = "/page", is = 1 }] }"#,
    ] {
        let found = with(no_end);
        assert!(matches!(&found[..], [one] if one.problem.contains(says[0])), "{no_end}: {found:?}");
    }
}

#[test]
fn absence_counts_only_where_presence_was_seen() {
    // A status that only an address of its own gives: nobody was ever seen there.
    let says = ["an address that never existed gives the same reply", "let an earlier act's evidence expect \"found\""];
    each_is_the_only_fault(&[case(
        r#"{ when = { status = 409, at = "/error", is = "erased_before" }, is = "done_before" }"#,
        r#"{ when = { status = 404 }, is = "done_before" }"#,
        "status = 404 }, is = \"done_before\"",
        "act.erase.answers[1]",
        ["at which no read has shown anybody before", "write is = \"unclear\""],
    )]);
    each_is_told(&[case(
        r#"{ when = { at = "/ticket/deleted", is = true }, is = "done" }"#,
        r#"{ when = { status = 404, at = "/error", is = "gone" }, is = "done" }"#,
        "evidence = { read = \"ticket\" }",
        "act.tickets.evidence",
        says,
    )]);
    let text = edited(
        r#"{ when = { at = "/ticket/deleted", is = true }, is = "done" }"#,
        r#"{ when = { status = 404 }, is = "done" }"#,
    );
    let found = faults(&text);
    for place in ["act.tickets.evidence", "act.tickets.lost"] {
        let one = found.iter().find(|one| one.place == place).unwrap_or_else(|| panic!("{place}: {found:?}"));
        assert!(says.iter().all(|part| one.to_string().contains(part)), "{one}");
    }
}

/// A search in the wrong region has an empty list, too. It may confirm another proof.
#[test]
fn an_empty_search_alone_proves_nothing() {
    let with = |evidence: &str| {
        let text = edited(r#"evidence = { read = ["progress", "person"], expect = ["done", "gone"]"#, evidence)
            .replace(
                "[[act]]\nname = \"tickets\"",
                "[read.search]\nget = \"/search/${id.user_id}\"\nanswers = [{ when = { at = \"/total\", is = 0 }, is = \
                 \"gone\" }]\n\n[[act]]\nname = \"tickets\"",
            )
            .replace("of = \"read.person\"", "of = \"read.search\"")
            .replace("status = 404\nbody = '{\"error\":\"not_found\"}'", "status = 200\nbody = '{\"total\":0}'");
        faults(&text)
    };
    let found = with(r#"evidence = { read = "search""#);
    let told = |one: &crate::Fault| {
        one.place == "act.erase.evidence" && one.problem.contains("takes a reply without the person from read.search")
    };
    assert!(found.iter().any(told), "{found:?}");
    assert_eq!(with(r#"evidence = { read = ["progress", "search"], expect = ["done", "gone"]"#), []);
}

/// The first draft of a file took 404 at an address of deleted users as purged; an active user gives the same 404.
#[test]
fn a_bin_that_never_showed_the_person_proves_no_purge() {
    let text = super::files::ZENDESK.replace(
        r#"evidence = { read = ["inactive", "bin"], expect = ["done", "found"] }"#,
        r#"evidence = { read = "inactive" }"#,
    );
    let found = faults(&text);
    let places: Vec<&str> = found.iter().map(|one| one.place.as_str()).collect();
    assert_eq!(places, ["act.purge.lost", "act.purge.evidence"], "{found:?}");
    assert!(found.iter().all(|one| one.problem.contains("/api/v2/deleted_users/${id.user_id}")), "{found:?}");
}

#[test]
fn facts_are_known_when_they_are_used() {
    each_is_the_only_fault(&[case(
        ERASE_LOST,
        "lost = { read = \"progress\" }",
        "lost = { read = \"progress\" }",
        "act.erase.lost",
        ["which stood in the answer that was lost", "write a read that needs only identifiers"],
    )]);
    each_is_told(&[
        case(
            "post = \"/users/${id.user_id}/erase\"",
            "post = \"/users/${id.user_id}/erase/${fact.task}\"",
            "[[act]]\nname = \"erase\"",
            "act.erase",
            ["is not taken before the first act", "take task in [read.person]"],
        ),
        case(
            ", take = { task = \"/task\" }",
            "",
            "get = \"/tasks",
            "read.progress.get",
            ["names the fact task", "write one of tickets"],
        ),
    ]);
    // An answer that leads on to the evidence, without the fact that the evidence needs.
    let text = edited(
        "  { when = { status = 409, at = \"/error\"",
        "  { when = { status = 200, at = \"/task\", type = \"text\" }, is = \"accepted\" },\n  { when = { status = 409, at = \"/error\"",
    );
    let found = faults(&text);
    assert!(
        matches!(&found[..], [one] if one.place == "act.erase.answers[1]"
        && one.problem.contains("evidence that needs ${fact.task}")),
        "{found:?}"
    );
}

#[test]
fn no_answer_is_hidden_and_no_stronger_one_stands_before_a_weaker() {
    each_is_the_only_fault(&[case(
        GONE,
        "{ when = { status = 404 }, is = \"gone\" },\n  { when = { status = 404, at = \"/error\", is = \"x\" }, is = \"refused\", reason = \"rejected\" }",
        "is = \"refused\", reason = \"rejected\"",
        "read.person.answers[2]",
        ["is never reached: every such reply is already taken by answers[1]", "write it before that one"],
    )]);
    each_is_told(&[
        case(
            DONE,
            "{ when = { at = \"/state\", is = \"completed\" }, is = \"done\" },\n  { when = { at = \"/failed\", is = true }, is = \"not_done\" }",
            "{ when = { at = \"/failed\"",
            "read.progress.answers[1]",
            ["a reply that says both would count as the stronger", "write not_done before done"],
        ),
        case(
            DONE,
            "{ when = { all = [{ at = \"/state\", is = \"completed\" }, { at = \"/state\", is = \"done\" }] }, is = \"done\" }",
            "\"/state\", is = \"done\"",
            "read.progress.answers[0].when",
            ["contradict each other", "can be true together"],
        ),
    ]);
    // The other order is safe: a reply that says both counts as the weaker.
    let text = edited(
        DONE,
        "{ when = { at = \"/failed\", is = true }, is = \"not_done\" },\n  { when = { at = \"/state\", is = \"completed\" }, is = \"done\" }",
    );
    let text = text.replace("'{\"state\":\"completed\"}'", "'{\"state\":\"completed\",\"failed\":false}'");
    assert_eq!(faults(&text), []);
}

#[test]
fn nothing_is_without_bounds() {
    each_is_the_only_fault(&[
        case(
            ", for = \"30d\"",
            "",
            "evidence = { read = [\"progress\"",
            "act.erase.evidence",
            ["can answer `pending` for ever", "write for = "],
        ),
        case("for = \"30d\"", "for = \"900d\"", "900d", "act.erase.evidence.for", ["without end", "at most 90d"]),
        case("first = \"1m\"", "first = \"10ms\"", "10ms", "act.erase.evidence.first", ["without rest", "at least 1s"]),
        case("first = \"1m\"", "first = 60", "first = 60", "act.erase.evidence.first", ["not a duration", "\"30s\""]),
    ]);
    each_is_told(&[case(
        "deletes = 10",
        "deletes = 0",
        "deletes = 0",
        "limits.deletes",
        ["outside the permitted range", "1 to"],
    )]);
    // Seventeen steps.
    let more: String = (0..12)
        .map(|n| {
            format!(
                "[[act]]\nname = \"more{n}\"\npost = \"/more/{n}\"\nanswers = [{{ when = {{ at = \"/ok\", is = true }}, is = \
                 \"accepted\" }}]\nlost = {{ unproven = true }}\nevidence = {{ read = \"person\" }}\n"
            )
        })
        .collect();
    let text = BASE.replacen("[[example]]", &format!("{more}\n[[example]]"), 1);
    let found = faults(&text);
    assert!(matches!(&found[..], [one] if one.place == "act" && one.problem.contains("17 steps")), "{found:?}");
}

#[test]
fn a_file_has_a_probe_sources_and_recorded_replies() {
    each_is_the_only_fault(&[
        case(
            "[probe]\nget = \"/me\"\nok = { at = \"/id\", type = \"number\" }\n",
            "",
            "format = 1",
            "probe",
            ["is missing: without a harmless read", "write [probe]"],
        ),
        case(
            "sources = [\"https://example.com/api\"]",
            "sources = []",
            "sources",
            "sources",
            ["names no page of the vendor", "write sources = "],
        ),
    ]);
    each_is_told(&[
        case(
            "of = \"read.progress\"\nis = \"done\"",
            "of = \"read.progress\"\nis = \"pending\"",
            "[[example]]\nof = \"read.progress\"",
            "example[1]",
            ["is recorded as \"pending\", but read.progress reads it as done", "mend the conditions"],
        ),
        case(
            "body = '{\"state\":\"completed\"}'",
            "body = '{\"state\":\"complete\"}'",
            "[[example]]\nof = \"read.progress\"",
            "example[1]",
            ["reads it as unmatched", "mend the conditions"],
        ),
    ]);
    for (old, new, place, says) in [
        (
            "\"completed\"}'",
            "\"finished\"}'",
            "example[1]",
            "is recorded as \"done\", but read.progress reads it as unmatched",
        ),
        (
            "[[example]]\nof = \"read.person\"\nis = \"gone\"\nstatus = 404\nbody = '{\"error\":\"not_found\"}'\n",
            "",
            "read.person.answers[1]",
            "counts as evidence (gone), but no recorded reply shows",
        ),
    ] {
        let found = faults(&edited(old, new));
        assert!(found.iter().any(|one| one.place == place && one.problem.contains(says)), "{place}: {found:?}");
    }
}
