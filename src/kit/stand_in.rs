//! A connector file's stand-in in the sandbox, with the table of a configuration and a job for it.

use std::sync::Arc;

use erasure_connector::Connector;
use erasure_connector::model::Lost;
use erasure_connector::stand_in::{Answered, Asked, Pace, Part, Route, StandIn};
use serde_json::{Map, Value, json};

use crate::sandbox::{Described, DescribedCall, DescribedReply, DescribedRoute, Operation};

/// A stand-in for the sandbox.
#[derive(Clone)]
pub struct Served(StandIn);

/// The stand-in of a file.
pub fn served(file: &Arc<Connector>) -> Served {
    Served(StandIn::new(Arc::clone(file)))
}

fn asked<'a>(call: &DescribedCall<'a>) -> Asked<'a> {
    let DescribedCall { method, segments, query, headers, body, form } = *call;
    Asked { method, segments, query, headers, body, form }
}

impl Served {
    /// The system's table in a worker's configuration. `file` is the path of the connector file.
    pub fn table(&self, base_url: &str, file: &str) -> String {
        let mut table = format!("kind = \"connector\"\nfile = {}\nbase_url = \"{base_url}\"\n", json!(file));
        let given: Vec<_> = self.0.settings().iter().chain(self.0.secrets()).collect();
        if !given.is_empty() {
            let given: Vec<String> = given.iter().map(|(name, value)| format!("{name} = {}", json!(value))).collect();
            table.push_str(&format!("settings = {{ {} }}\n", given.join(", ")));
        }
        table
    }

    /// A job's target for the person with this number.
    pub fn target(&self, system: &str, number: u64) -> Option<Value> {
        let place = self.0.people().iter().position(|person| person.number == number)?;
        let mut target = Map::new();
        target.insert("system".to_owned(), json!(system));
        target.extend(self.0.target(place));
        Some(Value::Object(target))
    }

    fn operation(&self, part: Part) -> Operation {
        match part {
            Part::Probe => Operation::ConnectorProbe,
            Part::Read(_) => Operation::ConnectorRead,
            Part::Act(act) => match self.0.file().acts.get(act).map(|act| &act.lost) {
                Some(Lost::Recognised | Lost::Harmless(_)) => Operation::ConnectorRepeatableAct,
                _ => Operation::ConnectorAct,
            },
        }
    }
}

fn reply(answered: Answered, credentials_ok: bool) -> DescribedReply {
    let Answered { given, effect } = answered;
    DescribedReply {
        status: given.status,
        content_type: given.content_type(),
        body: given.bytes(),
        headers: given.headers.into_iter().collect(),
        effect,
        credentials_ok,
    }
}

fn answer(stand_in: &mut StandIn, call: &DescribedCall<'_>, now_ms: u64) -> DescribedReply {
    let asked = asked(call);
    match stand_in.route(&asked) {
        Some(route) => {
            let is_authorised = route.is_authorised;
            reply(stand_in.answer(&route, &asked, now_ms), is_authorised)
        }
        None => {
            let given = StandIn::refusal();
            reply(Answered { given, effect: false }, false)
        }
    }
}

impl Described for Served {
    fn route(&self, call: &DescribedCall<'_>) -> Option<DescribedRoute> {
        let Route { parts, names, person, member, .. } = self.0.route(&asked(call))?;
        let part = *parts.first()?;
        let number = person.and_then(|place| self.0.people().get(place)).map(|person| person.number);
        let object = if matches!(part, Part::Act(_)) { format!("{names} {member}") } else { names };
        Some(DescribedRoute {
            operation: self.operation(part),
            path: self.0.path(part),
            subject: number.map(|number| number.to_string()),
            object,
        })
    }

    fn answer(&mut self, call: &DescribedCall<'_>, now_ms: u64) -> DescribedReply {
        answer(&mut self.0, call, now_ms)
    }

    fn pretend(&self, call: &DescribedCall<'_>, now_ms: u64) -> DescribedReply {
        answer(&mut self.0.clone(), call, now_ms)
    }

    fn refuse(&self) -> DescribedReply {
        reply(Answered { given: StandIn::refusal(), effect: false }, false)
    }

    fn add_person(&mut self, number: u64) {
        self.0.add(number);
    }

    fn remains(&self, number: u64, now_ms: u64) -> bool {
        let place = self.0.people().iter().position(|person| person.number == number);
        place.is_some_and(|place| self.0.holds(place, now_ms))
    }

    fn state(&self) -> Value {
        let person = |person: &erasure_connector::stand_in::Person| {
            let acts = person.acts.iter().map(|((act, member), made)| {
                json!({
                    "act": self.0.name(Part::Act(*act)), "member": member,
                    "at_ms": made.at_ms, "shows_ms": made.shows_ms, "times": made.times,
                })
            });
            json!({
                "number": person.number, "identifiers": person.identifiers, "proofs": person.proofs,
                "exists": person.exists, "acts": acts.collect::<Vec<_>>(),
            })
        };
        json!({
            "connector": self.0.file().name,
            "settings": { "effect_ms": self.0.pace.effect_ms, "form": self.0.pace.form },
            "people": self.0.people().iter().map(person).collect::<Vec<_>>(),
        })
    }

    fn change_settings(&mut self, changes: Value) -> Result<Value, serde_json::Error> {
        let mut all = json!({ "effect_ms": self.0.pace.effect_ms, "form": self.0.pace.form });
        let changes: Map<String, Value> = serde_json::from_value(changes)?;
        for (name, value) in changes {
            all[name] = value;
        }
        let settings: Settings = serde_json::from_value(all.clone())?;
        self.0.pace = Pace { effect_ms: settings.effect_ms, form: settings.form };
        Ok(all)
    }

    fn reset(&mut self) {
        self.0.clear();
        self.0.pace = Pace::default();
    }
}

/// `effect_ms`: the time from an accepted call to its effect, `null` for never; `form`: which of several replies.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    effect_ms: Option<u64>,
    form: usize,
}
