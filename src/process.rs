//! Protection of this process from others on its machine.
//!
//! The rule it keeps: memory holds names and keys, so no image of it is written anywhere.

use std::io;

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

/// Forbids core dumps, by file or by a collector, and debuggers of the same user.
///
/// # Errors
/// The system refuses; the process then works as before.
pub fn keep_memory_private() -> io::Result<()> {
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    Ok(())
}
