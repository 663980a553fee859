//! The progress of an earlier run, from the result file.
//!
//! The rule it keeps: a result file belongs to one set of jobs. A run that would make other jobs, or publish the same
//! jobs with other proofs, reports the differences and does nothing.

use std::io;
use std::path::Path;

use super::Options;
use super::reading::DUPLICATE;
use super::results;
use super::template::JobTemplate;

const OTHER: &str = "give another --result FILE, so that both sets of jobs can be followed";

/// The progress of the earlier run.
#[derive(Debug, Default)]
pub struct Earlier {
    /// The length of the result file's whole rows.
    pub bytes: u64,
    /// The line of its last row.
    pub last_line: u64,
    /// The number of queued jobs.
    pub rows: u64,
    /// The number of unusable rows.
    pub unusable: u64,
    /// Arguments of this run that the result file of an earlier release does not record.
    pub unrecorded: Option<String>,
}

/// Reads the result file of an earlier run, which this run continues, also with its ids.
///
/// # Errors
/// It cannot be read, or this run has other arguments; the text says what to do.
pub fn resume(path: &Path, template: &mut JobTemplate, args: &Options) -> io::Result<Earlier> {
    let mut earlier = Earlier::default();
    if args.dry_run || !path.exists() {
        return Ok(earlier);
    }
    let (mut arguments, mut fits, mut fits_earlier) = (None, true, true);
    earlier.bytes = results::read(path, |outcome| {
        if let Some(found) = outcome.as_arguments() {
            arguments = Some(found);
            return Ok(());
        }
        match outcome.job_id {
            Some(id) => {
                fits &= id == template.id(outcome.line);
                fits_earlier &= id == template.earlier_id(outcome.line);
                earlier.rows += 1;
            }
            None => earlier.unusable += u64::from(!outcome.note.starts_with(DUPLICATE)),
        }
        earlier.last_line = outcome.line;
        Ok(())
    })?;
    if earlier.last_line == 0 {
        return Ok(Earlier::default());
    }
    let refused = |why: String| io::Error::new(io::ErrorKind::InvalidData, why);
    if let Some(arguments) = &arguments {
        let differences = template.arguments().differ_from(arguments, |name| template.is_proof(name));
        if differences.is_other_file {
            return Err(refused(format!("is the result of another file; {OTHER}")));
        }
        if !differences.jobs.is_empty() {
            let what = differences.jobs.join(", ");
            return Err(refused(format!("was made with other arguments: {what}. These make other jobs: {OTHER}")));
        }
        if !differences.proofs.is_empty() && !args.again {
            return Err(refused(format!(
                "was made with other arguments: {}. Nothing was published. With --again all its jobs are \
                 published again with these arguments, and waiting jobs go on",
                differences.proofs.join(", ")
            )));
        }
    }
    if !fits && !fits_earlier {
        return Err(refused(format!("is the result of another file or of other arguments; {OTHER}")));
    }
    if arguments.is_none() {
        earlier.unrecorded = unrecorded(args);
        let makes_jobs = !fits || args.method.is_some() || !args.also.is_empty();
        if let (Some(what), true) = (&earlier.unrecorded, args.again && makes_jobs) {
            return Err(refused(format!(
                "was written by an earlier release and does not record whether {what} was given; {OTHER}"
            )));
        }
    }
    template.continue_from(arguments.as_ref(), !fits);
    if args.again {
        return Ok(Earlier::default());
    }
    Ok(earlier)
}

/// The given arguments that a result file of an earlier release does not record.
fn unrecorded(args: &Options) -> Option<String> {
    let given = [
        (!args.also.is_empty(), "--also"),
        (args.method.is_some(), "--method"),
        (args.regulation.is_some(), "--regulation"),
        (args.requested_at.is_some(), "--requested-at"),
        (args.confirmed_at.is_some(), "--confirmed-at"),
        (args.requested_by.is_some(), "--requested-by"),
    ];
    let given: Vec<&str> = given.into_iter().filter(|(is_given, _)| *is_given).map(|(_, name)| name).collect();
    (!given.is_empty()).then(|| given.join(", "))
}
