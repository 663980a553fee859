//! A target's state: the fold of its journal's entries.
//!
//! The rule it keeps: the state is only the fold of entries, so a restarted worker knows as much as the crashed one
//! did. An intent without an answer is a doubt, never a success.

use std::collections::BTreeMap;
use std::time::Duration;

use super::approval::{Approved, Approving, Found};
use super::findings::Findings;
use super::journal::{At, Entry};
use super::outcome::{InputKind, Reason, TargetEnd};
use super::reading::Means;
use super::step::Field;
use super::step::{Answer, CodeState, Entitlement, FailureKind, Identity, MOST_ITEMS, Step, StepName};

/// A read's validity. After it the read is repeated before a destructive call.
const FRESH: Duration = Duration::from_secs(60);
/// Each repetition of the identity's read that is due to age alone doubles its validity, to 16 minutes at most.
/// Otherwise a job whose calls wait for minutes would read without end.
const LONGER_MOST: u32 = 4;

/// The state of a step's intent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Intent {
    /// None, or the last one is settled as not done.
    #[default]
    None,
    /// Durable, and the call was certainly not made yet (in this process).
    Fresh,
    /// Durable, and the call may have been made.
    Doubt,
}

/// The way by which the ceilings let a job through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LetThrough {
    /// It is counted in the hour of this time.
    Counted(At),
    /// An operator released it.
    Released,
}

/// The state of one step.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StepState {
    /// Its intent.
    pub intent: Intent,
    /// The time of the last intent.
    pub intent_at: At,
    /// The last answer.
    pub answer: Option<Answer>,
    /// The time of the last answer.
    pub answered_at: At,
    /// The answers since the last reset; for a read-back, since its call.
    pub answers: u32,
    /// The repetitions in a row because the last answer was too old, without a call in between.
    pub aged: u32,
    /// The number of the last entry about this step.
    pub seq: u64,
    /// Settled as done by a read-back.
    pub settled_done: bool,
    /// We once lost an answer: a later "already done" may be our own call.
    pub doubted: bool,
    /// Failed attempts since the last success.
    pub attempts: u32,
    /// Of these, replies that could not be read.
    pub unreadable: u32,
    /// Refusals because of a precondition.
    pub refusals: u32,
    /// Unclear answers to a step with an intent.
    pub unclear: u32,
    /// The repetitions in this run of a call that was answered as done and had no effect.
    pub repeats: u32,
    /// The time of the first failed attempt.
    pub first_failed_at: At,
    /// The time of the last failed attempt.
    pub last_failed_at: At,
    /// The last failure, while it counts.
    pub failure: Option<(FailureKind, Reason)>,
    /// The earliest time of the next attempt.
    pub not_before: At,
}

impl StepState {
    /// True if the call is known to have taken effect.
    pub fn is_done(&self) -> bool {
        // An accepted call must not be made again, although its effect is still to be shown.
        if self.answer.as_ref().is_some_and(Answer::is_taken) {
            return true;
        }
        self.settled_done || matches!(self.answer, Some(Answer::Done | Answer::AlreadyDone))
    }

    /// True if a call of this step may have taken effect: later reads may show its effect.
    pub fn may_have_acted(&self) -> bool {
        self.is_done() || self.doubted || self.answers > 0
    }

    fn is_refused_proof(&self) -> bool {
        matches!(self.failure, Some((FailureKind::UnauthorisedTheirs(_), _)))
    }

    /// True if an effect is ours: our only answer does not say that it was there before, or an earlier call of ours
    /// may have made it.
    pub fn is_ours(&self) -> bool {
        let is_own =
            |answer: &Answer| *answer == Answer::Done || matches!(answer.means(), Some(Means::Done | Means::Accepted));
        self.doubted || self.answer.as_ref().is_none_or(is_own)
    }
}

/// The members of a list that need no more, in the list's order, up to the first that does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Leading {
    /// Their calls are known to have taken effect, or are accepted.
    pub done: u32,
    /// Their effects are shown.
    pub settled: u32,
}

/// The read that shows a call's effect; `None` for a call that is just repeated.
const fn look_for(step: Step) -> Option<Step> {
    match step.name {
        StepName::QueueImportRow | StepName::ConnectorAct => None,
        StepName::RevokeCode => Some(Step::item(StepName::ReadBackCode, step.item)),
        StepName::TerminateEntitlement => Some(Step::item(StepName::ListEntitlements, 1)),
        _ => Some(Step::one(StepName::ReadBack)),
    }
}

/// The state of one target.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TargetState {
    /// Its steps; the items of a kind side by side.
    steps: BTreeMap<StepName, Vec<StepState>>,
    /// The places of a connector's steps among those of their kind, in order of first appearance.
    places: BTreeMap<Step, usize>,
    /// For each kind, the number of leading items that are done: long lists are not walked again.
    done_prefix: BTreeMap<StepName, u32>,
    /// The same for each act of a connector.
    leading: BTreeMap<usize, Leading>,
    /// Its end.
    pub end: Option<TargetEnd>,
    /// The inputs that were asked for, with the first time.
    pub asked: BTreeMap<InputKind, At>,
    /// The number of the last continuation's entry, and its time.
    pub continued: Option<(u64, At)>,
    /// Every entitlement ever listed, in order of first appearance, with its last listed values: termination items
    /// index it. An entitlement that is not in the latest list gives no access.
    pub entitlements: Vec<Entitlement>,
    /// The entitlements with access in the latest list.
    pub with_access: Vec<u32>,
    /// True after a destructive intent was made durable.
    pub touched: bool,
    /// How a ceiling has let the job through, if it has.
    pub let_through: Option<LetThrough>,
    /// The approvals.
    pub approving: Approving,
    /// The beginning of the run, for every run but the first.
    pub run_began_at: At,
    /// The time of the last entry.
    pub last_at: At,
    /// The user's GUID from the first read. A GUID is never used for another user, so no other person is changed.
    guid: Option<String>,
    /// VitalSource: fields that read-backs showed and no overwrite had covered.
    pub left: Vec<Field>,
    /// A connector's findings.
    pub findings: Findings,
    /// The last time at which a read showed the person.
    pub person_seen_at: At,
    /// Reads up to this entry are from before a wait that a person, an operator or another worker ended.
    outlived: u64,
    /// The last entry about a call that changes something.
    acted: u64,
    last_seq: u64,
}

impl TargetState {
    /// A step's state, if there is one.
    pub fn get(&self, step: Step) -> Option<&StepState> {
        self.steps.get(&step.name)?.get(self.place(step)?)
    }

    fn place(&self, step: Step) -> Option<usize> {
        if step.name.is_connectors() { self.places.get(&step).copied() } else { Some(step.item as usize) }
    }

    /// The steps of a kind, with their numbers.
    pub fn numbered(&self, name: StepName) -> Vec<(Step, &StepState)> {
        let items = self.all(name).iter();
        if !name.is_connectors() {
            return (0..).map(|item| Step::item(name, item)).zip(items).collect();
        }
        let steps = self.places.iter().filter(|(step, _)| step.name == name);
        steps.filter_map(|(step, _)| Some((*step, self.get(*step)?))).collect()
    }

    /// All steps of a kind.
    pub fn all(&self, name: StepName) -> &[StepState] {
        self.steps.get(&name).map_or(&[], Vec::as_slice)
    }

    /// The GUID of the user that was found first.
    pub fn guid(&self) -> Option<&str> {
        self.guid.as_deref()
    }

    /// True if a read is recent enough for a call: it is later than the last continuation, replay, approval, hold or
    /// pause, and not older than a minute (an identity: up to 16 minutes).
    pub fn is_fresh(&self, step: Step, now: At) -> bool {
        self.get(step).is_some_and(|state| {
            let holds = FRESH.saturating_mul(1 << state.aged.min(LONGER_MOST));
            let is_answered = state.answer.is_some() && state.failure.is_none();
            is_answered && state.seq > self.outlived && now.since(state.answered_at) < holds
        })
    }

    /// True if the person was seen so recently that the record cannot be another person's.
    pub fn was_seen_before(&self, at: At) -> bool {
        self.person_seen_at != At::default() && at.since(self.person_seen_at) < FRESH
    }

    /// The kinds of step with a state.
    pub fn names(&self) -> impl Iterator<Item = StepName> + '_ {
        self.steps.keys().copied()
    }

    /// The step that was begun last.
    pub fn latest_step(&self) -> Option<StepName> {
        let each =
            self.steps.iter().filter_map(|(name, items)| Some((items.iter().map(|item| item.seq).max()?, *name)));
        each.max().map(|(_, name)| name)
    }

    /// The number of leading items of a kind that are done.
    pub fn done_prefix(&self, name: StepName) -> u32 {
        self.done_prefix.get(&name).copied().unwrap_or(0)
    }

    /// The leading members of a connector's act.
    pub fn leading(&self, act: usize) -> Leading {
        self.leading.get(&act).copied().unwrap_or_default()
    }

    fn step(&mut self, step: Step) -> &mut StepState {
        let items = self.steps.entry(step.name).or_default();
        let place = if step.name.is_connectors() {
            *self.places.entry(step).or_insert(items.len())
        } else {
            step.item as usize
        };
        if items.len() <= place {
            items.resize_with(place + 1, StepState::default);
        }
        &mut items[place]
    }

    /// A one-time password whose send had no effect is sent under the next number: the attempts and the last result
    /// move to it.
    fn goes_on_as(&mut self, step: Step) {
        let Some(before) = step.item.checked_sub(1).filter(|_| step.name == StepName::RequestOtp) else { return };
        let is_known = self.get(step).is_some();
        let last = self.step(Step::item(step.name, before));
        if is_known || last.is_done() || last.intent != Intent::None {
            return;
        }
        let StepState { attempts, unreadable, refusals, first_failed_at, last_failed_at, failure, not_before, .. } =
            std::mem::take(last);
        *self.step(step) = StepState {
            attempts,
            unreadable,
            refusals,
            first_failed_at,
            last_failed_at,
            failure,
            not_before,
            ..StepState::default()
        };
    }

    /// True if a read-back was made after the step's intent.
    fn looked_since_intent(&self, step: Step) -> bool {
        let intended = self.get(step).map_or(0, |state| state.seq);
        let is_later = |look: &StepState| look.answer.is_some() && look.seq > intended;
        if step.name == StepName::ConnectorAct {
            return self.looks_of(step).into_iter().filter_map(|look| self.get(look)).any(is_later);
        }
        // In doubt, it is just queued again.
        let Some(look) = look_for(step) else { return true };
        self.get(look).is_some_and(is_later)
    }

    /// The reads after a connector's act that are about the same member.
    fn looks_of(&self, act: Step) -> Vec<Step> {
        let look = |place, member| Step::of_connector(StepName::ConnectorReadBack, place, member);
        let all = look(0, 0)..=Step::item(StepName::ConnectorReadBack, u32::MAX);
        let last = self.places.range(all).next_back().map(|(step, _)| step.place());
        last.map_or_else(Vec::new, |last| (0..=last).map(|place| look(place, act.member())).collect())
    }

    /// The answers of the reads after a connector's act are counted from the act on.
    fn count_looks_anew(&mut self, acted: Step) {
        if acted.name == StepName::ConnectorAct {
            let known: Vec<Step> = self.looks_of(acted).into_iter().filter(|look| self.get(*look).is_some()).collect();
            known.into_iter().for_each(|look| self.step(look).answers = 0);
        }
    }

    /// Moves the ends of an act's leading members, after an entry about this member.
    fn advance_members(&mut self, act: Step) {
        let Leading { done, settled } = self.leading(act.place());
        let first_not = |end: u32, holds: fn(&StepState) -> bool| {
            let of = |member| Step::of_connector(StepName::ConnectorAct, act.place(), member);
            let is_not = |member: &u32| !self.get(of(*member)).is_some_and(holds);
            let from = if is_not(&act.member()) { end.min(act.member()) } else { end };
            (from..MOST_ITEMS).find(is_not).unwrap_or(MOST_ITEMS)
        };
        let (done, settled) = (first_not(done, StepState::is_done), first_not(settled, |state| state.settled_done));
        self.leading.insert(act.place(), Leading { done, settled });
    }

    fn advance(&mut self, Step { name, item }: Step) {
        if name.is_connectors() {
            if name == StepName::ConnectorAct {
                self.advance_members(Step { name, item });
            }
            return;
        }
        let items = self.steps.get(&name).map_or(&[][..], Vec::as_slice);
        let mut done = self.done_prefix.get(&name).copied().unwrap_or(0);
        // Reads count as done after their answer, reads of revoked codes after the code is gone: so all lists are
        // walked once.
        let is_read = |state: &StepState| match (&state.answer, name) {
            (Some(Answer::Code { state, .. }), StepName::ReadBackCode) => *state != CodeState::Active,
            (answer, _) => answer.is_some(),
        };
        while items.get(done as usize).is_some_and(|state| state.is_done() || (!name.needs_intent() && is_read(state)))
        {
            done += 1;
        }
        self.done_prefix.insert(name, done);
    }

    /// Adds one entry of this target (or of the whole job). `seq` rises from entry to entry.
    pub fn apply(&mut self, entry: &Entry, seq: u64) {
        self.last_seq = seq;
        match entry {
            Entry::Intent { step, at, .. } => {
                self.goes_on_as(*step);
                self.count_looks_anew(*step);
                let state = self.step(*step);
                // A call in doubt that is repeated without a read: the first one may have taken effect.
                state.doubted |= state.intent != Intent::None;
                state.intent = Intent::Fresh;
                state.intent_at = *at;
                state.seq = seq;
                self.touched |= step.name.is_destructive();
                self.last_at = *at;
            }
            Entry::Answered { step, answer, at, .. } => {
                if let Some(answer) = answer {
                    self.learn(*step, answer, *at);
                }
                let acts_since = self.acted.max(self.outlived);
                let may_age =
                    step.name == StepName::Resolve || (step.name.is_connectors() && !step.name.needs_intent());
                let state = self.step(*step);
                let has_aged = may_age && at.since(state.answered_at) >= FRESH;
                state.aged =
                    if has_aged && state.answer.is_some() && state.seq > acts_since { state.aged + 1 } else { 0 };
                state.seq = seq;
                state.answers += 1;
                state.answered_at = *at;
                state.attempts = 0;
                state.unreadable = 0;
                state.first_failed_at = At::default();
                state.failure = None;
                state.not_before = At::default();
                state.answer = answer.clone().map(Answer::believed);
                if step.name.needs_intent() {
                    state.intent = Intent::None;
                    state.unclear += u32::from(!state.is_done());
                    self.acted = seq;
                    if let Some(look) = look_for(*step).filter(|look| self.get(*look).is_some()) {
                        self.step(look).answers = 0;
                    }
                    self.count_looks_anew(*step);
                }
                self.last_at = *at;
                self.advance(*step);
            }
            Entry::Failed { step, kind, reason, at, not_before, .. } => {
                if let FailureKind::UnauthorisedTheirs(input) = kind {
                    // The input arrived and was wrong: the wait for another one begins again.
                    self.asked.remove(input);
                }
                let state = self.step(*step);
                state.seq = seq;
                // A rate limit, or a refusal of our own credential, is no attempt.
                if !matches!(kind, FailureKind::RateLimited | FailureKind::UnauthorisedOurs) {
                    state.attempts += 1;
                    if state.first_failed_at == At::default() {
                        state.first_failed_at = *at;
                    }
                    state.last_failed_at = *at;
                }
                state.not_before = *not_before;
                state.failure = Some((*kind, *reason));
                match kind {
                    FailureKind::Unreadable => state.unreadable += 1,
                    FailureKind::Refused => state.refusals += 1,
                    _ => {}
                }
                if step.name.needs_intent() {
                    let lost = matches!(kind, FailureKind::Ambiguous | FailureKind::Unreadable);
                    state.intent = if lost { Intent::Doubt } else { Intent::None };
                    state.doubted |= lost;
                    self.acted = seq;
                }
                self.last_at = *at;
            }
            Entry::Settled { step, done, at, .. } => {
                let looked = *done || self.looked_since_intent(*step);
                let state = self.step(*step);
                state.seq = seq;
                // A restarted run was in doubt, though no entry says so.
                state.doubted |= looked && state.intent != Intent::None;
                state.intent = Intent::None;
                if !*done {
                    state.repeats += u32::from(state.is_done());
                    state.answer = None;
                }
                state.settled_done = *done;
                // A settled refusal is open again; other failures still count their attempts.
                if matches!(state.failure, Some((FailureKind::Refused, _))) {
                    state.failure = None;
                    state.not_before = At::default();
                }
                self.last_at = *at;
                self.open_from(*step, *done);
                self.advance(*step);
            }
            Entry::Asked { kind, at, .. } => {
                self.asked.entry(*kind).or_insert(*at);
                self.last_at = *at;
            }
            Entry::Continued { at } => {
                self.continued = Some((seq, *at));
                self.outlive();
                self.open_refused_proofs();
                self.last_at = *at;
            }
            Entry::OfferedAgain { at } => {
                self.outlive();
                self.open_refused_proofs();
                self.last_at = *at;
            }
            Entry::Ended { end, at, .. } => {
                self.end = Some(end.clone());
                self.last_at = *at;
            }
            Entry::NewRun { at } => self.new_run(seq, *at),
            Entry::Excused { step, works, at, not_before, .. } => {
                self.excused(*step, *works, seq, *not_before);
                self.last_at = *at;
            }
            Entry::ApprovalNeeded { by, .. } => self.approving.requested_by.push(by.clone()),
            Entry::Approved { by, at } => self.approved(by, *at),
            Entry::Rejected { by, at } => self.approving.rejected = Some((by.clone(), *at)),
            Entry::LetThrough { counted, at } => {
                self.let_through = Some(if *counted { LetThrough::Counted(*at) } else { LetThrough::Released });
            }
        }
    }

    /// The present findings are the approved ones. Unless a destructive step has begun, everything is read again, so
    /// that the erasure rests on the present state.
    fn approved(&mut self, by: &str, at: At) {
        self.last_at = at;
        if self.end.is_some() {
            return;
        }
        self.approving.approved = Some(Approved { by: by.to_owned(), at, found: Found::of(self) });
        self.approving.rejected = None;
        self.asked.remove(&InputKind::Approval);
        self.outlive();
        if self.touched {
            return;
        }
        for (name, items) in &mut self.steps {
            for state in items.iter_mut().filter(|_| !name.needs_intent()) {
                *state = StepState { seq: state.seq, ..StepState::default() };
            }
            if !name.needs_intent() {
                self.done_prefix.insert(*name, 0);
            }
        }
        self.entitlements.clear();
        self.with_access.clear();
        self.findings = Findings::default();
    }

    /// The results of the step's calls do not count. A read is repeated, and a call that may have been made is in
    /// doubt.
    fn excused(&mut self, step: Step, works: bool, seq: u64, not_before: At) {
        let state = self.step(step);
        state.seq = seq;
        state.failure = None;
        state.not_before = not_before;
        if works {
            state.attempts = state.attempts.saturating_sub(1);
            state.unreadable = state.unreadable.saturating_sub(1);
        } else {
            state.attempts = 0;
            state.unreadable = 0;
            state.first_failed_at = At::default();
        }
        if step.name.needs_intent() {
            if state.intent == Intent::Fresh || (state.answer.is_some() && !state.is_done()) {
                state.answer = None;
                state.intent = Intent::Doubt;
                state.doubted = true;
            }
        } else {
            state.answer = None;
            self.open_from(step, false);
        }
    }

    /// An item that is not done ends the leading done items.
    fn open_from(&mut self, step: Step, done: bool) {
        if let Some(prefix) = self.done_prefix.get_mut(&step.name).filter(|_| !done) {
            *prefix = (*prefix).min(step.item);
        }
    }

    fn open_refused_proofs(&mut self) {
        for state in self.steps.values_mut().flatten().filter(|state| state.is_refused_proof()) {
            state.failure = None;
            state.not_before = At::default();
        }
    }

    /// True if a system refused one of the person's proofs.
    pub fn has_refused_proof(&self) -> bool {
        self.steps.values().flatten().any(StepState::is_refused_proof)
    }

    /// Reopens failed parts. A target that ended well stays ended, and done steps stay done. Reads are repeated,
    /// except the ones on which begun destructive steps rest.
    fn new_run(&mut self, seq: u64, at: At) {
        self.last_at = at;
        if self.end.as_ref().is_some_and(|end| end.outcome.is_erased()) {
            return;
        }
        // The read that ended the run is repeated in any case.
        let decided = self.end.take().and_then(|end| end.step);
        // A run that has changed nothing is counted again before its first destructive step.
        self.let_through = self.let_through.filter(|_| self.touched);
        self.outlive();
        self.run_began_at = at;
        self.asked.clear();
        // As after a continuation, inputs are asked for again.
        self.continued = Some((seq, at));
        // The old run is over: whether its open intents led to calls is unknown.
        self.doubt_open_intents();
        let keep_reads = self.touched;
        for (name, items) in &mut self.steps {
            for (item, state) in items.iter_mut().enumerate() {
                let was = std::mem::take(state);
                let is_first_read = match name {
                    StepName::Resolve | StepName::ReadCode | StepName::ConnectorRead => true,
                    StepName::ListEntitlements => item == 0,
                    _ => false,
                };
                // Queueing a row again is harmless, and the only way to continue if the last file left it out.
                let is_queued = *name == StepName::QueueImportRow;
                // An unclear answer leaves as much open as a missing one.
                let in_doubt = was.intent == Intent::Doubt
                    || (name.needs_intent() && was.answer.is_some() && !was.is_done() && !is_queued);
                if (was.is_done() && !is_queued) || in_doubt || (keep_reads && is_first_read && decided != Some(*name))
                {
                    *state = StepState {
                        intent: if in_doubt { Intent::Doubt } else { Intent::None },
                        answer: was.answer.filter(|_| !in_doubt),
                        attempts: 0,
                        unreadable: 0,
                        refusals: 0,
                        unclear: 0,
                        repeats: 0,
                        failure: None,
                        first_failed_at: At::default(),
                        not_before: At::default(),
                        ..was
                    };
                } else {
                    state.seq = was.seq;
                    state.doubted = was.doubted;
                }
            }
        }
        let names: Vec<_> = self.steps.keys().copied().collect();
        for name in names {
            self.done_prefix.insert(name, 0);
            self.advance(Step::one(name));
        }
        for act in std::mem::take(&mut self.leading).into_keys() {
            self.advance_members(Step::of_connector(StepName::ConnectorAct, act, 0));
        }
        if !keep_reads {
            self.entitlements.clear();
            self.with_access.clear();
            self.findings = Findings::default();
        }
    }

    /// Takes the part of an answer that concerns more than its own step.
    fn learn(&mut self, step: Step, answer: &Answer, at: At) {
        match answer {
            Answer::Entitlements(listed) => self.listed(listed),
            Answer::User { identity, guid, .. } if *identity != Identity::Other => {
                self.guid.get_or_insert_with(|| guid.clone());
            }
            Answer::Left { fields } => {
                let new: Vec<Field> = fields.iter().copied().filter(|field| !self.left.contains(field)).collect();
                self.left.extend(new);
            }
            Answer::Connector(reading) => {
                // Another plan, and nothing was changed by the first: all is read anew.
                if !self.touched && self.findings.shape.is_some_and(|shape| shape != reading.shape) {
                    self.findings = Findings::default();
                    let reads = self.steps.get_mut(&StepName::ConnectorRead);
                    reads.into_iter().flatten().for_each(|state| state.answer = None);
                }
                self.findings.learn(step, reading, self.last_seq);
            }
            Answer::Found(Identity::Same) if matches!(step.name, StepName::Resolve | StepName::ReadBack) => {
                self.person_seen_at = at;
            }
            _ => {}
        }
    }

    /// Marks all reads up to now as outdated: they are repeated before the next destructive call.
    pub fn outlive(&mut self) {
        self.outlived = self.last_seq;
    }

    fn listed(&mut self, listed: &[Entitlement]) {
        self.with_access.clear();
        for known in &mut self.entitlements {
            known.gives_access = false;
        }
        for row in listed {
            // One interface may list an offer with its id, another one without.
            let same = |seen: &Entitlement| {
                seen.offer_id == row.offer_id && (seen.id == row.id || seen.id.is_none() || row.id.is_none())
            };
            let known = self.entitlements.iter().position(same);
            let index = match known {
                Some(index) => {
                    let known = &mut self.entitlements[index];
                    known.id = known.id.take().or_else(|| row.id.clone());
                    known.status.clone_from(&row.status);
                    known.gives_access = row.gives_access;
                    known.externally_managed |= row.externally_managed;
                    index
                }
                None => {
                    self.entitlements.push(row.clone());
                    self.entitlements.len() - 1
                }
            };
            if row.gives_access {
                self.with_access.push(u32::try_from(index).unwrap_or(u32::MAX));
            }
        }
    }

    /// After a restart: an intent without a later entry may have led to a call.
    pub fn doubt_open_intents(&mut self) {
        for state in self.steps.values_mut().flatten() {
            if state.intent == Intent::Fresh {
                state.intent = Intent::Doubt;
                state.doubted = true;
            }
        }
    }

    /// For use after another worker may have had the job, or after a hold, a pause or a ceiling. As long as no call
    /// of ours has or may have taken effect, identity and access are read again.
    pub fn forget_first_reads(&mut self) {
        let has_acted = |(name, items): (&StepName, &Vec<StepState>)| {
            let is_open = |state: &StepState| state.is_done() || state.intent != Intent::None || state.doubted;
            name.needs_intent() && items.iter().any(|state| is_open(state) || state.answer.is_some())
        };
        self.outlive();
        if self.end.is_some() || self.steps.iter().any(has_acted) {
            return;
        }
        for name in [StepName::Resolve, StepName::ListEntitlements] {
            self.steps.entry(name).or_default().iter_mut().for_each(|state| state.answer = None);
            self.done_prefix.insert(name, 0);
        }
        let reads = self.steps.get_mut(&StepName::ConnectorRead);
        reads.into_iter().flatten().for_each(|state| state.answer = None);
    }

    /// For use if nothing is known about another worker's calls: true if the reads may show their effect, or if
    /// something could not be read.
    pub fn may_be_changed(&self) -> bool {
        let found = match self.get(Step::one(StepName::Resolve)).and_then(|state| state.answer.as_ref()) {
            Some(Answer::Found(identity) | Answer::User { identity, .. }) => {
                matches!(identity, Identity::Same | Identity::Unreadable)
            }
            Some(Answer::Connector(reading)) => {
                matches!(reading.means, Means::Found(Identity::Same | Identity::Unreadable))
            }
            _ => false,
        };
        let is_revoked =
            |code: &StepState| matches!(code.answer, Some(Answer::Code { state: CodeState::Cancelled, .. }));
        !found
            // A list does not show whether an entitlement, or a member, was ended or expired.
            || self.get(Step::one(StepName::ListEntitlements)).is_some()
            || !self.all(StepName::ConnectorRead).is_empty()
            || self.all(StepName::ReadCode).iter().any(is_revoked)
    }

    /// True if a call with an unknown result may have been made.
    pub fn has_doubt(&self) -> bool {
        self.steps.values().flatten().any(|state| state.intent == Intent::Doubt)
    }

    /// The intents whose call was not made: they must be settled as not done before the job leaves this worker.
    pub fn unsent(&self) -> Vec<Step> {
        let mut steps = Vec::new();
        for name in self.steps.keys() {
            let from = self.done_prefix(*name) as usize;
            let open = self.numbered(*name).into_iter().skip(from);
            steps.extend(open.filter(|(_, state)| state.intent == Intent::Fresh).map(|(step, _)| step));
        }
        steps
    }
}
