//! The arguments of `submit-csv`.
//!
//! The rule it keeps: a column is always given with the job's field that it fills.

use std::ffi::OsStr;
use std::path::PathBuf;

use clap::builder::{NonEmptyStringValueParser, PossibleValue, TypedValueParser};
use clap::{Arg, Args, Command, ValueEnum};
use jiff::Timestamp;

use crate::cli::common::{Ask, instant, name};
use crate::job::kinds::{FIELDS, KEYS, Word};

/// A value parser for names of which only some are known before the configuration is read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Names(pub(crate) &'static [Word]);

impl TypedValueParser for Names {
    type Value = String;

    fn parse_ref(&self, cmd: &Command, arg: Option<&Arg>, value: &OsStr) -> Result<String, clap::Error> {
        NonEmptyStringValueParser::new().parse_ref(cmd, arg, value)
    }

    /// The built-in names, for the help and the completions. The names of a file are accepted, too.
    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(self.0.iter().map(|word| PossibleValue::new(word.name).help(word.about))))
    }
}

/// The method by which a Loyalty member is deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum CsvMethod {
    /// By the Program API.
    ProgramApi,
    /// By the deletion file.
    Import,
    /// By an operator in the platform's screens.
    Manual,
}

impl CsvMethod {
    /// The word in a job.
    pub const fn as_str(self) -> &'static str {
        match self {
            CsvMethod::ProgramApi => "program_api",
            CsvMethod::Import => "import",
            CsvMethod::Manual => "manual",
        }
    }
}

/// A column without a header may hold anything.
fn header(text: &str) -> Result<String, &'static str> {
    if text.trim().is_empty() { Err("expected a column's header") } else { Ok(text.to_owned()) }
}

/// Another column: what it holds, and its header.
fn also(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').map(|(field, header)| (field.trim(), header.trim()));
    match pair.filter(|(field, header)| !field.is_empty() && !header.is_empty()) {
        Some((field, header)) => Ok((field.to_owned(), header.to_owned())),
        None => Err(format!(
            "expected FIELD=HEADER, where FIELD is {} or, for a connector, a database or a webhook, an identifier or \
             a proof of it",
            FIELDS.each_ref().map(|word| word.name).join(", ")
        )),
    }
}

/// `submit-csv`
#[derive(Debug, Args)]
pub struct Options {
    /// The configured system to erase from.
    #[arg(long, value_name = "NAME")]
    pub system: String,
    /// What the column holds. For a connector, a database or a webhook: the name of one of its identifiers.
    #[arg(long, value_name = "KIND", value_parser = Names(&KEYS))]
    pub key: String,
    /// The column's header.
    #[arg(long, value_name = "HEADER", value_parser = header)]
    pub column: String,
    /// What another column holds: a further identifier, or a proof; may be given several times.
    #[arg(long, value_name = "FIELD=HEADER", value_parser = also)]
    pub also: Vec<(String, String)>,
    /// Loyalty: how members are deleted [default: import if the key is email, else program_api]
    #[arg(long, value_name = "METHOD")]
    pub method: Option<CsvMethod>,
    /// The time of the request: RFC 3339, or a date (midnight UTC) [default: the file's last change]
    #[arg(long, value_name = "TIME", value_parser = instant)]
    pub requested_at: Option<Timestamp>,
    /// The law of the request: gdpr, uk_gdpr, ccpa or a configured one.
    #[arg(long, value_name = "NAME", value_parser = name)]
    pub regulation: Option<String>,
    /// When the persons confirmed that they know what they lose, if a system requires that.
    #[arg(long, value_name = "TIME", value_parser = instant)]
    pub confirmed_at: Option<Timestamp>,
    /// Publish the jobs in preview mode: reads only, nothing is erased.
    #[arg(long)]
    pub preview: bool,
    /// Your name: requests a second operator's approval of the preview, after which exactly its findings are erased.
    #[arg(long, value_name = "WHO", requires = "preview")]
    pub requested_by: Option<String>,
    /// The result file, one row for each member [default: MEMBERS.csv.result.csv]
    #[arg(long, value_name = "FILE")]
    pub result: Option<PathBuf>,
    /// Publish all rows again, also those that are queued in the result file: the same jobs.
    #[arg(long)]
    pub again: bool,
    /// Publish the undamaged rows of a damaged file; without this a damaged file is refused as a whole.
    #[arg(long)]
    pub skip_damaged: bool,
    /// Check every line and print what would be published; publish nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Publish nothing; request the state of each line's job from the running worker.
    #[arg(long, conflicts_with = "dry_run")]
    pub status: bool,
    /// The tenant of the jobs.
    #[arg(long, value_name = "NAME", default_value = "default", value_parser = name)]
    pub tenant: String,
    /// The file; its first line holds the headers.
    #[arg(value_name = "MEMBERS.csv")]
    pub file: PathBuf,
    /// The worker, for --status, and printing.
    #[command(flatten)]
    pub ask: Ask,
}
