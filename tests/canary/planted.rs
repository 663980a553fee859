//! The planted data: jobs of every form about invented people, and every text about them that must appear nowhere.

use erasure_worker::sandbox::{Action, FaultRule, Operation, Person, Sandbox};
use erasure_worker::seal::jwe::seal_proof;
use serde_json::{Value, json};
use testkit::forms::{Case, Form};

/// The first person's number: so long that no identifier occurs elsewhere by chance.
const FIRST: u64 = 7_301_500;

/// A message: id, headers, body.
pub type Raw = (String, Vec<(&'static str, String)>, String);

pub const FORMS: [Form; 14] = [
    Form::Proof,
    Form::CleengBackend,
    Form::CleengMediastore,
    Form::LoyaltyProgram,
    Form::LoyaltyMember,
    Form::EasyCms,
    Form::VitalSource,
    Form::Everything,
    Form::Unconfirmed,
    Form::OneTimePassword,
    Form::ByHand,
    Form::Import,
    Form::WrongPassword,
    Form::Preview,
];

/// Makes jobs about new people, and records their data.
pub struct Planter<'a> {
    sandbox: &'a Sandbox,
    next: u64,
    texts: Vec<(String, String)>,
}

impl<'a> Planter<'a> {
    pub fn new(sandbox: &'a Sandbox) -> Planter<'a> {
        Planter { sandbox, next: FIRST, texts: Vec::new() }
    }

    /// A job of this form about a new person.
    pub fn case(&mut self, form: Form) -> Case {
        let case = Case::new(self.sandbox, form, self.next);
        self.next += 1;
        self.person(&case.person);
        self.tokens(&case.body);
        case
    }

    /// One job of each form.
    pub fn one_of_each(&mut self) -> Vec<Case> {
        FORMS.into_iter().map(|form| self.case(form)).collect()
    }

    /// A text that must appear nowhere.
    pub fn plant(&mut self, kind: &str, text: &str) -> String {
        self.texts.push((kind.to_owned(), text.to_owned()));
        text.to_owned()
    }

    /// Everything planted so far.
    pub fn texts(&self) -> &[(String, String)] {
        &self.texts
    }

    fn person(&mut self, person: &Person) {
        let number = person.number;
        for (kind, text) in [
            ("e-mail address", person.email.clone()),
            ("customer id", person.customer_id.clone()),
            ("database id", person.database_id.clone()),
            ("member id", person.member_id.clone()),
            ("integration id", person.integration_id.clone()),
            ("card id", person.card_id.clone()),
            ("access token", person.access_token.clone()),
            ("current password", person.current_password.clone()),
            ("customer password", person.customer_password.clone()),
            ("GUID", person.guid.clone()),
            ("reference", person.reference.clone()),
            ("code", person.codes[0].clone()),
            ("code", person.codes[1].clone()),
            ("first name", format!("First{number}")),
            ("last name", format!("Last{number}")),
            ("affiliate", format!("Affiliate{number}")),
        ] {
            self.plant(kind, &text);
        }
    }

    /// Records the tokens in the job.
    fn tokens(&mut self, body: &Value) {
        for target in body["targets"].as_array().into_iter().flatten() {
            if let Some(token) = target["customer_token"].as_str() {
                let token = token.to_owned();
                self.plant("customer token", &token);
            }
        }
    }

    /// A job with a sealed password.
    pub fn sealed(&mut self, key: &Value) -> Case {
        let mut case = self.case(Form::EasyCms);
        let sealed = seal_proof(key, &case.person.customer_password, Some(&case.id)).unwrap();
        case.body["targets"][0]["customer_password"] = json!(sealed);
        case
    }

    /// A job whose system answers with the person's data.
    pub fn betrayed(&mut self, form: Form, status: u16) -> Case {
        let case = self.case(form);
        let person = &case.person;
        let (operation, subject) = match form {
            Form::CleengBackend => (Operation::DeleteCustomer, &person.customer_id),
            Form::LoyaltyProgram => (Operation::DeleteMember, &person.database_id),
            Form::VitalSource => (Operation::UpdateUser, &person.guid),
            _ => (Operation::DeleteAccount, &person.email),
        };
        let reply = self.plant("reply", &format!("Reply{}Text", person.number));
        let body = format!(
            "<error code=\"{reply}\">{reply}: {} {} {} {} is in the way</error>",
            person.email, person.guid, person.customer_password, person.integration_id
        );
        let answer = Action::Status { status, body, after_work: false };
        self.sandbox.add_fault(FaultRule::on(operation, answer).subject(subject.clone()));
        case
    }

    /// Messages that are not valid jobs, each with personal data in another wrong place.
    pub fn nonsense(&mut self) -> Vec<Raw> {
        let mut messages = Vec::new();
        let fresh = || uuid::Uuid::new_v4().to_string();
        let easycms = |planter: &mut Self| {
            let case = planter.case(Form::EasyCms);
            (case.person.email.clone(), case.id, case.body)
        };
        let (email, id, mut body) = easycms(self);
        body["targets"][0][email.as_str()] = json!(email);
        messages.push((id, Vec::new(), body.to_string()));
        let (email, id, mut body) = easycms(self);
        body["environment"] = json!(email);
        messages.push((id, Vec::new(), body.to_string()));
        let (email, id, mut body) = easycms(self);
        body["mode"] = json!(email);
        body["regulation"] = json!(email);
        messages.push((id, Vec::new(), body.to_string()));
        let (email, id, mut body) = easycms(self);
        body["targets"][0]["system"] = json!(email);
        messages.push((id, Vec::new(), body.to_string()));
        let (email, id, mut body) = easycms(self);
        body["tenant"] = json!(email);
        messages.push((id, Vec::new(), body.to_string()));
        let (email, ..) = easycms(self);
        messages.push((fresh(), Vec::new(), format!("this is no JSON but names {email}")));
        let (email, ..) = easycms(self);
        messages.push((email.clone(), Vec::new(), format!("{{\"schema\": \"{email}\"}}")));
        // Headers that only the worker may write, and one that is copied from message to message.
        let wrong = self.case(Form::WrongPassword);
        let (email, id, body) = (wrong.person.email, wrong.id, wrong.body);
        let forged = ["x-erasure-reason", "x-erasure-step", "x-erasure-system", "x-erasure-tenant", "traceparent"];
        let headers = forged.map(|name| (name, email.clone())).to_vec();
        messages.push((id, headers, body.to_string()));
        messages
    }
}
