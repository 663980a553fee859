//! Receipts: they prove a final event to people who do not trust the worker.
//!
//! The rule it keeps: pure. A receipt has only its event's content, every link names the one before it, and everyone
//! with the public keys can check both alone.
//!
//! In reading order: [`claims`] (a receipt's content), [`digest`] (evidence and commitment), [`keys`] (signatures),
//! [`chain`] (links, gaps and faults), [`pack`] (the audit pack), [`opening`] (a commitment and its job), [`input`]
//! (the input of `receipt verify`).

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
/// The `typ` of a checkpoint's header: it replaces the links that retention removed.
pub const CHECKPOINT: &str = "erasure-checkpoint+jws";
/// The `typ` of the signature over an audit pack's manifest.
pub const PACK: &str = "erasure-audit-pack+jws";
/// The version of the three statements.
pub const VERSION: u64 = 1;
/// The beginning of a chain in its first receipt: the store held no chain, because it was new, lost, or damaged and
/// moved aside.
pub const NEW_STORE: &str = "new_store";
