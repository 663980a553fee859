//! Cleeng: reads a customer, lists and ends entitlements, deletes (Cleeng anonymises), and reads back.
//!
//! The rule it keeps: a 404 on a delete is never "not found". An unrecognised list is never empty. A customer that
//! cannot be compared is never the named one. Only `interface` recognises Cleeng's own replies.
//!
//! Sources: the vendor's Core API 3.1 and JSON-RPC references and its MediaStore SDK. They do not document the form of
//! lists and of an anonymised customer: several forms are read, and a doubt never counts as success.

mod entitlements;
mod interface;

use std::sync::Arc;

use async_trait::async_trait;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value};

use super::compare::{email_identity, id_text, same_email};
use super::form::{has_content, holds_only};
use super::http::{Base, BuildError, Effect, Http, HttpSettings, Request, check_credential};
use super::{Call, Credential, KindSettings, Making, SettingsError, System};
use crate::config::{Choice, Cursor};
use crate::job::identifier;
use crate::job::{Answer, Failure, FailureKind, Identity, Kind, Reason, Spec, Step, StepName};
use interface::{Listed, Parsed};

/// The interface that terminates a subscription with an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Termination {
    /// JSON-RPC's `updateCustomerSubscription`, by e-mail and offer.
    #[default]
    JsonRpc,
    /// The Core API, by the row's id. Rows without an id are still terminated by JSON-RPC.
    Core,
}

impl Choice for Termination {
    const WORDS: &'static [(&'static str, Self)] = &[("json_rpc", Self::JsonRpc), ("core", Self::Core)];
}

/// Production hosts: no other environment may call them.
pub(super) const PRODUCTION_HOSTS: [&str; 2] = ["api.cleeng.com", "mediastoreapi.cleeng.com"];
/// Sandboxes: production must not call them, because no real person exists there.
pub(super) const SANDBOX_HOSTS: [&str; 1] = [".sandbox.cleeng.com"];

/// Settings of one Cleeng publisher.
#[derive(Debug, Clone)]
pub struct CleengSettings {
    /// For example `https://api.cleeng.com/3.1`.
    pub core_url: String,
    /// For example `https://api.cleeng.com/3.0/json-rpc`.
    pub rpc_url: String,
    /// For example `https://mediastoreapi.cleeng.com`.
    pub mediastore_url: String,
    /// Sent as `X-Publisher-Token`, and in the parameters of JSON-RPC.
    pub publisher_token: SecretString,
    /// The interface for terminations.
    pub termination: Termination,
    /// A customer who always exists, for the probe: only a found customer proves the token.
    pub probe_customer_id: Option<SecretString>,
}

impl CleengSettings {
    /// Reads the kind's own keys.
    pub(crate) fn read(at: &mut Cursor<'_>) -> Option<CleengSettings> {
        let core_url = at.url("core_url");
        let rpc_url = at.url("rpc_url");
        let mediastore_url = at.url("mediastore_url");
        let publisher_token = at.required_secret("publisher_token");
        let termination = at.or("termination", Termination::JsonRpc);
        let probe_customer_id = at.person("probe_customer_id", identifier::flaw);
        Some(CleengSettings {
            core_url: core_url?.into(),
            rpc_url: rpc_url?.into(),
            mediastore_url: mediastore_url?.into(),
            publisher_token: publisher_token?,
            termination,
            probe_customer_id,
        })
    }
}

impl KindSettings for CleengSettings {
    fn secret(&mut self, key: &str) -> Option<&mut SecretString> {
        match key {
            "publisher_token" => Some(&mut self.publisher_token),
            "probe_customer_id" => self.probe_customer_id.as_mut(),
            _ => None,
        }
    }

    fn proven_parts(&self) -> Vec<&str> {
        vec![&self.core_url, &self.rpc_url, &self.mediastore_url, self.publisher_token.expose_secret()]
    }

    fn client(&self, making: Making<'_, '_>) -> Result<Arc<dyn System>, SettingsError> {
        Ok(Arc::new(Cleeng::new(making.name, self.clone(), making.http)?))
    }
}

/// The client of one Cleeng publisher.
pub struct Cleeng {
    name: String,
    core: Base,
    rpc: Base,
    mediastore: Base,
    token: SecretString,
    termination: Termination,
    probe_customer_id: Option<SecretString>,
    http: Http,
    credential: Credential,
}

impl Cleeng {
    /// Builds the client; nothing is called.
    ///
    /// # Errors
    /// [`BuildError`] naming the key that is wrong.
    pub fn new(name: &str, settings: CleengSettings, http: &HttpSettings) -> Result<Cleeng, BuildError> {
        let core = Base::new("core_url", &settings.core_url)?;
        let rpc = Base::new("rpc_url", &settings.rpc_url)?;
        let mediastore = Base::new("mediastore_url", &settings.mediastore_url)?;
        check_credential("publisher_token", &settings.publisher_token)?;
        Ok(Cleeng {
            http: Http::new(http, &[&core, &rpc, &mediastore])?,
            name: name.to_owned(),
            core,
            rpc,
            mediastore,
            token: settings.publisher_token,
            termination: settings.termination,
            credential: Credential::new(settings.probe_customer_id.is_some()),
            probe_customer_id: settings.probe_customer_id,
        })
    }

    fn as_publisher(&self, request: Request) -> Request {
        request.accept("application/json").secret_header("X-Publisher-Token", &self.token)
    }

    /// `GET {core}/customers/{id}`: 200 with `data{id,email,…}`, 404 `Customer not found`.
    async fn customer(&self, who: &Customer<'_>, step: StepName) -> Result<Answer, Failure> {
        let request = Request::get(self.core.join("/customers/{id}", &[who.id.expose_secret()])?);
        let reply = self.http.send(self.as_publisher(request), Effect::Read).await?;
        let parsed = interface::core(&reply).ok_or_else(|| reply.not_from_interface(Effect::Read))?;
        if let Some(not_found) = parsed.not_found(reply.status()) {
            return Ok(self.credential.absence(not_found));
        }
        match (&parsed, reply.status()) {
            (Parsed::Success(body), _) => {
                let verdict = read_customer(body, who).ok_or_else(|| reply.unreadable(Effect::Read))?;
                if matches!(verdict, Verdict::OtherRecord | Verdict::Email(Identity::Same | Identity::Other)) {
                    self.credential.prove();
                }
                match verdict {
                    // After the delete, another person's record would look like a changed e-mail.
                    Verdict::OtherRecord if step == StepName::ReadBack => Err(reply.unreadable(Effect::Read)),
                    Verdict::OtherRecord => Ok(Answer::Found(Identity::Other)),
                    Verdict::Email(identity) => Ok(Answer::Found(identity)),
                }
            }
            (Parsed::Error(_), 404 | 422) => Err(reply.unreadable(Effect::Read)),
            (Parsed::Error(_), _) => Err(reply.failure(Effect::Read)),
        }
    }

    /// `GET {core}/customers?email=…&limit=1`: whether any customer has the e-mail address. The reply's form is not
    /// documented. "Nobody" follows only from an empty list, or from the report that there is no such customer;
    /// "somebody" only from a record with exactly this address. Every other reply leaves it undecided.
    async fn by_email(&self, who: &Customer<'_>) -> Result<Answer, Failure> {
        let query = [("email", who.email.expose_secret()), ("limit", "1")];
        let request = Request::get(self.core.join("/customers", &[])?).query(&query);
        let reply = self.http.send(self.as_publisher(request), Effect::Read).await?;
        let parsed = interface::core(&reply).ok_or_else(|| reply.not_from_interface(Effect::Read))?;
        if let Some(not_found) = parsed.not_found(reply.status()) {
            return Ok(self.credential.absence(not_found));
        }
        let listed = match (parsed, reply.status()) {
            (Parsed::Success(body), _) => interface::customers(body),
            (Parsed::Error(_), 400 | 404 | 422) => None,
            (Parsed::Error(_), _) => return Err(reply.failure(Effect::Read)),
        };
        let found = match listed {
            Some(Listed::Nobody(not_found)) => return Ok(self.credential.absence(not_found)),
            Some(Listed::Records(records)) => records.iter().find_map(|record| whose_email(record, who)),
            None => None,
        };
        Ok(found.map_or(Answer::Unclear(Reason::Unproven), |identity| {
            self.credential.prove();
            Answer::Found(identity)
        }))
    }

    /// `DELETE {core}/customers/{id}`: 200 with `"success": true`; 404 also for a customer shared with another
    /// broadcaster; 422 for a customer with an active subscription; 400 for a bad id.
    async fn delete(&self, who: &Customer<'_>) -> Result<Answer, Failure> {
        let request = Request::delete(self.core.join("/customers/{id}", &[who.id.expose_secret()])?);
        let reply = self.http.send(self.as_publisher(request), Effect::Change).await?;
        let parsed = interface::core(&reply).ok_or_else(|| reply.not_from_interface(Effect::Change))?;
        match (&parsed, reply.status()) {
            (Parsed::Success(body), _) if is_deleted(body) => {
                self.credential.prove();
                Ok(Answer::Done)
            }
            (_, 404) if parsed.refuses("user does not exist") => Ok(Answer::Unclear(Reason::SharedCustomer)),
            (_, 422) if parsed.refuses("active subscription") => {
                Err(Failure::new(FailureKind::Refused, Reason::ActiveEntitlement).with_note("HTTP 422"))
            }
            (_, 404 | 422) => Err(reply.unreadable(Effect::Change)),
            _ => Err(reply.failure(Effect::Change)),
        }
    }
}

/// The customer of a target, for both flows.
struct Customer<'a> {
    id: &'a SecretString,
    email: &'a SecretString,
    token: Option<&'a SecretString>,
}

impl<'a> Customer<'a> {
    fn of(spec: &'a Spec) -> Option<Customer<'a>> {
        match spec {
            Spec::CleengBackend { customer_id, customer_email } => {
                Some(Customer { id: customer_id, email: customer_email, token: None })
            }
            Spec::CleengMediastore { customer_token, customer_id, customer_email } => {
                Some(Customer { id: customer_id, email: customer_email, token: Some(customer_token) })
            }
            _ => None,
        }
    }
}

enum Verdict {
    OtherRecord,
    Email(Identity),
}

/// Whether a list's record with the requested e-mail address is the customer's; `None` for a record with another
/// address or without an id.
fn whose_email(record: &Value, who: &Customer<'_>) -> Option<Identity> {
    let id = record.get("id").and_then(id_text).filter(|id| !id.is_empty())?;
    let email = record.get("email").and_then(Value::as_str)?;
    let is_it = same_email(email, who.email.expose_secret());
    is_it.then_some(if id == *who.id.expose_secret() { Identity::Same } else { Identity::Other })
}

/// True for `{"data":[],"success":true,"message":"…"}`, without other fields.
fn is_deleted(body: &Map<String, Value>) -> bool {
    let has_no_data = body.get("data").is_none_or(|data| !has_content(data));
    body.get("success") == Some(&Value::Bool(true)) && has_no_data && holds_only(body, &["success", "message"])
}

/// The verdict on a record, in `data` or bare; `None` for anything else. Only a record with the requested id is the
/// person's. Only a record without e-mail and names is blank.
fn read_customer(body: &Map<String, Value>, who: &Customer<'_>) -> Option<Verdict> {
    let customer = match body.get("data") {
        Some(data) if holds_only(body, &["success", "message", "data"]) => data.as_object()?,
        None if body.contains_key("id") && body.contains_key("email") => body,
        _ => return None,
    };
    let id = match customer.get("id").filter(|id| !id.is_null()) {
        Some(id) => Some(id_text(id).filter(|id| !id.is_empty())?),
        None => None,
    };
    if id.as_deref().is_some_and(|id| id != who.id.expose_secret()) {
        return Some(Verdict::OtherRecord);
    }
    let has_no_name = ["firstName", "lastName"].iter().all(|name| customer.get(*name).is_none_or(|n| !has_content(n)));
    let email = match customer.get("email") {
        Some(Value::Null) => Identity::Blank,
        Some(Value::String(email)) => email_identity(email, who.email.expose_secret()),
        Some(_) | None => Identity::Unreadable,
    };
    Some(Verdict::Email(match (email, id.is_some()) {
        // A record without an id may be another customer's.
        (Identity::Same | Identity::Other | Identity::Blank, false) => Identity::Unreadable,
        (Identity::Blank, true) if !has_no_name => Identity::Unreadable,
        (email, _) => email,
    }))
}

#[async_trait]
impl System for Cleeng {
    fn name(&self) -> &str {
        &self.name
    }

    fn kind(&self) -> Kind {
        Kind::Cleeng
    }

    fn endpoints(&self, _spec: &Spec, _step: Step) -> &[&'static str] {
        &["all"]
    }

    fn credential(&self) -> &Credential {
        &self.credential
    }

    async fn call(&self, call: Call<'_>) -> Result<Answer, Failure> {
        let not_a_step =
            || Failure::new(FailureKind::Rejected, Reason::RequestRejected).with_note("not a step of Cleeng");
        let who = Customer::of(&call.target.spec).ok_or_else(not_a_step)?;
        match call.step.name {
            // The second read of the identity asks for the e-mail address.
            StepName::Resolve if call.step.item > 0 => self.by_email(&who).await,
            StepName::Resolve | StepName::ReadBack => self.customer(&who, call.step.name).await,
            StepName::ListEntitlements => match who.token {
                Some(token) if call.step.item == 0 => self.offers(&who, token).await,
                _ => self.entitlements(&who).await,
            },
            StepName::TerminateEntitlement => {
                let entitlement = call.facts.entitlement.as_ref().ok_or_else(not_a_step)?;
                self.terminate(&who, entitlement).await
            }
            StepName::DeleteCustomer => self.delete(&who).await,
            _ => Err(not_a_step()),
        }
    }

    /// With `probe_customer_id` that customer must be found, which proves address and token. Without it, the probe
    /// lists the entitlements of customer 0, who does not exist. A list, or a refusal in the interface's own form,
    /// shows only that address and token were accepted.
    async fn probe(&self) -> Result<(), Failure> {
        if let Some(id) = &self.probe_customer_id {
            let nobody: SecretString = String::new().into();
            let who = Customer { id, email: &nobody, token: None };
            return match self.customer(&who, StepName::Resolve).await? {
                Answer::Found(_) if self.credential.is_proven() => Ok(()),
                _ => Err(Failure::new(FailureKind::UnauthorisedOurs, Reason::SystemUnavailable)
                    .with_note("probe_customer_id is not found: are core_url and publisher_token right?")),
            };
        }
        let reply = self.http.send(self.entitlements_page("0", 0)?, Effect::Read).await?;
        match (interface::core(&reply), reply.status()) {
            (Some(Parsed::Success(body)), _) => {
                interface::rows(body).map(|_| ()).ok_or_else(|| reply.unreadable(Effect::Read))
            }
            (Some(Parsed::Error(_)), 400 | 404 | 422) => Ok(()),
            (None, 404) => Err(Failure::new(FailureKind::UnauthorisedOurs, Reason::SystemUnavailable)
                .with_note("HTTP 404, not in the interface's own form: is core_url right?")),
            (None, _) => Err(reply.not_from_interface(Effect::Read)),
            _ => Err(reply.failure(Effect::Read)),
        }
    }
}
