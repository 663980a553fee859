//! The rows of all calls: their names, and the reads that show their effect.
//!
//! The rule it keeps: a call without a row does not compile.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::OPERATIONS;
use crate::operation::{Operation, Row, UNKNOWN};

impl Operation {
    /// The stable name.
    pub fn as_str(self) -> &'static str {
        ROWS[self as usize].name
    }

    /// The reads that show, for the same subject, whether a lost call of this kind took effect. Empty for calls that
    /// are not destructive.
    pub fn settled_by(self) -> &'static [Operation] {
        ROWS[self as usize].settled_by
    }

    /// True if the call erases, ends or overwrites something.
    pub fn destructive(self) -> bool {
        !self.settled_by().is_empty()
    }
}

impl Serialize for Operation {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Operation {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        let known = Operation::ALL.into_iter().find(|operation| operation.as_str() == name);
        known.ok_or_else(|| D::Error::unknown_variant(&name, &NAMES))
    }
}

const COUNT: usize = Operation::ALL.len();

/// The row of each call, in the order of [`Operation::ALL`].
const ROWS: [Row; COUNT] = {
    let mut rows = [UNKNOWN; COUNT];
    let mut table = 0;
    while table < OPERATIONS.len() {
        let mut row = 0;
        while row < OPERATIONS[table].len() {
            rows[OPERATIONS[table][row].operation as usize] = OPERATIONS[table][row];
            row += 1;
        }
        table += 1;
    }
    let mut place = 0;
    while place < COUNT {
        assert!(rows[place].operation as usize == place, "a call has no row");
        assert!(Operation::ALL[place] as usize == place, "a call is not in its place");
        place += 1;
    }
    rows
};

const NAMES: [&str; COUNT] = {
    let mut names = [""; COUNT];
    let mut place = 0;
    while place < COUNT {
        names[place] = ROWS[place].name;
        place += 1;
    }
    names
};
