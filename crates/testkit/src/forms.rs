//! The forms that a job can have, and a person for each.
//!
//! The rule it keeps: what a form leaves behind can be asked of the stand-ins afterwards.

use erasure_worker::sandbox::{Member, MemberProof, Person, Sandbox, mint_jwt};
use serde_json::{Value, json};

/// The kinds of job that need nothing but a system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Form {
    CleengBackend,
    CleengMediastore,
    LoyaltyProgram,
    LoyaltyMember,
    EasyCms,
    VitalSource,
    /// Ends entitlements one by one, by their ids.
    CleengCore,
    /// Deletes with the member's token alone.
    LoyaltyToken,
    /// Four systems in one job.
    Everything,
    /// Asks for a confirmation first.
    Unconfirmed,
    /// Asks for a one-time password.
    OneTimePassword,
    /// Shows that the token for read-backs of one-time-password members is good.
    Proof,
    /// Asks for a deletion by hand.
    ByHand,
    /// Goes into the deletion file.
    Import,
    /// Fails: the customer's password is wrong.
    WrongPassword,
    /// Reads only.
    Preview,
}

impl Form {
    /// Those that end well without anybody's help.
    pub const PLAIN: [Form; 7] = [
        Form::CleengBackend,
        Form::CleengMediastore,
        Form::LoyaltyProgram,
        Form::LoyaltyMember,
        Form::EasyCms,
        Form::VitalSource,
        Form::Everything,
    ];

    /// The systems whose data of the person must be gone once the job is completed.
    fn systems(self) -> &'static [&'static str] {
        match self {
            Form::CleengBackend | Form::CleengMediastore | Form::Unconfirmed => &["cleeng"],
            Form::LoyaltyProgram | Form::LoyaltyMember | Form::ByHand | Form::Import => &["loyalty"],
            Form::EasyCms => &["easycms"],
            Form::VitalSource => &["vitalsource"],
            Form::Everything => &["cleeng", "loyalty", "easycms", "vitalsource"],
            Form::CleengCore | Form::LoyaltyToken | Form::OneTimePassword | Form::Proof => &[],
            Form::WrongPassword | Form::Preview => &[],
        }
    }
}

/// A job of a form about a person of its own.
#[derive(Clone)]
pub struct Case {
    pub form: Form,
    pub person: Person,
    pub id: String,
    pub body: Value,
}

impl Case {
    /// Adds the person with this number to the stand-ins and makes the job.
    pub fn new(sandbox: &Sandbox, form: Form, number: u64) -> Case {
        let person = sandbox.add_people(number..number + 1).remove(0);
        if matches!(form, Form::OneTimePassword | Form::Proof) {
            sandbox.world(|world| {
                let program = world.loyalty("loyalty@codes");
                program.settings.member_proof = MemberProof::Otp;
                program.add(Member {
                    database_id: person.database_id.clone(),
                    integration_id: Some(person.integration_id.clone()),
                    access_tokens: vec![person.access_token.clone()],
                    ..Member::default()
                });
            });
        }
        sandbox.world(|world| match form {
            Form::CleengCore => {
                let customer = world.cleeng("cleeng").customer(&person.customer_id).unwrap().clone();
                world.cleeng("cleeng@core").add(customer);
            }
            Form::LoyaltyToken => {
                let member = world.loyalty("loyalty").member(&person.database_id).unwrap().clone();
                let program = world.loyalty("loyalty@tokens");
                program.settings.member_proof = MemberProof::Token;
                program.add(member);
            }
            _ => {}
        });
        let id = uuid::Uuid::new_v4().to_string();
        let mut body = json!({
            "schema": "erasure.job/v1", "job_id": id, "environment": "sandbox", "tenant": "acme",
            "requested_at": hours_ago(7 * 24), "regulation": "gdpr", "targets": targets(form, &person),
        });
        if form != Form::Unconfirmed {
            body["confirmation"] = json!({ "confirmed_at": hours_ago(7 * 24), "by": "subject" });
        }
        if form == Form::Preview {
            body["mode"] = json!("preview");
        }
        Case { form, person, id, body }
    }

    /// One job of each number, the forms in turn.
    pub fn mixed(sandbox: &Sandbox, forms: &[Form], numbers: std::ops::Range<u64>) -> Vec<Case> {
        numbers.map(|number| Case::new(sandbox, forms[number as usize % forms.len()], number)).collect()
    }

    /// The whole job again, with what a person was asked for.
    pub fn answered(&self, code: Option<&str>) -> Value {
        let mut body = self.body.clone();
        body["confirmation"] = json!({ "confirmed_at": hours_ago(1), "by": "subject" });
        if let Some(code) = code {
            body["targets"][0]["code"] = json!(code);
        }
        body
    }

    /// What is left of the person in the systems that the job names.
    pub fn remains(&self, sandbox: &Sandbox) -> Vec<&'static str> {
        let mut left = sandbox.remains(&self.person);
        left.retain(|what| self.form.systems().iter().any(|system| what.starts_with(system)));
        let is_there = |member: &Member| member.deleted.is_none();
        let member = |system: &str| {
            let id = &self.person.database_id;
            sandbox.world(|world| world.loyalty(system).member(id).is_some_and(is_there))
        };
        match self.form {
            Form::OneTimePassword | Form::Proof if member("loyalty@codes") => left.push("codes: member"),
            Form::LoyaltyToken if member("loyalty@tokens") => left.push("tokens: member"),
            Form::CleengCore => sandbox.world(|world| {
                let customer = world.cleeng("cleeng@core").customer(&self.person.customer_id).unwrap();
                if !customer.erased || customer.entitlements.iter().any(|row| row.status.gives_access()) {
                    left.push("core: customer");
                }
            }),
            _ => {}
        }
        left
    }
}

/// The bodies of jobs, to publish.
pub fn bodies(cases: &[Case]) -> Vec<Value> {
    cases.iter().map(|case| case.body.clone()).collect()
}

/// The ids of jobs.
pub fn ids(cases: &[Case]) -> impl Iterator<Item = &str> {
    cases.iter().map(|case| case.id.as_str())
}

/// A time before now: whoever takes these jobs has the machine's clock, or one that began with it.
fn hours_ago(hours: i64) -> String {
    (jiff::Timestamp::now() - jiff::SignedDuration::from_hours(hours)).to_string()
}

fn targets(form: Form, person: &Person) -> Value {
    let member = json!({ "integration_id": person.integration_id });
    let cleeng = json!({ "system": "cleeng", "flow": "backend", "customer_id": person.customer_id,
        "customer_email": person.email });
    let token = mint_jwt(&person.customer_id, Some(jiff::Timestamp::now().as_second() + 86_400 * 365));
    let mediastore = json!({ "system": "cleeng", "flow": "mediastore", "customer_token": token,
        "customer_email": person.email });
    let program = json!({ "system": "loyalty", "method": "program_api", "member": member });
    let easycms = json!({ "system": "easycms", "email": person.email,
        "customer_password": person.customer_password });
    let codes: Vec<Value> = person.codes.iter().map(|code| json!({ "code": code })).collect();
    let vitalsource = json!({ "system": "vitalsource", "guid": person.guid, "reference": person.reference,
        "codes": codes });
    match form {
        Form::CleengBackend | Form::Unconfirmed | Form::Preview => json!([cleeng]),
        Form::CleengCore => json!([{ "system": "core", "flow": "backend", "customer_id": person.customer_id,
            "customer_email": person.email }]),
        Form::LoyaltyToken => json!([{ "system": "tokens", "method": "member_api", "member": member,
            "access_token": person.access_token }]),
        Form::CleengMediastore => json!([mediastore]),
        Form::LoyaltyProgram => json!([program]),
        Form::LoyaltyMember => json!([{ "system": "loyalty", "method": "member_api", "member": member,
            "access_token": person.access_token, "current_password": person.current_password }]),
        Form::OneTimePassword => json!([{ "system": "codes", "method": "member_api", "member": member,
            "access_token": person.access_token }]),
        Form::Proof => json!([{ "system": "codes", "method": "program_api", "member": member }]),
        Form::ByHand => json!([{ "system": "loyalty", "method": "manual", "member": member }]),
        Form::Import => json!([{ "system": "loyalty", "method": "import", "member": member }]),
        Form::EasyCms => json!([easycms]),
        Form::VitalSource => json!([vitalsource]),
        Form::Everything => json!([cleeng, program, easycms, vitalsource]),
        Form::WrongPassword => json!([{ "system": "easycms", "email": person.email, "customer_password": "wrong" }]),
    }
}
