//! Zeta Loyalty: deletes members by Program API, by Member API, by a deletion file, or by a person.
//!
//! The rule it keeps: a member counts as found, deleted or absent only after a reply of a known form (`interface`).
//! After any other reply a read-back decides.

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
