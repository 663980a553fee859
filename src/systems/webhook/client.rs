//! The client of one receiver.
//!
//! The rule it keeps: every request is signed, and no address has an identifier of a person.

use std::collections::BTreeMap;

use async_trait::async_trait;
use jiff::Timestamp;
use secrecy::SecretString;
use serde_json::{Value, json};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::message::{Said, Status, about, id, outcome, said, shown};
use super::plan::{ID, PERSON, STATUS};
use super::settings::WebhookSettings;
use crate::job::{
    Answer, Fact, Failure, FailureKind, Identity, Kind, Means, Note, Reading, Reason, Spec, Step, StepName,
};
use crate::systems::evidence::NotFound;
use crate::systems::http::{Base, BuildError, Effect, Http, HttpSettings, Request};
use crate::systems::vitalsource::Signer;
use crate::systems::{Call, Credential, System};

/// The client.
pub struct Webhook {
    name: String,
    url: Base,
    read_url: Option<Base>,
    probe_subject: BTreeMap<String, SecretString>,
    signer: Signer,
    http: Http,
    credential: Credential,
    /// [`crate::job::Plan::shape`] of the plan.
    shape: u32,
}

impl Webhook {
    /// Builds the client; nothing is called. `signer` returns the value of `webhook-signature`.
    ///
    /// # Errors
    /// [`BuildError`] naming the key that is wrong.
    pub fn new(
        name: &str,
        settings: WebhookSettings,
        http: &HttpSettings,
        signer: Signer,
    ) -> Result<Webhook, BuildError> {
        let url = Base::new("url", &settings.url)?;
        let read_url = settings.read_url.map(|url| Base::new("read_url", &url)).transpose()?;
        let bases: Vec<&Base> = [Some(&url), read_url.as_ref()].into_iter().flatten().collect();
        let http = if settings.private {
            Http::new(http, &bases)?
        } else {
            let problem = "a private address; to allow it, set private = true";
            for (key, base) in [("url", Some(&url)), ("read_url", read_url.as_ref())] {
                if base.is_some_and(Base::is_private) {
                    return Err(BuildError::Setting { key, problem });
                }
            }
            Http::public_only(http, &bases)?
        };
        Ok(Webhook {
            name: name.to_owned(),
            credential: Credential::new(!settings.probe_subject.is_empty()),
            shape: settings.plan.shape(),
            url,
            read_url,
            probe_subject: settings.probe_subject,
            signer,
            http,
        })
    }

    /// A request with the headers of Standard Webhooks: `id.timestamp.body` is signed.
    fn signed(&self, request: Request, id: &str, body: Option<&Value>) -> Request {
        let at = Timestamp::now().as_second();
        let body = body.map(|body| body.to_string().into_bytes()).unwrap_or_default();
        let content = Zeroizing::new([format!("{id}.{at}.").as_bytes(), &body].concat());
        let request = request
            .accept("application/json")
            .header("webhook-id", id)
            .header("webhook-timestamp", &at.to_string())
            .header("webhook-signature", &(self.signer)(&content));
        if body.is_empty() { request } else { request.body("application/json", body) }
    }

    async fn erase(&self, call: &Call<'_>, subject: &BTreeMap<String, SecretString>) -> Result<Answer, Failure> {
        let id = id(call);
        let body = about("erasure.requested", &id, &self.name, call, subject);
        let request = self.signed(Request::post(self.url.itself()), &id, Some(&body));
        let reply = self.http.exchange(request, Effect::Change).await?;
        let means = match outcome(&reply, Effect::Change)? {
            Status::Erased => {
                self.credential.prove();
                Means::Done
            }
            Status::Absent => Means::DoneBefore,
            _ => Means::Accepted,
        };
        Ok(self.reading(means, vec![(ID, Fact::Text(id))]))
    }

    /// The status of an accepted request. Only the documented answer shows it: a receiver that does not know the id has
    /// erased nobody.
    async fn status(&self, call: &Call<'_>) -> Result<Answer, Failure> {
        let fact = call.facts.of_connector.iter().find(|(place, _)| *place == ID).map(|(_, fact)| &**fact);
        let Some(Fact::Text(id)) = fact else { return Err(not_a_step()) };
        let request = self.signed(Request::get(self.url.join("/{id}", &[id])?), id, None);
        let reply = self.http.exchange(request, Effect::Read).await?;
        let means = match outcome(&reply, Effect::Read)? {
            Status::Erased | Status::Absent => Means::Done,
            _ => Means::Pending,
        };
        Ok(self.reading(means, Vec::new()))
    }

    /// Whether the person is there. A read has an id of its own each time: its answer must be a new one.
    async fn person(&self, body: impl FnOnce(&str) -> Value) -> Result<Answer, Failure> {
        let Some(url) = &self.read_url else { return Err(not_a_step()) };
        let id = Uuid::new_v4().to_string();
        let request = self.signed(Request::post(url.itself()), &id, Some(&body(&id)));
        let reply = self.http.exchange(request, Effect::Read).await?;
        let Said { status, same } = said(&reply, Effect::Read)?;
        let means = match status {
            Status::Found => {
                self.credential.prove();
                Means::Found(match same {
                    Some(true) => Identity::Same,
                    Some(false) => Identity::Other,
                    None => Identity::Unreadable,
                })
            }
            Status::Absent => match self.credential.vouched(NotFound::reported()) {
                Some(absence) => Means::Gone(absence),
                None => return Ok(Answer::Unclear(Reason::Unproven)),
            },
            Status::Erased | Status::Accepted | Status::Refused | Status::Ready => {
                return Err(reply.unreadable(Effect::Read));
            }
        };
        Ok(self.reading(means, Vec::new()))
    }

    async fn person_of(&self, call: &Call<'_>, subject: &BTreeMap<String, SecretString>) -> Result<Answer, Failure> {
        self.person(|id| about("erasure.read", id, &self.name, call, subject)).await
    }

    fn reading(&self, means: Means, facts: Vec<(u16, Fact)>) -> Answer {
        Answer::Connector(Reading { shape: self.shape, means, is_bare: false, facts })
    }
}

fn not_a_step() -> Failure {
    Failure::new(FailureKind::Rejected, Reason::RequestRejected).with_note("not a step of a webhook")
}

#[async_trait]
impl System for Webhook {
    fn name(&self) -> &str {
        &self.name
    }

    fn kind(&self) -> Kind {
        Kind::Webhook
    }

    fn endpoints(&self, _spec: &Spec, _step: Step) -> &[&'static str] {
        &["all"]
    }

    fn credential(&self) -> &Credential {
        &self.credential
    }

    async fn call(&self, call: Call<'_>) -> Result<Answer, Failure> {
        let Spec::Connector { identifiers, .. } = &call.target.spec else { return Err(not_a_step()) };
        match (call.step.name, call.step.place()) {
            (StepName::Resolve, _) | (StepName::ConnectorReadBack, PERSON) => self.person_of(&call, identifiers).await,
            (StepName::ConnectorReadBack, STATUS) => self.status(&call).await,
            (StepName::ConnectorAct, 0) => self.erase(&call, identifiers).await,
            _ => Err(not_a_step()),
        }
    }

    /// A signed request about nobody. Only the receiver's own word shows that it works: a page of a gateway may have the
    /// status 200, too. With a person who always exists that person must be found as well.
    async fn probe(&self) -> Result<(), Failure> {
        let id = Uuid::new_v4().to_string();
        let now = Timestamp::now();
        let data = json!({ "id": id, "system": self.name });
        let body = json!({ "type": "erasure.probe", "timestamp": now, "data": data });
        let request = self.signed(Request::post(self.url.itself()), &id, Some(&body));
        let reply = self.http.exchange(request, Effect::Read).await?;
        match (reply.status(), said(&reply, Effect::Read)) {
            (200, Ok(Said { status: Status::Ready, .. })) => {}
            (300..=403 | 408 | 500.., _) => return Err(reply.failure(Effect::Read)),
            (status, _) => {
                return Err(Failure::new(FailureKind::UnauthorisedOurs, Reason::SystemUnavailable)
                    .with_note(Note::http(status).and(", not the answer to a probe: is url right?")));
            }
        }
        if self.probe_subject.is_empty() {
            return Ok(());
        }
        let read = |id: &str| {
            let data = json!({ "id": id, "system": self.name, "subject": shown(&self.probe_subject) });
            json!({ "type": "erasure.read", "timestamp": now, "data": data })
        };
        match self.person(read).await?.means() {
            Some(Means::Found(Identity::Same | Identity::Unreadable)) => Ok(()),
            _ => Err(Failure::new(FailureKind::UnauthorisedOurs, Reason::SystemUnavailable)
                .with_note("probe_subject is not found: are read_url and probe_subject right?")),
        }
    }

    fn probe_endpoints(&self) -> &[&'static str] {
        if self.probe_subject.is_empty() { &["all"] } else { &["all", "all"] }
    }
}
