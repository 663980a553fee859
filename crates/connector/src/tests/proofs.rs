//! What a reply must not have, and what a job must name, to prove an erasure.

use std::collections::BTreeMap;

use super::edits::{BASE, edited, faults};
use super::files::MIXPANEL;
use crate::model::{Connector, Says, Shows, Slot, Source};
use crate::{Reply, Understood, Values, load};

/// The identifiers of a job.
struct Job(BTreeMap<&'static str, &'static str>);

impl Values for Job {
    fn slot(&self, slot: &Slot) -> Option<String> {
        let value = self.0.get(slot.name.as_str()).filter(|_| slot.source == Source::Id)?;
        Some(crate::fill::converted((*value).to_owned(), &slot.converters))
    }
}

fn job() -> Job {
    Job([("user_id", "7"), ("email", "Person@example.com")].into())
}

/// Archived users are read on 200.
const GONE: &str = r#"{ when = { status = 404 }, is = "gone" }"#;
const ARCHIVED: &str = r#"{ when = { status = 200, at = "/state", is = "archived" }, is = "gone" }, { when = { status = 404 }, is = "gone" }"#;
const EXAMPLE: &str =
    "[[example]]\nof = \"read.person\"\nis = \"gone\"\nstatus = 200\nbody = '{\"state\":\"archived\"}'\n\n";

fn archiving(path: &str) -> Connector {
    let text = edited(GONE, ARCHIVED)
        .replace(r#"{ when = { at = "/user/id", type = "number" }"#, r#"{ when = { at = "/state", is = "active" }"#)
        .replacen("[[example]]", &format!("{EXAMPLE}[[example]]"), 1)
        .replace("get = \"/users/${id.user_id}\"", path)
        .replace(r#"email = { type = "email" }"#, r#"email = { type = "email", required = true }"#);
    load(text.as_bytes()).map_err(|faults| faults.to_string()).unwrap()
}

/// The meaning of a reply to the read with this place, and whether it is marked.
fn shows(file: &Connector, read: usize, status: u16, body: &str) -> Option<(Shows, bool)> {
    match file.understand_read(&file.reads[read], &Reply::new(status, Vec::new(), body.as_bytes()), &job()) {
        Understood::Means { is, is_marked, .. } => Some((is, is_marked)),
        _ => None,
    }
}

/// Every place at which a reply can have an address.
const PLACES: [&str; 7] = [
    r#""user":{"email":"Person@example.com"}"#,
    r#""mail":"person@EXAMPLE.com""#,
    r#""log":["deleted for person@example.com by an agent"]"#,
    r#""a":{"b":[{"c":[1,"<person@example.com>"]}]}"#,
    r#""a":"person\u0040example.com""#,
    r#""person@example.com":{"deleted":true}"#,
    r#""by":{"PERSON@example.com":null}"#,
];

#[test]
fn a_reply_that_still_has_the_persons_address_shows_no_erasure() {
    let file = archiving("get = \"/users/${id.user_id}\"");
    let body = |more: &str| format!(r#"{{"state":"archived","id":7,{more}}}"#);
    for place in PLACES {
        assert_eq!(shows(&file, 0, 200, &body(place)), None, "{place}");
        let done = |read: usize, state: &str| shows(&file, read, 200, &format!("{{{state},{place}}}"));
        assert_eq!(done(1, r#""ticket":{"deleted":true}"#), Some((Shows::Done, true)), "{place}");
        assert_eq!(done(2, r#""state":"completed""#), Some((Shows::Done, true)), "{place}");
        assert_eq!(done(2, r#""state":"queued""#), Some((Shows::Pending, false)), "{place}");
    }
    assert_eq!(shows(&file, 0, 404, "<p>No user person@example.com.</p>"), None);
    // Another person's, a part of one, none; and the id by which the vendor was asked.
    for place in [
        r#""mail":"agent@example.com""#,
        r#""mail":"person""#,
        r#""host":"example.com""#,
        r#""user":{"email":null}"#,
        r#""user":{"id":"7"}"#,
    ] {
        assert_eq!(shows(&file, 0, 200, &body(place)), Some((Shows::Gone, false)), "{place}");
        assert_eq!(shows(&file, 0, 404, &body(place)), Some((Shows::Gone, false)), "{place}");
    }
    let nobody = Job(BTreeMap::from([("user_id", "7")]));
    let reply = Reply::new(200, Vec::new(), body(PLACES[0]).as_bytes());
    let Understood::Means { is, .. } = file.understand_read(&file.reads[0], &reply, &nobody) else {
        panic!("no meaning")
    };
    assert_eq!(is, Shows::Gone, "the job names no address");
}

/// What a call names in clear the vendor repeats of nobody, too. Where the file compares it, it is the person's.
#[test]
fn an_address_that_was_sent_may_be_repeated() {
    let body = |more: &str| format!(r#"{{"state":"archived","id":7,{more}}}"#);
    let sent = archiving("get = \"/users/${id.user_id}/${id.email}\"");
    for place in &PLACES[1..] {
        assert_eq!(shows(&sent, 0, 200, &body(place)), Some((Shows::Gone, false)), "{place}");
    }
    assert_eq!(shows(&sent, 0, 200, &body(PLACES[0])), None);
    let digest = archiving("get = \"/users/${id.user_id}/${id.email|lower|md5}\"");
    for place in PLACES {
        assert_eq!(shows(&digest, 0, 200, &body(place)), None, "{place}");
    }
}

#[test]
fn an_answer_that_is_the_proof_has_no_address_of_the_person() {
    let text = edited(
        r#"  { when = { at = "/ticket/deleted", is = true }, is = "accepted" },"#,
        r#"  { when = { status = 200, at = "/state", is = "erased" }, is = "done" },
  { when = { status = 202, at = "/state", is = "queued" }, is = "accepted" },"#,
    );
    let example = "[[example]]\nof = \"act.tickets\"\nis = \"done\"\nstatus = 200\nbody = '{\"state\":\"erased\"}'\n\n";
    let text = text
        .replace(r#"evidence = { read = "ticket" }"#, "evidence = { answer = true, because = \"documented\" }")
        .replacen("[[example]]", &format!("{example}[[example]]"), 1);
    let file = load(text.as_bytes()).map_err(|faults| faults.to_string()).unwrap();
    let says = |status: u16, body: &str| {
        let reply = Reply::new(status, Vec::new(), body.as_bytes());
        match file.understand_act(&file.acts[0], &reply, &job()) {
            Understood::Means { is, .. } => Some(is),
            _ => None,
        }
    };
    for place in PLACES {
        assert_eq!(says(200, &format!(r#"{{"state":"erased",{place}}}"#)), None, "{place}");
        let queued = says(202, &format!(r#"{{"state":"queued",{place}}}"#));
        assert_eq!(queued, Some(Says::Accepted), "no proof rests on it: {place}");
    }
    assert_eq!(says(200, r#"{"state":"erased","id":7}"#), Some(Says::Done));
}

/// A user who is only deleted still has the address: of the last act that is no evidence.
#[test]
fn a_recorded_mark_is_no_evidence_of_the_last_act() {
    let text = super::files::ZENDESK
        .replace(
            r#"'{"user":{"id":7,"active":false}}'"#,
            r#"'{"user":{"id":7,"active":false,"email":"ann@example.com"}}'"#,
        )
        .replacen(
            "[[example]]",
            "[[example]]\nof = \"read.person\"\nis = \"found\"\nstatus = 200\nbody = \
             '{\"user\":{\"id\":7,\"email\":\"ann@example.com\",\"active\":true}}'\n\n[[example]]",
            1,
        );
    let found = faults(&text);
    let told = |one: &crate::Fault| one.place == "example[1]" && one.problem.contains("is read as done, but still has");
    assert!(matches!(&found[..], [one] if told(one)), "{found:?}");
    // The first act leads on: it finds the user in the bin.
    let leads_on =
        text.replace(r#"["bin", "inactive"], expect = ["gone", "done"], first"#, r#""bin", expect = "gone", first"#);
    assert_eq!(faults(&leads_on), []);
}

/// Another job that has ended, such as an unsubscription, is no proof.
#[test]
fn a_job_that_proves_an_act_is_its_own() {
    let alone = |get: &str| {
        let progress = "[read.progress]\nget = \"/tasks/${fact.task}\"";
        assert_eq!(BASE.matches(progress).count(), 1);
        let text = BASE.replace(progress, &format!("[read.progress]\n{get}")).replace(
            r#"evidence = { read = ["progress", "person"], expect = ["done", "gone"]"#,
            r#"evidence = { read = "progress""#,
        );
        faults(&text)
    };
    let is_told = |found: &[crate::Fault]| {
        found.iter().any(|one| {
            one.place == "act.erase.evidence"
                && one.problem.contains("rests on done of read.progress, which names no job of this act")
        })
    };
    for own in [
        "get = \"/tasks/${fact.task}\"",
        "post = \"/tasks/find\"\nreads_only = true\njson = { id = \"${fact.task}\" }",
        // Where the person was seen; and the act's own address.
        "get = \"/users/${id.user_id}\"",
        "get = \"/users/${id.user_id}/erase\"",
    ] {
        let found = alone(own);
        assert!(!is_told(&found), "{own}: {found:?}");
    }
    for other in [
        "get = \"/tasks/latest\"",
        "get = \"/unsubscriptions/${id.user_id}\"",
        "post = \"/tasks/find\"\nreads_only = true\njson = { user = \"${id.user_id}\" }",
    ] {
        let found = alone(other);
        assert!(is_told(&found), "{other}: {found:?}");
    }
    // Beside a read that shows that nobody is there, it may be any.
    assert!(!is_told(&faults(&edited("get = \"/tasks/${fact.task}\"", "get = \"/tasks/latest\""))));
    // Where the answer is the proof, and it is lost, the deciding read is the proof.
    let lost = |get: &str| {
        let text = edited(
            r#"  { when = { at = "/ticket/deleted", is = true }, is = "accepted" },"#,
            r#"  { when = { status = 200, at = "/ticket/deleted", is = true }, is = "done" },"#,
        );
        let example = "[[example]]\nof = \"act.tickets\"\nis = \"done\"\nstatus = 200\nbody = '{\"ticket\":{\"deleted\":true}}'\n\n";
        let text = text
            .replace(r#"evidence = { read = "ticket" }"#, "evidence = { answer = true, because = \"documented\" }")
            .replace("get = \"/tickets/${item}\"", get)
            .replacen("[[example]]", &format!("{example}[[example]]"), 1);
        faults(&text)
    };
    assert_eq!(lost("get = \"/tickets/${item}\""), []);
    let found = lost("get = \"/erasures/${item}\"");
    assert!(
        matches!(&found[..], [one] if one.place == "act.tickets.lost" && one.problem.contains("names no job of this act")),
        "{found:?}"
    );
    // The job of another act, unless this act's call is about that job.
    let two = |second: &str| {
        let act = format!(
            "[[act]]\nname = \"run\"\npost = \"{second}\"\nanswers = [{{ when = {{ status = 202 }}, is = \"accepted\" }}]\n\
             lost = {{ harmless = true, because = \"documented\" }}\nevidence = {{ read = \"task\", first = \"1h\", for = \"40d\" }}\n\n"
        );
        faults(&MIXPANEL.replacen("[[example]]", &format!("{act}[[example]]"), 1))
    };
    assert_eq!(two("/data-deletions/v3.0/${fact.task}/run"), []);
    let found = two("/unsubscriptions");
    assert!(
        matches!(&found[..], [one] if one.place == "act.run.evidence" && one.problem.contains("names no job of this act")),
        "{found:?}"
    );
}
