//! Fifty slips of an author, planted in shipped files: what notices each.

use std::sync::Arc;

use erasure_connector::Connector;
use erasure_worker::kit::{Extent, Noticed, Options, notices, test};

use crate::{file, sample};

/// File, old text, new text. The old text counts at its first place.
const SLIPS: [(&str, &str, &str); 50] = [
    (
        "zendesk",
        "evidence = { read = [\"bin\", \"purged\"], expect = [\"gone\", \"done\"], first = \"1m\" }",
        "evidence = { answer = true, because = \"it said so\" }",
    ),
    (
        "zendesk",
        "evidence = { read = [\"bin\", \"purged\"], expect = [\"gone\", \"done\"], first = \"1m\" }",
        "evidence = { read = \"inactive\" }",
    ),
    (
        "zendesk",
        "evidence = { read = [\"inactive\", \"bin\"], expect = [\"done\", \"found\"] }",
        "evidence = { read = \"inactive\" }",
    ),
    ("zendesk", "lost = { read = \"inactive\" }", "lost = { harmless = true, because = \"it is a deletion\" }"),
    (
        "zendesk",
        "lost = { read = [\"bin\", \"purged\"], expect = [\"gone\", \"done\"] }",
        "lost = { recognised = true }",
    ),
    ("zendesk", "{ at = \"/deleted_user/name\", is = \"Permanently Deleted User\" }, ", ""),
    ("zendesk", ", { at = \"/deleted_user/email\", type = \"null\" }] }, is = \"gone\"", "] }, is = \"gone\""),
    (
        "zendesk",
        "at = \"/user/active\", is = false }, is = \"done\"",
        "at = \"/user/active\", is = true }, is = \"done\"",
    ),
    (
        "zendesk",
        "at = \"/user/active\", is = true }, is = \"not_done\"",
        "at = \"/user/active\", is = true }, is = \"done\"",
    ),
    (
        "zendesk",
        "same = { \"/user/id\" = \"user_id\", \"/user/email\" = \"email\" }",
        "same = { \"/user/id\" = \"user_id\" }",
    ),
    (
        "zendesk",
        "same = { \"/user/id\" = \"user_id\", \"/user/email\" = \"email\" }",
        "same = { \"/user/id\" = \"user_id\", \"/user/name\" = \"email\" }",
    ),
    ("zendesk", "delete = \"/api/v2/users/${id.user_id}\"", "delete = \"/api/v2/users/${id.email}\""),
    ("zendesk", "delete = \"/api/v2/deleted_users/${id.user_id}\"", "delete = \"/api/v2/users/${id.user_id}\""),
    (
        "zendesk",
        "is = \"accepted\" }, # documented\n    { when = { status = 422 }",
        "is = \"done\" }, # documented\n    { when = { status = 422 }",
    ),
    (
        "zendesk",
        "{ when = { status = 422 }, is = \"refused\", reason = \"precondition\" }",
        "{ when = { status = 422 }, is = \"accepted\" }",
    ),
    ("zendesk", "ok = { status = 200, at = \"/user/id\", type = \"number\" }", "ok = { status = 200 }"),
    (
        "braze",
        "evidence = { read = \"person\", first = \"30s\" }",
        "evidence = { answer = true, because = \"the queue is fast\" }",
    ),
    (
        "braze",
        "evidence = { read = \"person\", first = \"30s\" }",
        "evidence = { declared = true, because = \"the queue is fast\" }",
    ),
    ("braze", "lost = { read = \"person\" }", "lost = { unproven = true }"),
    ("braze", "lost = { read = \"person\" }", "lost = { harmless = true, because = \"again\" }"),
    ("braze", "at = \"/deleted\", is = 1 }, is = \"accepted\"", "at = \"/deleted\", is = 1 }, is = \"done\""),
    ("braze", "at = \"/deleted\", is = 0 }, is = \"unclear\"", "at = \"/deleted\", is = 0 }, is = \"done_before\""),
    ("braze", ", { at = \"/invalid_user_ids\", has = \"${id.external_id}\" }", ""),
    ("braze", "{ at = \"/users\", count = 0 }, ", ""),
    ("braze", "{ at = \"/users\", count = 1 }", "{ at = \"/users\", count = 0 }"),
    ("braze", "\"/users/0/external_id\" = \"external_id\", ", ""),
    ("braze", "json = { external_ids = [\"${id.external_id}\"] }", "json = { external_ids = [\"${id.email}\"] }"),
    ("braze", "json = { external_ids = [\"${id.external_id}\"] }", "json = { external_id = [\"${id.external_id}\"] }"),
    ("braze", "post = \"/users/delete\"", "post = \"/users/deletes\""),
    (
        "mixpanel",
        "evidence = { read = \"task\", first = \"1h\", longest = \"24h\", for = \"40d\" }",
        "evidence = { declared = true, because = \"30 days\" }",
    ),
    (
        "mixpanel",
        "evidence = { read = \"task\", first = \"1h\", longest = \"24h\", for = \"40d\" }",
        "evidence = { read = \"task\", expect = \"pending\", for = \"40d\" }",
    ),
    ("mixpanel", ", { at = \"/results/distinct_ids\", has = \"${id.distinct_id}\" }", ""),
    ("mixpanel", "{ at = \"/results/status\", is = \"SUCCESS\" }, ", ""),
    (
        "mixpanel",
        "in = [\"PENDING\", \"STAGING\", \"STARTED\"] }, is = \"pending\"",
        "in = [\"PENDING\", \"STAGING\", \"STARTED\"] }, is = \"done\"",
    ),
    (
        "mixpanel",
        "in = [\"FAILURE\", \"REVOKED\"] }, is = \"not_done\"",
        "in = [\"FAILURE\", \"REVOKED\"] }, is = \"pending\"",
    ),
    ("mixpanel", "take = { task = \"/results/task_id\" }", "take = { task = \"/status\" }"),
    ("mixpanel", "take = { task = \"/results/0/tracking_id\" }", "take = { task = \"/results/0/status\" }"),
    ("mixpanel", "in = [\"FAILURE\", \"REVOKED\"]", "in = [\"FAILURE\"]"),
    ("mixpanel", "bearer = \"${secret.oauth}\"", "bearer = \"${setting.project}\""),
    (
        "klaviyo",
        "at = \"/errors/0/code\", is = \"not_found\" }, is = \"gone\"",
        "at = \"/errors/0/code\", type = \"text\" }, is = \"gone\"",
    ),
    ("klaviyo", "is = \"accepted\" }] # documented: the deletion follows later", "is = \"done\" }]"),
    ("mailchimp", "/members/${id.email|lower|md5}/actions", "/members/${id.email|md5}/actions"),
    ("mailchimp", "/members/${id.email|lower|md5}\"", "/members/${id.email|lower|sha256}\""),
    ("mailchimp", "\"transactional\", \"archived\"]", "\"transactional\"]"),
    ("intercom", "outcome = \"declared\"", "outcome = \"erased\""),
    (
        "intercom",
        "is = \"contact_merged\" }, is = \"refused\", reason = \"precondition\"",
        "is = \"contact_merged\" }, is = \"gone\"",
    ),
    ("segment", "is = \"FINISHED\" }, is = \"done\"", "in = [\"FINISHED\", \"PARTIAL_SUCCESS\"] }, is = \"done\""),
    (
        "stripe",
        "in = [\"redacting\", \"succeeded\"] }, is = \"done\"",
        "in = [\"ready\", \"redacting\", \"succeeded\"] }, is = \"done\"",
    ),
    (
        "stripe",
        "{ when = { status = 200, at = \"/status\", is = \"succeeded\" }, is = \"done\" }",
        "{ when = { status = 200, at = \"/status\", in = [\"succeeded\", \"redacting\"] }, is = \"done\" }",
    ),
    (
        "hubspot",
        "evidence = { read = [\"person\", \"bin\"], expect = [\"gone\", \"gone\"], first = \"10s\" }",
        "evidence = { read = \"person\", first = \"10s\" }",
    ),
];

/// The slips that nothing can notice, by their new text; each with its reason.
const UNNOTICED: [(&str, &str); 0] = [];

fn slipped(name: &str, old: &str, new: &str) -> Option<Connector> {
    let (_, text) = file(name);
    assert!(text.contains(old), "{name} does not have {old}");
    erasure_connector::load(text.replacen(old, new, 1).as_bytes()).ok()
}

/// A stand-in made from a file with a slip has the same slip. What is too weak for changed replies, shows all the same.
#[tokio::test]
async fn a_file_that_is_too_weak_is_found_out_by_its_own_stand_in() {
    let weak = [
        ("braze", "has = \"${id.external_id}\"", "has = \"${id.external_id}\"", false),
        ("braze", ", { at = \"/invalid_user_ids\", has = \"${id.external_id}\" }", "", true),
        ("sendgrid-contacts", "{ status = 404, empty = true }", "{ status = 404 }", true),
    ];
    for (name, old, new, is_weak) in weak {
        let (_, text) = file(name);
        let text = text.replacen(old, new, 1);
        let changed = Arc::new(slipped(name, old, new).unwrap());
        let report = test(&changed, &text, Options { extent: Extent::Sample(1), by_chance: 0, ..sample() }).await;
        assert_eq!(report.counts.false_successes > 0, is_weak, "{report}");
    }
}

#[tokio::test]
async fn the_right_file_itself_is_no_slip() {
    for name in ["zendesk", "braze", "stripe"] {
        let (right, _) = file(name);
        assert_eq!(notices(&right, &right).await.unwrap(), None, "{name}");
    }
}

#[tokio::test]
async fn at_least_47_of_50_planted_slips_are_noticed_and_the_others_are_named() {
    let (mut loader, mut reply, mut run, mut missed) = (0, 0, 0, Vec::new());
    for (name, old, new) in SLIPS {
        let (right, _) = file(name);
        let noticed = match slipped(name, old, new) {
            None => Some(Noticed::Loader),
            Some(slipped) => notices(&Arc::clone(&right), &slipped).await.unwrap(),
        };
        match noticed {
            Some(Noticed::Loader) => loader += 1,
            Some(Noticed::Reply) => reply += 1,
            Some(Noticed::Run) => run += 1,
            None => missed.push((name, old, new)),
        }
    }
    eprintln!("{loader} by the loader, {reply} by a reply, {run} by a run; missed: {missed:#?}");
    assert!(missed.len() <= 3, "{missed:#?}");
    for (_, _, new) in missed {
        assert!(UNNOTICED.iter().any(|(known, _)| *known == new), "{new}");
    }
}
