//! Receipts: what their chain promises, checked by our own verifier and by a second one in another
//! language that has only a public JOSE library.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

mod batch;
mod chains;
mod opening;
mod packs;
mod second;
mod tampering;
