//! A system in the test's process.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use erasure_worker::job::{
    Absence, Answer, CodeState, Failure, FailureKind, Identity, Kind, Reason, Spec, Step, StepName,
};
use erasure_worker::systems::{Call, Credential, System};
use secrecy::ExposeSecret as _;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// A system whose behaviour is the first word of the e-mail address.
pub struct Shop {
    pub name: &'static str,
    pub kind: Kind,
    credential: Credential,
    /// The number of `slow` calls that wait.
    pub waiting: watch::Sender<usize>,
    pub door: CancellationToken,
    /// The word `rejected` fails until this is set.
    pub mended: Mutex<bool>,
    /// The word `held` was called: our credential is refused for all persons from then on.
    pub refuses: AtomicBool,
    /// Harmless reads.
    pub probes: watch::Sender<usize>,
    /// The limit of each request of a harmless read.
    probe_endpoints: &'static [&'static str],
}

impl Shop {
    pub fn new(name: &'static str, kind: Kind) -> Arc<Shop> {
        Shop::probed_at(name, kind, &["all"])
    }

    pub fn probed_at(name: &'static str, kind: Kind, probe_endpoints: &'static [&'static str]) -> Arc<Shop> {
        Arc::new(Shop {
            name,
            kind,
            credential: Credential::default(),
            waiting: watch::Sender::new(0),
            door: CancellationToken::new(),
            mended: Mutex::new(false),
            refuses: AtomicBool::new(false),
            probes: watch::Sender::new(0),
            probe_endpoints,
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

    fn endpoints(&self, _spec: &Spec, _step: Step) -> &[&'static str] {
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

    fn probe_endpoints(&self) -> &[&'static str] {
        self.probe_endpoints
    }
}
