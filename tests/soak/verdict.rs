//! The result of a run: every confirmed job is compared with its final events and with the systems' records.
//!
//! The rule it keeps: of the worker's own statements only the final events are used.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use erasure_worker::sandbox::Repeat;
use testkit::forms::{Case, Form};

use crate::events::{Final, Heard};
use crate::ground::Ground;
use crate::publisher::Published;

/// The reasons with which a worker may fail a job that another worker has worked on meanwhile: the person is absent
/// before the credential's first success, the proof is used, or the e-mail belongs to nobody any more. It never says
/// `completed`.
const HINDERED: [&str; 4] = ["unproven", "input_refused", "input_never_came", "identity_mismatch"];

/// Counts of breaches, which must be 0, and counts of the work.
#[derive(Default)]
pub struct Verdict {
    pub jobs: usize,
    pub completed: usize,
    pub failed: usize,
    pub calls: u64,
    /// Calls that met a planned fault.
    pub faults: u64,
    pub events: u64,
    pub lost: usize,
    pub falsely_completed: usize,
    pub ended_twice: usize,
    pub repeats: usize,
    /// Jobs with two workers at some time, each with its own disk. They may have repeated calls, a second final
    /// event, a failure because of the other worker's work, a repeated request for input.
    pub shared: usize,
    pub shared_repeats: usize,
    pub shared_published_again: usize,
    pub shared_failed: BTreeMap<String, usize>,
    pub shared_asked: usize,
}

/// A job, and whether two workers may have had it.
struct Known<'a> {
    published: &'a Published,
    is_shared: bool,
}

impl Verdict {
    /// Judges all jobs, and records every broken promise as a breach.
    pub async fn measure(ground: &Ground, published: &[Published]) -> Verdict {
        let sandbox = ground.rig.sandbox();
        let letters = ground.rig.dead_letters().await;
        let letters: BTreeSet<String> = letters
            .iter()
            .filter_map(|(properties, _)| {
                let headers = properties.headers().as_ref()?;
                Some(headers.inner().get("x-erasure-job-id")?.as_long_string()?.to_string())
            })
            .collect();
        let heard = ground.rig.events.heard(Heard::clone);
        let mut verdict = Verdict { jobs: published.len(), events: heard.events, ..Verdict::default() };

        let mut owners = HashMap::new();
        for (number, one) in published.iter().enumerate() {
            let person = &one.case.person;
            let names = [&person.customer_id, &person.database_id, &person.email, &person.guid];
            names.into_iter().chain(&person.codes).for_each(|name| _ = owners.insert(name.clone(), number));
            // The subject at the stand-ins of club and receiver.
            owners.insert(person.number.to_string(), number);
        }
        let mut last_ms: Vec<i64> = published.iter().map(|one| one.at_ms).collect();
        for call in sandbox.entries(0) {
            if let Some(number) = call.subject.as_deref().and_then(|subject| owners.get(subject)) {
                last_ms[*number] = last_ms[*number].max(i64::try_from(call.at_ms).unwrap());
            }
        }
        let no_finals = BTreeMap::new();
        let mut known = Vec::new();
        for (number, one) in published.iter().enumerate() {
            let finals = heard.finals.get(&one.case.id).unwrap_or(&no_finals);
            let until = finals.values().map(|event| event.at_ms).fold(last_ms[number], i64::max);
            let is_shared = ground.was_shared(one.at_ms, until);
            verdict.shared += usize::from(is_shared);
            let known_one = Known { published: one, is_shared };
            let finals: Vec<&Final> = finals.values().collect();
            verdict.ending(ground, &known_one, &finals, letters.contains(&one.case.id));
            known.push(known_one);
        }

        let confirmed: BTreeSet<&str> = published.iter().map(|one| one.case.id.as_str()).collect();
        for stranger in heard.finals.keys().filter(|id| !confirmed.contains(id.as_str())) {
            ground.breach(format!("an ending of a job that was not published: {stranger}"));
        }
        for letter in letters.iter().filter(|id| !confirmed.contains(id.as_str())) {
            ground.breach(format!("a dead letter of a job that was not published: {letter}"));
        }
        let is_shared = |job: &str| known.iter().any(|one| one.published.case.id == job && one.is_shared);
        for (job, what) in &heard.others {
            if is_shared(job) && what.contains("needs_input") {
                verdict.shared_asked += 1;
            } else {
                ground.breach(format!("{job}: an event {what} without a cause"));
            }
        }
        for job in &heard.reworded {
            if is_shared(job) {
                verdict.shared_published_again += 1;
            } else {
                ground.breach(format!("{job}: two events have one id and other bytes"));
            }
        }

        let summary = sandbox.summary();
        verdict.calls = summary.calls;
        verdict.faults = summary.by_operation.values().map(|count| count.faults).sum();
        let repeats = [&summary.ambiguous_repeats, &summary.effective_repeats, &summary.otp_repeats];
        for repeat in repeats.into_iter().flatten() {
            verdict.repeated(ground, repeat, owner(&owners, repeat).map(|number| &known[number]));
        }
        if !summary.misuse.is_empty() {
            ground.breach(format!("misuse: {:?}", summary.misuse));
        }
        verdict
    }

    fn ending(&mut self, ground: &Ground, known: &Known<'_>, finals: &[&Final], is_letter: bool) {
        let case = &known.published.case;
        let breach = |what: &str| ground.breach(format!("{:?} {} ({finals:?}): {what}", case.form, case.id));
        if finals.is_empty() {
            self.lost += 1;
            breach("no ending");
        }
        if finals.len() > 1 {
            if known.is_shared {
                self.shared_published_again += 1;
            } else {
                self.ended_twice += 1;
                breach("more than one ending");
            }
        }
        let remains = case.remains(ground.rig.sandbox());
        for event in finals {
            let only = |allowed: &[&str]| {
                !event.reasons.is_empty() && event.reasons.iter().all(|reason| allowed.contains(&reason.as_str()))
            };
            match (case.form, event.outcome.as_str()) {
                (Form::Preview, "previewed") => self.completed += 1,
                (Form::WrongPassword, "failed") => self.failed += 1,
                (Form::Preview | Form::WrongPassword, _) => breach("a wrong outcome"),
                (_, "completed") if remains.is_empty() => self.completed += 1,
                (_, "completed") => {
                    self.falsely_completed += 1;
                    breach(&format!("completed, but {remains:?} is left"));
                }
                (_, "failed") if known.is_shared && only(&HINDERED) => {
                    *self.shared_failed.entry(event.reasons.join("+")).or_default() += 1;
                }
                _ => breach("a wrong outcome"),
            }
        }
        let has_failed = finals.iter().any(|event| event.outcome == "failed");
        if is_letter != has_failed {
            breach(&format!("a dead letter: {is_letter}"));
        }
    }

    fn repeated(&mut self, ground: &Ground, repeat: &Repeat, known: Option<&Known<'_>>) {
        if known.is_some_and(|known| known.is_shared) {
            self.shared_repeats += 1;
            return;
        }
        self.repeats += 1;
        let case = known.map(|known: &Known<'_>| -> &Case { &known.published.case });
        let calls: Vec<_> = ground
            .rig
            .sandbox()
            .entries(repeat.first_seq.saturating_sub(1))
            .into_iter()
            .filter(|call| call.subject == repeat.subject && call.seq <= repeat.repeat_seq)
            .map(|call| format!("{} {:?} {:?} {:?}", call.at_ms, call.operation, call.status, call.fault))
            .collect();
        ground.breach(format!("repeated: {repeat:?} of {:?}: {calls:#?}", case.map(|case| (&case.form, &case.id))));
    }
}

fn owner(owners: &HashMap<String, usize>, repeat: &Repeat) -> Option<usize> {
    let name = |name: &Option<String>| owners.get(name.as_deref()?).copied();
    name(&repeat.subject).or_else(|| name(&repeat.object))
}
