//! A shop account at EasyCMS.

use erasure_worker::job::{Answer, At, FailureKind, Identity, Job, Reason, Spec, Step, StepName, TargetState};
use secrecy::ExposeSecret;

use super::{Change, Changed, Said, World, absence, fails};

/// The right password.
pub const PASSWORD: &str = "right";

/// The account.
#[derive(Debug, Clone)]
pub struct EasyCms {
    pub exists: bool,
    pub deleted: Change,
    /// The shop's mail check fails this many times.
    pub mail_trouble: u32,
    /// The account is now another person's, with another password.
    pub stranger: bool,
}

impl EasyCms {
    pub fn account() -> EasyCms {
        EasyCms { exists: true, deleted: Change::default(), mail_trouble: 0, stranger: false }
    }

    /// With this change.
    pub fn but(mut self, change: impl FnOnce(&mut EasyCms)) -> EasyCms {
        change(&mut self);
        self
    }
}

impl World for EasyCms {
    fn call(&mut self, now: At, job: &Job, step: Step, _: &TargetState) -> Said {
        let Spec::EasyCms { customer_password, .. } = &job.targets[0].spec else { panic!("not of EasyCMS") };
        match step.name {
            StepName::Resolve | StepName::ReadBack => {
                Ok(if self.exists && !self.deleted.shows(now) { Answer::Found(Identity::Same) } else { absence(true) })
            }
            StepName::DeleteAccount => {
                if self.mail_trouble > 0 {
                    self.mail_trouble -= 1;
                    return fails(FailureKind::Unreadable, Reason::EmailNotValid);
                }
                let password = customer_password.as_ref().expect("never called without a password").expose_secret();
                if !self.exists || self.deleted.is_made() || password != PASSWORD || self.stranger {
                    return Ok(Answer::Unclear(Reason::WrongCustomerPassword));
                }
                self.deleted.make(now);
                Ok(Answer::Done)
            }
            _ => panic!("not a step of EasyCMS"),
        }
    }

    fn is_gone(&self) -> bool {
        !self.exists || self.deleted.is_made()
    }

    fn change(&mut self, now: At, changed: Changed) -> bool {
        if !self.exists || self.deleted.is_made() {
            return false;
        }
        match changed {
            Changed::Stranger => self.stranger = true,
            Changed::Gone => self.deleted = Change { made_at: Some(now), lag: std::time::Duration::ZERO },
            // An account is one e-mail address: with another address it is another account.
            _ => return false,
        }
        true
    }

    fn copy(&self) -> Box<dyn World> {
        Box::new(self.clone())
    }
}
