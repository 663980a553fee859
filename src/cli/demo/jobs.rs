//! The demonstration's jobs: every system and flow in turn, one person each, and what these persons
//! (and the operator) answer when they are asked.
//!
//! The rule it keeps: whether a person is gone is asked of the stand-ins, never of the worker.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::config::example::trial;
use crate::sandbox::{Member, MemberKey, MemberProof, Person, Sandbox, mint_jwt};

/// The configuration that the demonstration's worker runs with.
pub(super) fn configuration(base: &str, state_dir: &str, amqp: Option<(&str, &str)>) -> String {
    let loyalty = |name: &str, instance: &str, proof: &str| {
        format!(
            "[systems.{name}]\nkind = \"zeta_loyalty\"\nbase_url = \"{base}/{instance}\"\nprogram_token = \"{}\"\n\
             member_proof = \"{proof}\"\nverify_interval = \"100ms\"\nmax_in_flight = 32\n",
            trial::LOYALTY_PROGRAM_TOKEN
        )
    };
    let mut text = format!(
        "[worker]\nenvironment = \"sandbox\"\nid = \"demo\"\nstate_dir = \"{state_dir}/state\"\n\
         master_key_file = \"{state_dir}/master.key\"\n\
         [retry]\ninitial_interval = \"100ms\"\nmax_attempts = 12\nmax_interval = \"2s\"\n\
         [systems.cleeng]\nkind = \"cleeng\"\ncore_url = \"{base}/cleeng/core\"\nrpc_url = \"{base}/cleeng/rpc\"\n\
         mediastore_url = \"{base}/cleeng/mediastore\"\npublisher_token = \"{}\"\nverify_interval = \"100ms\"\n\
         [systems.easycms]\nkind = \"easycms\"\nbase_url = \"{base}/easycms\"\nauthorization = \"{}\"\n\
         username = \"{}\"\npassword = \"{}\"\naccount = \"{}\"\nverify_interval = \"100ms\"\n\
         [systems.vitalsource]\nkind = \"vitalsource\"\nbase_url = \"{base}/vitalsource\"\napi_key = \"{}\"\n\
         verify_interval = \"100ms\"\nrequests_per_minute = 100000\n",
        trial::CLEENG_PUBLISHER_TOKEN,
        trial::EASYCMS_AUTHORIZATION,
        trial::EASYCMS_USERNAME,
        trial::EASYCMS_PASSWORD,
        trial::EASYCMS_ACCOUNT,
        trial::VITALSOURCE_API_KEY,
    );
    if let Some((url, prefix)) = amqp {
        text.push_str(&format!("[amqp]\nurl = \"{url}\"\nprefix = \"{prefix}\"\n[ops]\nlisten = \"127.0.0.1:0\"\n"));
    }
    text.push_str(&loyalty("loyalty", "loyalty", "password"));
    text.push_str(&format!(
        "[systems.loyalty.import]\ndir = \"{state_dir}/loyalty-import\"\nkey = \"integration_id\"\nmax_rows = 8\n"
    ));
    text.push_str(&loyalty("loyalty-otp", "loyalty@otp", "otp"));
    text.push_str(&loyalty("loyalty-token", "loyalty@token", "token"));
    text
}

/// What a job of the demonstration is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Backend,
    Mediastore,
    ProgramApi,
    Password,
    Otp,
    Token,
    Import,
    Manual,
    Shop,
    Books,
    All,
}

const FORMS: [Form; 11] = [
    Form::Backend,
    Form::Mediastore,
    Form::ProgramApi,
    Form::Password,
    Form::Otp,
    Form::Token,
    Form::Import,
    Form::Manual,
    Form::Shop,
    Form::Books,
    Form::All,
];

/// One person and the job that erases them.
pub(super) struct Case {
    form: Form,
    person: Person,
    /// The job's id.
    pub job_id: Uuid,
    requested_at: Timestamp,
    confirmed_at: Option<Timestamp>,
    code: Option<String>,
}

impl Case {
    /// The case with this number, of a person who asked an hour before `now`.
    pub fn new(number: u64, now: Timestamp) -> Case {
        let form = FORMS[(number % FORMS.len() as u64) as usize];
        // Every second MediaStore job comes without a confirmation and is stopped for it.
        let confirmed = form != Form::Mediastore || (number / FORMS.len() as u64).is_multiple_of(2);
        let job_id = Uuid::new_v5(&Uuid::NAMESPACE_OID, format!("demo/{number}").as_bytes());
        let requested_at = now - SignedDuration::from_hours(1);
        let confirmed_at = confirmed.then_some(requested_at);
        Case { form, person: Person::numbered(number), job_id, requested_at, confirmed_at, code: None }
    }

    /// Makes the person known to the stand-ins.
    pub fn add_to(&self, sandbox: &Sandbox) {
        sandbox.add_people(self.person.number..self.person.number + 1);
        let Some((instance, proof)) = self.own_instance() else { return };
        let person = &self.person;
        sandbox.world(|world| {
            let loyalty = world.loyalty(instance);
            loyalty.settings.member_proof = proof;
            loyalty.add(Member {
                database_id: person.database_id.clone(),
                member_id: Some(person.member_id.clone()),
                integration_id: Some(person.integration_id.clone()),
                card_id: Some(person.card_id.clone()),
                email: Some(person.email.clone()),
                password: person.current_password.clone(),
                access_tokens: vec![person.access_token.clone()],
                deleted: None,
            });
        });
    }

    fn own_instance(&self) -> Option<(&'static str, MemberProof)> {
        match self.form {
            Form::Otp => Some(("loyalty@otp", MemberProof::Otp)),
            Form::Token => Some(("loyalty@token", MemberProof::Token)),
            _ => None,
        }
    }

    /// The message.
    pub fn job(&self) -> Value {
        let person = &self.person;
        let backend = || json!({ "system": "cleeng", "flow": "backend", "customer_id": person.customer_id, "customer_email": person.email });
        let books = || {
            let codes: Vec<_> = person.codes.iter().map(|code| json!({ "code": code, "percent_read": 5 })).collect();
            json!({ "system": "vitalsource", "guid": person.guid, "reference": person.reference, "codes": codes })
        };
        let shop =
            || json!({ "system": "easycms", "email": person.email, "customer_password": person.customer_password });
        let member = json!({ "integration_id": person.integration_id });
        let program = || {
            let member = match person.number / FORMS.len() as u64 % 4 {
                0 => json!({ "integration_id": person.integration_id }),
                1 => json!({ "member_id": person.member_id }),
                2 => json!({ "card_id": person.card_id }),
                _ => json!({ "database_id": person.database_id }),
            };
            json!({ "system": "loyalty", "method": "program_api", "member": member })
        };
        let by_member = |system: &str| json!({ "system": system, "method": "member_api", "access_token": person.access_token, "member": member });
        let targets = match self.form {
            Form::Backend => vec![backend()],
            Form::Mediastore => vec![json!({
                "system": "cleeng", "flow": "mediastore",
                "customer_token": mint_jwt(&person.customer_id, None), "customer_email": person.email,
            })],
            Form::ProgramApi => vec![program()],
            Form::Password => {
                let mut target = by_member("loyalty");
                target["current_password"] = person.current_password.clone().into();
                vec![target]
            }
            Form::Otp => {
                let mut target = by_member("loyalty-otp");
                if let Some(code) = &self.code {
                    target["code"] = code.clone().into();
                }
                vec![target]
            }
            Form::Token => vec![by_member("loyalty-token")],
            Form::Import => vec![json!({ "system": "loyalty", "method": "import", "member": member })],
            Form::Manual => vec![json!({ "system": "loyalty", "method": "manual", "member": member })],
            Form::Shop => vec![shop()],
            Form::Books => vec![books()],
            Form::All => vec![backend(), program(), shop(), books()],
        };
        let mut job = json!({
            "schema": "erasure.job/v1", "job_id": self.job_id, "tenant": "demo", "environment": "sandbox",
            "requested_at": self.requested_at.to_string(), "regulation": "gdpr", "targets": targets,
        });
        if let Some(at) = self.confirmed_at {
            job["confirmation"] = json!({ "confirmed_at": at.to_string(), "by": "subject" });
        }
        job
    }

    /// What the person, or the operator, does when asked. `import_result` is answered for all at once.
    pub fn answer(&mut self, sandbox: &Sandbox, now: Timestamp) {
        let person = &self.person;
        match self.form {
            Form::Mediastore => self.confirmed_at = Some(now),
            Form::Otp => {
                self.code = sandbox.world(|world| {
                    world.loyalty("loyalty@otp").mailbox(&person.database_id).map(|(code, _)| code.to_owned())
                });
            }
            Form::Manual => {
                sandbox.world(|world| {
                    world.loyalty("loyalty").delete_by_hand(MemberKey::IntegrationId, &person.integration_id, 0);
                });
            }
            _ => {}
        }
    }

    /// A one-time password was asked for, and none reached the person.
    pub fn has_no_code(&self) -> bool {
        self.form == Form::Otp && self.code.is_none()
    }

    /// What the stand-ins still hold of the person in the systems that the job names.
    pub fn remains(&self, sandbox: &Sandbox) -> Vec<String> {
        if let Some((instance, _)) = self.own_instance() {
            let there = sandbox.world(|world| {
                world.loyalty(instance).member(&self.person.database_id).is_some_and(|member| member.deleted.is_none())
            });
            return if there { vec![format!("{instance}: member")] } else { Vec::new() };
        }
        let systems: &[&str] = match self.form {
            Form::Backend | Form::Mediastore => &["cleeng"],
            Form::Shop => &["easycms"],
            Form::Books => &["vitalsource"],
            Form::All => &["cleeng", "loyalty", "easycms", "vitalsource"],
            _ => &["loyalty"],
        };
        let remains = sandbox.remains(&self.person);
        let ours = remains.into_iter().filter(|what| systems.iter().any(|system| what.starts_with(system)));
        ours.map(str::to_owned).collect()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::job::Term;

    #[test]
    fn on_no_day_is_a_job_at_risk_or_asked_for_in_the_future() {
        let start: Timestamp = "2026-11-22T23:30:00Z".parse().unwrap();
        let week = SignedDuration::from_hours(7 * 24);
        // Every day of nine years: two leap days, every end of a month.
        for day in 0..9 * 366 {
            let now = start + SignedDuration::from_hours(24 * day);
            for number in 0..22 {
                let job = Case::new(number, now).job();
                let requested_at: Timestamp = job["requested_at"].as_str().unwrap().parse().unwrap();
                assert!(requested_at < now && now - SignedDuration::from_hours(24) < requested_at, "{job}");
                let term = Term::built_in(job["regulation"].as_str().unwrap()).unwrap();
                let due_at = term.due(requested_at, jiff::tz::Offset::UTC).unwrap();
                assert!(now + week < due_at, "at risk on {now}");
                if let Some(at) = job["confirmation"]["confirmed_at"].as_str() {
                    assert_eq!(at.parse::<Timestamp>().unwrap(), requested_at);
                }
            }
        }
    }
}
