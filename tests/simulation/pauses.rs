//! Checks that paused systems and tenants got no calls.
//!
//! The promises:
//!
//! - A pause reported to the operator as known everywhere is in the control stream by then.
//! - From the pause in the stream until the next resume no worker calls the paused subject: also not a worker that was
//!   stopped meanwhile, lost its store, or has an old copy of its store.
//! - A pause that the broker did not get holds at the asked worker while the worker keeps its store. It is published
//!   once the broker can take it.
//! - A step on the wire ends. No other call is made, not even a read.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use erasure_worker::engine::decisions::Published;
use erasure_worker::engine::pauses::Subject;
use erasure_worker::sandbox::Entry;
use serde_json::Value;
use testkit::connectors;
use testkit::forms::Case;
use tokio::time::Instant;

use crate::hub::Hub;
use crate::life::Surroundings;
use crate::operators::{Given, Operators};
use crate::verdict::Verdict;

/// Decisions are read within this time.
const READING: Duration = Duration::from_millis(200);

/// The pauses in the control stream.
#[derive(Default)]
struct Stream {
    /// The time of each pause, by the name of its operator.
    by: BTreeMap<String, Instant>,
    /// The times of each subject's pauses: begin and end.
    paused: BTreeMap<Subject, Vec<(Instant, Option<Instant>)>>,
}

impl Stream {
    fn read(hub: &Hub) -> Stream {
        let (mut stream, mut seen) = (Stream::default(), BTreeSet::new());
        for (at, body) in hub.control() {
            let message: Value = serde_json::from_slice(&body).unwrap();
            let Some(decision) = message["decision"].as_str() else { continue };
            let decision: Value = serde_json::from_str(decision).unwrap();
            if !seen.insert(decision["id"].to_string()) {
                continue;
            }
            let what = &decision["what"];
            let subject = |kind: &str| serde_json::from_value::<Subject>(what[kind]["subject"].clone()).ok();
            if let Some(subject) = subject("pause") {
                stream.by.insert(decision["by"].as_str().unwrap().to_owned(), at);
                let times = stream.paused.entry(subject).or_default();
                if times.last().is_none_or(|(_, end)| end.is_some()) {
                    times.push((at, None));
                }
            } else if let Some(subject) = subject("resume")
                && let Some((_, end @ None)) = stream.paused.entry(subject).or_default().last_mut()
            {
                *end = Some(at);
            }
        }
        stream
    }

    fn stands(&self, subject: &Subject, at: Instant) -> bool {
        let times = self.paused.get(subject).into_iter().flatten();
        times.into_iter().any(|(from, to)| *from + READING < at && to.is_none_or(|to| at < to))
    }
}

/// The subjects of a call: the configured system, and the person's tenant.
fn subjects(entry: &Entry, cases: &[Case]) -> Vec<Subject> {
    let system = match entry.system.as_str() {
        "loyalty@codes" => "codes",
        "requester" => "vitalsource",
        connectors::SHOP => "shop",
        other => other,
    };
    let mut subjects = vec![Subject::System(system.to_owned())];
    let is_theirs = |case: &&Case| {
        let person = &case.person;
        if [connectors::CLUB, connectors::CRM].contains(&entry.system.as_str()) {
            return entry.subject == Some(person.number.to_string());
        }
        let names = [
            &person.email,
            &person.customer_id,
            &person.database_id,
            &person.member_id,
            &person.integration_id,
            &person.card_id,
            &person.access_token,
            &person.guid,
            &person.reference,
        ];
        entry.subject.as_ref().is_some_and(|subject| names.contains(&subject) || person.codes.contains(subject))
    };
    if let Some(case) = cases.iter().find(is_theirs) {
        subjects.push(Subject::Tenant(case.body["tenant"].as_str().unwrap().to_owned()));
    }
    subjects
}

impl Verdict {
    /// Compares the calls with the pauses at their times.
    pub fn pauses(&mut self, around: &Surroundings, cases: &[Case], operators: &Operators) {
        let stream = Stream::read(&around.hub);
        for (subject, times) in &stream.paused {
            for (from, to) in times {
                let (from, to) = (around.clock.of(*from).as_millis(), to.map(|to| around.clock.of(to).as_millis()));
                self.story.push(format!("{from:>9} ms  {subject} is paused until {to:?}"));
            }
        }
        let given = operators.given.lock().unwrap();
        let desks = operators.desks.lock().unwrap();
        self.pauses = given.len() as u64;
        self.paused_jobs = around.hub.paused() as u64;
        for given in given.iter() {
            let in_stream = stream.by.get(&given.by);
            if given.told == Published::HereOnly {
                self.pauses_here_only += 1;
            } else if in_stream.is_none_or(|at| *at > given.at) {
                self.breaches.push(format!(
                    "{} by {}: reported as known everywhere, but not in the stream",
                    given.subject, given.by
                ));
            }
        }
        let entries = around.sandbox.entries(0);
        for (entry, reached) in entries.iter().zip(around.reached.lock().unwrap().iter()) {
            assert_eq!(entry.seq, reached.seq, "every call is made by a worker");
            let desk = desks.iter().find(|desk| desk.life == reached.life).unwrap();
            for subject in subjects(entry, cases) {
                let is_kept = |given: &Given| {
                    let is_its = given.subject == subject && given.worker == (desk.worker, desk.disk);
                    let is_in_stream = stream.by.get(&given.by).is_some_and(|at| *at <= reached.at);
                    is_its && !is_in_stream && given.at + READING < reached.began
                };
                if stream.stands(&subject, reached.began) || given.iter().any(is_kept) {
                    let (worker, at) = (desk.worker, around.clock.of(reached.at));
                    let call = entry.operation;
                    self.breaches.push(format!("{subject} is paused, and worker {worker} calls {call:?} at {at:?}"));
                }
            }
        }
        for desk in desks.iter().filter(|desk| desk.answers()) {
            let left = (desk.engine.pauses().all(), desk.engine.decisions_unpublished().unwrap());
            if left != (BTreeMap::new(), 0) {
                self.breaches
                    .push(format!("worker {} still has pauses or unpublished decisions: {left:?}", desk.worker));
            }
        }
    }
}
