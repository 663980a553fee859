//! A connector's steps: which reads and acts there are, in which order, and what follows from their results. Addresses
//! and the forms of replies are the client's.
//!
//! The rule it keeps: data, not a program. The flow over it is in `kinds/connector`.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::outcome::InputKind;
use crate::reading::Shows;

/// The steps of a connector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// `NAME@DIGEST`, for events.
    pub connector: String,
    /// The address and the account, without a secret.
    pub installation: String,
    /// What the target ends as.
    pub ends: Ends,
    /// The identifiers of a person, by name.
    pub identifiers: BTreeMap<String, Identifier>,
    /// The proofs that a job may carry: the name in the job, and the input that is asked for.
    pub proofs: Vec<(String, InputKind)>,
    /// Data that the vendor keeps; named in the event.
    pub preserved: Vec<String>,
    /// The names of the facts that replies give. Answers have their places in this list.
    pub facts: Vec<String>,
    /// The reads. The first one reads the person.
    pub reads: Vec<Read>,
    /// The changes, in order.
    pub acts: Vec<Act>,
}

/// What a target ends as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ends {
    /// Erased, on evidence.
    Erased,
    /// Erased by the vendor's word alone; the event says so.
    Declared,
    /// Without a proof: the target fails as unproven.
    Unproven,
}

/// An identifier of a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identifier {
    /// Its form.
    pub form: Form,
    /// True if a job must have it.
    pub is_required: bool,
}

/// The form of an identifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Any text that identifiers may have.
    Text,
    /// Decimal digits.
    Digits,
    /// An e-mail address.
    Email,
    /// A UUID.
    Uuid,
}

/// A read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read {
    /// Its name.
    pub name: String,
    /// True for a person that cannot be read. Only the first read can be that.
    pub is_unchecked: bool,
    /// The other reads at the same address: a person or object that one of them has shown was at this address.
    pub same_address: Vec<usize>,
    /// The facts in its call, by their places.
    pub needs: Vec<u16>,
}

/// A change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Act {
    /// Its name.
    pub name: String,
    /// The proof that its call needs, by its place.
    pub proof: Option<usize>,
    /// The fact with a list: one call for each member.
    pub each: Option<u16>,
    /// The facts in its call, by their places.
    pub needs: Vec<u16>,
    /// The reads before the first act that give these facts; not the person's.
    pub reads: Vec<usize>,
    /// What follows a lost answer.
    pub lost: Lost,
    /// What proves its effect.
    pub evidence: Evidence,
}

/// What follows a lost answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lost {
    /// These reads decide. The call is repeated only if they show that nothing happened.
    Read(Vec<Expect>),
    /// The system recognises a repeat and says so.
    Recognised,
    /// A repeat does no harm.
    Harmless,
    /// Nothing can decide: the target ends as unproven.
    Unproven,
}

/// A read, and what it must show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expect {
    /// Its place among the reads.
    pub read: usize,
    /// The meanings that count.
    pub shows: Vec<Shows>,
}

/// What proves the effect of an act.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Evidence {
    /// These reads, all of them.
    Read {
        /// The reads.
        expect: Vec<Expect>,
        /// The pause before the first.
        first: Duration,
        /// The longest pause between two; otherwise the usual one.
        longest: Option<Duration>,
        /// The longest time that the effect may take; otherwise `waits.pending_max`.
        within: Option<Duration>,
    },
    /// The system's answer that it is done.
    Answer,
    /// The system's word: its answer or, if the call was only accepted, the read of its status.
    Word {
        /// The status of an accepted call.
        status: Expect,
        /// Reads that must show the effect as well.
        proof: Vec<Expect>,
    },
    /// The vendor's promise, in the words of the connector's author.
    Declared(String),
    /// None: the target ends as unproven.
    None,
}

impl Plan {
    /// A number that changes with the file, the address, the account, and with the name or place of a read, an act or a
    /// fact: entries of a journal have places only, and an absence at another address says nothing about this one.
    pub fn shape(&self) -> u32 {
        let reads = self.reads.iter().map(|read| read.name.as_str());
        let acts = self.acts.iter().map(|act| act.name.as_str());
        let groups = [self.connector.as_str(), self.installation.as_str()]
            .into_iter()
            .chain(reads)
            .chain(["/"])
            .chain(acts)
            .chain(["/"])
            .chain(self.facts.iter().map(String::as_str));
        // FNV-1a. A name has no zero byte.
        groups
            .flat_map(|name| name.bytes().chain([0]))
            .fold(0x811c_9dc5, |hash: u32, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
    }

    /// The reads before the first act, without the person's, each once.
    pub fn first_reads(&self) -> Vec<usize> {
        let mut reads: Vec<usize> = self.acts.iter().flat_map(|act| act.reads.iter().copied()).collect();
        reads.retain(|read| *read != 0);
        reads.sort_unstable();
        reads.dedup();
        reads
    }

    /// True if a completed erasure rests on the vendor's word alone, in whole or in part.
    pub fn is_declared(&self) -> bool {
        self.ends == Ends::Declared || !self.promises().is_empty()
    }

    /// The vendor's promises.
    pub fn promises(&self) -> Vec<&str> {
        self.acts
            .iter()
            .filter_map(
                |act| if let Evidence::Declared(promise) = &act.evidence { Some(promise.as_str()) } else { None },
            )
            .collect()
    }
}

/// The input that a proof of this name is; `None` if a job can have no such proof. The list of inputs is closed.
pub fn input_of_proof(name: &str) -> Option<InputKind> {
    match name {
        "code" => Some(InputKind::Otp),
        "customer_token" => Some(InputKind::CustomerToken),
        "access_token" => Some(InputKind::AccessToken),
        "current_password" => Some(InputKind::CurrentPassword),
        "customer_password" => Some(InputKind::CustomerPassword),
        _ => None,
    }
}
