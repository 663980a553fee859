//! What an earlier run left behind in the result file.
//!
//! The rule it keeps: one result file speaks of one set of jobs; a run that would make others, or
//! tell the same ones something else, says how it differs and does nothing.

use std::io;
use std::path::Path;

use super::Options;
use super::order::Orders;
use super::reading::DUPLICATE;
use super::results;

const OTHER: &str = "give another --result FILE, so that these jobs and those can both be followed";

/// How far the earlier run got.
#[derive(Debug, Default)]
pub struct Before {
    /// The bytes of the result file that are whole.
    pub bytes: u64,
    /// The last line that it tells of.
    pub last_line: u64,
    /// Jobs that were queued.
    pub rows: u64,
    /// Rows that could not be used.
    pub unusable: u64,
    /// Arguments of this run of which a result file of an earlier release does not say whether they
    /// were those of that run.
    pub unsure: Option<String>,
}

/// Looks at the result file of an earlier run, with which this one goes on, also with its ids.
///
/// # Errors
/// Where it cannot be read, or this run asks for something else; the text says what to do.
pub fn goes_on(path: &Path, orders: &mut Orders, args: &Options) -> io::Result<Before> {
    let mut before = Before::default();
    if args.dry_run || !path.exists() {
        return Ok(before);
    }
    let (mut arguments, mut fits, mut fits_earlier) = (None, true, true);
    before.bytes = results::read(path, |outcome| {
        if let Some(said) = outcome.as_arguments() {
            arguments = Some(said);
            return Ok(());
        }
        match outcome.job_id {
            Some(id) => {
                fits &= id == orders.id(outcome.line);
                fits_earlier &= id == orders.earlier_id(outcome.line);
                before.rows += 1;
            }
            None => before.unusable += u64::from(!outcome.note.starts_with(DUPLICATE)),
        }
        before.last_line = outcome.line;
        Ok(())
    })?;
    if before.last_line == 0 {
        return Ok(Before::default());
    }
    let refused = |why: String| io::Error::new(io::ErrorKind::InvalidData, why);
    if let Some(arguments) = &arguments {
        let differences = orders.arguments().differ_from(arguments);
        if differences.is_other_file {
            return Err(refused(format!("is the result of another file; {OTHER}")));
        }
        if !differences.jobs.is_empty() {
            let what = differences.jobs.join(", ");
            return Err(refused(format!("was made with other arguments: {what}. That makes other jobs: {OTHER}")));
        }
        if !differences.proofs.is_empty() && !args.again {
            return Err(refused(format!(
                "was made with other arguments: {}. Nothing was published. With --again all its jobs are \
                 published once more with these arguments, and those that wait go on",
                differences.proofs.join(", ")
            )));
        }
    }
    if !fits && !fits_earlier {
        return Err(refused(format!("is the result of another file or of other arguments; {OTHER}")));
    }
    if arguments.is_none() {
        before.unsure = unsure(args);
        let makes_jobs = !fits || args.method.is_some() || !args.also.is_empty();
        if let (Some(what), true) = (&before.unsure, args.again && makes_jobs) {
            return Err(refused(format!(
                "was made by an earlier release and does not say whether it was made with {what}; {OTHER}"
            )));
        }
    }
    orders.go_on(arguments.as_ref(), !fits);
    if args.again {
        return Ok(Before::default());
    }
    Ok(before)
}

/// The arguments that a result file of an earlier release does not tell.
fn unsure(args: &Options) -> Option<String> {
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
