//! The stand-ins, and the sandbox's state. Only this file lists the stand-ins: [`KINDS`], [`OPERATIONS`] and the fields
//! of [`World`].
//!
//! The rule it keeps: the first use of a system's name creates it, empty and with default settings.

mod calls;
mod cleeng;
mod described;
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
use self::described::Foreign;
pub use self::described::{Described, DescribedCall, DescribedReply, DescribedRoute};
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

/// The kinds of stand-in with people.
pub const KINDS: [Kind; 4] = [Cleeng::KIND, Loyalty::KIND, Easycms::KIND, Vitalsource::KIND];

/// The known calls, by stand-in.
pub(crate) const OPERATIONS: [&[Row]; 7] = [
    cleeng::OPERATIONS,
    loyalty::OPERATIONS,
    easycms::OPERATIONS,
    vitalsource::OPERATIONS,
    requester::OPERATIONS,
    described::OPERATIONS,
    &[UNKNOWN],
];

/// The sandbox's state. A system's name is the first path segment of its URLs: the kind, or `kind@instance` for a
/// further instance (`loyalty@2`).
#[derive(Default)]
pub struct World {
    cleeng: Instances<Cleeng>,
    loyalty: Instances<Loyalty>,
    easycms: Instances<Easycms>,
    vitalsource: Instances<Vitalsource>,
    requester: Requester,
    /// By system: the name of a connector file's stand-in.
    described: BTreeMap<String, Foreign>,
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

    /// Adds a stand-in that is described from outside, under this name (`connector`, `connector@2`).
    pub fn describe(&mut self, name: &str, stand_in: Box<dyn Described>) {
        self.described.insert(name.to_owned(), Foreign(stand_in));
    }

    /// The described stand-in under a name.
    pub fn described(&mut self, name: &str) -> Option<&mut (dyn Described + 'static)> {
        self.described.get_mut(name).map(|foreign| &mut *foreign.0)
    }

    /// All described stand-ins.
    pub(crate) fn all_described(&mut self) -> impl Iterator<Item = &mut (dyn Described + 'static)> {
        self.described.values_mut().map(|foreign| &mut *foreign.0)
    }

    pub fn requester(&self) -> &Requester {
        &self.requester
    }

    /// All systems with their settings and people, by name.
    pub fn state(&mut self) -> Value {
        let mut all: Map<String, Value> = self.registers().into_iter().flat_map(|register| register.state()).collect();
        all.extend(self.described.iter().map(|(name, foreign)| (name.clone(), foreign.0.state())));
        all.insert("requester".into(), json!(self.requester));
        Value::Object(all)
    }

    pub(crate) fn reset(&mut self) {
        let mut ledger = std::mem::take(&mut self.ledger);
        ledger.clear();
        let mut described = std::mem::take(&mut self.described);
        described.values_mut().for_each(|foreign| foreign.0.reset());
        *self = World { ledger, described, ..World::default() };
    }

    /// The stand-in under `name`; `None` for an unknown kind.
    pub(crate) fn stand_in(&mut self, name: &str) -> Option<&mut dyn StandIn> {
        if kind_of(name) == "requester" {
            return Some(&mut self.requester);
        }
        if self.described.contains_key(name) {
            return self.described.get_mut(name).map(|foreign| foreign as &mut dyn StandIn);
        }
        Some(self.register(name)?.stand_in(name))
    }
}

/// The kind in a system's name.
pub(crate) fn kind_of(system: &str) -> &str {
    system.split_once('@').map_or(system, |(kind, _)| kind)
}

/// A kind of stand-in, for its users.
pub struct Kind {
    /// The first segment of its paths, up to an `@`.
    pub name: &'static str,
    /// The first segments of its interfaces' paths.
    pub paths: &'static [&'static str],
    /// The system's table in a worker's configuration, for the sandbox's address (`http://ADDR`) and the system's name.
    pub table: fn(&str, &str) -> String,
    /// The target of a job for a person, with the data of [`Person::numbered`].
    pub target: fn(&Person) -> Value,
    /// The target for the person of the example job.
    pub example: fn() -> Value,
}

/// A stand-in with people.
pub(crate) trait Peopled: StandIn + Default + Serialize {
    const KIND: Kind;
    type Settings: Serialize + DeserializeOwned;

    fn settings(&mut self) -> &mut Self::Settings;
    /// A function that adds the items of `body` to a collection; `None` if there is no such collection.
    fn seeds(collection: &str, body: Value) -> Option<Result<Seeds<Self>, serde_json::Error>>;
    fn add_person(&mut self, person: &Person);
    /// The person's remaining data, as `system: data`.
    fn remains(&self, person: &Person) -> Vec<&'static str>;
    /// Adds the person of the example job.
    fn add_example(&mut self);
}

/// Adds items to a stand-in.
pub(crate) type Seeds<S> = Box<dyn FnOnce(&mut S)>;

/// A function that adds the items of a body: one, or a list.
pub(crate) fn seeds<S: 'static, T: DeserializeOwned + 'static>(
    body: Value,
    add: fn(&mut S, T),
) -> Result<Seeds<S>, serde_json::Error> {
    let items: Vec<T> = each(body)?;
    Ok(Box::new(move |stand_in| items.into_iter().for_each(|item| add(stand_in, item))))
}

/// The items of a body: one, or a list.
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
    /// The instance under `name`, created if missing.
    fn named(&mut self, name: &str) -> &mut S {
        self.0.entry(name.to_owned()).or_default()
    }
}

/// The instances of one kind. A method for one instance creates it if it is missing. The first instance has the kind's
/// name.
pub(crate) trait Register {
    fn kind(&self) -> Kind;
    /// The instances with their settings and people, by name.
    fn state(&self) -> Vec<(String, Value)>;
    fn stand_in(&mut self, name: &str) -> &mut dyn StandIn;
    /// Adds the items of `body` to a collection; `None` if there is no such collection.
    fn seed(&mut self, name: &str, collection: &str, body: Value) -> Option<Result<(), serde_json::Error>>;
    /// Replaces the settings that `changes` names; returns all settings.
    fn change_settings(&mut self, name: &str, changes: Value) -> Result<Value, serde_json::Error>;
    /// Adds a person to the first instance.
    fn add_person(&mut self, person: &Person);
    /// The person's remaining data in the first instance, as `system: data`.
    fn remains(&mut self, person: &Person) -> Vec<&'static str>;
    /// Adds the person of the example job to the first instance.
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
        Some(S::seeds(collection, body)?.map(|add| add(self.named(name))))
    }

    fn change_settings(&mut self, name: &str, changes: Value) -> Result<Value, serde_json::Error> {
        let settings = self.named(name).settings();
        let mut all = serde_json::to_value(&*settings)?;
        let changes: Map<String, Value> = serde_json::from_value(changes)?;
        for (name, value) in changes {
            all[name] = value;
        }
        *settings = serde_json::from_value(all.clone())?;
        Ok(all)
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
