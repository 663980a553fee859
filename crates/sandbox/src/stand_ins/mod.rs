//! The stand-ins, and all that the sandbox holds. They are listed here alone: [`KINDS`], [`OPERATIONS`] and the
//! fields of [`World`]; what is particular to one lies in its own file.
//!
//! The rule it keeps: a system comes into being, empty and with default settings, when it is first named.

mod calls;
mod cleeng;
mod easycms;
mod loyalty;
mod requester;
mod vitalsource;

use std::collections::BTreeMap;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

pub use self::cleeng::{
    Anonymised, Cleeng, CleengSettings, Customer, Entitlement, EntitlementKind, EntitlementStatus, ListShape, RpcError,
    mint_jwt,
};
pub use self::easycms::{Account, Easycms, EasycmsSettings, Output, Slash, TotalCount};
pub use self::loyalty::{
    DeletedBy, Deletion, ErrorBody, ImportError, Loyalty, LoyaltySettings, Member, MemberKey, MemberProof, MemberShape,
};
pub use self::requester::{Abandoned, Requester};
pub use self::vitalsource::{
    Code, Licence, RateLimit, UnknownUser, UpdateReply, User, Vitalsource, VitalsourceSettings, WontRevoke,
};
use crate::call::StandIn;
use crate::faults::Faults;
use crate::ledger::Ledger;
use crate::operation::{Row, UNKNOWN};
use crate::people::Person;

/// The kinds of stand-in that have people.
pub const KINDS: [Kind; 4] = [Cleeng::KIND, Loyalty::KIND, Easycms::KIND, Vitalsource::KIND];

/// The calls that are known, by stand-in.
pub(crate) const OPERATIONS: [&[Row]; 6] = [
    cleeng::OPERATIONS,
    loyalty::OPERATIONS,
    easycms::OPERATIONS,
    vitalsource::OPERATIONS,
    requester::OPERATIONS,
    &[UNKNOWN],
];

/// Everything in the sandbox. Systems are named as in a URL's first path segment: the kind, or
/// `kind@instance` for a further one (`loyalty@2`).
#[derive(Default)]
pub struct World {
    cleeng: Instances<Cleeng>,
    loyalty: Instances<Loyalty>,
    easycms: Instances<Easycms>,
    vitalsource: Instances<Vitalsource>,
    requester: Requester,
    pub(crate) faults: Faults,
    pub(crate) ledger: Ledger,
}

impl World {
    /// The Cleeng publisher under `name` (`cleeng`, `cleeng@2`).
    pub fn cleeng(&mut self, name: &str) -> &mut Cleeng {
        self.cleeng.named(name)
    }

    /// The Loyalty program under `name` (`loyalty`, `loyalty@2`).
    pub fn loyalty(&mut self, name: &str) -> &mut Loyalty {
        self.loyalty.named(name)
    }

    /// The EasyCMS shop under `name` (`easycms`, `easycms@2`).
    pub fn easycms(&mut self, name: &str) -> &mut Easycms {
        self.easycms.named(name)
    }

    /// The VitalSource account under `name` (`vitalsource`, `vitalsource@2`).
    pub fn vitalsource(&mut self, name: &str) -> &mut Vitalsource {
        self.vitalsource.named(name)
    }

    /// The instances of each of [`KINDS`].
    pub(crate) fn registers(&mut self) -> [&mut dyn Register; KINDS.len()] {
        [&mut self.cleeng, &mut self.loyalty, &mut self.easycms, &mut self.vitalsource]
    }

    /// The instances of the kind that a system's name begins with; `None` if there is no such kind.
    pub(crate) fn register(&mut self, system: &str) -> Option<&mut dyn Register> {
        self.registers().into_iter().find(|register| register.kind().name == kind_of(system))
    }

    /// The requester's own endpoint.
    pub fn requester(&self) -> &Requester {
        &self.requester
    }

    /// All systems with their settings and people, by name.
    pub fn state(&mut self) -> Value {
        let mut all: Map<String, Value> = self.registers().into_iter().flat_map(|register| register.state()).collect();
        all.insert("requester".into(), json!(self.requester));
        Value::Object(all)
    }

    pub(crate) fn reset(&mut self) {
        let mut ledger = std::mem::take(&mut self.ledger);
        ledger.clear();
        *self = World { ledger, ..World::default() };
    }

    /// The stand-in under `name`; `None` for a kind that there is not.
    pub(crate) fn stand_in(&mut self, name: &str) -> Option<&mut dyn StandIn> {
        if kind_of(name) == "requester" {
            return Some(&mut self.requester);
        }
        Some(self.register(name)?.stand_in(name))
    }
}

/// The kind in a system's name.
pub(crate) fn kind_of(system: &str) -> &str {
    system.split_once('@').map_or(system, |(kind, _)| kind)
}

/// What is to be known of a kind of stand-in by those who use one.
pub struct Kind {
    /// The first segment of its paths, up to an `@`.
    pub name: &'static str,
    /// Its interfaces.
    pub paths: &'static [&'static str],
    /// What stands in a worker's table of the system: given where the sandbox is (`http://ADDR`), and its name.
    pub table: fn(&str, &str) -> String,
    /// The target of a job about a person, as people are known to it by default.
    pub target: fn(&Person) -> Value,
    /// The same about the person of the example job.
    pub example: fn() -> Value,
}

/// A stand-in that has people.
pub(crate) trait Peopled: StandIn + Default + Serialize {
    /// What is to be known of it.
    const KIND: Kind;
    /// What an instance is set to.
    type Settings: Serialize + DeserializeOwned;

    /// Its settings.
    fn settings(&mut self) -> &mut Self::Settings;
    /// What puts the things in `body` into a collection; `None` where there is no such collection.
    fn seeds(collection: &str, body: Value) -> Option<Result<Seeds<Self>, serde_json::Error>>;
    /// Makes a person known to it.
    fn add_person(&mut self, person: &Person);
    /// What of a person is still there, as `system: what`.
    fn remains(&self, person: &Person) -> Vec<&'static str>;
    /// Makes the person of the example job known to it.
    fn add_example(&mut self);
}

/// What is put into a stand-in.
pub(crate) type Seeds<S> = Box<dyn FnOnce(&mut S)>;

/// Puts each thing of a body, which holds one or a list of them.
pub(crate) fn seeds<S: 'static, T: DeserializeOwned + 'static>(
    body: Value,
    add: fn(&mut S, T),
) -> Result<Seeds<S>, serde_json::Error> {
    let things: Vec<T> = each(body)?;
    Ok(Box::new(move |stand_in| things.into_iter().for_each(|thing| add(stand_in, thing))))
}

/// One thing or a list of them.
pub(crate) fn each<T: DeserializeOwned>(body: Value) -> Result<Vec<T>, serde_json::Error> {
    serde_json::from_value(if body.is_array() { body } else { Value::Array(vec![body]) })
}

/// The instances of a kind, by name.
struct Instances<S>(BTreeMap<String, S>);

impl<S> Default for Instances<S> {
    fn default() -> Self {
        Instances(BTreeMap::new())
    }
}

impl<S: Default> Instances<S> {
    /// The instance under `name`, made when missing.
    fn named(&mut self, name: &str) -> &mut S {
        self.0.entry(name.to_owned()).or_default()
    }
}

/// The instances of one kind, whichever it is. What concerns a single one makes it where it is missing.
pub(crate) trait Register {
    /// What is to be known of the kind.
    fn kind(&self) -> Kind;
    /// The instances with their settings and people, by name.
    fn state(&self) -> Vec<(String, Value)>;
    /// The instance under `name`.
    fn stand_in(&mut self, name: &str) -> &mut dyn StandIn;
    /// Puts the things in `body` into a collection; `None` where there is no such collection.
    fn seed(&mut self, name: &str, collection: &str, body: Value) -> Option<Result<(), serde_json::Error>>;
    /// Puts the members of `changes` over those of the settings; returns the whole.
    fn change_settings(&mut self, name: &str, changes: Value) -> Result<Value, serde_json::Error>;
    /// Makes a person known to the instance that is named as the kind.
    fn add_person(&mut self, person: &Person);
    /// What of a person is still there in that instance, as `system: what`.
    fn remains(&mut self, person: &Person) -> Vec<&'static str>;
    /// Makes the person of the example job known to that instance.
    fn add_example(&mut self);
}

impl<S: Peopled> Register for Instances<S> {
    fn kind(&self) -> Kind {
        S::KIND
    }

    fn state(&self) -> Vec<(String, Value)> {
        self.0.iter().map(|(name, system)| (name.clone(), json!(system))).collect()
    }

    fn stand_in(&mut self, name: &str) -> &mut dyn StandIn {
        self.named(name)
    }

    fn seed(&mut self, name: &str, collection: &str, body: Value) -> Option<Result<(), serde_json::Error>> {
        Some(S::seeds(collection, body)?.map(|put| put(self.named(name))))
    }

    fn change_settings(&mut self, name: &str, changes: Value) -> Result<Value, serde_json::Error> {
        let settings = self.named(name).settings();
        let mut whole = serde_json::to_value(&*settings)?;
        let changes: Map<String, Value> = serde_json::from_value(changes)?;
        for (name, value) in changes {
            whole[name] = value;
        }
        *settings = serde_json::from_value(whole.clone())?;
        Ok(whole)
    }

    fn add_person(&mut self, person: &Person) {
        self.named(S::KIND.name).add_person(person);
    }

    fn remains(&mut self, person: &Person) -> Vec<&'static str> {
        self.named(S::KIND.name).remains(person)
    }

    fn add_example(&mut self) {
        self.named(S::KIND.name).add_example();
    }
}
