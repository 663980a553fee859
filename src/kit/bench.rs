//! The worker's side of a trial: the client, the rules and a job, all made from one file.
//!
//! The rule it keeps: the stand-in is made from the original file, also where the worker has a changed one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use erasure_connector::Connector;
use erasure_connector::model::Shows;
use erasure_connector::stand_in::{Pace, Person, StandIn};
use secrecy::SecretString;
use serde_json::{Value, json};

use super::run::START;
use super::trials::Around;
use super::vendor::Vendor;
use crate::job::flow::Limits;
use crate::job::plan::Evidence;
use crate::job::{Accepts, Job, Kind, Mode, Plan, Rules, draft};
use crate::systems::System;
use crate::systems::connector::ConnectorSettings;
use crate::systems::http::{HttpSettings, Wire};

/// The system's name in jobs.
pub(super) const SYSTEM: &str = "vendor";
/// An address that is never connected to.
const ADDRESS: &str = "http://stand-in.example.com";
/// The person of the job, among the people of the stand-in.
pub(super) const PERSON: usize = 1;

/// The proof in the job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Proof {
    Right,
    Wrong,
    Missing,
}

/// The start of a run.
#[derive(Debug, Clone)]
pub(super) struct Scenario {
    pub(super) name: String,
    pub(super) pace: Pace,
    pub(super) exists: bool,
    /// The credential has found a person before.
    pub(super) knows_somebody: bool,
    /// This identifier of the job is another person's.
    pub(super) differs: Option<String>,
    pub(super) proof: Proof,
    pub(super) is_preview: bool,
}

impl Scenario {
    pub(super) fn new(name: impl Into<String>) -> Scenario {
        Scenario {
            name: name.into(),
            pace: Pace::default(),
            exists: true,
            knows_somebody: false,
            differs: None,
            proof: Proof::Right,
            is_preview: false,
        }
    }

    pub(super) fn but(mut self, change: impl FnOnce(&mut Scenario)) -> Scenario {
        change(&mut self);
        self
    }
}

/// The most pauses of the longest kind in one wait for evidence. More would be the same again.
const MOST_PAUSES: u32 = 12;

/// The plan, with an end of each wait that is not many pauses away.
fn shortened(plan: &Plan) -> Plan {
    let mut plan = plan.clone();
    for act in &mut plan.acts {
        if let Evidence::Read { longest: Some(longest), within: Some(within), .. } = &mut act.evidence {
            *within = (*within).min(*longest * MOST_PAUSES);
        }
    }
    plan
}

/// A worker with one file, and the stand-in of a file.
pub(super) struct Bench {
    /// The file that the stand-in is made from, and by which a run is judged.
    pub(super) original: Arc<Connector>,
    settings: ConnectorSettings,
    pub(super) rules: Rules,
    pub(super) limits: Limits,
    around: Option<Around>,
    stand_in: StandIn,
}

impl Bench {
    /// # Errors
    /// The worker cannot work with this file, in words.
    pub(super) fn new(original: &Arc<Connector>, under_test: &Arc<Connector>) -> Result<Bench, String> {
        let mut stand_in = StandIn::new(Arc::clone(original));
        stand_in.add(1);
        stand_in.add(2);
        let secrets: BTreeMap<String, SecretString> =
            stand_in.secrets().iter().map(|(name, value)| (name.clone(), SecretString::from(value.as_str()))).collect();
        let settings =
            ConnectorSettings::of_stand_in(Arc::clone(under_test), ADDRESS, stand_in.settings().clone(), secrets)?;
        let rules = Rules { plan: Some(Arc::new(shortened(&settings.plan))), ..Rules::new(Kind::Connector) };
        let limits = Limits {
            max_attempts: 8,
            max_elapsed: Duration::from_secs(72 * 3600),
            max_interval: Duration::from_secs(15 * 60),
            input_max: Duration::from_secs(2 * 3600),
            pending_max: Duration::from_secs(2 * 3600),
            approval_max: Duration::from_secs(24 * 3600),
        };
        Ok(Bench { original: Arc::clone(original), settings, rules, limits, around: None, stand_in })
    }

    /// With something around each client.
    pub(super) fn with_client_in(self, around: Option<Around>) -> Bench {
        Bench { around, ..self }
    }

    /// A vendor in the state of the scenario.
    pub(super) fn vendor(&self, scenario: &Scenario) -> Vendor {
        let mut stand_in = self.stand_in.clone();
        stand_in.pace = scenario.pace;
        if let Some(person) = stand_in.person_mut(PERSON) {
            person.exists = scenario.exists;
        }
        Vendor::new(stand_in)
    }

    /// A client that has just started.
    ///
    /// # Errors
    /// It cannot be built, in words.
    pub(super) fn client(&self, vendor: &Arc<Vendor>) -> Result<Arc<dyn System>, String> {
        let wire = Wire::InProcess(Arc::clone(vendor) as Arc<_>);
        let http = HttpSettings { wire, ..HttpSettings::default() };
        let client = self.settings.system(SYSTEM, &http).map_err(|error| error.to_string())?;
        Ok(self.around.map_or_else(|| Arc::clone(&client), |around| around(Arc::clone(&client))))
    }

    /// The job of the scenario.
    ///
    /// # Errors
    /// The worker refuses such a job, in words.
    pub(super) fn job(&self, scenario: &Scenario) -> Result<Job, String> {
        let mut target = self.stand_in.target(PERSON);
        target.insert("system".to_owned(), json!(SYSTEM));
        if let Some(name) = &scenario.differs {
            let other = Person::numbered(&self.original, 99);
            if let (Some(subject), Some(value)) = (target.get_mut("subject"), other.identifiers.get(name)) {
                subject[name.as_str()] = json!(value);
            }
        }
        match (scenario.proof, target.get_mut("proofs")) {
            (Proof::Missing, _) => drop(target.remove("proofs")),
            (Proof::Wrong, Some(Value::Object(proofs))) => {
                proofs.values_mut().for_each(|proof| *proof = json!("wrong"))
            }
            _ => {}
        }
        // Of a changed file, the job names what that file asks for.
        let known = &self.settings.file;
        if let Some(Value::Object(subject)) = target.get_mut("subject") {
            subject.retain(|name, _| known.identifiers.contains_key(name));
        }
        let job = json!({
            "schema": "erasure.job/v1",
            "job_id": "6c0b7b0e-6a4e-4a53-9a2e-0d8c6a0a7f11",
            "requested_at": START.to_rfc3339(),
            "targets": [target],
        });
        let accepts = Accepts {
            environment: "production".to_owned(),
            systems: [(SYSTEM.to_owned(), self.rules.clone())].into(),
            regulations: BTreeMap::new(),
        };
        let mut job = draft::job(job.to_string().as_bytes(), None, &accepts)
            .map_err(|refusal| format!("its job is refused: {}", refusal.invalid))?;
        if scenario.is_preview {
            job.mode = Mode::Preview;
        }
        Ok(job)
    }

    /// An identifier of the job's person.
    pub(super) fn identifier(&self, name: &str) -> Option<&String> {
        self.stand_in.people().get(PERSON)?.identifiers.get(name)
    }

    /// The right proofs of the job's person.
    pub(super) fn proofs(&self) -> BTreeMap<String, String> {
        self.stand_in.people().get(PERSON).map(|person| person.proofs.clone()).unwrap_or_default()
    }

    /// Every value that names or proves a person, or opens the vendor.
    pub(super) fn planted(&self) -> Vec<(String, String)> {
        let mut planted = Vec::new();
        for person in self.stand_in.people() {
            planted.extend(
                person.identifiers.iter().map(|(name, value)| (format!("the identifier {name}"), value.clone())),
            );
            planted.extend(person.proofs.iter().map(|(name, value)| (format!("the proof {name}"), value.clone())));
        }
        planted
            .extend(self.stand_in.secrets().iter().map(|(name, value)| (format!("the secret {name}"), value.clone())));
        planted
    }

    /// The identifiers that are compared with what the vendor shows of the person.
    pub(super) fn compared(&self) -> Vec<String> {
        let person = self.original.reads.first();
        let found = person.into_iter().flat_map(|read| &read.answers).filter(|answer| answer.is == Shows::Found);
        let mut names: Vec<String> =
            found.flat_map(|answer| answer.same.iter().map(|(_, name)| name.clone())).collect();
        names.sort();
        names.dedup();
        names
    }
}
