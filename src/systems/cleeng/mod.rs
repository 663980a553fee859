//! Cleeng: who a customer is, what gives access, ending it, anonymising, and reading back.
//!
//! The rule it keeps: a 404 on a delete is never "gone", a list that is not recognised is never
//! empty, and a customer that cannot be compared is never the one named.
//!
//! Sources: the vendor's Core API 3.1 and JSON-RPC references and its MediaStore SDK. What those
//! leave open (list shapes, how an anonymised customer reads) is read tolerantly and decided
//! against success.

mod entitlements;

use async_trait::async_trait;
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use super::compare::{email_identity, id_text};
use super::http::{Base, BuildError, Effect, Http, HttpSettings, Reply, Request, check_credential};
use super::{Call, Credential, System};
use crate::job::{Answer, Failure, FailureKind, Identity, Kind, Reason, Spec, Step, StepName};

/// How subscriptions that carry an id are terminated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Termination {
    /// By `updateCustomerSubscription`, keyed by e-mail and offer.
    #[default]
    JsonRpc,
    /// By the Core API and the row's id; rows without one still go by JSON-RPC.
    Core,
}

/// Settings of one Cleeng publisher.
#[derive(Debug, Clone)]
pub struct CleengSettings {
    /// The table's name in the configuration.
    pub name: String,
    /// For example `https://api.cleeng.com/3.1`.
    pub core_url: String,
    /// For example `https://api.cleeng.com/3.0/json-rpc`.
    pub rpc_url: String,
    /// For example `https://mediastoreapi.cleeng.com`.
    pub mediastore_url: String,
    /// Sent as `X-Publisher-Token`, and in the parameters of JSON-RPC.
    pub publisher_token: SecretString,
    /// How to terminate.
    pub termination: Termination,
    /// Time-outs.
    pub common: HttpSettings,
}

/// The client of one Cleeng publisher.
pub struct Cleeng {
    name: String,
    core: Base,
    rpc: Base,
    mediastore: Base,
    token: SecretString,
    termination: Termination,
    http: Http,
    credential: Credential,
}

impl Cleeng {
    /// Builds the client; nothing is called.
    ///
    /// # Errors
    /// [`BuildError`] naming the key that is wrong.
    pub fn new(settings: CleengSettings) -> Result<Cleeng, BuildError> {
        let core = Base::new("core_url", &settings.core_url)?;
        let rpc = Base::new("rpc_url", &settings.rpc_url)?;
        let mediastore = Base::new("mediastore_url", &settings.mediastore_url)?;
        check_credential("publisher_token", &settings.publisher_token)?;
        Ok(Cleeng {
            http: Http::new(&settings.common, &[&core, &rpc, &mediastore])?,
            name: settings.name,
            core,
            rpc,
            mediastore,
            token: settings.publisher_token,
            termination: settings.termination,
            credential: Credential::default(),
        })
    }

    fn as_publisher(&self, request: Request) -> Request {
        request.accept("application/json").secret_header("X-Publisher-Token", &self.token)
    }

    /// `GET {core}/customers/{id}`: 200 with `data{id,email,…}`, 404 `Customer not found`.
    async fn customer(&self, who: &Customer<'_>, step: StepName) -> Result<Answer, Failure> {
        let request = Request::get(self.core.join("/customers/{id}", &[who.id.expose_secret()])?);
        let reply = self.http.send(self.as_publisher(request), Effect::Read).await?;
        match reply.status() {
            200 => {
                let verdict = read_customer(&reply, who)?;
                if matches!(verdict, Verdict::Email(Identity::Same | Identity::Other | Identity::Blank)) {
                    self.credential.prove();
                }
                match verdict {
                    // After the delete another person's record would look like a changed e-mail.
                    Verdict::OtherRecord if step == StepName::ReadBack => Err(reply.unreadable(Effect::Read)),
                    Verdict::OtherRecord => Ok(Answer::Found(Identity::Other)),
                    Verdict::Email(identity) => Ok(Answer::Found(identity)),
                }
            }
            404 => Ok(Answer::Missing { proven: self.credential.is_proven() && is_own_answer(&reply) }),
            _ => Err(reply.failure(Effect::Read)),
        }
    }

    /// `DELETE {core}/customers/{id}`: 200 with `"success": true`; 404 is also told of a customer
    /// shared with another broadcaster; 422 of one with an active subscription; 400 of a bad id.
    async fn delete(&self, who: &Customer<'_>) -> Result<Answer, Failure> {
        let request = Request::delete(self.core.join("/customers/{id}", &[who.id.expose_secret()])?);
        let reply = self.http.send(self.as_publisher(request), Effect::Change).await?;
        match reply.status() {
            200 if reply.json::<Value>().is_some_and(|body| body.get("success") == Some(&Value::Bool(true))) => {
                self.credential.prove();
                Ok(Answer::Done)
            }
            404 => Ok(Answer::Unclear(Reason::SharedCustomer)),
            422 => Err(Failure::new(FailureKind::Refused, Reason::ActiveEntitlement).with_note("HTTP 422")),
            _ => Err(reply.failure(Effect::Change)),
        }
    }
}

/// The customer that a target names, whichever flow it asks for.
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

fn read_customer(reply: &Reply, who: &Customer<'_>) -> Result<Verdict, Failure> {
    let unreadable = || reply.unreadable(Effect::Read);
    let body: Value = reply.json().ok_or_else(unreadable)?;
    if matches!(body.get("success"), Some(success) if success != &Value::Bool(true)) {
        return Err(unreadable());
    }
    let customer = match body.get("data") {
        Some(data) => data,
        None if body.get("id").is_some() || body.get("email").is_some() => &body,
        None => return Err(unreadable()),
    };
    let customer = customer.as_object().ok_or_else(unreadable)?;
    if let Some(id) = customer.get("id").filter(|id| !id.is_null()) {
        let id = id_text(id).ok_or_else(unreadable)?;
        if id != who.id.expose_secret() {
            return Ok(Verdict::OtherRecord);
        }
    }
    Ok(Verdict::Email(match customer.get("email") {
        Some(Value::Null) => Identity::Blank,
        Some(Value::String(email)) => email_identity(email, who.email.expose_secret()),
        Some(_) | None => Identity::Unreadable,
    }))
}

/// A 404 of the API's own is JSON or empty; one of a proxy or a wrong address most often a page.
fn is_own_answer(reply: &Reply) -> bool {
    reply.is_blank() || reply.json::<Value>().is_some_and(|body| body.is_object())
}

#[async_trait]
impl System for Cleeng {
    fn name(&self) -> &str {
        &self.name
    }

    fn kind(&self) -> Kind {
        Kind::Cleeng
    }

    fn endpoints(&self, _spec: &Spec, _step: Step) -> &'static [&'static str] {
        &["all"]
    }

    fn credential(&self) -> &Credential {
        &self.credential
    }

    async fn call(&self, call: Call<'_>) -> Result<Answer, Failure> {
        let misfit = || Failure::new(FailureKind::Rejected, Reason::RequestRejected).with_note("not a step of Cleeng");
        let who = Customer::of(&call.target.spec).ok_or_else(misfit)?;
        match call.step.name {
            StepName::Resolve | StepName::ReadBack => self.customer(&who, call.step.name).await,
            StepName::ListEntitlements => match who.token {
                Some(token) if call.step.item == 0 => self.offers(&who, token).await,
                _ => self.entitlements(&who).await,
            },
            StepName::TerminateEntitlement => {
                let entitlement = call.facts.entitlement.as_ref().ok_or_else(misfit)?;
                self.terminate(&who, entitlement).await
            }
            StepName::DeleteCustomer => self.delete(&who).await,
            _ => Err(misfit()),
        }
    }

    /// Lists the entitlements of customer 0, which nobody is: a list proves the token; a 400, 404
    /// or 422 in the API's own form shows that address and token were accepted.
    async fn probe(&self) -> Result<(), Failure> {
        let reply = self.http.send(self.entitlements_page("0", 0)?, Effect::Read).await?;
        match reply.status() {
            200 if entitlements::rows(&reply).is_some() => {
                self.credential.prove();
                Ok(())
            }
            400 | 404 | 422 if is_own_answer(&reply) => Ok(()),
            404 => Err(Failure::new(FailureKind::UnauthorisedOurs, Reason::SystemUnavailable)
                .with_note("HTTP 404, not in the API's own form: is core_url right?")),
            _ => Err(reply.failure(Effect::Read)),
        }
    }
}
