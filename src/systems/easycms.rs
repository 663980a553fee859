//! EasyCMS / ProLasku: deleting a shop account, and asking whether one exists.
//!
//! The rule it keeps: the envelope decides, never the HTTP status; an answer outside the known
//! table is never success and never "gone".
//!
//! Sources: the vendor's page on `set_customer_delete_account`, and clients' code for the shape of
//! business errors. `Authorization1` is spelt that way; success has three c's in its message, so
//! `response_type` is tested instead.

use async_trait::async_trait;
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use super::compare::id_text;
use super::http::{Base, BuildError, Effect, Http, HttpSettings, Reply, Request, check_credential};
use super::{Call, Credential, System};
use crate::job::{Answer, Failure, FailureKind, Identity, InputKind, Kind, Reason, Spec, Step, StepName};

/// Asked for by [`EasyCms::probe`]; a domain that delivers to nobody.
const PROBE_EMAIL: &str = "probe@example.com";

/// Settings of one EasyCMS shop.
#[derive(Debug, Clone)]
pub struct EasyCmsSettings {
    /// The table's name in the configuration.
    pub name: String,
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
    /// Time-outs.
    pub common: HttpSettings,
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
    http: Http,
    credential: Credential,
}

impl EasyCms {
    /// Builds the client; nothing is called. `get_customer_exists` is taken to lie beside
    /// `delete_path`, with the same last slash.
    ///
    /// # Errors
    /// [`BuildError`] naming the key that is wrong.
    pub fn new(settings: EasyCmsSettings) -> Result<EasyCms, BuildError> {
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
            http: Http::new(&settings.common, &[&base])?,
            name: settings.name,
            delete,
            exists,
            authorization: settings.authorization,
            username: settings.username,
            password: settings.password,
            account: settings.account,
            credential: Credential::default(),
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
        let envelope = Envelope::read(&reply);
        if let Some(message) = envelope.known_message() {
            return Err(message.failure(&reply, Effect::Read));
        }
        match (envelope.total_count(), reply.status()) {
            (Some(count), 200) if !envelope.is_error() => {
                self.credential.prove();
                // The call that says 0 was itself authenticated by the whole of our credential.
                Ok(if count == 0 { Answer::Missing { proven: true } } else { Answer::Found(Identity::Same) })
            }
            _ => Err(unknown(&reply, Effect::Read)),
        }
    }

    async fn delete_account(&self, email: &str, customer_password: &str) -> Result<Answer, Failure> {
        let request = self.request(&self.delete, email, Some(customer_password));
        let reply = self.http.exchange(request, Effect::Change).await?;
        let envelope = Envelope::read(&reply);
        match envelope.known_message() {
            Some(Message::NoSuchAccountOrWrongPassword) => Ok(Answer::Unclear(Reason::WrongCustomerPassword)),
            Some(message) => Err(message.failure(&reply, Effect::Change)),
            None if reply.status() == 200 && envelope.is_success() => {
                self.credential.prove();
                Ok(Answer::Done)
            }
            None => Err(unknown(&reply, Effect::Change)),
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

/// `{"INFO":{…},"OUTPUT":…}`, or whatever came instead.
struct Envelope {
    output: Value,
    text: Option<String>,
}

impl Envelope {
    fn read(reply: &Reply) -> Envelope {
        let Some(mut body) = reply.json::<Value>() else {
            let text = std::str::from_utf8(reply.body()).ok().map(|text| text.chars().take(200).collect());
            return Envelope { output: Value::Null, text };
        };
        let output = body.get_mut("OUTPUT").map(Value::take).unwrap_or_default();
        let text = [Some(&output), output.get("message"), Some(&body), body.get("message")]
            .into_iter()
            .flatten()
            .find_map(|value| value.as_str().map(str::to_owned));
        Envelope { output, text }
    }

    fn known_message(&self) -> Option<Message> {
        self.text.as_deref().and_then(Message::read)
    }

    fn response_type(&self) -> Option<&str> {
        self.output.get("response_type").and_then(Value::as_str).map(str::trim)
    }

    fn is_success(&self) -> bool {
        self.response_type().is_some_and(|kind| kind.eq_ignore_ascii_case("success"))
    }

    fn is_error(&self) -> bool {
        self.response_type().is_some_and(|kind| !kind.eq_ignore_ascii_case("success"))
    }

    fn total_count(&self) -> Option<u64> {
        self.output.get("TOTAL_COUNT").and_then(id_text).and_then(|count| count.parse().ok())
    }
}

/// What no message explains. The address holds no id of anybody's, so a redirect or a 404 says
/// that the configured path is wrong, and it may be named.
fn unknown(reply: &Reply, effect: Effect) -> Failure {
    let misdirected =
        |note: String| Failure::new(FailureKind::UnauthorisedOurs, Reason::SystemUnavailable).with_note(note);
    match (reply.status(), reply.location()) {
        (300..400, Some(path)) => misdirected(format!("redirected to {path}")),
        (300..400, None) => misdirected("redirected".to_owned()),
        (404 | 405, _) => misdirected(format!("HTTP {}: is delete_path right?", reply.status())),
        _ => reply.failure(effect),
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

    /// Asks whether `probe@example.com` exists; any answer that is not about our credential or
    /// address will do, also that the e-mail is not valid.
    async fn probe(&self) -> Result<(), Failure> {
        match self.ask_exists(PROBE_EMAIL).await {
            Ok(_) => Ok(()),
            Err(failure) if failure.reason == Reason::EmailNotValid => Ok(()),
            Err(failure) => Err(failure),
        }
    }
}
