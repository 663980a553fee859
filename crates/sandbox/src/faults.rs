//! The fault plan: the calls that fail, and how.
//!
//! The rule it keeps: a rule's decision depends on the plan's seed and on the order of one subject's calls, never on
//! the order of calls for different subjects.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::operation::Operation;
use super::page::Page;

/// The fault of one call. `after_work` does the work first, so the answer is false or late.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Action {
    /// Another HTTP status with a plain text. No work, unless `after_work`.
    Status {
        status: u16,
        #[serde(default)]
        body: String,
        #[serde(default)]
        after_work: bool,
    },
    /// A pause before the work, or after it. The work is done even if the client disconnects meanwhile.
    Delay {
        /// Milliseconds.
        ms: u64,
        #[serde(default)]
        after_work: bool,
    },
    /// The connection is closed before the work, without a reply.
    DropBefore,
    /// The work is done, then the connection is closed without a reply.
    DropAfter,
    /// The work is done; the answer is 200 with unreadable bytes.
    Garbage,
    /// The system's own answer to a success, without the work.
    NotTaken,
    /// A gateway answers in place of the system. No work, unless `after_work`.
    GatewayPage {
        status: u16,
        #[serde(default)]
        page: Page,
        #[serde(default)]
        after_work: bool,
    },
    /// 429 with `Retry-After`, without the work.
    RateLimited {
        /// `Retry-After`, in seconds.
        retry_after: u64,
    },
    /// The system's own answer to a wrong credential, without the work.
    CredentialRefused,
}

impl Action {
    /// The name in the ledger.
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

/// One rule: its calls, its frequency, its fault.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaultRule {
    /// Only calls to this system, by the first path segment (`loyalty`, `loyalty@2`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<Operation>,
    /// Only calls for this subject (the ledger's key).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// From the nth matching call on, counted from 1; without `times` only that call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nth: Option<u64>,
    /// With this probability, from 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probability: Option<f64>,
    /// The greatest number of faults.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<u64>,
    /// True: `nth` and `times` count for each subject separately.
    #[serde(default)]
    pub per_subject: bool,
    pub action: Action,
}

impl FaultRule {
    /// A rule for every call of `operation`; the other methods restrict it.
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

    /// See [`FaultRule::nth`](field@FaultRule::nth).
    pub fn nth(mut self, nth: u64) -> FaultRule {
        self.nth = Some(nth);
        self
    }

    pub fn times(mut self, times: u64) -> FaultRule {
        self.times = Some(times);
        self
    }

    pub fn probability(mut self, probability: f64) -> FaultRule {
        self.probability = Some(probability);
        self
    }

    pub fn subject(mut self, subject: impl Into<String>) -> FaultRule {
        self.subject = Some(subject.into());
        self
    }

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

/// A list of rules. The first rule that fires decides; every matching rule counts the call.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaultPlan {
    /// Rules with a probability decide the same under the same seed.
    #[serde(default)]
    pub seed: u64,
    pub rules: Vec<FaultRule>,
}

impl FaultPlan {
    /// The demonstration's plan: every failure that a worker must survive, each in a few percent of the calls. Refused
    /// credentials are left out, because they hold the whole system.
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

/// The current plan, with its counts.
#[derive(Default)]
pub(super) struct Faults {
    seed: u64,
    rules: Vec<Counted>,
}

struct Counted {
    rule: FaultRule,
    /// By subject if the rule counts per subject, else under the empty name.
    counts: HashMap<String, Count>,
    /// Calls by operation and subject, for rules with a probability.
    drawn: HashMap<String, u64>,
}

#[derive(Default)]
struct Count {
    seen: u64,
    fired: u64,
}

impl Faults {
    /// Replaces the plan; all counts start at zero.
    pub(super) fn replace(&mut self, plan: FaultPlan) {
        *self = Faults { seed: plan.seed, rules: Vec::new() };
        self.add(plan.rules);
    }

    /// Adds rules after the existing rules.
    pub(super) fn add(&mut self, rules: Vec<FaultRule>) {
        self.rules.extend(rules.into_iter().map(|rule| Counted {
            rule,
            counts: HashMap::new(),
            drawn: HashMap::new(),
        }));
    }

    /// Each rule, and how many faults it has made.
    pub(super) fn fired(&self) -> Vec<(FaultRule, u64)> {
        let fired = |counted: &Counted| counted.counts.values().map(|count| count.fired).sum();
        self.rules.iter().map(|counted| (counted.rule.clone(), fired(counted))).collect()
    }

    /// Counts the call and returns its fault, if any.
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

/// A pseudo-random number from 0 to 1, fixed by its arguments.
fn draw(seed: u64, rule: usize, operation: Operation, subject: &str, call: u64) -> f64 {
    let digest = Sha256::digest(format!("{seed} {rule} {operation:?} {call} {subject}"));
    let mut first = [0u8; 4];
    first.copy_from_slice(&digest[..4]);
    f64::from(u32::from_be_bytes(first)) / (f64::from(u32::MAX) + 1.0)
}
