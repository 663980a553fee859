//! The ops API: the worker's state and the operators' decisions over HTTP.
//!
//! The rule it keeps: no answer carries personal data. A change needs the token, or comes from this machine and from
//! no other web page.
//!
//! In reading order: `serve` (the routes), `shared` (their state), `request` (path, query, body), `connections`,
//! `access`; then one module for each group of routes: `health`, `metrics`, `overview` (with `rates`), `jobs`,
//! `systems`, `pauses`, `ceilings`, `approvals`, `dead_letters`, `codes`, `imports`, `receipts`. `console` is the web
//! page, `problem` a refusal, `client` the client for the command line.

mod access;
mod approvals;
mod ceilings;
pub mod client;
mod codes;
mod connections;
mod console;
mod dead_letters;
mod health;
mod imports;
mod jobs;
mod metrics;
mod overview;
mod pauses;
pub mod problem;
mod rates;
mod receipts;
mod request;
mod serve;
mod shared;
mod systems;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;
use tokio::sync::watch;

pub use connections::CONNECTIONS;
pub use imports::{DeskError, ExportedFile, ImportDesk, Settled};
pub use serve::serve;

use crate::engine::Engine;

/// The settings of the ops API.
#[derive(Debug, Clone)]
pub struct OpsSettings {
    /// The address; port 0 takes a free port.
    pub listen: SocketAddr,
    /// The bearer token; may be missing only on a loopback address.
    pub token: Option<SecretString>,
    /// Operators with their own bearer tokens.
    pub operators: BTreeMap<String, SecretString>,
    /// A loop without a beat for longer than this is stuck.
    pub stuck_after: Duration,
    /// The greatest age of the counts of open jobs in the metrics.
    pub survey_max_age: Duration,
    /// The new path of a damaged store that this start moved aside.
    pub store_moved_aside: Option<PathBuf>,
    /// The config keys of secrets whose files changed after they were read.
    pub changed_secrets: Option<watch::Receiver<Vec<String>>>,
}

impl OpsSettings {
    /// The defaults for an address and a token.
    pub fn new(listen: SocketAddr, token: Option<SecretString>) -> OpsSettings {
        OpsSettings {
            listen,
            token,
            operators: BTreeMap::new(),
            stuck_after: Duration::from_secs(60),
            survey_max_age: Duration::from_secs(15),
            store_moved_aside: None,
            changed_secrets: None,
        }
    }
}

/// The parts that the ops API serves.
pub struct Ops {
    pub engine: Arc<Engine>,
    pub settings: OpsSettings,
    /// The deletion files, by system.
    pub imports: BTreeMap<String, Arc<dyn ImportDesk>>,
}

impl std::fmt::Debug for Ops {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ops").field("settings", &self.settings).finish_non_exhaustive()
    }
}
