//! The answers of a connector's calls: a meaning, and the facts that later calls need.
//!
//! The rule it keeps: a reading says whether it rests on nothing but something missing. Such a one proves nothing at a
//! place where nothing was ever seen.

use std::collections::HashSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::step::{Absence, Answer, Identity};

/// The understood reply of a connector's call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reading {
    /// [`Plan::shape`](crate::plan::Plan::shape) of the plan by which it was understood.
    pub shape: u32,
    /// Its meaning.
    pub means: Means,
    /// True if it rests on nothing but something missing: a 404, a 410.
    pub is_bare: bool,
    /// The facts, by their places in the plan.
    pub facts: Vec<(u16, Fact)>,
}

/// A reply's meaning.
///
/// Stored: a variant's place is its form on the disk. A new one goes to the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Means {
    /// A read: the person or the object is there.
    Found(Identity),
    /// A read: nobody and nothing is there.
    Gone(Absence),
    /// The change has taken effect.
    Done,
    /// A read: the change has not taken effect.
    NotDone,
    /// A read: the system is still working on it.
    Pending,
    /// An act: it was done before.
    DoneBefore,
    /// An act: it was accepted, and its effect follows.
    Accepted,
    /// A read: as `Done`, and the reply still has the person's address. A mark such as "deleted" is no erasure.
    Marked,
}

/// A read's meaning, as a plan expects it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Shows {
    /// The person or the object is there.
    Found,
    /// Nobody and nothing is there.
    Gone,
    /// The change has taken effect.
    Done,
    /// The change has not taken effect.
    NotDone,
    /// The system is still working on it.
    Pending,
}

/// A value from a reply, for later calls. It may name the person.
///
/// Stored: a variant's place is its form on the disk. A new one goes to the end.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fact {
    /// A text.
    Text(String),
    /// A number, digit by digit as in the reply.
    Number(String),
    /// A list of texts or numbers.
    List(Vec<String>),
}

impl fmt::Debug for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fact::Text(_) => f.write_str("Text"),
            Fact::Number(_) => f.write_str("Number"),
            Fact::List(members) => write!(f, "List of {}", members.len()),
        }
    }
}

impl Fact {
    /// The members of a list.
    pub fn members(&self) -> Option<&[String]> {
        if let Fact::List(members) = self { Some(members) } else { None }
    }

    /// True if the other one has all that this one has.
    pub(crate) fn is_within(&self, other: &Fact) -> bool {
        match (self, other) {
            (Fact::List(members), Fact::List(others)) => {
                let others: HashSet<&String> = others.iter().collect();
                members.iter().all(|member| others.contains(member))
            }
            (one, other) => one == other,
        }
    }
}

impl Means {
    /// The meaning of a read; `None` for an act's.
    pub const fn shows(self) -> Option<Shows> {
        match self {
            Means::Found(_) => Some(Shows::Found),
            Means::Gone(_) => Some(Shows::Gone),
            Means::Done | Means::Marked => Some(Shows::Done),
            Means::NotDone => Some(Shows::NotDone),
            Means::Pending => Some(Shows::Pending),
            Means::DoneBefore | Means::Accepted => None,
        }
    }

    /// True if it shows the person or the object. Another person shows neither.
    pub const fn is_presence(self) -> bool {
        matches!(self, Means::Found(Identity::Same | Identity::Unreadable | Identity::Blank) | Means::NotDone)
    }
}

impl Answer {
    /// A connector's reading; `None` for any other answer.
    pub const fn reading(&self) -> Option<&Reading> {
        if let Answer::Connector(reading) = self { Some(reading) } else { None }
    }

    /// A connector's meaning; `None` for any other answer.
    pub const fn means(&self) -> Option<Means> {
        if let Answer::Connector(reading) = self { Some(reading.means) } else { None }
    }
    /// True if a connector's system has taken the call.
    pub const fn is_taken(&self) -> bool {
        matches!(self.means(), Some(Means::Done | Means::DoneBefore | Means::Accepted))
    }
}
