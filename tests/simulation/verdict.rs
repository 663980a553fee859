//! What a run came to: counts, and every promise that it broke.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use erasure_worker::sandbox::Sandbox;

use crate::forms::{Case, Form};
use crate::hub::{Event, Hub};

#[derive(Default)]
pub struct Verdict {
    pub seed: u64,
    pub jobs: u64,
    pub calls: u64,
    pub kills: u64,
    pub stores_lost: u64,
    pub cuts: u64,
    pub full_disks: u64,
    pub clock_jumps: u64,
    pub virtual_seconds: u64,
    pub outcomes: Vec<String>,
    pub breaches: Vec<String>,
    /// A digest of all calls and events, in order.
    pub trace: u64,
    /// What was done to the workers, and what came of it.
    pub story: Vec<String>,
}

/// What was done to a run that its end must be measured by.
pub struct Done {
    /// Jobs for which a cancellation was sent.
    pub cancelled: BTreeSet<String>,
    /// A store was lost, or two workers had the same job: what one has done the other finds out by
    /// reading, and it may tell an ending of its own beside the first one's.
    pub memory_lost: bool,
}

impl Verdict {
    /// Measures the promises by what the broker and the systems have seen.
    pub fn measure(&mut self, hub: &Hub, sandbox: &Sandbox, cases: &[Case], done: &Done) {
        let (events, entries) = (hub.events(), sandbox.entries(0));
        self.jobs = cases.len() as u64;
        self.calls = entries.len() as u64;
        let mut trace = DefaultHasher::new();
        for call in &entries {
            (format!("{:?}", call.operation), &call.subject, call.status, call.effect).hash(&mut trace);
        }
        for event in &events {
            event.id.hash(&mut trace);
        }
        self.trace = trace.finish();
        if !done.memory_lost {
            self.one_body_each(&events);
        }
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
        }
        if !summary.misuse.is_empty() {
            self.breaches.push(format!("misuse: {:?}", summary.misuse));
        }
    }

    /// The same id, the same bytes.
    fn one_body_each(&mut self, events: &[Event]) {
        let mut bodies = BTreeMap::new();
        for event in events {
            if bodies.insert(&event.id, &event.body).is_some_and(|body| body != &event.body) {
                self.breaches.push(format!("two events have the id {}", event.id));
            }
        }
    }

    fn ending(&mut self, hub: &Hub, sandbox: &Sandbox, case: &Case, events: &[Event], done: &Done) {
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
                (_, "cancelled") => done.cancelled.contains(&case.id) && data["partial"] == false,
                // What cannot be read, or read back, is said, not guessed: garbage again and again, the
                // answer to a deletion by one-time password, and what a worker without memory finds
                // missing before it trusts its credential, or is refused because another one was there.
                (_, "failed") if all(&["unreadable_reply"]) => true,
                (Form::OneTimePassword, "failed") if all(&["unproven"]) => true,
                (Form::OneTimePassword | Form::LoyaltyMember, "failed") => {
                    done.memory_lost && all(&["unproven", "input_refused"])
                }
                (_, "failed") => done.memory_lost && all(&["unproven"]),
                _ => false,
            };
            if !is_fair {
                breach(&format!("{outcome}, there is still {remains:?}: {errors:?}"));
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
