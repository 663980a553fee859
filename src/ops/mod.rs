//! Where people look: the worker's state over HTTP for operators and their tools.
//!
//! The rule it keeps: no answer carries personal data; what changes anything needs the token, or
//! comes from this very machine and from no other web page.
//!
//! In reading order: `serve` (the routes), `shared` (what they know), `request` (what they are asked), `doorway`
//! (the connections), `guard` (who may ask), then
//! one module a group of routes: `health`, `metrics`, `overview` (with `rates`), `jobs`, `systems`,
//! `pauses`, `ceilings`, `approvals`, `dead_letters`, `codes`, `imports`, `receipts`; `console` is the page for
//! people that asks them; `problem` is how each says no; `client` is the other end, for the command
//! line.

mod approvals;
mod ceilings;
pub mod client;
mod codes;
mod console;
mod dead_letters;
mod doorway;
mod guard;
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

pub use doorway::CONNECTIONS;
pub use imports::{DeskError, ExportedFile, ImportDesk, Settled};
pub use serve::serve;

use crate::engine::Engine;

/// How the ops API is served.
#[derive(Debug, Clone)]
pub struct OpsSettings {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The bearer token; may be missing only on a loopback address.
    pub token: Option<SecretString>,
    /// Operators with bearer tokens of their own.
    pub operators: BTreeMap<String, SecretString>,
    /// A loop that has not beaten for longer is stuck.
    pub stuck_after: Duration,
    /// The counts of open jobs in the metrics may be this old.
    pub survey_max_age: Duration,
    /// Where a damaged store was moved to at this start.
    pub store_moved_aside: Option<PathBuf>,
    /// The keys of secrets whose files have changed since they were read.
    pub changed_secrets: Option<watch::Receiver<Vec<String>>>,
}

impl OpsSettings {
    /// The usual settings for an address and a token.
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

/// What the ops API speaks for.
pub struct Ops {
    /// The engine.
    pub engine: Arc<Engine>,
    /// How it is served.
    pub settings: OpsSettings,
    /// The import desks by system.
    pub imports: BTreeMap<String, Arc<dyn ImportDesk>>,
}

impl std::fmt::Debug for Ops {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ops").field("settings", &self.settings).finish_non_exhaustive()
    }
}
