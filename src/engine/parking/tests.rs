//! Reports of a long wait: every reason, and every event in the worker's life meanwhile.
//!
//! The rule it keeps: no random values; the test moves the clock.

use std::time::Duration;

use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::broker::{Message, Properties, Via};
use crate::engine::journal::Journal;
use crate::engine::opening::Opened;
use crate::engine::stage::Stage;
use crate::engine::starts::Arrived;
use crate::job::event::WAITING;
use crate::job::{Answer, Entry, Step, StepName};

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;
/// The times of a job's checks over three days: just before and at each report.
const LOOKS: [u64; 13] = [
    0,
    15 * MINUTE - 1,
    15 * MINUTE,
    HOUR,
    4 * HOUR - 1,
    4 * HOUR,
    12 * HOUR,
    DAY - 1,
    DAY,
    2 * DAY,
    3 * DAY - 1,
    3 * DAY,
    3 * DAY + HOUR,
];

/// The documented times of the reports, for each kind of wait.
fn documented(why: Waiting) -> Vec<u64> {
    match why {
        Waiting::Input | Waiting::Guard => vec![DAY, 3 * DAY],
        _ => vec![15 * MINUTE, 4 * HOUR, DAY, 3 * DAY],
    }
}

/// An event in the worker's life before a check.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Meanwhile {
    Nothing,
    /// Another process, the same store.
    Restart,
    /// Another worker, with a store of its own.
    OtherWorker,
    /// The delivery is lost after the park was written: the same copy is redelivered.
    Lost,
    /// The same, and another process follows.
    LostAndRestart,
    /// The clock is a day behind at this check, and right again at the next.
    ClockBack,
}

const ALL: [Meanwhile; 6] = [
    Meanwhile::Nothing,
    Meanwhile::Restart,
    Meanwhile::OtherWorker,
    Meanwhile::Lost,
    Meanwhile::LostAndRestart,
    Meanwhile::ClockBack,
];

/// A job that is parked, and its newest copy.
struct Parked {
    stage: Stage,
    passed: u64,
    copy: Option<Publication>,
    /// The events of a long wait, as published.
    reported: Vec<Value>,
}

impl Parked {
    fn new() -> Parked {
        Parked { stage: Stage::new(), passed: 0, copy: None, reported: Vec::new() }
    }

    /// This long after the beginning.
    fn at(&mut self, seconds: u64) {
        self.stage.pass(Duration::from_secs(seconds - self.passed));
        self.passed = seconds;
    }

    fn another_worker(&mut self) {
        self.stage = Stage::new();
        self.stage.pass(Duration::from_secs(self.passed));
    }

    /// The newest copy is delivered, and parked again for this reason.
    async fn look(&mut self, why: Waiting, redelivered: bool, lost: bool, more: impl FnOnce(&Journal)) {
        let engine = std::sync::Arc::clone(&self.stage.engine);
        let job = self.stage.job(1);
        let token = CancellationToken::new();
        let (body, properties, via) = match &self.copy {
            None => (Stage::body(1).into(), Properties::default(), Via::Requests),
            Some(copy) => (copy.body.clone(), copy.properties.clone(), Via::Resume),
        };
        let message = Message { body, properties, via, redelivered, lost: token.clone(), epoch: 1 };
        let unsealed = envelope::open(&message, &engine.keyring).unwrap();
        let Ok(Opened::Work(journal)) = engine.open(&job, &unsealed, redelivered) else { panic!("nothing to be done") };
        more(&journal);
        let arrived = Arrived::new(Vec::new());
        let run =
            Run { job: &job, journal: &journal, lost: &token, cancelled: &CancellationToken::new(), arrived: &arrived };
        let received = Received { body: &unsealed.body, properties: &message.properties, traceparent: None };
        engine.publish_owed(&run, &received).await.unwrap();
        if lost {
            token.cancel();
        }
        let until = engine.now().plus(Duration::from_secs(60));
        let waits = Waits { until, why, target: Some(0), asks: Vec::new() };
        let parked = engine.park(&run, &received, &waits).await;
        assert_eq!(parked.is_err(), lost);
        for publication in self.stage.post.published.lock().unwrap().drain(..) {
            match &publication.to {
                Destination::Wait(_) => self.copy = Some(publication),
                Destination::Event { routing_key } => {
                    assert_eq!(*routing_key, format!("job.{WAITING}.acme"));
                    self.reported.push(serde_json::from_slice(&publication.body).unwrap());
                }
                other => panic!("{other:?}"),
            }
        }
    }

    /// A check with this event before it.
    async fn look_while(&mut self, why: Waiting, meanwhile: Meanwhile) {
        match meanwhile {
            Meanwhile::Nothing => {}
            Meanwhile::Restart => self.stage.restart(),
            Meanwhile::OtherWorker if self.copy.is_some() => self.another_worker(),
            Meanwhile::OtherWorker => {}
            Meanwhile::Lost | Meanwhile::LostAndRestart => {
                self.look(why, false, true, |_| {}).await;
                if meanwhile == Meanwhile::LostAndRestart {
                    self.stage.restart();
                }
                return self.look(why, true, false, |_| {}).await;
            }
            Meanwhile::ClockBack => {
                self.stage.put_back(Duration::from_secs(DAY));
                self.look(why, false, false, |_| {}).await;
                self.stage.pass(Duration::from_secs(DAY));
            }
        }
        self.look(why, false, false, |_| {}).await;
    }

    /// The times of the reports, one for each id.
    fn reported_after(&self) -> Vec<u64> {
        let mut ids = std::collections::BTreeSet::new();
        let first = self.reported.iter().filter(|event| ids.insert(event["id"].to_string()));
        let time = |value: &Value| value.as_str().unwrap().parse::<jiff::Timestamp>().unwrap().as_second();
        let after = |event: &Value| time(&event["time"]) - time(&event["data"]["wait"]["since"]);
        first.map(|event| u64::try_from(after(event)).unwrap()).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn of_a_wait_of_three_days_for_any_reason_the_documented_words_are_told_and_no_more() {
    for why in Waiting::ALL {
        let mut job = Parked::new();
        for seconds in LOOKS {
            job.at(seconds);
            job.look(why, false, false, |_| {}).await;
            let due: Vec<u64> = documented(why).into_iter().filter(|after| *after <= seconds).collect();
            assert_eq!(job.reported_after(), due, "{why:?} after {seconds} s");
        }
        for event in &job.reported {
            let (data, wait) = (&event["data"], &event["data"]["wait"]);
            assert_eq!((&data["waiting"], &data["final"]), (&why.as_str().into(), &false.into()));
            assert_eq!((&wait["then"], &wait["system"]), (&why.then().into(), &"loyalty".into()));
            assert!(!event.to_string().contains("M1"), "the event names nobody");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn whatever_happens_to_the_worker_at_any_look_nothing_is_told_twice_or_left_untold() {
    let mut runs = 0;
    for why in Waiting::ALL {
        for meanwhile in ALL {
            for moment in 0..LOOKS.len() {
                let mut job = Parked::new();
                for (look, seconds) in LOOKS.into_iter().enumerate() {
                    job.at(seconds);
                    let is_now = look == moment && !(look == 0 && meanwhile == Meanwhile::ClockBack);
                    job.look_while(why, if is_now { meanwhile } else { Meanwhile::Nothing }).await;
                }
                if meanwhile != Meanwhile::ClockBack {
                    assert_eq!(job.reported_after(), documented(why), "{why:?}, {meanwhile:?} at look {moment}");
                }
                // After the clock was put back the wait counts longer: two reports may become one, but never one two.
                let reported = job.reported.iter().map(|event| event["id"].to_string());
                let reported = reported.collect::<std::collections::BTreeSet<_>>().len();
                assert!(
                    (1..=documented(why).len()).contains(&reported),
                    "{why:?}, {meanwhile:?} at look {moment}: {reported}"
                );
                runs += 1;
            }
        }
    }
    assert_eq!(runs, Waiting::ALL.len() * ALL.len() * LOOKS.len());
}

#[tokio::test(start_paused = true)]
async fn a_job_that_waits_for_one_thing_after_another_and_comes_no_further_is_told_as_one_wait() {
    for (one, other) in Waiting::ALL.into_iter().flat_map(|one| Waiting::ALL.map(|other| (one, other))) {
        let mut job = Parked::new();
        for (look, seconds) in LOOKS.into_iter().enumerate() {
            job.at(seconds);
            job.look(if look % 2 == 0 { one } else { other }, false, false, |_| {}).await;
        }
        let reported = job.reported_after();
        assert!(
            (2..=4).contains(&reported.len()) && reported.is_sorted_by(|a, b| a < b),
            "{one:?}, {other:?}: {reported:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_job_that_came_further_begins_another_wait_and_one_whose_store_was_lost_does_not() {
    let done = |journal: &Journal, engine: &Engine| {
        let (step, at) = (Step::one(StepName::DeleteMember), engine.now());
        let entries = vec![
            Entry::Intent { target: 0, step, at },
            Entry::Answered { target: 0, step, answer: Some(Answer::Done), at },
        ];
        journal.append(&*engine.store, entries).unwrap();
    };
    let mut job = Parked::new();
    job.look(Waiting::Held, false, false, |_| {}).await;
    job.at(5 * HOUR);
    job.look(Waiting::Held, false, false, |_| {}).await;
    assert_eq!(job.reported_after(), [5 * HOUR], "both of what is due at once");
    job.at(6 * HOUR);
    let engine = std::sync::Arc::clone(&job.stage.engine);
    job.look(Waiting::Pending, false, false, |journal| done(journal, &engine)).await;
    job.at(6 * HOUR + 20 * MINUTE);
    job.look(Waiting::Pending, false, false, |_| {}).await;
    assert_eq!(job.reported_after(), [5 * HOUR, 20 * MINUTE]);
    // Another worker makes the same deletion once more, which is no progress.
    job.another_worker();
    job.at(7 * HOUR);
    let engine = std::sync::Arc::clone(&job.stage.engine);
    job.look(Waiting::Pending, false, false, |journal| done(journal, &engine)).await;
    job.at(8 * HOUR);
    job.look(Waiting::Pending, false, false, |_| {}).await;
    job.at(10 * HOUR);
    job.look(Waiting::Pending, false, false, |_| {}).await;
    assert_eq!(job.reported_after(), [5 * HOUR, 20 * MINUTE, 4 * HOUR]);
}
