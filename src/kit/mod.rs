//! The kit: tries a connector file against a stand-in that is made from it, before any vendor is called.
//!
//! The rule it keeps: the kit judges by what the stand-in holds and what was sent to it, never by the flow's own state.
//! The same file and seed give the same findings.

mod bench;
mod canary;
mod files;
mod page;
mod replies;
mod report;
mod run;
mod stand_in;
mod trials;
mod vendor;
mod watch;

pub use self::files::{Noticed, notices};
pub use self::page::page;
pub use self::report::{Report, Violation};
pub use self::stand_in::{Served, served};
pub use self::trials::{Around, Extent, Options, test};
