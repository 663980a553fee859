//! A call's way through the sandbox: read, written to the ledger, given its fault, answered or cut.
//!
//! The rule it keeps: the work of a call in the ledger is completed even if the client disconnects.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::Sandbox;
use super::call::{Call, Reply, Route};
use super::connection::{Connection, CutListener};
use super::control;
use super::faults::Action;
use super::ledger::{End, Entry};

/// Why a sandbox did not start.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The address cannot be bound.
    #[error("the sandbox cannot listen on {addr}")]
    Listen { addr: SocketAddr, source: std::io::Error },
}

/// A listening sandbox. A drop stops it.
pub struct RunningSandbox {
    /// The bound address.
    pub addr: SocketAddr,
    sandbox: Sandbox,
    stopped: CancellationToken,
    server: JoinHandle<()>,
}

impl RunningSandbox {
    pub fn sandbox(&self) -> &Sandbox {
        &self.sandbox
    }

    /// `http://ADDR/path`, where `path` has no first slash.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.addr)
    }

    /// Cuts every connection and stops listening; returns when the port is free. Clones of
    /// [`RunningSandbox::sandbox`] keep the state and can be served again.
    pub async fn stop(mut self) {
        self.stopped.cancel();
        // The task ends by the token, without a panic or an abort.
        let _ = (&mut self.server).await;
    }
}

impl Drop for RunningSandbox {
    fn drop(&mut self) {
        self.stopped.cancel();
    }
}

impl Sandbox {
    /// Starts an empty sandbox; port 0 takes a free port.
    ///
    /// # Errors
    /// The address cannot be bound.
    pub async fn start(addr: SocketAddr) -> Result<RunningSandbox, SandboxError> {
        Sandbox::default().serve(addr).await
    }

    /// Serves this sandbox with its present state.
    ///
    /// # Errors
    /// The address cannot be bound.
    pub async fn serve(self, addr: SocketAddr) -> Result<RunningSandbox, SandboxError> {
        let refused = |source| SandboxError::Listen { addr, source };
        let listener = TcpListener::bind(addr).await.map_err(refused)?;
        let addr = listener.local_addr().map_err(refused)?;
        let stopped = CancellationToken::new();
        let router: Router = control::router().fallback(receive).with_state(self.clone());
        let service = router.into_make_service_with_connect_info::<Connection>();
        let server = axum::serve(CutListener::new(listener, stopped.clone()), service)
            .with_graceful_shutdown(stopped.clone().cancelled_owned());
        let server = tokio::spawn(async move {
            // Axum handles the listener's errors: the server ends only by the token.
            let _ = server.await;
        });
        Ok(RunningSandbox { addr, sandbox: self, stopped, server })
    }

    /// Answers one call without a socket, so that time can be simulated; `None` for a connection cut without an
    /// answer. The work continues if the future is dropped.
    pub async fn carry(&self, request: Request) -> Option<Response> {
        self.take(Connection::within_process(), request).await
    }

    async fn take(&self, connection: Connection, request: Request) -> Option<Response> {
        let Some(call) = Call::read(request).await else {
            return Some(StatusCode::BAD_REQUEST.into_response());
        };
        let Some(opened) = self.open(call) else {
            return Some(StatusCode::NOT_FOUND.into_response());
        };
        let mut waiting = Waiting { sandbox: self.clone(), seq: opened.seq, replied: false };
        // A separate task: it continues if the client disconnects.
        let reply = tokio::spawn(self.clone().work(opened, connection)).await;
        waiting.replied = true;
        reply.ok().flatten().map(Reply::into_response)
    }

    /// Adds the call to the ledger and decides its fault; `None` for an unknown system.
    fn open(&self, call: Call) -> Option<Opened> {
        let at_ms = self.now_ms();
        let opened = self.world(|world| {
            let route = world.stand_in(&call.system)?.route(&call);
            let fault = world.faults.decide(&call.system, route.operation, route.subject.as_deref());
            let seq = world.ledger.open(Entry {
                seq: 0,
                at_ms,
                system: call.system.clone(),
                operation: route.operation,
                method: call.method.to_string(),
                path: route.template.clone(),
                subject: route.subject.clone(),
                object: route.object.clone(),
                end: End::InHand,
                status: None,
                fault: fault.as_ref().map(|fault| fault.name().into()),
                worked: false,
                effect: false,
                destructive: route.operation.destructive(),
                credentials_ok: true,
                misuse: None,
            });
            Some(Opened { seq, route, call, fault })
        });
        self.shared.changed.send_replace(());
        opened
    }

    fn note(&self, seq: u64, change: impl FnOnce(&mut Entry)) {
        self.world(|world| world.ledger.get_mut(seq).map(change));
        self.shared.changed.send_replace(());
    }

    /// Does the call's work. One lock covers state and ledger, so that a reader never sees one without the other.
    fn perform(&self, opened: &Opened) -> Reply {
        let now_ms = self.now_ms();
        self.world(|world| {
            let reply = match world.stand_in(&opened.call.system) {
                Some(stand_in) if opened.fault == Some(Action::NotTaken) => {
                    stand_in.pretend(&opened.route, &opened.call, now_ms)
                }
                Some(stand_in) => stand_in.answer(&opened.route, &opened.call, now_ms),
                None => Reply::text(404, ""),
            };
            if let Some(entry) = world.ledger.get_mut(opened.seq) {
                entry.worked = true;
                entry.effect = reply.effect && opened.fault != Some(Action::NotTaken);
                entry.credentials_ok = reply.credentials_ok;
                entry.misuse = reply.misuse;
            }
            reply
        })
    }

    /// Does the work under the fault; `None` to close the connection without a reply.
    async fn work(self, opened: Opened, connection: Connection) -> Option<Reply> {
        let reply = match &opened.fault {
            None | Some(Action::NotTaken) => Some(self.perform(&opened)),
            Some(Action::Status { status, body, after_work }) => {
                if *after_work {
                    self.perform(&opened);
                }
                Some(Reply::text(*status, body.clone()))
            }
            Some(Action::Delay { ms, after_work }) => {
                let done = after_work.then(|| self.perform(&opened));
                let waited = connection.pause(Duration::from_millis(*ms)).await;
                waited.then(|| done.unwrap_or_else(|| self.perform(&opened)))
            }
            Some(Action::DropBefore) => None,
            Some(Action::DropAfter) => {
                self.perform(&opened);
                None
            }
            Some(Action::Garbage) => {
                self.perform(&opened);
                Some(Reply::garbage())
            }
            Some(Action::GatewayPage { status, page, after_work }) => {
                if *after_work {
                    self.perform(&opened);
                }
                Some(page.reply(*status))
            }
            Some(Action::RateLimited { retry_after }) => {
                Some(Reply::text(429, "Too Many Requests").with_header(header::RETRY_AFTER, retry_after.to_string()))
            }
            Some(Action::CredentialRefused) => self.refuse(&opened),
        };
        self.note(opened.seq, |entry| {
            // A client that disconnected got no answer.
            if entry.end != End::ClientGone {
                entry.status = reply.as_ref().map(|reply| reply.status);
                entry.end = if reply.is_some() { End::Answered } else { End::Dropped };
            }
        });
        reply
    }

    fn refuse(&self, opened: &Opened) -> Option<Reply> {
        self.note(opened.seq, |entry| entry.credentials_ok = false);
        self.world(|world| Some(world.stand_in(&opened.call.system)?.refuse(opened.route.operation)))
    }
}

/// A call in the ledger.
struct Opened {
    seq: u64,
    route: Route,
    call: Call,
    fault: Option<Action>,
}

/// Marks the entry if the server drops the call's handler: the client disconnected.
struct Waiting {
    sandbox: Sandbox,
    seq: u64,
    replied: bool,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if !self.replied {
            self.sandbox.note(self.seq, |entry| {
                entry.end = End::ClientGone;
                entry.status = None;
            });
        }
    }
}

async fn receive(
    State(sandbox): State<Sandbox>,
    ConnectInfo(connection): ConnectInfo<Connection>,
    request: Request,
) -> Response {
    let reply = sandbox.take(connection.clone(), request).await;
    reply.unwrap_or_else(|| {
        connection.cut();
        StatusCode::INTERNAL_SERVER_ERROR.into_response()
    })
}
