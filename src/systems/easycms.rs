//! EasyCMS / ProLasku: deletes a shop account, and reads whether it exists.
//!
//! The rule it keeps: the envelope decides; only [`Envelope::read`] recognises it. An unknown answer is never a
//! success and never "not found".
//!
//! Sources: the vendor's page on `set_customer_delete_account`; clients' code for the form of business errors.
//! `Authorization1` is the vendor's spelling. The vendor's message of success is misspelt (`acccount`), so
//! `response_type` is tested instead.

use std::sync::Arc;

use async_trait::async_trait;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value};

use super::compare::id_text;
use super::evidence::NotFound;
use super::form::holds_only;
use super::http::{Base, BuildError, Effect, Http, HttpSettings, Reply, Request, check_credential};
use super::{Call, Credential, KindSettings, Making, SettingsError, System};
use crate::config::Cursor;
use crate::job::identifier;
use crate::job::{Answer, Failure, FailureKind, Identity, InputKind, Kind, Note, Reason, Spec, Step, StepName};

/// For [`EasyCms::probe`]; no mail is delivered to this domain.
const PROBE_EMAIL: &str = "probe@example.com";

/// Production hosts: no other environment may call them.
pub(super) const PRODUCTION_HOSTS: [&str; 2] = [".easycms.fi", ".prolasku.fi"];

/// Settings of one EasyCMS shop.
#[derive(Debug, Clone)]
pub struct EasyCmsSettings {
    /// For example `https://easycms.fi`.
    pub base_url: String,
    /// With or without a last slash, as the platform requires: a redirect is not followed.
    pub delete_path: String,
    /// The value of `Authorization1`.
    pub authorization: SecretString,
    /// The API user.
    pub username: String,
    /// The API user's password.
    pub password: SecretString,
    /// The shop's account id.
    pub account: String,
    /// The e-mail of an account that always exists, for the probe: only a found account proves the credential.
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
    /// Builds the client; nothing is called. The path of `get_customer_exists` is assumed to be in the folder of
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

    /// Credentials are sent in the body and the header only, never in an address.
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

    /// `get_customer_exists`: `OUTPUT.TOTAL_COUNT`, an integer or a string; 0 is "not found".
    async fn ask_exists(&self, email: &str) -> Result<Answer, Failure> {
        let reply = self.http.exchange(self.request(&self.exists, email, None), Effect::Read).await?;
        let Some(envelope) = Envelope::read(&reply) else { return Err(without_envelope(&reply, Effect::Read)) };
        if let Some(message) = envelope.known_message() {
            return Err(message.failure(&reply, Effect::Read));
        }
        if reply.status() != 200 {
            return Err(without_envelope(&reply, Effect::Read));
        }
        if let Some(not_found) = envelope.not_found() {
            return Ok(self.credential.absence(not_found));
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
        let Some(envelope) = Envelope::read(&reply) else { return Err(without_envelope(&reply, Effect::Change)) };
        match envelope.known_message() {
            Some(Message::NoSuchAccountOrWrongPassword) => Ok(Answer::Unclear(Reason::WrongCustomerPassword)),
            Some(message) => Err(message.failure(&reply, Effect::Change)),
            None if reply.status() != 200 => Err(without_envelope(&reply, Effect::Change)),
            None if envelope.is_success() => {
                self.credential.prove();
                Ok(Answer::Done)
            }
            None => Err(reply.unreadable(Effect::Change)),
        }
    }
}

/// The vendor's documented messages, recognised by their beginnings.
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
            // The vendor sends this also if the mail server did not answer, so it may be temporary.
            Message::EmailNotValid => Failure::new(FailureKind::Unreadable, Reason::EmailNotValid),
            Message::NoSuchAccountOrWrongPassword => reply.unreadable(effect),
            Message::QueryTooLarge => Failure::new(FailureKind::Rejected, Reason::RequestRejected)
                .with_note("the shop allows one row a query"),
        }
    }
}

/// The interface's reply: `{"INFO":{…},"OUTPUT":…}`. Its errors were seen on HTTP 200 only. On another status only
/// an error counts.
enum Envelope {
    /// `OUTPUT`, an object.
    Output(Map<String, Value>),
    /// `OUTPUT`, a bare text: only known messages have this form.
    Text(String),
}

impl Envelope {
    /// The only place that recognises the interface's own replies.
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

    /// The documented word, and no unknown field with content.
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

    /// The interface's report that there is no such account: a total of 0, and no other field with content.
    fn not_found(&self) -> Option<NotFound> {
        let is_alone =
            matches!(self, Envelope::Output(output) if holds_only(output, &["TOTAL_COUNT", "response_type"]));
        (is_alone && !self.is_error() && self.total_count() == Some(0)).then_some(NotFound::reported())
    }
}

/// The failure for a reply without the interface's envelope. A refusal of our credential is believed in any form: it
/// only holds the system. The address contains no person's id, so a redirect or a 404 means that the configured path
/// is wrong, and the note may name it. After a change such a reply decides nothing else.
fn without_envelope(reply: &Reply, effect: Effect) -> Failure {
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
        _ => reply.not_from_interface(effect),
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

    fn endpoints(&self, _spec: &Spec, _step: Step) -> &[&'static str] {
        &["all"]
    }

    fn credential(&self) -> &Credential {
        &self.credential
    }

    async fn call(&self, call: Call<'_>) -> Result<Answer, Failure> {
        let not_a_step =
            || Failure::new(FailureKind::Rejected, Reason::RequestRejected).with_note("not a step of EasyCMS");
        let Spec::EasyCms { email, customer_password } = &call.target.spec else { return Err(not_a_step()) };
        match call.step.name {
            StepName::Resolve | StepName::ReadBack => self.ask_exists(email.expose_secret()).await,
            StepName::DeleteAccount => {
                let password = customer_password.as_ref().ok_or_else(|| {
                    Failure::new(FailureKind::UnauthorisedTheirs(InputKind::CustomerPassword), Reason::InputNeverCame)
                })?;
                self.delete_account(email.expose_secret(), password.expose_secret()).await
            }
            _ => Err(not_a_step()),
        }
    }

    /// With `probe_email` that account must be found, which proves the credential. Without it, the probe asks for
    /// `probe@example.com`. Any answer in the interface's own form that is not about our credential is enough, also
    /// "the e-mail is not valid".
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
