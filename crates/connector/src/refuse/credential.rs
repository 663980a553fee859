//! No credential stands in the file.
//!
//! The rule it keeps: a refusal never repeats the value.

use super::Trial;
use crate::model::{Auth, Body, Call, Json, Part, SettingForm, Source, Template};

/// How the credentials of well-known vendors begin.
const BEGINNINGS: [&str; 16] = [
    "sk_live_",
    "sk_test_",
    "rk_live_",
    "whsec_",
    "ghp_",
    "github_pat_",
    "glpat-",
    "xoxb-",
    "xoxp-",
    "AKIA",
    "SG.",
    "eyJ",
    "pat-",
    "shpat_",
    "key-",
    "-----BEGIN",
];
/// Parts of the names of headers and fields that carry a credential, without - and _.
const NAMES: [&str; 8] =
    ["authorization", "token", "secret", "password", "passwd", "apikey", "accesskey", "credential"];

impl Trial<'_> {
    /// Credentials, and what is named or looks like one, come from secrets.
    pub(super) fn credential(&mut self) {
        let file = self.file;
        match &file.http.auth {
            Auth::None => {}
            Auth::Bearer(token) => self.needs_secret("http.bearer", &[token]),
            Auth::Basic(user, password) => self.needs_secret("http.basic", &[user, password]),
        }
        for (name, value) in &file.http.headers {
            self.named("http.headers", name, value);
        }
        self.call_without_credential("probe", &file.probe.call);
        for read in &file.reads {
            if let Some(call) = &read.call {
                self.call_without_credential(&format!("read.{}", read.name), call);
            }
        }
        for act in &file.acts {
            self.call_without_credential(&format!("act.{}", act.name), &act.call);
        }
        for (name, form) in &file.settings {
            if let SettingForm::OneOf(values) = form
                && values.iter().any(|value| looks_secret(value))
            {
                self.literal(&format!("settings.{name}"));
            }
        }
        for (index, example) in file.examples.iter().enumerate() {
            let words = example.body.split(|c: char| !(c.is_ascii_alphanumeric() || "-_.".contains(c)));
            if example.headers.values().any(|value| looks_secret(value)) || words.into_iter().any(is_known) {
                self.literal(&format!("example[{index}]"));
            }
        }
    }

    fn call_without_credential(&mut self, place: &str, call: &Call) {
        for (name, value) in &call.headers {
            self.named(&format!("{place}.headers"), name, value);
        }
        for (name, value) in &call.query {
            self.named(&format!("{place}.{}", call.method.word()), name, value);
        }
        for part in &call.path.0 {
            if let Part::Text(text) = part
                && text.split('/').any(looks_secret)
            {
                self.literal(&format!("{place}.{}", call.method.word()));
            }
        }
        match &call.body {
            Body::None => {}
            Body::Form(pairs) => {
                for (name, value) in pairs {
                    self.named(&format!("{place}.form"), name, value);
                }
            }
            Body::Json(json) => self.json(&format!("{place}.json"), "", json),
        }
    }

    fn json(&mut self, place: &str, name: &str, json: &Json) {
        match json {
            Json::Value(_) => {}
            Json::Text(text) => self.named(place, name, text),
            Json::List(members) => members.iter().for_each(|member| self.json(place, name, member)),
            Json::Object(members) => members.iter().for_each(|(name, member)| self.json(place, name, member)),
        }
    }

    fn needs_secret(&mut self, place: &str, templates: &[&Template]) {
        let has = templates.iter().any(|template| template.slots().any(|slot| slot.source == Source::Secret));
        let literal = templates.iter().any(|template| has_literal(template));
        if !has || literal {
            self.literal(place);
        }
    }

    /// A value with a name: of a header, of the query, of a field.
    fn named(&mut self, place: &str, name: &str, value: &Template) {
        let plain: String = name.to_ascii_lowercase().chars().filter(|c| c.is_ascii_alphanumeric()).collect();
        let carries = NAMES.iter().any(|part| plain.contains(part)) && !plain.ends_with("type");
        let only_text = !value.0.is_empty() && value.slots().next().is_none();
        if (carries && only_text) || has_literal(value) {
            self.literal(place);
        }
    }

    fn literal(&mut self, place: &str) {
        self.refuse(
            place,
            "holds what looks like a credential: the file is shown, copied and reviewed",
            "write ${secret.NAME}, with NAME in `secrets`; the value is in the configuration",
        );
    }
}

fn has_literal(template: &Template) -> bool {
    template.0.iter().any(|part| matches!(part, Part::Text(text) if looks_secret(text)))
}

/// True for a text that begins like a vendor's credential, or is long and random.
fn looks_secret(text: &str) -> bool {
    text.split_whitespace().any(|word| {
        let random = word.len() >= 24
            && word.chars().all(|c| c.is_ascii_alphanumeric() || "+/=_-".contains(c))
            && word.contains(|c: char| c.is_ascii_digit())
            && word.contains(|c: char| c.is_ascii_lowercase())
            && word.contains(|c: char| c.is_ascii_uppercase());
        let digest = word.len() >= 32 && word.chars().all(|c| c.is_ascii_hexdigit());
        is_known(word) || random || digest
    })
}

fn is_known(word: &str) -> bool {
    word.len() >= 16 && BEGINNINGS.iter().any(|start| word.starts_with(start))
}
