//! Stand-ins that are described from outside: by a connector file.
//!
//! The rule it keeps: the sandbox knows nothing about the description. It gives a call, and takes a route and a reply.

use axum::http::header::HeaderName;
use serde_json::Value;

use crate::call::{Call, Reply, Route, StandIn};
use crate::operation::{Operation, Row};

/// A received call.
pub struct DescribedCall<'a> {
    /// The method, in capital letters.
    pub method: &'a str,
    /// The path's segments below the stand-in's own, decoded.
    pub segments: &'a [String],
    /// The query's pairs, decoded.
    pub query: &'a [(String, String)],
    /// The headers, names in small letters.
    pub headers: &'a [(String, String)],
    /// The body.
    pub body: &'a [u8],
    /// The pairs of a form.
    pub form: Option<&'a [(String, String)]>,
}

/// What a call is about.
#[derive(Debug, Clone)]
pub struct DescribedRoute {
    /// Its name in the ledger.
    pub operation: Operation,
    /// The path with names in place of identifiers.
    pub path: String,
    /// The person.
    pub subject: Option<String>,
    /// The part of the description.
    pub object: String,
}

/// A reply, and what became of the call.
#[derive(Debug, Clone)]
pub struct DescribedReply {
    /// The status.
    pub status: u16,
    /// The content type.
    pub content_type: &'static str,
    /// The other headers.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
    /// True if a person's state changed.
    pub effect: bool,
    /// False for a wrong credential.
    pub credentials_ok: bool,
}

/// A stand-in.
pub trait Described: Send {
    /// What a call is about; changes nothing. `None`: there is no such call.
    fn route(&self, call: &DescribedCall<'_>) -> Option<DescribedRoute>;
    /// Does the work and answers. `now_ms` counts from 1970.
    fn answer(&mut self, call: &DescribedCall<'_>, now_ms: u64) -> DescribedReply;
    /// The answer of [`Described::answer`], without the work.
    fn pretend(&self, call: &DescribedCall<'_>, now_ms: u64) -> DescribedReply;
    /// The answer to a wrong credential.
    fn refuse(&self) -> DescribedReply;
    /// Adds the person with this number.
    fn add_person(&mut self, number: u64);
    /// True while data of the person with this number is left.
    fn remains(&self, number: u64, now_ms: u64) -> bool;
    /// Settings and people.
    fn state(&self) -> Value;
    /// Replaces the settings that `changes` names; returns all settings.
    ///
    /// # Errors
    /// The changes have another form.
    fn change_settings(&mut self, changes: Value) -> Result<Value, serde_json::Error>;
    /// Removes everybody.
    fn reset(&mut self);
}

/// The calls, and the reads that show their effect.
pub(super) const OPERATIONS: &[Row] = &[
    Row::read(Operation::ConnectorProbe, "connector.probe"),
    Row::read(Operation::ConnectorRead, "connector.read"),
    Row::settled(Operation::ConnectorAct, "connector.act", &[Operation::ConnectorRead]),
    Row::read(Operation::ConnectorRepeatableAct, "connector.repeatable_act"),
];

/// A described stand-in among the others.
pub(super) struct Foreign(pub(super) Box<dyn Described>);

impl Foreign {
    fn with<R>(&self, call: &Call, work: impl FnOnce(&dyn Described, &DescribedCall<'_>) -> R) -> R {
        with(call, |call| work(&*self.0, call))
    }
}

fn with<R>(call: &Call, work: impl FnOnce(&DescribedCall<'_>) -> R) -> R {
    let text = |value: &axum::http::HeaderValue| value.to_str().unwrap_or_default().to_owned();
    let headers: Vec<_> = call.headers.iter().map(|(name, value)| (name.as_str().to_owned(), text(value))).collect();
    let form = call.form();
    work(&DescribedCall {
        method: call.method.as_str(),
        segments: &call.segments,
        query: &call.query,
        headers: &headers,
        body: &call.body,
        form: form.as_deref(),
    })
}

impl StandIn for Foreign {
    fn route(&self, call: &Call) -> Route {
        match self.with(call, |stand_in, call| stand_in.route(call)) {
            None => Route::unknown(),
            Some(route) => {
                let DescribedRoute { operation, path, subject, object } = route;
                Route { operation, template: path.into(), subject, object: Some(object) }
            }
        }
    }

    fn answer(&mut self, route: &Route, call: &Call, now_ms: u64) -> Reply {
        if route.operation == Operation::Unknown {
            return Reply::text(404, "Not found");
        }
        let Foreign(stand_in) = self;
        with(call, |call| reply(stand_in.answer(call, now_ms)))
    }

    fn pretend(&mut self, route: &Route, call: &Call, now_ms: u64) -> Reply {
        if route.operation == Operation::Unknown {
            return Reply::text(404, "Not found");
        }
        self.with(call, |stand_in, call| reply(stand_in.pretend(call, now_ms)))
    }

    fn refuse(&self, _operation: Operation) -> Reply {
        reply(self.0.refuse())
    }
}

fn reply(described: DescribedReply) -> Reply {
    let mut reply = Reply::of(described.status, described.content_type, described.body);
    for (name, value) in described.headers {
        if let Ok(name) = HeaderName::from_bytes(name.as_bytes()) {
            reply = reply.with_header(name, value);
        }
    }
    if described.effect {
        reply = reply.effected();
    }
    if described.credentials_ok { reply } else { reply.unauthorised() }
}
