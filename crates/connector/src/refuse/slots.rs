//! Slots name something that is there when the call is made.

use std::collections::BTreeSet;

use super::{Trial, answer_of};
use crate::model::{Body, Call, Converter, Json, Matcher, Slot, Source, Template, Test};
use crate::words::nearest;

/// The templates of a call, each with the key under which it stands.
pub(super) fn call_templates(call: &Call) -> Vec<(&'static str, &Template)> {
    let mut all = vec![(call.method.word(), &call.path)];
    all.extend(call.query.iter().map(|(_, value)| (call.method.word(), value)));
    all.extend(call.headers.values().map(|value| ("headers", value)));
    match &call.body {
        Body::None => {}
        Body::Form(pairs) => all.extend(pairs.iter().map(|(_, value)| ("form", value))),
        Body::Json(json) => json_templates(json, &mut all),
    }
    all
}

fn json_templates<'j>(json: &'j Json, all: &mut Vec<(&'static str, &'j Template)>) {
    match json {
        Json::Value(_) => {}
        Json::Text(text) => all.push(("json", text)),
        Json::List(members) => members.iter().for_each(|member| json_templates(member, all)),
        Json::Object(members) => members.iter().for_each(|(_, member)| json_templates(member, all)),
    }
}

/// The slots of a call.
pub(super) fn call_slots(call: &Call) -> Vec<&Slot> {
    call_templates(call).into_iter().flat_map(|(_, template)| template.slots()).collect()
}

/// The facts among slots.
pub(super) fn facts_of(slots: Vec<&Slot>) -> BTreeSet<&str> {
    slots.into_iter().filter(|slot| slot.source == Source::Fact).map(|slot| slot.name.as_str()).collect()
}

/// The templates of a condition.
pub(super) fn compared(matcher: &Matcher) -> Vec<&Template> {
    match matcher {
        Matcher::At(_, Test::Has(template)) => vec![template],
        Matcher::All(members) | Matcher::Any(members) => members.iter().flat_map(compared).collect(),
        _ => Vec::new(),
    }
}

/// What a call can use.
struct Scope<'a> {
    sources: &'a [Source],
    /// Why another source is not there.
    why: &'static str,
}

const BASE: Scope<'_> = Scope { sources: &[Source::Setting], why: "the address of all calls is fixed by settings" };
const ALWAYS: Scope<'_> = Scope { sources: &[Source::Setting, Source::Secret], why: "it is used without a job, too" };
const PERSON: Scope<'_> =
    Scope { sources: &[Source::Setting, Source::Secret, Source::Id], why: "it is the first call of a job" };
const READ: Scope<'_> = Scope {
    sources: &[Source::Setting, Source::Secret, Source::Id, Source::Fact],
    why: "a proof is for acts, and an item for an act with `each` and its evidence",
};
const ITEM_READ: Scope<'_> = Scope {
    sources: &[Source::Setting, Source::Secret, Source::Id, Source::Fact, Source::Item],
    why: "a proof is for acts",
};
const ACT: Scope<'_> = Scope {
    sources: &[Source::Setting, Source::Secret, Source::Id, Source::Fact, Source::Proof],
    why: "an item needs each = \"fact.NAME\" in the act",
};
const ITEM_ACT: Scope<'_> = Scope {
    sources: &[Source::Setting, Source::Secret, Source::Id, Source::Fact, Source::Proof, Source::Item],
    why: "",
};

impl<'c> Trial<'c> {
    /// Every slot names something, and everything that is named is used.
    pub(super) fn slots(&mut self) {
        let file = self.file;
        self.template("http.base", &file.http.base, &BASE);
        for (place, template) in file.http.auth.templates() {
            self.template(place, template, &ALWAYS);
        }
        for value in file.http.headers.values() {
            self.template("http.headers", value, &ALWAYS);
        }
        self.call("probe", &file.probe.call, &ALWAYS);
        for template in compared(&file.probe.ok) {
            self.template("probe.ok", template, &ALWAYS);
        }
        for (index, read) in file.reads.iter().enumerate() {
            let place = format!("read.{}", read.name);
            let mut users = file.acts.iter().filter(|act| act.names(index)).peekable();
            let has_item = users.peek().is_some() && users.all(|act| act.each.is_some());
            let scope = match read.name.as_str() {
                "person" => PERSON,
                _ if has_item && !file.before_acts().contains(&index) => ITEM_READ,
                _ => READ,
            };
            if let Some(call) = &read.call {
                self.call(&place, call, &scope);
            }
            for (index, answer) in read.answers.iter().enumerate() {
                let place = answer_of("read", &read.name, index);
                for template in compared(&answer.when) {
                    self.compared(&place, template, &scope);
                }
                for (_, name) in &answer.same {
                    if !file.identifiers.contains_key(name) {
                        self.names_nothing(&format!("{place}.same"), "identifier", name, file.identifiers.keys());
                    }
                }
            }
        }
        for act in &file.acts {
            let place = format!("act.{}", act.name);
            let scope = if act.each.is_some() { ITEM_ACT } else { ACT };
            self.call(&place, &act.call, &scope);
            for (index, answer) in act.answers.iter().enumerate() {
                for template in compared(&answer.when) {
                    self.compared(&answer_of("act", &act.name, index), template, &scope);
                }
            }
            if let Some(fact) = &act.each {
                let known = self.facts();
                if !known.contains(fact.as_str()) {
                    self.names_nothing(&format!("{place}.each"), "fact", fact, known);
                }
            }
            self.proofs(&place, act);
        }
        self.unused();
        self.unused_reads();
    }

    fn proofs(&mut self, place: &str, act: &crate::model::Act) {
        let file = self.file;
        if let Some(proof) = &act.proof
            && !file.proofs.contains(proof)
        {
            self.names_nothing(&format!("{place}.proof"), "proof", proof, &file.proofs);
        }
        let slots = call_slots(&act.call);
        let sent: BTreeSet<_> =
            slots.iter().filter(|slot| slot.source == Source::Proof).map(|slot| &slot.name).collect();
        for name in &sent {
            if act.proof.as_ref() != Some(*name) {
                self.refuse(
                    place,
                    format!("sends ${{proof.{name}}}, but does not wait for it"),
                    format!("write proof = \"{name}\" in the act"),
                );
            }
        }
        if let Some(proof) = &act.proof
            && file.proofs.contains(proof)
            && !sent.contains(proof)
        {
            self.refuse(
                place,
                format!("waits for the proof {proof}, but does not send it"),
                format!("write ${{proof.{proof}}} in the call, or remove proof"),
            );
        }
    }

    fn call(&mut self, place: &str, call: &Call, scope: &Scope<'_>) {
        for (key, template) in call_templates(call) {
            self.template(&format!("{place}.{key}"), template, scope);
        }
    }

    fn compared(&mut self, place: &str, template: &Template, scope: &Scope<'_>) {
        let place = format!("{place}.when");
        self.template(&place, template, scope);
        if template.slots().any(|slot| matches!(slot.source, Source::Secret | Source::Proof)) {
            self.refuse(&place, "compares a secret or a proof with a reply", "compare an identifier or a fact");
        }
        let unknown = |slot: &Slot| slot.converters.iter().any(|of| matches!(of, Converter::Md5 | Converter::Base64));
        if template.slots().any(unknown) {
            self.refuse(&place, "compares an md5 or base64 value", "compare the value itself, lower or sha256");
        }
    }

    fn template(&mut self, place: &str, template: &Template, scope: &Scope<'_>) {
        let file = self.file;
        for slot in template.slots() {
            if !scope.sources.contains(&slot.source) {
                let known: Vec<_> = scope.sources.iter().map(|source| source.word()).collect();
                self.refuse(
                    place,
                    format!("uses {}, which is not there: {}", slot.written(), scope.why),
                    format!("write a slot of {}", known.join(", ")),
                );
                continue;
            }
            let known: Vec<&str> = match slot.source {
                Source::Id => file.identifiers.keys().map(String::as_str).collect(),
                Source::Setting => file.settings.keys().map(String::as_str).collect(),
                Source::Secret => file.secrets.iter().map(String::as_str).collect(),
                Source::Proof => file.proofs.iter().map(String::as_str).collect(),
                Source::Fact => self.facts().into_iter().collect(),
                Source::Item => continue,
            };
            if !known.contains(&slot.name.as_str()) {
                let kind = match slot.source {
                    Source::Id => "identifier",
                    other => other.word(),
                };
                self.names_nothing(place, kind, &slot.name, known);
            } else if file.identifiers.get(&slot.name).is_some_and(|of| slot.source == Source::Id && !of.required) {
                self.refuse(
                    place,
                    format!("needs {}, which a job may leave out: the call would be another one without it", slot.name),
                    format!("write required = true in identifiers.{}", slot.name),
                );
            }
        }
    }

    /// Every fact that an answer takes.
    fn facts(&self) -> BTreeSet<&'c str> {
        let file = self.file;
        let reads = file.reads.iter().flat_map(|read| read.answers.iter().flat_map(|answer| &answer.take));
        let acts = file.acts.iter().flat_map(|act| act.answers.iter().flat_map(|answer| &answer.take));
        reads.chain(acts).map(|(name, _)| name.as_str()).collect()
    }

    fn names_nothing<S: AsRef<str>>(
        &mut self,
        place: &str,
        kind: &str,
        name: &str,
        known: impl IntoIterator<Item = S>,
    ) {
        let known: Vec<String> = known.into_iter().map(|known| known.as_ref().to_owned()).collect();
        let instead = match nearest(name, known.iter().map(String::as_str)) {
            Some(near) => format!("write {near} instead"),
            None if known.is_empty() => format!("name the {kind} in the file first"),
            None => format!("write one of {}", known.join(", ")),
        };
        self.refuse(place, format!("names the {kind} {name}, which the file does not have"), instead);
    }

    /// Names that nothing uses: a slip, or a leftover.
    fn unused(&mut self) {
        let file = self.file;
        let mut slots: Vec<&Slot> = call_slots(&file.probe.call);
        slots.extend(file.http.base.slots());
        slots.extend(file.http.headers.values().flat_map(Template::slots));
        slots.extend(file.http.auth.templates().into_iter().flat_map(|(_, template)| template.slots()));
        let reads = file.reads.iter();
        slots.extend(reads.clone().filter_map(|read| read.call.as_ref()).flat_map(call_slots));
        slots.extend(file.acts.iter().flat_map(|act| call_slots(&act.call)));
        let answers = reads.flat_map(|read| &read.answers);
        let same: BTreeSet<&String> = answers.flat_map(|answer| answer.same.iter().map(|(_, name)| name)).collect();
        let used = |source: Source, name: &String| slots.iter().any(|slot| slot.source == source && slot.name == *name);
        let mut unused = Vec::new();
        unused.extend(file.settings.keys().filter(|name| !used(Source::Setting, name)).map(|name| ("settings", name)));
        unused.extend(file.secrets.iter().filter(|name| !used(Source::Secret, name)).map(|name| ("secrets", name)));
        unused.extend(file.proofs.iter().filter(|name| !used(Source::Proof, name)).map(|name| ("proofs", name)));
        let ids = file.identifiers.keys().filter(|name| !used(Source::Id, name) && !same.contains(name));
        unused.extend(ids.map(|name| ("identifiers", name)));
        for (key, name) in unused {
            self.refuse(&format!("{key}.{name}"), "is used by no call and no comparison", "use it, or remove it");
        }
    }
}
