//! The requester's own endpoint, called to abandon a GUID or reference on the requester's side.
//!
//! The rule it keeps: every POST is accepted and stored unchanged, so that a test can check signature and body.

use std::collections::BTreeMap;

use axum::http::Method;
use serde::Serialize;

use crate::call::{Call, Reply, Route, StandIn};
use crate::operation::{Operation, Row};

/// One POST to `/requester/abandon`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Abandoned {
    /// The time of arrival, in milliseconds since 1970.
    pub at_ms: u64,
    /// The headers, names in lower case.
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

/// The requester's endpoint.
#[derive(Clone, Default, Serialize)]
pub struct Requester {
    /// The received calls, in order of arrival.
    pub abandoned: Vec<Abandoned>,
}

pub(super) const OPERATIONS: &[Row] = &[Row::read(Operation::Abandon, "requester.abandon")];

impl StandIn for Requester {
    fn route(&self, call: &Call) -> Route {
        if (&call.method, call.path().as_slice()) == (&Method::POST, &["abandon"]) {
            let job = call.json()["job_id"].as_str().map(str::to_owned);
            Route::new(Operation::Abandon, "/abandon", job)
        } else {
            Route::unknown()
        }
    }

    fn answer(&mut self, route: &Route, call: &Call, now_ms: u64) -> Reply {
        if route.operation == Operation::Unknown {
            return Reply::text(404, "Not found");
        }
        let header = |name: &axum::http::HeaderName| call.header(name.as_str()).unwrap_or_default().to_owned();
        self.abandoned.push(Abandoned {
            at_ms: now_ms,
            headers: call.headers.keys().map(|name| (name.to_string(), header(name))).collect(),
            body: String::from_utf8_lossy(&call.body).into_owned(),
        });
        Reply::text(204, "").effected()
    }

    fn pretend(&mut self, route: &Route, call: &Call, now_ms: u64) -> Reply {
        self.clone().answer(route, call, now_ms)
    }

    fn refuse(&self, _operation: Operation) -> Reply {
        Reply::text(401, "Unauthorized").unauthorised()
    }
}
