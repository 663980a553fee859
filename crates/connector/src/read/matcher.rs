//! Reads conditions on a reply.
//!
//! The rule it keeps: the keys of one table must all hold; nothing is compared by its text.

use serde_json::Value;
use toml::de::DeValue;

use super::cursor::{At, Keys, Reader, integer, kind};
use super::keys::MATCHER;
use crate::branches;
use crate::document::LARGEST_NUMBER;
use crate::model::{Matcher, Test};

/// How deep conditions may be nested.
const DEEPEST: usize = 6;
/// The longest list that a condition may count: the most items of a connector.
pub(crate) const MOST_ITEMS: u64 = 10_000;

impl Reader {
    /// A condition.
    pub fn matcher(&mut self, at: &At<'_>) -> Option<Matcher> {
        let matcher = self.condition(at, 0)?;
        if branches::of(&matcher).is_none() {
            self.fault_at(at, "has too many alternatives", "write several answers with fewer `any` each");
            return None;
        }
        Some(matcher)
    }

    fn condition(&mut self, at: &At<'_>, depth: usize) -> Option<Matcher> {
        if depth > DEEPEST {
            self.fault_at(at, "is nested too deep", format!("write at most {DEEPEST} levels of all and any"));
            return None;
        }
        let mut keys = self.keys(at, MATCHER)?;
        let before = self.faults.len();
        let mut all = Vec::new();
        if let Some(status) = keys.take(self, "status") {
            all.extend(self.statuses(&status).map(Matcher::Status));
        }
        if let Some(header) = keys.take(self, "header") {
            self.headers_are(&header, &mut all);
        }
        if let Some(empty) = keys.take(self, "empty")
            && self.flag(&empty)
        {
            all.push(Matcher::Empty);
        }
        if let Some(place) = keys.take(self, "at") {
            let pointer = match place.value {
                DeValue::String(text) if !self.is_visible(&place, text) => None,
                DeValue::String(text) => self.pointer(place.line, &place.place, text),
                other => {
                    self.fault_at(&place, format!("is {}, not a text", kind(other)), "write a place such as \"/id\"");
                    None
                }
            };
            match (pointer, self.test(&mut keys, &place)) {
                (Some(pointer), Some(test)) => all.push(Matcher::At(pointer, test)),
                _ => drop(keys.take(self, "at")),
            }
        }
        for (key, make) in [("all", Matcher::All as fn(_) -> _), ("any", Matcher::Any)] {
            let Some(list) = keys.take(self, key) else { continue };
            let members = self.list(&list);
            if members.is_empty() {
                self.fault_at(&list, "has no condition", "write at least one condition");
            }
            let members: Vec<_> = members.iter().filter_map(|member| self.condition(member, depth + 1)).collect();
            all.push(make(members));
        }
        for test in ["is", "in", "type", "count", "has", "begins", "exists"] {
            if keys.has(test) {
                let test = keys.take(self, test)?;
                self.fault_at(&test, "tests no place", "write one test for each `at = \"/place\"` (more in `all`)");
            }
        }
        keys.finish(self);
        if all.is_empty() && self.faults.len() == before {
            self.fault_at(at, "is an empty condition", "write status, header, empty, at, all or any");
        }
        if self.faults.len() > before {
            return None;
        }
        match all.len() {
            1 => all.pop(),
            _ => Some(Matcher::All(all)),
        }
    }

    fn statuses(&mut self, at: &At<'_>) -> Option<Vec<u16>> {
        let mut statuses = Vec::new();
        for one in self.one_or_more(at) {
            let Some(status) = self.number(&one, 100, 599).and_then(|number| u16::try_from(number).ok()) else {
                continue;
            };
            if crate::matching::is_the_workers(status) {
                self.fault_at(
                    &one,
                    format!(
                        "{status} always means the same: redirect, credential, rate or outage, and is the worker's"
                    ),
                    "remove it; write the statuses with which the vendor speaks of the person",
                );
            }
            if statuses.contains(&status) {
                self.fault_at(&one, format!("{status} is there twice"), "remove one of them");
            }
            statuses.push(status);
        }
        (!statuses.is_empty()).then_some(statuses)
    }

    fn headers_are(&mut self, at: &At<'_>, all: &mut Vec<Matcher>) {
        let Some(mut keys) = self.keys(at, &[]) else { return };
        let entries = keys.all(self);
        if entries.is_empty() {
            self.fault_at(at, "names no header", "write { \"name\" = \"value\" }");
        }
        for (name, value) in entries {
            if !self.header_name(&value, name) {
                continue;
            }
            if let Some(text) = self.text(&value) {
                all.push(Matcher::Header(name.to_ascii_lowercase(), text));
            }
        }
    }

    /// The test beside `at`.
    fn test(&mut self, keys: &mut Keys<'_>, at: &At<'_>) -> Option<Test> {
        let mut tests = Vec::new();
        let before = self.faults.len();
        if let Some(is) = keys.take(self, "is") {
            tests.extend(self.scalar(&is).map(Test::Is));
        }
        if let Some(list) = keys.take(self, "in") {
            let values = self.list(&list);
            if values.is_empty() {
                self.fault_at(&list, "is an empty list", "write at least one value");
            }
            let values: Vec<_> = values.iter().filter_map(|value| self.scalar(value)).collect();
            tests.push(Test::In(values));
        }
        if let Some(of) = keys.take(self, "type") {
            tests.extend(self.word(&of).map(Test::Type));
        }
        if let Some(count) = keys.take(self, "count") {
            let count = self.number(&count, 0, MOST_ITEMS).and_then(|number| usize::try_from(number).ok());
            tests.extend(count.map(Test::Count));
        }
        if let Some(has) = keys.take(self, "has") {
            tests.extend(self.template(&has).map(Test::Has));
        }
        if let Some(begins) = keys.take(self, "begins") {
            tests.extend(self.text(&begins).map(Test::Begins));
        }
        if let Some(exists) = keys.take(self, "exists") {
            tests.extend(self.bool(&exists).map(Test::Exists));
        }
        if tests.len() > 1 {
            self.fault_at(at, "has two tests", "write one test for each place, several conditions in `all`");
            return None;
        }
        if tests.is_empty() && self.faults.len() == before {
            self.fault_at(at, "has no test", "write is, in, type, count, has, begins or exists beside it");
        }
        tests.pop()
    }

    /// A text, a whole number, `true` or `false`.
    fn scalar(&mut self, at: &At<'_>) -> Option<Value> {
        match at.value {
            DeValue::String(text) if text == "null" => {
                self.fault_at(at, "is the text \"null\", which no vendor means", "write type = \"null\" instead");
                None
            }
            DeValue::String(text) => self.is_visible(at, text).then(|| Value::from(text.as_ref())),
            DeValue::Boolean(value) => Some(Value::from(*value)),
            DeValue::Integer(_) => {
                let number = integer(at.value).filter(|number| (-LARGEST_NUMBER..=LARGEST_NUMBER).contains(number));
                if number.is_none() {
                    self.fault_at(
                        at,
                        "is beyond 2^53, where JSON libraries round",
                        "write another test: such a number cannot be compared",
                    );
                }
                number.map(Value::from)
            }
            other => {
                self.fault_at(
                    at,
                    format!("is {}, which cannot be compared exactly", kind(other)),
                    "write a text, a whole number, true or false",
                );
                None
            }
        }
    }
}
