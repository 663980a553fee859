//! VitalSource's replies and requests.

mod codes;

use std::collections::BTreeSet;
use std::sync::Arc;

use erasure_worker::job::{Absence, Answer, Code, CodeState, FailureKind, Field, Identity, Reason, Spec, StepName};
use erasure_worker::systems::vitalsource::{VitalSource, VitalSourceSettings, replacement_value};
use erasure_worker::systems::{Facts, System};
use serde_json::Value;

use crate::stub::Expect::{self, Is};
use crate::stub::{Stub, ask, assert_clean, fails, missing, one, quick, reply, rows};

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
        // The last name is empty; the affiliate is missing.
        fields: vec![Field::FirstName, Field::Affiliate, Field::Email, Field::Reference],
    })
}

#[tokio::test]
async fn a_user_is_the_same_only_if_the_reply_shows_the_same_identifier() {
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

const CREDENTIAL: &str =
    "<credentials><credential access-token=\"tok-user\" guid=\"GUID-1\" reference=\"REF 1\"/></credentials>";

#[tokio::test]
async fn after_our_overwrite_of_the_reference_the_guid_finds_the_user_only_with_our_reference() {
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
    // The same for a repeated read of the user.
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
async fn values_written_by_another_job_or_under_an_earlier_key_for_the_same_user_are_ours() {
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
    // The last name was empty at this job's read. The other job has overwritten it.
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
async fn an_overwrite_is_addressed_by_guid_and_an_error_with_200_is_no_success() {
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
async fn an_overwrite_is_done_only_if_every_new_value_is_read_back() {
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
    // The last name was empty before, and now has a value beside the overwritten ones.
    let filled_in = "<user><guid>GUID-1</guid><first-name>DDDDDDDDDDDDDDDD</first-name><last-name>Example</last-name>\
                     <email>dddddddddddddddd@example.com</email></user>";
    let left = Is(Answer::Left { fields: vec![Field::LastName] });
    rows(&stub, &client, &both(), one(StepName::ReadBack), &facts(), &[(200, filled_in, left)]).await;
}

#[tokio::test]
async fn the_requesters_notification_is_signed_without_identifiers_and_its_refusal_is_not_vitalsources() {
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
async fn a_probe_distinguishes_a_refused_key_and_a_wrong_address_from_good_ones() {
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
