//! The JSON Schemas against the code: the same closed lists, jobs and events.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser as _;
use erasure_worker::cli::{Cli, Context};
use erasure_worker::config::Surroundings;
use erasure_worker::job::draft;
use erasure_worker::job::event::{self, About, Frame};
use erasure_worker::job::flow::{Ask, Limits};
use erasure_worker::job::journal::Entry;
use erasure_worker::job::parse;
use erasure_worker::job::parse::{Accepts, MAX_CODES, MAX_TARGETS, SCHEMA};
use erasure_worker::job::schema;
use erasure_worker::job::wait::Waiting;
use erasure_worker::job::{
    Answer, At, Cancel, Entitlement, Field, Identity, InputKind, Job, JobKey, JobOutcome, JobRecord, Kind, MemberKey,
    Reason, Retry, Rules, Standstill, Step, StepName, StepOutcome, TargetEnd, TargetOutcome, TargetState,
};
use erasure_worker::systems::connector;
use serde_json::{Value, json};

use crate::validator::fault;
use crate::{blocks, page};

fn job_schema() -> Value {
    serde_json::from_str(schema::JOB).unwrap()
}

fn event_schema() -> Value {
    serde_json::from_str(schema::EVENT).unwrap()
}

/// Compares the words under a pointer with those of the code.
fn same_words<T: Display>(schema: &Value, pointer: &str, code: impl IntoIterator<Item = T>) {
    let words = schema.pointer(pointer).and_then(Value::as_array).unwrap_or_else(|| panic!("{pointer} is no list"));
    let words: Vec<&str> = words.iter().map(|word| word.as_str().unwrap()).collect();
    let code: Vec<String> = code.into_iter().map(|word| word.to_string()).collect();
    assert_eq!(words, code, "{pointer}");
}

#[test]
fn the_event_schema_has_the_closed_lists_of_the_code() {
    let schema = event_schema();
    same_words(&schema, "/$defs/reason/enum", Reason::ALL);
    same_words(&schema, "/$defs/retry/enum", Retry::ALL);
    same_words(&schema, "/$defs/target_outcome/enum", TargetOutcome::ALL);
    same_words(&schema, "/$defs/step_outcome/enum", StepOutcome::ALL);
    same_words(&schema, "/$defs/input_kind/enum", InputKind::ALL);
    same_words(&schema, "/$defs/step_name/enum", StepName::ALL.map(StepName::as_str));
    same_words(&schema, "/$defs/target/properties/kind/enum", Kind::ALL.map(Kind::as_str));
    same_words(&schema, "/$defs/data/properties/wait/properties/then/enum", Waiting::ALL.map(Waiting::then));
    let ends = JobOutcome::ALL.iter().map(|outcome| outcome.as_str());
    same_words(
        &schema,
        "/$defs/job_outcome/enum",
        ends.chain(["needs_input", "rejected", "cancel_refused", "held_by_guard", "at_risk", "overdue", "waiting"]),
    );
}

#[test]
fn the_job_schema_has_the_limits_and_lists_of_the_code() {
    let schema = job_schema();
    let at = |pointer: &str| schema.pointer(pointer).unwrap_or_else(|| panic!("no {pointer}"));
    assert_eq!(at("/properties/schema/const"), SCHEMA);
    assert_eq!(at("/properties/targets/maxItems"), MAX_TARGETS);
    let forms = at("/$defs/target/oneOf").as_array().unwrap();
    let codes: Vec<_> = forms.iter().filter_map(|form| form.pointer("/properties/codes/maxItems")).collect();
    assert_eq!(codes, [MAX_CODES]);
    let overwrite = forms.iter().position(|form| form.pointer("/properties/overwrite").is_some()).unwrap();
    let pointer = format!("/$defs/target/oneOf/{overwrite}/properties/overwrite/items/enum");
    same_words(&schema, &pointer, Field::ALL.map(Field::as_str));
    let keys: BTreeSet<&str> = ["member", "member_in_file"]
        .iter()
        .flat_map(|def| at(&format!("/$defs/{def}/properties")).as_object().unwrap().keys().map(String::as_str))
        .collect();
    assert_eq!(keys, MemberKey::ALL.map(MemberKey::as_str).into());
    for form in forms {
        assert_eq!(form["additionalProperties"], false, "{}", form["title"]);
    }
}

/// The systems of the examples.
/// The help desk of the connector files.
fn helpdesk() -> Rules {
    let plan = connector::plan(&erasure_connector::load(page("connectors/zendesk.toml").as_bytes()).unwrap()).unwrap();
    Rules { plan: Some(Arc::new(plan)), ..Rules::new(Kind::Connector) }
}

pub fn accepts() -> Accepts {
    let mut loyalty = Rules::new(Kind::ZetaLoyalty);
    loyalty.import_key = Some(MemberKey::IntegrationId);
    let systems = [
        ("cleeng", Rules::new(Kind::Cleeng)),
        ("loyalty", loyalty),
        ("easycms", Rules::new(Kind::EasyCms)),
        ("vitalsource", Rules::new(Kind::VitalSource)),
        ("helpdesk", helpdesk()),
    ];
    Accepts {
        environment: "sandbox".into(),
        systems: systems.map(|(name, rules)| (name.to_owned(), rules)).into(),
        ..Accepts::default()
    }
}

/// The JSON examples of the page on messages.
fn examples() -> Vec<Value> {
    let blocks = blocks(&page("docs/messages.md")).into_iter().filter(|(language, _)| language == "json");
    blocks.map(|(_, text)| serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in {text}"))).collect()
}

fn parsed(job: &Value) -> Result<Job, parse::Refusal> {
    draft::job(job.to_string().as_bytes(), None, &accepts())
}

#[test]
fn every_kind_of_message_has_an_example_and_each_is_valid() {
    let (jobs, events) = (job_schema(), event_schema());
    let mut seen = BTreeSet::new();
    for example in examples() {
        match (example["schema"].as_str(), example["type"].as_str()) {
            (Some(SCHEMA), _) => {
                assert_eq!(fault(&jobs, &example), None);
                let job = parsed(&example).unwrap();
                seen.extend(job.targets.iter().map(|target| target.kind.as_str().to_owned()));
            }
            (Some(Cancel::SCHEMA), _) => {
                Cancel::parse(example.to_string().as_bytes()).unwrap();
                seen.insert("cancel".into());
            }
            (_, Some(kind)) => {
                assert_eq!(fault(&events, &example), None, "{kind}");
                let what = kind.trim_start_matches("erasure.job.").trim_end_matches(".v1");
                assert_eq!(example["data"]["outcome"], what);
                let error = |error: &Value| {
                    let reason = Reason::ALL.iter().find(|reason| error["reason"] == reason.as_str()).unwrap();
                    assert_eq!(error["code"], reason.code());
                    assert_eq!(error["retry"], reason.retry().as_str());
                };
                let targets = example["data"]["targets"].as_array().unwrap().iter().map(|target| &target["error"]);
                targets.chain(example["data"].get("error")).filter(|error| !error.is_null()).for_each(error);
                seen.insert("event".into());
            }
            _ => panic!("an example that is not a message"),
        }
    }
    // A database and a webhook have a connector's form.
    let kinds = Kind::ALL.into_iter().filter(|kind| !matches!(kind, Kind::Sql | Kind::Webhook));
    let expected = ["cancel", "event"].into_iter().chain(kinds.map(Kind::as_str));
    assert_eq!(seen, expected.map(str::to_owned).collect());
}

#[test]
fn parser_and_schema_refuse_the_same_bad_jobs() {
    let good = examples().into_iter().find(|example| example["schema"] == SCHEMA).unwrap();
    let with = |pointer: &str, value: Value| {
        let mut job = good.clone();
        *job.pointer_mut(pointer).unwrap_or_else(|| panic!("no {pointer}")) = value;
        job
    };
    let and = |pointer: &str, name: &str, value: Value| {
        let mut job = good.clone();
        job.pointer_mut(pointer).unwrap()[name] = value;
        job
    };
    let without = |pointer: &str, name: &str| {
        let mut job = good.clone();
        job.pointer_mut(pointer).unwrap().as_object_mut().unwrap().remove(name).unwrap();
        job
    };
    let bad = [
        json!([]),
        with("/schema", json!("erasure.job/v2")),
        with("/job_id", json!("6c0b7b0e6a4e4a539a2e0d8c6a0a7f11")),
        with("/tenant", json!("Acme")),
        with("/environment", json!("test")),
        with("/mode", json!("delete")),
        with("/requested_at", json!("yesterday")),
        with("/due_at", Value::Null),
        with("/extensions", json!([])),
        with("/targets", json!([])),
        with("/targets", vec![good["targets"][1].clone(); MAX_TARGETS + 1].into()),
        with("/confirmation/by", json!("shop")),
        with("/targets/0/customer_id", json!(123_456_789)),
        with("/targets/0/customer_id", json!("12345x")),
        with("/targets/0/customer_id", json!("000")),
        with("/targets/0/customer_email", json!("ann")),
        with("/targets/0/customer_email", json!("ann@localhost")),
        with("/targets/2/email", json!("ann@example.com, bob@example.com")),
        with("/targets/2/email", json!("a@@example.com")),
        with("/targets/1/member", json!({ "member_id": " M10" })),
        with("/targets/3/guid", json!("M10\u{a0}")),
        with("/targets/3/reference", json!("")),
        with("/targets/3/codes/0/code", json!("M10\n")),
        with("/targets/0/flow", json!("backdoor")),
        with("/targets/1/method", json!("program")),
        with("/targets/1/member", json!({})),
        with("/targets/1/member", json!({ "member_id": "1", "card_id": "2" })),
        with("/targets/1/member", json!({ "email": "ann@example.com" })),
        with("/targets/3/codes/0/percent_read", json!(101)),
        with("/targets/3/overwrite/0", json!("phone")),
        and("", "target", json!([])),
        and("/confirmation", "reason", json!("x")),
        and("/targets/0", "customer_token", json!("a.b.c")),
        and("/targets/2", "password", json!("x")),
        and("/targets/3/codes/0", "read", json!(1)),
        and("/targets/3", "codes", vec![json!({ "code": "A" }); MAX_CODES + 1].into()),
        without("", "requested_at"),
        without("/confirmation", "confirmed_at"),
        without("/targets/0", "customer_email"),
        without("/targets/1", "member"),
        without("/targets/2", "email"),
        without("/targets/4", "subject"),
        with("/targets/4/subject", json!({})),
        with("/targets/4/subject/user_id", json!(7)),
        with("/targets/4/subject/user_id", json!(" 7")),
        and("/targets/4", "email", json!("ann@example.com")),
        without("/targets/3/codes/0", "code"),
    ];
    let schema = job_schema();
    assert!(parsed(&good).is_ok() && fault(&schema, &good).is_none());
    for (index, job) in bad.iter().enumerate() {
        assert!(parsed(job).is_err(), "the parser accepts bad job {index}");
        assert!(fault(&schema, job).is_some(), "the schema accepts bad job {index}");
    }
}

/// The first example with another identifier in every place of this form.
pub fn named(text: &str, is_address: bool) -> Value {
    let mut job = examples().into_iter().find(|example| example["schema"] == SCHEMA).unwrap();
    let places: &[&str] = match is_address {
        true => &["/targets/0/customer_email", "/targets/2/email"],
        false => &["/targets/1/member/integration_id", "/targets/3/guid", "/targets/3/codes/0/code"],
    };
    places.iter().for_each(|place| *job.pointer_mut(place).unwrap() = text.into());
    job
}

/// Whether the parser accepts the job, and whether the schema does.
pub fn is_taken(job: &Value) -> (bool, bool) {
    (parsed(job).is_ok(), fault(&job_schema(), job).is_none())
}

fn record(job: &Job) -> JobRecord {
    JobRecord {
        identity: Vec::new(),
        run: 1,
        seq: 1,
        body: Vec::new(),
        copy: 0,
        park_written: 0,
        park_confirmed: 0,
        opened_at: At(0),
        requested_at: At(0),
        due_at: None,
        regulation: None,
        systems: job.targets.iter().map(|target| target.system.clone()).collect(),
        subject_ref: "s-0".into(),
        waiting: None,
        announced: Vec::new(),
        owed: None,
        lasting: Default::default(),
        seen: Default::default(),
        stands: Default::default(),
        waits_at: None,
    }
}

#[test]
fn every_event_of_the_worker_is_valid_under_the_event_schema() {
    let schema = event_schema();
    let accepts = accepts();
    let frame = Frame { environment: "sandbox", traceparent: None, now: At(1_795_000_000_000) };
    let mut events = Vec::new();
    for mode in ["erase", "preview"] {
        let mut body = examples().into_iter().find(|example| example["schema"] == SCHEMA).unwrap();
        body["mode"] = mode.into();
        let job = parsed(&body).unwrap();
        let rules: Vec<&Rules> = job.targets.iter().map(|target| &accepts.systems[&target.system]).collect();
        let mut targets = vec![TargetState::default(); job.targets.len()];
        let row = Entitlement {
            offer_id: "S1".into(),
            status: "active".into(),
            gives_access: true,
            externally_managed: false,
            is_pass: false,
            id: None,
        };
        let answered = |step, answer| Entry::Answered { target: 0, step, answer: Some(answer), at: At(5) };
        let entries = [
            answered(Step::one(StepName::Resolve), Answer::Found(Identity::Same)),
            answered(Step::one(StepName::ListEntitlements), Answer::Entitlements(vec![row.clone()])),
            Entry::Intent { target: 0, step: Step::one(StepName::TerminateEntitlement), at: At(6) },
            answered(Step::one(StepName::TerminateEntitlement), Answer::Done),
        ];
        entries.iter().zip(1..).for_each(|(entry, seq)| targets[0].apply(entry, seq));
        let ask = Ask {
            kind: InputKind::Confirmation,
            expires_at: Some(At(9)),
            entitlements: vec![row],
            step: StepName::TerminateEntitlement,
        };
        let record = record(&job);
        let about = About { job: &job, record: &record, targets: &targets, rules: &rules };
        events.push(about.needs_input(&frame, &[(0, ask)]));
        events.push(about.held_by_guard(&frame, [("tenant", "acme"), ("system", "cleeng")].into_iter()));
        let ends = [
            TargetEnd::refused(Reason::ActiveEntitlement, StepName::TerminateEntitlement),
            TargetEnd::well(TargetOutcome::Erased),
            TargetEnd::failed(Reason::WrongCustomerPassword, StepName::DeleteAccount),
            TargetEnd::well(TargetOutcome::Anonymised),
        ];
        for (target, end) in targets.iter_mut().zip(ends) {
            target.apply(&Entry::Ended { target: 0, end, at: At(7) }, 9);
        }
        for outcome in JobOutcome::ALL {
            let about = About { job: &job, record: &record, targets: &targets, rules: &rules };
            events.push(about.ended(&frame, *outcome).event);
        }
    }
    let key = JobKey { tenant: "acme".into(), job_id: uuid::Uuid::from_u128(7) };
    let sha256 = "0".repeat(64);
    events
        .extend(Reason::ALL.iter().map(|reason| event::rejected(&frame, &key, *reason, "detail", &sha256, true).event));
    events.push(event::cancel_refused(&frame, &key, 1, 2));
    let example = examples().into_iter().find(|example| example["schema"] == SCHEMA).unwrap();
    let open = record(&parsed(&example).unwrap());
    let deadline = |which| event::deadline(&frame, &key, &open, &[], which);
    events.extend(event::Deadline::ALL.map(deadline));
    for (why, waits_at) in Waiting::ALL.into_iter().flat_map(|why| [(why, Some(0)), (why, None)]) {
        let stands = Standstill { run: 1, turn: 1, score: 0, since: At(3), reported: 1 };
        let parked = JobRecord {
            waiting: Some((why, At(9))),
            stands,
            waits_at,
            announced: vec![(0, InputKind::Otp)],
            ..open.clone()
        };
        let mut target = TargetState::default();
        target.apply(&Entry::Asked { target: 0, kind: InputKind::Otp, at: At(5) }, 1);
        target.apply(&Entry::Intent { target: 0, step: Step::one(StepName::DeleteMember), at: At(6) }, 2);
        let limits = Limits {
            max_attempts: 1,
            max_elapsed: Duration::from_secs(1),
            max_interval: Duration::from_secs(1),
            input_max: Duration::from_secs(1),
            pending_max: Duration::from_secs(1),
            approval_max: Duration::from_secs(1),
        };
        let wait = event::Wait::of(&parked, std::slice::from_ref(&target), &limits).unwrap();
        events.push(event::waiting(&frame, &key, &parked, &[target], &wait));
    }
    events.push(event::cancel_unauthorised(&frame, &key, "detail", &sha256));
    for reason in [Some(Reason::Unproven), None] {
        let letter = event::Expiring { run: 1, letter_at: At(7), expires_at: At(9), reason };
        events.push(event::dead_letter_expires(&frame, &key, &letter));
    }
    for event in events {
        let body: Value = serde_json::from_slice(&event.body).unwrap();
        assert_eq!(fault(&schema, &body), None, "{}", event.what);
        assert_eq!(body["dataschema"], schema["$id"]);
    }
}

#[test]
fn the_schema_command_prints_the_schemas_of_the_source() {
    for (message, file) in
        [("job", "crates/job/src/schema/job.v1.json"), ("event", "crates/job/src/schema/event.v1.json")]
    {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let (config, surroundings) = (None, Surroundings::default());
        let mut ctx = Context { config, surroundings, input: &mut std::io::empty(), out: &mut out, err: &mut err };
        let command = Cli::try_parse_from(["erasure-worker", "schema", message]).unwrap().command;
        futures_util::FutureExt::now_or_never(command.run(&mut ctx)).unwrap().unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), page(file));
    }
}
