//! Rules of every client: the meaning of a lost, late, endless or redirected answer; no address or identifier in a
//! failure.

use std::time::Duration;

use erasure_worker::job::{FailureKind, Reason, Spec, Step, StepName};
use erasure_worker::systems::cleeng::Cleeng;
use erasure_worker::systems::http::{Base, Effect, Http, HttpSettings, LIST_LIMIT, REPLY_LIMIT, Request};
use erasure_worker::systems::{Facts, System};
use tokio::net::TcpListener;

use crate::stub::{Play, Stub, ask, assert_clean, one, quick, reply, reply_with};
use crate::{cleeng, easycms, vitalsource};

/// A system, a target and the facts for its steps.
struct Case {
    system: Box<dyn System>,
    spec: Spec,
    facts: Facts,
    read: Step,
    changes: Vec<Step>,
}

fn cases(stub: &Stub) -> Vec<Case> {
    let entitled = Facts { entitlement: Some(cleeng::entitlement()), ..Facts::default() };
    vec![
        Case {
            system: Box::new(cleeng::client(stub)),
            spec: cleeng::backend(),
            facts: entitled,
            read: one(StepName::Resolve),
            changes: vec![one(StepName::DeleteCustomer), one(StepName::TerminateEntitlement)],
        },
        Case {
            system: Box::new(easycms::client(stub, easycms::PATH)),
            spec: easycms::spec(),
            facts: Facts::default(),
            read: one(StepName::Resolve),
            changes: vec![one(StepName::DeleteAccount)],
        },
        Case {
            system: Box::new(vitalsource::client(stub)),
            spec: vitalsource::account(Some("GUID-1"), None),
            facts: vitalsource::facts(),
            read: one(StepName::ReadCode),
            changes: vec![one(StepName::RevokeCode), one(StepName::OverwriteUser)],
        },
    ]
}

async fn lost(play: Play, read: FailureKind, change: FailureKind, reason: Reason) {
    let stub = Stub::start().await;
    for case in cases(&stub) {
        let steps = [(case.read, read)].into_iter().chain(case.changes.iter().map(|step| (*step, change)));
        for (step, kind) in steps {
            stub.play([play.clone()]);
            let failure = ask(case.system.as_ref(), &case.spec, step, &case.facts).await.expect_err("lost");
            assert_eq!((failure.kind, failure.reason), (kind, reason), "{}", step.name.as_str());
            assert_eq!(stub.seen().len(), 1, "the request was sent twice");
        }
    }
}

#[tokio::test]
async fn a_dropped_connection_leaves_a_change_in_doubt_and_a_read_undone() {
    lost(Play::Cut, FailureKind::Unavailable, FailureKind::Ambiguous, Reason::SystemUnavailable).await;
}

#[tokio::test]
async fn a_truncated_reply_counts_as_no_reply() {
    lost(Play::Half, FailureKind::Unavailable, FailureKind::Ambiguous, Reason::SystemUnavailable).await;
}

#[tokio::test]
async fn a_reply_over_the_limit_is_not_read_to_its_end() {
    let over = Play::Flood(REPLY_LIMIT + 64 * 1024);
    lost(over, FailureKind::Unreadable, FailureKind::Ambiguous, Reason::UnreadableReply).await;
}

#[tokio::test]
async fn a_server_error_leaves_a_change_in_doubt_and_a_read_undone() {
    lost(reply(503, "secret text"), FailureKind::Unavailable, FailureKind::Ambiguous, Reason::SystemUnavailable).await;
}

#[tokio::test]
async fn a_redirect_holds_the_system_and_is_not_followed() {
    let there = reply_with(307, "Location: /ann@example.com/123456789\r\n", "");
    lost(there, FailureKind::UnauthorisedOurs, FailureKind::UnauthorisedOurs, Reason::SystemUnavailable).await;
}

#[tokio::test]
async fn a_rate_limit_reports_its_retry_after_for_every_call() {
    let stub = Stub::start().await;
    for case in cases(&stub) {
        for step in case.changes.iter().chain([&case.read]) {
            stub.play([reply_with(429, "Retry-After: 37\r\n", "secret text")]);
            let failure = ask(case.system.as_ref(), &case.spec, *step, &case.facts).await.expect_err("429");
            assert_eq!(failure.kind, FailureKind::RateLimited);
            assert_eq!(failure.retry_after, Some(Duration::from_secs(37)));
        }
    }
}

#[tokio::test]
async fn a_timeout_leaves_a_change_in_doubt() {
    let stub = Stub::start().await;
    let common = HttpSettings {
        timeout: Duration::from_millis(200),
        connect_timeout: Duration::from_millis(200),
        ..HttpSettings::default()
    };
    let client = Cleeng::new("cleeng", cleeng::settings(&stub.url), &common).expect("client");
    for (name, kind) in
        [(StepName::DeleteCustomer, FailureKind::Ambiguous), (StepName::Resolve, FailureKind::Unavailable)]
    {
        stub.play([Play::Stall]);
        let failure = ask(&client, &cleeng::backend(), one(name), &Facts::default()).await.expect_err("late");
        assert_eq!((failure.kind, failure.note.map(|note| note.to_string()).as_deref()), (kind, Some("timed out")));
    }
}

#[tokio::test]
async fn without_a_connection_a_change_was_certainly_not_made() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let closed = format!("http://{}", listener.local_addr().expect("address"));
    drop(listener);
    let client = Cleeng::new("cleeng", cleeng::settings(&closed), &quick()).expect("client");
    let delete = one(StepName::DeleteCustomer);
    let failure = ask(&client, &cleeng::backend(), delete, &Facts::default()).await.expect_err("none");
    assert_eq!(
        (failure.kind, failure.note.map(|note| note.to_string()).as_deref()),
        (FailureKind::Unavailable, Some("connection refused"))
    );
}

#[tokio::test]
async fn an_unresolvable_name_is_reported_as_such() {
    let client = Cleeng::new("cleeng", cleeng::settings("http://nobody.invalid"), &quick()).expect("client");
    let delete = one(StepName::DeleteCustomer);
    let failure = ask(&client, &cleeng::backend(), delete, &Facts::default()).await.expect_err("none");
    assert_eq!(
        (failure.kind, failure.note.map(|note| note.to_string()).as_deref()),
        (FailureKind::Unavailable, Some("the name cannot be resolved"))
    );
}

#[tokio::test]
async fn a_server_without_tls_counts_as_no_connection() {
    let stub = Stub::start().await;
    let settings = cleeng::settings(&stub.url.replace("http://", "https://"));
    let common = HttpSettings { connect_timeout: Duration::from_millis(200), ..quick() };
    let client = Cleeng::new("cleeng", settings, &common).expect("client");
    let failure =
        ask(&client, &cleeng::backend(), one(StepName::DeleteCustomer), &Facts::default()).await.expect_err("no TLS");
    assert_eq!(failure.kind, FailureKind::Unavailable);
}

#[tokio::test]
async fn a_list_may_be_longer_than_other_replies_but_has_a_limit() {
    let stub = Stub::start().await;
    let client = cleeng::client(&stub);
    let padded = |length: usize| format!("{}{}", r#"{"items":[]}"#, " ".repeat(length));
    stub.play([reply(200, padded(REPLY_LIMIT + 1))]);
    let list = one(StepName::ListEntitlements);
    assert!(ask(&client, &cleeng::backend(), list, &Facts::default()).await.is_ok());
    stub.play([reply(200, padded(LIST_LIMIT))]);
    let failure = ask(&client, &cleeng::backend(), list, &Facts::default()).await.expect_err("too long");
    assert_eq!(failure.kind, FailureKind::Unreadable);
}

#[tokio::test]
async fn a_one_time_password_is_in_doubt_only_after_a_lost_answer() {
    let stub = Stub::start().await;
    let base = Base::new("base_url", &stub.url).expect("base");
    let http = Http::new(&quick(), &[&base]).expect("http");
    assert_eq!(Effect::from(StepName::RequestOtp), Effect::OneTimePassword);
    for (play, kind) in [
        (reply(500, ""), FailureKind::Unavailable),
        (reply(503, ""), FailureKind::Unavailable),
        (reply(502, ""), FailureKind::Ambiguous),
        (reply(504, ""), FailureKind::Ambiguous),
        (Play::Cut, FailureKind::Ambiguous),
    ] {
        stub.play([play]);
        let failure = http.send(Request::post(base.itself()), Effect::OneTimePassword).await.expect_err("fails");
        assert_eq!(failure.kind, kind);
        assert_clean(&failure);
    }
}

#[tokio::test]
async fn form_fields_can_be_sent_as_multipart_on_a_delete() {
    let stub = Stub::start().await;
    let base = Base::new("base_url", &stub.url).expect("base");
    let http = Http::new(&quick(), &[&base]).expect("http");
    stub.play([reply(200, "{}")]);
    let request = Request::delete(base.join("/api/profile", &[]).expect("url"))
        .bearer(&"tok-access".into())
        .multipart(&[("current_password", "pa$$\r\nx")]);
    http.send(request, Effect::Change).await.expect("reply");
    let seen = stub.only();
    assert_eq!(seen.line, "DELETE /api/profile HTTP/1.1");
    assert_eq!(seen.header("authorization"), Some("Bearer tok-access"));
    assert!(seen.header("content-type").is_some_and(|value| value.starts_with("multipart/form-data; boundary=")));
    assert!(seen.body.contains("name=\"current_password\"\r\n\r\npa$$\r\nx\r\n--"));
    assert_eq!(seen.header("user-agent"), Some(concat!("erasure-worker/", env!("CARGO_PKG_VERSION"))));
    assert_eq!(seen.header("accept-encoding"), None);
}

#[tokio::test]
async fn with_a_proof_that_no_header_can_hold_nothing_is_sent() {
    let stub = Stub::start().await;
    let base = Base::new("base_url", &stub.url).expect("base");
    let http = Http::new(&quick(), &[&base]).expect("http");
    let request = Request::delete(base.itself()).bearer(&"tok-a\r\nX-Other: b".into());
    let failure = http.send(request, Effect::Change).await.expect_err("refused");
    assert_eq!(failure.kind, FailureKind::Rejected);
    assert!(stub.seen().is_empty());
}

#[tokio::test]
async fn with_an_id_that_would_change_the_path_nothing_is_sent() {
    let stub = Stub::start().await;
    let client = vitalsource::client(&stub);
    for id in ["", ".", ".."] {
        let spec = vitalsource::account(Some(id), None);
        let failure =
            ask(&client, &spec, one(StepName::OverwriteUser), &Facts { guid: None, ..vitalsource::facts() }).await;
        assert_eq!(failure.expect_err("refused").kind, FailureKind::Rejected);
    }
    assert!(stub.seen().is_empty());
}

#[tokio::test]
async fn for_a_step_of_another_kind_of_system_nothing_is_sent() {
    let stub = Stub::start().await;
    for case in cases(&stub) {
        for other in cases(&stub) {
            if case.system.kind() == other.system.kind() {
                continue;
            }
            let mismatched = ask(case.system.as_ref(), &other.spec, case.read, &case.facts).await;
            assert_eq!(mismatched.expect_err("refused").kind, FailureKind::Rejected);
        }
        let foreign = ask(case.system.as_ref(), &case.spec, one(StepName::DeleteMember), &case.facts).await;
        assert_eq!(foreign.expect_err("refused").kind, FailureKind::Rejected);
    }
    assert!(stub.seen().is_empty());
}
