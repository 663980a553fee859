//! erasure-worker: carries out erasure requests from a queue, durably, and reports only what is proven.

pub mod broker;
pub mod sandbox;
pub mod store;
