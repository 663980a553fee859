//! The systems in which data is erased: one client for each kind of system, behind one trait. Only this file lists
//! the kinds ([`Settings`], and the hosts); each kind's particulars are in its own file.
//!
//! The rule it keeps: a client makes exactly the requested call, once, and reports the meaning of the reply. It never
//! retries, never decides the next step, and never passes on a reply's text.

pub mod cleeng;
mod compare;
pub mod connector;
pub mod easycms;
mod evidence;
mod facts;
mod form;
pub mod http;
pub mod sql;
pub mod vitalsource;
pub mod webhook;
pub mod zeta;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use secrecy::SecretString;

use self::cleeng::CleengSettings;
use self::connector::ConnectorSettings;
use self::easycms::EasyCmsSettings;
pub use self::evidence::Credential;
pub use self::facts::Facts;
use self::http::{BuildError, HttpSettings};
use self::sql::SqlSettings;
use self::vitalsource::{Signer, VitalSourceSettings};
use self::webhook::WebhookSettings;
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
    /// The findings of earlier steps.
    pub facts: &'a Facts,
}

/// A configured system.
#[async_trait]
pub trait System: Send + Sync + 'static {
    /// The table's name in the configuration.
    fn name(&self) -> &str;

    /// Its kind.
    fn kind(&self) -> Kind;

    /// The rate limit of each request of a step's call (stable words). Most kinds have one limit only, and most
    /// steps one request.
    fn endpoints(&self, spec: &Spec, step: Step) -> &[&'static str];

    /// The proof that address and credential can find a person.
    fn credential(&self) -> &Credential;

    /// Makes a step's call, once.
    async fn call(&self, call: Call<'_>) -> Result<Answer, Failure>;

    /// One harmless read that shows that address and credential work.
    async fn probe(&self) -> Result<(), Failure>;

    /// What `systems check` finds besides the probe, one line each. The lines are for the operator's terminal alone.
    async fn survey(&self) -> Result<Vec<String>, Failure> {
        Ok(Vec::new())
    }

    /// The rate limit of each request of [`System::probe`].
    fn probe_endpoints(&self) -> &[&'static str] {
        &["all"]
    }
}

/// The settings that only one kind of system has, from the system's table in the configuration.
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
    /// `kind = "connector"`
    Connector(ConnectorSettings),
    /// `kind = "sql"`
    Sql(SqlSettings),
    /// `kind = "webhook"`
    Webhook(WebhookSettings),
}

impl Settings {
    /// Reads the keys of a kind; `None` after a fault. The fault is recorded.
    pub(crate) fn read(kind: Kind, at: &mut Cursor<'_>) -> Option<Settings> {
        match kind {
            Kind::Cleeng => CleengSettings::read(at).map(Settings::Cleeng),
            Kind::ZetaLoyalty => ZetaSettings::read(at).map(Settings::ZetaLoyalty),
            Kind::EasyCms => EasyCmsSettings::read(at).map(Settings::EasyCms),
            Kind::VitalSource => VitalSourceSettings::read(at).map(Settings::VitalSource),
            Kind::Connector => ConnectorSettings::read(at).map(Settings::Connector),
            Kind::Sql => SqlSettings::read(at).map(Settings::Sql),
            Kind::Webhook => WebhookSettings::read(at).map(Settings::Webhook),
        }
    }

    /// The rate that a kind's vendor allows by default, in requests a minute.
    pub(crate) fn usual_rate(kind: Kind) -> Option<u32> {
        match kind {
            Kind::VitalSource => Some(vitalsource::USUAL_RATE),
            _ => None,
        }
    }

    /// The kind.
    pub fn kind(&self) -> Kind {
        match self {
            Settings::Cleeng(_) => Kind::Cleeng,
            Settings::ZetaLoyalty(_) => Kind::ZetaLoyalty,
            Settings::EasyCms(_) => Kind::EasyCms,
            Settings::VitalSource(_) => Kind::VitalSource,
            Settings::Connector(_) => Kind::Connector,
            Settings::Sql(_) => Kind::Sql,
            Settings::Webhook(_) => Kind::Webhook,
        }
    }

    fn of_kind(&self) -> &dyn KindSettings {
        match self {
            Settings::Cleeng(settings) => settings,
            Settings::ZetaLoyalty(settings) => settings,
            Settings::EasyCms(settings) => settings,
            Settings::VitalSource(settings) => settings,
            Settings::Connector(settings) => settings,
            Settings::Sql(settings) => settings,
            Settings::Webhook(settings) => settings,
        }
    }

    /// The secret under a key, to be replaced; `None` if there is none.
    pub(crate) fn secret(&mut self, key: &str) -> Option<&mut SecretString> {
        let settings: &mut dyn KindSettings = match self {
            Settings::Cleeng(settings) => settings,
            Settings::ZetaLoyalty(settings) => settings,
            Settings::EasyCms(settings) => settings,
            Settings::VitalSource(settings) => settings,
            Settings::Connector(settings) => settings,
            Settings::Sql(settings) => settings,
            Settings::Webhook(settings) => settings,
        };
        settings.secret(key)
    }

    /// All that a success of its client proves: every address, the whole credential, and the account, brand or
    /// publisher.
    pub(crate) fn proven_parts(&self) -> Vec<&str> {
        self.of_kind().proven_parts()
    }

    /// Host and credential: to these a vendor's limit belongs.
    pub(crate) fn limited_by(&self) -> Vec<&str> {
        self.of_kind().limited_by()
    }

    /// The vendor's limits, in requests a minute for each endpoint.
    pub(crate) fn limits(&self) -> BTreeMap<&'static str, u32> {
        match self {
            Settings::Connector(settings) => settings.limits(),
            _ => BTreeMap::new(),
        }
    }

    /// The folder of its deletion files, which no other system may use.
    pub(crate) fn import_dir(&self) -> Option<&Path> {
        self.of_kind().import_dir()
    }

    /// Sets those of the flow's rules that follow from these settings.
    pub(crate) fn complete(&self, rules: &mut Rules) {
        self.of_kind().complete(rules);
    }

    /// Builds the client; nothing is called.
    ///
    /// # Errors
    /// [`SettingsError`], with the name of the wrong key.
    pub(crate) fn client(&self, making: Making<'_, '_>) -> Result<Arc<dyn System>, SettingsError> {
        self.of_kind().client(making)
    }
}

/// Every kind's production hosts. A leading dot stands for the name and all its subdomains.
pub(crate) fn production_hosts() -> impl Iterator<Item = &'static str> {
    let hosts = |kind: Kind| -> &'static [&'static str] {
        match kind {
            Kind::Cleeng => &cleeng::PRODUCTION_HOSTS,
            Kind::ZetaLoyalty => &zeta::PRODUCTION_HOSTS,
            Kind::EasyCms => &easycms::PRODUCTION_HOSTS,
            Kind::VitalSource => &vitalsource::PRODUCTION_HOSTS,
            // A connector file names the vendor's own address; a database and a receiver are one's own.
            Kind::Connector | Kind::Sql | Kind::Webhook => &[],
        }
    };
    Kind::ALL.into_iter().flat_map(hosts).copied()
}

/// The vendors' well-known sandboxes.
pub(crate) fn sandbox_hosts() -> impl Iterator<Item = &'static str> {
    cleeng::SANDBOX_HOSTS.into_iter()
}

/// The methods of each kind's settings. Each kind also has a function that reads them from a [`Cursor`].
trait KindSettings {
    /// See [`Settings::secret`].
    fn secret(&mut self, key: &str) -> Option<&mut SecretString>;

    /// See [`Settings::proven_parts`].
    fn proven_parts(&self) -> Vec<&str>;

    /// See [`Settings::limited_by`].
    fn limited_by(&self) -> Vec<&str> {
        self.proven_parts()
    }

    /// See [`Settings::import_dir`].
    fn import_dir(&self) -> Option<&Path> {
        None
    }

    /// See [`Settings::complete`].
    fn complete(&self, _rules: &mut Rules) {}

    /// See [`Settings::client`].
    fn client(&self, making: Making<'_, '_>) -> Result<Arc<dyn System>, SettingsError>;
}

/// The parts of a client besides its settings.
pub(crate) struct Making<'a, 'b> {
    /// The table's name in the configuration.
    pub name: &'a str,
    /// Time-outs, and the carrier of the requests.
    pub http: &'a HttpSettings,
    /// The functions that use the worker's keys.
    pub keys: &'a Keys,
    /// The deletion files.
    pub imports: Ledgers<'b>,
}

/// Functions that use the worker's keys for a client, which never has the keys.
pub(crate) struct Keys {
    /// Signs the body of a call to the requester.
    pub signer: Signer,
    /// Signs a webhook: the value of its header.
    pub webhook_signer: Signer,
    /// Digests the rows of deletion files.
    pub row_digest: KeyedDigest,
}

/// The deletion files for a new client.
pub(crate) enum Ledgers<'a> {
    /// None: the client only probes.
    None,
    /// The client opens its folder and adds it here.
    Opened(&'a mut BTreeMap<String, Arc<ImportLedger>>),
    /// The folders are already open.
    Shared(&'a BTreeMap<String, Arc<ImportLedger>>),
}

/// A client could not be built.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// A setting.
    #[error(transparent)]
    Setting(#[from] BuildError),
    /// The import folder.
    #[error(transparent)]
    Import(#[from] LedgerError),
}
