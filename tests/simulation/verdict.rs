//! What a run came to: counts, and every promise that it broke.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use erasure_worker::sandbox::{Entry, Operation, Sandbox};
use testkit::forms::{Case, Form};

use crate::hub::{Event, Hub};

/// An event of the outbox may be on its way for so long.
const TELLING: std::time::Duration = std::time::Duration::from_secs(30);

/// A worker that is up has read a cancellation after so long.
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
    /// Pauses that an operator was told of.
    pub pauses: u64,
    /// Of these, those that the broker did not have by then.
    pub pauses_here_only: u64,
    /// Jobs that waited for the end of one.
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
    /// What there was of each job's person before anything was done.
    pub there: BTreeMap<String, Vec<&'static str>>,
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
            // Not its id, which follows from the time and the receipt too.
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

    /// What may not be, however often stores were lost or workers changed.
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
            // Of a job that has ended, whoever ended it says so; a store that was elsewhere does not know.
            let finals = of(&["completed", "failed", "previewed"]);
            let is_first = |refused: &&Event| finals.iter().all(|last| last.at > refused.at);
            if of(&["cancel_refused"]).into_iter().any(|refused| is_first(&refused)) && !of(&["cancelled"]).is_empty() {
                breach("a cancellation was refused and carried out");
            }
            let ended = of(&["completed", "failed", "cancelled", "previewed"]).first().map(|event| event.at);
            if let Some(ended) = ended
                && of(&["at_risk", "overdue"]).iter().any(|event| event.at > ended + TELLING)
            {
                breach("a term was told of after the end");
            }
            let sends = entries.iter().filter(|call| {
                let is_theirs = call.subject.as_ref().is_some_and(|subject| *subject == case.person.database_id);
                call.operation == Operation::RequestOtp && call.effect && is_theirs
            });
            let sends = sends.count();
            if sends > hub.asked(&case.id) {
                breach(&format!("{sends} one-time passwords were sent, {} asked for", hub.asked(&case.id)));
            }
        }
    }

    /// A job that was cancelled before anything was done, and whose cancellation everybody had the time to
    /// read, is not carried out.
    fn cancellations(&mut self, hub: &Hub, sandbox: &Sandbox, events: &[Event], cases: &[Case], done: &Done) {
        for case in cases {
            let Some(cancelled) = hub.cancelled_at(&case.id) else { continue };
            let of = |event: &&Event| event.value["subject"] == case.id.as_str();
            let is_carried_out = case.remains(sandbox) != done.there[&case.id] && case.form != Form::ByHand;
            // Until then nothing had been asked or done: it was published later, or waited for its person.
            let first = events.iter().filter(of).map(|event| event.at).min();
            let began = hub.published_at(&case.id);
            let in_time = began.is_none_or(|began| began > cancelled + READING)
                && first.is_none_or(|first| first > cancelled + READING);
            if in_time && is_carried_out {
                self.breaches.push(format!("{:?} {}: cancelled before it came, and carried out", case.form, case.id));
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
        // A deletion by hand is none of the worker's.
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
                // A worker that cannot read what another may have done counts it as done.
                (_, "cancelled") => done.cancelled.contains(&case.id) && (data["partial"] == true || !is_changed),
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
