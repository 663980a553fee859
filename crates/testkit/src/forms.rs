//! The forms that a job can have, and a person for each.
//!
//! The rule it keeps: for each form, the stand-ins show afterwards which data of the person is left.

use erasure_worker::sandbox::{Account, Member, MemberProof, Person, Sandbox, mint_jwt};
use serde_json::{Value, json};

use crate::{connectors, people, times};

/// The kinds of jobs.
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
    /// Proves the token for read-backs of one-time-password members.
    Proof,
    /// Asks for a deletion by hand.
    ByHand,
    /// Goes into the deletion file.
    Import,
    /// Fails: the customer's password is wrong.
    WrongPassword,
    /// Reads only.
    Preview,
    /// EasyCMS by its connector file.
    Shop,
    /// A connector file with a list: an act for each of its members, and one more.
    Club,
    /// A receiver of webhooks.
    Crm,
}

impl Form {
    /// The forms that complete without a person's help.
    pub const PLAIN: [Form; 7] = [
        Form::CleengBackend,
        Form::CleengMediastore,
        Form::LoyaltyProgram,
        Form::LoyaltyMember,
        Form::EasyCms,
        Form::VitalSource,
        Form::Everything,
    ];

    /// The systems that may have no data of the person after completion.
    fn systems(self) -> &'static [&'static str] {
        match self {
            Form::CleengBackend | Form::CleengMediastore | Form::Unconfirmed => &["cleeng"],
            Form::LoyaltyProgram | Form::LoyaltyMember | Form::ByHand | Form::Import => &["loyalty"],
            Form::EasyCms => &["easycms"],
            Form::VitalSource => &["vitalsource"],
            Form::Everything => &["cleeng", "loyalty", "easycms", "vitalsource"],
            Form::CleengCore | Form::LoyaltyToken | Form::OneTimePassword | Form::Proof => &[],
            Form::WrongPassword | Form::Preview | Form::Shop | Form::Club | Form::Crm => &[],
        }
    }
}

/// A job of a form, with its own person.
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
            Form::Shop => {
                let (email, customer_password) = (person.email.clone(), person.customer_password.clone());
                world.easycms(connectors::SHOP).add(Account { email, customer_password, erased: false });
            }
            _ => {}
        });
        let mut body = people::unconfirmed(&targets(form, &person));
        if form != Form::Unconfirmed {
            people::confirm(&mut body);
        }
        if form == Form::Preview {
            body["mode"] = json!("preview");
        }
        Case { form, person, id: people::id(&body).to_owned(), body }
    }

    /// One job for each number. The forms alternate.
    pub fn mixed(sandbox: &Sandbox, forms: &[Form], numbers: std::ops::Range<u64>) -> Vec<Case> {
        numbers.map(|number| Case::new(sandbox, forms[number as usize % forms.len()], number)).collect()
    }

    /// The whole job again, with the requested input.
    pub fn answered(&self, code: Option<&str>) -> Value {
        let mut body = self.body.clone();
        body["confirmation"] = json!({ "confirmed_at": times::hours_ago(1), "by": "subject" });
        if let Some(code) = code {
            body["targets"][0]["code"] = json!(code);
        }
        body
    }

    /// The person's data that the job's systems still have.
    pub fn remains(&self, sandbox: &Sandbox) -> Vec<&'static str> {
        let mut left = sandbox.remains(&self.person);
        left.retain(|what| self.form.systems().iter().any(|system| what.starts_with(system)));
        let is_there = |member: &Member| member.deleted.is_none();
        let member = |system: &str| {
            let id = &self.person.database_id;
            sandbox.world(|world| world.loyalty(system).member(id).is_some_and(is_there))
        };
        let described = |name: &str| {
            let number = self.person.number;
            // What has been accepted takes effect at once.
            sandbox.world(|world| world.described(name).is_some_and(|stand_in| stand_in.remains(number, u64::MAX)))
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
            Form::Club if described(connectors::CLUB) => left.push("club: person"),
            Form::Crm if described(connectors::CRM) => left.push("crm: person"),
            Form::Shop => sandbox.world(|world| {
                if world.easycms(connectors::SHOP).account(&self.person.email).is_some_and(|account| !account.erased) {
                    left.push("shop: account");
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

fn targets(form: Form, person: &Person) -> Vec<Value> {
    let mut mediastore = people::mediastore(person);
    let in_a_year = jiff::Timestamp::now().as_second() + 86_400 * 365;
    mediastore["customer_token"] = json!(mint_jwt(&person.customer_id, Some(in_a_year)));
    let program = people::program(person, "integration_id");
    let with = |mut target: Value, fields: Value| {
        target.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        target
    };
    match form {
        Form::CleengBackend | Form::Unconfirmed | Form::Preview => vec![people::backend(person)],
        Form::CleengCore => vec![with(people::backend(person), json!({ "system": "core" }))],
        Form::LoyaltyToken => vec![with(people::member_api(person), json!({ "system": "tokens" }))],
        Form::CleengMediastore => vec![mediastore],
        Form::LoyaltyProgram => vec![program],
        Form::LoyaltyMember => {
            vec![with(people::member_api(person), json!({ "current_password": person.current_password }))]
        }
        Form::OneTimePassword => vec![with(people::member_api(person), json!({ "system": "codes" }))],
        Form::Proof => vec![with(program, json!({ "system": "codes" }))],
        Form::ByHand => vec![with(program, json!({ "method": "manual" }))],
        Form::Import => vec![people::import(person)],
        Form::EasyCms => vec![people::easycms(person)],
        Form::Shop => vec![people::shop(person)],
        Form::Club => vec![connectors::club(person.number)],
        Form::Crm => vec![connectors::crm(person.number)],
        Form::VitalSource => vec![people::vitalsource(person)],
        Form::Everything => {
            vec![people::backend(person), program, people::easycms(person), people::vitalsource(person)]
        }
        Form::WrongPassword => vec![with(people::easycms(person), json!({ "customer_password": "wrong" }))],
    }
}
