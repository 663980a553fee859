//! A broker and two systems that live in the test.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use erasure_worker::broker::{
    Broker, Control, DeadLetter, Delivery, Destination, Link, Lost, Place, Properties, Publication, PublishError,
    Settle, Verdict, Via,
};
use erasure_worker::job::{
    Absence, Answer, CodeState, Failure, FailureKind, Identity, Kind, Reason, Spec, Step, StepName,
};
use erasure_worker::systems::{Call, Credential, System};
use secrecy::ExposeSecret as _;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

/// Longer than anything takes on a busy machine.
pub const HANGS: std::time::Duration = std::time::Duration::from_secs(60);

/// A message as it is to be delivered.
#[derive(Clone)]
struct Message {
    publication: Publication,
    via: Via,
    redelivered: bool,
}

/// A control stream; more than one broker may share it.
pub type Stream = watch::Sender<Vec<(Properties, Bytes)>>;

pub struct TestBroker {
    /// What every worker reads.
    pub control: Stream,
    /// Says no to every publish to the control stream.
    pub refuses_control: watch::Sender<bool>,
    /// Says no to every publish of an event.
    pub refuses_events: watch::Sender<bool>,
    /// Gives nothing of the control stream.
    pub keeps_control: watch::Sender<bool>,
    /// How often a job was asked for.
    pub asked: std::sync::atomic::AtomicUsize,
    sender: mpsc::UnboundedSender<Message>,
    receiver: tokio::sync::Mutex<mpsc::UnboundedReceiver<Message>>,
    given_back: watch::Sender<Vec<Message>>,
    pub letters: Mutex<Vec<DeadLetter>>,
    published: watch::Sender<Vec<Publication>>,
    pub link: watch::Sender<Link>,
    pub depths: Mutex<BTreeMap<String, u64>>,
    /// Says no to every publish of a verdict.
    pub refuses: Mutex<bool>,
    stopped: CancellationToken,
}

/// Keeps what is given back until the test delivers it again.
struct Shelf {
    message: Message,
    given_back: watch::Sender<Vec<Message>>,
}

#[async_trait]
impl Settle for Shelf {
    async fn ack(self: Box<Self>) -> Result<(), Lost> {
        Ok(())
    }
    async fn requeue(self: Box<Self>) -> Result<(), Lost> {
        let Shelf { message, given_back } = *self;
        given_back.send_modify(|all| all.push(message));
        Ok(())
    }
}

impl TestBroker {
    pub fn new() -> Arc<TestBroker> {
        TestBroker::with_control(&Stream::new(Vec::new()))
    }

    /// One that shares the control stream of another.
    pub fn with_control(control: &Stream) -> Arc<TestBroker> {
        let (sender, receiver) = mpsc::unbounded_channel();
        Arc::new(TestBroker {
            control: control.clone(),
            refuses_events: watch::Sender::new(false),
            refuses_control: watch::Sender::new(false),
            keeps_control: watch::Sender::new(false),
            asked: std::sync::atomic::AtomicUsize::new(0),
            sender,
            receiver: tokio::sync::Mutex::new(receiver),
            letters: Mutex::default(),
            given_back: watch::Sender::new(Vec::new()),
            published: watch::Sender::new(Vec::new()),
            link: watch::Sender::new(Link::Up),
            depths: Mutex::default(),
            refuses: Mutex::new(false),
            stopped: CancellationToken::new(),
        })
    }

    /// Sends a message as a publisher does.
    pub fn send(&self, properties: Properties, body: impl Into<Bytes>) {
        let publication = Publication { to: Destination::Requests, properties, body: body.into() };
        self.deliver(publication, Via::Requests);
    }

    fn deliver(&self, publication: Publication, via: Via) {
        self.sender.send(Message { publication, via, redelivered: false }).unwrap();
    }

    /// A parked copy comes back from its wait.
    pub fn come_back(&self, copy: &Publication) {
        self.deliver(copy.clone(), Via::Resume);
    }

    /// Waits until a delivery was given back.
    pub async fn given_back(&self) {
        let mut all = self.given_back.subscribe();
        let waited = tokio::time::timeout(HANGS, all.wait_for(|all| !all.is_empty())).await;
        drop(waited.expect("nothing is given back").unwrap());
    }

    /// Delivers once more what was given back.
    pub fn redeliver(&self) {
        for message in self.given_back.send_replace(Vec::new()) {
            self.sender.send(Message { redelivered: true, ..message }).unwrap();
        }
    }

    /// Waits for the copy number `n` of a job's that is parked.
    pub async fn parked(&self, job_id: &str, n: usize) -> Publication {
        let mut all = self.published.subscribe();
        let of = |all: &Vec<Publication>| {
            let is_copy = |one: &&Publication| {
                let named = one.properties.headers.get("x-erasure-job-id").and_then(|id| id.as_text());
                let is_its = named == Some(job_id);
                is_its && matches!(one.to, Destination::Wait(_))
            };
            all.iter().filter(is_copy).nth(n - 1).cloned()
        };
        let waited = tokio::time::timeout(HANGS, all.wait_for(|all| of(all).is_some())).await;
        let found = of(&waited.expect("it is never parked").unwrap());
        found.unwrap()
    }

    /// Waits until something was published that fits.
    pub async fn published(&self, mut fits: impl FnMut(&Publication) -> bool) -> Publication {
        let mut all = self.published.subscribe();
        // Only so that a promise broken for good does not hang the run.
        let waited = tokio::time::timeout(HANGS, all.wait_for(|all| all.iter().any(&mut fits))).await;
        let all = waited.expect("it is never published").unwrap();
        all.iter().rfind(|publication| fits(publication)).unwrap().clone()
    }

    /// What was published so far.
    pub fn all_published(&self) -> Vec<Publication> {
        self.published.borrow().clone()
    }

    /// Waits for an event of a job.
    pub async fn event(&self, what: &str, job_id: &str) -> serde_json::Value {
        let fits = |publication: &Publication| {
            matches!(&publication.to, Destination::Event { routing_key } if routing_key.starts_with(&format!("job.{what}.")))
                && String::from_utf8_lossy(&publication.body).contains(job_id)
        };
        serde_json::from_slice(&self.published(fits).await.body).unwrap()
    }
}

#[async_trait]
impl Broker for TestBroker {
    async fn next(&self) -> Option<Delivery> {
        self.asked.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        let mut receiver = self.receiver.lock().await;
        let message = tokio::select! {
            next = receiver.recv() => next?,
            () = self.stopped.cancelled() => return None,
        };
        let Message { publication, via, redelivered } = message.clone();
        Some(Delivery {
            message: erasure_worker::broker::Message {
                body: publication.body,
                properties: publication.properties,
                via,
                redelivered,
                lost: CancellationToken::new(),
                epoch: 1,
            },
            settle: Box::new(Shelf { message, given_back: self.given_back.clone() }),
        })
    }

    async fn next_control(&self, after: Option<Place>) -> Option<Control> {
        let offset = after.map_or(0, |after| after.offset() + 1);
        let place = usize::try_from(offset).unwrap();
        let mut keeps = self.keeps_control.subscribe();
        tokio::select! {
            kept = keeps.wait_for(|keeps| !keeps) => drop(kept.unwrap()),
            () = self.stopped.cancelled() => return None,
        }
        let mut stream = self.control.subscribe();
        let there = tokio::select! {
            there = stream.wait_for(|all| all.len() > place) => there.unwrap(),
            () = self.stopped.cancelled() => return None,
        };
        let (properties, body) = there[place].clone();
        Some(Control { offset, properties, body })
    }

    async fn publish(&self, publication: Publication) -> Result<(), PublishError> {
        match &publication.to {
            Destination::DeadLetter => {
                let letter = DeadLetter { properties: publication.properties.clone(), body: publication.body.clone() };
                self.letters.lock().unwrap().push(letter);
            }
            Destination::Resume => self.deliver(publication.clone(), Via::Resume),
            Destination::Requests => self.deliver(publication.clone(), Via::Requests),
            Destination::Event { .. } if *self.refuses_events.borrow() => return Err(PublishError::Refused),
            Destination::Control if *self.refuses_control.borrow() => return Err(PublishError::Refused),
            Destination::Control => {
                let Publication { properties, body, .. } = publication.clone();
                self.control.send_modify(|all| all.push((properties, body)));
            }
            _ => {}
        }
        self.published.send_modify(|all| all.push(publication));
        Ok(())
    }

    async fn pause_intake(&self) {}
    async fn resume_intake(&self) {}

    async fn stop_intake(&self) {
        self.stopped.cancel();
    }

    async fn dead_letters(
        &self,
        limit: usize,
        decide: &mut (dyn for<'a> FnMut(&'a DeadLetter) -> Verdict + Send),
    ) -> Result<usize, PublishError> {
        let letters = std::mem::take(&mut *self.letters.lock().unwrap());
        let mut kept = Vec::new();
        let mut outcome = Ok(());
        let looked_at = letters.len().min(limit);
        for (place, letter) in letters.into_iter().enumerate() {
            let verdict = if place < looked_at && outcome.is_ok() { decide(&letter) } else { Verdict::Keep };
            match verdict {
                Verdict::Keep => kept.push(letter),
                Verdict::Remove => {}
                Verdict::Replace(_) if *self.refuses.lock().unwrap() => {
                    outcome = Err(PublishError::Refused);
                    kept.push(letter);
                }
                Verdict::Replace(publication) => self.publish(*publication).await?,
            }
        }
        // What came in the meantime lies behind.
        self.letters.lock().unwrap().splice(0..0, kept);
        outcome.map(|()| looked_at)
    }

    async fn depth(&self, queue: &str) -> Option<u64> {
        if queue == "dead-letters" {
            return Some(self.letters.lock().unwrap().len() as u64);
        }
        self.depths.lock().unwrap().get(queue).copied()
    }

    fn link(&self) -> watch::Receiver<Link> {
        self.link.subscribe()
    }

    async fn close(&self) {}
}

/// A system that does what the first word of the e-mail says.
pub struct Shop {
    pub name: &'static str,
    pub kind: Kind,
    credential: Credential,
    /// How many calls wait at the door of `slow` ones.
    pub waiting: watch::Sender<usize>,
    pub door: CancellationToken,
    /// The word `rejected` fails until this is set.
    pub mended: Mutex<bool>,
    /// Our credential was refused once, by the word `held`: from then on it is refused to everybody.
    pub refuses: AtomicBool,
    /// Harmless reads.
    pub probes: watch::Sender<usize>,
}

impl Shop {
    pub fn new(name: &'static str, kind: Kind) -> Arc<Shop> {
        Arc::new(Shop {
            name,
            kind,
            credential: Credential::default(),
            waiting: watch::Sender::new(0),
            door: CancellationToken::new(),
            mended: Mutex::new(false),
            refuses: AtomicBool::new(false),
            probes: watch::Sender::new(0),
        })
    }
}

fn failure(kind: FailureKind, reason: Reason) -> Failure {
    Failure::new(kind, reason).with_note("HTTP 401")
}

#[async_trait]
impl System for Shop {
    fn name(&self) -> &str {
        self.name
    }

    fn kind(&self) -> Kind {
        self.kind
    }

    fn endpoints(&self, _spec: &Spec, _step: Step) -> &'static [&'static str] {
        &["all"]
    }

    fn credential(&self) -> &Credential {
        &self.credential
    }

    async fn call(&self, call: Call<'_>) -> Result<Answer, Failure> {
        let email = match &call.target.spec {
            Spec::EasyCms { email, .. } => email.expose_secret().to_owned(),
            Spec::VitalSource { .. } if call.step.name == StepName::ReadCode => {
                return Ok(Answer::Code { state: CodeState::Active, owner: Identity::Same });
            }
            Spec::VitalSource { guid, .. } => {
                let guid = guid.as_ref().unwrap().expose_secret().to_owned();
                let email = Some("planted.private@example.com".to_owned());
                return Ok(Answer::User { identity: Identity::Same, guid, email, fields: Vec::new() });
            }
            other => panic!("{other:?}"),
        };
        self.credential.prove();
        let is = |word: &str| email.starts_with(word);
        match call.step.name {
            StepName::Resolve if is("absent") => Ok(Answer::Missing(Absence::vouched())),
            StepName::Resolve if is("held") => {
                self.refuses.store(true, Ordering::Relaxed);
                Err(failure(FailureKind::UnauthorisedOurs, Reason::SystemUnavailable))
            }
            StepName::Resolve if is("flaky") => Err(failure(FailureKind::Unavailable, Reason::SystemUnavailable)),
            StepName::Resolve => {
                if is("slow") {
                    self.waiting.send_modify(|count| *count += 1);
                    self.door.cancelled().await;
                }
                Ok(Answer::Found(Identity::Same))
            }
            StepName::DeleteAccount if is("rejected") && !*self.mended.lock().unwrap() => {
                Err(failure(FailureKind::Rejected, Reason::RequestRejected))
            }
            StepName::DeleteAccount => Ok(Answer::Done),
            StepName::ReadBack if is("visible") => Ok(Answer::Found(Identity::Same)),
            StepName::ReadBack => Ok(Answer::Missing(Absence::vouched())),
            other => panic!("{other:?}"),
        }
    }

    async fn probe(&self) -> Result<(), Failure> {
        self.probes.send_modify(|count| *count += 1);
        if self.refuses.load(Ordering::Relaxed) {
            return Err(failure(FailureKind::UnauthorisedOurs, Reason::SystemUnavailable));
        }
        Ok(())
    }
}
