//! The pure core: a job, its journal, and the next action that follows from them.
//!
//! The rule it keeps: pure. No clock, no async, no I/O, and no other crate of ours, so that every decision can be
//! replayed from a job and its journal alone.

pub mod approval;
pub mod cancel;
pub mod cursor;
pub mod draft;
pub mod due;
pub mod event;
mod field;
pub mod findings;
pub mod flow;
pub mod identifier;
pub mod journal;
pub mod kinds;
pub mod lasting;
pub mod model;
mod note;
pub mod outcome;
pub mod parse;
pub mod plan;
pub mod reading;
pub mod receipt;
pub mod record;
pub mod schema;
pub mod state;
pub mod step;
pub mod times;
pub mod wait;

pub use approval::{Approved, Approving, Found};
pub use cancel::Cancel;
pub use draft::Draft;
pub use due::Term;
pub use findings::Findings;
pub use flow::{Next, Rules};
pub use journal::{At, Entry};
pub use kinds::{Code, Kind, Member, MemberKey, Spec};
pub use lasting::{Carried, Codes, Lasting, Seen};
pub use model::{Approval, Confirmation, Job, JobKey, Mode, Target};
pub use note::Note;
pub use outcome::{InputKind, JobOutcome, Reason, Retry, StepOutcome, TargetEnd, TargetOutcome};
pub use parse::{Accepts, Invalid};
pub use plan::Plan;
pub use reading::{Fact, Means, Reading, Shows};
pub use record::{Ended, JobRecord};
pub use state::{LetThrough, StepState, TargetState};
pub use step::{
    Absence, Answer, CodeState, Entitlement, Failure, FailureKind, Field, Identity, MOST_ITEMS, RowState, Step,
    StepName,
};
pub use wait::Standstill;
