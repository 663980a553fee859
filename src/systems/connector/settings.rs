//! `kind = "connector"`: the file, the installation's settings and secrets, and a person who always exists.
//!
//! The rule it keeps: a file that does not load is a fault of the configuration, with every fault of the file.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use erasure_connector::model::{IdentifierForm, Template};
use erasure_connector::{Connector, read};
use secrecy::{ExposeSecret, SecretString};

use super::client::Client;
use super::plan;
use super::slots::Installed;
use crate::config::Cursor;
use crate::job::{Plan, Rules, identifier};
use crate::systems::http::{BuildError, HttpSettings};
use crate::systems::{KindSettings, Making, SettingsError, System};

/// Settings of one system with a connector file.
#[derive(Debug, Clone)]
pub struct ConnectorSettings {
    /// The accepted file.
    pub file: Arc<Connector>,
    /// Its steps.
    pub plan: Arc<Plan>,
    /// The values of the file's settings.
    pub settings: BTreeMap<String, String>,
    /// The values of its secrets.
    pub secrets: BTreeMap<String, SecretString>,
    /// The identifiers of a person who always exists, for the probe: only a found person proves the credential.
    pub probe_subject: BTreeMap<String, SecretString>,
    /// The address of every call: the file's or, outside production, a stand-in's.
    base: String,
}

impl ConnectorSettings {
    /// Reads the kind's own keys.
    pub(crate) fn read(at: &mut Cursor<'_>) -> Option<ConnectorSettings> {
        let path = at.required::<PathBuf>("file");
        let file = path.and_then(|path| load(&path).map_err(|problems| at.faults("file", problems)).ok());
        let base_url = at.optional_url("base_url");
        if base_url.is_some() && at.is_production() {
            at.fault("base_url", "has no place in production: the file names the vendor's address");
        }
        let Some(file) = file else {
            // Without the file no key of these sections can be checked.
            at.section("settings").abandon();
            at.section("probe_subject").abandon();
            return None;
        };
        let plan = plan::of(&file).map_err(|problem| at.fault("file", problem)).ok();
        let (settings, secrets) = installed(&file, at.section("settings"));
        let probe_subject = probe_subject(&file, at.section("probe_subject"));
        let base = match &base_url {
            Some(url) => Some(url.to_string()),
            None => written(&file.http.base, settings.as_ref()),
        };
        let (mut plan, base, settings) = (plan?, base?, settings?);
        plan.installation = installation(&base, &settings);
        Some(ConnectorSettings {
            file: Arc::new(file),
            plan: Arc::new(plan),
            settings,
            secrets: secrets?,
            probe_subject: probe_subject?,
            base,
        })
    }

    /// The most requests a minute to each endpoint, by the file.
    pub(crate) fn limits(&self) -> BTreeMap<&'static str, u32> {
        self.file.limits.iter().map(|(name, limit)| (super::interned(name), *limit)).collect()
    }
}

fn written(template: &Template, settings: Option<&BTreeMap<String, String>>) -> Option<String> {
    let (secrets, settings) = (BTreeMap::new(), settings?);
    erasure_connector::matching::written(template, &Installed { settings, secrets: &secrets })
}

/// The address and the account of an installation.
fn installation(base: &str, settings: &BTreeMap<String, String>) -> String {
    settings.iter().fold(base.to_owned(), |text, (name, value)| format!("{text}\n{name}={value}"))
}

/// The faults of the file, each with its line.
fn load(path: &std::path::Path) -> Result<Connector, Vec<String>> {
    let shown = path.display();
    let bytes = read::bytes_of(path).map_err(|error| vec![format!("{shown} cannot be read: {error}")])?;
    erasure_connector::load(&bytes).map_err(|faults| faults.0.iter().map(|fault| format!("{shown}:{fault}")).collect())
}

/// Settings and secrets of an installation.
type Given = (Option<BTreeMap<String, String>>, Option<BTreeMap<String, SecretString>>);

fn installed(file: &Connector, mut at: Cursor<'_>) -> Given {
    let mut settings = BTreeMap::new();
    for (name, form) in &file.settings {
        let Some(value) = at.required::<String>(name) else { continue };
        if form.permits(&value) {
            settings.insert(name.clone(), value);
        } else {
            at.fault(name, format!("expected {}", form.expected()));
        }
    }
    let mut secrets = BTreeMap::new();
    for name in &file.secrets {
        let Some(secret) = at.required_secret(name) else { continue };
        let text = secret.expose_secret();
        if text.is_empty() || text.chars().any(char::is_control) {
            at.fault(name, "empty, or with characters that cannot be sent");
            continue;
        }
        secrets.insert(name.clone(), secret);
    }
    at.finish();
    let whole = settings.len() == file.settings.len() && secrets.len() == file.secrets.len();
    (whole.then_some(settings), whole.then_some(secrets))
}

fn probe_subject(file: &Connector, mut at: Cursor<'_>) -> Option<BTreeMap<String, SecretString>> {
    let mut subject = BTreeMap::new();
    let mut is_whole = true;
    for (name, identifier) in &file.identifiers {
        if !at.has_secret(name) {
            continue;
        }
        let flaw = if identifier.form == IdentifierForm::Email { identifier::email_flaw } else { identifier::flaw };
        match at.person(name, flaw) {
            Some(person) => drop(subject.insert(name.clone(), person)),
            None => is_whole = false,
        }
    }
    let mut required = file.identifiers.iter().filter(|(_, identifier)| identifier.required);
    if let Some((name, _)) = required.find(|(name, _)| !subject.is_empty() && !subject.contains_key(*name)) {
        at.fault(name, "is required together with the person's other identifiers");
    }
    if !subject.is_empty() && file.reads.first().is_none_or(|person| person.call.is_none()) {
        subject.keys().for_each(|name| at.fault(name, "has no effect: the file reads nobody"));
    }
    at.finish();
    is_whole.then_some(subject)
}

impl KindSettings for ConnectorSettings {
    fn secret(&mut self, key: &str) -> Option<&mut SecretString> {
        match key.split_once('.')? {
            ("settings", name) => self.secrets.get_mut(name),
            ("probe_subject", name) => self.probe_subject.get_mut(name),
            _ => None,
        }
    }

    fn proven_parts(&self) -> Vec<&str> {
        let mut parts = vec![self.file.digest.as_str(), self.base.as_str()];
        parts.extend(self.settings.values().map(String::as_str));
        parts.extend(self.secrets.values().map(ExposeSecret::expose_secret));
        parts
    }

    /// Two files, and two audiences of one file, can share an account.
    fn limited_by(&self) -> Vec<&str> {
        let host = self.base.split('/').nth(2).unwrap_or(&self.base);
        std::iter::once(host).chain(self.secrets.values().map(ExposeSecret::expose_secret)).collect()
    }

    fn complete(&self, rules: &mut Rules) {
        rules.plan = Some(Arc::clone(&self.plan));
    }

    fn client(&self, making: Making<'_, '_>) -> Result<Arc<dyn System>, SettingsError> {
        Ok(Arc::new(Client::new(making.name, self.clone(), &self.base, making.http)?))
    }
}

impl ConnectorSettings {
    /// The settings for a stand-in at this address.
    ///
    /// # Errors
    /// A proof that no job can have, in words.
    pub(crate) fn of_stand_in(
        file: Arc<Connector>,
        base_url: &str,
        settings: BTreeMap<String, String>,
        secrets: BTreeMap<String, SecretString>,
    ) -> Result<ConnectorSettings, String> {
        Ok(ConnectorSettings {
            plan: Arc::new(plan::of(&file)?),
            probe_subject: BTreeMap::new(),
            base: base_url.to_owned(),
            file,
            settings,
            secrets,
        })
    }

    /// Its client; nothing is called.
    ///
    /// # Errors
    /// [`BuildError`] naming the key that is wrong.
    pub(crate) fn system(&self, name: &str, http: &HttpSettings) -> Result<Arc<dyn System>, BuildError> {
        Ok(Arc::new(Client::new(name, self.clone(), &self.base, http)?))
    }
}
