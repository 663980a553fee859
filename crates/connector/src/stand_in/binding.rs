//! Which call of the file a request is, and about whom: a request is read against each call's templates.
//!
//! The rule it keeps: requests are read here and written in `fill`. Neither uses the other, so a mistake of one shows.

use base64::Engine as _;
use serde_json::Value;

use super::people::Person;
use super::{Asked, Part, StandIn, has, verb};
use crate::fill::converted;
use crate::model::{Auth, Body, Call, Json, Part as TemplatePart, Slot, Source, Template};

/// The values that a request has at the places of slots.
pub(super) type Bound = Vec<(Slot, String)>;

impl StandIn {
    /// The values at the call's slots, if the request has the call's form, apart from the credential.
    pub(super) fn bound(&self, call: &Call, asked: &Asked<'_>) -> Option<Bound> {
        let mut bound = Bound::new();
        if asked.method != verb(call.method) || !self.path_fits(call, asked.segments, &mut bound) {
            return None;
        }
        pairs(&call.query, asked.query, &mut bound)?;
        for (name, template) in call.headers.iter().chain(&self.file.http.headers) {
            if !has(template, Source::Secret) {
                fit(template, asked.header(name)?, &mut bound)?;
            }
        }
        match &call.body {
            Body::None if asked.body.iter().all(u8::is_ascii_whitespace) => {}
            Body::None => return None,
            Body::Form(form) => pairs(form, asked.form?, &mut bound)?,
            Body::Json(json) => tree(json, &serde_json::from_slice(asked.body).ok()?, &mut bound)?,
        }
        let own = |slot: &Slot, value: &str| match slot.source {
            Source::Setting => {
                self.settings.get(&slot.name).map(|own| converted(own.clone(), &slot.converters) == value)
            }
            _ => Some(true),
        };
        bound.iter().all(|(slot, value)| own(slot, value) == Some(true)).then_some(bound)
    }

    /// The path below the base address; the file's base may have a path of its own.
    fn path_fits(&self, call: &Call, segments: &[String], bound: &mut Bound) -> bool {
        let base = self.file.http.base.written();
        let base = base.split_once("://").map_or("", |(_, rest)| rest);
        let below: Vec<&str> = base.split('/').skip(1).filter(|segment| !segment.is_empty()).collect();
        let whole: Vec<&str> = segments.iter().map(String::as_str).collect();
        [whole.strip_prefix(below.as_slice()), Some(whole.as_slice())].into_iter().flatten().any(|segments| {
            let templates = in_segments(&call.path);
            let (templates, segments) = (without_last_slash(&templates), without_last_slash_of(segments));
            let mut found = Bound::new();
            let fits = templates.len() == segments.len()
                && templates.iter().zip(segments).all(|(template, text)| fit(template, text, &mut found).is_some());
            if fits {
                bound.append(&mut found);
            }
            fits
        })
    }

    /// The person and the member of `each` that the values name.
    pub(super) fn who(&self, part: Part, bound: &Bound) -> (Option<usize>, u32) {
        let of = |source: Source| bound.iter().filter(move |(slot, _)| slot.source == source);
        let names_somebody = |slot: &Slot| matches!(slot.source, Source::Id | Source::Fact | Source::Item);
        if part == Part::Probe || !bound.iter().any(|(slot, _)| names_somebody(slot)) {
            // A call that names nobody is about the only person, if there is one only.
            let only = (self.people.len() == 1 && part != Part::Probe).then_some(0);
            return (only, 0);
        }
        let named = |person: &Person| {
            let by_id = of(Source::Id).all(|(slot, value)| {
                person.identifiers.get(&slot.name).is_some_and(|own| converted(own.clone(), &slot.converters) == *value)
            });
            let by_fact = of(Source::Fact).all(|(slot, value)| {
                person.known(&slot.name).iter().any(|own| converted(own.clone(), &slot.converters) == *value)
            });
            by_id && by_fact && of(Source::Item).all(|(_, value)| person.member(value).is_some())
        };
        let Some(place) = self.people.iter().position(named) else { return (None, 0) };
        let member = of(Source::Item).find_map(|(_, value)| self.people[place].member(value));
        (Some(place), member.unwrap_or(0))
    }

    /// True if the credential, and every secret of the request, is right.
    pub(super) fn is_authorised(&self, asked: &Asked<'_>) -> bool {
        let http = &self.file.http;
        let credential = match &http.auth {
            Auth::None => true,
            Auth::Bearer(token) => asked
                .header("authorization")
                .and_then(|value| value.strip_prefix("Bearer "))
                .is_some_and(|value| self.is_ours(token, value)),
            Auth::Basic(user, password) => {
                let pair = asked
                    .header("authorization")
                    .and_then(|value| value.strip_prefix("Basic "))
                    .and_then(|value| base64::engine::general_purpose::STANDARD.decode(value).ok())
                    .and_then(|pair| String::from_utf8(pair).ok());
                pair.as_deref()
                    .and_then(|pair| pair.split_once(':'))
                    .is_some_and(|(name, word)| self.is_ours(user, name) && self.is_ours(password, word))
            }
        };
        let headers = http.headers.iter().all(|(name, template)| {
            !has(template, Source::Secret) || asked.header(name).is_some_and(|value| self.is_ours(template, value))
        });
        let sent = self.calls().into_iter().filter_map(|(_, call)| self.bound(call, asked)).next().unwrap_or_default();
        let secrets = sent.iter().filter(|(slot, _)| slot.source == Source::Secret);
        credential && headers && secrets.into_iter().all(|(slot, value)| self.secret(slot).as_deref() == Some(value))
    }

    fn secret(&self, slot: &Slot) -> Option<String> {
        Some(converted(self.secrets.get(&slot.name)?.clone(), &slot.converters))
    }

    /// True if the text is what the template gives with our settings and secrets.
    fn is_ours(&self, template: &Template, text: &str) -> bool {
        let mut whole = String::new();
        for part in &template.0 {
            match part {
                TemplatePart::Text(text) => whole.push_str(text),
                TemplatePart::Slot(slot) => {
                    let value = match slot.source {
                        Source::Secret => self.secret(slot),
                        _ => self.settings.get(&slot.name).map(|own| converted(own.clone(), &slot.converters)),
                    };
                    match value {
                        Some(value) => whole.push_str(&value),
                        None => return false,
                    }
                }
            }
        }
        whole == text
    }
}

/// Reads a text against a template: each slot takes what stands up to the next fixed text.
fn fit(template: &Template, text: &str, bound: &mut Bound) -> Option<()> {
    let mut rest = text;
    let mut parts = template.0.iter().peekable();
    while let Some(part) = parts.next() {
        match part {
            TemplatePart::Text(fixed) => rest = rest.strip_prefix(fixed.as_str())?,
            TemplatePart::Slot(slot) => {
                let end = match parts.peek() {
                    None => rest.len(),
                    Some(TemplatePart::Text(next)) => rest.find(next.as_str())?,
                    Some(TemplatePart::Slot(_)) => return None,
                };
                let (value, after) = rest.split_at(end);
                bound.push((slot.clone(), value.to_owned()));
                rest = after;
            }
        }
    }
    rest.is_empty().then_some(())
}

fn pairs(templates: &[(String, Template)], given: &[(String, String)], bound: &mut Bound) -> Option<()> {
    let mut templates: Vec<_> = templates.iter().collect();
    let mut given: Vec<_> = given.iter().collect();
    templates.sort_by(|one, two| one.0.cmp(&two.0));
    given.sort_by(|one, two| one.0.cmp(&two.0));
    if templates.len() != given.len() {
        return None;
    }
    templates.iter().zip(given).try_for_each(
        |((name, template), (key, value))| {
            if name == key { fit(template, value, bound) } else { None }
        },
    )
}

fn tree(json: &Json, value: &Value, bound: &mut Bound) -> Option<()> {
    match (json, value) {
        (Json::Value(wanted), value) => (wanted == value).then_some(()),
        (Json::Text(template), Value::String(text)) => fit(template, text, bound),
        (Json::Text(template), Value::Number(number)) => match template.0.as_slice() {
            [TemplatePart::Slot(_)] => fit(template, &number.to_string(), bound),
            _ => None,
        },
        (Json::List(members), Value::Array(values)) if members.len() == values.len() => {
            members.iter().zip(values).try_for_each(|(member, value)| tree(member, value, bound))
        }
        (Json::Object(members), Value::Object(values)) if members.len() == values.len() => {
            members.iter().try_for_each(|(name, member)| tree(member, values.get(name)?, bound))
        }
        _ => None,
    }
}

/// A path's segments, each a template.
fn in_segments(path: &Template) -> Vec<Template> {
    let mut segments = vec![Template::default()];
    for part in &path.0 {
        match part {
            TemplatePart::Text(text) => {
                for (number, piece) in text.split('/').enumerate() {
                    if number > 0 {
                        segments.push(Template::default());
                    }
                    if let Some(last) = segments.last_mut().filter(|_| !piece.is_empty()) {
                        last.0.push(TemplatePart::Text(piece.to_owned()));
                    }
                }
            }
            slot @ TemplatePart::Slot(_) => {
                if let Some(last) = segments.last_mut() {
                    last.0.push(slot.clone());
                }
            }
        }
    }
    // A path begins with a slash.
    segments.remove(0);
    segments
}

fn without_last_slash(segments: &[Template]) -> &[Template] {
    match segments.split_last() {
        Some((last, rest)) if last.0.is_empty() => rest,
        _ => segments,
    }
}

fn without_last_slash_of<'s, 't>(segments: &'s [&'t str]) -> &'s [&'t str] {
    match segments.split_last() {
        Some((&"", rest)) => rest,
        _ => segments,
    }
}
