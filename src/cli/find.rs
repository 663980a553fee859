//! `jobs find`: finds the jobs about a person, by an identifier that the operator types in.
//!
//! The rule it keeps: the identifier stays in this process. Only pseudonyms are sent. They are made here with the master
//! key: one of the identifier, and one of each job with this identifier only.

use std::io::{BufRead, Read as _, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::Args;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::common::{Ask, name};
use super::members::{Columns, Names, shown};
use super::print::{field, job, list, table};
use super::{Context, Exit};
use crate::app;
use crate::job::kinds::KEYS;
use crate::job::{Accepts, Job, draft};

/// A job has 1 MiB at most.
const LONGEST: u64 = 2 << 20;

/// `jobs find`
#[derive(Debug, Args)]
pub struct Find {
    /// Also find ended jobs at this configured system whose only identifier is this one.
    #[arg(long, value_name = "NAME", requires = "key")]
    system: Option<String>,
    /// What kind of identifier is typed in; needed with --system. For a connector, a database or a webhook: the name of
    /// one of its identifiers.
    #[arg(long, value_name = "KIND", requires = "system", value_parser = Names(&KEYS))]
    key: Option<String>,
    /// A job, as published: finds the jobs that name the person with the same identifiers; - for stdin.
    #[arg(long, value_name = "JOB", conflicts_with_all = ["system", "key"])]
    job: Option<PathBuf>,
    /// The tenant; a job names its own.
    #[arg(long, value_name = "NAME", default_value = "default", value_parser = name)]
    tenant: String,
    #[command(flatten)]
    ask: Ask,
}

impl Find {
    /// Reads an identifier (or a job), and asks the worker for the jobs that name this person.
    pub(super) async fn run(self, ctx: &mut Context<'_>) -> Result<Exit> {
        let config = ctx.load()?;
        let accepts = app::accepts(&config);
        let about = match &self.job {
            Some(path) => from_file(path, ctx.input, &accepts)?,
            None => from_identifier(&self, &accepts, ctx.input, ctx.err)?,
        };
        let (jobs, identifier) = match about {
            Ok(about) => about,
            Err(why) => {
                writeln!(ctx.err, "{why}")?;
                return Ok(Exit::Usage);
            }
        };
        let keyring = app::keyring(&config)?;
        let pseudonyms = |job: &Job| keyring.pseudonyms(&job.key.tenant, &[&job.identity_bytes()]);
        let subjects: Vec<String> = jobs.iter().flat_map(pseudonyms).collect();
        let tenant = jobs.first().map_or(self.tenant.as_str(), |job| &job.key.tenant).to_owned();
        let names = identifier.iter().flat_map(|identifier| keyring.identifier_names(&tenant, identifier));
        let names: Vec<String> = names.map(hex::encode).collect();
        drop((jobs, identifier));
        let filter = [
            ("tenant", Some(tenant)),
            ("subject_ref", (!subjects.is_empty()).then(|| subjects.join(","))),
            ("identifier_ref", (!names.is_empty()).then(|| names.join(","))),
        ];
        let found = ctx.pages(&self.ask.ops, &filter, None, usize::MAX).await;
        let show = |found: &Value, ctx: &mut Context<'_>| {
            let row = |line: &Value| {
                let of = |name: &str| field(line, name);
                vec![job(line), of("state"), of("run"), of("systems"), of("ended_at")]
            };
            let rows: Vec<Vec<String>> = list(found, "jobs").iter().map(row).collect();
            if rows.is_empty() { Ok(()) } else { table(ctx.out, &["JOB", "STATE", "RUN", "SYSTEMS", "ENDED"], &rows) }
        };
        ctx.print_then(found, self.ask.output, show, |found, ctx| {
            if !list(found, "jobs").is_empty() {
                return Ok(Exit::Done);
            }
            let why = match (&self.job, &self.system) {
                (Some(_), _) => "no job that this worker remembers has exactly these identifiers",
                (None, Some(_)) => {
                    "no job that waits or has failed has this identifier, and no other ended job has only this one"
                }
                (None, None) => "no job that waits or has failed has this identifier",
            };
            writeln!(ctx.err, "{why}")?;
            Ok(Exit::Failed)
        })
    }
}

/// Jobs with the identity to search for, and the identifier that was typed in; or the problem.
type About = Result<(Vec<Job>, Option<Zeroizing<String>>), String>;

fn from_file(path: &Path, input: &mut dyn BufRead, accepts: &Accepts) -> Result<About> {
    let mut text = Zeroizing::new(Vec::new());
    if path == Path::new("-") {
        input.take(LONGEST).read_to_end(&mut text).context("stdin")?;
    } else {
        let file = std::fs::File::open(path).with_context(|| path.display().to_string())?;
        file.take(LONGEST).read_to_end(&mut text).with_context(|| path.display().to_string())?;
    }
    // The job id may have been in the message's properties only. Any id is accepted here: it is not searched for.
    let parsed = draft::accepted_job(&text, Some(&uuid::Uuid::nil().to_string()), accepts);
    Ok(parsed.map(|job| (vec![job], None)).map_err(|refusal| refusal.invalid.to_string()))
}

/// The identifier, and every possible job of one target with only this identifier.
fn from_identifier(args: &Find, accepts: &Accepts, input: &mut dyn BufRead, err: &mut dyn Write) -> Result<About> {
    let (Some(system), Some(key)) = (&args.system, &args.key) else {
        let typed = ask("identifier", input, err)?;
        return Ok(if typed.is_empty() {
            Err("nothing was typed in".to_owned())
        } else {
            Ok((Vec::new(), Some(typed)))
        });
    };
    let Some(rules) = accepts.systems.get(system) else {
        let known = accepts.systems.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        return Ok(Err(format!("--system: {system} is no configured system; configured are {known}")));
    };
    let word = key.as_str();
    let columns = Columns::of(rules);
    if !columns.found_by().contains(&word) {
        let known = columns.found_by().join(", ");
        return Ok(Err(format!("--key: a job for {system} cannot name a person by {}, but by {known}", shown(word))));
    }
    let typed = ask(word, input, err)?;
    let identifier = typed.as_str();
    if identifier.is_empty() {
        return Ok(Err("nothing was typed in".to_owned()));
    }
    // A job that needs several identifiers cannot be found by one of them.
    let methods: &[&str] = match (columns.is_enough(word), rules.kind.lines().methods) {
        (false, _) => &[],
        (true, []) => &[""],
        (true, methods) => methods,
    };
    let made = methods.iter().map(|method| {
        let mut target = columns.target((word, identifier), method, std::iter::empty());
        target.insert("system".into(), system.as_str().into());
        let job = json!({
            "schema": "erasure.job/v1", "job_id": uuid::Uuid::nil(), "tenant": args.tenant,
            "environment": accepts.environment, "requested_at": jiff::Timestamp::now().to_string(),
            "targets": [target],
        });
        let body = Zeroizing::new(job.to_string().into_bytes());
        draft::accepted_job(&body, None, accepts)
    });
    let (jobs, refused): (Vec<_>, Vec<_>) = made.partition(Result::is_ok);
    let jobs: Vec<Job> = jobs.into_iter().flatten().collect();
    // Not every method accepts every kind of id: one method is enough.
    match refused.into_iter().find_map(Result::err) {
        Some(refusal) if jobs.is_empty() => Ok(Err(refusal.invalid.to_string())),
        _ => Ok(Ok((jobs, Some(typed)))),
    }
}

/// Reads one line from the terminal, or from a redirected stdin.
fn ask(what: &str, input: &mut dyn BufRead, err: &mut dyn Write) -> Result<Zeroizing<String>> {
    write!(err, "{what}: ")?;
    err.flush()?;
    let mut typed = Zeroizing::new(String::new());
    input.take(LONGEST).read_line(&mut typed).context("stdin")?;
    Ok(Zeroizing::new(typed.trim().to_owned()))
}
