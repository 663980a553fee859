//! Changed replies: whatever a proxy, another version or another account makes of a reply, the verdict may only move
//! towards doubt.
//!
//! The rule it keeps: the vendor holds the person in each of these runs, so no end may be a success.

use std::collections::BTreeSet;
use std::sync::Arc;

use erasure_connector::matching::meaning_of;
use erasure_connector::model::{Evidence, Matcher, Shows};
use erasure_connector::stand_in::Part;
use erasure_connector::vary::replies::{Changed, changes, marked, strange};
use erasure_connector::{Meaning, Values};

use super::bench::Scenario;
use super::run::{Broken, Plan};
use super::trials::{Trials, never, prompt};
use super::vendor::Replaced;

/// More than any reader takes.
const HUGE: usize = 50 << 20;

/// A reply of the run without changes.
struct Due {
    part: Part,
    /// Among the replies of the part.
    number: usize,
    given: erasure_connector::vary::Given,
}

/// Tries every change of every reply.
pub(super) async fn tried(trials: &mut Trials<'_>) {
    with_the_address(trials).await;
    let scenario = never();
    let Some(plain) = trials.run(&scenario.name, &scenario, Plan::default()).await else { return };
    let mut due: Vec<Due> = Vec::new();
    let mut met = BTreeSet::new();
    for (place, made) in plain.made.iter().enumerate() {
        let (Some(part), Some(given)) = (made.parts.first(), &made.given) else { continue };
        let before = &plain.made[..place];
        let number = before.iter().filter(|made| made.parts.contains(part)).count();
        // The same reply again is changed in the same ways, but after an act it is evidence.
        let acts = before.iter().filter(|made| made.effect).count();
        if met.insert((*part, acts, given.bytes())) {
            due.push(Due { part: *part, number, given: given.clone() });
        }
    }
    for due in &due {
        let is_act = matches!(due.part, Part::Act(_));
        // An act's answer that is the vendor's word is believed as it stands.
        if is_act && trials.file.acts.iter().any(|act| !matches!(act.evidence, Evidence::Read { .. })) {
            continue;
        }
        for change in changes(&due.given).into_iter().chain(strange()) {
            let change = Arc::new(change);
            if trusts(trials, due.part, &change) {
                trials.report.counts.replies_trusted += 1;
                continue;
            }
            if !trials.is_taken() || trials.is_enough() {
                continue;
            }
            let name = super::watch::name(trials.file, due.part);
            let trial = format!("a changed reply to {name}: {}", change.what);
            let from = due.number;
            let replaced = Some(Replaced { part: Some(due.part), from, by: Arc::clone(&change) });
            one(trials, &trial, &scenario, replaced).await;
        }
    }
    // The same strange reply to everything, from the first call on.
    for change in strange() {
        let trial = format!("the same reply to every call: {}", change.what);
        let replaced = Some(Replaced { part: None, from: 0, by: Arc::new(change) });
        one(trials, &trial, &scenario, replaced).await;
    }
    if let Some(due) = due.last() {
        let huge = Changed {
            what: "50 MiB".to_owned(),
            status: 200,
            content_type: "application/json",
            body: vec![b' '; HUGE],
        };
        let replaced = Some(Replaced { part: Some(due.part), from: due.number, by: Arc::new(huge) });
        one(trials, "a reply of 50 MiB", &scenario, replaced).await;
    }
}

/// The last reply of each read that proves an act, with the person's address in it: a mark such as "deleted".
async fn with_the_address(trials: &mut Trials<'_>) {
    let (scenario, bench, file) = (prompt(), trials.bench, Arc::clone(trials.file));
    let Some(plain) = trials.run(&scenario.name, &scenario, Plan::default()).await else { return };
    for (place, read) in file.reads.iter().enumerate() {
        let names = |act: &erasure_connector::model::Act| match &act.evidence {
            Evidence::Read { expect, .. } => expect.iter().any(|expect| expect.read == place),
            _ => false,
        };
        let ends = file.acts.iter().enumerate().any(|(act, of)| names(of) && !file.leads_on(act));
        let unsent = file.unsent_addresses(&read.slots());
        let address = unsent.iter().find_map(|name| bench.identifier(name)).filter(|_| ends);
        let last = plain.made.iter().rposition(|made| made.parts.contains(&Part::Read(place)));
        let (Some(address), Some(last)) = (address, last) else { continue };
        let (Some(part), Some(given)) = (plain.made[last].parts.first(), &plain.made[last].given) else { continue };
        let trial = format!("the person's address in a reply to read.{}", read.name);
        let from = plain.made[..last].iter().filter(|made| made.parts.contains(part)).count();
        let replaced = Some(Replaced { part: Some(*part), from, by: Arc::new(marked(given, address)) });
        trials.report.counts.replies += 1;
        let Some(ended) = trials.run(&trial, &scenario, Plan { replaced, ..Plan::default() }).await else { continue };
        if ended.end.outcome.is_erased() {
            let what = format!("ends as {} although read.{} shows the person's address", ended.end.outcome, read.name);
            trials.broken(&trial, Broken { what, story: vec![format!("scenario: {}", scenario.name)] });
        }
    }
}

/// One changed reply; it counts if the worker got it.
async fn one(trials: &mut Trials<'_>, trial: &str, scenario: &Scenario, replaced: Option<Replaced>) {
    let ended = trials.run(trial, scenario, Plan { replaced, ..Plan::default() }).await;
    let is_met = ended.is_none_or(|ended| ended.made.iter().any(|made| made.is_replaced));
    trials.report.counts.replies += u64::from(is_met);
}

/// True if the file takes this reply for an absence by its status alone: nothing tells it from a proxy's. It counts
/// only where presence was seen, and is told in the report.
fn trusts(trials: &mut Trials<'_>, part: Part, change: &Changed) -> bool {
    let Part::Read(read) = part else { return false };
    let file = Arc::clone(trials.file);
    let Some(read) = file.reads.get(read).filter(|_| matches!(change.status, 404 | 410)) else { return false };
    let Meaning::Known(_, answer) = meaning_of(&read.answers, &change.reply(), &Nobody) else { return false };
    let is_bare = rests_on_status(&answer.when);
    if is_bare && matches!(answer.is, Shows::Gone | Shows::Done) {
        trials.report.trusts.insert(format!(
            "read.{}: {} counts as {}, from whatever it comes; only where the person was seen before",
            read.name,
            if has_empty(&answer.when) {
                format!("an empty {}", change.status)
            } else {
                format!("any {}", change.status)
            },
            answer.is.word()
        ));
        return true;
    }
    false
}

fn rests_on_status(matcher: &Matcher) -> bool {
    match matcher {
        Matcher::Status(_) | Matcher::Empty => true,
        Matcher::All(members) => members.iter().all(rests_on_status),
        Matcher::Any(members) => members.iter().any(rests_on_status),
        _ => false,
    }
}

fn has_empty(matcher: &Matcher) -> bool {
    match matcher {
        Matcher::Empty => true,
        Matcher::All(members) => members.iter().any(has_empty),
        _ => false,
    }
}

/// No values: a condition that compares one is not true.
struct Nobody;

impl Values for Nobody {
    fn slot(&self, _: &erasure_connector::model::Slot) -> Option<String> {
        None
    }
}
