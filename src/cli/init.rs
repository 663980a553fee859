//! `init`: a folder for a first trial, with a configuration for the sandbox, a key and a job.
//!
//! The rule it keeps: no file is overwritten. If one of the files exists, nothing is written.

use std::fs::DirBuilder;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use clap::Args;
use jiff::{Timestamp, Unit};
use serde_json::{Value, json};
use uuid::Uuid;

use super::keys::{generate, write_new};
use super::{Context, Exit};
use crate::config::example::{self, SANDBOX_ADDRESS};
use crate::sandbox::KINDS;

/// `init`
#[derive(Debug, Args)]
pub struct Options {
    /// The folder to write to; created if it does not exist.
    #[arg(value_name = "DIR", default_value = ".")]
    dir: PathBuf,
    /// Where the sandbox will listen.
    #[arg(long, value_name = "IP:PORT", default_value = SANDBOX_ADDRESS)]
    sandbox: SocketAddr,
}

impl Options {
    pub(super) fn run(self, ctx: &mut Context<'_>) -> anyhow::Result<Exit> {
        Ok(init(&self, Timestamp::now(), ctx.out, ctx.err)?)
    }
}

/// Writes `erasure-worker.toml`, `keys/master.key` (0600) and `job.json`, and prints the next commands.
fn init(args: &Options, now: Timestamp, out: &mut dyn Write, err: &mut dyn Write) -> io::Result<Exit> {
    let dir: PathBuf = args.dir.components().collect();
    let [config, key, job] = ["erasure-worker.toml", "keys/master.key", "job.json"].map(|name| dir.join(name));
    let existing: Vec<&PathBuf> =
        [&config, &key, &job].into_iter().filter(|path| path.symlink_metadata().is_ok()).collect();
    for path in &existing {
        writeln!(err, "{} exists and is not overwritten; move it away, or name another folder", path.display())?;
    }
    if !existing.is_empty() {
        return Ok(Exit::Usage);
    }
    std::fs::create_dir_all(&dir)?;
    DirBuilder::new().recursive(true).mode(0o700).create(dir.join("keys"))?;
    write_new(&key, &format!("{}\n", generate().as_str()), 0o600)?;
    write_new(&config, &example::render(args.sandbox), 0o644)?;
    // One line: so the file is a job for `submit` and also an input for `batch`.
    write_new(&job, &format!("{}\n", example_job(now)), 0o644)?;
    let (config, key, job) = (shell(&config), shell(&key), shell(&job));
    write!(
        out,
        "Wrote {config}, {key} and {job}.

Try it against the stand-ins of the four systems, without a broker:
  erasure-worker config check --config {config}
  erasure-worker sandbox --listen {sandbox}    # in another terminal
  erasure-worker systems check --config {config}
  erasure-worker batch --config {config} --input {job} --events -

With RabbitMQ at the address in the configuration:
  erasure-worker run --config {config}    # in another terminal
  erasure-worker submit --config {config} {job}
",
        sandbox = args.sandbox,
    )?;
    Ok(Exit::Done)
}

/// A job with all four systems, for the person of the stand-ins.
fn example_job(now: Timestamp) -> Value {
    let now = now.round(Unit::Second).unwrap_or(now).to_string();
    json!({
        "schema": "erasure.job/v1",
        "job_id": Uuid::new_v4(),
        "environment": "sandbox",
        "requested_at": now,
        "regulation": "gdpr",
        "confirmation": { "confirmed_at": now, "by": "subject" },
        "targets": KINDS.iter().map(|kind| (kind.example)()).collect::<Vec<_>>(),
    })
}

/// A path, quoted for a shell if necessary.
fn shell(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%".contains(c);
    if text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::config::{Config, Surroundings};

    fn run(dir: &Path) -> (Exit, String, String) {
        let args = Options { dir: dir.to_owned(), sandbox: "127.0.0.1:9999".parse().unwrap() };
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let exit = init(&args, "2028-02-29T23:59:58.6Z".parse().unwrap(), &mut out, &mut err).unwrap();
        (exit, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
    }

    #[test]
    fn the_written_configuration_loads_and_only_its_owner_may_read_the_key() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("a new folder");
        let (exit, out, err) = run(&home);
        assert_eq!((exit, err.as_str()), (Exit::Done, ""));
        let file = home.join("erasure-worker.toml");
        let config = Config::load(Some(&file), &Surroundings::default()).unwrap();
        assert_eq!(config.worker.state_dir, home.join("state"));
        assert!(config.describe().contains("http://127.0.0.1:9999/cleeng/core"));
        let mode = |path: &str| std::fs::metadata(home.join(path)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode("keys/master.key"), mode("keys")), (0o600, 0o700));
        assert!(out.contains(&format!("batch --config '{}'", file.display())), "{out}");
    }

    #[test]
    fn the_written_configuration_reaches_every_stand_in() {
        let dir = tempfile::tempdir().unwrap();
        run(dir.path());
        let text = std::fs::read_to_string(dir.path().join("erasure-worker.toml")).unwrap();
        let written: toml::Table = text.parse().unwrap();
        for kind in &KINDS {
            let needed: toml::Table = (kind.table)("http://127.0.0.1:9999", kind.name).parse().unwrap();
            for (key, value) in needed.iter().filter(|(key, _)| *key != "requests_per_minute") {
                assert_eq!(written["systems"][kind.name].get(key), Some(value), "{}: {key}", kind.name);
            }
        }
    }

    #[test]
    fn the_example_job_is_one_line_and_names_every_configured_system() {
        let dir = tempfile::tempdir().unwrap();
        run(dir.path());
        let text = std::fs::read_to_string(dir.path().join("job.json")).unwrap();
        assert_eq!(text.matches('\n').count(), 1);
        let job: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(job["requested_at"], "2028-02-29T23:59:59Z");
        assert_eq!(job["confirmation"]["confirmed_at"], job["requested_at"]);
        let config = Config::load(Some(&dir.path().join("erasure-worker.toml")), &Surroundings::default()).unwrap();
        let mut named: Vec<_> =
            job["targets"].as_array().unwrap().iter().map(|target| target["system"].as_str()).collect();
        named.sort();
        assert_eq!(named, config.systems.keys().map(|name| Some(name.as_str())).collect::<Vec<_>>());
    }

    #[test]
    fn if_one_file_exists_nothing_is_written() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("job.json"), "mine").unwrap();
        let (exit, out, err) = run(dir.path());
        assert_eq!((exit, out.as_str()), (Exit::Usage, ""));
        assert!(err.contains("job.json exists"), "{err}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        assert_eq!(std::fs::read_to_string(dir.path().join("job.json")).unwrap(), "mine");
    }
}
