//! erasure-worker: carries out erasure requests from a queue, durably, and reports only what is proven.

pub mod broker;
pub mod engine;
pub mod job;
pub mod seal;
pub mod store;
pub mod systems;
