//! The plan of the flow, the same for all receivers.
//!
//! The rule it keeps: without a read of the person, an erasure is the receiver's word, and the event says so.

use std::collections::BTreeMap;

use crate::job::plan::{Act, Ends, Evidence, Expect, Identifier, Lost, Plan, Read};
use crate::job::reading::Shows;

/// The place of the person's read.
pub(super) const PERSON: usize = 0;
/// The place of the read of an accepted request's status.
pub(super) const STATUS: usize = 1;
/// The place of the fact with the request's id. The status is read by the id of the request that was accepted: a later
/// run has another one.
pub(super) const ID: u16 = 0;

/// The plan. `can_read`: the receiver answers whether the person is there.
pub(super) fn of(
    connector: String,
    identifiers: BTreeMap<String, Identifier>,
    preserved: Vec<String>,
    can_read: bool,
) -> Plan {
    let read =
        |name: &str, is_unchecked, needs| Read { name: name.to_owned(), is_unchecked, same_address: Vec::new(), needs };
    let gone = Expect { read: PERSON, shows: vec![Shows::Gone] };
    Plan {
        connector,
        // The digest in its name is of the address, too.
        installation: String::new(),
        ends: if can_read { Ends::Erased } else { Ends::Declared },
        identifiers,
        proofs: Vec::new(),
        preserved,
        facts: vec!["id".to_owned()],
        reads: vec![read("person", !can_read, Vec::new()), read("status", false, vec![ID])],
        acts: vec![Act {
            name: "erase".to_owned(),
            proof: None,
            each: None,
            needs: Vec::new(),
            reads: Vec::new(),
            lost: Lost::Recognised,
            evidence: Evidence::Word {
                status: Expect { read: STATUS, shows: vec![Shows::Done] },
                proof: if can_read { vec![gone] } else { Vec::new() },
            },
        }],
    }
}
