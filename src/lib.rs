//! erasure-worker: carries out erasure requests from a queue, durably, and reports an erasure only with evidence.

pub mod app;
pub mod broker;
pub mod cli;
mod clock;
pub mod config;
pub mod crash;
mod csv;
pub mod engine;
pub mod kit;
pub mod ops;
mod process;
mod service;
pub mod systems;
pub mod telemetry;
mod trace;

pub use erasure_job as job;
pub use erasure_job::receipt;
pub use erasure_sandbox as sandbox;
pub use erasure_seal as seal;
pub use erasure_store as store;
