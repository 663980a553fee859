//! What is tried at the crash points: forms of jobs, ways in which a stand-in behaves at one of their
//! calls, and places at which the process ends.
//!
//! The rule it keeps: what is to be tried is read from what a job does when it is left alone, so that a
//! new point, step or call is tried without being named here.

use std::collections::{BTreeMap, BTreeSet};

use erasure_worker::sandbox::{Action, Entry, FaultRule, Operation};
use testkit::forms::{Case, Form};

/// How a stand-in behaves at one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Behaviour {
    /// Done and answered.
    Answered,
    /// Done, and the answer is lost.
    AnswerLost,
    /// Not done, and the connection is lost.
    NotDone,
    /// Not done: a precondition does not hold.
    Refused,
    /// Not done: whoever calls is not known.
    CredentialRefused,
    /// Not done: too many calls.
    RateLimited,
    /// Not done: an error of the system's own.
    Unavailable,
    /// Done, and told as an error of the system's own.
    FailedAfterwards,
    /// Done, and told in a way that nobody can read.
    Garbage,
}

impl Behaviour {
    pub const ALL: [Behaviour; 9] = [
        Behaviour::Answered,
        Behaviour::AnswerLost,
        Behaviour::NotDone,
        Behaviour::Refused,
        Behaviour::CredentialRefused,
        Behaviour::RateLimited,
        Behaviour::Unavailable,
        Behaviour::FailedAfterwards,
        Behaviour::Garbage,
    ];

    fn action(self) -> Option<Action> {
        let status = |status, after_work| Some(Action::Status { status, body: "no".into(), after_work });
        match self {
            Behaviour::Answered => None,
            Behaviour::AnswerLost => Some(Action::DropAfter),
            Behaviour::NotDone => Some(Action::DropBefore),
            Behaviour::Refused => status(422, false),
            Behaviour::CredentialRefused => Some(Action::CredentialRefused),
            Behaviour::RateLimited => Some(Action::RateLimited { retry_after: 1 }),
            Behaviour::Unavailable => status(503, false),
            Behaviour::FailedAfterwards => status(502, true),
            Behaviour::Garbage => Some(Action::Garbage),
        }
    }
}

/// One call of a job: the nth of its kind that concerns one of the case's things.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Call {
    pub operation: Operation,
    system: String,
    thing: usize,
    nth: u64,
}

/// What the ledger may name a case's calls by.
fn things(case: &Case) -> Vec<String> {
    let person = &case.person;
    let mut things = vec![case.id.clone(), person.customer_id.clone(), person.database_id.clone()];
    things.extend([person.email.clone(), person.guid.clone(), person.reference.clone()]);
    things.extend(person.codes.iter().cloned());
    things
}

impl Call {
    /// The calls of a case, as the ledger has them.
    pub fn of(case: &Case, entries: &[Entry]) -> Vec<Call> {
        let things = things(case);
        let mut counts = BTreeMap::new();
        let mut calls = Vec::new();
        for entry in entries {
            let Some(subject) = &entry.subject else { continue };
            let Some(thing) = things.iter().position(|thing| thing == subject) else { continue };
            let nth = counts.entry((entry.system.clone(), entry.operation, thing)).or_insert(0);
            *nth += 1;
            calls.push(Call { operation: entry.operation, system: entry.system.clone(), thing, nth: *nth });
        }
        calls
    }

    /// The rule by which this call of a case goes wrong.
    fn rule(&self, case: &Case, action: Action) -> FaultRule {
        let rule = FaultRule::on(self.operation, action).subject(&things(case)[self.thing]).nth(self.nth).times(1);
        FaultRule { system: Some(self.system.clone()), ..rule }
    }
}

/// One job to be tried.
#[derive(Debug, Clone)]
pub struct Trial {
    pub form: Form,
    pub fault: Option<(Call, Behaviour)>,
    /// Where the process ends: `POINT#N` or `POINT.DETAIL#N`.
    pub place: Option<String>,
    /// How the job may end.
    pub outcomes: BTreeSet<String>,
}

impl Trial {
    pub fn left_alone(form: Form) -> Trial {
        Trial { form, fault: None, place: None, outcomes: BTreeSet::new() }
    }

    pub fn rule(&self, case: &Case) -> Option<FaultRule> {
        let (call, behaviour) = self.fault.as_ref()?;
        behaviour.action().map(|action| call.rule(case, action))
    }
}

/// What became of a trial.
#[derive(Debug, Clone)]
pub struct Told {
    /// Its place among all.
    pub number: usize,
    pub trial: Trial,
    pub outcome: String,
    /// The points that it came by, in order.
    pub passed: Vec<String>,
    pub calls: Vec<Call>,
    /// The process ended where it was asked to.
    pub has_ended_there: bool,
}

impl Told {
    /// The points passed, each with how often it had been passed then.
    fn places(&self) -> Vec<String> {
        let mut times: BTreeMap<&str, usize> = BTreeMap::new();
        let each = self.passed.iter().map(|point| {
            let nth = times.entry(point).or_default();
            *nth += 1;
            format!("{point}#{nth}")
        });
        each.collect()
    }

    /// Each place at which it came by, as a trial of its own: of those passed again and again the first
    /// `most` times.
    pub fn everywhere(&self, most: usize) -> Vec<Trial> {
        let nth = |place: &String| place.split_once('#').is_some_and(|(_, nth)| nth.parse().unwrap_or(most) <= most);
        self.trials(self.places().into_iter().filter(nth))
    }

    /// The places next to the call that went wrong: after it, after that was noted, and whatever comes next.
    pub fn around_the_fault(&self) -> Vec<Trial> {
        let places = self.places();
        let failed = places.iter().position(|place| place.starts_with("after_failure"));
        // Where it went unnoticed, the end of the job tells.
        let around = failed.map_or(places.len().saturating_sub(2)..places.len(), |failed| {
            failed.saturating_sub(1)..(failed + 2).min(places.len())
        });
        self.trials(places[around].iter().cloned())
    }

    fn trials(&self, places: impl Iterator<Item = String>) -> Vec<Trial> {
        let with = |place| Trial {
            place: Some(place),
            outcomes: [self.outcome.clone()].into_iter().chain(self.trial.outcomes.clone()).collect(),
            ..self.trial.clone()
        };
        places.map(with).collect()
    }
}

/// Every call of every form with every behaviour but the good one.
pub fn every_fault(healthy: &[Told]) -> Vec<Trial> {
    let mut trials = Vec::new();
    for told in healthy {
        for call in &told.calls {
            for behaviour in Behaviour::ALL.into_iter().skip(1) {
                trials.push(fault(told, call, behaviour));
            }
        }
    }
    trials
}

/// Every kind of call with every behaviour but the good one, once: the forms that make it take turns.
pub fn each_fault_once(healthy: &[Told]) -> Vec<Trial> {
    let mut makers: BTreeMap<Operation, Vec<(&Told, &Call)>> = BTreeMap::new();
    for told in healthy {
        for call in &told.calls {
            makers.entry(call.operation).or_default().push((told, call));
        }
    }
    let mut trials = Vec::new();
    for makers in makers.values() {
        for (turn, behaviour) in Behaviour::ALL.into_iter().skip(1).enumerate() {
            let (told, call) = makers[turn % makers.len()];
            trials.push(fault(told, call, behaviour));
        }
    }
    trials
}

fn fault(told: &Told, call: &Call, behaviour: Behaviour) -> Trial {
    // What the process forgot by ending, the job may never hear of.
    let outcomes = [told.outcome.clone()].into();
    Trial { form: told.trial.form, fault: Some((call.clone(), behaviour)), place: None, outcomes }
}

/// The trials with their numbers in rounds of at most so many, the forms in turn, so that no system has
/// all of a round. What goes into the deletion file has rounds of its own.
pub fn rounds(trials: Vec<Trial>, most: usize) -> Vec<Vec<(usize, Trial)>> {
    let mut by_form: BTreeMap<Form, Vec<(usize, Trial)>> = BTreeMap::new();
    for (number, trial) in trials.into_iter().enumerate() {
        by_form.entry(trial.form).or_default().push((number, trial));
    }
    let imports = by_form.remove(&Form::Import).unwrap_or_default();
    let mut spread = Vec::new();
    for trials in by_form.into_values() {
        let count = trials.len();
        spread.extend(trials.into_iter().enumerate().map(|(place, trial)| (place * 10_000 / count, trial)));
    }
    spread.sort_by_key(|(place, _)| *place);
    let spread: Vec<_> = spread.into_iter().map(|(_, trial)| trial).collect();
    spread.chunks(most).chain(imports.chunks(most)).map(<[_]>::to_vec).collect()
}
