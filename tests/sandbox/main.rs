//! The stand-ins over HTTP, as the worker uses them: each documented peculiarity, each fault, the ledger and its
//! counts.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in the functions it shares too")]

mod cleeng;
mod easycms;
mod faults;
mod ledger;
mod loyalty;
mod vitalsource;

use std::net::SocketAddr;

use erasure_worker::sandbox::{Entry, RunningSandbox, Sandbox};
use reqwest::{Client, Method, RequestBuilder};
use serde_json::Value;

/// A sandbox on a free port, and a client that follows no redirects.
struct Stand {
    running: RunningSandbox,
    client: Client,
}

impl Stand {
    async fn start() -> Stand {
        // A second installation in the same process fails, which is harmless.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder().redirect(reqwest::redirect::Policy::none()).tcp_nodelay(true).build().unwrap();
        let running = Sandbox::start(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
        Stand { running, client }
    }

    fn sandbox(&self) -> &Sandbox {
        self.running.sandbox()
    }

    fn call(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, self.running.url(path))
    }

    fn get(&self, path: &str) -> RequestBuilder {
        self.call(Method::GET, path)
    }

    fn post(&self, path: &str) -> RequestBuilder {
        self.call(Method::POST, path)
    }

    /// A control call with a JSON body, which must succeed.
    async fn control(&self, method: Method, path: &str, body: Value) {
        let reply = self.call(method, &format!("_sandbox/{path}")).json(&body).send().await.unwrap();
        assert!(reply.status().is_success(), "{path}: {} {}", reply.status(), reply.text().await.unwrap());
    }

    /// Changes settings of a system.
    async fn set(&self, system: &str, changes: Value) {
        self.control(Method::PUT, &format!("{system}/settings"), changes).await;
    }

    /// Adds people or things to a system.
    async fn seed(&self, path: &str, body: Value) {
        self.control(Method::POST, path, body).await;
    }

    async fn state(&self) -> Value {
        self.get("_sandbox/state").send().await.unwrap().json().await.unwrap()
    }

    fn last(&self) -> Entry {
        self.sandbox().entries(0).pop().unwrap()
    }
}

/// Sends the call and returns status and body.
async fn answer(call: RequestBuilder) -> (u16, String) {
    let reply = call.send().await.unwrap();
    (reply.status().as_u16(), reply.text().await.unwrap())
}

/// Sends the call and returns status and JSON body.
async fn json_answer(call: RequestBuilder) -> (u16, Value) {
    let (status, body) = answer(call).await;
    (status, serde_json::from_str(&body).unwrap())
}
