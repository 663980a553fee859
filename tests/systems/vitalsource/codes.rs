//! Codes and licences: cancelled and revoked codes, expired licences.

use erasure_worker::job::{Answer, CodeState, Failure, FailureKind, Identity, Reason, Step, StepName};
use erasure_worker::systems::Facts;
use erasure_worker::systems::vitalsource::VitalSource;

use super::{
    AMBIGUOUS, CREDENTIAL, FORBIDDEN, INVALID, NOT_FOUND, OURS, UNREADABLE, USER, account, both, client, facts,
};
use crate::stub::Expect::Is;
use crate::stub::{Stub, ask, fails, missing, one, reply, rows};

#[tokio::test]
async fn a_code_is_cancelled_only_if_its_read_has_deactivation_details() {
    let stub = Stub::start().await;
    let client = client(&stub);
    let is = |state, owner| Is(Answer::Code { state, owner });
    let table = [
        (
            200,
            "<code><id>code/1</id><redemption-details>x</redemption-details><user-email>ANN@example.com</user-email></code>",
            is(CodeState::Active, Identity::Same),
        ),
        (
            200,
            "<code><redemption-details>x</redemption-details><user-email>x@example.com</user-email></code>",
            is(CodeState::Active, Identity::Other),
        ),
        (
            200,
            "<code><redemption-details>Not Redeemed</redemption-details></code>",
            is(CodeState::Active, Identity::Unreadable),
        ),
        (
            200,
            "<code><deactivation-details>Deactivated on</deactivation-details><user-name>ref 1</user-name></code>",
            is(CodeState::Cancelled, Identity::Same),
        ),
        (
            200,
            "<code><deactivation_details><at>2026-11-15</at></deactivation_details><user-name>Somebody</user-name></code>",
            is(CodeState::Cancelled, Identity::Unreadable),
        ),
        (
            200,
            "<code><deactivation-details/><user-guid>GUID-2</user-guid><user-email>ann@example.com</user-email></code>",
            is(CodeState::Active, Identity::Other),
        ),
        (200, "<code/>", is(CodeState::Active, Identity::Unreadable)),
        (
            200,
            "<code><deactivation-details>Not Deactivated</deactivation-details></code>",
            is(CodeState::Active, Identity::Unreadable),
        ),
        (200, "<code><deactivation-details>x</deactivation-details></code>", UNREADABLE),
        (200, "<code>Service is busy<deactivation-details>Deactivated</deactivation-details></code>", UNREADABLE),
        (200, "<code><id>CODE/2</id><deactivation-details>Deactivated</deactivation-details></code>", UNREADABLE),
        (200, "<codes/>", UNREADABLE),
        (200, "", UNREADABLE),
        (200, "<error-response><error-code>401</error-code></error-response>", OURS),
        (404, "<error-text>Invalid Code</error-text>", UNREADABLE),
        (404, NOT_FOUND, UNREADABLE),
        (404, "default backend - 404", UNREADABLE),
        (404, "<html>secret text</html>", UNREADABLE),
        (401, "", OURS),
        (403, FORBIDDEN, fails(FailureKind::Refused, Reason::CodeNotRevoked)),
        (403, "", OURS),
    ];
    for name in [StepName::ReadCode, StepName::ReadBackCode] {
        let client = self::client(&stub);
        rows(&stub, &client, &both(), one(name), &facts(), &[(404, INVALID, missing(false))]).await;
        rows(&stub, &client, &both(), one(name), &facts(), &table).await;
        let unknown = is(CodeState::Unknown, Identity::Unreadable);
        rows(&stub, &client, &both(), one(name), &facts(), &[(404, INVALID, unknown)]).await;
    }
    stub.play([reply(200, "<code/>")]);
    let _ = ask(&client, &both(), one(StepName::ReadCode), &facts()).await;
    let seen = stub.only();
    assert_eq!(seen.line, "GET /v4/codes/CODE%2F1 HTTP/1.1");
    assert_eq!(seen.header("x-vitalsource-api-key"), Some("tok-KEY"));
    let beyond = ask(&client, &both(), Step::item(StepName::ReadCode, 1), &facts()).await.expect_err("no such code");
    assert_eq!(beyond.kind, FailureKind::Rejected);
    assert!(stub.seen().is_empty());
}

#[tokio::test]
async fn a_revoke_is_done_only_with_an_unambiguous_answer() {
    let stub = Stub::start().await;
    let client = client(&stub);
    let unclear = || Is(Answer::Unclear(Reason::CodeNotRevoked));
    let error = |code: u32| {
        format!("<error-response><error-code>{code}</error-code><error-text>x</error-text></error-response>")
    };
    rows(
        &stub,
        &client,
        &both(),
        one(StepName::RevokeCode),
        &Facts::default(),
        &[
            (200, "", Is(Answer::Done)),
            (200, " \r\n", Is(Answer::Done)),
            (200, "<code><deactivation-details>Deactivated</deactivation-details></code>", Is(Answer::Done)),
            (200, "<code><deactivation-details>x</deactivation-details></code>", unclear()),
            (200, "<code><redemption-details>x</redemption-details></code>", unclear()),
            (200, "<html>secret text</html>", unclear()),
            (200, "OK", AMBIGUOUS),
            (202, "", AMBIGUOUS),
            (469, "", Is(Answer::AlreadyDone)),
            (422, "<error-text>Code has already been canceled</error-text>", Is(Answer::AlreadyDone)),
            (422, "Code has already been cancelled", Is(Answer::AlreadyDone)),
            (422, "", AMBIGUOUS),
            (404, INVALID, unclear()),
            (404, "<html>secret text</html>", AMBIGUOUS),
            (400, "", AMBIGUOUS),
            (401, "<error-response><error-code>401</error-code></error-response>", OURS),
            (401, "", AMBIGUOUS),
            (403, FORBIDDEN, fails(FailureKind::Refused, Reason::CodeNotRevoked)),
            (403, "", AMBIGUOUS),
            (302, "", OURS),
            (500, "", fails(FailureKind::Ambiguous, Reason::SystemUnavailable)),
        ],
    )
    .await;
    for code in [1005, 1006, 1007, 1008, 1009, 1014, 1015] {
        let body = error(code);
        let table: Vec<_> = [200, 400, 422, 500].map(|status| (status, body.as_str(), unclear())).into();
        rows(&stub, &client, &both(), one(StepName::RevokeCode), &Facts::default(), &table).await;
    }
    let body = error(469);
    rows(
        &stub,
        &client,
        &both(),
        one(StepName::RevokeCode),
        &Facts::default(),
        &[(200, body.as_str(), Is(Answer::AlreadyDone))],
    )
    .await;
    stub.play([reply(200, "")]);
    let _ = ask(&client, &both(), one(StepName::RevokeCode), &Facts::default()).await;
    let seen = stub.only();
    assert_eq!((seen.line.as_str(), seen.body.as_str()), ("DELETE /v4/codes/CODE%2F1 HTTP/1.1", ""));
}

fn licences(rows: &str) -> String {
    let total = rows.matches("<license").count();
    format!("<licenses><summary total_products=\"{total}\"/>{rows}</licenses>")
}

async fn check(stub: &Stub, client: &VitalSource, credentials: &str, licenses: &str) -> Result<Answer, Failure> {
    stub.play([reply(200, credentials), reply(200, licenses)]);
    ask(client, &both(), one(StepName::CheckLicenses), &facts()).await
}

#[tokio::test]
async fn only_licences_with_a_readable_past_date_count_as_expired() {
    let stub = Stub::start().await;
    let client = client(&stub);
    for (rows, unexpired) in [
        ("", Some(0)),
        (r#"<license sku="A" expiration="Thu, 10 Mar 2016 22:14:54 GMT"/>"#, Some(0)),
        (r#"<license sku="A" expiration="never"/><license sku="B" expiration="2016-01-01"/>"#, Some(1)),
        (r#"<license sku="A" expiration="9999-12-31T00:00:00Z"/><license sku="B"/>"#, Some(2)),
        (r#"<license sku="A" expiration="soon"/>"#, None),
    ] {
        let answer = check(&stub, &client, CREDENTIAL, &licences(rows)).await;
        match unexpired {
            Some(unexpired) => assert_eq!(answer, Ok(Answer::Licenses { unexpired }), "{rows}"),
            None => assert_eq!(answer.expect_err("unread").kind, FailureKind::Unreadable, "{rows}"),
        }
        let seen = stub.seen();
        assert_eq!(seen[0].line, "POST /v3/credentials.xml HTTP/1.1");
        assert!(seen[0].body.contains("<credentials><credential reference=\"REF 1\"/></credentials>"));
        assert_eq!(seen[0].header("content-type"), Some("text/xml"));
        assert_eq!(seen[1].line, "GET /v3/licenses.xml HTTP/1.1");
        assert_eq!(seen[1].header("x-vitalsource-access-token"), Some("tok-user"));
        assert_eq!(seen[1].header("x-vitalsource-api-key"), Some("tok-KEY"));
    }
    for licenses in [
        "",
        "<users/>",
        "{}",
        "<error-response><error-code>1</error-code></error-response>",
        "<licenses>Service is busy, try again later</licenses>",
        r#"<licenses total="2"><licence sku="A" expiration="never"/></licenses>"#,
        r#"<licenses><licence sku="A" expiration="2016-01-01"/></licenses>"#,
        r#"<licenses><page><license sku="A" expiration="never"/></page></licenses>"#,
        r#"<licenses><license expiration="2016-01-01"><page><license expiration="never"/></page></license></licenses>"#,
        r#"<licenses total="2"><license sku="A" expiration="2016-01-01"/></licenses>"#,
        r#"<licenses><summary total_products="1"/></licenses>"#,
        r#"<licenses next-page="2"/>"#,
        r#"<licenses nil="true"/>"#,
    ] {
        let failure = check(&stub, &client, CREDENTIAL, licenses).await.expect_err("unread");
        assert_eq!(failure.kind, FailureKind::Unreadable, "{licenses}");
    }
}

#[tokio::test]
async fn licences_are_never_read_with_a_token_that_may_belong_to_another_user() {
    let stub = Stub::start().await;
    let client = client(&stub);
    for (credentials, kind, reason) in [
        (
            "<credentials><error code=\"609\" message=\"x\"/></credentials>",
            FailureKind::Unreadable,
            Reason::UnreadableReply,
        ),
        ("<credentials/>", FailureKind::Unreadable, Reason::UnreadableReply),
        ("<credentials><credential guid=\"GUID-1\"/></credentials>", FailureKind::Unreadable, Reason::UnreadableReply),
        (
            "<credentials><credential access-token=\"a\"/><credential access-token=\"b\"/></credentials>",
            FailureKind::Unreadable,
            Reason::UnreadableReply,
        ),
        (
            "<credentials><credential access-token=\"a\" guid=\"GUID-2\"/></credentials>",
            FailureKind::Refused,
            Reason::IdentityMismatch,
        ),
    ] {
        let failure = check(&stub, &client, credentials, "<licenses/>").await.expect_err("stops");
        assert_eq!((failure.kind, failure.reason), (kind, reason), "{credentials}");
        stub.only();
    }
}

#[tokio::test]
async fn with_the_guid_alone_the_reference_is_read_for_the_licences() {
    let stub = Stub::start().await;
    let client = client(&stub);
    let spec = account(Some("GUID-1"), None);
    stub.play([reply(200, USER), reply(200, CREDENTIAL), reply(200, "<licenses/>")]);
    let answer = ask(&client, &spec, one(StepName::CheckLicenses), &facts()).await;
    assert_eq!(answer, Ok(Answer::Licenses { unexpired: 0 }));
    assert_eq!(stub.seen()[0].line, "GET /v3/users.xml/GUID-1 HTTP/1.1");
    stub.play([reply(200, "<user><guid>GUID-1</guid></user>")]);
    let failure = ask(&client, &spec, one(StepName::CheckLicenses), &facts()).await.expect_err("uncheckable");
    assert_eq!((failure.kind, failure.reason), (FailureKind::Refused, Reason::Unproven));
}
