//! The client's requests, and its reading of each reply.

mod deletes;

use erasure_worker::job::flow::MemberProof;
use erasure_worker::job::{
    Absence, Answer, FailureKind, Identity, InputKind, MemberKey, Reason, RowState, Spec, Step, StepName,
};
use erasure_worker::systems::System;
use erasure_worker::systems::zeta::ZetaClient;

use crate::parts::{Stub, client, member, secret, settings, step, zeta};

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
async fn a_member_is_the_same_only_by_the_named_kind_of_id() {
    use Identity::{Other, Same, Unreadable};
    use MemberKey::{CardId, DatabaseId, IntegrationId, MemberId};
    let (stub, client) = stub_and(MemberProof::Password).await;
    // One person's card id is another person's member id.
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
            // After a delete, another member's record counts only if it shows the reason why it was found.
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
async fn program_reads_without_a_clear_answer_are_failures() {
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
async fn a_record_found_by_another_kind_of_id_is_another_members() {
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

/// Without a program token only the profile can be read. A gateway's 404 must not permit the deletion.
#[tokio::test]
async fn without_a_program_token_only_the_platforms_own_404_means_that_it_has_no_profiles() {
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
    for body in [r#"{"error":"not_found"}"#, r#"{"name":"not_found","code":"no_such_path"}"#] {
        stub.replies(404, body);
        assert_eq!((resolve().await, bare.probe().await), (Ok(Answer::Found(Identity::Unreadable)), Ok(())), "{body}");
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
async fn a_probe_proves_the_token_only_if_it_finds_a_member() {
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
async fn an_import_row_is_queued_once_and_its_result_is_reported() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut zeta = zeta("http://127.0.0.1:9", MemberProof::Token);
    zeta.import = Some(settings(dir.path()));
    let client = client(zeta);
    let import = client.import().unwrap();
    assert!(import.accepts(MemberKey::IntegrationId) && !import.accepts(MemberKey::Email));
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
fn each_step_counts_for_its_endpoint() {
    let client = client(zeta("http://127.0.0.1:9", MemberProof::Token));
    let spec = Spec::LoyaltyImport { member: member(MemberKey::MemberId, "77") };
    let endpoints = |name| client.endpoints(&spec, Step::one(name));
    assert_eq!(endpoints(StepName::DeleteMember), ["program"]);
    assert_eq!(endpoints(StepName::RequestOtp), ["member"]);
    assert_eq!(endpoints(StepName::QueueImportRow), ["import"]);
}
