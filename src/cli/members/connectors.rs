//! Members of connectors, databases and webhooks: every column under its own name.
//!
//! The rule it keeps: a row is accepted exactly if the worker accepts the same job, written by hand. A refusal names
//! line and field, never a value.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use clap::Parser as _;
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use super::reading::Reading;
use super::template::JobTemplate;
use super::{Columns, Ready, ready};
use crate::cli::{Cli, Command};
use crate::job::plan::{Ends, Form, Identifier, Plan};
use crate::job::{Accepts, InputKind, Kind, Rules, draft};

const KINDS: [Kind; 3] = [Kind::Connector, Kind::Sql, Kind::Webhook];

/// Names, two of which are also built-in: `codes` holds several values there, and `guid` has another form.
const IDENTIFIERS: [(&str, Form); 5] = [
    ("account", Form::Uuid),
    ("codes", Form::Text),
    ("email", Form::Email),
    ("guid", Form::Digits),
    ("user_id", Form::Text),
];

/// Values of which each form takes some.
const VALUES: [&str; 14] = [
    "7",
    "007",
    "0",
    "-1",
    "12345678901234567890123456789012",
    "123456789012345678901234567890123",
    "person@example.com",
    "Person@Example.COM",
    "6c0b7b0e-6a4e-4a53-9a2e-0d8c6a0a7f11",
    "6C0B7B0E6A4E4A539A2E0D8C6A0A7F11",
    "PLANTED A B",
    "PLANTED;B",
    " PLANTED",
    "null",
];

fn accepts(kind: Kind, required: &[&str]) -> Accepts {
    let identifier =
        |(name, form): (&str, Form)| (name.to_owned(), Identifier { form, is_required: required.contains(&name) });
    let plan = Plan {
        connector: "helpdesk@0".to_owned(),
        installation: String::new(),
        ends: Ends::Erased,
        identifiers: IDENTIFIERS.into_iter().map(identifier).collect(),
        proofs: vec![("customer_password".to_owned(), InputKind::CustomerPassword)],
        preserved: Vec::new(),
        facts: Vec::new(),
        reads: Vec::new(),
        acts: Vec::new(),
    };
    let rules = Rules { plan: Some(Arc::new(plan)), ..Rules::new(kind) };
    let systems = BTreeMap::from([("helpdesk".to_owned(), rules)]);
    Accepts { environment: "sandbox".to_owned(), systems, ..Accepts::default() }
}

/// The template for these arguments; a tilde stands for a blank.
fn template(accepts: &Accepts, line: &str) -> Result<JobTemplate, String> {
    let line = format!("erasure-worker submit-csv --system helpdesk {line} members.csv");
    let words = line.split(' ').map(|word| word.replace('~', " "));
    let Command::SubmitCsv(args) = Cli::try_parse_from(words).map_err(|error| error.to_string())?.command else {
        panic!("another command")
    };
    JobTemplate::new(&args, accepts.clone(), &[7; 32], in_the_past())
}

fn in_the_past() -> Timestamp {
    Timestamp::UNIX_EPOCH + jiff::SignedDuration::from_hours(400_000)
}

fn values(values: &[&str]) -> Vec<Zeroizing<String>> {
    values.iter().map(|value| Zeroizing::new((*value).to_owned())).collect()
}

#[test]
fn a_row_is_accepted_exactly_if_the_same_job_by_hand_is() {
    let (mut taken, mut refused) = (0, 0);
    for kind in KINDS {
        let accepts = accepts(kind, &[]);
        for (key, _) in IDENTIFIERS {
            for (other, _) in IDENTIFIERS.into_iter().filter(|(other, _)| *other != key) {
                let line = format!("--key {key} --column A --also {other}=B --also customer_password=C");
                let template = template(&accepts, &line).unwrap();
                for (value, others) in VALUES.iter().flat_map(|value| VALUES.map(|others| (*value, others))) {
                    let by_hand = json!({
                        "schema": "erasure.job/v1", "job_id": template.id(9), "environment": "sandbox",
                        "requested_at": in_the_past().to_string(),
                        "targets": [{ "system": "helpdesk", "subject": { key: value, other: others },
                            "proofs": { "customer_password": " s;e,c " } }],
                    });
                    let by_hand = draft::job(by_hand.to_string().as_bytes(), None, &accepts);
                    match (template.job(9, &values(&[value, others, " s;e,c "])), by_hand) {
                        (Ok(body), Ok(by_hand)) => {
                            let job = draft::job(&body, None, &accepts).unwrap();
                            assert_eq!(job.identity_bytes(), by_hand.identity_bytes(), "{line} {value} {others}");
                            let job: Value = serde_json::from_slice(&body).unwrap();
                            assert_eq!(job["targets"][0]["proofs"], json!({ "customer_password": " s;e,c " }));
                            taken += 1;
                        }
                        (Err(note), Err(by_hand)) => {
                            assert_eq!(note, by_hand.invalid.to_string(), "{line} {value} {others}");
                            assert!(note.starts_with("targets[0].subject.") && !note.contains("PLANTED"), "{note}");
                            refused += 1;
                        }
                        (row, _) => panic!("{line} {value} {others}: the row is taken: {}", row.is_ok()),
                    }
                }
            }
        }
    }
    assert!(taken > 1_000 && refused > 1_000, "{taken} {refused}");
}

#[test]
fn an_empty_cell_of_another_column_is_left_out_of_the_job_unless_it_is_required() {
    let line = "--key user_id --column A --also codes=B --also customer_password=C";
    for kind in KINDS {
        let target = |required: &[&str], row: &[&str]| {
            let made = template(&accepts(kind, required), line).unwrap().job(2, &values(row));
            made.map(|body| serde_json::from_slice::<Value>(&body).unwrap()["targets"][0].clone())
        };
        let alone = json!({ "system": "helpdesk", "subject": { "user_id": "7" } });
        assert_eq!(target(&["user_id"], &["7", "", ""]), Ok(alone));
        let missing = "targets[0].subject.codes: is missing and required".to_owned();
        assert_eq!(target(&["user_id", "codes"], &["7", "", "p"]), Err(missing));
    }
}

#[test]
fn arguments_that_fit_no_member_of_the_system_are_refused_with_the_known_names() {
    let all = "account, codes, email, guid, user_id";
    let others = "account, codes, guid, user_id, customer_password";
    for (required, line, wanted) in [
        (&["user_id"][..], "--key member_id --column A", format!("--key: helpdesk takes {all}")),
        (&["user_id"], "--key User_ID --column A", format!("--key: helpdesk takes {all}")),
        (&["user_id"], "--key customer_password --column A", format!("--key: helpdesk takes {all}")),
        (
            &[],
            "--key email --column A --also customer_id=B",
            format!("a member of helpdesk has no customer_id; it has {others}"),
        ),
        (
            &[],
            "--key email --column A --also Ann~Lee=B",
            format!("a member of helpdesk has no such field; it has {others}"),
        ),
        (
            &["user_id"],
            "--key email --column A --also codes=B",
            "--also user_id=HEADER: helpdesk requires user_id".to_owned(),
        ),
        (&["account", "user_id"], "--key email --column A", "--also account=HEADER --also user_id=HEADER: ".to_owned()),
        (&["user_id"], "--key user_id --column A --also user_id=B", "--also: user_id is the --key already".to_owned()),
        (&[], "--key user_id --column A --also email=B --also email=C", "--also: email is given twice".to_owned()),
        (&[], "--key user_id --column A --method manual", "--method: helpdesk has only one method".to_owned()),
        (&[], "--key user_id --column ~", "expected a column's header".to_owned()),
        (&[], "--key user_id --column A --also email=~", "expected FIELD=HEADER".to_owned()),
        (&[], "--key user_id --column A --also =B", "expected FIELD=HEADER".to_owned()),
    ] {
        for kind in KINDS {
            let refused = template(&accepts(kind, required), line).err().unwrap_or_default();
            assert!(refused.contains(&wanted), "{line}: {refused}");
            assert!(!refused.contains("Ann"), "{line}: {refused}");
        }
    }
}

#[test]
fn the_same_columns_make_the_same_jobs_and_only_a_proof_may_come_from_another_column() {
    let accepts = accepts(Kind::Connector, &["user_id"]);
    let of = |line: &str| template(&accepts, line).unwrap();
    let first = of("--key user_id --column A --also email=B --also codes=C --also customer_password=D");
    // Whether the job id is the same, and the differences that make other jobs.
    let against_first = |line: &str| {
        let other = of(line);
        let differences = other.arguments().differ_from(first.arguments(), |name| other.is_proof(name));
        (other.id(2) == first.id(2), differences.jobs)
    };
    for same in [
        "--key user_id --column A --also codes=C --also email=B --also customer_password=D",
        "--key user_id --column A --also email=B --also codes=C --also customer_password=E",
        "--key user_id --column A --also email=B --also codes=C",
    ] {
        assert_eq!(against_first(same), (true, Vec::new()));
    }
    for other in [
        "--key user_id --column A --also email=B --also codes=D",
        "--key user_id --column A --also email=C --also codes=B",
        "--key user_id --column A --also email=B",
        "--key email --column B --also user_id=A --also codes=C",
    ] {
        let (is_same, differences) = against_first(other);
        assert!(!is_same && !differences.is_empty(), "{other}: {differences:?}");
    }
    // An identifier with the name of a proof.
    let mut accepts = accepts.clone();
    let rules = accepts.systems.get_mut("helpdesk").unwrap();
    let mut plan = Plan::clone(rules.plan.as_ref().unwrap());
    plan.identifiers.insert("code".to_owned(), Identifier { form: Form::Text, is_required: false });
    rules.plan = Some(Arc::new(plan));
    let of = |column: &str| template(&accepts, &format!("--key user_id --column A --also code={column}")).unwrap();
    assert_ne!(of("B").id(2), of("C").id(2));
    assert!(!of("B").is_proof("code") && of("B").is_proof("access_token"));
    // One name for both does not say which of them a column holds.
    let rules = accepts.systems.get_mut("helpdesk").unwrap();
    let mut plan = Plan::clone(rules.plan.as_ref().unwrap());
    plan.proofs.push(("code".to_owned(), InputKind::Otp));
    rules.plan = Some(Arc::new(plan));
    let refused = template(&accepts, "--key user_id --column A --also code=B").err().unwrap_or_default();
    assert!(refused.contains("code is an identifier and a proof of helpdesk"), "{refused}");
}

#[test]
fn the_ids_of_a_files_jobs_are_the_same_in_every_release() {
    let built_in = |kind| {
        let systems = BTreeMap::from([("helpdesk".to_owned(), Rules::new(kind))]);
        Accepts { environment: "sandbox".to_owned(), systems, ..Accepts::default() }
    };
    for (accepts, line, id) in [
        (
            built_in(Kind::VitalSource),
            "--key guid --column GUID --also reference=Ref --also codes=Codes",
            "ebac469c-3425-5fad-b664-8cab70e9744f",
        ),
        (
            built_in(Kind::EasyCms),
            "--key email --column E-mail --also customer_password=Secret",
            "93ef4adf-04e5-5ae0-8f61-6c0a41533b5e",
        ),
        (
            accepts(Kind::Webhook, &[]),
            "--key guid --column Id --also codes=Codes --also customer_password=Secret --preview",
            "545fe794-cade-5c02-9af1-56c2c7c52b98",
        ),
    ] {
        assert_eq!(template(&accepts, line).unwrap().id(9).to_string(), id, "{line}");
    }
}

/// Each row of a file: its line, with its subject or its fault.
fn rows(path: &Path, columns: &[&str], template: &JobTemplate) -> Vec<(u64, Result<Value, String>)> {
    let columns: Vec<String> = columns.iter().map(|name| (*name).to_owned()).collect();
    let mut rows = Vec::new();
    let read = Reading::begin(path, &columns).unwrap().each(|row| {
        rows.push(match ready(template, row) {
            Ready::Job { line, body, .. } => {
                let job: Value = serde_json::from_slice(&body).unwrap();
                (line, Ok(job["targets"][0]["subject"].clone()))
            }
            Ready::Unusable { line, note, .. } => (line, Err(note)),
        });
        true
    });
    read.unwrap();
    rows
}

#[test]
fn faulty_and_repeated_rows_are_reported_by_their_line_and_the_others_make_jobs() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("members.csv");
    let text = "Mail,Id,Note\n\
        a@example.com,1,x\n\
        PLANTED-mail,2,x\n\
        c@example.com,PLANTED-id,x\n\
        \"d@example.com\",4,\"a note\nof two lines\"\n\
        a@example.com,1,y\n\
        a@example.com,9,y\n\
        ,5,x\n\
        e@example.com,,x\n\
        f@example.com,6\n";
    std::fs::write(&path, text).unwrap();
    for kind in KINDS {
        let template = template(&accepts(kind, &["guid"]), "--key email --column Mail --also guid=Id").unwrap();
        let rows = rows(&path, &["Mail", "Id"], &template);
        let subject = |email: &str, guid: &str| Ok(json!({ "email": email, "guid": guid }));
        let fault = |note: &str| Err(note.to_owned());
        let wanted = [
            (2, subject("a@example.com", "1")),
            (3, fault("targets[0].subject.email: expected exactly one e-mail address, such as ann@example.com")),
            (4, fault("targets[0].subject.guid: expected a string of 1 to 32 digits, not all of them 0")),
            (5, subject("d@example.com", "4")),
            (7, fault("the same member as in line 2")),
            (8, fault("the member of line 2 once more, with other values: write them into one row")),
            (9, fault("the member is empty")),
            (10, fault("targets[0].subject.guid: is missing and required")),
            (11, fault("2 fields where the header has 3")),
        ];
        assert_eq!(rows, wanted);
    }
}

#[test]
fn a_job_is_found_by_an_identifier_that_can_be_its_only_one() {
    for kind in KINDS {
        let of = |required: &[&str]| Columns::of(&accepts(kind, required).systems["helpdesk"]);
        let columns = of(&["email"]);
        assert_eq!(columns.found_by(), IDENTIFIERS.map(|(name, _)| name));
        assert!(columns.is_enough("email") && !columns.is_enough("user_id"));
        assert!(IDENTIFIERS.iter().all(|(name, _)| of(&[]).is_enough(name) && !of(&["email", "guid"]).is_enough(name)));
        let target: Map<String, Value> = columns.target(("email", "a@example.com"), "", std::iter::empty());
        assert_eq!(Value::from(target), json!({ "subject": { "email": "a@example.com" } }));
    }
}
