//! The stand-in of each file in `connectors/`: what it shows before, between and after the acts.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::Value;

use crate::fill::{FilledBody, authorization, converted, filled};
use crate::matching::Values;
use crate::model::{Call, Connector, Evidence, Expect, Says, Shows, Slot, Source};
use crate::stand_in::{Answered, Asked, Pace, Part, StandIn};
use crate::understand::{Compared, Taken, Understood};
use crate::{load, vary};

use super::edits::BASE;

const NOW: u64 = 1_795_341_600_000;

fn all() -> Vec<Connector> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../connectors");
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let files: Vec<Connector> = paths
        .iter()
        .filter(|path| path.extension().is_some_and(|end| end == "toml"))
        .map(|path| {
            load(&std::fs::read(path).unwrap()).unwrap_or_else(|faults| panic!("{}:\n{faults}", path.display()))
        })
        .collect();
    assert!(files.len() >= 14);
    // It has a list, and an act for each member.
    files.into_iter().chain([load(BASE.as_bytes()).unwrap()]).collect()
}

/// A client's values.
struct Of<'a> {
    stand_in: &'a StandIn,
    person: usize,
    facts: &'a BTreeMap<String, Taken>,
    item: Option<String>,
}

impl Values for Of<'_> {
    fn slot(&self, slot: &Slot) -> Option<String> {
        let person = &self.stand_in.people()[self.person];
        let value = match slot.source {
            Source::Id => person.identifiers.get(&slot.name)?.clone(),
            Source::Proof => person.proofs.get(&slot.name)?.clone(),
            Source::Setting => self.stand_in.settings().get(&slot.name)?.clone(),
            Source::Secret => self.stand_in.secrets().get(&slot.name)?.clone(),
            Source::Item => self.item.clone()?,
            Source::Fact => match self.facts.get(&slot.name)? {
                Taken::Text(text) | Taken::Number(text) => text.clone(),
                Taken::List(_) => return None,
            },
        };
        Some(converted(value, &slot.converters))
    }
}

/// A client of the stand-in.
struct Client {
    stand_in: StandIn,
    facts: BTreeMap<String, Taken>,
    item: Option<String>,
    now: u64,
}

impl Client {
    fn new(file: Connector, pace: Pace) -> Client {
        let mut stand_in = StandIn::new(Arc::new(file));
        stand_in.pace = pace;
        assert_eq!((stand_in.add(1), stand_in.add(2)), (0, 1));
        Client { stand_in, facts: BTreeMap::new(), item: None, now: NOW }
    }

    fn send(&mut self, call: &Call, wanted: Part) -> Answered {
        let file = self.stand_in.file().clone();
        let values = Of { stand_in: &self.stand_in, person: 1, facts: &self.facts, item: self.item.clone() };
        let sent = filled(call, &file.http, &values).unwrap();
        let mut headers: Vec<(String, String)> = sent.headers.clone();
        headers
            .extend(authorization(&file.http.auth, &values).unwrap().map(|value| ("authorization".to_owned(), value)));
        let decoded = |text: &str| percent_encoding::percent_decode_str(text).decode_utf8().unwrap().into_owned();
        let segments: Vec<String> = sent.path.trim_start_matches('/').split('/').map(decoded).collect();
        let (body, form) = match sent.body {
            FilledBody::None => (Vec::new(), None),
            FilledBody::Json(value) => (value.to_string().into_bytes(), None),
            FilledBody::Form(form) => (b"form".to_vec(), Some(form)),
        };
        let asked = Asked {
            method: &format!("{:?}", sent.method).to_uppercase(),
            segments: &segments,
            query: &sent.query,
            headers: &headers,
            body: &body,
            form: form.as_deref(),
        };
        let route = self.stand_in.route(&asked).unwrap_or_else(|| panic!("{}: {wanted:?} has no route", file.name));
        assert!(route.parts.contains(&wanted), "{}: {wanted:?} is {route:?}", file.name);
        assert!(route.is_authorised && (route.person == Some(1) || wanted == Part::Probe), "{}: {route:?}", file.name);
        let wrong = Asked { headers: &[], ..asked };
        assert!(!self.stand_in.route(&wrong).is_some_and(|route| route.is_authorised) || headers.is_empty());
        self.stand_in.answer(&route, &asked, self.now)
    }

    /// The members for which an act is called.
    fn items(&self, act: usize) -> Vec<Option<String>> {
        let file = self.stand_in.file();
        match file.acts[act].each.as_ref().map(|name| &self.facts[name]) {
            Some(Taken::List(members)) => members.iter().cloned().map(Some).collect(),
            Some(_) => panic!("{}: no list", file.name),
            None => vec![None],
        }
    }

    fn read(&mut self, read: usize) -> Option<Shows> {
        let file = self.stand_in.file().clone();
        let call = file.reads[read].call.clone()?;
        let given = self.send(&call, Part::Read(read)).given;
        let values = Of { stand_in: &self.stand_in, person: 1, facts: &self.facts, item: self.item.clone() };
        match file.understand_read(&file.reads[read], &given.reply(), &values) {
            Understood::Means { is, identity, facts, .. } => {
                assert!(identity != Compared::Other, "{}: {given:?}", file.name);
                self.facts.extend(facts);
                Some(is)
            }
            _ => None,
        }
    }

    fn act(&mut self, act: usize) -> Option<Says> {
        let file = self.stand_in.file().clone();
        let given = self.send(&file.acts[act].call, Part::Act(act)).given;
        let values = Of { stand_in: &self.stand_in, person: 1, facts: &self.facts, item: self.item.clone() };
        match file.understand_act(&file.acts[act], &given.reply(), &values) {
            Understood::Means { is, facts, .. } => {
                self.facts.extend(facts);
                Some(is)
            }
            _ => None,
        }
    }
}

fn expected(file: &Connector, act: usize) -> Vec<Expect> {
    match &file.acts[act].evidence {
        Evidence::Read { expect, .. } => expect.clone(),
        _ => Vec::new(),
    }
}

#[test]
fn a_stand_in_shows_a_person_until_every_act_has_taken_effect() {
    for file in all() {
        for form in 0..2 {
            let mut client = Client::new(file.clone(), Pace { effect_ms: Some(60_000), form });
            client.send(&file.probe.call, Part::Probe);
            if file.reads[0].call.is_some() {
                assert_eq!(client.read(0), Some(Shows::Found), "{}", file.name);
            }
            for read in file.before_acts().into_iter().skip(1) {
                assert!(client.read(read).is_some(), "{}", file.name);
            }
            for act in 0..file.acts.len() {
                assert!(client.stand_in.holds(1, client.now), "{}", file.name);
                for item in client.items(act) {
                    client.item = item;
                    let first = client.act(act);
                    assert!(matches!(first, Some(Says::Accepted | Says::Done)), "{} act {act}: {first:?}", file.name);
                    for expect in expected(&file, act) {
                        let shows = client.read(expect.read);
                        let early = shows.is_some_and(|shows| expect.shows.contains(&shows));
                        // Evidence of an earlier act may be shown again.
                        let before = act > 0 && expected(&file, act - 1).iter().any(|one| one.read == expect.read);
                        assert!(!early || before, "{} act {act} read {}: {shows:?}", file.name, expect.read);
                    }
                    client.now += 60_000;
                    for expect in expected(&file, act) {
                        let shows = client.read(expect.read);
                        assert!(
                            shows.is_some_and(|shows| expect.shows.contains(&shows)),
                            "{} act {act} read {}: {shows:?}, gaps {:?}",
                            file.name,
                            expect.read,
                            client.stand_in.gaps()
                        );
                    }
                }
            }
            assert!(!client.stand_in.holds(1, client.now), "{}", file.name);
            assert!(client.stand_in.holds(0, client.now), "{}: somebody else is gone", file.name);
            if file.reads[0].answers.iter().any(|answer| answer.is == Shows::Gone) {
                assert_eq!(client.read(0), Some(Shows::Gone), "{}", file.name);
            }
            assert!(client.stand_in.gaps().is_empty(), "{}: {:?}", file.name, client.stand_in.gaps());
        }
    }
}

#[test]
fn a_repeat_is_answered_as_the_vendor_answers_it_and_an_unknown_person_is_nobody() {
    for file in all() {
        let mut client = Client::new(file.clone(), Pace::default());
        if file.reads[0].call.is_some() {
            client.stand_in.person_mut(1).unwrap().exists = false;
            assert_eq!(client.read(0), Some(Shows::Gone), "{}", file.name);
            client.stand_in.person_mut(1).unwrap().exists = true;
            assert_eq!(client.read(0), Some(Shows::Found), "{}", file.name);
        }
        for read in file.before_acts().into_iter().skip(1) {
            client.read(read);
        }
        client.item = client.items(0).remove(0);
        assert!(client.act(0).is_some(), "{}", file.name);
        let again = client.act(0);
        assert!(again.is_some_and(|says| says != Says::Refused), "{}: {again:?}", file.name);
    }
}

#[test]
fn a_document_can_be_made_for_every_answer_of_every_file() {
    let mut missing = Vec::new();
    for file in all() {
        let client = Client::new(file.clone(), Pace::default());
        let values = Of { stand_in: &client.stand_in, person: 1, facts: &client.facts, item: Some("9".to_owned()) };
        for read in &file.reads {
            for index in 0..read.answers.len() {
                if vary::documents(&read.answers, index, &values).is_empty() {
                    missing.push(format!("{}: read.{}.answers[{index}]", file.name, read.name));
                }
            }
        }
        for act in &file.acts {
            for index in 0..act.answers.len() {
                if vary::documents(&act.answers, index, &values).is_empty() {
                    missing.push(format!("{}: act.{}.answers[{index}]", file.name, act.name));
                }
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
}

#[test]
fn changed_replies_and_changed_files_are_many_and_always_the_same() {
    for file in all() {
        let changes = vary::files::changes(&file);
        assert!(changes.len() > 15, "{}: {}", file.name, changes.len());
        let described = |file: &Connector| -> Vec<String> {
            vary::files::changes(file).into_iter().map(|one| format!("{} {}", one.place, one.what)).collect()
        };
        assert_eq!(described(&file), described(&file));
        assert!(vary::files::refusals(&file).is_empty(), "{}", file.name);
        for example in &file.examples {
            let changes = vary::replies::changes(&vary::Given::recorded(example));
            assert!(changes.len() >= 17, "{}: {}", file.name, changes.len());
            let bodies: Vec<Option<Value>> =
                changes.iter().map(|change| serde_json::from_slice(&change.body).ok()).collect();
            assert!(bodies.iter().any(Option::is_some) || example.body.is_empty());
        }
    }
}

#[test]
fn every_change_of_a_reply_is_another_reply() {
    let body = vary::Content::Json(serde_json::json!({ "id": 7, "name": "x", "tags": ["y"], "is": { "on": true } }));
    let given = vary::Given::new(200, body);
    let changes = vary::replies::changes(&given);
    let mut met = std::collections::BTreeSet::new();
    for change in &changes {
        assert!((change.status, change.body.as_slice()) != (200, given.bytes().as_slice()), "{}", change.what);
        assert!(met.insert((change.status, change.body.clone())), "{} is there twice", change.what);
    }
    let body_of = |what: &str| {
        let change = changes.iter().find(|change| change.what == what).unwrap_or_else(|| panic!("no {what}"));
        String::from_utf8(change.body.clone()).unwrap()
    };
    let value_of = |what: &str| serde_json::from_str::<Value>(&body_of(what)).unwrap();
    let whole = || serde_json::from_slice::<Value>(&given.bytes()).unwrap();
    let with = |change: &dyn Fn(&mut Value)| {
        let mut value = whole();
        change(&mut value);
        value
    };
    assert_eq!(value_of("/id missing"), with(&|value| drop(value.as_object_mut().unwrap().remove("id"))));
    assert_eq!(value_of("/tags empty"), with(&|value| value["tags"] = Value::from(Vec::<u8>::new())));
    assert_eq!(value_of("/is/on as a number"), with(&|value| value["is"]["on"] = Value::from(1)));
    assert_eq!(body_of("/id twice").matches("\"id\":7").count(), 2);
    assert!(body_of("/id beyond 2^53").contains("9007199254740993"));
}
