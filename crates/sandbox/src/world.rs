//! All that the sandbox holds: the systems by name, the fault plan, the ledger.
//!
//! The rule it keeps: a system comes into being, empty and with default settings, when it is first named.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::call::StandIn;
use super::cleeng::Cleeng;
use super::easycms::Easycms;
use super::faults::Faults;
use super::ledger::Ledger;
use super::loyalty::Loyalty;
use super::requester::Requester;
use super::vitalsource::Vitalsource;

/// Everything in the sandbox. Systems are named as in a URL's first path segment: the kind, or
/// `kind@instance` for a further one (`loyalty@2`).
#[derive(Default)]
pub struct World {
    cleeng: BTreeMap<String, Cleeng>,
    loyalty: BTreeMap<String, Loyalty>,
    easycms: BTreeMap<String, Easycms>,
    vitalsource: BTreeMap<String, Vitalsource>,
    requester: Requester,
    pub(super) faults: Faults,
    pub(super) ledger: Ledger,
}

/// The kind in a system's name.
pub(super) fn kind_of(system: &str) -> &str {
    system.split_once('@').map_or(system, |(kind, _)| kind)
}

/// The instance under `name`, made when missing.
fn instance<'a, T: Default>(all: &'a mut BTreeMap<String, T>, name: &str) -> &'a mut T {
    all.entry(name.to_owned()).or_default()
}

impl World {
    /// The Cleeng publisher under `name` (`cleeng`, `cleeng@2`).
    pub fn cleeng(&mut self, name: &str) -> &mut Cleeng {
        instance(&mut self.cleeng, name)
    }

    /// The Loyalty program under `name` (`loyalty`, `loyalty@2`).
    pub fn loyalty(&mut self, name: &str) -> &mut Loyalty {
        instance(&mut self.loyalty, name)
    }

    /// The EasyCMS shop under `name` (`easycms`, `easycms@2`).
    pub fn easycms(&mut self, name: &str) -> &mut Easycms {
        instance(&mut self.easycms, name)
    }

    /// The VitalSource account under `name` (`vitalsource`, `vitalsource@2`).
    pub fn vitalsource(&mut self, name: &str) -> &mut Vitalsource {
        instance(&mut self.vitalsource, name)
    }

    /// The requester's own endpoint.
    pub fn requester(&self) -> &Requester {
        &self.requester
    }

    /// All systems with their settings and people, by name.
    pub fn state(&self) -> Value {
        let mut all = Map::new();
        all.extend(self.cleeng.iter().map(|(name, system)| (name.clone(), json!(system))));
        all.extend(self.loyalty.iter().map(|(name, system)| (name.clone(), json!(system))));
        all.extend(self.easycms.iter().map(|(name, system)| (name.clone(), json!(system))));
        all.extend(self.vitalsource.iter().map(|(name, system)| (name.clone(), json!(system))));
        all.insert("requester".into(), json!(self.requester));
        Value::Object(all)
    }

    pub(super) fn reset(&mut self) {
        let mut ledger = std::mem::take(&mut self.ledger);
        ledger.clear();
        *self = World { ledger, ..World::default() };
    }

    /// The stand-in under `name`; `None` for a kind that there is not.
    pub(super) fn stand_in(&mut self, name: &str) -> Option<&mut dyn StandIn> {
        match kind_of(name) {
            "cleeng" => Some(self.cleeng(name)),
            "loyalty" => Some(self.loyalty(name)),
            "easycms" => Some(self.easycms(name)),
            "vitalsource" => Some(self.vitalsource(name)),
            "requester" => Some(&mut self.requester),
            _ => None,
        }
    }
}
