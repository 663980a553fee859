//! Deletions by the program and by the member, and the proofs that they send.

use erasure_worker::job::flow::MemberProof;
use erasure_worker::job::{Answer, FailureKind, InputKind, MemberKey, Reason, Spec, StepName};
use erasure_worker::systems::System;

use super::{own, program, stub_and};
use crate::parts::{Stub, TOKEN, client, secret, step, zeta};

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
async fn an_id_that_could_name_another_resource_is_never_sent() {
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
async fn a_member_delete_sends_the_configured_proof() {
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
async fn a_missing_proof_is_requested_without_a_call() {
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
    // A password that may have been sent counts as sent.
    for (status, body) in [(504, ""), (401, ""), (200, ""), (200, "<html>Sign in</html>"), (200, "sent")] {
        stub.replies(status, body);
        let failure = step(&client, own(None), StepName::RequestOtp).await.expect_err("lost");
        assert_eq!(failure.kind, FailureKind::Ambiguous, "{status} {body}");
    }
}

#[tokio::test]
async fn the_meaning_of_member_delete_replies_depends_on_the_proof() {
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
async fn a_program_delete_is_done_only_with_an_explicit_success() {
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
