//! The check of a chain: signatures, links, gaps, forks, and what is wrong with each, by number.
//!
//! The rule it keeps: what is not proven is a fault; a receipt whose signature does not hold is
//! never a link, whatever it says of itself.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use serde::Serialize;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::keys::{self, PublicKeys, TokenError};
use super::opening::Offered;
use super::{CHECKPOINT, RECEIPT, claims, digest};

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// It is neither an event, a receipt, a checkpoint nor a pack.
    Unreadable,
    /// A final event of a job carries no receipt.
    NoReceipt,
    /// Its key is not among those given.
    UnknownKey,
    /// Its signature does not hold, or its digest is another.
    Altered,
    /// Numbers of a chain that are not there.
    Missing,
    /// It does not name the receipt before it.
    BrokenLink,
    /// Two receipts have the same number in one chain.
    Forked,
    /// A list in chain order has it at another place.
    OutOfOrder,
    /// The event says something else than its receipt.
    Contradicted,
    /// The job given does not open its receipt's commitment.
    NotOpened,
}

impl FaultKind {
    /// The word.
    pub const fn as_str(self) -> &'static str {
        match self {
            FaultKind::Unreadable => "unreadable",
            FaultKind::NoReceipt => "no_receipt",
            FaultKind::UnknownKey => "unknown_key",
            FaultKind::Altered => "altered",
            FaultKind::Missing => "missing",
            FaultKind::BrokenLink => "broken_link",
            FaultKind::Forked => "forked",
            FaultKind::OutOfOrder => "out_of_order",
            FaultKind::Contradicted => "contradicted",
            FaultKind::NotOpened => "not_opened",
        }
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Fault {
    /// The chain, where it is known.
    pub chain: Option<Uuid>,
    /// The number, or the first of several; what an altered receipt says of itself is not proven.
    pub number: Option<u64>,
    /// The last of several missing numbers.
    pub through: Option<u64>,
    /// What.
    pub kind: FaultKind,
    /// The file and line, where there is one.
    pub place: Option<String>,
    /// In words.
    pub detail: String,
}

/// A chain as far as it was given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ChainReport {
    /// The chain.
    pub chain: Uuid,
    /// The worker that it is named by.
    pub worker: String,
    /// The lowest number given.
    pub first: u64,
    /// The highest number given.
    pub last: u64,
    /// How many links were given.
    pub receipts: usize,
    /// What the first link says of the chain's beginning, where it is among them.
    pub started: Option<String>,
    /// Retention removed the links up to this one, as a signed checkpoint says.
    pub removed_through: Option<u64>,
}

/// What came of a check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// True where nothing is wrong.
    pub valid: bool,
    /// Receipts whose signature holds, each counted once.
    pub receipts: usize,
    /// Commitments that the jobs given have opened.
    pub opened: usize,
    /// The chains.
    pub chains: Vec<ChainReport>,
    /// What is wrong.
    pub faults: Vec<Fault>,
}

struct Sound {
    sha256: String,
    previous: Option<String>,
    started: Option<String>,
    worker: String,
    place: String,
}

#[derive(Default)]
struct Chain {
    links: BTreeMap<u64, Sound>,
    altered: BTreeSet<u64>,
    checkpoints: BTreeMap<u64, String>,
    /// Numbers that a signed manifest says are all in its pack.
    spans: Vec<RangeInclusive<u64>>,
    /// The highest number given outside a pack.
    loose: Option<u64>,
    worker: String,
}

/// Takes receipts one by one and judges them together at the end.
pub struct Checker<'a> {
    keys: &'a PublicKeys,
    partial: bool,
    chains: BTreeMap<Uuid, Chain>,
    offered: Vec<Offered>,
    opened: usize,
    faults: Vec<Fault>,
}

impl<'a> Checker<'a> {
    /// A checker with the public keys. `partial`: only some links of a chain are given, so that
    /// absent numbers are no fault; the links between neighbours are checked all the same.
    pub fn new(keys: &'a PublicKeys, partial: bool) -> Checker<'a> {
        Checker { keys, partial, chains: BTreeMap::new(), offered: Vec::new(), opened: 0, faults: Vec::new() }
    }

    /// Takes a job as it was published: it must open the commitments of its receipts. To be called
    /// before the receipts are given.
    pub fn offer(&mut self, job: Offered) {
        self.offered.push(job);
    }

    /// The keys given.
    pub fn keys(&self) -> &'a PublicKeys {
        self.keys
    }

    /// Notes something that is wrong with a place and no certain number.
    pub fn fault(&mut self, kind: FaultKind, place: &str, detail: impl Into<String>) {
        let place = Some(place.to_owned());
        self.faults.push(Fault { chain: None, number: None, through: None, kind, place, detail: detail.into() });
    }

    /// Notes a receipt that stands behind a later one in a list that is in chain order.
    pub fn out_of_order(&mut self, place: &str, (chain, number): (Uuid, u64)) {
        let (chain, number, place) = (Some(chain), Some(number), Some(place.to_owned()));
        let detail = "it stands behind a later receipt".to_owned();
        self.faults.push(Fault { chain, number, through: None, kind: FaultKind::OutOfOrder, place, detail });
    }

    /// Takes a receipt, with the event that carried it. Returns its chain and number where its
    /// signature holds.
    pub fn receipt(&mut self, place: &str, token: &str, event: Option<&Map<String, Value>>) -> Option<(Uuid, u64)> {
        let link = self.link(place, token, event)?;
        let chain = self.chains.entry(link.0).or_default();
        chain.loose = chain.loose.max(Some(link.1));
        Some(link)
    }

    /// Takes a receipt of a pack, whose span says what else must be there.
    pub fn packed(&mut self, place: &str, token: &str) -> Option<(Uuid, u64, Map<String, Value>)> {
        let (chain, number) = self.link(place, token, None)?;
        Some((chain, number, keys::claimed(token)?))
    }

    /// What a signed manifest says that its pack holds.
    pub fn span(&mut self, chain: Uuid, numbers: RangeInclusive<u64>) {
        self.chains.entry(chain).or_default().spans.push(numbers);
    }

    /// Takes a checkpoint.
    pub fn checkpoint(&mut self, place: &str, token: &str) {
        let said = match self.keys.open(CHECKPOINT, token) {
            Ok(said) => said,
            Err(error) => return self.unbelieved(place, token, &error),
        };
        let text = |name: &str| said.get(name).and_then(Value::as_str);
        let chain = text("chain").and_then(|chain| Uuid::try_parse(chain).ok());
        let (Some(chain), Some(through), Some(sha256)) =
            (chain, said.get("through").and_then(Value::as_u64), text("sha256"))
        else {
            return self.fault(FaultKind::Unreadable, place, "a signed checkpoint lacks what a checkpoint says");
        };
        let (sha256, worker) = (sha256.to_owned(), text("worker").unwrap_or_default().to_owned());
        let chain = self.chains.entry(chain).or_default();
        chain.checkpoints.insert(through, sha256);
        if chain.worker.is_empty() {
            chain.worker = worker;
        }
    }

    fn link(&mut self, place: &str, token: &str, event: Option<&Map<String, Value>>) -> Option<(Uuid, u64)> {
        let said = match self.keys.open(RECEIPT, token) {
            Ok(said) => said,
            Err(error) => {
                self.unbelieved(place, token, &error);
                return None;
            }
        };
        let text = |name: &str| said.get(name).and_then(Value::as_str).map(str::to_owned);
        let chain = text("chain").and_then(|chain| Uuid::try_parse(&chain).ok());
        let (Some(chain), Some(number)) = (chain, said.get("number").and_then(Value::as_u64)) else {
            self.fault(FaultKind::Unreadable, place, "a signed receipt names no chain or number");
            return None;
        };
        let at = |kind, detail: String| Fault {
            chain: Some(chain),
            number: Some(number),
            through: None,
            kind,
            place: Some(place.to_owned()),
            detail,
        };
        if let Some(what) = event.and_then(|event| claims::contradiction(&said, event)) {
            let detail = format!("the event says something else than its receipt {number}: {what}");
            self.faults.push(at(FaultKind::Contradicted, detail));
        }
        let sha256 = digest::sha256(token.as_bytes());
        let known = self.chains.entry(chain).or_default();
        match known.links.get(&number) {
            // A final event may come twice; its bytes are the same.
            Some(link) if link.sha256 == sha256 => {}
            Some(link) => {
                let detail = format!(
                    "two receipts have number {number}, as where a state folder was put back from a copy; the other one is at {}",
                    link.place
                );
                self.faults.push(at(FaultKind::Forked, detail));
            }
            None => {
                for job in self.offered.iter_mut().filter(|job| job.is_of(&said)) {
                    match job.open(&said) {
                        Ok(()) => self.opened += 1,
                        Err(why) => self.faults.push(at(FaultKind::NotOpened, format!("receipt {number}: {why}"))),
                    }
                }
                let worker = text("worker").unwrap_or_default();
                known.worker.clone_from(&worker);
                let (previous, started) = (text("previous"), text("started"));
                known.links.insert(number, Sound { sha256, previous, started, worker, place: place.to_owned() });
            }
        }
        Some((chain, number))
    }

    fn unbelieved(&mut self, place: &str, token: &str, error: &TokenError) {
        let kind = match error {
            TokenError::NotAToken | TokenError::Header => FaultKind::Unreadable,
            TokenError::UnknownKey(_) => FaultKind::UnknownKey,
            TokenError::Signature => FaultKind::Altered,
        };
        // Altered anywhere: in the signature's own form as well.
        let claimed = keys::claimed(token);
        let claimed = |name: &str| claimed.as_ref().and_then(|claimed| claimed.get(name)).cloned();
        let chain = claimed("chain").and_then(|chain| Uuid::try_parse(chain.as_str()?).ok());
        let number = claimed("number").and_then(|number| number.as_u64());
        let detail = match number {
            Some(number) => format!("the receipt that calls itself {number} is not believed: {error}"),
            None => format!("it is not believed: {error}"),
        };
        if let (Some(chain), Some(number)) = (chain, number) {
            self.chains.entry(chain).or_default().altered.insert(number);
        }
        self.faults.push(Fault { chain, number, through: None, kind, place: Some(place.to_owned()), detail });
    }

    /// Judges what was given.
    pub fn finish(mut self) -> Report {
        let mut chains = Vec::new();
        let mut receipts = 0;
        for (id, chain) in &self.chains {
            self.faults.extend(chain.faults(*id, self.partial));
            receipts += chain.links.len();
            let (Some((first, link)), Some((last, _))) = (chain.links.first_key_value(), chain.links.last_key_value())
            else {
                continue;
            };
            chains.push(ChainReport {
                chain: *id,
                worker: if link.worker.is_empty() { chain.worker.clone() } else { link.worker.clone() },
                first: *first,
                last: *last,
                receipts: chain.links.len(),
                started: chain.links.get(&1).and_then(|link| link.started.clone()),
                removed_through: chain.checkpoints.last_key_value().map(|(through, _)| *through),
            });
        }
        for job in self.offered.iter().filter(|job| !job.met) {
            let detail = "no receipt given is of this job".to_owned();
            let (kind, place) = (FaultKind::NotOpened, Some(job.place.clone()));
            self.faults.push(Fault { chain: None, number: None, through: None, kind, place, detail });
        }
        self.faults.sort();
        Report { valid: self.faults.is_empty(), receipts, opened: self.opened, chains, faults: self.faults }
    }
}

impl Chain {
    fn faults(&self, id: Uuid, partial: bool) -> Vec<Fault> {
        let mut faults = Vec::new();
        let fault = |number, through, kind, place: Option<&str>, detail: String| Fault {
            chain: Some(id),
            number: Some(number),
            through,
            kind,
            place: place.map(str::to_owned),
            detail,
        };
        if !partial {
            for range in self.missing() {
                let (from, to) = (*range.start(), *range.end());
                let detail = if from == to {
                    format!("receipt {from} is missing")
                } else {
                    format!("receipts {from} to {to} are missing")
                };
                faults.push(fault(from, Some(to), FaultKind::Missing, None, detail));
            }
        }
        for (number, link) in &self.links {
            let before = match number.checked_sub(1) {
                Some(before) if before > 0 => before,
                _ => {
                    if link.previous.is_some() || link.started.is_none() {
                        let detail = format!("receipt {number} is the first and does not say how its chain began");
                        faults.push(fault(*number, None, FaultKind::BrokenLink, Some(&link.place), detail));
                    }
                    continue;
                }
            };
            let known = [self.links.get(&before).map(|link| &link.sha256), self.checkpoints.get(&before)];
            let broken = known.into_iter().flatten().any(|sha256| link.previous.as_ref() != Some(sha256));
            if broken || link.previous.is_none() {
                let detail = format!("receipt {number} does not name receipt {before} as the one before it");
                faults.push(fault(*number, None, FaultKind::BrokenLink, Some(&link.place), detail));
            }
        }
        for (through, sha256) in &self.checkpoints {
            if let Some(link) = self.links.get(through).filter(|link| link.sha256 != *sha256) {
                let detail = format!("the checkpoint for receipt {through} stands for another receipt");
                faults.push(fault(*through, None, FaultKind::BrokenLink, Some(&link.place), detail));
            }
        }
        faults
    }

    /// The numbers that should be there: those that packs say they hold, and outside packs all from
    /// the beginning (or from the latest checkpoint) to the highest one given.
    fn missing(&self) -> Vec<RangeInclusive<u64>> {
        let begin = self.checkpoints.last_key_value().map_or(1, |(through, _)| through + 1);
        let loose = self.loose.map(|last| begin..=last);
        let mut missing: Vec<RangeInclusive<u64>> = Vec::new();
        for span in self.spans.iter().cloned().chain(loose) {
            let present = self.links.keys().chain(&self.altered).filter(|number| span.contains(number));
            let present: BTreeSet<u64> = present.copied().collect();
            let mut next = *span.start();
            for number in present {
                if number > next {
                    missing.push(next..=number - 1);
                }
                next = number.saturating_add(1);
            }
            if next <= *span.end() {
                missing.push(next..=*span.end());
            }
        }
        missing.dedup();
        missing
    }
}
