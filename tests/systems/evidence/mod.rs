//! Evidence is positive: a damaged reply may only move a verdict towards doubt.
//!
//! Every flow runs against the stand-ins, and every reply of theirs is mutated, one change a run. Then:
//!
//! - The client's answer has no new claim.
//! - It keeps a claim of an erasure only if the mutation is neutral ([`judge::is_neutral`] lists those, with reasons).
//! - No target ends well while the person is there.

mod drive;
mod judge;
mod mutate;
mod pairs;
mod relay;
mod scenario;
mod together;

use std::collections::{BTreeMap, BTreeSet};

use erasure_worker::sandbox::Operation;

use self::drive::Run;
use self::mutate::{Mutation, Reply};
use self::relay::{Change, Exchange, Relay};
use self::scenario::Scenario;

/// A run and its exchanges.
struct Recorded {
    run: Run,
    seen: Vec<Exchange>,
}

async fn carry_out(scenario: &Scenario, relay: &Relay, change: Option<Change>) -> Recorded {
    let client = scenario.client(relay);
    relay.begin(scenario.world(), None);
    scenario.see_somebody(&*client).await;
    relay.begin(scenario.world(), change);
    let run = drive::run(scenario, &*client, relay, |_| None).await;
    Recorded { run, seen: relay.seen() }
}

/// All breaches of one mutated run.
fn breaches(scenario: &Scenario, whole: &Recorded, at: usize, mutation: &Mutation, got: &Run) -> Vec<String> {
    let mut found = Vec::new();
    let exchange = &whole.seen[at];
    let operation = exchange.operation;
    let mut breach = |what: String| {
        found.push(format!(
            "{} | {operation:?} {} | {} {} | {what}",
            scenario.name, exchange.reply.status, mutation.what, mutation.place
        ));
    };
    let call = |run: &Run| run.calls.iter().position(|made| made.exchanges.contains(&at));
    if let (Some(before), Some(after)) = (call(&whole.run), call(got)) {
        let (before, after) = (&whole.run.calls[before], &got.calls[after]);
        let (was, is) = (judge::claims(before.step.name, &before.said), judge::claims(after.step.name, &after.said));
        let is_another = judge::is_another_statement(operation, mutation).is_some();
        for claim in is.difference(&was).filter(|_| !is_another) {
            breach(format!("new claim: {claim}"));
        }
        if !is_another && judge::is_neutral(after.step.name, operation, mutation).is_none() {
            for claim in is.intersection(&was).filter(|claim| claim.starts_with("gone")) {
                breach(format!("still claims: {claim}"));
            }
        }
        if mutation.what == "page" && judge::blames_the_person(&after.said) {
            breach(format!("blames the person: {:?}", after.said));
        }
    }
    // The flow does not request a row again that the customer's own list leaves out,
    // and it cannot recognise an emptied list of customers.
    let is_left_out = matches!(operation, Operation::CustomerOffers | Operation::ListCustomers)
        && judge::is_another_statement(operation, mutation).is_some();
    if let Some(end) = got.end.as_ref().filter(|end| end.outcome.is_erased() && !is_left_out) {
        let left = scenario.remains();
        if !left.is_empty() {
            breach(format!("ends as {}, although {left:?} is left", end.outcome));
        }
    }
    found
}

#[derive(Default)]
struct Count {
    scenarios: usize,
    replies: usize,
    runs: usize,
}

/// Mutates every reply of every scenario of this kind, and returns the breaches.
async fn mutate_all(kind: &str) -> (Count, Vec<String>) {
    let (mut count, mut found) = (Count::default(), Vec::new());
    // The same reply to the same kind of call is tried once.
    let mut known: BTreeSet<(Operation, u16, Vec<u8>, String)> = BTreeSet::new();
    for scenario in scenario::all().into_iter().filter(|scenario| scenario.name.starts_with(kind)) {
        count.scenarios += 1;
        let relay = Relay::default();
        let whole = carry_out(&scenario, &relay, None).await;
        let end = whole.run.end.clone();
        assert!(end.as_ref().is_none_or(|end| !end.outcome.is_erased() || scenario.remains().is_empty()));
        for (at, exchange) in whole.seen.iter().enumerate() {
            let Some(made) = whole.run.calls.iter().find(|made| made.exchanges.contains(&at)) else { continue };
            let key = (
                exchange.operation,
                exchange.reply.status,
                exchange.reply.body.clone(),
                format!("{:?} {:?}", made.step, end.as_ref().map(|end| end.outcome)),
            );
            if !known.insert(key) {
                continue;
            }
            count.replies += 1;
            for mutation in mutate::all(&exchange.reply) {
                for always in [false, true] {
                    if always && !matches!(mutation.what, "page" | "status") {
                        continue;
                    }
                    count.runs += 1;
                    let change = Change { from: at, always, reply: mutation.reply.clone() };
                    let got = carry_out(&scenario, &relay, Some(change)).await;
                    found.extend(breaches(&scenario, &whole, at, &mutation, &got.run));
                }
            }
        }
    }
    found.sort();
    found.dedup();
    (count, found)
}

fn report(kind: &str, count: &Count, found: &[String]) {
    eprintln!("{kind}: {} scenarios, {} replies, {} mutated runs", count.scenarios, count.replies, count.runs);
    let mut by_kind: BTreeMap<&str, usize> = BTreeMap::new();
    for breach in found {
        *by_kind.entry(breach.rsplit(" | ").next().unwrap_or_default()).or_default() += 1;
    }
    assert!(found.is_empty(), "{} breaches, by their texts: {by_kind:#?}\n{}", found.len(), found.join("\n"));
}

async fn only_towards_doubt(kind: &str) {
    let (count, found) = mutate_all(kind).await;
    report(kind, &count, &found);
}

#[tokio::test]
async fn no_mutated_reply_of_cleeng_gives_new_evidence() {
    only_towards_doubt("cleeng").await;
}

#[tokio::test]
async fn no_mutated_reply_of_loyalty_gives_new_evidence() {
    only_towards_doubt("loyalty").await;
}

#[tokio::test]
async fn no_mutated_reply_of_easycms_gives_new_evidence() {
    only_towards_doubt("easycms").await;
}

#[tokio::test]
async fn no_mutated_reply_of_vitalsource_gives_new_evidence() {
    only_towards_doubt("vitalsource").await;
}

/// The address or the credential changes while the job waits: from some call on another region answers, and its
/// credential has no success yet.
#[tokio::test]
async fn no_absence_in_another_region_ends_a_target() {
    let (mut runs, mut found) = (0, Vec::new());
    for scenario in scenario::all() {
        let relay = Relay::default();
        let whole = carry_out(&scenario, &relay, None).await;
        for at in 0..whole.run.calls.len() {
            let client = scenario.client(&relay);
            relay.begin(scenario.world(), None);
            scenario.see_somebody(&*client).await;
            relay.begin(scenario.world(), None);
            let elsewhere = |call: usize| {
                (call == at).then(|| {
                    relay.go_elsewhere();
                    scenario.client(&relay)
                })
            };
            let run = drive::run(&scenario, &*client, &relay, elsewhere).await;
            runs += 1;
            let left = scenario.remains();
            if let Some(end) = run.end.filter(|end| end.outcome.is_erased() && !left.is_empty()) {
                found.push(format!(
                    "{} from call {at} on: ends as {} although {left:?} is left",
                    scenario.name, end.outcome
                ));
            }
        }
    }
    eprintln!("{runs} runs with another region from some call on");
    assert!(found.is_empty(), "{} breaches\n{}", found.len(), found.join("\n"));
}

#[test]
fn every_reply_has_more_than_thirty_mutations_and_each_changes_it() {
    let reply = |content_type: &str, body: &str| Reply {
        status: 200,
        content_type: content_type.to_owned(),
        body: body.as_bytes().to_vec(),
    };
    for reply in [
        reply("application/json", r#"{"items":[{"offerId":"S1","status":"active"}]}"#),
        reply("text/xml", r#"<licenses><license sku="A" expiration="never"/></licenses>"#),
        reply("text/xml", ""),
    ] {
        let all = mutate::all(&reply);
        assert!(all.len() > 30, "{}", all.len());
        assert!(all.iter().all(|mutation| mutation.reply != reply));
    }
}
