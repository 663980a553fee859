//! `[systems.NAME]`: one table for each system. This file reads the keys that all systems have; the settings in
//! `src/systems` read those of each kind.
//!
//! The rule it keeps: all values are checked here, so that no user of them checks again.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;

use super::cursor::{Cursor, POSITIVE};
use super::{Choice, GuardConfig, Origin, tenants};
use crate::job::flow::Confirm;
use crate::job::{Kind, Rules};
use crate::systems::Settings;

impl Choice for Kind {
    const WORDS: &'static [(&'static str, Self)] = &{
        let mut words = [("", Kind::ALL[0]); Kind::ALL.len()];
        let mut at = 0;
        while at < words.len() {
            words[at] = (Kind::ALL[at].as_str(), Kind::ALL[at]);
            at += 1;
        }
        words
    };
}

impl Choice for Confirm {
    const WORDS: &'static [(&'static str, Self)] =
        &[("always", Self::Always), ("when_active", Self::WhenActive), ("never", Self::Never)];
}

/// The reaction to a system's reply that does not show whose data it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdentityCheck {
    /// Continue; the event has `unchecked`.
    WhenReadable,
    /// Refuse.
    Strict,
}

impl Choice for IdentityCheck {
    const WORDS: &'static [(&'static str, Self)] = &[("when_readable", Self::WhenReadable), ("strict", Self::Strict)];
}

/// One `[systems.NAME]`.
#[derive(Debug, Clone)]
pub struct SystemConfig {
    /// The table's name, which jobs use.
    pub name: String,
    /// The kind's own keys.
    pub settings: Settings,
    /// The keys that all systems have.
    pub common: CommonSystem,
}

impl SystemConfig {
    /// Replaces the secret under a key; false if there is no secret under this key.
    #[must_use]
    pub fn renew(&mut self, key: &str, secret: SecretString) -> bool {
        self.settings.secret(key).map(|place| *place = secret).is_some()
    }

    /// The rules for jobs at this system.
    pub fn rules(&self) -> Rules {
        let mut rules = Rules {
            confirm: self.common.require_confirmation,
            strict_identity: self.common.identity_check == IdentityCheck::Strict,
            verify_interval: self.common.verify_interval,
            ..Rules::new(self.settings.kind())
        };
        self.settings.complete(&mut rules);
        rules
    }
}

/// The keys that all systems have.
#[derive(Debug, Clone, PartialEq)]
pub struct CommonSystem {
    /// The rate; `None` for no limit.
    pub requests_per_minute: Option<u32>,
    /// The most simultaneous calls.
    pub max_in_flight: u32,
    /// The time limit of a whole call; always shorter than `worker.in_hand_max`.
    pub timeout: Duration,
    /// The time limit of connecting.
    pub connect_timeout: Duration,
    /// The interval before the first repeated read-back; it grows to `retry.max_interval`.
    pub verify_interval: Duration,
    /// The interval between probes of a held system.
    pub hold_probe_interval: Duration,
    /// The cases in which the person must have confirmed.
    pub require_confirmation: Confirm,
    /// The reaction to an identity that cannot be read.
    pub identity_check: IdentityCheck,
    /// Ceilings on newly accepted jobs with this system.
    pub guard: GuardConfig,
}

/// Reads `[systems.*]`. A faulty system is left out, and its faults are recorded.
pub(super) fn read(root: &mut Cursor<'_>, in_hand_max: Option<Duration>) -> BTreeMap<String, SystemConfig> {
    let mut systems = BTreeMap::new();
    let mut folders: BTreeMap<PathBuf, String> = BTreeMap::new();
    let sections = root.named_sections("systems");
    if sections.is_empty() {
        root.fault("systems", "at least one system is needed, [systems.NAME]");
    }
    for (name, mut at) in sections {
        // Without the kind, no other key of the table can be checked.
        let Some(kind) = at.required::<Kind>("kind") else {
            at.abandon();
            continue;
        };
        let common = common(&mut at, kind, in_hand_max);
        let settings = Settings::read(kind, &mut at);
        at.finish();
        let Some(settings) = settings else { continue };
        if let Some(dir) = settings.import_dir()
            && let Some(other) = folders.insert(dir.to_owned(), name.clone())
        {
            let problem = format!("is the import folder of systems.{other}; each system needs its own");
            root.fault(&format!("systems.{name}.import.dir"), problem);
        }
        systems.insert(name.clone(), SystemConfig { name, settings, common });
    }
    systems
}

/// A sentence for each group of systems to which a vendor gives one limit together. Each of them counts alone.
///
/// They share no window: `requests_per_minute` is a system's own, its line and its estimates follow from it, and two
/// files name endpoints each in its own way. An operator who has set the key for each of them has divided the limit.
pub(super) fn sharing_a_limit(systems: &BTreeMap<String, SystemConfig>) -> Vec<String> {
    let mut groups: BTreeMap<Vec<&str>, Vec<&SystemConfig>> = BTreeMap::new();
    for system in systems.values() {
        groups.entry(system.settings.limited_by()).or_default().push(system);
    }
    let rate = |system: &SystemConfig| system.common.requests_per_minute;
    let is_limited = |system: &&SystemConfig| rate(system).is_some() || !system.settings.limits().is_empty();
    let is_divided = |system: &&SystemConfig| {
        rate(system).is_some_and(|own| Settings::usual_rate(system.settings.kind()) != Some(own))
    };
    groups.retain(|_, group| group.len() > 1 && group.iter().any(is_limited) && !group.iter().all(is_divided));
    let sentence = |group: Vec<&SystemConfig>| {
        let names: Vec<String> = group.iter().map(|system| format!("systems.{}", system.name)).collect();
        format!(
            "{} have one address and credential, so the vendor counts them together, but each keeps to the whole limit \
             alone: give each its part as requests_per_minute",
            names.join(" and ")
        )
    };
    let mut sentences: Vec<String> = groups.into_values().map(sentence).collect();
    sentences.sort();
    sentences
}

fn common(at: &mut Cursor<'_>, kind: Kind, in_hand_max: Option<Duration>) -> CommonSystem {
    let given_rate = at.has("requests_per_minute");
    let requests_per_minute = at.optional("requests_per_minute").or(Settings::usual_rate(kind));
    if let Some(rate) = requests_per_minute {
        at.within("requests_per_minute", &rate, &(1..=600_000));
        if !given_rate {
            at.list("requests_per_minute", rate.to_string(), Origin::Default);
        }
    }
    let second = Duration::from_secs(1);
    let common = CommonSystem {
        requests_per_minute,
        max_in_flight: at.or_within("max_in_flight", 16, 1..=4096),
        timeout: at.or_within("timeout", 30 * second, POSITIVE),
        connect_timeout: at.or_within("connect_timeout", 5 * second, POSITIVE),
        verify_interval: at.or_within("verify_interval", 30 * second, POSITIVE),
        hold_probe_interval: at.or_within("hold_probe_interval", 30 * second, POSITIVE),
        require_confirmation: at.or("require_confirmation", Rules::new(kind).confirm),
        identity_check: at.or("identity_check", IdentityCheck::WhenReadable),
        guard: tenants::guard(at),
    };
    if common.connect_timeout > common.timeout {
        at.fault("connect_timeout", "must not be longer than the system's timeout");
    }
    if in_hand_max.is_some_and(|max| common.timeout >= max) {
        at.fault("timeout", "must be shorter than worker.in_hand_max");
    }
    common
}
