//! Where data is erased: one client a kind of system, behind one trait. The kinds are listed here alone:
//! [`Settings`], and the hosts; what is particular to one lies in its own file.
//!
//! The rule it keeps: a client makes exactly the call it is told, once, and says what the reply
//! means; it never retries, never decides what comes next, and never lets a reply's text out.

pub mod cleeng;
mod compare;
pub mod easycms;
mod evidence;
mod facts;
mod form;
pub mod http;
pub mod vitalsource;
pub mod zeta;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use secrecy::SecretString;

use self::cleeng::CleengSettings;
use self::easycms::EasyCmsSettings;
pub use self::evidence::Credential;
pub use self::facts::Facts;
use self::http::{BuildError, HttpSettings};
use self::vitalsource::{Signer, VitalSourceSettings};
use self::zeta::{ImportLedger, KeyedDigest, LedgerError, ZetaSettings};
use crate::config::Cursor;
use crate::job::{Answer, Failure, Job, Kind, Rules, Spec, Step, Target};

/// One call to make.
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    /// The job.
    pub job: &'a Job,
    /// The target within it.
    pub target: &'a Target,
    /// The target's index.
    pub index: usize,
    /// The step.
    pub step: Step,
    /// What earlier steps found.
    pub facts: &'a Facts,
}

/// A configured system.
#[async_trait]
pub trait System: Send + Sync + 'static {
    /// The table's name in the configuration.
    fn name(&self) -> &str;

    /// Its kind.
    fn kind(&self) -> Kind;

    /// Which rate limit each request of a step's call counts against (stable words; most kinds have only
    /// one limit, and most steps one request).
    fn endpoints(&self, spec: &Spec, step: Step) -> &'static [&'static str];

    /// Whether address and credential have shown somebody.
    fn credential(&self) -> &Credential;

    /// Makes the call that a step consists of, once.
    async fn call(&self, call: Call<'_>) -> Result<Answer, Failure>;

    /// One harmless read that shows that address and credential work.
    async fn probe(&self) -> Result<(), Failure>;

    /// Which rate limit the harmless read counts against.
    fn probe_endpoint(&self) -> &'static str {
        "all"
    }
}

/// The settings of a configured system that are its kind's own, as its table in the configuration gives them.
#[derive(Debug, Clone)]
pub enum Settings {
    /// `kind = "cleeng"`
    Cleeng(CleengSettings),
    /// `kind = "zeta_loyalty"`
    ZetaLoyalty(ZetaSettings),
    /// `kind = "easycms"`
    EasyCms(EasyCmsSettings),
    /// `kind = "vitalsource"`
    VitalSource(VitalSourceSettings),
}

impl Settings {
    /// Reads the keys of a kind; `None` after a fault, which is recorded.
    pub(crate) fn read(kind: Kind, at: &mut Cursor<'_>) -> Option<Settings> {
        match kind {
            Kind::Cleeng => CleengSettings::read(at).map(Settings::Cleeng),
            Kind::ZetaLoyalty => ZetaSettings::read(at).map(Settings::ZetaLoyalty),
            Kind::EasyCms => EasyCmsSettings::read(at).map(Settings::EasyCms),
            Kind::VitalSource => VitalSourceSettings::read(at).map(Settings::VitalSource),
        }
    }

    /// The rate that a kind's vendor allows by default, in requests a minute.
    pub(crate) fn usual_rate(kind: Kind) -> Option<u32> {
        match kind {
            Kind::VitalSource => Some(vitalsource::USUAL_RATE),
            Kind::Cleeng | Kind::ZetaLoyalty | Kind::EasyCms => None,
        }
    }

    /// The kind.
    pub fn kind(&self) -> Kind {
        match self {
            Settings::Cleeng(_) => Kind::Cleeng,
            Settings::ZetaLoyalty(_) => Kind::ZetaLoyalty,
            Settings::EasyCms(_) => Kind::EasyCms,
            Settings::VitalSource(_) => Kind::VitalSource,
        }
    }

    fn of_kind(&self) -> &dyn KindSettings {
        match self {
            Settings::Cleeng(settings) => settings,
            Settings::ZetaLoyalty(settings) => settings,
            Settings::EasyCms(settings) => settings,
            Settings::VitalSource(settings) => settings,
        }
    }

    /// The place of the secret under a key; `None` where there is none.
    pub(crate) fn secret(&mut self, key: &str) -> Option<&mut SecretString> {
        let settings: &mut dyn KindSettings = match self {
            Settings::Cleeng(settings) => settings,
            Settings::ZetaLoyalty(settings) => settings,
            Settings::EasyCms(settings) => settings,
            Settings::VitalSource(settings) => settings,
        };
        settings.secret(key)
    }

    /// What a success of its client proves: all addresses, all of the credential, and whose account, brand or
    /// publisher it is.
    pub(crate) fn proven_parts(&self) -> Vec<&str> {
        self.of_kind().proven_parts()
    }

    /// The folder of its deletion files, which no other system may use.
    pub(crate) fn import_dir(&self) -> Option<&Path> {
        self.of_kind().import_dir()
    }

    /// Puts what the kind's flow is to know into the rules.
    pub(crate) fn complete(&self, rules: &mut Rules) {
        self.of_kind().complete(rules);
    }

    /// Builds the client; nothing is called.
    ///
    /// # Errors
    /// [`SettingsError`], which names the key that is wrong.
    pub(crate) fn client(&self, making: Making<'_, '_>) -> Result<Arc<dyn System>, SettingsError> {
        self.of_kind().client(making)
    }
}

/// Every kind's production hosts; a leading dot stands for the name and everything below it.
pub(crate) fn production_hosts() -> impl Iterator<Item = &'static str> {
    let hosts = |kind: Kind| -> &'static [&'static str] {
        match kind {
            Kind::Cleeng => &cleeng::PRODUCTION_HOSTS,
            Kind::ZetaLoyalty => &zeta::PRODUCTION_HOSTS,
            Kind::EasyCms => &easycms::PRODUCTION_HOSTS,
            Kind::VitalSource => &vitalsource::PRODUCTION_HOSTS,
        }
    };
    Kind::ALL.into_iter().flat_map(hosts).copied()
}

/// The vendors' well-known sandboxes, where there are any.
pub(crate) fn sandbox_hosts() -> impl Iterator<Item = &'static str> {
    cleeng::SANDBOX_HOSTS.into_iter()
}

/// What each kind's settings can do; beside it, a kind reads them from a [`Cursor`].
trait KindSettings {
    /// See [`Settings::secret`].
    fn secret(&mut self, key: &str) -> Option<&mut SecretString>;

    /// See [`Settings::proven_parts`].
    fn proven_parts(&self) -> Vec<&str>;

    /// See [`Settings::import_dir`].
    fn import_dir(&self) -> Option<&Path> {
        None
    }

    /// See [`Settings::complete`].
    fn complete(&self, _rules: &mut Rules) {}

    /// See [`Settings::client`].
    fn client(&self, making: Making<'_, '_>) -> Result<Arc<dyn System>, SettingsError>;
}

/// What a client is made of beside its settings.
pub(crate) struct Making<'a, 'b> {
    /// The table's name in the configuration.
    pub name: &'a str,
    /// Time-outs, and what carries the requests.
    pub http: &'a HttpSettings,
    /// What is derived from the worker's keys.
    pub keys: &'a Keys,
    /// The deletion files.
    pub imports: Ledgers<'b>,
}

/// What clients have done with the worker's keys.
pub(crate) struct Keys {
    /// Signs the body of a call to the requester.
    pub signer: Signer,
    /// Digests the rows of deletion files.
    pub row_digest: KeyedDigest,
}

/// What becomes of the deletion files' folders.
pub(crate) enum Ledgers<'a> {
    /// Nothing: the client only probes.
    None,
    /// They are opened, and added here.
    Opened(&'a mut BTreeMap<String, Arc<ImportLedger>>),
    /// They are open.
    Shared(&'a BTreeMap<String, Arc<ImportLedger>>),
}

/// Why a client could not be built.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// A setting.
    #[error(transparent)]
    Setting(#[from] BuildError),
    /// The import folder.
    #[error(transparent)]
    Import(#[from] LedgerError),
}
