//! The limits of a system's endpoints, in requests a minute.
//!
//! The rule it keeps: of the operator's limit and the vendor's, the smaller one counts.

use std::collections::BTreeMap;

/// A system's limits.
#[derive(Debug, Clone, Default)]
pub struct Rates {
    /// The operator's limit for each endpoint; `None` for no limit.
    pub each: Option<u32>,
    /// The vendor's limits for single endpoints.
    pub of: BTreeMap<&'static str, u32>,
}

impl Rates {
    /// One limit for each endpoint.
    pub fn each(limit: u32) -> Rates {
        Rates { each: Some(limit), ..Rates::default() }
    }

    /// An endpoint's limit.
    pub fn limit(&self, endpoint: &str) -> Option<u32> {
        let own = self.of.get(endpoint).copied();
        own.into_iter().chain(self.each).min().map(|limit| limit.max(1))
    }

    /// True without any limit.
    pub fn is_unlimited(&self) -> bool {
        self.each.is_none() && self.of.is_empty()
    }

    /// The smallest limit, for a system of which no call is known yet.
    pub fn smallest(&self) -> Option<u32> {
        self.of.values().copied().chain(self.each).min().map(|limit| limit.max(1))
    }
}
