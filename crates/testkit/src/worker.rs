//! A worker process of a test.
//!
//! The rule it keeps: it ends with the test.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

use crate::{PATIENCE, soon};

pub struct Worker {
    child: Child,
    log: PathBuf,
    /// The start of this process's part of the log.
    from: usize,
}

impl Worker {
    /// Starts a worker; its log is appended to `log`.
    pub fn spawn(mut command: Command, log: &Path) -> Worker {
        let file = OpenOptions::new().create(true).append(true).open(log).unwrap();
        let from = file.metadata().unwrap().len() as usize;
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file).kill_on_drop(true);
        Worker { child: command.spawn().expect("setpriv (util-linux)"), log: log.to_owned(), from }
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id().expect("a running worker")
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(self.id().cast_signed()).unwrap(), signal).unwrap();
    }

    /// Ends the process at once, like a power cut.
    pub async fn kill(mut self) {
        self.signal(Signal::KILL);
        self.child.wait().await.unwrap();
    }

    /// Sends the signal to stop.
    pub fn ask_to_stop(&self) {
        self.signal(Signal::TERM);
    }

    /// Waits for the process's end.
    pub async fn ended(&mut self) -> ExitStatus {
        let log = self.log.clone();
        let waited = tokio::time::timeout(PATIENCE, self.child.wait()).await;
        waited.unwrap_or_else(|_| panic!("the worker does not end; see {}", log.display())).unwrap()
    }

    /// Waits for the process's end without a time limit.
    pub async fn ended_some_day(&mut self) -> ExitStatus {
        self.child.wait().await.unwrap()
    }

    /// True while the process runs.
    pub fn is_there(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Expects an orderly stop.
    pub async fn stop(mut self) {
        let status = self.ended_when_asked().await;
        assert!(status.success(), "{status}: {}", self.log());
    }

    /// Sends the signal to stop. False if the process first reached a planned crash.
    pub async fn stops(mut self) -> bool {
        let status = self.ended_when_asked().await;
        assert!(status.success() || status.code().is_none(), "{status}: {}", self.log());
        status.success()
    }

    async fn ended_when_asked(&mut self) -> ExitStatus {
        // A process that has just started does not handle signals yet.
        tokio::select! {
            () = says(&self.log, self.from, "\"working\"") => {}
            _ = self.child.wait() => {}
        }
        if self.is_there() {
            self.ask_to_stop();
        }
        self.ended().await
    }

    /// This process's log.
    pub fn log(&self) -> String {
        logged(&self.log, self.from)
    }

    /// The address of the ops API.
    pub async fn address(&self) -> String {
        self.says("ops API").await;
        let log = self.log();
        let lines = log.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        lines.filter_map(|line| line["listen"].as_str().map(str::to_owned)).next().unwrap()
    }

    /// A value from `/metrics`.
    pub async fn metric(&self, name: &str) -> f64 {
        let page =
            reqwest::get(format!("http://{}/metrics", self.address().await)).await.unwrap().text().await.unwrap();
        let figure = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        figure.unwrap_or_else(|| panic!("no {name} in {page}")).parse().unwrap()
    }

    pub fn log_path(&self) -> &Path {
        &self.log
    }

    /// Waits until `text` is in the log.
    pub async fn says(&self, text: &str) {
        says(&self.log, self.from, text).await;
    }
}

fn logged(log: &Path, from: usize) -> String {
    let bytes = std::fs::read(log).unwrap();
    String::from_utf8_lossy(&bytes[from..]).into_owned()
}

async fn says(log: &Path, from: usize, text: &str) {
    soon(&format!("the log line {text:?}"), async {
        while !logged(log, from).contains(text) {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    })
    .await;
}
