//! Reads a TOML table key by key.
//!
//! The rule it keeps: reading continues after a fault. Every key is either read or reported as unknown.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use toml::{Table, Value};
use url::Url;

use super::fault::Fault;
use super::listing::{Entry, Origin};
use super::setting::{Given, Setting};
use super::surroundings::Surroundings;
use super::{Choice as _, Environment, secret};
use crate::job::identifier::Flaw;
use crate::systems;

/// Any positive time that is short enough to be added without overflow.
pub(crate) const POSITIVE: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(86_400 * 36_500);

/// The state that all cursors of one configuration share.
pub(crate) struct Loading<'a> {
    /// Environment and host.
    pub surroundings: &'a Surroundings,
    /// The file's folder.
    pub base: PathBuf,
    /// Full key → the variable that set it.
    pub set_by: BTreeMap<String, String>,
    /// `worker.environment`, after it was read.
    pub environment: Cell<Option<Environment>>,
    /// The faults so far.
    pub faults: RefCell<Vec<Fault>>,
    /// The resolved keys so far.
    pub listing: RefCell<Vec<Entry>>,
    /// The secrets that were read from files: key and file.
    pub secret_files: RefCell<Vec<(String, PathBuf)>>,
    /// The variables from which secrets were read.
    pub secret_variables: RefCell<BTreeSet<String>>,
}

/// One table of the configuration, with the keys that are not read yet.
pub(crate) struct Cursor<'a> {
    pub(super) loading: &'a Loading<'a>,
    path: String,
    table: Table,
    known: Vec<String>,
    /// True inside a faulty section: missing keys there are not reported as well.
    muted: bool,
}

impl<'a> Cursor<'a> {
    /// A cursor over the whole file.
    pub fn root(loading: &'a Loading<'a>, table: Table) -> Self {
        Cursor { loading, path: String::new(), table, known: Vec::new(), muted: false }
    }

    /// A key's full name.
    pub fn full(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// Records a key's fault; names the variable if one set the key.
    pub fn fault(&self, key: &str, problem: impl Into<String>) {
        if self.muted {
            return;
        }
        let key = self.full(key);
        let mut problem = problem.into();
        if let Some(variable) = self.loading.set_by.get(&key) {
            problem.push_str(&format!(" (set by {variable})"));
        }
        self.loading.faults.borrow_mut().push(Fault { key, problem });
    }

    /// Records several faults of a key.
    pub fn faults(&self, key: &str, problems: Vec<String>) {
        problems.into_iter().for_each(|problem| self.fault(key, problem));
    }

    /// True if the key was given and is not read yet.
    pub fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// Reads and removes a key's raw value.
    pub(super) fn take(&mut self, key: &str) -> Option<Value> {
        self.known.push(key.to_owned());
        self.table.remove(key)
    }

    /// The origin of a given key's value.
    fn origin(&self, key: &str) -> Origin {
        self.loading.set_by.get(&self.full(key)).map_or(Origin::File, |name| Origin::Variable(name.clone()))
    }

    /// Lists a resolved key.
    pub fn list(&self, key: &str, value: String, origin: Origin) {
        self.loading.listing.borrow_mut().push(Entry { key: self.full(key), value, origin });
    }

    /// Changes the shown value of the key that was listed last.
    pub(crate) fn relist(&self, change: impl FnOnce(&str) -> String) {
        if let Some(entry) = self.loading.listing.borrow_mut().last_mut() {
            entry.value = change(&entry.value);
        }
    }

    /// An optional key. `None` also after a fault. The fault is recorded.
    pub fn optional<T: Setting>(&mut self, key: &str) -> Option<T> {
        let value = self.take(key)?;
        let overridden = self.loading.set_by.contains_key(&self.full(key));
        match T::read(&Given { value: &value, overridden, base: &self.loading.base }) {
            Ok(read) => {
                self.list(key, read.show(), self.origin(key));
                Some(read)
            }
            Err(problem) => {
                self.fault(key, problem);
                None
            }
        }
    }

    /// A required key.
    pub fn required<T: Setting>(&mut self, key: &str) -> Option<T> {
        if !self.has(key) {
            self.take(key);
            self.fault(key, "is required");
            return None;
        }
        self.optional(key)
    }

    /// A key with a default, which is also returned after a fault. The fault is recorded.
    pub fn or<T: Setting>(&mut self, key: &str, default: T) -> T {
        if !self.has(key) {
            self.take(key);
            self.list(key, default.show(), Origin::Default);
            return default;
        }
        self.optional(key).unwrap_or(default)
    }

    /// A key with a default and bounds.
    pub fn or_within<T: Setting + PartialOrd>(&mut self, key: &str, default: T, bounds: RangeInclusive<T>) -> T {
        let value = self.or(key, default);
        self.within(key, &value, &bounds);
        value
    }

    /// Records a fault if a value is outside its bounds.
    pub fn within<T: Setting + PartialOrd>(&self, key: &str, value: &T, bounds: &RangeInclusive<T>) {
        if !bounds.contains(value) {
            let (low, high) = (bounds.start().show(), bounds.end().show());
            self.fault(key, format!("must lie between {low} and {high}, is {}", value.show()));
        }
    }

    /// An optional secret: `KEY_env`, `KEY_file` or `KEY`.
    pub fn secret(&mut self, key: &str) -> Option<SecretString> {
        let mut forms: Vec<(secret::Form, Value)> = Vec::new();
        for form in secret::Form::ALL {
            forms.extend(self.take(&form.key(key)).map(|value| (form, value)));
        }
        // An override replaces the secret, whatever its form in the file.
        let overrides = |form: secret::Form| self.loading.set_by.contains_key(&self.full(&form.key(key)));
        if forms.iter().any(|(form, _)| overrides(*form)) {
            forms.retain(|(form, _)| overrides(*form));
        }
        let (form, value) = match forms.as_slice() {
            [] => return None,
            [one] => one,
            _ => {
                self.fault(key, format!("is given more than once; keep one of {key}_env, {key}_file and {key}"));
                return None;
            }
        };
        let form_key = form.key(key);
        let overridden = overrides(*form);
        let given = Given { value, overridden, base: &self.loading.base };
        match secret::resolve(*form, &given, self.loading.surroundings) {
            Ok((secret, source)) => {
                if let (secret::Form::File, Ok(path)) = (form, PathBuf::read(&given)) {
                    self.loading.secret_files.borrow_mut().push((self.full(key), path));
                }
                if let (secret::Form::Variable, Ok(name)) = (form, String::read(&given)) {
                    self.loading.secret_variables.borrow_mut().insert(name);
                }
                self.list(key, format!("set ({source})"), self.origin(&form_key));
                Some(secret)
            }
            Err(problem) => {
                self.fault(&form_key, problem);
                None
            }
        }
    }

    /// Like [`Cursor::secret`], for the identifier of a person who always exists. An identifier that no person can have
    /// is a fault.
    pub fn person(&mut self, key: &str, flaw: fn(&str) -> Option<Flaw>) -> Option<SecretString> {
        let person = self.secret(key)?;
        if let Some(flaw) = flaw(person.expose_secret()) {
            self.fault(key, flaw.as_str());
            return None;
        }
        Some(person)
    }

    /// The file from which a secret was read.
    pub(crate) fn secret_file(&self, key: &str) -> Option<PathBuf> {
        let key = self.full(key);
        self.loading.secret_files.borrow().iter().find(|(read, _)| *read == key).map(|(_, path)| path.clone())
    }

    /// True if a secret was given in any form.
    pub(crate) fn has_secret(&self, key: &str) -> bool {
        secret::Form::ALL.iter().any(|form| self.has(&form.key(key)))
    }

    /// A required secret.
    pub fn required_secret(&mut self, key: &str) -> Option<SecretString> {
        if !self.has_secret(key) {
            self.fault(key, format!("is required: give {key}_env, {key}_file or (for trials) {key}"));
        }
        self.secret(key)
    }

    /// True if `worker.environment` is production.
    pub(crate) fn is_production(&self) -> bool {
        self.loading.environment.get() == Some(Environment::Production)
    }

    /// A required URL: https in production, and a host for the worker's environment.
    pub fn url(&mut self, key: &str) -> Option<Url> {
        let url: Url = self.required(key)?;
        self.check_url(key, &url);
        Some(url)
    }

    /// Like [`Cursor::url`], for an optional URL.
    pub fn optional_url(&mut self, key: &str) -> Option<Url> {
        let url: Url = self.optional(key)?;
        self.check_url(key, &url);
        Some(url)
    }

    fn check_url(&self, key: &str, url: &Url) {
        let host = url.host_str().unwrap_or("");
        let Some(environment) = self.loading.environment.get() else { return };
        if self.is_production() {
            if url.scheme() != "https" {
                self.fault(key, "must be https:// in production");
            }
            if is_listed(host, systems::sandbox_hosts()) {
                self.fault(key, format!("{host} is a sandbox: refused in production, because it has no real people"));
            }
        } else if is_listed(host, systems::production_hosts()) {
            let environment = environment.as_str();
            self.fault(
                key,
                format!("{host} is a production host: refused, because worker.environment is {environment}"),
            );
        }
    }

    /// A section; empty if it was not given.
    pub fn section(&mut self, key: &str) -> Cursor<'a> {
        let (table, muted) = match self.take(key) {
            None => (Table::new(), false),
            Some(Value::Table(table)) => (table, false),
            Some(_) => {
                self.fault(key, "expected a section, [like this]");
                (Table::new(), true)
            }
        };
        Cursor { loading: self.loading, path: self.full(key), table, known: Vec::new(), muted: self.muted || muted }
    }

    /// The names in a section of named sections. The section is not marked as read.
    pub(crate) fn names_in(&self, key: &str) -> Vec<String> {
        self.table.get(key).and_then(Value::as_table).map(|table| table.keys().cloned().collect()).unwrap_or_default()
    }

    /// A section of named sections. An invalid name is a fault.
    pub fn named_sections(&mut self, key: &str) -> Vec<(String, Cursor<'a>)> {
        let mut sections = self.section(key);
        let names: Vec<String> = sections.table.keys().cloned().collect();
        for name in names.iter().filter(|name| !super::is_name(name)) {
            sections.fault(name, format!("expected a name of the form {}", super::NAME_FORM));
        }
        names
            .into_iter()
            .map(|name| {
                let section = sections.section(&name);
                (name, section)
            })
            .collect()
    }

    /// Reports every key that was not read.
    pub fn finish(self) {
        for key in self.table.keys() {
            let nearest = self
                .known
                .iter()
                .map(|known| (strsim::damerau_levenshtein(known, key), known))
                .filter(|(distance, known)| *distance <= 1 + known.len() / 4)
                .min();
            match nearest {
                Some((_, known)) => self.fault(key, format!("unknown key; did you mean {known}?")),
                None => self.fault(key, "unknown key"),
            }
        }
    }

    /// True if the key was given as an empty text; the key is then marked as read.
    pub(crate) fn is_blank(&mut self, key: &str) -> bool {
        let blank = self.table.get(key).and_then(Value::as_str).is_some_and(|text| text.trim().is_empty());
        if blank {
            self.take(key);
        }
        blank
    }

    /// Ends the reading of this section, without a report of its other keys.
    pub fn abandon(self) {}
}

/// True if the host is in the list. A leading dot in the list stands for the name and all its subdomains. A trailing dot
/// of the host is ignored.
fn is_listed(host: &str, mut hosts: impl Iterator<Item = &'static str>) -> bool {
    let host = host.trim_end_matches('.');
    hosts.any(|listed| match listed.strip_prefix('.') {
        Some(name) => host == name || host.ends_with(listed),
        None => host == listed,
    })
}
