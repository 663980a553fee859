//! Zeta Loyalty: members deleted by Program API, by Member API, by a deletion file, or by a person.
//!
//! The rule it keeps: a member counts as found, deleted or gone only by a reply that says so in a
//! form we know (`interface`); everything else is left open for a read-back.

mod client;
pub mod import;
mod interface;
mod reply;
mod settings;

pub use client::ZetaClient;
pub use import::{
    BatchId, BatchStatus, ExportedBatch, ImportLedger, ImportSettings, KeyedDigest, LedgerError, SettleError,
    Settlement,
};
pub(super) use settings::PRODUCTION_HOSTS;
pub use settings::{Clock, ZetaSettings};
