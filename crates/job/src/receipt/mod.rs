//! Receipts: what a final event proves to somebody who does not trust the worker.
//!
//! The rule it keeps: pure. A receipt says only what its event says, every link names the one
//! before it, and whoever has the public keys can check both without asking anybody.
//!
//! In reading order: [`claims`] (what a receipt says), [`digest`] (evidence and commitment),
//! [`keys`] (signatures), [`chain`] (links, gaps and what is wrong with them), [`pack`] (the audit
//! pack), [`opening`] (a commitment and the job that it was made for), [`input`] (what `receipt
//! verify` is given).

pub mod chain;
pub mod claims;
pub mod digest;
pub mod input;
pub mod keys;
pub mod opening;
pub mod pack;

pub use chain::{Checker, Fault, FaultKind, Report};
pub use claims::{Head, Link, Origin};
pub use keys::PublicKeys;

/// The `typ` of a receipt's header.
pub const RECEIPT: &str = "erasure-receipt+jws";
/// The `typ` of a checkpoint's header: it stands for the links that retention removed.
pub const CHECKPOINT: &str = "erasure-checkpoint+jws";
/// The `typ` of the signature over an audit pack's manifest.
pub const PACK: &str = "erasure-audit-pack+jws";
/// The version of the three statements.
pub const VERSION: u64 = 1;
/// What a chain's first receipt says of its beginning: the store held no chain, because it was
/// new, lost, or damaged and moved aside.
pub const NEW_STORE: &str = "new_store";
