//! The arguments of `approvals`.
//!
//! The rule it keeps: a decision names what was seen: one job's preview, or all of a report.

use clap::{ArgGroup, Args, Subcommand};
use jiff::Timestamp;

use super::common::Output;
use super::common::{JobRef, JobSelector, OneJob, OpsClient, instant, name};

/// `approvals`
#[derive(Debug, Subcommand)]
pub enum ApprovalsCommand {
    /// List the erasures that wait for a second operator.
    #[command(after_help = "Example:\n  erasure-worker approvals list --requested-by ann")]
    List(ApprovalsList),
    /// Tell what each system will lose if all of them are approved.
    #[command(after_help = "Example:\n  erasure-worker approvals report --requested-by ann")]
    Report(ApprovalsReport),
    /// Show what one erasure will cost, without personal data.
    #[command(after_help = "Example:\n  erasure-worker approvals show acme/6c0b7b0e-6a4e-4a53-9a2e-0d8c6a0a7f11")]
    Show(OneJob),
    /// Have exactly that erased which was shown; whatever is found beyond it asks again.
    #[command(after_help = "Examples:\n  erasure-worker approvals approve acme/6c0b7b0e-6a4e-4a53-9a2e-0d8c6a0a7f11 \
        --preview 5f3b0c9d2e7a41886d10b2c3a4f59e77 --by bob
  erasure-worker approvals approve --as-of 2026-11-22T10:00:00Z --requested-by ann --by bob")]
    Approve(ApprovalsDecide),
    /// Have nothing erased: the jobs end as cancelled.
    #[command(after_help = "Example:\n  erasure-worker approvals reject acme/6c0b7b0e-6a4e-4a53-9a2e-0d8c6a0a7f11 \
        --preview 5f3b0c9d2e7a41886d10b2c3a4f59e77 --by bob")]
    Reject(ApprovalsDecide),
}

/// Which of them.
#[derive(Debug, Clone, Default, Args)]
pub struct ApprovalsFilter {
    /// Only this tenant's.
    #[arg(long, value_name = "NAME", value_parser = name)]
    pub tenant: Option<String>,
    /// Only those that this operator asks for.
    #[arg(long, value_name = "WHO")]
    pub requested_by: Option<String>,
}

/// `approvals list`
#[derive(Debug, Args)]
pub struct ApprovalsList {
    /// Which.
    #[command(flatten)]
    pub filter: ApprovalsFilter,
    /// Go on where the list before ended: the job that it printed.
    #[arg(long, value_name = "JOB")]
    pub after: Option<String>,
    /// At most so many.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=500))]
    pub limit: u32,
    /// The worker.
    #[command(flatten)]
    pub ops: OpsClient,
    /// Printing.
    #[command(flatten)]
    pub output: Output,
}

/// `approvals report`
#[derive(Debug, Args)]
pub struct ApprovalsReport {
    /// Which.
    #[command(flatten)]
    pub filter: ApprovalsFilter,
    /// The worker.
    #[command(flatten)]
    pub ops: OpsClient,
    /// Printing.
    #[command(flatten)]
    pub output: Output,
}

/// `approvals approve`, `approvals reject`
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("seen").required(true).args(["job", "as_of"]))]
pub struct ApprovalsDecide {
    /// One job: ID, or TENANT/ID.
    #[arg(value_name = "JOB", requires = "preview")]
    pub job: Option<JobRef>,
    /// What `approvals show` or `list` names as its preview.
    #[arg(long, value_name = "PREVIEW", requires = "job")]
    pub preview: Option<String>,
    /// All that a report told of: the time that it gives.
    #[arg(long, value_name = "TIME", value_parser = instant)]
    pub as_of: Option<Timestamp>,
    /// Which of the report's; with JOB, its tenant [default: default]
    #[command(flatten)]
    pub filter: ApprovalsFilter,
    /// Who decides; not needed with a token of an operator's own.
    #[arg(long, value_name = "WHO")]
    pub by: Option<String>,
    /// The worker.
    #[command(flatten)]
    pub ops: OpsClient,
    /// Printing.
    #[command(flatten)]
    pub output: Output,
}

impl ApprovalsDecide {
    /// The one job, where one is meant.
    pub fn selector(&self) -> Option<JobSelector> {
        let job = self.job.clone()?;
        Some(JobSelector { job, tenant: self.filter.tenant.clone() })
    }
}
