//! Makes a job from a row: the fields of each kind of system, and the job's id.
//!
//! The rule it keeps: the same row of the same file gives the same job. A row that the worker would refuse is never
//! published.

use jiff::Timestamp;
use serde_json::json;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::arguments::Arguments;
use super::columns::{Column, Columns};
use super::options::{CsvMethod, Options};
use crate::job::kinds::Holds;
use crate::job::{Accepts, MemberKey, draft, times};

/// The namespace of these job ids.
const NAMESPACE: Uuid = Uuid::from_u128(0x2d71_4f0b_9c3e_4a86_b1d5_7e60_83fa_1c9e);

/// The id of a file.
pub(crate) fn file_id(digest: &[u8; 32]) -> Uuid {
    Uuid::new_v5(&NAMESPACE, digest)
}

/// The common parts of all jobs of a file.
pub(crate) struct JobTemplate {
    columns: Columns,
    system: String,
    tenant: String,
    environment: String,
    key: String,
    method: CsvMethod,
    fields: Vec<Column>,
    requested_at: Timestamp,
    regulation: Option<String>,
    confirmed_at: Option<Timestamp>,
    preview: bool,
    requested_by: Option<String>,
    ids: Uuid,
    earlier_ids: Uuid,
    arguments: Arguments,
    accepts: Accepts,
}

impl JobTemplate {
    /// The template for these arguments.
    ///
    /// # Errors
    /// An argument does not fit the system; the text names it.
    pub fn new(
        args: &Options,
        accepts: Accepts,
        digest: &[u8; 32],
        changed_at: Timestamp,
    ) -> Result<JobTemplate, String> {
        let requested_at = args.requested_at.unwrap_or(changed_at);
        for (argument, at) in [("--requested-at", Some(requested_at)), ("--confirmed-at", args.confirmed_at)] {
            let whose = if args.requested_at.is_none() && argument == "--requested-at" {
                "the time at which the file was changed "
            } else {
                ""
            };
            let faulty = |why| format!("{argument}: {whose}{why}");
            at.map_or(Ok(()), |at| times::past(at, Timestamp::now())).map_err(faulty)?;
        }
        let known = || accepts.systems.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        let rules = accepts
            .systems
            .get(&args.system)
            .ok_or_else(|| format!("--system: {} is no configured system; configured are {}", args.system, known()))?;
        let columns = Columns::of(rules);
        let fields = columns.chosen(&args.system, &args.key, &args.also)?;
        let import = rules.import_key.is_some() && args.key == MemberKey::Email.as_str();
        let usual = if import { CsvMethod::Import } else { CsvMethod::ProgramApi };
        let method = args.method.unwrap_or(usual);
        if rules.kind.lines().methods.is_empty() && args.method.is_some() {
            return Err(format!("--method: {} has only one method", args.system));
        }
        // A job that waits for an approval is an erasure: without `--requested-by` it would be the same job.
        let is_preview = args.preview && args.requested_by.is_none();
        let mode = if is_preview { "preview" } else { "erase" };
        // Every argument that makes another job is part of the id. An argument that earlier releases left out is added
        // only if it is given, so that their ids do not change.
        let mut settings = format!("/{}/{}/{}/{}/{mode}", args.tenant, args.system, args.key, args.column);
        let ids_of = |settings: &str| Uuid::new_v5(&NAMESPACE, &[digest.as_slice(), settings.as_bytes()].concat());
        let earlier_ids = ids_of(&settings);
        let mut arguments = Arguments::default();
        arguments.add("file", file_id(digest));
        arguments.add("environment", &accepts.environment);
        arguments.add("tenant", &args.tenant);
        arguments.add("system", &args.system);
        arguments.add("key", &args.key);
        arguments.add("column", &args.column);
        if is_preview {
            arguments.add("preview", "yes");
        }
        let columns_of = |are_proofs: bool| {
            let all = fields.iter().zip(&args.also);
            let wanted = all.filter(move |(field, _)| (field.holds == Holds::Proof) == are_proofs);
            wanted.map(|(field, (_, header))| (format!("also {}", field.name), header.clone()))
        };
        let mut details: Vec<(String, String)> = columns_of(false).collect();
        details.extend((method != usual).then(|| ("method".to_owned(), method.as_str().to_owned())));
        details.extend(args.regulation.clone().map(|name| ("regulation".to_owned(), name)));
        details.extend(args.requested_at.map(|at| ("requested-at".to_owned(), at.to_string())));
        details.sort();
        for (name, value) in &details {
            settings += &format!("/{name}={}:{value}", value.len());
            arguments.add(name, value);
        }
        if args.requested_at.is_none() {
            arguments.add_changed_at(changed_at);
        }
        for (name, header) in columns_of(true) {
            arguments.add(&name, header);
        }
        if let Some(at) = args.confirmed_at {
            arguments.add("confirmed-at", at);
        }
        if let Some(name) = &args.requested_by {
            arguments.add("requested-by", name);
        }
        Ok(JobTemplate {
            columns,
            system: args.system.clone(),
            tenant: args.tenant.clone(),
            environment: accepts.environment.clone(),
            key: args.key.clone(),
            method,
            fields,
            requested_at,
            regulation: args.regulation.clone(),
            confirmed_at: args.confirmed_at,
            preview: is_preview,
            requested_by: args.requested_by.clone(),
            ids: ids_of(&settings),
            earlier_ids,
            arguments,
            accepts,
        })
    }

    /// The arguments of the jobs.
    pub fn arguments(&self) -> &Arguments {
        &self.arguments
    }

    /// True if a column of this name is a proof: another one makes the same jobs.
    pub(crate) fn is_proof(&self, name: &str) -> bool {
        self.columns.is_proof(name)
    }

    /// The job id of a line.
    pub fn id(&self, line: u64) -> Uuid {
        Uuid::new_v5(&self.ids, &line.to_be_bytes())
    }

    /// The job id of a line in an earlier release.
    pub(crate) fn earlier_id(&self, line: u64) -> Uuid {
        Uuid::new_v5(&self.earlier_ids, &line.to_be_bytes())
    }

    /// Continues an earlier run: uses its ids and its time of the request.
    pub(crate) fn continue_from(&mut self, earlier: Option<&Arguments>, has_earlier_ids: bool) {
        if has_earlier_ids {
            self.ids = self.earlier_ids;
        }
        if let (Some(at), Some(_)) = (earlier.and_then(Arguments::changed_at), self.arguments.changed_at()) {
            self.requested_at = at;
            self.arguments.add_changed_at(at);
        }
    }

    /// The job of a row: its message, as the worker accepts it.
    ///
    /// # Errors
    /// The worker would refuse it: the text names the field, without its value.
    pub fn job(&self, line: u64, values: &[Zeroizing<String>]) -> Result<Zeroizing<Vec<u8>>, String> {
        let others = self.fields.iter().zip(values[1..].iter().map(|value| value.as_str()));
        let mut target = self.columns.target((&self.key, &values[0]), self.method.as_str(), others);
        target.insert("system".into(), self.system.clone().into());
        let mut job = json!({
            "schema": "erasure.job/v1", "job_id": self.id(line), "tenant": self.tenant,
            "environment": self.environment, "requested_at": self.requested_at.to_string(), "targets": [target],
        });
        if self.preview {
            job["mode"] = "preview".into();
        }
        if let Some(name) = &self.requested_by {
            job["approval"] = json!({ "requested_by": name });
        }
        if let Some(regulation) = &self.regulation {
            job["regulation"] = regulation.as_str().into();
        }
        if let Some(at) = self.confirmed_at {
            job["confirmation"] = json!({ "confirmed_at": at.to_string(), "by": "subject" });
        }
        let body = Zeroizing::new(job.to_string().into_bytes());
        match draft::job(&body, None, &self.accepts) {
            Ok(_) => Ok(body),
            Err(refusal) => Err(refusal.invalid.to_string()),
        }
    }
}
