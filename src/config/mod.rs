//! The configuration: one TOML file, environment overrides, secrets by reference; read once, then plain types.
//!
//! The rule it keeps: a [`Config`] that exists is valid as a whole, and one that isn't is refused
//! with every fault named, so that nobody puts right one key a start.

mod cursor;
pub mod example;
mod fault;
mod listing;
mod overlay;
mod regulations;
pub mod secret;
mod sections;
mod setting;
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
pub use surroundings::Surroundings;
pub use systems::{CommonSystem, IdentityCheck, SystemConfig};
pub use tenants::{GuardConfig, SignatureKey, TenantConfig};

/// How names of tenants, systems and workers look.
pub const NAME_FORM: &str = "[a-z0-9][a-z0-9_-]{0,62}";

/// True for a proper name of a tenant, system or worker.
pub fn is_name(text: &str) -> bool {
    let first = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    text.len() <= 63 && text.starts_with(first) && text.chars().all(|c| first(c) || c == '_' || c == '-')
}

/// Which world the worker works in; every job names the same one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Environment {
    /// Stand-ins or vendors' sandboxes.
    Sandbox,
    /// A rehearsal; like the sandbox, never the vendors' production hosts.
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
    /// The world that this worker works in.
    pub environment: Environment,
    /// The worker's name, stable over restarts.
    pub id: String,
    /// Jobs in hand at once; also the AMQP prefetch. 1 to 4096.
    pub concurrency: u32,
    /// The folder of the store; owned by one process.
    pub state_dir: PathBuf,
    /// The key that seals, signs and derives.
    pub master_key: MasterKey,
    /// The key before it, during a rotation.
    pub master_key_previous: Option<MasterKey>,
    /// Longer waits are parked on the broker.
    pub inline_wait_max: Duration,
    /// A job in hand longer than this is parked for a moment. Always less than the broker's 30 minutes.
    pub in_hand_max: Duration,
    /// How long a stop waits for the calls on the wire.
    pub drain_timeout: Duration,
    /// How long an ended job is remembered.
    pub retain_finished: Duration,
    /// How long a failed job keeps its sealed checkpoints.
    pub retain_failed: Duration,
}

/// `[retry]`: backoff of one step's failed attempts.
#[derive(Debug, Clone, PartialEq)]
pub struct RetryConfig {
    /// Attempts per step, 1 to 100.
    pub max_attempts: u32,
    /// Before the second attempt.
    pub initial_interval: Duration,
    /// Growth from one interval to the next, 1 to 10.
    pub multiplier: f64,
    /// No interval is longer.
    pub max_interval: Duration,
    /// From a step's first failed attempt to its latest.
    pub max_elapsed: Duration,
}

/// `[waits]`: how long a job waits for what isn't ours to give.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitsConfig {
    /// For a person's input; then `input_never_came`.
    pub input_max: Duration,
    /// For a deletion to become visible; then `not_gone`.
    pub pending_max: Duration,
    /// How long an approval holds for an erasure that has not begun; then it is asked for again.
    pub approval_max: Duration,
}

/// `[amqp]`
#[derive(Debug)]
pub struct AmqpConfig {
    /// `amqp://` or `amqps://`, with the credentials.
    pub url: SecretString,
    /// The file that it was read from, to be read again at each login.
    pub url_file: Option<PathBuf>,
    /// What every exchange and queue name starts with.
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
    /// Where the URL leads, without user, password and parameters: for logs and pages.
    pub fn shown_url(&self) -> String {
        sections::shown_amqp_url(self.url.expose_secret())
    }
}

/// `[dead_letters]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLettersConfig {
    /// Whether bodies are sealed for the master key.
    pub seal: bool,
    /// How long one may lie.
    pub max_age: Duration,
}

/// `[deadlines]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadlinesConfig {
    /// This long before it is due, an open job is at risk.
    pub at_risk_before: Duration,
}

/// `[regulations.NAME]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegulationConfig {
    /// The term; `None` for a built-in one, which keeps its own.
    pub term: Option<RegulationTerm>,
    /// Days beside Saturdays and Sundays on which nobody works.
    pub holidays: Vec<Date>,
}

/// How long a regulation gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RegulationTerm {
    /// Calendar months; then `days` is 0.
    pub months: u32,
    /// Calendar days; then `months` is 0.
    pub days: u32,
    /// Whether a last day that is no working day moves to the next one.
    pub next_working_day: bool,
}

/// Which erasures wait for a second operator's approval.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ApprovalRule {
    /// Those that ask for it.
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
    /// Where the ops API listens.
    pub listen: SocketAddr,
    /// The bearer token; always there unless `listen` is a loopback address, or operators have their own.
    pub token: Option<SecretString>,
    /// Operators with bearer tokens of their own, by name.
    pub operators: BTreeMap<String, SecretString>,
    /// Which erasures need an approval, where their tenant's table does not say.
    pub approval: ApprovalRule,
}

/// A whole, valid configuration. `Debug` shows no secret.
#[derive(Debug)]
pub struct Config {
    /// The file it came from; `None` where it was given as text.
    pub file: Option<PathBuf>,
    /// The worker itself.
    pub worker: WorkerConfig,
    /// Backoff.
    pub retry: RetryConfig,
    /// Waiting for people and platforms.
    pub waits: WaitsConfig,
    /// The broker, where the configuration has one; see [`Config::broker`].
    pub amqp: Option<AmqpConfig>,
    /// Dead letters.
    pub dead_letters: DeadLettersConfig,
    /// The ops API.
    pub ops: OpsConfig,
    /// The configured systems by name; at least one.
    pub systems: BTreeMap<String, SystemConfig>,
    /// The tenants by name. Where there is none, whoever may publish may order everything.
    pub tenants: BTreeMap<String, TenantConfig>,
    /// What the publishers are told of terms that run out.
    pub deadlines: DeadlinesConfig,
    /// Regulations beside the built-in ones, and holidays for these.
    pub regulations: BTreeMap<String, RegulationConfig>,
    /// The secrets that were read from files, by key, and the files.
    pub secret_files: Vec<(String, PathBuf)>,
    /// A sentence for each environment variable that looks like the worker's and is not read.
    pub unread_variables: Vec<String>,
    entries: Vec<Entry>,
}

impl Config {
    /// Loads `path`, or the first of the usual places where it is `None`.
    ///
    /// # Errors
    /// Every fault of the file, of the overrides and of the secrets they name.
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

    /// Reads a configuration from text; its relative paths start at `base`.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn parse(text: &str, base: &Path, surroundings: &Surroundings) -> Result<Config, ConfigError> {
        // The error's own Display quotes the line, which may hold a secret.
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
                let unread_variables =
                    variables::unread(surroundings, &loading.secret_variables.into_inner(), &entries);
                Ok(Config { entries, secret_files, unread_variables, ..config })
            }
            _ => Err(ConfigError { file: None, faults }),
        }
    }

    /// The broker's section.
    ///
    /// # Errors
    /// A fault where the configuration has none: `batch` does without, the other commands don't.
    pub fn broker(&self) -> Result<&AmqpConfig, ConfigError> {
        let missing = "the section is missing, and this command talks to a broker";
        self.amqp.as_ref().ok_or_else(|| ConfigError::single(self.file.clone(), "amqp", missing))
    }

    /// The only system of a kind, or the one that `name` names.
    ///
    /// # Errors
    /// A fault where there is none, or several and no name.
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

    /// Every resolved key in reading order; secrets only as set, with their source.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The resolved configuration, one line a key, without secrets.
    pub fn describe(&self) -> String {
        listing::render(&self.entries)
    }
}
