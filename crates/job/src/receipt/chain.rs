//! The check of a chain: signatures, links, gaps, forks, and every fault with its number.
//!
//! The rule it keeps: everything that is not proven is a fault. A receipt with an invalid signature is never a link,
//! whatever its content.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use serde::Serialize;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::keys::{self, PublicKeys, TokenError};
use super::opening::Offered;
use super::{CHECKPOINT, RECEIPT, claims, digest};

/// The kind of a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// Neither an event, a receipt, a checkpoint nor a pack.
    Unreadable,
    /// A job's final event without a receipt.
    NoReceipt,
    /// Its key is not among the given ones.
    UnknownKey,
    /// Its signature is invalid, or its digest differs.
    Altered,
    /// Missing numbers of a chain.
    Missing,
    /// It does not name the receipt before it.
    BrokenLink,
    /// Two receipts have the same number in one chain.
    Forked,
    /// It is at the wrong place in a list in chain order.
    OutOfOrder,
    /// The event differs from its receipt.
    Contradicted,
    /// The given job does not open its receipt's commitment.
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

/// One fault.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Fault {
    /// The chain, if it is known.
    pub chain: Option<Uuid>,
    /// The number, or the first of several; an altered receipt's number is not proven.
    pub number: Option<u64>,
    /// The last of several missing numbers.
    pub through: Option<u64>,
    /// The kind.
    pub kind: FaultKind,
    /// The file and line, if there is one.
    pub place: Option<String>,
    /// The description.
    pub detail: String,
}

/// The given part of a chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ChainReport {
    /// The chain.
    pub chain: Uuid,
    /// The worker's name in the chain.
    pub worker: String,
    /// The lowest given number.
    pub first: u64,
    /// The highest given number.
    pub last: u64,
    /// The number of given links.
    pub receipts: usize,
    /// The chain's beginning, from the first link, if that is given.
    pub started: Option<String>,
    /// The last link that retention removed, from a signed checkpoint.
    pub removed_through: Option<u64>,
}

/// The result of a check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// True if there is no fault.
    pub valid: bool,
    /// Receipts with a valid signature, each counted once.
    pub receipts: usize,
    /// Commitments that the given jobs have opened.
    pub opened: usize,
    /// The chains.
    pub chains: Vec<ChainReport>,
    /// The faults.
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
    /// Numbers that are all in a pack, by its signed manifest.
    spans: Vec<RangeInclusive<u64>>,
    /// The highest number outside packs.
    loose: Option<u64>,
    worker: String,
}

/// Takes receipts one by one, and checks them together at the end.
pub struct Checker<'a> {
    keys: &'a PublicKeys,
    partial: bool,
    chains: BTreeMap<Uuid, Chain>,
    offered: Vec<Offered>,
    opened: usize,
    faults: Vec<Fault>,
}

impl<'a> Checker<'a> {
    /// A checker with the public keys. `partial`: only some links of a chain are given, so missing numbers are no
    /// fault. Links between neighbours are still checked.
    pub fn new(keys: &'a PublicKeys, partial: bool) -> Checker<'a> {
        Checker { keys, partial, chains: BTreeMap::new(), offered: Vec::new(), opened: 0, faults: Vec::new() }
    }

    /// Takes a job as it was published: it must open its receipts' commitments. Call this before the receipts are
    /// given.
    pub fn offer(&mut self, job: Offered) {
        self.offered.push(job);
    }

    /// The given keys.
    pub fn keys(&self) -> &'a PublicKeys {
        self.keys
    }

    /// Notes a fault at a place, without a certain number.
    pub fn fault(&mut self, kind: FaultKind, place: &str, detail: impl Into<String>) {
        let place = Some(place.to_owned());
        self.faults.push(Fault { chain: None, number: None, through: None, kind, place, detail: detail.into() });
    }

    /// Notes a receipt that comes after a later one in a list in chain order.
    pub fn out_of_order(&mut self, place: &str, (chain, number): (Uuid, u64)) {
        let (chain, number, place) = (Some(chain), Some(number), Some(place.to_owned()));
        let detail = "it stands behind a later receipt".to_owned();
        self.faults.push(Fault { chain, number, through: None, kind: FaultKind::OutOfOrder, place, detail });
    }

    /// Takes a receipt and the event that carried it. Returns its chain and number if its signature is valid.
    pub fn receipt(&mut self, place: &str, token: &str, event: Option<&Map<String, Value>>) -> Option<(Uuid, u64)> {
        let link = self.link(place, token, event)?;
        let chain = self.chains.entry(link.0).or_default();
        chain.loose = chain.loose.max(Some(link.1));
        Some(link)
    }

    /// Takes a receipt of a pack, whose span must be complete.
    pub fn packed(&mut self, place: &str, token: &str) -> Option<(Uuid, u64, Map<String, Value>)> {
        let (chain, number) = self.link(place, token, None)?;
        Some((chain, number, keys::claimed(token)?))
    }

    /// Notes the numbers that a pack holds, by its signed manifest.
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
            // A final event may be given twice; its bytes are the same.
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
        // Altered anywhere, perhaps in the signature's own form.
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

    /// Checks everything that was given.
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

    /// The missing numbers: within packs, by their manifests; outside, from the beginning (or the latest checkpoint)
    /// to the highest given number.
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
