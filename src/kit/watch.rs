//! Watches a run: the calls as the vendor saw them, the calls in doubt, and what is left at the end.
//!
//! The rule it keeps: it judges by the original file, the vendor's state and the batches that survived.

use erasure_connector::Connector;
use erasure_connector::model::Lost;
use erasure_connector::stand_in::Part;

use super::vendor::{Behaviour, Made};
use crate::job::{Answer, Entry, Failure, FailureKind, Means, Step, StepName};

/// The words of a repeat without a read that settles the first call.
pub(super) const BLIND: &str = "is repeated blindly after a lost answer";

/// A call with an unknown effect, until a read settles it.
#[derive(Debug, Clone)]
struct Doubt {
    step: Step,
    /// The batch with its answer, if that survived.
    answered_in: Option<usize>,
    /// The answer settles the doubt.
    is_clear: bool,
    /// The batch with a later read.
    read_in: Option<usize>,
}

/// The doubts of a run.
#[derive(Debug, Default)]
pub(super) struct Watch {
    doubts: Vec<Doubt>,
}

impl Watch {
    /// The promise that a call would break.
    pub(super) fn before(&self, file: &Connector, step: Step, durable: &[Vec<Entry>]) -> Option<String> {
        if step.name != StepName::ConnectorAct {
            return None;
        }
        let name = file.acts.get(step.place()).map_or("?", |act| act.name.as_str());
        if !has_open_intent(durable, step) {
            return Some(format!("act.{name} is called without a durable intent"));
        }
        if was_taken(durable, step) {
            return Some(format!("act.{name} was answered as taken, and is repeated"));
        }
        let mut open = self.doubts.iter().filter(|doubt| doubt.step == step && !doubt.is_clear);
        let is_blind = match file.acts.get(step.place()).map(|act| &act.lost) {
            Some(Lost::Recognised | Lost::Harmless(_)) => false,
            Some(Lost::Read(_)) => open.any(|doubt| doubt.read_in.is_none()),
            _ => open.next().is_some(),
        };
        is_blind.then(|| format!("act.{name} {BLIND}"))
    }

    /// A call was made; its answer will be written as batch `batch`.
    pub(super) fn made(&mut self, file: &Connector, step: Step, said: &Result<Answer, Failure>, batch: usize) {
        if step.name == StepName::ConnectorAct {
            let is_clear = match said {
                Ok(answer) => is_taken(answer),
                Err(failure) => matches!(
                    failure.kind,
                    FailureKind::RateLimited
                        | FailureKind::UnauthorisedOurs
                        | FailureKind::UnauthorisedTheirs(_)
                        | FailureKind::Refused
                        | FailureKind::Rejected
                        | FailureKind::Unavailable
                ),
            };
            self.doubts.push(Doubt { step, answered_in: Some(batch), is_clear, read_in: None });
        } else if said.is_ok() {
            for doubt in self.doubts.iter_mut().filter(|doubt| doubt.read_in.is_none()) {
                let deciding = file.acts.get(doubt.step.place()).map(|act| &act.lost);
                let Some(Lost::Read(expect)) = deciding else { continue };
                let is_it = expect.iter().any(|one| one.read == step.place()) && step.member() == doubt.step.member();
                if is_it && step.name == StepName::ConnectorReadBack {
                    doubt.read_in = Some(batch);
                }
            }
        }
    }

    /// The process ended; this many batches are left.
    pub(super) fn died(&mut self, left: usize) {
        for doubt in &mut self.doubts {
            if doubt.answered_in.is_some_and(|batch| batch >= left) {
                (doubt.answered_in, doubt.is_clear) = (None, false);
            }
            if doubt.read_in.is_some_and(|batch| batch >= left) {
                doubt.read_in = None;
            }
        }
    }
}

/// What is wrong with the requests of one step: each step is one request, for its own part of the file, about the
/// person of the job, with the credential. Which member of a changed list a call is about follows from that list.
pub(super) fn of_requests(
    file: &Connector,
    step: Step,
    made: &[Made],
    person: Option<usize>,
    is_changed: bool,
) -> Option<String> {
    let part = match step.name {
        StepName::Resolve => Part::Read(0),
        StepName::ConnectorAct => Part::Act(step.place()),
        _ => Part::Read(step.place()),
    };
    let name = name(file, part);
    let is_listed = matches!(part, Part::Act(act) if file.acts.get(act).is_some_and(|act| act.each.is_some()));
    match made {
        // A value that cannot be sent: the client makes no call.
        [] => None,
        [made] if !made.parts.contains(&part) => Some(format!("the step {name} sends {}", made.names)),
        [made] if !made.is_authorised => Some(format!("{name} is sent without the right credential")),
        [_] if is_changed && is_listed => None,
        [made] if is_about_another(made, part, person) => Some(format!("{name} is about another person")),
        [made] if made.member != step.member() && matches!(part, Part::Act(_)) => {
            Some(format!("{name} is about another member of the list"))
        }
        [_] => None,
        many => Some(format!("the step {name} sends {} requests", many.len())),
    }
}

/// A call took effect, its answer was lost, and the client says that nothing was sent.
pub(super) fn of_lost(file: &Connector, made: &[Made], said: &Result<Answer, Failure>) -> Option<String> {
    let is_lost = |made: &Made| {
        use Behaviour::{DropAfter, Garbage, PageAfter, Redirected, UnavailableAfter};
        made.effect && matches!(made.behaviour, Some(DropAfter | Garbage | PageAfter | Redirected | UnavailableAfter))
    };
    let made = made.iter().find(|made| is_lost(made))?;
    let name = made.parts.first().map_or_else(String::new, |part| name(file, *part));
    match said {
        Ok(_) => Some(format!("{name}: an answer is read although it was lost")),
        Err(failure) if matches!(failure.kind, FailureKind::Ambiguous | FailureKind::Unreadable) => None,
        Err(failure) => {
            Some(format!("{name} took effect, its answer was lost, and is reported as {}", failure.kind.as_str()))
        }
    }
}

/// A read with a fact of a call that was not taken is about nobody.
fn is_about_another(made: &Made, part: Part, person: Option<usize>) -> bool {
    let is_read = matches!(part, Part::Read(_));
    person.is_some() && made.person != person && !(is_read && made.person.is_none())
}

/// A part's name in the file.
pub(super) fn name(file: &Connector, part: Part) -> String {
    match part {
        Part::Probe => "probe".to_owned(),
        Part::Read(read) => format!("read.{}", file.reads.get(read).map_or("?", |read| read.name.as_str())),
        Part::Act(act) => format!("act.{}", file.acts.get(act).map_or("?", |act| act.name.as_str())),
    }
}

fn is_taken(answer: &Answer) -> bool {
    matches!(answer.means(), Some(Means::Done | Means::DoneBefore | Means::Accepted))
}

/// True if the step was answered as taken.
fn was_taken(durable: &[Vec<Entry>], step: Step) -> bool {
    durable.iter().flatten().any(|entry| match entry {
        Entry::Answered { step: of, answer: Some(answer), .. } => *of == step && is_taken(answer),
        _ => false,
    })
}

/// True if the latest durable entry about a step is an intent.
fn has_open_intent(durable: &[Vec<Entry>], step: Step) -> bool {
    let word = durable.iter().flatten().rev().find_map(|entry| match entry {
        Entry::Intent { step: of, .. } if *of == step => Some(true),
        Entry::Answered { step: of, .. } | Entry::Failed { step: of, .. } | Entry::Settled { step: of, .. }
            if *of == step =>
        {
            Some(false)
        }
        _ => None,
    });
    word == Some(true)
}
