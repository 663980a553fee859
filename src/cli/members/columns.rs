//! The possible columns of a system's members, and the target that their values make.
//!
//! The rule it keeps: a column is named as the field of a job that it fills. Another name is refused with the known
//! ones, before anything is published.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::job::Rules;
use crate::job::kinds::{FIELDS, Holds, Lines};
use crate::job::parse::is_name;
use crate::job::plan::{Plan, input_of_proof};

/// The possible columns of a system's members.
#[derive(Clone)]
pub(crate) struct Columns {
    lines: &'static Lines,
    /// The names of a connector, a database or a webhook.
    plan: Option<Arc<Plan>>,
}

/// A further column: an identifier, codes or a proof of the member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Column {
    /// The field of the job.
    pub name: String,
    /// Its content.
    pub holds: Holds,
}

impl Columns {
    /// The columns for a configured system.
    pub fn of(rules: &Rules) -> Columns {
        Columns { lines: rules.kind.lines(), plan: rules.plan.clone() }
    }

    /// One of these names the member.
    fn keys(&self) -> Vec<&str> {
        match &self.plan {
            Some(plan) => plan.identifiers.keys().map(String::as_str).collect(),
            None => self.lines.keys.to_vec(),
        }
    }

    /// The content of another column; `None` if there is no such column.
    fn holds(&self, name: &str) -> Option<Holds> {
        match &self.plan {
            // An identifier may have the name of a built-in field.
            Some(plan) if plan.identifiers.contains_key(name) => Some(Holds::Identifier),
            Some(_) => self.is_proof_of_file(name).then_some(Holds::Proof),
            None if self.lines.fields.contains(&name) => {
                FIELDS.iter().find(|word| word.name == name).map(|word| word.holds)
            }
            None => None,
        }
    }

    fn is_proof_of_file(&self, name: &str) -> bool {
        self.plan.as_ref().is_some_and(|plan| plan.proofs.iter().any(|(proof, _)| proof == name))
    }

    /// The names of other columns.
    fn others(&self) -> Vec<&str> {
        match &self.plan {
            Some(plan) => {
                let proofs = plan.proofs.iter().map(|(name, _)| name.as_str());
                self.keys().into_iter().chain(proofs.filter(|name| !plan.identifiers.contains_key(*name))).collect()
            }
            None => self.lines.fields.to_vec(),
        }
    }

    /// True for a column of proofs, also if the system's file has no such proof now.
    pub fn is_proof(&self, name: &str) -> bool {
        match (self.holds(name), &self.plan) {
            (Some(holds), _) => holds == Holds::Proof,
            (None, Some(_)) => input_of_proof(name).is_some(),
            (None, None) => false,
        }
    }

    /// The other columns of a file whose members are named by `key`.
    ///
    /// # Errors
    /// A name is unknown, is given twice, or is missing; the text has the known names.
    pub fn chosen(&self, system: &str, key: &str, also: &[(String, String)]) -> Result<Vec<Column>, String> {
        if !self.keys().contains(&key) {
            return Err(format!("--key: {system} takes {}", self.keys().join(", ")));
        }
        let mut chosen: Vec<Column> = Vec::new();
        for (name, _) in also {
            let Some(holds) = self.holds(name) else {
                let known = self.others().into_iter().filter(|name| *name != key).collect::<Vec<_>>().join(", ");
                let known = if known.is_empty() { "nothing else".to_owned() } else { known };
                return Err(format!("--also: a member of {system} has no {}; it has {known}", shown(name)));
            };
            if self.is_proof_of_file(name) && holds == Holds::Identifier {
                return Err(format!("--also: {name} is an identifier and a proof of {system}: rename one in its file"));
            }
            if name == key {
                return Err(format!("--also: {name} is the --key already"));
            }
            if chosen.iter().any(|column| column.name == *name) {
                return Err(format!("--also: {name} is given twice"));
            }
            chosen.push(Column { name: name.clone(), holds });
        }
        let is_given = |name: &str| name == key || chosen.iter().any(|column| column.name == name);
        if let Some((field, why)) = self.lines.needs.filter(|(field, _)| !is_given(field)) {
            return Err(format!("--also {field}=HEADER: {why}"));
        }
        let missing: Vec<_> = self.required().filter(|name| !is_given(name)).collect();
        if missing.is_empty() {
            return Ok(chosen);
        }
        let arguments = missing.iter().map(|name| format!("--also {name}=HEADER")).collect::<Vec<_>>().join(" ");
        Err(format!("{arguments}: {system} requires {} of every person", missing.join(" and ")))
    }

    /// The identifiers that every job must have.
    fn required(&self) -> impl Iterator<Item = &str> {
        let all = self.plan.iter().flat_map(|plan| &plan.identifiers);
        all.filter(|(_, identifier)| identifier.is_required).map(|(name, _)| name.as_str())
    }

    /// The words by which a person's jobs can be found.
    pub fn found_by(&self) -> Vec<&str> {
        if self.plan.is_some() { self.keys() } else { self.lines.found_by.to_vec() }
    }

    /// True if a job may have this identifier alone.
    pub fn is_enough(&self, key: &str) -> bool {
        if self.plan.is_some() { self.required().all(|name| name == key) } else { self.lines.is_enough }
    }

    /// The target without its system's name. `others` has the other columns with their values; an empty value is left
    /// out.
    pub fn target<'v>(
        &self,
        (key, value): (&str, &str),
        method: &str,
        others: impl Iterator<Item = (&'v Column, &'v str)>,
    ) -> Map<String, Value> {
        let mut target = match self.plan {
            Some(_) => Map::from_iter([("subject".to_owned(), json!({ key: value }))]),
            None => (self.lines.target)(key, value, method),
        };
        for (column, value) in others {
            let place = match column.holds {
                Holds::Codes => {
                    let codes = value.split([' ', ',', ';', '|']).filter(|code| !code.is_empty());
                    let codes: Vec<Value> = codes.map(|code| json!({ "code": code })).collect();
                    target.insert(column.name.clone(), codes.into());
                    continue;
                }
                _ if value.is_empty() => continue,
                Holds::Identifier => "subject",
                Holds::Proof => "proofs",
            };
            if self.plan.is_none() {
                target.insert(column.name.clone(), value.into());
            } else if let Value::Object(named) = target.entry(place).or_insert_with(|| json!({})) {
                named.insert(column.name.clone(), value.into());
            }
        }
        target
    }
}

/// A name from the command line, for messages. Another text may be personal data.
pub(crate) fn shown(name: &str) -> &str {
    if is_name(name) { name } else { "such field" }
}
