//! The trials at the crash points: a form of a job, a stand-in's behaviour at one call, and a place at which the
//! process ends.
//!
//! The rule it keeps: the trials are derived from an undisturbed job, so that a new point, step or call is tried
//! without being named here.

use std::collections::{BTreeMap, BTreeSet};

use erasure_worker::sandbox::{Action, Entry, FaultRule, Operation};
use testkit::connectors;
use testkit::forms::{Case, Form};

/// A stand-in's behaviour at one call.
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
    /// Not done: the credential is refused.
    CredentialRefused,
    /// Not done: too many calls.
    RateLimited,
    /// Not done: a server error.
    Unavailable,
    /// Done, but answered with a server error.
    FailedAfterwards,
    /// Done, with an unreadable answer.
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

/// One call of a job: the nth of its kind for one of the case's identifiers.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Call {
    pub operation: Operation,
    system: String,
    thing: usize,
    nth: u64,
}

/// A kind of call. The shop's stand-in is called by a connector file; the calls are of the same kinds as EasyCMS's.
pub type Kind = (bool, Operation);

/// The kind of a call to this system.
pub fn kind(system: &str, operation: Operation) -> Kind {
    (system == connectors::SHOP, operation)
}

/// The identifiers of a case in the ledger.
fn things(case: &Case) -> Vec<String> {
    let person = &case.person;
    let mut things = vec![case.id.clone(), person.customer_id.clone(), person.database_id.clone()];
    things.extend([person.email.clone(), person.guid.clone(), person.reference.clone()]);
    things.extend(person.codes.iter().cloned());
    // The subject at a stand-in that is made from a connector file.
    things.push(person.number.to_string());
    things
}

impl Call {
    pub fn kind(&self) -> Kind {
        kind(&self.system, self.operation)
    }

    /// The calls of a case in the ledger.
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

    /// The rule for this call of a case.
    fn rule(&self, case: &Case, action: Action) -> FaultRule {
        let rule = FaultRule::on(self.operation, action).subject(&things(case)[self.thing]).nth(self.nth).times(1);
        FaultRule { system: Some(self.system.clone()), ..rule }
    }
}

/// One trial: a job, a fault, a place.
#[derive(Debug, Clone)]
pub struct Trial {
    pub form: Form,
    pub fault: Option<(Call, Behaviour)>,
    /// The place at which the process ends: `POINT#N` or `POINT.DETAIL#N`.
    pub place: Option<String>,
    /// The permitted outcomes of the job.
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

/// The result of a trial.
#[derive(Debug, Clone)]
pub struct Tried {
    /// Its number among all trials.
    pub number: usize,
    pub trial: Trial,
    pub outcome: String,
    /// The points that it passed, in order.
    pub passed: Vec<String>,
    pub calls: Vec<Call>,
    /// The process ended at the trial's place.
    pub has_ended_there: bool,
}

impl Tried {
    /// The passed points, each with its count so far.
    fn places(&self) -> Vec<String> {
        let mut times: BTreeMap<&str, usize> = BTreeMap::new();
        let each = self.passed.iter().map(|point| {
            let nth = times.entry(point).or_default();
            *nth += 1;
            format!("{point}#{nth}")
        });
        each.collect()
    }

    /// A trial for each passed place; a point that was passed often gives its first `most` places.
    pub fn everywhere(&self, most: usize) -> Vec<Trial> {
        let nth = |place: &String| place.split_once('#').is_some_and(|(_, nth)| nth.parse().unwrap_or(most) <= most);
        self.trials(self.places().into_iter().filter(nth))
    }

    /// Trials for the places next to the fault: after the call, after its note, and the next one.
    pub fn around_the_fault(&self) -> Vec<Trial> {
        let places = self.places();
        let failed = places.iter().position(|place| place.starts_with("after_failure"));
        // Without a noted failure: the last two places.
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

/// Every call of every form with every faulty behaviour.
pub fn every_fault(healthy: &[Tried]) -> Vec<Trial> {
    let mut trials = Vec::new();
    for tried in healthy {
        for call in &tried.calls {
            for behaviour in Behaviour::ALL.into_iter().skip(1) {
                trials.push(fault(tried, call, behaviour));
            }
        }
    }
    trials
}

/// Every kind of call with every faulty behaviour, once: the forms that make the call take turns.
pub fn each_fault_once(healthy: &[Tried]) -> Vec<Trial> {
    let mut makers: BTreeMap<Kind, Vec<(&Tried, &Call)>> = BTreeMap::new();
    for tried in healthy {
        for call in &tried.calls {
            makers.entry(call.kind()).or_default().push((tried, call));
        }
    }
    let mut trials = Vec::new();
    for makers in makers.values() {
        for (turn, behaviour) in Behaviour::ALL.into_iter().skip(1).enumerate() {
            let (tried, call) = makers[turn % makers.len()];
            trials.push(fault(tried, call, behaviour));
        }
    }
    trials
}

fn fault(tried: &Tried, call: &Call, behaviour: Behaviour) -> Trial {
    // A crash may lose the fault, so the undisturbed outcome is permitted too.
    let outcomes = [tried.outcome.clone()].into();
    Trial { form: tried.trial.form, fault: Some((call.clone(), behaviour)), place: None, outcomes }
}

/// The numbered trials in rounds of at most this size. The forms are mixed, so that no system has a whole round; jobs
/// for the deletion file have their own rounds.
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
