//! A Cleeng customer.

use std::time::Duration;

use erasure_worker::job::{
    Answer, At, Entitlement, FailureKind, Identity, InputKind, Job, Reason, Spec, Step, StepName, TargetState,
};

use super::{Change, Changed, Said, World, absence, fails, theirs};

/// The effect of a termination, and its reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ends {
    /// It ends the entitlement and says so; also if that had ended before.
    Well,
    /// It ends the entitlement; a repeat is an error.
    Once,
    /// It ends the entitlement, with an unclear reply.
    Vaguely,
    /// It has no effect, and the reply is unclear.
    NotSaying,
    /// An app store manages the entitlement.
    Refused,
}

/// An entitlement.
#[derive(Debug, Clone)]
pub struct Row {
    pub ends: Ends,
    pub ended: Change,
    /// MediaStore does not list it.
    pub hidden: bool,
}

/// The customer.
#[derive(Debug, Clone)]
pub struct Cleeng {
    pub exists: bool,
    /// The result of comparing the record's e-mail.
    pub email: Identity,
    pub shared: bool,
    pub rows: Vec<Row>,
    pub deleted: Change,
    /// The identity in a read of a deleted customer; `None` for 404.
    pub reads_as: Option<Identity>,
    /// The customer's own token is refused.
    pub stale_token: bool,
    pub proven: bool,
    /// Another customer has the job's e-mail address.
    pub elsewhere: bool,
    /// The record is now another person's, and the number of destructive calls since then.
    pub stranger: bool,
    pub harmed: u32,
}

impl Cleeng {
    /// A customer with this many entitlements.
    pub fn with(rows: usize) -> Cleeng {
        let row = Row { ends: Ends::Well, ended: Change::default(), hidden: false };
        Cleeng {
            exists: true,
            email: Identity::Same,
            shared: false,
            rows: vec![row; rows],
            deleted: Change::default(),
            reads_as: None,
            stale_token: false,
            proven: false,
            elsewhere: false,
            stranger: false,
            harmed: 0,
        }
    }

    /// With this change.
    pub fn but(mut self, change: impl FnOnce(&mut Cleeng)) -> Cleeng {
        change(&mut self);
        self
    }

    /// Ended entitlements and the deletion show only after this time.
    pub fn slow(self, lag: Duration) -> Cleeng {
        self.but(|world| {
            world.deleted = Change::after(lag);
            world.rows.iter_mut().for_each(|row| row.ended = Change::after(lag));
        })
    }

    fn read(&mut self, now: At) -> Answer {
        let gone = absence(self.proven);
        if !self.exists {
            return gone;
        }
        if self.deleted.shows(now) {
            return self.reads_as.map_or(gone, Answer::Found);
        }
        self.proven = true;
        Answer::Found(self.email)
    }

    fn find(&mut self, now: At) -> Answer {
        let is_theirs = self.exists && !self.deleted.shows(now) && self.email == Identity::Same;
        if !is_theirs && !self.elsewhere {
            return absence(self.proven);
        }
        self.proven = true;
        Answer::Found(if is_theirs { Identity::Same } else { Identity::Other })
    }

    fn list(&self, now: At, from_mediastore: bool) -> Answer {
        let left_out = |row: &Row| row.ended.shows(now) || (from_mediastore && row.hidden);
        let rows = self.rows.iter().enumerate().filter(|(_, row)| !left_out(row));
        Answer::Entitlements(rows.map(|(index, row)| entitlement(index, row)).collect())
    }

    fn end(&mut self, now: At, offer: &str) -> Said {
        let Some((_, row)) = self.rows.iter_mut().enumerate().find(|(index, _)| offer_of(*index) == offer) else {
            return fails(FailureKind::Refused, Reason::ActiveEntitlement);
        };
        let was_ended = row.ended.is_made();
        match row.ends {
            Ends::Refused => return fails(FailureKind::Refused, Reason::ExternallyManaged),
            Ends::Once if was_ended => return fails(FailureKind::Refused, Reason::ActiveEntitlement),
            Ends::NotSaying => return Ok(Answer::Unclear(Reason::ActiveEntitlement)),
            Ends::Well | Ends::Once | Ends::Vaguely => row.ended.make(now),
        }
        Ok(if row.ends == Ends::Vaguely { Answer::Unclear(Reason::ActiveEntitlement) } else { Answer::Done })
    }
}

fn offer_of(index: usize) -> String {
    format!("S{index}_offer")
}

fn entitlement(index: usize, row: &Row) -> Entitlement {
    Entitlement {
        offer_id: offer_of(index),
        status: "active".to_owned(),
        gives_access: true,
        externally_managed: row.ends == Ends::Refused,
        is_pass: false,
        id: None,
    }
}

impl World for Cleeng {
    fn call(&mut self, now: At, job: &Job, step: Step, state: &TargetState) -> Said {
        let by_token = matches!(job.targets[0].spec, Spec::CleengMediastore { .. });
        match step.name {
            StepName::Resolve if step.item > 0 => Ok(self.find(now)),
            StepName::Resolve | StepName::ReadBack => Ok(self.read(now)),
            StepName::ListEntitlements if by_token && step.item == 0 => {
                if self.stale_token {
                    theirs(InputKind::CustomerToken)
                } else {
                    Ok(self.list(now, true))
                }
            }
            StepName::ListEntitlements => Ok(self.list(now, false)),
            StepName::TerminateEntitlement => {
                self.harmed += u32::from(self.stranger);
                let offer = state.entitlements[step.item as usize].offer_id.clone();
                self.end(now, &offer)
            }
            StepName::DeleteCustomer => {
                self.harmed += u32::from(self.stranger);
                if !self.exists || self.shared || self.deleted.is_made() {
                    return Ok(Answer::Unclear(Reason::SharedCustomer));
                }
                if self.rows.iter().any(|row| !row.ended.is_made()) {
                    return fails(FailureKind::Refused, Reason::ActiveEntitlement);
                }
                self.deleted.make(now);
                Ok(Answer::Done)
            }
            _ => panic!("not a step of Cleeng"),
        }
    }

    fn is_gone(&self) -> bool {
        !self.elsewhere && (!self.exists || self.deleted.is_made()) && self.rows.iter().all(|row| row.ended.is_made())
    }

    fn harm(&self) -> Option<&'static str> {
        (self.harmed > 0).then_some("something was taken from another person")
    }

    fn change(&mut self, now: At, changed: Changed) -> bool {
        if !self.exists || self.deleted.is_made() {
            return false;
        }
        match changed {
            Changed::Email => self.email = Identity::Other,
            Changed::More => self.rows.push(Row { ends: Ends::Well, ended: Change::default(), hidden: false }),
            Changed::Stranger => (self.email, self.stranger) = (Identity::Other, true),
            Changed::Gone => {
                self.deleted = Change { made_at: Some(now), lag: Duration::ZERO };
                self.rows.iter_mut().for_each(|row| row.ended = Change { made_at: Some(now), lag: Duration::ZERO });
            }
            // A customer merged into another record reads as gone. Cleeng has no names.
            Changed::Merged | Changed::Names | Changed::Renamed => return false,
        }
        true
    }

    fn copy(&self) -> Box<dyn World> {
        Box::new(self.clone())
    }
}
