//! `demo`: a demonstration on this machine: stand-ins that misbehave, a worker on an embedded queue that is killed
//! twice, persons who give input when asked, and a verdict from the stand-ins' ledger.
//!
//! The rule it keeps: the worker is a separate process, killed by SIGKILL. All counts come from the ledger and the
//! events, not from the worker.

mod jobs;
mod queue;
mod report;
mod subscriber;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use tokio::process::{Child, Command};

use self::jobs::{Case, OTP_RESEND_AFTER};
use self::queue::Queue;
use self::report::Report;
use self::subscriber::{Question, Status, ended, statuses};
use super::common::Output;
use super::{Context, Exit};
use crate::app;
use crate::config::{Config, Surroundings};
use crate::sandbox::{FaultPlan, RunningSandbox, Sandbox};

/// The most rounds of input; each round answers all open questions.
const ROUNDS: usize = 12;
/// The time after which another one-time password can be requested, and a second.
const ANOTHER_CODE: Duration = OTP_RESEND_AFTER.saturating_add(Duration::from_secs(1));
/// The interval between messages about a wait.
const WAITING: Duration = Duration::from_secs(15);
/// The demonstration fails if the worker makes no progress for this long.
const PATIENCE: Duration = Duration::from_secs(180);

/// `demo`
#[derive(Debug, Args)]
pub struct Options {
    /// How many jobs.
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    jobs: u32,
    /// A RabbitMQ to use instead of the embedded queue.
    #[arg(long, value_name = "URL")]
    amqp_url: Option<String>,
    /// Makes faults and their order repeatable.
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u64>,
    /// Keep the events and the public keys in this folder, for `receipt verify`.
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    #[command(flatten)]
    output: Output,
}

impl Options {
    /// Runs the demonstration in a temporary folder.
    pub(super) async fn run(self, ctx: &mut Context<'_>) -> Result<Exit> {
        let dir = Folder::new()?;
        let seed = self.seed.unwrap_or(1);
        let sandbox = Sandbox::start(([127, 0, 0, 1], 0).into()).await?;
        let now = Timestamp::now();
        let mut cases: Vec<Case> = (0..u64::from(self.jobs)).map(|number| Case::new(number, now)).collect();
        cases.iter().for_each(|case| case.add_to(sandbox.sandbox()));
        sandbox.sandbox().set_faults(FaultPlan::misbehave(seed));
        let stage = Stage::set(dir.0.clone(), &sandbox, &self).await?;

        stage.print(format!("stand-ins of the four systems on {}, misbehaving (seed {seed})", sandbox.addr));
        let began = Instant::now();
        let mut crashes = 0;
        stage.submit(cases.iter()).await?;
        for part in [4, 2] {
            // Killed during its work, after a quarter and after half of the events.
            if stage.killed_at(cases.len() / part).await? {
                crashes += 1;
                stage
                    .print(format!("killed the worker with SIGKILL ({crashes}); starting it again on the same folder"));
            }
        }
        stage.work(cases.len()).await?;
        for _ in 0..ROUNDS {
            let asked = stage.answer(&mut cases, &sandbox).await?;
            if asked == 0 {
                break;
            }
            stage.work(cases.len()).await?;
        }
        stage.bar.finish_and_clear();
        let report = Report::draw_up(&cases, sandbox.sandbox(), &stage.events()?, crashes, began.elapsed());
        report.print(self.output.json, ctx.out)?;
        sandbox.stop().await;
        if let Some(folder) = &self.keep {
            stage.keep(folder).with_context(|| folder.display().to_string())?;
        }
        stage.queue.close().await?;
        if !report.holds() {
            keep_log(&dir.0, ctx.out)?;
            return Ok(Exit::Failed);
        }
        Ok(Exit::Done)
    }
}

/// A folder that is removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Folder> {
        let path = std::env::temp_dir().join(format!("erasure-worker-demo-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir_all(&path).with_context(|| path.display().to_string())?;
        Ok(Folder(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // A failed removal only leaves the folder; the demonstration itself is over.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The demonstration's queue, files and progress.
struct Stage {
    queue: Queue,
    dir: PathBuf,
    config: PathBuf,
    bar: ProgressBar,
    /// The `needs_input` events that were answered.
    answered: RefCell<BTreeSet<String>>,
}

impl Stage {
    async fn set(dir: PathBuf, sandbox: &RunningSandbox, args: &Options) -> Result<Stage> {
        let config = dir.join("erasure-worker.toml");
        let prefix = format!("erasure-demo-{}", uuid::Uuid::new_v4().simple());
        let amqp = args.amqp_url.as_deref().map(|url| (url, prefix.as_str()));
        let text = jobs::configuration(&format!("http://{}", sandbox.addr), &dir.display().to_string(), amqp);
        std::fs::write(&config, text)?;
        std::fs::write(dir.join("master.key"), crate::seal::MasterKey::generate().as_bytes())?;
        // Drawn on a terminal only.
        let bar = ProgressBar::new(u64::from(args.jobs));
        let style = ProgressStyle::with_template("{bar:40} {pos}/{len} final events, {elapsed}")?;
        bar.set_style(style);
        let queue = match amqp {
            None => Queue::Files,
            Some((url, prefix)) => Queue::amqp(url, prefix, dir.join("events.ndjson")).await?,
        };
        Ok(Stage { queue, dir, config, bar, answered: RefCell::default() })
    }

    /// Copies the events, and the keys to check their receipts, to a folder.
    fn keep(&self, folder: &Path) -> Result<()> {
        std::fs::create_dir_all(folder)?;
        std::fs::copy(self.dir.join("events.ndjson"), folder.join("events.ndjson"))?;
        let keyring = app::keyring(&Config::load(Some(&self.config), &Surroundings::default())?)?;
        std::fs::write(folder.join("jwks.json"), format!("{:#}\n", keyring.public_keys()))?;
        Ok(())
    }

    fn print(&self, what: String) {
        if self.bar.is_hidden() {
            let _ = writeln!(std::io::stderr(), "{what}");
        } else {
            self.bar.println(what);
        }
    }

    async fn submit<'a>(&self, cases: impl Iterator<Item = &'a Case>) -> Result<()> {
        let jobs: Vec<_> = cases.map(Case::job).collect();
        self.queue.submit(&jobs, &self.dir.join("jobs.ndjson")).await
    }

    /// Runs the worker until every job has ended or needs input.
    async fn work(&self, jobs: usize) -> Result<()> {
        let mut worker = self.worker()?;
        if matches!(self.queue, Queue::Files) {
            worker.wait().await?;
            return Ok(());
        }
        let began = Instant::now();
        while self.at_rest()? < jobs {
            if began.elapsed() > PATIENCE || worker.try_wait()?.is_some() {
                bail!("the worker makes no progress; its log is {}", self.dir.join("worker.log").display());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        if let Some(pid) = worker.id().and_then(|pid| rustix::process::Pid::from_raw(pid.cast_signed())) {
            rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        }
        let status = worker.wait().await?;
        self.print(format!("asked the worker to drain: it ended with {status}"));
        Ok(())
    }

    /// The number of jobs that have ended or have an unanswered question.
    fn at_rest(&self) -> Result<usize> {
        let answered = self.answered.borrow();
        let is_at_rest = |status: &Status| match status {
            Status::Ended => true,
            Status::NeedsInput(question) => !answered.contains(&question.id),
        };
        Ok(statuses(&self.events()?).values().filter(|status| is_at_rest(status)).count())
    }

    /// Starts the worker as a separate process.
    fn worker(&self) -> Result<Child> {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.dir.join("worker.log"))?;
        let mut command = Command::new(std::env::current_exe()?);
        command
            .arg(self.queue.command())
            .args([Path::new("--config"), &self.config])
            .env_remove("ERASURE_CONFIG")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true);
        if matches!(self.queue, Queue::Files) {
            command.args([Path::new("--input"), &self.dir.join("jobs.ndjson")]);
            command.args([Path::new("--events"), &self.dir.join("events.ndjson")]);
        }
        Ok(command.spawn()?)
    }

    /// Runs the worker until this many jobs have ended, then kills it. `false`: the worker ended before.
    async fn killed_at(&self, ended: usize) -> Result<bool> {
        let mut worker = self.worker()?;
        let began = Instant::now();
        let mut tick = tokio::time::interval(Duration::from_millis(5));
        loop {
            if self.final_events()? >= ended {
                // SIGKILL: no handler runs, nothing is flushed.
                worker.kill().await?;
                return Ok(true);
            }
            if worker.try_wait()?.is_some() {
                return Ok(false);
            }
            if began.elapsed() > PATIENCE {
                bail!("the worker makes no progress; its log is {}", self.dir.join("worker.log").display());
            }
            tick.tick().await;
        }
    }

    fn events(&self) -> Result<Vec<Value>> {
        let text = std::fs::read_to_string(self.dir.join("events.ndjson")).unwrap_or_default();
        // The kill may have cut the last line; the worker writes it again.
        Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
    }

    fn final_events(&self) -> Result<usize> {
        let count = self.events()?.iter().filter(|event| event["data"]["final"] == true).count();
        self.bar.set_position(count as u64);
        Ok(count)
    }

    /// Gives the input for the `needs_input` events, and publishes these jobs again. A person without a one-time
    /// password requests another one after all others have answered.
    async fn answer(&self, cases: &mut [Case], sandbox: &RunningSandbox) -> Result<usize> {
        let jobs = statuses(&self.events()?);
        self.bar.set_position(ended(&jobs) as u64);
        let question = |case: &Case| match jobs.get(&case.job_id.to_string()) {
            Some(Status::NeedsInput(question)) => Some(question.clone()),
            _ => None,
        };
        let mut asked: Vec<(&mut Case, Question)> =
            cases.iter_mut().filter_map(|case| question(case).map(|question| (case, question))).collect();
        asked.iter_mut().for_each(|(case, _)| case.answer(sandbox.sandbox(), Timestamp::now()));
        self.import(sandbox.sandbox()).await?;
        let (without, with): (Vec<_>, Vec<_>) = asked.into_iter().partition(|(case, _)| case.has_no_code());
        let answered = if with.is_empty() { without } else { with };
        let persons = answered.len();
        if answered.iter().any(|(case, _)| case.has_no_code()) {
            self.wait_for_another_code(answered.iter().filter_map(|(_, question)| question.at).max(), persons).await;
            self.print(format!("persons who request another one-time password: {persons}"));
        } else if persons > 0 {
            self.print(format!("persons who were asked for input and have answered: {persons}"));
        }
        self.answered.borrow_mut().extend(answered.iter().map(|(_, question)| question.id.clone()));
        self.submit(answered.iter().map(|(case, _)| &**case)).await?;
        Ok(persons)
    }

    /// Waits until another one-time password can be requested after the last one, and reports the wait.
    async fn wait_for_another_code(&self, sent_at: Option<Timestamp>, persons: usize) {
        let passed = sent_at.map_or(SignedDuration::ZERO, |sent_at| Timestamp::now().duration_since(sent_at));
        let left = ANOTHER_CODE.saturating_sub(Duration::try_from(passed).unwrap_or_default());
        let until = Instant::now() + left;
        while let Some(left) = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
            self.print(format!(
                "one-time passwords that did not arrive: {persons}. Another can be requested {OTP_RESEND_AFTER:?} after the \
                 last: {} s more",
                left.as_secs() + 1
            ));
            tokio::time::sleep(left.min(WAITING)).await;
        }
    }

    /// Does the operator's work: uploads each deletion file to the platform and settles its result. The worker does not
    /// run meanwhile, so its folder is free.
    async fn import(&self, sandbox: &Sandbox) -> Result<()> {
        let config = Config::load(Some(&self.config), &Surroundings::default())?;
        let keyring = Arc::new(app::keyring(&config)?);
        tokio::task::block_in_place(|| -> Result<()> {
            let built = app::systems(&config, &keyring)?;
            for ledger in built.imports.values() {
                while let Some(file) = ledger.export(None, Timestamp::now())? {
                    let csv = String::from_utf8(file.csv.to_vec())?;
                    let result = sandbox.world(|world| world.loyalty("loyalty").import(&csv, 0, 0));
                    ledger
                        .settle(result.map_err(|error| anyhow::anyhow!("{error:?}"))?.as_bytes(), Timestamp::now())?;
                }
            }
            Ok(())
        })
    }
}

/// Prints the end of the worker's log, after a failure.
fn keep_log(dir: &Path, out: &mut (dyn Write + Send)) -> Result<()> {
    let log = std::fs::read_to_string(dir.join("worker.log")).unwrap_or_default();
    let last: Vec<_> = log.lines().rev().take(40).collect();
    writeln!(out, "\nthe end of the worker's log:")?;
    for line in last.into_iter().rev() {
        writeln!(out, "  {line}")?;
    }
    Ok(())
}
