//! `submit`: checks jobs with the worker's checks, then publishes them with confirms.
//!
//! The rule it keeps: jobs are published only if all of them are valid.

use std::collections::VecDeque;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Args;
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use super::common::Output;
use super::{Context, Exit};
use crate::app;
use crate::broker::spool::gather::{Gather, joined};
use crate::broker::{Broker, Destination, Link, Properties, Publication};
use crate::job::parse::Refusal;
use crate::job::{Accepts, Draft, Invalid, Job, JobKey, Reason};
use crate::seal::Keyring;
use crate::seal::jwe::is_sealed_proof;

/// The time limit for a connection to the broker.
const REACH: Duration = Duration::from_secs(15);

/// `submit`
#[derive(Debug, Args)]
pub struct Options {
    /// Publish the jobs in preview mode: reads only, nothing is erased.
    #[arg(long)]
    preview: bool,
    /// Your name: requests a second operator's approval of the preview, after which exactly its findings are erased.
    #[arg(long, value_name = "WHO", requires = "preview")]
    requested_by: Option<String>,
    /// One job, or one on each line; - for stdin. If there is a fault, it is printed and nothing is published.
    #[arg(value_name = "JOB")]
    job: PathBuf,
    #[command(flatten)]
    output: Output,
}

/// The change of a job before it is published.
enum Mode<'a> {
    /// None.
    Erase,
    /// To a preview.
    Preview,
    /// To an erasure that waits for a second operator's approval of its findings.
    Approval(&'a str),
}

impl Mode<'_> {
    fn by(args: &Options) -> Mode<'_> {
        match &args.requested_by {
            Some(name) => Mode::Approval(name),
            None if args.preview => Mode::Preview,
            None => Mode::Erase,
        }
    }

    /// The job to publish; `None` if it cannot be changed.
    fn apply_to(&self, body: &[u8]) -> Option<Vec<u8>> {
        match self {
            Mode::Erase => Some(body.to_vec()),
            Mode::Preview => as_preview(body),
            Mode::Approval(name) => changed(body, |job| {
                job.insert("approval".to_owned(), json!({ "requested_by": name }));
            }),
        }
    }
}

struct Ready {
    line: u64,
    key: JobKey,
    body: Zeroizing<Vec<u8>>,
}

impl Options {
    /// Publishes one job, or one job for each line.
    pub(super) async fn run(self, ctx: &mut Context<'_>) -> Result<Exit> {
        let config = ctx.load()?;
        let text = Zeroizing::new(read(&self.job)?);
        let text = text.strip_prefix("\u{feff}".as_bytes()).unwrap_or(&text);
        let checks = Checks { accepts: app::accepts(&config), keyring: app::keyring(&config)?, now: Timestamp::now() };
        let (ready, faults) = checks.all(text, &Mode::by(&self));
        for fault in &faults {
            writeln!(ctx.err, "{fault}")?;
        }
        if !faults.is_empty() || ready.is_empty() {
            writeln!(
                ctx.err,
                "nothing was published: {} of {} jobs are not valid",
                faults.len(),
                faults.len() + ready.len()
            )?;
            return Ok(Exit::Usage);
        }
        let broker = app::broker(&config, false).await?;
        if let Err(why) = reach(&*broker).await {
            writeln!(ctx.err, "the broker cannot be reached: {why}")?;
            return Ok(Exit::Failed);
        }
        let mut published = Vec::new();
        for job in &ready {
            let properties = Properties {
                content_type: Some("application/json".to_owned()),
                message_id: Some(job.key.job_id.to_string()),
                ..Properties::default()
            };
            let publication = Publication { to: Destination::Requests, properties, body: job.body.to_vec().into() };
            if let Err(error) = broker.publish(publication).await {
                writeln!(
                    ctx.err,
                    "line {}: {error}; {} of {} jobs were published, submit the rest again",
                    job.line,
                    published.len(),
                    ready.len()
                )?;
                return Ok(Exit::Failed);
            }
            if !self.output.json {
                writeln!(ctx.out, "{}", job.key)?;
            }
            published.push(json!({ "tenant": job.key.tenant, "job_id": job.key.job_id }));
        }
        if self.output.json {
            writeln!(ctx.out, "{:#}", json!({ "published": published }))?;
        }
        broker.close().await;
        if let Some(name) = &self.requested_by {
            writeln!(
                ctx.err,
                "what it will cost, once it is found: erasure-worker approvals report --requested-by {name:?}"
            )?;
        }
        Ok(Exit::Done)
    }
}

/// Waits for the connection to the broker; after the time limit, returns the cause.
pub(super) async fn reach(broker: &dyn Broker) -> Result<(), String> {
    let mut link = broker.link();
    if tokio::time::timeout(REACH, link.wait_for(|link| *link == Link::Up)).await.is_ok() {
        return Ok(());
    }
    Err(match &*broker.link().borrow() {
        Link::Down(why) => why.clone(),
        Link::Up => String::new(),
    })
}

fn read(path: &Path) -> Result<Vec<u8>> {
    if path == Path::new("-") {
        let mut text = Vec::new();
        std::io::stdin().read_to_end(&mut text).context("stdin")?;
        return Ok(text);
    }
    std::fs::read(path).with_context(|| path.display().to_string())
}

/// The inputs of a job's check before it is published; it is the worker's check.
struct Checks {
    accepts: Accepts,
    keyring: Keyring,
    now: Timestamp,
}

impl Checks {
    /// Checks all jobs of a file: one on each line, or each over several lines.
    fn all(&self, text: &[u8], mode: &Mode<'_>) -> (Vec<Ready>, Vec<String>) {
        let (mut gather, mut groups) = (Gather::default(), VecDeque::new());
        for (number, line) in (1..).zip(text.split(|byte| *byte == b'\n')) {
            if !line.trim_ascii().is_empty() {
                gather.push(number, line, &mut groups);
            }
        }
        gather.end(&mut groups);
        let (mut ready, mut faults) = (Vec::new(), Vec::new());
        for group in groups {
            let line = group.first().map_or(1, |(number, _)| *number);
            let body = &Zeroizing::new(joined(&group));
            // A text that is not JSON is reported with its own fault. It is never published unchanged.
            let changed_body = mode.apply_to(body).map(Zeroizing::new);
            let read = match &changed_body {
                Some(changed_body) => self.one(changed_body),
                None => self.one(body).and_then(|_| Err(not_changeable())),
            };
            match read {
                Ok(job) => ready.push(Ready { line, key: job.key, body: changed_body.unwrap_or_default() }),
                Err(refusal) => faults.push(format!("line {line}: {}", refusal.invalid)),
            }
        }
        (ready, faults)
    }

    /// Reads the job as the worker does, with its sealed proofs opened.
    fn one(&self, body: &[u8]) -> Result<Job, Refusal> {
        let mut draft = Draft::read(body, None)?;
        let key = draft.key().cloned();
        let id = key.as_ref().map(|key| key.job_id.to_string()).unwrap_or_default();
        let refusal = |invalid| Refusal { reason: Reason::Invalid, invalid, key: key.clone() };
        draft.open_proofs(|path, text| {
            if !is_sealed_proof(text) {
                return Ok(None);
            }
            let opened = self.keyring.open_proof(text, &id).map(Some);
            opened.map_err(|error| refusal(Invalid::at(path, error.to_string())))
        })?;
        let job = draft.job(&self.accepts)?;
        job.check_times(self.now).map_err(refusal)?;
        Ok(job)
    }
}

/// The refusal of a job that can be read, but not changed.
fn not_changeable() -> Refusal {
    let expected = "is not valid for every JSON parser; leave it out to request a preview or an approval";
    Refusal { reason: Reason::Invalid, invalid: Invalid::at("extensions", expected), key: None }
}

/// The job in preview mode, with another id. With the same id the later erasure would be a repetition of the ended
/// preview, and nothing would be erased.
fn as_preview(body: &[u8]) -> Option<Vec<u8>> {
    changed(body, |job| {
        job.insert("mode".to_owned(), "preview".into());
        if let Some(id) = job.get("job_id").and_then(Value::as_str).and_then(|id| uuid::Uuid::try_parse(id).ok()) {
            job.insert("job_id".to_owned(), uuid::Uuid::new_v5(&id, b"preview").to_string().into());
        }
    })
}

fn changed(body: &[u8], change: impl FnOnce(&mut Map<String, Value>)) -> Option<Vec<u8>> {
    let Ok(Value::Object(mut job)) = serde_json::from_slice::<Value>(body) else { return None };
    change(&mut job);
    Some(Value::Object(job).to_string().into_bytes())
}
