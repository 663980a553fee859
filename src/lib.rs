//! erasure-worker: carries out erasure requests from a queue, durably, and reports only what is proven.

pub mod app;
pub mod broker;
pub mod cli;
pub mod clock;
pub mod config;
pub mod crash;
pub mod engine;
pub mod job;
pub mod ops;
pub mod process;
pub mod receipt;
pub mod rows;
pub mod sandbox;
pub mod seal;
pub mod service;
pub mod store;
pub mod systems;
pub mod telemetry;
pub mod trace;
