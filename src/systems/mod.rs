//! Where data is erased: one client a kind of system, behind one trait.
//!
//! The rule it keeps: a client makes exactly the call it is told, once, and says what the reply
//! means; it never retries, never decides what comes next, and never lets a reply's text out.

pub mod cleeng;
pub mod compare;
pub mod easycms;
mod evidence;
mod facts;
mod form;
pub mod http;
pub mod vitalsource;
pub mod zeta;

use async_trait::async_trait;

pub use self::evidence::Credential;
pub use self::facts::Facts;
use crate::job::{Answer, Failure, Job, Kind, Spec, Step, Target};

/// One call to make.
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    /// The job.
    pub job: &'a Job,
    /// The target within it.
    pub target: &'a Target,
    /// The target's index.
    pub index: usize,
    /// The step.
    pub step: Step,
    /// What earlier steps found.
    pub facts: &'a Facts,
}

/// A configured system.
#[async_trait]
pub trait System: Send + Sync + 'static {
    /// The table's name in the configuration.
    fn name(&self) -> &str;

    /// Its kind.
    fn kind(&self) -> Kind;

    /// Which rate limit each request of a step's call counts against (stable words; most kinds have only
    /// one limit, and most steps one request).
    fn endpoints(&self, spec: &Spec, step: Step) -> &'static [&'static str];

    /// Whether address and credential have shown somebody.
    fn credential(&self) -> &Credential;

    /// Makes the call that a step consists of, once.
    async fn call(&self, call: Call<'_>) -> Result<Answer, Failure>;

    /// One harmless read that shows that address and credential work.
    async fn probe(&self) -> Result<(), Failure>;

    /// Which rate limit the harmless read counts against.
    fn probe_endpoint(&self) -> &'static str {
        "all"
    }
}
