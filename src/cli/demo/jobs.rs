//! The demonstration's jobs: every system and flow in turn, each for another person, and the input that these persons
//! (and the operator) give.
//!
//! The rule it keeps: the stand-ins, never the worker, show whether a person is erased.

use std::sync::LazyLock;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::sandbox::{KINDS, Kind, Member, MemberKey, MemberProof, Person, Sandbox, mint_jwt};

/// Systems with several ways to erase a person: each way is a form below.
const CLEENG: &str = "cleeng";
const LOYALTY: &str = "loyalty";
/// Instances whose platform requires another proof.
const BY_OTP: &str = "loyalty@otp";
const BY_TOKEN: &str = "loyalty@token";

/// `otp_resend_after` of the demonstration: a minute is long for its audience.
pub(super) const OTP_RESEND_AFTER: Duration = Duration::from_secs(5);

/// The configuration of the demonstration's worker.
pub(super) fn configuration(base: &str, state_dir: &str, amqp: Option<(&str, &str)>) -> String {
    let mut text = format!(
        "[worker]\nenvironment = \"sandbox\"\nid = \"demo\"\nstate_dir = \"{state_dir}/state\"\n\
         master_key_file = \"{state_dir}/master.key\"\n\
         [retry]\ninitial_interval = \"100ms\"\nmax_attempts = 12\nmax_interval = \"1s\"\n",
    );
    for kind in KINDS {
        let table = |name: &str, instance: &str, more: &str| {
            let reached = (kind.table)(base, instance);
            format!("[systems.{name}]\n{reached}verify_interval = \"100ms\"\n{more}")
        };
        if kind.name != LOYALTY {
            text += &table(kind.name, kind.name, "");
            continue;
        }
        for (name, instance, proof) in
            [(LOYALTY, LOYALTY, "password"), ("loyalty-otp", BY_OTP, "otp"), ("loyalty-token", BY_TOKEN, "token")]
        {
            let more = format!(
                "member_proof = \"{proof}\"\notp_resend_after = \"{OTP_RESEND_AFTER:?}\"\nmax_in_flight = 32\n"
            );
            text += &table(name, instance, &more);
        }
        text += &format!(
            "[systems.loyalty.import]\ndir = \"{state_dir}/loyalty-import\"\nkey = \"integration_id\"\nmax_rows = 8\n"
        );
    }
    if let Some((url, prefix)) = amqp {
        text.push_str(&format!("[amqp]\nurl = \"{url}\"\nprefix = \"{prefix}\"\n[ops]\nlisten = \"127.0.0.1:0\"\n"));
    }
    text
}

/// The kinds of jobs in the demonstration.
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
    /// The usual target of another system, by its index in [`KINDS`].
    Other(usize),
    All,
}

/// Every form in turn.
static FORMS: LazyLock<Vec<Form>> = LazyLock::new(|| {
    let mut forms = vec![Form::Backend, Form::Mediastore, Form::ProgramApi, Form::Password];
    forms.extend([Form::Otp, Form::Token, Form::Import, Form::Manual]);
    forms.extend((0..KINDS.len()).filter(|place| ![CLEENG, LOYALTY].contains(&KINDS[*place].name)).map(Form::Other));
    forms.push(Form::All);
    forms
});

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
    /// The case with this number, for a person who requested the erasure an hour before `now`.
    pub fn new(number: u64, now: Timestamp) -> Case {
        let form = FORMS[(number % FORMS.len() as u64) as usize];
        // Every second MediaStore job has no confirmation, so it waits for input.
        let confirmed = form != Form::Mediastore || (number / FORMS.len() as u64).is_multiple_of(2);
        let job_id = Uuid::new_v5(&Uuid::NAMESPACE_OID, format!("demo/{number}").as_bytes());
        let requested_at = now - SignedDuration::from_hours(1);
        let confirmed_at = confirmed.then_some(requested_at);
        Case { form, person: Person::numbered(number), job_id, requested_at, confirmed_at, code: None }
    }

    /// Adds the person to the stand-ins.
    pub(crate) fn add_to(&self, sandbox: &Sandbox) {
        sandbox.add_people(self.person.number..self.person.number + 1);
        let Some((instance, proof)) = self.own_instance() else { return };
        sandbox.world(|world| {
            let loyalty = world.loyalty(instance);
            loyalty.settings.member_proof = proof;
            loyalty.add(Member::of(&self.person));
        });
    }

    fn own_instance(&self) -> Option<(&'static str, MemberProof)> {
        match self.form {
            Form::Otp => Some((BY_OTP, MemberProof::Otp)),
            Form::Token => Some((BY_TOKEN, MemberProof::Token)),
            _ => None,
        }
    }

    /// The message.
    pub fn job(&self) -> Value {
        let person = &self.person;
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
        let usual = |kind: &Kind| if kind.name == LOYALTY { program() } else { (kind.target)(person) };
        let by_member = |system: &str| json!({ "system": system, "method": "member_api", "access_token": person.access_token, "member": member });
        let targets = match self.form {
            Form::Backend => KINDS.iter().filter(|kind| kind.name == CLEENG).map(usual).collect(),
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
            Form::Other(place) => vec![usual(&KINDS[place])],
            Form::All => KINDS.iter().map(usual).collect(),
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

    /// Gives the person's or the operator's input. `import_result` is given for all jobs at once, elsewhere.
    pub fn answer(&mut self, sandbox: &Sandbox, now: Timestamp) {
        let person = &self.person;
        match self.form {
            Form::Mediastore => self.confirmed_at = Some(now),
            Form::Otp => {
                self.code = sandbox
                    .world(|world| world.loyalty(BY_OTP).mailbox(&person.database_id).map(|(code, _)| code.to_owned()));
            }
            Form::Manual => {
                sandbox.world(|world| {
                    world.loyalty("loyalty").delete_by_hand(MemberKey::IntegrationId, &person.integration_id, 0);
                });
            }
            _ => {}
        }
    }

    /// True if a one-time password was requested and did not reach the person.
    pub(crate) fn has_no_code(&self) -> bool {
        self.form == Form::Otp && self.code.is_none()
    }

    /// The person's data that the stand-ins still have in the job's systems.
    pub fn remains(&self, sandbox: &Sandbox) -> Vec<String> {
        if let Some((instance, _)) = self.own_instance() {
            let there = sandbox.world(|world| {
                world.loyalty(instance).member(&self.person.database_id).is_some_and(|member| member.deleted.is_none())
            });
            return if there { vec![format!("{instance}: member")] } else { Vec::new() };
        }
        let is_named = |kind: &Kind| match self.form {
            Form::Backend | Form::Mediastore => kind.name == CLEENG,
            Form::Other(place) => kind.name == KINDS[place].name,
            Form::All => true,
            _ => kind.name == LOYALTY,
        };
        let remains = sandbox.remains(&self.person);
        let of = |what: &str, kind: &Kind| what.starts_with(kind.name) && is_named(kind);
        let ours = remains.into_iter().filter(|what| KINDS.iter().any(|kind| of(what, kind)));
        ours.map(str::to_owned).collect()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::job::Term;

    #[test]
    fn on_no_day_is_a_job_at_risk_or_requested_in_the_future() {
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
