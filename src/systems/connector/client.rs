//! The client of a system with a connector file.
//!
//! The rule it keeps: the file gives a reply its meaning; a reply of which it does not speak decides nothing.

use std::sync::Arc;

use async_trait::async_trait;
use erasure_connector::fill::{Filled, FilledBody, Unfilled, authorization, filled};
use erasure_connector::matching::matches;
use erasure_connector::model::{Act, Call as FileCall, Method, Read, Refusal, Says, Shows as FileShows};
use erasure_connector::{Compared, Taken, Truth, Understood, Values};
use secrecy::SecretString;

use super::interned;
use super::settings::ConnectorSettings;
use super::slots::{Installed, OfJob};
use crate::job::{
    Answer, Fact, Failure, FailureKind, Identity, InputKind, Kind, Means, Note, Reading, Reason, Spec, Step, StepName,
};
use crate::systems::evidence::NotFound;
use crate::systems::http::{self, Base, BuildError, Effect, Http, HttpSettings, Reply, Request};
use crate::systems::{Call, Credential, System};

/// The client of one system.
pub struct Client {
    name: String,
    given: ConnectorSettings,
    base: Base,
    authorization: Option<SecretString>,
    http: Http,
    credential: Credential,
    /// [`crate::job::Plan::shape`] of the plan.
    shape: u32,
    reads: Vec<[&'static str; 1]>,
    acts: Vec<[&'static str; 1]>,
    /// The file's own call, and the read of the person who always exists.
    probe: Vec<&'static str>,
}

impl Client {
    /// Builds the client; nothing is called.
    ///
    /// # Errors
    /// [`BuildError`] naming the key that is wrong.
    pub(super) fn new(
        name: &str,
        given: ConnectorSettings,
        base: &str,
        http: &HttpSettings,
    ) -> Result<Client, BuildError> {
        let base = Base::new("file", base)?;
        let installed = Installed { settings: &given.settings, secrets: &given.secrets };
        let missing = |_: Unfilled| BuildError::Credential { key: "settings" };
        let authorization = authorization(&given.file.http.auth, &installed).map_err(missing)?;
        let endpoint = |call: Option<&FileCall>| [call.map_or("", |call| interned(&call.endpoint))];
        let file = &given.file;
        let person = file.reads.first().filter(|_| !given.probe_subject.is_empty());
        let calls = std::iter::once(&file.probe.call).chain(person.and_then(|person| person.call.as_ref()));
        let probe = calls.map(|call| interned(&call.endpoint)).collect();
        Ok(Client {
            http: Http::new(http, &[&base])?,
            name: name.to_owned(),
            base,
            authorization: authorization.map(SecretString::from),
            credential: Credential::new(!given.probe_subject.is_empty()),
            shape: given.plan.shape(),
            reads: file.reads.iter().map(|read| endpoint(read.call.as_ref())).collect(),
            acts: file.acts.iter().map(|act| endpoint(Some(&act.call))).collect(),
            probe,
            given,
        })
    }

    fn request(&self, call: &FileCall, values: &dyn Values) -> Result<Request, Failure> {
        let Filled { method, path, query, headers, body } =
            filled(call, &self.given.file.http, values).map_err(unfilled)?;
        let method = match method {
            Method::Get => http::Method::GET,
            Method::Post => http::Method::POST,
            Method::Put => http::Method::PUT,
            Method::Patch => http::Method::PATCH,
            Method::Delete => http::Method::DELETE,
        };
        let mut request = Request::new(method, self.base.below(&path, call.path.named())).accept("application/json");
        if !query.is_empty() {
            let pairs: Vec<(&str, &str)> = query.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            request = request.query(&pairs);
        }
        for (name, value) in &headers {
            request = request.named_header(name, value);
        }
        if let Some(authorization) = &self.authorization {
            request = request.secret_header("authorization", authorization);
        }
        Ok(match body {
            FilledBody::None => request,
            FilledBody::Json(value) => request.json(&value),
            FilledBody::Form(pairs) => {
                let pairs: Vec<_> = pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
                request.form(&pairs)
            }
        })
    }

    fn installed(&self) -> Installed<'_> {
        Installed { settings: &self.given.settings, secrets: &self.given.secrets }
    }

    async fn read(&self, read: &Read, values: &OfJob<'_>) -> Result<Answer, Failure> {
        let Some(call) = &read.call else { return Err(not_a_step()) };
        let request = self.request(call, values)?;
        let reply = self.http.exchange(request, Effect::Read).await?;
        let understood = self.given.file.understand_read(read, &understandable(&reply), values);
        let (is, reason, identity, is_bare, facts) = match understood {
            Understood::Means { is: FileShows::Done, is_bare, is_marked: true, facts, .. } => {
                return Ok(self.reading(Means::Marked, is_bare, facts));
            }
            Understood::Means { is, reason, identity, is_bare, facts, .. } => (is, reason, identity, is_bare, facts),
            Understood::Unreadable => return Err(reply.unreadable(Effect::Read)),
            Understood::Unmatched => return Err(unmatched(&reply, Effect::Read)),
        };
        let means = match is {
            FileShows::Found => {
                self.credential.prove();
                Means::Found(match identity {
                    Compared::Same => Identity::Same,
                    Compared::Other => Identity::Other,
                    Compared::Unreadable => Identity::Unreadable,
                })
            }
            FileShows::Gone => match self.credential.vouched(NotFound::reported()) {
                Some(absence) => Means::Gone(absence),
                None => return Ok(Answer::Unclear(Reason::Unproven)),
            },
            FileShows::Done => Means::Done,
            FileShows::NotDone => Means::NotDone,
            FileShows::Pending => Means::Pending,
            FileShows::Refused => return Err(refused(reason, &reply)),
            FileShows::Unauthorised => return Err(unauthorised(&reply)),
        };
        Ok(self.reading(means, is_bare, facts))
    }

    async fn act(&self, act: &Act, values: &OfJob<'_>) -> Result<Answer, Failure> {
        let request = self.request(&act.call, values)?;
        let reply = self.http.exchange(request, Effect::Change).await?;
        let understood = self.given.file.understand_act(act, &understandable(&reply), values);
        let (is, reason, is_bare, facts) = match understood {
            Understood::Means { is, reason, is_bare, facts, .. } => (is, reason, is_bare, facts),
            Understood::Unreadable => return Err(reply.unreadable(Effect::Change)),
            Understood::Unmatched => return Err(unmatched(&reply, Effect::Change)),
        };
        let input = act
            .proof
            .as_ref()
            .and_then(|name| self.given.plan.proofs.iter().find(|(proof, _)| proof == name).map(|(_, input)| *input));
        let means = match is {
            Says::Done => Means::Done,
            Says::DoneBefore => Means::DoneBefore,
            Says::Accepted => Means::Accepted,
            Says::Unclear => {
                return Ok(Answer::Unclear(match input {
                    Some(InputKind::CustomerPassword) => Reason::WrongCustomerPassword,
                    Some(InputKind::CurrentPassword) => Reason::WrongPassword,
                    _ => Reason::UnreadableReply,
                }));
            }
            Says::Refused => return Err(refused(reason, &reply)),
            Says::Unauthorised => return Err(unauthorised(&reply)),
            Says::Ask => {
                let kind = FailureKind::UnauthorisedTheirs(input.unwrap_or(InputKind::Confirmation));
                return Err(Failure::new(kind, Reason::InputRefused).with_note(Note::http(reply.status())));
            }
        };
        Ok(self.reading(means, is_bare, facts))
    }

    fn reading(&self, means: Means, is_bare: bool, facts: Vec<(String, Taken)>) -> Answer {
        let place = |name: &str| {
            let place = self.given.plan.facts.iter().position(|fact| fact == name)?;
            u16::try_from(place).ok()
        };
        let fact = |taken| match taken {
            Taken::Text(text) => Fact::Text(text),
            Taken::Number(digits) => Fact::Number(digits),
            Taken::List(members) => Fact::List(members),
        };
        let facts = facts.into_iter().filter_map(|(name, taken)| Some((place(&name)?, fact(taken)))).collect();
        Answer::Connector(Reading { shape: self.shape, means, is_bare, facts })
    }

    /// The present member of the list for which a step is.
    fn item<'f>(&self, step: Step, facts: &'f [(u16, Arc<Fact>)]) -> Option<&'f str> {
        let acts = &self.given.plan.acts;
        let list = match step.name {
            StepName::ConnectorAct => acts.get(step.place())?.each,
            StepName::ConnectorReadBack => {
                let files = &self.given.file.acts;
                let act = files.iter().position(|act| act.each.is_some() && act.names(step.place()))?;
                acts.get(act)?.each
            }
            _ => None,
        }?;
        let (_, fact) = facts.iter().find(|(place, _)| *place == list)?;
        fact.members()?.get(step.member() as usize).map(String::as_str)
    }
}

/// A reply for the file's conditions.
fn understandable(reply: &Reply) -> erasure_connector::Reply {
    let headers = reply.headers().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    erasure_connector::Reply::new(reply.status(), headers, reply.body())
}

fn not_a_step() -> Failure {
    Failure::new(FailureKind::Rejected, Reason::RequestRejected).with_note("not a step of this connector")
}

fn unfilled(unfilled: Unfilled) -> Failure {
    let note = match unfilled {
        Unfilled::Missing => "a value that the call needs is missing",
        Unfilled::Path => "an id that cannot stand in an address",
    };
    Failure::new(FailureKind::Rejected, Reason::RequestRejected).with_note(note)
}

/// A reply of which the file does not speak. It may be from a gateway: after a change it decides nothing, unless its
/// status always means the same.
fn unmatched(reply: &Reply, effect: Effect) -> Failure {
    match (reply.status(), effect) {
        // The address is wrong, or the redirect leads from a change that was made to its result.
        (300..=399, Effect::Change) => reply.unreadable(effect),
        (401, _) => reply.failure(effect),
        _ => reply.not_from_interface(effect),
    }
}

fn refused(reason: Option<Refusal>, reply: &Reply) -> Failure {
    let (kind, reason) = match reason {
        Some(Refusal::Precondition) => (FailureKind::Refused, Reason::Precondition),
        Some(Refusal::Permission) => (FailureKind::UnauthorisedOurs, Reason::SystemUnavailable),
        Some(Refusal::Rejected) | None => (FailureKind::Rejected, Reason::RequestRejected),
    };
    Failure::new(kind, reason).with_note(Note::http(reply.status()).and(", a refusal that the file names"))
}

fn unauthorised(reply: &Reply) -> Failure {
    Failure::new(FailureKind::UnauthorisedOurs, Reason::SystemUnavailable)
        .with_note(Note::http(reply.status()).and(", the credential is refused, as the file knows it"))
}

#[async_trait]
impl System for Client {
    fn name(&self) -> &str {
        &self.name
    }

    fn kind(&self) -> Kind {
        Kind::Connector
    }

    fn endpoints(&self, _spec: &Spec, step: Step) -> &[&'static str] {
        fn of<'a>(calls: &'a [[&'static str; 1]], place: usize) -> &'a [&'static str] {
            calls.get(place).map(|name| &name[..]).unwrap_or_default()
        }
        match step.name {
            StepName::Resolve => of(&self.reads, 0),
            StepName::ConnectorAct => of(&self.acts, step.place()),
            _ => of(&self.reads, step.place()),
        }
    }

    fn credential(&self) -> &Credential {
        &self.credential
    }

    async fn call(&self, call: Call<'_>) -> Result<Answer, Failure> {
        let Spec::Connector { identifiers, proofs } = &call.target.spec else { return Err(not_a_step()) };
        let facts = &call.facts.of_connector;
        let values = OfJob {
            installed: self.installed(),
            identifiers,
            proofs,
            facts,
            names: &self.given.plan.facts,
            item: self.item(call.step, facts),
        };
        let file = &self.given.file;
        match call.step.name {
            StepName::Resolve => self.read(file.reads.first().ok_or_else(not_a_step)?, &values).await,
            StepName::ConnectorRead | StepName::ConnectorReadBack => {
                self.read(file.reads.get(call.step.place()).ok_or_else(not_a_step)?, &values).await
            }
            StepName::ConnectorAct => self.act(file.acts.get(call.step.place()).ok_or_else(not_a_step)?, &values).await,
            _ => Err(not_a_step()),
        }
    }

    /// The file's own harmless call. With a person who always exists that person must be found too, which proves the
    /// credential.
    async fn probe(&self) -> Result<(), Failure> {
        let probe = &self.given.file.probe;
        let request = self.request(&probe.call, &self.installed())?;
        let reply = self.http.exchange(request, Effect::Read).await?;
        if matches(&probe.ok, &understandable(&reply), &self.installed()) != Truth::True {
            let known = unmatched(&reply, Effect::Read);
            return Err(match known.kind {
                FailureKind::RateLimited | FailureKind::Unavailable | FailureKind::UnauthorisedOurs => known,
                _ => Failure::new(FailureKind::UnauthorisedOurs, Reason::SystemUnavailable).with_note(
                    Note::http(reply.status())
                        .and(", not the reply that the file names: are settings and secrets right?"),
                ),
            });
        }
        let Some(person) = self.given.file.reads.first().filter(|_| !self.given.probe_subject.is_empty()) else {
            return Ok(());
        };
        let values = OfJob {
            installed: self.installed(),
            identifiers: &self.given.probe_subject,
            proofs: &Default::default(),
            facts: &[],
            names: &self.given.plan.facts,
            item: None,
        };
        match self.read(person, &values).await?.means() {
            Some(Means::Found(Identity::Same | Identity::Unreadable)) => Ok(()),
            _ => Err(Failure::new(FailureKind::UnauthorisedOurs, Reason::SystemUnavailable)
                .with_note("probe_subject is not found: are settings, secrets and probe_subject right?")),
        }
    }

    fn probe_endpoints(&self) -> &[&'static str] {
        &self.probe
    }
}
