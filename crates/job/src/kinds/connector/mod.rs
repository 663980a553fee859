//! Any system, by a connector's plan: look for the person, make each act and each member of its list a checkpoint of
//! its own, and prove its effect.
//!
//! The rule it keeps: an act's effect is proven by what the plan names, and by nothing else. An absence proves
//! something only at an address at which something was seen before.

mod spec;

use std::time::Duration;

use secrecy::ExposeSecret as _;

use super::{About, Lines, Spec, fields};
use crate::flow::{Act as Call, Confirm, FEW, Flow, Go, Next, Seen, Why};
use crate::outcome::{Reason, TargetEnd, TargetOutcome};
use crate::plan::{Act, Ends, Evidence, Expect, Lost, Plan};
use crate::reading::{Means, Shows};
use crate::state::{Intent, StepState};
use crate::step::{Answer, Identity, MOST_ITEMS, Step, StepName};

pub(super) const KIND: About = About {
    name: "connector",
    confirm: Confirm::Never,
    spec: spec::spec,
    next,
    id_form: None,
    lines: Lines {
        keys: &[],
        found_by: &[],
        is_enough: false,
        fields: &[],
        needs: None,
        methods: &[],
        target: |_, _, _| fields([]),
    },
};

/// A database has the same flow.
pub(super) const SQL: About = About { name: "sql", ..KIND };

/// A receiver has the same flow.
pub(super) const WEBHOOK: About = About { name: "webhook", ..KIND };

const RESOLVE: Step = Step::one(StepName::Resolve);
const READ: StepName = StepName::ConnectorRead;
const ACT: StepName = StepName::ConnectorAct;
const LOOK: StepName = StepName::ConnectorReadBack;

fn next(flow: &Flow<'_>) -> Go<TargetEnd> {
    let Some(plan) = flow.rules.plan.as_deref() else { return flow.failed(Reason::Invalid, StepName::Resolve) };
    let each = || flow.state.all(ACT).iter();
    let has_acted = each().any(|state| state.may_have_acted() || state.intent == Intent::Doubt);
    Connector { flow, plan, has_acted }.next()
}

/// A target, and the plan for it.
struct Connector<'a> {
    flow: &'a Flow<'a>,
    plan: &'a Plan,
    /// True if a call of ours has or may have taken effect: a read may show that effect.
    has_acted: bool,
}

/// What a read shows of an expectation.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// What counts.
    Counts,
    /// The system is working on it.
    Pending,
    /// The person or the object is still there.
    Not,
    /// Nothing: unreadable, of another meaning, or an absence where nothing was seen.
    Nothing,
}

impl Connector<'_> {
    fn next(&self) -> Go<TargetEnd> {
        let (flow, plan) = (self.flow, self.plan);
        self.same_plan()?;
        if !self.has_acted {
            if !self.person()? {
                return Ok(if flow.is_preview() { flow.previewed() } else { TargetEnd::well(TargetOutcome::Absent) });
            }
            self.first_reads()?;
            if flow.is_preview() {
                return Ok(flow.previewed());
            }
            flow.approved(ACT)?;
            flow.confirmed(true, ACT)?;
        }
        let (mut is_any, mut is_ours, mut is_open) = (false, false, plan.ends == Ends::Unproven);
        for (place, act) in plan.acts.iter().enumerate() {
            let count = self.members(act)?;
            let step = |member| Step::of_connector(ACT, place, member);
            let leading = flow.state.leading(place);
            // All members' calls before the first proof: the waits for their effects pass together.
            for member in leading.done.min(count)..count {
                self.call_once(act, step(member))?;
            }
            for member in leading.settled.min(count)..count {
                self.prove(act, step(member))?;
            }
            is_any |= count > 0;
            is_ours |= (0..count).any(|member| flow.state.get(step(member)).is_some_and(StepState::is_ours));
            is_open |= count > 0 && act.evidence == Evidence::None;
        }
        // The person was there, and no call was made.
        if !is_any || is_open {
            return flow.failed(Reason::Unproven, ACT);
        }
        Ok(TargetEnd::well(if is_ours { TargetOutcome::Erased } else { TargetOutcome::Absent }))
    }

    /// The journal has places only. With another plan they mean other reads and acts.
    fn same_plan(&self) -> Go<()> {
        let (flow, plan) = (self.flow, self.plan);
        let is_same = flow.state.findings.shape.is_none_or(|shape| shape == plan.shape());
        if is_same {
            return Ok(());
        }
        if flow.state.touched {
            return flow.failed(Reason::Unproven, ACT);
        }
        let first = plan.first_reads().first().map(|read| Step::of_connector(READ, *read, 0));
        match if self.is_checked() { Some(RESOLVE) } else { first } {
            Some(read) => Err(flow.attempt(read, flow.state.get(read))),
            None => Ok(()),
        }
    }

    fn is_checked(&self) -> bool {
        self.plan.reads.first().is_some_and(|read| !read.is_unchecked)
    }

    /// Whether the person is there. It is the person of the job.
    fn person(&self) -> Go<bool> {
        let flow = self.flow;
        if !self.is_checked() {
            return flow.same_person(Identity::Unreadable);
        }
        match flow.read(RESOLVE)?.means() {
            // Empty fields do not show that a record is anonymised: every vendor has its own.
            Some(Means::Found(Identity::Blank)) => flow.same_person(Identity::Unreadable),
            Some(Means::Found(identity)) => flow.same_person(identity),
            Some(Means::Gone(_)) => Ok(false),
            _ => flow.failed(Reason::UnreadableReply, StepName::Resolve),
        }
    }

    /// The reads that give the acts their facts.
    fn first_reads(&self) -> Go<()> {
        let flow = self.flow;
        for read in self.plan.first_reads() {
            match flow.read(Step::of_connector(READ, read, 0))?.means() {
                Some(Means::Found(Identity::Other)) => return flow.refused(Reason::IdentityMismatch, READ),
                Some(Means::Found(_) | Means::Gone(_) | Means::Done | Means::Marked | Means::NotDone) => {}
                _ => return flow.failed(Reason::UnreadableReply, READ),
            }
        }
        Ok(())
    }

    /// The number of calls of an act.
    fn members(&self, act: &Act) -> Go<u32> {
        let Some(fact) = act.each else { return Ok(1) };
        let count = self.flow.state.findings.list(fact).map(|members| u32::try_from(members.len()).unwrap_or(u32::MAX));
        match count {
            Some(count) if count <= MOST_ITEMS => Ok(count),
            Some(_) => self.flow.failed(Reason::UnreadableReply, READ),
            // Nothing is there of which there could be a list.
            None if act.reads.iter().any(|read| self.is_gone(*read)) => Ok(0),
            None => self.flow.failed(Reason::UnreadableReply, READ),
        }
    }

    fn is_gone(&self, read: usize) -> bool {
        let state = self.flow.state.get(Step::of_connector(READ, read, 0));
        matches!(state.and_then(|state| state.answer.as_ref()?.means()), Some(Means::Gone(_)))
    }

    /// One call. It is done afterwards, or accepted.
    fn call_once(&self, act: &Act, step: Step) -> Go<()> {
        let flow = self.flow;
        if flow.state.get(step).is_some_and(|state| state.settled_done) {
            return Ok(());
        }
        if !flow.is_sent(step) {
            self.may_call(act, step)?;
        }
        let basis = self.basis(act, step);
        let call = self.call(act, step, &basis);
        flow.act(call, |seq| self.read_back(act, step, seq), |reason, state| self.unclear(reason, state)).map(drop)
    }

    /// The proof of a call's effect.
    fn prove(&self, act: &Act, step: Step) -> Go<()> {
        let flow = self.flow;
        if flow.state.get(step).is_some_and(|state| state.settled_done) {
            return Ok(());
        }
        match &act.evidence {
            Evidence::Read { .. } => {
                self.shown(act, step)?;
                Err(Next::Settle { step, done: true })
            }
            // Only an accepted call has a status.
            Evidence::Word { proof, .. } if !proof.is_empty() || self.is_accepted(step) => {
                self.shown(act, step)?;
                Err(Next::Settle { step, done: true })
            }
            Evidence::Answer if self.is_accepted(step) => flow.failed(Reason::Unproven, ACT),
            Evidence::Word { .. } | Evidence::Answer | Evidence::Declared(_) | Evidence::None => Ok(()),
        }
    }

    fn is_accepted(&self, step: Step) -> bool {
        let answer = self.flow.state.get(step).and_then(|state| state.answer.as_ref());
        answer.and_then(Answer::means) == Some(Means::Accepted)
    }

    fn call<'b>(&self, act: &Act, step: Step, basis: &'b [Step]) -> Call<'b> {
        let look = match &act.lost {
            Lost::Read(expect) => expect.first().map(|expect| look_of(expect, step)),
            _ => None,
        };
        Call { rewrites: look, ..Call::one(step, basis) }
    }

    /// The reads on which a call rests: the facts, and the person; before a repeat that reads decide, these reads
    /// instead of the person.
    fn basis(&self, act: &Act, step: Step) -> Vec<Step> {
        // Up to the first act about the whole person, a list may grow while the job waits.
        let before = &self.plan.acts[..step.place().min(self.plan.acts.len())];
        let before = if before.iter().all(|act| act.each.is_some()) { before } else { &[] };
        let mut facts: Vec<usize> = before.iter().chain([act]).flat_map(|act| act.reads.iter().copied()).collect();
        facts.retain(|read| *read != 0);
        facts.sort_unstable();
        facts.dedup();
        let facts = facts.into_iter().map(|read| Step::of_connector(READ, read, 0));
        let may_have_acted = self.flow.state.get(step).is_some_and(StepState::may_have_acted);
        match &act.lost {
            Lost::Read(expect) if may_have_acted => facts.chain(expect.iter().map(|one| look_of(one, step))).collect(),
            _ => self.is_checked().then_some(RESOLVE).into_iter().chain(facts).collect(),
        }
    }

    /// Stops a call whose losses are not approved, that lacks a proof or a fact, or whose person is another one now.
    fn may_call(&self, act: &Act, step: Step) -> Go<()> {
        let (flow, plan) = (self.flow, self.plan);
        let person = flow.state.get(RESOLVE).and_then(|state| state.answer.as_ref()).and_then(Answer::means);
        if self.has_acted && person == Some(Means::Found(Identity::Other)) {
            // It may be a change of our own, or another person.
            return flow.failed(Reason::Unproven, StepName::Resolve);
        }
        flow.approved(ACT)?;
        if let Some((name, input)) = act.proof.and_then(|proof| plan.proofs.get(proof)) {
            let is_given = match &flow.target.spec {
                Spec::Connector { proofs, .. } => proofs.get(name).is_some_and(|text| !text.expose_secret().is_empty()),
                _ => false,
            };
            if !is_given {
                return Err(Next::Ask(vec![flow.ask(*input, ACT)]));
            }
        }
        if act.needs.iter().any(|fact| !self.has_fact(*fact, step)) {
            return flow.failed(Reason::UnreadableReply, READ);
        }
        Ok(())
    }

    fn has_fact(&self, fact: u16, step: Step) -> bool {
        self.flow.state.findings.fact(fact, step.member()).is_some()
    }

    /// Decides about a call in doubt, or about one whose answer decided nothing.
    fn read_back(&self, act: &Act, step: Step, seq: u64) -> Go<Seen> {
        let flow = self.flow;
        match &act.lost {
            Lost::Read(expect) => {
                let seen = self.happened(act, expect, step, seq)?;
                // It happened, and so it must not be repeated. What proves it may be more.
                if seen == Seen::Done && matches!(act.evidence, Evidence::Read { .. }) {
                    self.shown(act, step)?;
                }
                Ok(seen)
            }
            Lost::Unproven => flow.failed(Reason::Unproven, ACT),
            Lost::Recognised | Lost::Harmless => {
                let state = flow.state.get(step);
                if state.is_none_or(|state| state.intent != Intent::Doubt) {
                    return Ok(Seen::NotDone);
                }
                self.may_call(act, step)?;
                match flow.attempt(step, state) {
                    Next::Call(_) => Err(flow.intend(self.call(act, step, &self.basis(act, step)))?),
                    other => Err(other),
                }
            }
        }
    }

    /// An answer decided nothing, and nothing happened.
    fn unclear(&self, reason: Reason, state: &StepState) -> Go<()> {
        if is_about_proof(reason) || state.unclear >= FEW { self.flow.failed(reason, ACT) } else { Ok(()) }
    }

    /// Whether a call happened, by reads after the entry `seq`. "Not" needs a read some time after the call: systems
    /// take a moment to show an effect.
    fn happened(&self, act: &Act, expects: &[Expect], step: Step, seq: u64) -> Go<Seen> {
        let flow = self.flow;
        if expects.is_empty() {
            return flow.failed(Reason::Unproven, ACT);
        }
        let (mut is_not, mut is_pending, mut open, mut early) = (false, false, None, None);
        let first = if let Evidence::Read { first, .. } = &act.evidence { *first } else { Default::default() };
        let is_read = matches!(act.evidence, Evidence::Read { .. });
        let state = flow.state.get(step);
        let called_at = state.map_or(flow.now, |state| state.intent_at.max(state.last_failed_at));
        // The system has answered that the proof is wrong, or that nobody is there: one read decides which.
        let is_answered = state.and_then(|state| state.answer.as_ref());
        let is_answered = matches!(is_answered, Some(Answer::Unclear(reason)) if is_about_proof(*reason));
        let pause = if is_answered { Duration::ZERO } else { first.max(flow.rules.verify_interval) };
        let until = called_at.plus(pause);
        for expect in expects {
            let look = self.readable(expect, step)?;
            let answer = flow.read_any_after(look, seq)?;
            // Where no read follows as evidence, this one ends the act.
            match self.verdict(expect, look, answer, is_read || self.leads_on(step, expects)) {
                Verdict::Counts => {}
                // What is being worked on is proven by a later read only.
                Verdict::Pending if !is_read => open = open.or(Some(look)),
                Verdict::Pending => is_pending = true,
                Verdict::Not => {
                    is_not = true;
                    if flow.state.get(look).is_some_and(|state| state.answered_at < until) {
                        early = early.or(Some(look));
                    }
                }
                Verdict::Nothing => open = open.or(Some(look)),
            }
        }
        if is_pending {
            return Ok(Seen::Done);
        }
        match (early, open) {
            (Some(_), _) if flow.now < until => Err(Next::Wait { until, why: Why::Pending }),
            (Some(look), _) => Err(flow.attempt(look, flow.state.get(look))),
            _ if is_not => Ok(Seen::NotDone),
            (None, Some(look)) => match flow.looks_again(look) {
                Some(next) => Err(next),
                None => flow.failed(Reason::Unproven, LOOK),
            },
            (None, None) => Ok(Seen::Done),
        }
    }

    /// A read after an act. The facts in its call must be there: without them it would read something else.
    fn readable(&self, expect: &Expect, step: Step) -> Go<Step> {
        let needs = self.plan.reads.get(expect.read).map_or(&[][..], |read| &read.needs);
        if needs.iter().all(|fact| self.has_fact(*fact, step)) {
            return Ok(look_of(expect, step));
        }
        self.flow.failed(Reason::Unproven, LOOK)
    }

    /// True if the evidence itself finds something that a later act erases: "deleted, and in the bin".
    fn leads_on(&self, step: Step, expects: &[Expect]) -> bool {
        step.place() + 1 < self.plan.acts.len() && expects.iter().any(|expect| expect.shows == [Shows::Found])
    }

    fn verdict(&self, expect: &Expect, look: Step, answer: &Answer, may_be_marked: bool) -> Verdict {
        let Some(reading) = answer.reading() else { return Verdict::Nothing };
        let Some(shows) = reading.means.shows() else { return Verdict::Nothing };
        if matches!(reading.means, Means::Found(Identity::Other | Identity::Blank)) {
            return Verdict::Nothing;
        }
        let state = self.flow.state;
        let was_seen = || {
            let seq = state.get(look).map_or(0, |state| state.seq);
            state.findings.was_seen(self.plan, expect.read, look.member(), seq)
        };
        match shows {
            // The person's address still stands there.
            Shows::Done if reading.means == Means::Marked && !may_be_marked => Verdict::Nothing,
            shows if expect.shows.contains(&shows) => {
                if reading.is_bare && !was_seen() {
                    Verdict::Nothing
                } else {
                    Verdict::Counts
                }
            }
            Shows::Found | Shows::NotDone => Verdict::Not,
            Shows::Pending => Verdict::Pending,
            Shows::Gone | Shows::Done => Verdict::Nothing,
        }
    }

    /// Waits until all reads of the evidence show what counts.
    fn shown(&self, act: &Act, step: Step) -> Go<()> {
        let flow = self.flow;
        let mut may_be_marked = false;
        let (expect, first, longest, within): (Vec<&Expect>, _, _, _) = match &act.evidence {
            Evidence::Read { expect, first, longest, within } => {
                may_be_marked = self.leads_on(step, expect);
                (expect.iter().collect(), *first, *longest, *within)
            }
            Evidence::Word { status, proof } => {
                let status = Some(status).filter(|_| self.is_accepted(step));
                (status.into_iter().chain(proof).collect(), Duration::ZERO, None, None)
            }
            Evidence::Answer | Evidence::Declared(_) | Evidence::None => return Ok(()),
        };
        // Without a read nothing would be shown.
        let acted = flow.state.get(step).filter(|_| !expect.is_empty());
        let Some(acted) = acted else { return flow.failed(Reason::Unproven, ACT) };
        let since = acted.answered_at.max(acted.intent_at).max(acted.last_failed_at).max(flow.state.run_began_at);
        let (first_at, within) = (since.plus(first), within.unwrap_or(flow.limits.pending_max));
        let shortest = flow.rules.verify_interval.max(first);
        let longest = longest.unwrap_or_else(|| flow.longest_pause());
        for expect in expect {
            let look = self.readable(expect, step)?;
            let state = flow.state.get(look);
            let is_read = state.is_some_and(|state| state.answer.is_some() && state.seq > acted.seq);
            if !is_read && flow.now < first_at {
                return Err(Next::Wait { until: first_at, why: Why::Pending });
            }
            let verdict = self.verdict(expect, look, flow.read_any_after(look, acted.seq)?, may_be_marked);
            let Some(state) = state.filter(|_| verdict != Verdict::Counts) else { continue };
            let waited = state.answered_at.since(since);
            if waited >= within {
                let is_there = matches!(verdict, Verdict::Not | Verdict::Pending);
                return flow.failed(if is_there { Reason::NotGone } else { Reason::Unproven }, LOOK);
            }
            let until = state.answered_at.plus(waited.max(shortest).min(longest.max(shortest)));
            if flow.now < until {
                return Err(Next::Wait { until, why: Why::Pending });
            }
            return Err(flow.attempt(look, Some(state)));
        }
        Ok(())
    }
}

const fn is_about_proof(reason: Reason) -> bool {
    matches!(reason, Reason::WrongCustomerPassword | Reason::WrongPassword)
}

/// The read that an expectation means, after an act.
const fn look_of(expect: &Expect, act: Step) -> Step {
    Step::of_connector(LOOK, expect.read, act.member())
}
