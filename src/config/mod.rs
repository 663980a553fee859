//! The configuration: one TOML file, environment overrides, secrets by reference. It is read once, into plain types.
//!
//! The rule it keeps: every [`Config`] value is valid as a whole. An invalid configuration is refused with all its
//! faults at once, so that an operator needs one correction, not one for each start.

mod cursor;
pub mod example;
mod fault;
mod listing;
mod overlay;
mod regulations;
pub mod secret;
mod sections;
mod setting;
mod store;
mod surroundings;
mod systems;
mod tenants;
pub mod units;
mod variables;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::civil::Date;
use secrecy::{ExposeSecret, SecretString};
use toml::Table;

use cursor::Loading;
pub(crate) use cursor::{Cursor, POSITIVE};
pub use fault::{ConfigError, Fault};
pub use listing::{Entry, Origin};
pub use secret::MasterKey;
pub use setting::Choice;
pub use store::{Durability, PostgresConfig, StoreConfig};
pub use surroundings::Surroundings;
pub use systems::{CommonSystem, IdentityCheck, SystemConfig};
pub use tenants::{GuardConfig, SignatureKey, TenantConfig};

/// The form of the names of tenants, systems and workers.
pub(crate) const NAME_FORM: &str = "[a-z0-9][a-z0-9_-]{0,62}";

/// True for a valid name of a tenant, system or worker.
pub fn is_name(text: &str) -> bool {
    let first = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    text.len() <= 63 && text.starts_with(first) && text.chars().all(|c| first(c) || c == '_' || c == '-')
}

/// The worker's environment; every job must name the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Environment {
    /// Stand-ins or vendors' sandboxes.
    Sandbox,
    /// Tests before production; like the sandbox, never the vendors' production hosts.
    Staging,
    /// Real people.
    Production,
}

impl Choice for Environment {
    const WORDS: &'static [(&'static str, Self)] =
        &[("sandbox", Self::Sandbox), ("staging", Self::Staging), ("production", Self::Production)];
}

/// `[worker]`
#[derive(Debug)]
pub struct WorkerConfig {
    /// The environment.
    pub environment: Environment,
    /// The worker's name, stable over restarts.
    pub id: String,
    /// Jobs in hand at once; also the AMQP prefetch. 1 to 4096.
    pub concurrency: u32,
    /// The store's folder; only one process may use it.
    pub state_dir: PathBuf,
    /// The key that seals, signs and derives.
    pub master_key: MasterKey,
    /// The former key, during a rotation.
    pub master_key_previous: Option<MasterKey>,
    /// Longer waits are parked on the broker.
    pub inline_wait_max: Duration,
    /// A job in hand longer than this is parked briefly. Always less than the broker's 30 minutes.
    pub in_hand_max: Duration,
    /// The time for which a stop waits for the calls on the wire.
    pub drain_timeout: Duration,
    /// The time for which an ended job is remembered.
    pub retain_finished: Duration,
    /// The time for which a failed job keeps its sealed checkpoints.
    pub retain_failed: Duration,
}

/// `[retry]`: backoff of one step's failed attempts.
#[derive(Debug, Clone, PartialEq)]
pub struct RetryConfig {
    /// Attempts per step, 1 to 100.
    pub max_attempts: u32,
    /// The interval before the second attempt.
    pub initial_interval: Duration,
    /// Growth from one interval to the next, 1 to 10.
    pub multiplier: f64,
    /// The longest interval.
    pub max_interval: Duration,
    /// From a step's first failed attempt to its latest.
    pub max_elapsed: Duration,
}

/// `[waits]`: the limits of a job's waits for people and platforms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitsConfig {
    /// For a person's input; then `input_never_came`.
    pub input_max: Duration,
    /// For a deletion to become visible; then `not_gone`.
    pub pending_max: Duration,
    /// The validity of an approval for an erasure that has not begun; then a new approval is needed.
    pub approval_max: Duration,
}

/// `[amqp]`
#[derive(Debug)]
pub struct AmqpConfig {
    /// `amqp://` or `amqps://`, with the credentials.
    pub url: SecretString,
    /// The URL's file, if it has one; it is read again at each login.
    pub url_file: Option<PathBuf>,
    /// The prefix of every exchange's and queue's name.
    pub prefix: String,
    /// Whether `run` declares the topology.
    pub declare_topology: bool,
    /// Certificate authorities (PEM) instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// The client's certificate (PEM); given together with its key.
    pub client_cert_file: Option<PathBuf>,
    /// The client's private key (PEM).
    pub client_key_file: Option<PathBuf>,
}

impl AmqpConfig {
    /// The URL without user, password and parameters: for logs and pages.
    pub fn shown_url(&self) -> String {
        sections::shown_amqp_url(self.url.expose_secret())
    }
}

/// `[dead_letters]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLettersConfig {
    /// Whether bodies are sealed for the master key.
    pub seal: bool,
    /// The age limit of a dead letter.
    pub max_age: Duration,
}

/// `[deadlines]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadlinesConfig {
    /// The time before its due time from which an open job is at risk.
    pub at_risk_before: Duration,
}

/// `[regulations.NAME]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegulationConfig {
    /// The term; `None` for a built-in regulation, whose term is fixed.
    pub term: Option<RegulationTerm>,
    /// Non-working days besides Saturdays and Sundays.
    pub holidays: Vec<Date>,
}

/// A regulation's term.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RegulationTerm {
    /// Calendar months; then `days` is 0.
    pub months: u32,
    /// Calendar days; then `months` is 0.
    pub days: u32,
    /// Whether a last day that is not a working day moves to the next working day.
    pub next_working_day: bool,
}

/// The erasures that wait for a second operator's approval.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ApprovalRule {
    /// Jobs that request an approval.
    AsAsked,
    /// All.
    Always,
}

impl Choice for ApprovalRule {
    const WORDS: &'static [(&'static str, Self)] = &[("as_asked", Self::AsAsked), ("always", Self::Always)];
}

/// `[ops]`
#[derive(Debug)]
pub struct OpsConfig {
    /// The address on which the ops API listens.
    pub listen: SocketAddr,
    /// The bearer token. `None` only if `listen` is a loopback address, or operators have tokens.
    pub token: Option<SecretString>,
    /// The operators' own bearer tokens, by name.
    pub operators: BTreeMap<String, SecretString>,
    /// The erasures that need an approval; a tenant's table may set another rule.
    pub approval: ApprovalRule,
}

/// A whole, valid configuration. `Debug` shows no secret.
#[derive(Debug)]
pub struct Config {
    /// Its file; `None` if it was read from text.
    pub file: Option<PathBuf>,
    /// The worker itself.
    pub worker: WorkerConfig,
    /// Where progress is kept.
    pub store: StoreConfig,
    /// Backoff.
    pub retry: RetryConfig,
    /// Waiting for people and platforms.
    pub waits: WaitsConfig,
    /// The broker, if the configuration has one; see [`Config::broker`].
    pub amqp: Option<AmqpConfig>,
    /// Dead letters.
    pub dead_letters: DeadLettersConfig,
    /// The ops API.
    pub ops: OpsConfig,
    /// The configured systems by name; at least one.
    pub systems: BTreeMap<String, SystemConfig>,
    /// The tenants by name. If there are none, every publisher may request erasures for every tenant and system.
    pub tenants: BTreeMap<String, TenantConfig>,
    /// The limits for events about due times.
    pub deadlines: DeadlinesConfig,
    /// Regulations besides the built-in ones, and holidays of all.
    pub regulations: BTreeMap<String, RegulationConfig>,
    /// The secrets that were read from files: key and file.
    pub secret_files: Vec<(String, PathBuf)>,
    /// What an operator should look at, although the configuration is valid: a sentence for each environment variable
    /// with the worker's prefix that is not read, and for each group of systems with one limit at their vendor.
    pub warnings: Vec<String>,
    entries: Vec<Entry>,
}

impl Config {
    /// Loads `path`; if `None`, the first file of the usual places.
    ///
    /// # Errors
    /// Every fault of the file, of the overrides and of their secrets.
    pub fn load(path: Option<&Path>, surroundings: &Surroundings) -> Result<Config, ConfigError> {
        let file = surroundings.find_config(path)?;
        let text = std::fs::read_to_string(&file).map_err(|error| {
            ConfigError::single(Some(file.clone()), file.display().to_string(), format!("cannot be read: {error}"))
        })?;
        let base = file.parent().unwrap_or(Path::new("")).to_owned();
        match Config::parse(&text, &base, surroundings) {
            Ok(config) => Ok(Config { file: Some(file), ..config }),
            Err(error) => Err(ConfigError { file: Some(file), ..error }),
        }
    }

    /// Reads a configuration from text. Its relative paths are relative to `base`.
    ///
    /// # Errors
    /// Those of [`Config::load`].
    pub fn parse(text: &str, base: &Path, surroundings: &Surroundings) -> Result<Config, ConfigError> {
        // The error's `Display` quotes the line, which may contain a secret.
        let mut table: Table = text.parse().map_err(|error: toml::de::Error| {
            let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or("");
            let line = 1 + before.matches('\n').count();
            ConfigError::single(None, format!("line {line}"), error.message())
        })?;
        let (set_by, faults) = overlay::overlay(&mut table, &surroundings.variables);
        let loading = Loading {
            surroundings,
            base: base.to_owned(),
            set_by,
            environment: Cell::new(None),
            faults: RefCell::new(faults),
            listing: RefCell::new(Vec::new()),
            secret_files: RefCell::new(Vec::new()),
            secret_variables: RefCell::default(),
        };
        let config = sections::read(Cursor::root(&loading, table));
        let faults = loading.faults.into_inner();
        match config {
            Some(config) if faults.is_empty() => {
                let (entries, secret_files) = (loading.listing.into_inner(), loading.secret_files.into_inner());
                let mut warnings = variables::unread(surroundings, &loading.secret_variables.into_inner(), &entries);
                warnings.extend(systems::sharing_a_limit(&config.systems));
                Ok(Config { entries, secret_files, warnings, ..config })
            }
            _ => Err(ConfigError { file: None, faults }),
        }
    }

    /// The broker's section.
    ///
    /// # Errors
    /// A fault if the section is missing: only `batch` needs no broker.
    pub fn broker(&self) -> Result<&AmqpConfig, ConfigError> {
        let missing = "the section is missing, and this command needs a broker";
        self.amqp.as_ref().ok_or_else(|| ConfigError::single(self.file.clone(), "amqp", missing))
    }

    /// The system of a kind with this name; without a name, the only system of the kind.
    ///
    /// # Errors
    /// A fault if there is no such system, or if there are several and no name.
    pub fn system(&self, kind: &str, name: Option<&str>) -> Result<&SystemConfig, ConfigError> {
        let fault = |problem: String| ConfigError::single(self.file.clone(), "systems", problem);
        let of_kind: Vec<&SystemConfig> =
            self.systems.values().filter(|system| system.settings.kind().as_str() == kind).collect();
        let names = || of_kind.iter().map(|system| system.name.as_str()).collect::<Vec<_>>().join(", ");
        match (name, of_kind.as_slice()) {
            (Some(name), _) => {
                let found = of_kind.iter().find(|system| system.name == name).copied();
                found.ok_or_else(|| fault(format!("no system of kind {kind} has that name; there are: {}", names())))
            }
            (None, [only]) => Ok(only),
            (None, []) => Err(fault(format!("no system of kind {kind} is configured"))),
            (None, _) => Err(fault(format!("several systems are of kind {kind}; name one with --system: {}", names()))),
        }
    }

    /// Every resolved key in reading order. A secret is shown as set, with its source.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The resolved configuration, one line for each key, without secrets.
    pub fn describe(&self) -> String {
        listing::render(&self.entries)
    }
}
