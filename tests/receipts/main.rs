//! Receipts: the promises of their chain, checked by our verifier and by a second one in another language with a public
//! JOSE library.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

mod batch;
mod chains;
mod opening;
mod packs;
mod second;
mod tampering;
