//! A member of a loyalty platform: profile, one-time passwords, and a row of a deletion file.

use erasure_worker::job::{
    Answer, At, FailureKind, Identity, InputKind, Job, Reason, RowState, Spec, Step, StepName, TargetState,
    flow::MemberProof,
};
use secrecy::{ExposeSecret, SecretString};

use super::{Change, Changed, Said, World, absence, fails, theirs};

/// The accepted token, and the right password.
pub const TOKEN: &str = "good";
pub const PASSWORD: &str = "right";

/// The member.
#[derive(Debug, Clone)]
pub struct Zeta {
    pub exists: bool,
    pub shown_as: Identity,
    pub deleted: Change,
    /// The program token has succeeded before, in this worker.
    pub proven: bool,
    /// The address is wrong: every Program call gives 404.
    pub wrong_address: bool,
    /// Another member has the same value as another kind of id.
    pub namesake: bool,
    pub proof: MemberProof,
    /// One-time passwords sent so far.
    pub sent: u32,
    /// The token is another member's.
    pub token_of_another: bool,
    /// The token ends with the member's deletion.
    pub token_dies: bool,
    pub row: Option<RowState>,
    /// The row in the import's result, and whether the import deletes.
    pub result: RowState,
    pub import_deletes: bool,
    /// The file is keyed by e-mail, by which no interface can read.
    pub by_mail: bool,
    /// The id now names another member, and the number of destructive calls since then.
    pub stranger: bool,
    pub harmed: u32,
}

impl Zeta {
    pub fn member() -> Zeta {
        Zeta {
            exists: true,
            shown_as: Identity::Same,
            deleted: Change::default(),
            proven: false,
            wrong_address: false,
            namesake: false,
            proof: MemberProof::Password,
            sent: 0,
            token_of_another: false,
            token_dies: false,
            row: None,
            result: RowState::Deleted,
            import_deletes: true,
            by_mail: false,
            stranger: false,
            harmed: 0,
        }
    }

    /// With this change.
    pub fn but(mut self, change: impl FnOnce(&mut Zeta)) -> Zeta {
        change(&mut self);
        self
    }

    /// The code in the message of this number.
    pub fn code(sent: u32) -> String {
        format!("code-{sent}")
    }

    fn is_there(&self) -> bool {
        self.exists && !self.deleted.is_made()
    }

    fn program_read(&mut self, now: At) -> Answer {
        let visible = self.exists && !self.deleted.shows(now);
        match (self.wrong_address, visible, self.namesake) {
            (true, ..) => Answer::Unclear(Reason::Unproven),
            (false, true, _) => {
                self.proven = true;
                Answer::Found(self.shown_as)
            }
            (false, false, true) => {
                self.proven = true;
                Answer::Found(Identity::Other)
            }
            (false, false, false) => absence(self.proven),
        }
    }

    fn accepts(&self, token: Option<&SecretString>) -> bool {
        token.is_some_and(|token| token.expose_secret() == TOKEN) && (self.is_there() || !self.token_dies)
    }

    fn delete_by_member(&mut self, now: At, spec: &Spec) -> Said {
        let Spec::LoyaltyMember { access_token, current_password, code, .. } = spec else { panic!("not by member") };
        if !self.accepts(access_token.as_ref()) {
            return theirs(InputKind::AccessToken);
        }
        let is = |given: &Option<SecretString>, right: &str| {
            given.as_ref().expect("never called without its proof").expose_secret() == right
        };
        match self.proof {
            MemberProof::Password if !is(current_password, PASSWORD) => {
                return fails(FailureKind::Rejected, Reason::WrongPassword);
            }
            MemberProof::Otp if !is(code, &Zeta::code(self.sent)) => return theirs(InputKind::Otp),
            MemberProof::Password | MemberProof::Otp | MemberProof::Token => {}
        }
        if !self.is_there() {
            return Ok(Answer::Unclear(Reason::Unproven));
        }
        self.deleted.make(now);
        Ok(Answer::Done)
    }
}

impl World for Zeta {
    fn call(&mut self, now: At, job: &Job, step: Step, _: &TargetState) -> Said {
        let spec = &job.targets[0].spec;
        match (step.name, spec) {
            (StepName::Resolve, Spec::LoyaltyMember { access_token, .. }) if step.item == 0 => {
                let accepted = self.accepts(access_token.as_ref());
                let shown = if self.token_of_another { Identity::Other } else { self.shown_as };
                if accepted { Ok(Answer::Found(shown)) } else { theirs(InputKind::AccessToken) }
            }
            (StepName::Resolve | StepName::ReadBack, _) => Ok(self.program_read(now)),
            (StepName::RequestOtp, Spec::LoyaltyMember { access_token, .. }) => {
                if !self.accepts(access_token.as_ref()) {
                    return theirs(InputKind::AccessToken);
                }
                self.sent += 1;
                Ok(Answer::Done)
            }
            (StepName::DeleteMember, Spec::LoyaltyMember { .. }) => self.delete_by_member(now, spec),
            (StepName::DeleteMember, _) => {
                self.harmed += u32::from(self.stranger);
                if self.wrong_address || !self.is_there() {
                    return Ok(Answer::Unclear(Reason::Unproven));
                }
                self.proven = true;
                self.deleted.make(now);
                Ok(Answer::Done)
            }
            (StepName::QueueImportRow, _) => {
                self.harmed += u32::from(self.stranger);
                if self.row != Some(RowState::Deleted) {
                    self.row = Some(RowState::Waiting);
                }
                Ok(Answer::Done)
            }
            (StepName::ImportResult, _) => Ok(Answer::Row(self.row.unwrap_or(RowState::Missing))),
            _ => panic!("not a step of Loyalty"),
        }
    }

    fn is_gone(&self) -> bool {
        !self.is_there()
    }

    fn operator(&mut self, now: At, kind: InputKind) {
        match kind {
            InputKind::ManualDeletion => self.deleted.make(now),
            InputKind::ImportResult if self.row == Some(RowState::Waiting) => {
                self.row = Some(self.result);
                if self.import_deletes {
                    self.deleted.make(now);
                }
            }
            _ => {}
        }
    }

    fn latest_code(&self) -> Option<String> {
        (self.sent > 0).then(|| Zeta::code(self.sent))
    }

    fn harm(&self) -> Option<&'static str> {
        (self.harmed > 0).then_some("another member was deleted")
    }

    fn change(&mut self, now: At, changed: Changed) -> bool {
        if !self.is_there() || self.wrong_address || self.by_mail {
            return false;
        }
        match changed {
            // The id leads to another record, which contains this member's too.
            Changed::Merged => self.shown_as = Identity::Other,
            Changed::Stranger => (self.shown_as, self.stranger) = (Identity::Other, true),
            Changed::Gone => self.deleted = Change { made_at: Some(now), lag: std::time::Duration::ZERO },
            Changed::Email | Changed::Names | Changed::More | Changed::Renamed => return false,
        }
        true
    }

    fn copy(&self) -> Box<dyn World> {
        Box::new(self.clone())
    }
}
