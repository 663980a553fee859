//! `/metrics`: counters and gauges in OpenMetrics text.
//!
//! The rule it keeps: base units, and labels only from closed lists or the configuration: never a tenant, a job or a
//! person. An unknown value is left out, never reported as zero.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeMetric, MetricEncoder};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::metrics::{MetricType, TypedMetric};
use prometheus_client::registry::{Metric, Registry, Unit};
use tokio::time::Instant;

use super::health::Health;
use super::problem::{Kind, Problem};
use super::shared::{CachedSurvey, Shared};
use crate::broker::{Link, Tier};
use crate::clock::steady::Steady;
use crate::engine::admission::CAUSES;
use crate::engine::decisions::What;
use crate::engine::operators::Survey;
use crate::engine::trouble;
use crate::job::wait::Waiting;
use crate::job::{At, FailureKind, InputKind, JobOutcome};
use crate::store::{CREATED_KEY, Table};
use crate::telemetry::lines;

/// The time limit for the broker's answer to a queue's depth.
const DEPTH_TIMEOUT: Duration = Duration::from_secs(2);

type Labels = Vec<(&'static str, String)>;

/// Metrics by label, in a fixed order: the library's `Family` has none.
#[derive(Debug)]
struct Series<M>(Vec<(Labels, M)>);

impl<M: EncodeMetric + TypedMetric> EncodeMetric for Series<M> {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|(labels, metric)| metric.encode(encoder.encode_family(labels)?))
    }

    fn metric_type(&self) -> MetricType {
        M::TYPE
    }
}

/// The metrics of one scrape. A help text has no full stop: the library adds one.
#[derive(Debug, Default)]
struct Scrape(Registry);

impl Scrape {
    fn register(&mut self, name: &'static str, help: &'static str, metric: impl Metric) {
        let unit = [("_seconds", Unit::Seconds), ("_bytes", Unit::Bytes)];
        match unit.into_iter().find_map(|(end, unit)| Some((name.strip_suffix(end)?, unit))) {
            Some((name, unit)) => self.0.register_with_unit(name, help, unit, metric),
            None => self.0.register(name, help, metric),
        }
    }

    /// Metrics by label; `of` makes one from its value.
    fn family<M: Metric + TypedMetric>(
        &mut self,
        of: impl Fn(f64) -> M,
        name: &'static str,
        help: &'static str,
        samples: impl IntoIterator<Item = (Labels, f64)>,
    ) {
        let samples = samples.into_iter().map(|(labels, value)| (labels, of(value)));
        self.register(name, help, Series(samples.collect()));
    }

    fn gauge(&mut self, name: &'static str, help: &'static str, value: impl Into<Option<f64>>) {
        match value.into() {
            Some(value) => self.register(name, help, ConstGauge::new(value)),
            None => self.family(ConstGauge::new, name, help, []),
        }
    }

    fn counter(&mut self, name: &'static str, help: &'static str, value: u64) {
        self.register(name, help, ConstCounter::new(float(value)));
    }

    fn counted(&mut self, name: &'static str, help: &'static str, counter: &AtomicU64) {
        self.counter(name, help, counter.load(Ordering::Relaxed));
    }

    fn text(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.0)?;
        Ok(text)
    }
}

#[allow(clippy::cast_precision_loss, reason = "the format's numbers are floats")]
const fn float(value: u64) -> f64 {
    value as f64
}

#[allow(clippy::cast_precision_loss, reason = "milliseconds since 1970 fit")]
const fn seconds(at: At) -> f64 {
    at.0 as f64 / 1000.0
}

pub(super) async fn metrics(State(shared): State<Arc<Shared>>) -> Result<Response, Problem> {
    let mut scrape = Scrape::default();
    jobs(&shared, &mut scrape).await?;
    approvals(&shared, &mut scrape)?;
    systems(&shared, &mut scrape);
    messages(&shared, &mut scrape).await?;
    process(&shared, &mut scrape);
    let text = scrape.text().map_err(|_| Problem::from(Kind::Internal))?;
    let media = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, media)], text).into_response())
}

/// The engine's labelled counts of a family, with one label from a closed list; zeros included.
fn counts_by(shared: &Shared, family: &str, label: &'static str, words: Vec<&'static str>) -> Vec<(Labels, f64)> {
    let counts = shared.ops.engine.figures().labelled();
    let count = |word: &str| {
        let of_word = counts.iter().filter(|(name, _, counted, _)| *name == family && *counted == word);
        float(of_word.map(|(.., count)| count).sum())
    };
    words.into_iter().map(|word| (vec![(label, word.to_owned())], count(word))).collect()
}

async fn jobs(shared: &Shared, to: &mut Scrape) -> Result<(), Problem> {
    let engine = &shared.ops.engine;
    let survey = survey(shared).await?;
    let mut outcomes: Vec<_> = JobOutcome::ALL.iter().map(|outcome| outcome.as_str()).collect();
    outcomes.push("rejected");
    let reasons = || Waiting::ALL.map(Waiting::as_str);
    to.family(
        ConstCounter::new,
        "erasure_jobs_finished",
        "Ended jobs, and rejected messages",
        counts_by(shared, "jobs_finished", "outcome", outcomes),
    );
    to.family(
        ConstCounter::new,
        "erasure_jobs_parked",
        "Copies published to a wait queue",
        counts_by(shared, "jobs_parked", "reason", reasons().to_vec()),
    );
    to.family(
        ConstCounter::new,
        "erasure_jobs_guarded",
        "Jobs above a ceiling, held when they were accepted",
        counts_by(shared, "jobs_guarded", "scope", vec!["tenant", "system"]),
    );
    let waiting = reasons().map(|reason| {
        (vec![("reason", reason.to_owned())], float(survey.waiting.get(reason).copied().unwrap_or_default()))
    });
    to.family(ConstGauge::new, "erasure_jobs_waiting", "Jobs that are parked now", waiting);
    let oldest =
        survey.oldest_wait.iter().map(|(reason, since)| (vec![("reason", (*reason).to_owned())], seconds(*since)));
    to.family(
        ConstGauge::new,
        "erasure_oldest_wait_timestamp_seconds",
        "The last progress of the parked job that waits longest",
        oldest,
    );
    to.family(
        ConstCounter::new,
        "erasure_long_waits_told",
        "Reports of long waits",
        counts_by(shared, "long_waits", "reason", reasons().to_vec()),
    );
    to.gauge("erasure_jobs_open", "Accepted jobs that have not ended", float(survey.open));
    let in_hand = float(engine.jobs_in_hand() as u64);
    to.gauge("erasure_jobs_in_hand", "Jobs in hand now", in_hand);
    let due = survey.oldest_due_at.map(seconds);
    to.gauge("erasure_oldest_due_timestamp_seconds", "The due time of the most urgent open job", due);
    to.gauge("erasure_jobs_at_risk", "Open jobs that are due soon", float(survey.at_risk));
    to.gauge("erasure_jobs_overdue", "Open jobs whose due time has passed", float(survey.overdue));
    let systems = survey.forecast.systems.iter();
    let will_miss = systems.map(|(name, system)| (vec![("system", name.clone())], float(system.will_miss)));
    to.family(
        ConstGauge::new,
        "erasure_system_jobs_will_miss",
        "Open jobs that will be late because of the system",
        will_miss,
    );
    to.gauge("erasure_jobs_will_miss", "Open jobs that will be late", float(survey.forecast.will_miss));
    let figures = engine.figures();
    to.counted("erasure_attempts_failed", "Failed attempts at steps", &figures.failed_attempts);
    to.counted("erasure_jobs_doubtful", "Jobs resumed after a crash with a call in doubt", &figures.doubts);
    Ok(())
}

/// The counts of open jobs, cached. The cache grows older if the counts cost more: they take at most a twentieth of a
/// thread's time. The greatest age is `survey_max_age`.
pub(super) async fn survey(shared: &Shared) -> Result<Survey, Problem> {
    let mut cache = shared.survey.lock().await;
    if let Some(cached) = &*cache
        && cached.at.elapsed() < (cached.cost * 20).min(shared.ops.settings.survey_max_age)
    {
        return Ok(cached.survey.clone());
    }
    let (engine, began) = (Arc::clone(&shared.ops.engine), Instant::now());
    let survey = tokio::task::spawn_blocking(move || engine.survey()).await??;
    *cache = Some(CachedSurvey { at: Instant::now(), cost: began.elapsed(), survey: survey.clone() });
    Ok(survey)
}

/// The depth of a queue, if the broker answers in time.
pub(super) async fn depth(shared: &Shared, queue: &'static str) -> Option<u64> {
    let broker = shared.ops.engine.broker();
    tokio::time::timeout(DEPTH_TIMEOUT, broker.depth(queue)).await.ok().flatten()
}

/// `ok`, and every kind of failure.
fn results() -> Vec<&'static str> {
    let kinds = [
        FailureKind::Unavailable,
        FailureKind::RateLimited,
        FailureKind::Ambiguous,
        FailureKind::UnauthorisedOurs,
        FailureKind::UnauthorisedTheirs(InputKind::Confirmation),
        FailureKind::Refused,
        FailureKind::Rejected,
        FailureKind::Unreadable,
    ];
    std::iter::once("ok").chain(kinds.map(FailureKind::as_str)).collect()
}

fn approvals(shared: &Shared, to: &mut Scrape) -> Result<(), Problem> {
    let (count, first) = shared.ops.engine.undecided()?;
    to.gauge("erasure_approvals_waiting", "Jobs that wait for an approval", float(count as u64));
    let first = first.map(seconds);
    to.gauge("erasure_oldest_approval_timestamp_seconds", "The start of the longest wait for an approval", first);
    Ok(())
}

fn systems(shared: &Shared, to: &mut Scrape) {
    let gates = shared.ops.engine.gates();
    let counts = shared.ops.engine.figures().labelled();
    let requests = gates.keys().flat_map(|system| {
        let counts = &counts;
        results().into_iter().map(move |result| {
            let is = |(family, of, word, _): &&(&str, String, &str, u64)| {
                *family == "system_requests" && of == system && *word == result
            };
            let count = counts.iter().find(is).map_or(0, |(.., count)| *count);
            (vec![("system", system.clone()), ("result", result.to_owned())], float(count))
        })
    });
    to.family(ConstCounter::new, "erasure_system_requests", "Calls to a system, by result", requests);
    let views: Vec<_> = gates.iter().map(|(name, gate)| (name, gate.view())).collect();
    let each = |value: &dyn Fn(&crate::engine::gate::GateView) -> f64| -> Vec<(Labels, f64)> {
        views.iter().map(|(name, view)| (vec![("system", (*name).clone())], value(view))).collect()
    };
    let held = each(&|view| f64::from(view.held.is_some()));
    to.family(ConstGauge::new, "erasure_system_held", "1 while a system is held", held);
    let open = each(&|view| f64::from(view.breaker_open));
    to.family(ConstGauge::new, "erasure_system_breaker_open", "1 while the breaker is open after failed calls", open);
    let count = |view: &crate::engine::gate::GateView, what: trouble::ImpairmentKind| {
        float(view.troubles.iter().filter(|trouble| trouble.what == what).count() as u64)
    };
    let paused = each(&|view| count(view, trouble::ImpairmentKind::Paused));
    to.family(ConstGauge::new, "erasure_system_paused", "1 while a system asks for a long pause", paused);
    let steps = each(&|view| count(view, trouble::ImpairmentKind::StepFailing));
    to.family(ConstGauge::new, "erasure_system_steps_failing", "Steps that fail for one job after another", steps);
    let line = each(&|view| float(view.line as u64));
    to.family(ConstGauge::new, "erasure_system_jobs_in_line", "Jobs parked for a system's rate or slots", line);
}

async fn messages(shared: &Shared, to: &mut Scrape) -> Result<(), Problem> {
    let engine = &shared.ops.engine;
    let figures = engine.figures();
    to.counted("erasure_deliveries", "Deliveries taken from the broker", &figures.deliveries);
    to.counted("erasure_deliveries_lost", "Deliveries whose channel was lost", &figures.lost);
    to.counted("erasure_messages_rejected", "Messages that never became a job", &figures.rejected);
    to.family(
        ConstCounter::new,
        "erasure_messages_unauthorised",
        "Messages whose sender has no right to the request",
        counts_by(shared, "unauthorised", "cause", CAUSES.to_vec()),
    );
    to.family(
        ConstCounter::new,
        "erasure_messages_mended",
        "Messages that were unreadable for AMQP clients and were changed on their way in",
        counts_by(shared, "messages_mended", "queue", vec!["jobs", "control"]),
    );
    to.family(
        ConstCounter::new,
        "erasure_dead_letters_aged",
        "Dead letters above the age limit: notices of removal, and removals",
        counts_by(shared, "dead_letters_aged", "what", vec!["told", "removed"]),
    );
    to.family(
        ConstCounter::new,
        "erasure_decisions",
        "Operators' decisions carried out at this worker, whichever worker received them",
        counts_by(shared, "decisions", "what", What::WORDS.to_vec()),
    );
    let unpublished = float(engine.decisions_unpublished()? as u64);
    to.gauge("erasure_decisions_untold", "Decisions that the broker has not confirmed yet", unpublished);
    let parked = engine.parked().view();
    let missing = float(parked.missing.len() as u64);
    to.gauge("erasure_parked_copies_missing", "Parked copies that were not redelivered in time", missing);
    let short = Tier::ALL.map(|tier| {
        let missing = parked.short.iter().find(|(of, _)| *of == tier).map_or(0, |(_, missing)| *missing);
        (vec![("queue", format!("wait.{}", tier.label()))], float(missing))
    });
    to.family(ConstGauge::new, "erasure_parked_copies_short", "Parked copies that are missing on a wait queue", short);
    to.counted("erasure_copies_older_used", "Older copies used because the newest was gone", &figures.older_used);
    to.counted("erasure_copies_stale", "Older copies of a job, acked without a call", &figures.stale);
    to.counted(
        "erasure_control_replaced",
        "New control streams found in the place of the old one, and read from the start",
        &figures.control_replaced,
    );
    to.counted(
        "erasure_cancellations_unreadable",
        "Unreadable cancellations, published as dead letters",
        &figures.cancels_unreadable,
    );
    to.counted("erasure_events_published", "Events published and confirmed", &figures.events);
    to.counted("erasure_events_repeated", "Final events repeated for a publisher", &figures.repeated);
    to.counted("erasure_dead_letters_published", "Dead letters published and confirmed", &figures.dead_letters);
    to.counted("erasure_publish_retries", "Repeated publishes", &figures.publish_retries);
    let broker = engine.broker();
    let (jobs, letters, unrouted) =
        tokio::join!(depth(shared, "jobs"), depth(shared, "dead-letters"), depth(shared, "events.unrouted"));
    let (jobs, letters, unrouted) = (jobs.map(float), letters.map(float), unrouted.map(float));
    to.gauge("erasure_jobs_queued", "Messages in the job queue", jobs);
    to.gauge("erasure_dead_letters", "Messages in the dead-letter queue", letters);
    to.gauge("erasure_events_unrouted", "Events for which no queue was bound", unrouted);
    let tallies = broker.tallies();
    to.counter(
        "erasure_broker_links_lost_idle",
        "Connections to the broker that ended before any of their deliveries was settled",
        tallies.links_lost_idle,
    );
    to.counter("erasure_control_skipped", "Skipped messages of the control stream", tallies.control_skipped);
    to.counter(
        "erasure_broker_names_restored",
        "Missing exchanges and queues that were declared again",
        tallies.names_restored,
    );
    let is_standby = broker.standby().is_some();
    to.gauge("erasure_standby", "1 while another consumer gets the deliveries", f64::from(is_standby));
    let is_up = *broker.link().borrow() == Link::Up;
    to.gauge("erasure_broker_up", "1 while connected to the broker", f64::from(is_up));
    Ok(())
}

fn process(shared: &Shared, to: &mut Scrape) {
    let engine = &shared.ops.engine;
    let stats = engine.store().stats();
    to.counter("erasure_store_batches", "Batches written to the store", stats.batches);
    to.counter("erasure_store_syncs", "Syncs of the store to the disk", stats.syncs);
    to.counter("erasure_store_writes", "Single writes to the store", stats.writes);
    to.gauge("erasure_store_size_bytes", "Bytes of the store on the disk", float(stats.bytes_on_disk));
    #[allow(clippy::cast_precision_loss, reason = "the format's numbers are floats")]
    let jump = Steady::of_process().jump().map_or(0.0, |by| by.as_secs() as f64);
    to.gauge("erasure_clock_jump_seconds", "The clock's difference from the time in use", jump);
    let created = engine.store().get(Table::Meta, CREATED_KEY).ok().flatten();
    let created = created.and_then(|bytes| bytes.try_into().ok()).map(|bytes| float(u64::from_be_bytes(bytes)));
    to.gauge("erasure_store_created_timestamp_seconds", "The creation of the store", created);
    let is_moved = shared.ops.settings.store_moved_aside.is_some();
    to.gauge("erasure_store_moved_aside", "1 if this start moved a damaged store aside", f64::from(is_moved));
    let degraded = Health::of(shared).counts();
    let degraded = degraded.into_iter().map(|(what, count)| (vec![("what", what.to_owned())], float(count)));
    to.family(ConstGauge::new, "erasure_degraded", "Faults listed in `/readyz` as degraded", degraded);
    to.gauge("erasure_intake_stalled", "1 while store or broker stop the intake", f64::from(engine.is_stalled()));
    to.counter("erasure_log_lines_lost", "Log lines lost because stderr was not read in time", lines::lost());
    to.gauge(
        "erasure_start_timestamp_seconds",
        "The start of the ops API",
        shared.began_at.as_duration().as_secs_f64(),
    );
    let build = vec![("version", env!("CARGO_PKG_VERSION").to_owned())];
    to.register("erasure_build", "The worker's version", Info::new(build));
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# HELP a_bytes A gauge with a unit.
# TYPE a_bytes gauge
# UNIT a_bytes bytes
a_bytes 1.5
# HELP b An unknown value.
# TYPE b gauge
# HELP c A counter.
# TYPE c counter
c_total 2.0
# HELP d Counters by label.
# TYPE d counter
d_total{of=\"y\"} 0.0
d_total{of=\"x\"} 3.0
# HELP e_seconds Gauges by label.
# TYPE e_seconds gauge
# UNIT e_seconds seconds
e_seconds{of=\"x\",and=\"z\"} -1.0
# HELP f Labels.
# TYPE f info
f_info{version=\"1\"} 1
# EOF
";

    #[test]
    fn each_kind_of_metric_has_its_form_and_samples_keep_their_order() {
        let label = |name: &'static str, value: &str| (name, value.to_owned());
        let mut to = Scrape::default();
        to.gauge("a_bytes", "A gauge with a unit", 1.5);
        to.gauge("b", "An unknown value", None);
        to.counter("c", "A counter", 2);
        let counts = [(vec![label("of", "y")], 0.0), (vec![label("of", "x")], 3.0)];
        to.family(ConstCounter::new, "d", "Counters by label", counts);
        let values = [(vec![label("of", "x"), label("and", "z")], -1.0)];
        to.family(ConstGauge::new, "e_seconds", "Gauges by label", values);
        to.register("f", "Labels", Info::new(vec![label("version", "1")]));
        assert_eq!(to.text().unwrap(), TEXT);
    }
}
