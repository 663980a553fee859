//! EasyCMS / ProLasku: deleting a shop account, and asking whether one exists.
//!
//! The rule it keeps: the envelope decides, and whether it is one is known in one place,
//! [`Envelope::read`]; an answer outside the known table is never success and never "gone".
//!
//! Sources: the vendor's page on `set_customer_delete_account`, and clients' code for the shape of
//! business errors. `Authorization1` is spelt that way; success has three c's in its message, so
//! `response_type` is tested instead.

use std::sync::Arc;

use async_trait::async_trait;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value};

use super::compare::id_text;
use super::evidence::Gone;
use super::form::holds_only;
use super::http::{Base, BuildError, Effect, Http, HttpSettings, Reply, Request, check_credential};
use super::{Call, Credential, KindSettings, Making, SettingsError, System};
use crate::config::Cursor;
use crate::job::identifier;
use crate::job::{Answer, Failure, FailureKind, Identity, InputKind, Kind, Note, Reason, Spec, Step, StepName};

/// Asked for by [`EasyCms::probe`]; a domain that delivers to nobody.
const PROBE_EMAIL: &str = "probe@example.com";

/// Production hosts: a rehearsal must not reach them.
pub(super) const PRODUCTION_HOSTS: [&str; 2] = [".easycms.fi", ".prolasku.fi"];

/// Settings of one EasyCMS shop.
#[derive(Debug, Clone)]
pub struct EasyCmsSettings {
    /// For example `https://easycms.fi`.
    pub base_url: String,
    /// With or without a last slash, as the platform wants it: a redirect is not followed.
    pub delete_path: String,
    /// The value of `Authorization1`.
    pub authorization: SecretString,
    /// The API user.
    pub username: String,
    /// The API user's password.
    pub password: SecretString,
    /// The shop's account id.
    pub account: String,
    /// The e-mail of an account that is always there, for the probe: only one that is shown proves the credential.
    pub probe_email: Option<SecretString>,
}

impl EasyCmsSettings {
    /// Reads the kind's own keys.
    pub(crate) fn read(at: &mut Cursor<'_>) -> Option<EasyCmsSettings> {
        let base_url = at.url("base_url");
        let delete_path = at.or("delete_path", "/public_api/set_customer_delete_account".to_owned());
        let plain = |c: char| c.is_ascii_alphanumeric() || "/_-.~".contains(c);
        if !delete_path.starts_with('/') || !delete_path.chars().all(plain) {
            at.fault("delete_path", "expected a path that starts with / and has no query");
        }
        let authorization = at.required_secret("authorization");
        let username = at.required("username");
        let password = at.required_secret("password");
        let account = at.required("account");
        let probe_email = at.person("probe_email", identifier::email_flaw);
        Some(EasyCmsSettings {
            base_url: base_url?.into(),
            delete_path,
            authorization: authorization?,
            username: username?,
            password: password?,
            account: account?,
            probe_email,
        })
    }
}

impl KindSettings for EasyCmsSettings {
    fn secret(&mut self, key: &str) -> Option<&mut SecretString> {
        match key {
            "authorization" => Some(&mut self.authorization),
            "password" => Some(&mut self.password),
            "probe_email" => self.probe_email.as_mut(),
            _ => None,
        }
    }

    fn proven_parts(&self) -> Vec<&str> {
        let credential = [self.authorization.expose_secret(), &self.username, self.password.expose_secret()];
        [&[self.base_url.as_str(), &self.delete_path], &credential[..], &[self.account.as_str()]].concat()
    }

    fn client(&self, making: Making<'_, '_>) -> Result<Arc<dyn System>, SettingsError> {
        Ok(Arc::new(EasyCms::new(making.name, self.clone(), making.http)?))
    }
}

/// The client of one EasyCMS shop.
pub struct EasyCms {
    name: String,
    delete: Base,
    exists: Base,
    authorization: SecretString,
    username: String,
    password: SecretString,
    account: String,
    probe_email: Option<SecretString>,
    http: Http,
    credential: Credential,
}

impl EasyCms {
    /// Builds the client; nothing is called. `get_customer_exists` is taken to lie beside
    /// `delete_path`, with the same last slash.
    ///
    /// # Errors
    /// [`BuildError`] naming the key that is wrong.
    pub fn new(name: &str, settings: EasyCmsSettings, http: &HttpSettings) -> Result<EasyCms, BuildError> {
        let base = Base::new("base_url", &settings.base_url)?;
        let path = settings.delete_path.as_str();
        let slash = if path.ends_with('/') { "/" } else { "" };
        let Some((folder, _)) = path
            .trim_end_matches('/')
            .rsplit_once('/')
            .filter(|(folder, last)| !last.is_empty() && (folder.is_empty() || folder.starts_with('/')))
        else {
            return Err(BuildError::Setting { key: "delete_path", problem: "must be a path that begins with a slash" });
        };
        let address = settings.base_url.trim_end_matches('/');
        let delete = Base::new("delete_path", &format!("{address}{path}"))?;
        let exists = Base::new("delete_path", &format!("{address}{folder}/get_customer_exists{slash}"))?;
        check_credential("authorization", &settings.authorization)?;
        let in_body = [
            ("username", settings.username.as_str()),
            ("password", settings.password.expose_secret()),
            ("account", settings.account.as_str()),
        ];
        for (key, value) in in_body {
            if value.is_empty() {
                return Err(BuildError::Setting { key, problem: "must not be empty" });
            }
        }
        Ok(EasyCms {
            http: Http::new(http, &[&base])?,
            name: name.to_owned(),
            delete,
            exists,
            authorization: settings.authorization,
            username: settings.username,
            password: settings.password,
            account: settings.account,
            credential: Credential::new(settings.probe_email.is_some()),
            probe_email: settings.probe_email,
        })
    }

    /// Credentials go in the body and the header only, never into an address.
    fn request(&self, address: &Base, email: &str, customer_password: Option<&str>) -> Request {
        let mut fields = vec![
            ("username", self.username.as_str()),
            ("password", self.password.expose_secret()),
            ("account", self.account.as_str()),
            ("email", email),
        ];
        fields.extend(customer_password.map(|password| ("customer_password", password)));
        Request::post(address.itself())
            .accept("application/json")
            .secret_header("Authorization1", &self.authorization)
            .form(&fields)
    }

    /// `get_customer_exists`: `OUTPUT.TOTAL_COUNT`, an integer or a string; 0 is gone.
    async fn ask_exists(&self, email: &str) -> Result<Answer, Failure> {
        let reply = self.http.exchange(self.request(&self.exists, email, None), Effect::Read).await?;
        let Some(envelope) = Envelope::read(&reply) else { return Err(foreign(&reply, Effect::Read)) };
        if let Some(message) = envelope.known_message() {
            return Err(message.failure(&reply, Effect::Read));
        }
        if reply.status() != 200 {
            return Err(foreign(&reply, Effect::Read));
        }
        if let Some(gone) = envelope.gone() {
            return Ok(self.credential.absence(gone));
        }
        match envelope.total_count() {
            Some(1..) if !envelope.is_error() => {
                self.credential.prove();
                Ok(Answer::Found(Identity::Same))
            }
            _ => Err(reply.unreadable(Effect::Read)),
        }
    }

    async fn delete_account(&self, email: &str, customer_password: &str) -> Result<Answer, Failure> {
        let request = self.request(&self.delete, email, Some(customer_password));
        let reply = self.http.exchange(request, Effect::Change).await?;
        let Some(envelope) = Envelope::read(&reply) else { return Err(foreign(&reply, Effect::Change)) };
        match envelope.known_message() {
            Some(Message::NoSuchAccountOrWrongPassword) => Ok(Answer::Unclear(Reason::WrongCustomerPassword)),
            Some(message) => Err(message.failure(&reply, Effect::Change)),
            None if reply.status() != 200 => Err(foreign(&reply, Effect::Change)),
            None if envelope.is_success() => {
                self.credential.prove();
                Ok(Answer::Done)
            }
            None => Err(reply.unreadable(Effect::Change)),
        }
    }
}

/// The messages that the vendor lists, told apart by how they begin.
#[derive(Clone, Copy)]
enum Message {
    Unauthorised,
    EmailNotValid,
    NoSuchAccountOrWrongPassword,
    QueryTooLarge,
}

impl Message {
    fn read(text: &str) -> Option<Message> {
        let text = text.trim_start().to_ascii_lowercase();
        [
            ("un-authorized", Message::Unauthorised),
            ("unauthorized", Message::Unauthorised),
            ("email_is_not_valid", Message::EmailNotValid),
            ("this_account_does_not_exist", Message::NoSuchAccountOrWrongPassword),
            ("maximum query size", Message::QueryTooLarge),
        ]
        .into_iter()
        .find_map(|(start, message)| text.starts_with(start).then_some(message))
    }

    fn failure(self, reply: &Reply, effect: Effect) -> Failure {
        match self {
            Message::Unauthorised => Failure::new(FailureKind::UnauthorisedOurs, Reason::SystemUnavailable)
                .with_note("header, user name or password refused"),
            // Also told when the mail server did not answer: a passing doubt.
            Message::EmailNotValid => Failure::new(FailureKind::Unreadable, Reason::EmailNotValid),
            Message::NoSuchAccountOrWrongPassword => reply.unreadable(effect),
            Message::QueryTooLarge => Failure::new(FailureKind::Rejected, Reason::RequestRejected)
                .with_note("the shop allows one row a query"),
        }
    }
}

/// What the interface says: `{"INFO":{…},"OUTPUT":…}`. Its errors were seen on HTTP 200 only; anything but an
/// error counts on no other status.
enum Envelope {
    /// `OUTPUT`, an object.
    Output(Map<String, Value>),
    /// `OUTPUT`, a bare text: known messages come that way, and nothing else does.
    Text(String),
}

impl Envelope {
    /// The one place that knows whether it is the interface that speaks.
    fn read(reply: &Reply) -> Option<Envelope> {
        let Value::Object(mut body) = reply.json()? else { return None };
        let is_envelope = body.get("INFO").is_some_and(Value::is_object) && holds_only(&body, &["INFO", "OUTPUT"]);
        match body.remove("OUTPUT").filter(|_| is_envelope)? {
            Value::Object(output) => Some(Envelope::Output(output)),
            Value::String(text) => Some(Envelope::Text(text)),
            _ => None,
        }
    }

    fn value(&self, name: &str) -> Option<&Value> {
        match self {
            Envelope::Output(output) => output.get(name),
            Envelope::Text(_) => None,
        }
    }

    fn known_message(&self) -> Option<Message> {
        let text = match self {
            Envelope::Text(text) => text,
            Envelope::Output(output) => output.get("message")?.as_str()?,
        };
        Message::read(text)
    }

    fn response_type(&self) -> Option<&str> {
        self.value("response_type").and_then(Value::as_str).map(str::trim)
    }

    /// The documented word, and nothing that is not understood beside it.
    fn is_success(&self) -> bool {
        let is_alone = matches!(self, Envelope::Output(output) if holds_only(output, &["response_type", "message"]));
        is_alone && self.response_type().is_some_and(|kind| kind.eq_ignore_ascii_case("success"))
    }

    fn is_error(&self) -> bool {
        let kind = self.value("response_type").filter(|kind| !kind.is_null());
        kind.is_some() && !self.response_type().is_some_and(|kind| kind.eq_ignore_ascii_case("success"))
    }

    fn total_count(&self) -> Option<u64> {
        self.value("TOTAL_COUNT").and_then(id_text).and_then(|count| count.parse().ok())
    }

    /// The interface's word that there is no such account: a total of 0, and nothing beside it.
    fn gone(&self) -> Option<Gone> {
        let is_alone =
            matches!(self, Envelope::Output(output) if holds_only(output, &["TOTAL_COUNT", "response_type"]));
        (is_alone && !self.is_error() && self.total_count() == Some(0)).then_some(Gone::told())
    }
}

/// What is not the interface's envelope. That our credential is refused is told in other forms as well, and
/// believed in any: it only holds the system. The address holds no id of anybody's, so a redirect or a 404 says
/// that the configured path is wrong, and it may be named; on a change it says no more than that.
fn foreign(reply: &Reply, effect: Effect) -> Failure {
    let misdirected = |note: Note| match effect {
        Effect::Read => Failure::new(FailureKind::UnauthorisedOurs, Reason::SystemUnavailable).with_note(note),
        Effect::Change | Effect::OneTimePassword => reply.unreadable(effect).with_note(note),
    };
    let text = String::from_utf8_lossy(&reply.body()[..reply.body().len().min(200)]);
    if let Some(message @ Message::Unauthorised) = Message::read(text.trim_start().trim_start_matches('"')) {
        return message.failure(reply, effect);
    }
    match (reply.status(), reply.location()) {
        (300..400, location) => {
            let note = location.map_or("redirected".into(), |place| Note::from("redirected to ").and(place));
            Failure::new(FailureKind::UnauthorisedOurs, Reason::SystemUnavailable).with_note(note)
        }
        (404 | 405, _) => misdirected(Note::http(reply.status()).and(": is delete_path right?")),
        _ => reply.foreign(effect),
    }
}

#[async_trait]
impl System for EasyCms {
    fn name(&self) -> &str {
        &self.name
    }

    fn kind(&self) -> Kind {
        Kind::EasyCms
    }

    fn endpoints(&self, _spec: &Spec, _step: Step) -> &'static [&'static str] {
        &["all"]
    }

    fn credential(&self) -> &Credential {
        &self.credential
    }

    async fn call(&self, call: Call<'_>) -> Result<Answer, Failure> {
        let misfit = || Failure::new(FailureKind::Rejected, Reason::RequestRejected).with_note("not a step of EasyCMS");
        let Spec::EasyCms { email, customer_password } = &call.target.spec else { return Err(misfit()) };
        match call.step.name {
            StepName::Resolve | StepName::ReadBack => self.ask_exists(email.expose_secret()).await,
            StepName::DeleteAccount => {
                let password = customer_password.as_ref().ok_or_else(|| {
                    Failure::new(FailureKind::UnauthorisedTheirs(InputKind::CustomerPassword), Reason::InputNeverCame)
                })?;
                self.delete_account(email.expose_secret(), password.expose_secret()).await
            }
            _ => Err(misfit()),
        }
    }

    /// With `probe_email` that account must be found, which proves the credential. Without, it is asked whether
    /// `probe@example.com` exists; any answer in the interface's own form that is not about our credential will
    /// do, also that the e-mail is not valid.
    async fn probe(&self) -> Result<(), Failure> {
        let known = self.probe_email.as_ref().map(ExposeSecret::expose_secret);
        match (self.ask_exists(known.unwrap_or(PROBE_EMAIL)).await, known) {
            (Ok(Answer::Found(_)), _) | (Ok(_), None) => Ok(()),
            (Ok(_), Some(_)) => Err(Failure::new(FailureKind::UnauthorisedOurs, Reason::SystemUnavailable)
                .with_note("probe_email is not found: are base_url, account and credential right?")),
            (Err(failure), None) if failure.reason == Reason::EmailNotValid => Ok(()),
            (Err(failure), _) => Err(failure),
        }
    }
}
