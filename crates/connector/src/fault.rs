//! The faults of a connector file, all at once.
//!
//! The rule it keeps: a fault says where it is, what is wrong and what to write instead. It never repeats a value that
//! may be a secret.

use std::collections::BTreeMap;
use std::fmt;

/// The line of each place of a file.
pub(crate) type Lines = BTreeMap<String, usize>;

/// One fault to correct.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fault {
    /// The line; the first is 1.
    pub line: usize,
    /// The place, such as `read.person.answers[1]`.
    pub place: String,
    /// What is wrong.
    pub problem: String,
    /// What to do: a sentence's second half, such as `write type = "null" instead`.
    pub instead: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}; {}", self.line, self.place, self.problem, self.instead)
    }
}

/// A file that does not load. Its faults are in the file's order.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Faults(pub Vec<Fault>);

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.0.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{fault}")?;
        }
        Ok(())
    }
}
