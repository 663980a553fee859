//! Personal data goes only where it must: planted in jobs of every form, carried through success,
//! retries, failures, crashes, a panic and dead-lettering by real worker processes on a real
//! broker, and then looked for in everything that the worker wrote or said. And what a system answers with
//! names somebody in every place of every reply, which comes out nowhere either.

// A test ends at the first thing that is not as it should be; clippy knows that of test functions only.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

mod answers;
mod kept;
mod named;
mod persons;
mod planted;
mod search;
mod stage;
mod story;
