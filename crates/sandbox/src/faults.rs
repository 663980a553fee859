//! The fault plan: which calls go wrong, and how.
//!
//! The rule it keeps: what a rule decides depends on the plan's seed and on the order of calls for one
//! subject, never on how the calls of different subjects interleave.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::operation::Operation;
use super::page::Page;

/// What goes wrong with one call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Action {
    /// Another HTTP status, with this body. The work is left undone unless `after_work`.
    Status {
        /// The HTTP status.
        status: u16,
        /// The body, as plain text.
        #[serde(default)]
        body: String,
        /// Do the work first: an answer that lies.
        #[serde(default)]
        after_work: bool,
    },
    /// A pause; the work is done even when the client has gone meanwhile.
    Delay {
        /// How long, in milliseconds.
        ms: u64,
        /// Pause after the work, not before it.
        #[serde(default)]
        after_work: bool,
    },
    /// The connection is closed before the work, without a reply.
    DropBefore,
    /// The work is done, then the connection is closed without a reply.
    DropAfter,
    /// The work is done, then 200 with bytes that nobody can read.
    Garbage,
    /// The system's own answer as if the work were done, and it is not.
    NotTaken,
    /// What stands before the system answers in its place. The work is left undone unless `after_work`.
    GatewayPage {
        /// The HTTP status.
        status: u16,
        /// What it looks like.
        #[serde(default)]
        page: Page,
        /// Do the work first: the system's own answer is lost behind the page.
        #[serde(default)]
        after_work: bool,
    },
    /// 429 with `Retry-After`, the work left undone.
    RateLimited {
        /// `Retry-After`, in seconds.
        retry_after: u64,
    },
    /// The system's own answer to a wrong credential, the work left undone.
    CredentialRefused,
}

impl Action {
    /// The name under which the ledger shows it.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Action::Status { .. } => "status",
            Action::Delay { .. } => "delay",
            Action::DropBefore => "drop_before",
            Action::DropAfter => "drop_after",
            Action::Garbage => "garbage",
            Action::NotTaken => "not_taken",
            Action::GatewayPage { .. } => "gateway_page",
            Action::RateLimited { .. } => "rate_limited",
            Action::CredentialRefused => "credential_refused",
        }
    }
}

/// One rule: which calls, how often, what happens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaultRule {
    /// Only calls to this system, as its first path segment names it (`loyalty`, `loyalty@2`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
    /// Only calls of this kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<Operation>,
    /// Only calls that concern this subject (the ledger's key).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// From the nth matching call on, counted from 1; `times` is then 1 unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nth: Option<u64>,
    /// With this probability, from 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probability: Option<f64>,
    /// At most this often.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<u64>,
    /// Count `nth` and `times` for each subject on its own.
    #[serde(default)]
    pub per_subject: bool,
    /// What happens.
    pub action: Action,
}

impl FaultRule {
    /// Every call of `operation` meets `action`; narrow it with the other methods.
    pub fn on(operation: Operation, action: Action) -> FaultRule {
        FaultRule {
            system: None,
            operation: Some(operation),
            subject: None,
            nth: None,
            probability: None,
            times: None,
            per_subject: false,
            action,
        }
    }

    /// From the nth matching call on (once, unless [`FaultRule::times`] says more).
    pub fn nth(mut self, nth: u64) -> FaultRule {
        self.nth = Some(nth);
        self
    }

    /// At most `times` times.
    pub fn times(mut self, times: u64) -> FaultRule {
        self.times = Some(times);
        self
    }

    /// With this probability, from 0 to 1.
    pub fn probability(mut self, probability: f64) -> FaultRule {
        self.probability = Some(probability);
        self
    }

    /// Only calls that concern `subject`.
    pub fn subject(mut self, subject: impl Into<String>) -> FaultRule {
        self.subject = Some(subject.into());
        self
    }

    /// Counts `nth` and `times` for each subject on its own.
    pub fn per_subject(mut self) -> FaultRule {
        self.per_subject = true;
        self
    }

    fn matches(&self, system: &str, operation: Operation, subject: Option<&str>) -> bool {
        self.system.as_deref().is_none_or(|wanted| wanted == system)
            && self.operation.is_none_or(|wanted| wanted == operation)
            && self.subject.as_deref().is_none_or(|wanted| Some(wanted) == subject)
    }
}

/// A list of rules; the first that fires wins, but every matching rule counts the call.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaultPlan {
    /// Makes the rules with a probability repeatable.
    #[serde(default)]
    pub seed: u64,
    /// The rules.
    pub rules: Vec<FaultRule>,
}

impl FaultPlan {
    /// The demonstration's plan: every failure a worker must survive, each in a few calls of a hundred.
    /// It leaves credentials alone, for a refused one holds the whole system.
    pub fn misbehave(seed: u64) -> FaultPlan {
        let any = |probability, action| FaultRule {
            system: None,
            operation: None,
            subject: None,
            nth: None,
            probability: Some(probability),
            times: None,
            per_subject: false,
            action,
        };
        FaultPlan {
            seed,
            rules: vec![
                any(0.03, Action::Status { status: 503, body: "try again".into(), after_work: false }),
                any(0.02, Action::DropAfter),
                any(0.01, Action::DropBefore),
                any(0.01, Action::Garbage),
                any(0.01, Action::Status { status: 502, body: "bad gateway".into(), after_work: true }),
                any(0.01, Action::RateLimited { retry_after: 1 }),
                any(0.03, Action::Delay { ms: 150, after_work: false }),
            ],
        }
    }
}

/// The plan at work, with what it has counted.
#[derive(Default)]
pub(super) struct Faults {
    seed: u64,
    rules: Vec<Counted>,
}

struct Counted {
    rule: FaultRule,
    /// Under the subject when the rule counts each on its own, else under the empty name.
    counts: HashMap<String, Count>,
    /// Calls seen for each subject, for rules with a probability.
    drawn: HashMap<String, u64>,
}

#[derive(Default)]
struct Count {
    seen: u64,
    fired: u64,
}

impl Faults {
    /// Starts `plan` with all counts at zero.
    pub(super) fn replace(&mut self, plan: FaultPlan) {
        *self = Faults { seed: plan.seed, rules: Vec::new() };
        self.add(plan.rules);
    }

    /// Adds rules after those that stand.
    pub(super) fn add(&mut self, rules: Vec<FaultRule>) {
        self.rules.extend(rules.into_iter().map(|rule| Counted {
            rule,
            counts: HashMap::new(),
            drawn: HashMap::new(),
        }));
    }

    /// Each rule and how often it has fired.
    pub(super) fn fired(&self) -> Vec<(FaultRule, u64)> {
        let fired = |counted: &Counted| counted.counts.values().map(|count| count.fired).sum();
        self.rules.iter().map(|counted| (counted.rule.clone(), fired(counted))).collect()
    }

    /// Counts the call and says what goes wrong with it, if anything.
    pub(super) fn decide(&mut self, system: &str, operation: Operation, subject: Option<&str>) -> Option<Action> {
        let mut decided = None;
        for (index, counted) in self.rules.iter_mut().enumerate() {
            if !counted.rule.matches(system, operation, subject) {
                continue;
            }
            let key = if counted.rule.per_subject { subject.unwrap_or_default() } else { "" };
            let count = counted.counts.entry(key.to_owned()).or_default();
            count.seen += 1;
            let times = counted.rule.times.unwrap_or(if counted.rule.nth.is_some() { 1 } else { u64::MAX });
            let mut fires =
                decided.is_none() && count.fired < times && counted.rule.nth.is_none_or(|nth| count.seen >= nth);
            if let Some(probability) = counted.rule.probability {
                let drawn = counted.drawn.entry(format!("{operation:?} {}", subject.unwrap_or_default())).or_default();
                *drawn += 1;
                fires &= draw(self.seed, index, operation, subject.unwrap_or_default(), *drawn) < probability;
            }
            if fires {
                count.fired += 1;
                decided = Some(counted.rule.action.clone());
            }
        }
        decided
    }
}

/// A number from 0 to 1 that is the same for the same call of the same subject under the same seed.
fn draw(seed: u64, rule: usize, operation: Operation, subject: &str, call: u64) -> f64 {
    let digest = Sha256::digest(format!("{seed} {rule} {operation:?} {call} {subject}"));
    let mut first = [0u8; 4];
    first.copy_from_slice(&digest[..4]);
    f64::from(u32::from_be_bytes(first)) / (f64::from(u32::MAX) + 1.0)
}
