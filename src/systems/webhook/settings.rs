//! `kind = "webhook"`: the receiver's addresses and the identifiers that it takes.
//!
//! The rule it keeps: a private address is called only if the configuration allows it.

use std::collections::BTreeMap;
use std::sync::Arc;

use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};

use super::client::Webhook;
use super::plan;
use crate::config::{Choice, Cursor};
use crate::job::plan::{Form, Identifier, Plan};
use crate::job::{Rules, identifier};
use crate::systems::{KindSettings, Making, SettingsError, System};

/// The characters of the settings' digest in events.
const DIGEST: usize = 12;

/// Settings of one receiver.
#[derive(Debug, Clone)]
pub struct WebhookSettings {
    /// The address for erasures; `URL/ID` tells their status.
    pub url: String,
    /// The address that tells whether a person is there.
    pub read_url: Option<String>,
    /// Whether these addresses may be in a private network or on this machine.
    pub private: bool,
    /// The steps.
    pub plan: Arc<Plan>,
    /// The identifiers of a person who always exists, for the probe: only a found person proves the address.
    pub probe_subject: BTreeMap<String, SecretString>,
}

impl Choice for Form {
    const WORDS: &'static [(&'static str, Self)] =
        &[("text", Self::Text), ("digits", Self::Digits), ("email", Self::Email), ("uuid", Self::Uuid)];
}

impl WebhookSettings {
    /// Settings without a configuration.
    pub fn new(
        url: &str,
        read_url: Option<&str>,
        identifiers: BTreeMap<String, Identifier>,
        preserved: Vec<String>,
    ) -> WebhookSettings {
        let connector = format!("webhook@{}", digest(url, read_url, &identifiers));
        WebhookSettings {
            url: url.to_owned(),
            read_url: read_url.map(str::to_owned),
            private: false,
            plan: Arc::new(plan::of(connector, identifiers, preserved, read_url.is_some())),
            probe_subject: BTreeMap::new(),
        }
    }

    /// Reads the kind's own keys.
    pub(crate) fn read(at: &mut Cursor<'_>) -> Option<WebhookSettings> {
        let url = at.url("url").map(String::from);
        let read_url = at.optional_url("read_url").map(String::from);
        let private = at.or("private", !at.is_production());
        let preserved = at.or("preserved", Vec::new());
        let identifiers = identifiers(at);
        if identifiers.is_empty() {
            at.fault(
                "identifiers",
                "names nobody; expected for example user_id = { type = \"text\", required = true }",
            );
        }
        let probe_subject = probe_subject(&identifiers, read_url.is_some(), at.section("probe_subject"));
        let settings = WebhookSettings::new(&url?, read_url.as_deref(), identifiers, preserved);
        Some(WebhookSettings { private, probe_subject: probe_subject?, ..settings })
    }
}

/// A name of these settings in events.
fn digest(url: &str, read_url: Option<&str>, identifiers: &BTreeMap<String, Identifier>) -> String {
    let text = format!("{url}\n{}\n{identifiers:?}", read_url.unwrap_or_default());
    hex::encode(Sha256::digest(text.as_bytes())).chars().take(DIGEST).collect()
}

fn identifiers(at: &mut Cursor<'_>) -> BTreeMap<String, Identifier> {
    let mut identifiers = BTreeMap::new();
    for (name, mut at) in at.named_sections("identifiers") {
        let form = at.required::<Form>("type");
        let is_required = at.or("required", false);
        at.finish();
        identifiers.extend(form.map(|form| (name, Identifier { form, is_required })));
    }
    identifiers
}

fn probe_subject(
    identifiers: &BTreeMap<String, Identifier>,
    can_read: bool,
    mut at: Cursor<'_>,
) -> Option<BTreeMap<String, SecretString>> {
    let mut subject = BTreeMap::new();
    let mut is_whole = true;
    for (name, identifier) in identifiers {
        if !at.has_secret(name) {
            continue;
        }
        let flaw = if identifier.form == Form::Email { identifier::email_flaw } else { identifier::flaw };
        match at.person(name, flaw) {
            Some(person) => drop(subject.insert(name.clone(), person)),
            None => is_whole = false,
        }
    }
    let mut required = identifiers.iter().filter(|(_, identifier)| identifier.is_required);
    if let Some((name, _)) = required.find(|(name, _)| !subject.is_empty() && !subject.contains_key(*name)) {
        at.fault(name, "is required together with the person's other identifiers");
    }
    if !subject.is_empty() && !can_read {
        subject.keys().for_each(|name| at.fault(name, "has no effect without read_url"));
    }
    at.finish();
    is_whole.then_some(subject)
}

impl KindSettings for WebhookSettings {
    fn secret(&mut self, key: &str) -> Option<&mut SecretString> {
        self.probe_subject.get_mut(key.strip_prefix("probe_subject.")?)
    }

    fn proven_parts(&self) -> Vec<&str> {
        let mut parts = vec![self.plan.connector.as_str(), self.url.as_str()];
        parts.extend(self.read_url.as_deref());
        parts.extend(self.probe_subject.values().map(|person| person.expose_secret()));
        parts
    }

    fn complete(&self, rules: &mut Rules) {
        rules.plan = Some(Arc::clone(&self.plan));
    }

    fn client(&self, making: Making<'_, '_>) -> Result<Arc<dyn System>, SettingsError> {
        let signer = Arc::clone(&making.keys.webhook_signer);
        Ok(Arc::new(Webhook::new(making.name, self.clone(), making.http, signer)?))
    }
}
