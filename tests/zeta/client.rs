//! What the client sends, and what it makes of each reply.

use erasure_worker::job::flow::MemberProof;
use erasure_worker::job::{
    Absence, Answer, FailureKind, Identity, InputKind, MemberKey, Reason, RowState, Spec, Step, StepName,
};
use erasure_worker::systems::System;
use erasure_worker::systems::zeta::ZetaClient;

use crate::parts::{Stub, TOKEN, client, member, secret, settings, step, zeta};

fn program(key: MemberKey, value: &str) -> Spec {
    Spec::LoyaltyProgram { member: member(key, value) }
}

fn own(member_id: Option<&str>) -> Spec {
    Spec::LoyaltyMember {
        access_token: Some(secret("member-token")),
        member: member_id.map(|id| member(MemberKey::MemberId, id)),
        current_password: Some(secret("pass word")),
        code: Some(secret("123456")),
    }
}

async fn stub_and(proof: MemberProof) -> (Stub, ZetaClient) {
    let stub = Stub::start().await;
    let client = client(zeta(&stub.url, proof));
    (stub, client)
}

#[tokio::test]
async fn program_delete_is_multipart_without_authorization_and_with_the_id_as_one_segment() {
    let (stub, client) = stub_and(MemberProof::Password).await;
    stub.replies(200, r#"{"success":true}"#);
    let spec = program(MemberKey::IntegrationId, "a/b c?d#e%2F");
    assert_eq!(step(&client, spec, StepName::DeleteMember).await, Ok(Answer::Done));
    let seen = stub.one();
    assert_eq!(seen.line, "DELETE /program/api/members/a%2Fb%20c%3Fd%23e%252F");
    assert_eq!(seen.header("accept"), Some("application/vnd.stellar-v1+json"));
    assert_eq!(seen.header("authorization"), None);
    assert!(seen.header("content-type").expect("a type").starts_with("multipart/form-data; boundary="));
    assert!(seen.body.contains("name=\"access_token\"\r\n") && seen.body.contains(TOKEN));
}

#[tokio::test]
async fn an_id_that_would_address_another_resource_is_never_sent() {
    let (stub, client) = stub_and(MemberProof::Password).await;
    stub.replies(200, "{}");
    for id in ["", " ", ".", ".."] {
        for name in [StepName::Resolve, StepName::DeleteMember, StepName::ReadBack] {
            let failure = step(&client, program(MemberKey::MemberId, id), name).await.expect_err("rejected");
            assert_eq!(failure.kind, FailureKind::Rejected);
        }
    }
    assert!(stub.seen().is_empty());
}

#[tokio::test]
async fn member_deletes_send_the_proof_the_platform_is_set_to() {
    for (proof, field) in [
        (MemberProof::Password, Some(("current_password", "pass word"))),
        (MemberProof::Otp, Some(("code", "123456"))),
        (MemberProof::Token, None),
    ] {
        let (stub, client) = stub_and(proof).await;
        stub.replies(200, r#"{"success":true}"#);
        assert_eq!(step(&client, own(None), StepName::DeleteMember).await, Ok(Answer::Done));
        let seen = stub.one();
        assert_eq!(seen.line, "DELETE /api/profile");
        assert_eq!(seen.header("authorization"), Some("Bearer member-token"));
        assert_eq!(seen.header("accept"), Some("application/vnd.stellar-v1+json"));
        match field {
            Some((name, value)) => {
                assert!(seen.header("content-type").expect("a type").starts_with("multipart/form-data"));
                assert!(seen.body.contains(&format!("name=\"{name}\"\r\n")) && seen.body.contains(value));
            }
            None => assert_eq!((seen.header("content-type"), seen.body.as_str()), (None, "")),
        }
        assert!(!seen.body.contains(TOKEN));
    }
}

#[tokio::test]
async fn the_older_name_of_the_otp_field_is_a_setting() {
    let stub = Stub::start().await;
    let mut settings = zeta(&stub.url, MemberProof::Otp);
    settings.otp_field = "otp_code".to_owned();
    stub.replies(200, r#"{"success":true}"#);
    assert_eq!(step(&client(settings), own(None), StepName::DeleteMember).await, Ok(Answer::Done));
    assert!(stub.one().body.contains("name=\"otp_code\"\r\n"));
}

#[tokio::test]
async fn a_proof_that_was_not_given_is_asked_for_without_a_call() {
    let nothing = || Spec::LoyaltyMember { access_token: None, member: None, current_password: None, code: None };
    let token_only = || Spec::LoyaltyMember {
        access_token: Some(secret("member-token")),
        member: None,
        current_password: None,
        code: None,
    };
    for (proof, spec, name, asked) in [
        (MemberProof::Token, nothing(), StepName::DeleteMember, InputKind::AccessToken),
        (MemberProof::Otp, nothing(), StepName::RequestOtp, InputKind::AccessToken),
        (MemberProof::Password, token_only(), StepName::DeleteMember, InputKind::CurrentPassword),
        (MemberProof::Otp, token_only(), StepName::DeleteMember, InputKind::Otp),
    ] {
        let (stub, client) = stub_and(proof).await;
        let failure = step(&client, spec, name).await.expect_err("asked");
        assert_eq!(failure.kind, FailureKind::UnauthorisedTheirs(asked));
        assert!(stub.seen().is_empty());
    }
}

#[tokio::test]
async fn an_otp_is_requested_with_the_members_token() {
    let (stub, client) = stub_and(MemberProof::Otp).await;
    stub.replies(200, r#"{"success":true}"#);
    assert_eq!(step(&client, own(None), StepName::RequestOtp).await, Ok(Answer::Done));
    let seen = stub.one();
    assert_eq!(
        (seen.line.as_str(), seen.header("authorization")),
        ("POST /api/profile/otp", Some("Bearer member-token"))
    );
    for (status, body) in [
        (401, r#"{"error":"expired_token"}"#),
        (403, r#"{"name":"forbidden"}"#),
        (200, r#"{"error":"expired_token"}"#),
        (400, r#"{"error":"invalid_token"}"#),
    ] {
        stub.replies(status, body);
        let failure = step(&client, own(None), StepName::RequestOtp).await.expect_err("refused");
        assert_eq!(failure.kind, FailureKind::UnauthorisedTheirs(InputKind::AccessToken), "{status} {body}");
    }
    // One that may have been sent counts as sent.
    for (status, body) in [(504, ""), (401, ""), (200, ""), (200, "<html>Sign in</html>"), (200, "sent")] {
        stub.replies(status, body);
        let failure = step(&client, own(None), StepName::RequestOtp).await.expect_err("lost");
        assert_eq!(failure.kind, FailureKind::Ambiguous, "{status} {body}");
    }
}

#[tokio::test]
async fn member_delete_replies_mean_what_the_proof_makes_of_them() {
    use MemberProof::{Otp, Password, Token};
    let token = (FailureKind::UnauthorisedTheirs(InputKind::AccessToken), Reason::InputRefused);
    let otp = (FailureKind::UnauthorisedTheirs(InputKind::Otp), Reason::InputRefused);
    let wrong = (FailureKind::Rejected, Reason::WrongPassword);
    let malformed = (FailureKind::Rejected, Reason::RequestRejected);
    let open = (FailureKind::Ambiguous, Reason::UnreadableReply);
    for (proof, status, body, meaning) in [
        (Password, 401, r#"{"error":"expired_token"}"#, token),
        (Password, 401, "", open),
        (Password, 401, "<html>Sign in with your password</html>", open),
        (Password, 401, "default backend - 401", open),
        (Password, 401, r#"{"message":"no Route matched with those values"}"#, open),
        (Password, 401, r#"{"error":"invalid_password"}"#, wrong),
        (Password, 422, r#"{"error":"invalid_request"}"#, wrong),
        (Password, 400, "Current password is wrong", wrong),
        (Password, 403, r#"{"error":"forbidden"}"#, wrong),
        (Password, 403, "", open),
        (Password, 403, r#"{"name":"ExpiredToken"}"#, token),
        (Password, 422, r#"{"error":"otp_required"}"#, malformed),
        (Password, 200, r#"{"success":false,"error":{"message":"wrong password"}}"#, wrong),
        (Otp, 400, r#"{"error":"invalid_request"}"#, otp),
        (Otp, 401, r#"{"error":"invalid_otp"}"#, otp),
        (Otp, 401, r#"{"error":"expired_token"}"#, token),
        (Otp, 403, r#"{"name":"forbidden"}"#, otp),
        (Otp, 403, "", open),
        (Otp, 422, "one-time password expired", otp),
        (Otp, 422, r#"{"errors":[{"message":"access token expired"}]}"#, token),
        (Otp, 422, r#"{"error":"current_password_required"}"#, malformed),
        (Otp, 200, r#"{"success":"false","message":"code expired"}"#, otp),
        (Token, 403, r#"{"error":"forbidden"}"#, token),
        (Token, 403, "", open),
        (Token, 422, r#"{"error":"invalid_request"}"#, malformed),
        (Token, 422, "", open),
        (Token, 404, "", open),
        (Token, 404, "<html><h1>404 Not Found</h1></html>", open),
        (Password, 200, r#"{"message":"Invalid password","code":"invalid_password"}"#, wrong),
        (Password, 200, r#"{"errorCode":"invalid_request"}"#, malformed),
        (Password, 200, r#"{"result":"failed"}"#, malformed),
        (Token, 200, r#"{"message":"Service is busy"}"#, open),
        (Token, 200, r#"{"success":true,"rows":[1]}"#, open),
        (Token, 200, r#"{"data":{"success":true}}"#, open),
        (Token, 200, "", open),
        (Token, 204, "", open),
        (Token, 202, "{}", open),
        (Token, 200, "null", open),
        (Token, 200, r#"{"success":false}"#, malformed),
        (Token, 200, r#"{"response":{"error":"expired_token"}}"#, token),
        (Token, 200, "<html>Welcome</html>", open),
        (Token, 200, r#""deleted""#, open),
        (Token, 200, "true", open),
    ] {
        let (stub, client) = stub_and(proof).await;
        stub.replies(status, body);
        let failure = step(&client, own(None), StepName::DeleteMember).await.expect_err("not done");
        assert_eq!((failure.kind, failure.reason), meaning, "{proof:?} {status} {body}");
    }
    for (status, body) in [(404, r#"{"error":"not_found"}"#), (200, r#"{"success":false,"error":"member not found"}"#)]
    {
        let (stub, client) = stub_and(Token).await;
        stub.replies(status, body);
        assert_eq!(step(&client, own(None), StepName::DeleteMember).await, Ok(Answer::Unclear(Reason::Unproven)));
    }
    for (status, body) in [
        (200, r#"{"success":true}"#),
        (202, r#"{"success":true,"message":"Deleted"}"#),
        (200, r#"{"success":true,"error":null}"#),
    ] {
        let (stub, client) = stub_and(Token).await;
        stub.replies(status, body);
        assert_eq!(step(&client, own(None), StepName::DeleteMember).await, Ok(Answer::Done), "{status} {body}");
    }
}

#[tokio::test]
async fn program_delete_replies_are_done_only_where_they_say_so() {
    let (stub, client) = stub_and(MemberProof::Password).await;
    let spec = || program(MemberKey::MemberId, "77");
    for (status, body, kind) in [
        (401, r#"{"error":"invalid_token"}"#, FailureKind::UnauthorisedOurs),
        (401, "", FailureKind::Ambiguous),
        (403, r#"{"name":"forbidden"}"#, FailureKind::UnauthorisedOurs),
        (403, "", FailureKind::Ambiguous),
        (302, "", FailureKind::UnauthorisedOurs),
        (200, r#"{"success":false,"error":"invalid_token"}"#, FailureKind::UnauthorisedOurs),
        (200, r#"{"success":false}"#, FailureKind::Rejected),
        (200, "<html></html>", FailureKind::Ambiguous),
        (200, "", FailureKind::Ambiguous),
        (422, r#"{"error":"invalid_request"}"#, FailureKind::Rejected),
        (422, "", FailureKind::Ambiguous),
        (404, "", FailureKind::Ambiguous),
        (429, "", FailureKind::RateLimited),
        (503, "", FailureKind::Ambiguous),
    ] {
        stub.replies(status, body);
        let failure = step(&client, spec(), StepName::DeleteMember).await.expect_err("not done");
        assert_eq!(failure.kind, kind, "{status} {body}");
    }
    stub.replies(404, r#"{"error":"not_found"}"#);
    assert_eq!(step(&client, spec(), StepName::DeleteMember).await, Ok(Answer::Unclear(Reason::Unproven)));
    assert!(!client.credential().is_proven());
}

#[tokio::test]
async fn a_member_counts_as_the_same_only_in_the_kind_of_id_that_was_named() {
    use Identity::{Other, Same, Unreadable};
    use MemberKey::{CardId, DatabaseId, IntegrationId, MemberId};
    let (stub, client) = stub_and(MemberProof::Password).await;
    // One person's card id is the other's member id.
    let record = r#"{"id":5,"member_id":"M-1","integration_id":"I-1","card_id":"77","email":"Ann@example.com"}"#;
    for (body, key, value, identity) in [
        (record, MemberId, "M-1", Same),
        (record, MemberId, "77", Other),
        (record, IntegrationId, "I-1", Same),
        (record, IntegrationId, "M-1", Other),
        (record, CardId, "77", Same),
        (record, CardId, "5", Other),
        (record, DatabaseId, "5", Same),
        (record, DatabaseId, "77", Other),
        (r#"{"member":{"memberId":77}}"#, MemberId, "77", Same),
        (r#"{"data":{"member":{"Member ID":"78"}}}"#, MemberId, "77", Other),
        (r#"{"response":{"integrationId":"I-1"}}"#, IntegrationId, "I-1", Same),
        (r#"{"data":[{"card_number":"77"}]}"#, CardId, "77", Same),
        (r#"{"card_ids":["76","77"],"cardId":null}"#, CardId, "77", Unreadable),
        (r#"{"card_id":["76","77"]}"#, CardId, "77", Same),
        (r#"{"id":"req-1","member":{"database_id":"5","id":"x"}}"#, DatabaseId, "5", Same),
        (r#"{"id":"req-1","member":{"id":"5"}}"#, DatabaseId, "req-1", Other),
        (r#"{"member_id":null,"integration_id":""}"#, MemberId, "77", Unreadable),
        (r#"{"points":77}"#, MemberId, "77", Unreadable),
        (r#"{"data":[{"member_id":"77"},{"member_id":"78"}]}"#, MemberId, "77", Unreadable),
        (r#"{"member_id":{"value":"77"}}"#, MemberId, "77", Unreadable),
    ] {
        stub.replies(200, body);
        for name in [StepName::Resolve, StepName::ReadBack] {
            let answer = step(&client, program(key, value), name).await;
            // After a delete, somebody else's record counts only where it shows why it was found.
            let shows_why = body == record && [(MemberId, "77"), (IntegrationId, "M-1")].contains(&(key, value));
            if name == StepName::ReadBack && identity == Other && !shows_why {
                assert_eq!(answer.expect_err("no evidence").kind, FailureKind::Unreadable, "{value} in {body}");
                continue;
            }
            assert_eq!(answer, Ok(Answer::Found(identity)), "{} {value} in {body}", key.as_str());
        }
    }
}

#[tokio::test]
async fn a_program_read_carries_the_token_as_a_parameter_and_nothing_else() {
    let (stub, client) = stub_and(MemberProof::Password).await;
    stub.replies(200, r#"{"card_id":"a/b c?"}"#);
    let spec = program(MemberKey::CardId, "a/b c?");
    assert_eq!(step(&client, spec, StepName::ReadBack).await, Ok(Answer::Found(Identity::Same)));
    let seen = stub.one();
    assert_eq!(seen.line, "GET /program/api/members/a%2Fb%20c%3F?access_token=program-token%2B%26%3D");
    assert_eq!((seen.header("authorization"), seen.body.as_str()), (None, ""));
    assert_eq!(seen.header("accept"), Some("application/vnd.stellar-v1+json"));
}

#[tokio::test]
async fn a_404_is_proven_only_after_the_credential_succeeded() {
    let (stub, client) = stub_and(MemberProof::Password).await;
    let spec = || program(MemberKey::MemberId, "77");
    stub.replies(404, r#"{"error":"not_found"}"#);
    assert_eq!(step(&client, spec(), StepName::ReadBack).await, Ok(Answer::Unclear(Reason::Unproven)));
    for (status, body) in [
        (200, "<html></html>"),
        (200, ""),
        (200, "{}"),
        (200, "[]"),
        (200, r#"{"success":false}"#),
        (200, r#"{"status":"ok"}"#),
    ] {
        stub.replies(status, body);
        let _ = step(&client, spec(), StepName::Resolve).await;
        assert!(!client.credential().is_proven(), "{body}");
    }
    stub.replies(200, r#"{"member_id":"77"}"#);
    assert_eq!(step(&client, spec(), StepName::Resolve).await, Ok(Answer::Found(Identity::Same)));
    for gone in [r#"{"error":"not_found"}"#, r#"{"name":"member_not_found"}"#, "not_found", "Member not found"] {
        stub.replies(404, gone);
        assert_eq!(step(&client, spec(), StepName::ReadBack).await, Ok(Answer::Missing(Absence::vouched())), "{gone}");
    }
    for other in [
        "",
        "{}",
        "<html><h1>404 Not Found</h1></html>",
        "default backend - 404",
        "404 page not found",
        "Not Found",
        r#"{"error":"Not Found"}"#,
        r#"{"status":404,"error":"not_found","path":"/program/api/members/77"}"#,
        r#"{"message":"no Route matched with those values"}"#,
        r#"{"error":["not_found"]}"#,
        r#"{"error":"not_found","success":true}"#,
    ] {
        stub.replies(404, other);
        let failure = step(&client, spec(), StepName::ReadBack).await.expect_err("something else speaks");
        assert_eq!(failure.kind, FailureKind::Unreadable, "{other}");
    }
    stub.replies(410, r#"{"error":"not_found"}"#);
    assert!(step(&client, spec(), StepName::ReadBack).await.is_err());
}

#[tokio::test]
async fn program_reads_that_say_nothing_are_failures() {
    let (stub, client) = stub_and(MemberProof::Password).await;
    for (status, body, kind) in [
        (200, "<html></html>", FailureKind::Unreadable),
        (200, "", FailureKind::Unreadable),
        (200, "[]", FailureKind::Unreadable),
        (200, r#"{"success":false,"error":"member not found"}"#, FailureKind::Unreadable),
        (200, r#"{"error":"expired_token"}"#, FailureKind::UnauthorisedOurs),
        (401, "", FailureKind::UnauthorisedOurs),
        (403, "", FailureKind::UnauthorisedOurs),
        (500, "", FailureKind::Unavailable),
        (429, "", FailureKind::RateLimited),
    ] {
        stub.replies(status, body);
        let failure = step(&client, program(MemberKey::MemberId, "77"), StepName::ReadBack).await.expect_err("failed");
        assert_eq!(failure.kind, kind, "{status} {body}");
    }
}

#[tokio::test]
async fn a_record_found_by_another_kind_of_id_is_somebody_elses() {
    let (stub, client) = stub_and(MemberProof::Password).await;
    for (body, identity) in [
        (r#"{"card_id":null,"member_id":"77"}"#, Identity::Other),
        (r#"{"data":{"member_id":"77","email":"bob@example.com"}}"#, Identity::Other),
        (r#"{"card_id":"77","member_id":"77"}"#, Identity::Same),
        (r#"{"card_id":null,"member_id":"78"}"#, Identity::Unreadable),
    ] {
        stub.replies(200, body);
        let resolved = step(&client, program(MemberKey::CardId, "77"), StepName::Resolve).await;
        assert_eq!(resolved, Ok(Answer::Found(identity)), "{body}");
    }
}

#[tokio::test]
async fn a_profile_is_read_with_the_members_own_token() {
    let (stub, client) = stub_and(MemberProof::Password).await;
    let resolve = || step(&client, own(Some("77")), StepName::Resolve);
    stub.replies(200, r#"{"profile":{"member_id":77}}"#);
    assert_eq!(resolve().await, Ok(Answer::Found(Identity::Same)));
    let seen = stub.one();
    assert_eq!((seen.line.as_str(), seen.header("authorization")), ("GET /api/profile", Some("Bearer member-token")));
    stub.replies(200, r#"{"member_id":"78"}"#);
    assert_eq!(resolve().await, Ok(Answer::Found(Identity::Other)));
    stub.replies(404, "");
    assert_eq!(resolve().await, Ok(Answer::Found(Identity::Unreadable)));
    stub.replies(401, "");
    assert_eq!(resolve().await.expect_err("something else speaks").kind, FailureKind::Unreadable);
    stub.replies(401, r#"{"error":"expired_token"}"#);
    let failure = resolve().await.expect_err("refused");
    assert_eq!(failure.kind, FailureKind::UnauthorisedTheirs(InputKind::AccessToken));
    assert!(!client.credential().is_proven());
}

/// Without a program token the profile is all that can be read: a gateway's 404 would let the deletion go out.
#[tokio::test]
async fn without_a_program_token_only_the_platforms_own_404_is_taken_for_a_platform_without_profiles() {
    let stub = Stub::start().await;
    let mut settings = zeta(&stub.url, MemberProof::Token);
    settings.program_token = None;
    let bare = client(settings);
    let resolve = || step(&bare, own(Some("77")), StepName::Resolve);
    for page in
        ["", "<html><h1>404 Not Found</h1></html>", "default backend - 404", r#"{"message":"no Route matched"}"#]
    {
        stub.replies(404, page);
        assert_eq!(resolve().await.expect_err(page).kind, FailureKind::Unreadable, "{page}");
        assert_eq!(bare.probe().await.expect_err(page).kind, FailureKind::Unreadable, "{page}");
    }
    for said in [r#"{"error":"not_found"}"#, r#"{"name":"not_found","code":"no_such_path"}"#] {
        stub.replies(404, said);
        assert_eq!((resolve().await, bare.probe().await), (Ok(Answer::Found(Identity::Unreadable)), Ok(())), "{said}");
    }
}

#[tokio::test]
async fn without_a_possible_read_back_nothing_is_proven_and_nothing_is_sent() {
    let stub = Stub::start().await;
    stub.replies(404, "");
    let mut bare = zeta(&stub.url, MemberProof::Token);
    bare.program_token = None;
    let bare = client(bare);
    let email = Spec::LoyaltyImport { member: member(MemberKey::Email, "ann@example.com") };
    let with_token = client(zeta(&stub.url, MemberProof::Token));
    for (client, spec) in [
        (&bare, program(MemberKey::MemberId, "77")),
        (&bare, own(Some("77"))),
        (&with_token, own(None)),
        (&with_token, email.clone()),
    ] {
        let failure = step(client, spec, StepName::ReadBack).await.expect_err("unproven");
        assert_eq!((failure.kind, failure.reason), (FailureKind::Rejected, Reason::Unproven));
    }
    let failure = step(&bare, program(MemberKey::MemberId, "77"), StepName::Resolve).await.expect_err("rejected");
    assert_eq!(failure.kind, FailureKind::Rejected);
    assert_eq!(step(&with_token, email, StepName::Resolve).await, Ok(Answer::Found(Identity::Unreadable)));
    assert!(stub.seen().is_empty());
}

#[tokio::test]
async fn a_probe_is_a_read_and_proves_the_token_only_by_a_member_found() {
    let (stub, client_without) = stub_and(MemberProof::Token).await;
    stub.replies(404, "");
    assert_eq!(client_without.probe().await.expect_err("something else speaks").kind, FailureKind::Unreadable);
    stub.seen();
    stub.replies(404, r#"{"error":"not_found"}"#);
    assert_eq!(client_without.probe().await, Ok(()));
    assert!(stub.one().line.starts_with("GET /program/api/members/erasure-worker~probe?"));
    stub.replies(401, "");
    assert_eq!(client_without.probe().await.expect_err("refused").kind, FailureKind::UnauthorisedOurs);
    assert!(!client_without.credential().is_proven());

    let mut settings = zeta(&stub.url, MemberProof::Token);
    settings.probe_member_id = Some(secret("always"));
    let with = client(settings);
    stub.replies(404, r#"{"error":"not_found"}"#);
    assert_eq!(with.probe().await.expect_err("not there").kind, FailureKind::UnauthorisedOurs);
    stub.replies(200, "<html></html>");
    assert_eq!(with.probe().await.expect_err("no record").kind, FailureKind::Unreadable);
    assert!(!with.credential().is_proven());
    stub.replies(200, r#"{"member_id":"always"}"#);
    assert_eq!(with.probe().await, Ok(()));
    assert!(with.credential().is_proven());
}

#[tokio::test]
async fn no_failure_shows_an_id_a_proof_or_a_reply() {
    let (stub, client) = stub_and(MemberProof::Password).await;
    for (status, body) in
        [(200, "reply-text"), (400, "reply-text"), (404, ""), (503, "reply-text"), (302, "reply-text")]
    {
        stub.replies(status, body);
        for (spec, name) in [
            (program(MemberKey::MemberId, "member-77"), StepName::DeleteMember),
            (program(MemberKey::MemberId, "member-77"), StepName::Resolve),
            (own(Some("member-77")), StepName::DeleteMember),
            (own(Some("member-77")), StepName::Resolve),
        ] {
            let shown = format!("{:?}", step(&client, spec, name).await);
            for word in ["member-77", "member-token", "pass word", "program-token", "reply-text", "127.0.0.1"] {
                assert!(!shown.contains(word), "{shown}");
            }
        }
    }
}

#[tokio::test]
async fn an_import_row_is_queued_once_and_told_when_the_result_is_there() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut zeta = zeta("http://127.0.0.1:9", MemberProof::Token);
    zeta.import = Some(settings(dir.path()));
    let client = client(zeta);
    assert!(client.accepts(MemberKey::IntegrationId) && !client.accepts(MemberKey::Email));
    let spec = || Spec::LoyaltyImport { member: member(MemberKey::IntegrationId, "INT-42") };
    assert_eq!(step(&client, spec(), StepName::ImportResult).await, Ok(Answer::Row(RowState::Missing)));
    for _ in 0..3 {
        assert_eq!(step(&client, spec(), StepName::QueueImportRow).await, Ok(Answer::Done));
    }
    assert_eq!(step(&client, spec(), StepName::ImportResult).await, Ok(Answer::Row(RowState::Waiting)));
    let import = client.import().expect("a ledger");
    let batch = import.export(None, crate::parts::at(1)).expect("exported").expect("a batch");
    assert_eq!(batch.csv.as_slice(), b"Integration ID\nINT-42\n");
    import.settle("Integration ID,Status\nINT-42,Deleted\n".as_bytes(), crate::parts::at(2)).expect("settled");
    assert_eq!(step(&client, spec(), StepName::ImportResult).await, Ok(Answer::Row(RowState::Deleted)));
    let other = Spec::LoyaltyImport { member: member(MemberKey::MemberId, "77") };
    assert_eq!(step(&client, other, StepName::QueueImportRow).await.expect_err("rejected").kind, FailureKind::Rejected);
}

#[test]
fn each_step_counts_against_a_stable_endpoint() {
    let client = client(zeta("http://127.0.0.1:9", MemberProof::Token));
    let spec = Spec::LoyaltyImport { member: member(MemberKey::MemberId, "77") };
    let endpoints = |name| client.endpoints(&spec, Step::one(name));
    assert_eq!(endpoints(StepName::DeleteMember), ["program"]);
    assert_eq!(endpoints(StepName::RequestOtp), ["member"]);
    assert_eq!(endpoints(StepName::QueueImportRow), ["import"]);
}
