//! The search for what was planted: no identifier, proof or secret may stand in a log, an event or an address, but for
//! what the file declares.

use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

use erasure_connector::model::{Call, Source, Template};
use erasure_connector::stand_in::Part;
use tracing::instrument::WithSubscriber as _;

use super::bench::SYSTEM;
use super::run::{Broken, Ended, Plan};
use super::trials::{Trials, all};
use crate::job::event::{About, Frame};
use crate::job::{At, JobOutcome, JobRecord, TargetOutcome};

/// Everything that is logged, whatever its level.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Runs every scenario once more, and searches.
pub(super) async fn tried(trials: &mut Trials<'_>) {
    let planted = trials.bench.planted();
    for scenario in all(trials.bench) {
        if trials.is_enough() {
            return;
        }
        let log = Log::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::TRACE)
            .with_span_events(tracing_subscriber::fmt::format::FmtSpan::FULL)
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .finish();
        let ended = trials.run("the canary", &scenario, Plan::default()).with_subscriber(subscriber).await;
        let Some(ended) = ended else { continue };
        let logged = String::from_utf8_lossy(&log.0.lock().unwrap_or_else(PoisonError::into_inner)).into_owned();
        let told = event(trials, &ended);
        for (what, value) in &planted {
            for (place, text) in [("a log", &logged), ("an event", &told)] {
                trials.report.counts.searched += 1;
                if text.contains(value.as_str()) {
                    found(trials, format!("{what} stands in {place}"));
                }
            }
            for made in &ended.made {
                trials.report.counts.searched += 1;
                if made.address.contains(value.as_str()) && !is_declared(trials, &made.parts, what) {
                    found(
                        trials,
                        format!("{what} stands in the address of {}, which the file does not declare", made.names),
                    );
                }
            }
        }
    }
}

fn found(trials: &mut Trials<'_>, what: String) {
    trials.broken("the canary", Broken { what, story: Vec::new() });
}

/// True if the file writes a value of this source into the part's address, or into that of another part there.
fn is_declared(trials: &Trials<'_>, parts: &[Part], what: &str) -> bool {
    let (file, source) = (trials.file, if what.starts_with("the secret") { Source::Secret } else { Source::Id });
    let has = |template: &Template| {
        template.0.iter().any(|part| {
        matches!(part, erasure_connector::model::Part::Slot(slot) if slot.source == source && what.ends_with(&slot.name))
    })
    };
    let calls = parts.iter().filter_map(|part| -> Option<&Call> {
        match part {
            Part::Probe => Some(&file.probe.call),
            Part::Read(read) => file.reads.get(*read)?.call.as_ref(),
            Part::Act(act) => Some(&file.acts.get(*act)?.call),
        }
    });
    calls.into_iter().any(|call| has(&call.path) || call.query.iter().any(|(_, value)| has(value)))
}

/// The event and the receipt's text at the end of a run.
fn event(trials: &Trials<'_>, ended: &Ended) -> String {
    let now = At(1_795_341_600_000);
    let record = JobRecord {
        identity: vec![1],
        run: 1,
        seq: 1,
        body: vec![2],
        copy: 0,
        park_written: 0,
        park_confirmed: 0,
        opened_at: now,
        requested_at: ended.job.requested_at.into(),
        due_at: ended.job.due_at.map(At::from),
        regulation: ended.job.regulation.clone(),
        systems: vec![SYSTEM.to_owned()],
        subject_ref: "s-0123".to_owned(),
        waiting: None,
        announced: Vec::new(),
        owed: None,
        lasting: Default::default(),
        seen: Default::default(),
        stands: Default::default(),
        waits_at: None,
    };
    let outcome = match ended.end.outcome {
        TargetOutcome::Previewed => JobOutcome::Previewed,
        outcome if outcome.is_erased() || outcome == TargetOutcome::Absent => JobOutcome::Completed,
        _ => JobOutcome::Failed,
    };
    let frame = Frame { environment: "test", traceparent: None, now };
    let (targets, rules) = ([ended.state.clone()], [&trials.bench.rules]);
    let about = About { job: &ended.job, record: &record, targets: &targets, rules: &rules };
    String::from_utf8_lossy(&about.ended(&frame, outcome).event.body).into_owned()
}
