//! A relay to the stand-ins: it records every exchange, and may change one reply.
//!
//! The rule it keeps: the stand-in does its work, also if its reply is changed.

use std::sync::{Arc, Mutex};

use axum::body::{Body, to_bytes};
use bytes::Bytes;
use erasure_worker::sandbox::{Operation, Sandbox};
use erasure_worker::systems::http::Carry;

use super::mutate::Reply;

/// One exchange, before any change.
#[derive(Debug, Clone)]
pub struct Exchange {
    pub operation: Operation,
    pub reply: Reply,
}

/// The changed exchanges, and their new reply.
#[derive(Clone)]
pub struct Change {
    /// The number of the exchange, from 0.
    pub from: usize,
    /// Also every later exchange of the same operation.
    pub always: bool,
    pub reply: Reply,
}

#[derive(Default)]
struct Inside {
    sandbox: Sandbox,
    seen: Vec<Exchange>,
    change: Option<Change>,
    changed: Option<Operation>,
    /// Exchanges from this one on go to another, empty instance of the system.
    elsewhere_from: Option<usize>,
}

#[derive(Clone, Default)]
pub struct Relay(Arc<Mutex<Inside>>);

impl Relay {
    /// Begins with another world and its change.
    pub fn begin(&self, sandbox: Sandbox, change: Option<Change>) {
        *self.0.lock().expect("lock") = Inside { sandbox, change, ..Inside::default() };
    }

    /// From the next exchange on, another region answers.
    pub fn go_elsewhere(&self) {
        let mut inside = self.0.lock().expect("lock");
        inside.elsewhere_from = Some(inside.seen.len());
    }

    /// The exchanges so far.
    pub fn seen(&self) -> Vec<Exchange> {
        self.0.lock().expect("lock").seen.clone()
    }

    /// The number of exchanges so far.
    pub fn count(&self) -> usize {
        self.0.lock().expect("lock").seen.len()
    }
}

fn elsewhere(uri: &http::Uri) -> http::Uri {
    let rest = uri.path_and_query().map(|path| path.as_str()).unwrap_or("/");
    let (system, rest) = rest.trim_start_matches('/').split_once('/').unwrap_or((rest, ""));
    format!("http://stand-ins/{system}@2/{rest}").parse().expect("an address")
}

#[async_trait::async_trait]
impl Carry for Relay {
    async fn carry(&self, mut request: http::Request<reqwest::Body>) -> Option<http::Response<Bytes>> {
        let (sandbox, index) = {
            let inside = self.0.lock().expect("lock");
            if inside.elsewhere_from.is_some_and(|from| inside.seen.len() >= from) {
                *request.uri_mut() = elsewhere(request.uri());
            }
            (inside.sandbox.clone(), inside.seen.len())
        };
        let answer = sandbox.carry(request.map(Body::new)).await?;
        let (head, body) = answer.into_parts();
        let content_type = head.headers.get("content-type").and_then(|value| value.to_str().ok()).unwrap_or_default();
        let reply = Reply {
            status: head.status.as_u16(),
            content_type: content_type.to_owned(),
            body: to_bytes(body, usize::MAX).await.ok()?.to_vec(),
        };
        let operation = sandbox.entries(0).last().map_or(Operation::Unknown, |entry| entry.operation);
        let mut inside = self.0.lock().expect("lock");
        let mut sent = reply.clone();
        if let Some(change) = inside.change.clone() {
            let again = change.always && inside.changed == Some(operation);
            if index == change.from || again {
                inside.changed = Some(operation);
                sent = change.reply;
            }
        }
        inside.seen.push(Exchange { operation, reply });
        let response = http::Response::builder().status(sent.status).header("content-type", sent.content_type);
        Some(response.body(Bytes::from(sent.body)).expect("a response"))
    }
}
