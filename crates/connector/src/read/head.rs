//! Reads the file's head: names, settings, identifiers, address and credential, limits, the probe.
//!
//! The rule it keeps: a fault of a value that may be a secret does not repeat the value.

use std::collections::{BTreeMap, BTreeSet};

use toml::de::DeValue;

use super::call::Use;
use super::cursor::{At, Keys, Reader, integer, kind, repeat};
use super::keys;
use crate::model::{
    Auth, Body, Call, Http, Identifier, Matcher, Method, Outcome, Part, Pointer, Probe, SettingForm, Template, Test,
    Type,
};

/// The most requests a minute that a limit may name.
const FASTEST: u64 = 1_000_000;

/// What stands before the first part.
#[derive(Default)]
pub(super) struct Head {
    pub name: Option<String>,
    pub outcome: Option<Outcome>,
    pub sources: Vec<String>,
    pub settings: BTreeMap<String, SettingForm>,
    pub secrets: BTreeSet<String>,
    pub identifiers: BTreeMap<String, Identifier>,
    pub proofs: BTreeSet<String>,
    pub http: Option<Http>,
    pub limits: BTreeMap<String, u32>,
    pub preserved: Vec<String>,
}

/// Reads the head.
pub(super) fn head(r: &mut Reader, keys: &mut Keys<'_>) -> Head {
    let mut head = Head::default();
    format(r, keys);
    head.name = vendor(r, keys);
    let outcome = "write outcome = \"erased\", \"declared\" (the vendor's word alone) or \"unproven\"";
    head.outcome = keys.must(r, "outcome", outcome).and_then(|at| r.word(&at));
    head.sources = texts(r, keys, "sources");
    head.preserved = texts(r, keys, "preserved");
    if let Some(at) = keys.take(r, "settings") {
        settings(r, &at, &mut head.settings);
    }
    head.secrets = names(r, keys, "secrets");
    head.proofs = names(r, keys, "proofs");
    let missing = "write identifiers = { user_id = { type = \"digits\", required = true } }";
    if let Some(at) = keys.must(r, "identifiers", missing) {
        identifiers(r, &at, &mut head.identifiers);
    }
    head.http = keys
        .must(r, "http", "write http = { base = \"https://…\", bearer = \"${secret.NAME}\" }")
        .and_then(|at| http(r, &at));
    if let Some(at) = keys.take(r, "limits")
        && let Some(mut table) = r.keys(&at, &[])
    {
        for (name, at) in table.all(r) {
            let named = r.name(at.line, &at.place, name);
            let limit = r.number(&at, 1, FASTEST).and_then(|number| u32::try_from(number).ok());
            head.limits.extend(limit.filter(|_| named).map(|limit| (name.to_owned(), limit)));
        }
    }
    head
}

/// `format`
pub(crate) fn format(r: &mut Reader, keys: &mut Keys<'_>) {
    match keys.must(r, "format", "write format = 1 in the first line") {
        Some(at) if integer(at.value) == Some(1) => {}
        Some(at) => r.fault_at(&at, "is a format that this release does not read", "write format = 1"),
        None => {}
    }
}

/// `name`
pub(crate) fn vendor(r: &mut Reader, keys: &mut Keys<'_>) -> Option<String> {
    keys.must(r, "name", "write name = \"the vendor\"").and_then(|at| {
        let name = r.text(&at)?;
        let good = name.len() <= 63
            && name.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
            && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-');
        if !good {
            r.fault_at(&at, format!("{} is not a name", repeat(&name)), "write small letters, digits, - and _");
        }
        good.then_some(name)
    })
}

/// A list of texts; empty if it was not given.
pub(crate) fn texts(r: &mut Reader, keys: &mut Keys<'_>, key: &str) -> Vec<String> {
    let Some(at) = keys.take(r, key) else { return Vec::new() };
    let list = r.list(&at);
    list.iter().filter_map(|at| r.text(at)).collect()
}

/// A list of names, each once.
fn names(r: &mut Reader, keys: &mut Keys<'_>, key: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let Some(at) = keys.take(r, key) else { return names };
    for at in r.list(&at) {
        // A secret may have been written in place of its name.
        let Some(name) = r.text(&at) else { continue };
        if key == "secrets" && !name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_') {
            r.fault_at(&at, "is not a name", "write the secret's name here; its value is in the configuration");
        } else if r.name(at.line, &at.place, &name) && !names.insert(name) {
            r.fault_at(&at, "is there twice", "write each name once");
        }
    }
    names
}

fn settings(r: &mut Reader, at: &At<'_>, settings: &mut BTreeMap<String, SettingForm>) {
    let Some(mut table) = r.keys(at, &[]) else { return };
    for (name, at) in table.all(r) {
        let named = r.name(at.line, &at.place, name);
        let form = match at.value {
            DeValue::Array(_) => {
                let list = r.list(&at);
                let values: Vec<_> = list.iter().filter_map(|at| r.text(at)).collect();
                if values.is_empty() {
                    r.fault_at(&at, "has no value", "write the permitted values: [\"eu\", \"us\"]");
                }
                Some(SettingForm::OneOf(values))
            }
            DeValue::String(_) => r.text(&at).and_then(|text| {
                // By itself as well, so that no bracket closes the group around it.
                let is_pattern = |text: &str| regex_lite::Regex::new(text).is_ok();
                let valid = text.len() <= 500 && is_pattern(&text) && is_pattern(&format!("^(?:{text})$"));
                if !valid {
                    r.fault_at(
                        &at,
                        "is not a pattern",
                        "write a regular expression for the whole value: \"[a-z0-9-]+\"",
                    );
                }
                valid.then_some(SettingForm::Pattern(text))
            }),
            other => {
                let is = kind(other);
                r.fault_at(&at, format!("is {is}"), "write a list of the permitted values, or a pattern");
                None
            }
        };
        settings.extend(form.filter(|_| named).map(|form| (name.to_owned(), form)));
    }
}

/// `identifiers`
pub(crate) fn identifiers(r: &mut Reader, at: &At<'_>, identifiers: &mut BTreeMap<String, Identifier>) {
    let Some(mut table) = r.keys(at, &[]) else { return };
    let before = r.faults.len();
    for (name, at) in table.all(r) {
        let named = r.name(at.line, &at.place, name);
        let Some(mut keys) = r.keys(&at, keys::IDENTIFIER) else { continue };
        let form = keys.must(r, "type", "write type = \"text\", \"digits\", \"email\" or \"uuid\"");
        let form = form.and_then(|at| r.word(&at));
        let required = keys.take(r, "required").is_some_and(|at| r.flag(&at));
        keys.finish(r);
        if let Some(form) = form
            && named
        {
            identifiers.insert(name.to_owned(), Identifier { form, required });
        }
    }
    if r.faults.len() == before && !identifiers.values().any(|identifier| identifier.required) {
        r.fault_at(
            at,
            "requires no identifier: a job could name nobody",
            "write required = true for the identifier that the calls need",
        );
    }
}

fn http(r: &mut Reader, at: &At<'_>) -> Option<Http> {
    let mut keys = r.keys(at, keys::HTTP)?;
    let before = r.faults.len();
    let base = keys.must(r, "base", "write base = \"https://api.example.com\"").and_then(|at| r.template(&at));
    let bearer = keys.take(r, "bearer");
    let basic = keys.take(r, "basic");
    if let (Some(_), Some(basic)) = (&bearer, &basic) {
        r.fault_at(basic, "is a second credential", "write basic or bearer, not both");
    }
    let mut auth = Auth::None;
    if let Some(at) = bearer {
        auth = r.template(&at).map_or(Auth::None, Auth::Bearer);
    } else if let Some(at) = basic {
        let pair = r.list(&at);
        let pair: Vec<Template> = pair
            .iter()
            .filter_map(|at| match at.value {
                // Some vendors take a key as the user, without a password.
                DeValue::String(text) if text.is_empty() => Some(Template::default()),
                _ => r.template(at),
            })
            .collect();
        match <[Template; 2]>::try_from(pair) {
            Ok([user, password]) => auth = Auth::Basic(user, password),
            Err(_) => r.fault_at(&at, "is not user and password", "write basic = [\"user\", \"${secret.NAME}\"]"),
        }
    }
    let headers = keys.take(r, "headers").map(|at| r.headers(&at)).unwrap_or_default();
    let secrets_in_address = keys.take(r, "secrets_in_address").and_then(|at| r.text(&at));
    let identifiers_in_address = keys.take(r, "identifiers_in_address").and_then(|at| r.text(&at));
    keys.finish(r);
    let http = Http { base: base?, auth, headers, secrets_in_address, identifiers_in_address };
    (r.faults.len() == before).then_some(http)
}

/// `[probe]`
pub(super) fn probe(r: &mut Reader, at: &At<'_>) -> Option<Probe> {
    let mut keys = r.keys(at, keys::PROBE)?;
    let call = r.call(&mut keys, Use::Reading, true);
    let ok = keys.must(r, "ok", "write ok = { at = \"/place\", type = \"number\" }").and_then(|at| r.matcher(&at));
    keys.finish(r);
    Some(Probe { call: call?, ok: ok? })
}

/// The placeholder for an unreadable `[http]`.
pub(super) fn no_http() -> Http {
    Http {
        base: Template(vec![Part::Text("https://unread.example.com".to_owned())]),
        auth: Auth::None,
        headers: BTreeMap::new(),
        secrets_in_address: Some(String::new()),
        identifiers_in_address: Some(String::new()),
    }
}

/// The placeholder for an unreadable `[probe]`.
pub(super) fn no_probe() -> Probe {
    let call = Call {
        method: Method::Get,
        path: Template::default(),
        query: Vec::new(),
        headers: BTreeMap::new(),
        body: Body::None,
        endpoint: String::new(),
    };
    Probe { call, ok: Matcher::At(Pointer(Vec::new()), Test::Type(Type::Object)) }
}
