//! The jobs that will be late at the present rate: the open jobs of each system in the order of their due times.
//!
//! The rule it keeps: the forecast uses known numbers only (a rate, the cost of a target so far); where nothing is
//! known it says so.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::job::At;

/// The parts of an open job that a forecast needs.
#[derive(Debug, Clone)]
pub(super) struct Waits {
    /// The due time.
    pub due: Option<At>,
    /// The systems that it needs, once for each target.
    pub systems: Vec<u16>,
}

/// The forecast of one system.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct SystemForecast {
    /// Targets of open jobs that do not wait for a person.
    pub backlog: u64,
    /// The targets a minute; null before the first call.
    pub targets_per_minute: Option<f64>,
    /// The time at which the backlog is done.
    pub done_at: Option<String>,
    /// Jobs that will be late because of this system.
    pub will_miss: u64,
}

/// The forecast.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Forecast {
    /// Jobs that are not late yet and will be.
    pub will_miss: u64,
    /// Each system.
    pub systems: BTreeMap<String, SystemForecast>,
}

/// Makes the forecast from the open jobs and the targets a minute of each system (by index).
pub(super) fn forecast(mut jobs: Vec<Waits>, systems: &[(String, Option<f64>)], now: At) -> Forecast {
    // The order of the line before a system: most urgent first, without a due time last.
    jobs.sort_by_key(|job| job.due.map_or(i64::MAX, |due| due.0));
    let mut each: Vec<SystemForecast> = systems
        .iter()
        .map(|(_, pace)| SystemForecast { targets_per_minute: *pace, ..SystemForecast::default() })
        .collect();
    let mut will_miss = 0;
    for job in &jobs {
        let mut is_late = false;
        let mut blamed = Vec::new();
        for index in &job.systems {
            let Some(system) = each.get_mut(usize::from(*index)) else { continue };
            system.backlog += 1;
            let late = job.due.is_some_and(|due| due > now && done_at(system, now).is_some_and(|done| done > due));
            if late && !blamed.contains(index) {
                system.will_miss += 1;
                blamed.push(*index);
            }
            is_late |= late;
        }
        will_miss += u64::from(is_late);
    }
    for system in &mut each {
        system.done_at = done_at(system, now).filter(|_| system.backlog > 0).map(At::to_rfc3339);
    }
    Forecast { will_miss, systems: systems.iter().map(|(name, _)| name.clone()).zip(each).collect() }
}

/// The time at which all counted targets are done.
fn done_at(system: &SystemForecast, now: At) -> Option<At> {
    let pace = system.targets_per_minute.filter(|pace| *pace > 0.0)?;
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "a forecast is no count")]
    let millis = (system.backlog as f64 / pace * 60_000.0) as i64;
    Some(At(now.0.saturating_add(millis)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: At = At(1_700_000_000_000);

    fn due_in(minutes: i64, systems: &[u16]) -> Waits {
        Waits { due: Some(At(NOW.0 + minutes * 60_000)), systems: systems.to_vec() }
    }

    fn systems(paces: &[Option<f64>]) -> Vec<(String, Option<f64>)> {
        paces.iter().enumerate().map(|(index, pace)| (format!("s{index}"), *pace)).collect()
    }

    #[test]
    fn those_that_the_rate_leaves_no_time_for_will_miss() {
        // Ten a minute: after ten minutes 100 are done, the other 412 are late.
        let jobs = (0..512).map(|_| due_in(10, &[0])).collect();
        let found = forecast(jobs, &systems(&[Some(10.0)]), NOW);
        assert_eq!((found.will_miss, found.systems["s0"].backlog), (412, 512));
        assert_eq!(found.systems["s0"].done_at, Some(At(NOW.0 + 51 * 60_000 + 12_000).to_rfc3339()));
    }

    #[test]
    fn the_most_urgent_are_counted_first_whatever_their_order() {
        let jobs = vec![due_in(1000, &[0]), Waits { due: None, systems: vec![0] }, due_in(1, &[0])];
        assert_eq!(forecast(jobs, &systems(&[Some(1.0)]), NOW).will_miss, 0);
    }

    #[test]
    fn a_job_is_late_where_one_of_its_systems_is_and_counts_once() {
        let jobs = vec![due_in(1, &[0, 1, 1])];
        let found = forecast(jobs.clone(), &systems(&[Some(60.0), Some(1.0)]), NOW);
        assert_eq!((found.will_miss, found.systems["s0"].will_miss, found.systems["s1"].will_miss), (1, 0, 1));
        let found = forecast(jobs, &systems(&[Some(60.0), Some(60.0)]), NOW);
        assert_eq!(found.will_miss, 0);
    }

    #[test]
    fn what_is_late_already_is_not_forecast_and_what_is_unknown_not_guessed() {
        let jobs = vec![due_in(-1, &[0]), due_in(1, &[1])];
        let found = forecast(jobs, &systems(&[Some(0.001), None]), NOW);
        assert_eq!(found.will_miss, 0);
        assert_eq!((found.systems["s1"].backlog, &found.systems["s1"].done_at), (1, &None));
    }
}
