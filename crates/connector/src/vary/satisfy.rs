//! Documents that have a given meaning.

use serde_json::{Value, json};

use super::{Content, Given, put};
use crate::branches::{self, Branch, type_of};
use crate::document;
use crate::matching::{Answer, Meaning, Values, meaning_of, written};
use crate::model::{Matcher, Pointer, Test, Type};

/// Documents that mean the answer at this place and none before it: one for each alternative of its condition, and for
/// each of its listed values. None if no such document could be made.
pub fn documents<A: Answer>(answers: &[A], index: usize, values: &dyn Values) -> Vec<Given> {
    let Some(answer) = answers.get(index) else { return Vec::new() };
    let Some(branches) = branches::of(answer.when()) else { return Vec::new() };
    let earlier: Vec<&A> = answers.iter().take(index).collect();
    let mut all: Vec<Given> = Vec::new();
    for branch in &branches {
        let Some(first) = document(branch, &earlier, answers, index, values) else { continue };
        // The other values of a list of values.
        let mut others = Vec::new();
        for atom in &branch.atoms {
            let Matcher::At(pointer, Test::In(values)) = atom else { continue };
            others.extend(values.iter().skip(1).filter_map(|value| {
                let mut other = first.clone();
                let Content::Json(tree) = &mut other.body else { return None };
                put(tree, &pointer.0, value.clone()).then_some(other)
            }));
        }
        let means =
            |given: &Given| matches!(meaning_of(answers, &given.reply(), values), Meaning::Known(at, _) if at == index);
        all.push(first);
        all.extend(others.into_iter().filter(means));
    }
    all
}

fn document<A: Answer>(
    branch: &Branch<'_>,
    earlier: &[&A],
    answers: &[A],
    index: usize,
    values: &dyn Values,
) -> Option<Given> {
    let mut given = plain(branch, values)?;
    let means =
        |given: &Given| matches!(meaning_of(answers, &given.reply(), values), Meaning::Known(at, _) if at == index);
    if means(&given) {
        return Some(given);
    }
    // An earlier answer asks for a place that this document does not have.
    for answer in earlier {
        for branch in branches::of(answer.when())? {
            for atom in branch.atoms {
                let Matcher::At(pointer, test) = atom else { continue };
                let Content::Json(tree) = &mut given.body else { continue };
                if document::at(tree, &pointer.0).is_none()
                    && let Some(value) = failing(test)
                {
                    put(tree, &pointer.0, value);
                }
            }
        }
    }
    means(&given).then_some(given)
}

/// The smallest document of one alternative.
fn plain(branch: &Branch<'_>, values: &dyn Values) -> Option<Given> {
    let is_empty = branch.atoms.iter().any(|atom| matches!(atom, Matcher::Empty));
    let usual = if is_empty { 204 } else { 200 };
    let status = branch.status.as_ref().map_or(Some(usual), |all| all.first().copied())?;
    let mut given = Given::new(status, Content::Empty);
    let mut tree = Value::Null;
    let mut places: Vec<(&Pointer, &Test)> = Vec::new();
    for atom in &branch.atoms {
        match atom {
            Matcher::Header(name, value) => drop(given.headers.insert(name.clone(), value.clone())),
            Matcher::At(pointer, test) => places.push((pointer, test)),
            _ => {}
        }
    }
    // Objects and lists before their members; sizes and missing places at the end.
    places.sort_by_key(|(pointer, test)| (matches!(test, Test::Count(_) | Test::Exists(false)), pointer.0.len()));
    for (pointer, test) in &places {
        let old = document::at(&tree, &pointer.0).cloned();
        match test {
            Test::Exists(false) => {
                let (_, parent) = pointer.0.split_last()?;
                if document::at(&tree, parent).is_none() && !put(&mut tree, parent, json!({})) {
                    return None;
                }
            }
            Test::Count(count) => {
                let sized = sized(old, *count)?;
                if !put(&mut tree, &pointer.0, sized) {
                    return None;
                }
            }
            test => {
                let value = passing(test, values)?;
                let is_there = old.as_ref().is_some_and(|old| match test {
                    Test::Exists(true) => true,
                    Test::Type(of) => type_of(old) == *of && *old != json!(""),
                    _ => *old == value,
                });
                if !is_there && !put(&mut tree, &pointer.0, value) {
                    return None;
                }
            }
        }
    }
    if !places.is_empty() {
        given.body = Content::Json(tree);
    } else if !is_empty && status != 204 {
        given.body = Content::Json(json!({}));
    }
    Some(given)
}

fn passing(test: &Test, values: &dyn Values) -> Option<Value> {
    Some(match test {
        Test::Is(value) => value.clone(),
        Test::In(all) => all.first()?.clone(),
        Test::Type(Type::Text) | Test::Exists(_) => json!("text"),
        Test::Type(Type::Number) => json!(7),
        Test::Type(Type::Bool) => json!(true),
        Test::Type(Type::List) => json!([]),
        Test::Type(Type::Object) => json!({}),
        Test::Type(Type::Null) => Value::Null,
        Test::Count(count) => sized(None, *count)?,
        Test::Has(template) => json!([written(template, values)?]),
        Test::Begins(start) => json!(format!("{start} text")),
    })
}

/// A value of the same type that does not pass.
fn failing(test: &Test) -> Option<Value> {
    let other = |value: &Value| match value {
        Value::String(text) => Some(json!(format!("not {text}"))),
        Value::Number(number) => Some(json!(number.as_i64()?.checked_add(1)?)),
        Value::Bool(value) => Some(json!(!value)),
        _ => None,
    };
    match test {
        Test::Is(value) => other(value),
        Test::In(all) => all.iter().filter_map(other).find(|value| !all.contains(value)),
        Test::Type(Type::Null) => Some(json!("text")),
        Test::Count(count) => sized(None, count + 1),
        Test::Has(_) => Some(json!([])),
        Test::Begins(start) => Some(json!(format!("not {start}"))),
        Test::Type(_) | Test::Exists(_) => None,
    }
}

/// A list or object with so many members.
fn sized(old: Option<Value>, count: usize) -> Option<Value> {
    let mut value = old.filter(|old| old.is_array() || old.is_object()).unwrap_or_else(|| json!([]));
    match &mut value {
        Value::Array(members) => {
            members.resize(members.len().max(count), json!({}));
            (members.len() == count).then_some(value)
        }
        Value::Object(members) => {
            for number in members.len()..count {
                members.insert(format!("other{number}"), Value::Null);
            }
            (members.len() == count).then_some(value)
        }
        _ => None,
    }
}
