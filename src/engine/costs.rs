//! The cost of a system's targets: the calls of each one, and the time of a call.
//!
//! The rule it keeps: an estimate, in memory only. Only the time of a job's next delivery depends on it.

use std::collections::HashMap;
use std::time::Duration;

use super::rates::Rates;

const MINUTE: Duration = Duration::from_secs(60);
/// After this many targets the cost of one is known.
const ENOUGH_ENDED: u64 = 20;

/// Counts since the start.
#[derive(Debug, Default)]
pub struct Costs {
    calls: HashMap<&'static str, u64>,
    targets_begun: u64,
    targets_ended: u64,
    latency: Duration,
}

#[allow(clippy::cast_precision_loss, reason = "an estimate is no count")]
fn ratio(calls: u64, targets: u64) -> f64 {
    (calls as f64 / targets.max(1) as f64).max(1.0)
}

impl Costs {
    /// Counts a step's requests to these endpoints; `is_first` of its target.
    pub fn begin(&mut self, endpoints: &[&'static str], is_first: bool) {
        self.targets_begun += u64::from(is_first);
        for endpoint in endpoints {
            *self.calls.entry(endpoint).or_default() += 1;
        }
    }

    /// Notes the duration of a call.
    pub fn call_ended(&mut self, took: Duration) {
        self.latency = (self.latency * 7 + took) / 8;
    }

    /// A target ended.
    pub fn target_ended(&mut self) {
        self.targets_ended += 1;
    }

    /// The calls and the limit of each endpoint that has one.
    fn limited<'a>(&'a self, rates: &'a Rates) -> impl Iterator<Item = (u64, u32)> + 'a {
        self.calls.iter().filter_map(|(endpoint, count)| Some((*count, rates.limit(endpoint)?)))
    }

    fn all(&self) -> u64 {
        self.calls.values().sum()
    }

    /// The time between two targets: by the rate of the endpoint that limits them most, or by the slots. It is rather
    /// too short than too long: an early job only waits again, a late one leaves the system idle.
    pub fn each_target(&self, rates: &Rates, slots: usize) -> Duration {
        // One call, until enough targets have ended.
        let known = self.targets_ended >= ENOUGH_ENDED;
        let targets = self.targets_begun.max(self.targets_ended);
        let calls = |calls| if known { ratio(calls, targets) } else { 1.0 };
        let limited = self.limited(rates).map(|(count, limit)| (MINUTE / limit).mul_f64(calls(count))).max();
        match limited.or(rates.smallest().map(|limit| MINUTE / limit)) {
            Some(by_rate) => by_rate,
            None => self.each_call(slots).mul_f64(calls(self.all())),
        }
    }

    /// The time between two free slots while all are taken.
    pub fn each_call(&self, slots: usize) -> Duration {
        self.latency / u32::try_from(slots.max(1)).unwrap_or(u32::MAX)
    }

    /// The system's targets a minute, by its rate and the cost of a target so far, or by its slots and the duration
    /// of a call. `None` before the first call.
    pub fn targets_per_minute(&self, rates: &Rates, slots: usize) -> Option<f64> {
        let calls = |calls| ratio(calls, self.targets_ended);
        let limited = self.limited(rates).map(|(count, limit)| f64::from(limit) / calls(count)).reduce(f64::min);
        let by_rate = limited.or(rates.smallest().map(f64::from));
        let each_call = self.each_call(slots).as_secs_f64();
        let by_slots = (each_call > 0.0).then(|| 60.0 / each_call / calls(self.all()));
        by_rate.into_iter().chain(by_slots).reduce(f64::min)
    }
}
