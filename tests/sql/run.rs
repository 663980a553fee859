//! Runs a job's flow over a real client, as the engine does; waits pass at once.
//!
//! The rule it keeps: every entry is durable. A failure that only holds the system ends the run.

use std::time::Duration;

use erasure_worker::job::flow::{self, Limits, Next};
use erasure_worker::job::{
    Accepts, Answer, At, Entry, Failure, FailureKind, Job, Kind, Rules, Step, StepName, TargetEnd, TargetState, draft,
};
use erasure_worker::systems::sql::{SqlSettings, SqlSystem};
use erasure_worker::systems::{Call, Facts, System};
use serde_json::json;

use crate::shop::loaded;

/// A target's run.
pub struct Run {
    pub job: Job,
    rules: Rules,
    limits: Limits,
    state: TargetState,
    /// Every entry; those before `durable` survive the end of the process.
    entries: Vec<Entry>,
    durable: usize,
    now: At,
    /// The process ends after so many entries and calls: `true` if all entries survive.
    pub crash: Option<(usize, bool)>,
    /// The entries and calls so far.
    pub points: usize,
    /// Every call with its result.
    pub calls: Vec<(StepName, Result<Answer, Failure>)>,
}

/// Ann's job for a file.
pub fn ann(file: &str) -> Run {
    run(file, "7", "ann@example.com")
}

pub fn run(file: &str, user_id: &str, email: &str) -> Run {
    named(file, &[("user_id", user_id), ("email", email)])
}

/// A job with these identifiers.
pub fn named(file: &str, subject: &[(&str, &str)]) -> Run {
    let subject: serde_json::Map<_, _> =
        subject.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
    let settings = SqlSettings::new(loaded(file), "".into(), Duration::ZERO);
    let rules = Rules { plan: Some(settings.plan), ..Rules::new(Kind::Sql) };
    let accepts = Accepts {
        environment: "production".to_owned(),
        systems: [("shop".to_owned(), rules.clone())].into(),
        regulations: [].into(),
    };
    let job = json!({
        "schema": "erasure.job/v1",
        "job_id": "6c0b7b0e-6a4e-4a53-9a2e-0d8c6a0a7f11",
        "requested_at": "2026-11-22T10:00:00Z",
        "targets": [{ "system": "shop", "subject": subject }],
    });
    let job = draft::job(job.to_string().as_bytes(), None, &accepts).unwrap();
    let minute = Duration::from_secs(60);
    let limits = Limits {
        max_attempts: 5,
        max_elapsed: 60 * minute,
        max_interval: minute,
        input_max: 60 * minute,
        pending_max: 30 * minute,
        approval_max: 60 * minute,
    };
    let state = TargetState::default();
    let now = At(1_795_341_600_000);
    Run { job, rules, limits, state, entries: Vec::new(), durable: 0, now, crash: None, points: 0, calls: Vec::new() }
}

impl Run {
    /// Runs to the target's end. `before` is called before each call. `None`: a call held the system.
    pub async fn finish(
        &mut self,
        system: &SqlSystem,
        mut before: impl AsyncFnMut(StepName, usize),
    ) -> Option<TargetEnd> {
        for _ in 0..500 {
            let at = self.now;
            match flow::next(&self.job, 0, &self.state, &self.rules, &self.limits, self.now) {
                Next::End(end) if self.state.end.is_some() => return Some(end),
                Next::End(end) => self.append(Entry::Ended { target: 0, end, at }),
                Next::Settle { step, done } => self.append(Entry::Settled { target: 0, step, done, at }),
                Next::Intend(steps) => {
                    steps.into_iter().for_each(|step| self.append(Entry::Intent { target: 0, step, at }));
                    self.durable = self.entries.len();
                }
                Next::Wait { until, .. } => self.now = until,
                Next::Ask(asks) => panic!("asks for {asks:?}"),
                Next::Call(step) => {
                    before(step.name, self.calls.iter().filter(|(name, _)| *name == step.name).count()).await;
                    if self.call(system, step).await.is_err() {
                        return None;
                    }
                }
            }
        }
        panic!("it does not end: {:?}", self.calls);
    }

    /// The same, without a hook.
    pub async fn end(&mut self, system: &SqlSystem) -> Option<TargetEnd> {
        self.finish(system, async |_, _| {}).await
    }

    /// One call outside the flow.
    pub async fn ask(&self, system: &SqlSystem, step: Step) -> Result<Answer, Failure> {
        let (target, facts) = (&self.job.targets[0], Facts::default());
        system.call(Call { job: &self.job, target, index: 0, step, facts: &facts }).await
    }

    async fn call(&mut self, system: &SqlSystem, step: Step) -> Result<(), ()> {
        self.now = self.now.plus(Duration::from_millis(50));
        let said = self.ask(system, step).await;
        self.calls.push((step.name, said.clone()));
        let ends_here = self.crash.is_some_and(|(point, _)| point == self.points + 1);
        self.point();
        if ends_here {
            // Nobody wrote the answer down.
            return Ok(());
        }
        let at = self.now;
        match said {
            Ok(answer) => self.append(Entry::Answered { target: 0, step, answer: Some(answer), at }),
            Err(Failure { kind: FailureKind::RateLimited | FailureKind::UnauthorisedOurs, .. }) => return Err(()),
            Err(Failure { kind, reason, .. }) => {
                let not_before = at.plus(Duration::from_millis(500));
                self.append(Entry::Failed { target: 0, step, kind, reason, at, not_before });
            }
        }
        Ok(())
    }

    fn append(&mut self, entry: Entry) {
        self.entries.push(entry);
        self.state.apply(&self.entries[self.entries.len() - 1], self.entries.len() as u64);
        self.point();
    }

    /// The process may end here. The next one knows only the entries that survived.
    fn point(&mut self) {
        self.points += 1;
        let Some((_, all)) = self.crash.take_if(|(point, _)| *point == self.points) else { return };
        self.entries.truncate(if all { usize::MAX } else { self.durable });
        self.now = self.now.plus(Duration::from_secs(3));
        self.state = TargetState::default();
        for (place, entry) in self.entries.iter().enumerate() {
            self.state.apply(entry, place as u64 + 1);
        }
        self.state.doubt_open_intents();
    }

    /// The calls that change something.
    pub fn acts(&self) -> usize {
        self.calls.iter().filter(|(name, _)| *name == StepName::ConnectorAct).count()
    }

    /// The notes of all failures.
    pub fn failures(&self) -> String {
        let failures = self.calls.iter().filter_map(|(_, said)| said.as_ref().err());
        failures.map(ToString::to_string).collect::<Vec<_>>().join("; ")
    }
}
