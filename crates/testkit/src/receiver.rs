//! A receiver of webhooks among the sandbox's stand-ins: people by number, and the documented answers.
//!
//! The rule it keeps: a known id gets the same answer again. A second id about a person is seen in the ledger.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use erasure_worker::sandbox::{Described, DescribedCall, DescribedReply, DescribedRoute, Operation};
use serde_json::{Value, json};

/// Added to a person's number.
const FIRST: u64 = 8_100_000_000;

/// The receiver.
#[derive(Default)]
pub(crate) struct Receiver {
    /// True while the person is there.
    people: BTreeMap<u64, bool>,
    /// By id of a request: the person, and the answer.
    requests: BTreeMap<String, (u64, Value)>,
}

/// A request that was understood.
enum Asked {
    Probe,
    Erase { id: String, number: u64 },
    Status { id: String },
    Read { number: u64 },
}

/// The person's identifiers in a job.
pub(crate) fn subject(number: u64) -> Value {
    json!({ "user_id": (FIRST + number).to_string(), "email": email(number) })
}

fn email(number: u64) -> String {
    format!("person{number}@example.com")
}

fn asked(call: &DescribedCall<'_>) -> Option<Asked> {
    let header = call.headers.iter().find(|(name, _)| name == "webhook-id").map(|(_, id)| id.as_str())?;
    let path: Vec<&str> = call.segments.iter().map(String::as_str).collect();
    if let ("GET", ["erasure", id]) = (call.method, &path[..]) {
        return (*id == header && call.body.is_empty()).then(|| Asked::Status { id: header.to_owned() });
    }
    let body: Value = serde_json::from_slice(call.body).ok()?;
    let (kind, data) = (body["type"].as_str()?, &body["data"]);
    if call.method != "POST" || data["id"] != header {
        return None;
    }
    let number = || {
        let number = data["subject"]["user_id"].as_str()?.parse::<u64>().ok()?.checked_sub(FIRST)?;
        (data["subject"]["email"] == email(number)).then_some(number)
    };
    match (kind, &path[..]) {
        ("erasure.probe", ["erasure"]) => Some(Asked::Probe),
        ("erasure.requested", ["erasure"]) => Some(Asked::Erase { id: header.to_owned(), number: number()? }),
        ("erasure.read", ["read"]) => Some(Asked::Read { number: number()? }),
        _ => None,
    }
}

fn reply(status: u16, body: &Value) -> DescribedReply {
    DescribedReply {
        status,
        content_type: "application/json",
        headers: Vec::new(),
        body: body.to_string().into_bytes(),
        effect: false,
        credentials_ok: true,
    }
}

impl Receiver {
    fn is_there(&self, number: u64) -> bool {
        self.people.get(&number) == Some(&true)
    }

    /// The first answer to a request: of each second person the status must be asked for.
    fn first_answer(&self, number: u64) -> Value {
        match self.is_there(number) {
            true if number.is_multiple_of(2) => json!({ "status": "erased", "same": true }),
            true => json!({ "status": "accepted" }),
            false => json!({ "status": "absent" }),
        }
    }
}

impl Described for Receiver {
    fn route(&self, call: &DescribedCall<'_>) -> Option<DescribedRoute> {
        let route = |operation, path: &str, number: Option<u64>, object: String| DescribedRoute {
            operation,
            path: path.to_owned(),
            subject: number.map(|number| number.to_string()),
            object,
        };
        Some(match asked(call)? {
            Asked::Probe => route(Operation::ConnectorProbe, "/erasure", None, "probe".to_owned()),
            // A repeat has the same id and the same bytes.
            Asked::Erase { id, number } => {
                let mut digest = DefaultHasher::new();
                call.body.hash(&mut digest);
                let object = format!("{id} {:016x}", digest.finish());
                route(Operation::ConnectorRepeatableAct, "/erasure", Some(number), object)
            }
            Asked::Status { id } => {
                let number = self.requests.get(&id).map(|(number, _)| *number);
                route(Operation::ConnectorRead, "/erasure/{id}", number, "status".to_owned())
            }
            Asked::Read { number } => route(Operation::ConnectorRead, "/read", Some(number), "read".to_owned()),
        })
    }

    fn answer(&mut self, call: &DescribedCall<'_>, now_ms: u64) -> DescribedReply {
        let Some(Asked::Erase { id, number }) = asked(call) else { return self.pretend(call, now_ms) };
        if let Some((_, answer)) = self.requests.get(&id) {
            return reply(200, answer);
        }
        let answer = self.first_answer(number);
        let effect = self.is_there(number);
        self.people.insert(number, false);
        self.requests.insert(id, (number, answer.clone()));
        DescribedReply { effect, ..reply(200, &answer) }
    }

    fn pretend(&self, call: &DescribedCall<'_>, _now_ms: u64) -> DescribedReply {
        match asked(call) {
            None => reply(400, &json!({ "error": "not understood" })),
            Some(Asked::Probe) => reply(200, &json!({ "status": "ready" })),
            Some(Asked::Erase { number, .. }) => reply(200, &self.first_answer(number)),
            Some(Asked::Status { id }) if self.requests.contains_key(&id) => {
                reply(200, &json!({ "status": "erased", "same": true }))
            }
            Some(Asked::Status { .. }) => reply(404, &json!({ "error": "no such request" })),
            Some(Asked::Read { number }) if self.is_there(number) => {
                reply(200, &json!({ "status": "found", "same": true }))
            }
            Some(Asked::Read { .. }) => reply(200, &json!({ "status": "absent" })),
        }
    }

    fn refuse(&self) -> DescribedReply {
        DescribedReply { credentials_ok: false, ..reply(401, &json!({ "error": "no valid signature" })) }
    }

    fn add_person(&mut self, number: u64) {
        self.people.insert(number, true);
    }

    fn remains(&self, number: u64, _now_ms: u64) -> bool {
        self.is_there(number)
    }

    fn state(&self) -> Value {
        json!({ "people": self.people })
    }

    fn change_settings(&mut self, changes: Value) -> Result<Value, serde_json::Error> {
        Ok(changes)
    }

    fn reset(&mut self) {
        *self = Receiver::default();
    }
}
