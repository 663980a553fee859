//! A VitalSource user with codes and licences.

use std::time::Duration;

use erasure_worker::job::{
    Answer, At, CodeState, FailureKind, Field, Identity, Job, Reason, Spec, Step, StepName, TargetState, flow,
};

use super::{Change, Said, World, fails};

/// How revoking a code goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Revokes {
    /// It is revoked, and said so.
    Well,
    /// An error 1005…: the content is gone all the same.
    UnclearGone,
    /// An error 1005…: the content stays.
    UnclearKept,
    /// The key may not.
    Forbidden,
}

/// A code.
#[derive(Debug, Clone)]
pub struct Coupon {
    pub state: CodeState,
    pub owner: Identity,
    pub revokes: Revokes,
}

/// The user.
#[derive(Debug, Clone)]
pub struct VitalSource {
    pub exists: bool,
    pub identity: Identity,
    pub proven: bool,
    pub codes: Vec<Coupon>,
    /// A licence that no code accounts for.
    pub unknown_licence: bool,
    /// How long a revoked code's licence is still listed.
    pub licence_lag: Duration,
    pub revoked_at: At,
    pub fields: Vec<Field>,
    pub overwritten: Change,
    /// The requester's endpoint is deaf.
    pub deaf: bool,
    /// The identifiers went while content was left.
    pub orphaned: bool,
}

impl VitalSource {
    /// A user with so many codes.
    pub fn with(codes: usize) -> VitalSource {
        let code = Coupon { state: CodeState::Active, owner: Identity::Same, revokes: Revokes::Well };
        VitalSource {
            exists: true,
            identity: Identity::Same,
            proven: false,
            codes: vec![code; codes],
            unknown_licence: false,
            licence_lag: Duration::ZERO,
            revoked_at: At(0),
            fields: vec![Field::FirstName, Field::Email],
            overwritten: Change::default(),
            deaf: false,
            orphaned: false,
        }
    }

    /// As told.
    pub fn but(mut self, change: impl FnOnce(&mut VitalSource)) -> VitalSource {
        change(&mut self);
        self
    }

    fn revoke(&mut self, now: At, item: usize) -> Said {
        let code = &mut self.codes[item];
        match (code.state, code.revokes) {
            (CodeState::Unknown, _) => Ok(Answer::Unclear(Reason::CodeNotRevoked)),
            (CodeState::Cancelled, _) => Ok(Answer::AlreadyDone),
            (CodeState::Active, Revokes::Forbidden) => fails(FailureKind::Refused, Reason::CodeNotRevoked),
            (CodeState::Active, Revokes::UnclearKept) => Ok(Answer::Unclear(Reason::CodeNotRevoked)),
            (CodeState::Active, revokes) => {
                code.state = CodeState::Cancelled;
                self.revoked_at = now;
                let unclear = revokes == Revokes::UnclearGone;
                Ok(if unclear { Answer::Unclear(Reason::CodeNotRevoked) } else { Answer::Done })
            }
        }
    }

    fn is_active(code: &Coupon) -> bool {
        code.state == CodeState::Active
    }
}

impl World for VitalSource {
    fn call(&mut self, now: At, job: &Job, step: Step, state: &TargetState) -> Said {
        let Spec::VitalSource { overwrite, .. } = &job.targets[0].spec else { panic!("not of VitalSource") };
        let item = step.item as usize;
        let to_write = |fields: &[Field]| flow::fields_to_overwrite(fields, overwrite);
        match step.name {
            StepName::Resolve if self.exists => {
                self.proven = true;
                let (guid, email) = ("G-1".to_owned(), Some("ann@example.com".to_owned()));
                Ok(Answer::User { identity: self.identity, guid, email, fields: self.fields.clone() })
            }
            StepName::Resolve => Ok(Answer::Missing { proven: self.proven }),
            StepName::ReadCode | StepName::ReadBackCode => {
                let code = &self.codes[item];
                Ok(Answer::Code { state: code.state, owner: code.owner })
            }
            StepName::RevokeCode => self.revoke(now, item),
            StepName::CheckLicenses => {
                let active = self.codes.iter().filter(|code| VitalSource::is_active(code)).count();
                let lingers = now < self.revoked_at.plus(self.licence_lag);
                let unexpired = active as u32 + u32::from(self.unknown_licence) + u32::from(lingers);
                Ok(Answer::Licenses { unexpired })
            }
            StepName::OverwriteUser => {
                if to_write(&self.fields).is_empty() {
                    return fails(FailureKind::Rejected, Reason::RequestRejected);
                }
                self.orphaned |= self.unknown_licence || self.codes.iter().any(VitalSource::is_active);
                self.overwritten.make(now);
                Ok(Answer::Done)
            }
            StepName::ReadBack => {
                let Some(Answer::User { fields, .. }) = &state.get(Step::one(StepName::Resolve)).unwrap().answer else {
                    panic!("read back before the user was read")
                };
                Ok(Answer::Values { stand: to_write(fields).is_empty() || self.overwritten.shows(now) })
            }
            StepName::TellRequester if self.deaf => fails(FailureKind::Unavailable, Reason::SystemUnavailable),
            StepName::TellRequester => Ok(Answer::Done),
            _ => panic!("not a step of VitalSource"),
        }
    }

    fn is_gone(&self) -> bool {
        let nothing_left = !self.codes.iter().any(VitalSource::is_active) && !self.unknown_licence;
        let anonymous = self.fields.iter().all(|field| *field == Field::Reference) || self.overwritten.is_made();
        nothing_left && (!self.exists || anonymous)
    }

    fn harm(&self) -> Option<&'static str> {
        self.orphaned.then_some("the user was overwritten while content was left that nobody finds any more")
    }

    fn copy(&self) -> Box<dyn World> {
        Box::new(self.clone())
    }
}
