//! The context of a command: the configuration, the worker's ops API, and the outputs.
//!
//! The rule it keeps: with `--json` the worker's answer is printed unchanged. A refusal goes to `err`, without control
//! characters.

use std::io::{self, BufRead, Write};
use std::path::PathBuf;

use secrecy::SecretString;
use serde_json::{Value, json};

use super::Exit;
use super::common::{OneJob, OpsClient, Output};
use super::print::{count, list, plain};
use crate::app;
use crate::config::{Config, ConfigError, Surroundings};
use crate::ops::client::{Body, ClientError, OpsApi};

/// The variable with the token, if no file is given.
const TOKEN_VARIABLE: &str = "ERASURE_OPS_TOKEN";
/// The most jobs in one answer of the worker.
const PAGE: usize = 500;

/// The context of a command.
pub struct Context<'a> {
    /// The configuration file of the arguments.
    pub config: Option<PathBuf>,
    /// The process's variables and names.
    pub surroundings: Surroundings,
    /// stdin.
    pub input: &'a mut (dyn BufRead + Send),
    /// The output for results.
    pub out: &'a mut (dyn Write + Send),
    /// The output for everything else.
    pub err: &'a mut (dyn Write + Send),
}

impl Context<'_> {
    /// The configuration, checked so that a worker could start with it.
    ///
    /// # Errors
    /// All its faults.
    pub fn load(&self) -> Result<Config, ConfigError> {
        Config::load(self.config.as_deref(), &self.surroundings).and_then(app::usable)
    }

    /// A client for the worker of the arguments.
    ///
    /// # Errors
    /// The address or the token's file cannot be used.
    pub(super) fn connect(&self, args: &OpsClient) -> Result<OpsApi, ClientError> {
        let token = match &args.token_file {
            Some(path) => Some(std::fs::read_to_string(path).map_err(|error| {
                ClientError::Setting(format!("--token-file {}: cannot be read: {}", path.display(), error.kind()))
            })?),
            None => self.surroundings.variables.get(TOKEN_VARIABLE).cloned(),
        };
        let token = token.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
        OpsApi::new(args.url.clone(), token.map(SecretString::from))
    }

    /// Reads from the worker.
    pub(super) async fn get(
        &self,
        args: &OpsClient,
        path: &[&str],
        query: &[(&str, Option<String>)],
    ) -> Result<Value, ClientError> {
        self.connect(args)?.get(path, query).await
    }

    /// Sends a command to the worker.
    pub(super) async fn post(&self, args: &OpsClient, path: &[&str], body: Body) -> Result<Value, ClientError> {
        self.connect(args)?.post(path, body).await
    }

    /// A request about one job: `/v1/<what>/<tenant>/<id>`, with an action below it.
    pub(super) async fn ask_one(&self, args: &OneJob, what: &str, action: Option<&str>) -> Result<Value, ClientError> {
        let (tenant, id) = args.job.key().map_err(ClientError::Setting)?;
        let id = id.to_string();
        match action {
            None => self.get(&args.ask.ops, &["v1", what, tenant, &id], &[]).await,
            Some(action) => self.post(&args.ask.ops, &["v1", what, tenant, &id, action], Body::Empty).await,
        }
    }

    /// Requests jobs page by page: a page of a filtered list may contain few jobs or none.
    pub(super) async fn pages(
        &self,
        args: &OpsClient,
        filter: &[(&str, Option<String>)],
        mut after: Option<String>,
        limit: usize,
    ) -> Result<Value, ClientError> {
        let api = self.connect(args)?;
        let (mut jobs, mut unreadable) = (Vec::new(), 0);
        loop {
            let page = [("after", after), ("limit", Some((limit - jobs.len()).min(PAGE).to_string()))];
            let query: Vec<_> = filter.iter().cloned().chain(page).collect();
            let answer = api.get(&["v1", "jobs"], &query).await?;
            jobs.extend_from_slice(list(&answer, "jobs"));
            unreadable += count(&answer, "unreadable");
            after = answer.get("next").and_then(Value::as_str).map(str::to_owned);
            if after.is_none() || jobs.len() >= limit {
                return Ok(json!({ "jobs": jobs, "next": after, "unreadable": unreadable }));
            }
        }
    }

    /// Prints an error. Arguments that the worker does not accept are a usage error.
    pub(super) fn report_error(&mut self, error: &ClientError) -> io::Result<Exit> {
        writeln!(self.err, "{}", plain(&error.to_string()))?;
        Ok(match error {
            ClientError::Setting(_) | ClientError::Refused { status: 400 | 401, .. } => Exit::Usage,
            ClientError::Unreachable { .. } | ClientError::Refused { .. } | ClientError::Stranger { .. } => {
                Exit::Failed
            }
        })
    }

    /// Prints the worker's answer: unchanged with `--json`, else by `show`; or prints the error.
    pub(super) fn print(
        &mut self,
        answer: Result<Value, ClientError>,
        output: Output,
        show: impl FnOnce(&Value, &mut Self) -> io::Result<()>,
    ) -> anyhow::Result<Exit> {
        self.print_then(answer, output, show, |_, _| Ok(Exit::Done))
    }

    /// Like [`Context::print`], for an answer that may report a problem: `end` prints it and decides the exit code.
    pub(super) fn print_then(
        &mut self,
        answer: Result<Value, ClientError>,
        output: Output,
        show: impl FnOnce(&Value, &mut Self) -> io::Result<()>,
        end: impl FnOnce(&Value, &mut Self) -> io::Result<Exit>,
    ) -> anyhow::Result<Exit> {
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => return Ok(self.report_error(&error)?),
        };
        if output.json {
            writeln!(self.out, "{answer:#}")?;
        } else {
            show(&answer, self)?;
        }
        Ok(end(&answer, self)?)
    }
}
