//! A system that is described by a connector file: see `docs/connectors.md`.
//!
//! The rule it keeps: the file decides nothing alone. A lost answer, an absence and every status of a gateway are
//! judged here and by the flow, as with the other kinds.

mod client;
mod plan;
mod settings;
mod slots;

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

pub(super) use self::plan::identifiers;
pub use self::plan::of as plan;
pub use self::settings::ConnectorSettings;

/// The name of an endpoint for limits and estimates. Names come from the files of the configuration: there are few, and
/// a renewed client has the same ones.
fn interned(name: &str) -> &'static str {
    static NAMES: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
    let mut names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = names.get(name) {
        return known;
    }
    let name: &'static str = name.to_owned().leak();
    names.insert(name);
    name
}
