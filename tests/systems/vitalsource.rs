//! VitalSource's replies and requests.

use std::collections::BTreeSet;
use std::sync::Arc;

use erasure_worker::job::{
    Absence, Answer, Code, CodeState, Failure, FailureKind, Field, Identity, Reason, Spec, Step, StepName,
};
use erasure_worker::systems::vitalsource::{VitalSource, VitalSourceSettings, replacement_value};
use erasure_worker::systems::{Facts, System};
use serde_json::Value;

use crate::stub::{Expect, Expect::Is, Stub, ask, assert_clean, fails, missing, one, quick, reply, rows};

const UNREADABLE: Expect = Expect::Fails(FailureKind::Unreadable, Reason::UnreadableReply);
const AMBIGUOUS: Expect = Expect::Fails(FailureKind::Ambiguous, Reason::UnreadableReply);
const OURS: Expect = Expect::Fails(FailureKind::UnauthorisedOurs, Reason::SystemUnavailable);
const USER: &str = "<user><guid>GUID-1</guid><reference>REF 1</reference><first-name>Ann</first-name>\
    <last-name/><email>ann@example.com</email></user>";
const NOT_FOUND: &str =
    "<error-response><error-code>404</error-code><error-text>Not Found</error-text></error-response>";
const INVALID: &str =
    "<error-response><error-code>404</error-code><error-text>Invalid Code</error-text></error-response>";
const FORBIDDEN: &str =
    "<error-response><error-code>403</error-code><error-text>Forbidden</error-text></error-response>";
const BYTES: [u8; 32] = [3; 32];

pub fn settings(url: &str) -> VitalSourceSettings {
    VitalSourceSettings {
        base_url: url.to_owned(),
        api_key: "tok-KEY".into(),
        check_licenses: true,
        replacement_email_domain: "example.com".into(),
        abandon_url: Some(format!("{url}/drop/")),
        abandon_private: true,
        probe_user: None,
    }
}

pub fn client(stub: &Stub) -> VitalSource {
    let signer = Arc::new(|body: &[u8]| format!("signed.{}.bytes", body.len()));
    VitalSource::new("vitalsource", settings(&stub.url), &quick(), signer).expect("client")
}

pub fn account(guid: Option<&str>, reference: Option<&str>) -> Spec {
    Spec::VitalSource {
        guid: guid.map(Into::into),
        reference: reference.map(Into::into),
        codes: vec![Code { code: "CODE/1".into(), redeemed_at: None, percent_read: None }],
        overwrite: BTreeSet::new(),
    }
}

fn both() -> Spec {
    account(Some("guid-1"), Some("REF 1"))
}

pub fn facts() -> Facts {
    Facts {
        guid: Some("GUID-1".into()),
        user_email: Some("Ann@example.com".into()),
        replacements: vec![(Field::FirstName, BYTES), (Field::Email, BYTES)],
        own: vec![(Field::FirstName, BYTES), (Field::Email, BYTES)],
        ..Facts::default()
    }
}

fn user(identity: Identity) -> Expect {
    Is(Answer::User {
        identity,
        guid: "GUID-1".into(),
        email: Some("ann@example.com".into()),
        // The last name is there and empty; of the affiliate nothing is said.
        fields: vec![Field::FirstName, Field::Affiliate, Field::Email, Field::Reference],
    })
}

#[tokio::test]
async fn a_user_is_the_one_named_only_where_the_reply_shows_the_same_identifier() {
    let stub = Stub::start().await;
    let client = client(&stub);
    let unknown =
        "<error-response><error-code>604</error-code><error-text>User not found</error-text></error-response>";
    let by_guid = account(Some("guid-1"), None);
    rows(
        &stub,
        &client,
        &by_guid,
        one(StepName::Resolve),
        &Facts::default(),
        &[
            (404, NOT_FOUND, missing(false)),
            (200, unknown, missing(false)),
            (200, USER, user(Identity::Same)),
            (404, NOT_FOUND, missing(true)),
            (404, "", UNREADABLE),
            (404, "default backend - 404", UNREADABLE),
            (404, "<error-text>Unknown</error-text>", UNREADABLE),
            (404, "<!DOCTYPE html><html></html>", UNREADABLE),
            (404, "<html><h1>404 Not Found</h1></html>", UNREADABLE),
            (200, unknown, missing(true)),
            (200, "<error-response><error-code>604</error-code></error-response>", UNREADABLE),
            (200, "<error-response><error-text>Not Found</error-text></error-response>", UNREADABLE),
            (410, NOT_FOUND, fails(FailureKind::Rejected, Reason::RequestRejected)),
            (200, "<user>Service is busy<guid>GUID-1</guid></user>", UNREADABLE),
            (200, "<user><guid>GUID-1</guid><email><v>ann@example.com</v></email></user>", UNREADABLE),
            (200, "<error-response><error-code>999</error-code></error-response>", UNREADABLE),
            (200, "<error-response><error-code>401</error-code></error-response>", OURS),
            (200, "<user/>", UNREADABLE),
            (200, "<html><body>secret text</body></html>", UNREADABLE),
            (200, "{}", UNREADABLE),
            (200, "", UNREADABLE),
            (200, "<!DOCTYPE user [<!ENTITY a 'b'>]><user><guid>GUID-1</guid></user>", UNREADABLE),
            (401, "", OURS),
            (403, "", OURS),
            (503, "", fails(FailureKind::Unavailable, Reason::SystemUnavailable)),
        ],
    )
    .await;
    let answer = |identity, guid: &str, fields| Is(Answer::User { identity, guid: guid.into(), email: None, fields });
    rows(
        &stub,
        &client,
        &by_guid,
        one(StepName::Resolve),
        &Facts::default(),
        &[
            (200, "<user><guid>GUID-2</guid></user>", answer(Identity::Other, "GUID-2", Field::ALL.to_vec())),
            (200, "<user><affiliate>A</affiliate></user>", answer(Identity::Unreadable, "guid-1", Field::ALL.to_vec())),
        ],
    )
    .await;
    rows(
        &stub,
        &client,
        &account(None, Some("REF 1")),
        one(StepName::Resolve),
        &Facts::default(),
        &[
            (200, USER, user(Identity::Same)),
            (
                200,
                "<user><guid>REF 1</guid><reference>other</reference></user>",
                answer(Identity::Other, "REF 1", Field::ALL.to_vec()),
            ),
            (200, "<user><guid>G</guid></user>", answer(Identity::Unreadable, "G", Field::ALL.to_vec())),
            (200, "<user><reference>REF 1</reference></user>", UNREADABLE),
        ],
    )
    .await;
}

#[tokio::test]
async fn a_guid_and_a_reference_must_name_one_user() {
    let stub = Stub::start().await;
    let client = client(&stub);
    let found = |guid: &str, reference: &str| {
        reply(200, format!("<user><guid>{guid}</guid><reference>{reference}</reference></user>"))
    };
    let missing = || reply(404, NOT_FOUND);
    let ours = replacement_value(Field::Reference, &BYTES, "example.com");
    let cases = [
        (found("GUID-1", "REF 1"), found("GUID-1", "REF 1"), Identity::Same),
        (found("GUID-1", "REF 1"), found("GUID-2", "REF 1"), Identity::Other),
        (found("GUID-2", "REF 1"), found("GUID-2", "REF 1"), Identity::Other),
        (found("GUID-1", "x"), found("GUID-1", "x"), Identity::Other),
        (found("GUID-1", ""), found("GUID-1", ""), Identity::Same),
        (found("GUID-1", ""), found("", "REF 1"), Identity::Unreadable),
        (missing(), found("GUID-2", "REF 1"), Identity::Other),
        (found("GUID-1", "x"), missing(), Identity::Other),
        (found("GUID-1", ""), missing(), Identity::Unreadable),
        (found("GUID-1", &ours), missing(), Identity::Same),
    ];
    let facts = Facts { own: vec![(Field::Reference, BYTES)], ..Facts::default() };
    for (index, (first, second, expected)) in cases.into_iter().enumerate() {
        stub.play([first, second]);
        let answer = ask(&client, &both(), one(StepName::Resolve), &facts).await.expect("user");
        assert!(matches!(answer, Answer::User { identity, .. } if identity == expected), "case {index}");
        let lines: Vec<String> = stub.seen().into_iter().map(|seen| seen.line).collect();
        assert_eq!(lines, ["GET /v3/users.xml/guid-1 HTTP/1.1", "GET /v3/users.xml/REF%201 HTTP/1.1"]);
    }
    stub.play([missing(), missing()]);
    let answer = ask(&client, &both(), one(StepName::Resolve), &facts).await;
    assert_eq!(answer, Ok(Answer::Missing(Absence::vouched())));
}

#[tokio::test]
async fn a_code_is_cancelled_only_where_its_read_carries_deactivation_details() {
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
async fn a_revoke_is_done_only_where_the_answer_leaves_no_doubt() {
    let stub = Stub::start().await;
    let client = client(&stub);
    let unclear = || Is(Answer::Unclear(Reason::CodeNotRevoked));
    let told = |code: u32| {
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
        let body = told(code);
        let table: Vec<_> = [200, 400, 422, 500].map(|status| (status, body.as_str(), unclear())).into();
        rows(&stub, &client, &both(), one(StepName::RevokeCode), &Facts::default(), &table).await;
    }
    let body = told(469);
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

const CREDENTIAL: &str =
    "<credentials><credential access-token=\"tok-user\" guid=\"GUID-1\" reference=\"REF 1\"/></credentials>";

async fn check(stub: &Stub, client: &VitalSource, credentials: &str, licenses: &str) -> Result<Answer, Failure> {
    stub.play([reply(200, credentials), reply(200, licenses)]);
    ask(client, &both(), one(StepName::CheckLicenses), &facts()).await
}

#[tokio::test]
async fn only_licences_whose_date_was_read_and_has_passed_count_as_expired() {
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
async fn licences_are_never_read_with_a_token_that_may_be_somebody_elses() {
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
async fn a_reference_that_we_overwrote_still_leads_to_the_user_by_the_guid_and_any_other_to_nobody() {
    let stub = Stub::start().await;
    let client = client(&stub);
    let spec = account(None, Some("REF 1"));
    let facts = Facts { own: vec![(Field::Reference, BYTES)], ..facts() };
    let ours = replacement_value(Field::Reference, &BYTES, "example.com");
    let user = |guid: &str, reference: &str| {
        reply(200, format!("<user><guid>{guid}</guid><reference>{reference}</reference></user>"))
    };
    let unknown = || reply(200, "<credentials><error code=\"603\" message=\"x\"/></credentials>");
    let licenses = reply(200, "<licenses/>");
    stub.play([unknown(), user("GUID-1", &ours), reply(200, CREDENTIAL), licenses]);
    let answer = ask(&client, &spec, one(StepName::CheckLicenses), &facts).await;
    assert_eq!(answer, Ok(Answer::Licenses { unexpired: 0 }));
    assert!(stub.seen()[2].body.contains(&format!("reference=\"{ours}\"")));
    for found in [user("GUID-1", "x"), user("GUID-2", &ours), user("", &ours), reply(404, NOT_FOUND)] {
        stub.play([unknown(), found]);
        let failure = ask(&client, &spec, one(StepName::CheckLicenses), &facts).await.expect_err("nobody");
        assert_eq!((failure.kind, failure.reason), (FailureKind::Unreadable, Reason::UnreadableReply));
        assert_eq!(stub.seen().len(), 2);
    }
    // The same where the user is read again.
    stub.play([reply(404, NOT_FOUND), user("GUID-1", &ours)]);
    let answer = ask(&client, &spec, one(StepName::Resolve), &facts).await;
    assert!(matches!(answer, Ok(Answer::User { identity: Identity::Same, .. })), "{answer:?}");
    for found in [user("GUID-1", "x"), user("GUID-2", &ours), reply(404, NOT_FOUND)] {
        stub.play([reply(404, NOT_FOUND), found]);
        let answer = ask(&client, &spec, one(StepName::Resolve), &facts).await;
        assert_eq!(answer, Ok(Answer::Missing(Absence::vouched())));
    }
}

#[tokio::test]
async fn what_another_job_or_an_earlier_key_wrote_for_the_same_user_is_ours() {
    let stub = Stub::start().await;
    let client = client(&stub);
    const BEFORE: [u8; 32] = [4; 32];
    let own = Field::ALL.into_iter().flat_map(|field| [(field, BYTES), (field, BEFORE)]).collect();
    let facts = Facts { own, ..facts() };
    let stand = |stand| Is(Answer::Values { stand });
    let user = |first: &str, email: &str, last: &str| {
        format!(
            "<user><guid>GUID-1</guid><first-name>{first}</first-name><last-name>{last}</last-name>\
             <email>{email}</email></user>"
        )
    };
    let (first, email) = ("EEEEEEEEEEEEEEEE", "EEEEEEEEEEEEEEEE@example.com");
    let stood = user(first, email, "");
    // The last name was empty when this job read it: the other one has overwritten it.
    let more = user(first, email, first);
    let theirs = user(first, "ann@example.com", "");
    let filled_in = user(first, email, "Example");
    let left = Is(Answer::Left { fields: vec![Field::LastName] });
    rows(
        &stub,
        &client,
        &both(),
        one(StepName::ReadBack),
        &facts,
        &[(200, &stood, stand(true)), (200, &more, stand(true)), (200, &theirs, stand(false)), (200, &filled_in, left)],
    )
    .await;
    let code = |email: &str| {
        format!("<code><redemption-details>x</redemption-details><user-email>{email}</user-email></code>")
    };
    let is = |owner| Is(Answer::Code { state: CodeState::Active, owner });
    let (ours, another) = (code(email), code("FFFFFFFFFFFFFFFF@example.com"));
    rows(
        &stub,
        &client,
        &both(),
        one(StepName::ReadCode),
        &facts,
        &[(200, &ours, is(Identity::Same)), (200, &another, is(Identity::Other))],
    )
    .await;
}

#[tokio::test]
async fn where_only_the_guid_is_known_the_reference_is_read_for_the_licences() {
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

#[tokio::test]
async fn an_overwrite_is_addressed_by_guid_and_an_error_on_200_is_no_success() {
    let stub = Stub::start().await;
    let client = client(&stub);
    let rejected = || fails(FailureKind::Rejected, Reason::RequestRejected);
    rows(
        &stub,
        &client,
        &both(),
        one(StepName::OverwriteUser),
        &facts(),
        &[
            (200, USER, Is(Answer::Done)),
            (200, "", Is(Answer::Done)),
            (200, "<error-response><error-code>603</error-code></error-response>", rejected()),
            (200, "<error-response><error-code>904</error-code></error-response>", rejected()),
            (422, "<error-response><error-code>904</error-code></error-response>", rejected()),
            (200, "<error-response><error-code>777</error-code></error-response>", AMBIGUOUS),
            (200, "<html>secret text</html>", AMBIGUOUS),
            (200, "OK", AMBIGUOUS),
            (204, "", AMBIGUOUS),
            (400, "", AMBIGUOUS),
            (401, "<error-response><error-code>401</error-code></error-response>", OURS),
            (401, "", AMBIGUOUS),
            (403, "<error-response><error-code>904</error-code></error-response>", OURS),
            (404, NOT_FOUND, Is(Answer::Unclear(Reason::Unproven))),
            (404, "", AMBIGUOUS),
            (500, "", fails(FailureKind::Ambiguous, Reason::SystemUnavailable)),
        ],
    )
    .await;
    stub.play([reply(200, "")]);
    let _ = ask(&client, &both(), one(StepName::OverwriteUser), &facts()).await;
    let seen = stub.only();
    assert_eq!(seen.line, "PUT /v3/users.xml/GUID-1 HTTP/1.1");
    assert!(seen.body.ends_with(
        "<user><first-name>DDDDDDDDDDDDDDDD</first-name><email>DDDDDDDDDDDDDDDD@example.com</email></user>"
    ));
    let nothing = Facts { replacements: Vec::new(), ..facts() };
    let failure = ask(&client, &both(), one(StepName::OverwriteUser), &nothing).await.expect_err("nothing to write");
    assert_eq!(failure.kind, FailureKind::Rejected);
    assert!(stub.seen().is_empty());
}

#[tokio::test]
async fn the_overwrite_stands_only_where_every_new_value_reads_back() {
    let stub = Stub::start().await;
    let client = client(&stub);
    let stand = |stand| Is(Answer::Values { stand });
    rows(&stub, &client, &both(), one(StepName::ReadBack), &facts(), &[
        (200, "<user><guid>GUID-1</guid><first-name>DDDDDDDDDDDDDDDD</first-name><email>dddddddddddddddd@example.com</email></user>",
            stand(true)),
        (200, "<user><guid>GUID-1</guid><first-name>DDDDDDDDDDDDDDDD</first-name><email>ann@example.com</email></user>",
            stand(false)),
        (200, "<user><guid>GUID-1</guid><first-name>DDDDDDDDDDDDDDDD</first-name></user>", stand(false)),
        (200, "<user><guid>GUID-2</guid><first-name>DDDDDDDDDDDDDDDD</first-name><email>dddddddddddddddd@example.com</email></user>",
            UNREADABLE),
        (404, NOT_FOUND, missing(true)),
        (404, "", UNREADABLE),
        (200, "", UNREADABLE),
    ])
    .await;
    let nothing = Facts { replacements: Vec::new(), ..facts() };
    rows(
        &stub,
        &client,
        &both(),
        one(StepName::ReadBack),
        &nothing,
        &[
            (200, "<user><guid>GUID-1</guid><reference>REF 1</reference></user>", stand(true)),
            (200, USER, Is(Answer::Left { fields: vec![Field::FirstName, Field::Email] })),
        ],
    )
    .await;
    // Filled in beside what was overwritten: the last name was empty before.
    let filled_in = "<user><guid>GUID-1</guid><first-name>DDDDDDDDDDDDDDDD</first-name><last-name>Example</last-name>\
                     <email>dddddddddddddddd@example.com</email></user>";
    let left = Is(Answer::Left { fields: vec![Field::LastName] });
    rows(&stub, &client, &both(), one(StepName::ReadBack), &facts(), &[(200, filled_in, left)]).await;
}

#[tokio::test]
async fn the_requester_is_told_signed_without_an_identifier_and_its_refusal_is_not_vitalsources() {
    let stub = Stub::start().await;
    let client = client(&stub);
    let later = || fails(FailureKind::Unavailable, Reason::SystemUnavailable);
    rows(
        &stub,
        &client,
        &both(),
        one(StepName::TellRequester),
        &facts(),
        &[
            (200, "", Is(Answer::Done)),
            (204, "", Is(Answer::Done)),
            (401, "", later()),
            (403, "", later()),
            (302, "", later()),
            (500, "", later()),
            (400, "", fails(FailureKind::Rejected, Reason::RequestRejected)),
        ],
    )
    .await;
    stub.play([reply(202, "")]);
    let _ = ask(&client, &both(), one(StepName::TellRequester), &facts()).await;
    let seen = stub.only();
    assert_eq!(seen.line, "POST /drop/ HTTP/1.1");
    assert_eq!(seen.header("idempotency-key"), Some("6c0b7b0e-6a4e-4a53-9a2e-0d8c6a0a7f11/0"));
    assert_eq!(seen.header("x-erasure-signature"), Some(format!("signed.{}.bytes", seen.body.len()).as_str()));
    assert_eq!(seen.header("x-vitalsource-api-key"), None);
    let body: Value = serde_json::from_str(&seen.body).expect("json");
    assert_eq!(
        body,
        serde_json::json!({"action": "abandon_account", "tenant": "acme",
            "job_id": "6c0b7b0e-6a4e-4a53-9a2e-0d8c6a0a7f11", "target": 0, "system": "vitalsource"})
    );
    assert!(!seen.body.contains("GUID-1") && !seen.body.contains("REF 1"));
}

#[tokio::test]
async fn every_endpoint_has_a_limit_of_its_own() {
    let stub = Stub::start().await;
    let client = client(&stub);
    let steps = [
        StepName::Resolve,
        StepName::ReadCode,
        StepName::RevokeCode,
        StepName::CheckLicenses,
        StepName::OverwriteUser,
        StepName::TellRequester,
    ];
    let endpoints = |spec: &Spec, name| client.endpoints(spec, one(name));
    let by_guid = account(Some("guid-1"), None);
    let words: BTreeSet<&str> = steps.iter().flat_map(|name| endpoints(&by_guid, *name)).copied().collect();
    assert_eq!(words.len(), steps.len());
    assert_eq!(endpoints(&both(), StepName::ReadBackCode), endpoints(&both(), StepName::ReadCode));
    assert_eq!(endpoints(&both(), StepName::ReadBack), endpoints(&by_guid, StepName::Resolve));
}

#[tokio::test]
async fn each_request_counts_against_the_limit_of_its_endpoint() {
    let stub = Stub::start().await;
    let client = client(&stub);
    let answers = [
        ("/v3/users.xml", "users", "<user><guid>GUID-1</guid><reference>REF 1</reference></user>"),
        (
            "/v3/credentials.xml",
            "",
            "<credentials><credential access-token=\"t\" guid=\"GUID-1\" reference=\"REF 1\"/></credentials>",
        ),
        ("/v3/licenses.xml", "licenses", "<licenses></licenses>"),
    ];
    let by_reference = account(None, Some("REF 1"));
    let by_guid = account(Some("guid-1"), None);
    for (spec, name, paths) in [
        (&both(), StepName::Resolve, &[0, 0][..]),
        (&by_guid, StepName::Resolve, &[0]),
        (&by_reference, StepName::Resolve, &[0]),
        (&by_guid, StepName::CheckLicenses, &[0, 1, 2]),
        (&both(), StepName::CheckLicenses, &[1, 2]),
    ] {
        let before = stub.seen().len();
        stub.play(paths.iter().map(|path| reply(200, answers[*path].2)));
        ask(&client, spec, one(name), &facts()).await.unwrap();
        let seen: Vec<&str> = stub.seen()[before..]
            .iter()
            .map(|seen| answers.iter().find(|(path, ..)| seen.line.contains(path)).expect("a known path").1)
            .filter(|endpoint| !endpoint.is_empty())
            .collect();
        assert_eq!(client.endpoints(spec, one(name)), seen, "{}", name.as_str());
    }
}

#[tokio::test]
async fn a_probe_tells_a_refused_key_and_a_wrong_address_from_a_good_one() {
    let stub = Stub::start().await;
    let client = client(&stub);
    for (status, body, works) in [
        (404, NOT_FOUND, true),
        (
            200,
            "<error-response><error-code>604</error-code><error-text>User not found</error-text></error-response>",
            true,
        ),
        (404, "", false),
        (404, "default backend - 404", false),
        (200, "<error-response><error-text>Invalid API key</error-text></error-response>", false),
        (404, "<html></html>", false),
        (401, "", false),
        (403, "", false),
        (503, "", false),
    ] {
        stub.play([reply(status, body)]);
        let result = client.probe().await;
        assert_eq!(result.is_ok(), works, "{status} {body}");
        result.err().iter().for_each(assert_clean);
        assert_eq!(stub.only().line, "GET /v3/users.xml/erasure-worker-probe HTTP/1.1");
    }
}
