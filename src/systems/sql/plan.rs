//! From a file for a database to the plan of its flow.
//!
//! The rule it keeps: a count of 0 is an absence. It counts only after the same run has seen the person in the same
//! database.

use erasure_connector::sql::{Act, Lost, SqlFile};

use crate::job::plan::{Act as PlanAct, Ends, Evidence, Expect, Lost as PlanLost, Plan, Read};
use crate::job::reading::Shows;
use crate::systems::connector;

/// The characters of the file's digest in events.
const DIGEST: usize = 12;

/// The plan: the person, the file's reads, then one read of the ledger for each act that needs it.
pub(super) fn plan(file: &SqlFile, installation: String) -> Plan {
    let read = |name: String| Read { name, is_unchecked: false, same_address: vec![0], needs: Vec::new() };
    let person = Read { same_address: Vec::new(), ..read("person".to_owned()) };
    let counts = file.reads.iter().map(|counts| read(counts.name.clone()));
    let ledger = noted(file).into_iter().map(|act| read(format!("ledger.{}", act.name)));
    Plan {
        connector: format!("{}@{}", file.name, file.digest.get(..DIGEST).unwrap_or(&file.digest)),
        installation,
        ends: Ends::Erased,
        identifiers: connector::identifiers(&file.identifiers),
        proofs: Vec::new(),
        preserved: file.stays(),
        facts: Vec::new(),
        reads: std::iter::once(person).chain(counts).chain(ledger).collect(),
        acts: file.acts.iter().map(|act| self::act(file, act)).collect(),
    }
}

fn act(file: &SqlFile, act: &Act) -> PlanAct {
    let expect = |read: usize| Expect { read, shows: vec![Shows::Done] };
    let of_counts = |reads: &[usize]| reads.iter().map(|read| expect(read + 1)).collect();
    PlanAct {
        name: act.name.clone(),
        proof: None,
        each: None,
        needs: Vec::new(),
        reads: Vec::new(),
        lost: PlanLost::Read(match &act.lost {
            Lost::Read(reads) => of_counts(reads),
            Lost::Ledger => {
                let place = noted(file).iter().position(|noted| noted.name == act.name);
                place.map(|place| expect(1 + file.reads.len() + place)).into_iter().collect()
            }
        }),
        evidence: Evidence::Read {
            expect: of_counts(&act.evidence),
            first: Default::default(),
            longest: None,
            within: None,
        },
    }
}

/// The acts that the ledger decides about.
fn noted(file: &SqlFile) -> Vec<&Act> {
    file.acts.iter().filter(|act| act.lost == Lost::Ledger).collect()
}

/// The meaning of a read's place in the plan.
pub(super) enum Place<'f> {
    /// The person.
    Person,
    /// Counts.
    Counts(usize),
    /// The ledger's row of an act.
    Ledger(&'f Act),
}

/// The read at a place of the plan.
pub(super) fn place(file: &SqlFile, read: usize) -> Option<Place<'_>> {
    let counts = file.reads.len();
    match read {
        0 => Some(Place::Person),
        read if read <= counts => Some(Place::Counts(read - 1)),
        read => noted(file).get(read - 1 - counts).map(|act| Place::Ledger(act)),
    }
}
