//! Changed files: the slips of an author. The loader or a run must notice them, or the kit names the reply that is not
//! recorded.
//!
//! The rule it keeps: a slip is noticed by the loader, by a recorded or changed reply that is understood otherwise, or by
//! a run against the unchanged vendor that breaks a promise or ends otherwise.

use std::collections::BTreeMap;
use std::sync::Arc;

use erasure_connector::matching::Answer;
use erasure_connector::model::{Slot, Source};
use erasure_connector::vary::files::{Changed, changes, refusals};
use erasure_connector::vary::replies;
use erasure_connector::vary::{Given, documents};
use erasure_connector::{Connector, Reply, Values};

use super::bench::{Bench, Scenario};
use super::run::{Ended, Plan, run};
use super::trials::{Trials, all, prompt};
use super::vendor::Behaviour;

/// What notices a slip.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Noticed {
    /// The loader refuses the file.
    Loader,
    /// A recorded or changed reply is understood otherwise.
    Reply,
    /// A run breaks a promise, or ends otherwise.
    Run,
}

/// What notices that a file is not the right one: a stand-in of the right file is the vendor.
///
/// # Errors
/// The right file cannot be worked with, in words.
pub async fn notices(right: &Arc<Connector>, slipped: &Connector) -> Result<Option<Noticed>, String> {
    let bench = Bench::new(right, right)?;
    let slips = slips(&bench);
    let usual = usual(&bench, &slips).await;
    Ok(noticed(right, slipped, &slips, &usual).await)
}

async fn usual(bench: &Bench, slips: &[(Scenario, Plan)]) -> Vec<Option<Summary>> {
    let mut usual = Vec::new();
    for (scenario, plan) in slips {
        usual.push(run(bench, scenario, plan.clone()).await.ok().map(|ended| summary(bench, ended)));
    }
    usual
}

/// Tries every slip.
pub(super) async fn tried(trials: &mut Trials<'_>) {
    if trials.is_enough() {
        return;
    }
    let slips = slips(trials.bench);
    let usual = usual(trials.bench, &slips).await;
    for change in changes(trials.file) {
        trials.report.counts.files += 1;
        let noticed = noticed(trials.file, &change.file, &slips, &usual).await;
        match noticed {
            Some(Noticed::Loader) => trials.report.counts.files_by_loader += 1,
            Some(Noticed::Run) => trials.report.counts.files_by_run += 1,
            Some(Noticed::Reply) => trials.report.counts.files_by_reply += 1,
            None => trials.report.unnoticed.push(format!("{}: {}{}", change.place, change.what, missing(&change))),
        }
        trials.report.counts.files_noticed += u64::from(noticed.is_some());
    }
}

async fn noticed(
    right: &Arc<Connector>,
    slipped: &Connector,
    slips: &[(Scenario, Plan)],
    usual: &[Option<Summary>],
) -> Option<Noticed> {
    if !refusals(slipped).is_empty() {
        return Some(Noticed::Loader);
    }
    if reads_otherwise(right, slipped) {
        return Some(Noticed::Reply);
    }
    let Ok(bench) = Bench::new(right, &Arc::new(slipped.clone())) else { return Some(Noticed::Loader) };
    for ((scenario, plan), usual) in slips.iter().zip(usual) {
        let now = run(&bench, scenario, plan.clone()).await.ok().map(|ended| summary(&bench, ended));
        if now != *usual {
            return Some(Noticed::Run);
        }
    }
    None
}

/// What is compared of two runs.
type Summary = (String, bool, Vec<String>);

fn summary(bench: &Bench, ended: Ended) -> Summary {
    let is_declared = bench.rules.plan.as_ref().is_some_and(|plan| plan.is_declared());
    (super::trials::words(&ended.end), is_declared, ended.made.into_iter().map(|made| made.names).collect())
}

/// The runs by which a slip is looked for: each scenario, and each act's answer lost before and after the work.
fn slips(bench: &Bench) -> Vec<(Scenario, Plan)> {
    let mut slips: Vec<(Scenario, Plan)> = all(bench).into_iter().map(|scenario| (scenario, Plan::default())).collect();
    for call in 0..8 {
        for behaviour in [Behaviour::DropAfter, Behaviour::DropBefore, Behaviour::NotTaken] {
            slips.push((prompt(), Plan::fault(call, behaviour)));
        }
    }
    slips
}

/// True if the two files understand a recorded, made or changed reply differently.
fn reads_otherwise(original: &Connector, changed: &Connector) -> bool {
    let values = Known(original.identifiers.keys().map(|name| (name.clone(), format!("{name}-7"))).collect());
    let same_name = |name: &str| changed.reads.iter().find(|other| other.name == name);
    let reads = original.reads.iter().filter_map(|read| Some((read, same_name(&read.name)?)));
    let by_read = reads.into_iter().any(|(read, other)| {
        corpus(original, &format!("read.{}", read.name), &read.answers, &values).any(|(reply, own)| {
            original.understand_read(read, &reply, &own) != changed.understand_read(other, &reply, &own)
        })
    });
    let same_act = |name: &str| changed.acts.iter().find(|other| other.name == name);
    let acts = original.acts.iter().filter_map(|act| Some((act, same_act(&act.name)?)));
    by_read
        || acts.into_iter().any(|(act, other)| {
            corpus(original, &format!("act.{}", act.name), &act.answers, &values).any(|(reply, own)| {
                original.understand_act(act, &reply, &own) != changed.understand_act(other, &reply, &own)
            })
        })
}

/// The replies of a part: recorded, made from its conditions, and all changes of these.
fn corpus<'a, A: Answer>(
    file: &'a Connector,
    of: &'a str,
    answers: &'a [A],
    values: &'a Known,
) -> impl Iterator<Item = (Reply, Known)> + use<'a, A> {
    let recorded = file.examples.iter().filter(move |example| example.of == of);
    let recorded = recorded.map(|example| (Given::recorded(example), Known(example.identifiers.clone())));
    let made = (0..answers.len()).flat_map(move |index| documents(answers, index, values));
    let made = made.map(|given| (given, Known(values.0.clone())));
    recorded.chain(made).flat_map(|(given, own)| {
        let mut all = vec![given.reply()];
        all.extend(replies::changes(&given).iter().map(replies::Changed::reply));
        all.into_iter().map(move |reply| (reply, Known(own.0.clone())))
    })
}

/// The identifiers of a reply's person.
struct Known(BTreeMap<String, String>);

impl Values for Known {
    fn slot(&self, slot: &Slot) -> Option<String> {
        let value = match slot.source {
            Source::Id => self.0.get(&slot.name)?.clone(),
            _ => format!("{}-1", slot.name),
        };
        Some(erasure_connector::fill::converted(value, &slot.converters))
    }
}

/// The reply whose record would show the slip.
fn missing(change: &Changed) -> String {
    match change.place.split_once(".answers[") {
        Some((part, _)) => format!("; a recorded reply of {part} that differs only in this place would show it"),
        None => String::new(),
    }
}
