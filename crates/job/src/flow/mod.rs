//! A target's next action: one linear function for each kind (in `kinds`). It is evaluated again on the journal's
//! state after each action, and returns the first action that is still to do.
//!
//! The rule it keeps: a target ends as erased only on evidence (a recorded success answer or a read-back), and a call
//! in doubt is read back before it is repeated.

pub mod rules;

use std::time::Duration;

use super::approval::{Approved, Found};
use super::journal::At;
use super::model::{Job, Mode, Target};
use super::outcome::{InputKind, Reason, TargetEnd, TargetOutcome};
use super::state::{Intent, StepState, TargetState};
use super::step::Field;
use super::step::{Answer, Entitlement, FailureKind, Identity, Step, StepName};
pub use rules::{Confirm, Limits, MemberProof, Rules};

/// Most unreadable replies before the step fails.
pub(crate) const FEW: u32 = 3;
/// Most repeats of a call that was answered as done and had no effect.
const MOST_REPEATS: u32 = 3;
/// Most refusals of a proof before the step fails.
pub(crate) const MOST_ASKS: u32 = 10;
/// Most intents written ahead of calls that the system recognises when they are repeated.
const AHEAD: u32 = 16;

/// An input that a person must give.
#[derive(Debug, Clone, PartialEq)]
pub struct Ask {
    /// The kind.
    pub kind: InputKind,
    /// The time at which it becomes useless; `None` if only `waits.input_max` ends it.
    pub expires_at: Option<At>,
    /// The losses, if a confirmation is asked for.
    pub entitlements: Vec<Entitlement>,
    /// The step that needs it.
    pub step: StepName,
}

/// The reason why a target waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// A failed attempt's pause.
    Retry,
    /// A deletion is still visible.
    Pending,
}

/// The next action of a target.
#[derive(Debug, Clone, PartialEq)]
pub enum Next {
    /// Make this call.
    Call(Step),
    /// Make these intents durable, then ask again.
    Intend(Vec<Step>),
    /// Record that a doubt is settled, then ask again.
    Settle {
        /// The step in doubt.
        step: Step,
        /// The result of the read-back.
        done: bool,
    },
    /// Do nothing before this time.
    Wait {
        /// The time.
        until: At,
        /// The reason.
        why: Why,
    },
    /// Wait for a person.
    Ask(Vec<Ask>),
    /// The target ended.
    End(TargetEnd),
}

/// The next action of target `index` of a job.
pub fn next(job: &Job, index: usize, state: &TargetState, rules: &Rules, limits: &Limits, now: At) -> Next {
    if let Some(end) = &state.end {
        return Next::End(end.clone());
    }
    let flow = Flow { job, target: &job.targets[index], state, rules, limits, now };
    match (rules.kind.about().next)(&flow) {
        Ok(end) => Next::End(end),
        Err(Next::Ask(asks)) => flow.unless_too_late(asks),
        Err(next) => next,
    }
}

/// The proof that a step with an intent is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Evidence {
    /// The system's own success answer.
    Answer,
    /// A read-back after a doubt, or an answer that it was done before.
    Before,
    /// A read-back shows nothing to do, and no call of ours was in doubt.
    NotOurs,
}

/// The result of a read-back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seen {
    /// The effect is there: gone, revoked, overwritten.
    Done,
    /// The effect is not there.
    NotDone,
}

/// A step with an intent, and the reads on which it rests.
#[derive(Clone, Copy)]
pub(crate) struct Act<'a> {
    pub(crate) step: Step,
    /// These reads are made again, in this order, if they are too old.
    pub(crate) basis: &'a [Step],
    /// For a call that changes the person's identifiers: after it may have taken effect, a first read would show its
    /// result. So the read-back that found it not done is made again before the call is repeated.
    pub(crate) rewrites: Option<Step>,
    /// The number of further steps of this kind: their intents are written ahead.
    pub(crate) ahead: u32,
    /// The kind of read on which each of those rests.
    pub(crate) item_read: Option<StepName>,
}

impl<'a> Act<'a> {
    /// A step after which the person can still be recognised.
    pub(crate) const fn one(step: Step, basis: &'a [Step]) -> Act<'a> {
        Act { step, basis, rewrites: None, ahead: 1, item_read: None }
    }

    /// The step that makes the person unrecognisable, with its read-back.
    pub(crate) const fn last(step: Step, basis: &'a [Step], look: Step) -> Act<'a> {
        Act { rewrites: Some(look), ..Act::one(step, basis) }
    }
}

/// A flow's view of its target. Methods return `Err(next)` for the next action.
pub(crate) struct Flow<'a> {
    pub(crate) job: &'a Job,
    pub(crate) target: &'a Target,
    pub(crate) state: &'a TargetState,
    pub(crate) rules: &'a Rules,
    pub(crate) limits: &'a Limits,
    pub(crate) now: At,
}

/// A flow's result, or the next action.
pub(crate) type Go<T> = Result<T, Next>;

impl<'a> Flow<'a> {
    pub(crate) fn is_preview(&self) -> bool {
        self.job.mode == Mode::Preview
    }

    /// A read's answer, of any age.
    pub(crate) fn read(&self, step: Step) -> Go<&'a Answer> {
        self.vouched(step, self.read_any(step)?)
    }

    /// As [`Flow::read`]; also an unproven absence.
    pub(crate) fn read_any(&self, step: Step) -> Go<&'a Answer> {
        match self.state.get(step) {
            Some(StepState { answer: Some(answer), .. }) => Ok(answer),
            state => Err(self.attempt(step, state)),
        }
    }

    /// A read's answer, made after the entry `seq`.
    pub(crate) fn read_after(&self, step: Step, seq: u64) -> Go<&'a Answer> {
        self.vouched(step, self.read_any_after(step, seq)?)
    }

    /// As [`Flow::read_after`]; also an unproven absence.
    pub(crate) fn read_any_after(&self, step: Step, seq: u64) -> Go<&'a Answer> {
        match self.state.get(step) {
            Some(StepState { answer: Some(answer), seq: answered, failure: None, .. }) if *answered > seq => Ok(answer),
            state => Err(self.attempt(step, state)),
        }
    }

    /// An unproven absence is no answer. The read is repeated a few times: meanwhile another job may prove that
    /// address and credential can find a person. Then the target ends as unproven.
    pub(crate) fn vouched(&self, step: Step, answer: &'a Answer) -> Go<&'a Answer> {
        let Answer::Unclear(Reason::Unproven) = answer else { return Ok(answer) };
        match self.looks_again(step) {
            Some(next) => Err(next),
            None => self.failed(Reason::Unproven, step.name),
        }
    }

    /// A repeated read after an unproven absence; `None` after a few.
    pub(crate) fn looks_again(&self, step: Step) -> Option<Next> {
        let state = self.state.get(step)?;
        if state.answers >= FEW {
            return None;
        }
        let until = state.answered_at.plus(self.pause(state.answers));
        if self.now < until {
            return Some(Next::Wait { until, why: Why::Pending });
        }
        Some(self.attempt(step, Some(state)))
    }

    /// An answer from after the step `acted`: a final one, or the last one before `waits.pending_max`. Until then the
    /// read is repeated at growing intervals.
    pub(crate) fn poll_after(&self, step: Step, acted: Step, is_final: impl Fn(&Answer) -> bool) -> Go<&'a Answer> {
        let acted = self.state.get(acted);
        let answer = self.read_any_after(step, acted.map_or(0, |acted| acted.seq))?;
        if is_final(answer) {
            return Ok(answer);
        }
        let (Some(state), Some(acted)) = (self.state.get(step), acted) else { return Ok(answer) };
        let since = acted.answered_at.max(acted.intent_at).max(acted.last_failed_at);
        let waited = state.answered_at.since(since.max(self.state.run_began_at));
        if waited >= self.limits.pending_max {
            return Ok(answer);
        }
        let until = state.answered_at.plus(waited.max(self.rules.verify_interval).min(self.longest_pause()));
        if self.now < until {
            return Err(Next::Wait { until, why: Why::Pending });
        }
        Err(self.attempt(step, Some(state)))
    }

    /// The pause before read-back number `n + 1`: it doubles from `verify_interval`.
    pub(crate) fn pause(&self, n: u32) -> Duration {
        let doubled = self.rules.verify_interval.saturating_mul(1_u32 << n.saturating_sub(1).min(16));
        doubled.min(self.longest_pause())
    }

    pub(crate) fn longest_pause(&self) -> Duration {
        self.limits.max_interval.max(self.rules.verify_interval)
    }

    /// Another attempt at a step, unless its failures exclude it.
    pub(crate) fn attempt(&self, step: Step, state: Option<&StepState>) -> Next {
        let Some(state) = state else { return Next::Call(step) };
        let Some((kind, reason)) = state.failure else {
            // An excused attempt has a pause of its own.
            return match self.now < state.not_before {
                true => Next::Wait { until: state.not_before, why: Why::Retry },
                false => Next::Call(step),
            };
        };
        match kind {
            FailureKind::Rejected => Next::End(TargetEnd::failed(reason, step.name)),
            FailureKind::Refused => Next::End(TargetEnd::refused(reason, step.name)),
            FailureKind::UnauthorisedTheirs(input) if state.attempts >= MOST_ASKS => {
                let _ = input;
                Next::End(TargetEnd::failed(Reason::InputRefused, step.name))
            }
            FailureKind::UnauthorisedTheirs(input) => Next::Ask(vec![self.ask(input, step.name)]),
            FailureKind::Unreadable if state.unreadable >= FEW => Next::End(TargetEnd::failed(reason, step.name)),
            FailureKind::Unavailable
            | FailureKind::Ambiguous
            | FailureKind::Unreadable
            | FailureKind::RateLimited
            | FailureKind::UnauthorisedOurs => {
                let elapsed = state.last_failed_at.since(state.first_failed_at);
                if state.attempts >= self.limits.max_attempts || elapsed >= self.limits.max_elapsed {
                    return Next::End(TargetEnd::failed(reason, step.name));
                }
                if self.now < state.not_before {
                    return Next::Wait { until: state.not_before, why: Why::Retry };
                }
                Next::Call(step)
            }
        }
    }

    /// Requires that a read on which a destructive call rests is recent, see [`TargetState::is_fresh`]. Only here may
    /// a call follow from a read.
    pub(crate) fn fresh(&self, read: Step) -> Go<()> {
        if self.state.is_fresh(read, self.now) { Ok(()) } else { Err(self.attempt(read, self.state.get(read))) }
    }

    /// Carries out a step with an intent. It rests on the reads in `basis`, which are repeated if they are too old.
    /// `read_back` shows, from reads after an entry, whether the effect is there. `unclear` decides about a step
    /// whose answer decided nothing and whose effect is not there.
    pub(crate) fn act(
        &self,
        act: Act<'_>,
        read_back: impl Fn(u64) -> Go<Seen>,
        unclear: impl Fn(Reason, &StepState) -> Go<()>,
    ) -> Go<Evidence> {
        let Act { step, .. } = act;
        let Some(state) = self.state.get(step) else { return Err(self.intend(act)?) };
        match &state.answer {
            Some(Answer::Done) => return Ok(Evidence::Answer),
            _ if state.is_done() => return Ok(if state.is_ours() { Evidence::Before } else { Evidence::NotOurs }),
            None => {}
            Some(answer) => {
                let done = read_back(state.seq)? == Seen::Done;
                if !done {
                    let reason = if let Answer::Unclear(reason) = answer { *reason } else { Reason::UnreadableReply };
                    unclear(reason, state)?;
                }
                return Err(Next::Settle { step, done });
            }
        }
        match state.intent {
            Intent::Doubt => Err(Next::Settle { step, done: read_back(state.seq)? == Seen::Done }),
            Intent::Fresh => Err(Next::Call(step)),
            Intent::None => match self.attempt(step, Some(state)) {
                Next::Call(_) => match act.rewrites.filter(|_| state.may_have_acted()) {
                    None => Err(self.intend(act)?),
                    Some(look) => {
                        let others = act.basis.iter().filter(|read| read.name != StepName::Resolve);
                        others.chain([&look]).try_for_each(|read| self.fresh(*read))?;
                        let done = read_back(0)? == Seen::Done;
                        Err(if done { Next::Settle { step, done } } else { Next::Intend(vec![step]) })
                    }
                },
                other => Err(other),
            },
        }
    }

    /// The intents of a step without any effect so far, after its basis was read just now.
    pub(crate) fn intend(&self, act: Act<'_>) -> Go<Next> {
        for read in act.basis {
            self.fresh(*read)?;
        }
        Ok(Next::Intend(self.ahead(&act)))
    }

    /// This step and up to `ahead` untouched ones after it, as far as their own reads are recent enough.
    pub(crate) fn ahead(&self, act: &Act<'_>) -> Vec<Step> {
        let Act { step, ahead, item_read, .. } = *act;
        let untouched =
            |item: &u32| self.state.get(Step::item(step.name, *item)).is_none_or(|s| *s == StepState::default());
        let is_read = |item: &u32| item_read.is_none_or(|name| self.state.is_fresh(Step::item(name, *item), self.now));
        let more = (step.item + 1..step.item.saturating_add(ahead.min(AHEAD)))
            .take_while(|item| untouched(item) && is_read(item));
        std::iter::once(step).chain(more.map(|item| Step::item(step.name, item))).collect()
    }

    /// Compares the person of the first read with the person of the job. `Ok(true)`: the person is there.
    pub(crate) fn same_person(&self, identity: Identity) -> Go<bool> {
        match identity {
            Identity::Same => Ok(true),
            Identity::Blank => Ok(false),
            Identity::Other => Err(Next::End(TargetEnd::refused(Reason::IdentityMismatch, StepName::Resolve))),
            Identity::Unreadable if self.rules.strict_identity => {
                Err(Next::End(TargetEnd::refused(Reason::IdentityUnreadable, StepName::Resolve)))
            }
            Identity::Unreadable => Ok(true),
        }
    }

    /// Stops for a confirmation, if one is needed and missing.
    pub(crate) fn confirmed(&self, is_active: bool, step: StepName) -> Go<()> {
        let needed = match self.rules.confirm {
            Confirm::Always => true,
            Confirm::WhenActive => is_active,
            Confirm::Never => false,
        };
        if !needed || self.job.confirmation_for(self.target).is_some() {
            return Ok(());
        }
        let mut ask = self.ask(InputKind::Confirmation, step);
        ask.entitlements = self.state.entitlements.iter().filter(|row| row.gives_access).cloned().collect();
        Err(Next::Ask(vec![ask]))
    }

    /// Stops for an approval, if one is needed: none was given, it is too old for an erasure that has not begun, or
    /// the losses are larger than the approved ones.
    pub(crate) fn approved(&self, step: StepName) -> Go<()> {
        let approving = &self.state.approving;
        let holds = |approved: &Approved| {
            let in_time = self.state.touched || self.now.since(approved.at) < self.limits.approval_max;
            in_time && Found::of(self.state).is_within(&approved.found)
        };
        if !approving.is_needed() || approving.approved.as_ref().is_some_and(holds) {
            return Ok(());
        }
        let mut ask = self.ask(InputKind::Approval, step);
        ask.entitlements = self.state.entitlements.iter().filter(|row| row.gives_access).cloned().collect();
        Err(Next::Ask(vec![ask]))
    }

    pub(crate) fn ask(&self, kind: InputKind, step: StepName) -> Ask {
        Ask { kind, expires_at: None, entitlements: Vec::new(), step }
    }

    /// Ends the target if the oldest of these inputs has been waited for too long.
    pub(crate) fn unless_too_late(&self, asks: Vec<Ask>) -> Next {
        let late = asks.iter().find(|ask| {
            self.state.asked.get(&ask.kind).is_some_and(|asked| self.now.since(*asked) >= self.limits.input_max)
        });
        match late {
            Some(ask) => Next::End(TargetEnd::failed(Reason::InputNeverCame, ask.step)),
            None => Next::Ask(asks),
        }
    }

    pub(crate) fn failed<T>(&self, reason: Reason, step: StepName) -> Go<T> {
        Err(Next::End(TargetEnd::failed(reason, step)))
    }

    pub(crate) fn refused<T>(&self, reason: Reason, step: StepName) -> Go<T> {
        Err(Next::End(TargetEnd::refused(reason, step)))
    }

    pub(crate) fn previewed(&self) -> TargetEnd {
        TargetEnd::well(TargetOutcome::Previewed)
    }

    /// True if the call was made, or may have been: no input is needed any more, only its effect must be read.
    pub(crate) fn is_sent(&self, step: Step) -> bool {
        self.state
            .get(step)
            .is_some_and(|state| state.settled_done || state.answer.is_some() || state.intent == Intent::Doubt)
    }

    /// The sequence number of a step's last entry; 0 if there is none.
    pub(crate) fn seq(&self, step: Step) -> u64 {
        self.state.get(step).map_or(0, |state| state.seq)
    }

    /// Waits until the read-back shows the effect of an accepted call.
    pub(crate) fn verified(&self, acted: Step, shows: impl Fn(&Answer) -> Option<Seen>) -> Go<()> {
        let step = Step::one(StepName::ReadBack);
        // A doubt that a read-back settled as done needs no second read-back.
        if self.state.get(acted).is_some_and(|state| state.settled_done) {
            return Ok(());
        }
        match shows(self.poll_after(step, acted, |answer| shows(answer) == Some(Seen::Done))?) {
            Some(Seen::Done) => Ok(()),
            Some(Seen::NotDone) => self.failed(Reason::NotGone, StepName::ReadBack),
            None => self.failed(Reason::Unproven, StepName::ReadBack),
        }
    }

    /// If a call was answered as done and a few later reads show no effect, the call is repeated: a few times, and
    /// only if the repeat is harmless. After that only reads are left.
    pub(crate) fn taken(&self, acted: Step, look: Step, shows: impl Fn(&Answer) -> Option<Seen>) -> Go<()> {
        let (Some(act), Some(look)) = (self.state.get(acted), self.state.get(look)) else { return Ok(()) };
        let is_seen = look.failure.is_none() && look.seq > act.seq && look.answers >= FEW;
        let is_not_done = look.answer.as_ref().is_some_and(|answer| shows(answer) == Some(Seen::NotDone));
        let may_repeat = acted.name.repeat_is_harmless() && act.is_done() && act.repeats < MOST_REPEATS;
        if is_seen && is_not_done && may_repeat {
            return Err(Next::Settle { step: acted, done: false });
        }
        Ok(())
    }

    /// After a lost answer to a deletion that runs in the background: it counts as "not done" only if a read-back at
    /// least `verify_interval` after the call still shows the person.
    pub(crate) fn looked_twice(&self, acted: Step, seq: u64, shows: impl Fn(&Answer) -> Option<Seen>) -> Go<Seen> {
        let step = Step::one(StepName::ReadBack);
        match shows(self.read_after(step, seq)?) {
            Some(Seen::Done) => return Ok(Seen::Done),
            None => return self.failed(Reason::Unproven, StepName::ReadBack),
            Some(Seen::NotDone) => {}
        }
        let called_at = self.state.get(acted).map_or(At::default(), |state| state.intent_at.max(state.last_failed_at));
        let until = called_at.plus(self.rules.verify_interval);
        match self.state.get(step) {
            Some(state) if state.answered_at < until && self.now < until => {
                Err(Next::Wait { until, why: Why::Pending })
            }
            Some(state) if state.answered_at < until => Err(self.attempt(step, Some(state))),
            _ => Ok(Seen::NotDone),
        }
    }
}

/// The fields of a VitalSource user to overwrite: all that were not empty at the first read or a read-back, and all
/// of the job's; the reference only if the job names it.
pub fn fields_to_overwrite(state: &TargetState, asked: &std::collections::BTreeSet<Field>) -> Vec<Field> {
    let resolved = state.get(Step::one(StepName::Resolve)).and_then(|state| state.answer.as_ref());
    let read = if let Some(Answer::User { fields, .. }) = resolved { fields.as_slice() } else { &[] };
    let is_stored = |field: &Field| read.contains(field) || state.left.contains(field);
    Field::ALL
        .into_iter()
        .filter(|field| asked.contains(field) || (*field != Field::Reference && is_stored(field)))
        .collect()
}
