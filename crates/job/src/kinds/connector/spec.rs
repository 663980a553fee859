//! A connector's part of a target: the person and the proofs, by the names of the plan.
//!
//! The rule it keeps: a name outside the plan is refused, and a form that the plan excludes too. A job that was
//! accepted before is read whatever its names are: the plan may have changed since.

use std::collections::BTreeMap;

use secrecy::SecretString;

use crate::cursor::{Forms, Invalid, Node, Object, shown};
use crate::field::{MAX_PROOF, checked, is_name};
use crate::flow::Rules;
use crate::identifier::{email_flaw, flaw};
use crate::kinds::Spec;
use crate::plan::{Form, Plan};

/// The most digits of an identifier.
const MOST_DIGITS: usize = 32;

pub(super) fn spec(object: &mut Object<'_>, rules: &Rules) -> Result<Spec, Invalid> {
    let plan = rules.plan.as_deref();
    if plan.is_none() && object.forms() == Forms::Todays {
        return Err(Invalid::at(object.path_of("system"), "has no connector"));
    }
    let path = object.path_of("subject");
    let subject = object.take("subject").ok_or_else(|| object.missing("subject"))?;
    let forms = object.forms();
    let names = || plan.into_iter().flat_map(|plan| plan.identifiers.keys().map(String::as_str));
    let identifiers = named(object.within(subject, &*path)?, &path, forms, names, |name, text, path| {
        identifier(plan, name, text, path, forms)
    })?;
    if identifiers.is_empty() {
        return Err(Invalid::at(path, format!("names nobody; expected {}", list(names()))));
    }
    if forms == Forms::Todays {
        let required = plan.into_iter().flat_map(|plan| &plan.identifiers).filter(|(_, form)| form.is_required);
        if let Some((name, _)) = required.into_iter().find(|(name, _)| !identifiers.contains_key(*name)) {
            return Err(Invalid::at(format!("{path}.{name}"), "is missing and required"));
        }
    }
    let path = object.path_of("proofs");
    let proofs = match object.take("proofs") {
        None => BTreeMap::new(),
        Some(node) => {
            let names = || plan.into_iter().flat_map(|plan| plan.proofs.iter().map(|(name, _)| name.as_str()));
            named(object.within(node, &*path)?, &path, forms, names, |_, text, path| {
                let fits = !text.is_empty() && text.len() <= MAX_PROOF;
                if fits { Ok(()) } else { Err(Invalid::at(path, format!("expected 1 to {MAX_PROOF} bytes of text"))) }
            })?
        }
    };
    Ok(Spec::Connector { identifiers, proofs })
}

/// The texts of an object whose names are in a list.
fn named<'p, N: Iterator<Item = &'p str>>(
    object: Object<'_>,
    path: &str,
    forms: Forms,
    names: impl Fn() -> N,
    check: impl Fn(&str, &str, &str) -> Result<(), Invalid>,
) -> Result<BTreeMap<String, SecretString>, Invalid> {
    let mut texts = BTreeMap::new();
    for (name, node) in object.take_all() {
        let is_known = names().any(|known| known == name);
        if !is_known && (forms == Forms::Todays || !is_name(name)) {
            let expected = match names().next() {
                None => "is not a field here; expected none".to_owned(),
                Some(_) => format!("is not a field here; expected one of {}", list(names())),
            };
            return Err(Invalid::at(format!("{path}.{}", shown(name)), expected));
        }
        let path = format!("{path}.{name}");
        let Node::Text(text) = node else {
            return Err(Invalid::at(path, format!("expected a string, found {}", node.noun())));
        };
        check(name, text, &path)?;
        texts.insert(name.clone(), SecretString::from(text.as_str()));
    }
    Ok(texts)
}

fn list<'p>(names: impl Iterator<Item = &'p str>) -> String {
    names.collect::<Vec<_>>().join(", ")
}

fn identifier(plan: Option<&Plan>, name: &str, text: &str, path: &str, forms: Forms) -> Result<(), Invalid> {
    let form = plan.and_then(|plan| plan.identifiers.get(name)).map_or(Form::Text, |identifier| identifier.form);
    // Of an unknown form, an e-mail address may be longer than other identifiers.
    let is_email = form == Form::Email || (plan.is_none() && email_flaw(text).is_none());
    checked(text, path, forms, if is_email { email_flaw } else { flaw })?;
    if forms == Forms::AnyReleases {
        return Ok(());
    }
    let is_uuid = || text.len() == 36 && uuid::Uuid::try_parse(text).is_ok();
    let is_number = || {
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        digits && text.len() <= MOST_DIGITS && text.bytes().any(|byte| byte != b'0')
    };
    match form {
        Form::Digits if !is_number() => {
            Err(Invalid::at(path, format!("expected a string of 1 to {MOST_DIGITS} digits, not all of them 0")))
        }
        Form::Uuid if !is_uuid() => {
            Err(Invalid::at(path, "expected a UUID of the form xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx"))
        }
        _ => Ok(()),
    }
}
