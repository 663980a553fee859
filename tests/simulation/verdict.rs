//! The result of a run: counts, and every promise that it broke.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use erasure_worker::sandbox::{Entry, Operation, Sandbox};
use testkit::connectors;
use testkit::forms::{Case, Form};

use crate::hub::{Event, Hub};

/// The longest time of an event in the outbox.
const TELLING: std::time::Duration = std::time::Duration::from_secs(30);

/// A running worker has read a cancellation after this time.
const READING: std::time::Duration = std::time::Duration::from_secs(10);

#[derive(Default)]
pub struct Verdict {
    pub seed: u64,
    pub jobs: u64,
    pub calls: u64,
    pub kills: u64,
    pub stores_lost: u64,
    pub put_back: u64,
    pub handovers: u64,
    /// Pauses that were reported to an operator.
    pub pauses: u64,
    /// Of these, the ones that the broker did not have yet.
    pub pauses_here_only: u64,
    /// Jobs that waited for the end of a pause.
    pub paused_jobs: u64,
    pub parked: u64,
    pub cuts: u64,
    pub full_disks: u64,
    pub clock_jumps: u64,
    pub virtual_seconds: u64,
    pub outcomes: Vec<String>,
    pub breaches: Vec<String>,
    /// A digest of all calls and events, in order.
    pub trace: u64,
    /// The accidents, calls and events.
    pub story: Vec<String>,
}

/// The facts about a run that its result is compared with.
pub struct Facts {
    /// Jobs for which a cancellation was sent.
    pub cancelled: BTreeSet<String>,
    /// A store was lost, or two workers had the same job: then the second learns the first one's work by reads, and may
    /// publish a second final event.
    pub memory_lost: bool,
    /// The data of each job's person before the erasure.
    pub there: BTreeMap<String, Vec<&'static str>>,
}

impl Verdict {
    /// Judges the promises by the broker's and the systems' records.
    pub fn measure(&mut self, hub: &Hub, sandbox: &Sandbox, cases: &[Case], done: &Facts) {
        let (events, entries) = (hub.events(), sandbox.entries(0));
        self.jobs = cases.len() as u64;
        self.calls = entries.len() as u64;
        let mut trace = DefaultHasher::new();
        for call in &entries {
            (format!("{:?}", call.operation), &call.subject, call.status, call.effect).hash(&mut trace);
        }
        for event in &events {
            // Not the id, which also follows from the time and the receipt.
            (event.value["subject"].as_str(), &event.value["data"]["outcome"].to_string()).hash(&mut trace);
        }
        self.trace = trace.finish();
        self.parked = hub.parked();
        self.one_body_each(&events);
        if done.memory_lost {
            self.contradictions(hub, &events, &entries, cases);
        }
        self.cancellations(hub, sandbox, &events, cases, done);
        if !hub.is_empty() {
            self.breaches.push(format!("copies of settled jobs are still on the broker: {:?}", hub.copies()));
        }
        for job in hub.multiplied() {
            self.breaches.push(format!("an older copy of {job} was run and parked once more"));
        }
        for case in cases {
            self.ending(hub, sandbox, case, &events, done);
        }
        let summary = sandbox.summary();
        if !done.memory_lost {
            let repeats = [&summary.ambiguous_repeats, &summary.effective_repeats, &summary.otp_repeats];
            for repeat in repeats.into_iter().flatten() {
                self.breaches.push(format!("repeated: {repeat:?}"));
            }
            let acts = connectors::repeated(&entries).into_iter();
            self.breaches.extend(acts.map(|act| format!("repeated: {act}")));
        }
        if !summary.misuse.is_empty() {
            self.breaches.push(format!("misuse: {:?}", summary.misuse));
        }
    }

    /// Events with the same id have the same bytes.
    fn one_body_each(&mut self, events: &[Event]) {
        let mut bodies = BTreeMap::new();
        for event in events {
            if bodies.insert(&event.id, &event.body).is_some_and(|body| body != &event.body) {
                self.breaches.push(format!("two events have the id {}", event.id));
            }
        }
    }

    /// Contradictions that are forbidden even after lost stores and changes of workers.
    fn contradictions(&mut self, hub: &Hub, events: &[Event], entries: &[Entry], cases: &[Case]) {
        for case in cases {
            let of = |outcomes: &[&str]| {
                let is_so = |event: &&Event| {
                    let outcome = event.value["data"]["outcome"].as_str().unwrap();
                    event.value["subject"] == case.id.as_str() && outcomes.contains(&outcome)
                };
                events.iter().filter(is_so).collect::<Vec<_>>()
            };
            let breaches = &mut self.breaches;
            let mut breach = |what: &str| breaches.push(format!("{:?} {}: {what}", case.form, case.id));
            // After a job's end a refusal is right; a worker that did not know of the end may still cancel it.
            let finals = of(&["completed", "failed", "previewed"]);
            let is_first = |refused: &&Event| finals.iter().all(|last| last.at > refused.at);
            if of(&["cancel_refused"]).into_iter().any(|refused| is_first(&refused)) && !of(&["cancelled"]).is_empty() {
                breach("a cancellation was refused and also carried out");
            }
            let ended = of(&["completed", "failed", "cancelled", "previewed"]).first().map(|event| event.at);
            if let Some(ended) = ended
                && of(&["at_risk", "overdue"]).iter().any(|event| event.at > ended + TELLING)
            {
                breach("a deadline was reported after the end");
            }
            let sends = entries.iter().filter(|call| {
                let is_theirs = call.subject.as_ref().is_some_and(|subject| *subject == case.person.database_id);
                call.operation == Operation::RequestOtp && call.effect && is_theirs
            });
            let sends = sends.count();
            if sends > hub.asked(&case.id) {
                breach(&format!("{sends} one-time passwords were sent, {} were requested", hub.asked(&case.id)));
            }
        }
    }

    /// A job that was cancelled before its first step, in time for every worker to read it, is not carried out.
    fn cancellations(&mut self, hub: &Hub, sandbox: &Sandbox, events: &[Event], cases: &[Case], done: &Facts) {
        for case in cases {
            let Some(cancelled) = hub.cancelled_at(&case.id) else { continue };
            let of = |event: &&Event| event.value["subject"] == case.id.as_str();
            let is_carried_out = case.remains(sandbox) != done.there[&case.id] && case.form != Form::ByHand;
            // The job was published later, or its first event came later: no step was done before the cancellation.
            let first = events.iter().filter(of).map(|event| event.at).min();
            let began = hub.published_at(&case.id);
            let in_time = began.is_none_or(|began| began > cancelled + READING)
                && first.is_none_or(|first| first > cancelled + READING);
            if in_time && is_carried_out {
                self.breaches.push(format!("{:?} {}: cancelled before its start, but carried out", case.form, case.id));
            }
        }
    }

    fn ending(&mut self, hub: &Hub, sandbox: &Sandbox, case: &Case, events: &[Event], done: &Facts) {
        let finals: BTreeMap<_, _> = events
            .iter()
            .filter(|event| event.value["subject"] == case.id.as_str() && event.value["data"]["final"] == true)
            .map(|event| ((&event.id, &event.body), &event.value["data"]))
            .collect();
        let breaches = &mut self.breaches;
        let mut breach = |what: &str| breaches.push(format!("{:?} {}: {what}", case.form, case.id));
        if finals.is_empty() || (finals.len() > 1 && !done.memory_lost) {
            let outcomes: Vec<_> = finals.values().map(|data| data["outcome"].to_string()).collect();
            breach(&format!("{} endings: {outcomes:?}", finals.len()));
        }
        let remains = case.remains(sandbox);
        // A manual deletion is not the worker's.
        let is_changed = remains != done.there[&case.id] && case.form != Form::ByHand;
        let mut failed = false;
        for data in finals.values() {
            let outcome = data["outcome"].as_str().unwrap();
            let errors: Vec<_> =
                data["targets"].as_array().unwrap().iter().filter_map(|t| t["error"]["reason"].as_str()).collect();
            let all = |allowed: &[&str]| !errors.is_empty() && errors.iter().all(|reason| allowed.contains(reason));
            failed |= outcome == "failed";
            let is_fair = match (case.form, outcome) {
                (Form::WrongPassword, "failed") | (Form::Preview, "previewed") => true,
                (Form::WrongPassword | Form::Preview, "completed") => false,
                (_, "completed") => remains.is_empty(),
                // A worker that cannot read another worker's possible effect counts it as done.
                (_, "cancelled") => done.cancelled.contains(&case.id) && (data["partial"] == true || !is_changed),
                // Fair failures: repeated unreadable replies; a lost answer to a deletion by one-time
                // password; and after a lost store, an absence before the credential's first success,
                // or a proof that another worker had used.
                (_, "failed") if all(&["unreadable_reply"]) => true,
                (Form::OneTimePassword, "failed") if all(&["unproven"]) => true,
                (Form::OneTimePassword | Form::LoyaltyMember, "failed") => {
                    done.memory_lost && all(&["unproven", "input_refused"])
                }
                (_, "failed") => done.memory_lost && all(&["unproven"]),
                _ => false,
            };
            if !is_fair {
                breach(&format!("{outcome}, {remains:?} is left: {errors:?}"));
            }
        }
        let letters = hub.letters();
        let is_letter = letters.iter().any(|letter| {
            let id = letter.properties.headers.get("x-erasure-job-id").and_then(|value| value.as_text());
            id == Some(case.id.as_str())
        });
        if is_letter != failed {
            breach(&format!("failed: {failed}, a dead letter: {is_letter}"));
        }
        self.outcomes.extend(finals.values().map(|data| data["outcome"].as_str().unwrap().to_owned()));
    }
}
