//! A VitalSource user with codes and licences.

use std::time::Duration;

use erasure_worker::job::{
    Answer, At, CodeState, FailureKind, Field, Identity, Job, Reason, Spec, Step, StepName, TargetState, flow,
};

use super::{Change, Changed, Said, World, absence, fails};

/// The effect of a revoke, and its reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Revokes {
    /// It revokes the code and says so.
    Well,
    /// An error 1005…, but the content is gone.
    UnclearGone,
    /// An error 1005…, and the content stays.
    UnclearKept,
    /// The key has no permission.
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
    /// The time for which a revoked code's licence is still listed.
    pub licence_lag: Duration,
    pub revoked_at: At,
    /// The fields that identify the person and were not overwritten.
    pub fields: Vec<Field>,
    /// The latest overwrite, and its fields. Until it shows, reads show the person's own values.
    pub overwritten: Change,
    pub written: Vec<Field>,
    /// The GUID that the reference leads to. The person's own is `G-1`.
    pub leads_to: Option<&'static str>,
    /// The requester's endpoint does not answer.
    pub deaf: bool,
    /// This many overwrites, and this many revokes, are answered as done but have no effect.
    pub puts_lost: u32,
    pub revokes_lost: u32,
    /// The user was overwritten while content was left.
    pub orphaned: bool,
    /// Another person's record was changed.
    pub harmed: bool,
}

impl VitalSource {
    /// A user with this many codes.
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
            written: Vec::new(),
            leads_to: Some("G-1"),
            deaf: false,
            puts_lost: 0,
            revokes_lost: 0,
            orphaned: false,
            harmed: false,
        }
    }

    /// With this change.
    pub fn but(mut self, change: impl FnOnce(&mut VitalSource)) -> VitalSource {
        change(&mut self);
        self
    }

    fn revoke(&mut self, now: At, item: usize) -> Said {
        let code = &mut self.codes[item];
        if code.state == CodeState::Active && self.revokes_lost > 0 {
            self.revokes_lost -= 1;
            return Ok(Answer::Done);
        }
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

    /// The fields that show the person's own values.
    fn shown(&self, now: At) -> Vec<Field> {
        let old = |field: &Field| self.written.contains(field) && !self.overwritten.shows(now);
        Field::ALL.into_iter().filter(|field| self.fields.contains(field) || old(field)).collect()
    }

    fn is_active(code: &Coupon) -> bool {
        code.state == CodeState::Active
    }
}

/// The GUID that a call is addressed to: the engine has it from the first read.
fn addressed(state: &TargetState) -> String {
    match state.get(Step::one(StepName::Resolve)).and_then(|state| state.answer.as_ref()) {
        Some(Answer::User { guid, .. }) => guid.clone(),
        _ => state.guid().expect("addressed before the user was read").to_owned(),
    }
}

impl World for VitalSource {
    fn call(&mut self, now: At, job: &Job, step: Step, state: &TargetState) -> Said {
        let Spec::VitalSource { guid, overwrite, .. } = &job.targets[0].spec else { panic!("not of VitalSource") };
        let by_reference = guid.is_none();
        let item = step.item as usize;
        match step.name {
            StepName::Resolve => {
                let guid = if by_reference { self.leads_to } else { Some("G-1") };
                let Some(guid) = guid.filter(|_| self.exists) else {
                    return Ok(absence(self.proven));
                };
                self.proven = true;
                let (guid, email) = (guid.to_owned(), Some("ann@example.com".to_owned()));
                Ok(Answer::User { identity: self.identity, guid, email, fields: self.shown(now) })
            }
            StepName::ReadCode | StepName::ReadBackCode => {
                let code = &self.codes[item];
                Ok(Answer::Code { state: code.state, owner: code.owner })
            }
            StepName::RevokeCode => {
                let code = &self.codes[item];
                self.harmed |= VitalSource::is_active(code) && code.owner == Identity::Other;
                self.revoke(now, item)
            }
            StepName::CheckLicenses => {
                let active = self.codes.iter().filter(|code| VitalSource::is_active(code)).count();
                let lingers = now < self.revoked_at.plus(self.licence_lag);
                let unexpired = active as u32 + u32::from(self.unknown_licence) + u32::from(lingers);
                Ok(Answer::Licenses { unexpired })
            }
            StepName::OverwriteUser => {
                let fields = flow::fields_to_overwrite(state, overwrite);
                if fields.is_empty() {
                    return fails(FailureKind::Rejected, Reason::RequestRejected);
                }
                if addressed(state) != "G-1" {
                    self.harmed = true;
                    return Ok(Answer::Done);
                }
                if self.puts_lost > 0 {
                    self.puts_lost -= 1;
                    return Ok(Answer::Done);
                }
                self.orphaned |= self.unknown_licence || self.codes.iter().any(VitalSource::is_active);
                self.overwritten = Change { made_at: Some(now), lag: self.overwritten.lag };
                self.fields.retain(|field| !fields.contains(field));
                self.written = fields;
                Ok(Answer::Done)
            }
            StepName::ReadBack => {
                if !self.exists || addressed(state) != "G-1" {
                    return Ok(absence(self.proven));
                }
                let fields = flow::fields_to_overwrite(state, overwrite);
                let mut own = self.shown(now);
                own.retain(|field| *field != Field::Reference || fields.contains(field));
                let left: Vec<Field> = own.iter().copied().filter(|field| !fields.contains(field)).collect();
                Ok(if left.is_empty() {
                    Answer::Values { stand: own.is_empty() }
                } else {
                    Answer::Left { fields: left }
                })
            }
            StepName::TellRequester if self.deaf => fails(FailureKind::Unavailable, Reason::SystemUnavailable),
            StepName::TellRequester => Ok(Answer::Done),
            _ => panic!("not a step of VitalSource"),
        }
    }

    fn is_gone(&self) -> bool {
        let nothing_left = !self.codes.iter().any(VitalSource::is_active) && !self.unknown_licence;
        let anonymous = self.fields.iter().all(|field| *field == Field::Reference);
        nothing_left && (!self.exists || anonymous)
    }

    fn harm(&self) -> Option<&'static str> {
        let orphaned = "the user was overwritten, and nobody can find the content that is left";
        let harmed = "something was taken from another person";
        [(self.orphaned, orphaned), (self.harmed, harmed)].into_iter().find_map(|(is, what)| is.then_some(what))
    }

    fn change(&mut self, _: At, changed: Changed) -> bool {
        if !self.exists {
            return false;
        }
        match changed {
            Changed::Names => {
                let new = [Field::FirstName, Field::LastName].into_iter().filter(|new| !self.fields.contains(new));
                let new: Vec<Field> = new.collect();
                self.fields.extend(new);
            }
            // An overwritten user can get nothing new.
            Changed::More if self.overwritten.is_made() => return false,
            Changed::More => self.unknown_licence = true,
            Changed::Merged => self.leads_to = Some("G-2"),
            Changed::Stranger => {
                self.leads_to = Some("G-3");
                // The codes are the other person's too.
                self.codes.iter_mut().for_each(|code| code.owner = Identity::Other);
            }
            Changed::Renamed => self.leads_to = None,
            Changed::Gone => {
                self.exists = false;
                self.codes.iter_mut().for_each(|code| code.state = CodeState::Cancelled);
                self.unknown_licence = false;
            }
            Changed::Email => return false,
        }
        true
    }

    fn copy(&self) -> Box<dyn World> {
        Box::new(self.clone())
    }
}
