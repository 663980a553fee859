//! A connector file as the plan of the flow: names become places.
//!
//! The rule it keeps: the plan says nothing that the file does not say.

use std::collections::{BTreeMap, BTreeSet};

use erasure_connector::model::{self, Connector, Slot, Source};

use crate::job::plan::{Act, Ends, Evidence, Expect, Form, Identifier, Lost, Plan, Read, input_of_proof};
use crate::job::{InputKind, Shows};

/// The plan of a file.
///
/// # Errors
/// A proof that no job can have, in words.
pub fn of(file: &Connector) -> Result<Plan, String> {
    let facts = facts(file);
    let place = |name: &str| facts.iter().position(|fact| fact == name).and_then(|place| u16::try_from(place).ok());
    let proof = |name: &String| -> Result<(String, InputKind), String> {
        let input = input_of_proof(name).ok_or_else(|| {
            format!("names the proof {name}: expected code, customer_token, access_token, current_password or customer_password")
        })?;
        Ok((name.clone(), input))
    };
    let proofs: Vec<(String, InputKind)> = file.proofs.iter().map(proof).collect::<Result<_, _>>()?;
    let items = |read: usize| {
        let mut acts = file.acts.iter().filter(|act| act.names(read));
        acts.find_map(|act| act.each.as_deref()).and_then(place)
    };
    let needs = |slots: Vec<&Slot>, item: Option<u16>| -> Vec<u16> {
        let of = |slot: &Slot| match slot.source {
            Source::Fact => place(&slot.name),
            Source::Item => item,
            _ => None,
        };
        slots.into_iter().filter_map(of).collect::<BTreeSet<u16>>().into_iter().collect()
    };
    let first: Vec<usize> = file.before_acts();
    let gives = |read: usize, fact: u16| {
        let answers = file.reads.get(read).into_iter().flat_map(|read| &read.answers);
        answers.flat_map(|answer| &answer.take).any(|(name, _)| place(name) == Some(fact))
    };
    let act = |act: &model::Act| -> Act {
        let each = act.each.as_deref().and_then(place);
        let mut needs = needs(act.call.slots(), each);
        needs.extend(each.filter(|fact| !needs.contains(fact)));
        let reads = first.iter().copied().filter(|read| *read != 0 && needs.iter().any(|fact| gives(*read, *fact)));
        Act {
            name: act.name.clone(),
            proof: act.proof.as_ref().and_then(|name| proofs.iter().position(|(proof, _)| proof == name)),
            each,
            reads: reads.collect(),
            lost: lost(&act.lost),
            evidence: evidence(&act.evidence),
            needs,
        }
    };
    let read = |(index, read): (usize, &model::Read)| Read {
        name: read.name.clone(),
        is_unchecked: read.call.is_none(),
        same_address: file.same_address(index),
        needs: needs(read.slots(), items(index)),
    };
    Ok(Plan {
        connector: format!("{}@{}", file.name, file.digest),
        installation: String::new(),
        ends: match file.outcome {
            model::Outcome::Erased => Ends::Erased,
            model::Outcome::Declared => Ends::Declared,
            model::Outcome::Unproven => Ends::Unproven,
        },
        identifiers: identifiers(&file.identifiers),
        preserved: file.preserved.clone(),
        reads: file.reads.iter().enumerate().map(read).collect(),
        acts: file.acts.iter().map(act).collect(),
        proofs,
        facts,
    })
}

/// The names of all facts, in the order of their names.
pub(super) fn facts(file: &Connector) -> Vec<String> {
    let of_reads = file.reads.iter().flat_map(|read| &read.answers).flat_map(|answer| &answer.take);
    let of_acts = file.acts.iter().flat_map(|act| &act.answers).flat_map(|answer| &answer.take);
    let names: BTreeSet<&String> = of_reads.chain(of_acts).map(|(name, _)| name).collect();
    names.into_iter().cloned().collect()
}

/// The identifiers of a file.
pub fn identifiers(of: &BTreeMap<String, model::Identifier>) -> BTreeMap<String, Identifier> {
    of.iter().map(|(name, one)| (name.clone(), identifier(one))).collect()
}

fn identifier(identifier: &model::Identifier) -> Identifier {
    let form = match identifier.form {
        model::IdentifierForm::Text => Form::Text,
        model::IdentifierForm::Digits => Form::Digits,
        model::IdentifierForm::Email => Form::Email,
        model::IdentifierForm::Uuid => Form::Uuid,
    };
    Identifier { form, is_required: identifier.required }
}

fn expected(expect: &[model::Expect]) -> Vec<Expect> {
    let shows = |shows: &model::Shows| match shows {
        model::Shows::Found => Some(Shows::Found),
        model::Shows::Gone => Some(Shows::Gone),
        model::Shows::Done => Some(Shows::Done),
        model::Shows::NotDone => Some(Shows::NotDone),
        model::Shows::Pending => Some(Shows::Pending),
        model::Shows::Refused | model::Shows::Unauthorised => None,
    };
    let one = |one: &model::Expect| Expect { read: one.read, shows: one.shows.iter().filter_map(shows).collect() };
    expect.iter().map(one).collect()
}

fn lost(lost: &model::Lost) -> Lost {
    match lost {
        model::Lost::Read(expect) => Lost::Read(expected(expect)),
        model::Lost::Recognised => Lost::Recognised,
        model::Lost::Harmless(_) => Lost::Harmless,
        model::Lost::Unproven => Lost::Unproven,
    }
}

fn evidence(evidence: &model::Evidence) -> Evidence {
    match evidence {
        model::Evidence::Read { expect, first, longest, within } => {
            Evidence::Read { expect: expected(expect), first: *first, longest: *longest, within: *within }
        }
        model::Evidence::Answer(_) => Evidence::Answer,
        model::Evidence::Declared(promise) => Evidence::Declared(promise.clone()),
        model::Evidence::None => Evidence::None,
    }
}
