//! A help desk behind a connector: a person with sessions, whom it deletes in one step or in two.

use std::sync::Arc;

use erasure_worker::job::plan::Lost;
use erasure_worker::job::{
    Absence, Answer, At, Fact, FailureKind, Identity, InputKind, Job, Means, Plan, Reading, Reason, Spec, Step,
    StepName, TargetState,
};
use secrecy::ExposeSecret;

use super::{Change, Changed, Said, World, fails, theirs};

/// The right password.
pub const PASSWORD: &str = "right";

/// The help desk. It knows the calls of a plan by their names.
#[derive(Debug, Clone)]
pub struct Desk {
    pub plan: Arc<Plan>,
    pub exists: bool,
    pub shown_as: Identity,
    /// The sessions by id, with their ends.
    pub sessions: Vec<(String, Change)>,
    /// The change that `soft_delete`, `delete` and `request` make.
    pub deleted: Change,
    /// The change that `purge` makes.
    pub purged: Change,
    /// The address or the credential has never found anybody.
    pub is_unproven: bool,
    /// This many answers to acts decide nothing, and nothing is done.
    pub unclear: u32,
    /// A task that is done says so in the first reply.
    pub is_quick: bool,
    /// The tasks so far.
    pub tasks: u32,
    /// The calls that were made twice although the plan excludes it.
    pub twice: bool,
    /// A session was ended that was not in the list.
    pub astray: bool,
}

impl Desk {
    pub fn new(plan: &Arc<Plan>, sessions: usize) -> Desk {
        Desk {
            plan: Arc::clone(plan),
            exists: true,
            shown_as: Identity::Same,
            sessions: (0..sessions).map(|id| (format!("s{id}"), Change::default())).collect(),
            deleted: Change::default(),
            purged: Change::default(),
            is_unproven: false,
            unclear: 0,
            is_quick: false,
            tasks: 0,
            twice: false,
            astray: false,
        }
    }

    /// With this change.
    pub fn but(mut self, change: impl FnOnce(&mut Desk)) -> Desk {
        change(&mut self);
        self
    }

    fn says(&self, means: Means) -> Said {
        self.says_with(means, Vec::new())
    }

    fn says_with(&self, means: Means, facts: Vec<(u16, Fact)>) -> Said {
        Ok(Answer::Connector(Reading { shape: self.plan.shape(), means, is_bare: false, facts }))
    }

    /// A 404 that the plan takes for this.
    fn bare(&self, means: Means) -> Said {
        if self.is_unproven {
            return Ok(Answer::Unclear(Reason::Unproven));
        }
        Ok(Answer::Connector(Reading { shape: self.plan.shape(), means, is_bare: true, facts: Vec::new() }))
    }

    fn fact_place(&self, name: &str) -> u16 {
        self.plan.facts.iter().position(|fact| fact == name).unwrap() as u16
    }

    fn has_act(&self, name: &str) -> bool {
        self.plan.acts.iter().any(|act| act.name == name)
    }

    fn session(&mut self, step: Step, state: &TargetState) -> Option<&mut Change> {
        let name = &state.findings.list(self.fact_place("sessions")).unwrap()[step.member() as usize];
        self.sessions.iter_mut().find(|(id, _)| id == name).map(|(_, ended)| ended)
    }

    fn read(&mut self, now: At, step: Step, name: &str, state: &TargetState) -> Said {
        let gone = Means::Gone(Absence::vouched());
        let (is_deleted, is_purged) = (self.deleted.shows(now), self.purged.shows(now));
        match name {
            "person" if !self.exists || is_purged => self.bare(gone),
            "person" if is_deleted && !self.has_act("purge") => self.bare(gone),
            "person" => self.says(Means::Found(self.shown_as)),
            "sessions" if !self.exists => self.bare(gone),
            "sessions" => {
                // The newest first, as vendors list them.
                let open = self.sessions.iter().rev().filter(|(_, ended)| !ended.shows(now));
                let open = open.map(|(id, _)| id.clone()).collect();
                self.says_with(Means::Found(Identity::Same), vec![(self.fact_place("sessions"), Fact::List(open))])
            }
            "session" => match self.session(step, state).map(|ended| ended.shows(now)) {
                Some(false) => self.says(Means::NotDone),
                Some(true) => self.says(Means::Done),
                None => self.bare(gone),
            },
            // An active person, and one who never was, give the same 404 in the bin.
            "bin" if is_deleted && !is_purged => self.says(Means::Found(Identity::Same)),
            "bin" => self.bare(gone),
            "inactive" if is_purged || !self.exists => self.bare(Means::Done),
            "inactive" if is_deleted => self.says(Means::Done),
            "inactive" => self.says(Means::NotDone),
            "task" => {
                assert!(state.findings.fact(self.fact_place("task"), step.member()).is_some(), "a task without an id");
                self.says(if is_deleted { Means::Done } else { Means::Pending })
            }
            _ => panic!("no such read"),
        }
    }

    fn act(&mut self, now: At, step: Step, name: &str, state: &TargetState) -> Said {
        if self.unclear > 0 {
            self.unclear -= 1;
            return Ok(Answer::Unclear(Reason::UnreadableReply));
        }
        match name {
            "end_session" => {
                let Some(ended) = self.session(step, state) else {
                    self.astray = true;
                    return self.says(Means::Done);
                };
                let before = ended.is_made();
                ended.make(now);
                self.says(if before { Means::DoneBefore } else { Means::Done })
            }
            "soft_delete" => {
                self.deleted.make(now);
                self.says(Means::Accepted)
            }
            "purge" if !self.deleted.shows(now) => fails(FailureKind::Refused, Reason::RequestRejected),
            "purge" => {
                self.purged.make(now);
                self.says(Means::Accepted)
            }
            "delete" => {
                let act = &self.plan.acts[step.place()];
                self.twice |= self.deleted.is_made() && self.exists && act.lost == Lost::Unproven;
                self.deleted.make(now);
                self.says(Means::Done)
            }
            "request" => {
                self.tasks += 1;
                self.deleted.make(now);
                let task = Fact::Text(format!("task-{}", self.tasks));
                let means = if self.is_quick { Means::Done } else { Means::Accepted };
                self.says_with(means, vec![(self.fact_place("task"), task)])
            }
            _ => panic!("no such act"),
        }
    }
}

impl World for Desk {
    fn call(&mut self, now: At, job: &Job, step: Step, state: &TargetState) -> Said {
        let plan = Arc::clone(&self.plan);
        match step.name {
            StepName::Resolve => self.read(now, step, &plan.reads[0].name, state),
            StepName::ConnectorRead | StepName::ConnectorReadBack => {
                self.read(now, step, &plan.reads[step.place()].name, state)
            }
            StepName::ConnectorAct => {
                let act = &plan.acts[step.place()];
                if let Some(proof) = act.proof {
                    let Spec::Connector { proofs, .. } = &job.targets[0].spec else { panic!("not a connector's") };
                    let given = proofs.get(&plan.proofs[proof].0).expect("never called without its proof");
                    if given.expose_secret() != PASSWORD {
                        return theirs(InputKind::CustomerPassword);
                    }
                }
                self.act(now, step, &act.name, state)
            }
            _ => panic!("not a connector's step"),
        }
    }

    fn is_gone(&self) -> bool {
        let sessions = !self.has_act("end_session") || self.sessions.iter().all(|(_, ended)| ended.is_made());
        let purged = !self.has_act("purge") || self.purged.is_made();
        let only_sessions = self.plan.acts.iter().all(|act| act.name == "end_session");
        !self.exists || (sessions && purged && (self.deleted.is_made() || only_sessions))
    }

    fn harm(&self) -> Option<&'static str> {
        if self.astray {
            return Some("a session was ended that is not in the list");
        }
        self.twice.then_some("a deletion was made twice")
    }

    fn change(&mut self, now: At, changed: Changed) -> bool {
        if !self.exists || self.deleted.is_made() {
            return false;
        }
        match changed {
            Changed::Stranger => self.shown_as = Identity::Other,
            Changed::More => self.sessions.push((format!("s{}", self.sessions.len()), Change::default())),
            Changed::Gone => {
                self.exists = false;
                self.deleted = Change { made_at: Some(now), lag: std::time::Duration::ZERO };
            }
            _ => return false,
        }
        true
    }

    fn copy(&self) -> Box<dyn World> {
        Box::new(self.clone())
    }
}
