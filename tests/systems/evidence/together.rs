//! Two jobs about one person at once, in every order of their calls.
//!
//! The rule it keeps: no order is random. All orders with one or two changes of turn are tried, and strict alternation
//! from every call on.

use std::collections::BTreeMap;
use std::time::Duration;

use erasure_worker::job::flow::{self, Next};
use erasure_worker::job::{
    At, Entry, Failure, FailureKind, Field, InputKind, Job, Reason, Spec, StepName, TargetEnd, TargetState,
};
use erasure_worker::systems::{Call, System};

use super::drive::facts;
use super::relay::Relay;
use super::scenario::{self, Scenario};

/// A job in work.
struct Worked {
    job: Job,
    state: TargetState,
    seq: u64,
    /// The number of calls of each destructive step.
    destroyed: BTreeMap<StepName, usize>,
    calls: usize,
    asked: Vec<InputKind>,
    end: Option<TargetEnd>,
    /// It waits for a person who does not answer.
    has_stopped: bool,
}

impl Worked {
    fn new(scenario: &Scenario, number: u128) -> Worked {
        let mut job = scenario.job();
        job.key.job_id = uuid::Uuid::from_u128(number);
        Worked {
            job,
            state: TargetState::default(),
            seq: 0,
            destroyed: BTreeMap::new(),
            calls: 0,
            asked: Vec::new(),
            end: None,
            has_stopped: false,
        }
    }

    fn goes_on(&self) -> bool {
        self.end.is_none() && !self.has_stopped
    }

    fn apply(&mut self, entry: Entry) {
        self.seq += 1;
        self.state.apply(&entry, self.seq);
    }

    /// Continues until one call is made, or the job stops or ends.
    async fn call(&mut self, scenario: &Scenario, client: &dyn System, now: &mut At) {
        while self.goes_on() {
            *now = now.plus(Duration::from_millis(50));
            match flow::next(&self.job, 0, &self.state, &scenario.rules, &scenario.limits(), *now) {
                Next::End(end) => self.end = Some(end),
                Next::Settle { step, done } => self.apply(Entry::Settled { target: 0, step, done, at: *now }),
                Next::Intend(steps) => {
                    steps.into_iter().for_each(|step| self.apply(Entry::Intent { target: 0, step, at: *now }));
                }
                Next::Wait { until, .. } => *now = until,
                Next::Ask(asks) => {
                    let kind = asks[0].kind;
                    if self.state.asked.contains_key(&kind) {
                        // No answer came.
                        *now = now.plus(Duration::from_secs(12 * 3600));
                        self.has_stopped = self.asked.iter().filter(|asked| **asked == kind).count() > 40;
                    } else {
                        self.apply(Entry::Asked { target: 0, kind, at: *now });
                    }
                    self.asked.push(kind);
                    if self.asked.len() < 5 && scenario.give(&mut self.job, &asks[0]) {
                        self.apply(Entry::Continued { at: *now });
                    }
                }
                Next::Call(step) => {
                    self.calls += 1;
                    let facts = facts(&self.job, &self.state, step);
                    let call = Call { job: &self.job, target: &self.job.targets[0], index: 0, step, facts: &facts };
                    let at = *now;
                    let said = client.call(call).await;
                    // A call with a refused proof destroyed nothing.
                    let is_refused =
                        matches!(&said, Err(failure) if matches!(failure.kind, FailureKind::UnauthorisedTheirs(_)));
                    *self.destroyed.entry(step.name).or_default() +=
                        usize::from(step.name.is_destructive() && !is_refused);
                    match said {
                        Ok(answer) => self.apply(Entry::Answered { target: 0, step, answer: Some(answer), at }),
                        Err(Failure { kind: FailureKind::RateLimited | FailureKind::UnauthorisedOurs, .. }) => {
                            panic!("{}: a stand-in refused the credential", scenario.name)
                        }
                        Err(Failure { kind, reason, .. }) => {
                            let not_before = at.plus(Duration::from_millis(500));
                            self.apply(Entry::Failed { target: 0, step, kind, reason, at, not_before });
                        }
                    }
                    return;
                }
            }
        }
    }
}

/// The order of calls: this many of the first job, then of the second; after them both go to their ends, alternating
/// or one after the other.
struct Order {
    turns: [usize; 2],
    alternating: bool,
}

async fn together(scenario: &Scenario, relay: &Relay, order: &Order) -> [Worked; 2] {
    let client = scenario.client(relay);
    relay.begin(scenario.world(), None);
    scenario.see_somebody(&*client).await;
    let mut jobs = [Worked::new(scenario, 1), Worked::new(scenario, 2)];
    let mut now = At(1_795_341_600_000);
    for (job, turns) in jobs.iter_mut().zip(order.turns) {
        for _ in 0..turns {
            job.call(scenario, &*client, &mut now).await;
        }
    }
    let mut turn = 0;
    while jobs.iter().any(Worked::goes_on) {
        let next = if order.alternating || !jobs[turn].goes_on() { 1 - turn } else { turn };
        jobs[turn].call(scenario, &*client, &mut now).await;
        turn = next;
        assert!(jobs.iter().all(|job| job.calls < 300), "{}: endless calls", scenario.name);
    }
    jobs
}

/// True if one of the two jobs cannot know that the other erased the person, and ends so.
fn may_not_know(scenario: &Scenario, end: Option<&TargetEnd>) -> bool {
    let reason = end.and_then(|end| end.reason);
    match scenario.name {
        // A customer with another e-mail may also be one who has changed it.
        "cleeng backend, other shapes" => reason == Some(Reason::IdentityMismatch),
        // No read-back is possible, and an unknown token is refused like an expired one.
        name if name.starts_with("loyalty token") => {
            matches!(reason, Some(Reason::Unproven | Reason::InputNeverCame | Reason::WrongPassword))
        }
        _ => false,
    }
}

fn scenarios() -> Vec<Scenario> {
    let mut all = scenario::all();
    for by_guid in [true, false] {
        let name = if by_guid { "vitalsource, the reference too" } else { "vitalsource by the reference that goes" };
        let mut spec = scenario::reader(&erasure_worker::sandbox::Person::numbered(scenario::PERSON), by_guid, true);
        if let Spec::VitalSource { overwrite, .. } = &mut spec {
            overwrite.insert(Field::Reference);
        }
        all.push(Scenario::new(name, spec, |_| {}));
    }
    all
}

#[tokio::test]
async fn two_jobs_about_one_person_both_end_well_in_any_order_of_their_calls() {
    let (mut runs, mut unknowing, mut breaches) = (0, 0, Vec::new());
    for scenario in scenarios() {
        let relay = Relay::default();
        let [alone, after] = together(&scenario, &relay, &Order { turns: [0, 0], alternating: false }).await;
        let ends_well = |job: &Worked| job.end.as_ref().is_some_and(|end| end.outcome.is_erased());
        let calls = alone.calls.max(after.calls);
        let mut orders: Vec<Order> = (0..=calls).map(|from| Order { turns: [from, 0], alternating: true }).collect();
        for first in 0..=calls {
            orders.extend((0..=calls).map(|second| Order { turns: [first, second], alternating: false }));
        }
        for order in orders {
            runs += 1;
            let jobs = together(&scenario, &relay, &order).await;
            let mut breach = |what: String| {
                breaches.push(format!("{} {:?} {}: {what}", scenario.name, order.turns, order.alternating));
            };
            if jobs.iter().any(ends_well) && !scenario.remains().is_empty() {
                breach(format!("ended well, although {:?} is left", scenario.remains()));
            }
            for job in &jobs {
                if ends_well(&alone) && !ends_well(job) {
                    match may_not_know(&scenario, job.end.as_ref()) {
                        true => unknowing += 1,
                        false => breach(format!("{:?}, asked for {:?}", job.end, job.asked)),
                    }
                }
                for (step, times) in &job.destroyed {
                    let needed = alone.destroyed.get(step).copied().unwrap_or_default();
                    if *times > needed {
                        breach(format!("{step:?} is called {times} times, alone {needed}"));
                    }
                }
            }
        }
    }
    eprintln!("two jobs about one person: {runs} orders, {unknowing} jobs that could not know");
    assert!(runs > 2_000, "{runs}");
    assert!(breaches.is_empty(), "{} of {runs}:\n{}", breaches.len(), breaches[..breaches.len().min(30)].join("\n"));
}
