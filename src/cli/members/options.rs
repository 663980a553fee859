//! The arguments of `submit-csv`, and the possible fields of a CSV column.
//!
//! The rule it keeps: a column is always given with the job's field that it fills.

use std::path::PathBuf;
use std::sync::LazyLock;

use clap::builder::PossibleValue;
use clap::{Args, ValueEnum};
use jiff::Timestamp;

use crate::cli::common::{Ask, instant, name};
use crate::job::kinds::{FIELDS, Holds, KEYS, Word};

/// The identifier in a CSV column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CsvKey(&'static Word);

impl CsvKey {
    /// The name of the field in a job.
    pub const fn as_str(self) -> &'static str {
        self.0.name
    }
}

impl ValueEnum for CsvKey {
    fn value_variants<'a>() -> &'a [CsvKey] {
        static ALL: LazyLock<Vec<CsvKey>> = LazyLock::new(|| KEYS.iter().map(CsvKey).collect());
        &ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(self.0.name).help(self.0.about))
    }
}

/// Another field of a member in a CSV column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CsvField(&'static Word);

impl CsvField {
    /// The name of the field in a job.
    pub const fn as_str(self) -> &'static str {
        self.0.name
    }

    /// The kind of its content.
    pub const fn holds(self) -> Holds {
        self.0.holds
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

fn also(text: &str) -> Result<(CsvField, String), String> {
    let expected = || {
        let names = FIELDS.each_ref().map(|word| word.name).join(", ");
        let (before, last) = names.rsplit_once(", ").unwrap_or_default();
        format!("expected FIELD=HEADER, where FIELD is {before} or {last}")
    };
    let (field, header) = text.split_once('=').ok_or_else(expected)?;
    let word = FIELDS.iter().find(|word| word.name == field).ok_or_else(expected)?;
    Ok((CsvField(word), header.trim().to_owned()))
}

/// `submit-csv`
#[derive(Debug, Args)]
pub struct Options {
    /// The configured system to erase from.
    #[arg(long, value_name = "NAME")]
    pub system: String,
    /// What the column holds.
    #[arg(long, value_name = "KIND")]
    pub key: CsvKey,
    /// The column's header.
    #[arg(long, value_name = "HEADER")]
    pub column: String,
    /// What another column holds; may be given several times.
    #[arg(long, value_name = "FIELD=HEADER", value_parser = also)]
    pub also: Vec<(CsvField, String)>,
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
